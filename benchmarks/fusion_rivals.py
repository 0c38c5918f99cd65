"""Recipes of others, judged beside medfusion's contenders: features side by side into trees, and plain stacking."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from xgboost import XGBClassifier

from medfusion.core.folds import Patients
from medfusion.core.types import Block

DEPTHS = (2, 6)
TREES, RATE, BINS = 200, 0.1, 32
WORDS = 100
"""Dimensions that a sparse embedding is reduced to."""
Blocks = Mapping[str, Block]


class Memory:
    """Fits once per training part, though it is asked about many test parts."""

    def __init__(self) -> None:
        self._train: Blocks | None = None
        self._risks: Callable[[Blocks], np.ndarray] | None = None

    def __call__(self, train: Blocks, patients: Patients, test: Blocks) -> np.ndarray:
        if self._risks is None or self._train is not train:
            self._train, self._risks = train, self.fit(train, patients)
        return self._risks(test)

    def fit(self, train: Blocks, patients: Patients) -> Callable[[Blocks], np.ndarray]:
        raise NotImplementedError


class Haim(Memory):
    """The recipe of HAIM: embeddings of all modalities side by side into XGBoost, absent ones as missing values.

    The embeddings are those of the first member. The depth is chosen by AUROC over the inner folds.

    References
    ----------
    .. [1] Soenksen LR et al (2022). Integrated multimodal artificial intelligence framework for healthcare
       applications. npj Digital Medicine 5, 149.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def fit(self, train: Blocks, patients: Patients) -> Callable[[Blocks], np.ndarray]:
        readers = {name: _reader(block, self.seed) for name, block in train.items()}

        def features(blocks: Blocks) -> np.ndarray:
            return np.column_stack([readers[name](blocks[name]) for name in readers])

        values = features(train)
        areas = [self._area(values, patients, depth) for depth in DEPTHS]
        trees = self._trees(DEPTHS[int(np.argmax(areas))]).fit(values, patients.events)
        return lambda test: trees.predict_proba(features(test))[:, 1].astype(float)

    def _area(self, values: np.ndarray, patients: Patients, depth: int) -> float:
        said = np.empty(len(values))
        for fold in range(patients.n_folds):
            seen = patients.folds != fold
            trees = self._trees(depth).fit(values[seen], patients.events[seen])
            said[~seen] = trees.predict_proba(values[~seen])[:, 1]
        return float(roc_auc_score(patients.events, said))

    def _trees(self, depth: int) -> XGBClassifier:
        return XGBClassifier(
            n_estimators=TREES, max_depth=depth, learning_rate=RATE, max_bin=BINS, n_jobs=1, random_state=self.seed
        )


def _reader(block: Block, seed: int) -> Callable[[Block], np.ndarray]:
    """Return what turns a block into dense features, NaN where the modality is absent."""
    values: Any = block.embeddings[0].values
    reduce: Callable[[Any], np.ndarray] = lambda each: each  # noqa: E731
    if sparse.issparse(values):
        there = np.flatnonzero(_present(block))
        words = TruncatedSVD(min(WORDS, len(there) - 1, values.shape[1] - 1), random_state=seed)
        reduce = words.fit(_known(values[there])).transform

    def read(each: Block) -> np.ndarray:
        found: Any = each.embeddings[0].values
        dense = np.array(reduce(_known(found) if sparse.issparse(found) else found), dtype=float)
        dense[~_present(each)] = np.nan
        return dense

    return read


def _known(values: Any) -> Any:
    """Return sparse values with 0 for what is not known."""
    return sparse.csr_matrix((np.nan_to_num(values.data), values.indices, values.indptr), values.shape)


def _present(block: Block) -> np.ndarray:
    return np.asarray(block.present.any(axis=0) & block.embeddings[0].present)


class Stacking(Memory):
    """Logistic regression on the log-odds of each modality for patients whom its head had not seen; 0 where absent."""

    def fit(self, train: Blocks, patients: Patients) -> Callable[[Blocks], np.ndarray]:
        said = np.nan_to_num(np.column_stack([block.left_out(patients.folds) for block in train.values()]))
        model = LogisticRegression().fit(said, patients.events)

        def risks(test: Blocks) -> np.ndarray:
            means = [np.nan_to_num(test[name].evidence).mean(axis=0) for name in train]
            return np.asarray(model.predict_proba(np.column_stack(means))[:, 1])

        return risks


def rivals_of(seed: int) -> dict[str, Memory]:
    """Return the rivals by name."""
    return {"HAIM": Haim(seed), "stacking": Stacking()}


RIVALS: Sequence[str] = tuple(rivals_of(0))
