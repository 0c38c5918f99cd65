"""Small DICOM files in every transfer syntax that can be written, ways to damage them, and what becomes of them."""

import re
import struct
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
from imaging_files import as_bytes, make_film, speckles
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from medfusion.core.errors import PayloadRejected
from medfusion.modalities.imaging.intake import examine
from medfusion.modalities.imaging.pool import Decoders

_VRS = b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
_VR = re.compile(b"|".join(_VRS))
_LENGTHS = (0, 1, 2, 7, 0xFE, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_SYNTAX = "1.2.840.10008.1.2."
_ITEM, _ITEM_END, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0"
_SEQUENCE = b"\x08\x00\x15\x11SQ\0\0"
_UNDEFINED = b"\xff\xff\xff\xff"
# How compressed streams declare their size: JPEG and JPEG-LS frames, JPEG 2000.
_STREAM_SIZE = re.compile(rb"\xff[\xc0\xc1\xc3\xf7]\0.|\xff\x51\0.")

_Codec = Callable[[np.ndarray], bytes]
_CODECS: dict[str, tuple[str, int, _Codec]] = {
    "jpeg": ("4.50", 8, lambda pixels: cv2.imencode(".jpg", pixels)[1].tobytes()),
    "jpeg-extended": ("4.51", 12, lambda pixels: imagecodecs.jpeg_encode(pixels, bitspersample=12)),
    "jpeg-lossless": ("4.70", 12, lambda pixels: imagecodecs.jpeg_encode(pixels, lossless=True, bitspersample=12)),
    "jpeg-ls": ("4.80", 12, imagecodecs.jpegls_encode),
    "jpeg-2000": ("4.90", 12, lambda pixels: imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", bitspersample=12)),
    "htj2k": ("4.201", 16, imagecodecs.htj2k_encode),
    # Written as HTJ2K, because pydicom does not write what it does not know.
    "jpeg-xl": ("4.201", 16, imagecodecs.jpegxl_encode),
}


@cache
def generated_seeds() -> dict[str, bytes]:
    """Return valid files by name."""
    grey = speckles(1, (48, 40))
    native = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
    seeds = {syntax.name: as_bytes(_decorated(make_film(grey, syntax))) for syntax in native}
    for name, (end, bits, codec) in _CODECS.items():
        seeds[name] = _encapsulated(grey, UID(_SYNTAX + end), bits, codec)
    seeds["jpeg-xl"] = seeds["jpeg-xl"].replace(b"1.2.840.10008.1.2.4.201", b"1.2.840.10008.1.2.4.110")
    rle = make_film(grey)
    rle.compress(RLELossless, encoding_plugin="pydicom")
    seeds["rle"] = as_bytes(rle)
    seeds["frames"] = as_bytes(make_film(grey, Rows=8, NumberOfFrames=6))
    seeds["colour"] = as_bytes(make_film(speckles(2, (24, 20, 3), 256)))
    seeds["palette"] = as_bytes(_palette())
    seeds["volume"] = as_bytes(_volume(grey))
    seeds["png"] = cv2.imencode(".png", grey)[1].tobytes()
    seeds["picture"] = _CODECS["jpeg"][2]((grey >> 4).astype(np.uint8))
    return seeds


def _decorated(film: FileDataset) -> FileDataset:
    """Add a lookup table, a window and sequences within each other."""
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 16], np.arange(256, dtype=np.uint16).tobytes()
    table["LUTData"].VR = "OW"
    film.VOILUTSequence = [table]
    film.WindowCenter, film.WindowWidth = ["2048", "1024"], ["4096", "512"]
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "T-D3000", "SRT"
    outer = Dataset()
    outer.AnatomicRegionModifierSequence = [code, code]
    film.AnatomicRegionSequence = [outer]
    block = film.private_block(0x0041, "MEDFUSION TEST", create=True)
    block.add_new(1, "UN", b"\0" * 20)
    return film


def _encapsulated(grey: np.ndarray, syntax: UID, bits: int, codec: _Codec) -> bytes:
    pixels = (grey >> 4).astype(np.uint8) if bits == 8 else grey
    film = make_film(pixels, BitsStored=bits)
    film.file_meta.TransferSyntaxUID = syntax
    film.PixelData = encapsulate([codec(pixels)])
    film["PixelData"].VR = "OB"
    film["PixelData"].is_undefined_length = True
    return as_bytes(film)


def _palette() -> FileDataset:
    film = make_film(speckles(3, (24, 20), 256), PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(film, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(film, f"{colour}PaletteColorLookupTableData", speckles(4, (256,), 65536).tobytes())
    return film


def _volume(grey: np.ndarray) -> FileDataset:
    film = make_film(grey, SOPClassUID=EnhancedMRImageStorage, Rows=8, NumberOfFrames=6)
    film.PerFrameFunctionalGroupsSequence = []
    for index in range(6):
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, index]
        frame.PlanePositionSequence = [position]
        film.PerFrameFunctionalGroupsSequence.append(frame)
    return film


def mutate(data: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Damage a file in one to three ways; return the name of the last, and the file."""
    name = ""
    for _ in range(int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))):
        name = str(rng.choice(list(MUTATIONS)))
        data = MUTATIONS[name](data, rng) if len(data) > 200 else data
    return name, data


def _place(data: bytes, rng: np.random.Generator) -> int:
    """Choose a place, as often in the header as in the rest."""
    return int(rng.integers(128, min(len(data), 2000) if rng.random() < 0.6 else len(data)))


def _spliced(data: bytes, start: int, stop: int, new: bytes) -> bytes:
    return data[:start] + new + data[stop:]


def _number(rng: np.random.Generator) -> int:
    return int(rng.choice(_LENGTHS)) if rng.random() < 0.7 else int(rng.integers(2**32))


def _flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(data)
    for _ in range(int(rng.integers(1, 33))):
        damaged[_place(data, rng)] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def _truncate(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: _place(data, rng)]


def _element(data: bytes, rng: np.random.Generator) -> int:
    """Return where the VR of some element stands, or just some place where there is none."""
    found = [match.start() for match in _VR.finditer(data, 132, 4000)]
    return int(rng.choice(found)) if found else _place(data, rng)


def _edit_length(data: bytes, rng: np.random.Generator) -> bytes:
    place = _element(data, rng)
    if data[place : place + 2] in {b"OB", b"OW", b"SQ", b"UN", b"UT"}:
        return _spliced(data, place + 4, place + 8, struct.pack("<L", _number(rng)))
    return _spliced(data, place + 2, place + 4, struct.pack("<H", _number(rng) & 0xFFFF))


def _edit_vr(data: bytes, rng: np.random.Generator) -> bytes:
    place = _element(data, rng)
    return _spliced(data, place, place + 2, _VRS[int(rng.integers(len(_VRS)))] if rng.random() < 0.8 else b"??")


def _edit_number(data: bytes, rng: np.random.Generator) -> bytes:
    """Write a telling number over four bytes, as implicit lengths are."""
    place = _place(data, rng) & ~1
    return _spliced(data, place, place + 4, struct.pack("<L", _number(rng)))


def _nest(data: bytes, rng: np.random.Generator) -> bytes:
    """Put sequences within each other, closed or not."""
    depth = int(rng.choice([3, 30, 70, 300, 3000]))
    closed = rng.random() < 0.5
    nested = (_SEQUENCE + _UNDEFINED + _ITEM + _UNDEFINED) * depth + (_ITEM_END + _SEQUENCE_END) * depth * closed
    return _inserted(data, nested, rng)


def _crowd(data: bytes, rng: np.random.Generator) -> bytes:
    """Put many empty items into a sequence, or many tiny elements into the data set."""
    count = int(rng.choice([100, 5000, 400_000], p=[0.5, 0.45, 0.05]))
    if rng.random() < 0.5:
        items = (_ITEM + bytes(4)) * count
        return _inserted(data, _SEQUENCE + struct.pack("<L", len(items)) + items, rng)
    numbers = np.arange(count) % 65536
    tags = np.stack([np.full(count, 0x11), numbers, np.full(count, 0x4E55), np.zeros(count)], axis=1)
    return _inserted(data, tags.astype("<u2").tobytes(), rng)


def _inserted(data: bytes, new: bytes, rng: np.random.Generator) -> bytes:
    """Insert before an element of group 0028, or anywhere."""
    place = data.find(b"\x28\x00\x02\x00")
    place = place if place > 0 and rng.random() < 0.8 else _place(data, rng)
    return _spliced(data, place, place, new)


def _shuffle(data: bytes, rng: np.random.Generator) -> bytes:
    """Swap two stretches that begin with elements, or write one twice."""
    first, middle, last = sorted(max(_element(data, rng) - 4, 132) for _ in range(3))
    a, b = data[first:middle], data[middle:last]
    return _spliced(data, first, last, b + a if rng.random() < 0.5 else a + a + b)


def _edit_fragments(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage the items of encapsulated pixels: their lengths, their offsets, their end."""
    items = [match.start() for match in re.finditer(re.escape(_ITEM), data)]
    if not items:
        return _edit_number(data, rng)
    place = int(rng.choice(items))
    kind = int(rng.integers(4))
    if kind == 0:
        return _spliced(data, place + 4, place + 8, struct.pack("<L", _number(rng)))
    if kind == 1:
        return data.replace(_SEQUENCE_END, b"")
    if kind == 2:
        return _spliced(data, place, place, (_ITEM + bytes(4)) * int(rng.choice([1, 100, 10_000])))
    return _spliced(data, place + 4, place + 8, struct.pack("<LL", 4, _number(rng)))


def _declare(data: bytes, rng: np.random.Generator) -> bytes:
    """Declare other rows, columns, samples or bits in the header."""
    ends = (b"\x02\x00", b"\x10\x00", b"\x11\x00", b"\x00\x01", b"\x01\x01", b"\x02\x01", b"\x03\x01")
    for end in ends:
        place = data.find(b"\x28\x00" + end + b"US\x02\x00")
        if place > 0 and rng.random() < 0.5:
            value = int(rng.choice([0, 1, 2, 3, 8, 16, 32, 64, 10_000, 0xFFFF]))
            data = _spliced(data, place + 8, place + 10, struct.pack("<H", value))
    return data


def _declare_in_stream(data: bytes, rng: np.random.Generator) -> bytes:
    """Declare another size within a compressed stream."""
    found = [match.start() for match in _STREAM_SIZE.finditer(data)]
    if not found:
        return _declare(data, rng)
    place = int(rng.choice(found))
    if data[place + 1] == 0x51:
        return _spliced(data, place + 6, place + 14, struct.pack(">LL", _number(rng), _number(rng)))
    return _spliced(data, place + 5, place + 9, struct.pack(">HH", _number(rng) & 0xFFFF, _number(rng) & 0xFFFF))


def _deflate(data: bytes, rng: np.random.Generator) -> bytes:
    """Deflate the data set, now and then with far too much behind it."""
    syntax = data.find(b"1.2.840.10008.1.2.1\0")
    start = data.find(b"\x08\x00", syntax)
    if syntax < 0 or start < 0:
        return _flip_bits(data, rng)
    # Twenty characters become twenty-two; the length of the element stands right before them.
    meta = data[: syntax - 2] + struct.pack("<H", 22) + b"1.2.840.10008.1.2.1.99" + data[syntax + 20 : start]
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = packer.compress(data[start:])
    for _ in range(300 if rng.random() < 0.05 else 1):
        body += packer.compress(bytes(2**20))
    return meta + body + packer.flush()


def _duplicate(data: bytes, rng: np.random.Generator) -> bytes:
    """Write a stretch of bytes to another place, with or without what was there."""
    start, place = _place(data, rng), _place(data, rng)
    stretch = data[start : start + int(rng.integers(1, 512))]
    return _spliced(data, place, place + len(stretch) * int(rng.integers(2)), stretch)


MUTATIONS: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "flip bits": _flip_bits,
    "truncate": _truncate,
    "edit length": _edit_length,
    "edit VR": _edit_vr,
    "edit number": _edit_number,
    "nest": _nest,
    "crowd": _crowd,
    "shuffle": _shuffle,
    "edit fragments": _edit_fragments,
    "declare": _declare,
    "declare in stream": _declare_in_stream,
    "deflate": _deflate,
    "duplicate": _duplicate,
}
"""Ways to damage a file, by name."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a file: a code each for header and pixels, or the name of an exception that nobody expects."""

    header: str
    pixels: str
    detail: str
    header_s: float
    pixels_s: float
    workers_peak_bytes: int

    @property
    def crashed(self) -> bool:
        """Whether anything but a verdict came out; codes are in lower case, exceptions are not."""
        return not (self.header + self.pixels).islower()


def outcome_of(path: Path, decoders: Decoders) -> Outcome:
    """Examine a file here, whatever comes out, and decode it in a worker."""
    start = time.perf_counter()
    try:
        verdict = examine(path)
        header = verdict.code or verdict.kind
    except BaseException as error:
        header = type(error).__name__
    middle, detail = time.perf_counter(), ""
    try:
        decoders.decode(path, longest=320)
        pixels = "decoded"
    except PayloadRejected as error:
        pixels, detail = error.problem.code, error.problem.got
    except BaseException as error:
        pixels = type(error).__name__
    return Outcome(header, pixels, detail, middle - start, time.perf_counter() - middle, _peak_of_children_bytes())


def _peak_of_children_bytes() -> int:
    """Return the most memory that a worker of this process has had; 0 where the system does not say."""
    peaks = [0]
    for children in Path("/proc/self/task").glob("*/children"):
        # Threads and processes that end meanwhile have none.
        with suppress(OSError):
            for child in children.read_text(encoding="ascii").split():
                # A process that is about to become a worker still has the memory of this one.
                if b"imaging.worker" not in Path("/proc", child, "cmdline").read_bytes():
                    continue
                status = Path("/proc", child, "status").read_text(encoding="ascii")
                peaks += [1024 * int(kilobytes) for kilobytes in re.findall(r"VmHWM:\s*(\d+)", status)]
    return max(peaks)
