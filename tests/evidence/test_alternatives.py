"""Several encoders of one modality: which are chosen, where that is decided, and that their ledger adds up."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.special import expit

from medfusion.core.folds import Patients, patient_folds
from medfusion.core.protocols import Alternatives
from medfusion.core.state import load_state, save_state
from medfusion.core.types import Attribution, Embedding, FeatureShare, Pull
from medfusion.evidence import EvidenceModel, crossfit
from medfusion.evidence.stack import Stack

BASE = 0.0
ALL = np.full(5, 0.2)


@dataclass(frozen=True)
class Slip:
    """A payload of named numbers."""

    numbers: dict[str, float]


class Column:
    """Encodes some of the numbers of a slip; stored sparse, if wanted."""

    heads = ("linear",)

    def __init__(self, names: tuple[str, ...], is_sparse: bool = False) -> None:
        self.names, self.is_sparse = names, is_sparse

    def fit(self, payloads: Any, events: Any) -> None:
        pass

    def encode(self, payloads: Any) -> Embedding:
        present = np.array([payload is not None and self.names[0] in payload.numbers for payload in payloads], bool)
        values = np.full((len(payloads), len(self.names)), 0.0 if self.is_sparse else np.nan, dtype=np.float32)
        for row in np.flatnonzero(present).tolist():
            values[row] = [payloads[row].numbers[name] for name in self.names]
        return Embedding(sparse.csr_array(values) if self.is_sparse else values, present, list(self.names))

    def explain(self, payload: Slip, attribution: Attribution) -> list[FeatureShare]:
        lines = zip(self.names, attribution.shares.tolist(), strict=True)
        named = [FeatureShare(name, payload.numbers.get(name), share) for name, share in lines]
        return [*named, FeatureShare("average", None, attribution.constant)]

    def state(self) -> Any:
        return {"names": list(self.names), "sparse": self.is_sparse}


class Slips:
    """A modality whose encoders are given."""

    name = "slips"

    def __init__(self, *kinds: Column) -> None:
        self.kinds, self.asked = kinds, []

    def encoder(self) -> Column:
        return self.kinds[0]

    def encoders(self, records: int) -> list[Column]:
        self.asked.append(records)
        return [Column(kind.names, kind.is_sparse) for kind in self.kinds]

    def restore(self, state: Any) -> Column:
        return Column(tuple(state["names"]), state["sparse"])


SIGNAL, OTHER, NOISE, WORDS = Column(("signal",)), Column(("other",)), Column(("noise",)), Column(("words",), True)


def cohort(n=400, seed=0):
    """Patients with two independent signals, of which the second is also there as words, and noise."""
    rng = np.random.default_rng(seed)
    signal, other, noise = rng.normal(size=(3, n))
    events = rng.random(n) < expit(1.5 * signal + 1.5 * other)
    subject_ids = np.array([f"P{number}" for number in range(n)])
    columns = {"signal": signal, "other": other, "noise": noise, "words": other}
    payloads = [Slip({name: float(column[row]) for name, column in columns.items()}) for row in range(n)]
    return payloads, Patients(subject_ids, events, patient_folds(subject_ids.tolist(), events, 5, seed))


@pytest.fixture(scope="module")
def data():
    return cohort()


def fitted(data, *kinds):
    model = crossfit(Slips(*kinds), *data, BASE, 0, lambda done: None)
    assert model is not None
    return model


def used(member):
    """Return the names of the columns that a member reads."""
    return list(member.embed([]).feature_names)


def test_a_modality_with_encoders_offers_alternatives_and_is_asked_with_the_number_of_training_records(data):
    modality = Slips(SIGNAL, NOISE)
    assert isinstance(modality, Alternatives)
    crossfit(modality, *data, BASE, 0, lambda done: None)
    assert modality.asked == [320] * 5


def test_an_encoder_that_says_nothing_is_not_chosen(data):
    for order in ((SIGNAL, NOISE), (NOISE, SIGNAL)):
        assert [used(member) for member in fitted(data, *order).members] == [["signal"]] * 5


def test_two_encoders_that_each_know_something_are_both_taken(data):
    assert [used(member) for member in fitted(data, SIGNAL, OTHER).members] == [["signal", "other"]] * 5


def test_one_that_knows_what_both_know_wins_over_either(data):
    knowing = Column(("signal", "other"))
    assert [used(member) for member in fitted(data, NOISE, OTHER, knowing).members] == [["signal", "other"]] * 5


def test_a_member_that_takes_one_encoder_is_as_if_it_were_the_only_one_but_for_its_calibration(data):
    payloads, _ = data
    for alone, chosen in zip(fitted(data, SIGNAL).members, fitted(data, SIGNAL, NOISE).members, strict=True):
        (part,) = chosen.head.parts
        np.testing.assert_allclose(chosen.raw(payloads), part.platt.apply(alone.raw(payloads)), atol=1e-12)


def test_the_choice_is_made_without_the_outcomes_of_the_fold_that_is_left_out(data):
    payloads, patients = data
    turned = np.where(patients.folds == 2, ~patients.events, patients.events)
    other = fitted((payloads, Patients(patients.subject_ids, turned, patients.folds)), SIGNAL, OTHER, NOISE)
    before, after = fitted(data, SIGNAL, OTHER, NOISE).members[2], other.members[2]
    np.testing.assert_array_equal(after.raw(payloads), before.raw(payloads))


def test_a_payload_is_there_if_one_encoder_has_something_to_say(data):
    model = fitted(data, SIGNAL, OTHER)
    half = Slip({"signal": 2.0})
    evidence = model.member_evidence([half, Slip({"noise": 1.0}), None])
    assert np.isfinite(evidence[:, 0]).all()
    assert np.isnan(evidence[:, 1:]).all()
    lines = {line.feature: line for line in model.attribute(half, ALL, Pull(np.ones(5)), 0.0)}
    assert math.fsum(line.share for line in lines.values()) == pytest.approx(evidence[:, 0].mean(), abs=1e-9)
    assert lines["other"].value is None


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 399), st.floats(-3, 3))
@pytest.mark.parametrize("kinds", [(SIGNAL, OTHER), (SIGNAL, WORDS)], ids=["dense", "dense and sparse"])
def test_the_lines_of_several_encoders_sum_to_the_evidence(data, kinds, row, slope):
    model, payload = _model(data, kinds), data[0][row]
    expected = slope * model.member_evidence([payload])[:, 0].mean()
    lines = model.attribute(payload, ALL, Pull(np.full(5, slope)), 0.0)
    assert math.fsum(line.share for line in lines) == pytest.approx(expected, abs=1e-6)
    assert {line.feature for line in lines} == {*kinds[0].names, *kinds[1].names, "average"}


_MODELS: dict[Any, EvidenceModel] = {}


def _model(data, kinds):
    if kinds not in _MODELS:
        _MODELS[kinds] = fitted(data, *kinds)
    return _MODELS[kinds]


def test_words_beside_a_dense_embedding_say_what_the_same_numbers_say_when_dense(data):
    payloads, _ = data
    words = fitted(data, SIGNAL, WORDS)
    assert [used(member) for member in words.members] == [["signal", "words"]] * 5
    assert all(sparse.issparse(member.embed(payloads[:3]).values) for member in words.members)
    dense = fitted(data, SIGNAL, Column(("words",)))
    np.testing.assert_allclose(words.member_evidence(payloads), dense.member_evidence(payloads), atol=0.2)


def test_members_of_several_encoders_come_back_from_disk_as_they_were(data, tmp_path):
    payloads, _ = data
    for kinds in ((SIGNAL, OTHER), (SIGNAL, WORDS)):
        model = _model(data, kinds)
        save_state(tmp_path, "evidence", model.state())
        again = EvidenceModel.restore(Slips(*kinds), load_state(tmp_path, "evidence"))
        np.testing.assert_array_equal(again.member_evidence(payloads), model.member_evidence(payloads))
        pull = Pull(np.ones(5))
        assert again.attribute(payloads[0], ALL, pull, 0.0) == model.attribute(payloads[0], ALL, pull, 0.0)


def test_each_encoder_gets_the_slope_of_its_own_columns_and_none_where_its_head_has_none():
    seen = []

    class Curious(Column):
        def explain(self, payload, attribution):
            seen.append(attribution)
            return super().explain(payload, attribution)

    stack = Stack([Curious(("a", "b")), Curious(("c",))])
    about = Attribution(np.array([1.0, 2.0, 4.0]), 0.5, np.array([3.0, 5.0, np.nan]), np.array([0.1, 0.2, 0.0]))
    lines = {line.feature: line.share for line in stack.explain(Slip({}), about)}
    assert lines == {"a": 1.0, "b": 2.0, "c": 4.0, "average": 0.5}
    assert seen[0].slope is not None
    assert (seen[0].slope.tolist(), seen[0].constant) == ([3.0, 5.0], 0.5)
    assert (seen[1].slope, seen[1].reference, seen[1].constant) == (None, None, 0.0)


def test_lines_of_one_name_become_one():
    stack = Stack([Column(("a",)), Column(("a",))])
    lines = stack.explain(Slip({"a": 7.0}), Attribution(np.array([1.0, 2.0]), 0.5))
    assert lines == [FeatureShare("a", 7.0, 3.0), FeatureShare("average", None, 0.5)]
