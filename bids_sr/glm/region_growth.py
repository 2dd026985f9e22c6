"""Growth of a region of interest across its border into activation."""

import numpy as np
from scipy import ndimage

from bids_sr.glm.activation_regions import quarter_region
from bids_sr.io.arrays import Float, MaskArray, Real
from bids_sr.spatial.masks import grow

ACTIVE_CC = 0.5
"""Limit of the paper for voxels that follow the task."""
REACH_MM = 10.0
"""Largest distance of added voxels from the region (mm)."""
_BORDER_OFFSET = 1e-6  # low-resolution voxels


def grow_roi(
    roi: MaskArray, cc_map: Real, mask: MaskArray, affine: Float
) -> tuple[MaskArray, float]:
    """Grow a region of interest (X, Y, Z) across its border into high correlation.

    The paper corrected two misregistered motor areas by growing them, without stating a rule. The
    rule here depends on one map, the CC of the *acquired* series (maximum over conditions), so
    that all series share the grown region and no series influences it. Voxels within `REACH_MM`
    are added if CC is at least max − (max − min)/4 over the ROI and its surroundings (equation 2
    of the paper) and at least .5, and if they are connected to the ROI by faces through
    surrounding voxels with CC of at least .5. The region therefore extends into activation that
    its border cuts. No voxels are removed, and no voxels are added without activation.

    Parameters
    ----------
    roi : MaskArray
        Voxels of the region of interest on the grid of the map (3D, boolean).
    cc_map : Real
        Largest correlation over conditions in the acquired series (3D).
    mask : MaskArray
        Voxels of the brain on the grid of the map (3D, boolean).
    affine : Float
        Voxel-to-world matrix of the map (4 x 4, RAS+ mm).

    Returns
    -------
    tuple[MaskArray, float]
        Grown region (3D, boolean), and the smallest CC of added voxels.

    Raises
    ------
    ValueError
        If the region has no voxel in the brain.
    """
    roi_in_brain = roi & mask
    if not roi_in_brain.any():
        raise ValueError(
            "the region of interest does not overlap the brain mask, so active regions cannot "
            "be computed inside it"
        )
    surroundings = select_ring(roi, mask, affine)
    _, threshold = quarter_region(cc_map, roi_in_brain | surroundings)
    limit = max(ACTIVE_CC, ACTIVE_CC if threshold is None else threshold)
    active_surroundings = surroundings & (cc_map >= ACTIVE_CC)
    labels, _ = ndimage.label(active_surroundings | roi_in_brain)
    is_connected = np.isin(labels, np.unique(labels[roi_in_brain]))
    return roi | (active_surroundings & is_connected & (cc_map >= limit)), limit


def select_ring(
    roi: MaskArray, mask: MaskArray, affine: Float, max_mm: float = REACH_MM
) -> MaskArray:
    """Return the mask voxels outside the ROI within `max_mm` of it (X, Y, Z, boolean)."""
    return grow(roi, affine, max_mm) & mask & ~roi


def transfer_growth(
    added_voxels: MaskArray, affine: Float, roi: MaskArray, mask: MaskArray, hr_affine: Float
) -> MaskArray:
    """Add the voxels of a low-resolution mask to a high-resolution region of interest.

    `added_voxels` were added on the low-resolution grid; `roi`, `mask` and the grown region, which
    is within the brain `mask`, are on the high-resolution grid. `affine` and `hr_affine` are the
    voxel-to-RAS-mm matrices of the two grids (4, 4) in the same frame.
    """
    hr_to_lr = np.linalg.inv(affine) @ hr_affine
    hr_indices = np.indices(mask.shape).reshape(3, -1)
    # For even factors, voxel centers are on the border of two low-resolution voxels; the offset
    # makes the assignment independent of rounding.
    lr_indices = np.floor(
        hr_to_lr[:3, :3] @ hr_indices + hr_to_lr[:3, 3:] + 0.5 + _BORDER_OFFSET
    ).astype(int)
    lr_shape = np.array(added_voxels.shape)[:, None]
    is_in_grid = ((lr_indices >= 0) & (lr_indices < lr_shape)).all(axis=0)
    is_added = np.zeros(hr_indices.shape[1], dtype=bool)
    is_added[is_in_grid] = added_voxels[tuple(lr_indices[:, is_in_grid])]
    return roi | (is_added.reshape(mask.shape) & mask)
