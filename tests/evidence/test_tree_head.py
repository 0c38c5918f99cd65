"""The tree head against shap's TreeExplainer on the same trees."""

import json

import numpy as np
import pytest

from medfusion.core.errors import ModelFolderError
from medfusion.core.state import load_state, save_state
from medfusion.evidence.heads import Rows
from medfusion.evidence.treecheck import MAX_DEPTH
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


def test_shares_are_shaps_tree_values_and_sum_to_the_log_odds(shap, data, head):
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


def test_few_rows_are_explained_by_xgboost_and_many_by_tables_and_nobody_sees_a_difference(data, head):
    import xgboost as xgb

    few, many = head.shares(data.values[:20]), head.shares(data.values)
    np.testing.assert_allclose(few.shares, many.shares[:20], atol=1e-6)
    assert few.constant == pytest.approx(many.constant, abs=1e-6)
    expected = head.booster.predict(xgb.DMatrix(data.values), pred_contribs=True)
    np.testing.assert_allclose(many.shares, expected[:, :-1], atol=1e-6)


def test_log_odds_are_the_same_to_the_last_bit_before_and_after_rows_were_explained(data):
    head = TreeHead().fit(data)
    before = head.raw(data.values)
    head.shares(data.values)
    np.testing.assert_array_equal(head.raw(data.values), before)


def test_a_head_that_is_fitted_again_forgets_its_tables(data, head):
    again = TreeHead().fit(data)
    again.shares(data.values)
    other = Rows(data.values, ~data.events, data.weights, data.subject_ids, same_unit=False)
    np.testing.assert_array_equal(again.fit(other).raw(data.values), TreeHead().fit(other).raw(data.values))


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[1]", b"cos\nsystem\n(S'true'\ntR.", b"\x00" * 50, b"[" * 100_000],
    ids=lambda text: text[:4],
)
def test_bytes_that_are_no_trees_are_refused(content):
    with pytest.raises(ModelFolderError, match="damaged"):
        TreeHead.restore({"kind": "trees", "booster": np.frombuffer(content, dtype=np.uint8)})


def in_tree(name, node, value):
    def change(learner):
        learner["gradient_booster"]["model"]["trees"][3][name][node] = value

    return change


def in_model(name, value):
    def change(learner):
        learner["gradient_booster"]["model"][name] = value

    return change


def in_size(name, value):
    def change(learner):
        learner["learner_model_param"][name] = value

    return change


def shorter(learner):
    learner["gradient_booster"]["model"]["trees"][3]["base_weights"].pop()


def longer(learner):
    """Add a leaf that no node has as a child."""
    tree = learner["gradient_booster"]["model"]["trees"][3]
    for values in tree.values():
        if isinstance(values, list) and values:
            values.append(values[-1])
    tree["parents"][-1] = len(tree["parents"]) - 1
    tree["tree_param"]["num_nodes"] = str(len(tree["parents"]))


def deeper(learner):
    """Grow the last leaf of a tree, again and again."""
    tree = learner["gradient_booster"]["model"]["trees"][3]
    for _ in range(MAX_DEPTH):
        leaf = len(tree["parents"]) - 1
        tree["left_children"][leaf], tree["right_children"][leaf] = leaf + 1, leaf + 2
        for name, values in tree.items():
            if isinstance(values, list) and values:
                values.extend([leaf] * 2 if name == "parents" else [-1] * 2 if "children" in name else values[-1:] * 2)
    tree["tree_param"]["num_nodes"] = str(len(tree["parents"]))


def without_trees(learner):
    learner["gradient_booster"]["model"] |= {"trees": [], "tree_info": [], "iteration_indptr": [0]}


@pytest.mark.parametrize(
    "change",
    [
        in_tree("left_children", 0, 10**6),
        in_tree("left_children", 0, -5),
        in_tree("right_children", 0, 0),
        in_tree("right_children", 0, -1),
        in_tree("left_children", 0, 1.5),
        in_tree("split_indices", 0, 10**7),
        in_tree("split_indices", 0, -1),
        in_tree("split_type", 0, 1),
        in_tree("parents", 1, 10**7),
        in_tree("parents", 0, 5),
        in_tree("split_conditions", 0, float("nan")),
        in_tree("split_conditions", 0, "1.0"),
        in_tree("sum_hessian", 1, 0.0),
        in_model("tree_info", [7] * 500),
        in_model("iteration_indptr", [0, 10**6]),
        in_size("num_feature", "3"),
        in_size("num_class", "4"),
        in_size("num_target", "2"),
        shorter,
        longer,
        deeper,
        without_trees,
    ],
)
def test_trees_whose_indices_lead_out_of_the_tree_are_refused_before_xgboost_follows_them(head, change):
    model = json.loads(head.state()["booster"].tobytes())
    change(model["learner"])
    text = np.frombuffer(json.dumps(model).encode(), dtype=np.uint8)
    with pytest.raises(ModelFolderError, match="trees of a head"):
        TreeHead.restore({"kind": "trees", "booster": text})
