"""Ledgers as the object that shap's own plots take."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medfusion.core.errors import UsageError
from medfusion.core.types import Explanation, FeatureShare

if TYPE_CHECKING:
    import shap


def to_shap(explanations: Sequence[Explanation], modality: str | None = None) -> shap.Explanation:
    """Return ledgers as one ``shap.Explanation`` [1]_, for ``shap.plots.waterfall``, ``beeswarm``, ``bar`` and others.

    Parameters
    ----------
    explanations : sequence of Explanation, length n
        At least one.
    modality : str, optional
        Only this one; otherwise all, with the modality's name before each feature.

    Returns
    -------
    shap.Explanation
        ``values`` (n, d) in log-odds, over the union of the features of all samples: 0 where a sample does not have
        one. ``base_values`` (n,) is the base rate's log-odds, or 0 for a single modality, so that ``base_values`` plus
        the sum of ``values`` is the logit, or the modality's share. ``data`` (n, d) is what was observed: NaN
        where a number is missing, empty text where a feature is not a number; None where nothing has a value.

    Raises
    ------
    UsageError
        If there is no ledger, or none of them knows the modality.

    References
    ----------
    .. [1] Lundberg SM, Lee S-I. A Unified Approach to Interpreting Model Predictions. NeurIPS 2017.

    Examples
    --------
    >>> ledger = Explanation(-1.0, {"ehr": 0.5}, {"ehr": [FeatureShare("lactate last", 4.7, 0.5)]}, -0.5)
    >>> found = to_shap([ledger])
    >>> found.feature_names, found.values.tolist(), found.base_values.tolist(), found.data.tolist()
    (['ehr: lactate last'], [[0.5]], [-1.0], [[4.7]])
    """
    with warnings.catch_warnings():
        # Its import calls what matplotlib is going to retire; nobody who reads a ledger can do anything about that.
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        import shap  # noqa: PLC0415 - slow to import

    names = {name for each in explanations for name in each.by_modality}
    if not names or (modality is not None and modality not in names):
        known = ", ".join(sorted(names)) or "none"
        raise UsageError(f"there is no ledger of {modality or 'any modality'}; the ledgers have: {known}")
    samples = [list(_lines(each, modality)) for each in explanations]
    features = dict.fromkeys(line.feature for lines in samples for line in lines)
    columns = {feature: column for column, feature in enumerate(features)}
    values = np.zeros((len(samples), len(columns)))
    data = np.full(values.shape, None, dtype=object)
    for row, lines in enumerate(samples):
        for line in lines:
            # Two lines of one name, such as a laboratory value told twice, are one feature to shap.
            values[row, columns[line.feature]] += line.share
            data[row, columns[line.feature]] = line.value
    base = np.array([each.base if modality is None else 0.0 for each in explanations])
    return shap.Explanation(values, base_values=base, data=_observed(data), feature_names=list(columns))


def _lines(ledger: Explanation, modality: str | None) -> Iterator[FeatureShare]:
    """Yield the lines of a ledger; a modality that was not opened up is a line of its own."""
    for name, share in ledger.by_modality.items():
        if modality not in {None, name}:
            continue
        prefix = "" if modality else f"{name}: "
        for line in ledger.by_feature.get(name, ()):
            yield FeatureShare(prefix + line.feature, line.value, line.share)
        if name not in ledger.by_feature and share:
            yield FeatureShare(name, None, share)


def _observed(data: NDArray[np.object_]) -> NDArray[np.object_] | NDArray[np.float64] | None:
    """Fill the gaps: with NaN among numbers, else with empty text, which shap does not try to colour."""
    missing = pd.isna(data)
    if missing.all():
        return None
    text = np.vectorize(lambda value: isinstance(value, str), otypes=[bool])(data)
    worded = missing.all(axis=0) | text.any(axis=0)
    gaps = np.array(["" if each else math.nan for each in worded], dtype=object)
    filled = np.where(missing, gaps, data)
    return filled if worded.any() else filled.astype(np.float64)
