"""Sliding-window inference: application of a network in overlapping patches, without seams.

Along each axis, the weight of a patch decreases over the overlap with its neighbor; the weights of
all patches sum to 1 at every voxel. The outermost voxels of a patch are affected by the network's
padding and can be excluded (`margin`), except at the image border. The blending rule is ours.

With its own weights, MONAI's `sliding_window_inference` errs by up to 1.6 SD of the output at
seams; given our margins as `roi_weight_map`, it is as exact and as fast as this module, but it
would be a dependency for this module alone.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from bids_sr.spatial.matrices import ResolutionError


def apply_in_patches(
    network: Callable[[Tensor], Tensor],
    volume: Tensor,
    *,
    patch: int | Sequence[int],
    overlap: int,
    margin: int = 0,
) -> Tensor:
    """Apply a network to a whole image, patch by patch.

    `network` maps (1, C, *patch) to (1, C_out, *patch), and `volume` has two or three spatial axes
    (C, *grid). `patch` is the side of the patches (voxels), or one side per axis; sides are
    limited to the image size. `overlap` is the smallest overlap of neighboring patches (voxels),
    less than the patch side. `margin` voxels are excluded at the inner edges of each patch, less
    than half the overlap. If the margin is the radius of the network's receptive field, the result
    equals the result for the whole image.

    Returns the output for the whole image (C_out, *grid). Raises `ResolutionError` if patch,
    overlap and margin do not fit.
    """
    grid = volume.shape[1:]
    sides = (patch,) * len(grid) if isinstance(patch, int) else tuple(patch)[: len(grid)]
    total: Tensor | None = None
    with torch.no_grad():
        axis_tiles = (
            _list_tiles(n, min(side, n), overlap, margin)
            for n, side in zip(grid, sides, strict=True)
        )
        for tiles in product(*axis_tiles):
            box = (slice(None), *(tile.voxels for tile in tiles))
            output = network(volume[box][None])[0]
            if total is None:
                # double precision, because sums of many patches err by more than 1e-6 in single
                # precision
                total = torch.zeros(
                    (len(output), *grid), dtype=torch.float64, device=volume.device
                )
            total[box] += _weight_patch(output.to(total), tiles)
    assert total is not None
    return total.to(output.dtype)


class _Tile(NamedTuple):
    """Voxels of a patch along one axis, and their weights, which decrease over the overlap."""

    voxels: slice
    weights: Tensor


def _list_tiles(n: int, side: int, overlap: int, margin: int) -> list[_Tile]:
    """Return the patches of an axis of n voxels; their weights sum to 1 in each voxel."""
    if overlap < 0 or margin < 0 or (side < n and overlap <= 2 * margin and margin > 0):
        raise ResolutionError(
            f"the overlap between patches must exceed the sum of both margins ({margin} voxels "
            f"on each side), got {overlap}"
        )
    positions = torch.arange(side, dtype=torch.float64) + 0.5  # voxel centers within a patch
    ramp = max(overlap - 2 * margin, 1e-9)  # voxels, length over which a weight decreases
    total_weight = torch.zeros(n, dtype=torch.float64)
    tiles = []
    for start in _list_patch_starts(n, side, overlap):
        voxels = slice(start, start + side)
        weight = torch.ones(side, dtype=torch.float64)
        if start > 0:
            weight = weight * ((positions - margin) / ramp).clamp(0, 1)
        if voxels.stop < n:
            weight = weight * ((side - positions - margin) / ramp).clamp(0, 1)
        tiles.append(_Tile(voxels, weight))
        total_weight[voxels] += weight
    return [_Tile(voxels, weight / total_weight[voxels]) for voxels, weight in tiles]


def _list_patch_starts(n: int, side: int, overlap: int) -> list[int]:
    """Return evenly spaced starts of patches on an axis of n voxels, with a minimum overlap."""
    if side >= n:
        return [0]
    if overlap >= side:
        raise ResolutionError(
            f"the overlap between patches must be smaller than the patch size ({side} voxels), "
            f"got {overlap}"
        )
    count = -(-(n - side) // (side - overlap))
    return [(n - side) * k // count for k in range(count + 1)]


def _weight_patch(patch: Tensor, tiles: Sequence[_Tile]) -> Tensor:
    """Multiply a patch (C, *patch) by the weights along each axis."""
    weighted_patch = patch
    for axis, tile in enumerate(tiles):
        n_later_axes = len(tiles) - axis - 1
        axis_weights = tile.weights.to(patch).reshape([-1] + [1] * n_later_axes)
        weighted_patch = weighted_patch * axis_weights
    return weighted_patch


def compute_margin(overlap: int) -> int:
    """Return the number of voxels to exclude at the inner edges of patches, given the overlap.

    The margin is almost half the overlap, so that the remaining parts of neighboring patches meet:
    they share at most two voxels, which are averaged.

    >>> [compute_margin(overlap) for overlap in (0, 1, 4, 16)]
    [0, 0, 1, 7]
    """
    return max(0, (overlap - 1) // 2)
