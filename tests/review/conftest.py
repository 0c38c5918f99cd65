"""Databases to test with: SQLite, and a PostgreSQL server of our own where its programs are installed."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest
from sqlalchemy import NullPool, create_engine, text

from medfusion.review import ReviewStore, Scored

USER = "postgres"


def program(name: str) -> str | None:
    """Return the path of a program of the PostgreSQL server, the newest."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(installed[-1]) if installed else shutil.which(name)


def run(*command: str, cwd: Path) -> None:
    # The server refuses to run as root.
    user = USER if os.geteuid() == 0 else None
    done = subprocess.run(
        command, cwd=cwd, user=user, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Return the URL of a server of our own, reached by a socket in a folder of its own."""
    initdb, control = program("initdb"), program("pg_ctl")
    if initdb is None or control is None:
        pytest.skip("the programs of the PostgreSQL server are not installed (apt-get install postgresql)")
    # Short, as the path of a socket may not exceed 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    if os.geteuid() == 0:
        try:
            shutil.chown(folder, USER)
        except LookupError:
            pytest.skip(f"the PostgreSQL server does not run as root, and there is no user {USER}")
    data, log = str(folder / "data"), str(folder / "log")
    try:
        run(initdb, "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", cwd=folder)
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
        run(control, "-D", data, "-l", log, "-o", options, "-w", "start", cwd=folder)
        try:
            yield f"postgresql://{USER}@/postgres?host={quote(str(folder))}"
        finally:
            run(control, "-D", data, "-m", "immediate", "-w", "stop", cwd=folder)
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def postgresql(server: str) -> Iterator[str]:
    """Return a URL with an empty schema of the server: a database for each test would be slow to make."""
    name = f"review_{uuid4().hex}"
    admin = create_engine(server.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    with admin.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    yield f"{server}&options={quote(f'-csearch_path={name}')}"
    with admin.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {name} CASCADE"))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database, of each kind in turn."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgresql")
    return f"sqlite:///{tmp_path / 'review.db'}"


@pytest.fixture
def store(url: str) -> Iterator[ReviewStore]:
    store = ReviewStore.open(url)
    yield store
    store.close()


@pytest.fixture
def about() -> Scored:
    return Scored("P1", datetime(2026, 3, 1, 9, 30), "model-1", "5d41402abc4b2a76b9719d911017c592")
