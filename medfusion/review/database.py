"""SQLite and PostgreSQL: opened, written to by one at a time, and what can go wrong with them in words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, func, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError, TimeoutError

from medfusion.core.errors import MissingExtra, ReviewUnavailable, UsageError
from medfusion.review import migrations

_DRIVER = "postgresql+psycopg"
_LOCK = 0x6D656466
"""Number of the lock of PostgreSQL that writers of the chain take, one after another."""
_LOCKED = "another program holds it locked; close that program, or try again"
_REFUSED = "it must not be written or read with these rights; ask whoever looks after it for them"
_SQLITE_REASONS = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_CANTOPEN: "its file cannot be opened; see that it is there, and may be read and written",
    sqlite3.SQLITE_READONLY: _REFUSED,
    sqlite3.SQLITE_FULL: "the disk is full; make room",
    sqlite3.SQLITE_IOERR: "the disk reports an error; see that its drive is connected and whole",
    sqlite3.SQLITE_NOTADB: "the file is no SQLite database; name another, or restore it from a backup",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore it from a backup",
}
_POSTGRESQL_REASONS = {
    "55P03": _LOCKED,
    "42501": _REFUSED,
    "53100": "the server's disk is full; make room",
    "3D000": "the server has no such database; make it with createdb, or correct the URL",
    "28P01": "the server refuses the password; correct the URL",
}


class Database:
    """A database that holds a review store, with the schema of this version.

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

    def __init__(self, where: str | Path, create: bool, wait_seconds: float) -> None:
        url = _url(where)
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self._place = url.render_as_string(hide_password=True)
        self._wait_seconds = wait_seconds
        self._engine = self._sqlite(url, create) if self.is_sqlite else self._postgresql(url)
        with self.reading() as connection:
            steps = migrations.missing(connection)
        if migrations.FIRST in steps and not create:
            self._refuse("it holds no decisions and no audit trail; correct its name")
        if steps:
            with self.writing() as connection:
                # Somebody else may have done it since.
                if migrations.missing(connection):
                    migrations.upgrade(connection)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Hand out a connection for queries.

        Raises
        ------
        ReviewUnavailable
        """
        with self._told(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Hand out a connection, nobody else writing; what was done with it is on the disk when this is left.

        Raises
        ------
        ReviewUnavailable
            If it may not be.
        """
        with self._told(), self._engine.begin() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                wait = func.set_config("lock_timeout", f"{self._wait_seconds * 1000:.0f}ms", True)
                connection.execute(select(wait))
                connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _sqlite(self, url: URL, create: bool) -> Engine:
        path = Path(url.database or "")
        if not path.parent.is_dir():
            self._refuse(f"there is no folder {path.parent}; make it, or correct the path")
        try:
            if not path.exists():
                if not create:
                    self._refuse("there is no such file; correct the path")
                path.touch()
        except OSError as error:
            self._refuse(f"its file cannot be made: {error.strerror}; name another folder")
        # Opened anew for each transaction, and never made: a file that is taken away is noticed at once, where an open
        # one would take decisions with it.
        uri = f"{path.absolute().as_uri()}?mode=rw"
        connect = partial(_connect, uri, self._wait_seconds)
        return create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)

    def _postgresql(self, url: URL) -> Engine:
        try:
            return create_engine(
                url,
                # What another writer committed while one waited for the lock has to be seen.
                isolation_level="READ COMMITTED",
                # A server that was started again in between is no error.
                pool_pre_ping=True,
                hide_parameters=True,
                connect_args={"connect_timeout": max(1, round(self._wait_seconds))},
            )
        except ImportError:
            raise MissingExtra("psycopg", "postgresql") from None

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say in words why the database cannot be used: its own error would show what was to be written."""
        try:
            yield
        except DBAPIError as error:
            reason = _reason(error)
        except TimeoutError:
            reason = "too many use it at once; try again"
        else:
            return
        self._refuse(reason)

    def _refuse(self, reason: str) -> None:
        raise ReviewUnavailable(f"the review database {self._place} cannot be used: {reason}") from None


def _url(where: str | Path) -> URL:
    if isinstance(where, Path) or "://" not in where:
        return URL.create("sqlite", database=str(where))
    try:
        url = make_url(where)
    except ArgumentError:
        raise UsageError("the review database: give a path, sqlite:///PATH or postgresql://USER@HOST/NAME") from None
    if url.get_backend_name() == "postgresql":
        return url.set(drivername=_DRIVER)
    if url.get_backend_name() != "sqlite":
        raise UsageError(f"the review database: {url.drivername} is not supported; use SQLite or PostgreSQL")
    if url.database in {None, "", ":memory:"}:
        raise UsageError("the review database: name a file, as in sqlite:///review.db; decisions have to be kept")
    return url


def _connect(uri: str, wait_seconds: float) -> sqlite3.Connection:
    # Without an isolation level the module begins no transactions of its own.
    connection = sqlite3.connect(uri, uri=True, timeout=wait_seconds, isolation_level=None)
    # Text that was tampered with need not be UTF-8; the chain says so, not the driver.
    connection.text_factory = lambda raw: raw.decode(errors="surrogateescape")
    return connection


def _reason(error: DBAPIError) -> str:
    if isinstance(error.orig, sqlite3.Error):
        # Extended codes carry the basic one in their lowest byte.
        code = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        return _SQLITE_REASONS.get(code, "it is not as medfusion left it; restore it from a backup")
    state = getattr(error.orig, "sqlstate", None)
    if state is None or state.startswith(("08", "57P")):
        return "the server cannot be reached, or ended the connection; see that it runs, and try again"
    return _POSTGRESQL_REASONS.get(state, f"the server reports error {state}; look into its log")
