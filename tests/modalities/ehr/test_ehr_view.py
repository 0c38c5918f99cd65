"""What a screen shows, and the made-up record."""

from datetime import timedelta

import numpy as np
import pytest

from medfusion.core.types import Attribution, FeatureShare
from medfusion.core.views import SeriesView


@pytest.fixture
def payload(record, read):
    rows = [
        (5, "blood pressure", 120.0),
        (1, "blood pressure", 110.0),
        (4, "I10", None),
        (2, "na", 140.0),
        (3, "na", None),
    ]
    return read(record(rows, {"sex": "F", "age_years": 61.5}, {"na": "mmol/L"}))[0]


SHARES = [
    FeatureShare("blood pressure last", 110.0, 0.5),
    FeatureShare("blood pressure slope", -2.5, -0.1),
    FeatureShare("lactate last", None, 0.05),
    FeatureShare("ph last", None, 0.0),
    FeatureShare("I10 count", 1.0, 0.2),
    FeatureShare("sex", "F", -0.3),
    FeatureShare("site", None, 0.01),
    FeatureShare("(average record)", None, 0.7),
]


def test_each_code_is_a_curve_with_the_sum_of_its_shares(ehr, payload):
    (view,) = ehr.view(payload, SHARES)
    assert isinstance(view, SeriesView)
    pressure, sodium = view.series
    assert (pressure.name, pressure.values) == ("blood pressure", [120.0, 110.0])
    assert pressure.share == pytest.approx(0.4)
    assert pressure.times == [payload.as_of - timedelta(hours=5), payload.as_of - timedelta(hours=1)]
    assert (sodium.name, sodium.unit, sodium.values, sodium.share) == ("na", "mmol/L", [140.0], 0.0)
    assert view.as_of == payload.as_of


def test_what_has_no_curve_stands_among_the_facts(ehr, payload):
    (view,) = ehr.view(payload, SHARES)
    assert view.facts == [
        ("sex", "F", -0.3),
        ("I10", "once 4 h before", 0.2),
        ("lactate", "not recorded", 0.05),
        ("site", "not recorded", 0.01),
        ("age_years", "61.5", 0.0),
    ]


def test_a_view_holds_all_shares_but_that_of_the_average_record(ehr):
    payloads = [ehr.example(seed) for seed in range(8)]
    encoder = ehr.encoder()
    encoder.fit(payloads, None)
    shares = np.random.default_rng(0).normal(size=len(encoder.feature_names))
    (view,) = ehr.view(payloads[3], encoder.explain(payloads[3], Attribution(shares, 1.0)))
    shown = sum(one.share for one in view.series) + sum(share for _, _, share in view.facts)
    assert shown == pytest.approx(shares.sum())


def test_a_view_without_shares_shows_the_data(ehr, payload):
    (view,) = ehr.view(payload, [])
    assert {one.name for one in view.series} == {"blood pressure", "na"}
    assert {name for name, _, _ in view.facts} == {"sex", "age_years", "I10"}


def test_examples_are_alike_for_a_seed_and_differ_between_seeds(ehr):
    one, same, other = ehr.example(3), ehr.example(3), ehr.example(4)
    np.testing.assert_array_equal(one.values, same.values)
    assert not np.array_equal(one.values, other.values)
    assert len(one.codes) == 6
    assert ehr.fingerprints(one) == []


def test_payloads_depend_on_the_statistics_alone(ehr):
    assert ehr.identity()["statistics"].split()[:2] == ["last", "first"]
