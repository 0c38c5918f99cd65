"""A made-up record, for tests and demonstrations."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medfusion.core.types import Records
from medfusion.modalities.ehr.payload import EhrPayload, read_payloads

_TYPICAL = {
    "heart_rate": ("/min", 88.0, 12.0, 24),
    "systolic_bp": ("mm[Hg]", 124.0, 14.0, 24),
    "temperature": ("Cel", 37.4, 0.5, 12),
    "lactate": ("mmol/L", 1.9, 0.6, 4),
    "creatinine": ("mg/dL", 1.1, 0.2, 3),
}
"""Unit, mean, standard deviation, and how often it is measured in 72 hours."""
_HOURS = 72.0
_AS_OF = datetime(2024, 3, 4, 9, 30)


def example_payload(seed: int) -> EhrPayload:
    """Return the payload of three days on a ward.

    Parameters
    ----------
    seed : int

    Returns
    -------
    EhrPayload
        Five series, one diagnosis without a value, sex and age.

    Examples
    --------
    >>> payload = example_payload(0)
    >>> sorted(payload.vocabulary.codes)[:2]
    ['creatinine', 'diagnosis=I10']
    """
    rng = np.random.default_rng(seed)
    rows: list[tuple[float, str, str, float | None]] = [(float(rng.uniform(0, _HOURS)), "diagnosis=I10", "", None)]
    for code, (unit, mean, spread, often) in _TYPICAL.items():
        level = rng.normal(mean, spread)
        for hours in rng.uniform(0, _HOURS, often).round(2):
            rows.append((float(hours), code, unit, round(abs(float(rng.normal(level, spread / 3))), 1)))
    hours_before, codes, units, values = zip(*sorted(rows, reverse=True, key=lambda row: row[0]), strict=True)
    table = pa.table(
        {
            "time": pa.array([_AS_OF - timedelta(hours=hours) for hours in hours_before], pa.timestamp("us")),
            "code": pc.dictionary_encode(pa.array(codes)),
            "unit": pc.dictionary_encode(pa.array(units)),
            "numeric_value": pa.array(values, pa.float64()),
        }
    )
    facts = {"sex": str(rng.choice(["F", "M"])), "age_years": float(rng.integers(30, 90))}
    payload = read_payloads([Records(f"example-{seed}", _AS_OF, table, facts)])[0]
    assert payload is not None
    return payload
