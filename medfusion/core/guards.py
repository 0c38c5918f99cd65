"""What a file is allowed to cost: its limits are checked before a parser is let loose on it.

A DICOM parser believes what a file says of itself: a few bytes can ask for gigabytes, for a thousand sequences within
each other or for a million empty items, and a pipe among the files waits for ever. The structure of a file is
therefore walked first, without values and in constant memory, with the reading rules of pydicom.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from medfusion.core.errors import PayloadRejected, Problem

MAX_FILE_BYTES = 2**30
"""The largest file that is opened."""
MAX_INFLATED_BYTES = 2**27
"""What a deflated data set may unfold to."""
MAX_NESTING = 64
"""Sequences within each other; structured reports need about twenty."""
MAX_ELEMENTS = 200_000
"""Elements, items and fragments, of all sequences together; volumes of thousands of frames have about forty a frame."""
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_BIG_ENDIAN = b"1.2.840.10008.1.2.2"
_SYNTAX, _PIXELS = 0x0002_0010, 0x7FE0
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFE_E000, 0xFFFE_E00D, 0xFFFE_E0DD
_UNDEFINED = 0xFFFF_FFFF
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_CHUNK_BYTES = 2**20


def open_checked(path: Path) -> BinaryIO:
    """Open a file for reading, if it is a regular one of bearable size; never waits for a pipe or a device.

    Raises
    ------
    PayloadRejected
        Without a file name, which the caller adds: ``unreadable-file`` or ``too-large``.

    Examples
    --------
    >>> open_checked(Path("/no/such/file"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    medfusion.core.errors.PayloadRejected: error : file is 'No such file or directory', ...
    """
    try:
        file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115 - the caller closes it
    except (OSError, ValueError) as error:
        got = getattr(error, "strerror", None) or str(error)
        raise _refused("unreadable-file", "file", got, "a readable file", "check the file") from None
    status = os.fstat(file.fileno())
    if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_FILE_BYTES:
        return file
    file.close()
    if not stat.S_ISREG(status.st_mode):
        raise _refused("unreadable-file", "file", "a pipe or device", "a file", "remove it")
    got, expected = f"{status.st_size} bytes", f"at most {MAX_FILE_BYTES}"
    raise _refused("too-large", "file", got, expected, "export its frames as files of their own")


def check_structure(file: BinaryIO) -> None:
    r"""Walk the elements of a DICOM file, and refuse one that would cost a parser too much.

    Files that are damaged otherwise are let through: what is wrong with them is for the parser to say.

    Parameters
    ----------
    file : binary file
        It is read from its start; where it stands afterwards is undefined.

    Raises
    ------
    PayloadRejected
        Without a file name: ``too-complex`` (sequences within each other, or elements, beyond the limits),
        ``too-large`` (a deflated data set beyond the limit) or ``truncated-file`` (an element before the pixels
        that is longer than the file).

    References
    ----------
    PS3.5 section 7; PS3.5 annex A.5; PS3.10 section 7.1.

    Examples
    --------
    >>> nested = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    >>> check_structure(BytesIO(bytes(128) + b"DICM" + nested))
    >>> check_structure(BytesIO(bytes(128) + b"DICM" + nested * 100))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    medfusion.core.errors.PayloadRejected: error : sequences is '65 within each other', expected at most 64; ...
    """
    start, syntax = _file_meta(file)
    if syntax == _DEFLATED:
        file, start = _inflated(file, start), 0
    order = ">" if syntax == _BIG_ENDIAN or (not syntax and _looks_big_endian(file, start)) else "<"
    _Walk(file, order).go(start)


class _Element(NamedTuple):
    """The head of an element, without its value; `vr` is empty where the encoding is implicit."""

    tag: int
    vr: bytes
    length: int
    position: int

    @property
    def end(self) -> int:
        return self.position + self.length


@dataclass(frozen=True, slots=True)
class _Level:
    """A data set, or the items of a sequence, or the fragments of a compressed value."""

    end: int
    kind: str
    implicit: bool


class _Walk:
    """One pass over the elements, in the order in which they stand."""

    def __init__(self, file: BinaryIO, order: str) -> None:
        self._file = file
        self._order = order
        self._end = file.seek(0, os.SEEK_END)
        self._levels: list[_Level] = []
        self._beyond_pixels = False

    def go(self, position: int) -> None:
        self._levels = [_Level(self._end, "elements", self._is_implicit(position))]
        for _ in range(MAX_ELEMENTS):
            position = self._leave(position)
            level = self._levels[-1] if self._levels else None
            implicit = level is not None and (level.implicit or level.kind != "elements")
            element = _element(self._file, position, implicit, self._order)
            if level is None or element is None:
                return
            position = self._step(element, level)
        expected = f"at most {MAX_ELEMENTS}"
        raise _refused("too-complex", "elements", f"more than {MAX_ELEMENTS}", expected, "export single images")

    def _leave(self, position: int) -> int:
        """Leave what ends here; a sequence is never read beyond its length, whatever its items say."""
        while self._levels and position >= self._levels[-1].end:
            level = self._levels.pop()
            position = level.end if level.kind == "items" else position
        return position

    def _step(self, element: _Element, level: _Level) -> int:
        """Enter what an element holds, or go past it; return where to go on."""
        if element.tag in {_ITEM_END, _SEQUENCE_END}:
            self._levels.pop()
            return element.position
        if level.kind == "items":
            return self._enter("elements", element, level, level.implicit or self._is_implicit(element.position))
        if level.kind == "elements" and self._is_sequence(element):
            return self._enter("items", element, level, level.implicit)
        if element.length == _UNDEFINED:
            return self._enter("fragments", element, level, level.implicit)
        if len(self._levels) == 1:
            self._check_length(element)
        return element.end

    def _enter(self, kind: str, element: _Element, level: _Level, implicit: bool) -> int:
        end = level.end if element.length == _UNDEFINED else min(element.end, level.end)
        self._levels.append(_Level(end, kind, implicit))
        depth = sum(level.kind == "items" for level in self._levels) if kind == "items" else 0
        if depth > MAX_NESTING:
            got, expected = f"{depth} within each other", f"at most {MAX_NESTING}"
            raise _refused("too-complex", "sequences", got, expected, "export the file again")
        return element.position

    def _check_length(self, element: _Element) -> None:
        # Pixels that are cut off are for the decoder to refuse: what the header says of them is known by then.
        self._beyond_pixels |= element.tag >> 16 == _PIXELS
        if element.end > self._end and not self._beyond_pixels:
            field = f"({element.tag >> 16:04X},{element.tag & 0xFFFF:04X})"
            missing = f"{element.end - self._end} bytes more than there are"
            raise _refused("truncated-file", field, missing, "the whole file", "export or transfer it again")

    def _is_sequence(self, element: _Element) -> bool:
        if element.vr == b"SQ" or element.vr not in {b"", b"UN"} or element.tag >> 16 == _PIXELS:
            return element.vr == b"SQ"
        from pydicom.datadict import dictionary_has_tag, dictionary_VR  # noqa: PLC0415 - slow to import

        # Private sequences are known by their first item alone.
        self._file.seek(element.position)
        item = struct.pack(f"{self._order}HH", _ITEM >> 16, _ITEM & 0xFFFF)
        return (dictionary_has_tag(element.tag) and dictionary_VR(element.tag) == "SQ") or self._file.read(4) == item

    def _is_implicit(self, position: int) -> bool:
        self._file.seek(position + 4)
        return not _is_vr(self._file.read(2))


def _element(file: BinaryIO, position: int, implicit: bool, order: str) -> _Element | None:
    """Read the head of an element; None at the end of the file."""
    file.seek(position)
    head = file.read(12)
    if len(head) < 8:
        return None
    group, number = struct.unpack_from(f"{order}HH", head)
    tag, vr = group << 16 | number, head[4:6]
    if implicit or not b"AA" <= vr <= b"ZZ":
        return _Element(tag, b"", struct.unpack_from(f"{order}L", head, 4)[0], position + 8)
    if vr not in _LONG:
        return _Element(tag, vr, struct.unpack_from(f"{order}H", head, 6)[0], position + 8)
    if len(head) < 12:
        return None
    return _Element(tag, vr, struct.unpack_from(f"{order}L", head, 8)[0], position + 12)


def _file_meta(file: BinaryIO) -> tuple[int, bytes]:
    """Return where the data set begins, and the transfer syntax; empty where the file does not name it."""
    file.seek(0)
    position, syntax = (132 if file.read(132)[128:] == b"DICM" else 0), b""
    for _ in range(MAX_ELEMENTS):
        element = _element(file, position, False, "<")
        # Commands (group 0000) may come next, in files that were written off the wire.
        if element is None or element.tag >> 16 not in {0, 2} or element.length == _UNDEFINED:
            break
        if element.tag == _SYNTAX:
            syntax = _value(file, element)
        position = element.end
    return position, syntax


def _value(file: BinaryIO, element: _Element) -> bytes:
    file.seek(element.position)
    return file.read(min(element.length, 64)).strip(b" \0")


def _inflated(file: BinaryIO, start: int) -> BytesIO:
    """Inflate a data set up to the limit; what is damaged ends early."""
    file.seek(start)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    data = BytesIO()
    for chunk in iter(partial(file.read, _CHUNK_BYTES), b""):
        try:
            data.write(inflater.decompress(chunk, MAX_INFLATED_BYTES + 1 - data.tell()))
        except zlib.error:
            break
        if data.tell() > MAX_INFLATED_BYTES:
            expected = f"at most {MAX_INFLATED_BYTES} bytes"
            raise _refused("too-large", "file", "more when inflated", expected, "store it without deflation")
    return data


def _looks_big_endian(file: BinaryIO, start: int) -> bool:
    """Tell the byte order of a file that does not name it, as pydicom does."""
    file.seek(start)
    head = file.read(6)
    return _is_vr(head[4:]) and struct.unpack("<H", head[:2])[0] >= 1024


def _is_vr(read: bytes) -> bool:
    return len(read) == 2 and read.isalpha() and read.isupper()


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))


def _refused(code: str, field: str, got: str, expected: str, remedy: str) -> PayloadRejected:
    return PayloadRejected(Problem(code, "", "", field, got, expected, remedy))
