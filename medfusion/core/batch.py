"""Payloads of many samples, and what has been worked out about all of them together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar, overload

Worked = TypeVar("Worked")


class Batch(Sequence[Any]):
    """Payloads with a memory: what `once` works out about them is worked out once.

    The members of a cross-fit look at the same payloads one after the other, and an explanation looks at them again
    after the prediction. Give both the same batch, and what they have in common is done once. A batch keeps what it
    knows as long as it lives, such as the embeddings of all members; so it should hold a few thousand payloads, and not
    a cohort.

    Parameters
    ----------
    payloads : sequence
        None where absent. A batch of a batch is a new one, which knows nothing yet.

    Examples
    --------
    >>> batch = Batch([3, None, 4])
    >>> batch[0], batch[1:], len(batch)
    (3, [None, 4], 3)
    """

    def __init__(self, payloads: Sequence[Any]) -> None:
        self._payloads = list(payloads)
        self._known: dict[Hashable, Any] = {}

    @overload
    def __getitem__(self, place: int) -> Any: ...

    @overload
    def __getitem__(self, place: slice) -> list[Any]: ...

    def __getitem__(self, place: int | slice) -> Any:
        """Return one payload, or a list of some."""
        return self._payloads[place]

    def __len__(self) -> int:
        """Return how many samples there are."""
        return len(self._payloads)

    def known(self, key: Hashable, work: Callable[[], Worked]) -> Worked:
        """Return what was worked out under a key; work it out where that is nothing yet."""
        if key not in self._known:
            self._known[key] = work()
        found: Worked = self._known[key]
        return found


def once(payloads: Sequence[Any], work: Callable[..., Worked], *about: Hashable) -> Worked:
    """Return ``work(payloads, *about)``; of a `Batch`, what it was the first time.

    Parameters
    ----------
    payloads : sequence
    work : callable
        Called with the payloads and ``about``. It must depend on nothing else, and nobody may change what it returns.
    about : hashable
        Equal for equal questions.

    Examples
    --------
    >>> asked = []
    >>> def total(payloads):
    ...     asked.append("total")
    ...     return sum(payloads)
    >>> batch = Batch([1, 2])
    >>> once(batch, total), once(batch, total), once([1, 2], total), asked
    (3, 3, 3, ['total', 'total'])
    """
    if isinstance(payloads, Batch):
        return payloads.known((work, *about), lambda: work(payloads, *about))
    return work(payloads, *about)
