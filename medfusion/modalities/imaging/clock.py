"""When a film was taken, from a DICOM header.

The first of these that is filled in decides; what comes before it in the list is closer to the exposure:

1. AcquisitionDateTime
2. AcquisitionDate with AcquisitionTime
3. ContentDate with ContentTime
4. SeriesDate with SeriesTime
5. StudyDate with StudyTime

A value that is less exact than a minute stands for the end of what it names (the day, if only the date is known), so
that a prediction made earlier in that day cannot see the film. TimezoneOffsetFromUTC, or an offset within
AcquisitionDateTime, makes it a moment in UTC. A value that is no DICOM time is an error, not a reason to look further.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone

TIME_SOURCES = (
    ("AcquisitionDateTime", ""),
    ("AcquisitionDate", "AcquisitionTime"),
    ("ContentDate", "ContentTime"),
    ("SeriesDate", "SeriesTime"),
    ("StudyDate", "StudyTime"),
)
ZONE = "TimezoneOffsetFromUTC"
TIME_KEYWORDS = (*(keyword for pair in TIME_SOURCES for keyword in pair if keyword), ZONE)
_ZONE = r"([+-])(\d{2})(\d{2})"
_FORM = re.compile(rf"(\d{{4}})(\d{{2}})?(\d{{2}})?(\d{{2}})?(\d{{2}})?(?:(\d{{2}})(\.\d{{1,6}})?)?(?:{_ZONE})?")


class BadTime(ValueError):
    """A date or time that cannot be read.

    Parameters
    ----------
    keyword : str
        The DICOM keyword under which it stands.
    got : str
    """

    def __init__(self, keyword: str, got: str) -> None:
        super().__init__(f"{keyword} is {got!r}")
        self.keyword, self.got = keyword, got


def taken_at(header: Mapping[str, str]) -> datetime | None:
    """Return when a film was taken.

    Parameters
    ----------
    header : mapping from DICOM keyword to str
        Empty where the header says nothing.

    Returns
    -------
    datetime or None
        In UTC where a zone is known, else naive; None if there is no date at all.

    Raises
    ------
    BadTime
        If what decides is no DICOM date or time (PS3.5 section 6.2; the older ``2020.01.31`` and ``09:00:00`` count).

    Examples
    --------
    >>> taken_at({"StudyDate": "20200131", "StudyTime": "0900"})
    datetime.datetime(2020, 1, 31, 9, 0)
    >>> taken_at({"StudyDate": "20200131"})
    datetime.datetime(2020, 1, 31, 23, 59, 59, 999999)
    """
    for first, second in TIME_SOURCES:
        if header.get(first):
            day, clock = header[first], header.get(second, "") if second else ""
            got = f"{day} {clock}".strip()
            text = _compact(day, clock) if second else day
            return _parse(text, header.get(ZONE, ""), first, got)
    return None


def _compact(day: str, clock: str) -> str:
    """Join a date and a time, in today's form or in that of the ACR-NEMA standard before it."""
    if re.fullmatch(r"\d{4}\.\d{2}\.\d{2}", day):
        day = day.replace(".", "")
    if re.fullmatch(r"\d{2}:\d{2}(:\d{2}(\.\d+)?)?", clock):
        clock = clock.replace(":", "")
    return day + clock if re.fullmatch(r"\d{8}", day) and re.fullmatch(r"[\d.]*", clock) else "?"


def _parse(text: str, offset: str, keyword: str, got: str) -> datetime:
    match = _FORM.fullmatch(text)
    if match is None:
        raise BadTime(keyword, got)
    year, month, day, hour, minute, second, fraction, *zone = match.groups()
    try:
        start = datetime(int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0))
        time = _end_of(start, month, day, hour, minute)
        # 60 is a leap second, which datetime does not know.
        time = time.replace(second=min(int(second), 59)) if second else time
        time = time.replace(microsecond=int(fraction[1:].ljust(6, "0"))) if fraction else time
        if zone[0]:
            return _in_utc(time, *zone)
    except (ValueError, OverflowError):
        raise BadTime(keyword, got) from None
    return _shifted(time, offset) if offset else time


def _end_of(start: datetime, month: str | None, day: str | None, hour: str | None, minute: str | None) -> datetime:
    """Return the end of the year, month, day or hour that starts then, or the minute itself."""
    if minute:
        return start
    if hour:
        following = start + timedelta(hours=1)
    elif day:
        following = start + timedelta(days=1)
    elif month:
        following = (start + timedelta(days=31)).replace(day=1)
    else:
        following = start.replace(year=start.year + 1)
    return following - timedelta(microseconds=1)


def _shifted(time: datetime, offset: str) -> datetime:
    match = re.fullmatch(_ZONE, offset)
    if match is None:
        raise BadTime(ZONE, offset)
    try:
        return _in_utc(time, *match.groups())
    except (ValueError, OverflowError):
        raise BadTime(ZONE, offset) from None


def _in_utc(time: datetime, sign: str, hours: str, minutes: str) -> datetime:
    if int(hours) > 14 or int(minutes) > 59:
        raise ValueError("no such time zone")
    shift = timedelta(hours=int(hours), minutes=int(minutes))
    return time.replace(tzinfo=timezone(-shift if sign == "-" else shift)).astimezone(UTC)
