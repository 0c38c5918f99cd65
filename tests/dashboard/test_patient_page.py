"""The patient page in Streamlit's own harness, on a real model, cohort and folder of scores."""

import shutil
import sqlite3
from datetime import datetime
from io import BytesIO
from pathlib import Path

import pyarrow.parquet as pq
import pypdf
import pytest
from streamlit.testing.v1 import AppTest

import dashboards
from dashboards import look as looks
from dashboards.context import reader
from dashboards.language import MINUS
from dashboards.printed import maker
from dashboards.scores import Query
from medfusion.pipeline import explain, open_for_use
from medfusion.review import Action, ReviewStore, Scored, Verdict

PAGE = Path(dashboards.__file__).parent / "screens" / "patient.py"
SECONDS = 120


@pytest.fixture
def rows(scored):
    """Return the predictions by falling risk, as the worklist has them."""
    table = pq.read_table(scored / "predictions.parquet").to_pylist()
    return sorted(table, key=lambda row: (-row["risk"], row["subject_id"], row["prediction_time"]))


@pytest.fixture
def store(tmp_path):
    return ReviewStore.open(f"sqlite:///{tmp_path / 'reviews.db'}")


def about(row):
    return Scored(row["subject_id"], row["prediction_time"], row["model_id"], row["input_hash"])


def run(row, **state):
    page = AppTest.from_file(str(PAGE), default_timeout=SECONDS)
    page.session_state["about"] = about(row)
    for name, value in state.items():
        page.session_state[name] = value
    return page.run()


def said(page):
    """Return all text of a page."""
    kinds = (page.title, page.subheader, page.markdown, page.caption, page.info, page.warning, page.error, page.text)
    return "\n".join([str(each.value) for kind in kinds for each in kind] + [str(each.value) for each in page.metric])


def field(page, kind, name):
    """Return the one widget of a kind whose key begins so."""
    (found,) = [each for each in getattr(page, kind) if (each.key or "").startswith(name)]
    return found


def test_the_risk_of_the_worklist_with_its_interval_and_the_data_of_every_kind(told, rows):
    told()
    row = rows[0]
    page = run(row)
    assert not page.exception
    assert page.title[0].value == row["subject_id"]
    risk = f"{100 * row['risk']:.0f}%" if 0.095 <= row["risk"] < 0.905 else f"{100 * row['risk']:.1f}%"
    assert page.metric[0].value == risk
    headings = " ".join(each.value for each in page.subheader)
    for name in ("ehr", "imaging", "notes"):
        assert (f"{row[f'share_{name}']:+.2f}".replace("-", MINUS) in headings) == row[f"present_{name}"]
    assert "The data have changed" not in said(page)


def test_without_a_patient_or_a_cohort_the_page_says_what_to_do(told, rows):
    told()
    page = AppTest.from_file(str(PAGE), default_timeout=SECONDS).run()
    assert [each.value for each in page.info] == ["Choose a patient in the worklist."]
    told(cohort=None)
    assert "--cohort COHORT --model MODEL" in said(run(rows[0]))


def test_every_view_is_on_the_audit_trail_and_a_rerun_is_none(told, rows, store):
    told()
    page = run(rows[0])
    page.run()
    field(page, "text_area", "comment-").set_value("seen").run()
    views = [event for event in store.events() if event.action == Action.VIEW]
    assert [(event.about, event.who) for event in views] == [(about(rows[0]), reader().name)]
    page.session_state["about"] = about(rows[1])
    page.run()
    views = [event for event in store.events() if event.action == Action.VIEW]
    assert [event.about.subject_id for event in views] == [rows[0]["subject_id"], rows[1]["subject_id"]]


def test_an_override_needs_a_reason_and_is_kept_with_it(told, rows, store):
    told()
    page = run(rows[0])
    field(page, "radio", "verdict-").set_value(Verdict.OVERRIDE)
    field(page, "text_area", "comment-").set_value("will look again")
    _record(page)
    assert "say why" in said(page)
    assert store.decisions() == []
    field(page, "text_input", "reason-").set_value("lactate was haemolysed")
    _record(page)
    (decision,) = store.decisions(about(rows[0]))
    assert (decision.verdict, decision.reason, decision.comment) == (
        Verdict.OVERRIDE,
        "lactate was haemolysed",
        "will look again",
    )
    assert decision.about == about(rows[0])
    assert not decision.blinded
    assert "lactate was haemolysed" in said(page)
    assert field(page, "text_input", "reason-").value == ""


def _record(page):
    (button,) = [each for each in page.button if each.label == "Record"]
    return button.click().run()


def test_while_the_database_is_locked_what_was_typed_stays_and_is_recorded_later(told, rows, store, tmp_path):
    told()
    page = run(rows[0])
    field(page, "text_area", "comment-").set_value("not to be lost")
    lock = sqlite3.connect(tmp_path / "reviews.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    _record(page)
    assert any("Not recorded: the database is locked" in each.value for each in page.error)
    assert field(page, "text_area", "comment-").value == "not to be lost"
    lock.execute("ROLLBACK")
    _record(page)
    assert [decision.comment for decision in store.decisions(about(rows[0]))] == ["not to be lost"]


def test_a_blinded_reader_sees_data_without_risk_until_an_opinion_is_recorded(told, rows, store):
    told(blinded=True)
    row = rows[0]
    store.decide(about(row), "somebody else", Verdict.AGREE, comment="the first reader's remark")
    page = run(row)
    text = said(page)
    assert not page.metric
    assert "the first reader's remark" not in text
    assert "Reasons" not in text
    assert f"{100 * row['risk']:.0f}%" not in text
    field(page, "radio", "verdict-").set_value(Verdict.EXPECTED)
    _record(page)
    mine = store.decisions(about(row))[-1]
    assert mine.blinded
    assert mine.verdict is Verdict.EXPECTED
    assert page.metric
    assert "the first reader's remark" in said(page)


def test_what_if_shows_both_risks_and_is_on_the_audit_trail(told, rows, store):
    told()
    row = next(row for row in rows if row["present_imaging"] and row["present_ehr"])
    page = run(row)
    field(page, "multiselect", "whatif-without-").set_value(["imaging"]).run()
    assert not page.exception
    real, hypothetical = (each for each in page.metric if each.label in {"As recorded", "Hypothetical"})
    logit = row["logit"] - row["share_imaging"]
    assert abs(float(hypothetical.value.rstrip("%")) - 100 / (1 + 2.718281828**-logit)) < 0.6
    assert real.value == page.metric[0].value
    (event,) = [event for event in store.events() if event.action == Action.WHAT_IF]
    assert event.detail == {"changes": ["without imaging"]}
    assert event.about == about(row)
    page.run()
    assert len([event for event in store.events() if event.action == Action.WHAT_IF]) == 1


def test_a_value_can_be_changed(told, rows):
    told()
    row = next(row for row in rows if row["present_ehr"])
    page = run(row)
    choice = field(page, "multiselect", "whatif-values-")
    choice.set_value([("ehr", "age_years")]).run()
    (age,) = [each for each in page.number_input if each.key.startswith("whatif-value-")]
    age.set_value(age.value - 10 if age.value > 50 else age.value + 10).run()
    assert not page.exception
    assert any("age_years" in each.value for each in page.text)
    assert [each.label for each in page.metric] == ["Risk", "As recorded", "Hypothetical"]


def test_similar_patients_of_the_training_are_shown_when_asked(told, rows, synthetic, cache):
    told(training=synthetic.folder, cache=cache)
    page = run(rows[0])
    field(page, "toggle", "similar-").set_value(True).run()
    assert not page.exception
    (frame,) = [each.value for each in page.table if "Event" in each.value]
    assert len(frame) == 5
    assert set(frame["Event"]) <= {"yes", "no"}
    told()
    assert "--training COHORT" in said(run(rows[0]))


def test_the_next_patient_is_the_next_of_the_worklist(told, rows):
    told()
    page = run(rows[0], worklist_query=Query(), worklist_start=0)
    back, on = (page.button(key=f"patient-{side}") for side in ("left", "right"))
    assert back.disabled
    on.click().run()
    assert page.title[0].value == rows[1]["subject_id"]
    page.button(key="patient-left").click().run()
    assert page.title[0].value == rows[0]["subject_id"]
    last = run(rows[-1], worklist_query=Query(), worklist_start=0)
    assert last.button(key="patient-right").disabled
    alone = run(rows[0])
    assert alone.button(key="patient-right").disabled


def test_who_vanished_or_whose_files_are_broken_is_told_of(told, rows, new_patients, tmp_path):
    copied = shutil.copytree(new_patients.folder, tmp_path / "cohort")
    row = next(row for row in rows if row["present_imaging"])
    for film in (copied / "imaging").rglob("*.dcm"):
        if row["subject_id"] in film.parts:
            film.write_bytes(film.read_bytes()[:1500])
    told(cohort=copied)
    page = run(row)
    assert not page.exception
    text = said(page)
    assert "The data have changed since they were scored" in text
    assert "imaging" in " ".join(each.value for each in page.text)
    labels = copied / "labels" / "deterioration.csv"
    kept = [line for line in labels.read_text("utf-8").splitlines() if not line.startswith(row["subject_id"])]
    labels.write_text("\n".join(kept) + "\n", "utf-8")
    assert "no longer in the cohort" in said(run(row))
    (copied / "cohort.toml").write_text("not toml", "utf-8")
    assert "The cohort cannot be read (bad-toml)" in said(run(row))


def test_the_printed_report_has_the_right_name_and_risk(told, rows, trained, new_patients, cache, store):
    told()
    row = rows[0]
    store.decide(about(row), "dr.kim", Verdict.UNSURE, comment="다시 볼 것")
    page = run(row)
    assert not page.exception
    (button,) = page.get("download_button")
    assert button.proto.label == "Printable report (PDF)"
    opened = open_for_use(trained.folder, new_patients.folder, cache)
    report = explain(opened, row["subject_id"], row["prediction_time"])
    shown = page.session_state[looks._LOOK]
    text = pypdf.PdfReader(BytesIO(maker(shown, store.decisions(about(row)))())).pages[0].extract_text()
    assert [event.about for event in store.events() if event.action == Action.EXPORT] == [about(row)]
    assert row["subject_id"] in text
    assert f"{100 * report.explanation.risk:.0f}%" in text or f"{100 * report.explanation.risk:.1f}%" in text
    assert row["input_hash"] in text
    assert "다시 볼 것" in text
    assert str(datetime.now().year) in text


def test_korean_is_spoken_where_the_catalogue_has_it(told, rows):
    told()
    page = run(rows[0], language="ko")
    assert not page.exception
    assert page.metric[0].label == "위험도"
