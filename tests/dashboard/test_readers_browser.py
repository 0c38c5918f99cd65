"""Several readers at once, and readers who are to be blind to the risk, in a real browser."""

import re
import struct

import pyarrow.parquet as pq
import pytest
from browsing import at_rest, open_first, sign_in
from playwright.sync_api import Page, expect
from provider import ROLES, Provider
from serving import dashboard, free_port

from dashboards.language import percent
from medfusion.review import ReviewStore, Verdict

PEOPLE = {name: {"sub": name, "preferred_username": name, "groups": ["icu-readers"]} for name in ("kim", "lee")}


@pytest.fixture(scope="module")
def options(new_patients, trained):
    return ["--cohort", new_patients.folder, "--model", trained.folder]


@pytest.fixture(scope="module")
def guarded(scored, options, tmp_path_factory):
    """Return a dashboard that asks who one is, and its decisions."""
    work, port = tmp_path_factory.mktemp("readers"), free_port()
    reviews = f"sqlite:///{work}/reviews.db"
    with Provider(PEOPLE) as provider:
        auth = provider.secrets_file(work / "secrets.toml", port, ROLES)
        with dashboard(scored, work, *options, "--auth", auth, "--reviews", reviews, port=port) as server:
            yield server, ReviewStore.open(reviews)


@pytest.fixture(scope="module")
def blinded(scored, options, tmp_path_factory):
    """Return a dashboard that hides risks until a first opinion, and its decisions."""
    work = tmp_path_factory.mktemp("blinded")
    reviews = f"sqlite:///{work}/reviews.db"
    with dashboard(scored, work, *options, "--blinded", "--reviews", reviews) as server:
        yield server, ReviewStore.open(reviews)


def decide(page: Page, verdict: str, reason: str) -> None:
    page.get_by_text(verdict, exact=True).click()
    page.get_by_role("textbox", name="Reason").fill(reason)
    page.get_by_role("button", name="Record").click()
    expect(page.get_by_text(reason, exact=True)).to_be_visible()


def test_two_readers_decide_about_one_patient_and_both_are_kept_and_shown(guarded, visit):
    server, store = guarded
    kim, lee = (sign_in(visit, server.url, name) for name in ("kim", "lee"))
    subject = open_first(kim)
    assert open_first(lee) == subject
    decide(kim, "Override it", "haemolysed")
    decide(lee, "Agree with the risk", "fits the film")
    for text in ("kim: Override it", "haemolysed", "lee: Agree with the risk", "fits the film"):
        expect(lee.get_by_text(text, exact=True)).to_be_visible()
    kept = [(each.about.subject_id, each.reader, each.verdict, each.reason) for each in store.decisions()]
    assert kept == [
        (subject, "kim", Verdict.OVERRIDE, "haemolysed"),
        (subject, "lee", Verdict.AGREE, "fits the film"),
    ]
    assert store.verify().ok
    kim.get_by_role("link", name="Worklist").click()
    expect(kim.locator("tbody tr").first).to_contain_text("2 readers")


def test_a_blind_reader_is_sent_no_risk_before_an_opinion(blinded, scored, visit):
    server, store = blinded
    page = visit("about:blank")
    sent: list[bytes] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: sent.append(_bytes(frame))))
    page.goto(server.url)
    subject = open_first(page)
    at_rest(page)
    (row,) = (
        each
        for each in pq.read_table(scored / "predictions.parquet").to_pylist()
        if (each["subject_id"], each["prediction_time"]) == _first(scored)
    )
    assert row["subject_id"] == subject
    secrets = [re.compile(rb"(?<![\d.])" + re.escape(percent(row["risk"]).encode()))]
    secrets += [re.compile(re.escape(struct.pack(kind, row["risk"]))) for kind in ("<d", "<f")]
    told = b"".join(sent)
    assert subject.encode() in told
    assert [secret.pattern for secret in secrets if secret.search(told)] == []
    assert page.get_by_test_id("stMetric").count() == 0
    assert page.locator(".mf-fall").count() == 0
    decide(page, "Event expected", "looks ill")
    expect(page.get_by_test_id("stMetricValue").first).to_have_text(percent(row["risk"]))
    # Now it is sent, and what looked for it before finds it.
    assert any(secret.search(b"".join(sent)) for secret in secrets)
    (decision,) = store.decisions()
    assert (decision.verdict, decision.blinded) == (Verdict.EXPECTED, True)


def _bytes(frame: str | bytes) -> bytes:
    return frame.encode() if isinstance(frame, str) else frame


def _first(scored):
    """Return whom a worklist by name begins with."""
    table = pq.read_table(scored / "predictions.parquet", columns=["subject_id", "prediction_time"]).to_pylist()
    return min((each["subject_id"], each["prediction_time"]) for each in table)
