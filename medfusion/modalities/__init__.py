"""One folder per kind of data. A folder that offers ``MODALITY`` is found; nothing else has to be changed."""

from __future__ import annotations

import importlib
import pkgutil

from medfusion.core.protocols import Modality


def discover() -> dict[str, type[Modality]]:
    """Find the modalities, by name.

    Examples
    --------
    >>> sorted(discover())[:3]
    ['ehr', 'imaging', 'notes']
    """
    found: dict[str, type[Modality]] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        if module.ispkg:
            found[module.name] = importlib.import_module(f"{__name__}.{module.name}").MODALITY
    return found
