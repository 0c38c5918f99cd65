"""A cohort of head CTs, from series to the shares of their slices."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from imaging_files import as_bytes
from slice_files import make_slice

from medfusion.pipeline import explain, open_for_use, score, train

PATIENTS, SLICES, SHAPE = 60, 8, (48, 64)
SETTINGS = {"imaging": {"backbone": "filters", "size": "64", "slices": "8"}}


def head(rng: np.random.Generator, bleeding: bool) -> list[np.ndarray]:
    """Draw a head in Hounsfield units; a bleeding is a bright spot in its upper half."""
    y, x = np.mgrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j]
    inside = (y / 0.9) ** 2 + (x / 0.75) ** 2 < 1
    slices = [np.where(inside, 35.0, -1000.0) + rng.normal(0, 4, SHAPE) for _ in range(SLICES)]
    if bleeding:
        spot = (y + 0.4) ** 2 + (x - rng.uniform(-0.3, 0.3)) ** 2 < 0.05
        for place in (5, 6):
            slices[place] += 45.0 * spot
    return [np.rint(each).astype(np.int16) for each in slices]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the cohort: half of the patients bleed, one has a slice twice with different pixels."""
    root = tmp_path_factory.mktemp("heads")
    rng = np.random.default_rng(0)
    lines = ["subject_id,prediction_time,boolean_value"]
    for number in range(PATIENTS):
        bleeding = number % 2 == 0
        lines.append(f"P{number:02},2020-02-01T00:00:00,{bleeding}")
        slices = [
            make_slice(
                (0, 0, 5.0 * place),
                f"{number}.{place}",
                pixels,
                PatientID=f"P{number:02}",
                StudyInstanceUID=f"1.2.{number}",
                SeriesInstanceUID=f"1.2.{number}.1",
                WindowCenter=40,
                WindowWidth=80,
            )
            for place, pixels in enumerate(head(rng, bleeding))
        ]
        if number == 7:
            slices.append(make_slice((0, 0, 5.0), "7.99", head(rng, True)[5], PatientID="P07", **_same_series(7)))
        folder = root / "imaging" / f"P{number:02}"
        folder.mkdir(parents=True)
        for each, name in zip(slices, rng.permutation(len(slices)), strict=True):
            (folder / f"{name}.dcm").write_bytes(as_bytes(each))
    (root / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (root / "cohort.toml").write_text('[tasks.bleeding]\nlabels = "labels.csv"\n', encoding="utf-8")
    return root


def _same_series(number: int) -> dict[str, str]:
    return {"StudyInstanceUID": f"1.2.{number}", "SeriesInstanceUID": f"1.2.{number}.1"}


def test_volumes_train_score_and_explain_down_to_the_slices_that_bleed(cohort: Path, tmp_path: Path) -> None:
    trained = train(cohort, tmp_path / "model", settings=SETTINGS)
    area = trained.results["imaging"].estimates["auroc"].value
    assert area is not None
    assert area > 0.9
    assert [(problem.code, problem.subject_id) for problem in trained.problems if problem.severity == "error"] == [
        ("conflicting-slices", "P07")
    ]
    scored = score(tmp_path / "model", cohort, tmp_path / "scores")
    assert (scored.scored, scored.quarantined) == (PATIENTS, 1)
    table = pq.read_table(tmp_path / "scores" / "predictions.parquet").to_pydict()
    assert [who for who, here in zip(table["subject_id"], table["present_imaging"], strict=True) if not here] == ["P07"]
    report = explain(open_for_use(tmp_path / "model", cohort), "P10")
    lines = report.explanation.by_feature["imaging"]
    assert sum(line.share for line in lines) == pytest.approx(report.explanation.by_modality["imaging"], abs=1e-6)
    by_slice = np.zeros(SLICES)
    for line in lines:
        if line.feature.startswith("slice "):
            by_slice[int(line.feature.split()[1]) - 1] += line.share
    # Slices 6 and 7, counted from the lowest, bleed.
    assert set(np.argsort(-by_slice)[:2] + 1) == {6, 7}
    assert json.loads((tmp_path / "model" / "card.json").read_text(encoding="utf-8"))["left_out"] == 1
