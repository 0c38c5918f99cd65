"""Does a run that is killed lose anything? Kills it at random times, goes on, and compares every row.

A run without a kill is the reference. Then the same command is started again and again. At a random time, spread over
the whole length of a run, one of its processes gets SIGKILL: the main one, one that decodes films, or an actor of Ray.
How far a run is, is told by the parts that are finished, so that a busy machine does not move all kills into starting:
some come while the command starts and divides, the others a random moment after a random part. Where the main one was
killed, the command is given again, as a user would, and may be killed again; where another was, the run has to finish
by itself. In the end every row of predictions, ledger and quarantine has to be that of the reference, value for value,
but for the time at which it was scored; and nothing that was started may still be running.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import pandas as pd
from pyarrow.dataset import dataset

TABLES = ("predictions", "ledger", "quarantine")
KEY = ["subject_id", "prediction_time"]
Victim = Literal["main", "worker", "actor"]
VICTIMS: Mapping[Victim, str] = {
    "main": "medfusion.cli",
    "worker": "modalities.imaging.worker",
    "actor": "ray::MapWorker",
}
"""What stands in the command line of a process of each kind."""
_MARK = "MEDFUSION_CRASH_TEST"
_LOOK_S, _PART_S = 0.02, 0.7
_ENDS_WITHIN_S, _WATCHERS_END_WITHIN_S = 30.0, 120.0
_WATCHERS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Processes of Ray that do no work, and try for a minute to tell a head that is gone that they end."""


class NotEqual(Exception):
    """A run did not end as it should."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the system; a number may be given again, the time of its start tells which one is meant."""

    pid: int
    parent: int
    started: str
    line: str
    marks: bytes

    def kill(self) -> bool:
        """End it; return whether it was there."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True


def processes() -> dict[int, Process]:
    """Return the processes that are alive and may be looked at."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            # After the name, which may hold anything, in brackets: state, parent, ..., start.
            stat = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            marks = (entry / "environ").read_bytes()
        except OSError:
            continue
        if stat[0] not in "ZX":
            found[int(entry.name)] = Process(int(entry.name), int(stat[1]), stat[19], line, marks)
    return found


@dataclass(frozen=True, slots=True)
class Command:
    """A scoring run, to be started any number of times.

    Attributes
    ----------
    model, cohort : Path
    options : sequence of str
    """

    model: Path
    cohort: Path
    options: Sequence[str] = ("--no-cache", "--part-size", "3")

    def start(self, out: Path, log: Path) -> Started:
        """Start it; its processes are known by a mark in their environment, or by their parents."""
        arguments = ("score", self.model, self.cohort, "--out", out, *self.options)
        mark = f"{os.getpid()}-{time.monotonic_ns()}"
        command = [sys.executable, "-m", "medfusion.cli", *map(str, arguments)]
        with log.open("wb") as said:
            process = subprocess.Popen(command, stdout=said, stderr=said, env={**os.environ, _MARK: mark})
        return Started(process, f"{_MARK}={mark}".encode(), log)


@dataclass(slots=True)
class Started:
    """A run that goes on."""

    process: subprocess.Popen[bytes]
    mark: bytes
    log: Path
    seen: dict[tuple[int, str], Process] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def members(self) -> list[Process]:
        """Return the processes of the run, the main one too, that are alive."""
        alive = processes()
        mine = {pid for pid, each in alive.items() if self.mark in each.marks.split(b"\0")}
        mine |= {pid for pid, each in alive.items() if (pid, each.started) in self.seen}
        # Some write their title over their environment.
        while more := {pid for pid, each in alive.items() if each.parent in mine} - mine:
            mine |= more
        self.seen |= {(pid, alive[pid].started): alive[pid] for pid in mine}
        return [alive[pid] for pid in mine]

    def end(self) -> None:
        """Wait for the end, and for that of all that it started.

        Raises
        ------
        NotEqual
            If it ends with an error, with the end of what it said; or leaves a process behind.
        """
        while self.running:
            self.members()
            time.sleep(10 * _LOOK_S)
        if self.process.returncode not in {0, 1} or "quarantined" not in self.log.read_text(errors="replace"):
            said = self.log.read_text(errors="replace")[-2000:]
            raise NotEqual(f"exit code {self.process.returncode}: {said}")
        self.alone()

    def alone(self) -> float:
        """Wait until no process of the run is left that could do anything; return the seconds that it took."""
        return self._without(lambda each: not each.line.startswith(_WATCHERS), _ENDS_WITHIN_S)

    def gone(self) -> float:
        """Wait until no process of the run is left at all; return the seconds that it took."""
        return self._without(lambda each: True, _WATCHERS_END_WITHIN_S)

    def _without(self, which: Callable[[Process], bool], limit_s: float) -> float:
        start = time.monotonic()
        while left := [each for each in self.members() if which(each)]:
            if time.monotonic() - start > limit_s:
                for each in left:
                    each.kill()
                raise NotEqual(f"still running after {limit_s:g} s: {sorted(each.line.strip() for each in left)}")
            time.sleep(_LOOK_S)
        return time.monotonic() - start


@dataclass(slots=True)
class Kill:
    """One kill.

    Attributes
    ----------
    victim : {"main", "worker", "actor"}
    parts : int
        How many are to be finished before.
    wait_s : float
        What is waited after that.
    after_s : float
        When it came, after the start of the command.
    hit : bool
        Whether there was such a process.
    finished_parts : int
        Of the folder, at that time.
    left_s : float
        How long the last process of the run lived on, where it was the main one.
    """

    victim: Victim
    parts: int
    wait_s: float
    after_s: float = 0.0
    hit: bool = False
    finished_parts: int = 0
    left_s: float = 0.0


@dataclass(slots=True)
class Outcome:
    """What kills did.

    Attributes
    ----------
    length_s : float
        Of the run without a kill, start-up included.
    rows : mapping from table to int
        Of the same run.
    kills : list of Kill
    folders : int
        How many were compared with the reference.
    lost, doubled, changed : int
        Rows, over all folders and tables.
    """

    length_s: float
    rows: Mapping[str, int]
    kills: list[Kill] = field(default_factory=list)
    folders: int = 0
    lost: int = 0
    doubled: int = 0
    changed: int = 0

    def add(self, expected: Mapping[str, pd.DataFrame], got: Mapping[str, pd.DataFrame]) -> None:
        """Compare what a folder holds with the reference."""
        self.folders += 1
        for name, reference in expected.items():
            wanted, found = _counted(reference), _counted(got[name])
            missing, more = (wanted - found).total(), found - wanted
            again = sum(count for row, count in more.items() if row in wanted)
            changed = min(missing, more.total() - again)
            self.lost += missing - changed
            self.doubled += again
            # The types of columns and the order of a ledger's lines are looked at, too.
            self.changed += changed or (not missing and not more and not reference.equals(got[name]))


def crash(
    command: Command,
    work: Path,
    victims: Sequence[Victim],
    seed: int,
    told: Callable[[str], None] = lambda line: None,
    reference: Command | None = None,
) -> Outcome:
    """Kill runs, let them go on, and compare what they wrote.

    Parameters
    ----------
    command : Command
    work : Path
        An empty folder.
    victims : sequence of {"main", "worker", "actor"}
        Who is killed, one after the other; main processes in a row in the same folder, until it is done.
    seed : int
    told : callable
        Called with a line about each kill.
    reference : Command, optional
        What writes the rows to be expected; the same command, if there is no other.

    Raises
    ------
    NotEqual
        If a run does not go on, or leaves processes behind.
    """
    rng = random.Random(seed)  # noqa: S311 - times, not secrets
    log, start = work / "log.txt", time.monotonic()
    (reference or command).start(work / "reference", log).end()
    length_s, expected = time.monotonic() - start, rows_of(work / "reference")
    outcome = Outcome(round(length_s, 1), {name: len(table) for name, table in expected.items()})
    parts, waiting = _finished(work / "reference"), list(victims)
    runs: list[Started] = []

    def drawn(victim: Victim, finished: int) -> Kill:
        after = rng.randint(finished, parts)
        # Before the next part a run has to start, which takes seconds; a part takes less than one.
        return Kill(victim, after, round(rng.uniform(0, _PART_S if after > finished else length_s / 2), 3))

    while waiting:
        out = work / f"out-{outcome.folders}"
        for kill in _kills(command, out, log, waiting, drawn, runs):
            outcome.kills.append(kill)
            told(f"{kill.victim} after {kill.after_s:.1f} s, {kill.finished_parts} parts finished")
        outcome.add(expected, rows_of(out))
        told(f"{outcome.lost} lost, {outcome.doubled} doubled, {outcome.changed} changed so far")
        shutil.rmtree(out)
    for run in runs:
        run.gone()
    return outcome


def _kills(
    command: Command,
    out: Path,
    log: Path,
    waiting: list[Victim],
    drawn: Callable[[Victim, int], Kill],
    runs: list[Started],
) -> Iterator[Kill]:
    """Run a command until it is done, and yield what was killed on the way."""
    run = command.start(out, log)
    runs.append(run)
    while waiting:
        kill = drawn(waiting[0], _finished(out))
        _strike(run, kill, out)
        if not kill.hit:
            break
        waiting.pop(0)
        if kill.victim == "main":
            run.process.wait()
            kill.left_s = round(run.alone(), 2)
            run = command.start(out, log)
            runs.append(run)
        yield kill
    run.end()


def _strike(run: Started, kill: Kill, out: Path) -> None:
    """Wait, and kill; what is not there yet is waited for."""
    while run.running and _finished(out) < kill.parts:
        time.sleep(_LOOK_S)
    reached = time.monotonic()
    while run.running and time.monotonic() - reached < kill.wait_s:
        time.sleep(_LOOK_S)
    while run.running and not kill.hit:
        found = [each for each in run.members() if VICTIMS[kill.victim] in each.line]
        if kill.victim == "main":
            found = [each for each in found if each.pid == run.process.pid]
        if found and run.running:
            kill.finished_parts = _finished(out)
            kill.hit = found[len(found) // 2].kill()
            kill.after_s = round(time.monotonic() - run.began, 2)
        time.sleep(_LOOK_S)


def _finished(out: Path) -> int:
    return len(list((out / ".state").glob("*/finished/*.json")))


def rows_of(out: Path) -> dict[str, pd.DataFrame]:
    """Return all rows that a run wrote, by sample, without the time at which they were scored."""
    tables = {}
    for name in TABLES:
        frame = dataset(out / f"{name}.parquet").to_table().to_pandas().drop(columns="scored_at", errors="ignore")
        # The lines of a ledger have an order.
        order = KEY if set(KEY) <= set(frame) else list(frame.columns)
        tables[name] = frame.sort_values(order, kind="stable", ignore_index=True)
    return tables


def _counted(table: pd.DataFrame) -> Counter[str]:
    # As text, so that what is missing equals itself, and a float only the very same.
    return Counter(map(repr, table.itertuples(index=False, name=None)))


def damage(cohort: Path, every: int) -> int:
    """Cut off the end of some films, so that there is something for the quarantine; return how many."""
    films = sorted((cohort / "imaging").rglob("*.dcm"))[::every]
    for film in films:
        film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    return len(films)


def main() -> int:
    from common import RESULTS, machine, write_results  # noqa: PLC0415 - tests import this module by another name

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--patients", type=int, default=24)
    parser.add_argument("--model", type=Path, help="trained on 80 synthetic patients unless given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=["local", "ray", "both"], default="both")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    measured: dict[str, Any] = {"machine": machine(), "patients": args.patients, "seed": args.seed, "engines": {}}
    engines = ["local", "ray"] if args.engine == "both" else [args.engine]
    with tempfile.TemporaryDirectory() as temporary:
        command, measured["damaged_films"] = _prepared(Path(temporary), args.patients, args.model)
        for number, engine in enumerate(engines):
            # Ray starts slowly; most kills need no Ray.
            kills = args.kills if len(engines) == 1 else (args.kills - args.kills // 5, args.kills // 5)[number]
            work = Path(temporary, engine)
            work.mkdir()
            own = (*command.options, *(("--engine", "ray", "--workers", "2") if engine == "ray" else ()))
            chosen = Command(command.model, command.cohort, own)
            outcome = crash(chosen, work, victims(engine, kills), args.seed + number, partial(print, flush=True))
            measured["engines"][engine] = asdict(outcome)
            write_results(args.out, "crashes", measured, _page(measured))
    return int(any(each["lost"] or each["doubled"] or each["changed"] for each in measured["engines"].values()))


def victims(engine: str, kills: int) -> list[Victim]:
    """Return who is killed: runs of main processes, and others in between."""
    pattern: Sequence[Victim] = ("main", "main", "worker", "main", "worker")
    if engine == "ray":
        pattern = ("actor", "main", "actor", "worker", "actor")
    return [pattern[number % len(pattern)] for number in range(kills)]


def _prepared(work: Path, patients: int, model: Path | None) -> tuple[Command, int]:
    from medfusion.cohort.synthetic import write_synthetic_cohort  # noqa: PLC0415
    from medfusion.pipeline import train  # noqa: PLC0415

    if model is None:
        model = work / "model"
        write_synthetic_cohort(work / "before", subjects=80, seed=0)
        train(work / "before", model, cache=work / "cache")
    write_synthetic_cohort(work / "new", subjects=patients, seed=1)
    return Command(model, work / "new"), damage(work / "new", 9)


def _page(measured: Mapping[str, Any]) -> str:
    from common import machine_line, markdown_table  # noqa: PLC0415

    rows, results = [], []
    for engine, each in measured["engines"].items():
        for victim in VICTIMS:
            kills = [kill for kill in each["kills"] if kill["victim"] == victim]
            if kills:
                times = [kill["after_s"] for kill in kills]
                left = f"{max(kill['left_s'] for kill in kills):.1f}" if victim == "main" else "-"
                between = f"{min(times):.1f} to {max(times):.1f} (median {median(times):.1f})"
                parts = f"{min(k['finished_parts'] for k in kills)} to {max(k['finished_parts'] for k in kills)}"
                rows.append([f"{engine}, {victim}", str(len(kills)), between, parts, left])
        counts = [str(each[name]) for name in ("folders", "lost", "doubled", "changed")]
        compared = ", ".join(f"{number} {name}" for name, number in each["rows"].items())
        results.append([engine, *counts, f"{each['length_s']:.1f}", compared])
    return f"""# Runs that are killed

`benchmarks/crashes.py`. {machine_line(measured["machine"])}

A cohort of {measured["patients"]} synthetic patients, {measured["damaged_films"]} of whose films are damaged, in parts
of 3 samples, nothing cached; times drawn with seed {measured["seed"]}. SIGKILL to one process; after the main one the
same command is given again, after others the run finishes by itself.

{markdown_table(["who", "kills", "seconds after the start", "parts finished", "last process ended after, s"], rows)}
Compared with a run that nobody killed, every column but `scored_at`, exactly:

{markdown_table(["engine", "folders", "lost", "doubled", "changed", "s without kills", "rows of each"], results)}"""


if __name__ == "__main__":
    sys.exit(main())
