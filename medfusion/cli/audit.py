"""The commands about the trail that the dashboard leaves: is it as it was written, and what is in it."""

from __future__ import annotations

import getpass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medfusion.cli.app import app
from medfusion.cli.options import DATA_PROBLEM, AsJson
from medfusion.cli.show import err_console, print_json, say
from medfusion.core.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from medfusion.review import ReviewStore

StoreName = Annotated[
    str, typer.Argument(metavar="STORE", help="File of SQLite, or a URL such as postgresql://USER@HOST/NAME.")
]
audit = typer.Typer(no_args_is_help=True, help="Check and export the audit trail of the dashboard.")
app.add_typer(audit, name="audit")


@audit.command()
def verify(
    store: StoreName,
    head: Annotated[
        str, typer.Option(metavar="NUMBER:HASH", help="The head that an earlier run printed; it must still be there.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Check that every event is as it was written, and none is missing; exit 1 and the first bad event if not.

    Note the head that is printed outside of the database: with it, a trail that was cut short or written anew is found.

    Example: medfusion audit verify review.db
    """
    found = _opened(store).verify(head)
    if as_json:
        print_json({"ok": found.ok, **{name: getattr(found, name) for name in found.__slots__}})
    elif found.ok:
        say(f"{found.checked} events, each as it was written; head {found.head}")
    else:
        err_console.print(f"event {found.first_bad}: {found.reason}", style="red", highlight=False, soft_wrap=True)
        say(f"events before it, each as it was written: {found.checked}")
    if not found.ok:
        raise typer.Exit(DATA_PROBLEM)


@audit.command()
def export(
    store: StoreName,
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write.")],
    by: Annotated[str, typer.Option(metavar="NAME", help="Who exports; who is logged in unless given.")] = "",
    as_json: AsJson = False,
) -> None:
    """Write decisions.parquet and events.parquet; that, too, is an event.

    Example: medfusion audit export review.db audit
    """
    written = _opened(store).export(out, by or _user())
    if as_json:
        files = [str(file) for file in written.files]
        return print_json({"written": files, **{name: getattr(written, name) for name in written.__slots__[1:]}})
    say(f"{written.decisions} decisions and {written.events} events; head {written.head}")
    for file in written.files:
        say(f"written: {file}")
    return None


def _opened(store: str) -> ReviewStore:
    for package in ("sqlalchemy", "alembic"):
        if find_spec(package) is None:
            raise MissingExtra(package, "review")
    from medfusion.review import ReviewStore  # noqa: PLC0415

    return ReviewStore.open(store, create=False)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise UsageError("nobody is logged in here by name; say who exports with --by NAME") from None
