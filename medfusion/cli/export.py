"""The command that hands a model's frozen network to other software."""

from __future__ import annotations

from typing import Annotated

import typer

from medfusion.cli.app import app
from medfusion.cli.options import AsJson, ModelFolder, OutFolder
from medfusion.cli.show import print_json, say


@app.command()
def export(
    model: ModelFolder,
    out: OutFolder,
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="onnx, openvino or monai-bundle.")],
    as_json: AsJson = False,
) -> None:
    """Write the frozen network of a model's images for other software, its preprocessing described beside it.

    Example: medfusion export model --format onnx --out network
    """
    from medfusion.pipeline.export import export as export_model  # noqa: PLC0415 - commands import what they need

    files = export_model(model, out, form)
    if as_json:
        return print_json({"written": [str(file) for file in files]})
    for file in files:
        say(f"written: {file}")
    return None
