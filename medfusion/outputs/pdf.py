"""One patient's report on one printed page, from the views that a screen shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from typing import Protocol
from xml.sax.saxutils import escape

from medfusion.core.views import ImageView
from medfusion.outputs.ledger import RESEARCH_USE, RiskReport, percent
from medfusion.outputs.pdf_canvas import LEFT, RIGHT, SOFT, WARNING, Sheet
from medfusion.outputs.pdf_figures import draw_images, draw_reasons, draw_risk, rows_of

_GAP = 12.0
_COLUMN_GAP = 18.0
_MOST_CHARACTERS = 200
"""Of a remark; on a screen stands all of it."""
_FIGURE_ROWS = {True: 17, False: 26}
"""How many rows of reasons there is room for, with images and without."""


class Language(Protocol):
    """How a page speaks; `dashboards.language` is one."""

    def _(self, text: str) -> str:
        """Return a text in the language."""

    def percent(self, risk: float) -> str:
        """Write a probability."""

    def when(self, moment: datetime) -> str:
        """Write a time."""


class _English:
    def _(self, text: str) -> str:
        return text

    def percent(self, risk: float) -> str:
        return percent(risk)

    def when(self, moment: datetime) -> str:
        return f"{moment:%Y-%m-%d %H:%M}" + (" UTC" if moment.tzinfo else "")


class Opinion(Protocol):
    """What a reader decided; `medfusion.review.Decision` is one."""

    @property
    def time(self) -> datetime:
        """When."""

    @property
    def reader(self) -> str:
        """Who."""

    @property
    def verdict(self) -> str:
        """Such as agree, override, unsure or expected."""

    @property
    def reason(self) -> str:
        """Why; may be empty."""

    @property
    def comment(self) -> str:
        """May be empty."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a risk comes from, as far as its report does not say.

    Attributes
    ----------
    positive : str
        What the risk is of.
    input_hash : str
        Of the data; empty where it is not known.
    scored_at : datetime or None
    version : str
        Of medfusion.
    notes : sequence of str
        What else a reader has to know, in their language: data that could not be used, or changed since scoring.
    """

    positive: str = ""
    input_hash: str = ""
    scored_at: datetime | None = None
    version: str = ""
    notes: Sequence[str] = field(default_factory=tuple)


def patient_pdf(
    report: RiskReport,
    provenance: Provenance | None = None,
    opinions: Sequence[Opinion] = (),
    language: Language | None = None,
) -> bytes:
    """Return the page: risk, reasons, images, limits, provenance and what readers decided so far.

    Parameters
    ----------
    report : RiskReport
    provenance : Provenance, optional
    opinions : sequence of Opinion
        Latest last. What there is no room for is counted.
    language : Language, optional
        English unless given. A font for Latin, Korean, Cyrillic and Greek letters and common Chinese characters is
        embedded.

    Returns
    -------
    bytes
        A PDF of one A4 page; the same for the same report.

    Raises
    ------
    MissingExtra
        If reportlab, or the package with the font, is not installed.

    Examples
    --------
    >>> from medfusion.core.types import Explanation
    >>> ledger = Explanation(-1.0, {"ehr": 0.0}, {}, -1.0)
    >>> page = patient_pdf(RiskReport("P1", datetime(2026, 3, 1), ledger, 0.2, 0.4, {"ehr": False}))
    >>> page[:5]
    b'%PDF-'
    """
    provenance, language = provenance or Provenance(), language or _English()
    written = BytesIO()
    sheet = Sheet(written, language._("Patient report"))
    _header(sheet, report, provenance, language)
    draw_risk(sheet, report, language)
    pictures = [view for views in report.views.values() for view in views if isinstance(view, ImageView)]
    sheet.heading(language._("Reasons"))
    draw_reasons(sheet, rows_of(report, _FIGURE_ROWS[bool(pictures)]), report, language)
    if pictures:
        sheet.heading(language._("Images"))
        draw_images(sheet, pictures, language)
    _columns(sheet, report, provenance, opinions, language)
    sheet.footer(language._(RESEARCH_USE))
    sheet.close()
    return written.getvalue()


def _header(sheet: Sheet, report: RiskReport, provenance: Provenance, language: Language) -> None:
    _ = language._
    title = _("Patient report")
    if report.hypothetical:
        title = _("Hypothetical: not this patient's risk")
    sheet.text(LEFT, sheet.y - 14, report.subject_id, 17, bold=True, room=RIGHT - LEFT - 190)
    sheet.text(RIGHT, sheet.y - 14, title, 11, colour=WARNING if report.hypothetical else SOFT, align="right")
    sheet.y -= 30
    seen = _("Seen from {when}: nothing later was used").format(when=language.when(report.prediction_time))
    sheet.text(LEFT, sheet.y, seen, 9, colour=SOFT)
    if provenance.positive:
        risk_of = _("Risk of: {event}").format(event=provenance.positive)
        sheet.y -= 13
        sheet.text(LEFT, sheet.y, risk_of, 9, colour=SOFT, room=RIGHT - LEFT)
    sheet.y -= 9
    sheet.banner(_(RESEARCH_USE))


def _columns(
    sheet: Sheet, report: RiskReport, provenance: Provenance, opinions: Sequence[Opinion], language: Language
) -> None:
    """Write limits on the left, provenance and decisions on the right, as much as there is room for."""
    _ = language._
    middle = (LEFT + RIGHT) / 2
    top, width = sheet.y, middle - LEFT - _COLUMN_GAP / 2
    sheet.heading(_("Limits"), width=width)
    sheet.paragraphs(_limits(report, provenance, language), LEFT, width, _("{n} more").format)
    sheet.y = top
    right = middle + _COLUMN_GAP / 2
    sheet.heading(_("Provenance"), x=right, width=width)
    sheet.paragraphs(_origin(report, provenance, language), right, width, _("{n} more").format)
    sheet.y -= _GAP
    sheet.heading(_("Decisions so far"), x=right, width=width)
    said = [_opinion(each, language) for each in reversed(opinions)]
    sheet.paragraphs(said or [escape(_("none"))], right, width, _("{n} more").format)


def _limits(report: RiskReport, provenance: Provenance, language: Language) -> list[str]:
    """Say what a reader must not overlook, the gravest first."""
    _ = language._
    said = [_("Changed: {what}").format(what=each) for each in report.hypothetical]
    said += list(_flags(report, language))
    said += [_cut(each) for each in provenance.notes]
    said.append(_("The interval says how sure the model is of the risk, not what will happen to the patient."))
    return [escape(each) for each in said]


def _flags(report: RiskReport, language: Language) -> Iterable[str]:
    _ = language._
    if "abstain-undecided" in report.findings:
        yield _("A person has to decide: the model can rule out neither outcome.")
    if "abstain-unusual" in report.findings:
        yield _("A person has to decide: this risk fits neither patients with the event nor patients without it.")
    for name, distance in report.distances.items():
        if distance.outside:
            yield _("Do not trust the share of {modality}: it is unlike what the model has learnt from.").format(
                modality=name
            )
    for name in (name for name, here in report.present.items() if not here):
        yield _("Not available: {modality}. It adds nothing to the risk, and takes nothing away.").format(modality=name)
    if report.seen_in_training:
        yield _("A patient of the training cohort: the part of the model that has not seen them answers.")


def _origin(report: RiskReport, provenance: Provenance, language: Language) -> list[str]:
    _ = language._
    scored = "" if provenance.scored_at is None else language.when(provenance.scored_at)
    said: Mapping[str, str] = {
        _("Model"): report.model_id,
        _("Input hash"): provenance.input_hash,
        _("Scored at"): scored,
        _("Version"): f"medfusion {provenance.version}" if provenance.version else "",
    }
    return [f"<b>{escape(name)}</b> {escape(text)}" for name, text in said.items() if text]


def _opinion(opinion: Opinion, language: Language) -> str:
    _ = language._
    known = {
        "agree": _("Agrees"),
        "override": _("Overrides"),
        "unsure": _("Unsure"),
        "expected": _("Event expected"),
        "not-expected": _("Event not expected"),
    }
    verdict = known.get(opinion.verdict, opinion.verdict)
    said = _cut(" · ".join(each for each in (opinion.reason, opinion.comment) if each))
    head = f"<b>{escape(verdict)}</b>, {escape(opinion.reader)}, {escape(language.when(opinion.time))}"
    return f"{head}: {escape(said)}" if said else head


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "\N{HORIZONTAL ELLIPSIS}"
