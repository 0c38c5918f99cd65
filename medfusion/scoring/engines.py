"""Where parts are scored: here, or by actors of a Ray cluster. The stages are the same, and so are the rows."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Protocol

from medfusion.core.errors import MedfusionError, MissingExtra, RunStopped, UsageError
from medfusion.scoring.monitor import PartResult
from medfusion.scoring.stages import Stage, Stages

PROCESSORS = "MEDFUSION_PROCESSORS"
"""The variable that tells a process how many processors are its own, where others work beside it."""
_STORE_BYTES = 128 * 2**20
"""What Ray may keep in shared memory: numbers of parts go in, and counts come out."""
_MOST_AT_ONCE = 8
"""How many parts an actor is given at most: while it scores one, it reads the next."""
_TURNS = 4
"""How often each actor is to be given parts at least, so that none has much to do when the others have nothing."""
_ENVIRONMENT = {
    # No usage report leaves the machine.
    "RAY_USAGE_STATS_ENABLED": "0",
    # Actors are the work, and not something in the background: Ray would have every other program go first.
    "RAY_worker_niceness": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # What a future version will do by itself; else each actor warns of it.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


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
        """Let Ray Data map the parts over a pool of actors.

        Raises
        ------
        UsageError
            If no cluster answers at the address.
        MedfusionError
            What an actor raises.
        RunStopped
            If the cluster is lost, or actors cannot be started.
        """
        wanted = list(parts)
        if not wanted:
            return
        with self._connected() as ray:
            try:
                for result in self._mapped(ray, wanted, make):
                    if isinstance(result, MedfusionError):
                        raise result
                    self._left -= 1
                    yield result
            except ray.exceptions.RayError as error:
                raise _stopped(error) from None

    def waiting(self) -> Mapping[str, int]:
        """Return how many parts are not done."""
        return {"ray": self._left}

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """Hand out Ray, connected; what this run started ends with it."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        with _quiet():
            import ray  # noqa: PLC0415 - an extra
            import ray.data  # noqa: PLC0415
        # What matters ends as an error.
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        if ray.is_initialized():
            yield ray
            return
        # Without an address Ray would join whatever cluster was last started on this machine.
        own = {"address": "local", "include_dashboard": False, "object_store_memory": _STORE_BYTES}
        chosen = own if self._address is None else {"address": self._address}
        try:
            with _quiet():
                ray.init(**chosen, log_to_driver=False, logging_level=logging.CRITICAL)
        except (ConnectionError, ValueError, RuntimeError) as error:
            if self._address is None:
                raise RunStopped(f"Ray does not start on this machine: {_first_line(error)}") from None
            said = f"--address {self._address}: no Ray cluster answers: {_first_line(error)}"
            raise UsageError(said) from None
        try:
            yield ray
        finally:
            ray.shutdown()

    def _mapped(self, ray: Any, parts: Sequence[int], make: Callable[[], Scorer]) -> Iterator[Any]:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        cores = max(1, sum(nodes))
        workers = min(self._workers or max(1, cores // 2), len(parts))
        # An actor that wants more than the smallest node has would leave it idle, or wait for ever.
        each = max(1, min(cores // workers, *(node for node in nodes if node)))
        at_once = min(_MOST_AT_ONCE, max(1, len(parts) // (_TURNS * workers)))
        self._left = len(parts)
        # Ray Data starts actors that are lost again, and gives what they had to others, without end.
        mapped = ray.data.from_items(
            [{"part": part} for part in parts], override_num_blocks=-(-len(parts) // at_once)
        ).map_batches(
            _PartActor,
            fn_constructor_args=(make, each),
            batch_size=None,
            compute=ray.data.ActorPoolStrategy(size=workers),
            # Ray counts processors whole from one on; more actors than there are share them.
            num_cpus=each if workers <= cores else cores / workers,
        )
        for row in mapped.iter_rows():
            yield row["result"]


class _PartActor:
    """One actor: a scorer, and a few parts at a time through its stages."""

    def __init__(self, make: Callable[[], Scorer], processors: int) -> None:
        os.environ[PROCESSORS] = str(processors)
        self._make = make

    def __call__(self, batch: Mapping[str, Any]) -> Iterator[dict[str, list[Any]]]:
        """Yield what became of each part; an error of ours goes as a value, so that Ray does not try again."""
        try:
            for result in Stages(self._scorer.stages()).run(batch["part"].tolist()):
                yield {"result": [result]}
        except MedfusionError as error:
            yield {"result": [error]}

    @cached_property
    def _scorer(self) -> Scorer:
        # Not while Ray builds the actor, which would take a model that cannot be loaded for a node that is broken.
        return self._make()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Ray remarks while it starts from the user, also what is not written by Python."""
    told = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(told, 2)
        os.close(told)


def _stopped(error: Exception) -> RunStopped:
    cause = getattr(error, "cause", None)
    # Of an error that nobody expected the type is told; its words may quote what is known of a patient.
    name = type(cause if isinstance(cause, BaseException) else error).__name__
    return RunStopped(
        f"the Ray cluster cannot go on: {name}; see its logs (ray logs, or /tmp/ray/session_latest/logs), and run the "
        "same command again: it goes on where it stopped"
    )


def _first_line(error: BaseException) -> str:
    """Return in one line why Ray does not answer; that a token is wrong it says in the middle of many."""
    lines: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        lines += str(cause).strip().splitlines()
        cause = cause.__cause__ or cause.__context__
    if any("AuthToken" in line for line in lines):
        return "it wants a token; set RAY_AUTH_MODE=token, and have the cluster's token in ~/.ray/auth_token"
    return next(iter(lines), type(error).__name__)
