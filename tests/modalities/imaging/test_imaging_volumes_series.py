"""Which slices make a volume, and what is done about those that do not."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imaging_files import as_bytes, make_film
from pydicom.dataset import FileDataset
from slice_files import AXIAL, ENHANCED_CT, MR, codes, group, make_enhanced, make_slice, only_stack, plan, write

from medfusion.core.errors import PayloadRejected
from medfusion.modalities.imaging.volumes import load_volume, plan_series, read_slice_headers


def ct(heights: tuple[float, ...] = (0, 3, 6), first_uid: int = 0, **header: Any) -> list[FileDataset]:
    return [make_slice((0, 0, z), first_uid + n, **header) for n, z in enumerate(heights)]


def heights_of(stack: Any) -> list[float]:
    return [header.position_lps[2] for header in stack.slices]


def test_a_copy_with_the_same_pixels_is_dropped_and_flagged(tmp_path: Path) -> None:
    stack = only_stack(tmp_path, [*ct(), make_slice((0, 0, 3), 99)])
    assert codes(stack) == ["duplicate-slices"]
    assert load_volume(stack).values[:, 0, 0].tolist() == [0, 30, 60]


def test_slices_at_one_place_with_other_pixels_are_refused(tmp_path: Path) -> None:
    stack = only_stack(tmp_path, [*ct(), make_slice((0, 0, 3), 99, np.full((4, 6), 7, np.int16))])
    with pytest.raises(PayloadRejected, match=r"003\.dcm subject P1.*conflicting-slices"):
        load_volume(stack)
    assert load_volume(stack, planes=[0, 2]).values[:, 0, 0].tolist() == [0, 60]


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("EchoNumbers", (1, 2)),
        ("TemporalPositionIdentifier", (1, 2)),
        ("EchoTime", (4.6, 9.2)),
        ("DiffusionBValue", (0.0, 1000.0)),
        ("TriggerTime", (0, 350)),
        ("ImageType", (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"])),
        ("AcquisitionNumber", (1, 2)),
    ],
)
def test_two_volumes_in_one_series_are_told_apart(tmp_path: Path, keyword: str, values: tuple[Any, Any]) -> None:
    pairs = [ct(first_uid=10 * n, sop=MR, **{keyword: value}) for n, value in enumerate(values)]
    planned = plan(write(tmp_path, [each for pair in zip(*pairs, strict=True) for each in pair]))
    assert planned.problems == ()
    assert [heights_of(stack) for stack in planned.stacks] == [[0, 3, 6], [0, 3, 6]]
    assert [codes(stack) for stack in planned.stacks] == [["split-series"]] * 2
    assert all(keyword in stack.findings[0].words for stack in planned.stacks)
    assert all(stack.copies == () for stack in planned.stacks)


def test_a_running_number_does_not_tell_volumes_apart(tmp_path: Path) -> None:
    slices = [make_slice((0, 0, 3 * n), n, AcquisitionNumber=n) for n in range(5)]
    stack = only_stack(tmp_path, [*slices, make_slice((0, 0, 6), 99, AcquisitionNumber=7)])
    assert (len(stack.slices), codes(stack)) == (5, ["duplicate-slices"])


def test_two_times_never_make_one_volume_even_where_they_share_no_place(tmp_path: Path) -> None:
    first = ct((0, 3), sop=MR, TemporalPositionIdentifier=1)
    second = ct((6, 9, 12), 10, sop=MR, TemporalPositionIdentifier=2)
    assert [heights_of(stack) for stack in plan(write(tmp_path, [*first, *second])).stacks] == [[0, 3], [6, 9, 12]]


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, 1]}, "orientation"),
        ({"PixelSpacing": [1, 1]}, "pixel spacing"),
        ({"FrameOfReferenceUID": "1.2.3.10"}, "frame of reference"),
        ({"pixels": np.zeros((5, 5), np.int16)}, "matrix"),
    ],
)
def test_slices_of_another_geometry_are_another_volume(tmp_path: Path, difference: dict[str, Any], said: str) -> None:
    others = [make_slice((3 * n, 0, 0), 10 + n, **difference) for n in range(2)]
    if said != "orientation":
        others = [make_slice((0, 0, 3 * n), 10 + n, **difference) for n in range(2)]
    planned = plan(write(tmp_path, [others[0], *ct(), others[1]]))
    assert sorted(len(stack.slices) for stack in planned.stacks) == [2, 3]
    assert all(said in stack.findings[-1].words for stack in planned.stacks)


def test_orientations_that_differ_by_rounding_are_one(tmp_path: Path) -> None:
    slices = ct()
    slices[1].ImageOrientationPatient = [0.99999, 0.0001, 0, -0.0001, 0.99999, 0]
    assert only_stack(tmp_path, slices).findings == ()


def test_a_localiser_is_left_out_wherever_it_stands(tmp_path: Path) -> None:
    scout = make_slice((0, -99, 0), "0.0", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    planned = plan(write(tmp_path, [scout, *ct()]))
    assert [len(stack.slices) for stack in planned.stacks] == [3]
    assert [(problem.code, problem.severity) for problem in planned.problems] == [("localiser", "warning")]
    assert planned.problems[0].file.endswith("000.dcm")


def test_a_mosaic_is_no_slice(tmp_path: Path) -> None:
    planned = plan(write(tmp_path, ct(sop=MR, ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"])))
    assert (planned.stacks, planned.images) == ((), ())
    assert [(problem.code, problem.got) for problem in planned.problems] == [("mosaic", "MOSAIC (3 slices)")]


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_slices_without_a_place_are_refused(tmp_path: Path, keyword: str) -> None:
    planned = plan(write(tmp_path, ct(**{keyword: None})))
    assert (planned.stacks, planned.images) == ((), ())
    assert [problem.code for problem in planned.problems] == ["missing-geometry"]


@pytest.mark.parametrize("header", [{}, {"ImagePositionPatient": None}], ids=["placed", "without a place"])
def test_a_series_of_one_slice_is_an_image(tmp_path: Path, header: dict[str, Any]) -> None:
    planned = plan(write(tmp_path, [make_slice((0, 0, 1), 1, **header)]))
    assert (len(planned.images), planned.stacks, planned.problems) == (1, (), ())


def test_a_single_slice_beside_a_volume_does_not_join_it(tmp_path: Path) -> None:
    odd = make_slice((0, 0, 9), 9, np.zeros((8, 8), np.int16))
    planned = plan(write(tmp_path, [*ct(), odd]))
    assert [len(stack.slices) for stack in planned.stacks] == [3]
    assert [problem.code for problem in planned.problems] == ["stray-slice"]


def test_files_that_name_no_series_are_not_joined(tmp_path: Path) -> None:
    planned = plan(write(tmp_path, ct(SeriesInstanceUID=None)))
    assert (len(planned.images), planned.stacks) == (3, ())


def test_patients_with_the_same_series_uid_are_kept_apart(tmp_path: Path) -> None:
    planned = plan(write(tmp_path, [*ct(PatientID="A"), *ct((0, 3, 6), 10, PatientID="B")]))
    assert [stack.slices[0].patient_id for stack in planned.stacks] == ["A", "B"]
    assert [len(stack.slices) for stack in planned.stacks] == [3, 3]


def test_every_slice_ends_in_exactly_one_place(tmp_path: Path) -> None:
    scout = make_slice((0, -99, 0), "0.0", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    odd = make_slice((0, 0, 9), 9, np.zeros((8, 8), np.int16))
    single = make_slice((0, 0, 0), 70, SeriesInstanceUID="1.2.3.8")
    planned = plan(write(tmp_path, [scout, *ct(), make_slice((0, 0, 3), 50), odd, single]))
    in_stacks = sum(len(stack.slices) + len(stack.copies) for stack in planned.stacks)
    assert (in_stacks, len(planned.images), len(planned.problems)) == (4, 1, 2)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImagePositionPatient", [0, 0]),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
        ("ImageOrientationPatient", [0, 0, 0, 0, 0, 0]),
        ("PixelSpacing", [0, 1]),
        ("PixelSpacing", [-1, 1]),
        ("RescaleSlope", 0),
        ("Rows", 0),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_the_file(tmp_path: Path, keyword: str, value: Any) -> None:
    (path,) = write(tmp_path, [make_slice((0, 0, 0), 1, **{keyword: value})])
    with pytest.raises(PayloadRejected, match=rf"000\.dcm.*{keyword}.*bad-header"):
        read_slice_headers(path)


@pytest.mark.parametrize("text", [b"1e999", b"nan  ", b"abc  ", b"1\\2  "])
def test_a_number_that_is_none_is_refused(tmp_path: Path, text: bytes) -> None:
    data = as_bytes(make_slice((0, 0, 0), 1, SliceThickness="3.123"))
    damaged = data.replace(b"3.123", text.ljust(5)[:5])
    (path,) = write(tmp_path, [damaged])
    with pytest.raises(PayloadRejected, match=r"000\.dcm.*SliceThickness.*bad-header"):
        read_slice_headers(path)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "not-dicom"),
        (b"subject_id,path\n" * 99, "not-dicom"),
        (as_bytes(make_film(np.zeros((4, 4), np.uint16))), "not-a-slice"),
        (as_bytes(make_slice((0, 0, 0), 1, Rows=None)), "not-a-slice"),
        (as_bytes(make_slice((0, 0, 0), 1))[:300], "truncated-file|not-a-slice|unreadable-dicom"),
    ],
)
def test_a_file_that_is_no_slice_is_refused(tmp_path: Path, content: bytes, code: str) -> None:
    (path,) = write(tmp_path, [content])
    with pytest.raises(PayloadRejected, match=code):
        read_slice_headers(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PayloadRejected, match="unreadable-file"):
        read_slice_headers(tmp_path / "none.dcm")


def test_stacks_within_one_enhanced_file_are_told_apart(tmp_path: Path) -> None:
    frames = [
        group(
            PlanePositionSequence={"ImagePositionPatient": [0.0, 0.0, float(z)]},
            FrameContentSequence={"StackID": name},
            CTImageFrameTypeSequence={"FrameType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]},
            PixelValueTransformationSequence={
                "RescaleSlope": 1.0,
                "RescaleIntercept": -1024.0,
                "RescaleType": "HU",
            },
        )
        for name, z in (("1", 0), ("2", 0), ("1", 5), ("2", 5))
    ]
    shared = group(
        PlaneOrientationSequence={"ImageOrientationPatient": AXIAL},
        PixelMeasuresSequence={"PixelSpacing": [1.0, 1.0]},
    )
    pixels = np.arange(4, dtype=np.uint16).repeat(24).reshape(4, 4, 6)
    planned = plan(write(tmp_path, [make_enhanced(frames, shared, pixels, ENHANCED_CT)]))
    volumes = [load_volume(stack) for stack in planned.stacks]
    assert [volume.values[:, 0, 0].tolist() for volume in volumes] == [[-1024, -1022], [-1023, -1021]]
    assert [volume.unit.name for volume in volumes] == ["HU", "HU"]
    assert "StackID" in volumes[0].findings[0].words


def test_frames_without_a_place_each_are_refused(tmp_path: Path) -> None:
    film = make_slice((0, 0, 0), 1, sop=MR, NumberOfFrames=3)
    film.PixelData = bytes(3 * 48)
    (path,) = write(tmp_path, [film])
    with pytest.raises(PayloadRejected, match="missing-geometry"):
        read_slice_headers(path)


def test_a_damaged_file_is_rejected_or_read_but_never_surprises(tmp_path: Path) -> None:
    whole = as_bytes(make_slice((0, 0, 3), 1, np.full((4, 6), 7, np.int16), PixelPaddingValue=-2000))
    neighbour = write(tmp_path, [make_slice((0, 0, 0), 0)])[0]
    damaged = tmp_path / "damaged.dcm"
    random, outcomes = np.random.default_rng(0), Counter()
    for _ in range(300):
        data = np.frombuffer(whole, np.uint8).copy()
        where = random.integers(132, len(data), random.integers(1, 12))
        data[where] ^= (1 << random.integers(0, 8, len(where))).astype(np.uint8)
        damaged.write_bytes(data[: random.integers(132, len(data))] if random.random() < 0.1 else data)
        try:
            for stack in plan([neighbour, damaged]).stacks:
                outcomes[load_volume(stack).values.shape[0]] += 1
        except PayloadRejected as error:
            outcomes[error.problem.code] += 1
    assert {2, "undecodable-pixels", "not-a-slice", "bad-header"} <= set(outcomes)


def test_ten_thousand_slices_are_planned(tmp_path: Path) -> None:
    (path,) = write(tmp_path, [make_slice((0, 0, 0), 1)])
    (header,) = read_slice_headers(path)
    many = [replace(header, sop_uid=f"1.{n}", position_lps=(0.0, 0.0, float(n))) for n in range(10_000)]
    (stack,) = plan_series(many).stacks
    assert len(stack.slices) == 10_000
