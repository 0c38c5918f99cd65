"""From CT, MR and PET files to volumes that say where they lie and what their numbers mean.

Three steps: `read_slice_headers` reads a file's header; `plan_series` sorts slices into stacks, without a look at any
pixel; `load_volume` decodes a stack, or some planes of it. `select` chooses one stack of a study.

Coordinates are LPS, in mm; an affine maps (column, row, slice, 1). Nothing is interpolated and nothing is made up:

=============================  ========================================================================================
what is found                  what is done
=============================  ========================================================================================
other patient, study, series,  another volume. Within one series the volumes are flagged ``split-series``
frame of reference, matrix,
orientation, pixel spacing,
echo or temporal position
slices sharing a position      other volumes, where a header value (image type, b-value, echo time, trigger time,
                               acquisition, ...) tells them apart: ``split-series``. Else, if their pixels are the same,
                               one is kept: ``duplicate-slices``; if not, refused when loaded: ``conflicting-slices``
missing slices                 flagged ``missing-slices``, with how many; those that are there keep their true positions
uneven spacing                 flagged ``uneven-spacing``. In both cases the affine goes evenly from the first slice to
                               the last; how far it is off in between is told, and `positions_lps` is exact
spacing over twice the         flagged ``sparse-slices``
thickness
gantry tilt                    sheared affine, flagged ``gantry-tilt``; ``tilt-mismatch`` where the
                               header and the positions differ
positions not on one line,     refused: ``scattered-slices``
or slanted over 45 degrees
localisers                     left out: ``localiser``
mosaics of slices              left out: ``mosaic``
no position, orientation or    refused: ``missing-geometry``; a file that is alone in its series is an image
pixel spacing
a single slice                 an image, if its series holds no volume; else left out: ``stray-slice``
damaged or impossible values   refused: ``bad-header``
pixel padding                  the value of nothing: -1000 HU, no activity; without a unit, the lowest of the slice
=============================  ========================================================================================

Units are described in `units`, the rules of selection in `selection`.
"""

from medfusion.modalities.imaging.volumes.geometry import AffineLPS, Finding, Geometry
from medfusion.modalities.imaging.volumes.header import SOP_CLASSES, SliceHeader, read_slice_headers
from medfusion.modalities.imaging.volumes.selection import Selected, select
from medfusion.modalities.imaging.volumes.series import Plan, Stack, plan_series
from medfusion.modalities.imaging.volumes.units import Unit
from medfusion.modalities.imaging.volumes.volume import MAX_VOXELS, Volume, load_volume

__all__ = [
    "MAX_VOXELS",
    "SOP_CLASSES",
    "AffineLPS",
    "Finding",
    "Geometry",
    "Plan",
    "Selected",
    "SliceHeader",
    "Stack",
    "Unit",
    "Volume",
    "load_volume",
    "plan_series",
    "read_slice_headers",
    "select",
]
