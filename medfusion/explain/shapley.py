"""What each modality adds to a prediction: exact Shapley values over the subsets of modalities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import factorial

import numpy as np

from medfusion.core.types import Block, BoolArray, FloatArray


def modality_shares(logits: Callable[[Mapping[str, Block]], FloatArray], blocks: Mapping[str, Block]) -> FloatArray:
    """Enumerate the subsets of modalities, and return each one's Shapley value [1]_ in log-odds.

    The value of a subset is the model's own prediction with only these present, so nothing is invented for what is
    absent. Where the model is a sum, the shares are its terms.

    Parameters
    ----------
    logits : callable
        From blocks of M modalities to log-odds (k, n), for any subset of modalities present.
    blocks : mapping from modality to Block

    Returns
    -------
    array (k, n, M)
        Together with the prediction from nothing they sum to the prediction; exactly 0 where a modality is absent.

    References
    ----------
    .. [1] Shapley LS (1953). A value for n-person games. Contributions to the Theory of Games II.

    Examples
    --------
    >>> blocks = {"ehr": Block(np.array([[2.0]])), "notes": Block(np.array([[3.0]]))}
    >>> def product(given):
    ...     return np.nan_to_num(given["ehr"].evidence) * np.nan_to_num(given["notes"].evidence)
    >>> modality_shares(product, blocks)
    array([[[3., 3.]]])
    """
    names = list(blocks)
    values = [logits(_only(blocks, names, subset)) for subset in range(2 ** len(names))]
    shares = np.zeros((*values[0].shape, len(names)))
    for player in range(len(names)):
        for subset in range(2 ** len(names)):
            if not subset >> player & 1:
                size = subset.bit_count()
                often = factorial(size) * factorial(len(names) - size - 1) / factorial(len(names))
                shares[:, :, player] += often * (values[subset | 1 << player] - values[subset])
        # Equal predictions may differ by rounding; what is absent adds nothing at all.
        shares[:, :, player][~blocks[names[player]].present] = 0.0
    return shares


def _only(blocks: Mapping[str, Block], names: list[str], subset: int) -> dict[str, Block]:
    everyone: BoolArray = np.ones(next(iter(blocks.values())).evidence.shape[1], dtype=bool)
    return {
        name: blocks[name] if subset >> place & 1 else blocks[name].without(everyone)
        for place, name in enumerate(names)
    }
