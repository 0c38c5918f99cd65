"""Commands that make: a demonstration, a checked or de-identified cohort, a comparison, a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from medfusion.cli.app import app
from medfusion.cli.options import (
    DATA_PROBLEM,
    DONE,
    AsJson,
    Assignments,
    CacheFolder,
    CohortFolder,
    NoCache,
    Only,
    OutFolder,
    TaskName,
    Thresholds,
    cache_folder,
    home,
    settings_of,
)
from medfusion.cli.show import (
    err_console,
    out_console,
    print_estimates,
    print_json,
    print_left_out,
    print_problems,
    print_results,
    problem_json,
    progress,
    say,
)
from medfusion.core.errors import shortened


@app.command()
def demo(
    out: OutFolder = Path("demo"),
    subjects: Annotated[int, typer.Option(min=40, help="Patients in the training cohort.")] = 400,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Make a synthetic cohort, train, evaluate, score, and say how to look at the result.

    Example: medfusion demo --out demo
    """
    from medfusion.outputs.ledger import ledger_text  # noqa: PLC0415 - commands import what they need
    from medfusion.pipeline import run_demo  # noqa: PLC0415

    with progress() as track:
        result = run_demo(out, subjects, seed, cache=out / "cache", track=track)
    print_results(result.training.results, "Out of fold, training cohort")
    print_results({"fused": result.evaluation}, "New patients")
    out_console.print(ledger_text(result.report))
    patient = result.report.subject_id
    say(
        f"\nLook at the result:\n"
        f"  {out}/patient.html              one patient: film, curves, notes and the ledger\n"
        f"  {out}/evaluation/report.html    how good the model is\n"
        f"  {out}/scores/                   predictions.parquet, ledger.parquet, quarantine.parquet\n"
        f"  medfusion explain {out}/model {out}/new-patients --subject {patient}\n"
    )


@app.command()
def validate(
    cohort: CohortFolder,
    task: TaskName = None,
    as_json: AsJson = False,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
) -> None:
    """Check a cohort folder: tables, times, DICOM files, leaks. Exit 1 and a table where anything is wrong.

    Example: medfusion validate my-cohort --json
    """
    from medfusion import pipeline  # noqa: PLC0415

    with progress() as track:
        problems = pipeline.validate(cohort, task, cache=cache_folder(cache, no_cache), track=track)
    if as_json:
        print_json([problem_json(problem) for problem in problems])
    else:
        print_problems(problems, out_console)
        errors = sum(problem.severity == "error" for problem in problems)
        say(f"{errors} errors, {len(problems) - errors} warnings in {cohort}")
    raise typer.Exit(DATA_PROBLEM if problems else DONE)


@app.command()
def compare(
    cohort: CohortFolder,
    out: OutFolder,
    task: TaskName = None,
    assignments: Assignments = None,
    only: Only = None,
    thresholds: Thresholds = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Outer folds; 5, or as many as the rarer outcome allows.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides the folds.")] = 0,
    as_json: AsJson = False,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
) -> None:
    """Compare every modality alone and every fusion on the same left-out patients; recommend the simplest that wins.

    Nested cross-validation by patient, paired differences, missing data taken away on purpose, and what each contender
    costs: metrics.json and report.html.

    Example: medfusion compare my-cohort --task icu --out comparison --threshold 0.2
    """
    from medfusion import pipeline  # noqa: PLC0415
    from medfusion.pipeline.compare import THRESHOLDS, train_command  # noqa: PLC0415

    with progress() as track:
        result, run = pipeline.compare(
            cohort,
            out,
            task,
            settings=settings_of(assignments or []),
            only=only or (),
            thresholds=thresholds or THRESHOLDS,
            folds=folds,
            cache=cache_folder(cache, no_cache),
            seed=seed,
            track=track,
        )
    if as_json:
        return print_json(result.as_dict())
    print_estimates(result.estimates, "Left-out patients", f"{result.n} samples of {result.n_subjects} patients")
    say(result.recommendation.reason)
    say(f"  {train_command(result, cohort, run.task)}")
    say(f"written: {out / 'metrics.json'}, {out / 'report.html'}")
    return None


@app.command()
def train(
    cohort: CohortFolder,
    out: OutFolder,
    task: TaskName = None,
    assignments: Assignments = None,
    only: Only = None,
    fusion: Annotated[
        str, typer.Option(metavar="KIND", help="late, gated, early or joint; `medfusion compare` says which pays.")
    ] = "late",
    coverage: Annotated[
        float, typer.Option(help="How often the outcomes that a risk leaves open are to hold what happens.")
    ] = 0.9,
    sets_by: Annotated[
        str, typer.Option(metavar="COLUMN", help="A column of subjects.csv within whose groups that is to hold.")
    ] = "",
    check_batch: Annotated[
        bool, typer.Option(help="Keep 16 training films in the folder; without, only fp32 backends may score with it.")
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Decides the folds.")] = 0,
    as_json: AsJson = False,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
) -> None:
    """Train a calibrated model; print cross-validated results; write a model folder with its papers.

    Example: medfusion train my-cohort --task icu --out model --fusion joint
    """
    from medfusion import pipeline  # noqa: PLC0415

    with progress() as track:
        training = pipeline.train(
            cohort,
            out,
            task,
            settings=settings_of(assignments or []),
            only=only or (),
            fusion=fusion,
            coverage=coverage,
            sets_by=sets_by,
            check_batch=check_batch,
            cache=cache_folder(cache, no_cache),
            seed=seed,
            track=track,
        )
    print_left_out(training.problems)
    if as_json:
        return print_json({name: result.as_dict() for name, result in training.results.items()})
    print_results(training.results, "Out of fold, by patient")
    say(f"model written to {out}, with model_card.html and tripod.html")
    return None


@app.command()
def deidentify(
    cohort: CohortFolder,
    out: OutFolder,
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The secret behind names and dates; made if it is not there."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Copy images too that may show whose they are; look at each of them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy a cohort folder without what identifies its patients; exit 1 if something was held back.

    Headers follow the Basic Profile of DICOM PS3.15; names, UIDs and dates change in the same way in images, values
    and notes, so that studies belong together and intervals stay. Who has the key can undo that: keep it from the copy.

    Example: medfusion deidentify my-cohort --out shared-cohort --key ~/keys/study.key
    """
    from medfusion.deidentify import deidentify_cohort, new_key, read_key  # noqa: PLC0415

    file = key or home("XDG_CONFIG_HOME", ".config") / "deidentification.key"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        new_key(file)
        err_console.print(f"a new key was written to {file}; keep it secret", highlight=False, soft_wrap=True)
    with progress() as track:
        report = deidentify_cohort(cohort, out, key=read_key(file), force=force, track=track)
    print_problems(shortened(report.problems), err_console)
    if as_json:
        print_json(report.counts())
    else:
        table = Table("", "", "count", title=f"De-identified: {out}", title_justify="left")
        for part, what, count in report.lines():
            table.add_row(part, what, str(count))
        out_console.print(table)
    raise typer.Exit(DATA_PROBLEM if report.problems else DONE)
