"""Lesions of the white matter (white-matter hyperintensities) of a simulated head.

Lesions are ellipsoids with rough borders in deep white matter. They replace white matter only, so
that gray matter, and with it the activation, is the same as without lesions. Number, size and
location are our choice; the lesions of patients also touch the ventricles and the cortex.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from scipy import ndimage

from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume
from bids_sr.phantom.fields import smooth_field, smooth_step
from bids_sr.phantom.head import Head, deform_maps, load_template_maps

_MEDIAN_RADIUS_MM = 3.5  # median of the mean radius
_MIN_RADIUS_MM, _MAX_RADIUS_MM = 2.0, 7.0  # range of the mean radius
_RADIUS_LOG_SD = 0.4  # standard deviation of the logarithm of the radius
_AXIS_LOG_SD = 0.2  # standard deviation of the logarithm of each axis relative to the radius
_BORDER_SD = 0.2  # standard deviation of the border, relative to the radius
_BORDER_SMOOTHING_MM = 2.5  # standard deviation of the Gaussian that smooths the rough border
_MIN_DEPTH_MM = 5.0  # smallest distance of a center from the border of the white matter
_MIN_LOCATION_DEPTH_MM = 2.0  # the same for possible locations
_MIN_HEIGHT_MM = 0.0  # z coordinate in the template, above brain stem and cerebellum


def map_lesion_locations() -> Volume:
    """Return the possible lesion locations in the template (3D, boolean; voxels of 2 mm).

    The map contains more locations than `add_lesions` uses, like a map of the lesions of many
    patients.
    """
    depth, affine = _measure_white_matter_depth()
    is_deep = (depth >= _MIN_LOCATION_DEPTH_MM)[::2, ::2, ::2]
    return Volume(is_deep, affine @ np.diag([2.0, 2.0, 2.0, 1.0]))


def add_lesions(rng: np.random.Generator, head: Head, count: int) -> Head:
    """Return a head with lesions in place of part of the white matter.

    The lesions may touch each other.
    """
    depth, template_affine = _measure_white_matter_depth()
    (depth_in_head,) = deform_maps((depth,), template_affine, head.affine, head.deformation)
    voxel_mm = float(head.affine[0, 0])
    white_matter = head.fractions["wm"]
    centers = np.argwhere((depth_in_head >= _MIN_DEPTH_MM) & (white_matter > 0.5))
    border = smooth_field(rng, white_matter.shape, _BORDER_SMOOTHING_MM / voxel_mm)
    lesion = np.zeros_like(white_matter)
    for center in centers[rng.choice(len(centers), count, replace=False)]:
        radius_mm = _MEDIAN_RADIUS_MM * np.exp(_RADIUS_LOG_SD * rng.normal())
        radius_mm = float(np.clip(radius_mm, _MIN_RADIUS_MM, _MAX_RADIUS_MM))
        semi_axes_mm = radius_mm * np.exp(_AXIS_LOG_SD * rng.normal(size=3))
        # the rough border is inside an ellipsoid of twice the size
        half_widths = np.ceil(2 * semi_axes_mm / voxel_mm).astype(int)
        window = tuple(
            slice(max(0, center_voxel - half_width), center_voxel + half_width + 1)
            for center_voxel, half_width in zip(center, half_widths, strict=True)
        )
        offsets = np.ogrid[window]
        relative_distance = np.sqrt(
            sum(
                (voxel_mm * (offset - center_voxel) / semi_axis_mm) ** 2
                for offset, center_voxel, semi_axis_mm in zip(
                    offsets, center, semi_axes_mm, strict=True
                )
            )
        )
        distance_mm = radius_mm * (relative_distance - 1 + _BORDER_SD * border[window])
        lesion[window] = np.maximum(lesion[window], smooth_step(distance_mm, 0.25 * voxel_mm))
    fractions = {
        **head.fractions,
        "wm": white_matter * (1 - lesion),
        "lesion": white_matter * lesion,
    }
    return replace(head, fractions=fractions)


@lru_cache(maxsize=1)
def _measure_white_matter_depth() -> tuple[Array, Array]:
    """Return the distance from the border of the cerebral white matter, and the affine.

    The distance (mm) is 0 outside the white matter and below `_MIN_HEIGHT_MM`.
    """
    (_, white_matter, _), affine = load_template_maps()
    depth = ndimage.distance_transform_edt(white_matter > 0.5).astype(np.float32)
    height = affine[2, 3] + affine[2, 2] * np.arange(white_matter.shape[2])
    return depth * (height > _MIN_HEIGHT_MM), affine
