"""Growth of a region of interest over its border into activity."""

import numpy as np
from scipy import ndimage

from bids_sr.glm.activation_regions import quarter_region
from bids_sr.io.arrays import Float, Mask, Real
from bids_sr.spatial.masks import grow

ACTIVE_CC = 0.5  # the paper's own limit of a voxel that follows the task
REACH_MM = 10.0


def ring(roi: Mask, mask: Mask, affine: Float, max_mm: float = REACH_MM) -> Mask:
    """Return voxels of the mask outside the ROI and no farther from it than max_mm.

    Surroundings of the region of interest (3D, boolean).
    """
    return grow(roi, affine, max_mm) & mask & ~roi


def grow_roi(roi: Mask, cc_map: Real, mask: Mask, affine: Float) -> tuple[Mask, float]:
    """Grow a region of interest (X, Y, Z) over its border into high correlation.

    Returns the region with what was added, and the CC from which a voxel was.

    The paper mended two misregistered motor areas by growing them and does not say by which rule.
    Ours follows one map, CC of the *acquired* series (the largest over conditions): all series
    share the grown region, and none can pull it towards itself. Voxels within `REACH_MM` are added
    where CC reaches max − (max − min)/4 over the ROI and its surroundings together (equation 2 of
    the paper there) and at least .5, and only where they hang together with the ROI, face to face,
    through surroundings with CC of at least .5. So the region grows by the activity that its
    border cuts, nothing is taken away, and where nothing is active nothing is added.

    Parameters
    ----------
    roi : Mask
        Voxels of the region of interest on the grid of the map (3D, boolean).
    cc_map : Real
        Largest correlation over conditions in the acquired series (3D).
    mask : Mask
        Voxels of the brain on the grid of the map (3D, boolean).
    affine : Float
        Voxel-to-world matrix of the map (4 x 4, RAS+ mm).

    Returns
    -------
    tuple[Mask, float]
        Grown region, number of voxels added, and CC from which on.

    Raises
    ------
    ValueError : the region has no voxel in the brain
    """
    inside = roi & mask
    if not inside.any():
        raise ValueError(
            "the region of interest does not overlap the brain mask, so active regions cannot "
            "be computed inside it"
        )
    around = ring(roi, mask, affine, REACH_MM)
    threshold = quarter_region(cc_map, inside | around)[1]
    level = max(ACTIVE_CC, ACTIVE_CC if threshold is None else threshold)
    path = around & (cc_map >= ACTIVE_CC)
    labels = ndimage.label(path | inside)[0]
    reached = np.isin(labels, np.unique(labels[inside]))
    return roi | (path & reached & (cc_map >= level)), level


def carry_over(added: Mask, affine: Float, roi: Mask, mask: Mask, hr_affine: Float) -> Mask:
    """Grow a high-resolution region by its voxels within those added on the low-resolution grid.

    `added` lies on the low-resolution grid, `roi` and `mask` on the other; affines are voxel to
    RAS mm, in one frame.

    `hr_affine`: voxel-to-world matrix of the high-resolution grid (4 x 4, RAS+ mm).
    """
    to_low = np.linalg.inv(affine) @ hr_affine
    points = np.indices(mask.shape).reshape(3, -1)
    # A center on the border of two low-resolution voxels (odd factors of 2) must not fall by
    # rounding noise
    index = np.floor(to_low[:3, :3] @ points + to_low[:3, 3:] + 0.5 + 1e-6).astype(int)
    within = ((index >= 0) & (index < np.array(added.shape)[:, None])).all(axis=0)
    values = np.zeros(points.shape[1], dtype=bool)
    values[within] = added[tuple(index[:, within])]
    return roi | (values.reshape(mask.shape) & mask)
