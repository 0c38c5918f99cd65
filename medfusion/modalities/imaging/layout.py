"""How the samples of a frame lie in its decoded bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medfusion.modalities.imaging.headers import rejected

_PHOTOMETRIC = frozenset(
    ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the samples of a frame lie in its decoded bytes (PS3.3 C.7.6.3.1; PS3.5 section 8)."""

    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    high: int
    signed: bool
    planar: bool
    frames: int
    photometric: str

    @classmethod
    def of(cls, dataset: Any) -> Layout:
        """Read it from a header.

        Raises
        ------
        PayloadRejected
            ``undecodable-pixels``, if a value is missing, or none that pixels can have.
        """
        floats = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}
        float_bits = next((bits for keyword, bits in floats.items() if keyword in dataset), None)
        allocated = _count(dataset, "BitsAllocated", (1, 8, 16, 32, 64), float_bits)
        stored = _count(dataset, "BitsStored", range(1, allocated + 1), allocated)
        return cls(
            rows=_count(dataset, "Rows", range(1, 2**16)),
            columns=_count(dataset, "Columns", range(1, 2**16)),
            samples=_count(dataset, "SamplesPerPixel", (1, 3), 1),
            allocated=allocated,
            stored=stored,
            high=_count(dataset, "HighBit", range(stored - 1, allocated), stored - 1),
            signed=bool(_count(dataset, "PixelRepresentation", (0, 1), 0)),
            planar=bool(_count(dataset, "PlanarConfiguration", (0, 1), 0)),
            frames=_count(dataset, "NumberOfFrames", range(1, 2**31), 1),
            photometric=_photometric(dataset),
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, columns and, for colour, samples."""
        return (self.rows, self.columns) if self.samples == 1 else (self.rows, self.columns, self.samples)

    @property
    def word(self) -> np.dtype[Any]:
        """The type of an allocated word, whatever its sign.

        Raises
        ------
        ValueError
            If the bits are not those of whole words.
        """
        if self.allocated not in {8, 16, 32, 64}:
            raise ValueError(f"words of {self.allocated} bits are not read")
        return np.dtype(f"<u{self.allocated // 8}")

    @property
    def bytes_per_frame(self) -> int:
        """Of decoded pixels; for whole bytes per sample."""
        return self.rows * self.columns * self.samples * self.allocated // 8


def _count(dataset: Any, keyword: str, allowed: Sequence[int], default: int | None = None) -> int:
    value = dataset.get(keyword)
    if value is None or value == "":
        value = default
    if isinstance(value, (int, str)) and str(value).strip().isdecimal() and int(value) in allowed:
        return int(value)
    got = "missing" if value is None else str(value)
    expected = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else f"one of {allowed}"
    raise rejected("undecodable-pixels", keyword, got, expected, "correct the header, or export the file again")


def _photometric(dataset: Any) -> str:
    value = str(dataset.get("PhotometricInterpretation") or "").strip()
    if value not in _PHOTOMETRIC:
        remedy = "convert the file to MONOCHROME2 or RGB"
        raise rejected("undecodable-pixels", "PhotometricInterpretation", value or "missing", "a known one", remedy)
    return value
