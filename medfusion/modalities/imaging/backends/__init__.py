"""Libraries that run the frozen network: torch, OpenVINO, ONNX Runtime; each in a precision.

Torch in fp32 is the reference: what training does. A backend runs batches of one fixed size; what is missing of one is
padded, so that a picture's map never depends on which others are beside it. On processors a batch is one picture on
one thread, which is as fast there as any other size, and threads run several at once. Nothing is downloaded, and
what these libraries would report about their use is not reported.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from medfusion.core.errors import MissingExtra, UsageError
from medfusion.core.types import FloatArray

if TYPE_CHECKING:
    from medfusion.modalities.imaging.network import Features

NO_BF16 = "this processor does not compute in bf16"
REFERENCE = "torch-fp32"
"""What a model is trained with."""


class Backend(Protocol):
    """A network that is ready to run.

    Attributes
    ----------
    batch : int
        How many pictures it is given at once.
    """

    batch: int

    def run(self, pictures: FloatArray) -> FloatArray:
        """Return the feature maps of a full batch; threads may call at once.

        Parameters
        ----------
        pictures : array (batch, 1, *shape), float32
            In [0, 1].

        Returns
        -------
        array (batch, dimensions, *grid), float32
        """


@dataclass(frozen=True, slots=True)
class _Kind:
    """How to get at a backend: a module of this folder, what it is told, and the packages that it needs."""

    module: str
    precision: str
    packages: tuple[str, ...] = ()
    extra: str = ""

    def missing(self) -> str:
        """Return the first package that is not installed; empty if all are."""
        return next((name for name in self.packages if importlib.util.find_spec(name) is None), "")


_KINDS: Mapping[str, _Kind] = {
    REFERENCE: _Kind("torch", "fp32"),
    "torch-bf16": _Kind("torch", "bf16"),
    "torch-cuda-fp32": _Kind("torch", "cuda-fp32"),
    "torch-cuda-bf16": _Kind("torch", "cuda-bf16"),
    "openvino-fp32": _Kind("openvino", "fp32", ("openvino",), "openvino"),
    "openvino-bf16": _Kind("openvino", "bf16", ("openvino",), "openvino"),
    "openvino-int8": _Kind("openvino", "int8", ("openvino", "nncf"), "openvino"),
    "onnxruntime-fp32": _Kind("onnxruntime", "fp32", ("onnx", "onnxruntime"), "onnx"),
    "onnxruntime-int8": _Kind("onnxruntime", "int8", ("onnx", "onnxruntime"), "onnx"),
}
NAMES: tuple[str, ...] = tuple(_KINDS)
"""The backends by name: the library, for torch a graphics card if it is to run there, and the precision."""


def is_exact(name: str) -> bool:
    """Return whether a backend differs from the reference by rounding alone."""
    return name.endswith("fp32")


def matching(wanted: str) -> tuple[str, ...]:
    """Return the backends that a word names: ``auto``, a library, or a library and a precision.

    Raises
    ------
    UsageError
        If there is none.

    Examples
    --------
    >>> matching("openvino")
    ('openvino-fp32', 'openvino-bf16', 'openvino-int8')
    >>> matching("torch-fp32")
    ('torch-fp32',)
    """
    found = tuple(name for name in NAMES if wanted in {"auto", name} or name.startswith(f"{wanted}-"))
    if not found:
        raise UsageError(f"there is no backend {wanted!r}; there are: auto, torch, openvino, onnxruntime, {_listed()}")
    return found


def _listed() -> str:
    return ", ".join(NAMES)


def unavailable(name: str) -> str:
    """Say why a backend cannot be used here; empty if it can."""
    kind = _KINDS[name]
    if package := kind.missing():
        return str(MissingExtra(package, kind.extra))
    if kind.module == "torch":
        return _torch_lacks(kind.precision)
    if kind.precision == "bf16" and not _bf16_in_hardware():
        return NO_BF16
    return ""


def require(name: str, *, is_calibrated: bool) -> None:
    """Refuse a backend that cannot be used.

    Raises
    ------
    MissingExtra
        If its library is not installed.
    UsageError
        If int8 is asked for without pictures to calibrate with, or this machine cannot run it.
    """
    kind = _KINDS[name]
    if package := kind.missing():
        raise MissingExtra(package, kind.extra)
    if reason := unavailable(name):
        raise UsageError(f"the backend {name} cannot be used: {reason}")
    if kind.precision == "int8" and not is_calibrated:
        raise UsageError(f"the backend {name} needs pictures to calibrate with, and the model folder has none")


def open_backend(name: str, features: Features, shape: tuple[int, ...], calibration: FloatArray | None) -> Backend:
    """Prepare a network for a backend.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    features : Features
    shape : tuple of int
        Of one picture or cube.
    calibration : array (n, 1, *shape), float32, or None
        Pictures as those that will come; int8 needs them.

    Raises
    ------
    MissingExtra, UsageError
        See `require`.
    """
    require(name, is_calibrated=calibration is not None)
    kind = _KINDS[name]
    opener: Callable[..., Backend] = importlib.import_module(f"{__name__}.{kind.module}").open_network
    _without_reports()
    return opener(features.cpu(), kind.precision, shape, calibration)


def run_padded(backend: Backend, pictures: FloatArray) -> FloatArray:
    """Run any number of pictures, in full batches; the last is padded with black ones.

    Parameters
    ----------
    pictures : array (n, 1, *shape), float32

    Returns
    -------
    array (n, dimensions, *grid), float32
    """
    maps = []
    for start in range(0, len(pictures), backend.batch):
        part = pictures[start : start + backend.batch]
        full = np.zeros((backend.batch, *part.shape[1:]), dtype=np.float32)
        full[: len(part)] = part
        maps.append(backend.run(full)[: len(part)])
    return maps[0] if len(maps) == 1 else np.concatenate(maps)


def version(name: str) -> str:
    """Return the version of the library behind a backend."""
    return metadata.version(_KINDS[name].module)


def _without_reports() -> None:
    """Keep OpenVINO and NNCF from reporting their use: they do without this package where it cannot be imported."""
    if "openvino_telemetry" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]


def _torch_lacks(precision: str) -> str:
    if precision.startswith("cuda"):
        import torch  # noqa: PLC0415 - slow to import

        if not torch.cuda.is_available():
            return "torch finds no graphics card"
        return "" if precision == "cuda-fp32" or torch.cuda.is_bf16_supported() else "the card does not know bf16"
    return NO_BF16 if precision == "bf16" and not _bf16_in_hardware() else ""


@cache
def _bf16_in_hardware() -> bool:
    """Return whether this processor says that it computes in bf16; where it does not, that is slower than fp32."""
    try:
        said = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(said.split()))
