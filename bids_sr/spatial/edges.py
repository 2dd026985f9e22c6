"""Displacement between the edges of two images: distortion that a rigid transform cannot undo.

Echo-planar images are stretched along the phase-encoding axis wherever the field is not
homogeneous, T2*-weighted images of a conventional sequence are not. Where a method lays the detail
of the one over the other, edges that lie apart become false detail. The displacement is found
without any model of it: around every strong edge of the first image the strength of its edges is
compared with that of the second one, shifted along the axis step by step, and the shift at which
they are most alike is kept. Only the strength of the gradient counts, not its sign, so contrasts
may differ.
"""

import numpy as np
from nibabel.affines import voxel_sizes
from scipy import ndimage

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array, Mask
from bids_sr.spatial.masks import grow, head_scale
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA

# Edges of the first image that are looked at: this share of the head's voxels, those of the
# steepest gradient.
_SHARE = 0.1
# Below this likeness (correlation of edge strength) an edge has no counterpart, and its shift
# means nothing.
_LEAST_LIKENESS = 0.3
_REACH_MM = 9.0
_FEWEST = 50


class EdgeError(ValueError):
    """Images whose edges cannot be compared."""


@frozen
class Mismatch:
    """Displacement of edges.

    `shifts`: (N,) or (N, 2) mm along the axis (or both in-plane axes), where the second image's
    edge lies from the first one's; of the edges that have a counterpart. `median`: median, p90: of
    the size of the displacement over edges, mm; NaN where too few have a counterpart. `p90`:
    displacement below which 90 percent of edges lie (mm); NaN for too few edges.
    """

    shifts: Array
    median: float
    p90: float
    matched: float
    n: int


def _slope(image: Array, sigma: Array, axis: int) -> Array:
    """Size of the smoothed derivative along an axis."""
    order = [int(k == axis) for k in range(3)]
    return np.abs(
        ndimage.gaussian_filter(
            np.asarray(image, dtype=np.float32), sigma, order=order, mode="nearest"
        )
    )


def _edge_strength(image: Array, sigma: Array, axis: int, scale: float) -> Array:
    """The slope, bounded so that one bright rim does not rule its neighborhood."""
    return np.sqrt(_slope(image, sigma, axis) / max(scale, 1e-12) + 0.01)


def _likeness(a: Array, b: Array, window: Array) -> Array:
    """Local correlation of two images under a Gaussian window (voxels)."""

    def mean(image: Array) -> Array:
        return ndimage.gaussian_filter(image, window, mode="nearest", truncate=2.5)

    ma, mb = mean(a), mean(b)
    va, vb = mean(a * a) - ma * ma, mean(b * b) - mb * mb
    return (mean(a * b) - ma * mb) / np.sqrt(np.maximum(va * vb, 1e-12))


def _best(curve: Array, step: float, reach: float) -> tuple[Array, Array]:
    """Fit the (shift in mm, similarity) peaks of curves (shifts, N) by parabolas through 3 values.

    A top at either end is no top: its likeness is -1.
    """
    top = curve.argmax(0)
    ends = (top == 0) | (top == len(curve) - 1)
    inner = np.clip(top, 1, len(curve) - 2)
    low, mid, high = (curve[inner + k, np.arange(curve.shape[1])] for k in (-1, 0, 1))
    bend = low - 2 * mid + high
    part = np.where(bend < 0, 0.5 * (low - high) / np.where(bend < 0, bend, -1), 0.0)
    return (inner + np.clip(part, -0.5, 0.5)) * step - reach, np.where(ends, -1.0, mid)


def _along(
    a: Array, b: Array, at: Mask, axis: int, sizes: Array, blur: float, reach: float
) -> tuple[Array, Array]:
    """(shift in mm, likeness) along one axis at the voxels of a mask."""
    sigma = blur / FWHM_PER_SIGMA / sizes
    window = np.array([2.0, 2.0, 1.0]) * blur / sizes
    window[2] = max(blur / sizes[2], 0.5)
    plain = [_edge_strength(image, sigma, axis, 1.0)[at] for image in (a, b)]
    edges = [
        _edge_strength(image, sigma, axis, float(np.median(strength**2)))
        for image, strength in zip((a, b), plain, strict=True)
    ]
    step = min(float(sizes[axis]), blur / 2)
    count = int(np.ceil(reach / step)) + 1
    curve = []
    for k in range(-count, count + 1):
        by = [-(k * step / sizes[axis]) if each == axis else 0.0 for each in range(3)]
        moved = ndimage.shift(edges[1], by, order=1, mode="nearest")  # what lay k steps further on
        curve.append(_likeness(edges[0], moved, window)[at])
    return _best(np.stack(curve), step, count * step)


def edge_mismatch(
    first: Array,
    second: Array,
    mask: Mask,
    affine: Array,
    *,
    blur_mm: float,
    axis: int | None = None,
) -> Mismatch:
    """How far edges of `second` lie from those of `first`.

    Parameters
    ----------
    first, second, mask : Array
        (X, Y, Z) on one grid; edges within the mask and one `blur_mm` around it count.
    affine : Array
        Voxel to RAS mm; only voxel sizes are used.
    blur_mm : float
        Width (FWHM) that both images are brought to at least, the voxel of the coarser
        acquisition.
    axis : int | None, optional
        0 or 1, the phase-encoding axis of the grid; None searches both in-plane axes, each at its
        own edges, and the metrics are those of the two axes together.

    Returns
    -------
    Mismatch
        Displacements of the edges that have a counterpart, and their metrics (mm).

    Raises
    ------
    EdgeError : grids that differ, an empty mask, or an image without edges
    """
    if not first.shape == second.shape == mask.shape:
        raise EdgeError(
            f"both images and the mask must be on the same grid, got shapes {first.shape}, "
            f"{second.shape} and {mask.shape} (mask)"
        )
    if not mask.any():
        raise EdgeError("the mask is empty")
    if np.ptp(first[mask]) == 0 or np.ptp(second[mask]) == 0:
        raise EdgeError(
            "at least one image is constant inside the mask, so its edges cannot be compared"
        )
    sizes = voxel_sizes(affine)
    around = grow(mask, affine, blur_mm)
    reach = _REACH_MM * head_scale(mask, affine)
    shifts: list[Array] = []
    sizes_of, matched, total = [], 0, 0
    for each in (0, 1) if axis is None else (axis,):
        slope = _slope(first, blur_mm / FWHM_PER_SIGMA / sizes, each)
        at = around & (slope >= max(np.quantile(slope[around], 1 - _SHARE), 1e-12))
        shift, likeness = _along(first, second, at, each, sizes, blur_mm, reach)
        good = likeness >= _LEAST_LIKENESS
        shifts.append(shift[good])
        sizes_of.append(
            np.quantile(np.abs(shift[good]), [0.5, 0.9]) if good.sum() >= _FEWEST else [np.nan] * 2
        )
        matched, total = matched + int(good.sum()), total + len(good)
    median, p90 = np.sqrt((np.array(sizes_of) ** 2).sum(0))
    return Mismatch(
        shifts=np.concatenate(shifts),
        median=float(median),
        p90=float(p90),
        matched=matched / max(total, 1),
        n=matched,
    )
