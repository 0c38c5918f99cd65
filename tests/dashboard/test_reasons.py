"""Lines of a ledger as a clinician reads them."""

import pytest

from dashboards import language
from dashboards.reasons import feature_text, reason_text, units_of
from dashboards.scores import Reason

UNITS = {"lactate": "mmol/L", "temperature": "Cel", "wbc": "10*3/uL", "systolic_bp": "mm[Hg]", "heart_rate": "/min"}


@pytest.mark.parametrize(
    ("feature", "value", "said"),
    [
        ("lactate last", "4.7", "lactate 4.7 mmol/L"),
        ("temperature min_24h", "35.5", "lowest temperature in the last 24 h 35.5 °C"),
        ("wbc mean_12_24h", "14.25", "average white cells 12 to 24 h before 14.2 10³/µL"),
        ("systolic_bp max", "101", "highest systolic pressure 101 mmHg"),
        ("heart_rate count_12h", "3", "heart rate: measured 3 times in the last 12 h"),
        ("lactate hours_since_last", "13.7333", "lactate: last measured 13.7 h before"),
        ("lactate last", None, "lactate not recorded"),
        ("age_years", "71", "age 71"),
        ("dyspnoea", None, "“dyspnoea”"),
        ("no unit last", "1", "no unit 1"),
    ],
)
def test_a_line_is_told_with_its_unit(feature, value, said):
    assert feature_text(Reason("ehr", feature, value, 0.5), UNITS) == said


def test_a_share_has_a_sign_and_no_more_digits_than_it_needs():
    assert reason_text(Reason("ehr", "lactate last", "4.7", 0.94), UNITS) == "lactate 4.7 mmol/L, +0.9"
    said = reason_text(Reason("ehr", "age_years", "20", -0.031), UNITS)
    assert said == "age 20, \N{MINUS SIGN}0.03"


def test_korean_has_its_own_order_of_words():
    language.use("ko")
    assert feature_text(Reason("ehr", "lactate max_24h", "4.7", 0.5), UNITS) == "최근 24시간 젖산 최고치 4.7 mmol/L"
    assert feature_text(Reason("imaging", "(all regions)", None, 0.5), UNITS) == "영상 전체"


def test_units_are_those_that_the_cohort_declares(new_patients):
    assert units_of(new_patients.folder)["lactate"] == "mmol/L"
    assert units_of(None) == {}
