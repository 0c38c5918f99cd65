"""Who watches a run: a log for machines, figures for Prometheus, a bar. None of them is told of a patient."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from medfusion.core.errors import MissingExtra
from medfusion.core.protocols import Advance
from medfusion.scoring.journal import Counts


@dataclass(frozen=True, slots=True)
class PartResult:
    """What became of one part.

    Attributes
    ----------
    part : int
    counts : Counts
    seconds : mapping from stage to float
    codes : mapping from code to int
        What is in the part's quarantine.
    """

    part: int
    counts: Counts
    seconds: Mapping[str, float] = field(default_factory=dict)
    codes: Mapping[str, int] = field(default_factory=dict)


class Monitor(Protocol):
    """Is told how a run goes on."""

    def begins(self, rows: int, parts: int) -> None:
        """Hear how much there is to do."""

    def finished(self, result: PartResult, total: Counts, waiting: Mapping[str, int]) -> None:
        """Hear that a part is done, what has been done in all, and how many parts wait for which stage."""

    def ends(self, summary: Mapping[str, Any]) -> None:
        """Hear what came out."""


class Monitors:
    """Several of them as one."""

    def __init__(self, monitors: Sequence[Monitor]) -> None:
        self._monitors = tuple(monitors)

    def begins(self, rows: int, parts: int) -> None:
        """Tell all."""
        for each in self._monitors:
            each.begins(rows, parts)

    def finished(self, result: PartResult, total: Counts, waiting: Mapping[str, int]) -> None:
        """Tell all."""
        for each in self._monitors:
            each.finished(result, total, waiting)

    def ends(self, summary: Mapping[str, Any]) -> None:
        """Tell all."""
        for each in self._monitors:
            each.ends(summary)


class Tracked:
    """Drives a progress bar.

    Parameters
    ----------
    track : callable
        Called with the name of a stage and its number of steps; returns what counts them.
    """

    def __init__(self, track: Callable[[str, int], Advance]) -> None:
        self._track = track
        self._advance: Advance = lambda _done: None

    def begins(self, rows: int, parts: int) -> None:
        """Start the bar."""
        self._advance = self._track("score", rows)

    def finished(self, result: PartResult, total: Counts, waiting: Mapping[str, int]) -> None:
        """Move it on."""
        self._advance(result.counts.rows)

    def ends(self, summary: Mapping[str, Any]) -> None:
        """Do nothing: the bar is full."""


class JsonLog:
    """Appends one JSON object per line to a file.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def begins(self, rows: int, parts: int) -> None:
        """Write that a run begins."""
        self._write("begins", rows=rows, parts=parts)

    def finished(self, result: PartResult, total: Counts, waiting: Mapping[str, int]) -> None:
        """Write that a part is done."""
        seconds = {name: round(each, 4) for name, each in result.seconds.items()}
        said = {"part": result.part, **asdict(result.counts), "seconds": seconds, "waiting": dict(waiting)}
        self._write("part", **said, codes=dict(result.codes))

    def ends(self, summary: Mapping[str, Any]) -> None:
        """Write what came out."""
        self._write("ends", **summary)

    def _write(self, event: str, **said: Any) -> None:
        line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **said}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


class Textfile:
    """Keeps a file for the textfile collector of Prometheus' node exporter up to date.

    Parameters
    ----------
    path : Path
        Ends in .prom.

    Raises
    ------
    MissingExtra
        If prometheus-client is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            from prometheus_client import CollectorRegistry, Gauge, write_to_textfile  # noqa: PLC0415 - an extra
        except ImportError:
            raise MissingExtra("prometheus-client", "metrics") from None
        self._path, self._write, self._registry = path, write_to_textfile, CollectorRegistry()
        self._start = time.monotonic()

        def gauge(name: str, said: str, labels: Sequence[str] = ()) -> Any:
            return Gauge(f"medfusion_score_{name}", said, labels, registry=self._registry)

        self._rows = gauge("label_rows", "Rows of the labels")
        self._samples = gauge("samples", "Samples by what became of them", ["state"])
        self._quarantined = gauge("quarantined", "Rows of the quarantine")
        self._rate = gauge("samples_per_second", "Samples scored per second of the run")
        self._last = gauge("last_success_timestamp_seconds", "When a run last came to its end")

    def begins(self, rows: int, parts: int) -> None:
        """Write how much there is to do."""
        self._start = time.monotonic()
        self._rows.set(rows)
        self._save(Counts())

    def finished(self, result: PartResult, total: Counts, waiting: Mapping[str, int]) -> None:
        """Write how far the run is."""
        self._save(total)

    def ends(self, summary: Mapping[str, Any]) -> None:
        """Write that the run came to its end."""
        self._last.set(time.time())
        self._write(str(self._path), self._registry)

    def _save(self, total: Counts) -> None:
        for state in ("scored", "unchanged", "failed"):
            self._samples.labels(state=state).set(getattr(total, state))
        self._quarantined.set(total.quarantined)
        self._rate.set(total.scored / max(time.monotonic() - self._start, 1e-9))
        self._write(str(self._path), self._registry)
