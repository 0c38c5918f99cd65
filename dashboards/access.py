"""Who may come in, and as what: OpenID Connect through Streamlit's own login, or the user of this machine."""

from __future__ import annotations

import getpass
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import streamlit as st

from dashboards.language import _, ngettext
from dashboards.settings import Settings
from medfusion.review import Action, ReviewStore

_LOOK_SECONDS = 15.0
"""How often an open page looks whether its reader is still active."""
_TOLD = "end_told"


class Role(StrEnum):
    """What a reader may do: review patients, look through the audit trail, or everything."""

    REVIEWER = "reviewer"
    AUDITOR = "auditor"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Reader:
    """A person who looks.

    Attributes
    ----------
    name : str
        As the identity provider knows them; the name on this machine where nobody signs in.
    roles : frozenset of Role

    Examples
    --------
    >>> Reader("dr.kim", frozenset({Role.ADMIN})).may(Role.REVIEWER)
    True
    """

    name: str
    roles: frozenset[Role]

    def may(self, *roles: Role) -> bool:
        """Say whether the reader has one of some roles; an administrator has all."""
        return bool(self.roles & {*roles, Role.ADMIN})


@dataclass(slots=True)
class Activity:
    """When the holder of each sign-in was last active; one per server, whatever browser and page.

    Attributes
    ----------
    timeout_seconds : float
    """

    timeout_seconds: float
    _last: dict[tuple[str, float], float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begins(self, claims: Mapping[str, Any]) -> bool:
        """Say whether a sign-in is seen for the first time, and is recent."""
        with self._lock:
            return _sign_in(claims) not in self._last and self._recent(claims)

    def active(self, claims: Mapping[str, Any]) -> bool:
        """Note that somebody does something, and say whether they still may: not after a pause that was too long."""
        with self._lock:
            if not self._recent(claims):
                return False
            self._last[_sign_in(claims)] = time.time()
            return True

    def idle(self, claims: Mapping[str, Any]) -> bool:
        """Say whether the pause has been too long, and note nothing."""
        with self._lock:
            return not self._recent(claims)

    def end(self, claims: Mapping[str, Any]) -> None:
        """Let nobody in with a sign-in any more, should its cookie turn up again."""
        with self._lock:
            self._last[_sign_in(claims)] = float("-inf")

    def _recent(self, claims: Mapping[str, Any]) -> bool:
        # A cookie outlives the server: of what it has not seen itself, it knows when the identity was vouched for.
        last = self._last.get(_sign_in(claims), _sign_in(claims)[1])
        return time.time() - last <= self.timeout_seconds


def reader(settings: Settings) -> Reader:
    """Return who looks, and note that they are active."""
    if not settings.sign_in:
        return local_reader()
    claims = st.user.to_dict()
    _activity(60.0 * settings.timeout_minutes).active(claims)
    return reader_of(claims, settings)


def local_reader() -> Reader:
    """Return the user of this machine, who may do everything."""
    return Reader(getpass.getuser(), frozenset(Role))


def reader_of(claims: Mapping[str, Any], settings: Settings) -> Reader:
    """Return whom an identity token speaks of.

    Examples
    --------
    >>> from pathlib import Path
    >>> settings = Settings(Path("scores"), "", roles_claim="realm.groups", roles=(("reviewer", ("icu",)),))
    >>> sorted(reader_of({"sub": "1", "email": "kim@icu.example", "realm": {"groups": ["icu"]}}, settings).roles)
    [<Role.REVIEWER: 'reviewer'>]
    """
    said: Any = claims
    for name in settings.roles_claim.split("."):
        said = said.get(name) if isinstance(said, Mapping) else None
    values = {said} if isinstance(said, str) else set(said) if isinstance(said, Iterable) else set()
    grants = dict(settings.roles)
    roles = frozenset(role for role in Role if values & set(grants.get(role, (role.value,))))
    name = claims.get("preferred_username") or claims.get("email") or claims["sub"]
    return Reader(str(name), roles)


def admit(settings: Settings, store: ReviewStore) -> Reader:
    """Return who looks, if they may come in; else show what to do, and end the run of the page.

    Sign-ins, refusals and ends of sessions are noted in the audit trail.
    """
    if not settings.sign_in:
        return local_reader()
    if not st.user.is_logged_in:
        _ask_to_sign_in(_("Sign in to see patients."))
    claims, activity = st.user.to_dict(), _activity(60.0 * settings.timeout_minutes)
    who = reader_of(claims, settings)
    begins = activity.begins(claims)
    if not activity.active(claims):
        _note_once(store, who, Action.SIGN_OUT, {"by": "timeout"})
        minutes = round(settings.timeout_minutes)
        said = ngettext(
            "You were signed out after {n} minute without activity.",
            "You were signed out after {n} minutes without activity.",
            minutes,
        )
        _ask_to_sign_in(said.format(n=minutes))
    if not who.roles:
        _note_once(store, who, Action.REFUSAL, {"reason": "no role"})
        _refuse(who, settings, store)
    if begins:
        store.note(who.name, Action.SIGN_IN, {"roles": sorted(who.roles)})
    _watch(settings)
    return who


def sign_out(settings: Settings, store: ReviewStore) -> None:
    """End the session of who looks, here and with the identity provider."""
    claims = st.user.to_dict()
    store.note(reader_of(claims, settings).name, Action.SIGN_OUT, {"by": "reader"})
    _activity(60.0 * settings.timeout_minutes).end(claims)
    st.logout()


def _ask_to_sign_in(why: str) -> None:
    st.title("medfusion")
    st.write(why)
    if st.button(_("Sign in"), icon=":material/login:"):
        st.login()
    st.stop()


def _refuse(who: Reader, settings: Settings, store: ReviewStore) -> None:
    st.title(_("No access"))
    said = _("{name} is signed in, but has no role here. Ask whoever runs this dashboard for one.")
    st.error(said.format(name=who.name), icon=":material/block:")
    st.button(_("Sign out"), on_click=sign_out, args=(settings, store))
    st.stop()


def _note_once(store: ReviewStore, who: Reader, action: Action, detail: Mapping[str, str]) -> None:
    """Note why a session ended, once, however often its page is drawn."""
    if st.session_state.get(_TOLD) != action:
        st.session_state[_TOLD] = action
        store.note(who.name, action, detail)


@st.fragment(run_every=_LOOK_SECONDS)
def _watch(settings: Settings) -> None:
    """Clear the page of a reader who has gone; looking is no activity."""
    if _activity(60.0 * settings.timeout_minutes).idle(st.user.to_dict()):
        st.rerun()


@st.cache_resource(show_spinner=False)
def _activity(timeout_seconds: float) -> Activity:
    return Activity(timeout_seconds)


def _sign_in(claims: Mapping[str, Any]) -> tuple[str, float]:
    """Return who was vouched for, and when."""
    return f"{claims.get('iss', '')} {claims.get('sub', '')}", float(claims.get("iat", 0.0))
