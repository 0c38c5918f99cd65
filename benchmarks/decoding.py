"""How long does it take from a file to the small picture that a network sees?

Films of 2,048 x 2,500 pixels are drawn, written in seven transfer syntaxes, and read to a float array whose longer side
has 320 pixels: by medfusion, and by MONAI's `LoadImage` with pydicom and `Resize` by area. Both run on one thread, in
turns, over all files of a syntax; the first turn is not counted. MONAI decodes with whichever of pydicom's plugins is
installed and comes first; those that are installed are named. Before timing, both results are compared.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import imagecodecs
import numpy as np
import torch
from common import RESULTS, machine, machine_line, markdown_table, write_results
from monai.data import PydicomReader
from monai.transforms import Compose, LoadImage, Resize
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.pixels.encoders.base import RLELosslessEncoder
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, generate_uid

from medfusion.modalities.imaging.pixels import decode, load

LONGEST = 320
DISTINCT = 20
ROWS, COLUMNS = 2500, 2048


@dataclass(frozen=True, slots=True)
class Syntax:
    """An encoding, how to make it, and how many times faster than MONAI reading it has to be."""

    name: str
    uid: str
    bits: int
    encode: Callable[[np.ndarray], bytes] | None
    target: float


def jpeg_2000(reversible: bool) -> Callable[[np.ndarray], bytes]:
    # 60 dB: about a tenth of what the 12 bits take.
    options = {"level": 0 if reversible else 60, "codecformat": "j2k", "reversible": reversible, "resolutions": 6}
    return lambda film: imagecodecs.jpeg2k_encode(film, bitspersample=12, **options)


def rle(film: np.ndarray) -> bytes:
    said = {"rows": ROWS, "columns": COLUMNS, "samples_per_pixel": 1, "number_of_frames": 1}
    bits = {"bits_allocated": 16, "bits_stored": 12, "pixel_representation": 0}
    return RLELosslessEncoder.encode(film, photometric_interpretation="MONOCHROME2", **said, **bits)


SYNTAXES = (
    Syntax("uncompressed", "1.2.840.10008.1.2.1", 12, None, 5),
    Syntax("RLE", "1.2.840.10008.1.2.5", 12, rle, 8),
    Syntax(
        "JPEG lossless",
        "1.2.840.10008.1.2.4.70",
        12,
        lambda film: imagecodecs.jpeg_encode(film, lossless=True, predictor=1, bitspersample=12),
        3,
    ),
    Syntax("JPEG baseline", "1.2.840.10008.1.2.4.50", 8, lambda film: imagecodecs.jpeg_encode(film, level=92), 4),
    Syntax("JPEG 2000 lossless", "1.2.840.10008.1.2.4.90", 12, jpeg_2000(reversible=True), 4),
    Syntax("JPEG 2000", "1.2.840.10008.1.2.4.91", 12, jpeg_2000(reversible=False), 4),
    Syntax("JPEG-LS", "1.2.840.10008.1.2.4.80", 12, imagecodecs.jpegls_encode, 2),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200, help="of each transfer syntax")
    parser.add_argument("--repeats", type=int, default=5, help="of each reader, of which the median counts")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="transfer syntaxes, as 'RLE'")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    described = machine()
    chosen = [syntax for syntax in SYNTAXES if syntax.name in args.only or not args.only]
    measured = {
        "files": args.files,
        "repeats": args.repeats,
        "size": [ROWS, COLUMNS],
        "longest": LONGEST,
        "syntaxes": [measure(syntax, args.files, args.repeats) for syntax in chosen],
        "machine": described,
    }
    write_results(args.out, "decoding", measured, page(measured))


def measure(syntax: Syntax, files: int, repeats: int) -> dict[str, Any]:
    """Time both readers over files of one syntax, in turns."""
    readers = {"medfusion": ours, "monai": theirs()}
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = list(write_films(syntax, files, Path(temporary)))
        far = max(difference(path, readers["monai"], syntax.bits) for path in paths[:DISTINCT])
        megabytes = sum(path.stat().st_size for path in paths) / files / 1e6
        for _ in range(repeats):
            for name, read in readers.items():
                start = time.perf_counter()
                for path in paths:
                    read(path)
                seconds[name].append(time.perf_counter() - start)
    milliseconds = {name: 1000 * median(each) / files for name, each in seconds.items()}
    ratio = milliseconds["monai"] / milliseconds["medfusion"]
    print(f"{syntax.name}: {milliseconds}, {ratio:.1f} times, target {syntax.target}", flush=True)
    return {
        "name": syntax.name,
        "uid": syntax.uid,
        "bits": syntax.bits,
        "megabytes": megabytes,
        "plugins": plugins(syntax.uid),
        "seconds": seconds,
        "milliseconds_per_film": milliseconds,
        "ratio": ratio,
        "target": syntax.target,
        "mean_difference": far,
    }


def ours(path: Path) -> np.ndarray:
    return decode(load(path), longest=LONGEST)


def theirs() -> Callable[[Path], np.ndarray]:
    """Return MONAI's way to the same array, columns first."""
    read = Compose(
        [
            LoadImage(reader=PydicomReader(), image_only=True, ensure_channel_first=True),
            Resize(spatial_size=LONGEST, size_mode="longest", mode="area"),
        ]
    )
    return lambda path: read(path).numpy()


def difference(path: Path, monai: Callable[[Path], np.ndarray], bits: int) -> float:
    """Return the mean absolute difference between both results, from 0 to 1; the films' window is their full range."""
    one, other = ours(path), np.squeeze(monai(path)).T / (2**bits - 1)
    height, width = (min(sides) for sides in zip(one.shape, other.shape, strict=True))
    return float(np.abs(one[:height, :width] - other[:height, :width]).mean())


def plugins(uid: str) -> str:
    """Name the plugins that pydicom can choose from."""
    return ", ".join(get_decoder(uid).available_plugins) if UID(uid).is_encapsulated else "none needed"


def write_films(syntax: Syntax, files: int, folder: Path) -> Iterator[Path]:
    """Write films; after so many distinct ones the pictures repeat, under other UIDs."""
    films = [encoded(syntax, draw(seed, syntax.bits)) for seed in range(min(DISTINCT, files))]
    for number in range(files):
        path = folder / f"{number:04}.dcm"
        write(path, syntax, films[number % len(films)])
        yield path


def draw(seed: int, bits: int, size: tuple[int, int] = (ROWS, COLUMNS)) -> np.ndarray:
    """Draw a picture with structure at every scale and the noise of a detector."""
    random, (rows, columns) = np.random.default_rng(seed), size
    picture = np.zeros(size, np.float32)
    for scale in (4, 8, 16, 32, 64, 128, 256, 512):
        coarse = random.normal(size=(rows // scale + 3, columns // scale + 3)).astype(np.float32)
        picture += scale * cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC)
    top = 2**bits - 1
    picture = (picture - picture.min()) / np.ptp(picture) * top * 0.9
    noise = random.normal(scale=top * 0.002, size=picture.shape)
    return np.clip(np.rint(picture + noise), 0, top).astype(np.uint8 if bits == 8 else np.uint16)


def encoded(syntax: Syntax, film: np.ndarray) -> bytes:
    return encapsulate([syntax.encode(film)]) if syntax.encode else film.tobytes()


def write(path: Path, syntax: Syntax, pixel_data: bytes, size: tuple[int, int] = (ROWS, COLUMNS)) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax.uid)
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    film = FileDataset("", {}, b"\0" * 128, meta)
    film.SOPClassUID, film.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    film.PatientID, film.Modality = "P1", "DX"
    film.Rows, film.Columns, film.SamplesPerPixel = *size, 1
    film.PhotometricInterpretation = "MONOCHROME2"
    film.BitsAllocated, film.PixelRepresentation = (8 if syntax.bits == 8 else 16), 0
    film.BitsStored, film.HighBit = syntax.bits, syntax.bits - 1
    film.WindowCenter, film.WindowWidth = 2 ** (syntax.bits - 1), 2**syntax.bits
    film.PixelData = pixel_data
    film["PixelData"].VR = "OB" if syntax.encode or syntax.bits == 8 else "OW"
    film["PixelData"].is_undefined_length = syntax.encode is not None
    film.save_as(path, enforce_file_format=True)


def page(measured: Mapping[str, Any]) -> str:
    """Return the table, as it is to be read."""
    rows = [row(each) for each in measured["syntaxes"]]
    header = ["", "MB", "medfusion ms", "MONAI ms", "times faster", "target", "pydicom plugins", "mean difference"]
    height, width = measured["size"]
    return (
        f"# From a file to {measured['longest']} pixels\n\n{machine_line(measured['machine'])}\n\n"
        f"{measured['files']} films of {width} x {height} pixels each, one thread; milliseconds a film, median of "
        f'{measured["repeats"]} turns. MONAI: `LoadImage(PydicomReader)` and `Resize(mode="area")`. The mean '
        f"difference is that of the two results, of a range of 1.\n\n"
        f"{markdown_table(header, rows)}"
    )


def row(each: Mapping[str, Any]) -> Sequence[str]:
    spent = each["milliseconds_per_film"]
    figures = (f"{each['megabytes']:.1f}", f"{spent['medfusion']:.1f}", f"{spent['monai']:.1f}", f"{each['ratio']:.1f}")
    return [each["name"], *figures, f"{each['target']:g}", each["plugins"], f"{each['mean_difference']:.4f}"]


if __name__ == "__main__":
    main()
