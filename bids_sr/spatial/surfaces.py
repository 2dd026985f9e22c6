"""Sampling of maps on cortical surfaces, averaged across the cortical ribbon."""

import warnings
from collections.abc import Iterable, Iterator

import numpy as np

from bids_sr.io.arrays import Array, Float32, MaskArray

# Vertices (N, 3; RAS+ mm), and the vertex numbers of each triangle (F, 3).
_Mesh = tuple[Array, Array]
# fraction of the ribbon inside the brain mask below which a vertex has no value
_MIN_RIBBON_FRACTION = 0.25


def ribbon_means(
    maps: Iterable[Array], mask: MaskArray, affine: Array, white: _Mesh, pial: _Mesh
) -> Iterator[Float32]:
    """Average maps between the white and the pial surface at each vertex.

    Maps are interpolated linearly. Voxels outside the brain mask are excluded from the average, so
    that values at the edge of the brain are not biased towards 0.

    Parameters
    ----------
    maps : Iterable[Array]
        Maps on one grid, 0 outside the brain (3D each).
    mask : MaskArray
        Brain voxels (3D).
    affine : Array
        Voxel-to-world matrix of the grid in the frame of the surfaces (4 x 4, RAS+ mm).
    white, pial : _Mesh
        Inner and outer surface, with the same vertices and triangles.

    Yields
    ------
    Float32
        Values at the vertices (N,); NaN if less than a quarter of the ribbon is in the mask.
    """
    mask_fraction = _average_ribbon(mask, affine, white, pial)
    mask_fraction[~(mask_fraction >= _MIN_RIBBON_FRACTION)] = np.nan
    for values in maps:
        ribbon_mean = _average_ribbon(values, affine, white, pial)
        yield (ribbon_mean / mask_fraction).astype(np.float32)


def _average_ribbon(values: Array, affine: Array, white: _Mesh, pial: _Mesh) -> Array:
    """Average a map (3D) between two surfaces at each vertex (N,); NaN beyond the grid."""
    from nibabel.nifti1 import Nifti1Image
    from nilearn.surface import vol_to_surf

    image = Nifti1Image(np.asarray(values, dtype=np.float32), affine)
    with warnings.catch_warnings():
        # nilearn warns of vertices beyond the grid, whose value is NaN on purpose
        warnings.simplefilter("ignore", RuntimeWarning)
        return vol_to_surf(image, pial, inner_mesh=white)
