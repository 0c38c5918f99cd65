"""ONNX Runtime: fp32, and int8 by static quantisation."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from medfusion.core.types import FloatArray
from medfusion.modalities.imaging.network import Features

OPSET = 17


class OnnxBackend:
    """A network run by ONNX Runtime; see `Backend`.

    Parameters
    ----------
    model : bytes
        The content of an ONNX file with one picture as input ``pictures``, and ``maps`` as output.
    """

    batch = 1

    def __init__(self, model: bytes) -> None:
        import onnxruntime  # noqa: PLC0415 - an extra

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        # Of a picture, on one thread; several threads may run one session.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(self, pictures: FloatArray) -> FloatArray:
        """Return the feature maps of a batch; see `Backend.run`."""
        return np.asarray(self._session.run(None, {"pictures": pictures})[0])


def open_network(
    features: Features, precision: str, shape: tuple[int, ...], calibration: FloatArray | None
) -> OnnxBackend:
    """Prepare a network; see `backends.open_backend`."""
    with tempfile.TemporaryDirectory(prefix="medfusion-") as folder:
        file = Path(folder) / "network.onnx"
        write_onnx(features, shape, file)
        if precision == "int8":
            assert calibration is not None
            file = _quantised(file, calibration)
        return OnnxBackend(file.read_bytes())


def write_onnx(features: Features, shape: tuple[int, ...], path: Path) -> None:
    """Write a network as an ONNX file, for one picture at a time."""
    import torch  # noqa: PLC0415 - slow to import

    example = torch.zeros(1, 1, *shape)
    with _quiet():
        # The older of torch's two exporters: the newer one needs another package, and loses hooks.
        torch.onnx.export(
            features,
            (example,),
            str(path),
            dynamo=False,
            input_names=["pictures"],
            output_names=["maps"],
            opset_version=OPSET,
        )


def _quantised(file: Path, calibration: FloatArray) -> Path:
    """Quantise a model with scales that are fixed beforehand: those found picture by picture would be slower."""
    from onnxruntime import quantization  # noqa: PLC0415 - an extra
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    prepared, quantised = file.with_suffix(".prepared.onnx"), file.with_suffix(".int8.onnx")
    with _quiet():
        quant_pre_process(file, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            quantised,
            _Calibration(calibration),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
        )
    return quantised


class _Calibration:
    """Hands pictures out one by one, as ONNX Runtime asks for them."""

    def __init__(self, pictures: FloatArray) -> None:
        self._left = iter(pictures)

    def get_next(self) -> dict[str, Any] | None:
        picture = next(self._left, None)
        return None if picture is None else {"pictures": picture[None]}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what an export remarks to developers from the user."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
