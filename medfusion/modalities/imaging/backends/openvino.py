"""OpenVINO: fp32, bf16, and int8 by post-training quantisation with NNCF."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

import numpy as np

from medfusion.core.types import FloatArray
from medfusion.modalities.imaging.backends import without_reports
from medfusion.modalities.imaging.network import Features


class OpenVinoBackend:
    """A network compiled by OpenVINO; see `Backend`.

    Parameters
    ----------
    model : openvino.Model
        Of one input of a fixed shape.
    precision : {"f32", "bf16"}
        What OpenVINO computes in where the model does not say int8.
    """

    batch = 1

    def __init__(self, model: Any, precision: str) -> None:
        import openvino  # noqa: PLC0415 - an extra

        streams = os.cpu_count() or 1
        settings = {
            # Left alone, it would compute in bf16 wherever the processor can.
            "INFERENCE_PRECISION_HINT": precision,
            # As many pictures at once as processors, each on one thread: none waits for another.
            "NUM_STREAMS": str(streams),
            "INFERENCE_NUM_THREADS": str(streams),
            "ENABLE_CPU_PINNING": "NO",
        }
        self._compiled = openvino.Core().compile_model(model, "CPU", settings)
        self._of_thread = threading.local()

    def run(self, pictures: FloatArray) -> FloatArray:
        """Return the feature maps of a batch; see `Backend.run`."""
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        request = self._of_thread.request
        request.infer([pictures])
        return np.array(request.get_output_tensor(0).data, dtype=np.float32)


def open_network(
    features: Features, precision: str, shape: tuple[int, ...], calibration: FloatArray | None
) -> OpenVinoBackend:
    """Prepare a network; see `backends.open_backend`."""
    model = converted(features, shape)
    if precision == "int8":
        assert calibration is not None
        model = _quantised(model, calibration)
    return OpenVinoBackend(model, "bf16" if precision == "bf16" else "f32")


def converted(features: Features, shape: tuple[int, ...]) -> Any:
    """Return the network as an OpenVINO model with one picture as input ``pictures``, and ``maps`` as output."""
    without_reports()
    import openvino  # noqa: PLC0415 - an extra
    import torch  # noqa: PLC0415 - slow to import

    example = torch.zeros(1, 1, *shape)
    with _quiet():
        model = openvino.convert_model(features, example_input=example, input=[1, 1, *shape])
    model.inputs[0].get_tensor().set_names({"pictures"})
    model.outputs[0].get_tensor().set_names({"maps"})
    return model


def _quantised(model: Any, calibration: FloatArray) -> Any:
    import nncf  # noqa: PLC0415 - an extra

    nncf.set_log_level(logging.ERROR)
    with _quiet():
        return nncf.quantize(
            model,
            nncf.Dataset([picture[None] for picture in calibration]),
            subset_size=len(calibration),
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what a conversion remarks to developers, and its progress bars, from the user."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        yield
