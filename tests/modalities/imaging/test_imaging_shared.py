"""Real films: every file of a public collection, and a cohort from start to end."""

import csv
from collections import Counter
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pydicom
import pytest
from imaging_files import read_all
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medfusion.core.errors import PayloadRejected
from medfusion.core.folder import CohortFolder
from medfusion.core.protocols import ModalityOptions
from medfusion.core.types import Records
from medfusion.modalities.imaging import ImagingModality
from medfusion.modalities.imaging.pixels import decode, load

pytestmark = pytest.mark.shared


def test_every_file_of_a_public_collection_is_a_film_or_a_problem(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "cohort.toml").write_text("", encoding="utf-8")
    (tmp_path / "imaging").symlink_to(shared / "dicom")
    files = sorted(path.name for path in (shared / "dicom" / "corpus").iterdir())
    with (tmp_path / "imaging.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["subject_id", "path", "time"])
        writer.writerows([f"S{n:03}", f"imaging/corpus/{name}", "2020-01-01T09:00:00"] for n, name in enumerate(files))
    modality = ImagingModality(ModalityOptions({"backbone": "filters", "size": "64"}))
    folder = CohortFolder.open(tmp_path)
    payloads, problems = read_all(modality, folder)
    used = sum(payload is not None for payload in payloads)
    assert used > 220
    left_out = {problem.file for problem in problems if problem.severity == "error"}
    assert used + len(left_out) == len(files)
    assert all(problem.remedy and problem.file.startswith("imaging/corpus/") for problem in problems)
    codes = Counter(problem.code for problem in problems)
    assert {"too-large", "undecodable-pixels", "empty-image", "truncated-file"} <= set(codes)
    # Without a table, the same files have to speak for themselves.
    (tmp_path / "imaging.csv").unlink()
    folder = CohortFolder.open(tmp_path)
    table = modality.index(folder)
    assert table is not None
    slices = Counter(series for series in table["series"].to_pylist() if series)
    assert 28 in slices.values()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_shown_grey_agrees_with_pydicom_on_real_windows(shared: Path) -> None:
    compared = 0
    for path in sorted((shared / "dicom" / "corpus").iterdir()):
        try:
            film = pydicom.dcmread(path)
            ours = decode(load(path))
            stored = film.pixel_array if film.get("NumberOfFrames", 1) == 1 else None
        except (pydicom.errors.InvalidDicomError, PayloadRejected, RecursionError, NotImplementedError, RuntimeError):
            continue
        if stored is None:
            continue
        plain = film.SamplesPerPixel == 1 and "VOILUTSequence" not in film and "PixelPaddingValue" not in film
        width = film.get("WindowWidth") or 0
        if not plain or np.ravel(width)[0] < 1:
            continue
        values = apply_modality_lut(stored, film)
        theirs = apply_voi_lut(values.astype(np.float64), film).astype(np.float64)
        low, high = _range_of(film)
        theirs = (theirs - low) / (high - low)
        theirs = 1 - theirs if film.PhotometricInterpretation == "MONOCHROME1" else theirs
        np.testing.assert_allclose(ours, theirs, atol=1e-3, err_msg=path.name)
        compared += 1
    assert compared > 100


def _range_of(film: pydicom.Dataset) -> tuple[float, float]:
    """Return the output range that apply_voi_lut uses, as its documentation has it."""
    bits = int(film.BitsStored)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if film.PixelRepresentation else (0, 2**bits - 1)
    slope, intercept = float(film.get("RescaleSlope", 1)), float(film.get("RescaleIntercept", 0))
    return low * slope + intercept, high * slope + intercept


def test_a_simple_head_on_a_real_cohort_tells_who_goes_to_intensive_care(shared: Path) -> None:
    root = shared / "cohorts" / "covid-cxr"
    modality = ImagingModality(ModalityOptions())
    folder = CohortFolder.open(root)
    table = modality.index(folder)
    assert table is not None
    assert (table.num_rows, folder.problems) == (393, [])
    table = table.sort_by("time")
    with (root / "labels" / "icu.csv").open(encoding="utf-8") as file:
        labels = {(row["subject_id"], row["prediction_time"]): row["boolean_value"] for row in csv.DictReader(file)}
    records, events = [], []
    for (subject, moment), event in labels.items():
        as_of = datetime.fromisoformat(moment)
        rows = table.filter(pc.and_(pc.equal(table["subject_id"], subject), pc.less_equal(table["time"], as_of)))
        records.append(Records(subject, as_of, rows))
        events.append(event == "True")
    problems: list[object] = []
    payloads = modality.read(records, problems, lambda done: None)  # type: ignore[arg-type]
    assert problems == []
    embedding = modality.encoder().encode(payloads)
    groups = [record.subject_id for record in records]
    head = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=500))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    risk = cross_val_predict(head, embedding.values, events, groups=groups, cv=folds, method="decision_function")
    assert roc_auc_score(events, risk) >= 0.82
