"""Have many dimensions moved together? Maximum mean discrepancy, without keeping anybody's embedding.

The distance of two sets of patients is the maximum mean discrepancy (MMD) under a Gaussian kernel [1]_. Random Fourier
features [2]_ turn the kernel into a product of two vectors of up to 512 numbers, so that the MMD is the distance of two
mean vectors. What is kept of the training are such means alone: one over everybody, and one for each of up to 200
*bags*, disjoint groups of 10 patients drawn by chance (5 where the training has fewer than 100).

- **A true permutation test.** New patients are put into bags of the same size. If nothing has drifted, bags of new
  patients and bags of training patients are exchangeable, so they are permuted. The level is exact, whatever the
  number of Fourier features.
- **No embedding can be had back.** A bag is described by at most half as many numbers as its patients' embeddings have,
  added up over patients whose order is unknown: infinitely many embeddings fit. Somebody who already holds a patient's
  embedding could test whether it is likely in a bag; that the patient was in the training is what the roster of the
  model folder says to somebody who holds their identifier, too.

References
----------
.. [1] Gretton A et al. (2012). A kernel two-sample test. JMLR 13.
.. [2] Rahimi A, Recht B (2007). Random features for large-scale kernel machines. NeurIPS.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import ndtri

from medfusion.core.state import State
from medfusion.core.types import FloatArray

FEATURES = 512
BAG, SMALL_BAG = 10, 5
MAX_BAGS = 200
PERMUTATIONS = 999
SHIFTED, MUCH_SHIFTED = 0.25, 0.4
"""From which `Shift.size` on a shift counts as such, and as large: about what it is where every dimension moves by 0.32
or 0.5 standard deviations, for which a PSI would be 0.1 or 0.25."""
_SMALL = 100
_FEWEST_BAGS = 5
_MEDIAN_OF = 500
_BITS = 53


@dataclass(frozen=True, slots=True)
class Shift:
    """How far new patients are from the training.

    Attributes
    ----------
    mmd2 : float
        Squared MMD, without bias: by chance it is below 0 as often as above.
    size : float
        Root of ``mmd2`` in standard deviations of the training patients, both in the space of the kernel; never
        below 0.
    p : float
        By permutation of bags; NaN if there are too few patients for a bag.
    statistic : float
        What was permuted: squared distance of the means over bags; NaN as ``p``.
    null : array (permutations,)
        The same after each permutation.
    patients, bags : int
        New ones.
    mean_shift : float
        How far the mean of a dimension moved, in its standard deviations (root mean square over dimensions, less what
        chance explains).
    spread_ratio : float
        New over old standard deviation of a dimension, at the median.
    """

    mmd2: float
    size: float
    p: float
    statistic: float
    null: FloatArray
    patients: int
    bags: int
    mean_shift: float
    spread_ratio: float


@dataclass(frozen=True, slots=True)
class KernelPrint:
    """What is kept of the training to compute an MMD.

    Attributes
    ----------
    centre, spread : arrays (d,)
        Mean and standard deviation of each dimension over rows.
    bandwidth : float
        Standard deviation of the kernel, the median distance between patients.
    seed : int
        Of the Fourier frequencies, which are drawn anew when needed.
    bag_size : int
    bags : array (K, D), float32
        Mean Fourier features of the patients of each bag.
    mean : array (D,)
        Over all patients.
    variance : float
        Of a patient's Fourier features, summed over them.
    patients : int
    """

    centre: FloatArray
    spread: FloatArray
    bandwidth: float
    seed: int
    bag_size: int
    bags: FloatArray
    mean: FloatArray
    variance: float
    patients: int

    @classmethod
    def of(cls, values: FloatArray, subject_ids: NDArray[np.str_], seed: int) -> KernelPrint | None:
        """Describe training rows.

        Parameters
        ----------
        values : array (n, d)
            NaN where missing, which is taken as the mean.
        subject_ids : array (n,)
            Rows of one patient are averaged in the space of the kernel.
        seed : int

        Returns
        -------
        KernelPrint or None
            None with fewer than 25 patients, or where no dimension varies.
        """
        known = ~np.isnan(values)
        seen = np.maximum(known.sum(axis=0), 1)
        centre = np.where(known, values, 0.0).sum(axis=0) / seen
        spread = np.sqrt((np.where(known, values - centre, 0.0) ** 2).sum(axis=0) / seen)
        if not spread.any():
            return None
        _, first = np.unique(subject_ids, return_index=True)
        size = BAG if len(first) >= _SMALL else SMALL_BAG
        if len(first) < _FEWEST_BAGS * size:
            return None
        rng = np.random.default_rng(seed)
        chosen = rng.permutation(first)[:_MEDIAN_OF]
        bandwidth = _median_distance(_standardised(values[chosen], centre, spread))
        if bandwidth == 0.0:
            return None
        empty = cls(centre, spread, bandwidth, seed, size, np.empty((0, _length(len(centre), size))), np.empty(0), 0, 0)
        features = empty.features(values, subject_ids)
        bags = bag_means(features, size, rng)[:MAX_BAGS].astype(np.float32)
        variance = float(features.var(axis=0, ddof=1).sum())
        return cls(centre, spread, bandwidth, seed, size, bags, features.mean(axis=0), variance, len(features))

    def features(self, values: FloatArray, subject_ids: NDArray[np.str_]) -> FloatArray:
        """Return the mean Fourier features (patients, D) of each patient's rows (n, d)."""
        standardised = _standardised(values, self.centre, self.spread) / self.bandwidth
        angles = standardised @ _normal(self.seed, (len(self.centre), self.bags.shape[1] // 2))
        features = np.hstack([np.cos(angles), np.sin(angles)]) / np.sqrt(max(angles.shape[1], 1))
        return _by_patient(features, subject_ids)

    def shift(
        self, values: FloatArray, subject_ids: NDArray[np.str_], seed: int, permutations: int = PERMUTATIONS
    ) -> Shift:
        """Compare new rows with the training.

        Parameters
        ----------
        values : array (n, d), n at least 1
        subject_ids : array (n,)
        seed : int
            Of the bags of new patients, and of the permutations.
        permutations : int
        """
        features = self.features(values, subject_ids)
        m = len(features)
        own = float(features.var(axis=0, ddof=1).sum()) if m > 1 else self.variance
        gap = features.mean(axis=0) - self.mean
        mmd2 = float(gap @ gap) - own / m - self.variance / self.patients
        rng = np.random.default_rng(seed)
        new = bag_means(features, self.bag_size, rng)
        statistic, null = _permuted(self.bags.astype(np.float64), new, permutations, rng)
        p = float((1 + (null >= statistic).sum()) / (1 + len(null))) if len(new) else float("nan")
        size = float(np.sqrt(max(mmd2, 0.0) / max(self.variance, 1e-12)))
        return Shift(mmd2, size, p, statistic, null, m, len(new), *self._moments(values, m))

    def _moments(self, values: FloatArray, patients: int) -> tuple[float, float]:
        varied = self.spread > 0
        standardised = (values[:, varied] - self.centre[varied]) / self.spread[varied]
        standardised = np.where(np.isnan(standardised), 0.0, standardised)
        noise = 1.0 / patients + 1.0 / self.patients
        moved = np.sqrt(max(float((standardised.mean(axis=0) ** 2).mean()) - noise, 0.0))
        return float(moved), float(np.median(standardised.std(axis=0)))

    def state(self) -> State:
        """Return numbers and arrays; what they are not, the text of this module says."""
        return {
            "centre": self.centre,
            "spread": self.spread,
            "bandwidth": self.bandwidth,
            "seed": self.seed,
            "bag_size": self.bag_size,
            "bags": self.bags,
            "mean": self.mean,
            "variance": self.variance,
            "patients": self.patients,
        }

    @classmethod
    def restore(cls, state: State) -> KernelPrint:
        """Return what `state` described."""
        return cls(**state)


def bag_means(features: FloatArray, size: int, rng: np.random.Generator) -> FloatArray:
    """Average patients in disjoint groups of ``size``, drawn by chance; those left over are in none.

    Parameters
    ----------
    features : array (patients, D)
    size : int
    rng : numpy.random.Generator

    Returns
    -------
    array (patients // size, D)
    """
    bags = len(features) // size
    order = rng.permutation(len(features))[: bags * size]
    return np.asarray(features[order].reshape(bags, size, features.shape[1]).mean(axis=1))


def _permuted(
    old: FloatArray, new: FloatArray, permutations: int, rng: np.random.Generator
) -> tuple[float, FloatArray]:
    """Return the squared distance of the means of two groups of bags, as they are and permuted."""
    if not len(new):
        return float("nan"), np.empty(0)
    bags = np.vstack([new, old])
    # The mean of all bags is the same in every permutation, so that of the new ones says everything.
    bags = bags - bags.mean(axis=0)
    taken = rng.permuted(np.tile(np.arange(len(bags)), (permutations, 1)), axis=1)[:, : len(new)]
    chosen = np.zeros((permutations + 1, len(bags)))
    chosen[0, : len(new)] = 1.0
    chosen[np.arange(1, permutations + 1)[:, None], taken] = 1.0
    gaps = chosen @ bags * (1.0 / len(new) + 1.0 / len(old))
    distances = (gaps**2).sum(axis=1)
    return float(distances[0]), distances[1:]


def _by_patient(features: FloatArray, subject_ids: NDArray[np.str_]) -> FloatArray:
    _, patient, counts = np.unique(subject_ids, return_inverse=True, return_counts=True)
    rows = np.arange(len(patient))
    mean = sparse.csr_array((1.0 / counts[patient], (patient, rows)), shape=(len(counts), len(patient)))
    return np.asarray(mean @ features)


def _standardised(values: FloatArray, centre: FloatArray, spread: FloatArray) -> FloatArray:
    # A dimension that hardly varies would otherwise be blown up, and one odd row with it.
    scaled = (values - centre) / np.hypot(spread, np.median(spread[spread > 0]))
    return np.where(np.isnan(scaled), 0.0, scaled)


def _median_distance(values: FloatArray) -> float:
    from scipy.spatial.distance import pdist  # noqa: PLC0415 - slow to import

    return float(np.median(pdist(values)))


def _length(dimensions: int, bag_size: int) -> int:
    """Return how many Fourier features to take: even, and at most half as many as a bag's embeddings have numbers."""
    return 2 * max(1, min(FEATURES, dimensions * bag_size // 2) // 2)


def _normal(seed: int, shape: tuple[int, int]) -> FloatArray:
    """Draw from a standard normal distribution, the same in every version of NumPy.

    NumPy promises that for the raw bits of a generator alone.
    """
    bits = np.random.PCG64(seed).random_raw(shape[0] * shape[1]) >> np.uint64(64 - _BITS)
    return np.asarray(ndtri((bits + 0.5) / 2.0**_BITS).reshape(shape))
