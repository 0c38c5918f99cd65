"""Microsoft Presidio as a further engine, with a spaCy pipeline that is already on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from medfusion.core.errors import MissingExtra
from medfusion.deidentify.text import Span

EXTRA = "presidio"
_KINDS = {
    "PERSON": "NAME",
    "LOCATION": "PLACE",
    "PHONE_NUMBER": "PHONE",
    "IP_ADDRESS": "IP",
    "US_SSN": "SSN",
    "CREDIT_CARD": "ID",
    "IBAN_CODE": "ID",
    "US_PASSPORT": "ID",
    "MEDICAL_LICENSE": "ID",
    "KR_RRN": "RRN",
}
# Both ask a list of domains from the network; the built-in rules find addresses of either kind without.
_ONLINE = ("EmailRecognizer", "UrlRecognizer")


class PresidioEngine:
    """Finds names and places by a statistical model, and what Presidio knows by its form.

    Dates are left to the built-in rules, which move them.

    Parameters
    ----------
    pipeline : spacy.Language
        A pipeline with a recogniser of entities, loaded by the caller: ``spacy.load("en_core_web_lg")``. A blank
        one, ``spacy.blank("en")``, finds what has a form (cards, bank accounts, phones) and no names.
    threshold : float
        Least score, 0 to 1.

    Raises
    ------
    MissingExtra
        If presidio-analyzer is not installed.
    """

    def __init__(self, pipeline: Any, threshold: float = 0.4) -> None:
        try:
            from presidio_analyzer import AnalyzerEngine  # noqa: PLC0415 - optional
            from presidio_analyzer.nlp_engine import SpacyNlpEngine  # noqa: PLC0415 - optional
        except ImportError:
            raise MissingExtra("presidio-analyzer", EXTRA) from None
        self._language, self._threshold = pipeline.lang, threshold
        # Its own loading would download a model.
        nlp = SpacyNlpEngine(models=[{"lang_code": pipeline.lang, "model_name": "given"}])
        nlp.nlp = {pipeline.lang: pipeline}
        self._analyzer = AnalyzerEngine(nlp_engine=nlp, supported_languages=[pipeline.lang])
        for name in _ONLINE:
            self._analyzer.registry.remove_recognizer(name)

    def find(self, text: str) -> Iterator[Span]:
        """Yield names, places and numbers."""
        found = self._analyzer.analyze(
            text, language=self._language, entities=self._entities(), score_threshold=self._threshold
        )
        for result in found:
            yield Span(result.start, result.end, _KINDS[result.entity_type])

    def _entities(self) -> list[str]:
        known = self._analyzer.get_supported_entities(self._language)
        return [name for name in known if name in _KINDS]
