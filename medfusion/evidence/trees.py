"""Gradient-boosted trees: missing values as they are, TreeSHAP exact."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xgboost as xgb

from medfusion.core.errors import ModelFolderError
from medfusion.core.protocols import HeadKind
from medfusion.core.state import State
from medfusion.core.types import FloatArray
from medfusion.evidence.heads import HeadShares, Rows
from medfusion.evidence.treecheck import checked

if TYPE_CHECKING:
    from medfusion.evidence.treetables import TreeTables

PARAMETERS: dict[str, Any] = {
    "objective": "binary:logistic",
    "tree_method": "hist",
    "max_bin": 64,
    "learning_rate": 0.03,
    "subsample": 0.7,
    "colsample_bytree": 0.3,
    "reg_lambda": 5.0,
    "seed": 0,
}
COURSES = ((3, 300), (5, 200))
"""Pairs of (depth, trees): shallow trees for what single values do, then deeper ones for what they do together."""
CHILDREN = 3000
"""A leaf holds at least one in so many of the rows, by weight and variance; small cohorts need small leaves."""

_FEW = 64
"""Below this many rows, tables and threads cost more than they bring."""


class TreeHead:
    """XGBoost on features with missing values; shares are its TreeSHAP values [1]_ in log-odds.

    Many rows are explained by `treetables`, hundreds of times as fast, and then predicted by them, too.

    References
    ----------
    .. [1] Lundberg SM et al. (2020). From local explanations to global understanding with explainable AI for trees.
       Nature Machine Intelligence 2.
    """

    kind: ClassVar[HeadKind] = "trees"

    def __init__(self) -> None:
        self._booster: xgb.Booster | None = None
        self._tables: TreeTables | None = None

    def fit(self, rows: Rows) -> TreeHead:
        """Fit on dense rows; NaN is a missing value."""
        self._booster = self._tables = None
        # The members of a cross-fit run side by side and share the processor.
        threads = max(1, (os.cpu_count() or 1) // 5)
        matrix = xgb.QuantileDMatrix(
            rows.values, label=rows.events, weight=rows.weights, nthread=threads, max_bin=PARAMETERS["max_bin"]
        )
        leaf = float(rows.weights.sum()) / CHILDREN
        for depth, trees in COURSES:
            parameters = {**PARAMETERS, "max_depth": depth, "min_child_weight": leaf, "nthread": threads}
            self._booster = xgb.train(parameters, matrix, trees, xgb_model=self._booster)
        return self

    @property
    def booster(self) -> xgb.Booster:
        """The fitted trees."""
        if self._booster is None:
            raise RuntimeError("fit the head first")
        return self._booster

    def raw(self, values: FloatArray) -> FloatArray:
        """Return uncalibrated log-odds (n,)."""
        if self._tables is not None:
            return self._tables.margins(values)
        return np.asarray(self._with_threads(len(values)).inplace_predict(values, predict_type="margin"), dtype=float)

    def shares(self, values: FloatArray) -> HeadShares:
        """Return TreeSHAP values; the constant is the average of the training rows."""
        if len(values) >= _FEW:
            tables = self._with_tables()
            return HeadShares(tables.shares(values), tables.constant)
        rows = xgb.DMatrix(values, nthread=1)
        shares = np.asarray(self._with_threads(len(values)).predict(rows, pred_contribs=True), dtype=float)
        return HeadShares(shares[:, :-1], float(shares[0, -1]))

    def _with_threads(self, rows: int) -> xgb.Booster:
        """Return the booster, set to all threads or to one: waking others for few rows costs more than they bring."""
        self.booster.set_param({"nthread": 1 if rows < _FEW else 0})
        return self.booster

    def _with_tables(self) -> TreeTables:
        """Return the tables, which cost as much as explaining some hundred rows without them."""
        if self._tables is None:
            from medfusion.evidence.treetables import TreeTables  # noqa: PLC0415 - a compiler is slow to load

            model = json.loads(bytes(self.booster.save_raw("json")))
            self._tables = TreeTables(model, base_of(model))
        return self._tables

    def state(self) -> State:
        """Return the trees as XGBoost's JSON text, in bytes."""
        model = np.frombuffer(bytes(self.booster.save_raw("json")), dtype=np.uint8)
        return {"kind": self.kind, "booster": model}

    @classmethod
    def restore(cls, state: State) -> TreeHead:
        """Return the head that `state` described.

        Raises
        ------
        ModelFolderError
            If it describes no trees, or such as would lead XGBoost out of its memory.
        """
        head = cls()
        head._booster = xgb.Booster()
        text = checked(state["booster"].tobytes())
        try:
            head._booster.load_model(bytearray(text))
        except xgb.core.XGBoostError as error:
            raise ModelFolderError("the trees of a head cannot be read") from error
        return head


def base_of(model: Mapping[str, Any]) -> float:
    """Return the log-odds that trees are added to: what XGBoost says with one tree that adds 0, to the last bit."""
    learner = model["learner"]
    trees = learner["gradient_booster"]["model"]
    nothing = {**trees["trees"][0], "split_conditions": [0.0] * len(trees["trees"][0]["parents"])}
    one = {
        "gbtree_model_param": {**trees["gbtree_model_param"], "num_trees": "1"},
        "trees": [nothing],
        "tree_info": [0],
        "iteration_indptr": [0, 1],
    }
    bare = {**learner, "gradient_booster": {**learner["gradient_booster"], "model": {**trees, **one}}}
    booster = xgb.Booster()
    booster.load_model(bytearray(json.dumps({**model, "learner": bare}).encode()))
    row = np.full((1, int(learner["learner_model_param"]["num_feature"])), np.nan)
    return float(booster.inplace_predict(row, predict_type="margin")[0])
