"""The leakage audit: finds what was planted, says nothing about chance, and counts patients, not samples."""

from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats
from sklearn.metrics import roc_auc_score

from medfusion.cohort import audit_leakage
from medfusion.cohort.association import count_association, rank_association
from medfusion.core.types import Embedding, Sample

N = 200
START = datetime(2020, 1, 1)


@pytest.fixture
def generator():
    return np.random.default_rng(0)


@pytest.fixture
def samples(generator):
    """One sample of each of 200 patients, 30 % with the event."""
    return [Sample(f"P{place:03d}", START, bool(event)) for place, event in enumerate(generator.random(N) < 0.3)]


def events_of(samples):
    return np.array([bool(sample.event) for sample in samples])


def dense(values, names=None):
    values = np.asarray(values, dtype=np.float32)
    present = ~np.isnan(values).all(axis=1)
    return Embedding(values, present, names or [f"lab {column}" for column in range(values.shape[1])])


def words(values, names=None):
    values = sparse.csr_array(np.asarray(values, dtype=np.float32))
    return Embedding(values, np.ones(values.shape[0], bool), names or [f"word:w{c}" for c in range(values.shape[1])])


def audit(samples, blocks, label_words=(), fingerprints=None, coefficients=None):
    return audit_leakage(samples, blocks, fingerprints or {}, label_words, coefficients)


def kinds(leaks):
    return [(leak.kind, leak.feature) for leak in leaks]


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(st.sampled_from([0.0, 1.0, 2.0, 3.5, np.nan]), st.booleans()), min_size=2, max_size=40))
def test_rank_association_is_what_scikit_learn_and_scipy_compute(rows):
    values = np.array([value for value, _ in rows])
    events = np.array([event for _, event in rows])
    auroc, p = rank_association(values[:, None], events)
    there = ~np.isnan(values)
    one, other = values[there & events], values[there & ~events]
    if not len(one) or not len(other) or len(set(values[there])) == 1:
        assert (auroc[0], p[0]) == (0.5, 1.0)
        return
    assert auroc[0] == pytest.approx(roc_auc_score(events[there], values[there]))
    assert p[0] == pytest.approx(stats.mannwhitneyu(one, other, method="asymptotic").pvalue)


def test_rank_association_of_a_sparse_array_is_that_of_the_dense_one(generator):
    values = generator.random((60, 700)) * (generator.random((60, 700)) < 0.1)
    events = generator.random(60) < 0.4
    of_dense, of_sparse = (rank_association(form, events) for form in (values, sparse.csc_array(values)))
    np.testing.assert_array_equal(of_dense.auroc, of_sparse.auroc)
    np.testing.assert_array_equal(of_dense.p, of_sparse.p)


@given(n_with=st.integers(1, 20), n_without=st.integers(1, 20), data=st.data())
def test_count_association_is_the_auroc_and_twice_the_smaller_tail_of_fishers_test(n_with, n_without, data):
    a, b = data.draw(st.integers(0, n_with)), data.draw(st.integers(0, n_without))
    auroc, p = count_association(np.array([a]), np.array([a + b]), n_with, n_with + n_without)
    outcome = [1] * n_with + [0] * n_without
    marked = [1] * a + [0] * (n_with - a) + [1] * b + [0] * (n_without - b)
    assert auroc[0] == pytest.approx(roc_auc_score(outcome, marked))
    cells = [[a, b], [n_with - a, n_without - b]]
    tails = [stats.fisher_exact(cells, alternative=side).pvalue for side in ("less", "greater")]
    assert p[0] == pytest.approx(min(2 * min(tails), 1.0))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_chance_is_no_leak(seed):
    generator = np.random.default_rng(seed)
    samples = [Sample(f"P{place}", START, bool(event)) for place, event in enumerate(generator.random(60) < 0.3)]
    values = generator.normal(size=(60, 40))
    values[generator.random((60, 40)) < 0.3] = np.nan
    blocks = {"ehr": dense(values), "notes": words(generator.random((60, 80)) < 0.15)}
    # By construction one audit in fifty or so may find something by chance; these seeds are drawn anew each time.
    assert len(audit(samples, blocks)) <= 1


@pytest.mark.parametrize("sign", [1, -1])
def test_a_feature_that_almost_determines_the_outcome_is_found_in_either_direction(generator, samples, sign):
    values = generator.normal(size=(N, 30))
    values[:, 7] = sign * (events_of(samples) + generator.normal(size=N) * 0.2)
    values[:50, 7] = np.nan
    (leak,) = audit(samples, {"ehr": dense(values)})
    assert (leak.kind, leak.modality, leak.feature) == ("single-feature", "ehr", "lab 7")
    there = np.arange(N) >= 50
    assert leak.auroc == pytest.approx(roc_auc_score(events_of(samples)[there], sign * values[there, 7]), abs=1e-6)
    assert leak.n_subjects == 150
    assert leak.detail == ("higher with the event" if sign > 0 else "lower with the event")
    with_event = {sample.subject_id for sample in samples if sample.event}
    assert len(leak.example_subjects) == 3
    assert set(leak.example_subjects) <= with_event


def test_a_perfect_separation_of_very_few_patients_may_be_chance():
    samples = [Sample(f"P{place}", START, place < 3) for place in range(7)]
    values = np.random.default_rng(0).normal(size=(7, 50))
    values[:, 0] = [9, 8, 7, 1, 2, 3, 4]
    assert audit(samples, {"ehr": dense(values)}) == []


def test_many_samples_of_few_patients_do_not_make_a_leak():
    samples = [
        Sample(f"P{patient}", START + timedelta(days=day), patient < 2) for patient in range(4) for day in range(100)
    ]
    values = [[float(sample.event)] for sample in samples]
    assert audit(samples, {"ehr": dense(values)}) == []


def test_only_the_first_labelled_sample_of_a_patient_counts(generator, samples):
    later = [Sample(sample.subject_id, START + timedelta(days=1), sample.event) for sample in samples]
    blind = [Sample(sample.subject_id, START - timedelta(days=1)) for sample in samples]
    noise, telling = generator.normal(size=(N, 1)), events_of(samples)[:, None].astype(float)
    block = dense(np.vstack([telling, noise, telling]))
    assert audit([*later, *samples, *blind], {"ehr": block}) == []
    block = dense(np.vstack([noise, telling, noise]))
    assert kinds(audit([*later, *samples, *blind], {"ehr": block})) == [("single-feature", "lab 0")]


def test_a_word_of_patients_with_one_outcome_only_is_found(generator, samples):
    events = events_of(samples)
    values = (generator.random((N, 60)) < 0.2).astype(float)
    values[:, 3] = events & (generator.random(N) < 0.5)
    values[:, 4] = ~events & (generator.random(N) < 0.05)
    names = [f"word:w{column}" for column in range(59)] + ["char:ven"]
    values[:, 59] = events
    (leak,) = audit(samples, {"notes": words(values, names)})
    count = int(values[:, 3].sum())
    assert (leak.kind, leak.feature, leak.n_subjects) == ("pure-word", "word:w3", count)
    assert leak.auroc == pytest.approx(roc_auc_score(events, values[:, 3]))
    assert leak.detail == f"{count} of {count} with the event"


def test_names_that_say_the_outcome_are_found_as_whole_words(generator, samples):
    names = ["word:icu", "word:difficulty", "word:to icu", "word:intensive care", "word:admitted", "word:ward"]
    blocks = {
        "notes": words(generator.random((N, 6)) < 0.2, names),
        "ehr": dense(generator.normal(size=(N, 2)), ["ICU_stay hours", "heart rate last"]),
    }
    leaks = audit(samples, blocks, ["icu", "Intensive Care", "admit"])
    found = {leak.feature for leak in leaks if leak.kind == "label-word"}
    assert found == {"word:icu", "word:to icu", "word:intensive care", "word:admitted", "ICU_stay hours"}
    assert all(leak.auroc is not None for leak in leaks)


def test_the_same_content_in_different_patients_is_found(samples):
    samples = [Sample(f"P{place:02d}", START, place < 30) for place in range(60)]
    hashes = [[f"own {place}", "template" if place < 20 else ""] for place in range(60)]
    hashes = [[item for item in items if item] for items in hashes]
    hashes[40].append("own 41")
    hashes[50].append("own 3")
    template, *pairs = audit(samples, {}, fingerprints={"notes": hashes})
    assert (template.kind, template.n_subjects, template.example_subjects) == (
        "identical-content",
        20,
        ("P00", "P01", "P02"),
    )
    assert "equal outcomes" in template.detail
    assert template.auroc == pytest.approx(0.5 + 0.5 * 20 / 30)
    details = {leak.example_subjects: leak for leak in pairs}
    assert "equal outcomes" in details["P40", "P41"].detail
    assert "different outcomes" in details["P03", "P50"].detail
    assert all(leak.auroc is None for leak in pairs)


def test_the_same_content_twice_in_one_patient_is_no_leak(samples):
    twice = [*samples, Sample(samples[0].subject_id, START + timedelta(days=1), True)]
    hashes = [[f"own {place}"] for place in range(N)] + [["own 0"]]
    assert audit(twice, {}, fingerprints={"imaging": hashes}) == []


def test_a_modality_that_only_patients_with_the_event_have_is_found(generator, samples):
    values = generator.normal(size=(N, 3))
    values[~events_of(samples) & (generator.random(N) < 0.9)] = np.nan
    (leak,) = audit(samples, {"imaging": dense(values)})
    present = ~np.isnan(values[:, 0])
    assert (leak.kind, leak.feature, leak.n_subjects) == ("missingness", "", int(present.sum()))
    assert leak.auroc == pytest.approx(roc_auc_score(events_of(samples), present))
    assert leak.detail == "present more often with the event"


def test_values_that_are_missing_together_are_one_line(generator, samples):
    values = generator.normal(size=(N, 6))
    values[np.ix_(events_of(samples) & (generator.random(N) < 0.8), [1, 2, 3])] = np.nan
    (leak,) = audit(samples, {"ehr": dense(values)})
    assert (leak.kind, leak.feature) == ("missingness", "lab 1")
    assert leak.detail == "measured more often without the event, as 2 more features"
    assert leak.auroc == pytest.approx(roc_auc_score(events_of(samples), np.isnan(values[:, 1])))


def test_a_coefficient_that_carries_a_linear_head_is_found(generator, samples):
    values = generator.normal(size=(N, 40))
    slopes = np.ones(40)
    slopes[5] = 12.0
    (leak,) = audit(samples, {"imaging": dense(values)}, coefficients={"imaging": slopes})
    assert (leak.kind, leak.feature) == ("dominant-coefficient", "lab 5")
    deviation = values.astype(np.float32).std(axis=0)
    share = 12 * deviation[5] / (deviation.sum() + 11 * deviation[5])
    assert leak.detail.startswith(f"{share:.0%}")


def test_an_even_head_of_few_features_has_no_dominant_one(generator, samples):
    blocks = {"ehr": dense(generator.normal(size=(N, 5)))}
    assert audit(samples, blocks, coefficients={"ehr": np.ones(5)}) == []


def test_a_few_words_that_together_tell_the_outcome_are_found_though_none_is_suspect(generator, samples):
    events = events_of(samples)
    values = (generator.random((N, 100)) < 0.2).astype(float)
    for column in range(5):
        values[:, column] = generator.random(N) < np.where(events, 0.5, 0.1)
    slopes = np.full(100, 0.1)
    slopes[:5] = 1.0
    names = [f"word:w{column}" for column in range(99)] + ["char:ab"]
    slopes[99] = 50.0
    leaks = audit(samples, {"notes": words(values, names)}, coefficients={"notes": slopes})
    assert {leak.feature for leak in leaks} == {f"word:w{column}" for column in range(5)}
    joint = roc_auc_score(events, values[:, :5].sum(axis=1))
    assert joint > 0.8
    assert all(f"together have AUROC {joint:.2f}" in leak.detail for leak in leaks)


def test_many_leaks_of_one_kind_are_ten_lines_of_which_the_last_counts_the_others(generator, samples):
    values = events_of(samples)[:, None] + generator.normal(size=(N, 25)) * 0.1
    leaks = audit(samples, {"ehr": dense(values)})
    assert len(leaks) == 10
    assert leaks[-1].detail.endswith("; 15 more like it")
    assert [leak.auroc for leak in leaks] == sorted((leak.auroc for leak in leaks), reverse=True)


@pytest.mark.parametrize("event", [True, None])
def test_without_two_outcomes_nothing_can_be_told(event):
    samples = [Sample(f"P{place}", START, event) for place in range(9)]
    blocks = {"ehr": dense(np.arange(18.0).reshape(9, 2)), "notes": words(np.eye(9))}
    hashes = {"notes": [["same"]] * 9}
    leaks = audit(samples, blocks, fingerprints=hashes, coefficients={"ehr": np.ones(2), "notes": np.ones(9)})
    assert {leak.kind for leak in leaks} == ({"identical-content"} if event else set())


def test_a_modality_that_nobody_has_is_no_leak(samples):
    nothing = Embedding(np.full((N, 3), np.nan, np.float32), np.zeros(N, bool), ["a", "b", "c"])
    no_words = Embedding(sparse.csr_array((N, 2), dtype=np.float32), np.zeros(N, bool), ["word:a", "word:b"])
    blocks = {"ehr": nothing, "notes": no_words}
    assert audit(samples, blocks, ["icu"], coefficients={"ehr": np.ones(3), "notes": np.ones(2)}) == []


def test_a_leak_is_told_as_a_warning_in_one_line(generator, samples):
    values = events_of(samples)[:, None] + generator.normal(size=(N, 1)) * 0.01
    (leak,) = audit(samples, {"ehr": dense(values)})
    problem = leak.problem()
    assert (problem.code, problem.severity, problem.file, problem.field) == (
        "leak-single-feature", "warning", "ehr", "lab 0",
    )  # fmt: skip
    assert problem.got == "AUROC 1.00, 200 patients"
    assert "higher with the event; check" in problem.line()
    assert "\n" not in problem.line()
