"""Birth dates of the very old, who could be known by their age."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from medfusion.core.times import parse_times
from medfusion.deidentify.tables import OLDEST_YEARS

_DAYS_PER_YEAR = 365.25


def last_predictions(labels: pa.Table, last: dict[str, date]) -> None:
    """Note the last day of a prediction for every subject of a table of labels in ``last``."""
    times = pc.cast(parse_times(labels["prediction_time"].combine_chunks())[0], pa.date32(), safe=False)
    subjects = pc.utf8_trim_whitespace(pc.cast(labels["subject_id"], pa.string()))
    for subject, day in zip(subjects.to_pylist(), times.to_pylist(), strict=True):
        if subject and day:
            last[subject] = max(day, last.get(subject, day))


def with_topped_births(subjects: pa.Table, last: Mapping[str, date]) -> pa.Table:
    """Let nobody be born so early that he is above the oldest age at his last prediction.

    Parameters
    ----------
    subjects : pyarrow.Table
    last : mapping from subject to date
        A birth date of whom it does not know is left out: no prediction needs it.

    Returns
    -------
    pyarrow.Table
        As it was, if it has no column ``birth_date``.
    """
    if "birth_date" not in subjects.column_names:
        return subjects
    births = pc.cast(parse_times(subjects["birth_date"].combine_chunks())[0], pa.date32(), safe=False).to_pylist()
    names = pc.utf8_trim_whitespace(pc.cast(subjects["subject_id"], pa.string())).to_pylist()
    new = [_topped(birth, last.get(name or "")) for birth, name in zip(births, names, strict=True)]
    text = [None if birth is None else birth.isoformat() for birth in new]
    return subjects.set_column(subjects.column_names.index("birth_date"), "birth_date", pa.array(text, pa.string()))


def _topped(birth: date | None, last: date | None) -> date | None:
    if birth is None or last is None:
        return None
    earliest = last - timedelta(days=int((OLDEST_YEARS + 1) * _DAYS_PER_YEAR))
    return earliest if (last - birth).days / _DAYS_PER_YEAR >= OLDEST_YEARS + 1 else birth
