"""Pages that need nothing but themselves: no script, no style sheet, no picture from elsewhere."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medfusion.outputs.ledger import RESEARCH_USE

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

_MAX_SIDE = 640
_PIXELS_PER_INCH = 104


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fill a template of this package; whatever is put in is escaped, unless it is Markup."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - only a page needs it

    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = number_text
    return environment.get_template(template).render({"research_use": RESEARCH_USE, **values})


def drawn(figure: Figure) -> str:
    """Turn a figure into an SVG picture, the same for the same figure."""
    from matplotlib import rc_context  # noqa: PLC0415 - slow to import

    written = StringIO()
    # Without a fixed salt, and without leaving out the date, the same figure would differ from one run to the next.
    with rc_context({"svg.hashsalt": "medfusion"}):
        figure.savefig(written, format="svg", metadata=dict.fromkeys(["Creator", "Date", "Format", "Type"]))
    text = written.getvalue()
    return text[text.index("<svg") :]


def svg(figure: Figure, description: str) -> Markup:
    """Turn a figure into SVG that can stand within a page; see `embedded`."""
    return embedded(drawn(figure), figure.get_figwidth(), description)


def embedded(drawing: str, width_in: float, description: str) -> Markup:
    """Have an SVG picture stand within a page.

    Parameters
    ----------
    drawing : str
        As from `drawn`.
    width_in : float
        Width in inches.
    description : str
        For those who cannot see it.
    """
    from markupsafe import Markup  # noqa: PLC0415 - only a page needs it

    # The names of XML's vocabularies look like addresses, and a page of HTML does without them.
    opening, rest = drawing.split(">", 1)
    opening = re.sub(r'\s(xmlns(:\w+)?|width|height)="[^"]*"', "", opening)
    size = round(_PIXELS_PER_INCH * width_in)
    label = Markup(' role="img" aria-label="{}" style="width: {}px">').format(description, size)
    return Markup(opening) + label + Markup(rest)  # noqa: S704 - matplotlib escaped what it wrote


def png_uri(pixels: NDArray[np.uint8]) -> str:
    """Encode an image for use within a page, made smaller if need be.

    Parameters
    ----------
    pixels : array (height, width), uint8
    """
    import cv2  # noqa: PLC0415 - only a page needs it

    scale = _MAX_SIDE / max(pixels.shape)
    if scale < 1:
        size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    encoded = cv2.imencode(".png", np.ascontiguousarray(pixels))[1]
    return "data:image/png;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def number_text(value: object) -> str:
    """Write a cell of a table: numbers short, nothing where there is none.

    Examples
    --------
    >>> number_text(0.123456), number_text(12345), number_text(float("nan")), number_text("ehr + notes")
    ('0.123', '12,345', '', 'ehr + notes')
    """
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{int(value):,}"
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else f"{value:.3f}"
    return str(value)
