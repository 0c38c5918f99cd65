"""Risk sets: against crepes, by hand, and whether they keep their promise."""

import numpy as np
import pytest
from crepes import ConformalClassifier
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from medfusion.core.errors import UsageError
from medfusion.core.state import load_state, save_state
from medfusion.fusion.conformal import UNDECIDED, UNUSUAL, RiskSets, Sets, enough, least

RISKS = st.floats(0, 1)


def named(n):
    return [f"P{index}" for index in range(n)]


def drawn(n, rng, intercept=0.0):
    """Risks that are right, and what happened."""
    risks = expit(rng.normal(intercept, 1.5, n))
    return risks, rng.random(n) < risks


def strange(risks):
    """How strange risks (n,) are for no event and for the event."""
    return np.column_stack([risks, 1 - risks])


# Against crepes


@pytest.mark.parametrize("decimals", [16, 2], ids=["distinct", "tied"])
def test_p_values_are_those_of_crepes_with_outcome_and_category_as_mondrian_bins(decimals):
    rng = np.random.default_rng(0)
    risks, events = drawn(900, rng)
    risks, new = risks.round(decimals), rng.random(60).round(decimals)
    categories, of_new = rng.choice(["ehr", "ehr + notes"], 900), rng.choice(["ehr", "ehr + notes"], 60)
    sets = RiskSets.fit(risks, events, named(900), categories).predict(new, of_new)
    scores = strange(risks)[np.arange(900), events.astype(int)]
    bins = np.char.add(categories, np.where(events, "|event", "|no event"))
    reference = ConformalClassifier().fit(scores, bins=bins)
    for outcome, name in enumerate(("|no event", "|event")):
        expected = reference.predict_p(strange(new)[:, outcome], bins=np.char.add(of_new, name), smoothing=False)
        np.testing.assert_allclose(sets.p_values[:, outcome], expected, rtol=1e-14)


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_marginal_sets_are_those_of_crepes(coverage):
    rng = np.random.default_rng(1)
    risks, events = drawn(399, rng)
    new = rng.random(300)
    sets = RiskSets.fit(risks, events, named(399), coverage=coverage, by_class=False).predict(new)
    reference = ConformalClassifier().fit(strange(risks)[np.arange(399), events.astype(int)])
    # crepes keeps a label whose p-value is exactly the error that is allowed; both keep the promise.
    expected = reference.predict_set(strange(new), confidence=coverage - 1e-9, smoothing=False)
    np.testing.assert_array_equal(sets.included, expected.astype(bool))


# By hand


def test_a_p_value_is_the_share_of_those_at_least_as_strange_counting_the_sample():
    risks = np.array([0.9, 0.7, 0.6, 0.2, 0.3, 0.1, 0.05])
    sets = RiskSets.fit(risks, np.arange(7) < 4, named(7)).predict(np.array([0.65, 0.2]))
    # With the event: 0.6 and 0.2 are no nearer to it than 0.65; without: none has more than 0.3.
    np.testing.assert_allclose(sets.p_values, [[1 / 4, 3 / 5], [2 / 4, 2 / 5]])
    assert sets.counts.tolist() == [[3, 4], [3, 4]]


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_with_enough_patients_coverage_exceeds_what_is_stated_by_less_than_a_fifth_of_the_error(coverage):
    """Every patient in turn is the new one among n + 1: the coverage itself, without simulation."""
    for n in range(enough(coverage), enough(coverage) + 12):
        risks = np.random.default_rng(n).random(n + 1)
        held = []
        for new in range(n + 1):
            sets = RiskSets.fit(np.delete(risks, new), np.ones(n, bool), named(n), coverage=coverage)
            held.append(bool(sets.predict(risks[[new]]).included[0, 1]))
        assert coverage - 1e-9 <= np.mean(held) < coverage + (1 - coverage) / 5


def test_fewer_patients_than_the_least_rule_nothing_out_and_it_is_said():
    risks, events = np.append(np.full(8, 0.9), np.full(50, 0.1)), np.arange(58) < 8
    sets = RiskSets.fit(risks, events, named(58)).predict(np.array([0.1]))
    assert sets.codes() == [UNDECIDED]
    assert sets.text(0).endswith(
        "; only 8 patients with the event are there to compare with, 9 are needed to rule it out"
    )
    one_more = RiskSets.fit(np.append(risks, 0.9), np.append(events, True), named(59)).predict(np.array([0.1]))
    assert one_more.codes() == [None]


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95, 0.99])
def test_what_is_least_and_enough_does_not_depend_on_rounding(coverage):
    assert (least(coverage), enough(coverage)) == {
        0.8: (4, 24), 0.9: (9, 49), 0.95: (19, 99), 0.99: (99, 499)
    }[coverage]  # fmt: skip


# The promise


def coverages(by_class, intercept, seeds=40, n=2000):
    """Mean coverage over seeds: of all, of those without and of those with the event."""
    held = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        sets = RiskSets.fit(*drawn(n, rng, intercept), named(n), by_class=by_class)
        risks, events = drawn(n, rng, intercept)
        holds = sets.predict(risks).included[np.arange(n), events.astype(int)]
        held.append([holds.mean(), holds[~events].mean(), holds[events].mean()])
    return np.mean(held, axis=0)


def test_marginal_sets_keep_their_promise_and_miss_rare_events():
    everybody, without, having = coverages(by_class=False, intercept=-4.0)
    assert everybody == pytest.approx(0.9, abs=0.01)
    assert without > 0.93
    assert having < 0.4


def test_sets_by_class_keep_their_promise_to_those_with_a_rare_event_too():
    _, without, having = coverages(by_class=True, intercept=-4.0)
    assert without == pytest.approx(0.9, abs=0.01)
    assert having == pytest.approx(0.9, abs=0.02)


def test_a_group_in_which_the_model_is_worse_is_covered_once_it_is_a_category():
    def sample(rng):
        poor = rng.random(3000) < 0.25
        risks, events = drawn(3000, rng)
        return risks, np.where(poor, rng.random(3000) < 0.5, events), np.where(poor, "poor", "good")

    held = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        risks, events, group = sample(rng)
        apart, together = (RiskSets.fit(risks, events, named(3000), each) for each in (group, None))
        risks, events, group = sample(rng)
        here = (np.flatnonzero(group == "poor"), events[group == "poor"].astype(int))
        held.append([apart.predict(risks, group).included[here].mean(), together.predict(risks).included[here].mean()])
    of_its_own, of_all = np.mean(held, axis=0)
    assert of_its_own == pytest.approx(0.9, abs=0.01)
    assert of_all < 0.86


@given(st.lists(RISKS, min_size=1, max_size=30), st.lists(RISKS, min_size=2, max_size=20), st.integers(0, 30))
def test_the_higher_a_risk_the_less_the_event_is_ruled_out_and_the_more_no_event(risks, new, having):
    events = np.arange(len(risks)) < having
    at = np.sort(new)
    p_values = RiskSets.fit(np.array(risks), events, named(len(risks))).predict(at).p_values
    assert (np.diff(p_values[:, 1]) >= 0).all()
    assert (np.diff(p_values[:, 0]) <= 0).all()
    assert ((p_values > 0) & (p_values <= 1)).all()


@settings(max_examples=50)
@given(st.floats(0.5, 0.98), st.floats(0.001, 0.019), st.integers(0, 99))
def test_a_higher_coverage_leaves_no_outcome_out_that_a_lower_one_holds(coverage, more, seed):
    rng = np.random.default_rng(seed)
    risks, events = drawn(60, rng)
    low, high = (
        RiskSets.fit(risks, events, named(60), coverage=each).predict(risks).included
        for each in (coverage, coverage + more)
    )
    assert (high >= low).all()


# Categories and rows of a patient


def test_a_category_with_too_few_patients_is_compared_with_everybody():
    rng = np.random.default_rng(2)
    risks, events = drawn(600, rng)
    categories = np.where(np.arange(600) < 60, "small", "large")
    sets = RiskSets.fit(risks, events, named(600), categories)
    assert [set(each) for each in sets.categories] == [{"large"}, {"large"}]
    found = sets.predict(np.full(4, 0.3), ["small", "unheard of", "large", ""])
    everybody = RiskSets.fit(risks, events, named(600)).predict(np.full(1, 0.3))
    for row in (0, 1, 3):
        np.testing.assert_array_equal(found.p_values[row], everybody.p_values[0])
    assert found.counts[2].sum() == 540


def test_whether_a_category_has_enough_is_asked_of_each_outcome():
    events = np.arange(400) < enough(0.9)
    sets = RiskSets.fit(np.full(400, 0.2), events, named(400), np.where(np.arange(400) < 80, "ehr", "notes"))
    assert [set(each) for each in sets.categories] == [{"notes"}, {"ehr"}]


def test_each_patient_is_compared_with_once_however_many_rows_there_are():
    rng = np.random.default_rng(3)
    risks, events = drawn(200, rng)
    once = RiskSets.fit(risks, events, named(200))
    often = RiskSets.fit(
        np.append(risks, np.full(500, 0.01)), np.append(events, np.full(500, True)), [*named(200), *["P0"] * 500]
    )
    assert len(often.everybody[1]) == len(once.everybody[1]) + int(not events[0])
    copied = RiskSets.fit(np.repeat(risks, 5), np.repeat(events, 5), np.repeat(named(200), 5))
    for mine, expected in zip(copied.everybody, once.everybody, strict=True):
        np.testing.assert_array_equal(mine, expected)


def test_the_row_taken_is_any_of_the_patients_and_the_seed_decides():
    risks, subjects = np.linspace(0.1, 0.9, 40), np.repeat(named(10), 4)
    taken = [RiskSets.fit(risks, np.ones(40, bool), subjects, seed=seed).everybody[1] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(taken[0], taken[1])
    assert (taken[0] != taken[2]).any()
    for scores in taken:
        owners = [subjects[np.isclose(1 - risks, score)][0] for score in scores]
        assert sorted(owners) == sorted(named(10))


def test_coverage_holds_for_patients_with_several_rows():
    """Rows of a patient share a fault of the model, and patients with much wrong have many rows."""

    def sample(rng, patients=600):
        fault = rng.normal(0, 1.5, patients)
        rows = np.where(np.abs(fault) > 1.5, 15, 1)
        subject = np.repeat(np.arange(patients), rows)
        logits = rng.normal(-0.5, 1.5, len(subject))
        return expit(logits), rng.random(len(subject)) < expit(logits + fault[subject]), subject.astype(str)

    held = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        sets = RiskSets.fit(*sample(rng), seed=seed)
        risks, events, subjects = sample(rng)
        # One row with the event of each new patient.
        order = rng.permutation(np.flatnonzero(events))
        _, first = np.unique(subjects[order], return_index=True)
        held.append(sets.predict(risks[order[first]]).included[:, 1].mean())
    assert np.mean(held) == pytest.approx(0.9, abs=0.01)


# Words, what is kept, and what is refused


def test_findings_and_their_reasons_are_told():
    sets = Sets(0.9, np.array([[0.5, 0.03], [0.02, 0.7], [0.31, 0.204], [0.05, 0.1]]), np.full((4, 2), 120))
    assert sets.codes() == [None, None, UNDECIDED, UNUSUAL]
    assert [sets.text(row) for row in range(4)] == [
        "at a stated coverage of 90 %, the event is ruled out (p = 0.030)",
        "at a stated coverage of 90 %, no event is ruled out (p = 0.020)",
        "a person has to decide: at a stated coverage of 90 %, neither the event (p = 0.204) nor no event (p = 0.310) "
        "can be ruled out",
        "a person has to decide: at a stated coverage of 90 %, this risk fits neither patients with the event "
        "(p = 0.100) nor patients without it (p = 0.050)",
    ]


def test_the_promise_is_told_as_it_is_meant():
    rows = (*drawn(50, np.random.default_rng(0)), named(50))
    assert RiskSets.fit(*rows, coverage=0.95).statement() == (
        "of 100 new patients with the event, and of 100 without, at least 95 on average get a set that holds what "
        "happens"
    )
    assert RiskSets.fit(*rows, by_class=False).statement() == (
        "of 100 new patients at least 90 on average get a set that holds what happens"
    )


def test_sets_come_back_from_a_model_folder_as_they_were(tmp_path):
    rng = np.random.default_rng(4)
    risks, events = drawn(500, rng)
    categories = rng.choice(["$array", "ehr + notes"], 500)
    sets = RiskSets.fit(risks, events, named(500), categories, coverage=0.85)
    save_state(tmp_path, "sets", sets.state())
    again = RiskSets.restore(load_state(tmp_path, "sets"))
    mine, expected = (each.predict(risks, categories) for each in (again, sets))
    np.testing.assert_array_equal(mine.p_values, expected.p_values)
    np.testing.assert_array_equal(mine.counts, expected.counts)
    assert again.statement() == sets.statement()


def test_sets_without_anybody_with_the_event_can_be_kept_and_never_rule_it_out(tmp_path):
    save_state(tmp_path, "sets", RiskSets.fit(np.full(30, 0.2), np.zeros(30, bool), named(30)).state())
    again = RiskSets.restore(load_state(tmp_path, "sets")).predict(np.array([0.0, 0.99]))
    assert again.p_values[:, 1].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("coverage", [0.0, 1.0, 90, -0.1, float("nan")])
def test_a_coverage_that_is_none_is_refused(coverage):
    with pytest.raises(UsageError, match=f"coverage is {coverage}, expected a number between 0 and 1; 0.9 means 90 %"):
        RiskSets.fit(np.zeros(2), np.array([True, False]), named(2), coverage=coverage)


def test_what_is_no_risk_or_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match=r"2 risks are not within \[0, 1\]"):
        RiskSets.fit(np.array([0.5, 1.2, np.nan]), np.ones(3, bool), named(3))
    with pytest.raises(ValueError, match=r"1 risks are not within \[0, 1\]"):
        RiskSets.fit(np.array([0.5]), np.ones(1, bool), named(1)).predict(np.array([np.nan]))
    with pytest.raises(ValueError, match="3 risks, 3 events, 2 subjects and 3 categories do not belong together"):
        RiskSets.fit(np.zeros(3), np.ones(3, bool), named(2))
