"""Grey values of smaller pictures, and header values that hold for a frame or for no pixel."""

from typing import Any

import cv2
import numpy as np
import pytest
from imaging_files import as_bytes, make_film, speckles
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UltrasoundMultiFrameImageStorage

from medfusion.modalities.imaging.geometry import inner_box
from medfusion.modalities.imaging.grey import averaged
from medfusion.modalities.imaging.pixels import decode, load

WINDOW = {"BitsStored": 12, "WindowCenter": "2048", "WindowWidth": "4096"}


def small(film: Any, longest: int) -> np.ndarray:
    return decode(load(film if isinstance(film, bytes) else as_bytes(film)), longest=longest)


def area(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Average over areas by adding up what of each pixel lies within, as the definition has it."""
    weights = []
    for have, want in zip(image.shape, shape, strict=True):
        edges = np.arange(want + 1) * have / want
        pixels = np.arange(have)
        overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
        weights.append(np.clip(overlap, 0, None) / (have / want))
    return weights[0] @ image.astype(np.float64) @ weights[1].T


@pytest.mark.parametrize("shape", [(60, 90), (61, 47), (200, 33)])
@pytest.mark.parametrize("longest", [32, 45])
def test_a_smaller_picture_has_the_shape_of_its_box_and_the_area_averages(shape: tuple[int, int], longest: int) -> None:
    pixels = speckles(1, shape=shape)
    box = inner_box(shape, longest)[2:]
    image = small(make_film(pixels, **WINDOW), longest)
    assert image.shape == box
    expected = (area(pixels, box) - 2047.5) / 4095 + 0.5
    np.testing.assert_allclose(image, expected, atol=2e-5)


@pytest.mark.parametrize("longest", [50, 51, 1000])
def test_a_picture_that_is_small_enough_comes_as_it_is(longest: int) -> None:
    film = as_bytes(make_film(speckles(2), **WINDOW))
    np.testing.assert_array_equal(small(film, longest), decode(load(film)))


def test_padding_is_no_part_of_an_average() -> None:
    pixels = np.full((40, 60), 3000, np.uint16)
    pixels[:, :31] = 0
    pixels[0, 40] = 1000
    image = small(make_film(pixels, PixelPaddingValue=0, **WINDOW), 30)
    shown = (3000 - 2047.5) / 4095 + 0.5
    assert (image[:, :15] == 0).all()
    # The column that is half padding is as bright as the picture is.
    np.testing.assert_allclose(image[:, 15], shown, atol=1e-5)
    assert 0 < image[0, 20] < shown


def test_a_table_is_looked_up_before_averaging() -> None:
    pixels = speckles(3, shape=(40, 60), top=256)
    item = Dataset()
    item.LUTDescriptor = [256, 0, 8]
    item["LUTDescriptor"].VR = "US"
    entries = (np.arange(256) % 16 * 17).astype(np.uint8)
    item.add_new("LUTData", "OW", entries.tobytes())
    for name in ("VOILUTSequence", "ModalityLUTSequence"):
        film = make_film(pixels, WindowCenter="127.5", WindowWidth="255", VOILUTFunction="LINEAR_EXACT")
        setattr(film, name, Sequence([item]))
        np.testing.assert_allclose(small(film, 20), area(entries[pixels], (13, 20)) / 255, atol=1e-5)


def test_a_palette_is_looked_up_before_averaging() -> None:
    pixels = speckles(4, shape=(40, 60), top=256)
    film = make_film(pixels, PhotometricInterpretation="PALETTE COLOR")
    entries = (np.arange(256, dtype=np.uint16) * 37 % 256) * 257
    for colour in ("Red", "Green", "Blue"):
        film.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        film.add_new(f"{colour}PaletteColorLookupTableData", "OW", entries.astype("<u2").tobytes())
    np.testing.assert_allclose(small(film, 20), area(entries[pixels], (13, 20)) / 65535, atol=1e-5)


def test_a_segmented_palette_is_spread_out() -> None:
    pixels = speckles(5, top=256)
    film = make_film(pixels, PhotometricInterpretation="PALETTE COLOR")
    # One discrete entry of 0, then a straight line of 255 entries up to 65280 (PS3.3 C.7.9.2).
    segments = np.array([0, 1, 0, 1, 255, 65280], "<u2").tobytes()
    for colour in ("Red", "Green", "Blue"):
        film.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        film.add_new(f"Segmented{colour}PaletteColorLookupTableData", "OW", segments)
    np.testing.assert_allclose(decode(load(as_bytes(film))), pixels.astype(int) * 256 / 65535, atol=1e-4)


def test_what_is_no_number_is_padding() -> None:
    values = np.random.default_rng(6).normal(size=(40, 60)).astype(np.float32)
    values[:, :30], values[0, 35] = np.nan, np.inf
    film = make_film(speckles(6, shape=(40, 60)), PixelData=None, BitsAllocated=32)
    del film.BitsStored, film.HighBit, film.PixelRepresentation
    film.FloatPixelData = values.tobytes()
    image = small(film, 20)
    assert np.isfinite(image).all()
    assert (image[:, :10] == 0).all()
    assert image[:, 10:].max() == 1


def test_the_window_of_a_frame_wins() -> None:
    pixels = speckles(7, shape=(3, 20, 30))
    film = make_film(pixels[0], SOPClassUID=UltrasoundMultiFrameImageStorage, NumberOfFrames=3, **WINDOW)
    film.PixelData = pixels.tobytes()
    film.PerFrameFunctionalGroupsSequence = Sequence([])
    for center in (1000, 2000, 3000):
        window = Dataset()
        window.WindowCenter, window.WindowWidth = center, 500
        groups = Dataset()
        groups.FrameVOILUTSequence = Sequence([window])
        film.PerFrameFunctionalGroupsSequence.append(groups)
    encoded = load(as_bytes(film))
    for frame, center in enumerate((1000, 2000, 3000)):
        expected = np.clip((pixels[frame] - (center - 0.5)) / 499 + 0.5, 0, 1)
        np.testing.assert_allclose(decode(encoded, frame=frame), expected, atol=1e-5)


def test_overlays_are_not_drawn() -> None:
    pixels = speckles(8)
    film = make_film(pixels, **WINDOW)
    without = decode(load(as_bytes(film)))
    film.add_new(0x60000010, "US", pixels.shape[0])
    film.add_new(0x60000011, "US", pixels.shape[1])
    film.add_new(0x60000040, "CS", "G")
    film.add_new(0x60000050, "SS", [1, 1])
    film.add_new(0x60000100, "US", 1)
    film.add_new(0x60000102, "US", 0)
    film.add_new(0x60003000, "OW", b"\xff" * (pixels.size // 8))
    np.testing.assert_array_equal(decode(load(as_bytes(film))), without)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_png_and_jpeg_become_smaller_too(suffix: str) -> None:
    smooth = cv2.GaussianBlur(speckles(9, shape=(400, 500), top=256), (0, 0), 10)
    data = cv2.imencode(suffix, smooth)[1].tobytes()
    np.testing.assert_allclose(small(data, 50), area(smooth, (40, 50)) / 255, atol=0.01)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.float32])
def test_averages_of_every_type_follow_the_definition(dtype: Any) -> None:
    values = np.random.default_rng(10).integers(0, 200, (50, 70)).astype(dtype)
    padding = np.random.default_rng(11).random((50, 70)) < 0.3
    means, empty = averaged(values, padding, (12, 17))
    counted = area(~padding, (12, 17))
    np.testing.assert_allclose(means, area(np.where(padding, 0, values), (12, 17)) / counted, rtol=1e-4)
    assert empty is not None
    assert not empty.any()
