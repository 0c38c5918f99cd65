"""What is recorded is kept, all of it, and comes back as it was said."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from medfusion.core.errors import UsageError
from medfusion.review import Action, ReviewStore, Verdict


def change(url, statement):
    """Do something to the database that medfusion would not do."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(statement))


def test_a_decision_comes_back_as_it_was_said(store, about):
    before = datetime.now(UTC)
    said = store.decide(
        about, "kim@example.org", Verdict.EXPECTED, "용혈된 검체", "ask the ward\n'\"; --", blinded=True
    )
    assert before <= said.time <= datetime.now(UTC)
    assert store.decisions(about) == [said]
    assert (said.about, said.reader, said.verdict) == (about, "kim@example.org", Verdict.EXPECTED)
    assert (said.reason, said.comment, said.blinded) == ("용혈된 검체", "ask the ward\n'\"; --", True)


@pytest.mark.parametrize("verdict", [Verdict.AGREE, Verdict.OVERRIDE])
def test_nobody_judges_a_risk_that_they_have_not_been_shown(store, about, verdict):
    with pytest.raises(UsageError, match="has not been shown the risk"):
        store.decide(about, "kim", verdict, "a reason", blinded=True)
    assert store.decisions() == []


def test_all_decisions_of_all_readers_are_kept_latest_last(store, about):
    for reader, verdict in [("kim", "unsure"), ("lee", "agree"), ("kim", "agree")]:
        store.decide(about, reader, Verdict(verdict))
    assert [(each.reader, each.verdict.value) for each in store.decisions(about)] == [
        ("kim", "unsure"),
        ("lee", "agree"),
        ("kim", "agree"),
    ]


def test_decisions_about_a_patient_are_those_of_the_prediction_time_by_whatever_model(store, about):
    others = [
        replace(about, subject_id="P2"),
        replace(about, prediction_time=about.prediction_time + timedelta(microseconds=1)),
        replace(about, prediction_time=about.prediction_time.replace(tzinfo=UTC)),
    ]
    for each in others:
        store.decide(each, "kim", Verdict.AGREE)
    newer = replace(about, model_id="model-2", input_hash="")
    store.decide(about, "kim", Verdict.AGREE)
    store.decide(newer, "kim", Verdict.AGREE)
    assert [each.about for each in store.decisions(about)] == [about, newer]
    assert [each.about for each in store.decisions()] == [*others, about, newer]


def test_decisions_are_there_when_the_store_is_opened_again(url, store, about):
    said = store.decide(about, "kim", Verdict.AGREE)
    again = ReviewStore.open(url, create=False)
    assert again.decisions() == [said]
    again.close()


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_an_override_needs_a_reason(store, about, reason):
    with pytest.raises(UsageError, match="an override needs a reason"):
        store.decide(about, "kim", Verdict.OVERRIDE, reason=reason)
    assert store.events() == []


@pytest.mark.parametrize(
    ("reader", "comment", "said"),
    [
        ("", "", "somebody whose doing it was"),
        ("kim\0", "", "holds a NUL character"),
        ("kim", "\ud800", "cannot be kept: Unicode"),
        ("kim", float("nan"), "cannot be kept"),
        ("kim", object(), "cannot be kept"),
    ],
)
def test_what_no_database_keeps_is_refused_before_it_is_lost(store, reader, comment, said):
    with pytest.raises(UsageError, match=said):
        store.note(reader, Action.REFUSAL, {"comment": comment})
    assert store.events() == []


def test_every_kind_of_event_is_in_the_trail_in_its_order(store, about):
    store.note("kim", Action.SIGN_IN, {"roles": ["reviewer"]})
    store.saw(about, "kim", "patient")
    store.note("kim", Action.WHAT_IF, {"lactate": 2.5, "dropped": ["imaging"]}, about)
    store.decide(about, "kim", Verdict.UNSURE, comment="\0")
    store.note("lee", Action.REFUSAL, {"page": "audit"})
    events = store.events()
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]
    assert [event.action for event in events] == ["sign-in", "view", "what-if", "decision", "refusal"]
    assert [event.about for event in events] == [None, about, about, about, None]
    assert events[2].detail == {"lactate": 2.5, "dropped": ["imaging"]}
    assert store.decisions()[0].comment == "\0"
    assert [event.seq for event in store.events(after=2, limit=2)] == [3, 4]


@pytest.mark.parametrize("action", [Action.DECISION, Action.VIEW])
def test_a_decision_cannot_be_recorded_past_its_own_method(store, action):
    with pytest.raises(UsageError, match=f"a {action} is recorded by"):
        store.note("kim", action, {})


def test_the_summary_is_the_latest_decision_per_patient(store, about):
    other = replace(about, subject_id="P2", input_hash="")
    store.decide(about, "kim", Verdict.UNSURE)
    store.decide(other, "kim", Verdict.AGREE)
    store.decide(about, "lee", Verdict.AGREE)
    last = store.decide(about, "kim", Verdict.OVERRIDE, "reason")
    store.saw(about, "park", "patient")
    rows = {row["subject_id"]: row for row in store.summary().to_pylist()}
    assert rows["P1"] == {
        "subject_id": "P1",
        "prediction_time": about.prediction_time,
        "readers": 2,
        "verdict": "override",
        "reader": "kim",
        "time": last.time,
        "model_id": about.model_id,
        "input_hash": about.input_hash,
    }
    assert (rows["P2"]["readers"], rows["P2"]["verdict"]) == (1, "agree")


def test_the_summary_has_the_times_of_the_predictions_that_it_is_joined_with(store, about):
    zoned = replace(about, prediction_time=datetime(2026, 3, 1, 9, 30, tzinfo=UTC))
    assert store.summary().num_rows == 0
    store.decide(zoned, "kim", Verdict.AGREE)
    assert store.summary()["prediction_time"].type == pa.timestamp("us")
    assert store.summary().num_rows == 0
    assert store.summary(zoned=True)["prediction_time"].type == pa.timestamp("us", tz="UTC")
    assert store.summary(zoned=True)["prediction_time"].to_pylist() == [zoned.prediction_time]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE review_events SET who = 'nobody' WHERE seq = 1",
        "DELETE FROM review_events WHERE seq = 1",
        "DELETE FROM review_events",
    ],
)
def test_the_database_refuses_to_change_or_delete_an_event(url, store, about, statement):
    store.saw(about, "kim", "patient")
    before = store.events()
    with pytest.raises(DBAPIError, match="append-only"):
        change(url, statement)
    assert store.events() == before


@pytest.mark.parametrize(("seq", "previous"), [("seq", "'other'"), ("seq + 1", "previous")])
def test_sqlite_refuses_to_replace_an_event(tmp_path, about, seq, previous):
    store = ReviewStore.open(tmp_path / "review.db")
    store.saw(about, "kim", "patient")
    before = store.events()
    columns = (
        f"{seq}, time, 'nobody', action, subject_id, prediction_time, model_id, input_hash, what, {previous}, hash"
    )
    with pytest.raises(DBAPIError, match="append-only"):
        change(
            f"sqlite:///{tmp_path}/review.db",
            f"INSERT OR REPLACE INTO review_events SELECT {columns} FROM review_events",  # noqa: S608
        )
    assert store.events() == before


def test_postgresql_refuses_to_truncate(postgresql, about):
    store = ReviewStore.open(postgresql)
    store.saw(about, "kim", "patient")
    with pytest.raises(DBAPIError, match="append-only"):
        change(postgresql, "TRUNCATE review_events")
    assert len(store.events()) == 1
    store.close()
