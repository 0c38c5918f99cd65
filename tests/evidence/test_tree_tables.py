"""The tables against XGBoost's own TreeSHAP and shap's, on trees of every shape that a head may have."""

import json

import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st

from medfusion.evidence.treecheck import MAX_DEPTH
from medfusion.evidence.trees import base_of
from medfusion.evidence.treetables import TreeTables


def rows_of(seed, n=300, features=5):
    """Return rows of which a quarter of the values is missing, and some are equal to each other."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, features)).astype(np.float32).round(1)
    values[rng.random(values.shape) < 0.25] = np.nan
    return values


def booster_of(values, seed=0, **parameters):
    """Return trees that are asked about few features again and again."""
    rng = np.random.default_rng(seed)
    logit = np.nan_to_num(values[:, 0]) * np.nan_to_num(values[:, 1], nan=1.0) + np.isnan(values[:, 2])
    events = rng.random(len(values)) < 1 / (1 + np.exp(-logit))
    settings = {"objective": "binary:logistic", "tree_method": "hist", "seed": seed, "nthread": 1, **parameters}
    return xgb.train(settings, xgb.QuantileDMatrix(values, label=events, weight=rng.random(len(values)) + 0.5), 20)


def tables_of(booster):
    model = json.loads(bytes(booster.save_raw("json")))
    return TreeTables(model, base_of(model))


def agree(booster, values):
    """Compare with XGBoost: shares in single precision, log-odds to the last bit."""
    tables = tables_of(booster)
    expected = booster.predict(xgb.DMatrix(values), pred_contribs=True)
    margins = booster.predict(xgb.DMatrix(values), output_margin=True)
    shares = tables.shares(values)
    np.testing.assert_allclose(shares, expected[:, :-1], atol=1e-5)
    assert tables.constant == pytest.approx(float(expected[0, -1]), abs=1e-6)
    np.testing.assert_array_equal(tables.margins(values), margins)
    np.testing.assert_allclose(shares.sum(axis=1) + tables.constant, margins, atol=1e-5)


@pytest.mark.parametrize("depth", range(1, MAX_DEPTH + 1))
def test_trees_of_every_depth_are_explained_as_xgboost_explains_them(depth):
    values = rows_of(depth)
    booster = booster_of(values, max_depth=depth, min_child_weight=0.1)
    assert max(text.count("\t") for text in "".join(booster.get_dump()).splitlines()) == depth
    agree(booster, values)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 10**6),
    st.sampled_from([{"grow_policy": "lossguide", "max_leaves": 9}, {"min_child_weight": 8.0}, {"gamma": 1.0}]),
    st.integers(1, 4),
)
def test_trees_that_are_deep_on_one_side_only_are_explained_as_xgboost_explains_them(seed, uneven, features):
    values = rows_of(seed, n=150, features=max(features, 3))
    values[:, features:] = 0.0  # few features are asked again on one path
    agree(booster_of(values, seed, max_depth=MAX_DEPTH, **uneven), values)


def test_shares_are_those_of_shaps_explainer(shap):
    values = rows_of(0)
    booster = booster_of(values, max_depth=5)
    explainer = shap.TreeExplainer(booster, feature_perturbation="tree_path_dependent")
    np.testing.assert_allclose(tables_of(booster).shares(values), explainer.shap_values(values), atol=1e-5)


def test_trees_that_are_single_leaves_have_no_shares():
    values = rows_of(0)
    booster = booster_of(values, max_depth=3, gamma=1e9)
    assert all("\t" not in text for text in booster.get_dump())
    agree(booster, values)
    assert not tables_of(booster).shares(values).any()


def test_values_at_a_threshold_and_beyond_single_precision_go_where_xgboost_sends_them():
    values = rows_of(0)
    booster = booster_of(values, max_depth=4)
    trees = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]["model"]["trees"]
    limits = np.array(
        [(tree["split_indices"][0], tree["split_conditions"][0]) for tree in trees if tree["left_children"][0] > 0]
    )
    at = np.repeat(values[:1].astype(float), 3 * len(limits), axis=0)
    for shift, number in enumerate((-1e-12, 0.0, 1e-12)):
        at[np.arange(len(limits)) * 3 + shift, limits[:, 0].astype(int)] = np.float32(limits[:, 1]) + number
    agree(booster, at)


def test_many_rows_are_explained_as_each_of_them_alone():
    values = rows_of(0, n=1000)
    tables = tables_of(booster_of(values, max_depth=5))
    alone = np.concatenate([tables.shares(values[[row]]) for row in range(0, 1000, 97)])
    np.testing.assert_array_equal(tables.shares(values)[::97], alone)


def test_no_rows_have_no_shares():
    values = rows_of(0)
    tables = tables_of(booster_of(values, max_depth=3))
    assert (tables.shares(values[:0]).shape, tables.margins(values[:0]).shape) == ((0, 5), (0,))


def test_the_shares_of_one_tree_are_shapley_values_by_definition():
    """Over all orders of the features, what each adds to the expectation given those before it."""
    from itertools import permutations

    values = rows_of(3, features=3)
    booster = booster_of(values, max_depth=3)[:1]
    tree = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]["model"]["trees"][0]

    def expected(row, known, node=0):
        left, right = tree["left_children"][node], tree["right_children"][node]
        if left < 0:
            return tree["split_conditions"][node]
        feature, limit = tree["split_indices"][node], np.float32(tree["split_conditions"][node])
        if feature in known:
            goes_left = tree["default_left"][node] if np.isnan(row[feature]) else row[feature] < limit
            return expected(row, known, left if goes_left else right)
        cover = tree["sum_hessian"]
        return sum(expected(row, known, child) * cover[child] / cover[node] for child in (left, right))

    shares = tables_of(booster).shares(values[:20])
    for row, mine in zip(values[:20], shares, strict=True):
        found = np.zeros(3)
        for order in permutations(range(3)):
            for place, feature in enumerate(order):
                found[feature] += (expected(row, order[: place + 1]) - expected(row, order[:place])) / 6
        np.testing.assert_allclose(mine, found, atol=1e-6)
