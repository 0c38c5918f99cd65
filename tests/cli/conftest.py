"""Running the command line in this process, as `main` does it."""

import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest

from medfusion.cli import main


@dataclass(frozen=True, slots=True)
class Run:
    """What a command returned and said."""

    code: int
    out: str
    err: str


def run(*words: str | Path) -> Run:
    out, err, before = StringIO(), StringIO(), sys.argv
    sys.argv = ["medfusion", *map(str, words)]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = before
    return Run(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def medfusion() -> Callable[..., Run]:
    """Return a function that runs ``medfusion WORD ...``."""
    return run
