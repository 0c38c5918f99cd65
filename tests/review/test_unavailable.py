"""A database that cannot be used is told in words, and a decision is recorded or refused, never lost."""

import hashlib
import json
import os
import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import NullPool, create_engine, inspect, text

from medfusion.core.errors import MissingExtra, ReviewUnavailable, UsageError
from medfusion.review import ReviewStore, Verdict, migrations

SECRETS = ("P1", "haemolysed", "kim", "5d41402abc4b2a76b9719d911017c592")
GIVEN_UP_AFTER = 0.2


@pytest.fixture
def path(tmp_path):
    return tmp_path / "review.db"


def refused(store, about, said):
    """See that a decision is refused in words that say nothing about the patient."""
    with pytest.raises(ReviewUnavailable, match=said) as caught:
        store.decide(about, "kim", Verdict.OVERRIDE, reason="haemolysed")
    chain, error = [], caught.value
    while error is not None:
        chain.append(str(error))
        error = None if error.__suppress_context__ else error.__context__
    assert not [secret for secret in SECRETS for said in chain if secret in said]


def raw(url):
    return create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)


def test_a_locked_file_is_told_and_works_again_when_it_is_free(path, about):
    store = ReviewStore.open(path, wait_seconds=GIVEN_UP_AFTER)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refused(store, about, "another program holds it locked; close that program, or try again")
        other.execute("ROLLBACK")
        assert store.decide(about, "kim", Verdict.AGREE).seq == 1
    assert [decision.verdict for decision in store.decisions()] == [Verdict.AGREE]


def test_a_file_locked_by_a_reader_refuses_at_the_commit_and_records_nothing(path, about):
    store = ReviewStore.open(path, wait_seconds=GIVEN_UP_AFTER)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM review_events").fetchall()
        refused(store, about, "locked")
    assert store.events() == []
    assert store.verify().ok


def test_a_locked_server_is_told_and_works_again_when_it_is_free(postgresql, about):
    store = ReviewStore.open(postgresql, wait_seconds=GIVEN_UP_AFTER)
    with raw(postgresql).begin() as other:
        other.execute(text("LOCK TABLE review_events IN ACCESS EXCLUSIVE MODE"))
        refused(store, about, "another program holds it locked")
    assert store.decide(about, "kim", Verdict.AGREE).seq == 1
    store.close()


def test_a_server_that_ends_a_connection_is_asked_again(postgresql, about):
    store = ReviewStore.open(postgresql)
    store.decide(about, "kim", Verdict.AGREE)
    with raw(postgresql).begin() as other:
        other.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"))
    assert store.decide(about, "kim", Verdict.AGREE).seq == 2
    store.close()


def test_a_server_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ReviewUnavailable, match="the server cannot be reached") as caught:
        ReviewStore.open(f"postgresql://kim:secret@/review?host={tmp_path}")
    assert "secret" not in str(caught.value)


def test_rights_that_are_missing_are_told(postgresql, about):
    ReviewStore.open(postgresql).close()
    with raw(postgresql).begin() as admin:
        schema = admin.execute(text("SELECT current_schema()")).scalar()
        admin.execute(text(f"CREATE ROLE {schema} LOGIN"))
        admin.execute(text(f"GRANT USAGE ON SCHEMA {schema} TO {schema}"))
        admin.execute(text(f"GRANT SELECT ON review_events, review_schema TO {schema}"))
    store = ReviewStore.open(postgresql.replace("postgres@", f"{schema}@"))
    refused(store, about, "must not be written or read with these rights")
    assert store.events() == []
    with raw(postgresql).begin() as admin:
        admin.execute(text(f"GRANT INSERT ON review_events TO {schema}"))
    assert store.decide(about, "kim", Verdict.AGREE).seq == 1, "nothing more is needed than to read and to add"
    store.close()
    with raw(postgresql).begin() as admin:
        admin.execute(text(f"DROP OWNED BY {schema}"))
        admin.execute(text(f"DROP ROLE {schema}"))


def test_a_file_that_is_taken_away_is_noticed_before_a_decision_is_lost_with_it(path, about):
    store = ReviewStore.open(path)
    store.decide(about, "kim", Verdict.AGREE)
    path.rename(path.with_name("elsewhere.db"))
    refused(store, about, "its file cannot be opened; see that it is there")
    assert not path.exists()
    path.with_name("elsewhere.db").rename(path)
    assert store.decide(about, "kim", Verdict.AGREE).seq == 2


def test_a_file_that_is_emptied_is_noticed(path, about):
    store = ReviewStore.open(path)
    path.write_bytes(b"")
    refused(store, about, "it is not as medfusion left it; restore it from a backup")


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(ReviewUnavailable, match=r"there is no folder .*nowhere; make it, or correct the path"):
        ReviewStore.open(tmp_path / "nowhere" / "review.db")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ReviewUnavailable, match="its file cannot be opened"):
        ReviewStore.open(tmp_path)


def test_a_store_that_is_only_looked_at_is_not_made(path):
    with pytest.raises(ReviewUnavailable, match="there is no such file"):
        ReviewStore.open(path, create=False)
    assert not path.exists()


def test_a_database_of_something_else_is_not_made_into_a_store_by_looking(url):
    with raw(url).begin() as connection:
        connection.execute(text("CREATE TABLE patients (name TEXT)"))
    with pytest.raises(ReviewUnavailable, match="holds no decisions and no audit trail; correct its name"):
        ReviewStore.open(url, create=False)
    assert inspect(raw(url)).get_table_names() == ["patients"]


def test_a_file_that_is_no_database_is_told_and_left_as_it_is(path):
    path.write_text("subject_id,risk\n" * 100)
    with pytest.raises(ReviewUnavailable, match="the file is no SQLite database"):
        ReviewStore.open(path)
    assert path.read_text() == "subject_id,risk\n" * 100


def test_a_damaged_file_is_told(path, about):
    store = ReviewStore.open(path)
    store.decide(about, "kim", Verdict.AGREE)
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(ReviewUnavailable, match="the file is damaged; restore it from a backup"):
        store.decisions()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write to any file")
def test_a_file_that_may_only_be_read_is_verified_and_not_written(path, about):
    ReviewStore.open(path).decide(about, "kim", Verdict.AGREE)
    path.chmod(0o400)
    store = ReviewStore.open(path, create=False)
    assert store.verify().checked == 1
    refused(store, about, "must not be written or read with these rights")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://kim:secret@host/review", "mysql is not supported; use SQLite or PostgreSQL"),
        ("sqlite://", "name a file, as in sqlite:///review.db"),
        ("sqlite:///:memory:", "name a file"),
        ("://", "give a path, sqlite:///PATH or postgresql"),
    ],
)
def test_a_url_of_another_kind_is_wrong_usage(url, said):
    with pytest.raises(UsageError, match=said) as caught:
        ReviewStore.open(url)
    assert "secret" not in str(caught.value)


def test_a_missing_driver_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=r"medfusion\[postgresql\]"):
        ReviewStore.open("postgresql://kim@host/review")


def test_a_path_with_characters_that_mean_something_in_a_url(tmp_path, about):
    path = tmp_path / "a?mode=ro#%20 é.db"
    ReviewStore.open(path).decide(about, "kim", Verdict.AGREE)
    assert path.is_file()
    assert len(ReviewStore.open(str(path), create=False).decisions()) == 1


def test_an_older_schema_is_brought_up_to_date_and_its_events_stay(url, about):
    with raw(url).begin() as connection:
        migrations.upgrade(connection, "1")
        row = [1, "2026-01-01T00:00:00.000000+00:00", "kim", "sign-in", None, None, None, None, "{}", "0" * 64]
        digest = hashlib.sha256(json.dumps(row, separators=(",", ":")).encode()).hexdigest()
        columns = ", ".join(f":c{place}" for place in range(11))
        values = {f"c{place}": value for place, value in enumerate([*row, digest])}
        connection.execute(text(f"INSERT INTO review_events VALUES ({columns})"), values)  # noqa: S608
    store = ReviewStore.open(url)
    assert [event.hash for event in store.events()] == [digest]
    store.decide(about, "kim", Verdict.AGREE)
    assert (store.verify().ok, store.verify().checked) == (True, 2)
    with pytest.raises(Exception, match="append-only"), raw(url).begin() as connection:
        connection.execute(text("DELETE FROM review_events"))
    store.close()


def test_a_newer_schema_is_refused_and_left_as_it_is(url, about):
    ReviewStore.open(url).close()
    with raw(url).begin() as connection:
        connection.execute(text("UPDATE review_schema SET version_num = '9'"))
    with pytest.raises(ReviewUnavailable, match=r"has schema 9, which is newer than .*; update medfusion"):
        ReviewStore.open(url)
    with raw(url).begin() as connection:
        assert connection.execute(text("SELECT version_num FROM review_schema")).scalars().all() == ["9"]
