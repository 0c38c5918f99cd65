import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from medfusion.evaluation.metrics import calibration_error
from medfusion.evaluation.patterns import PatternFigure, by_pattern

NAMES = ["imaging", "ehr", "notes"]


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    risks = rng.random(600)
    present = rng.random((600, 3)) < [0.9, 0.7, 0.2]
    return rng.random(600) < risks, risks, [f"s{number // 2}" for number in range(600)], present


def test_every_pattern_has_a_row_and_every_sample_is_in_one(data):
    table = by_pattern(*data, NAMES, resamples=20)
    assert table["pattern"].tolist() == [
        "imaging + ehr + notes",
        "imaging + ehr",
        "imaging + notes",
        "ehr + notes",
        "imaging",
        "ehr",
        "notes",
        "none",
    ]
    assert table["n"].sum() == 600
    assert table["n_events"].sum() == data[0].sum()


def test_the_figures_of_a_pattern_are_those_of_its_samples_alone(data):
    events, risks, ids, present = data
    row = by_pattern(*data, NAMES, resamples=50).set_index("pattern").loc["imaging + ehr"]
    here = present[:, 0] & present[:, 1] & ~present[:, 2]
    assert row["n"] == here.sum()
    assert row["n_subjects"] == len(set(np.array(ids)[here]))
    assert row["auroc"] == pytest.approx(roc_auc_score(events[here], risks[here]))
    assert row["brier"] == pytest.approx(brier_score_loss(events[here], risks[here]))
    assert row["ece"] == pytest.approx(calibration_error(events[here], risks[here]))
    assert row["auroc_low"] < row["auroc"] < row["auroc_high"]


def test_too_few_samples_or_one_class_give_a_note_and_no_number():
    events = np.array([False] * 30 + [True, False] * 5)
    present = np.array([[True]] * 30 + [[False]] * 10)
    table = by_pattern(events, np.full(40, 0.2), [str(number) for number in range(40)], present, ["ehr"])
    assert table["note"].tolist() == ["one class: none has the event", "too few: 10 of 20 samples"]
    assert table[["auroc", "auroc_low", "brier", "ece"]].isna().all().all()
    assert table["n"].tolist() == [30, 10]


def test_a_pattern_that_does_not_occur_is_in_the_table_and_not_in_the_picture(data):
    events, risks, ids, present = data
    present[:, 2] = False
    figure = PatternFigure(by_pattern(events, risks, ids, present, NAMES, resamples=20))
    table = figure.frame().set_index("pattern")
    assert table.loc["notes", ["n", "note"]].tolist() == [0, "no sample"]
    shown = [label.get_text() for label in figure.plot().axes[0].get_yticklabels()]
    assert shown == table.index[table["n"] > 0].tolist()[::-1]
