"""What a screen is given of a film or a volume: values that a reader can set a window on."""

from collections.abc import Callable

import numpy as np
import pytest
from imaging_files import make_film, read_all, speckles
from slice_files import make_slice

from medfusion.core.folder import CohortFolder
from medfusion.core.protocols import ModalityOptions
from medfusion.core.views import ImageView
from medfusion.modalities.imaging import ImagingModality
from medfusion.modalities.imaging.view import MAX_SLICES

Folder = Callable[..., CohortFolder]
WINDOW = {"BitsStored": 12, "WindowCenter": "2000", "WindowWidth": "1001"}


def shown(folder: CohortFolder, **settings: str) -> ImageView:
    imaging = ImagingModality(ModalityOptions({"backbone": "filters", "size": "64", **settings}))
    (payload,), _ = read_all(imaging, folder)
    (view,) = imaging.view(payload, [])
    assert isinstance(view, ImageView)
    return view


def test_a_film_keeps_its_grey_values_and_the_window_of_its_file(folder: Folder) -> None:
    stored = speckles(shape=(96, 96))
    view = shown(folder({"a.dcm": make_film(stored, **WINDOW)}))
    np.testing.assert_array_equal(view.pixels[0], stored)
    # PS3.3 C.11.2.1.2.1: black up to c - 0.5 - (w - 1) / 2, white from c - 0.5 + (w - 1) / 2.
    assert view.window == (1999.5, 1000.0)
    expected = np.clip((stored.astype(float) - 1499.5) / 1000, 0, 1) * 255
    np.testing.assert_allclose(view.grey(0), expected, atol=0.51)


def test_the_values_of_an_inverted_film_grow_with_its_brightness(folder: Folder) -> None:
    stored = speckles(shape=(96, 96))
    view = shown(folder({"a.dcm": make_film(stored, PhotometricInterpretation="MONOCHROME1", **WINDOW)}))
    expected = 255 - np.clip((stored.astype(float) - 1499.5) / 1000, 0, 1) * 255
    np.testing.assert_allclose(view.grey(0), expected, atol=0.51)


def test_padding_is_as_dark_as_the_darkest_of_the_picture(folder: Folder) -> None:
    stored = speckles(shape=(96, 96)) // 2 + 1000
    lowest = stored[:, 8:].min()
    stored[:, :8] = 4000
    view = shown(folder({"a.dcm": make_film(stored, PixelPaddingValue=4000, **WINDOW)}))
    assert (view.pixels[0, :, :8] == lowest).all()


def test_a_large_film_is_made_smaller_by_averages(folder: Folder) -> None:
    stored = np.kron(speckles(shape=(8, 8)), np.ones((256, 256), np.uint16))
    view = shown(folder({"a.dcm": make_film(stored, **WINDOW)}))
    assert view.pixels.shape == (1, 1024, 1024)
    np.testing.assert_array_equal(view.pixels[0], stored[::2, ::2])


@pytest.mark.parametrize(("slices", "expected"), [(5, 5), (MAX_SLICES + 30, MAX_SLICES)])
def test_slices_of_a_volume_are_shown_in_hounsfield_units(folder: Folder, slices: int, expected: int) -> None:
    volume = {}
    for place in range(slices):
        plane = np.full((48, 64), -1000, np.int16)
        plane[10:30, 20:40] = 10 * place
        volume[f"{place:03}.dcm"] = make_slice((0, 0, 3.0 * place), str(place), plane)
    view = shown(folder(volume), slices="3")
    assert (view.unit, len(view.pixels), len(view.heat), len(view.names)) == ("HU", expected, expected, expected)
    numbers = [int(name.split()[1]) for name in view.names]
    assert numbers == sorted(set(numbers))
    np.testing.assert_allclose([plane.max() for plane in view.pixels], [10 * (number - 1) for number in numbers])
    # Three slices were seen by the network, and are among those shown.
    assert (~np.isnan(view.heat).any(axis=(1, 2))).sum() == 3
