"""The application that commands register with."""

from __future__ import annotations

from typing import Annotated

import typer

from medfusion import __version__
from medfusion.cli.show import say

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Clinical multimodal decision support: images, EHR events and notes become calibrated evidence that adds up.",
    epilog="Research use only. Not a medical device.",
)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        say(f"medfusion {__version__}")
        raise typer.Exit
