"""The TRIPOD+AI checklist of a model, filled from its run record as far as that goes."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from medfusion.core.errors import UsageError
from medfusion.outputs.document import Author, Document, Section, Table, Text
from medfusion.outputs.facts import Absent, Facts

Status = Literal["filled", "partly", "author"]
_STATUS: Mapping[Status, str] = {"filled": "Filled", "partly": "Partly filled", "author": "For the author"}


@dataclass(frozen=True, slots=True)
class Item:
    """One item of the checklist.

    Attributes
    ----------
    number, section, topic : str
        Such as ``"12c"``, ``"Methods"`` and ``"Analytical methods"``.
    applies : str
        ``"D"`` to studies that develop a model, ``"E"`` to those that evaluate one, or ``"D;E"``.
    asks : str
        What has to be reported, in words of our own.
    says : tuple of str
        What a run record says to it: templates for `Facts.fill`.
    adds : str
        What the author has to write in any case; empty where the record can say it all.
    lacks : str
        What the author has to write where a fact of ``says`` is not in the record.
    """

    number: str
    section: str
    topic: str
    applies: str
    asks: str
    says: tuple[str, ...] = ()
    adds: str = ""
    lacks: str = ""


@cache
def items() -> tuple[Item, ...]:
    """Return the 52 items of the statement, in its order.

    Examples
    --------
    >>> len(items()), items()[0].topic
    (52, 'Title')
    """
    text = Path(__file__).parent.joinpath("templates", "tripod.toml").read_text(encoding="utf-8")
    return tuple(Item(**{**each, "says": tuple(each.get("says", ()))}) for each in tomllib.loads(text)["item"])


@dataclass(frozen=True, slots=True)
class Answer:
    """What there is to an item.

    Attributes
    ----------
    item : Item
    status : {"filled", "partly", "author"}
        Whether the run record says it all, a part or nothing.
    reported : str
        What the record, or the author, says; empty if nothing.
    hint : str
        What the author must write; empty if nothing.
    facts : tuple of tuple of str
        Where in the record it stands, as paths of keys.
    """

    item: Item
    status: Status
    reported: str
    hint: str
    facts: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Checklist:
    """The TRIPOD+AI checklist of one model.

    Attributes
    ----------
    answers : tuple of Answer
        One per item, 52 in the order of the statement.
    title : str
    """

    answers: tuple[Answer, ...]
    title: str

    def frame(self) -> pd.DataFrame:
        """Return one row per item: item, section, topic, applies, asks, status, reported, hint."""
        rows = [
            (a.item.number, a.item.section, a.item.topic, a.item.applies, a.item.asks, a.status, a.reported, a.hint)
            for a in self.answers
        ]
        columns = ["item", "section", "topic", "applies", "asks", "status", "reported", "hint"]
        return pd.DataFrame(rows, columns=columns)

    def document(self) -> Document:
        """Return the checklist as a paper."""
        states = [answer.status for answer in self.answers]
        lead = (
            f"Of {len(states)} items, {states.count('filled')} are filled from the run record, "
            f"{states.count('partly')} in part, and {states.count('author')} are for the author. D: development of a "
            "model, E: its evaluation. The wording is ours; the statement is the authority: Collins GS et al., BMJ "
            "2024;385:e078378."
        )
        columns = ["Item", "Topic", "For", "What it asks", "Status", "Reported"]
        names = dict.fromkeys(answer.item.section for answer in self.answers)
        rows = {name: [_row(answer) for answer in self.answers if answer.item.section == name] for name in names}
        sections = [Section(name, [Table(columns, rows[name])]) for name in names]
        return Document(self.title, lead, sections)


def tripod(record: Mapping[str, Any], extras: Mapping[str, str] | None = None) -> Checklist:
    """Fill the checklist from a run record.

    An item counts as filled only with facts that stand in the record; where one is absent, it is the author's.

    Parameters
    ----------
    record : mapping
        As card.json of a model folder holds it.
    extras : mapping from number of an item to str, optional
        What the author writes.

    Returns
    -------
    Checklist

    Raises
    ------
    UsageError
        If a key of ``extras`` is no item.

    References
    ----------
    .. [1] Collins GS et al. (2024). TRIPOD+AI statement: updated guidance for reporting clinical prediction models that
       use regression or machine learning methods. BMJ 385:e078378.

    Examples
    --------
    >>> checklist = tripod({"task": "icu", "positive": "admitted to intensive care"}, {"17": "Committee of A, 12/34."})
    >>> [(a.item.number, a.status) for a in checklist.answers if a.reported]
    [('1', 'partly'), ('8a', 'partly'), ('17', 'filled')]
    """
    extras = extras or {}
    if unknown := sorted(set(extras) - {item.number for item in items()}):
        raise UsageError(f"TRIPOD+AI has no item {', '.join(unknown)}; they go from 1 to 27c")
    answers = tuple(_answer(item, record, extras.get(item.number, "")) for item in items())
    facts = Facts(record)
    return Checklist(answers, facts.fill("TRIPOD+AI checklist: {task}") if facts.has("task") else "TRIPOD+AI checklist")


def _answer(item: Item, record: Mapping[str, Any], written: str) -> Answer:
    sentences, used, wanted = [], [], item.adds
    for template in item.says:
        facts = Facts(record)
        try:
            sentences.append(facts.fill(template))
            used += facts.used
        except Absent:
            wanted = item.adds or item.lacks or f"{item.asks[0].lower()}{item.asks[1:]}."
    reported, hint = " ".join([*sentences, written]).strip(), "" if written else wanted
    status: Status = "author" if not reported else "partly" if hint else "filled"
    return Answer(item, status, reported, hint, tuple(dict.fromkeys(used)))


def _row(answer: Answer) -> list[Any]:
    reported = (Text(answer.reported),) if answer.reported else ()
    gap = (Author(answer.hint),) if answer.hint else ()
    item = answer.item
    return [item.number, item.topic, item.applies, item.asks, _STATUS[answer.status], (*reported, *gap)]
