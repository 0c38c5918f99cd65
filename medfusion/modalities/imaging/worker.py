"""The process that decodes: it answers what `pool` asks on standard input. What it can do stands in `TASKS`."""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from medfusion.core.errors import PayloadRejected
from medfusion.core.types import FloatArray
from medfusion.modalities.imaging import pixels, scans
from medfusion.modalities.imaging.cache import EmbeddingCache
from medfusion.modalities.imaging.filters import filter_mean
from medfusion.modalities.imaging.geometry import letterbox
from medfusion.modalities.imaging.headers import rejected
from medfusion.modalities.imaging.payload import Scan

_CODE_BYTES = 2**27
_LEAK_BYTES = 2**27
"""A worker that holds on to this much after an answer is replaced: decoders leak when they meet damaged pixels."""
Answer = tuple[dict[str, Any], FloatArray]
"""What a task returns: values that JSON can hold, and an array that is sent as float32."""


def main() -> None:
    """Be the worker: answer what is asked on standard input until it ends."""
    requests, answers = _private_pipes()
    # The caller decides what an interruption means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_memory(int(sys.argv[1]))
    warnings.simplefilter("ignore")
    _import_decoders()
    # Last, so that an import that fails is heard; decoders chatter.
    _silence()
    answers.write(b"ready\n")
    answers.flush()
    most_bytes = _data_bytes() + _LEAK_BYTES
    while line := requests.readline():
        request = json.loads(line)
        data = requests.read(request["bytes"])
        _limit_time(2 * request["limit_s"])
        told, array = _answer(request, data)
        _limit_time(0)
        told |= {"shape": array.shape, "spent": told.get("spent", False) or _data_bytes() > most_bytes}
        answers.write(json.dumps(told).encode() + b"\n")
        answers.write(bytes_of(array))
        answers.flush()


def bytes_of(array: FloatArray) -> memoryview:
    """Return the memory of a contiguous array as bytes."""
    return array.reshape(-1).view(np.uint8).data


def _answer(request: Mapping[str, Any], data: bytes) -> Answer:
    source = data if request["path"] is None else Path(request["path"])
    nothing = np.empty(0, np.float32)
    try:
        told, array = TASKS[request["task"]](source, request["arguments"])
        return told, np.ascontiguousarray(array, np.float32)
    except PayloadRejected as error:
        return {"problem": asdict(error.problem)}, nothing
    except MemoryError:
        remedy = "export it at a lower resolution, or its frames as files of their own"
        problem = rejected("too-large", "PixelData", "beyond the limit of memory", "less", remedy).problem
        return {"problem": asdict(problem), "spent": True}, nothing
    except Exception as error:  # damaged files make libraries fail in every way there is
        got, remedy = f"{type(error).__name__}: {error}", "export the file again"
        return {"problem": asdict(rejected("undecodable-pixels", "file", got, "pixels", remedy).problem)}, nothing


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Take standard input and output away from everybody else: one line of a decoder would garble the answers."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "r+b") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
    return requests, answers


def _silence() -> None:
    logging.disable()
    os.dup2(1, 2)


def _limit_memory(limit_bytes: int) -> None:
    try:
        import resource  # noqa: PLC0415 - not on every system
    except ImportError:
        return
    data_bytes = max(limit_bytes - _CODE_BYTES, 0)
    resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, data_bytes))
    # What a crash would leave on disk are a patient's pixels.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _data_bytes() -> int:
    """Return how much memory this process holds; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _limit_time(limit_s: float) -> None:
    """End this process after a while (0: never), where a caller who died cannot do it any more."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, limit_s)


def _import_decoders() -> None:
    """Import before the first film what decoding it would, so that its time is its own."""
    for name in ("cv2", "imagecodecs", "PIL.Image", "pydicom.pixels.decoders.base"):
        importlib.import_module(name)


def _decode(source: Path | bytes, arguments: Mapping[str, Any]) -> Answer:
    encoded = pixels.load(source)
    if arguments["digest"] not in {None, encoded.digest}:
        raise _changed()
    return _told(encoded), pixels.decode(encoded, longest=arguments["longest"], frame=arguments["frame"])


def _told(encoded: pixels.Encoded | scans.Inspected) -> dict[str, Any]:
    return {"size": encoded.size, "content": encoded.content, "digest": encoded.digest}


def _decode_scan(source: Path | bytes, arguments: Mapping[str, Any]) -> Answer:
    scan = scans.from_json(arguments)
    if arguments["digest"] not in {None, scans.inspect_scan(scan).digest}:
        raise _changed()
    return {}, scans.decode_scan(scan, arguments["longest"]).grey()


def _levels(source: Path | bytes, arguments: Mapping[str, Any]) -> Answer:
    """Read a film, or slices of a volume, for a reader who sets the window."""
    if arguments["scan"]:
        levels = scans.decode_scan(scans.from_json(arguments["scan"]), arguments["longest"])
    else:
        encoded = pixels.load(source)
        if arguments["digest"] != encoded.digest:
            raise _changed()
        levels = pixels.decode_levels(encoded, longest=arguments["longest"])
    return {"low": levels.low, "high": levels.high, "unit": levels.unit}, levels.dark_to_bright()


def _see(source: Path | bytes, arguments: Mapping[str, Any]) -> Answer:
    """Do all that a new film needs beside the network: read it once, decode it, make it square, run the filters.

    The array is the embedding, where the cache has one (``kept``); else the ``planes`` that the network is to see, and
    after them the mean of the filters.
    """
    scan = scans.from_json(arguments["scan"]) if arguments["scan"] else None
    encoded = pixels.load(source) if scan is None else scans.inspect_scan(scan)
    told = {**_told(encoded), "facts": dict(encoded.facts), "planes": 0, "kept": False}
    if arguments["cache"] and (kept := _cache(*arguments["cache"]).get([encoded.digest])):
        return told | {"kept": True}, kept[encoded.digest]
    size = arguments["size"]
    if isinstance(encoded, pixels.Encoded):
        picture = pixels.decode(encoded, longest=size)[None]
    else:
        picture = scans.decode_scan(cast(Scan, scan), size).grey()
    planes = np.stack([letterbox(plane, size) for plane in picture])
    parts = [filter_mean(planes, arguments["filters"])] if arguments["filters"] else []
    if arguments["network"]:
        parts.insert(0, planes.reshape(-1))
        told["planes"] = len(planes)
    return told, np.concatenate(parts)


@cache
def _cache(folder: str, identity: str, dimensions: int) -> EmbeddingCache:
    return EmbeddingCache(Path(folder), json.loads(identity), dimensions)


def _changed() -> PayloadRejected:
    return rejected("changed-film", "file", "other pixels", "those that were read before", "start again")


TASKS: dict[str, Callable[[Path | bytes, Mapping[str, Any]], Answer]] = {
    "decode": _decode,
    "levels": _levels,
    "scan": _decode_scan,
    "see": _see,
}
"""What a worker can be asked to do, with a source and arguments that JSON can hold."""
