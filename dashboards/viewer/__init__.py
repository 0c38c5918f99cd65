"""Images in the browser: window, zoom, slices and the shares of regions, without a question to the server.

``frontend/`` holds the sources; ``make viewer`` bundles them, with Niivue, into ``static/``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from streamlit.components import v1 as components

from dashboards.language import _, current
from medfusion.core.views import ImageView

STATIC = Path(__file__).parent / "static"
_LARGEST = 2**15 - 1


def show(views: Sequence[ImageView], key: str) -> None:
    """Show images in one viewer, as plain pictures where it was not built.

    Parameters
    ----------
    views : sequence of ImageView
        At least one; the reader chooses among them.
    key : str
        Of the component: a viewer keeps its window, slice and zoom for as long as key and images stay the same.
    """
    if not (STATIC / "index.html").is_file():
        st.info(_("The image viewer is not built; these are plain pictures. Run: make viewer"))
        for view in views:
            index = view.strongest(1)[0]
            said = f"{view.title}, {view.names[index]}"
            st.image(view.grey(index), caption=said, alt=said)
        return
    viewer = components.declare_component("viewer", path=STATIC)
    viewer(**packed(views), texts=_texts(), language=current(), key=key, default=None)


def packed(views: Sequence[ImageView]) -> dict[str, Any]:
    """Return what the viewer needs of some images.

    Returns
    -------
    dict
        ``images`` (descriptions, for JSON), ``pixels`` (bytes: int16, one image after the other; a value is
        ``offset + step * pixel``), ``shares`` (bytes: float32) and ``digest`` (changes with any of them);
        little-endian, as in every browser.
    """
    scaled = [_scaled(view.pixels) for view in views]
    pixels = b"".join(stored.astype("<i2").tobytes() for stored, _, _ in scaled)
    shares = b"".join(view.heat.astype("<f4").tobytes() for view in views)
    images = [_described(view, step, offset) for view, (_, step, offset) in zip(views, scaled, strict=True)]
    digest = hashlib.blake2b(pixels + shares + repr(images).encode()).hexdigest()
    return {"images": images, "pixels": pixels, "shares": shares, "digest": digest}


def _scaled(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, float]:
    """Return whole numbers that fit into 16 bits, with the step between them and the value of 0."""
    low, high = float(values.min()), float(values.max())
    if max(-low, high) <= _LARGEST and np.array_equal(values, np.rint(values)):
        return values, 1.0, 0.0
    step, offset = (high - low) / (2 * _LARGEST) or 1.0, (low + high) / 2
    return np.rint((values - np.float32(offset)) / np.float32(step)), step, offset


def _described(view: ImageView, step: float, offset: float) -> dict[str, Any]:
    slices, height, width = view.pixels.shape
    strongest = view.strongest(1)[0]
    return {
        "title": view.title,
        "names": list(view.names),
        "height": height,
        "width": width,
        "rows": view.heat.shape[1],
        "columns": view.heat.shape[2],
        "step": step,
        "offset": offset,
        "low": float(view.pixels.min()),
        "high": float(view.pixels.max()),
        "window": list(view.window),
        "unit": view.unit,
        "first": strongest if np.nan_to_num(view.heat[strongest]).any() else slices // 2,
    }


def _texts() -> Mapping[str, str]:
    return {
        "title": _("Images"),
        "slice": _("Slice"),
        "window": _("Window"),
        "preset": _("Preset"),
        "file": _("As in the file"),
        "lung": _("Lung"),
        "soft": _("Soft tissue"),
        "bone": _("Bone"),
        "brain": _("Brain"),
        "own": _("Own"),
        "centre": _("Level"),
        "width": _("Width"),
        "shares": _("Shares of regions"),
        "heat": _("Heat map"),
        "opacity": _("Opacity"),
        "numbers": _("Largest shares"),
        "region": _("Region"),
        "share": _("Log-odds"),
        "logodds": _("log-odds"),
        "unseen": _("The model was not shown this slice."),
        "view": _("View"),
        "drag": _("Dragging"),
        "move": _("Move"),
        "zoom": _("Zoom"),
        "reset": _("Reset"),
        "value": _("Value"),
        "place": _("row {row}, column {column}"),
        "help": _("Mouse and keys"),
        "keys": _(
            "Drag: window. Shift and drag, or another button: move. Wheel: slice, or zoom for a film; with Ctrl: zoom. "
            "Arrow keys: window; with Shift: move. Page up and down, Home, End: slice. + and -: zoom. "
            "H: heat map. R: reset."
        ),
    }
