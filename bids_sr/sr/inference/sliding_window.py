"""Sliding-window inference: a network on an image too large for it, patch by patch, without seams.

Along each axis a patch fades out over the overlap with its neighbor; the weights of all patches
sum to 1 at every voxel. The outermost voxels of a patch, where the network's padding shows, can be
left out (`margin`), but not at the image's own border. The rule for blending is ours.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import product

import torch
from torch import Tensor

from bids_sr.sr.resolution.matrices import ResolutionError


def apply_in_patches(
    network: Callable[[Tensor], Tensor],
    volume: Tensor,
    *,
    patch: int | Sequence[int],
    overlap: int | Sequence[int],
    factor: float | Sequence[float] = 1,
    margin: int = 0,
    batch: int = 4,
) -> Tensor:
    """What the network gives for a whole image, computed in patches.

    Parameters
    ----------
    network : takes (N, C, *patch) to (N, C_out, *(patch * factor))
    volume : (C, *grid), two or three axes
    patch : side of the patches (voxels of the grid), for each axis or one for all; at most the
        whole axis
    overlap : voxels that neighbors share at least; less than the patch
    factor : output voxels a voxel of the grid; 1 for networks that see an upsampled image
    margin : voxels at the inner edges of every patch that do not count, less than half the
        overlap; with the radius of the network's receptive field the result is that for the whole
        image
    batch : patches at once

    Returns
    -------
    (C_out, *grid of the output), in the network's type

    Raises
    ------
    ResolutionError : an overlap that the patch cannot have, a factor that gives parts of voxels,
        or a network that gives other sizes than the factor says
    """
    grid = tuple(volume.shape[1:])
    wanted, shared = (_for_axes(value, len(grid)) for value in (patch, overlap))
    sides = [min(int(side), n) for side, n in zip(wanted, grid, strict=True)]
    ratios = [Fraction(f).limit_denominator(64) for f in _for_axes(factor, len(grid))]
    axes = [
        _tiles(n, side, int(common), ratio, margin)
        for n, side, common, ratio in zip(grid, sides, shared, ratios, strict=True)
    ]
    fine = [_whole(side * ratio) for side, ratio in zip(sides, ratios, strict=True)]
    out: Tensor | None = None
    places = list(product(*axes))
    with torch.no_grad():
        for first in range(0, len(places), batch):
            some = places[first : first + batch]
            cut = [
                volume[
                    (slice(None), *(slice(s, s + n) for (s, _), n in zip(p, sides, strict=True)))
                ]
                for p in some
            ]
            made = network(torch.stack(cut))
            if list(made.shape[2:]) != fine:
                raise ResolutionError(
                    f"the network makes {tuple(made.shape[2:])} of {tuple(sides)}, not"
                    f" {tuple(fine)}"
                )
            if out is None:
                size = [_whole(n * ratio) for n, ratio in zip(grid, ratios, strict=True)]
                # sums of many weighted patches err by more than 1e-6 in single precision
                out = torch.zeros(
                    (made.shape[1], *size), dtype=torch.float64, device=volume.device
                )
                kind = made.dtype
            for place, result in zip(some, made.to(out), strict=True):
                starts = [_whole(s * ratio) for (s, _), ratio in zip(place, ratios, strict=True)]
                box = (slice(None), *(slice(s, s + n) for s, n in zip(starts, fine, strict=True)))
                for axis, (_, weights) in enumerate(place):
                    result = result * weights.to(result).reshape(
                        [-1] + [1] * (len(place) - axis - 1)
                    )
                out[box] += result
    assert out is not None
    return out.to(kind)


def _patch_starts(n: int, side: int, overlap: int, step: int = 1) -> list[int]:
    """Return evenly spread patch starts on an axis of n voxels, with at least the overlap.

    Parameters
    ----------
    step : starts are multiples of it; n and side have to be as well
    """
    if side >= n:
        return [0]
    stride = (side - overlap) // step * step
    if stride < 1:
        raise ResolutionError(f"patches of {side} voxels cannot share {overlap}")
    count = -(-(n - side) // stride)
    return [(n - side) * k // (count * step) * step for k in range(count + 1)]


def _tiles(
    n: int, side: int, overlap: int, ratio: Fraction, margin: int
) -> list[tuple[int, Tensor]]:
    """Return (start, weights on the fine grid) of each patch of an axis; weights sum to 1."""
    if overlap < 0 or margin < 0 or (side < n and overlap <= 2 * margin and margin > 0):
        raise ResolutionError(
            f"an overlap of {overlap} leaves nothing of margins of {margin} on both sides"
        )
    if (side < n and side % ratio.denominator) or n % ratio.denominator:
        raise ResolutionError(
            f"{side} of {n} voxels by {ratio} are no whole voxels; give the network the fine grid"
        )
    starts = _patch_starts(n, side, overlap, ratio.denominator)
    fine = _whole(side * ratio)
    at = (torch.arange(fine, dtype=torch.float64) + 0.5) / float(ratio)
    ramp = max(overlap - 2 * margin, 1e-9)
    total = torch.zeros(_whole(n * ratio), dtype=torch.float64)
    windows = []
    for start in starts:
        window = torch.ones(fine, dtype=torch.float64)
        if start > 0:
            window = window * ((at - margin) / ramp).clamp(0, 1)
        if start + side < n:
            window = window * ((side - at - margin) / ramp).clamp(0, 1)
        windows.append(window)
        total[_whole(start * ratio) :][:fine] += window
    return [
        (start, window / total[_whole(start * ratio) :][:fine])
        for start, window in zip(starts, windows, strict=True)
    ]


def _for_axes(value: float | Sequence[float], count: int) -> list[float]:
    """One value an axis."""
    out = list(value) if isinstance(value, Sequence) else [value] * count
    if len(out) != count:
        raise ResolutionError(f"{value} does not say one thing for each of {count} axes")
    return out


def _whole(value: Fraction | int) -> int:
    if Fraction(value).denominator != 1:
        raise ResolutionError(
            f"{float(value):g} is no number of voxels; give the network the fine grid"
        )
    return int(value)
