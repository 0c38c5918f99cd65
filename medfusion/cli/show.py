"""What commands show: progress, tables, problems, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from medfusion.core.errors import MedfusionWarning, Problem

if TYPE_CHECKING:
    from medfusion.core.protocols import Advance
    from medfusion.evaluation.evaluate import Evaluation
    from medfusion.evaluation.metrics import Estimate

_HEADINGS = {"auroc": "AUROC", "auprc": "AUPRC", "brier": "Brier", "ece": "ECE", "ece_chance": "ECE by chance"}
out_console, err_console = Console(), Console(stderr=True)


def say(text: str) -> None:
    """Print words as they are: never broken, coloured or cut, so that a program can read them."""
    out_console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress() -> Iterator[Callable[[str, int], Advance]]:
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


def print_results(results: Mapping[str, Evaluation], title: str) -> None:
    """Print a row of figures per contender, of the same samples."""
    some = next(iter(results.values()))
    caption = f"{some.n} samples of {some.n_subjects} patients, {some.n_events} with the event"
    print_estimates({name: result.estimates for name, result in results.items()}, title, caption)


def print_estimates(results: Mapping[str, Mapping[str, Estimate]], title: str, caption: str) -> None:
    """Print a row of figures per contender."""
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_column("", no_wrap=True)
    for heading in _HEADINGS.values():
        table.add_column(heading, justify="right")
    for contender, estimates in results.items():
        cells = []
        for name in _HEADINGS:
            estimate = estimates[name]
            known = estimate.value is not None
            wide = name in {"auroc", "auprc"} and estimate.low is not None
            span = f" ({estimate.low:.2f}-{estimate.high:.2f})" if wide else ""
            cells.append(f"{estimate.value:.3f}{span}" if known else "too few")
        table.add_row(contender, *cells)
    out_console.print(table)


def print_problems(problems: Sequence[Problem], console: Console) -> None:
    """Print one line per problem."""
    for problem in problems:
        colour = "red" if problem.severity == "error" else "yellow"
        console.print(problem.line(), style=colour, markup=False, highlight=False, soft_wrap=True)


def print_left_out(problems: Sequence[Problem]) -> None:
    """Print and count what could not be used."""
    errors = [problem for problem in problems if problem.severity == "error"]
    print_problems(errors, err_console)
    if errors:
        err_console.print(
            f"{len(errors)} lines above: what could not be used was left out", highlight=False, soft_wrap=True
        )


def problem_json(problem: Problem) -> dict[str, str]:
    """Return a problem as JSON values."""
    return {name: getattr(problem, name) for name in Problem.__slots__}


def print_json(value: Any) -> None:
    """Print JSON that a program may read."""
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def show_warning(message: Warning | str, category: type[Warning], *_rest: Any) -> None:
    """Show a warning of medfusion's own; those of libraries are for developers."""
    if issubclass(category, MedfusionWarning):
        err_console.print(f"[yellow]warning[/yellow] {escape(str(message))}", highlight=False, soft_wrap=True)
