"""De-identification of DICOM headers by the Basic Application Confidentiality Profile.

The actions are those of PS3.15 table E.1-1 as the package dicom-anonymizer holds them (edition 2024b), applied at
every depth of nesting. Two options of the profile apply: Retain Longitudinal Temporal Information with Modified
Dates, and Retain Patient Characteristics (sex, size, weight, age up to 90). Beyond the profile, whatever the table
does not know and could hold text (private and unknown elements, free text, names of persons, binary data that is no
pixel data) is removed, too.

References
----------
.. [1] DICOM PS3.15 2024b, Annex E: Attribute Confidentiality Profiles.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from medfusion.deidentify.pseudonyms import Pseudonyms

Clean = Callable[[str], str]
"""Removes what is known to identify from a short text."""
_RETAINED = {
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "EthnicGroup",
    "SmokingStatus",
    "PregnancyStatus",
}
_RETAINED |= {"PatientSexNeutered", "TimezoneOffsetFromUTC"}
_BIRTH = {"PatientBirthDate", "PatientBirthTime"}
_PIXELS = {"PixelData", "FloatPixelData", "DoubleFloatPixelData"}
_BINARY_KEPT = _PIXELS | {
    *(f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue", "Alpha")),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue", "Alpha")),
    *("LUTData", "ICCProfile", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
}
_BINARY = {"OB", "OW", "OF", "OD", "OL", "OV", "UN"}
_FREE_TEXT = {"ST", "LT", "UT", "UC", "UR"}
_SHORT_TEXT = {"LO", "SH", "CS", "AE"}
_NUMBERS_WITHOUT_DUMMY = {"AT", "SV", "UV"}
_DATE = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})")
_DATE_TIME = re.compile(r"(\d{8})(\d{0,6}(?:\.\d{1,6})?(?:[+-]\d{4})?)")
_COARSE = re.compile(r"\d{4}(?:\d{2})?(?:[+-]\d{4})?")
_TIME = re.compile(r"[\d:.\s-]*")
_AGE = re.compile(r"(\d{3})([DWMY])")
_CODES = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    ("113108", "Retain Patient Characteristics Option"),
)


@dataclass(frozen=True, slots=True)
class Person:
    """Who a file will be about.

    Attributes
    ----------
    pseudonym : str
    shift_days : int
        How far dates move back.
    """

    pseudonym: str
    shift_days: int


class HeaderCleaner:
    """Applies the profile to datasets.

    Parameters
    ----------
    pseudonyms : Pseudonyms
        New UIDs.
    """

    def __init__(self, pseudonyms: Pseudonyms) -> None:
        from dicomanonymizer.simpledicomanonymizer import (  # noqa: PLC0415 - slow to import
            initialize_actions_2024b,
        )

        self._pseudonyms = pseudonyms
        self._actions = {tag: action for tag, action in initialize_actions_2024b().items() if len(tag) == 2}

    def clean(self, dataset: Any, person: Person, scrub: Clean) -> Counter[str]:
        """De-identify a file's dataset in place.

        Parameters
        ----------
        dataset : pydicom Dataset
        person : Person
        scrub : callable
            Applied to short texts that stay.

        Returns
        -------
        Counter
            How many elements were treated in which way.
        """
        counts: Counter[str] = Counter()
        self._clean(dataset, person, scrub, counts)
        dataset.PatientID, dataset.PatientName = person.pseudonym, person.pseudonym
        _declare(dataset)
        return counts

    def _clean(self, dataset: Any, person: Person, scrub: Clean, counts: Counter[str]) -> None:
        for tag in sorted(dataset.keys()):
            # Before it is parsed: what goes anyway must not be able to fail.
            if reason := _unwanted(dataset, tag):
                del dataset[tag]
                counts[reason] += 1
                continue
            element = dataset[tag]
            done = self._treat(dataset, element, person, scrub)
            if done:
                counts[done] += 1
            if element.VR == "SQ" and tag in dataset:
                for item in element.value or ():
                    self._clean(item, person, scrub, counts)

    def _treat(self, dataset: Any, element: Any, person: Person, scrub: Clean) -> str:
        """Apply to one element what the profile asks for, and name it; empty where it stays as it is."""
        keyword, kind = element.keyword, element.VR
        action = self._actions.get((element.tag.group, element.tag.elem))
        name = action.__name__ if action else ""
        if kind in {"DS", "IS"} and not _are_numbers(element):
            del dataset[element.tag]
            done = "removed"
        elif keyword == "PatientID":
            element.value, done = person.pseudonym, "replaced"
        elif kind in {"DA", "DT", "TM"} and keyword not in _BIRTH:
            done = _move(element, person.shift_days)
        elif keyword in _RETAINED:
            done = _retain(element, scrub)
        elif kind == "UI" and name != "delete":
            done = self._replace_uids(element)
        elif kind == "SQ":
            done = _treat_sequence(dataset, element, name)
        elif action:
            done = _apply(dataset, element, action)
        else:
            done = _treat_unlisted(dataset, element, scrub)
        return done

    def _replace_uids(self, element: Any) -> str:
        many = element.VM > 1
        old = [str(uid) for uid in (element.value if many else [element.value or ""])]
        new = [self._pseudonyms.uid(uid) for uid in old]
        if new == old:
            return ""
        element.value = new if many else new[0]
        return "uid"


def _unwanted(dataset: Any, tag: Any) -> str:
    """Say why an element goes whatever it holds; empty where it does not."""
    from pydicom.datadict import dictionary_has_tag  # noqa: PLC0415 - slow to import

    if tag.is_private:
        return "private"
    if tag.group & 0xFF00 in {0x5000, 0x6000}:
        return "overlay-or-curve"
    if not dictionary_has_tag(tag):
        return "unknown"
    return ""


def _are_numbers(element: Any) -> bool:
    """Tell whether a decimal or integer string is one: the parser lets any text pass."""
    values = element.value if element.VM > 1 else [element.value]
    return all(value is None or not isinstance(value, str) or value == "" for value in values)


def _move(element: Any, shift_days: int) -> str:
    """Move dates; a clock time stays, so that intervals do."""
    many = element.VM > 1
    old = [str(value) for value in (element.value if many else [element.value or ""])]
    new = [_moved(value.strip(), element.VR, shift_days) for value in old]
    if new == old:
        return ""
    element.value = new if many else new[0]
    return "date"


def _moved(value: str, kind: str, shift_days: int) -> str:
    """Return a moved date, or nothing where it is none or stands too early for the calendar."""
    if kind == "TM":
        return value if _TIME.fullmatch(value) else ""
    if kind == "DT" and _COARSE.fullmatch(value):
        # A year or a month alone: to move it by days, its first day stands for it.
        value = value[:4] + (value[4:6] if value[4:6].isdigit() else "01") + "01"
    match = (_DATE if kind == "DA" else _DATE_TIME).fullmatch(value)
    if not match:
        return ""
    digits = "".join(match.groups()) if kind == "DA" else match[1]
    try:
        day = date(int(digits[:4]), int(digits[4:6]), int(digits[6:])) - timedelta(days=shift_days)
    except (ValueError, OverflowError):
        return ""
    return f"{day.year:04d}{day.month:02d}{day.day:02d}" + (match[2] if kind == "DT" else "")


def _retain(element: Any, scrub: Clean) -> str:
    """Keep what describes the patient without naming him; nobody stays older than 90."""
    old = str(element.value or "")
    if element.VR == "AS":
        match = _AGE.fullmatch(old)
        new = old if match else ""
        if match and match[2] == "Y" and int(match[1]) > 89:
            new = "090Y"
    elif element.VR in _SHORT_TEXT:
        new = scrub(old)
    else:
        return ""
    if new == old:
        return ""
    element.value = new
    return "replaced"


def _treat_sequence(dataset: Any, element: Any, action: str) -> str:
    """Remove or empty a sequence that the table names; one that only refers to other files is cleaned within."""
    if not action or action.endswith("_UID"):
        return ""
    if action in {"delete", "delete_or_replace", "delete_or_empty_or_replace"}:
        del dataset[element.tag]
        return "removed"
    # A dummy item would have to be invented; an empty sequence says as little and is parsed everywhere.
    element.value = []
    return "emptied"


def _apply(dataset: Any, element: Any, action: Callable[[Any, Any], None]) -> str:
    tag = (element.tag.group, element.tag.elem)
    if element.VR in _BINARY | _NUMBERS_WITHOUT_DUMMY or element.keyword in _BIRTH:
        if element.keyword == "PatientBirthDate":
            element.value = ""
            return "emptied"
        del dataset[element.tag]
        return "removed"
    before = element.value
    action(dataset, tag)
    if tag not in dataset:
        return "removed"
    if dataset[tag].value == before:
        return ""
    return "replaced" if dataset[tag].value else "emptied"


def _treat_unlisted(dataset: Any, element: Any, scrub: Clean) -> str:
    """Remove what the table does not name but could hold a text; clean short texts."""
    kind = element.VR
    if kind in _FREE_TEXT or (kind in _BINARY and element.keyword not in _BINARY_KEPT):
        del dataset[element.tag]
        return "removed"
    if kind in {"PN", "AS"} and element.value:
        element.value = ""
        return "emptied"
    if kind not in _SHORT_TEXT or not element.value or element.keyword == "SpecificCharacterSet":
        return ""
    many = element.VM > 1
    old = [str(value) for value in (element.value if many else [element.value])]
    new = [scrub(value) for value in old]
    if new == old:
        return ""
    # A code string has no brackets.
    new = ["" if kind == "CS" and changed != value else changed for value, changed in zip(old, new, strict=True)]
    element.value = new if many else new[0]
    return "replaced"


def _declare(dataset: Any) -> None:
    """Say in the header what was done (PS3.15 section E.1.1, PS3.3 section C.7.1.1)."""
    from pydicom.dataset import Dataset  # noqa: PLC0415 - slow to import
    from pydicom.sequence import Sequence as DicomSequence  # noqa: PLC0415 - slow to import

    dataset.PatientIdentityRemoved = "YES"
    dataset.LongitudinalTemporalInformationModified = "MODIFIED"
    dataset.DeidentificationMethod = "medfusion: PS3.15 Basic Profile, modified dates"
    items = []
    for value, meaning in _CODES:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        items.append(item)
    dataset.DeidentificationMethodCodeSequence = DicomSequence(items)
