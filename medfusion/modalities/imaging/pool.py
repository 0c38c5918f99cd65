"""Decoding in processes that can be ended: a damaged film may take too long, too much memory, or the process with it.

Each worker is a Python of its own that does one thing at a time and is spoken to over pipes: a line of JSON, then raw
bytes. It is started afresh rather than forked, so that it neither inherits locks that other threads hold nor runs the
caller's script again; it imports what the caller can import, and ends when the caller does. This is the caller's side;
`worker` is the other.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from io import BufferedReader, BufferedWriter
from pathlib import Path
from queue import LifoQueue
from threading import Timer
from typing import Any, Self, cast

import numpy as np

from medfusion.core.errors import MedfusionError, PayloadRejected, Problem
from medfusion.core.types import FloatArray
from medfusion.modalities.imaging.headers import rejected
from medfusion.modalities.imaging.worker import Answer, bytes_of

TIME_LIMIT_S = 10.0
"""How long one film may take."""
MEMORY_LIMIT_BYTES = 2**30
"""What a worker may use, its code included."""
MOST_TRIES = 3
"""How many workers a film gets where somebody else ends them: an operator, or the system when memory is short."""
_FROM_OUTSIDE = frozenset(
    getattr(signal, name) for name in ("SIGKILL", "SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)
)
"""The signals that no decoder sends to itself."""
_START_LIMIT_S = 60.0
_START = "import sys; sys.path[:] = sys.argv[2:]; from medfusion.modalities.imaging.worker import main; main()"
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What is known of a film without decoding it; see `pixels.Encoded`."""

    size: tuple[int, int]
    content: str
    digest: str


@cache
def decoders() -> Decoders:
    """Return the processes that all readers of this program share: one for each processor."""
    return Decoders(processors())


def processors() -> int:
    """Return how many processors this program may use: all that the system lets it, or fewer where it is told so."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    told = os.environ.get("MEDFUSION_PROCESSORS", "")
    return min(there, int(told)) if told.isdecimal() and int(told) else there


class Decoders:
    """A few processes that decode films; threads may share one object.

    A process is started when it is first needed, and again when it has died. All end with `close`, at the end of a
    ``with`` block, or with the program.

    Parameters
    ----------
    workers : int
        How many films are decoded at once; further calls wait.
    time_limit_s : float
        After this long a film is refused, and its worker ended.
    memory_limit_bytes : int
        What a worker may use; enforced where the system can (Linux).

    Examples
    --------
    >>> from medfusion.modalities.imaging.example import example_dicom
    >>> with Decoders(workers=1) as decoders:
    ...     film, image = decoders.decode(example_dicom(0), longest=64)
    >>> max(image.shape), image.dtype.name, len(film.digest)
    (64, 'float32', 64)
    """

    def __init__(
        self, workers: int, *, time_limit_s: float = TIME_LIMIT_S, memory_limit_bytes: int = MEMORY_LIMIT_BYTES
    ) -> None:
        self.time_limit_s = time_limit_s
        self.memory_limit_bytes = memory_limit_bytes
        self._running: set[_Worker] = set()
        self._idle: LifoQueue[_Worker | None] = LifoQueue()
        for _ in range(workers):
            self._idle.put(None)
        weakref.finalize(self, _end_all, self._running)

    def start(self) -> None:
        """Start a process, if none runs, so that the first film does not wait for it."""
        worker = self._idle.get()
        try:
            if worker is None or not worker.alive:
                # Whoever killed it may not kill the next one.
                with suppress(_Killed):
                    worker = self._started()
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """End the processes; whoever decodes again starts new ones."""
        _end_all(self._running)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def decode(
        self, source: Path | bytes, *, longest: int | None, frame: int | None = None, digest: str | None = None
    ) -> tuple[Loaded, FloatArray]:
        """Decode a film; see `pixels.decode`.

        Parameters
        ----------
        source : Path or bytes
            A file, or the content of one.
        longest : int or None
            Pixels that the longer side is to have; None for all there are.
        frame : int, optional
            Counted from 0.
        digest : str, optional
            That of the film which is expected.

        Returns
        -------
        film : Loaded
        image : array (rows, columns), float32
            In [0, 1]; 0 is black.

        Raises
        ------
        PayloadRejected
            Without a file name: what `pixels.load` and `pixels.decode` raise, ``changed-film``, ``too-large`` (beyond
            the limit of memory), ``decode-timeout`` or ``decoder-crashed``.
        """
        told, image = self.run("decode", {"longest": longest, "frame": frame, "digest": digest}, source)
        return _loaded(told), image

    def run(self, task: str, arguments: Mapping[str, Any], source: Path | bytes = b"", *, files: int = 1) -> Answer:
        """Have a worker do one of `worker.TASKS`.

        Parameters
        ----------
        task : str
        arguments : mapping
            Values that JSON can hold.
        source : Path or bytes
        files : int
            How many files the task reads; each has its time.

        Raises
        ------
        PayloadRejected
            Without a file name: what the task raises, ``too-large``, ``decode-timeout`` or ``decoder-crashed``; the
            last also for a film whose workers somebody killed `MOST_TRIES` times.
        """
        worker = self._idle.get()
        try:
            for tries_left in reversed(range(MOST_TRIES)):
                start, limit_s, is_new = time.monotonic(), self.time_limit_s * files, False
                try:
                    if worker is None or not worker.alive:
                        worker, is_new = self._started(), True
                    return worker.ask(task, arguments, source, limit_s)
                except PayloadRejected as error:
                    if worker is not None and worker.alive:
                        raise
                    self._running.discard(cast(_Worker, worker))
                    # What earlier films left behind may have ended it: only a new one can tell.
                    is_theirs = not is_new and time.monotonic() - start <= limit_s / 2
                    if not tries_left or not (is_theirs or isinstance(error, _Killed)):
                        raise
            raise AssertionError
        finally:
            if worker is not None and not worker.alive:
                self._running.discard(worker)
                worker = None
            self._idle.put(worker)

    def _started(self) -> _Worker:
        worker = _Worker(self.memory_limit_bytes)
        self._running.add(worker)
        worker.wait()
        return worker


class _Worker:
    """The caller's end of one process."""

    def __init__(self, memory_limit_bytes: int) -> None:
        paths = [path for path in sys.path if isinstance(path, str)]
        self._process = subprocess.Popen(  # noqa: S603 - this Python and fixed code
            [sys.executable, "-c", _START, str(memory_limit_bytes), *paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **_ONE_THREAD},
        )
        self._said = b""
        self._requests = cast(BufferedWriter, self._process.stdin)
        self._answers = cast(BufferedReader, self._process.stdout)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait(self) -> None:
        """Wait until the process has imported what it needs."""
        start = time.monotonic()
        with self._ended_after(_START_LIMIT_S):
            if self._answers.readline() == b"ready\n":
                return
        death = self._death(time.monotonic() - start, _START_LIMIT_S)
        if isinstance(death, _Killed):
            raise death
        said = self._said.decode(errors="replace").strip().splitlines()
        raise MedfusionError(
            f"the process that decodes films does not start: {said[-1] if said else 'it says nothing'}"
        )

    def ask(self, task: str, arguments: Mapping[str, Any], source: Path | bytes, limit_s: float) -> Answer:
        start = time.monotonic()
        path, data = (str(source.absolute()), b"") if isinstance(source, Path) else (None, source)
        request = {"task": task, "arguments": arguments, "path": path, "bytes": len(data), "limit_s": limit_s}
        try:
            with self._ended_after(limit_s):
                told, array = self._exchange(json.dumps(request).encode(), data)
        except (EOFError, OSError, ValueError):
            raise self._death(time.monotonic() - start, limit_s) from None
        except BaseException:
            # The answer is still on its way, and would be taken for that to the next question.
            self.end()
            raise
        if told.pop("spent"):
            self.end()
        if "problem" in told:
            raise PayloadRejected(Problem(**told["problem"]))
        return told, array

    def end(self) -> bytes:
        """End the process at once; return what it said on standard error while it started."""
        self._process.kill()
        return self._process.communicate()[1]

    @contextmanager
    def _ended_after(self, limit_s: float) -> Iterator[None]:
        timer = Timer(limit_s, self._process.kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _exchange(self, request: bytes, data: bytes) -> Answer:
        self._requests.write(request + b"\n")
        self._requests.write(data)
        self._requests.flush()
        line = self._answers.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        told = json.loads(line)
        array = np.empty(told.pop("shape"), np.float32)
        if self._answers.readinto(bytes_of(array)) != array.nbytes:
            raise EOFError
        return told, array

    def _death(self, lasted_s: float, limit_s: float) -> PayloadRejected:
        """Say why there is no answer."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self._said = self.end()
        remedy = "leave the file out, or export it again"
        if lasted_s >= limit_s:
            return rejected("decode-timeout", "PixelData", f"over {limit_s:g} s", f"at most {limit_s:g} s", remedy)
        code = self._process.returncode
        got = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        crashed = rejected("decoder-crashed", "PixelData", got, "pixels", remedy)
        return _Killed(crashed.problem) if -code in _FROM_OUTSIDE else crashed


class _Killed(PayloadRejected):
    """Somebody else ended the worker: no fault of the film."""


def _end_all(workers: set[_Worker]) -> None:
    for worker in list(workers):
        worker.end()
    workers.clear()


def _loaded(told: Mapping[str, Any]) -> Loaded:
    return Loaded(tuple(told["size"]), told["content"], told["digest"])
