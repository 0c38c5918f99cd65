"""A paper as a value: sections of sentences, tables and gaps for its author, to be written as Markdown or HTML."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import pandas as pd

from medfusion.outputs.facts import Absent, Facts
from medfusion.outputs.ledger import RESEARCH_USE
from medfusion.outputs.page import number_text, render

AUTHOR = "The author must write this"
_SPECIAL = re.compile(r"([\\`*_\[\]<|])")
_LEADING = re.compile(r"^([#>+=~-])")


@dataclass(frozen=True, slots=True)
class Text:
    """A sentence or more, plain."""

    kind: ClassVar[str] = "text"
    said: str


@dataclass(frozen=True, slots=True)
class Author:
    """What the software cannot know, and what is wanted there."""

    kind: ClassVar[str] = "author"
    hint: str


@dataclass(frozen=True, slots=True)
class Code:
    """A command."""

    kind: ClassVar[str] = "code"
    said: str


Cell: TypeAlias = "str | int | float | tuple[Text | Author, ...] | None"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns; a cell is a value, or texts and gaps."""

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, slots=True)
class Reliability:
    """What happened against what was predicted, as a picture in HTML and as a table everywhere.

    Attributes
    ----------
    rows : sequence of mapping
        mean_risk, observed, low, high, n, n_events.
    """

    kind: ClassVar[str] = "reliability"
    rows: Sequence[dict[str, Any]]

    @property
    def table(self) -> Table:
        """The numbers behind the picture."""
        columns = ["Predicted", "Observed", "95 % from", "to", "Samples", "Events"]
        keys = ["mean_risk", "observed", "low", "high", "n", "n_events"]
        return Table(columns, [[row.get(key) for key in keys] for row in self.rows])


Part: TypeAlias = "Text | Author | Code | Table | Reliability"


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with what stands under it."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True)
class Document:
    """A paper.

    Attributes
    ----------
    title, lead : str
    sections : sequence of Section
    """

    title: str
    lead: str
    sections: Sequence[Section]

    def markdown(self) -> str:
        """Return the paper as Markdown (CommonMark with tables); whatever came from the data is escaped.

        Examples
        --------
        >>> print(Document("Card", "A lead.", [Section("Use", [Author("who uses it")])]).markdown())
        # Card
        <BLANKLINE>
        A lead.
        <BLANKLINE>
        **Research use only. Not a medical device: not for diagnosis or treatment.**
        <BLANKLINE>
        ## Use
        <BLANKLINE>
        **The author must write this:** who uses it
        <BLANKLINE>
        """
        blocks = [f"# {_escaped(self.title)}", _paragraph(self.lead), f"**{RESEARCH_USE}**"]
        for section in self.sections:
            blocks.append(f"## {_escaped(section.title)}")
            blocks += [_markdown(part) for part in section.parts]
        return "\n\n".join(blocks) + "\n"

    def html(self) -> str:
        """Return the paper as one HTML page that needs no other."""
        return render("paper.html", {"paper": self, "author": AUTHOR, "is_parts": lambda cell: isinstance(cell, tuple)})

    def frame(self) -> pd.DataFrame:
        """Return one row per part: section, kind (text, author, code, table, reliability) and text."""
        rows = [(each.title, part.kind, _markdown(part)) for each in self.sections for part in each.parts]
        return pd.DataFrame(rows, columns=["section", "kind", "text"])


def known(facts: Facts, say: str | Callable[[Facts], Part], wanted: str) -> Part:
    """Return what the record says, or a gap for the author where it does not.

    Parameters
    ----------
    facts : Facts
    say : str or callable
        A template for `Facts.fill`, or what makes a table.
    wanted : str
        What the author is asked for instead.
    """
    try:
        return Text(facts.fill(say)) if isinstance(say, str) else say(facts)
    except Absent:
        return Author(f"{wanted}; it is not in the run record.")


def _markdown(part: Part) -> str:
    if isinstance(part, Text):
        return _paragraph(part.said)
    if isinstance(part, Author):
        return f"**{AUTHOR}:** {_escaped(part.hint)}"
    if isinstance(part, Code):
        # Indented, for no text can end such a block.
        return "\n".join(f"    {line}" for line in part.said.splitlines())
    table = part.table if isinstance(part, Reliability) else part
    rows = [[_cell(cell) for cell in row] for row in table.rows]
    lines = [list(map(_escaped, table.columns)), ["---"] * len(table.columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell) -> str:
    if isinstance(cell, tuple):
        return " ".join(_markdown(part) for part in cell)
    return _escaped(number_text(cell))


def _paragraph(text: str) -> str:
    """Escape a text that starts a line, where some signs would make a heading, a list or a quotation of it."""
    return _LEADING.sub(r"\\\1", _escaped(text))


def _escaped(text: str) -> str:
    """Escape what Markdown would act on, in one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
