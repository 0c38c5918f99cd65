"""The chain, computed anew from its description, and what becomes of it when somebody touches the database."""

import hashlib
import json
import sqlite3
from contextlib import closing
from dataclasses import fields
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfusion.core.errors import ReviewUnavailable, UsageError
from medfusion.review import Action, Event, ReviewStore, Verdict
from medfusion.review.chain import canonical

COLUMNS = [field.name for field in fields(Event)]
N = 9
ZEROS = "0" * 64


def hashed(row):
    """Return the hash of a row (all columns but the hash), as docs/review.md describes it."""
    text = json.dumps(list(row), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def fill(store, about):
    """Record nine events, of which 3, 6 and 9 are decisions."""
    for place in range(N // 3):
        store.note("kim", Action.SIGN_IN, {"roles": ["reviewer"], "n": place})
        store.saw(about, "김", "patient")
        store.decide(about, "김", Verdict.OVERRIDE, reason=f"왜냐하면 {place}")


@pytest.fixture
def path(tmp_path, about):
    """Return a database with nine events, its triggers gone, as somebody with the file can make it."""
    path = tmp_path / "review.db"
    fill(ReviewStore.open(path), about)
    with closing(sqlite3.connect(path)) as raw, raw:
        for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f"DROP TRIGGER {name}")
    return path


def tamper(path, *statements):
    with closing(sqlite3.connect(path)) as raw, raw:
        for statement in statements:
            raw.execute(*((statement,) if isinstance(statement, str) else statement))


def insert(path, row):
    tamper(path, (f"INSERT INTO review_events VALUES ({', '.join('?' * len(COLUMNS))})", row))  # noqa: S608


def rows(path):
    with closing(sqlite3.connect(path)) as raw:
        return raw.execute("SELECT * FROM review_events ORDER BY seq").fetchall()


def found(path, head=""):
    return ReviewStore.open(path, create=False).verify(head)


def rewrite(path, first, previous, change):
    """Write the chain anew from one event on, as somebody who knows how it is made."""
    for row in rows(path)[first - 1 :]:
        content = [*change(list(row[:-2])), previous]
        previous = hashed(content)
        assignments = ", ".join(f"{name} = ?" for name in COLUMNS)
        tamper(path, (f"UPDATE review_events SET {assignments} WHERE seq = ?", [*content, previous, row[0]]))  # noqa: S608


def test_every_event_carries_the_hash_of_all_of_it_and_of_the_one_before(store, about):
    fill(store, about)
    previous = ZEROS
    for place, event in enumerate(store.events()):
        row = [getattr(event, name) for name in COLUMNS]
        assert row[0] == place + 1
        assert row[-2:] == [previous, hashed(row[:-1])]
        previous = row[-1]
    verification = store.verify()
    assert (verification.ok, verification.checked, verification.first_bad, verification.reason) == (True, N, None, "")
    assert verification.head == f"{N}:{previous}"


def test_a_known_event_has_a_known_hash(monkeypatch, tmp_path, about):
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2026, 3, 1, 10, 0, tzinfo=UTC).astimezone(tz)

    monkeypatch.setattr("medfusion.review.store.datetime", Clock)
    store = ReviewStore.open(tmp_path / "review.db")
    store.decide(about, "김", Verdict.OVERRIDE, reason="dose")
    # printf '%s' '[1,"2026-03-01T10:00:00.000000+00:00","김",…]' | sha256sum
    text = (
        '[1,"2026-03-01T10:00:00.000000+00:00","김","decision","P1","2026-03-01T09:30:00.000000","model-1",'
        '"5d41402abc4b2a76b9719d911017c592",'
        '"{\\"blinded\\":false,\\"comment\\":\\"\\",\\"reason\\":\\"dose\\",\\"verdict\\":\\"override\\"}",'
        f'"{ZEROS}"]'
    )
    assert store.verify().head == f"1:{hashlib.sha256(text.encode()).hexdigest()}"


def test_an_empty_trail_is_in_order(store):
    verification = store.verify()
    assert (verification.ok, verification.checked, verification.head) == (True, 0, f"0:{ZEROS}")


@pytest.mark.parametrize("seq", [1, 5, N])
@pytest.mark.parametrize("name", [name for name in COLUMNS if name != "seq"])
def test_a_changed_cell_is_located(path, seq, name):
    tamper(path, (f"UPDATE review_events SET {name} = ? WHERE seq = ?", ["2020-01-01T00:00:00", seq]))  # noqa: S608
    verification = found(path)
    assert (verification.ok, verification.first_bad, verification.checked) == (False, seq, seq - 1)
    assert "changed" in verification.reason


@pytest.mark.parametrize("value", [b"\xff\xfe", 7, 1.5, b"{}"])
def test_a_cell_of_another_kind_is_located(path, value):
    tamper(path, ("UPDATE review_events SET what = ? WHERE seq = 4", [value]))
    assert found(path).first_bad == 4


def test_a_cell_that_is_no_text_is_located(path):
    tamper(path, "UPDATE review_events SET what = CAST(x'22ff22' AS TEXT) WHERE seq = 4")
    assert found(path).first_bad == 4


@pytest.mark.parametrize(
    ("gone", "first", "said"),
    [
        ("seq = 1", 1, "event 1 is missing"),
        ("seq = 5", 5, "event 5 is missing"),
        ("seq BETWEEN 4 AND 6", 4, "events 4 to 6 are missing"),
        (f"seq = {N}", N, f"event {N} is missing from the end"),
        ("seq > 7", 8, "events 8 to 9 are missing from the end"),
        ("seq > 0", 1, f"events 1 to {N} are missing from the end"),
    ],
)
def test_missing_events_are_located(path, gone, first, said):
    tamper(path, f"DELETE FROM review_events WHERE {gone}")  # noqa: S608
    verification = found(path)
    assert (verification.first_bad, verification.reason, verification.checked) == (first, said, first - 1)


def test_events_that_close_a_gap_under_other_numbers_are_located(path):
    tamper(path, "DELETE FROM review_events WHERE seq = 5")
    for seq in range(6, N + 1):
        tamper(path, f"UPDATE review_events SET seq = {seq - 1} WHERE seq = {seq}")  # noqa: S608
    assert found(path).first_bad == 5


def test_swapped_events_are_located(path):
    for old, new in ((3, 99), (7, 3), (99, 7)):
        tamper(path, f"UPDATE review_events SET seq = {new} WHERE seq = {old}")  # noqa: S608
    verification = found(path)
    assert (verification.first_bad, verification.checked) == (3, 2)
    assert "moved" in verification.reason


@pytest.mark.parametrize("seq", [0, -5])
def test_an_event_inserted_before_the_first_is_located(path, seq):
    insert(path, [seq, *rows(path)[0][1:9], "x", ZEROS])
    assert found(path).first_bad == seq


def test_an_event_added_to_the_end_without_its_hash_is_located(path):
    last = rows(path)[-1]
    insert(path, [N + 1, *last[1:9], last[10], last[10]])
    assert found(path).first_bad == N + 1


def test_an_event_written_anew_with_its_hash_does_not_bear_those_after_it(path):
    row = rows(path)[4]
    content = [*row[:2], "nobody", *row[3:-1]]
    tamper(path, ("UPDATE review_events SET who = 'nobody', hash = ? WHERE seq = 5", [hashed(content)]))
    verification = found(path)
    assert (verification.first_bad, verification.reason) == (
        5,
        "event 6 was not written after it: one of the two was exchanged",
    )


def test_a_first_event_that_follows_another_is_located(path):
    row = rows(path)[0]
    content = [*row[:-2], "f" * 64]
    tamper(path, ("UPDATE review_events SET previous = ?, hash = ? WHERE seq = 1", ["f" * 64, hashed(content)]))
    assert found(path).first_bad == 1


def test_a_chain_written_anew_to_its_end_is_found_by_a_head_noted_before(path):
    head = found(path).head
    rewrite(path, 5, rows(path)[3][-1], lambda row: [*row[:2], "nobody", *row[3:]])
    assert found(path).ok, "nothing in the database can tell"
    verification = found(path, head)
    assert (verification.ok, verification.first_bad) == (False, N)
    assert "was written anew" in verification.reason


def test_a_chain_cut_short_is_found_by_a_head_noted_before_whatever_the_database_says(path):
    head = found(path).head
    tamper(
        path,
        "DELETE FROM review_events WHERE seq > 6",
        "UPDATE sqlite_sequence SET seq = 6 WHERE name = 'review_events'",
    )
    assert found(path).ok
    assert (found(path, head).first_bad, found(path, head).reason) == (7, "events 7 to 9 are missing from the end")


def test_postgresql_finds_a_chain_cut_short_by_a_head_noted_before(postgresql, about):
    from sqlalchemy import NullPool, create_engine, text

    store = ReviewStore.open(postgresql)
    fill(store, about)
    head = store.verify().head
    with create_engine(postgresql.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool).begin() as raw:
        raw.execute(text("ALTER TABLE review_events DISABLE TRIGGER USER"))
        raw.execute(text("DELETE FROM review_events WHERE seq > 6"))
    assert store.verify().ok
    assert store.verify(head).first_bad == 7
    store.close()


def test_a_head_noted_before_is_still_there_after_more_events(store, about):
    fill(store, about)
    head = store.verify().head
    fill(store, about)
    assert store.verify(head).ok
    assert store.verify(head).checked == 2 * N


@pytest.mark.parametrize("head", ["x", "5", ":" + ZEROS, "5:" + "g" * 64, "5:" + "ab", "-1:" + ZEROS, "٣:" + ZEROS])
def test_a_head_of_another_form_is_wrong_usage(path, head):
    with pytest.raises(UsageError, match="NUMBER:HASH"):
        found(path, head)


@pytest.mark.parametrize("what", ["not JSON", "[]", '{"verdict":"agree"}', '{"verdict":"maybe"}'])
def test_a_decision_that_was_changed_is_no_traceback_and_shows_nothing_of_it(path, what):
    tamper(path, ("UPDATE review_events SET what = ? WHERE seq = 6", [what]))
    with pytest.raises(ReviewUnavailable) as caught:
        ReviewStore.open(path).decisions()
    assert str(caught.value) == ("event 6 of the review database is not as it was written; run: medfusion audit verify")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(deadline=None, max_examples=50)
@given(JSON)
def test_canonical_json_says_what_was_said(value):
    assert json.loads(canonical(value)) == value


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(), JSON))
def test_canonical_json_does_not_depend_on_the_order_of_keys(value):
    assert canonical(value) == canonical(dict(reversed(value.items())))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [-float("inf")]])
def test_canonical_json_has_no_numbers_that_are_none(value):
    with pytest.raises(ValueError, match="Out of range"):
        canonical(value)
