"""Views on the screen, by kind: a modality that is added appears without a change here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

from dashboards.renderers.series import render_series
from dashboards.renderers.texts import render_texts
from dashboards.renderers.waterfall import waterfall
from dashboards.viewer import show
from medfusion.core.views import ImageView, SeriesView, TextView, View

__all__ = ["render", "render_all", "waterfall"]


@singledispatch
def render(view: View, key: str) -> None:
    """Draw a view.

    Parameters
    ----------
    view : View
    key : str
        Begins the keys of the widgets, and is unique on the page.

    Raises
    ------
    TypeError
        If there is no renderer for this kind.
    """
    raise TypeError(f"there is no renderer for {type(view).__name__}; register one with render.register")


@render.register
def _image(view: ImageView, key: str) -> None:
    show([view], key)


render.register(SeriesView, render_series)
render.register(TextView, render_texts)


def render_all(views: Sequence[View], key: str) -> None:
    """Draw the views of a modality: its images in one viewer, then the others one after the other."""
    images = [view for view in views if isinstance(view, ImageView)]
    if images:
        show(images, f"{key}-images")
    for number, view in enumerate(view for view in views if not isinstance(view, ImageView)):
        render(view, f"{key}-{number}")
