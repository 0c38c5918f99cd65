import json

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from medfusion.core.errors import DataError, UsageError
from medfusion.evaluation.comparison import EVERY, Cost, compare_contenders
from medfusion.evaluation.metrics import calibration_error
from medfusion.evaluation.paired import delong
from medfusion.evaluation.patterns import by_pattern

NAMES = ["imaging", "ehr", "notes"]
CONTENDERS = {"imaging": (0,), "ehr": (1,), "notes": (2,), "late": (0, 1, 2), "joint": (0, 1, 2)}
MODALITIES = {name: tuple(NAMES[column] for column in columns) for name, columns in CONTENDERS.items()}
ORDER = [("imaging", "ehr", "notes"), "late", "joint"]


def cohort(strengths=(1.2, 0.8, 0.4), n=600, seed=0, interaction=0.0):
    """Samples whose log-odds are a sum of signals, two samples a patient; and risks by the signals that are there."""
    rng = np.random.default_rng(seed)
    signals = rng.normal(size=(n, 3)) * strengths
    both = interaction * ((signals[:, 0] > 0) & (signals[:, 1] > 0))
    events = rng.random(n) < expit(signals.sum(axis=1) + both - 0.8)
    present = rng.random((n, 3)) < [0.9, 0.8, 0.5]

    evidence = signals + 0.25 * rng.normal(size=(n, 3))
    more = 0.1 * rng.normal(size=n)

    def risks(there):
        found = {}
        for name, columns in CONTENDERS.items():
            own = np.isin(np.arange(3), columns) & there
            seen = both * own[:, :2].all(axis=1) + more * own.any(axis=1) if name == "joint" else 0.0
            found[name] = expit((evidence * own).sum(axis=1) + seen - 0.8)
        return found

    removed = {
        (name, rate): risks(
            present & ~((rng.random((n, 3)) < rate) & np.isin([*NAMES], NAMES if name == EVERY else name))
        )
        for name in [*NAMES, EVERY]
        for rate in (0.3, 0.7)
    }
    return events, risks(present), [f"s{number // 2}" for number in range(n)], present, removed


def compared(data, resamples=100, **changes):
    events, risks, ids, present, removed = data
    options = {
        "modalities_of": MODALITIES,
        "order": ORDER,
        "costs": {name: Cost(10.0 * (1 + index), 0.5 + index, 2.0) for index, name in enumerate(CONTENDERS)},
        "withheld": removed,
        "thresholds": [0.1, 0.3],
        "seed": 0,
        "resamples": resamples,
    }
    return compare_contenders(events, risks, ids, present, NAMES, **{**options, **changes})


@pytest.fixture(scope="module")
def data():
    return cohort()


@pytest.fixture(scope="module")
def comparison(data):
    return compared(data)


def test_the_figures_of_each_contender_are_those_of_scikit_learn(data, comparison):
    events, risks, *_ = data
    for name, risk in risks.items():
        estimates = comparison.estimates[name]
        assert estimates["auroc"].value == pytest.approx(roc_auc_score(events, risk))
        assert estimates["auprc"].value == pytest.approx(average_precision_score(events, risk))
        assert estimates["brier"].value == pytest.approx(brier_score_loss(events, risk))
        assert estimates["ece"].value == calibration_error(events, risk)
        flagged = risk >= 0.3
        benefit = (flagged & events).mean() - (flagged & ~events).mean() * 0.3 / 0.7
        assert estimates["net_benefit_at_0.3"].value == pytest.approx(benefit)


def test_every_figure_of_every_contender_has_an_interval_around_it(comparison):
    for figures in comparison.estimates.values():
        assert set(figures) == {
            *("auroc", "auprc", "brier", "ece", "ece_debiased", "ece_chance"),
            *("net_benefit_at_0.1", "net_benefit_at_0.3"),
        }
        assert all(found.low <= found.value <= found.high for found in figures.values())


def test_differences_are_of_the_recommended_contender_with_p_by_delong(data, comparison):
    events, risks, ids, *_ = data
    chosen = comparison.recommendation.name
    table = comparison.differences.set_index(["contender", "figure"])
    assert set(comparison.differences["contender"]) == set(CONTENDERS) - {chosen}
    tested = delong(events, risks["ehr"], risks[chosen], ids)
    row = table.loc[("ehr", "auroc")]
    assert (row["difference"], row["standard_error"], row["p"]) == pytest.approx(
        (tested.value, tested.standard_error, tested.p)
    )
    assert row["p"] == pytest.approx(2 * norm.sf(abs(row["z"])))
    brier = table.loc[("ehr", "brier")]
    assert brier["difference"] == pytest.approx(
        brier_score_loss(events, risks["ehr"]) - brier_score_loss(events, risks[chosen])
    )
    assert brier["low"] < brier["difference"] < brier["high"]


def test_signals_that_add_up_make_it_late_fusion(comparison):
    assert comparison.recommendation.name == "late"
    assert comparison.recommendation.verdict.startswith("Fusion beats imaging alone here")
    assert comparison.fusion_gain.low > 0


def test_an_interaction_makes_it_the_contender_that_sees_it_and_the_reason_says_by_how_much():
    found = compared(cohort(interaction=3.0, n=1200, strengths=(0.8, 0.8, 0.3)), withheld={}).recommendation
    assert found.name == "joint"
    assert (
        "Simpler contenders fall short of the best by more than one standard error (in brackets): late by 0.0"
        in found.reason
    )


def test_useless_fusion_is_said_in_the_first_sentence_and_one_modality_is_recommended():
    found = compared(cohort(strengths=(1.5, 0.0, 0.0)), withheld={}).recommendation
    assert found.name == "imaging"
    assert found.reason.startswith("Fusion does not beat imaging alone here")


def test_every_pattern_of_every_contender_is_there_as_for_one_model(data, comparison):
    events, risks, ids, present, _ = data
    table = comparison.patterns
    assert len(table) == 8 * len(CONTENDERS)
    assert table[table["contender"] == "late"]["n"].sum() == 600
    expected = by_pattern(events, risks["late"], ids, present, NAMES, 0, 100).drop(7)
    found = table[table["contender"] == "late"].drop(columns="contender").reset_index(drop=True).drop(7)
    assert found.equals(expected)


def test_a_contender_that_sees_nothing_of_a_pattern_has_no_auroc_there(comparison):
    table = comparison.patterns.set_index(["contender", "pattern"])
    row = table.loc[("ehr", "imaging")]
    assert row["note"] == "has none of its modalities"
    assert np.isnan(row["auroc"])
    assert row["brier"] > 0
    assert table.loc[("imaging", "imaging"), "auroc"] > 0.5
    assert table.loc[("late", "none"), "note"].startswith("too few: ")


def test_what_is_lost_without_a_modality_is_the_difference_to_nothing_removed(data, comparison):
    events, risks, _, _, removed = data
    table = comparison.withheld.set_index(["modality", "rate", "contender"])
    assert len(table) == 4 * 3 * len(CONTENDERS)
    row = table.loc[("imaging", 0.7, "late")]
    risk = removed["imaging", 0.7]["late"]
    assert row["auroc"] == pytest.approx(roc_auc_score(events, risk))
    assert row["loss"] == pytest.approx(roc_auc_score(events, risks["late"]) - row["auroc"])
    assert row["ece"] == pytest.approx(calibration_error(events, risk))
    assert 0 < row["loss_low"] < row["loss"] < row["loss_high"]
    assert table.loc[("imaging", 0.0, "late"), "loss"] == 0
    assert table.loc[("notes", 0.7, "ehr"), "loss"] == 0


def test_what_is_expected_to_be_missing_is_what_contenders_are_judged_by():
    events, risks, ids, present, removed = cohort(strengths=(1.5, 0.7, 0.0), n=1200)
    there = removed[EVERY, 0.7]
    as_they_are = compared((events, risks, ids, present, removed))
    found = compared((events, risks, ids, present, removed), expect_missing=0.7)
    assert (as_they_are.expect_missing, found.expect_missing) == (0.0, 0.7)
    for name in CONTENDERS:
        estimates = found.estimates[name]
        assert estimates["auroc"].value == pytest.approx(roc_auc_score(events, there[name]))
        assert estimates["brier"].value == pytest.approx(brier_score_loss(events, there[name]))
    fused, single = (max(of, key=lambda name: roc_auc_score(events, there[name])) for of in (["late", "joint"], NAMES))
    tested = delong(events, there[fused], there[single], ids)
    assert found.fusion_gain.value == pytest.approx(tested.value)
    assert found.fusion_gain.p == pytest.approx(tested.p)
    area = roc_auc_score(events, risks[found.recommendation.name])
    assert f"{found.recommendation.name} has an AUROC of {area:.3f}" in found.recommendation.sentences[2]
    assert found.patterns.equals(as_they_are.patterns)
    assert found.withheld.equals(as_they_are.withheld)
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["expect_missing"] == 0.7


def test_a_modality_that_suffices_on_complete_records_may_not_where_it_is_often_missing():
    rng = np.random.default_rng(4)
    n = 2000
    film = rng.normal(size=n)
    lab = 0.9 * film + np.sqrt(1 - 0.9**2) * rng.normal(size=n)
    events = rng.random(n) < expit(2 * film)
    # Half of the films and half of the values, each by itself; the value stands in for the film that is gone.
    no_film, no_lab = rng.random((2, n)) < 0.5
    gone = {
        "imaging": np.where(no_film, 0.0, 2 * film),
        "late": np.where(no_film, np.where(no_lab, 0.0, 1.5 * lab), 2 * film),
    }
    found = {
        missing: compare_contenders(
            events,
            {"imaging": expit(2 * film), "late": expit(2 * film + 0.01 * lab)},
            [str(number) for number in range(n)],
            np.ones((n, 2), dtype=bool),
            ["imaging", "ehr"],
            modalities_of={"imaging": ("imaging",), "late": ("imaging", "ehr")},
            order=["imaging", "late"],
            costs={},
            withheld={(EVERY, 0.5): {name: expit(logits) for name, logits in gone.items()}},
            thresholds=[0.3],
            seed=0,
            resamples=50,
            expect_missing=missing,
        ).recommendation
        for missing in (0.0, 0.5)
    }
    assert (found[0.0].name, found[0.5].name) == ("imaging", "late")
    assert found[0.5].verdict.startswith("Fusion beats imaging alone where 50 % of each modality is missing")


def test_the_dictionary_is_json_and_says_what_the_tables_say(comparison):
    told = json.loads(json.dumps(comparison.as_dict(), allow_nan=False))
    assert list(told["contenders"]) == list(CONTENDERS)
    assert told["contenders"]["late"]["auroc"]["value"] == comparison.estimates["late"]["auroc"].value
    assert told["contenders"]["late"]["cost"] == {"fit_s": 40.0, "score_ms": 3.5, "size_mb": 2.0}
    assert told["contenders"]["ehr"]["modalities"] == ["ehr"]
    assert (
        told["recommendation"]["verdict"] == comparison.recommendation.reason[: len(told["recommendation"]["verdict"])]
    )
    assert told["fusion_gain"]["p"] == comparison.fusion_gain.p
    assert [len(told[name]) for name in ("differences", "patterns", "withheld")] == [28, 40, 60]
    assert told["thresholds"] == [0.1, 0.3]


def test_the_headline_shows_the_recommended_one_and_what_fusion_gains(comparison):
    table = comparison.frame().set_index("label")
    assert list(table.index[:4]) == ["AUROC, late", "AUROC, imaging alone", "Fusion less single", "ECE"]
    gain = table.loc["Fusion less single"]
    assert gain["value"] == pytest.approx(comparison.fusion_gain.value)
    assert "p " in gain["meaning"]
    assert table["note"].eq("").all()


def test_every_panel_has_a_picture_and_a_table(comparison, tmp_path):
    assert [type(panel).__name__ for panel in comparison.panels] == [
        "ContenderFigure",
        "DifferenceFigure",
        "PatternComparison",
        "MissingnessFigure",
        "CostFigure",
    ]
    rows = [5, 4, 24, 12, 5]
    for number, (panel, expected) in enumerate(zip(comparison.panels, rows, strict=True)):
        path = tmp_path / f"{number}.svg"
        panel.plot().savefig(path)
        assert path.stat().st_size > 5_000
        assert "<image" not in path.read_text(encoding="utf-8")
        assert panel.title
        assert panel.caption
        assert len(panel.frame()) == expected


def test_the_tables_of_panels_say_why_there_is_no_number(comparison):
    patterns = comparison.panels[2].frame()
    row = patterns[(patterns["pattern"] == "imaging") & (patterns["figure"] == "AUROC")].iloc[0]
    assert row["ehr"] == "has none of its modalities"
    assert row["imaging"].count(" to ") == 1
    assert patterns[patterns["pattern"] == "none"]["late"].str.startswith("too few: ").all()


def test_the_same_seed_gives_the_same_comparison(data, comparison):
    assert compared(data).as_dict() == comparison.as_dict()


def test_a_single_contender_without_costs_or_removal_has_fewer_panels(data):
    events, risks, ids, present, _ = data
    found = compare_contenders(
        events,
        {"late": risks["late"]},
        ids,
        present,
        NAMES,
        modalities_of=MODALITIES,
        order=["late"],
        costs={},
        withheld={},
        thresholds=[0.2],
        seed=0,
        resamples=20,
    )
    assert [type(panel).__name__ for panel in found.panels] == ["ContenderFigure", "PatternComparison"]
    assert found.fusion_gain is None
    json.dumps(found.as_dict(), allow_nan=False)
    for panel in found.panels:
        panel.plot()
        panel.frame()
    assert found.frame()["label"].tolist()[:2] == ["AUROC, late", "ECE"]


def test_one_patient_has_figures_without_intervals_and_pictures_all_the_same(data):
    events, risks, ids, present, removed = data
    found = compared((events, risks, ["only"] * len(ids), present, removed), resamples=10)
    assert found.estimates["late"]["auroc"].note == "no interval: one patient"
    assert found.recommendation.name == "imaging"
    json.dumps(found.as_dict(), allow_nan=False)
    for panel in found.panels:
        panel.plot().canvas.draw()
        panel.frame()


@pytest.mark.parametrize("thresholds", [[0.0], [0.2, 1.0], [20]])
def test_a_threshold_outside_zero_and_one_is_refused(data, thresholds):
    with pytest.raises(UsageError, match="expected a risk above 0 and below 1"):
        compared(data, thresholds=thresholds)


def test_one_class_is_refused_with_what_was_got(data):
    events, *others = data
    with pytest.raises(DataError, match=r"'600 samples, none of them with the event'.*one-class"):
        compared((np.zeros_like(events), *others))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"withheld": {("film", 0.3): {}}}, r"not known: \['film'\]; the cohort has \['imaging', 'ehr', 'notes'\]"),
        ({"withheld": {("ehr", 30): {}}}, "rate of removal is 30, expected above 0 and at most 1"),
        ({"withheld": {("ehr", 0.3): {"stack": np.full(600, 0.5)}}}, r"do not take part: \['stack'\]"),
        ({"expect_missing": 0.5}, r"no risks with 0.5 of each modality removed: \['ehr', 'imaging', 'joint', 'late'"),
        ({"order": ["late", "joint"]}, "the order names"),
        ({"modalities_of": {**MODALITIES, "late": ("ecg",)}}, r"not known: \['ecg'\]"),
    ],
)
def test_what_does_not_belong_together_is_refused(data, changes, said):
    with pytest.raises(ValueError, match=said):
        compared(data, resamples=5, **changes)


def test_a_risk_with_something_removed_that_is_no_probability_is_refused(data):
    _, risks, *_ = data
    with pytest.raises(ValueError, match=r"risks are not within \[0, 1\]"):
        compared(data, withheld={("ehr", 0.3): {"late": logit(risks["late"])}})
