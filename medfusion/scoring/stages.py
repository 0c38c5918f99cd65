"""Stages that work at the same time on a bounded number of items: none waits for the whole, none runs ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Event, Semaphore, Thread
from typing import Any

_PATIENCE_S = 0.1
_END = object()


@dataclass(frozen=True, slots=True)
class Stage:
    """One step.

    Attributes
    ----------
    name : str
    work : callable
        From what the step before returns to what the next one is given.
    threads : int
        How many items are worked on at once; with more than one they may leave in another order.
    """

    name: str
    work: Callable[[Any], Any]
    threads: int = 1


class Stages:
    """A row of stages.

    There are never more items on their way than threads to work on them: what is in memory does not depend on which
    stage is the slowest, nor on how many items there are.

    Parameters
    ----------
    stages : sequence of Stage

    Examples
    --------
    >>> stages = Stages([Stage("double", lambda number: 2 * number), Stage("say", str)])
    >>> list(stages.run([1, 2, 3]))
    ['2', '4', '6']
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = tuple(stages)
        self._queues: list[Queue[Any]] = [Queue() for _ in range(len(stages) + 1)]
        self._room = Semaphore(sum(stage.threads for stage in stages))
        self._stop = Event()
        self._error: BaseException | None = None

    def waiting(self) -> dict[str, int]:
        """Return how many items wait for each stage."""
        return {stage.name: queue.qsize() for stage, queue in zip(self._stages, self._queues, strict=False)}

    def run(self, items: Iterable[Any]) -> Iterator[Any]:
        """Send items through the stages, and yield what comes out of the last.

        The first error of any stage ends the run and is raised here; items on their way are dropped.
        """
        threads = [Thread(target=self._feed, args=(items,), daemon=True)]
        for place, stage in enumerate(self._stages):
            left = [stage.threads]
            threads += [
                Thread(target=self._serve, args=(place, stage, left), daemon=True, name=stage.name)
                for _ in range(stage.threads)
            ]
        for thread in threads:
            thread.start()
        try:
            while (item := self._take(self._queues[-1])) is not _END:
                self._room.release()
                yield item
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        if self._error is not None:
            raise self._error

    def _feed(self, items: Iterable[Any]) -> None:
        try:
            source = iter(items)
            while self._has_room():
                item = next(source, _END)
                self._queues[0].put(item)
                if item is _END:
                    return
        except BaseException as error:
            self._fail(error)

    def _serve(self, place: int, stage: Stage, left: list[int]) -> None:
        """Work until the end comes by; the last thread of a stage to see it hands it on."""
        source, target = self._queues[place], self._queues[place + 1]
        while (item := self._take(source)) is not _END:
            try:
                target.put(stage.work(item))
            except BaseException as error:
                self._fail(error)
                return
            # What was handed on is no longer held here, while the next is waited for.
            del item
        left[0] -= 1
        (source if left[0] else target).put(_END)

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self._stop.set()

    def _take(self, queue: Queue[Any]) -> Any:
        while not self._stop.is_set():
            try:
                return queue.get(timeout=_PATIENCE_S)
            except Empty:
                continue
        return _END

    def _has_room(self) -> bool:
        """Wait until one more item may be on its way; False if the run is over."""
        while not self._stop.is_set():
            if self._room.acquire(timeout=_PATIENCE_S):
                return True
        return False
