"""Commands that use a model: evaluate it, recalibrate it, watch it, score and explain with it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from medfusion.cli.app import app
from medfusion.cli.options import (
    DATA_PROBLEM,
    DONE,
    AsJson,
    CacheFolder,
    CohortFolder,
    ModelFolder,
    NoCache,
    OutFolder,
    SameTask,
    Thresholds,
    cache_folder,
)
from medfusion.cli.show import (
    err_console,
    out_console,
    print_json,
    print_problems,
    print_results,
    progress,
    say,
)
from medfusion.core.errors import UsageError

_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f"]


@app.command()
def evaluate(
    model: ModelFolder,
    cohort: CohortFolder,
    out: OutFolder,
    thresholds: Thresholds = None,
    cost_false_alarm: Annotated[
        float | None, typer.Option(help="What a false alarm costs; with --cost-missed, asks for a threshold.")
    ] = None,
    cost_missed: Annotated[float | None, typer.Option(help="What a missed event costs, in the same unit.")] = None,
    task: SameTask = None,
    as_json: AsJson = False,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
) -> None:
    """Evaluate a model on a labelled cohort: metrics.json and report.html.

    How well the risks rank and mean what they say, what decisions on them are worth, and for which patients they are
    worse. Patients of the training cohort are judged by the part of the model that has not seen them.

    Example: medfusion evaluate model next-year --out evaluation --cost-false-alarm 1 --cost-missed 9
    """
    from medfusion import pipeline  # noqa: PLC0415

    if (cost_false_alarm is None) != (cost_missed is None):
        raise UsageError("give both --cost-false-alarm and --cost-missed, or neither")
    costs = None if cost_false_alarm is None or cost_missed is None else (cost_false_alarm, cost_missed)
    with progress() as track:
        result = pipeline.evaluate_model(
            model,
            cohort,
            out,
            thresholds=thresholds,
            costs=costs,
            task=task,
            cache=cache_folder(cache, no_cache),
            track=track,
        )
    if as_json:
        return print_json(result.as_dict())
    print_results({"fused": result.evaluation}, str(cohort))
    for sentence in () if result.subgroups is None else result.subgroups.sentences:
        say(sentence)
    if result.costs is not None:
        say(result.costs.text())
    say(f"written: {out / 'metrics.json'}, {out / 'report.html'}")
    return None


@app.command()
def recalibrate(
    model: ModelFolder,
    cohort: CohortFolder,
    out: OutFolder,
    by: Annotated[str, typer.Option(metavar="COLUMN", help="Groups of subjects.csv that may need their own.")] = "",
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="KIND",
            help="none, intercept, platt, beta: those that compete; all unless given. Repeatable.",
        ),
    ] = None,
    task: SameTask = None,
    as_json: AsJson = False,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
) -> None:
    """Fit a model's calibration to a labelled cohort; write a recalibrated model folder and recalibration.html.

    What the model has learnt stays as it is, and its ledgers still sum to the risks.

    Example: medfusion recalibrate model our-hospital --out model-here --by site
    """
    from medfusion import pipeline  # noqa: PLC0415
    from medfusion.fusion.maps import KINDS  # noqa: PLC0415

    with progress() as track:
        result = pipeline.recalibrate(
            model, cohort, out, by=by, kinds=kinds or KINDS, task=task, cache=cache_folder(cache, no_cache), track=track
        )
    if as_json:
        sides = {"before": result.before.as_dict(), "after": result.after.as_dict()}
        return print_json({"recalibration": result.recalibration.text(), "model_id": result.model_id, **sides})
    print_results({"before": result.before, "after": result.after}, "Patients left out of the recalibration")
    say(result.recalibration.text())
    say(f"model written to {out}, with recalibration.html")
    return None


@app.command()
def drift(
    model: ModelFolder,
    cohort: CohortFolder,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Write drift.json and report.html.")] = None,
    task: SameTask = None,
    as_json: AsJson = False,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
) -> None:
    """Say what has moved since a model was trained, how much, and whether its risks are likely hurt; exit 1 if so.

    Example: medfusion drift model last-month --out drift
    """
    from medfusion import pipeline  # noqa: PLC0415
    from medfusion.evaluation.drift import HURT  # noqa: PLC0415

    with progress() as track:
        report = pipeline.drift(model, cohort, out, task=task, cache=cache_folder(cache, no_cache), track=track)
    if as_json:
        print_json(report.as_dict())
    else:
        print_problems(report.problems, err_console)
        out_console.print(report.verdict, style="bold", highlight=False, markup=False)
        for reason in report.reasons:
            say(f"- {reason}")
        if out:
            say(f"written: {out / 'drift.json'}, {out / 'report.html'}")
    raise typer.Exit(DATA_PROBLEM if report.verdict == HURT else DONE)


@app.command()
def reproduce(
    model: ModelFolder,
    cohort: CohortFolder,
    as_json: AsJson = False,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
) -> None:
    """Train a model again from its run record, and compare what the two say; exit 1 if their risks differ.

    Example: medfusion reproduce model my-cohort
    """
    from medfusion import pipeline  # noqa: PLC0415

    with progress() as track:
        result = pipeline.reproduce(model, cohort, cache=cache_folder(cache, no_cache), track=track)
    if as_json:
        print_json(result.as_dict())
    else:
        print_problems([*result.data, *result.versions], err_console)
        say(result.text())
    raise typer.Exit(DONE if result.reproduced else DATA_PROBLEM)


@app.command()
def explain(
    model: ModelFolder,
    cohort: CohortFolder,
    subject: Annotated[str, typer.Option(help="Whose risk.")],
    at: Annotated[datetime | None, typer.Option(formats=_TIMES, help="Prediction time; the latest by default.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with film, curves and notes.")] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the waterfall; .svg, .png or .pdf.")
    ] = None,
    task: SameTask = None,
    as_json: AsJson = False,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
) -> None:
    """Open up the risk of one patient, down to values, words and regions that sum to it.

    Example: medfusion explain model my-cohort --subject P17 --html p17.html
    """
    from medfusion import pipeline  # noqa: PLC0415
    from medfusion.outputs.ledger import ledger_json, ledger_text  # noqa: PLC0415
    from medfusion.outputs.patient import write_patient_page  # noqa: PLC0415
    from medfusion.outputs.waterfall import waterfall  # noqa: PLC0415

    opened = pipeline.open_for_use(model, cohort, cache_folder(cache, no_cache), task)
    report = pipeline.explain(opened, subject, at)
    if html:
        write_patient_page(html, report)
    if figure:
        waterfall(report).savefig(figure, dpi=150)
    if as_json:
        return print_json(ledger_json(report))
    out_console.print(ledger_text(report))
    for written in filter(None, (html, figure)):
        say(f"written: {written}")
    return None
