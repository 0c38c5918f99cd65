"""The tree head against shap's TreeExplainer on the same trees."""

import numpy as np
import pytest

from medfusion.core.errors import ModelFolderError
from medfusion.core.state import load_state, save_state
from medfusion.evidence.heads import Rows
from medfusion.evidence.trees import TreeHead


@pytest.fixture(scope="module")
def data():
    """Return rows where only the first two features matter, one of them by being missing."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(240, 6)).astype(np.float32)
    values[rng.random((240, 6)) < 0.25] = np.nan
    values[:, 5] = np.nan
    logit = np.nan_to_num(values[:, 0], nan=1.5) * 1.5
    events = rng.random(240) < 1 / (1 + np.exp(-logit))
    return Rows(values, events, rng.choice([1.0, 0.7], 240), np.arange(240).astype(str), same_unit=False)


@pytest.fixture(scope="module")
def head(data):
    return TreeHead().fit(data)


def test_shares_are_shaps_tree_values_and_sum_to_the_log_odds(data, head):
    import shap

    explainer = shap.TreeExplainer(head.booster, feature_perturbation="tree_path_dependent")
    opened = head.shares(data.values)
    np.testing.assert_allclose(opened.shares, explainer.shap_values(data.values), atol=1e-4)
    assert opened.constant == pytest.approx(float(np.ravel(explainer.expected_value)[0]), abs=1e-4)
    np.testing.assert_allclose(opened.shares.sum(axis=1) + opened.constant, head.raw(data.values), atol=1e-4)
    assert (opened.slope, opened.reference) == (None, None)


def test_the_raw_score_is_the_logit_of_the_probability_that_xgboost_predicts(data, head):
    import xgboost as xgb

    probability = head.booster.predict(xgb.DMatrix(data.values)).astype(float)
    np.testing.assert_allclose(1 / (1 + np.exp(-head.raw(data.values))), probability, atol=1e-6)


def test_the_largest_shares_belong_to_the_feature_that_drives_the_outcome(data, head):
    size = np.abs(head.shares(data.values).shares).mean(axis=0)
    assert size.argmax() == 0
    assert size[0] > 2 * size[1:].max()


def test_a_feature_that_is_missing_everywhere_is_no_problem_and_has_no_share(data, head):
    assert np.abs(head.shares(data.values).shares[:, 5]).max() == 0


def test_a_row_without_any_value_gets_a_finite_score(head):
    assert np.isfinite(head.raw(np.full((1, 6), np.nan, dtype=np.float32))).all()


def test_fitting_twice_gives_the_same_trees(data, head):
    np.testing.assert_array_equal(TreeHead().fit(data).raw(data.values), head.raw(data.values))


def test_trees_that_are_read_back_say_exactly_the_same(tmp_path, data, head):
    save_state(tmp_path, "head", head.state())
    again = TreeHead.restore(load_state(tmp_path, "head"))
    np.testing.assert_array_equal(again.raw(data.values), head.raw(data.values))
    np.testing.assert_array_equal(again.shares(data.values).shares, head.shares(data.values).shares)


@pytest.mark.parametrize("content", [b"", b"{}", b"cos\nsystem\n(S'true'\ntR.", b"\x00" * 50])
def test_bytes_that_are_no_trees_are_refused(content):
    with pytest.raises(ModelFolderError, match="cannot be read"):
        TreeHead.restore({"kind": "trees", "booster": np.frombuffer(content, dtype=np.uint8)})
