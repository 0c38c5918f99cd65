"""The worklist in Streamlit's own harness: what is sent to the browser, and what is not."""

import json
import shutil
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import streamlit as st
from damage import damaged
from streamlit.testing.v1 import AppTest

import dashboards
from dashboards.context import Reader
from dashboards.screens import worklist
from medfusion.review import ReviewStore, Scored, Verdict

APP = Path(dashboards.__file__).parent / "app.py"
SECONDS = 60


def run(**state):
    page = AppTest.from_file(str(APP), default_timeout=SECONDS)
    for name, value in state.items():
        page.session_state[name] = value
    return page.run()


def table(page):
    """Return what the table was given."""
    (component,) = page.get("bidi_component")
    return json.loads(component.proto.json)


def test_a_row_has_risk_interval_reasons_and_flags(told, scored):
    told()
    page = run()
    assert not page.exception
    first = table(page)["rows"][0]
    assert first["said"].endswith("%")
    assert first["low"] < first["risk"] < first["high"]
    assert len(first["reasons"]) == 3
    assert table(page)["columns"][1] == {"label": "Risk", "order": "risk", "sorted": "descending"}


def test_korean_is_spoken_throughout(told):
    told()
    page = run(language="ko")
    assert page.title[0].value == "워크리스트"
    assert table(page)["columns"][1]["label"] == "위험도"


def test_filters_narrow_the_list_and_lead_back_to_its_first_page(told):
    told()
    page = run(worklist_start=25)
    page.text_input(key="filter_text").set_value("P100005").run()
    assert {row["subject"] for row in table(page)["rows"]} == {"P100005"}
    page.text_input(key="filter_text").set_value("nobody").run()
    assert [info.value for info in page.info] == ["No patient matches these filters."]


def test_what_was_decided_is_in_the_list(told, tmp_path):
    told()
    row = table(run())["rows"][0]
    about = Scored(row["subject"], datetime.fromisoformat(row["time"]), "m", "h")
    store = ReviewStore.open(f"sqlite:///{tmp_path / 'reviews.db'}")
    store.decide(about, "kim", Verdict.OVERRIDE, reason="haemolysed")
    store.decide(about, "lee", Verdict.AGREE)
    page = run()
    row = table(page)["rows"][0]
    assert (row["verdict"], row["readers"]) == ("Agrees", "2 readers")
    page.radio(key="filter_reviewed").set_value(True).run()
    assert len(table(page)["rows"]) == 1


def test_a_blind_reader_sees_no_risk_before_an_opinion_of_their_own(told, tmp_path, monkeypatch):
    told(blinded=True)
    sent = table(run())
    row = sent["rows"][0]
    assert {"risk", "low", "high", "said", "interval"}.isdisjoint(row)
    assert (row["change"], row["reasons"]) == (None, [])
    assert "Model abstains" not in json.dumps(sent)
    assert [column["order"] for column in sent["columns"]] == ["subject_id", *[None] * 5]
    about = Scored(row["subject"], datetime.fromisoformat(row["time"]), "m", "h")
    store = ReviewStore.open(f"sqlite:///{tmp_path / 'reviews.db'}")
    store.decide(about, "somebody else", Verdict.EXPECTED, blinded=True)
    row = table(run())["rows"][0]
    assert "risk" not in row
    assert row["verdict"] == "Reviewed"
    store.decide(about, worklist.context.reader().name, Verdict.EXPECTED, blinded=True)
    first, second = table(run())["rows"][:2]
    assert "risk" in first
    assert "risk" not in second


@pytest.mark.parametrize(
    ("harm", "code"), [("nothing", "no-scores"), ("no column", "old-scores"), ("cut", "damaged-scores")]
)
def test_scores_that_cannot_be_used_give_a_page_that_says_what_to_do(told, scored, tmp_path, harm, code):
    told(scores=damaged(scored, tmp_path, harm))
    page = run()
    assert not page.exception
    assert "medfusion score" in page.error[0].value or "Score again" in page.error[0].value
    assert f"Code: {code}" in [caption.value for caption in page.caption]


def test_a_database_that_is_gone_gives_a_page_that_says_so(told, tmp_path):
    told(reviews=f"sqlite:///{tmp_path}/no/such/folder/reviews.db")
    page = run()
    assert not page.exception
    assert page.title[0].value == "Decisions cannot be recorded"


def test_what_an_error_says_of_a_patient_reaches_neither_page_nor_log(told, monkeypatch, caplog):
    def fail(*_arguments):
        raise ValueError("subject P100005 is odd")

    told()
    monkeypatch.setattr(worklist.context, "scores", fail)
    page = run()
    assert not page.exception
    assert "P100005" not in caplog.text + " ".join(each.value for each in [*page.error, *page.caption])
    assert "ValueError" in caplog.text


def test_a_reader_has_what_the_context_promises(told):
    told()
    reader = worklist.context.reader()
    assert isinstance(reader, Reader)
    assert reader.may("auditor")


def test_a_model_that_cannot_be_used_gives_a_page_that_says_what_to_do(told, trained, tmp_path):
    shutil.copytree(trained.folder, tmp_path / "model")
    (tmp_path / "model" / "card.json").write_text("{}", encoding="utf-8")
    told(model=tmp_path / "model")
    page = run(about=Scored("P100005", datetime(2024, 4, 10, tzinfo=UTC), "m", "h"))
    page.switch_page("screens/patient.py").run()
    assert not page.exception
    assert page.title[-1].value == "The model cannot be used"
    assert "train again" in page.error[0].value


def test_model_and_cohort_are_read_before_a_patient_is_asked_for(told):
    told()
    st.cache_resource.clear()
    worklist.context.warm()
    (reading,) = [each for each in threading.enumerate() if each.name == "warm"]
    reading.join(120)
    desk = worklist.context.desk()
    assert desk is not None
    # Nobody has asked for the cohort here: it is the thread that has opened it.
    assert desk._opened is not None
