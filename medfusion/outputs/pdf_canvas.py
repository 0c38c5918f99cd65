"""A printed page: text, lines and pictures at places, in a font that covers Korean."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medfusion.core.errors import MissingExtra
from medfusion.outputs.ledger import MINUS

INK, SOFT, PALE, WARNING = "#1f2933", "#52606d", "#f3f5f7", "#9a3412"
_WIDTH, _HEIGHT = 595.276, 841.89
"""A4, in points."""
LEFT, RIGHT, TOP, BOTTOM = 40.0, _WIDTH - 40.0, _HEIGHT - 36.0, 48.0
_FONTS = {"Body": "NanumGothic.ttf", "Body-Bold": "NanumGothicBold.ttf"}
_FONT_PACKAGE, _EXTRA = "koreanize_matplotlib", "pdf"
_INSTEAD = str.maketrans({MINUS: "-", "\N{NARROW NO-BREAK SPACE}": " ", "\N{NO-BREAK SPACE}": " "})
"""Characters that the font has not got."""
_LEADING = 11.5
_registering = Lock()


class Sheet:
    """One page, drawn from the top down.

    Attributes
    ----------
    y : float
        How far down the page is filled, in points from the bottom.

    Parameters
    ----------
    out : BytesIO
    title : str
        For the document's properties; it names no patient.

    Raises
    ------
    MissingExtra
        If reportlab, or the package with the font, is not installed.
    """

    def __init__(self, out: BytesIO, title: str) -> None:
        try:
            from reportlab.pdfgen.canvas import Canvas  # noqa: PLC0415 - an extra, and only a printed page needs it
        except ImportError:
            raise MissingExtra("reportlab", _EXTRA) from None
        _register_fonts()
        # Without a time of its own, the same report gives the same file.
        self.canvas: Any = Canvas(out, pagesize=(_WIDTH, _HEIGHT), invariant=True, initialFontName="Body")
        self.canvas.setTitle(title)
        self.y = TOP

    def close(self) -> None:
        """Finish the page and the document."""
        self.canvas.showPage()
        self.canvas.save()

    def text(
        self,
        x: float,
        y: float,
        said: str,
        size: float,
        *,
        bold: bool = False,
        colour: str = INK,
        align: Literal["left", "right", "centre"] = "left",
        room: float | None = None,
    ) -> None:
        """Write one line; cut where it is wider than its room."""
        font, said = ("Body-Bold" if bold else "Body"), said.translate(_INSTEAD)
        if room is not None:
            while said and self.width(said, size, bold=bold) > room:
                said = said[:-2].rstrip("\N{HORIZONTAL ELLIPSIS}") + "\N{HORIZONTAL ELLIPSIS}" if len(said) > 2 else ""
        self.canvas.setFont(font, size)
        self.canvas.setFillColor(colour)
        draw = {
            "left": self.canvas.drawString,
            "right": self.canvas.drawRightString,
            "centre": self.canvas.drawCentredString,
        }
        draw[align](x, y, said)

    def width(self, said: str, size: float, *, bold: bool = False) -> float:
        """Return how wide a line is, in points."""
        return float(self.canvas.stringWidth(said.translate(_INSTEAD), "Body-Bold" if bold else "Body", size))

    def box(self, x: float, y: float, width: float, height: float, colour: str, opacity: float = 1.0) -> None:
        """Fill a rectangle; ``y`` is its lower side."""
        self.canvas.setFillColor(colour)
        self.canvas.setFillAlpha(opacity)
        self.canvas.rect(x, y, width, height, stroke=0, fill=1)
        self.canvas.setFillAlpha(1)

    def line(self, start: tuple[float, float], end: tuple[float, float], colour: str, width: float = 0.6) -> None:
        """Draw a line."""
        self.canvas.setStrokeColor(colour)
        self.canvas.setLineWidth(width)
        self.canvas.line(*start, *end)

    def diamond(self, x: float, y: float, size: float) -> None:
        """Mark a place."""
        path = self.canvas.beginPath()
        path.moveTo(x - size, y)
        for to in ((x, y + size), (x + size, y), (x, y - size)):
            path.lineTo(*to)
        path.close()
        self.canvas.setFillColor(INK)
        self.canvas.drawPath(path, stroke=0, fill=1)

    def picture(self, pixels: NDArray[np.uint8], x: float, y: float, width: float, height: float) -> None:
        """Draw pixels (rows, columns) or (rows, columns, 3); ``y`` is the lower side."""
        from PIL import Image  # noqa: PLC0415 - only a printed page needs it
        from reportlab.lib.utils import ImageReader  # noqa: PLC0415

        self.canvas.drawImage(ImageReader(Image.fromarray(pixels)), x, y, width, height)

    def heading(self, said: str, *, x: float = LEFT, width: float = RIGHT - LEFT) -> None:
        """Write a heading over a line."""
        self.y -= 13
        self.text(x, self.y, said, 10.5, bold=True)
        self.line((x, self.y - 4), (x + width, self.y - 4), "#cbd2d9")
        self.y -= 9

    def banner(self, said: str) -> None:
        """Write a line that nobody may overlook."""
        self.box(LEFT, self.y - 17, RIGHT - LEFT, 17, "#fff4e5")
        self.text((LEFT + RIGHT) / 2, self.y - 12, said, 9.5, bold=True, colour=WARNING, align="centre")
        self.y -= 22

    def footer(self, said: str) -> None:
        """Write the last line."""
        self.line((LEFT, BOTTOM - 12), (RIGHT, BOTTOM - 12), "#cbd2d9")
        self.text((LEFT + RIGHT) / 2, BOTTOM - 24, said, 8, colour=SOFT, align="centre")

    def paragraphs(self, said: Sequence[str], x: float, width: float, more: Callable[..., str]) -> None:
        """Write marked-up paragraphs, one below the other, as many as fit above the footer; the others are counted.

        Parameters
        ----------
        said : sequence of str
            In reportlab's markup; what is not meant as such is escaped.
        x, width : float
        more : callable
            From ``n`` to the text that counts the others.
        """
        from reportlab.lib.styles import ParagraphStyle  # noqa: PLC0415 - only a printed page needs it
        from reportlab.platypus import Paragraph  # noqa: PLC0415

        style = ParagraphStyle(
            "body", fontName="Body", fontSize=8.5, leading=_LEADING, textColor=INK, wordWrap="CJK", spaceAfter=0
        )
        for place, each in enumerate(said):
            paragraph = Paragraph(each.translate(_INSTEAD), style)
            _, height = paragraph.wrap(width, self.y - BOTTOM)
            rest = len(said) - place
            # A line is kept free for the count of those that do not fit.
            if self.y - height < BOTTOM + (_LEADING if rest > 1 else 0):
                if self.y - _LEADING >= BOTTOM:
                    self.y -= _LEADING
                    self.text(x, self.y, more(n=rest), 8.5, colour=SOFT)
                return
            paragraph.drawOn(self.canvas, x, self.y - height)
            self.y -= height + 2.5


def _register_fonts() -> None:
    """Give reportlab the fonts, once.

    Raises
    ------
    MissingExtra
        If the package with the fonts is not installed. It is not imported: it would change matplotlib's settings.
    """
    from reportlab.lib.fonts import addMapping  # noqa: PLC0415 - an extra
    from reportlab.pdfbase import pdfmetrics  # noqa: PLC0415
    from reportlab.pdfbase.ttfonts import TTFont  # noqa: PLC0415

    with _registering:
        if set(_FONTS) <= set(pdfmetrics.getRegisteredFontNames()):
            return
        found = importlib.util.find_spec(_FONT_PACKAGE)
        if found is None or found.origin is None:
            raise MissingExtra(_FONT_PACKAGE.replace("_", "-"), _EXTRA)
        folder = Path(found.origin).parent / "fonts"
        for name, file in _FONTS.items():
            pdfmetrics.registerFont(TTFont(name, str(folder / file)))
        for bold, italic, name in ((0, 0, "Body"), (1, 0, "Body-Bold"), (0, 1, "Body"), (1, 1, "Body-Bold")):
            addMapping("Body", bold, italic, name)
