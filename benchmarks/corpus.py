"""What becomes of every file of a folder, and do other decoders see the same pixels?

Every file is examined, and decoded where it is an image or a slice; anything but an answer, and any answer that takes
more than 10 s, is counted. The stored values of each frame that was decoded are then compared with those of gdcm and
of dicomsdl, each in a process of its own for every file, because damaged files end them.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, machine, machine_line, markdown_table, write_results
from pydicom import dcmread
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import UID

from medfusion.core.errors import PayloadRejected
from medfusion.modalities.imaging.decoders import stored_values
from medfusion.modalities.imaging.intake import Verdict, examine
from medfusion.modalities.imaging.pixels import decode, load
from medfusion.modalities.imaging.syntaxes import transfer_syntax

LIMIT_S = 10.0
OTHERS = ("gdcm", "dicomsdl")
_BYTE_PLANES = "gdcm mixes up the byte planes of colours; the same picture uncompressed is equal to medfusion's"
_NO_TRANSFORM = "dicomsdl leaves luma and chroma as they are"
EXPLAINED = (
    ("JLSL_16_15_1_1F", "both", "they take 15 bits of two's complement as positive; the header says signed"),
    ("J2K_pixelrep_mismatch", "both", "they take 13 bits of two's complement as positive; the header says signed"),
    ("SC_rgb_rle_16bit", "gdcm", _BYTE_PLANES),
    ("SC_rgb_rle_32bit", "gdcm", _BYTE_PLANES),
    ("GH195", "gdcm", "gdcm leaves luma and chroma as they are, because the header says RGB; the stream is JFIF"),
    ("SC_jpeg_no_color_transform.dcm", "dicomsdl", _NO_TRANSFORM),
    ("SC_rgb_jpeg", "dicomsdl", _NO_TRANSFORM),
    ("0x0F0F", "dicomsdl", "dicomsdl keeps what lies in unused bits"),
    ("MultiframeWindowing", "dicomsdl", "PixelRepresentation is missing; gdcm and medfusion take it as unsigned"),
    ("SC_rgb_expb", "dicomsdl", "dicomsdl does not swap the bytes of big-endian colours"),
)
"""Parts of file names and what is behind the difference, as found by looking at them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--other", nargs=4, metavar=("NAME", "FILE", "FRAME", "ARRAY"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    if args.other:
        name, file, frame, array = args.other
        np.save(array, READERS[name](file, int(frame)))
        return
    described = machine()
    files = [outcome(path) for path in sorted(args.folder.rglob("*")) if path.is_file()]
    measured = {"folder": args.folder.name, "files": files, "machine": described}
    write_results(args.out, "corpus", measured, page(measured))


def outcome(path: Path) -> dict[str, Any]:
    """Read one file to the end, and compare it."""
    start = time.perf_counter()
    try:
        verdict = examine(path)
        told = decoded(path, verdict)
    except Exception as error:  # what the benchmark is there to find
        verdict, told = Verdict("rejected", "other"), {"code": "uncaught", "got": repr(error)[:200]}
    told = {"file": path.name, "kind": verdict.kind, **told, "seconds": time.perf_counter() - start}
    if told["code"] == "":
        dataset = dcmread(path, force=True)
        syntax = UID(transfer_syntax(dataset))
        values = stored_values(dataset, verdict.frame)
        others = {name: compared(values, name, path, verdict.frame) for name in OTHERS}
        told |= {"syntax": str(syntax), "syntax_name": syntax.name, "others": others}
        told["photometric"] = str(dataset.get("PhotometricInterpretation", ""))
        told["lossy"] = is_lossy(dataset, syntax)
    print(told["file"], told["kind"], told["code"], told.get("others", ""), flush=True)
    return told


def decoded(path: Path, verdict: Verdict) -> dict[str, Any]:
    """Return the code with which a file ends; empty for a usable image or slice."""
    if verdict.problem is not None:
        return {"code": verdict.problem.code, "got": verdict.problem.got, "remedy": verdict.remedy}
    try:
        if verdict.kind == "slice":
            stored_values(dcmread(path, force=True))
        elif verdict.format == "dicom":
            decode(load(path), longest=320)
    except PayloadRejected as error:
        return {"code": error.problem.code, "got": error.problem.got, "remedy": error.problem.remedy}
    except Exception as error:
        # Slices are rejected so where volumes are loaded.
        return {"code": "undecodable-pixels", "got": str(error).splitlines()[0], "remedy": "export the file again"}
    return {"code": "", "got": verdict.reason, "remedy": ""}


def is_lossy(dataset: Any, syntax: UID) -> bool:
    """Tell whether decoders may differ: a cosine transform or the irreversible wavelet, wherever it is declared."""
    element = dataset.get("PixelData") and dataset["PixelData"]
    pixels = element.value[:2000] if element and element.is_undefined_length else b""
    wavelet = syntax.name.startswith("JPEG 2000") and pixels.find(b"\xff\x52") > 0
    if wavelet:
        return pixels[pixels.find(b"\xff\x52") + 13] == 0
    return any(marker in pixels for marker in (b"\xff\xc0\x00", b"\xff\xc1\x00", b"\xff\xc2\x00"))


def compared(values: np.ndarray, name: str, path: Path, frame: int) -> dict[str, Any]:
    """Return how far another decoder is from these values, or why it cannot be said."""
    with tempfile.TemporaryDirectory() as temporary:
        array = Path(temporary) / "values.npy"
        command = [sys.executable, __file__, ".", "--other", name, str(path), str(frame), str(array)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        except subprocess.TimeoutExpired:
            return {"result": "cannot read", "why": "over 60 s"}
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            return {"result": "cannot read", "why": said[:200]}
        other = np.load(array)
    if other.shape != values.shape:
        return {"result": "differs", "why": f"{list(other.shape)} instead of {list(values.shape)}"}
    far = np.abs(values.astype(np.float64) - other.astype(np.float64))
    if not far.any():
        return {"result": "equal"}
    return {"result": "differs", "max": float(far.max()), "share": float((far > 0).mean())}


def by_gdcm(file: str, frame: int) -> np.ndarray:
    import gdcm  # noqa: PLC0415 - in a process of its own

    reader = gdcm.ImageReader()
    reader.SetFileName(file)
    if not reader.Read():
        raise ValueError("gdcm cannot read it")
    image = reader.GetImage()
    kind = image.GetPixelFormat()
    dtype = np.dtype(f"{'if'[kind.GetScalarType() >= gdcm.PixelFormat.FLOAT16]}{kind.GetBitsAllocated() // 8}")
    if not kind.GetPixelRepresentation():
        dtype = np.dtype(dtype.str.replace("i", "u"))
    samples = kind.GetSamplesPerPixel()
    size = [image.GetDimension(axis) for axis in range(image.GetNumberOfDimensions())]
    columns, rows = size[:2]
    values = np.frombuffer(image.GetBuffer().encode("utf-8", "surrogateescape"), dtype)
    values = values[frame * rows * columns * samples :][: rows * columns * samples]
    if samples == 1:
        return values.reshape(rows, columns)
    if image.GetPlanarConfiguration():
        values = values.reshape(samples, rows, columns).transpose(1, 2, 0)
    values = values.reshape(rows, columns, samples)
    colours = image.GetPhotometricInterpretation().GetString().strip()
    return convert_color_space(values, "YBR_FULL", "RGB") if colours.startswith("YBR_FULL") else values


def by_dicomsdl(file: str, frame: int) -> np.ndarray:
    import dicomsdl  # noqa: PLC0415 - in a process of its own

    return np.asarray(dicomsdl.open(file).pixelData(frame, storedvalue=True))


READERS = {"gdcm": by_gdcm, "dicomsdl": by_dicomsdl}


def page(measured: Mapping[str, Any]) -> str:
    """Return the tables, as they are to be read."""
    files: Sequence[Mapping[str, Any]] = measured["files"]
    ends = Counter((each["kind"], each["code"] or "usable") for each in files)
    slow = max(files, key=lambda each: each["seconds"])
    late = sum(each["seconds"] > LIMIT_S for each in files)
    uncaught = sum(each["code"] == "uncaught" for each in files)
    return (
        f"# {len(files)} files of {measured['folder']}\n\n{machine_line(measured['machine'])}\n\n"
        f"Uncaught exceptions: {uncaught}. Over {LIMIT_S:g} s: {late}; the slowest took {slow['seconds']:.1f} s.\n\n"
        f"## How they end\n\n"
        f"{markdown_table(['', 'code', 'files'], [[kind, code, str(n)] for (kind, code), n in sorted(ends.items())])}\n"
        f"## Why not\n\n{markdown_table(['', 'files'], reasons(files))}\n"
        f"## Stored values beside those of other decoders\n\n{markdown_table(*agreement(files))}\n"
        f"### Where they differ\n\n{markdown_table(['file', 'decoder', 'difference', 'why'], differences(files))}\n"
        f"### What they cannot read\n\n{markdown_table(['', 'files'], unread(files))}\n"
    )


def reasons(files: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    said = Counter(f"{each['code']}: {each['got'][:90]}" for each in files if each["code"])
    return [[reason, str(n)] for reason, n in sorted(said.items())]


def agreement(files: Iterable[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    header = ["transfer syntax", "files", *(f"{name} {what}" for name in OTHERS for what in ("equal", "differs", "-"))]
    rows: dict[str, Counter[str]] = {}
    for each in files:
        for name, told in each.get("others", {}).items():
            rows.setdefault(each["syntax_name"], Counter())[f"{name} {told['result']}"] += 1
    table = []
    for syntax, counts in sorted(rows.items()):
        results = ("equal", "differs", "cannot read")
        total = sum(counts[f"{OTHERS[0]} {result}"] for result in results)
        table.append([syntax, str(total), *(str(counts[f"{name} {what}"]) for name in OTHERS for what in results)])
    return header, table


def differences(files: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    rows = []
    for each in files:
        for name, told in each.get("others", {}).items():
            if told["result"] == "differs":
                said = f"max {told['max']:g}, {told['share']:.1%} of values" if "max" in told else told["why"]
                rows.append([each["file"], name, said, explanation(each, name, told)])
    return rows


def explanation(each: Mapping[str, Any], name: str, told: Mapping[str, Any]) -> str:
    """Say why two decoders differ on a file; empty where that is not known."""
    known = [why for part, decoder, why in EXPLAINED if part in each["file"] and decoder in {name, "both"}]
    if known:
        return known[0]
    if each["lossy"] and each["photometric"].startswith("MONOCHROME") and told.get("max", 9) <= 1:
        return "the cosine transform is rounded as every decoder likes"
    if each["lossy"] and told.get("max", 99) <= 16:
        return "colour: rounding, and how the coarser chroma is interpolated"
    return ""


def unread(files: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    said = Counter(
        f"{name}, {each['syntax_name']}: {told['why'][:90]}"
        for each in files
        for name, told in each.get("others", {}).items()
        if told["result"] == "cannot read"
    )
    return [[reason, str(n)] for reason, n in sorted(said.items())]


if __name__ == "__main__":
    main()
