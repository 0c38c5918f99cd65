"""Where a volume lies: expected matrices are those of PS3.3 equation C.7.6.2.1-1, worked by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slice_files import AXIAL, ENHANCED_MR, codes, group, make_enhanced, make_slice, only_stack, plan, write

from medfusion.core.errors import PayloadRejected
from medfusion.modalities.imaging.volumes import Volume, load_volume
from medfusion.modalities.imaging.volumes.geometry import affine_lps
from medfusion.modalities.imaging.volumes.units import Unit

SAGITTAL = [0, 1, 0, 0, 0, -1]


def test_the_affine_of_sagittal_slices_is_that_of_the_standard(tmp_path: Path) -> None:
    # Rows run to the back, columns to the feet, so the normal points to the patient's right: x falls.
    slices = [make_slice((x, -20, 30), x, ImageOrientationPatient=SAGITTAL) for x in (10, 13, 16)]
    stack = only_stack(tmp_path, slices)
    expected = [[0, 0, -3, 16], [0.5, 0, 0, -20], [0, -2, 0, 30], [0, 0, 0, 1]]
    np.testing.assert_allclose(stack.geometry.affine_lps, expected, atol=1e-9)
    assert stack.geometry.spacing_mm == (3.0, 2.0, 0.5)
    assert (stack.geometry.plane, stack.findings) == ("sagittal", ())


def test_the_affine_leads_from_an_index_to_the_place_of_the_pixel(tmp_path: Path) -> None:
    turn = math.radians(30)
    along_row = [math.cos(turn), math.sin(turn), 0]
    along_column = [-math.sin(turn), math.cos(turn), 0]
    slices = [make_slice((5, 6, z), z, ImageOrientationPatient=[*along_row, *along_column]) for z in (1, 4, 7, 10)]
    volume = load_volume(only_stack(tmp_path, slices))
    column, row, plane = 3, 2, 1
    place = volume.affine_lps @ [column, row, plane, 1]
    by_hand = np.add([5, 6, 4], 3 * 0.5 * np.array(along_row)) + 2 * 2.0 * np.array(along_column)
    np.testing.assert_allclose(place[:3], by_hand, atol=1e-9)
    assert volume.values[plane, row, column] == 40


def test_a_tilted_gantry_gives_a_sheared_affine_and_a_flag(tmp_path: Path) -> None:
    tilt = math.radians(20)
    leaning = [1, 0, 0, 0, math.cos(tilt), -math.sin(tilt)]
    slices = [make_slice((0, 0, z), z, ImageOrientationPatient=leaning, GantryDetectorTilt=-20) for z in (0, 5, 10)]
    stack = only_stack(tmp_path, slices)
    expected = [[0.5, 0, 0], [0, 2 * math.cos(tilt), 0], [0, -2 * math.sin(tilt), 5]]
    np.testing.assert_allclose(stack.geometry.affine_lps[:3, :3], expected, atol=1e-9)
    assert stack.geometry.tilt_degrees == pytest.approx(20)
    assert codes(stack) == ["gantry-tilt"]


def test_a_tilt_that_the_positions_do_not_show_is_flagged(tmp_path: Path) -> None:
    stack = only_stack(tmp_path, [make_slice((0, 0, z), z, GantryDetectorTilt=12) for z in (0, 3, 6)])
    assert codes(stack) == ["tilt-mismatch"]
    assert stack.geometry.tilt_degrees == 0


def test_missing_slices_are_counted_and_the_others_keep_their_places(tmp_path: Path) -> None:
    stack = only_stack(tmp_path, [make_slice((0, 0, z), z) for z in (0, 3, 6, 15, 18)])
    assert codes(stack) == ["missing-slices"]
    # The even grid from 0 to 18 has slices at 4.5, 9 and 13.5 where these lie at 3, 6 and 15.
    assert stack.findings[0].words == "2 of 7 slices; the affine is up to 3.0 mm off"
    assert stack.geometry.positions_lps[:, 2].tolist() == [0, 3, 6, 15, 18]
    assert load_volume(stack).values[:, 0, 0].tolist() == [0, 30, 60, 150, 180]


def test_uneven_spacing_is_flagged_with_its_size(tmp_path: Path) -> None:
    stack = only_stack(tmp_path, [make_slice((0, 0, z), n) for n, z in enumerate((0, 3, 6, 10.5, 15))])
    assert codes(stack) == ["uneven-spacing"]
    assert stack.findings[0].words == "3.00 to 4.50 mm; the affine is up to 1.5 mm off"


def test_positions_rounded_to_a_tenth_are_even(tmp_path: Path) -> None:
    slices = [make_slice((0, 0, round(0.625 * n, 1)), n, SliceThickness=0.625) for n in range(20)]
    assert only_stack(tmp_path, slices).findings == ()


def test_thin_slices_far_apart_are_flagged(tmp_path: Path) -> None:
    slices = [make_slice((0, 0, z), z, SliceThickness=1) for z in (0, 10, 20)]
    assert codes(only_stack(tmp_path, slices)) == ["sparse-slices"]


@pytest.mark.parametrize("shifts", [(0, 5, 0), (0, 20, 40)], ids=["off the line", "slanted"])
def test_slices_that_are_not_above_each_other_are_refused(tmp_path: Path, shifts: tuple[int, ...]) -> None:
    slices = [make_slice((x, 0, 3 * n), n) for n, x in enumerate(shifts)]
    planned = plan(write(tmp_path, slices))
    assert (planned.stacks, [problem.code for problem in planned.problems]) == ((), ["scattered-slices"])


@pytest.mark.parametrize(
    "matrix",
    [
        np.diag([1, 1, 0, 1.0]),
        np.full((4, 4), np.nan),
        np.diag([1, np.inf, 1, 1.0]),
        np.eye(3),
        np.array([[1, 2, 0, 0], [1, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
        np.diag([1, 1, 1, 2.0]),
    ],
)
def test_a_volume_refuses_an_affine_that_is_none(matrix: np.ndarray) -> None:
    with pytest.raises(PayloadRejected, match="bad-affine"):
        affine_lps(matrix)
    with pytest.raises(PayloadRejected, match="bad-affine"):
        Volume(np.zeros((2, 2, 2), np.float32), (0, 1), matrix, np.zeros((2, 3)), (1, 1, 1), Unit("HU", ""), ())  # type: ignore[arg-type]


def test_a_volume_refuses_values_that_are_not_finite() -> None:
    values = np.array([[[1, np.nan]]], np.float32)
    with pytest.raises(PayloadRejected, match="not finite"):
        Volume(values, (0,), affine_lps(np.eye(4)), np.zeros((1, 3)), (1, 1, 1), Unit("HU", ""), ())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(6)), uids=st.permutations(range(6)), seed=st.integers(0, 2**16))
def test_any_order_and_any_names_of_files_give_the_same_volume(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], uids: list[int], seed: int
) -> None:
    # A random rotation, from the Q of a Gaussian matrix.
    along_row, along_column, normal = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0].T
    normal = np.cross(along_row, along_column)
    cosines = [*along_row.round(6).tolist(), *along_column.round(6).tolist()]
    slices = []
    for number in range(6):
        position = (2.5 * number * normal + [7, -8, 9]).round(6)
        pixels = np.full((4, 6), number, np.int16)
        slices.append(make_slice(position, uids[number], pixels, ImageOrientationPatient=cosines))
    paths = write(tmp_path_factory.mktemp("slices"), [slices[number] for number in order])
    planned = plan([paths[number] for number in uids])
    volume = load_volume(planned.stacks[0])
    assert volume.values[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    expected = np.column_stack([0.5 * along_row, 2.0 * along_column, 2.5 * normal, [7, -8, 9]])
    np.testing.assert_allclose(volume.affine_lps[:3], expected, atol=1e-5)
    assert [finding.code for finding in volume.findings if finding.code != "sparse-slices"] == []


def test_frames_of_an_enhanced_file_are_slices_in_the_order_of_their_places(tmp_path: Path) -> None:
    heights = (6.0, 0.0, 3.0)
    frames = [group(PlanePositionSequence={"ImagePositionPatient": [1.0, 2.0, z]}) for z in heights]
    shared = group(
        PlaneOrientationSequence={"ImageOrientationPatient": AXIAL},
        PixelMeasuresSequence={"PixelSpacing": [2.0, 0.5], "SliceThickness": 3.0},
    )
    pixels = np.stack([np.full((4, 6), int(z), np.uint16) for z in heights])
    stack = only_stack(tmp_path, [make_enhanced(frames, shared, pixels, ENHANCED_MR)])
    expected = [[0.5, 0, 0, 1], [0, 2, 0, 2], [0, 0, 3, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(stack.geometry.affine_lps, expected)
    volume = load_volume(stack)
    assert (volume.values[:, 0, 0].tolist(), volume.findings) == ([0, 3, 6], ())
