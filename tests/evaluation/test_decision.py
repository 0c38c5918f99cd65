import re
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import confusion_matrix

from medfusion.core.errors import UsageError
from medfusion.evaluation.bootstrap import subject_weights
from medfusion.evaluation.decision import alert_counts, check_thresholds, net_benefit, suggested_thresholds
from medfusion.evaluation.decision_costs import best_threshold, cost_threshold
from medfusion.evaluation.decision_panels import decision_curve, decision_panels, threshold_table
from medfusion.evaluation.rates import rate_estimate

samples = st.lists(
    st.tuples(st.booleans(), st.integers(0, 8).map(lambda step: step / 8), st.integers(0, 3)), min_size=1, max_size=30
)


def with_counts(hits, missed, false_alarms, passed):
    """Risks of 0.9 and 0.1, with these counts at any threshold between."""
    events = np.repeat([True, True, False, False], [hits, missed, false_alarms, passed])
    return events, np.repeat([0.9, 0.1, 0.9, 0.1], [hits, missed, false_alarms, passed])


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    logits = rng.normal(-1.5, 1.2, 600)
    return rng.random(600) < expit(logits), expit(logits), [f"s{number}" for number in range(600)]


def test_net_benefit_is_that_worked_by_hand():
    # 80 found and 100 false alarms among 1,000, at odds of 1 to 4: 0.080 - 0.100 / 4.
    events, risks = with_counts(hits=80, missed=20, false_alarms=100, passed=800)
    assert net_benefit(events, risks, np.array([0.2])) == pytest.approx([0.055])
    # At odds of 1 to 1, the same decisions harm: 0.080 - 0.100.
    assert net_benefit(events, risks, np.array([0.5])) == pytest.approx([-0.020])


def test_acting_on_everybody_has_the_net_benefit_of_a_published_table():
    # Table 4 of PMC6993280: a prevalence of 30 %.
    published = {0.03: 0.278, 0.05: 0.263, 0.08: 0.239, 0.1: 0.222, 0.2: 0.125, 0.3: 0.0, 0.4: -0.167, 0.5: -0.4}
    published |= {0.6: -0.75, 0.7: -1.333, 0.8: -2.5, 0.9: -6.0}
    events = np.arange(100) < 30
    table = decision_curve(events, np.full(100, 0.3), [str(i) for i in range(100)], list(published), resamples=5).table
    assert table["treat_all"].to_numpy() == pytest.approx(list(published.values()), abs=0.0005)
    assert (table["treat_none"] == 0).all()
    # A risk of 0.3 for everybody acts on everybody up to 0.3, and on nobody beyond.
    assert table["net_benefit"].to_numpy() == pytest.approx(np.maximum(list(published.values()), 0), abs=0.0005)
    assert table["gain"].to_numpy() == pytest.approx(0.0, abs=1e-12)


@given(samples, st.lists(st.integers(1, 15).map(lambda step: step / 16), min_size=1, max_size=2))
@settings(deadline=None, max_examples=40)
def test_weighted_counts_are_those_of_scikit_learn(rows, thresholds):
    events, risks, weights = (np.array(column) for column in zip(*rows, strict=True))
    if not weights.sum():
        return
    counts = alert_counts(events, risks, np.array(thresholds), weights[None].astype(float))
    for place, threshold in enumerate(thresholds):
        (_, false_alarms), (_, hits) = confusion_matrix(
            events, risks >= threshold, labels=[False, True], sample_weight=weights
        )
        assert counts.hits[0, place] == hits
        assert counts.false_alarms[0, place] == false_alarms
    assert (counts.events[0, 0], counts.others[0, 0]) == (weights[events].sum(), weights[~events].sum())


@given(samples, st.integers(1, 99).map(lambda percent: percent / 100))
@settings(deadline=None, max_examples=100)
def test_net_benefit_of_a_weight_is_that_of_repeated_rows_and_never_beats_the_prevalence(rows, threshold):
    events, risks, weights = (np.array(column) for column in zip(*rows, strict=True))
    if not weights.sum():
        return
    repeated = np.repeat(np.arange(len(events)), weights)
    weighted = net_benefit(events, risks, np.array([threshold]), weights[None].astype(float))
    assert weighted.shape == (1, 1)
    assert weighted[0] == pytest.approx(net_benefit(events[repeated], risks[repeated], np.array([threshold])))
    assert weighted[0, 0] <= events[repeated].mean() + 1e-12


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.1, 1.2], "threshold is 1.2, expected a risk above 0 and below 1; write 1.2 % as 0.012"),
        ([20], "threshold is 20, expected a risk above 0 and below 1; write 20 % as 0.2"),
        ([0.0], "threshold is 0, expected a risk above 0 and below 1; name another, such as 0.1"),
        ([1.0], "threshold is 1, expected a risk above 0 and below 1; name another, such as 0.1"),
        ([-0.5], "threshold is -0.5, expected a risk above 0"),
        ([float("nan")], "threshold is nan, expected a risk above 0"),
        ([], "there is no threshold, expected a risk above 0 and below 1; name one, such as 0.1"),
    ],
)
def test_thresholds_outside_zero_and_one_are_refused(values, message, data):
    for refused in (
        lambda: check_thresholds(values),
        lambda: net_benefit(*data[:2], np.array(values)),
        lambda: decision_panels(*data, values),
        lambda: decision_curve(*data, values),
        lambda: threshold_table(*data, dict.fromkeys(values, "chosen")),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            refused()


def test_where_nobody_chose_a_threshold_a_range_is_shown_with_the_prevalence_and_shares_of_the_risks(data):
    events, risks, _ = data
    shown = suggested_thresholds(events, risks)
    assert shown[events.mean()] == "prevalence"
    assert {value for value, basis in shown.items() if basis == "round value"} == {
        0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5,
    }  # fmt: skip
    flagged = {basis: int((risks >= value).sum()) for value, basis in shown.items()}
    assert [flagged[f"highest {percent} % of risks"] for percent in (50, 25, 10, 5)] == [300, 150, 60, 30]


@pytest.mark.parametrize("risk", [0.0, 1.0, 0.001])
def test_risks_that_are_all_the_same_leave_thresholds_to_show(risk):
    shown = suggested_thresholds(np.array([False] * 4), np.full(4, risk))
    assert shown
    assert all(0 < value < 1 for value in shown)


def test_a_row_of_the_table_is_counted_by_hand_and_has_wilson_intervals():
    events, risks = with_counts(hits=30, missed=10, false_alarms=50, passed=110)
    row = threshold_table(events, risks, [str(i) for i in range(200)], {0.25: "chosen"}, resamples=20).table.iloc[0]
    expected = {"sensitivity": 30 / 40, "specificity": 110 / 160, "ppv": 30 / 80, "npv": 110 / 120}
    expected |= {"alerts_per_100": 40.0, "missed_per_1000": 50.0, "net_benefit": 30 / 200 - 50 / 200 / 3}
    assert row[list(expected)].to_dict() == pytest.approx(expected)
    assert row[["threshold", "basis", "n_alerts", "n_missed"]].tolist() == [0.25, "chosen", 80, 10]
    # Wilson's interval by its formula: centre (p + z^2/2n) / (1 + z^2/n).
    z, n, p = NormalDist().inv_cdf(0.975), 40, 0.75
    centre, half = (p + z**2 / (2 * n)), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    ends = [(centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)]
    assert row[["sensitivity_low", "sensitivity_high"]].tolist() == pytest.approx(ends)


def test_repeated_samples_of_a_patient_do_not_narrow_an_interval(data):
    events, risks, ids = (np.asarray(column)[:100] for column in data)
    once = threshold_table(events, risks, ids.tolist(), {0.2: "chosen"}).table.iloc[0]
    copies = threshold_table(np.tile(events, 5), np.tile(risks, 5), ids.tolist() * 5, {0.2: "chosen"}).table.iloc[0]
    for name in ("sensitivity", "specificity", "alerts_per_100", "missed_per_1000", "net_benefit"):
        assert copies[name] == pytest.approx(once[name])
        wide, of_copies = (row[f"{name}_high"] - row[f"{name}_low"] for row in (once, copies))
        assert of_copies == pytest.approx(wide, rel=0.15)


def test_a_proportion_of_none_has_an_interval_that_rests_on_patients():
    rate = rate_estimate(0, np.zeros(50), ["a", "a", "b", "c"])
    # Wilson's upper end for none of n is z^2 / (n + z^2).
    z = NormalDist().inv_cdf(0.975)
    assert (rate.value, rate.low) == (0.0, pytest.approx(0.0, abs=1e-12))
    assert rate.high == pytest.approx(z**2 / (3 + z**2))
    assert rate_estimate(0, np.zeros(50), []).text() == "nobody to count"


def test_the_band_of_the_curve_is_the_percentiles_of_resampled_patients(data):
    events, risks, ids = data
    table = decision_curve(events, risks, ids, [0.1, 0.3], seed=5, resamples=60).table
    draws = []
    for weights in np.vstack(list(subject_weights(ids, 5, 60))):
        rows = np.repeat(np.arange(600), weights)
        flagged, n = risks[rows] >= 0.3, len(rows)
        draws.append((events[rows] & flagged).sum() / n - (~events[rows] & flagged).sum() / n * 3 / 7)
    assert table[["low", "high"]].iloc[1].tolist() == pytest.approx(np.percentile(draws, [2.5, 97.5]))
    assert (table["low"] < table["net_benefit"]).all()
    assert (table["gain_low"] < table["gain"]).all()
    assert (table["gain"] < table["gain_high"]).all()


def test_intervals_of_net_benefit_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(99)
    risks = expit(rng.normal(-1.0, 1.2, 400_000))
    truth = net_benefit(rng.random(400_000) < risks, risks, np.array([0.2]))[0]
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        risks = expit(rng.normal(-1.0, 1.2, 200))
        events, ids = rng.random(200) < risks, [str(number) for number in range(200)]
        row = decision_curve(events, risks, ids, [0.2], seed=seed, resamples=200).table.iloc[0]
        covered += row["low"] <= truth <= row["high"]
    assert 88 <= covered <= 100, covered


def test_the_curve_reaches_as_far_as_the_risks_do():
    events, ids = np.arange(100) < 50, [str(number) for number in range(100)]
    assert decision_curve(events, np.full(100, 0.1), ids, resamples=5).table["threshold"].max() == pytest.approx(0.5)
    assert decision_curve(events, np.full(100, 0.8), ids, resamples=5).table["threshold"].max() == pytest.approx(0.8)
    assert decision_curve(events, np.full(100, 1.0), ids, resamples=5).table["threshold"].max() == pytest.approx(0.99)


def test_panels_have_a_table_and_a_picture(data):
    curve, table = decision_panels(*data, [0.2, 0.1], seed=1, resamples=30)
    assert curve.marked == (0.2, 0.1)
    assert table.frame()["threshold"].tolist() == ["0.1", "0.2"]
    assert set(table.table["basis"]) == {"chosen"}
    assert re.fullmatch(r"0\.\d{3} \(0\.\d{3} to 0\.\d{3}\)", table.frame()["sensitivity"][0])
    labels = [line.get_label() for line in curve.plot().axes[0].lines]
    assert labels[:3] == ["Model", "Everybody", "Nobody"]
    rates, alerts = table.plot().axes
    assert alerts.lines[0].get_ydata().tolist() == table.table["alerts_per_100"].tolist()
    assert rates.lines[0].get_ydata().tolist() == table.table["sensitivity"].tolist()


@pytest.mark.parametrize("events", [[True], [False], [True, True], [False, False]])
def test_one_patient_or_one_class_has_panels_that_say_what_cannot_be_told(events):
    risks, ids = np.linspace(0.2, 0.4, len(events)), [str(number) for number in range(len(events))]
    curve, table = decision_panels(np.array(events), risks, ids, [0.3], resamples=20)
    curve.plot()
    table.plot()
    missing = "specificity" if events[0] else "sensitivity"
    assert table.frame()[missing].tolist() == ["nobody to count"]
    assert np.isnan(table.table[missing]).all()
    assert np.isnan(curve.table["low"]).all() == (len(events) == 1)


def test_the_threshold_that_costs_ask_for_is_worked_by_hand():
    # A missed event that is nine times as bad as a false alarm: act from one in ten.
    assert cost_threshold(1, 9) == pytest.approx(0.1)
    assert cost_threshold(300, 100) == pytest.approx(0.75)


@pytest.mark.parametrize("costs", [(0, 1), (1, -2), (float("nan"), 1), (1, float("inf"))])
def test_costs_that_are_no_positive_numbers_are_refused(costs):
    with pytest.raises(UsageError, match=r"the cost of a .* is .*, expected a number above 0; give both costs"):
        cost_threshold(*costs)


@given(samples, st.integers(1, 9), st.integers(1, 9))
@settings(deadline=None, max_examples=100)
def test_no_threshold_at_all_would_have_cost_less(rows, false_alarm, missed):
    events, risks, _ = (np.array(column) for column in zip(*rows, strict=True))
    choice = best_threshold(events, risks, false_alarm, missed, resamples=3)

    def cost(threshold):
        flagged = risks >= threshold
        return 100 * (false_alarm * (flagged & ~events).sum() + missed * (~flagged & events).sum()) / len(events)

    assert 0 < choice.observed < 1
    assert cost(choice.observed) == pytest.approx(choice.cost_observed)
    assert choice.cost_observed == pytest.approx(min(cost(threshold) for threshold in np.arange(1, 32) / 32))
    assert cost(choice.from_costs) == pytest.approx(choice.cost_from_costs)


def test_a_threshold_in_hindsight_that_costs_the_same_is_the_one_that_the_costs_ask_for():
    choice = best_threshold(np.array([False, False, True, True]), np.array([0.1, 0.2, 0.7, 0.9]), 1, 1, resamples=20)
    assert (choice.observed, choice.apart) == (0.5, 0.0)


def test_the_optimism_is_about_what_a_threshold_chosen_on_few_costs_more_for_others():
    # Truth by simulation: choose on 60 patients, judge on 100,000.
    rng = np.random.default_rng(0)
    many = expit(rng.normal(-1.0, 1.0, 100_000))
    happened = rng.random(100_000) < many
    optimism, truth = [], []
    for seed in range(150):
        rng = np.random.default_rng(seed + 1)
        risks = expit(rng.normal(-1.0, 1.0, 60))
        choice = best_threshold(rng.random(60) < risks, risks, 1, 3, seed=seed, resamples=2)
        flagged = many >= choice.observed
        truth.append(100 * ((flagged & ~happened).mean() + 3 * (~flagged & happened).mean()) - choice.cost_observed)
        optimism.append(choice.optimism)
    assert np.mean(truth) > 2
    assert np.mean(optimism) == pytest.approx(np.mean(truth), rel=0.2)


def test_both_thresholds_are_told_with_their_distance():
    risks = np.linspace(0.01, 0.6, 300)
    events = np.random.default_rng(0).random(300) < risks / 2  # risks that are twice too high
    choice = best_threshold(events, risks, 1, 4, [str(i) for i in range(300)], resamples=200)
    assert choice.from_costs == 0.2
    assert choice.observed > 0.25
    assert choice.observed_low <= choice.observed <= choice.observed_high
    assert choice.as_dict()["apart"] == choice.observed - 0.2
    assert "a threshold of 0.200" in choice.text()
    assert f"({choice.apart:+.3f})" in choice.text()
