"""The command line: thin; it parses, calls the pipeline and prints."""

from __future__ import annotations

import sys
import warnings

from rich.markup import escape

from medfusion.cli import audit, dashboard, export, making, scoring, using
from medfusion.cli.app import app
from medfusion.cli.options import DATA_PROBLEM, WRONG_USAGE
from medfusion.cli.show import err_console, show_warning
from medfusion.core.errors import MedfusionError, MedfusionWarning, UsageError

COMMANDS = (making, using, scoring, dashboard, audit, export)
"""Modules whose commands are registered with the application by importing them."""


def main() -> None:
    """Run the command line; errors become one line each and an exit code."""
    with warnings.catch_warnings():
        warnings.showwarning = show_warning  # type: ignore[assignment]
        warnings.simplefilter("default", MedfusionWarning)
        try:
            app()
        except UsageError as error:
            err_console.print(f"[red]error[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
            sys.exit(WRONG_USAGE)
        except MedfusionError as error:
            err_console.print(str(error), markup=False, highlight=False, soft_wrap=True)
            sys.exit(DATA_PROBLEM)
