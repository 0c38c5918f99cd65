"""Torch: fp32 as in training, bf16 by autocast; on a graphics card where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from medfusion.core.types import FloatArray
from medfusion.modalities.imaging.network import Features

_CARD_BATCH = 16


class TorchBackend:
    """A network run by torch; see `Backend`.

    Parameters
    ----------
    features : Features
    device : {"cpu", "cuda"}
    bf16 : bool
        Whether convolutions are computed in bf16.
    """

    def __init__(self, features: Features, device: str = "cpu", *, bf16: bool = False) -> None:
        self.batch = _CARD_BATCH if device == "cuda" else 1
        self._device = device
        self._bf16 = bf16
        self._features = features.to(device)

    def run(self, pictures: FloatArray) -> FloatArray:
        """Return the feature maps of a batch; see `Backend.run`."""
        with _one_thread(), torch.inference_mode(), torch.autocast(self._device, torch.bfloat16, enabled=self._bf16):
            batch = torch.from_numpy(pictures).to(self._device)
            if batch.ndim == 4:
                batch = batch.contiguous(memory_format=torch.channels_last)
            # Convolutions of a card round to TF32 unless told otherwise.
            with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=self._bf16):
                maps = self._features(batch)
            return np.ascontiguousarray(maps.float().cpu().numpy())


def open_network(
    features: Features, precision: str, shape: tuple[int, ...], calibration: FloatArray | None = None
) -> TorchBackend:
    """Prepare a network; see `backends.open_backend`."""
    device = "cuda" if precision.startswith("cuda") else "cpu"
    if len(shape) == 2:
        features = features.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TorchBackend(features, device, bf16=precision.endswith("bf16"))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on the calling thread alone; the setting belongs to it, and it gets it back as it was."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
