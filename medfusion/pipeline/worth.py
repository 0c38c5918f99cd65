"""What a modality that is not there would be worth: where the risk would probably end if it were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from medfusion.core.folds import Patients
from medfusion.core.protocols import FusionModel
from medfusion.core.types import Block, FloatArray
from medfusion.explain import modality_shares
from medfusion.pipeline.model import Predictions, RiskModel

SHARES = "shares_in_training"
"""The key of a model's card under which the summary of its training stands."""
LEVELS = np.arange(5, 100, 5) / 100
"""The quantiles that are kept."""
FEWEST = 10
"""Of fewer patients with, or without, the event nothing is kept: a quantile would be one of them."""


@dataclass(frozen=True, slots=True)
class Worth:
    """Where a risk would probably end if one more modality were there.

    Attributes
    ----------
    modality : str
    low, middle, high : float or None
        The 10th, 50th and 90th percentile of the risk; None where the model folder does not tell.
    """

    modality: str
    low: float | None = None
    middle: float | None = None
    high: float | None = None

    @property
    def known(self) -> bool:
        """Whether the model folder tells."""
        return self.low is not None


def shares_in_training(fusion: FusionModel, blocks: Mapping[str, Block], patients: Patients) -> dict[str, Any]:
    """Summarise what each modality added to the log-odds of training patients, by outcome.

    Each sample is judged by the member that has not seen it, and every patient counts once.

    Parameters
    ----------
    fusion : FusionModel
        Fitted.
    blocks : mapping from modality to Block
        Of the n training samples.
    patients : Patients

    Returns
    -------
    dict
        By modality ``event`` and ``no_event``: the quantiles `LEVELS` of the shares, in log-odds; JSON values.
        A modality that fewer than `FEWEST` patients with or without the event have is not there.
    """
    rows = np.arange(len(patients.folds))
    shares = modality_shares(fusion.logits, blocks)[patients.folds, rows]
    _, patient, counts = np.unique(patients.subject_ids, return_inverse=True, return_counts=True)
    weights = 1.0 / counts[patient]
    summary = {}
    for column, (name, block) in enumerate(blocks.items()):
        here = ~np.isnan(block.left_out(patients.folds))
        groups = {"event": here & patients.events, "no_event": here & ~patients.events}
        if min(len(np.unique(patient[group])) for group in groups.values()) >= FEWEST:
            summary[name] = {
                said: quantiles(shares[group, column], weights[group], LEVELS).round(4).tolist()
                for said, group in groups.items()
            }
    return summary


def worth_of(model: RiskModel, predictions: Predictions, facts: Sequence[Mapping[str, Any]] = ()) -> list[Worth]:
    """Say of each modality that one sample lacks what it would be worth.

    If the risk is p, the sample is one of patients of whom a part p has the event; so what the modality would add is
    drawn from what it added to training patients with the event, with probability p, and without, with 1 - p. That is
    exact where modalities add up and tell independently of each other, given the outcome; else it is approximate.

    Parameters
    ----------
    model : RiskModel
    predictions : Predictions
        Of one sample.
    facts : sequence of one mapping, optional
        As in `RiskModel.predict`.

    Returns
    -------
    list of Worth
        In the order of the model's modalities; none where everything is there.
    """
    known = model.card.get(SHARES, {})
    risk, found = float(predictions.risk[0]), []
    for column, name in enumerate(model.evidence):
        if predictions.present[0, column]:
            continue
        if name not in known:
            found.append(Worth(name))
            continue
        shares = np.array(known[name]["event"] + known[name]["no_event"])
        weights = np.repeat([risk, 1.0 - risk], len(LEVELS))
        present = predictions.present.copy()
        present[0, column] = True
        there = np.repeat(present, 3, axis=0)
        before = predictions.before[0] + quantiles(shares, weights, np.array([0.1, 0.5, 0.9]))
        logits = model.recalibrated(before, there, [*facts] * 3)
        found.append(Worth(name, *expit(logits).tolist()))
    return found


def quantiles(values: FloatArray, weights: FloatArray, levels: FloatArray) -> FloatArray:
    """Return quantiles of weighted values: the least value that so much of the weight does not exceed.

    Examples
    --------
    >>> quantiles(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 2.0]), np.array([0.1, 0.5, 0.9])).tolist()
    [1.0, 2.0, 3.0]
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum()
    # Rounding must not leave the last value out.
    return np.asarray(values[order][np.minimum(np.searchsorted(reached, levels - 1e-12), len(values) - 1)])
