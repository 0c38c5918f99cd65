import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfusion.core.errors import UsageError
from medfusion.core.types import TOLERANCE, Explanation, FeatureShare
from medfusion.outputs.shap_values import to_shap

MODALITIES = ("ehr", "imaging", "notes")
SHARES = st.floats(-5, 5)
OBSERVED = st.one_of(st.none(), st.floats(-1e6, 1e6), st.sampled_from(["M", "F"]))


def ledger_of(base, by_feature, absent=()):
    by_modality = {name: math.fsum(line.share for line in lines) for name, lines in by_feature.items()}
    by_modality |= dict.fromkeys(absent, 0.0)
    return Explanation(base, by_modality, by_feature, base + math.fsum(by_modality.values()))


@st.composite
def ledgers(draw):
    present = draw(st.lists(st.sampled_from(MODALITIES), unique=True))
    lines = st.lists(st.builds(FeatureShare, st.sampled_from("abcdef"), OBSERVED, SHARES), max_size=6)
    by_feature = {name: draw(lines) for name in present}
    return ledger_of(draw(SHARES), by_feature, [name for name in MODALITIES if name not in present])


@pytest.fixture
def two():
    """Return a patient with values and a film, and one with other values and no film."""
    lactate, age, sex = (
        FeatureShare("lactate last", 4.7, 0.8),
        FeatureShare("age", 71.0, 0.3),
        FeatureShare("pH", None, -0.1),
    )
    region = FeatureShare("film 1 row 1 column 2", None, 0.6)
    first = ledger_of(-1.8, {"ehr": [lactate, age, sex], "imaging": [region]})
    second = ledger_of(-1.8, {"ehr": [FeatureShare("age", 40.0, -0.5)]}, absent=["imaging"])
    return [first, second]


@pytest.fixture
def plt():
    """Return pyplot, which shap draws with, without a screen."""
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    yield plt
    plt.close("all")


@settings(max_examples=60, deadline=None)
@given(st.lists(ledgers(), min_size=1, max_size=4))
def test_base_and_values_sum_to_the_logit_whoever_has_which_modality(explanations):
    found = to_shap(explanations)
    totals = found.base_values + found.values.sum(axis=1)
    assert totals == pytest.approx([each.logit for each in explanations], abs=TOLERANCE)
    assert len(set(found.feature_names)) == len(found.feature_names) == found.values.shape[1]


@settings(max_examples=60, deadline=None)
@given(st.lists(ledgers(), min_size=1, max_size=4), st.sampled_from(MODALITIES))
def test_the_values_of_one_modality_sum_to_its_share(explanations, modality):
    found = to_shap(explanations, modality)
    assert found.base_values.tolist() == [0.0] * len(explanations)
    assert found.values.sum(axis=1) == pytest.approx(
        [each.by_modality[modality] for each in explanations], abs=TOLERANCE
    )


def test_a_feature_that_a_sample_does_not_have_adds_nothing_and_has_no_value(two):
    found = to_shap(two)
    assert found.feature_names == ["ehr: lactate last", "ehr: age", "ehr: pH", "imaging: film 1 row 1 column 2"]
    assert found.values[1].tolist() == [0.0, -0.5, 0.0, 0.0]
    assert math.isnan(found.data[1, 0])
    assert found.data[1, 1:].tolist() == [40.0, "", ""]


def test_one_modality_keeps_the_names_of_its_features(two):
    assert to_shap(two, "ehr").feature_names == ["lactate last", "age", "pH"]


def test_what_was_observed_is_numbers_where_it_can_be_and_nothing_where_there_is_none(two):
    numbers = [ledger_of(0.0, {"ehr": [FeatureShare(name, value, 0.1)]}) for name, value in (("a", 1.0), ("b", 2.0))]
    np.testing.assert_array_equal(to_shap(numbers).data, [[1.0, math.nan], [math.nan, 2.0]])
    assert to_shap(numbers).data.dtype == np.float64
    assert to_shap(two, "imaging").data is None
    with_text = ledger_of(0.0, {"ehr": [FeatureShare("sex", "F", 0.2), FeatureShare("age", 40.0, 0.1)]})
    assert to_shap([with_text]).data.tolist() == [["F", 40.0]]


def test_a_modality_that_was_not_opened_up_is_one_feature():
    found = to_shap([Explanation(-1.0, {"ehr": 0.5}, {}, -0.5)])
    assert found.feature_names == ["ehr"]
    assert found.values.tolist() == [[0.5]]


@pytest.mark.parametrize("modality", [None, "ehr"])
def test_shap_draws_its_own_pictures_of_a_ledger(two, modality, plt):
    with_text = ledger_of(-1.8, {"ehr": [FeatureShare("sex", "F", 0.2), FeatureShare("age", 40.0, 0.1)]})
    found = to_shap([*two, with_text], modality)
    import shap

    for plot, values in ((shap.plots.waterfall, found[0]), (shap.plots.beeswarm, found), (shap.plots.bar, found)):
        plot(values, show=False)
        names = [label.get_text() for label in plt.gca().get_yticklabels()]
        assert any("lactate last" in name for name in names)
        plt.close("all")


def test_the_waterfall_of_shap_ends_at_the_logit(two, plt):
    found = to_shap(two)
    import shap

    shap.plots.waterfall(found[0], show=False)
    said = [label.get_text() for axes in plt.gcf().axes for label in axes.get_xticklabels()]
    assert any("-0.2" in text.replace("\N{MINUS SIGN}", "-") for text in said)


def test_a_modality_that_no_ledger_has_is_refused(two):
    with pytest.raises(UsageError, match="no ledger of ecg; the ledgers have: ehr, imaging"):
        to_shap(two, "ecg")
    with pytest.raises(UsageError, match="no ledger of any modality; the ledgers have: none"):
        to_shap([])
