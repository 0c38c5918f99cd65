"""What a screen shows, and the made-up record."""

from datetime import datetime, timedelta

import numpy as np
import pytest

from medfusion.cohort.firewall import AsOfIndex
from medfusion.core.folder import CohortFolder
from medfusion.core.protocols import ModalityOptions
from medfusion.core.types import Attribution, FeatureShare, Records
from medfusion.core.views import SeriesView
from medfusion.modalities.ehr import EhrModality


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


def ranged(tmp_path, reference, unit="mmol/L"):
    """Write one lactate with a reference range, and return its series and what was wrong with the cohort."""
    config = f'[ehr.units]\nLactate = "{unit}"\n[ehr.reference]\n{reference}\n'
    (tmp_path / "cohort.toml").write_text(config, encoding="utf-8")
    rows = f"subject_id,time,code,numeric_value,unit\na,2020-03-04T10:00,Lactate,4.7,{unit}\n"
    (tmp_path / "ehr.csv").write_text(rows, encoding="utf-8")
    folder = CohortFolder.open(tmp_path)
    modality = EhrModality(ModalityOptions())
    index = AsOfIndex(modality.index(folder))
    moment = datetime(2020, 3, 4, 12)
    (payload,) = modality.read([Records("a", moment, index.as_of("a", moment), {})], [], lambda done: None)
    (view,) = modality.view(payload, [])
    return view.series[0], folder.problems


def test_a_reference_range_of_the_cohort_is_shown_in_the_unit_of_the_values(tmp_path):
    given = 'Lactate = { low = 0.5, high = 2.0, unit = "mmol/L" }'
    for unit, expected in (("mmol/L", (0.5, 2.0)), ("umol/L", (500.0, 2000.0)), ("mg/dL", (None, None))):
        series, problems = ranged(tmp_path, given, unit)
        assert ((series.low, series.high), problems) == (expected, [])
    series, _ = ranged(tmp_path, 'Lactate = { high = 2.0, unit = "mmol/L" }')
    assert (series.low, series.high) == (None, 2.0)


@pytest.mark.parametrize(
    "reference",
    [
        "Lactate = { low = 0.5, high = 2.0 }",
        'Lactate = { low = 2.0, high = 0.5, unit = "mmol/L" }',
        'Lactate = { low = "0.5", unit = "mmol/L" }',
        'Lactate = { unit = "mmol/L" }',
        'Lactate = { low = nan, unit = "mmol/L" }',
        "Lactate = 2.0",
    ],
)
def test_what_is_no_reference_range_is_told_and_not_shown(tmp_path, reference):
    series, (problem,) = ranged(tmp_path, reference)
    assert (series.low, series.high) == (None, None)
    assert (problem.code, problem.field, problem.severity) == ("bad-reference", "ehr.reference.Lactate", "warning")


def test_examples_are_alike_for_a_seed_and_differ_between_seeds(ehr):
    one, same, other = ehr.example(3), ehr.example(3), ehr.example(4)
    np.testing.assert_array_equal(one.values, same.values)
    assert not np.array_equal(one.values, other.values)
    assert len(one.codes) == 6
    assert ehr.fingerprints(one) == []


def test_payloads_depend_on_the_statistics_alone(ehr):
    assert ehr.identity()["statistics"].split()[:2] == ["last", "first"]
