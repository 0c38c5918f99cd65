"""Recalibration: against scikit-learn and scipy, on known miscalibration, and the ledger that stays exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from medfusion.core.errors import DataError, UsageError
from medfusion.core.state import load_state, save_state
from medfusion.fusion.maps import KINDS, MAX_SLOPE, LogitMap
from medfusion.fusion.offsets import OFFSET_NEEDED, pattern_names
from medfusion.fusion.recalibration import NEEDED, Recalibration, affordable_kinds

NAMES = ("ehr", "imaging", "notes")
LOG_ODDS = st.floats(-30, 30)
SLOPES = st.floats(0, 5)
MAPS = st.builds(LogitMap, st.just("beta"), st.floats(-5, 5), SLOPES, SLOPES)


def drawn(n, true_map, seed=0, mean=-1.0, spread=1.5):
    """Log-odds of a model of which we know what they should have been; weights as of patients seen 1 to 4 times."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(mean, spread, n)
    return logits, rng.random(n) < expit(true_map.apply(logits)), 1 / np.sqrt(rng.integers(1, 5, n))


def named(n):
    return [f"P{index}" for index in range(n)]


def fitted(n, true_map, seed=0, **options):
    logits, events, weights = drawn(n, true_map, seed)
    return Recalibration.fit(logits, events, weights, named(n), **options)


# Maps


def test_platt_is_weighted_logistic_regression_without_a_penalty():
    logits, events, weights = drawn(3000, LogitMap("platt", 0.4, 0.6, 0.6))
    reference = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, None], events, sample_weight=weights)
    found = LogitMap.fit("platt", logits, events, weights)
    assert found.low == found.high == pytest.approx(reference.coef_[0, 0], abs=1e-6)
    assert found.shift == pytest.approx(reference.intercept_[0], abs=1e-6)


@pytest.mark.parametrize(("low", "high"), [(0.5, 1.8), (1.6, 0.0)])
def test_beta_is_the_likeliest_of_its_family_of_risks(low, high):
    logits, events, weights = drawn(3000, LogitMap("beta", 0.2, low, high))
    risks = expit(logits)
    columns = np.column_stack([np.ones(3000), np.log(risks), -np.log1p(-risks)])

    def loss(parameters):
        after = expit(columns @ parameters)
        return -weights @ (events * np.log(after) + ~events * np.log1p(-after))

    def slope(parameters):
        return columns.T @ (weights * (expit(columns @ parameters) - events))

    bounds = optimize.Bounds([-np.inf, 0, 0], np.inf)
    options = {"gtol": 1e-9, "xtol": 1e-12, "maxiter": 3000}
    reference = optimize.minimize(loss, [0, 1, 1], jac=slope, method="trust-constr", bounds=bounds, options=options)
    found = LogitMap.fit("beta", logits, events, weights)
    np.testing.assert_allclose([found.shift, found.low, found.high], reference.x, atol=2e-4)


def test_an_intercept_brings_the_mean_risk_to_the_rate_of_the_event():
    logits, events, weights = drawn(500, LogitMap("intercept", 1.2))
    found = LogitMap.fit("intercept", logits, events, weights)
    assert np.average(expit(found.apply(logits)), weights=weights) == pytest.approx(
        np.average(events, weights=weights), abs=1e-8
    )
    assert (found.low, found.high) == (1.0, 1.0)


def test_beta_calibration_is_what_its_authors_wrote():
    risk = np.array([0.02, 0.3, 0.9])
    after = expit(LogitMap("beta", 0.3, 0.7, 1.4).apply(logit(risk)))
    # Kull et al., equation of the beta calibration map.
    np.testing.assert_allclose(after, 1 / (1 + 1 / (np.exp(0.3) * risk**0.7 / (1 - risk) ** 1.4)), rtol=1e-12)


@settings(max_examples=50)
@given(MAPS, st.lists(LOG_ODDS, min_size=2, max_size=20))
def test_no_map_turns_two_risks_around(each, logits):
    assert (np.diff(each.apply(np.sort(logits))) >= -1e-12).all()


@settings(max_examples=60)
@given(MAPS, LOG_ODDS, st.one_of(st.just(0.0), st.floats(-1e-6, 1e-6), st.floats(-20, 20)))
def test_the_secant_is_the_mean_slope_between_two_log_odds(each, start, step):
    def slope(part):
        return each.low * expit(-(start + part * step)) + each.high * expit(start + part * step)

    expected, _ = integrate.quad(slope, 0, 1, epsabs=1e-11, epsrel=1e-11)
    assert each.secant(start, start + step) == pytest.approx(expected, abs=1e-8)


def test_log_odds_that_separate_the_outcomes_have_a_finite_map():
    logits = np.linspace(-3, 3, 200)
    for kind in KINDS:
        found = LogitMap.fit(kind, logits, logits > 0, np.ones(200))
        assert np.isfinite([found.shift, found.low, found.high]).all()
        assert max(found.low, found.high) <= MAX_SLOPE


@pytest.mark.parametrize("kind", KINDS[1:])
def test_log_odds_that_are_all_alike_become_the_rate_of_the_event(kind):
    found = LogitMap.fit(kind, np.full(90, 3.0), np.arange(90) < 30, np.ones(90))
    assert expit(found.apply(3.0)) == pytest.approx(1 / 3, abs=1e-6)


def test_a_model_that_points_the_wrong_way_is_flattened_and_not_turned_around():
    logits, events, weights = drawn(2000, LogitMap())
    found = LogitMap.fit("platt", -logits, events, weights)
    assert found.low == 0.0
    assert expit(found.shift) == pytest.approx(np.average(events, weights=weights), abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("spline",), "not a map"), (("beta", 0, 1, np.inf), "not a map"), (("platt", 0, -1, -1), "turn risks around")],
)
def test_what_is_no_monotone_map_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        LogitMap(*arguments)


# Choice of the map


@pytest.mark.parametrize(
    "true_map",
    [LogitMap("intercept", 0.8), LogitMap("platt", 0.5, 0.5, 0.5), LogitMap("beta", 0.6, 0.5, 2.5)],
    ids=lambda each: each.kind,
)
def test_known_miscalibration_is_recognised_and_undone(true_map):
    found = fitted(8000, true_map)
    assert found.map.kind == true_map.kind
    # Over the range where nine tenths of the log-odds lie.
    at = np.linspace(-3.5, 1.5, 21)
    np.testing.assert_allclose(found.map.apply(at), true_map.apply(at), atol=0.25)
    assert found.losses[true_map.kind] < found.losses["none"]


def test_a_model_that_is_right_is_mostly_left_as_it_is():
    kinds = [fitted(600, LogitMap(), seed).map.kind for seed in range(12)]
    assert kinds.count("none") >= 9
    assert "beta" not in kinds


def test_more_rows_of_the_same_patients_do_not_make_a_choice_surer():
    """An intercept of 0.3 mostly goes unseen in 200 patients, and so it should if each of them has 9 equal rows."""
    left_alone = {}
    for copies in (1, 9):
        chosen = []
        for seed in range(10):
            logits, events, _ = drawn(200, LogitMap("intercept", 0.3), seed)
            rows = [np.repeat(each, copies) for each in (logits, events, np.full(200, copies**-0.5), named(200))]
            chosen.append(Recalibration.fit(*rows, kinds=["none", "intercept"]).map.kind)
        left_alone[copies] = chosen.count("none")
    assert 5 <= left_alone[1] <= 9
    assert abs(left_alone[1] - left_alone[9]) <= 1


def test_only_the_maps_asked_for_compete():
    assert set(fitted(600, LogitMap(), kinds=["intercept"]).losses) == {"intercept"}
    assert fitted(600, LogitMap(), kinds=["intercept"]).map.kind == "intercept"
    with pytest.raises(UsageError, match="no recalibration isotonic; there are: none, intercept, platt, beta"):
        fitted(600, LogitMap(), kinds=["isotonic"])


# How many are needed


@pytest.mark.parametrize(
    ("having", "kinds"),
    [(20, ("none", "intercept")), (49, ("none", "intercept")), (50, ("none", "intercept", "platt")), (100, KINDS)],
)
def test_only_maps_that_there_are_enough_patients_for_compete(having, kinds):
    events = np.arange(400) < having
    assert affordable_kinds(events, named(400)) == kinds
    assert affordable_kinds(~events, named(400)) == kinds


def test_too_few_events_are_refused_with_how_many_are_needed():
    events = np.arange(312) < 12
    with pytest.raises(DataError) as caught:
        Recalibration.fit(np.zeros(312), events, np.ones(312), named(312))
    assert str(caught.value) == (
        "error labels: boolean_value is '12 patients with the event and 300 without', expected at least 20 of each; "
        "add the outcomes of 8 more patients with the event, or use the model as it is [too-few-events]"
    )


def test_a_map_asked_for_by_name_is_refused_with_what_it_needs():
    with pytest.raises(
        DataError, match=r"at least 100 of each; .* of 70 more patients with the event and 40 more patients without, or"
    ):
        affordable_kinds(np.arange(90) < 30, named(90), ["beta"])


def test_many_rows_of_few_patients_are_few():
    events = np.arange(400) < 200
    patients = [f"P{index % 15}" for index in range(400)]
    with pytest.raises(DataError, match="15 patients with the event and 15 without"):
        affordable_kinds(events, patients)


@pytest.mark.parametrize(
    ("kind", "spread", "of_intercept", "of_slope"),
    [("intercept", 1.0, 0.35, None), ("platt", 1.0, 0.22, 0.26), ("platt", 2.0, None, 0.20)],
)
def test_what_is_needed_keeps_standard_errors_as_small_as_is_said(kind, spread, of_intercept, of_slope):
    """Riley et al.'s formula: the inverse of the Fisher information, with half of the patients having the event."""
    logits = np.random.default_rng(0).normal(0.0, spread, 200_000)
    risk = expit(logits)
    design = np.column_stack([np.ones_like(logits), logits])
    information = design.T @ (design * (risk * (1 - risk))[:, None]) / len(logits)
    errors = np.sqrt(np.diag(np.linalg.inv(information * 2 * NEEDED[kind])))
    for error, said in zip(errors, (of_intercept, of_slope), strict=True):
        assert said is None or error == pytest.approx(said, abs=0.005)


# Offsets


def two_groups(n, events_of_each):
    """A model that says 50 % to everybody, and groups of n of whom that many have the event."""
    events = np.concatenate([np.arange(n) < each for each in events_of_each])
    groups = np.repeat([f"G{index}" for index in range(len(events_of_each))], n)
    return np.zeros(len(events)), events, np.ones(len(events)), named(len(events)), groups


def test_offsets_are_pooled_as_worked_out_by_hand():
    *rows, groups = two_groups(100, [30, 70])
    found = Recalibration.fit(*rows, groups=groups, column="site")
    # u = logit(0.7), v = 1 / (100 * 0.21); moments: (2 u^2/v - 2) / (2/v); 30 - 100 * risk = pull * offset.
    unpooled, variance = np.log(7 / 3), 1 / 21
    pull = 1 / ((2 * unpooled**2 / variance - 2) / (2 / variance))
    offset = optimize.brentq(lambda u: 30 - 100 * expit(u) - pull * u, -1, 0)
    assert found.map.kind == "none"
    assert found.groups == {"G0": pytest.approx(offset, abs=1e-6), "G1": pytest.approx(-offset, abs=1e-6)}
    assert unpooled > found.groups["G1"] > 0.9 * unpooled


def test_the_smaller_a_group_the_nearer_its_offset_is_to_none():
    pooled = []
    for n in (40, 400, 4000):
        *rows, groups = two_groups(n, [n * 2 // 5, n * 3 // 5])
        pooled.append(Recalibration.fit(*rows, groups=groups, column="site").groups.get("G1", 0.0))
    assert 0 < pooled[0] < pooled[1] < pooled[2] < np.log(1.5)
    assert pooled[2] == pytest.approx(np.log(1.5), rel=0.02)


def test_groups_that_differ_by_no_more_than_chance_have_no_offset():
    *rows, groups = two_groups(100, [48, 52])
    found = Recalibration.fit(*rows, groups=groups, column="site")
    assert (found.groups, found.column) == ({}, "")


@pytest.mark.parametrize(("events", "has"), [(OFFSET_NEEDED - 1, False), (OFFSET_NEEDED, True)])
def test_a_group_with_too_few_patients_of_either_kind_has_no_offset(events, has):
    *rows, groups = two_groups(100, [50, 50, events])
    assert ("G2" in Recalibration.fit(*rows, groups=groups, column="site").groups) == has


def test_more_rows_of_the_same_patients_do_not_make_an_offset_surer():
    logits, events, weights, subjects, groups = two_groups(60, [22, 38])
    once = Recalibration.fit(logits, events, weights, subjects, groups=groups, column="site")
    four = [np.repeat(each, 4) for each in (logits, events, weights / 2, subjects, groups)]
    often = Recalibration.fit(*four[:4], groups=four[4], column="site")
    assert often.groups == {name: pytest.approx(offset, abs=1e-6) for name, offset in once.groups.items()}
    assert once.groups["G1"] > 0.1


def test_offsets_of_patterns_and_groups_are_told_apart():
    rng = np.random.default_rng(1)
    n = 12_000
    patterns = rng.choice(["ehr", "ehr + notes", "none"], n)
    site = np.where(rng.random(n) < np.where(patterns == "ehr", 0.7, 0.3), "north", "south")
    logits = rng.normal(-1, 1.2, n)
    truth = 0.7 * logits + 0.8 * (patterns == "ehr") + 0.5 * (site == "north")
    events = rng.random(n) < expit(truth)
    found = Recalibration.fit(logits, events, np.ones(n), named(n), patterns, site, column="site")
    assert found.patterns["ehr"] - found.patterns["ehr + notes"] == pytest.approx(0.8, abs=0.2)
    assert found.groups["north"] - found.groups["south"] == pytest.approx(0.5, abs=0.15)
    assert "none" not in found.patterns
    rest = patterns != "none"
    after = expit(found.apply(logits, patterns, site))
    assert after[rest].mean() == pytest.approx(events[rest].mean(), abs=0.01)


def test_whoever_is_of_no_known_pattern_or_group_has_no_offset():
    found = Recalibration(LogitMap(), {"ehr": 0.3}, "site", {"north": -0.2, "none": 0.1})
    after = found.apply(
        np.zeros(6), ["ehr", "notes", "none", "ehr", "ehr", "ehr"], ["north", "east", None, np.nan, "", "none"]
    )
    assert after.tolist() == pytest.approx([0.1, 0.0, 0.0, 0.3, 0.3, 0.4])
    assert found.apply(np.zeros(1)).tolist() == [0.0]


# The ledger


@st.composite
def ledgers(draw):
    """A recalibration, and ledgers that add up: base, shares (0 where absent) and presence."""
    offsets = st.dictionaries(
        st.sampled_from(["ehr", "notes", "ehr + imaging", "ehr + imaging + notes"]), st.floats(-2, 2)
    )
    groups = st.dictionaries(st.sampled_from(["north", "south"]), st.floats(-2, 2))
    recalibration = Recalibration(draw(MAPS), draw(offsets), "site", draw(groups))
    rows = draw(st.integers(1, 6))
    present = np.array(draw(st.lists(st.tuples(*[st.booleans()] * 3), min_size=rows, max_size=rows)))
    size = st.one_of(st.floats(-15, 15), st.floats(-1e-9, 1e-9))
    shares = np.array(draw(st.lists(st.tuples(size, size, size), min_size=rows, max_size=rows))) * present
    site = draw(st.lists(st.sampled_from(["north", "south", "east", None]), min_size=rows, max_size=rows))
    return recalibration, draw(st.floats(-6, 6)), shares, present, site


@settings(max_examples=80)
@given(ledgers())
def test_a_ledger_adds_up_after_recalibration(case):
    recalibration, base, shares, present, site = case
    logits, patterns = base + shares.sum(axis=1), pattern_names(present, NAMES)
    terms = recalibration.terms(logits, base, patterns, site)
    after = recalibration.apply(logits, patterns, site)
    np.testing.assert_allclose(terms.base + terms.factor * shares.sum(axis=1) + terms.offset, after, atol=1e-9, rtol=0)
    opened = terms.shares(shares, present)
    np.testing.assert_allclose(terms.base + opened.sum(axis=1), after, atol=1e-9, rtol=0)
    assert (opened[~present] == 0.0).all()
    assert (terms.factor >= 0).all()
    nothing = ~present.any(axis=1)
    np.testing.assert_allclose(after[nothing], terms.base[nothing], atol=1e-12)


@settings(max_examples=40)
@given(ledgers(), MAPS)
def test_a_ledger_adds_up_after_a_second_recalibration_too(case, again):
    recalibration, base, shares, present, site = case
    patterns = pattern_names(present, NAMES)
    first = recalibration.terms(base + shares.sum(axis=1), base, patterns, site)
    opened, logits = first.shares(shares, present), recalibration.apply(base + shares.sum(axis=1), patterns, site)
    second = Recalibration(again, {"ehr": 0.4}).terms(logits, first.base, patterns)
    after = Recalibration(again, {"ehr": 0.4}).apply(logits, patterns)
    np.testing.assert_allclose(second.base + second.shares(opened, present).sum(axis=1), after, atol=1e-9, rtol=0)


def test_a_share_is_what_it_adds_when_all_grow_together():
    """The Aumann-Shapley value, by integrating the map's slope along the straight path."""
    found, base, shares = LogitMap("beta", 0.2, 0.4, 1.9), -2.0, np.array([1.5, -0.7, 2.2])

    def gradient(part, share):
        at = base + part * shares.sum()
        return share * (found.low * expit(-at) + found.high * expit(at))

    expected = [integrate.quad(gradient, 0, 1, args=(share,))[0] for share in shares]
    terms = Recalibration(found).terms(np.array([base + shares.sum()]), base)
    np.testing.assert_allclose(terms.shares(shares[None], np.ones((1, 3), bool))[0], expected, atol=1e-10)


# What is kept, and what is refused


def test_a_recalibration_comes_back_from_a_model_folder_as_it_was(tmp_path):
    rng = np.random.default_rng(3)
    logits, events, weights = drawn(3000, LogitMap("beta", 0.5, 0.4, 2.0))
    patterns, site = rng.choice(["ehr", "ehr + notes"], 3000), rng.choice(["$array", "south"], 3000)
    events |= (site == "south") & (rng.random(3000) < 0.3)
    found = Recalibration.fit(logits, events, weights, named(3000), patterns, site, column="site")
    assert "$array" in found.groups
    save_state(tmp_path, "recalibration", found.state())
    again = Recalibration.restore(load_state(tmp_path, "recalibration"))
    assert again == found
    np.testing.assert_array_equal(again.apply(logits, patterns, site), found.apply(logits, patterns, site))


def test_no_recalibration_changes_nothing():
    logits = np.linspace(-40, 40, 101)
    np.testing.assert_array_equal(Recalibration().apply(logits, ["ehr"] * 101), logits)
    assert Recalibration().text() == "none: log-odds are left as they are"


def test_it_says_what_it_does():
    found = Recalibration(LogitMap("beta", -0.5, 0.9, 1.2), {"ehr": 0.1}, "sex", {"F": 0.1, "M": -0.1})
    assert found.text() == (
        "beta: log-odds = -0.50 + 0.90 * ln(risk before) - 1.20 * ln(1 - risk before); "
        "offsets: 1 by presence pattern, 2 by sex"
    )


def test_what_does_not_fit_together_is_refused():
    logits, events, weights = drawn(100, LogitMap())
    with pytest.raises(ValueError, match=r"different lengths: \[100, 100, 100, 99\]"):
        Recalibration.fit(logits, events, weights, named(99))
    with pytest.raises(ValueError, match="1 logits are not finite"):
        Recalibration.fit(np.where(np.arange(100) == 7, np.nan, logits), events, weights, named(100))
    with pytest.raises(UsageError, match="without the name of their column"):
        Recalibration.fit(logits, events, weights, named(100), groups=["F"] * 100)
    with pytest.raises(ValueError, match="finite numbers"):
        Recalibration(patterns={"ehr": np.nan})
    with pytest.raises(ValueError, match="without any modality has none"):
        Recalibration(patterns={"none": 0.1})
