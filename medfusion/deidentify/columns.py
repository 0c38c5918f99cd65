"""Which role each column of a cohort's tables has when it leaves."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from medfusion.core.tables import number_text
from medfusion.core.times import ISO_PATTERN
from medfusion.deidentify.identity import Identity
from medfusion.deidentify.tables import Role, Roles

LABELS: Roles = {"subject_id": "subject", "prediction_time": "time", "boolean_value": "boolean"}
NOTES: Roles = {"subject_id": "subject", "time": "time", "note_type": "category", "text": "text"}
IMAGING: Roles = {"subject_id": "subject", "path": "kept", "time": "time"}
LONG: Roles = {
    "subject_id": "subject",
    "time": "time",
    "code": "category",
    "numeric_value": "number",
    "text_value": "text",
    "unit": "category",
}
_WORDS_OF_IDENTIFIERS = frozenset(
    [
        "name",
        "surname",
        "firstname",
        "lastname",
        "fullname",
        "forename",
        "givenname",
        "familyname",
        "nickname",
        "initials",
        "address",
        "street",
        "city",
        "town",
        "zip",
        "zipcode",
        "postcode",
        "postal",
        "phone",
        "telephone",
        "tel",
        "mobile",
        "cell",
        "fax",
        "pager",
        "email",
        "mail",
        "mrn",
        "ssn",
        "rrn",
        "nhs",
        "passport",
        "licence",
        "license",
        "insurance",
        "policy",
        "account",
        "chart",
        "accession",
        "url",
        "web",
        "ip",
        "contact",
        "guardian",
        "kin",
        "mother",
        "father",
        "spouse",
        "physician",
        "doctor",
        "nurse",
        "clinician",
        "provider",
        "employer",
        "username",
        "login",
        "pid",
        "ptid",
        "identifier",
        "guid",
        "uuid",
        "device",
        "serial",
        "vehicle",
        "plate",
        "photo",
        "biometric",
    ]
)
_IDENTIFIERS_IN_FULL = re.compile(
    r"(?:patient|person|hospital|national|resident|medical|visit|encounter|stay|hadm|study|order|external|original|old)"
    r"_?(?:record_?)?(?:id|no|nr|num|number)|id|성명|이름|.*(?:주소|전화|연락처|휴대폰|이메일|주민|등록번호|환자번호|보호자|생년월일|차트).*",
    re.IGNORECASE,
)
_NAMES = frozenset(
    ["name", "surname", "firstname", "lastname", "fullname", "forename", "givenname", "familyname", "nickname"]
)
_RELATIVES = frozenset(["contact", "guardian", "kin", "mother", "father", "spouse", "성명", "이름", "보호자"])
_STAFF = frozenset(["physician", "doctor", "nurse", "clinician", "provider"])
_SITES = {"site", "hospital", "institution", "center", "centre", "clinic", "facility", "ward", "unit", "department"}
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[가-힣]+")
_FEW_ROWS = 20


def is_identifier(name: str) -> bool:
    """Tell by its name that a column identifies people.

    Examples
    --------
    >>> [is_identifier(name) for name in ("patient_name", "MRN", "homePhone", "site", "age_years", "주민등록번호")]
    [True, True, True, False, False, True]
    """
    words = {word.lower() for word in _WORDS.findall(name)}
    return bool(words & _WORDS_OF_IDENTIFIERS or _IDENTIFIERS_IN_FULL.fullmatch(name.strip()))


def add_identifiers(table: pa.Table, roles: Roles, patients: dict[str, Identity], staff: Identity) -> None:
    """Add what the columns that do not leave say about each patient, so that it is found in texts.

    Parameters
    ----------
    table : pyarrow.Table
        Of subjects.
    roles : mapping from column to role
    patients : dict from subject to Identity
        Added to.
    staff : Identity
        Added to.
    """
    subjects = pc.utf8_trim_whitespace(pc.cast(table["subject_id"], pa.string())).to_pylist()
    for column in (name for name in table.column_names if name not in roles):
        words = {word.lower() for word in _WORDS.findall(column)}
        texts = pc.cast(table[column], pa.string()).to_pylist()
        for subject, text in zip(subjects, texts, strict=True):
            if subject and text and text.strip():
                _add(text.strip(), words, staff if words & _STAFF else patients.setdefault(subject, Identity()))


def _add(text: str, words: set[str], identity: Identity) -> None:
    if words & (_NAMES | _RELATIVES | _STAFF):
        identity.names.add(text)
        return
    identity.numbers.add(text)
    identity.texts.add(text)


def subject_roles(table: pa.Table) -> Roles:
    """Choose roles for the table of subjects, whose further columns are free; columns left out have none."""
    roles: dict[str, Role] = {}
    for name in table.column_names:
        role = _subject_role(name, table[name])
        if role is not None:
            roles[name] = role
    return roles


def wide_roles(table: pa.Table) -> Roles:
    """Choose roles for the wide form of events: everything besides subject and time is a number."""
    roles: dict[str, Role] = {"subject_id": "subject", "time": "time"}
    for name in table.column_names:
        if name not in roles and not is_identifier(name) and _is_numeric(table[name]):
            roles[name] = "age" if _is_age(name) else "number"
    return roles


def _subject_role(name: str, values: pa.ChunkedArray) -> Role | None:
    if name == "subject_id":
        return "subject"
    if is_identifier(name):
        return None
    if _is_dated(values):
        return "time"
    if _is_numeric(values):
        return _number_role(name, values)
    if name.lower() in _SITES:
        return "site"
    return "text" if pa.types.is_string(values.type) and not _are_unique(values) else None


def _number_role(name: str, values: pa.ChunkedArray) -> Role | None:
    if _is_age(name):
        return "age"
    return None if _are_serial_numbers(values) else "number"


def _is_age(name: str) -> bool:
    return "age" in {word.lower() for word in _WORDS.findall(name)} or "나이" in name or "연령" in name


def _is_dated(values: pa.ChunkedArray) -> bool:
    if pa.types.is_date(values.type) or pa.types.is_timestamp(values.type):
        return True
    if not pa.types.is_string(values.type):
        return False
    said = pc.utf8_trim_whitespace(values.drop_null())
    return len(said) > 0 and bool(pc.all(pc.match_substring_regex(said, ISO_PATTERN)).as_py())


def _is_numeric(values: pa.ChunkedArray) -> bool:
    """Take a column for numbers where most of its cells are: a row with another one goes."""
    kind = values.type
    if not pa.types.is_string(kind):
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        return bool(is_number or pa.types.is_boolean(kind) or pa.types.is_null(kind))
    said = pc.utf8_trim_whitespace(values.drop_null()).combine_chunks()
    return bool(number_text(said).mean() > 0.5) if len(said) else True


def _are_unique(values: pa.ChunkedArray) -> bool:
    """Say whether most cells stand for one patient each."""
    said = values.drop_null()
    return len(said) > _FEW_ROWS and len(said.unique()) > len(said) / 2


def _are_serial_numbers(values: pa.ChunkedArray) -> bool:
    """Say whether whole numbers of six digits or more differ from patient to patient."""
    if not _are_unique(values) or pa.types.is_boolean(values.type):
        return False
    text = pc.utf8_trim_whitespace(pc.cast(values.drop_null(), pa.string()))
    whole = pc.match_substring_regex(text, r"^\d{6,}(\.0)?$")
    return bool(pc.mean(pc.cast(whole, pa.int8())).as_py() > 0.5)
