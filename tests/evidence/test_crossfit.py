"""Cross-fitting, watched by an encoder that writes down whom it was fitted with."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logit

from medfusion.core.folds import Patients, patient_folds
from medfusion.core.state import load_state, save_state
from medfusion.core.types import Embedding, FeatureShare, Pull
from medfusion.evidence import EvidenceModel, crossfit

BASE = -0.4


@dataclass(frozen=True)
class Letter:
    """A payload that says whose it is."""

    subject_id: str
    values: tuple[float, ...]


class DiaryEncoder:
    """Centres values by the mean of those that it was fitted with, and notes who they were."""

    heads = ("linear",)

    def __init__(self, centre: Any = None) -> None:
        self.centre = centre
        self.fitted_with: list[str] = []

    def fit(self, payloads, events):
        self.fitted_with = [payload.subject_id for payload in payloads]
        self.centre = np.mean([payload.values for payload in payloads], axis=0)

    def encode(self, payloads):
        nothing = np.full(len(self.centre), np.nan)
        values = [nothing if payload is None else np.array(payload.values) - self.centre for payload in payloads]
        present = np.array([payload is not None for payload in payloads], dtype=bool)
        return Embedding(np.array(values).reshape(len(payloads), -1), present, ["first", "second"])

    def explain(self, payload, attribution):
        lines = zip(["first", "second"], payload.values, attribution.shares.tolist(), strict=True)
        return [FeatureShare(*line) for line in lines] + [FeatureShare("average", None, attribution.constant)]

    def state(self):
        return {"centre": self.centre}


class Diary:
    name = "diary"

    def encoder(self):
        return DiaryEncoder()

    def restore(self, state):
        return DiaryEncoder(state["centre"])


def cohort(patients=90, seed=0, absent=0.2):
    """Patients with one to three rows each, of which some have no payload."""
    rng = np.random.default_rng(seed)
    subject_ids = np.repeat([f"P{number}" for number in range(patients)], rng.integers(1, 4, patients))
    values = rng.normal(size=(len(subject_ids), 2))
    events = rng.random(len(subject_ids)) < expit(1.5 * values[:, 0] - 0.4)
    letters = [Letter(who, tuple(row)) for who, row in zip(subject_ids, values.tolist(), strict=True)]
    payloads = [
        None if gone else letter for gone, letter in zip(rng.random(len(letters)) < absent, letters, strict=True)
    ]
    return payloads, Patients(subject_ids, events, patient_folds(subject_ids.tolist(), events, 5, seed))


@pytest.fixture(scope="module")
def data():
    return cohort()


@pytest.fixture(scope="module")
def fitted(data):
    counted = []
    found = crossfit(Diary(), *data, BASE, 0, counted.append)
    assert counted == [1] * 5
    return found


def left_out(model, data):
    """Return the evidence of rows from the member that has not seen them."""
    payloads, patients = data
    return model.block(payloads, embed=False).left_out(patients.folds)


def test_no_member_has_seen_a_patient_of_its_fold_and_each_has_seen_all_others(data, fitted):
    payloads, patients = data
    here = np.array([payload is not None for payload in payloads])
    for fold, member in enumerate(fitted.members):
        assert set(member.encoder.fitted_with) == set(patients.subject_ids[here & (patients.folds != fold)])
        assert not set(member.encoder.fitted_with) & set(patients.subject_ids[patients.folds == fold])


def test_rows_of_a_patient_never_straddle_folds(data):
    _, patients = data
    for who in set(patients.subject_ids):
        assert len(set(patients.folds[patients.subject_ids == who])) == 1


def test_the_evidence_of_a_row_comes_from_the_member_that_has_not_seen_the_patient(data, fitted):
    payloads, patients = data
    evidence, by_member = left_out(fitted, data), fitted.member_evidence(payloads)
    for row, fold in enumerate(patients.folds):
        np.testing.assert_array_equal(evidence[row], by_member[fold, row])
    assert np.abs(by_member.std(axis=0))[~np.isnan(evidence)].min() > 0


def test_absent_rows_have_no_evidence_and_all_others_have(data, fitted):
    payloads, _ = data
    np.testing.assert_array_equal(np.isnan(left_out(fitted, data)), [payload is None for payload in payloads])


def test_evidence_is_relative_to_the_base_rate_and_calibrated_on_patients_not_seen(data, fitted):
    patients, evidence = data[1], left_out(fitted, data)
    here = ~np.isnan(evidence)
    risk = expit(BASE + evidence[here])
    assert np.average(risk, weights=patients.weights[here]) == pytest.approx(
        np.average(patients.events[here], weights=patients.weights[here]), abs=0.01
    )


def test_a_row_weighs_one_over_the_root_of_the_number_of_rows_of_its_patient():
    patients = Patients(np.array(["a", "b", "b", "b", "b"]), np.zeros(5, dtype=bool), np.zeros(5, dtype=int))
    assert patients.weights.tolist() == [1.0, 0.5, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    "kept", [{}, {True: 1, False: 40}, {True: 40, False: 1}], ids=["nobody", "one with the event", "one without"]
)
def test_a_modality_that_too_few_patients_have_gives_none(data, kept):
    payloads, patients = data
    left = dict(kept)

    def keep(payload, event):
        if payload is None or left.get(event, 0) == 0:
            return None
        left[event] -= 1
        return payload

    thinned = [keep(payload, bool(event)) for payload, event in zip(payloads, patients.events, strict=True)]
    assert crossfit(Diary(), thinned, patients, BASE, 0, lambda done: None) is None


def test_an_encoder_that_finds_no_feature_gives_none(data):
    class Blind(DiaryEncoder):
        def encode(self, payloads):
            return Embedding(np.empty((len(payloads), 0)), np.ones(len(payloads), dtype=bool), [])

    class Blindness(Diary):
        def encoder(self):
            return Blind()

    payloads, patients = data
    assert crossfit(Blindness(), payloads, patients, BASE, 0, lambda done: None) is None


@pytest.mark.parametrize("mixture", [np.full(5, 0.2), np.eye(5)[3]], ids=["all members", "one member"])
def test_the_lines_of_a_payload_sum_to_its_scaled_evidence(data, fitted, mixture):
    payloads, _ = data
    payload = next(payload for payload in payloads if payload is not None)
    model = fitted
    pull = Pull(np.full(5, 0.7))
    expected = 0.7 * mixture @ model.member_evidence([payload])[:, 0]
    assert pull.own(model.block([payload], embed=False), mixture) == pytest.approx(expected, abs=1e-12)
    lines = model.attribute(payload, mixture, pull, 0.0)
    assert sum(line.share for line in lines) == pytest.approx(expected, abs=1e-9)
    assert {line.feature: line.value for line in lines}["first"] == payload.values[0]
    assert [abs(line.share) for line in lines] == sorted((abs(line.share) for line in lines), reverse=True)


def test_evidence_that_is_read_back_is_exactly_the_same(tmp_path, data, fitted):
    payloads, _ = data
    save_state(tmp_path, "evidence", fitted.state())
    again = EvidenceModel.restore(Diary(), load_state(tmp_path, "evidence"))
    np.testing.assert_array_equal(again.member_evidence(payloads), fitted.member_evidence(payloads))
    assert again.base == BASE


def test_evidence_without_a_signal_says_little(data):
    payloads, patients = data
    shuffled = np.random.default_rng(3).permutation(patients.events)
    chance = Patients(patients.subject_ids, shuffled, patient_folds(patients.subject_ids.tolist(), shuffled, 5, 0))
    base = float(logit(np.average(shuffled, weights=chance.weights)))
    model = crossfit(Diary(), payloads, chance, base, 0, lambda done: None)
    assert np.nanmax(np.abs(model.block(payloads, embed=False).left_out(chance.folds))) < 0.7
