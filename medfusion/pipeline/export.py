"""The frozen network of a model, for other software."""

from __future__ import annotations

from pathlib import Path

from medfusion import __version__
from medfusion.core.errors import UsageError
from medfusion.core.protocols import Backends
from medfusion.pipeline.model_folder import load_for


def export(model_folder: Path, out: Path, form: str) -> list[Path]:
    """Write the network of a model's images, with what it has to be shown described beside it.

    Parameters
    ----------
    model_folder, out : Path
    form : {"onnx", "openvino", "monai-bundle"}

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    UsageError
        If the model has no network, or there is no such format.
    MissingExtra
        If the format's library is not installed.
    """
    model = load_for(model_folder, None)
    about = {"model_id": model.model_id, "task": model.task, "medfusion": __version__}
    for modality in model.modalities.values():
        if isinstance(modality, Backends) and modality.backends(modality.reference):
            return modality.export(form, out, about)
    raise UsageError(f"{model_folder.name} has no frozen network that could be exported")
