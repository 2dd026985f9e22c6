"""Sliding-window inference: a network on an image too large for it, patch by patch, without seams.

Along each axis a patch fades out over the overlap with its neighbor; the weights of all patches
sum to 1 at every voxel. The outermost voxels of a patch, where the network's padding shows, can be
left out (`margin`), but not at the image's own border. The rule for blending is ours.
"""

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor

from bids_sr.sr.matrices import ResolutionError


def apply_in_patches(
    network: Callable[[Tensor], Tensor],
    volume: Tensor,
    *,
    patch: int | Sequence[int],
    overlap: int,
    margin: int = 0,
) -> Tensor:
    """What the network gives for a whole image, computed in patches.

    `network`: takes (1, C, *patch) to (1, C_out, *patch). `volume`: (C, *grid), two or three axes.
    `patch`: side of the patches (voxels), or one side per axis; at most the whole axis. `overlap`:
    voxels that neighbors share at least; less than the patch. `margin`: voxels at the inner edges
    of every patch that do not count, less than half the overlap; with the radius of the network's
    receptive field the result is that for the whole image.
    """
    grid = volume.shape[1:]
    sides = (patch,) * len(grid) if isinstance(patch, int) else tuple(patch)[: len(grid)]
    out: Tensor | None = None
    with torch.no_grad():
        axes = (
            _tiles(n, min(side, n), overlap, margin) for n, side in zip(grid, sides, strict=True)
        )
        for place in product(*axes):
            box = (slice(None), *(part for part, _ in place))
            made = network(volume[box][None])[0]
            if made.shape[1:] != volume[box].shape[1:]:
                raise ResolutionError(
                    f"the network returned an array of shape {tuple(made.shape[1:])} for a "
                    f"patch of shape {tuple(volume[box].shape[1:])}; both shapes must be equal"
                )
            if out is None:
                # sums of many weighted patches err by more than 1e-6 in single precision
                out = torch.zeros((len(made), *grid), dtype=torch.float64, device=volume.device)
                kind = made.dtype
            result = made.to(out)
            for axis, (_, weights) in enumerate(place):
                result = result * weights.to(result).reshape([-1] + [1] * (len(grid) - axis - 1))
            out[box] += result
    assert out is not None
    return out.to(kind)


def margin_of(overlap: int) -> int:
    """Return the voxels at the inner edges of a patch that do not count, given the overlap.

    Nearly half the overlap, so that the inner parts of neighbors meet: two voxels at most are the
    mean of both.

    >>> [margin_of(overlap) for overlap in (0, 1, 4, 16)]
    [0, 0, 1, 7]
    """
    return max(0, (overlap - 1) // 2)


def _patch_starts(n: int, side: int, overlap: int) -> list[int]:
    """Return evenly spread patch starts on an axis of n voxels, with at least the overlap."""
    if side >= n:
        return [0]
    if overlap >= side:
        raise ResolutionError(
            f"the overlap between patches must be smaller than the patch size ({side} voxels), "
            f"got {overlap}"
        )
    count = -(-(n - side) // (side - overlap))
    return [(n - side) * k // count for k in range(count + 1)]


def _tiles(n: int, side: int, overlap: int, margin: int) -> list[tuple[slice, Tensor]]:
    """Return (voxels, weights) of each patch of an axis; weights sum to 1."""
    if overlap < 0 or margin < 0 or (side < n and overlap <= 2 * margin and margin > 0):
        raise ResolutionError(
            f"the overlap between patches must exceed the sum of both margins ({margin} voxels "
            f"on each side), got {overlap}"
        )
    at = torch.arange(side, dtype=torch.float64) + 0.5
    ramp = max(overlap - 2 * margin, 1e-9)
    total = torch.zeros(n, dtype=torch.float64)
    windows = []
    for start in _patch_starts(n, side, overlap):
        part = slice(start, start + side)
        window = torch.ones(side, dtype=torch.float64)
        if start > 0:
            window = window * ((at - margin) / ramp).clamp(0, 1)
        if part.stop < n:
            window = window * ((side - at - margin) / ramp).clamp(0, 1)
        windows.append((part, window))
        total[part] += window
    return [(part, window / total[part]) for part, window in windows]
