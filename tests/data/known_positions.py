"""Images with known positions, and degradations, for sr tests."""

import numpy as np

from bids_sr.spatial import matrices

AFFINE = np.array([[-3.0, 0, 0.1, 100], [0, 2.5, 0.2, -80], [0.05, 0, 3.5, 7], [0, 0, 0, 1]])


def blob(shape, center, width):
    """Return a Gaussian of the given width (voxels of the grid) at a center."""
    grid = np.indices(shape, dtype=float)
    return np.exp(
        -0.5 * sum(((g - c) / w) ** 2 for g, c, w in zip(grid, center, width, strict=True))
    )


def centroid_mm(image, affine):
    """Return the intensity-weighted center in mm."""
    weights = image / image.sum()
    voxel = [float((weights * g).sum()) for g in np.indices(image.shape, dtype=float)]
    return (affine @ [*voxel, 1])[:3]


def block_mean(hr, affine, *, factor):
    """Average over the low-resolution voxels."""
    return matrices.degrade(hr, affine, factor, lambda _, n, m: matrices.block_matrix(n, m))


def gaussian_decimate(hr, affine, *, factor):
    """Blur with a Gaussian as wide as the low-resolution voxel, then sample its center."""
    return matrices.degrade(hr, affine, factor, lambda _, n, m: matrices.gaussian_matrix(n, m))
