"""Do volumes lie where SimpleITK says they do, in the same order, with the same values?

Every CT, MR and PET file of the folders is planned; each stack is then read by medfusion, and its files by SimpleITK's
`ImageSeriesReader` with GDCM's order (`ImageFileReader` for one file of many frames), in a process of its own, because
damaged files may end it. Distances are those between the eight corners of the volume. Groups of slices that medfusion
does not make a volume of are listed with the reason.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, machine, machine_line, markdown_table, write_results

from medfusion.core.errors import PayloadRejected
from medfusion.modalities.imaging.volumes import SliceHeader, Stack, load_volume, plan_series, read_slice_headers

_HOW = """Both are given the same files. "Corners" is the largest distance between where the two affines put a corner of
the volume. Wherever the two differ, the last column says why; where slices are missing or uneven both give an affine
that goes evenly from the first slice to the last, and only medfusion says how far off it is in between.
"""
_PADDING = "padding: medfusion gives it the value of nothing, SimpleITK leaves it as it is"
_REVERSED = "frames run against their normal; SimpleITK leaves them in the order of the file"
_INTERLEAVED = "frames are interleaved in the file; SimpleITK leaves them so, and gives a spacing of 1 mm"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    described = machine()
    folders = [measure(folder) for folder in args.folders]
    measured = {"folders": folders, "machine": described, "simpleitk": version("SimpleITK")}
    write_results(args.out, "volumes", measured, page(measured))


def measure(folder: Path) -> dict[str, Any]:
    """Plan a folder, and read each of its stacks in both ways."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    headers: list[SliceHeader] = []
    rejected: dict[str, int] = {}
    start = time.perf_counter()
    for path in files:
        try:
            headers.extend(read_slice_headers(path))
        except PayloadRejected as error:
            rejected[error.problem.code] = rejected.get(error.problem.code, 0) + 1
    plan = plan_series(headers)
    seconds = time.perf_counter() - start
    return {
        "name": folder.name,
        "files": len(files),
        "plan_seconds": seconds,
        "files_without_slices": rejected,
        "images": len(plan.images),
        "stacks": [compare(stack) for stack in plan.stacks],
        "left_out": [
            {"file": Path(problem.file).name, "code": problem.code, "got": problem.got} for problem in plan.problems
        ],
    }


def compare(stack: Stack) -> dict[str, Any]:
    """Compare what both make of the files of a stack."""
    paths = sorted({header.path for header in stack.slices})
    row: dict[str, Any] = {
        "first_file": stack.slices[0].path.name,
        "modality": stack.slices[0].modality,
        "slices": len(stack.slices),
        "unit": stack.unit.name,
        "findings": {finding.code: finding.words for finding in stack.findings},
    }
    theirs = by_simpleitk([header.path for header in stack.slices])
    if theirs is None:
        return {**row, "said": "SimpleITK cannot read it"}
    order, affine, values = theirs
    if len(values) != len(stack.slices):
        return {**row, "said": f"SimpleITK makes one image of {len(values)} frames"}
    said: list[str] = []
    frames = [header.frame for header in stack.slices]
    if len(paths) > 1:
        row["same_order"] = order == [header.path for header in stack.slices]
    elif frames == sorted(frames)[::-1]:
        affine, values = affine @ _reversed(len(frames)), values[::-1]
        row["same_order"] = True
        said.append(_REVERSED)
    else:
        row["same_order"] = frames == sorted(frames)
        said += [] if row["same_order"] else [_INTERLEAVED]
    row["corners_mm"] = corner_distance(np.asarray(stack.geometry.affine_lps), affine, values.shape)
    try:
        ours = load_volume(stack).values
    except PayloadRejected as error:
        return {**row, "said": f"refused: {error.problem.code}"}
    difference = np.abs(ours - values)
    row["values"] = float(difference.max())
    row["pixels_that_differ"] = float((difference > 1e-3).mean())
    if row["values"] > 1e-3 and stack.slices[0].padding is not None:
        said.append(_PADDING)
    return {**row, "said": "; ".join(said)}


def _reversed(slices: int) -> np.ndarray:
    return np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, slices - 1], [0, 0, 0, 1]], dtype=np.float64)


def corner_distance(one: np.ndarray, other: np.ndarray, shape: Sequence[int]) -> float:
    """Return the largest distance, in mm, between where two affines put a corner of the volume."""
    slices, rows, columns = shape
    corners = np.array([[*corner, 1] for corner in itertools.product((0, columns), (0, rows), (0, slices))]).T
    return float(np.linalg.norm((one - other) @ corners, axis=0).max())


def by_simpleitk(paths: Sequence[Path]) -> tuple[list[Path], np.ndarray, np.ndarray] | None:
    """Return the order, the affine and the values that SimpleITK gives; None where it gives none."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        try:
            return pool.submit(_by_simpleitk, list(dict.fromkeys(paths))).result(timeout=120)
        except (RuntimeError, TimeoutError):  # it refuses the files, or they end its process
            return None


def _by_simpleitk(paths: list[Path]) -> tuple[list[Path], np.ndarray, np.ndarray]:
    import SimpleITK as sitk  # noqa: N813, PLC0415 - in a process of its own

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    with tempfile.TemporaryDirectory() as folder:
        if len(paths) == 1:
            order, image = paths, sitk.ReadImage(str(paths[0]), sitk.sitkFloat64)
        else:
            for number, path in enumerate(paths):
                Path(folder, str(number)).symlink_to(path.resolve())
            reader = sitk.ImageSeriesReader()
            reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(folder))
            # Unless told so it straightens the axes of a tilted scan, and with them the patient.
            reader.ForceOrthogonalDirectionOff()
            reader.SetOutputPixelType(sitk.sitkFloat64)
            image = reader.Execute()
            order = [paths[int(Path(name).name)] for name in reader.GetFileNames()]
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return order, affine, sitk.GetArrayFromImage(image)


def page(measured: dict[str, Any]) -> str:
    """Return the tables, as they are to be read."""
    parts = [f"# Volumes, beside SimpleITK {measured['simpleitk']}\n\n{machine_line(measured['machine'])}\n\n{_HOW}"]
    header = [
        "first file",
        "",
        "slices",
        "same order",
        "corners, mm apart",
        "values, largest difference",
        "what is said",
    ]
    for folder in measured["folders"]:
        rows = [
            [
                row["first_file"],
                row["modality"],
                str(row["slices"]),
                {True: "yes", False: "no", None: "-"}[row.get("same_order")],
                f"{row['corners_mm']:.4f}" if "corners_mm" in row else "-",
                f"{row['values']:.3g} ({row['pixels_that_differ']:.0%} of pixels)" if "values" in row else "-",
                "; ".join([*(f"{code}: {words}" for code, words in row["findings"].items()), row["said"]]).strip("; "),
            ]
            for row in folder["stacks"]
        ]
        rejected = ", ".join(f"{code} {count}" for code, count in sorted(folder["files_without_slices"].items()))
        parts.append(
            f"## {folder['name']}\n\n{folder['files']} files planned in {folder['plan_seconds']:.2f} s. "
            f"Volumes: {len(rows)}; single images: {folder['images']}; files without slices: {rejected or 'none'}.\n\n"
            f"{markdown_table(header, rows)}"
        )
        if folder["left_out"]:
            left_out = [[each["file"], each["code"], each["got"]] for each in folder["left_out"]]
            parts.append(f"Left out:\n\n{markdown_table(['first file', 'code', 'what'], left_out)}")
    return "\n".join(parts)


if __name__ == "__main__":
    main()
