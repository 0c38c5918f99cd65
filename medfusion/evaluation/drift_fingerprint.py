"""What is kept of the training data in a model folder, so that later data can be held against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfusion.core.errors import ModelFolderError
from medfusion.core.state import State
from medfusion.core.types import BoolArray, Embedding, FloatArray
from medfusion.evaluation.drift_bins import Bins
from medfusion.evaluation.drift_kernel import KernelPrint
from medfusion.evaluation.drift_outcomes import Performance

FORMAT = 1
Importance = Mapping[str, tuple[float, FloatArray]]
"""By modality: mean |share| in log-odds, of the modality as a whole and of each of its features (d,)."""
_UNKNOWN = float("nan")


@dataclass(frozen=True, slots=True)
class ModalityPrint:
    """What one modality looked like in the training.

    Features with a meaning of their own are described by histograms: measurements by their tenths, terms by whether
    they are used. Activations of one layer have no meaning each; they are described together, as are all features
    besides.

    Attributes
    ----------
    width : int
        Length of the embedding.
    bins : Bins
        Of F described features; of none for activations.
    names : tuple of str, length F
    counts : array (F, bins)
        Patients per bin.
    missing : array (F,)
        Patients who have the modality and not the feature.
    present : float
        Patients who have the modality.
    kernel : KernelPrint or None
        For the maximum mean discrepancy; None with fewer than 25 patients.
    reliance : float
        Mean |share| of the modality, in log-odds; NaN where unknown.
    importance : array (F,)
        Mean |share| of each feature, in log-odds; NaN where unknown.
    """

    width: int
    bins: Bins
    names: tuple[str, ...]
    counts: FloatArray
    missing: FloatArray
    present: float
    kernel: KernelPrint | None
    reliance: float
    importance: FloatArray

    @classmethod
    def of(
        cls, block: Embedding, subject_ids: NDArray[np.str_], importance: tuple[float, FloatArray] | None, seed: int
    ) -> ModalityPrint:
        """Describe training rows (n,), of which some have the modality."""
        here, weights = block.present, patient_weights(subject_ids)[block.present]
        values = block.values[here]
        described = not (block.same_unit and isinstance(values, np.ndarray))
        bins = Bins.of(values, weights) if described else Bins.none()
        counts, missing = bins.count(values, weights)
        width = values.shape[1]
        names = tuple(str(block.feature_names[column]) for column in bins.columns.tolist())
        reliance, shares = importance or (_UNKNOWN, np.full(width, _UNKNOWN))
        kernel = KernelPrint.of(_coordinates(bins, missing, values), subject_ids[here], seed)
        own = np.asarray(shares, dtype=np.float64)[bins.columns]
        return cls(width, bins, names, counts, missing, float(weights.sum()), kernel, float(reliance), own)

    def coordinates(self, values: Any) -> FloatArray:
        """Return rows (n, c) in which distances mean something: bins instead of values, and flags of what is missing.

        Activations are taken as they are.
        """
        return _coordinates(self.bins, self.missing, values)

    def state(self) -> State:
        """Return what `restore` needs."""
        return {
            "width": self.width,
            "bins": self.bins.state(),
            "names": list(self.names),
            "counts": self.counts,
            "missing": self.missing,
            "present": self.present,
            "kernel": None if self.kernel is None else self.kernel.state(),
            "reliance": None if np.isnan(self.reliance) else self.reliance,
            "importance": self.importance,
        }

    @classmethod
    def restore(cls, state: State) -> ModalityPrint:
        """Return what `state` described."""
        return cls(
            int(state["width"]),
            Bins.restore(state["bins"]),
            tuple(state["names"]),
            state["counts"],
            state["missing"],
            float(state["present"]),
            None if state["kernel"] is None else KernelPrint.restore(state["kernel"]),
            _UNKNOWN if state["reliance"] is None else float(state["reliance"]),
            state["importance"],
        )


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What the training data looked like: counts and means over patients, and nobody's values.

    Every patient counts once, however many rows they have: each row counts 1 / rows of the patient. A number of
    patients therefore need not be whole.

    Attributes
    ----------
    patients : int
    modalities : mapping from name to ModalityPrint
    patterns : mapping from str to float
        Patients by the modalities that they have, such as ``"ehr + notes"``.
    risk_bins : Bins
    risk_counts : array (1, bins)
    events : float
        Patients with the event.
    performance : Performance

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labs = Embedding(rng.normal(size=(200, 2)).astype("float32"), np.ones(200, bool), ["lactate", "sodium"])
    >>> risks, patients = rng.uniform(size=200), [f"P{row}" for row in range(200)]
    >>> fingerprint = Fingerprint.of({"ehr": labs}, rng.uniform(size=200) < risks, risks, patients)
    >>> fingerprint.modalities["ehr"].counts.sum(axis=1).tolist()
    [200.0, 200.0]
    """

    patients: int
    modalities: Mapping[str, ModalityPrint]
    patterns: Mapping[str, float]
    risk_bins: Bins
    risk_counts: FloatArray
    events: float
    performance: Performance

    @classmethod
    def of(
        cls,
        blocks: Mapping[str, Embedding],
        events: BoolArray,
        risks: FloatArray,
        subject_ids: Sequence[str],
        importance: Importance | None = None,
        seed: int = 0,
    ) -> Fingerprint:
        """Describe a training cohort.

        Parameters
        ----------
        blocks : mapping from modality to Embedding of n rows
        events : array (n,), bool
        risks : array (n,), probabilities
            Of members that had not seen the patient: others would look surer than those of new patients.
        subject_ids : sequence of str, length n
        importance : mapping from modality to (float, array (d,)), optional
            Mean |share| in log-odds, of the modality and of each of its features.
        seed : int
        """
        subjects = np.asarray(subject_ids, dtype=str)
        weights = patient_weights(subjects)
        modalities = {
            name: ModalityPrint.of(block, subjects, (importance or {}).get(name), seed)
            for name, block in blocks.items()
        }
        bins = Bins.of(risks[:, None], weights)
        return cls(
            len(np.unique(subjects)),
            modalities,
            count_patterns(blocks, weights),
            bins,
            bins.count(risks[:, None], weights)[0],
            float(weights @ events),
            Performance.of(events, risks, subjects.tolist(), seed),
        )

    def leaning(self) -> dict[str, tuple[float, FloatArray]]:
        """Return what part of the model's shares each modality has, and each of its described features (F,).

        Those of all modalities sum to 1, those of features to that of their modality. Where importances are unknown,
        all modalities count alike, and so do all features of one.
        """
        reliances = np.array([each.reliance for each in self.modalities.values()])
        if np.isnan(reliances).any() or reliances.sum() <= 0:
            reliances = np.ones(len(reliances))
        parts = dict(zip(self.modalities, (reliances / reliances.sum()).tolist(), strict=True))
        return {name: (parts[name], parts[name] * _shares(each.importance)) for name, each in self.modalities.items()}

    def state(self) -> State:
        """Return JSON values and arrays."""
        return {
            "format": FORMAT,
            "patients": self.patients,
            "modalities": {name: each.state() for name, each in self.modalities.items()},
            "patterns": dict(self.patterns),
            "risk_bins": self.risk_bins.state(),
            "risk_counts": self.risk_counts,
            "events": self.events,
            "performance": self.performance.state(),
        }

    @classmethod
    def restore(cls, state: State) -> Fingerprint:
        """Return the fingerprint that `state` described.

        Raises
        ------
        ModelFolderError
            If the state is none, or of another version.
        """
        try:
            if state["format"] != FORMAT:
                raise ModelFolderError(
                    f"fingerprint: version {state['format']}, expected {FORMAT}; train the model again"
                )
            return cls(
                int(state["patients"]),
                {name: ModalityPrint.restore(each) for name, each in state["modalities"].items()},
                state["patterns"],
                Bins.restore(state["risk_bins"]),
                state["risk_counts"],
                float(state["events"]),
                Performance(**state["performance"]),
            )
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ModelFolderError(
                f"fingerprint: not one of this version ({error!r}); train the model again"
            ) from error


def patient_weights(subject_ids: NDArray[np.str_]) -> FloatArray:
    """Return how much each row counts, so that every patient counts once."""
    _, patient, counts = np.unique(subject_ids, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / counts[patient])


def count_patterns(blocks: Mapping[str, Embedding], weights: FloatArray) -> dict[str, float]:
    """Count patients by the modalities that they have.

    Examples
    --------
    >>> block = Embedding(np.array([[1.0], [np.nan]]), np.array([True, False]), ["lactate"])
    >>> count_patterns({"ehr": block}, np.ones(2))
    {'ehr': 1.0, 'none': 1.0}
    """
    present = np.column_stack([block.present for block in blocks.values()])
    names, counts = list(blocks), dict[str, float]()
    patterns, which = np.unique(present, axis=0, return_inverse=True)
    totals = np.bincount(which.ravel(), weights, minlength=len(patterns)).tolist()
    for pattern, total in zip(patterns[::-1], totals[::-1], strict=True):
        counts[" + ".join(name for name, here in zip(names, pattern, strict=True) if here) or "none"] = total
    return counts


def _coordinates(bins: Bins, missing: FloatArray, values: Any) -> FloatArray:
    if not len(bins.columns):
        return np.asarray(values, np.float64) if isinstance(values, np.ndarray) else np.empty((values.shape[0], 0))
    codes = bins.codes(values)
    absent = codes < 0
    return np.hstack([np.where(absent, np.nan, codes), absent[:, missing > 0]])


def _shares(importance: FloatArray) -> FloatArray:
    if len(importance) and (np.isnan(importance).any() or importance.sum() <= 0):
        importance = np.ones(len(importance))
    return importance / max(float(importance.sum()), 1e-300)
