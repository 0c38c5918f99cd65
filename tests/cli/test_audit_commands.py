"""`medfusion audit`: what it finds, what it says, and how it ends."""

import getpass
import json
import sqlite3
from contextlib import closing
from datetime import datetime

import pyarrow.parquet as pq
import pytest

from medfusion.review import ReviewStore, Scored, Verdict


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "review.db"
    store = ReviewStore.open(path)
    for subject in ("P1", "P2", "P3"):
        store.decide(Scored(subject, datetime(2026, 3, 1), "model-1"), "kim", Verdict.AGREE)
    return path


@pytest.fixture
def tampered(path):
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("DROP TRIGGER review_events_no_update")
        raw.execute("UPDATE review_events SET what = replace(what, 'agree', 'unsure') WHERE subject_id = 'P2'")
    return path


def test_a_trail_in_order_is_verified_and_its_head_printed(medfusion, path):
    done = medfusion("audit", "verify", path)
    head = ReviewStore.open(path).verify().head
    assert (done.code, done.err) == (0, "")
    assert done.out == f"3 events, each as it was written; head {head}\n"
    assert medfusion("audit", "verify", f"sqlite:///{path}", "--head", head).code == 0
    assert json.loads(medfusion("audit", "verify", path, "--json").out) == {
        "ok": True,
        "checked": 3,
        "head": head,
        "first_bad": None,
        "reason": "",
    }


def test_a_row_that_was_tampered_with_is_named_without_what_is_in_it(medfusion, tampered):
    done = medfusion("audit", "verify", tampered)
    assert done.code == 1
    assert done.err == "event 2: its content is not what was hashed: it was changed, moved or inserted\n"
    assert done.out == "events before it, each as it was written: 1\n"
    done = medfusion("audit", "verify", tampered, "--json")
    assert (done.code, json.loads(done.out)["first_bad"]) == (1, 2)
    assert "P2" not in done.out + done.err


def test_a_head_that_is_not_there_is_found(medfusion, path):
    done = medfusion("audit", "verify", path, "--head", "9:" + "ab" * 32)
    assert (done.code, done.err) == (1, "event 4: events 4 to 9 are missing from the end\n")


def test_an_export_says_what_it_wrote_and_who_exported_is_an_event(medfusion, path, tmp_path):
    done = medfusion("audit", "export", path, tmp_path / "out", "--by", "park", "--json")
    said = json.loads(done.out)
    assert (done.code, said["decisions"], said["events"]) == (0, 3, 4)
    assert said["head"] == ReviewStore.open(path).verify().head
    assert pq.read_table(said["written"][1])["who"].to_pylist() == ["kim"] * 3 + ["park"]
    done = medfusion("audit", "export", path, tmp_path / "out")
    assert "3 decisions and 5 events; head 5:" in done.out
    assert pq.read_table(tmp_path / "out" / "events.parquet")["who"].to_pylist()[-1] == getpass.getuser()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["verify", "nowhere.db"], 1, "there is no such file; correct the path"),
        (["export", "nowhere.db", "out"], 1, "there is no such file; correct the path"),
        (["verify", "mysql://host/name"], 2, "mysql is not supported; use SQLite or PostgreSQL"),
        (["verify", "nowhere.db", "--wrong"], 2, "No such option"),
        (["verify"], 2, "Missing argument 'STORE'"),
    ],
)
def test_what_cannot_be_audited_is_told_in_a_line(medfusion, tmp_path, monkeypatch, words, code, said):
    monkeypatch.chdir(tmp_path)
    done = medfusion("audit", *words)
    assert done.code == code
    assert said in " ".join(done.err.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["audit"], ["audit", "verify"], ["audit", "export"]])
def test_help_shows_an_example(medfusion, words):
    done = medfusion(*words, "--help")
    assert done.code == 0
    assert len(words) == 1 or f"Example: medfusion {' '.join(words)} review.db" in " ".join(done.out.split())
