"""An application that shows a film and a volume, of which the tests know every value."""

import numpy as np

from medfusion.core.views import ImageView

SLICES = 12


def film() -> ImageView:
    """Return a film of 4 x 4 even blocks with 16 grey values, and a share for each."""
    blocks = 1000.0 + 100.0 * np.arange(16).reshape(4, 4)
    pixels = np.kron(blocks, np.ones((128, 128))).astype(np.float32)[None]
    heat = (np.arange(16).reshape(1, 4, 4) - 7.5) / 20
    return ImageView("film 1, 2020-01-31 09:00", pixels, heat, (1750.0, 2000.0), "", ["film 1"])


def volume() -> ImageView:
    """Return slices that get brighter one by one; the model was shown every other one."""
    pixels = np.ones((SLICES, 64, 64), np.float32) * (20.0 * np.arange(SLICES) - 100)[:, None, None]
    heat = np.full((SLICES, 2, 2), np.nan)
    heat[::2] = 0.01
    heat[4] = 0.5
    names = [f"slice {number} of {SLICES}" for number in range(1, SLICES + 1)]
    return ImageView("volume, 2020-01-31 09:00", pixels, heat, (0.0, 400.0), "HU", names)


if __name__ == "__main__":
    from dashboards.viewer import show

    show([film(), volume()], "images")
