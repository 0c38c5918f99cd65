import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import binomtest
from sklearn.metrics import brier_score_loss, recall_score, roc_auc_score

from medfusion.core.errors import DataError, UsageError
from medfusion.evaluation.bootstrap import subject_weights
from medfusion.evaluation.decision import net_benefit
from medfusion.evaluation.metrics import Estimate, calibration_error, recalibration
from medfusion.evaluation.rates import Counted, independent_number, rate_estimate, wilson
from medfusion.evaluation.subgroups import by_subgroup
from medfusion.evaluation.subgroups_columns import NOT_KNOWN, Grouping, columns_of, group, group_columns
from medfusion.evaluation.subgroups_draws import GroupFigures
from medfusion.evaluation.subgroups_estimates import Group, Members
from medfusion.evaluation.subgroups_figures import GapFigure
from medfusion.evaluation.subgroups_gaps import OTHERS, difference, find_gaps, holm, p_value
from medfusion.evaluation.subgroups_mitigation import mitigation_table


def patients(n):
    return [f"s{number}" for number in range(n)]


def drawn(seed, n, shift=0.0):
    """Risks, and events that happen as often as log-odds shifted from those of the risks say."""
    rng = np.random.default_rng(seed)
    risks = expit(rng.normal(-1.2, 1.2, n))
    return rng.random(n) < expit(logit(risks) + shift), risks


# Columns


def test_a_text_column_with_300_levels_is_refused_with_advice_and_the_others_are_not():
    columns = {"postcode": [f"code {number}" for number in range(300)], "sex": ["F", "M"] * 150}
    groupings, (problem,) = group_columns(columns)
    assert [grouping.column for grouping in groupings] == ["sex"]
    assert problem.line() == (
        "warning subjects: postcode is 'too many levels: 300', expected at most 20; put a column with a few levels, "
        "such as the region for a postcode, beside it [too-many-levels]"
    )


def test_twenty_levels_are_groups_and_twenty_one_are_not():
    assert len(group("ward", [f"w{number}" for number in range(20)]).names) == 20
    assert group("ward", [f"w{number}" for number in range(21)]).code == "too-many-levels"


def test_a_column_that_says_the_same_of_everybody_has_nothing_to_compare():
    assert "'Vietnam' for everybody" in group("country", ["Vietnam"] * 5).line()
    assert "'not known' for everybody" in group("country", [None, "", float("nan")]).line()


def test_ages_are_cut_at_the_same_years_in_every_cohort():
    found = group("age_years", [0.5, 17.9, 18, 39.99, 40, 64.9, 65, 79.9, 80, 104, None])
    assert found.names == ("under 18", "18 to 39", "40 to 64", "65 to 79", "80 and over", "not known")
    assert found.codes.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]


def test_numbers_are_cut_into_quarters_and_the_cuts_are_in_the_names():
    found = group("height_cm", [*range(101, 201), None])
    assert found.names == ("up to 125", "above 125, up to 150", "above 150, up to 175", "above 175", NOT_KNOWN)
    assert np.bincount(found.codes).tolist() == [25, 25, 25, 25, 1]


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([0] * 90 + list(range(1, 11)), ("up to 0", "above 0")),
        ([10] * 90 + list(range(10)), ("up to 9", "above 9")),
        ([1, 2, 3, 4] * 5, ("1", "2", "3", "4")),
        ([True, False, None], ("False", "True", NOT_KNOWN)),
        (["3", 3.5, "a"], ("3", "3.5", "a")),
    ],
)
def test_numbers_with_ties_or_few_levels_and_truth_values_are_divided_as_a_reader_expects(values, names):
    assert group("x", values).names == names


values_of = st.lists(
    st.one_of(st.none(), st.just(float("nan")), st.floats(-1e6, 1e6), st.integers(-5, 5)), min_size=1, max_size=60
)


@given(st.one_of(values_of, st.lists(st.sampled_from(["a", "b", "", None, "c"]), min_size=1, max_size=20)))
@settings(deadline=None, max_examples=200)
def test_every_sample_is_in_one_group_every_group_has_one_and_the_missing_are_their_own(values):
    found = group("x", values)
    if not isinstance(found, Grouping):
        assert found.code == "one-level"
        return
    assert sorted(set(found.codes.tolist())) == list(range(len(found.names)))
    assert len(set(found.names)) == len(found.names)
    for value, code in zip(values, found.codes, strict=True):
        missing = value is None or value == "" or value != value  # noqa: PLR0124 - NaN
        assert missing == (found.names[code] == NOT_KNOWN)


def test_facts_of_samples_become_columns():
    assert columns_of([{"sex": "F"}, {"sex": None, "site": "A"}]) == {"sex": ["F", None], "site": [None, "A"]}
    assert columns_of([]) == {}


# Rates


@given(st.integers(1, 200).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
@settings(deadline=None, max_examples=50)
def test_the_interval_of_a_proportion_is_that_of_scipy(counts):
    hits, of = counts
    expected = binomtest(hits, of).proportion_ci(0.95, method="wilson")
    found = rate_estimate(hits, np.zeros(5), patients(of))
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert (found.hits, found.of) == (hits, of)


def test_copies_of_a_patient_count_as_one_observation():
    ids = [name for name in patients(60) for _ in range(4)]
    happened = np.repeat(np.arange(60) < 20, 4)
    draws = np.concatenate([w @ happened / w.sum(axis=1) for w in subject_weights(ids, 0, 2000)])
    assert independent_number(1 / 3, draws, ids) == pytest.approx(60, rel=0.1)
    assert rate_estimate(0, np.zeros(9), ids).of == 60


# Draws


@pytest.fixture(scope="module")
def resampled():
    rng = np.random.default_rng(0)
    risks = expit(rng.normal(-1, 1.2, 400)).round(2)  # ties
    events, ids = rng.random(400) < risks, [f"s{number}" for number in rng.integers(0, 250, 400)]
    members = np.column_stack([rng.random(400) < 0.3, rng.random(400) < 0.7, np.ones(400, dtype=bool)])
    return events, risks, ids, members


def test_figures_inside_and_outside_of_groups_are_those_of_the_resampled_rows(resampled):
    events, risks, ids, members = resampled
    inside, outside = GroupFigures(events, risks, members, [0.25]).draws(ids, seed=3, resamples=8)
    for draw, weights in enumerate(np.vstack(list(subject_weights(ids, 3, 8)))):
        for place in (0, 1):
            for found, here in ((inside, members[:, place]), (outside, ~members[:, place])):
                rows = np.repeat(np.arange(400), weights * here)
                e, r = events[rows], risks[rows]
                expected = {
                    "auroc": roc_auc_score(e, r),
                    "observed_expected": e.sum() / r.sum(),
                    "brier": brier_score_loss(e, r),
                    "fnr_at_0.25": 1 - recall_score(e, r >= 0.25),
                    "net_benefit_at_0.25": net_benefit(e, r, np.array([0.25]))[0],
                }
                assert {name: found[name][draw, place] for name in expected} == pytest.approx(expected)
                _, intercept = recalibration(e, r, np.ones((1, len(e))))
                assert found["intercept"][draw, place] == pytest.approx(intercept[0], abs=5e-4)
                if found is inside:
                    assert found["ece"][draw, place] == pytest.approx(calibration_error(e, r))


def test_outside_of_everybody_there_is_nothing(resampled):
    _, outside = GroupFigures(*resampled[:2], resampled[3], [0.25]).of(np.ones((1, 400)))
    assert all(np.isnan(values[0, 2]) for values in outside.values())


def test_one_class_has_no_ranking_and_no_intercept():
    inside, _ = GroupFigures(np.zeros(30, bool), np.full(30, 0.2), np.ones((30, 1), bool), [0.1]).of(np.ones((1, 30)))
    assert np.isnan([inside[name][0, 0] for name in ("auroc", "intercept", "fnr_at_0.1")]).all()
    assert inside["observed_expected"][0, 0] == 0
    assert inside["ece"][0, 0] == pytest.approx(0.2)


# Too few


@pytest.mark.parametrize(
    ("n", "n_events", "risk", "name", "reason"),
    [
        (19, 9, 0.5, "all", "too few: 19 of 20 patients"),
        (40, 4, 0.5, "auroc", "too few: 4 of 5 patients with the event"),
        (40, 4, 0.5, "fnr", "too few: 4 of 5 patients with the event"),
        (40, 37, 0.5, "auroc", "too few: 3 of 5 patients without the event"),
        (40, 1, 0.1, "observed_expected", "too few: 1 patients with the event and 4.0 expected"),
    ],
)
def test_groups_that_are_too_small_say_so_with_counts(n, n_events, risk, name, reason):
    events = np.arange(n) < n_events
    assert Members(events, np.full(n, risk), np.array(patients(n), dtype=object)).too_few()[name] == reason


def test_many_expected_and_none_observed_is_a_finding():
    few = Members(np.zeros(60, bool), np.full(60, 0.3), np.array(patients(60), dtype=object)).too_few()
    assert "observed_expected" not in few
    assert set(few) == {"auroc", "fnr"}


def test_many_samples_of_few_patients_are_few():
    ids = np.array([f"s{number % 6}" for number in range(300)], dtype=object)
    assert Members(np.arange(300) % 2 == 0, np.full(300, 0.5), ids).too_few()["all"] == "too few: 6 of 20 patients"


# Gaps


def test_holm_is_that_of_a_hand_worked_example():
    # Sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1, and none below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_the_interval_of_a_difference_is_that_of_newcombe():
    # Newcombe 1998, example (a), method 10: 56 of 70 and 48 of 80.
    one, other = (Estimate(hits / of, *wilson(hits / of, of)) for hits, of in ((56, 70), (48, 80)))
    found = difference(one, other)
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_few_hits_are_compared_exactly():
    # Fisher's tea: three of four against one of four.
    tea = Counted(0.75, hits=3, of=4), Counted(0.25, hits=1, of=4)
    assert p_value("fnr_at_0.3", *tea) == pytest.approx(0.4857, abs=5e-5)
    # None of 8 events where a fifth is expected: 0.8^8, one-sided; the other tail adds P(X >= 3 of 8) = 0.2031.
    none = Counted(0.0, hits=0, of=2), Counted(1.0, hits=8, of=8)
    assert p_value("observed_expected", *none) == pytest.approx(0.8**8 + 0.2031, abs=5e-5)


def test_a_group_of_ten_for_whom_risks_are_too_low_is_found_and_told():
    rng = np.random.default_rng(5)
    site = rng.integers(0, 10, 3000)
    events, risks = drawn(5, 3000, shift=0.8 * (site == 3))
    columns = {"site": [f"ward {number}" for number in site], "sex": rng.choice(["F", "M"], 3000).tolist()}
    found = by_subgroup(events, risks, patients(3000), columns, 0.3, resamples=200)
    surviving = [gap for gap in found.gaps if gap.survives]
    assert {(gap.column, gap.figure, gap.group) for gap in surviving} == {("site", "observed_expected", "ward 3")}
    assert [gap.other == OTHERS for gap in surviving] == [False, True]
    here = site == 3
    ratio, others = events[here].sum() / risks[here].sum(), events[~here].sum() / risks[~here].sum()
    assert surviving[1].value == pytest.approx(ratio)
    assert surviving[1].other_value == pytest.approx(others)
    assert found.sentences[0].startswith("Observed / expected differs between the groups of site: from ")
    assert found.sentences[1].startswith(f"site = ward 3: Observed / expected is {ratio:.3f}, and {others:.3f} for all")
    # Ten groups and two, with three figures each, are compared: a column of two groups once.
    assert sum(gap.other == OTHERS for gap in found.gaps) == 33


def compared(events, risks, codes, names, seed, resamples):
    """The groups of one column, and the figures outside of each."""
    ids, members = np.array(patients(len(events)), dtype=object), codes[:, None] == np.arange(len(names))
    figures = GroupFigures(events, risks, members, [0.3])
    wanted = ["auroc", "observed_expected", "fnr_at_0.3"]
    told = []
    for side, draws, among in zip(
        figures.of(np.ones((1, len(events)))), figures.draws(ids, seed, resamples), (members, ~members), strict=True
    ):
        of_side = [Members(events[here], risks[here], ids[here]) for here in among.T]
        points = [{name: side[name][0, place] for name in wanted} for place in range(len(names))]
        told.append(
            [
                one.estimates(points[place], {name: draws[name][:, place] for name in wanted})
                for place, one in enumerate(of_side)
            ]
        )
    groups = [Group("site", name, 0, 0, 0, found) for name, found in zip(names, told[0], strict=True)]
    return groups, {("site", name): found for name, found in zip(names, told[1], strict=True)}


def test_all_comparisons_together_find_a_gap_that_is_not_there_about_as_seldom_as_they_say():
    # Of 100 cohorts without a gap, 5 % are 5; 13 or more would come about once in 500.
    alarms = 0
    for seed in range(100):
        events, risks = drawn(seed, 300)
        site = np.random.default_rng(seed + 999).choice(5, 300, p=[0.4, 0.25, 0.15, 0.1, 0.1])
        alarms += any(gap.survives for gap in find_gaps(*compared(events, risks, site, list("ABCDE"), seed, 80)))
    assert alarms < 13


def test_intervals_of_small_groups_cover_the_truth_about_as_often_as_they_say():
    truth = {"auroc": roc_auc_score(*drawn(0, 400_000)), "observed_expected": 1.0}
    events, risks = drawn(1, 400_000)
    truth["fnr_at_0.3"] = 1 - recall_score(events, risks >= 0.3)
    covered, told = dict.fromkeys(truth, 0), dict.fromkeys(truth, 0)
    for seed in range(200):
        (small, _), _ = compared(*drawn(seed + 2, 80), np.repeat([0, 1], 40), ["a", "b"], seed, 100)
        for name, value in truth.items():
            if small.estimates[name].low is not None:
                told[name] += 1
                covered[name] += small.estimates[name].low <= value <= small.estimates[name].high
    shares = {name: covered[name] / told[name] for name in truth}
    assert min(told.values()) > 160
    assert all(0.9 <= share <= 1.0 for share in shares.values()), shares


# The whole


@pytest.fixture(scope="module")
def found():
    events, risks = drawn(1, 900)
    columns = {
        "sex": ["F", "M", None] * 300,
        "ward": ["A"] * 450 + ["B"] * 438 + ["C"] * 12,
        "postcode": [str(number % 300) + "x" for number in range(900)],
    }
    return (events, risks, columns), by_subgroup(events, risks, patients(900), columns, [0.2, 0.4], 7, resamples=80)


def test_figures_of_a_group_are_those_of_its_samples_alone(found):
    (events, risks, columns), result = found
    row = result.panels[0].table.set_index("group").loc["M"]
    here = np.array([value == "M" for value in columns["sex"]])
    e, r = events[here], risks[here]
    assert row[["n", "n_patients", "n_events"]].tolist() == [300, 300, e.sum()]
    assert row["auroc"] == pytest.approx(roc_auc_score(e, r))
    assert row["observed_expected"] == pytest.approx(e.sum() / r.sum())
    assert row["ece"] == pytest.approx(calibration_error(e, r))
    assert row["fnr_at_0.2"] == pytest.approx(1 - recall_score(e, r >= 0.2))
    assert row["fnr_at_0.4"] == pytest.approx(1 - recall_score(e, r >= 0.4))
    for name in ("auroc", "observed_expected", "intercept", "fnr_at_0.2"):
        assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]


def test_missing_values_are_a_group_and_a_small_group_has_counts_and_no_number(found):
    _, result = found
    assert [group.name for group in result.panels[0].groups] == ["F", "M", "not known"]
    small = result.panels[1].frame().set_index("group").loc["C"]
    assert small[["n", "AUROC", "Observed / expected"]].tolist() == [12, *["too few: 12 of 20 patients"] * 2]
    assert np.isnan(result.panels[1].table.set_index("group").loc["C", "auroc"])
    assert result.sentences[-1] == "Too few patients for any figure: ward = C (12)."
    assert not any("C" in {gap.group, gap.other} for gap in result.gaps)


def test_everything_is_told_as_json_and_drawn(found):
    _, result = found
    told = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert told["columns"]["ward"][3]["auroc"]["note"] == "too few: 12 of 20 patients"
    assert told["thresholds"] == [0.2, 0.4]
    assert "too many levels: 300" in told["problems"][0]
    assert [panel.title for panel in result.panels] == ["Subgroups: sex", "Subgroups: ward", "Gaps between groups"]
    labels = [label.get_text() for label in result.panels[1].plot().axes[0].get_yticklabels()]
    assert labels[2].startswith("C  (n = 12, ")
    assert isinstance(result.panels[2], GapFigure)
    names = [label.get_text() for label in result.panels[2].plot().axes[0].get_yticklabels()]
    assert "sex: False-negative rate at 0.4" in names
    table = result.panels[2].frame()
    assert (table["p_adjusted"].dropna() >= table["p"][table["p_adjusted"].notna()] - 1e-12).mean() > 0.9
    assert (table["low"] <= table["difference"]).all()


def test_the_same_seed_gives_the_same_and_copies_of_patients_give_no_narrower_intervals():
    events, risks = drawn(2, 200)
    sex = ["F", "M"] * 100
    one, again = (by_subgroup(events, risks, patients(200), {"sex": sex}, 0.3, 4, 100) for _ in range(2))
    assert one.as_dict() == again.as_dict()
    copies = by_subgroup(np.tile(events, 4), np.tile(risks, 4), patients(200) * 4, {"sex": sex * 4}, 0.3, 4, 100)
    for name in ("auroc", "observed_expected", "fnr_at_0.3"):
        wide, of_copies = (
            (estimate := each.panels[0].groups[0].estimates[name]).high - estimate.low for each in (one, copies)
        )
        assert of_copies == pytest.approx(wide, rel=0.25)


@pytest.mark.parametrize("event", [False, True])
def test_one_class_is_told_and_not_ranked(event):
    result = by_subgroup(np.full(60, event), np.linspace(0.1, 0.9, 60), patients(60), {"sex": ["F", "M"] * 30})
    for of_sex in result.panels[0].groups:
        assert of_sex.estimates["auroc"].note.startswith("too few: 0 of 5 patients with")
        assert of_sex.estimates["observed_expected"].value is not None
    assert result.thresholds == ()
    result.panels[0].plot()


def test_a_risk_that_is_the_same_for_everybody_has_no_gap_in_what_it_cannot_tell():
    rng = np.random.default_rng(0)
    events = rng.random(200) < 0.3
    result = by_subgroup(events, np.full(200, 0.3), patients(200), {"sex": ["F", "M"] * 100}, 0.2, resamples=30)
    (ranked,) = (gap for gap in result.gaps if gap.figure == "auroc" and gap.other == OTHERS)
    assert (ranked.value, ranked.other_value, ranked.p) == (0.5, 0.5, 1.0)


def test_without_a_threshold_the_prevalence_is_taken_and_never_one_half():
    events, risks = drawn(3, 100)
    result = by_subgroup(events, risks, patients(100), {"sex": ["F", "M"] * 50}, resamples=10)
    assert result.thresholds == (events.mean(),)


def test_without_a_usable_column_that_is_said():
    events, risks = drawn(3, 40)
    result = by_subgroup(events, risks, patients(40), {"site": ["A"] * 40}, 0.2, resamples=10)
    assert (result.panels, result.gaps) == ((), ())
    assert result.sentences == ("There is no column to divide the patients by.",)
    assert [problem.code for problem in result.problems] == ["one-level"]


def test_a_threshold_or_a_column_that_does_not_fit_is_refused():
    events, risks = drawn(3, 40)
    with pytest.raises(UsageError, match=r"threshold is 1.5, expected a risk above 0 and below 1"):
        by_subgroup(events, risks, patients(40), {"sex": ["F", "M"] * 20}, 1.5)
    with pytest.raises(ValueError, match=r"40 samples do not belong with the values of columns: \{'sex': 2\}"):
        by_subgroup(events, risks, patients(40), {"sex": ["F", "M"]}, 0.2)


# Mitigation


@pytest.fixture(scope="module")
def mitigated():
    rng = np.random.default_rng(11)
    ward = rng.choice(["A", "B", "C", "D"], 3000, p=[0.4, 0.3, 0.296, 0.004])
    events, after = drawn(11, 3000)
    before = np.where(ward == "B", expit(logit(after) - 1.0), after)
    return (events, before, after, ward), mitigation_table(
        events, before, after, patients(3000), ward, 0.2, "ward", 1, 150
    )


def test_a_mitigation_shows_what_it_does_for_a_group_and_nothing_for_those_it_leaves_alone(mitigated):
    (events, before, after, ward), result = mitigated
    table = result.table.set_index(["who", "figure"])
    b = ward == "B"
    for name, figure in {
        "observed_expected": lambda e, r: e.sum() / r.sum(),
        "fnr_at_0.2": lambda e, r: 1 - recall_score(e, r >= 0.2),
        "auroc": roc_auc_score,
        "brier": brier_score_loss,
        "ece": calibration_error,
        "net_benefit_at_0.2": lambda e, r: net_benefit(e, r, np.array([0.2]))[0],
    }.items():
        row = table.loc[("B", name)]
        expected = figure(events[b], before[b]), figure(events[b], after[b])
        assert (row["before"], row["after"]) == pytest.approx(expected)
        assert row["change"] == pytest.approx(expected[1] - expected[0])
    clear = ["observed_expected", "fnr_at_0.2", "brier", "ece"]
    assert table.loc["B"].loc[clear, "verdict"].tolist() == ["better"] * 4
    assert table.loc[("B", "auroc"), "verdict"] == "no clear change"  # a shift ranks nobody anew
    for who in ("A", "C", "outside B"):
        assert (table.loc[who, "change"].abs() < 1e-12).all()
        assert (table.loc[who, "verdict"] == "no clear change").all()
    assert table.loc[("everybody", "brier"), "verdict"] == "better"
    assert table.loc[("outside A", "brier"), "verdict"] == "better"


def test_the_change_has_the_interval_of_paired_resamples(mitigated):
    (events, before, after, ward), result = mitigated
    row = result.table.set_index(["who", "figure"]).loc[("B", "brier")]
    b = ward == "B"
    gain = ((events - after) ** 2 - (events - before) ** 2)[b]
    # The mean of a paired difference: its standard error by the textbook.
    reach = 1.96 * gain.std() / np.sqrt(b.sum())
    assert row["change"] == pytest.approx(gain.mean())
    assert (row["low"], row["high"]) == pytest.approx((gain.mean() - reach, gain.mean() + reach), abs=0.2 * reach)


def test_the_cost_of_a_mitigation_is_called_worse(mitigated):
    (events, before, after, ward), _ = mitigated
    result = mitigation_table(events, after, before, patients(3000), ward, 0.2, resamples=100)
    table = result.table.set_index(["who", "figure"])["verdict"]
    assert table["B", "fnr_at_0.2"] == "worse"
    assert table["everybody", "brier"] == "worse"
    assert any(line.startswith("B: ") and "(worse)" in line for line in result.sentences)


def test_a_mitigation_has_a_table_a_picture_and_sentences(mitigated):
    _, result = mitigated
    frame = result.frame().set_index("who")
    assert frame.index.tolist() == ["everybody", *"ABCD", *(f"outside {name}" for name in "ABCD")]
    assert frame.loc["D", "AUROC"].startswith("too few: ")
    assert frame.loc["A", "AUROC"].endswith("(unchanged)")
    assert "; better)" in frame.loc["B", "Observed / expected"]
    assert any(line.startswith("No clear change for: A, C") for line in result.sentences)
    assert json.loads(json.dumps(result.as_dict(), allow_nan=False))[0]["who"] == "everybody"
    left, _ = result.plot().axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["everybody", *"ABCD"]


def test_of_two_groups_each_is_everybody_outside_the_other():
    events, risks = drawn(4, 200)
    result = mitigation_table(events, risks, risks, patients(200), ["F", "M"] * 100, 0.3, resamples=20)
    assert result.table["who"].unique().tolist() == ["everybody", "F", "M"]
    assert set(result.table["verdict"]) == {"no clear change"}


def test_a_mitigation_over_300_groups_or_beyond_the_thresholds_is_refused():
    events, risks = drawn(4, 300)
    with pytest.raises(DataError, match="too many levels: 300"):
        mitigation_table(events, risks, risks, patients(300), [f"p{number}" for number in range(300)], 0.3)
    with pytest.raises(UsageError, match="threshold is 0, expected"):
        mitigation_table(events, risks, risks, patients(300), ["F", "M"] * 150, 0.0)
