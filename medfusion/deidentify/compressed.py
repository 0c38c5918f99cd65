"""Removal of comments from compressed frames, without touching the pixels.

A JPEG or JPEG 2000 frame may carry text of its own: comments, EXIF, IPTC. They stand in segments before the picture;
those are cut out, and the rest stays byte for byte.
"""

from __future__ import annotations

from typing import Any

_JPEG, _JPEG_2000 = b"\xff\xd8", b"\xff\x4f"
# By the first marker of a frame: the segments to cut, and the one that the picture begins with.
_SEGMENTS = {_JPEG: ({0xE1, 0xED, 0xFE}, 0xDA), _JPEG_2000: ({0x64}, 0x90)}


def without_comments(frame: bytes) -> bytes:
    """Cut comment segments out of a compressed frame; what is no JPEG comes back as it is.

    Examples
    --------
    >>> without_comments(bytes.fromhex("ffd8 fffe0005414243 ffda0002 00 ffd9")).hex()
    'ffd8ffda000200ffd9'
    """
    rule = _SEGMENTS.get(frame[:2])
    if rule is None:
        return frame
    unwanted, last = rule
    kept, place = [frame[:2]], 2
    while place + 4 <= len(frame) and frame[place] == 0xFF and frame[place + 1] != last:
        end = place + 2 + int.from_bytes(frame[place + 2 : place + 4])
        if frame[place + 1] not in unwanted:
            kept.append(frame[place:end])
        place = end
    return b"".join([*kept, frame[place:]])


def strip_comments(dataset: Any) -> int:
    """Cut comments out of every frame of a dataset in place.

    Returns
    -------
    int
        In how many frames there were any.
    """
    from pydicom.encaps import encapsulate, generate_frames  # noqa: PLC0415 - slow to import

    if "PixelData" not in dataset or not dataset.file_meta.TransferSyntaxUID.is_compressed:
        return 0
    if dataset["PixelData"].value[:4] != b"\xfe\xff\x00\xe0":
        return 0
    old = list(generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames") or 1)))
    new = [without_comments(frame) for frame in old]
    changed = sum(before != after for before, after in zip(old, new, strict=True))
    if changed:
        dataset.PixelData = encapsulate(new)
        # They count bytes that are no longer there.
        for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
            if keyword in dataset:
                delattr(dataset, keyword)
    return changed
