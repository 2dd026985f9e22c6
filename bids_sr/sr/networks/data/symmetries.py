"""Symmetries of training windows.

An axis may be reversed, and axes with equal voxel size, patch size and factor may be exchanged.
Both map voxel centers onto voxel centers on both grids and therefore commute with the degradation.
Other rotations and deformations would require interpolation, which blurs the target.
"""

from collections.abc import Sequence
from itertools import permutations, product
from typing import NamedTuple

import numpy as np
from torch import Tensor

from bids_sr.sr.operators import DEGRADATIONS

Symmetry = tuple[tuple[int, ...], tuple[bool, ...]]
"""Exchange of axes (order) followed by reversals (reverse).

Axis k of the result is axis order[k] of the image, reversed if reverse[k] is true.
"""


class _Axis(NamedTuple):
    """Axis of a window: voxels, voxel size (mm), factor and name of the degradation matrix."""

    side: int
    zoom: float
    factor: float
    matrix: str


def list_symmetries(
    sides: Sequence[int],
    zooms: Sequence[float],
    factor: Sequence[float],
    degradation: str = "kspace",
) -> tuple[Symmetry, ...]:
    """Return the flips and axis exchanges of a window that are valid for its acquisition.

    A 2D or 3D window has 8 or 48 symmetries if all axes are equal, and 4 or 8 if no two axes are
    equal.

    `sides` (voxels), `zooms` (mm) and `factor` are along each axis of the window. Voxel sizes that
    differ by at most one part in a thousand count as equal. Axes along which the degradation
    differs are not exchanged.
    """
    matrices = DEGRADATIONS[degradation][: len(sides)]
    axes = [_Axis(*fields) for fields in zip(sides, zooms, factor, matrices, strict=True)]
    orders = [
        order
        for order in permutations(range(len(axes)))
        if all(_are_exchangeable(axes[k], axes[axis]) for k, axis in enumerate(order))
    ]
    return tuple(product(orders, product((False, True), repeat=len(axes))))


def _are_exchangeable(first: _Axis, second: _Axis) -> bool:
    """Return whether the acquisition is the same along both axes."""
    return (
        first.side == second.side
        and abs(first.zoom - second.zoom) <= 1e-3 * first.zoom
        and abs(first.factor - second.factor) < 1e-6
        and first.matrix == second.matrix
    )


def apply_symmetry(image: Tensor, symmetry: Symmetry, *, inverse: bool = False) -> Tensor:
    """Apply a symmetry to images, or its inverse if `inverse` is true.

    The result is a view of the image unless axes are reversed. Images or windows are (..., *grid).
    Axes are exchanged first, then reversed.
    """
    order, reverse = symmetry
    n_leading = image.ndim - len(order)  # axes before the spatial axes
    leading_axes = range(n_leading)
    reversed_axes = [n_leading + k for k, is_reversed in enumerate(reverse) if is_reversed]
    if inverse:
        unreversed_image = image.flip(reversed_axes) if reversed_axes else image
        source_axes = (n_leading + int(k) for k in np.argsort(order))
        return unreversed_image.permute(*leading_axes, *source_axes)
    exchanged_image = image.permute(*leading_axes, *(n_leading + k for k in order))
    return exchanged_image.flip(reversed_axes) if reversed_axes else exchanged_image
