"""Who gets in through an OpenID provider, as what, and for how long; and what the audit trail knows of it."""

import pytest
from browsing import sign_in
from playwright.sync_api import expect
from provider import ROLES, Provider
from serving import dashboard, free_port

from medfusion.review import ReviewStore

PEOPLE = {
    "kim": {"sub": "1", "preferred_username": "kim", "groups": ["icu-readers"]},
    "visitor": {"sub": "2", "preferred_username": "visitor", "groups": ["cardiology"]},
}


@pytest.fixture(scope="module")
def provider():
    with Provider(PEOPLE) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(provider, scored, tmp_path_factory):
    """Return a dashboard that asks who one is, and its audit trail."""
    work, port = tmp_path_factory.mktemp("guarded"), free_port()
    auth = provider.secrets_file(work / "secrets.toml", port, ROLES)
    reviews = f"sqlite:///{work}/reviews.db"
    with dashboard(scored, work, "--auth", auth, "--reviews", reviews, "--timeout", 5, port=port) as server:
        yield server, ReviewStore.open(reviews)


def told(trail):
    return [(event.who, event.action, event.detail) for event in trail.events()]


def test_a_reviewer_signs_in_and_out_and_both_are_in_the_trail(guarded, visit):
    server, trail = guarded
    page = sign_in(visit, server.url, "kim")
    page.locator("tbody tr").first.wait_for()
    expect(page.get_by_text("Reader: kim")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("Sign in to see patients.")).to_be_visible()
    mine = [event for event in told(trail) if event[0] == "kim"]
    assert mine == [("kim", "sign-in", {"roles": ["reviewer"]}), ("kim", "sign-out", {"by": "reader"})]


@pytest.mark.parametrize("page", ["worklist", "patient", "app"])
def test_no_address_leads_past_the_sign_in(guarded, visit, page):
    server, _trail = guarded
    shown = visit(f"{server.url}/{page}")
    expect(shown.get_by_text("Sign in to see patients.")).to_be_visible()
    assert shown.locator("tbody").count() == 0


def test_who_has_no_role_is_refused_and_that_is_in_the_trail(guarded, visit):
    server, trail = guarded
    page = sign_in(visit, server.url, "visitor")
    expect(page.get_by_role("heading", name="No access")).to_be_visible()
    assert page.locator("tbody").count() == 0
    page.reload()
    expect(page.get_by_role("heading", name="No access")).to_be_visible()
    theirs = {event[1:2] for event in told(trail) if event[0] == "visitor"}
    assert theirs == {("refusal",)}


def test_an_old_sign_in_opens_nothing(guarded, provider, visit):
    server, trail = guarded
    provider.age_seconds = 6 * 60
    try:
        page = sign_in(visit, server.url, "kim")
        expect(page.get_by_text("You were signed out after 5 minutes without activity.")).to_be_visible()
    finally:
        provider.age_seconds = 0
    assert page.locator("tbody").count() == 0
    assert told(trail)[-1] == ("kim", "sign-out", {"by": "timeout"})
