"""The command line: parses, calls the pipeline, prints."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from medfusion import __version__
from medfusion.core.errors import MedfusionError, MedfusionWarning, Problem, UsageError, shortened

if TYPE_CHECKING:
    from medfusion.core.protocols import Advance
    from medfusion.evaluation.evaluate import Evaluation

DONE, DATA_PROBLEM, WRONG_USAGE = 0, 1, 2
_HEADINGS = {"auroc": "AUROC", "auprc": "AUPRC", "brier": "Brier", "ece": "ECE", "ece_chance": "ECE by chance"}
_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f"]
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Clinical multimodal decision support: images, EHR events and notes become calibrated evidence that adds up.",
    epilog="Research use only. Not a medical device.",
)
out_console, err_console = Console(), Console(stderr=True)

CohortFolder = Annotated[Path, typer.Argument(metavar="COHORT", help="Folder with a cohort.toml.")]
ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL", help="Folder written by `medfusion train`.")]
OutFolder = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to write.")]
TaskName = Annotated[str | None, typer.Option("--task", help="May be left out where the cohort has one.")]
SameTask = Annotated[
    str | None, typer.Option("--task", help="The cohort's labels to use, where they are not named as the model's.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
CacheFolder = Annotated[
    Path | None, typer.Option("--cache", metavar="DIR", help="Where image embeddings are kept between runs.")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Keep nothing between runs.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="MODALITY.KEY=VALUE", help="For example imaging.backbone=densenet121. Repeatable."),
]


def main() -> None:
    """Run the command line; errors become one line each and an exit code."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning  # type: ignore[assignment]
        warnings.simplefilter("default", MedfusionWarning)
        try:
            app()
        except UsageError as error:
            err_console.print(f"[red]error[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
            sys.exit(WRONG_USAGE)
        except MedfusionError as error:
            err_console.print(str(error), markup=False, highlight=False, soft_wrap=True)
            sys.exit(DATA_PROBLEM)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        out_console.print(f"medfusion {__version__}", highlight=False)
        raise typer.Exit


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

    with _progress() as track:
        result = run_demo(out, subjects, seed, cache=out / "cache", track=track)
    _print_results(result.training.results, "Out of fold, training cohort")
    _print_results({"fused": result.evaluation}, "New patients")
    out_console.print(ledger_text(result.report))
    patient = result.report.subject_id
    out_console.print(
        f"\nLook at the result:\n"
        f"  {out}/patient.html              one patient: film, curves, notes and the ledger\n"
        f"  {out}/evaluation/report.html    how good the model is\n"
        f"  {out}/scores/                   predictions.parquet, ledger.parquet, quarantine.parquet\n"
        f"  medfusion explain {out}/model {out}/new-patients --subject {patient}\n",
        markup=False,
        highlight=False,
        soft_wrap=True,
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

    with _progress() as track:
        problems = pipeline.validate(cohort, task, cache=_cache(cache, no_cache), track=track)
    if as_json:
        _print_json([_problem_json(problem) for problem in problems])
    else:
        _print_problems(problems, out_console)
        errors = sum(problem.severity == "error" for problem in problems)
        out_console.print(f"{errors} errors, {len(problems) - errors} warnings in {cohort}", highlight=False)
    raise typer.Exit(DATA_PROBLEM if problems else DONE)


@app.command()
def train(
    cohort: CohortFolder,
    out: OutFolder,
    task: TaskName = None,
    assignments: Assignments = None,
    only: Annotated[list[str] | None, typer.Option(metavar="MODALITY", help="Use only this one. Repeatable.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides the folds.")] = 0,
    as_json: AsJson = False,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
) -> None:
    """Train a calibrated late-fusion model; print cross-validated results; write a model folder.

    Example: medfusion train my-cohort --task icu --out model
    """
    from medfusion import pipeline  # noqa: PLC0415

    with _progress() as track:
        training = pipeline.train(
            cohort,
            out,
            task,
            settings=_settings(assignments or []),
            only=only or (),
            cache=_cache(cache, no_cache),
            seed=seed,
            track=track,
        )
    _print_left_out(training.problems)
    if as_json:
        return _print_json({name: result.as_dict() for name, result in training.results.items()})
    _print_results(training.results, "Out of fold, by patient")
    out_console.print(f"model written to {out}", highlight=False)
    return None


@app.command()
def evaluate(
    model: ModelFolder,
    cohort: CohortFolder,
    out: OutFolder,
    task: SameTask = None,
    as_json: AsJson = False,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
) -> None:
    """Evaluate a model on a labelled cohort: metrics.json and report.html.

    Patients of the training cohort are judged by the part of the model that has not seen them.

    Example: medfusion evaluate model next-year --out evaluation
    """
    from medfusion import pipeline  # noqa: PLC0415

    with _progress() as track:
        result = pipeline.evaluate_model(model, cohort, out, task=task, cache=_cache(cache, no_cache), track=track)
    if as_json:
        return _print_json(result.as_dict())
    _print_results({"fused": result}, str(cohort))
    out_console.print(f"written: {out / 'metrics.json'}, {out / 'report.html'}", highlight=False)
    return None


@app.command()
def score(
    model: ModelFolder,
    cohort: CohortFolder,
    out: OutFolder,
    ledger: Annotated[bool, typer.Option(help="Write ledger.parquet as well.")] = True,
    task: SameTask = None,
    as_json: AsJson = False,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
) -> None:
    """Score every sample of a cohort; exit 1 if something had to be left out.

    Example: medfusion score model tonight --out scores
    """
    from medfusion import pipeline  # noqa: PLC0415

    with _progress() as track:
        scoring = pipeline.score(
            model, cohort, out, task=task, cache=_cache(cache, no_cache), ledger=ledger, track=track
        )
    _print_left_out(scoring.quarantined)
    if as_json:
        _print_json({"scored": scoring.scored, "quarantined": len(scoring.quarantined), "out": str(out)})
    else:
        quarantined = len(scoring.quarantined)
        out_console.print(f"{scoring.scored} samples scored, {quarantined} quarantined: {out}", highlight=False)
    raise typer.Exit(DATA_PROBLEM if scoring.quarantined else DONE)


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

    opened = pipeline.open_for_use(model, cohort, _cache(cache, no_cache), task)
    report = pipeline.explain(opened, subject, at)
    if html:
        write_patient_page(html, report)
    if figure:
        waterfall(report).savefig(figure, dpi=150)
    if as_json:
        return _print_json(ledger_json(report))
    out_console.print(ledger_text(report))
    for written in filter(None, (html, figure)):
        out_console.print(f"written: {written}", highlight=False)
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

    file = key or _home("XDG_CONFIG_HOME", ".config") / "deidentification.key"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        new_key(file)
        err_console.print(f"a new key was written to {file}; keep it secret", highlight=False, soft_wrap=True)
    with _progress() as track:
        report = deidentify_cohort(cohort, out, key=read_key(file), force=force, track=track)
    _print_problems(shortened(report.problems), err_console)
    if as_json:
        _print_json(report.counts())
    else:
        table = Table("", "", "count", title=f"De-identified: {out}", title_justify="left")
        for part, what, count in report.lines():
            table.add_row(part, what, str(count))
        out_console.print(table)
    raise typer.Exit(DATA_PROBLEM if report.problems else DONE)


def _settings(assignments: Sequence[str]) -> dict[str, dict[str, str]]:
    settings: dict[str, dict[str, str]] = {}
    for assignment in assignments:
        name, _, value = assignment.partition("=")
        modality, _, key = name.partition(".")
        if not (modality and key and value):
            raise UsageError(f"--set {assignment}: write MODALITY.KEY=VALUE, as in imaging.backbone=densenet121")
        settings.setdefault(modality, {})[key] = value
    return settings


def _cache(folder: Path | None, without: bool) -> Path | None:
    if without:
        return None
    return folder or _home("XDG_CACHE_HOME", ".cache")


def _home(variable: str, default: str) -> Path:
    """Return the user's folder for one kind of file."""
    return Path(os.environ.get(variable) or Path.home() / default) / "medfusion"


@contextmanager
def _progress() -> Iterator[Callable[[str, int], Advance]]:
    """Show a bar per stage on standard error, where that is a terminal."""
    columns = (
        TextColumn("{task.description:<18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err_console, disable=not err_console.is_terminal) as progress:

        def track(stage: str, total: int) -> Advance:
            task = progress.add_task(stage, total=total)
            return lambda done: progress.advance(task, done)

        yield track


def _print_results(results: Mapping[str, Evaluation], title: str) -> None:
    some = next(iter(results.values()))
    caption = f"{some.n} samples of {some.n_subjects} patients, {some.n_events} with the event"
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_column("", no_wrap=True)
    for heading in _HEADINGS.values():
        table.add_column(heading, justify="right")
    for contender, result in results.items():
        cells = []
        for name in _HEADINGS:
            estimate = result.estimates[name]
            known = estimate.value is not None
            wide = name in {"auroc", "auprc"} and estimate.low is not None
            span = f" ({estimate.low:.2f}-{estimate.high:.2f})" if wide else ""
            cells.append(f"{estimate.value:.3f}{span}" if known else "too few")
        table.add_row(contender, *cells)
    out_console.print(table)


def _print_problems(problems: Sequence[Problem], console: Console) -> None:
    for problem in problems:
        colour = "red" if problem.severity == "error" else "yellow"
        console.print(problem.line(), style=colour, markup=False, highlight=False, soft_wrap=True)


def _print_left_out(problems: Sequence[Problem]) -> None:
    errors = [problem for problem in problems if problem.severity == "error"]
    _print_problems(errors, err_console)
    if errors:
        err_console.print(f"{len(errors)} lines above: what could not be used was left out", highlight=False)


def _problem_json(problem: Problem) -> dict[str, str]:
    return {name: getattr(problem, name) for name in Problem.__slots__}


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _show_warning(message: Warning | str, category: type[Warning], *_rest: Any) -> None:
    if issubclass(category, MedfusionWarning):
        err_console.print(f"[yellow]warning[/yellow] {escape(str(message))}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
