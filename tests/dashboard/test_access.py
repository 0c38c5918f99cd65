"""Roles from claims, and for how long a sign-in is good."""

from pathlib import Path

import pytest

from dashboards import access
from dashboards.access import Activity, Reader, Role, reader_of
from dashboards.settings import Settings

MINUTE = 60.0
KIM = {"iss": "https://id.example", "sub": "1", "email": "kim@icu.example"}


def settings(**changes):
    return Settings(Path("scores"), "sqlite:///reviews.db", **changes)


@pytest.mark.parametrize(
    ("claims", "roles"),
    [
        ({"roles": ["reviewer", "auditor", "cook"]}, {Role.REVIEWER, Role.AUDITOR}),
        ({"roles": "admin"}, {Role.ADMIN}),
        ({"roles": []}, set()),
        ({"roles": None}, set()),
        ({"roles": "administrator"}, set()),
        ({}, set()),
    ],
)
def test_roles_are_those_of_the_claim(claims, roles):
    assert reader_of({**KIM, **claims}, settings()).roles == roles


def test_a_role_that_is_given_to_groups_is_not_given_by_its_own_name():
    some = settings(roles_claim="realm.groups", roles=(("reviewer", ("icu", "ward-3")),))
    assert reader_of({**KIM, "realm": {"groups": ["ward-3"]}}, some).roles == {Role.REVIEWER}
    assert reader_of({**KIM, "realm": {"groups": ["reviewer"]}}, some).roles == set()
    assert reader_of({**KIM, "realm": "icu"}, some).roles == set()


def test_an_administrator_may_everything_and_an_auditor_not():
    assert Reader("a", frozenset({Role.ADMIN})).may(Role.REVIEWER)
    assert not Reader("a", frozenset({Role.AUDITOR})).may(Role.REVIEWER)


@pytest.fixture
def clock(monkeypatch):
    now = [1_000_000.0]
    monkeypatch.setattr(access.time, "time", lambda: now[0])
    return now


def test_a_sign_in_lasts_as_long_as_its_reader_is_active(clock):
    activity, claims = Activity(15 * MINUTE), {**KIM, "iat": clock[0]}
    assert activity.begins(claims)
    for _pause in range(10):
        assert activity.active(claims)
        clock[0] += 14 * MINUTE
    assert not activity.begins(claims)
    clock[0] += 2 * MINUTE
    assert activity.idle(claims)
    assert not activity.active(claims)


def test_looking_whether_somebody_is_idle_keeps_nobody_signed_in(clock):
    activity, claims = Activity(15 * MINUTE), {**KIM, "iat": clock[0]}
    activity.active(claims)
    for _look in range(16):
        clock[0] += MINUTE
        idle = activity.idle(claims)
    assert idle


def test_a_cookie_that_the_server_has_never_seen_is_as_old_as_its_token(clock):
    old = {**KIM, "iat": clock[0] - 16 * MINUTE}
    assert not Activity(15 * MINUTE).active(old)
    assert not Activity(15 * MINUTE).active(KIM)


def test_after_sign_out_the_cookie_opens_nothing(clock):
    activity, claims = Activity(15 * MINUTE), {**KIM, "iat": clock[0]}
    activity.active(claims)
    activity.end(claims)
    assert not activity.active(claims)
    assert activity.active({**KIM, "iat": clock[0] + 1})
