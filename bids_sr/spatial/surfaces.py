"""Maps on cortical surfaces, averaged across the ribbon."""

import warnings
from collections.abc import Iterable, Iterator

import numpy as np

from bids_sr.io.arrays import Array, Float32, Mask

_Mesh = tuple[Array, Array]
"""Vertices (N, 3; RAS+ mm), and those of each triangle (F, 3)."""
_LEAST = 0.25
"""Share of the ribbon in the brain below which a vertex has no value."""


def ribbon_means(
    maps: Iterable[Array], mask: Mask, affine: Array, white: _Mesh, pial: _Mesh
) -> Iterator[Float32]:
    """Average maps between the white and the pial surface, at every vertex.

    Maps are interpolated linearly. What lies outside the brain is 0 in them, and is left out of
    the average, so that values at the edge of the brain are not too small.

    Parameters
    ----------
    maps : Iterable[Array]
        Maps on one grid, 0 outside the brain (3D each).
    mask : Mask
        Voxels of the brain (3D).
    affine : Array
        Voxel-to-world matrix of the grid in the frame of the surfaces (4 x 4, RAS+ mm).
    white, pial : _Mesh
        Inner and outer surface, with the same vertices and triangles.

    Yields
    ------
    Float32
        Values at the vertices (N,); NaN where less than a quarter of the ribbon was measured.
    """
    from nibabel.nifti1 import Nifti1Image
    from nilearn.surface import vol_to_surf

    def averaged(values: Array) -> Array:
        image = Nifti1Image(np.asarray(values, dtype=np.float32), affine)
        with warnings.catch_warnings():
            # of vertices beyond the grid, which are to be NaN
            warnings.simplefilter("ignore", RuntimeWarning)
            return vol_to_surf(image, pial, inner_mesh=white)

    share = averaged(mask)
    share[~(share >= _LEAST)] = np.nan
    for values in maps:
        yield (averaged(values) / share).astype(np.float32)
