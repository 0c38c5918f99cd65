"""Identifiers that show by their form alone: numbers of residents and phones, addresses, people with a title.

What looks like a measurement is left alone: a blood pressure, a score out of ten, a range, a dose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_LEFT, _RIGHT = r"(?<![\w.,/+-])", r"(?![\d/]|[-.,]\d)"
_DAY_OF_BIRTH = r"\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
_SURNAMES = (
    "김이박최정강조윤장임한오서신권황안송류전홍고문양손배백허유남심노하곽성차주우구민진지엄채원천방공현함변염"
    "추도소석선설마길연위표명기반왕금옥육인맹제모탁국어은편용"
)
_KOREAN_TITLES = (
    r"(?:교수|선생|간호사|과장|원장|전공의|전문의|주치의|레지던트|인턴|의사|보호자|씨(?![가-힣])|님(?![가-힣]))"
)
_NAME_LABELS = r"(?:성명|이름|환자명|보호자|담당의|주치의|집도의|판독의|의뢰의|작성자|서명)"
_NAME = r"[A-Z][A-Za-z'\u2019-]+"
_ID_LABELS = (
    r"(?:MRN|(?:medical record|hospital|chart|account|accession|insurance|policy|passport|licen[cs]e) (?:number|no|id)"
    r"|(?:patient|pt) id|acc#|passport|(?:등록|환자|병록|차트|접수|검사|보험)\s?번호)"
)
_PHONE_LABELS = r"(?:tel(?:ephone)?|phone|fax|mobile|cell|pager|hp|전화(?:번호)?|연락처|휴대폰|핸드폰|팩스)"
_STREETS = r"(?:Street|St\.|Avenue|Ave\.?|Road|Rd\.?|Boulevard|Blvd\.?|Lane|Ln\.?|Drive|Court|Square|Terrace)"
_PROVINCES = (
    r"(?:서울|부산|대구|인천|광주|대전|울산|세종|경기|강원|제주"
    r"|충청[남북]|충북|충남|전라[남북]|전북|전남|경상[남북]|경북|경남)"
)

_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("EMAIL", r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}"),
        ("URL", r"(?i:\b(?:https?|ftp)://|\bwww\.)[^\s<>\"')\]가-힣]+"),
        ("RRN", rf"(?<![\d.-]){_DAY_OF_BIRTH}[ ]?[-\u2013][ ]?\d[\d*xX●]{{6}}(?!\d)"),
        ("RRN", rf"(?<![\d.-]){_DAY_OF_BIRTH}[1-8]\d{{6}}(?![\d.])"),
        ("SSN", rf"{_LEFT}\d{{3}}-\d{{2}}-\d{{4}}{_RIGHT}"),
        ("PHONE", r"(?<![\w.])\+\d{1,3}(?=(?:[\s().-]{0,3}\d){7,13}(?!\d))(?:[\s.-]?\(?\d{1,4}\)?){2,6}"),
        ("PHONE", rf"{_LEFT}01[016789][-. ]?\d{{3,4}}[-. ]?\d{{4}}{_RIGHT}"),
        ("PHONE", rf"{_LEFT}\(?0(?:2|[3-7]\d)\)?[-. ]?\d{{3,4}}[-. ]\d{{4}}{_RIGHT}"),
        ("PHONE", rf"(?<![\w.])(?:1[-. ])?(?:\(\d{{3}}\) ?|\d{{3}}[-.])\d{{3}}[-.]\d{{4}}{_RIGHT}"),
        ("PHONE", rf"(?i:(?<![a-z]){_PHONE_LABELS})(?:\.|:|#|\s|번호|is)*(?P<found>[+(]?\d[\d ().-]{{5,18}}\d)"),
        ("ID", rf"(?i:(?<![a-z]){_ID_LABELS})(?:\.|:|#|\s|=|is)*(?P<found>(?=[\w-]*\d)\w[\w-]{{2,}})"),
        ("IP", r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\d.])"),
        ("NAME", rf"\b(?:Drs?|Prof|Mr|Mrs|Ms|Miss|Mx)\b\.?\s+(?P<found>{_NAME}(?:[ ](?:[A-Z]\.[ ])?{_NAME})?)"),
        ("NAME", rf"(?<![A-Za-z])(?P<found>{_NAME} {_NAME}),? (?:MD|M\.D\.|RN|R\.N\.|DO|PhD)\b"),
        (
            "NAME",
            r"(?i:\b(?:patient(?:'s)? name|name of patient|name))\s?[:=]\s*"
            rf"(?P<found>{_NAME}(?:,?[ ](?:{_NAME}|[A-Z]\b\.?)){{0,2}})",
        ),
        ("NAME", rf"(?<![가-힣])(?P<found>[{_SURNAMES}][가-힣]{{2}})(?=\s?{_KOREAN_TITLES})"),
        ("NAME", rf"{_NAME_LABELS}\s?[:=]\s*(?P<found>[가-힣]{{2,4}})(?![가-힣])"),
        ("ADDRESS", rf"(?<!\w)\d{{1,5}}\s(?:[A-Z][a-z]+\s){{1,3}}{_STREETS}(?!\w)"),
        (
            "ADDRESS",
            rf"{_PROVINCES}(?:특별시|광역시|특별자치[시도]|시|도)?\s+(?:[가-힣]{{1,10}}[시군구]\s*){{1,2}}"
            r"(?:[가-힣0-9]{1,12}(?:동|로|길|읍|면|리|가)\s*){0,3}(?:\d+(?:-\d+)?(?:번지|호|층)?)?",
        ),
    )
)
_YEARS_OLD = r"(?:years?[-\s]old|y/?o\b|yrs?[-\s]old|years of age|(?:세|살)(?![가-힣]))"
_AGE = re.compile(rf"(?<![\d.,/-])(?:9\d|1[01]\d)(?=[-\s]?{_YEARS_OLD})|(?i:(?<=\bage )|(?<=\baged ))(?:9\d|1[01]\d)\b")


def find_patterns(text: str) -> Iterator[tuple[int, int, str]]:
    """Find identifiers by their form.

    Parameters
    ----------
    text : str

    Yields
    ------
    start, end, kind
        Where it stands and what it is (EMAIL, URL, RRN, SSN, PHONE, ID, IP, NAME, ADDRESS; AGE for an age above 89,
        which few people reach). They may overlap.

    Examples
    --------
    >>> list(find_patterns("BP 120/80, call 010-1234-5678"))
    [(16, 29, 'PHONE')]
    """
    for kind, pattern in _PATTERNS:
        group = "found" if "found" in pattern.groupindex else 0
        for match in pattern.finditer(text):
            yield *match.span(group), kind
    for match in _AGE.finditer(text):
        if int(match.group()) > 89:
            yield *match.span(), "AGE"
