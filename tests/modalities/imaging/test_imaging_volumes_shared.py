"""Real series: what is read equals what SimpleITK reads, and copies with faults are handled as described."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from slice_files import codes, plan

from medfusion.core.errors import PayloadRejected
from medfusion.modalities.imaging.volumes import Plan, SliceHeader, Stack, load_volume, plan_series, read_slice_headers

pytestmark = pytest.mark.shared
sitk = pytest.importorskip("SimpleITK")


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name != "DIRFILE")


def by_simpleitk(stack: Stack, folder: Path) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """Return the order of files, the affine and the values that SimpleITK gives for the files of a stack."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    paths = sorted({header.path for header in stack.slices})
    if len(paths) == 1:
        image = sitk.ReadImage(str(paths[0]), sitk.sitkFloat64)
    else:
        folder.mkdir()
        for path in paths:
            (folder / path.name).symlink_to(path)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
        # Unless told so it straightens the axes of a tilted scan, and with them the patient.
        reader.ForceOrthogonalDirectionOff()
        reader.SetOutputPixelType(sitk.sitkFloat64)
        image = reader.Execute()
        paths = [Path(name).resolve() for name in reader.GetFileNames()]
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return paths, affine, sitk.GetArrayFromImage(image)


def interleaved(stack: Stack) -> bool:
    """Tell whether frames of one file have to be sorted, which SimpleITK does not do."""
    frames = [header.frame for header in stack.slices]
    return len({header.path for header in stack.slices}) == 1 and frames not in (sorted(frames), sorted(frames)[::-1])


def assert_same_as_simpleitk(stack: Stack, folder: Path) -> None:
    order, affine, values = by_simpleitk(stack, folder)
    if len(order) > 1:
        assert [header.path for header in stack.slices] == order
    elif [header.frame for header in stack.slices] == list(range(len(values)))[::-1]:
        # SimpleITK leaves frames as they are in the file, where they may run against their normal.
        affine, values = affine @ [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, len(values) - 1], [0, 0, 0, 1]], values[::-1]
    np.testing.assert_allclose(stack.geometry.affine_lps, affine, atol=1e-4)
    image = ~padding_of(stack)
    np.testing.assert_allclose(load_volume(stack).values[image], values[image], atol=1e-3)


def padding_of(stack: Stack) -> np.ndarray:
    """Tell which pixels of a stack are padding, which SimpleITK leaves as it is; array (slices, rows, columns)."""
    found = []
    for header in stack.slices:
        dataset = pydicom.dcmread(header.path)
        frames = dataset.pixel_array.reshape(-1, *header.shape)
        found.append(frames[header.frame] == dataset.get("PixelPaddingValue", np.nan))
    return np.stack(found)


@pytest.fixture(scope="module")
def corpus(shared: Path) -> Plan:
    headers: list[SliceHeader] = []
    for path in files_of(shared / "dicom" / "corpus"):
        try:
            headers.extend(read_slice_headers(path))
        except PayloadRejected:
            continue
    return plan_series(headers)


@pytest.mark.parametrize("name", ["ct-series", "ct-series-ge"])
def test_a_real_ct_has_the_affine_order_and_values_of_simpleitk(shared: Path, name: str, tmp_path: Path) -> None:
    (stack,) = plan(files_of(shared / "dicom" / name)).stacks
    assert (len(stack.slices), stack.unit.name) == (28, "HU")
    assert_same_as_simpleitk(stack, tmp_path / "itk")


def test_a_tilted_scan_in_two_thicknesses_says_so(shared: Path) -> None:
    (stack,) = plan(files_of(shared / "dicom" / "ct-series-ge")).stacks
    assert codes(stack) == ["uneven-spacing", "gantry-tilt"]
    assert stack.geometry.tilt_degrees == pytest.approx(18.5, abs=0.1)


def test_every_series_of_a_public_collection_has_the_geometry_of_simpleitk(corpus: Plan, tmp_path: Path) -> None:
    compared, sorted_here = 0, []
    for number, stack in enumerate(corpus.stacks):
        # Of two volumes in one file, SimpleITK makes one.
        in_one_file = "split-series" in codes(stack) and len({header.path for header in stack.slices}) == 1
        if interleaved(stack):
            sorted_here.append(stack.slices[0].path.name)
        elif not stack.copies and not in_one_file:
            assert_same_as_simpleitk(stack, tmp_path / str(number))
            compared += 1
    assert compared >= 10
    assert sorted_here == ["wearemothership__dicom-test-files__c7344520_BRTUM003"]


def test_every_slice_of_a_public_collection_is_accounted_for(corpus: Plan) -> None:
    assert len(corpus.stacks) >= 15
    assert len(corpus.images) >= 50
    assert {problem.code for problem in corpus.problems} <= {
        "localiser",
        "mosaic",
        "missing-geometry",
        "stray-slice",
        "scattered-slices",
    }
    assert all(problem.remedy and problem.file for problem in corpus.problems)


@pytest.mark.parametrize("name", ["ct-series", "ct-series-ge"])
def test_a_shuffled_copy_gives_the_same_volume(shared: Path, name: str, tmp_path: Path) -> None:
    paths = files_of(shared / "dicom" / name)
    shuffled = [tmp_path / f"{n:02}" for n in range(len(paths))]
    for path, n in zip(paths, np.random.default_rng(0).permutation(len(paths)), strict=True):
        shutil.copy(path, shuffled[n])
    (stack,), (again,) = plan(paths).stacks, plan(shuffled).stacks
    volume, other = load_volume(stack), load_volume(again)
    assert np.array_equal(volume.values, other.values)
    assert np.array_equal(volume.affine_lps, other.affine_lps)
    assert volume.findings == other.findings


def test_a_gapped_copy_is_flagged(shared: Path) -> None:
    paths = files_of(shared / "dicom" / "ct-series")
    whole = plan(paths).stacks[0]
    without = {whole.slices[n].path for n in (9, 10)}
    (stack,) = plan(path for path in paths if path not in without).stacks
    assert codes(stack) == ["missing-slices"]
    assert stack.findings[0].words.startswith("2 of 28 slices")
    expected = np.delete(whole.geometry.positions_lps, (9, 10), axis=0)
    assert np.array_equal(stack.geometry.positions_lps, expected)


def test_a_duplicated_copy_is_flagged_and_a_conflicting_one_refused(shared: Path, tmp_path: Path) -> None:
    paths = files_of(shared / "dicom" / "ct-series")
    again = tmp_path / "again"
    shutil.copy(paths[5], again)
    (stack,) = plan([*paths, again]).stacks
    assert codes(stack) == ["duplicate-slices"]
    assert np.array_equal(load_volume(stack).values, load_volume(plan(paths).stacks[0]).values)
    changed = pydicom.dcmread(paths[5])
    changed.PixelData = changed.PixelData[:-2] + b"\x01\x02"
    changed.SOPInstanceUID += ".1"
    changed.save_as(again)
    (stack,) = plan([*paths, again]).stacks
    with pytest.raises(PayloadRejected, match="conflicting-slices"):
        load_volume(stack)
