"""Region growing of a region of interest that activity leaves at its border.

The paper mended two misregistered motor areas by growing them and does not say by which rule. Ours follows one map,
that of the acquired series: all series share the grown region, and none can pull it towards itself.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bids_sr.spatial.masks import grow
from bids_sr.stats.regions.activation_regions import Map, Mask, quarter_region

ACTIVE_CC = 0.5  # the paper's own limit of a voxel that follows the task
REACH_MM = 10.0
Affine = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Grown:
    """A grown region."""

    roi: Mask  # (X, Y, Z) the region as given and what was added
    added: int  # voxels added
    level: float  # CC from which a voxel was added


def ring(roi: Mask, mask: Mask, affine: Affine, max_mm: float = REACH_MM) -> Mask:
    """Voxels of the mask outside the ROI and no farther from it than max_mm."""
    return grow(roi, affine, max_mm) & mask & ~roi


def grow_roi(roi: Mask, cc_map: Map, mask: Mask, affine: Affine, max_mm: float = REACH_MM) -> Grown:
    """Grow a region of interest over its border into high correlation.

    Parameters
    ----------
    roi, mask : (X, Y, Z) region of interest and brain
    cc_map : (X, Y, Z) correlation of the *acquired* series with the task; the largest over conditions where there are
        several
    affine : voxel to RAS mm
    max_mm : no voxel farther from the ROI is added

    Returns
    -------
    Voxels are added where CC reaches max − (max − min)/4 over the ROI and its surroundings together (equation 2 of the
    paper there) and at least .5, and only where they hang together with the ROI, face to face, through surroundings
    with CC of at least .5. So the region grows by the activity that its border cuts, nothing is taken away, and where
    nothing is active nothing is added.

    Raises
    ------
    ValueError : the region has no voxel in the brain
    """
    inside = roi & mask
    if not inside.any():
        raise ValueError("the region of interest has no voxel in the brain: there is nothing to grow from")
    around = ring(roi, mask, affine, max_mm)
    threshold = quarter_region(cc_map, inside | around)[1]
    level = max(ACTIVE_CC, ACTIVE_CC if threshold is None else threshold)
    path = around & (cc_map >= ACTIVE_CC)
    labels = ndimage.label(path | inside)[0]
    reached = np.isin(labels, np.unique(labels[inside]))
    added = path & reached & (cc_map >= level)
    return Grown(roi=roi | added, added=int(added.sum()), level=level)


def carry_over(added: Mask, affine: Affine, roi: Mask, mask: Mask, fine_affine: Affine) -> Mask:
    """A region on a finer grid with the voxels added on the coarse one, each fine voxel by the coarse one it lies in.

    Parameters
    ----------
    added : (X, Y, Z) on the coarse grid
    affine, fine_affine : voxel to RAS mm, one frame
    roi, mask : (X', Y', Z') region and brain on the fine grid
    """
    to_coarse = np.linalg.inv(affine) @ fine_affine
    points = np.indices(mask.shape).reshape(3, -1)
    # A center on the border of two coarse voxels (odd factors of 2) must not fall by rounding noise
    index = np.floor(to_coarse[:3, :3] @ points + to_coarse[:3, 3:] + 0.5 + 1e-6).astype(int)
    within = ((index >= 0) & (index < np.array(added.shape)[:, None])).all(axis=0)
    values = np.zeros(points.shape[1], dtype=bool)
    values[within] = added[tuple(index[:, within])]
    return roi | (values.reshape(mask.shape) & mask)
