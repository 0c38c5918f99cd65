"""The encoder of courses: normal scores, more statistics, and a ledger that shows what was observed."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, rankdata
from sklearn.metrics import roc_auc_score

from medfusion.core.folds import Patients, patient_folds
from medfusion.core.protocols import ModalityOptions
from medfusion.core.state import load_state, save_state
from medfusion.core.types import Attribution, Pull
from medfusion.evidence import crossfit
from medfusion.modalities.ehr import EhrModality
from medfusion.modalities.ehr.encoder import CourseEncoder, EhrEncoder
from medfusion.modalities.ehr.scores import NormalScores
from medfusion.modalities.ehr.summary import STATISTICS


@pytest.fixture(scope="module")
def ward(record, read):
    """Thirty patients with irregular times; lactate in half of them."""
    rng = np.random.default_rng(7)
    records = []
    for n in range(30):
        rows = [(float(hours), "heart rate", float(rng.normal(80, 10))) for hours in rng.uniform(0, 60, 12)]
        rows += [(float(hours), "lactate", float(rng.lognormal())) for hours in rng.uniform(0, 48, 9)] * (n % 2)
        records.append(record(rows, {"sex": "FM"[n % 2], "age_years": 40.0 + n}, {"lactate": "mmol/L"}, f"P{n}"))
    return read(*records)


@pytest.fixture(scope="module")
def encoder(ward):
    encoder = CourseEncoder()
    encoder.fit(ward, np.zeros(30, dtype=bool))
    return encoder


def column(encoder, payloads, name):
    return encoder.encode(payloads).values[:, list(encoder.feature_names).index(name)].astype(float)


def test_few_records_have_one_encoder_and_many_have_two(ehr):
    assert [type(each) for each in ehr.encoders(999)] == [EhrEncoder]
    assert [type(each) for each in ehr.encoders(1000)] == [EhrEncoder, CourseEncoder]
    assert type(ehr.encoder()) is EhrEncoder


def test_a_course_has_the_columns_of_a_summary_and_more(encoder, ward):
    plain = EhrEncoder()
    plain.fit(ward, np.zeros(30, dtype=bool))
    assert set(plain.feature_names) < set(encoder.feature_names)
    assert "heart rate mean_12_24h" in encoder.feature_names
    assert {name.rpartition(" ")[2] for name in encoder.feature_names if name.startswith("lactate")} <= {*STATISTICS}


def test_a_column_is_the_normal_score_of_its_ranks(encoder, ward):
    observed = np.array([payload.facts["age_years"] for payload in ward])
    expected = norm.ppf((rankdata(observed) - 0.5) / 30)
    np.testing.assert_allclose(column(encoder, ward, "age_years"), expected, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(-20, 20)), min_size=2, max_size=300).filter(any))
def test_scores_keep_the_order_and_leave_out_what_is_missing(numbers):
    values = np.array([[np.nan if number is None else number] for number in numbers], dtype=float)
    scores = NormalScores.fit(values).apply(values)[:, 0].astype(float)
    known = ~np.isnan(values[:, 0])
    np.testing.assert_array_equal(np.isnan(scores), ~known)
    order = np.argsort(values[known, 0], kind="stable")
    ordered, sorted_scores = values[known, 0][order], scores[known][order]
    assert (np.diff(sorted_scores) >= 0).all()
    assert (np.diff(sorted_scores)[np.diff(ordered) == 0] == 0).all()
    assert np.abs(scores[known]).max() <= norm.ppf(0.995) + 1e-6


def test_one_wild_value_moves_no_other_score(record, read):
    def ages(last):
        encoder = CourseEncoder()
        encoder.fit(read(*[record([], {"age_years": float(n)}) for n in [*range(20), last]]), np.zeros(21, dtype=bool))
        return column(encoder, read(record([], {"age_years": 7.0})), "age_years")

    np.testing.assert_allclose(ages(1e9), ages(25.0))


def test_what_is_missing_stays_missing(encoder, ward):
    assert np.isnan(column(encoder, ward, "lactate mean_0_12h")[::2]).all()
    assert encoder.encode([None, ward[0]]).present.tolist() == [False, True]


def test_sums_and_spreads_of_another_unit_are_converted(record, read):
    rows = [(40.0, "temp", 36.0), (20.0, "temp", 37.5), (9.0, "temp", 38.0), (2.0, "temp", 39.0)]
    fahrenheit = [(hours, code, value * 1.8 + 32) for hours, code, value in rows]
    rng = np.random.default_rng(0)
    others = [
        [(float(h), "temp", float(rng.normal(37, 1))) for h in rng.uniform(0, 48, rng.integers(3, 8))]
        for _ in range(20)
    ]
    encoder = CourseEncoder()
    encoder.fit(read(*[record(each, units={"temp": "Cel"}) for each in others]), np.zeros(20, dtype=bool))
    nothing = Attribution(np.zeros(len(encoder.feature_names)), 0.0)
    same, other = read(record(rows, units={"temp": "Cel"})), read(record(fahrenheit, units={"temp": "[degF]"}))
    shown = [{line.feature: line.value for line in encoder.explain(each[0], nothing)} for each in (same, other)]
    assert shown[0]["temp sum_24h"] == pytest.approx(37.5 + 38 + 39)
    assert shown[0]["temp spread"] == pytest.approx(np.std([36, 37.5, 38, 39]))
    for name, value in shown[0].items():
        assert shown[1][name] == (None if value is None else pytest.approx(value, abs=1e-9)), name


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 29), st.integers(0, 2**32 - 1))
def test_an_explanation_adds_up_and_shows_what_was_observed(encoder, ward, place, seed):
    shares = np.random.default_rng(seed).normal(size=len(encoder.feature_names))
    lines = encoder.explain(ward[place], Attribution(shares, 0.25))
    assert math.fsum(line.share for line in lines) == pytest.approx(shares.sum() + 0.25, abs=1e-9)
    by_name = {line.feature: line for line in lines}
    assert len(by_name) == len(lines)
    assert by_name["age_years"].value == 40.0 + place
    assert by_name["heart rate tenth"].value in ward[place].values


def test_it_comes_back_from_disk_as_it_was(ehr, encoder, ward, tmp_path):
    save_state(tmp_path, "ehr", encoder.state())
    restored = ehr.restore(load_state(tmp_path, "ehr"))
    assert type(restored) is CourseEncoder
    assert restored.feature_names == encoder.feature_names
    np.testing.assert_array_equal(restored.encode(ward).values, encoder.encode(ward).values)


def test_an_unfitted_one_comes_back_from_disk_too(ehr, ward, tmp_path):
    save_state(tmp_path, "ehr", CourseEncoder().state())
    assert ehr.restore(load_state(tmp_path, "ehr")).encode(ward).values.shape == (30, 0)


class Wards(EhrModality):
    """Takes few records for many, so that a test need not make a thousand."""

    def encoders(self, records):
        return super().encoders(10 * records)


@pytest.fixture(scope="module")
def earlier(record, read):
    """Return patients of whom those fall ill whose values were low half a day before the last ones."""
    rng = np.random.default_rng(1)
    records, events = [], []
    for n in range(500):
        hours, values = np.append(rng.uniform(0, 36, 11), 18.0), rng.normal(size=12)
        events.append(bool(values[(hours >= 12) & (hours < 24)].mean() + rng.normal(scale=0.2) < -0.2))
        rows = [(float(h), "value", float(v)) for h, v in zip(hours, values, strict=True)]
        records.append(record(rows, subject=f"P{n}"))
    who, ill = np.array([each.subject_id for each in records]), np.array(events)
    return read(*records), Patients(who, ill, patient_folds(who.tolist(), ill, 2, 0))


def test_courses_are_chosen_where_half_a_day_ago_is_what_matters_and_the_ledger_adds_up(earlier):
    payloads, patients = earlier
    model = crossfit(Wards(ModalityOptions()), payloads, patients, 0.0, 0, lambda done: None)
    assert model is not None
    evidence = model.block(payloads, embed=False).left_out(patients.folds)
    assert roc_auc_score(patients.events, evidence) > 0.9
    assert all("value mean_12_24h" in member.embed([]).feature_names for member in model.members)
    mixture = np.full(2, 0.5)
    for payload in payloads[:3]:
        lines = model.attribute(payload, mixture, Pull(np.ones(2)), 0.0)
        expected = model.member_evidence([payload])[:, 0].mean()
        assert math.fsum(line.share for line in lines) == pytest.approx(expected, abs=1e-5)
        assert len({line.feature for line in lines}) == len(lines)
