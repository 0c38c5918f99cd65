"""Where parts are scored: here, or by actors of a Ray cluster. The stages are the same, and so are the rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from medfusion.core.errors import MissingExtra, UsageError
from medfusion.scoring.monitor import PartResult
from medfusion.scoring.stages import Stage, Stages


class Scorer(Protocol):
    """Scores parts of a cohort."""

    def stages(self) -> Sequence[Stage]:
        """Return the steps from the number of a part to a `PartResult`."""


class Engine(Protocol):
    """Has parts scored."""

    def run(self, parts: Iterable[int], make: Callable[[], Scorer]) -> Iterator[PartResult]:
        """Yield what became of each part, in any order; ``make`` builds a scorer where the work is done."""

    def waiting(self) -> Mapping[str, int]:
        """Return how many parts wait for each stage."""


class LocalEngine:
    """Threads of this program, one or more per stage, and the decoding processes that the reading stage has."""

    def __init__(self) -> None:
        self._stages: Stages | None = None

    def run(self, parts: Iterable[int], make: Callable[[], Scorer]) -> Iterator[PartResult]:
        """Send the parts through the stages of one scorer."""
        self._stages = Stages(make().stages())
        yield from self._stages.run(parts)

    def waiting(self) -> Mapping[str, int]:
        """Return how many parts wait for each stage."""
        return self._stages.waiting() if self._stages else {}


class RayEngine:
    """A pool of actors on a Ray cluster, each with a scorer of its own.

    Parts go to actors a few at a time. An actor, or a whole node, that is lost is replaced, and the parts that it had
    are scored again; what it had finished is found finished.

    Parameters
    ----------
    address : str or None
        Of an existing cluster; None starts one on this machine, for this run.
    workers : int or None
        Actors; one per processor pair of the cluster unless given.

    Raises
    ------
    MissingExtra
        If Ray is not installed.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        try:
            import ray  # noqa: F401, PLC0415 - an extra
        except ImportError:
            raise MissingExtra("ray", "ray") from None
        self._address, self._workers, self._left = address, workers, 0

    def run(self, parts: Iterable[int], make: Callable[[], Scorer]) -> Iterator[PartResult]:
        """Let Ray Data map the parts over a pool of actors."""
        import ray  # noqa: PLC0415 - an extra
        import ray.data  # noqa: PLC0415

        wanted = list(parts)
        if not wanted:
            return
        started = not ray.is_initialized()
        if started:
            self._connect(ray)
        try:
            yield from self._mapped(ray, wanted, make)
        finally:
            if started:
                ray.shutdown()

    def waiting(self) -> Mapping[str, int]:
        """Return how many parts are not done."""
        return {"ray": self._left}

    def _connect(self, ray: Any) -> None:
        # No usage report leaves the machine, and nobody else is shown the cluster.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(
                address=self._address,
                include_dashboard=None if self._address else False,
                log_to_driver=False,
                logging_level="ERROR",
            )
        except ConnectionError as error:
            raise UsageError(f"--address {self._address}: no Ray cluster answers ({type(error).__name__})") from None

    def _mapped(self, ray: Any, parts: Sequence[int], make: Callable[[], Scorer]) -> Iterator[PartResult]:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = 0
        cores = int(ray.cluster_resources().get("CPU", 1))
        workers = min(self._workers or max(1, cores // 2), len(parts))
        dataset = ray.data.from_items([{"part": part} for part in parts], override_num_blocks=len(parts))
        mapped = dataset.map(
            _PartActor,
            fn_constructor_args=(make,),
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=max(1, cores // workers) if self._address is None else 1,
            max_restarts=-1,
            max_task_retries=-1,
        )
        self._left = len(parts)
        for row in mapped.iter_rows():
            self._left -= 1
            yield row["result"]


class _PartActor:
    """One actor: a scorer, and the stages of one part after the other."""

    def __init__(self, make: Callable[[], Scorer]) -> None:
        self._stages = make().stages()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        item: Any = row["part"]
        for stage in self._stages:
            item = stage.work(item)
        return {"result": item}
