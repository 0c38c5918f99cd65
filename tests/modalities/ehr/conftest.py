"""Ways to make EHR tables, records and payloads."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from medfusion.core.folder import CohortFolder
from medfusion.core.protocols import ModalityOptions
from medfusion.core.types import Records
from medfusion.modalities.ehr import EhrModality, EhrPayload

AS_OF = datetime(2020, 3, 4, 12, 0)
Row = tuple[float, str, float | None]


@pytest.fixture(scope="session")
def ehr() -> EhrModality:
    return EhrModality(ModalityOptions())


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., CohortFolder]:
    """Write ehr.csv and cohort.toml, and open the folder."""

    def _write(text: str, units: Mapping[str, str] | None = None) -> CohortFolder:
        lines = ["[ehr.units]", *(f'"{code}" = "{unit}"' for code, unit in (units or {}).items())]
        (tmp_path / "cohort.toml").write_text("\n".join(lines), encoding="utf-8")
        (tmp_path / "ehr.csv").write_text(text, encoding="utf-8")
        return CohortFolder.open(tmp_path)

    return _write


@pytest.fixture(scope="session")
def record() -> Callable[..., Records]:
    """Make a record of rows (hours before the prediction, code, value or None)."""

    def _record(
        rows: Sequence[Row] = (),
        facts: Mapping[str, Any] | None = None,
        units: Mapping[str, str] | None = None,
        subject: str = "P1",
    ) -> Records:
        rows = sorted(rows, key=lambda row: -row[0])
        codes = [code for _, code, _ in rows]
        table = pa.table(
            {
                "subject_id": pa.array([subject] * len(rows), pa.string()),
                "time": pa.array([AS_OF - timedelta(hours=hours) for hours, _, _ in rows], pa.timestamp("us")),
                "code": pc.dictionary_encode(pa.array(codes, pa.string())),
                "unit": pc.dictionary_encode(pa.array([(units or {}).get(code, "") for code in codes], pa.string())),
                "numeric_value": pa.array([value for _, _, value in rows], pa.float64()),
            }
        )
        return Records(subject, AS_OF, table, facts or {})

    return _record


@pytest.fixture(scope="session")
def read(ehr: EhrModality) -> Callable[..., list[EhrPayload | None]]:
    """Read records into payloads."""

    def _read(*records: Records) -> list[EhrPayload | None]:
        return ehr.read(records, [], lambda done: None)

    return _read
