"""The ledger's invariants, on a trained model with images, values and notes, for whatever is there of a patient."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from medfusion.evidence import EvidenceModel
from medfusion.fusion import LateFusion
from medfusion.fusion.weights import Weights
from medfusion.pipeline import RiskModel

NAMES = ("ehr", "imaging", "notes")
SUBSETS = st.sets(st.sampled_from(NAMES))
SEEN = st.booleans()
examples = settings(max_examples=25, deadline=None)


class Pool:
    """Payloads of real samples, of which tests take some and blank some."""

    def __init__(self, opened):
        samples = opened.cohort.samples
        self.model = opened.model
        self.subjects = [sample.subject_id for sample in samples]
        _, self.payloads = opened.predict(samples, lambda stage, total: lambda done: None)

    def chosen(self, rows, blanked=(), seen=True):
        """Return subjects and payloads of some rows; patients whom the model has not seen have other names."""
        blank = dict(zip(rows, blanked, strict=False))
        payloads = {
            name: [None if name in blank.get(row, ()) else each[row] for row in rows]
            for name, each in self.payloads.items()
        }
        return [self.subjects[row] if seen else f"new-{row}" for row in rows], payloads


@pytest.fixture(scope="module")
def pool(opened):
    return Pool(opened)


@st.composite
def choices(draw):
    """Draw rows of the pool, and what is blanked in each."""
    rows = draw(st.lists(st.integers(0, 79), min_size=1, max_size=5, unique=True))
    return rows, [draw(SUBSETS) for _ in rows]


def assert_adds_up(ledger, prediction, row):
    assert ledger.base + math.fsum(ledger.by_modality.values()) == pytest.approx(ledger.logit, abs=1e-6)
    for name, lines in ledger.by_feature.items():
        assert math.fsum(line.share for line in lines) == pytest.approx(ledger.by_modality[name], abs=1e-6)
    assert ledger.logit == pytest.approx(prediction.logit[row], abs=1e-12)
    assert ledger.risk == pytest.approx(expit(prediction.logit[row]), abs=1e-9)


def test_every_sample_of_a_cohort_has_a_ledger_that_sums_to_its_logit(pool):
    rows = range(0, len(pool.subjects), 2)
    subjects, payloads = pool.chosen(rows)
    predictions = pool.model.predict(subjects, payloads)
    for row in range(len(rows)):
        assert_adds_up(pool.model.explain(predictions, row, payloads, []), predictions, row)


@examples
@given(choices(), SEEN)
def test_whatever_is_blanked_there_is_a_prediction_and_its_ledger_adds_up(pool, choice, seen):
    rows, blanked = choice
    subjects, payloads = pool.chosen(rows[:2], blanked, seen)
    predictions = pool.model.predict(subjects, payloads)
    assert np.isfinite(predictions.logit).all()
    assert np.isfinite(predictions.interval).all()
    for row in range(len(subjects)):
        ledger = pool.model.explain(predictions, row, payloads, [])
        assert_adds_up(ledger, predictions, row)
        absent = {name for name in NAMES if payloads[name][row] is None}
        assert {name for name in NAMES if ledger.by_modality[name] == 0.0} >= absent
        assert set(ledger.by_feature) == set(NAMES) - absent


@examples
@given(choices(), SEEN)
def test_an_absent_modality_has_a_share_of_exactly_nothing_and_moves_no_other(pool, choice, seen):
    rows, blanked = choice
    whole = pool.model.predict(*pool.chosen(rows, seen=seen))
    blank = pool.model.predict(*pool.chosen(rows, blanked, seen))
    for row, gone in enumerate(blanked):
        for column, name in enumerate(pool.model.evidence):
            if name in gone:
                assert blank.shares[row, column] == 0.0
                assert not blank.present[row, column]
            else:
                assert blank.shares[row, column] == pytest.approx(whole.shares[row, column], abs=1e-6)


@examples
@given(choices(), SEEN, st.randoms())
def test_the_order_of_subjects_changes_nothing(pool, choice, seen, random):
    rows, blanked = choice
    order = list(range(len(rows)))
    random.shuffle(order)
    before = pool.model.predict(*pool.chosen(rows, blanked, seen))
    after = pool.model.predict(*pool.chosen([rows[i] for i in order], [blanked[i] for i in order], seen))
    np.testing.assert_allclose(after.logit, before.logit[order], atol=1e-6)
    np.testing.assert_allclose(after.shares, before.shares[order], atol=1e-6)
    np.testing.assert_allclose(after.interval, before.interval[order], atol=1e-6)
    np.testing.assert_array_equal(after.present, before.present[order])


@examples
@given(choices(), SEEN)
def test_who_else_is_asked_about_changes_nothing(pool, choice, seen):
    rows, blanked = choice
    together = pool.model.predict(*pool.chosen(rows, blanked, seen))
    alone = pool.model.predict(*pool.chosen(rows[:1], blanked[:1], seen))
    assert alone.logit[0] == pytest.approx(together.logit[0], abs=1e-6)


@examples
@given(choices(), SEEN)
def test_a_modality_that_nobody_has_changes_nothing(pool, choice, seen):
    model, (rows, blanked) = pool.model, choice
    subjects, payloads = pool.chosen(rows, blanked, seen)
    known = model.fusion.fitted
    fusion = LateFusion(Weights(known.base, np.append(known.weights, 1.0), np.pad(known.covariance, (0, 1))))
    notes = model.evidence["notes"]
    again = EvidenceModel(notes.modality, notes.members, notes.platt, notes.base)
    wider = RiskModel(
        model.task, model.positive, {**model.evidence, "letters": again}, fusion, model.roster, model.card
    )
    before = model.predict(subjects, payloads)
    more = {**payloads, "letters": [None] * len(rows)}
    after = wider.predict(subjects, more)
    np.testing.assert_allclose(after.logit, before.logit, atol=1e-12)
    np.testing.assert_allclose(after.interval, before.interval, atol=1e-12)
    assert (after.shares[:, 3] == 0.0).all()
    assert wider.explain(after, 0, more, []).by_modality["letters"] == 0.0


@examples
@given(choices())
def test_without_data_there_is_the_base_rate_and_how_well_it_is_known(pool, choice):
    rows, _ = choice
    nothing = pool.model.predict(*pool.chosen(rows, [set(NAMES)] * len(rows), seen=False))
    np.testing.assert_allclose(nothing.logit, pool.model.fusion.base, atol=1e-12)
    width = np.diff(np.log(nothing.interval / (1 - nothing.interval)), axis=1)[:, 0]
    np.testing.assert_allclose(width, 2 * 1.96 * math.sqrt(pool.model.fusion.fitted.covariance[0, 0]), atol=1e-9)
