"""Closing a ledger: rounding is put right, anything more is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfusion.core.types import FeatureShare
from medfusion.explain import close_ledger


def lines(*shares):
    return [FeatureShare(f"line {number}", None, share) for number, share in enumerate(shares)]


def test_a_rounding_error_goes_to_the_largest_line():
    ledger = close_ledger(-1.0, {"ehr": 0.50001}, {"ehr": lines(0.1, -0.8, 1.2)}, -0.49999)
    assert [(line.feature, round(line.share, 9)) for line in ledger.by_feature["ehr"]] == [
        ("line 2", 1.20001),
        ("line 1", -0.8),
        ("line 0", 0.1),
    ]


def test_more_than_rounding_is_refused():
    with pytest.raises(ValueError, match=r"the lines of ehr miss its share by 0\.001"):
        close_ledger(-1.0, {"ehr": 0.501}, {"ehr": lines(0.5)}, -0.499)


def test_lines_that_are_no_number_are_refused():
    with pytest.raises(ValueError, match="does not add up"):
        close_ledger(-1.0, {"ehr": 0.5}, {"ehr": lines(math.nan)}, -0.5)


def test_modalities_that_do_not_sum_to_the_logit_are_refused():
    with pytest.raises(ValueError, match="the modalities sum to"):
        close_ledger(-1.0, {"ehr": 0.5, "notes": 0.2}, {"ehr": lines(0.5), "notes": lines(0.2)}, -0.31)


def test_a_modality_without_lines_has_to_have_no_share():
    assert close_ledger(-1.0, {"ehr": 0.0}, {"ehr": []}, -1.0).by_feature == {"ehr": []}
    with pytest.raises(ValueError, match="the lines of ehr miss its share"):
        close_ledger(-1.0, {"ehr": 0.5}, {"ehr": []}, -0.5)


def test_an_absent_modality_has_a_share_of_nothing_and_no_lines():
    ledger = close_ledger(-1.0, {"ehr": 0.5, "notes": 0.0}, {"ehr": lines(0.5)}, -0.5)
    assert ledger.by_modality["notes"] == 0.0
    assert "notes" not in ledger.by_feature


shares = st.floats(-20, 20, allow_nan=False)


@given(
    st.dictionaries(st.sampled_from("abcd"), st.lists(shares, min_size=1, max_size=9), max_size=4),
    shares,
    st.floats(-1, 1),
)
def test_a_closed_ledger_sums_at_every_level_whatever_the_rounding(by_modality, base, rounding):
    totals = {name: math.fsum(each) for name, each in by_modality.items()}
    shown = {name: total + 1e-5 * rounding for name, total in totals.items()}
    logit = base + math.fsum(shown.values())
    ledger = close_ledger(base, shown, {name: lines(*each) for name, each in by_modality.items()}, logit)
    for name, each in ledger.by_feature.items():
        assert math.fsum(line.share for line in each) == pytest.approx(ledger.by_modality[name], abs=1e-9)
    assert ledger.base + math.fsum(ledger.by_modality.values()) == pytest.approx(ledger.logit, abs=1e-9)
