"""The command that scores a whole cohort."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from medfusion.cli.app import app
from medfusion.cli.options import (
    DATA_PROBLEM,
    DONE,
    AsJson,
    CacheFolder,
    ModelFolder,
    NoCache,
    OutFolder,
    SameTask,
    cache_folder,
)
from medfusion.cli.show import err_console, print_json, say
from medfusion.core.errors import UsageError

if TYPE_CHECKING:
    from medfusion.pipeline import Scoring
    from medfusion.scoring import Counts, Engine, PartResult

_LINES = 10
"""How many lines of a quarantine are shown."""
_MAYBE_COHORT = Annotated[Path | None, typer.Argument(metavar="COHORT", help="Folder with a cohort.toml.")]


@app.command()
def score(
    model: ModelFolder,
    out: OutFolder,
    cohort: _MAYBE_COHORT = None,
    ledger: Annotated[bool, typer.Option(help="Write the ledger as well.")] = True,
    ledger_lines: Annotated[
        int, typer.Option(min=0, help="Lines per sample and kind of data; the others become one. 0 for all.")
    ] = 20,
    image_ledger: Annotated[
        bool, typer.Option("--image-ledger", help="Open up images into regions; every film is looked at twice.")
    ] = False,
    backend: Annotated[
        str, typer.Option(metavar="NAME", help="What runs image networks: auto for the fastest, or as openvino-bf16.")
    ] = "torch-fp32",
    engine: Annotated[Literal["local", "ray"], typer.Option(help="Where to score.")] = "local",
    address: Annotated[str | None, typer.Option(help="Of a running Ray cluster, such as auto or head:6379.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Ray actors.")] = None,
    part_size: Annotated[int, typer.Option(min=1, help="Samples that are scored and written together.")] = 500,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    watch: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Score the cohort folders that are moved into this one.")
    ] = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between looks into the watched folder.")] = 10.0,
    until_idle: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Stop watching when nothing came for so long.")
    ] = None,
    metrics: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep figures for Prometheus in a textfile (.prom).")
    ] = None,
    task: SameTask = None,
    as_json: AsJson = False,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
) -> None:
    """Score every sample of a cohort, however large; exit 1 if something had to be left out.

    The same command goes on where an interrupted run ended, and scores again only what has changed.

    Example: medfusion score model tonight --out scores

    Folders that arrive: medfusion score model --watch incoming --out scores

    On a Ray cluster: medfusion score model tonight --out scores --engine ray --address auto
    """
    from medfusion import pipeline  # noqa: PLC0415 - commands import what they need
    from medfusion.scoring import Textfile  # noqa: PLC0415

    options = pipeline.Options(ledger=ledger, lines=ledger_lines or None, regions=image_ledger)
    common: dict[str, Any] = {
        "task": task,
        "cache": cache_folder(cache, no_cache),
        "options": options,
        "backend": backend,
    }
    if (cohort is None) == (watch is None):
        raise UsageError("name a COHORT to score, or a folder with --watch DIR, one of the two")
    if watch is None and dry_run:
        return _tell_plan(pipeline.plan(model, _given(cohort), out, part_size=part_size, **common), as_json)
    with _bar() as bar:
        monitors = [bar, *([Textfile(metrics)] if metrics else [])]
        common |= {"engine": _engine(engine, address, workers), "part_size": part_size, "monitors": monitors}
        if watch is None:
            scoring = pipeline.score(model, _given(cohort), out, **common)
        else:
            scoring = pipeline.watch(model, watch, out, every_s=every, until_idle_s=until_idle, **common)
    _tell(scoring, out, as_json)
    raise typer.Exit(DATA_PROBLEM if scoring.quarantined else DONE)


def _given(cohort: Path | None) -> Path:
    assert cohort is not None
    return cohort


def _engine(name: str, address: str | None, workers: int | None) -> Engine:
    from medfusion.scoring import LocalEngine, RayEngine  # noqa: PLC0415

    if name == "ray":
        return RayEngine(address, workers)
    if address or workers:
        raise UsageError("--address and --workers are for --engine ray")
    return LocalEngine()


def _tell(scoring: Scoring, out: Path, as_json: bool) -> None:
    counts = scoring.counts
    if as_json:
        said: dict[str, Any] = {"scored": scoring.scored, "unchanged": counts.unchanged, "failed": counts.failed}
        said |= {"quarantined": scoring.quarantined, "seconds": round(scoring.seconds, 3)}
        return print_json({**said, "codes": dict(scoring.codes), "out": str(out)})
    say(f"{scoring.scored} samples scored, {scoring.quarantined} quarantined: {out}")
    if counts.unchanged:
        say(f"{counts.unchanged} of them were scored before, and nothing about them has changed")
    if scoring.backend:
        say(str(scoring.backend["text"]))
    if scoring.codes:
        listed = ", ".join(f"{code} ({number})" for code, number in scoring.codes.items())
        for line in _first_lines(out / "quarantine.parquet"):
            err_console.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
        err_console.print(f"quarantine: {listed}; see {out / 'quarantine.parquet'}", highlight=False, soft_wrap=True)
    return None


def _first_lines(quarantine: Path) -> list[str]:
    from pyarrow.dataset import dataset  # noqa: PLC0415

    lines: list[str] = dataset(quarantine).head(_LINES, columns=["detail"])["detail"].to_pylist()
    return lines


def _tell_plan(plan: Mapping[str, int], as_json: bool) -> None:
    if as_json:
        return print_json(dict(plan))
    say(
        f"{plan['label_rows']} rows of labels, {plan['samples']} samples: {plan['to_score']} would be scored, "
        f"{plan['unchanged']} have not changed; in {plan['parts']} parts. Nothing was written."
    )
    return None


class _Bar:
    """A bar with rate, time left, what was quarantined, and how many parts wait for which stage."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("divide", total=None, rate="", quarantined="", waiting="")

    def begins(self, rows: int, parts: int) -> None:
        self._progress.reset(self._task, description="score", total=rows)

    def finished(self, result: PartResult, total: Counts, waiting: Mapping[str, int]) -> None:
        elapsed = self._progress.tasks[0].elapsed or 0.0
        self._progress.update(
            self._task,
            completed=total.rows,
            rate=f"{total.rows / elapsed:,.0f}/s" if elapsed else "",
            quarantined=f"{total.quarantined} quarantined",
            waiting=", ".join(f"{number} to {stage}" for stage, number in waiting.items() if number),
        )

    def ends(self, summary: Mapping[str, Any]) -> None:
        self._progress.update(self._task, waiting="")


@contextmanager
def _bar() -> Iterator[_Bar]:
    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[quarantined]}"),
        TextColumn("{task.fields[waiting]}", style="dim"),
    )
    with Progress(*columns, console=err_console, disable=not err_console.is_terminal) as progress:
        yield _Bar(progress)
