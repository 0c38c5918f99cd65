"""Folds by patient."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfusion.core.errors import DataError
from medfusion.core.folds import patient_folds


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 15), st.booleans()), min_size=4, max_size=60),
    k=st.integers(2, 4),
    seed=st.integers(0, 1000),
)
def test_no_patient_is_in_two_folds_and_every_training_part_has_both_outcomes(rows, k, seed):
    patients = [f"P{patient}" for patient, _ in rows]
    events = np.array([event for _, event in rows])
    having = {patient for patient, event in rows if event}
    lacking = {patient for patient, event in rows if not event}
    try:
        folds = patient_folds(patients, events, k, seed)
    except DataError:
        # Refused only where patients of one kind alone could not fill the folds.
        assert min(len(having - lacking), len(lacking - having)) < k
        return
    assert min(len(having), len(lacking)) >= k
    assert len({(patient, fold) for patient, fold in zip(patients, folds, strict=True)}) == len(set(patients))
    assert set(folds) == set(range(k))
    for fold in range(k):
        assert set(events[folds != fold]) == {True, False}


def test_folds_have_similar_rates_and_the_same_seed_gives_the_same_folds():
    generator = np.random.default_rng(0)
    patients = [f"P{patient}" for patient in generator.integers(0, 200, 500)]
    risky = {f"P{patient}" for patient in range(40)}
    events = np.array([patient in risky for patient in patients])
    folds = patient_folds(patients, events, 5, seed=3)
    assert np.array_equal(folds, patient_folds(patients, events, 5, seed=3))
    assert not np.array_equal(folds, patient_folds(patients, events, 5, seed=4))
    rates = [events[folds == fold].mean() for fold in range(5)]
    assert max(rates) - min(rates) < 0.05


@pytest.mark.parametrize(
    ("events", "remedy"), [([True] * 4, "label more"), ([True, True, False, False], "fewer folds")]
)
def test_too_few_patients_of_a_kind_are_counted_and_a_remedy_is_named(events, remedy):
    with pytest.raises(DataError, match=remedy) as caught:
        patient_folds(["a", "b", "c", "d"], np.array(events), 3, seed=0)
    assert f"{sum(events)} patients with the event" in str(caught.value)


def test_rows_of_one_patient_do_not_count_as_patients():
    with pytest.raises(DataError, match="1 patients with the event"):
        patient_folds(["a"] * 9 + ["b", "c"], np.array([True] * 9 + [False] * 2), 2, seed=0)


def test_one_fold_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="at least 2"):
        patient_folds(["a", "b"], np.array([True, False]), 1, seed=0)
