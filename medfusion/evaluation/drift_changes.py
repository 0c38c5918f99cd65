"""The table of what moved between a fingerprint and later data: one row per comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medfusion.core.types import BoolArray, Embedding, FloatArray
from medfusion.evaluation.drift_fingerprint import Fingerprint, ModalityPrint, count_patterns
from medfusion.evaluation.drift_kernel import MUCH_SHIFTED, SHIFTED, Shift
from medfusion.evaluation.drift_psi import MOVED, MUCH, READINGS, adjusted, homogeneity_p, psi, psi_by_chance, reading

CORE = 0.8
"""The largest parts of the model's shares that together make up this are those that matter."""
COLUMNS = (
    "modality",
    "feature",
    "what",
    "size",
    "by_chance",
    "p",
    "p_adjusted",
    "reading",
    "leaning",
    "matters",
    "before",
    "after",
)
OF_FEATURES = ("values", "used", "missing")
_EXPECTED = 5.0


@dataclass(frozen=True, slots=True)
class NewRows:
    """The later data.

    Attributes
    ----------
    blocks : mapping from modality to Embedding of n rows
    subject_ids : array (n,)
    weights : array (n,)
        They sum to 1 for each patient.
    risks : array (n,)
        On the scale of the training.
    events : array (n,)
        1, 0, or NaN where the outcome is not known.
    """

    blocks: Mapping[str, Embedding]
    subject_ids: NDArray[np.str_]
    weights: FloatArray
    risks: FloatArray
    events: FloatArray

    def counts(self, fingerprint: Fingerprint) -> dict[str, tuple[FloatArray, FloatArray]]:
        """Count the new patients in the bins of each modality: (F, bins), and those without the feature (F,)."""
        blocks = {name: self.blocks[name] for name in fingerprint.modalities}
        return {
            name: fingerprint.modalities[name].bins.count(block.values[block.present], self.weights[block.present])
            for name, block in blocks.items()
        }


def compare(
    fingerprint: Fingerprint, rows: NewRows, seed: int, permutations: int
) -> tuple[pd.DataFrame, dict[str, Shift]]:
    """Compare all that a fingerprint knows.

    Returns
    -------
    DataFrame
        Columns as in `COLUMNS`; what moved most comes first.

        - ``what``: ``values``, ``used`` (of terms) or ``missing`` of a feature; ``all`` features of a modality
          together; ``presence`` of a modality, ``pattern`` of all; ``risks``; ``events`` (the base rate).
        - ``size``: the PSI; for ``all`` the size of the MMD. ``by_chance``: the PSI to be expected without drift.
        - ``leaning``: the part of the model's shares that belongs to it, NaN where nothing does. ``matters``: whether
          it is among the largest that make up 80 %.
        - ``before``, ``after``: shares of patients (used, missing, presence, events); of values the mean rank among
          the training, 0.5 unless they went up or down; of risks the mean.
    dict from modality to Shift
        Where an MMD can be computed.
    """
    tables, shifts = [], {}
    for name, (counts, missing) in rows.counts(fingerprint).items():
        known, block = fingerprint.modalities[name], rows.blocks[name]
        if len(known.names) and block.present.any():
            tables += _features(known, counts, missing, name)
        if known.kernel is not None and block.present.any():
            values, subjects = known.coordinates(block.values[block.present]), rows.subject_ids[block.present]
            shifts[name] = known.kernel.shift(values, subjects, seed, permutations)
            moved = {"size": shifts[name].size, "by_chance": np.nan, "p": shifts[name].p}
            tables.append(pd.DataFrame([{"modality": name, "feature": "", "what": "all", **moved}]))
    tables += [*_presence(fingerprint, rows), *_outcomes(fingerprint, rows)]
    table = pd.concat(tables, ignore_index=True)
    table["p_adjusted"] = adjusted(table["p"].to_numpy(), (table["modality"] + "/" + table["what"]).tolist())
    table["reading"] = [
        reading(size, p, SHIFTED, MUCH_SHIFTED) if what == "all" else reading(size, p, MOVED, MUCH)
        for what, size, p in zip(table["what"], table["size"], table["p_adjusted"], strict=True)
    ]
    return _ordered(_weighed(table, fingerprint)), shifts


def moved_part(changes: pd.DataFrame, readings: Sequence[str]) -> float:
    """Return which part of the model's shares belongs to what has one of these readings.

    A modality counts as a whole where its presence moved, and where all it has is activations that moved; else its
    features count.

    Parameters
    ----------
    changes : DataFrame
        Of `compare`.
    readings : sequence of str
    """
    rows = changes[changes["reading"].isin(list(readings)) & changes["leaning"].notna()]
    described = set(changes.loc[changes["what"].isin(OF_FEATURES), "modality"])
    whole = rows[(rows["what"] == "presence") | ((rows["what"] == "all") & ~rows["modality"].isin(described))]
    parts = whole.drop_duplicates("modality")
    features = rows[rows["what"].isin(OF_FEATURES) & ~rows["modality"].isin(set(parts["modality"]))]
    features = features.drop_duplicates(["modality", "feature"])
    return float(min(1.0, parts["leaning"].sum() + features["leaning"].sum()))


def never_seen(fingerprint: Fingerprint, rows: NewRows) -> dict[str, list[str]]:
    """Return, by modality, the features that no new patient has, though 5 or more should if all were as before."""
    found = {}
    for name, (counts, _) in rows.counts(fingerprint).items():
        known = fingerprint.modalities[name]
        old, new = (each[:, 1:] if known.bins.are_terms else each for each in (known.counts, counts))
        there = float(rows.weights[rows.blocks[name].present].sum())
        expected = old.sum(axis=1) / max(known.present, 1.0) * there
        lost = np.flatnonzero((new.sum(axis=1) == 0) & (expected >= _EXPECTED))
        if len(lost):
            found[name] = [known.names[column] for column in lost.tolist()]
    return found


def _features(known: ModalityPrint, counts: FloatArray, missing: FloatArray, name: str) -> list[pd.DataFrame]:
    if known.bins.are_terms:
        return [_rows(name, known.names, "used", known.counts, counts, _last_part(known.counts), _last_part(counts))]
    half = np.full(len(counts), 0.5)
    values = _rows(name, known.names, "values", known.counts, counts, half, _mean_rank(known.counts, counts))
    old = np.column_stack([known.counts.sum(axis=1), known.missing])
    new = np.column_stack([counts.sum(axis=1), missing])
    gaps = _rows(name, known.names, "missing", old, new, _last_part(old), _last_part(new))
    return [values, gaps[(old[:, 1] > 0) | (new[:, 1] > 0)]]


def _presence(fingerprint: Fingerprint, rows: NewRows) -> list[pd.DataFrame]:
    names, total = list(fingerprint.modalities), float(rows.weights.sum())
    there = np.array([fingerprint.modalities[name].present for name in names])
    here = np.array([float(rows.weights[rows.blocks[name].present].sum()) for name in names])
    old = np.column_stack([fingerprint.patients - there, there])
    new = np.column_stack([total - here, here])
    tables = [
        _rows(name, [""], "presence", old[[row]], new[[row]], _last_part(old[[row]]), _last_part(new[[row]]))
        for row, name in enumerate(names)
    ]
    if len(names) > 1:
        counts = count_patterns({name: rows.blocks[name] for name in names}, rows.weights)
        patterns = list(dict.fromkeys([*fingerprint.patterns, *counts]))
        before, after = (np.array([[each.get(p, 0.0) for p in patterns]]) for each in (fingerprint.patterns, counts))
        tables.append(_rows("", [""], "pattern", before, after, np.array([np.nan]), np.array([np.nan])))
    return tables


def _outcomes(fingerprint: Fingerprint, rows: NewRows) -> list[pd.DataFrame]:
    counts, _ = fingerprint.risk_bins.count(rows.risks[:, None], rows.weights)
    means = np.array([fingerprint.performance.mean_risk]), np.array([float(rows.risks.mean())])
    tables = [_rows("", [""], "risks", fingerprint.risk_counts, counts, *means)]
    known = ~np.isnan(rows.events)
    if known.any():
        events, total = float(rows.weights[known] @ rows.events[known]), float(rows.weights[known].sum())
        old = np.array([[fingerprint.patients - fingerprint.events, fingerprint.events]])
        new = np.array([[total - events, events]])
        tables.append(_rows("", [""], "events", old, new, _last_part(old), _last_part(new)))
    return tables


def _rows(
    modality: str,
    names: Sequence[str],
    what: str,
    old: FloatArray,
    new: FloatArray,
    before: FloatArray,
    after: FloatArray,
) -> pd.DataFrame:
    columns = {"modality": modality, "feature": list(names), "what": what, "size": psi(old, new)}
    compared = {"by_chance": psi_by_chance(old, new), "p": homogeneity_p(old, new)}
    table = pd.DataFrame({**columns, **compared, "before": before, "after": after})
    return table.replace({"by_chance": np.inf}, np.nan)


def _last_part(counts: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore"):
        return np.asarray(counts[:, -1] / counts.sum(axis=1))


def _mean_rank(old: FloatArray, new: FloatArray) -> FloatArray:
    """Return the mean rank (features,) of new patients among the training, from 0 to 1; that of a bin is its middle."""
    with np.errstate(invalid="ignore"):
        rank = (np.cumsum(old, axis=1) - old / 2.0) / old.sum(axis=1, keepdims=True)
        return np.asarray((rank * new).sum(axis=1) / new.sum(axis=1))


def _weighed(table: pd.DataFrame, fingerprint: Fingerprint) -> pd.DataFrame:
    """Add how much the model leans on each row, and whether that is much."""
    wholes: dict[tuple[str, str], float] = {}
    parts: dict[tuple[str, str], float] = {}
    for name, (whole, features) in fingerprint.leaning().items():
        wholes[name, ""] = whole
        own = {
            (name, feature): part
            for feature, part in zip(fingerprint.modalities[name].names, features.tolist(), strict=True)
        }
        parts.update(own or {(name, ""): whole})
    core = _core(wholes) | _core(parts)
    keys = list(zip(table["modality"], table["feature"], strict=True))
    leaning = [parts.get(key, wholes.get(key, np.nan)) for key in keys]
    return table.assign(leaning=leaning, matters=[key in core for key in keys])


def _core(parts: Mapping[tuple[str, str], float]) -> set[tuple[str, str]]:
    ranked = sorted(parts, key=lambda key: -parts[key])
    sums = np.cumsum([parts[key] for key in ranked])
    return {key for key, reached in zip(ranked, sums, strict=True) if reached - parts[key] < CORE}


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    rank = table["reading"].map({word: place for place, word in enumerate(READINGS)})
    matters: BoolArray = table["matters"].to_numpy(dtype=bool)
    ordered = table.assign(rank=rank, first=matters & (rank > 0).to_numpy())
    ordered = ordered.sort_values(["rank", "first", "size"], ascending=False, kind="stable", na_position="last")
    return ordered[list(COLUMNS)].reset_index(drop=True)
