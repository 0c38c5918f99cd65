"""What the numbers of a volume are, slice by slice, and when they get a unit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence as Items
from slice_files import CT, MR, PT, make_slice, only_stack, write

from medfusion.core.errors import PayloadRejected, UsageError
from medfusion.modalities.imaging.volumes import MAX_VOXELS, load_volume

HALF_LIFE_SECONDS = 6586.2
"""Of fluorine-18."""


def pet(tracer: dict[str, Any] | None = None, **header: Any) -> list[FileDataset]:
    """Make PET slices of 100 with slopes 1, 2 and 3; the scan began one half-life after the injection."""
    item = Dataset()
    said: dict[str, Any] = {
        "RadionuclideTotalDose": 370e6,
        "RadionuclideHalfLife": HALF_LIFE_SECONDS,
        "RadiopharmaceuticalStartDateTime": "20200131090000",
    }
    for keyword, value in {**said, **(tracer or {})}.items():
        if value is not None:
            setattr(item, keyword, value)
    common = {
        "Units": "BQML",
        "DecayCorrection": "START",
        "PatientWeight": 74,
        "SeriesDate": "20200131",
        "SeriesTime": "104946.2",
        "AcquisitionDate": "20200131",
        "AcquisitionTime": "105000",
        "RadiopharmaceuticalInformationSequence": Items([item]),
    }
    pixels = np.full((4, 6), 100, np.int16)
    return [make_slice((0, 0, 3 * n), n, pixels, PT, RescaleSlope=n + 1, **{**common, **header}) for n in range(3)]


def test_every_pet_slice_has_a_slope_of_its_own_and_becomes_suv(tmp_path: Path) -> None:
    volume = load_volume(only_stack(tmp_path, pet()))
    # 370 MBq decay to 185 MBq in one half-life; 100 Bq/mL x 74,000 g / 185e6 Bq = 0.04 g/mL.
    np.testing.assert_allclose(volume.values[:, 0, 0], [0.04, 0.08, 0.12], rtol=1e-6)
    assert (volume.unit.name, volume.unit.reason) == ("SUV", "by body weight")


def test_a_dose_given_for_the_time_of_injection_is_not_decayed(tmp_path: Path) -> None:
    volume = load_volume(only_stack(tmp_path, pet(DecayCorrection="ADMIN")))
    np.testing.assert_allclose(volume.values[:, 0, 0], [0.02, 0.04, 0.06], rtol=1e-6)


def test_the_time_of_decay_correction_counts_where_it_is_given(tmp_path: Path) -> None:
    slices = pet(DecayCorrection=None, SeriesTime=None, DecayCorrectionDateTime="20200131104946.2")
    np.testing.assert_allclose(load_volume(only_stack(tmp_path, slices)).values[0, 0, 0], 0.04, rtol=1e-6)
    slices[1].DecayCorrectionDateTime = "20200131105000"
    unit = only_stack(tmp_path, slices).unit
    assert (unit.name, unit.reason) == ("BQML", "slices disagree about the time of decay correction")


def test_an_injection_without_a_date_was_on_the_day_of_the_series(tmp_path: Path) -> None:
    tracer = {"RadiopharmaceuticalStartDateTime": None, "RadiopharmaceuticalStartTime": "090000"}
    volume = load_volume(only_stack(tmp_path, pet(tracer)))
    np.testing.assert_allclose(volume.values[0, 0, 0], 0.04, rtol=1e-6)


@pytest.mark.parametrize(
    ("tracer", "header", "reason"),
    [
        ({"RadionuclideTotalDose": None}, {}, "RadionuclideTotalDose is missing"),
        ({"RadionuclideTotalDose": 370}, {}, "RadionuclideTotalDose is 370, which is no value in Bq"),
        ({"RadionuclideHalfLife": None}, {}, "RadionuclideHalfLife is missing"),
        ({"RadiopharmaceuticalStartDateTime": None}, {}, "the time of injection is missing"),
        ({"RadiopharmaceuticalStartDateTime": "20200131090000+0900"}, {}, "the time of injection is missing"),
        ({"RadiopharmaceuticalStartDateTime": "20200131"}, {}, "the time of injection is missing"),
        ({"RadiopharmaceuticalStartDateTime": "20200131120000"}, {}, "the injection was -4214 s before"),
        ({}, {"PatientWeight": None}, "PatientWeight is missing"),
        ({}, {"PatientWeight": 74000}, "PatientWeight is 74000, which is no value in kg"),
        ({}, {"DecayCorrection": None}, "DecayCorrection is missing"),
        ({}, {"DecayCorrection": "NONE"}, "DecayCorrection is NONE"),
        ({}, {"SeriesTime": "150000"}, "SeriesTime is not shortly before AcquisitionTime"),
        ({}, {"AcquisitionDate": "20200220"}, "SeriesTime is not shortly before AcquisitionTime"),
        ({}, {"RadiopharmaceuticalInformationSequence": None}, "PatientWeight|RadionuclideTotalDose is missing"),
    ],
)
def test_without_what_suv_needs_pet_stays_in_becquerel(
    tmp_path: Path, tracer: dict[str, Any], header: dict[str, Any], reason: str
) -> None:
    volume = load_volume(only_stack(tmp_path, pet(tracer, **header)))
    assert (volume.unit.name, volume.values[1, 0, 0]) == ("BQML", 200)
    assert any(volume.unit.reason.startswith(each) for each in reason.split("|"))


def test_slices_that_disagree_give_no_suv(tmp_path: Path) -> None:
    slices = pet()
    slices[1].PatientWeight = 75
    unit = only_stack(tmp_path, slices).unit
    assert (unit.name, unit.reason) == ("BQML", "slices disagree about the weight, dose, half-life or decay correction")


@pytest.mark.parametrize(
    ("units", "suv_type", "name"),
    [("GML", None, "SUV"), ("GML", "BW", "SUV"), ("GML", "LBM", "arbitrary"), ("CNTS", None, "arbitrary")],
)
def test_pet_in_other_units_is_taken_at_its_word(tmp_path: Path, units: str, suv_type: str | None, name: str) -> None:
    volume = load_volume(only_stack(tmp_path, pet(Units=units, SUVType=suv_type)))
    assert (volume.unit.name, volume.values[2, 0, 0]) == (name, 300)
    assert volume.unit.reason


@pytest.mark.parametrize(
    ("header", "name", "reason"),
    [
        ({}, "HU", ""),
        ({"RescaleType": "HU"}, "HU", ""),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "HU", ""),
        ({"ImageType": ["DERIVED", "PRIMARY", "PERFUSION", "RCBF"], "RescaleType": "HU"}, "HU", ""),
        ({"ImageType": ["DERIVED", "PRIMARY", "PERFUSION", "RCBF"]}, "arbitrary", "a derived image (PERFUSION)"),
        ({"RescaleType": "US"}, "arbitrary", "RescaleType is US"),
        ({"RescaleSlope": None}, "arbitrary", "RescaleSlope or RescaleIntercept is missing"),
        ({"RescaleIntercept": None}, "arbitrary", "RescaleSlope or RescaleIntercept is missing"),
        ({"pixels": np.zeros((4, 6), np.uint16)}, "arbitrary", "no value can be below 0"),
        ({"pixels": np.zeros((4, 6), np.uint16), "RescaleIntercept": -1024}, "HU", ""),
        ({"sop": MR}, "arbitrary", "MR signal has no scale of its own"),
    ],
)
def test_hounsfield_units_are_claimed_only_where_the_header_supports_them(
    tmp_path: Path, header: dict[str, Any], name: str, reason: str
) -> None:
    unit = only_stack(tmp_path, [make_slice((0, 0, 3 * n), n, **header) for n in range(2)]).unit
    assert unit.name == name
    assert unit.reason.startswith(reason)
    assert bool(unit.reason) == bool(reason)


def test_ct_slices_are_rescaled_each_with_its_own_values(tmp_path: Path) -> None:
    pixels = np.full((4, 6), 1000, np.uint16)
    slices = [make_slice((0, 0, 3 * n), n, pixels, CT, RescaleSlope=n, RescaleIntercept=-1024) for n in (1, 2)]
    assert load_volume(only_stack(tmp_path, slices)).values[:, 0, 0].tolist() == [-24, 976]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"PixelPaddingValue": -2000}, [-1000, 50]),
        ({"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990}, [-1000, 50]),
        ({"PixelPaddingValue": -2000, "RescaleType": "US"}, [50, 50]),
        ({"PixelPaddingValue": -1999}, [-2000, 50]),
        ({}, [-2000, 50]),
    ],
)
def test_padding_becomes_air_or_where_there_is_no_unit_the_lowest_value(
    tmp_path: Path, header: dict[str, Any], expected: list[float]
) -> None:
    pixels = np.full((4, 6), 50, np.int16)
    pixels[0] = -2000
    volume = load_volume(only_stack(tmp_path, [make_slice((0, 0, z), z, pixels, **header) for z in (0, 3)]))
    assert volume.values[0, :2, 0].tolist() == expected


def test_padding_without_its_sign_is_understood(tmp_path: Path) -> None:
    pixels = np.full((4, 6), -2000, np.int16)
    slices = [make_slice((0, 0, z), z, pixels, PixelPaddingValue=None) for z in (0, 3)]
    for each in slices:
        each.add_new("PixelPaddingValue", "US", 2**16 - 2000)
    assert load_volume(only_stack(tmp_path, slices)).values[0, 0, 0] == -1000


def test_some_planes_are_read_without_the_others(tmp_path: Path) -> None:
    stack = only_stack(tmp_path, [make_slice((0, 0, z), z) for z in (0, 3, 6, 9)])
    stack.slices[1].path.unlink()
    volume = load_volume(stack, planes=[3, 0, 3], reason="axial")
    assert (volume.planes, volume.reason) == ((0, 3), "axial")
    assert volume.values[:, 0, 0].tolist() == [0, 90]
    place = volume.affine_lps @ [0, 0, volume.planes[1], 1]
    assert place[:3].tolist() == volume.positions_lps[1].tolist() == [0, 0, 9]
    with pytest.raises(PayloadRejected, match=r"001\.dcm.*unreadable-file"):
        load_volume(stack)


@pytest.mark.parametrize("planes", [[], [2], [-1]])
def test_planes_that_there_are_not_cannot_be_asked_for(tmp_path: Path, planes: list[int]) -> None:
    stack = only_stack(tmp_path, [make_slice((0, 0, z), z) for z in (0, 3)])
    with pytest.raises(UsageError, match="planes are 0 to 1"):
        load_volume(stack, planes=planes)


def test_a_volume_that_is_too_large_is_refused_before_memory_is_reserved(tmp_path: Path) -> None:
    stack = only_stack(tmp_path, [make_slice((0, 0, z), z) for z in (0, 3)])
    huge = tuple(replace(each, shape=(65535, 65535)) for each in stack.slices)
    assert MAX_VOXELS < 2 * 65535**2
    with pytest.raises(PayloadRejected, match="too-large"):
        load_volume(replace(stack, slices=huge))


def test_damaged_pixels_are_refused_with_the_file(tmp_path: Path) -> None:
    slices = [make_slice((0, 0, z), z) for z in (0, 3)]
    slices[1].PixelData = slices[1].PixelData[:20]
    stack = only_stack(tmp_path, slices)
    with pytest.raises(PayloadRejected, match=r"001\.dcm subject P1.*undecodable-pixels"):
        load_volume(stack)


def test_a_file_that_changed_since_is_refused(tmp_path: Path) -> None:
    stack = only_stack(tmp_path, [make_slice((0, 0, z), z) for z in (0, 3)])
    write(tmp_path, [make_slice((0, 0, 0), 0, np.zeros((8, 8), np.int16))])
    with pytest.raises(PayloadRejected, match="the file has changed"):
        load_volume(stack)
