"""What a file is allowed to cost is checked before a parser is let loose on it."""

import os
import struct
import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from imaging_files import as_bytes, make_film, speckles
from mutations import generated_seeds
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medfusion.core import guards
from medfusion.core.errors import PayloadRejected
from medfusion.core.guards import MAX_NESTING, check_structure, open_checked
from medfusion.modalities.imaging.headers import kind_of

SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
ITEM = b"\xfe\xff\x00\xe0"
SEQUENCE = b"\x08\x00\x15\x11SQ\0\0"
UNDEFINED = b"\xff\xff\xff\xff"


def code_of(data: bytes) -> str:
    """Return why the structure of a file is refused; empty where it is not."""
    try:
        check_structure(BytesIO(data))
    except PayloadRejected as error:
        return error.problem.code
    return ""


def nested(depth: int) -> Dataset:
    dataset = Dataset()
    dataset.CodeValue = "innermost"
    for _ in range(depth):
        outer = Dataset()
        outer.ReferencedSeriesSequence = [dataset]
        dataset = outer
    return dataset


def film_with(sequences: int, syntax: pydicom.uid.UID, undefined_length: bool) -> bytes:
    film = make_film(speckles(), syntax)
    film.update(nested(sequences))
    if undefined_length:
        level = film
        while "ReferencedSeriesSequence" in level:
            level["ReferencedSeriesSequence"].is_undefined_length = True
            level = level.ReferencedSeriesSequence[0]
            level.is_undefined_length_sequence_item = True
    return as_bytes(film)


@pytest.mark.parametrize("name", sorted(name for name in generated_seeds() if name not in {"png", "picture"}))
def test_a_valid_file_of_any_encoding_passes(name: str) -> None:
    assert code_of(generated_seeds()[name]) == ""


@pytest.mark.parametrize("undefined_length", [True, False], ids=["undefined", "defined"])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
def test_sequences_may_be_within_each_other_up_to_the_limit(syntax: pydicom.uid.UID, undefined_length: bool) -> None:
    assert code_of(film_with(MAX_NESTING, syntax, undefined_length)) == ""
    assert code_of(film_with(MAX_NESTING + 1, syntax, undefined_length)) == "too-complex"


def test_sequences_are_found_where_their_kind_is_unknown() -> None:
    film = make_film(speckles())
    inner = (ITEM + UNDEFINED + SEQUENCE + UNDEFINED) * (MAX_NESTING + 1)
    film.private_block(0x0041, "TEST", create=True).add_new(1, "UN", inner)
    assert code_of(as_bytes(film)) == "too-complex"


def test_pixels_that_look_like_a_sequence_are_pixels() -> None:
    pixels = np.tile(np.array([0xFFFE, 0xE000, 0, 0], np.uint16), (64, 8))
    for syntax in SYNTAXES[:2]:
        assert code_of(as_bytes(make_film(pixels, syntax))) == ""


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xff", struct.pack("<L", 8 * 500)], ids=["undefined", "defined"])
def test_elements_are_counted_in_all_sequences(monkeypatch: pytest.MonkeyPatch, length: bytes) -> None:
    crowded = bytes(128) + b"DICM" + SEQUENCE + length + (ITEM + bytes(4)) * 500
    assert code_of(crowded) == ""
    monkeypatch.setattr(guards, "MAX_ELEMENTS", 400)
    assert code_of(crowded) == "too-complex"


def test_a_million_items_are_refused_without_reserving_memory_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "MAX_ELEMENTS", 10_000)
    crowded = BytesIO(bytes(128) + b"DICM" + SEQUENCE + UNDEFINED + (ITEM + bytes(4)) * 1_000_000)
    check_structure(BytesIO(as_bytes(make_film(speckles()))))
    tracemalloc.start()
    with pytest.raises(PayloadRejected, match=r"elements is 'more than 10000'.*too-complex"):
        check_structure(crowded)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_a_deflated_bomb_is_not_inflated_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    film = as_bytes(make_film(speckles(), DeflatedExplicitVRLittleEndian))
    assert code_of(film) == ""
    start = film.index(b"1.2.840.10008.1.2.1.99") + 22
    while film[start : start + 2] == b"\x02\x00":
        start += 8 + struct.unpack("<H", film[start + 6 : start + 8])[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = packer.compress(b"\x09\x00\x10\x00OB\0\0" + struct.pack("<L", 2**26) + bytes(2**26)) + packer.flush()
    assert code_of(film[:start] + bomb) == ""
    monkeypatch.setattr(guards, "MAX_INFLATED_BYTES", 2**22)
    tracemalloc.start()
    assert code_of(film[:start] + bomb) == "too-large"
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()


def test_an_element_that_is_longer_than_the_file_is_refused() -> None:
    film = as_bytes(make_film(speckles()))
    # A name of 60 bytes, of which there are 50.
    named = film[: film.index(b"\x10\x00\x20\x00LO")] + b"\x10\x00\x20\x00LO\x3c\x00" + b"A" * 50
    with pytest.raises(PayloadRejected, match=r"\(0010,0020\) is '10 bytes more than there are'.*truncated-file"):
        check_structure(BytesIO(named))
    # Pixels that are cut off are for the decoder to refuse: by then it is known whose they are.
    check_structure(BytesIO(film[:-10]))


def test_what_follows_the_pixels_may_be_anything() -> None:
    assert code_of(as_bytes(make_film(speckles())) + b"\x41\x41\x42\x42OB\0\0\xff\xff\xff\x7fshort") == ""


@pytest.mark.parametrize("data", [b"", b"\x08\x00", bytes(128) + b"DICM", bytes(128) + b"DICM\x02\x00\x10\x00UI"])
def test_a_file_that_ends_early_is_left_to_the_parser(data: bytes) -> None:
    assert code_of(data) == ""


def test_a_file_of_bearable_size_is_opened_for_reading_only(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"content")
    with open_checked(tmp_path / "a.dcm") as file:
        assert file.read() == b"content"
        assert not file.writable()


def test_a_file_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "a.dcm").open("wb") as file:
        file.truncate(guards.MAX_FILE_BYTES + 1)
    with pytest.raises(PayloadRejected, match=r"file is '1073741825 bytes'.*too-large"):
        open_checked(tmp_path / "a.dcm")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_does_not_make_the_reader_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.dcm")
    with pytest.raises(PayloadRejected, match=r"a pipe or device.*unreadable-file"):
        open_checked(tmp_path / "a.dcm")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no such device")
def test_a_device_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").symlink_to("/dev/zero")
    with pytest.raises(PayloadRejected, match=r"a pipe or device.*unreadable-file"):
        open_checked(tmp_path / "a.dcm")


@pytest.mark.parametrize("name", ["", "missing.dcm", "null\0.dcm"])
def test_what_cannot_be_opened_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    with pytest.raises(PayloadRejected, match=r"file is '(Is a directory|No such file|embedded null).*unreadable-file"):
        open_checked(tmp_path / name)


@pytest.mark.shared
def test_of_the_real_files_only_the_broken_ones_are_refused(shared: Path) -> None:
    refused = {}
    for path in sorted(shared.glob("dicom/*/*")):
        with open_checked(path) as file:
            if kind_of(file.read(132)) == "dicom" and (code := code_of(path.read_bytes())):
                refused[path.name.split("__")[-1]] = code
    # What pydicom says of them: RecursionError, no pixels.
    assert refused == {
        "201736c8_2026-05-06-Deeply-Nested-Sequence.dcm": "too-complex",
        "6a929edd_no_preamble_dicm_in_data": "truncated-file",
        "c993e52a_GH626.dcm": "truncated-file",
    }
