import json

import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, brier_score_loss, roc_auc_score

from medfusion.evaluation.evaluate import evaluate
from medfusion.evaluation.figures import ReliabilityDiagram
from medfusion.evaluation.metrics import Estimate


def simulated(n=300, seed=0):
    rng = np.random.default_rng(seed)
    risks = rng.beta(1, 3, n)
    return rng.random(n) < risks, risks, [f"s{number // 3}" for number in range(n)], rng.random((n, 2)) < 0.7


@pytest.fixture(scope="module")
def evaluation():
    return evaluate(*simulated(), ["imaging", "ehr"], seed=0, resamples=200)


def test_the_figures_are_those_of_scikit_learn(evaluation):
    events, risks, _, _ = simulated()
    estimates = evaluation.estimates
    assert estimates["auroc"].value == pytest.approx(roc_auc_score(events, risks))
    assert estimates["auprc"].value == pytest.approx(average_precision_score(events, risks))
    assert estimates["brier"].value == pytest.approx(brier_score_loss(events, risks))
    assert (evaluation.n, evaluation.n_events, evaluation.n_subjects) == (300, events.sum(), 100)


def test_every_figure_lies_within_its_interval(evaluation):
    for name, estimate in evaluation.estimates.items():
        assert estimate.low <= estimate.value <= estimate.high, name


def test_the_dictionary_is_json_and_says_the_same_as_the_table(evaluation):
    told = json.loads(json.dumps(evaluation.as_dict(), allow_nan=False))
    table = evaluation.frame().set_index("label")
    assert told["auroc"]["value"] == pytest.approx(table.loc["AUROC", "value"])
    assert told["n"] == 300
    assert [row["pattern"] for row in told["patterns"]] == ["imaging + ehr", "imaging", "ehr", "none"]
    assert sum(row["n"] for row in told["reliability"]) == 300


def test_the_same_seed_gives_the_same_evaluation(evaluation):
    again = evaluate(*simulated(), ["imaging", "ehr"], seed=0, resamples=200)
    assert again.as_dict() == evaluation.as_dict()


def test_one_class_leaves_ranking_open_and_says_why():
    evaluation = evaluate(
        np.zeros(30, bool), np.full(30, 0.1), [str(number) for number in range(30)], np.ones((30, 1), bool), ["ehr"], 0
    )
    assert evaluation.estimates["auroc"] == Estimate(None, note="too few: no sample has the event")
    assert evaluation.estimates["brier"].value == pytest.approx(0.01)
    assert [type(panel).__name__ for panel in evaluation.panels] == ["ReliabilityDiagram", "PatternFigure"]
    json.dumps(evaluation.as_dict(), allow_nan=False)
    assert np.isnan(evaluation.frame()["value"].iloc[0])


def test_one_patient_gives_figures_without_intervals():
    events, risks, _, present = simulated(40)
    evaluation = evaluate(events, risks, ["only"] * 40, present, ["a", "b"], seed=0, resamples=20)
    assert evaluation.estimates["auroc"].low is None
    assert evaluation.estimates["auroc"].note == "no interval: one patient"


def test_the_curves_enclose_the_areas_that_are_told(evaluation):
    _, roc, precision_recall, _ = evaluation.panels
    table = roc.frame()
    area = auc(table["false_positive_rate"], table["sensitivity"])
    assert area == pytest.approx(evaluation.estimates["auroc"].value)
    steps = precision_recall.frame()
    area = -(np.diff(steps["sensitivity"]) * steps["precision"].iloc[:-1]).sum()
    assert area == pytest.approx(evaluation.estimates["auprc"].value)


def test_the_reliability_table_has_wilson_intervals():
    # Published example of Newcombe (1998): 81 of 263, Wilson 95 % interval .2553 to .3662.
    events = np.arange(2630) % 263 < 81
    table = ReliabilityDiagram(events, np.repeat(np.arange(10) / 10, 263), Estimate(0.1)).frame()
    assert table["n"].tolist() == [263] * 10
    assert table["n_events"].tolist() == [81] * 10
    assert table["low"].to_numpy() == pytest.approx(0.2553, abs=5e-5)
    assert table["high"].to_numpy() == pytest.approx(0.3662, abs=5e-5)
    assert table["mean_risk"].to_numpy() == pytest.approx(np.arange(10) / 10)


def test_every_panel_has_a_picture_of_its_own(evaluation, tmp_path):
    for number, panel in enumerate(evaluation.panels):
        path = tmp_path / f"{number}.png"
        panel.plot().savefig(path)
        assert path.stat().st_size > 5_000
        assert panel.title
        assert panel.caption
        assert len(panel.frame())


def test_drawing_leaves_no_global_figures_behind(evaluation):
    import matplotlib.pyplot as plt

    evaluation.panels[0].plot()
    assert plt.get_fignums() == []
