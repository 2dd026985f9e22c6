"""Voxelwise correlation of two images."""

import numpy as np
from scipy import stats

from bids_sr.io.arrays import MaskArray, Real
from bids_sr.io.frozen import frozen


@frozen
class VoxelCorrelation:
    """Pearson and Spearman correlation of two images, with the least-squares line.

    The line is ``second = slope * first + intercept``; `slope` is in units of the second image per
    unit of the first. `p_independent` is the two-sided p value of `r` with every voxel counted as
    an independent observation. Neighboring voxels are not independent, so this p value is far too
    small; it is reported because papers report it.
    """

    r: float
    rho: float
    slope: float
    intercept: float
    voxels: int
    p_independent: float


def correlate_voxels(first: Real, second: Real, mask: MaskArray) -> VoxelCorrelation:
    """Correlate two images over the voxels of a mask (mouse-sr, figure 6F and G).

    Images are on one grid, in any units, and `mask` selects the voxels to compare (same shape).
    Raises `ValueError` if the mask has fewer than three voxels, or if an image has non-finite
    values or is constant within the mask.
    """
    x, y = (np.asarray(image[mask], dtype=np.float64) for image in (first, second))
    if len(x) < 3:
        raise ValueError(
            f"a correlation requires at least 3 voxels, but the mask contains {len(x)}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("at least one image contains NaN or infinite values within the mask")
    if not (np.ptp(x) > 0 and np.ptp(y) > 0):
        raise ValueError("at least one image is constant within the mask")
    line = stats.linregress(x, y)
    return VoxelCorrelation(
        r=float(line.rvalue),
        rho=float(stats.spearmanr(x, y).statistic),
        slope=float(line.slope),
        intercept=float(line.intercept),
        voxels=len(x),
        p_independent=float(line.pvalue),
    )
