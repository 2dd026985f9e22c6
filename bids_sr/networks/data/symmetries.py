"""Symmetries of training windows.

An axis may be reversed, and axes with equal voxel size, patch size and factor may be exchanged.
Both map voxel centers onto voxel centers on both grids and therefore commute with the degradation.
Other rotations and deformations would require interpolation, which blurs the target.
"""

from collections.abc import Sequence
from itertools import permutations, product

import numpy as np
from torch import Tensor

from bids_sr.sr.operators import matrix_names

Symmetry = tuple[tuple[int, ...], tuple[bool, ...]]
"""Exchange of axes (order) followed by reversals (reverse).

Axis k of the result is axis order[k] of the image, reversed if reverse[k] is true.
"""


def symmetries(
    patch_sides: Sequence[int],
    zooms: Sequence[float],
    factor: Sequence[float],
    degradation: str = "kspace",
) -> tuple[Symmetry, ...]:
    """Return the flips and axis exchanges of a window that are valid for its acquisition.

    A 2D or 3D window has 8 or 48 symmetries if all axes are equal, and 4 or 8 if no two axes are
    equal.

    Parameters
    ----------
    patch_sides, zooms, factor : Sequence[float]
        Side length of the window (voxels), voxel size (mm) and factor along each axis. Voxel sizes
        that differ by at most one part in a thousand count as equal.
    degradation : str, optional
        Name of the degradation. Axes along which the degradation differs are not exchanged.
    """
    acts = matrix_names(degradation)[: len(patch_sides)]
    axes = list(zip(patch_sides, zooms, factor, acts, strict=True))
    exchangeable = [
        [n == m and abs(z - y) <= 1e-3 * z and abs(f - g) < 1e-6 and a == b for m, y, g, b in axes]
        for n, z, f, a in axes
    ]
    orders = [
        order
        for order in permutations(range(len(axes)))
        if all(exchangeable[k][axis] for k, axis in enumerate(order))
    ]
    return tuple(product(orders, product((False, True), repeat=len(axes))))


def apply_symmetry(image: Tensor, symmetry: Symmetry, *, back: bool = False) -> Tensor:
    """Apply a symmetry to images, or its inverse if `back` is true.

    The result is a view of the image unless axes are reversed.

    Parameters
    ----------
    image : Tensor
        Images or windows (..., *grid).
    symmetry : Symmetry
        Exchange of axes, followed by reversals.
    back : bool, optional
        Whether the inverse is applied.
    """
    order, reverse = symmetry
    first = image.ndim - len(order)
    axes = [first + k for k, flipped in enumerate(reverse) if flipped]
    if back and axes:
        image = image.flip(axes)
    source_axes = np.argsort(order) if back else order
    image = image.permute(*range(first), *(first + int(k) for k in source_axes))
    return image.flip(axes) if axes and not back else image
