"""Frozen networks as modules: from grey pictures to feature maps. Loads torch; imported where a network is wanted."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medfusion.core.errors import UsageError
from medfusion.modalities.imaging.weights import densenet_names, load_into, read_weights

LITE = "efficientnet-lite0"
_FIRST = ("features.conv0.weight", "conv1.weight", "_conv_stem.weight")
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


class Features(nn.Module):
    """A network without its head, with what grey in [0, 1] has to become before it.

    Parameters
    ----------
    network : Module
    features : callable
        From what the first layer sees to the feature map.
    scale, shift : array (channels,)
        Grey times scale plus shift is what the first layer was trained on.

    Examples
    --------
    >>> features = Features(nn.Identity(), nn.Identity(), (2.0,), (-1.0,))
    >>> features(torch.ones(1, 1, 2, 2)).flatten().tolist()
    [1.0, 1.0, 1.0, 1.0]
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: nn.Module,
        features: Callable[[Tensor], Tensor],
        scale: tuple[float, ...],
        shift: tuple[float, ...],
    ) -> None:
        super().__init__()
        self.network = network
        self._features = features
        for name, values in (("scale", scale), ("shift", shift)):
            self.register_buffer(name, torch.tensor(values).reshape(-1, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return feature maps (n, dimensions, rows, columns) of pictures (n, 1, size, size), or of cubes."""
        scale, shift = (
            (self.scale, self.shift) if pictures.ndim == 4 else (self.scale[..., None], self.shift[..., None])
        )
        return self._features(pictures * scale + shift)


def load_features(name: str, weights: Path) -> Features:
    """Build a network, fill it, and leave its head out.

    Raises
    ------
    UsageError
        If the weights do not fit the network.
    """
    tensors = read_weights(weights)
    foreign = False
    if name.startswith("densenet"):
        tensors, renamed = densenet_names(tensors), tensors
        foreign = tensors.keys() != renamed.keys()
    scale, shift = _scaling(_channels(tensors), foreign)
    network = build(name, tensors)
    load_into(network, tensors, weights.name)
    network = network.eval()
    features = network.extract_features if name == LITE else _before_pooling(network)
    return Features(network, features, scale, shift).eval().requires_grad_(False)


def as_cube(volume: Tensor) -> Tensor:
    """Bring a volume (1, 1, slices, size, size) to as many slices as rows."""
    size = volume.shape[-1]
    if volume.shape[2] >= size:
        return functional.interpolate(volume, size=(size, size, size), mode="area")
    return functional.interpolate(volume, size=(size, size, size), mode="trilinear", align_corners=False)


def _scaling(channels: int, foreign: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return factor and offset, per channel, from grey in [0, 1] to what the first layer was trained on.

    Parameters
    ----------
    channels : int
    foreign : bool
        Whether the names are torchvision's; then one channel means torchxrayvision.
    """
    if channels == 3:
        return tuple(1 / each for each in _DEVIATION), tuple(
            -mean / each for mean, each in zip(_MEAN, _DEVIATION, strict=True)
        )
    return ((2048.0,), (-1024.0,)) if foreign else ((1.0,), (0.0,))


def _channels(tensors: Mapping[str, Tensor]) -> int:
    """Return how many input channels the first layer has."""
    found = tuple(next((tensors[name].shape for name in _FIRST if name in tensors), ()))
    # Volumes have one channel.
    if len(found) not in {4, 5} or found[1] not in ({1, 3} if len(found) == 4 else {1}):
        raise UsageError(f"the weights have no first layer ({' or '.join(_FIRST)}) for 1 or 3 channels")
    return int(found[1])


def build(name: str, tensors: Mapping[str, Tensor]) -> Any:
    """Build a network without weights, for as many input channels as the weights have."""
    if name == LITE:
        return importlib.import_module("efficientnet_lite_pytorch").EfficientNet.from_name(name)
    from monai.networks import nets  # noqa: PLC0415 - slow to import

    channels = _channels(tensors)
    base, dimensions = name.removesuffix("-3d"), 3 if name.endswith("-3d") else 2
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
