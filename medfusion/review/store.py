"""The store of decisions and of everything else that is to be traced: one table of events, to which rows are added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
from sqlalchemy import Select, column, func, insert, select, table, text

from medfusion.core.errors import UsageError
from medfusion.review import chain
from medfusion.review.chain import Head, Verification
from medfusion.review.database import Database
from medfusion.review.events import Action, Decision, Event, Scored, Verdict, time_text
from medfusion.review.tables import Exported, summary_table, write_tables

_EVENTS = table("review_events", *(column(field.name) for field in fields(Event)))
_About = tuple[str | None, str | None, str | None, str | None]
_DECIDED = _EVENTS.c.action == Action.DECISION.value
_END = select(_EVENTS.c.seq, _EVENTS.c.hash).order_by(_EVENTS.c.seq.desc()).limit(1)
_PAGE = 10_000
_WAIT_SECONDS = 10.0
"""How long to wait for others who write."""


class ReviewStore:
    """Decisions of readers and the audit trail; made by `open`, and shared by threads.

    A decision is an event of the trail, so that the two cannot disagree. Whatever adds an event has either put it on
    the disk when it returns, or raises.

    Parameters
    ----------
    database : Database

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> store = ReviewStore.open(f"{folder.name}/review.db")
    >>> about = Scored("P1", datetime(2020, 1, 31, 9), "model-1", "5d41402a")
    >>> store.saw(about, "kim", "patient").seq
    1
    >>> store.decide(about, "kim", Verdict.OVERRIDE, reason="lactate was haemolysed").verdict
    <Verdict.OVERRIDE: 'override'>
    >>> [decision.reader for decision in store.decisions(about)], store.verify().ok
    (['kim'], True)
    >>> store.close()
    >>> folder.cleanup()
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, where: str | Path, *, create: bool = True, wait_seconds: float = _WAIT_SECONDS) -> Self:
        """Open a store; an older schema is brought up to date, which leaves every event as it is.

        Parameters
        ----------
        where : str or Path
            A path of an SQLite file, or a URL: ``sqlite:///PATH``, ``postgresql://USER@HOST/NAME``.
        create : bool
            Whether to make a store where there is none.
        wait_seconds : float
            How long to wait for others who write.

        Raises
        ------
        UsageError
            If the URL is of another kind.
        MissingExtra
            If the URL is of PostgreSQL, and psycopg is not installed.
        ReviewUnavailable
            If the database cannot be used, or is of a later version.
        """
        return cls(Database(where, create, wait_seconds))

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def decide(
        self,
        about: Scored,
        reader: str,
        verdict: Verdict,
        reason: str = "",
        comment: str = "",
        blinded: bool = False,
    ) -> Decision:
        """Record what a reader decided about a prediction, beside all decisions that there are.

        Parameters
        ----------
        about : Scored
        reader : str
        verdict : Verdict
        reason : str
            Needed to override.
        comment : str
        blinded : bool
            Whether the reader had not been shown the risk.

        Returns
        -------
        Decision

        Raises
        ------
        UsageError
            If an override has no reason, a blinded reader judges the risk, or a text cannot be stored.
        ReviewUnavailable
            If the decision may not have been recorded.
        """
        verdict, reason = Verdict(verdict), reason.strip()
        if verdict is Verdict.OVERRIDE and not reason:
            raise UsageError("an override needs a reason: say why the risk is not right")
        if blinded and not verdict.is_blind:
            raise UsageError("who has not been shown the risk can neither agree with it nor override it")
        said = {"verdict": verdict, "reason": reason, "comment": comment.strip(), "blinded": blinded}
        return Decision.of(self._append(reader, Action.DECISION, said, about))

    def saw(self, about: Scored, reader: str, page: str) -> Event:
        """Record that a reader was shown a patient.

        Raises
        ------
        UsageError, ReviewUnavailable
            As `decide` does.
        """
        return self._append(reader, Action.VIEW, {"page": page}, about)

    def note(self, reader: str, action: Action, detail: Mapping[str, Any], about: Scored | None = None) -> Event:
        """Record something else that happened: a sign-in, a refusal, a what-if, an export.

        Parameters
        ----------
        reader : str
        action : Action
            But for decisions and views, which have methods of their own.
        detail : mapping
            Of what JSON can hold.
        about : Scored, optional
            The prediction that it is about.

        Raises
        ------
        UsageError, ReviewUnavailable
            As `decide` does.
        """
        action = Action(action)
        if action in {Action.DECISION, Action.VIEW}:
            raise UsageError(f"a {action} is recorded by ReviewStore.decide or ReviewStore.saw")
        return self._append(reader, action, detail, about)

    def decisions(self, about: Scored | None = None) -> list[Decision]:
        """Return all decisions, or those about one patient at one prediction time, by whatever model; latest last."""
        query = select(_EVENTS).where(_DECIDED).order_by(_EVENTS.c.seq)
        if about is not None:
            time = time_text(about.prediction_time)
            query = query.where(_EVENTS.c.subject_id == about.subject_id, _EVENTS.c.prediction_time == time)
        return [Decision.of(event) for event in self._events(query)]

    def summary(self, *, zoned: bool = False) -> pa.Table:
        """Return the latest decision per patient and prediction time, for a join with the predictions.

        Parameters
        ----------
        zoned : bool
            Whether the predictions' times have a time zone; a store may hold decisions of both kinds.

        Returns
        -------
        pyarrow.Table
            subject_id, prediction_time, readers (how many have decided), and of the latest decision: verdict, reader,
            time, model_id, input_hash.
        """
        event = _EVENTS.c
        latest = (
            select(func.max(event.seq).label("seq"), func.count(event.who.distinct()).label("readers"))
            .where(_DECIDED)
            .group_by(event.subject_id, event.prediction_time)
            .subquery()
        )
        query = select(_EVENTS, latest.c.readers).join(latest, latest.c.seq == event.seq).order_by(event.seq)
        with self._database.reading() as connection:
            rows = [(Decision.of(Event(*row[:-1])), row[-1]) for row in connection.execute(query)]
        return summary_table(rows, zoned)

    def events(self, after: int = 0, limit: int = 100) -> list[Event]:
        """Return events of the trail by number: the first ones with a number above ``after``."""
        return self._events(_page(after, limit))

    def head(self) -> Head:
        """Return the number and the hash of the last event."""
        with self._database.reading() as connection:
            return Head(*(connection.execute(_END).one_or_none() or ()))

    def verify(self, head: str = "") -> Verification:
        """Check the chain from its first event to its last.

        Parameters
        ----------
        head : str
            The end of the chain that was noted earlier, ``NUMBER:HASH``; that the trail holds it still, and has not
            been shortened or written anew, is checked too.

        Raises
        ------
        UsageError
            If the head has another form.
        ReviewUnavailable
        """
        noted = Head.read(head) if head else None
        # Asked first: what is written meanwhile may be seen, what was there has to be.
        known = self._known()
        return chain.check(self._trail(), noted, known)

    def export(self, folder: Path, reader: str) -> Exported:
        """Write the trail as it is after this export was recorded in it: decisions.parquet and events.parquet.

        Parameters
        ----------
        folder : Path
            Made where it is not there.
        reader : str
            Who exports.

        Raises
        ------
        UsageError
            If the folder cannot be written.
        ReviewUnavailable
        """
        last = self._append(reader, Action.EXPORT, {"tables": ["decisions", "events"]}, None)
        return write_tables(folder, self._trail(last.seq), str(Head(last.seq, last.hash)))

    def _append(self, who: str, action: Action, what: Mapping[str, Any], about: Scored | None) -> Event:
        scored = _scored(about)
        said = _said(who, scored, what)
        with self._database.writing() as connection:
            seq, previous = connection.execute(_END).one_or_none() or Head()
            event = Event(seq + 1, time_text(datetime.now(UTC)), who, action.value, *scored, said, previous, "")
            event = replace(event, hash=chain.digest(event))
            connection.execute(insert(_EVENTS), asdict(event))
        return event

    def _events(self, query: Select[Any]) -> list[Event]:
        with self._database.reading() as connection:
            return [Event(*row) for row in connection.execute(query)]

    def _trail(self, last: int | None = None) -> Iterator[Event]:
        """Yield all events, or those up to a number; page by page, so that nobody has to wait who writes."""
        query = _page(None, _PAGE)
        while page := self._events(query):
            yield from (event for event in page if last is None or event.seq <= last)
            if last is not None and page[-1].seq >= last:
                return
            query = _page(page[-1].seq, _PAGE)

    def _known(self) -> int:
        """Return the highest number that an event ever had, where the database keeps it; else 0."""
        if not self._database.is_sqlite:
            return 0
        query = text("SELECT max(seq) FROM sqlite_sequence WHERE name = 'review_events'")
        with self._database.reading() as connection:
            return connection.execute(query).scalar() or 0


def _scored(about: Scored | None) -> _About:
    if about is None:
        return None, None, None, None
    return about.subject_id, time_text(about.prediction_time), about.model_id, about.input_hash


def _said(who: str, scored: _About, what: Mapping[str, Any]) -> str:
    """Return what happened as it is kept, and refuse what a database cannot keep."""
    if not who:
        raise UsageError("an event needs somebody whose doing it was: give the reader's name")
    try:
        said = chain.canonical(dict(what))
        written = "".join((who, *(each or "" for each in scored), said)).encode()
    except (TypeError, ValueError):
        raise UsageError("the event cannot be kept: Unicode, finite numbers, lists and mappings can") from None
    if b"\0" in written:
        raise UsageError("the event cannot be kept: a name or an identifier holds a NUL character; remove it")
    return said


def _page(after: int | None, limit: int) -> Select[Any]:
    query = select(_EVENTS).order_by(_EVENTS.c.seq).limit(limit)
    return query if after is None else query.where(_EVENTS.c.seq > after)
