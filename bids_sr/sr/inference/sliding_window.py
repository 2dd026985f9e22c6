"""Sliding-window inference: a network on an image too large for it, patch by patch, without seams.

Along each axis a patch fades out over the overlap with its neighbor; the weights of all patches
sum to 1 at every voxel. The outermost voxels of a patch, where the network's padding shows, can be
left out (`margin`), but not at the image's own border. The rule for blending is ours.
"""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from bids_sr.sr.resolution.matrices import ResolutionError


def apply_in_patches(
    network: Callable[[Tensor], Tensor],
    volume: Tensor,
    *,
    patch: int,
    overlap: int,
    margin: int = 0,
) -> Tensor:
    """What the network gives for a whole image, computed in patches.

    `network`: takes (1, C, *patch) to (1, C_out, *patch). `volume`: (C, *grid), two or three axes.
    `patch`: side of the patches (voxels); at most the whole axis. `overlap`: voxels that neighbors
    share at least; less than the patch.
    """
    grid = volume.shape[1:]
    out: Tensor | None = None
    with torch.no_grad():
        for place in product(*(_tiles(n, min(patch, n), overlap, margin) for n in grid)):
            box = (slice(None), *(part for part, _ in place))
            made = network(volume[box][None])[0]
            if made.shape[1:] != volume[box].shape[1:]:
                raise ResolutionError(
                    f"the network makes {tuple(made.shape[1:])} of {tuple(volume[box].shape[1:])}"
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


def _patch_starts(n: int, side: int, overlap: int) -> list[int]:
    """Return evenly spread patch starts on an axis of n voxels, with at least the overlap."""
    if side >= n:
        return [0]
    if overlap >= side:
        raise ResolutionError(f"patches of {side} voxels cannot share {overlap}")
    count = -(-(n - side) // (side - overlap))
    return [(n - side) * k // count for k in range(count + 1)]


def _tiles(n: int, side: int, overlap: int, margin: int) -> list[tuple[slice, Tensor]]:
    """Return (voxels, weights) of each patch of an axis; weights sum to 1."""
    if overlap < 0 or margin < 0 or (side < n and overlap <= 2 * margin and margin > 0):
        raise ResolutionError(
            f"an overlap of {overlap} leaves nothing of margins of {margin} on both sides"
        )
    at = torch.arange(side, dtype=torch.float64) + 0.5
    ramp = max(overlap - 2 * margin, 1e-9)
    total = torch.zeros(n, dtype=torch.float64)
    windows = []
    for start in _patch_starts(n, side, overlap):
        part, window = slice(start, start + side), torch.ones(side, dtype=torch.float64)
        if start > 0:
            window = window * ((at - margin) / ramp).clamp(0, 1)
        if part.stop < n:
            window = window * ((side - at - margin) / ramp).clamp(0, 1)
        windows.append((part, window))
        total[part] += window
    return [(part, window / total[part]) for part, window in windows]
