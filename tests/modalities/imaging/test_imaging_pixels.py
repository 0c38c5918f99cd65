import math
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imaging_files import as_bytes, make_film, speckles
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_modality_lut, apply_voi, apply_voi_lut
from pydicom.uid import (
    MPEG4HP41,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from medfusion.core.errors import PayloadRejected
from medfusion.modalities.imaging.grey import Levels, window
from medfusion.modalities.imaging.pixels import decode, load


def seen(film: FileDataset | bytes) -> np.ndarray:
    """Write, read back and decode."""
    return decode(load(film if isinstance(film, bytes) else as_bytes(film)))


def formula(x: float, c: float, w: float, function: str) -> float:
    """Return PS3.3 C.11.2.1.2.1, C.11.2.1.3.1 and C.11.2.1.3.2 for an output from 0 to 1, as they are printed."""
    if function == "SIGMOID":
        return 1 / (1 + math.exp(-4 * (x - c) / w))
    if function == "LINEAR":
        below, above = x <= c - 0.5 - (w - 1) / 2, x > c - 0.5 + (w - 1) / 2
        return 0.0 if below else 1.0 if above else (x - (c - 0.5)) / (w - 1) + 0.5
    below, above = x <= c - w / 2, x > c + w / 2
    return 0.0 if below else 1.0 if above else (x - c) / w + 0.5


@given(
    st.floats(-2000, 5000),
    st.floats(1, 4000),
    st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    st.lists(st.integers(-4000, 8000), min_size=1, max_size=20),
)
def test_windows_follow_the_standard(c: float, w: float, function: str, values: list[int]) -> None:
    if function == "SIGMOID":
        w = max(w, 50.0)
    expected = [formula(x, c, w, function) for x in values]
    shown = Levels(*window(np.array(values, dtype=np.float64), c, w, function)).grey()
    np.testing.assert_allclose(shown, expected, atol=1e-7)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("pixels", "bits"),
    [
        (speckles(1, top=256), 8),
        (speckles(2), 12),
        (speckles(3, top=65536), 16),
        ((speckles(4) - np.uint16(2048)).astype(np.int16), 16),
    ],
    ids=["8 bits", "12 bits", "16 bits", "signed"],
)
def test_what_is_seen_is_the_window_of_the_rescaled_value(
    pixels: np.ndarray, bits: int, photometric: str, function: str
) -> None:
    center, width = float(pixels.mean() * 2 - 7), float(pixels.std() * 3 + 10)
    look = {
        "RescaleSlope": "2",
        "RescaleIntercept": "-7",
        "WindowCenter": f"{center:.2f}",
        "WindowWidth": f"{width:.2f}",
    }
    film = make_film(pixels, BitsStored=bits, PhotometricInterpretation=photometric, VOILUTFunction=function, **look)
    grey = [
        formula(2.0 * x - 7.0, float(look["WindowCenter"]), float(look["WindowWidth"]), function) for x in pixels.flat
    ]
    expected = np.array(grey).reshape(pixels.shape)
    if photometric == "MONOCHROME1":
        expected = 1 - expected
    image = seen(film)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, expected, atol=2e-5)


def test_windows_agree_with_pydicom() -> None:
    film = make_film(speckles(5), BitsStored=12, WindowCenter=["1500", "10"], WindowWidth=["900.5", "20"])
    theirs = apply_voi_lut(apply_modality_lut(film.pixel_array, film), film)
    np.testing.assert_allclose(seen(film), theirs / 4095, atol=1e-5)


def table_of(entries: np.ndarray, first: int, bits: int, vr: str = "OW") -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item["LUTDescriptor"].VR = "US"
    item.add_new("LUTData", vr, entries.astype("<u2").tobytes() if vr == "OW" else entries.tolist())
    return item


@pytest.mark.parametrize("vr", ["OW", "US"])
def test_a_voi_table_wins_over_the_window_and_agrees_with_pydicom(vr: str) -> None:
    entries = np.sort(np.random.default_rng(6).integers(0, 65536, 3000))
    entries[-1] = 65535
    film = make_film(speckles(6), BitsStored=12, WindowCenter="10", WindowWidth="20")
    film.VOILUTSequence = [table_of(entries, 500, 16, vr)]
    back = dcmread(BytesIO(as_bytes(film)))
    np.testing.assert_allclose(seen(film), apply_voi(back.pixel_array, back) / 65535, atol=1e-6)


def test_a_table_with_fewer_bits_than_it_declares_is_not_shown_dark() -> None:
    film = make_film(speckles(7), BitsStored=12)
    film.VOILUTSequence = [table_of(np.arange(4096), 0, 16)]
    np.testing.assert_allclose(seen(film), film.pixel_array / 4095, atol=1e-6)


def test_bytes_packed_into_the_words_of_a_table_are_unpacked() -> None:
    film = make_film(speckles(8, top=256))
    item = Dataset()
    item.LUTDescriptor = [256, 0, 8]
    item["LUTDescriptor"].VR = "US"
    item.add_new("LUTData", "OW", bytes(range(255, -1, -1)))
    film.VOILUTSequence = [item]
    np.testing.assert_allclose(seen(film), 1 - film.pixel_array / 255, atol=1e-6)


def test_a_modality_table_comes_before_the_window() -> None:
    entries = (np.arange(4096) // 2 + 100).astype(np.uint16)
    film = make_film(speckles(9), BitsStored=12, WindowCenter="1000", WindowWidth="1500")
    film.ModalityLUTSequence = [table_of(entries, 0, 16)]
    expected = [formula(float(entries[x]), 1000, 1500, "LINEAR") for x in film.pixel_array.flat]
    np.testing.assert_allclose(seen(film).ravel(), expected, atol=1e-6)


def test_8_bits_without_a_window_are_shown_over_their_full_range() -> None:
    pixels = speckles(10, top=200)
    np.testing.assert_allclose(seen(make_film(pixels)), pixels / 255, atol=1e-6)


def test_more_bits_without_a_window_are_shown_between_percentiles() -> None:
    pixels = speckles(11)
    pixels[0, 0] = 60000
    low, high = np.percentile(pixels, [0.5, 99.5])
    np.testing.assert_allclose(seen(make_film(pixels)), np.clip((pixels - low) / (high - low), 0, 1), atol=1e-5)


def test_padding_counts_for_no_range_and_is_black() -> None:
    pixels = speckles(12) + np.uint16(1000)
    pixels[:, :20] = 0
    pixels[:, 20:22] = 3
    film = make_film(pixels, PixelPaddingValue=0, PixelPaddingRangeLimit=5, PhotometricInterpretation="MONOCHROME1")
    low, high = np.percentile(pixels[:, 22:], [0.5, 99.5])
    image = seen(film)
    assert (image[:, :22] == 0).all()
    np.testing.assert_allclose(image[:, 22:], 1 - np.clip((pixels[:, 22:] - low) / (high - low), 0, 1), atol=1e-5)


def test_a_window_of_no_width_is_no_window() -> None:
    pixels = speckles(13, top=256)
    np.testing.assert_allclose(seen(make_film(pixels, WindowCenter="10", WindowWidth="0")), pixels / 255, atol=1e-6)


def test_colour_becomes_luma() -> None:
    pixels = speckles(14, shape=(30, 20, 3), top=256)
    expected = (pixels * [0.299, 0.587, 0.114]).sum(axis=2) / 255
    np.testing.assert_allclose(seen(make_film(pixels)), expected, atol=1e-5)
    planes = make_film(pixels, PlanarConfiguration=1, PixelData=pixels.transpose(2, 0, 1).tobytes())
    np.testing.assert_allclose(seen(planes), expected, atol=1e-5)


def test_luma_and_chroma_keep_their_luma() -> None:
    pixels = speckles(15, shape=(30, 20, 3), top=256)
    pixels[..., 1:] = 128
    film = make_film(pixels, PhotometricInterpretation="YBR_FULL")
    np.testing.assert_allclose(seen(film), pixels[..., 0] / 255, atol=1.1 / 255)


def test_a_palette_is_looked_up() -> None:
    pixels = speckles(16, top=256)
    film = make_film(pixels, PhotometricInterpretation="PALETTE COLOR")
    ramp = np.arange(256, dtype=np.uint16)
    for colour, entries in (("Red", ramp), ("Green", ramp[::-1]), ("Blue", ramp * 0)):
        film.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        film.add_new(f"{colour}PaletteColorLookupTableData", "OW", (entries * 257).astype("<u2").tobytes())
    expected = (0.299 * pixels + 0.587 * (255.0 - pixels)) / 255
    np.testing.assert_allclose(seen(film), expected, atol=1e-5)


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEG2000Lossless],
    ids=lambda uid: uid.name,
)
@pytest.mark.parametrize("bits", [8, 12])
def test_lossless_syntaxes_give_the_same_picture(syntax: UID, bits: int) -> None:
    pixels = speckles(17, top=2**bits)
    plain = make_film(pixels, BitsStored=bits, WindowCenter="100", WindowWidth="150")
    if syntax.is_encapsulated:
        other = make_film(pixels, BitsStored=bits, WindowCenter="100", WindowWidth="150")
        other.compress(syntax, generate_instance_uid=False)
    else:
        other = make_film(pixels, syntax=syntax, BitsStored=bits, WindowCenter="100", WindowWidth="150")
    np.testing.assert_array_equal(seen(other), seen(plain))


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless], ids=lambda uid: uid.name)
def test_what_gdcm_compressed_without_loss_is_read_as_it_was(syntax: UID, tmp_path: Path) -> None:
    import gdcm

    film = make_film(speckles(18), BitsStored=12, WindowCenter="2000", WindowWidth="3000")
    source, target = tmp_path / "plain.dcm", tmp_path / "packed.dcm"
    source.write_bytes(as_bytes(film))
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert dcmread(target).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(decode(load(target)), seen(film))


def jpeg_film(pixels: np.ndarray) -> FileDataset:
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95)
    film = make_film(pixels)
    film.PixelData = encapsulate([stream.getvalue()])
    film["PixelData"].is_undefined_length = True
    film["PixelData"].VR = "OB"
    film.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    return film


def smooth() -> np.ndarray:
    return np.add.outer(np.arange(64), np.arange(80)).astype(np.uint8)


def test_baseline_jpeg_agrees_with_another_decoder() -> None:
    film = jpeg_film(smooth())
    stream = BytesIO()
    Image.fromarray(smooth()).save(stream, "JPEG", quality=95)
    theirs = cv2.imdecode(np.frombuffer(stream.getvalue(), np.uint8), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_allclose(seen(film), theirs / 255, atol=1.1 / 255)


def test_png_and_jpeg_files_are_read() -> None:
    pixels = smooth()
    np.testing.assert_allclose(seen(cv2.imencode(".png", pixels)[1].tobytes()), pixels / 255, atol=1e-6)
    np.testing.assert_allclose(seen(cv2.imencode(".jpg", pixels)[1].tobytes()), pixels / 255, atol=0.03)
    deep = speckles(19)
    low, high = np.percentile(deep, [0.5, 99.5])
    expected = np.clip((deep - low) / (high - low), 0, 1)
    np.testing.assert_allclose(seen(cv2.imencode(".png", deep)[1].tobytes()), expected, atol=1e-5)


def test_a_photograph_is_turned_upright() -> None:
    stream = BytesIO()
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.fromarray(smooth()).save(stream, "JPEG", exif=tag, quality=95)
    np.testing.assert_allclose(seen(stream.getvalue()), np.rot90(smooth(), -1) / 255, atol=0.03)


def rejection(film: FileDataset | bytes) -> tuple[str, str]:
    with pytest.raises(PayloadRejected) as caught:
        seen(film)
    problem = caught.value.problem
    assert problem.remedy
    return problem.code, problem.field


def test_an_unknown_syntax_is_named() -> None:
    film = make_film(speckles())
    film.PixelData = encapsulate([b"\0" * 100])
    film["PixelData"].is_undefined_length = True
    film.file_meta.TransferSyntaxUID = MPEG4HP41
    with pytest.raises(PayloadRejected, match=r"MPEG-4 AVC/H\.264.*unsupported-transfer-syntax"):
        seen(film)


@pytest.mark.parametrize(
    ("film", "code"),
    [
        (make_film(np.full((20, 20), 7, np.uint16)), "empty-image"),
        (make_film(speckles(), WindowCenter="60000", WindowWidth="10"), "empty-image"),
        (make_film(speckles(), Rows=400), "undecodable-pixels"),
        (make_film(speckles(), Rows=60000, Columns=60000), "too-large"),
        (make_film(speckles(), NumberOfFrames=2), "undecodable-pixels"),
        (make_film(speckles(), PixelData=None), "not-an-image"),
        (make_film(speckles(), BitsAllocated=12), "undecodable-pixels"),
        (make_film(speckles(), PhotometricInterpretation="HSV"), "undecodable-pixels"),
        (b"", "unreadable-dicom"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "unreadable-dicom"),
        (cv2.imencode(".png", speckles())[1].tobytes()[:-600], "undecodable-pixels"),
    ],
)
def test_what_cannot_be_shown_is_rejected(film: FileDataset | bytes, code: str) -> None:
    assert rejection(film)[0] == code


def test_a_jpeg_stream_without_its_end_is_not_filled_with_grey() -> None:
    film = jpeg_film(smooth())
    stream = BytesIO()
    Image.fromarray(smooth()).save(stream, "JPEG", quality=95)
    film.PixelData = encapsulate([stream.getvalue()[: len(stream.getvalue()) * 2 // 3]])
    assert rejection(film) == ("undecodable-pixels", "PixelData")


def _compressed() -> list[FileDataset]:
    films = [jpeg_film(smooth())]
    for syntax in (RLELossless, JPEG2000Lossless):
        film = make_film(speckles(20))
        film.compress(syntax, generate_instance_uid=False)
        films.append(film)
    return [*films, make_film(speckles(20))]


COMPRESSED = [as_bytes(film) for film in _compressed()]


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(COMPRESSED), st.data())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_file_is_a_picture_or_a_problem_and_nothing_else(data: bytes, draw: Any) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 20))):
        # Mostly in the pixels, which come last.
        damaged[-draw.draw(st.integers(1, len(damaged) - 700))] = draw.draw(st.integers(0, 255))
    if draw.draw(st.booleans()):
        damaged[draw.draw(st.integers(132, 1000))] = draw.draw(st.integers(0, 255))
    end = draw.draw(st.one_of(st.just(len(damaged)), st.integers(140, len(damaged))))
    try:
        image = decode(load(bytes(damaged[:end])))
    except PayloadRejected:
        return
    assert image.ndim == 2
    assert 0.0 <= image.min() < image.max() <= 1.0


def test_the_digest_follows_the_look_and_the_content_only_the_pixels() -> None:
    pixels = speckles(21)
    first = load(as_bytes(make_film(pixels, PatientID="A", WindowCenter="100", WindowWidth="50")))
    twin = load(as_bytes(make_film(pixels, PatientID="B", StudyDate="20210101", WindowCenter="100", WindowWidth="50")))
    other = load(as_bytes(make_film(pixels, PatientID="A", WindowCenter="100", WindowWidth="60")))
    assert (first.content, first.digest) == (twin.content, twin.digest)
    assert first.content == other.content
    assert first.digest != other.digest


def test_the_digest_follows_every_entry_of_a_table() -> None:
    digests = set()
    for last in (4000, 4001):
        entries = np.arange(4096)
        entries[3000] = last
        film = make_film(speckles(22), BitsStored=12)
        film.VOILUTSequence = [table_of(entries, 0, 12)]
        digests.add(load(as_bytes(film)).digest)
    assert len(digests) == 2
