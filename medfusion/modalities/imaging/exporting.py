"""The frozen network in files that other software runs, with what it has to be shown described beside it."""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfusion.core.errors import MissingExtra, UsageError
from medfusion.modalities.imaging.reader import FilmReader

if TYPE_CHECKING:
    from medfusion.modalities.imaging.network import Features

_FILM_STEPS = (
    "stored values to grey by the DICOM grayscale pipeline (PS3.3 C.11): modality LUT or rescale, the first VOI LUT or "
    "window (without one: 8-bit images over their full range, others from their 0.5th to their 99.5th percentile)",
    "MONOCHROME1 inverted, colour as luma; 0 is black, 1 is white",
    "reduced by averaging over areas, proportions kept, and centred in a black square of the input's side",
)
_VOLUME_STEP = "slices in the order of the volume, brought to a cube by averaging (enlarging: trilinear)"


def export_network(reader: FilmReader, form: str, out: Path, about: Mapping[str, str]) -> list[Path]:
    """Write the network.

    Parameters
    ----------
    reader : FilmReader
    form : {"onnx", "openvino", "monai-bundle"}
    out : Path
        A folder; made if it is not there.
    about : mapping
        What else the description says, such as the id of the model.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    UsageError
        If there is no such format.
    MissingExtra
        If the format's library is not installed.
    """
    if form not in _WRITERS:
        raise UsageError(f"--format is {form!r}; it can be {', '.join(_WRITERS)}")
    package, extra, write = _WRITERS[form]
    if importlib.util.find_spec(package) is None:
        raise MissingExtra(package, extra)
    features = reader.backbone.features()
    out.mkdir(parents=True, exist_ok=True)
    return write(features, description(reader, about), out)


def description(reader: FilmReader, about: Mapping[str, str]) -> dict[str, Any]:
    """Say what the network is shown and what it gives, as JSON values."""
    backbone, size, grid = reader.backbone, reader.size, reader.grid
    axes = 3 if backbone.sees_volumes else 2
    joined = {"filters": "fixed filters join the embedding; they are not in this file"} if backbone.filter_scale else {}
    return {
        **about,
        **reader.identity(),
        "input": {"name": "pictures", "shape": [1, 1, *[size] * axes], "dtype": "float32", "range": [0.0, 1.0]},
        "output": {"name": "maps", "shape": [1, backbone.network_dimensions, *[grid] * axes], "dtype": "float32"},
        "embedding": "the mean of maps over their positions",
        "preparation": [*_FILM_STEPS, *([_VOLUME_STEP] if axes == 3 else [])],
        "normalisation": "inside the network: it takes grey as it is",
        "not_here": ["heads and calibration: they are in the model folder", *joined.values()],
        "use": "research use only; not a medical device",
    }


def _shape(said: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(said["input"]["shape"][2:])


def _write_onnx(features: Features, said: Mapping[str, Any], out: Path) -> list[Path]:
    from medfusion.modalities.imaging.backends.onnxruntime import write_onnx  # noqa: PLC0415 - slow to import

    write_onnx(features, _shape(said), out / "network.onnx")
    return [out / "network.onnx", _write_json(out / "network.json", said)]


def _write_openvino(features: Features, said: Mapping[str, Any], out: Path) -> list[Path]:
    import openvino  # noqa: PLC0415 - an extra

    from medfusion.modalities.imaging.backends.openvino import converted  # noqa: PLC0415 - slow to import

    openvino.save_model(converted(features, _shape(said)), out / "network.xml", compress_to_fp16=False)
    return [out / "network.xml", out / "network.bin", _write_json(out / "network.json", said)]


def _write_bundle(features: Features, said: Mapping[str, Any], out: Path) -> list[Path]:
    """Write a MONAI bundle (https://docs.monai.io/en/stable/mb_specification.html) around a TorchScript file."""
    import torch  # noqa: PLC0415 - slow to import

    for name in ("configs", "models"):
        (out / name).mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jit: Any = torch.jit
        traced = jit.trace(features, torch.zeros(said["input"]["shape"]))
        traced.save(str(out / "models" / "model.ts"))
    return [
        out / "models" / "model.ts",
        _write_json(out / "configs" / "metadata.json", _bundle_metadata(said)),
        _write_json(out / "configs" / "inference.json", _bundle_inference(said)),
    ]


def _bundle_metadata(said: Mapping[str, Any]) -> dict[str, Any]:
    def array(each: Mapping[str, Any], channels: Mapping[str, str]) -> dict[str, Any]:
        return {
            "type": "image",
            "format": "magnitude",
            "modality": "n/a",
            "num_channels": each["shape"][1],
            "spatial_shape": each["shape"][2:],
            "dtype": each["dtype"],
            "value_range": each.get("range", []),
            "is_patch_data": False,
            "channel_def": dict(channels),
        }

    return {
        "version": "1.0.0",
        "changelog": {"1.0.0": "exported by medfusion"},
        "monai_version": metadata.version("monai"),
        "pytorch_version": metadata.version("torch").partition("+")[0],
        "numpy_version": metadata.version("numpy"),
        "optional_packages_version": {},
        "task": "Image embedding",
        "description": f"The frozen image network {said['backbone']} of a medfusion model.",
        "authors": "see the model card",
        "copyright": "that of the network's weights",
        "intended_use": said["use"],
        "network_data_format": {
            "inputs": {"image": array(said["input"], {"0": "grey, 0 black to 1 white"})},
            "outputs": {"pred": array(said["output"], {"0": "feature"})},
        },
        "medfusion": dict(said),
    }


def _bundle_inference(said: Mapping[str, Any]) -> dict[str, Any]:
    axes = ", ".join(str(axis) for axis in range(2, len(said["input"]["shape"])))
    return {
        "imports": ["$import torch"],
        "bundle_root": ".",
        "picture": "$@bundle_root + '/picture.npy'",
        "network_def": {
            "_target_": "torch.jit.load",
            "f": "$@bundle_root + '/models/model.ts'",
            "map_location": "cpu",
        },
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImage", "reader": "NumpyReader", "image_only": True},
                {"_target_": "EnsureChannelFirst", "channel_dim": "no_channel"},
                {"_target_": "EnsureType", "dtype": "$torch.float32", "track_meta": False},
            ],
        },
        "embedding": f"$@network_def(@preprocessing(@picture)[None]).mean(dim=({axes}))",
        "run": ["$print(@embedding)"],
    }


def _write_json(path: Path, values: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


_Writer = Callable[["Features", Mapping[str, Any], Path], list[Path]]
_WRITERS: Mapping[str, tuple[str, str, _Writer]] = {
    "onnx": ("onnx", "onnx", _write_onnx),
    "openvino": ("openvino", "openvino", _write_openvino),
    "monai-bundle": ("monai", "", _write_bundle),
}
