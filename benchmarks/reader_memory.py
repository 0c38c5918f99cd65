"""Does memory grow with the folder? Reads generated folders of DICOM films, and says what a further film costs."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
from common import RESULTS, machine, machine_line, markdown_table, write_results
from pydicom import dcmread

from medfusion.core.folder import CohortFolder
from medfusion.core.protocols import ModalityOptions
from medfusion.core.types import Records
from medfusion.modalities.imaging import ImagingModality
from medfusion.modalities.imaging.example import example_dicom

_NUMBER = 7


def main() -> int:
    arguments = _arguments()
    if arguments.measure:
        print(json.dumps(_measured(arguments.measure)))
        return 0
    described = machine()
    measured: dict[str, Any] = {"machine": described, "folders": []}
    with tempfile.TemporaryDirectory() as folder:
        for films in arguments.films:
            cohort = Path(folder, str(films))
            _write_cohort(cohort, films)
            # A process of its own, so that what one folder took does not hide what the other takes.
            command = [sys.executable, __file__, "--measure", str(cohort)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            measured["folders"].append({"films": films, **json.loads(done.stdout)})
    first, *_, last = measured["folders"]
    grown = last["peak_mb"] - first["peak_mb"]
    measured["kb_per_film"] = round(1000 * grown / (last["films"] - first["films"]), 2)
    write_results(arguments.out, "reader_memory", measured, _text(measured))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, nargs="+", default=[1_000, 10_000], help="the sizes of the folders")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _write_cohort(cohort: Path, films: int) -> None:
    """Write a folder of films of one patient each, no two with the same pixels."""
    film = _film()
    digits = b"7" * _NUMBER
    (cohort / "imaging").mkdir(parents=True)
    (cohort / "cohort.toml").write_text("", encoding="utf-8")
    for number in range(films):
        data = film.replace(digits, str(number).zfill(_NUMBER).encode())
        (cohort / "imaging" / f"{number}.dcm").write_bytes(data[:-4] + number.to_bytes(4, "little"))


def _film() -> bytes:
    """Return a drawn film, 256 pixels high, with sevens in place of patient and series."""
    film = dcmread(BytesIO(example_dicom(0)))
    pixels = cv2.resize(film.pixel_array, (224, 256), interpolation=cv2.INTER_AREA)
    film.Rows, film.Columns = pixels.shape
    film.PixelData = pixels.tobytes()
    film.PatientID = "7" * _NUMBER
    film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = "1.2." + "7" * _NUMBER
    film.StudyInstanceUID, film.SeriesInstanceUID = "1.3." + "7" * _NUMBER, "1.4." + "7" * _NUMBER
    stream = BytesIO()
    film.save_as(stream)
    return stream.getvalue()


def _measured(cohort: Path) -> dict[str, float]:
    """Read every film of a cohort, in this process, and return its memory after each step."""
    modality = ImagingModality(ModalityOptions({"backbone": "filters", "size": "64"}))
    modality.example(0)
    start = _resident_mb()
    table = modality.index(CohortFolder.open(cohort))
    assert table is not None
    indexed = _resident_mb()
    later = datetime(2100, 1, 1)
    subjects = table["subject_id"].to_pylist()
    records = [Records(subject, later, table.slice(row, 1)) for row, subject in enumerate(subjects)]
    payloads = modality.read(records, [], lambda done: None)
    assert all(payload is not None for payload in payloads)
    return {
        "started_mb": start,
        "indexed_mb": indexed,
        "read_mb": _resident_mb(),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1),
    }


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return round(pages * resource.getpagesize() / 1e6, 1)


def _text(measured: dict[str, Any]) -> str:
    steps = ("started_mb", "indexed_mb", "read_mb", "peak_mb")
    rows = [(str(folder["films"]), *(f"{folder[step]:.0f}" for step in steps)) for folder in measured["folders"]]
    return f"""# Memory of the imaging reader, MB

`benchmarks/reader_memory.py`. {machine_line(measured["machine"])}

{markdown_table(("films", "started", "indexed", "read", "peak"), rows)}
A further film costs {measured["kb_per_film"]} kB.
"""


if __name__ == "__main__":
    sys.exit(main())
