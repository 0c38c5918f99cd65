"""Cohort, model and audit pages: what stands in the files and in the trail is what they show."""

import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from streamlit.testing.v1 import AppTest

import dashboards
from dashboards import context, language
from dashboards.settings import VARIABLE
from medfusion.outputs.report import write_report
from medfusion.review import Action, ReviewStore, Scored, Verdict

PAGES = Path(dashboards.__file__).parent / "screens"
HEADLINE = pd.DataFrame(
    {
        "label": ["AUROC", "AUPRC", "Brier score", "ECE", "Skill"],
        "value": [0.8124, np.nan, 0.1, 0.02, 0.3],
        "low": [0.77, np.nan, np.nan, 0.01, 0.2],
        "high": [0.86, np.nan, np.nan, 0.04, 0.4],
        "meaning": "how to read it",
        "note": ["", "too few: no sample has the event", "no interval: one patient", "", ""],
    }
)


class Curve:
    def __init__(self, title):
        self.title, self.caption = title, "A curve with *stars* and <b>tags</b>."

    def frame(self):
        return pd.DataFrame({"x": [0.0, 0.5, 1.0], "y": [1, 2, 3]})

    def plot(self):
        figure = Figure(figsize=(4, 3))
        figure.subplots().plot([0, 1], [0, 1])
        return figure


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """Return a function that draws a page of a dashboard with certain settings."""

    def show(page, **settings):
        said = {"scores": str(tmp_path), "reviews": f"sqlite:///{tmp_path / 'reviews.db'}", **settings}
        monkeypatch.setenv(VARIABLE, json.dumps(said))
        app = AppTest.from_file(PAGES / f"{page}.py", default_timeout=30).run()
        assert not app.exception, app.exception
        return app

    language.use("en")
    yield show
    context.store().close()
    context._store.clear()


@pytest.fixture
def report(tmp_path):
    folder = tmp_path / "evaluation"
    folder.mkdir()
    panels = [Curve("Calibration"), Curve("Decision curve")]
    write_report(
        folder / "report.html",
        "Evaluation of icu",
        HEADLINE,
        panels,
        {"Patients": 236},
        ["Out of fold."],
        ["It works."],
    )
    return folder


def test_a_report_shows_its_figures_and_every_picture_with_its_table_and_downloads(shown, report):
    app = shown("reports", reports=[str(report)])
    assert [(metric.label, metric.value) for metric in app.metric][:2] == [("AUROC", "0.812"), ("AUPRC", "not known")]
    captions = [caption.value for caption in app.caption]
    assert "0.77 to 0.86" in captions
    assert "too few: no sample has the event" in captions
    assert [tab.label for tab in app.tabs] == ["Calibration", "Decision curve"]
    for tab in app.tabs:
        pd.testing.assert_frame_equal(tab.dataframe[0].value, Curve("").frame())
    assert r"A curve with \*stars\* and \<b\>tags\</b\>." in captions
    said = [element.value for element in app.markdown]
    assert "**Patients:** 236" in said
    assert "**It works.**" in said


def test_one_of_several_reports_is_chosen_by_its_title(shown, report, tmp_path):
    other = tmp_path / "drift"
    other.mkdir()
    write_report(other / "report.html", "Drift of icu", HEADLINE, [Curve("Moved")], {"Samples": 12})
    app = shown("reports", reports=[str(report), str(other)])
    assert [header.value for header in app.header] == ["Evaluation of icu"]
    app.radio[0].set_value(other).run()
    assert [header.value for header in app.header] == ["Drift of icu"]


def test_without_a_report_or_a_model_the_page_says_what_to_do(shown):
    assert "--report FOLDER" in shown("reports").info[0].value
    assert "--model FOLDER" in shown("model").info[0].value


def test_the_model_page_shows_its_papers_as_they_stand_in_the_folder(shown, trained):
    app = shown("model", model=str(trained.folder))
    said = [element.value for element in app.markdown]
    for name in ("model_card.md", "tripod.md"):
        assert (trained.folder / name).read_text(encoding="utf-8").strip() in said
    assert json.loads(app.json[0].value)["model_id"] == trained.training.model.model_id


def about(tmp_path, events):
    """Write a trail of so many events, the first of them a decision."""
    store = ReviewStore.open(f"sqlite:///{tmp_path / 'reviews.db'}")
    store.decide(Scored("P1", datetime(2020, 1, 31, 9), "m1", "aa"), "kim", Verdict.OVERRIDE, reason="haemolysed")
    for _ in range(events - 1):
        store.note("kim", Action.SIGN_IN, {})
    head = store.head()
    store.close()
    return head


def test_the_trail_is_shown_latest_first_and_in_pages(shown, tmp_path):
    about(tmp_path, 120)
    app = shown("audit")
    assert app.table[0].value["Number"].tolist() == list(range(120, 70, -1))
    next(button for button in app.button if button.label == "Older").click().run()
    next(button for button in app.button if button.label == "Older").click().run()
    rows = app.table[0].value
    assert rows["Number"].tolist() == list(range(20, 0, -1))
    assert (rows["Who"].iloc[-1], rows["Patient"].iloc[-1], rows["Action"].iloc[-1]) == ("kim", "P1", "decision")


def test_a_whole_trail_is_called_whole_and_one_that_was_shortened_is_not(shown, tmp_path):
    head = about(tmp_path, 3)
    app = shown("audit")
    next(button for button in app.button if button.label == "Check the chain").click().run()
    assert "Whole: 3 events" in app.success[0].value
    assert app.code[0].value == str(head)
    app.text_input[0].set_value(f"4:{'ab' * 32}").run()
    next(button for button in app.button if button.label == "Check the chain").click().run()
    assert not app.success
    assert "Not whole" in app.error[0].value
