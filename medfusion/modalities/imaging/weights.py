"""Weights from local files, matched tensor by tensor to a network; nothing is downloaded, nothing in them is run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfusion.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

_HEADS = ("classifier.", "class_layers.", "fc.", "_fc.", "op_threshs")
"""What follows the feature extractor, in the networks and in the files; it is not used."""


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file.

    Parameters
    ----------
    path : Path
        ``.safetensors``, or a state dict as written by ``torch.save``; one inside of ``{"state_dict": ...}`` is found.

    Returns
    -------
    dict from name to tensor
        Without a common prefix such as ``module.`` or ``model.``.

    Raises
    ------
    UsageError
        If the file is damaged, or holds more than tensors and would have to run code to be read.
    """
    import torch  # noqa: PLC0415 - slow to import
    from safetensors.torch import load_file  # noqa: PLC0415 - slow to import

    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UsageError(
            f"the weights {path.name} cannot be read as plain tensors ({type(error).__name__}); save them with "
            "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        ) from None
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    tensors = {str(name): value for name, value in found.items() if torch.is_tensor(value)}
    return _without_prefix(tensors)


def _without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Strip what wrappers put before every name."""
    prefix = re.compile(r"^(module\.|model\.|backbone\.|encoder\.|densenet\d+\.(?=features|classifier))+")
    return {prefix.sub("", name): value for name, value in tensors.items()}


def load_into(network: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Fill a network's feature extractor; every one of its tensors has to be there, and none may be left over.

    Batch counters (``num_batches_tracked``) may be absent; they play no part in inference.

    Raises
    ------
    UsageError
        Naming what is missing, left over or of another shape.
    """
    wanted = {name: value for name, value in network.state_dict().items() if not name.startswith(_HEADS)}
    given = {name: value for name, value in tensors.items() if not name.startswith(_HEADS)}
    missing = [name for name in wanted if name not in given and not name.endswith("num_batches_tracked")]
    extra = [name for name in given if name not in wanted]
    shaped = [name for name in wanted if name in given and wanted[name].shape != given[name].shape]
    faults = (("missing", missing), ("not part of the network", extra), ("of another shape", shaped))
    said = [f"{len(names)} {what} ({', '.join(names[:3])}, ...)" for what, names in faults if names]
    if said:
        raise UsageError(f"the weights {source} do not fit the network: tensors {'; '.join(said)}")
    network.load_state_dict(given, strict=False)


def densenet_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a DenseNet's tensors from torchvision's layout, old or new, to MONAI's.

    Examples
    --------
    >>> list(densenet_names({"features.denseblock1.denselayer1.norm.1.weight": None}))
    ['features.denseblock1.denselayer1.layers.norm1.weight']
    """
    layer = re.compile(r"(\.denselayer\d+)\.(?:layers\.)?(norm|conv)\.?([12])\.")
    return {layer.sub(r"\1.layers.\2\3.", name): value for name, value in tensors.items()}
