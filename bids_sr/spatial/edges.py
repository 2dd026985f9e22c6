"""Displacement between the edges of two images, caused by distortion after rigid registration.

Echo-planar images are stretched along the phase-encoding axis if the field is not homogeneous;
conventional T2*-weighted images are not. If a method adds the detail of the undistorted image to
the echo-planar image, displaced edges become false detail. The displacement is estimated without a
distortion model. Around every strong edge of the first image, its edge strength is compared with
the edge strength of the second image, shifted along the axis in small steps. The shift with the
highest similarity is selected. Only the magnitude of the gradient is compared, not its sign, so
contrasts may differ.
"""

import numpy as np
from nibabel.affines import voxel_sizes
from scipy import ndimage

from bids_sr.io.arrays import Array, MaskArray
from bids_sr.io.frozen import frozen
from bids_sr.io.notices import InvalidInput
from bids_sr.spatial.masks import grow, head_scale
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA

# Fraction of head voxels that count as edges of the first image: those with the steepest gradient.
_EDGE_FRACTION = 0.1
# Smallest similarity (correlation of edge strength) for which an edge has a counterpart in the
# second image and thus a valid shift.
_MIN_SIMILARITY = 0.3
_MAX_SHIFT_MM = 9.0  # mm, largest shift that is tried in a human head
_MIN_EDGES = 50  # edges with a counterpart below which the displacement is not summarized


@frozen
class Mismatch:
    """Displacement between the edges of two images.

    `median` and `p90`, the 90th percentile, describe absolute displacements (mm); they are NaN if
    too few edges have a counterpart. `n` is the number of edges with a counterpart.
    """

    median: float
    p90: float
    n: int


def measure_edge_mismatch(
    first: Array,
    second: Array,
    mask: MaskArray,
    affine: Array,
    *,
    blur_mm: float,
    axis: int | None = None,
) -> Mismatch:
    """Measure the displacement of the edges of `second` from the edges of `first`.

    Parameters
    ----------
    first : Array
        Image whose strong edges are located (X, Y, Z).
    second : Array
        Image that is compared at these edges, on the same grid (X, Y, Z).
    mask : MaskArray
        Voxels of the head (X, Y, Z); edges up to `blur_mm` outside the mask count.
    affine : Array
        Voxel-to-world matrix (4 x 4, RAS+ mm); only the voxel sizes are used.
    blur_mm : float
        Smoothing of both images (FWHM, mm), the voxel size of the low-resolution acquisition.
    axis : int | None, optional
        Phase-encoding axis of the grid, 0 or 1. None searches both in-plane axes, each at its own
        edges; median and 90th percentile are then combined as root sum of squares.

    Returns
    -------
    Mismatch
        Displacements of the edges with a counterpart, and their summary (mm).

    Raises
    ------
    InvalidInput
        The mask is empty, or an image is constant inside it.
    """
    if not mask.any():
        raise InvalidInput("the mask is empty")
    if np.ptp(first[mask]) == 0 or np.ptp(second[mask]) == 0:
        raise InvalidInput(
            "at least one image is constant inside the mask, so its edges cannot be compared"
        )
    voxel_mm = voxel_sizes(affine)
    search_mask = grow(mask, affine, blur_mm)
    max_shift_mm = _MAX_SHIFT_MM * head_scale(mask, affine)
    sigma = blur_mm / FWHM_PER_SIGMA / voxel_mm
    distances_by_axis = []
    for searched_axis in (0, 1) if axis is None else (axis,):
        slopes = [_compute_slope(image, sigma, searched_axis) for image in (first, second)]
        steepest = np.quantile(slopes[0][search_mask], 1 - _EDGE_FRACTION)
        strong_edges = search_mask & (slopes[0] >= max(steepest, 1e-12))
        first_edges, second_edges = (
            _compute_edge_strength(slope, strong_edges) for slope in slopes
        )
        shifts_mm, similarities = _search_shifts(
            first_edges, second_edges, strong_edges, searched_axis, voxel_mm, blur_mm, max_shift_mm
        )
        distances_by_axis.append(np.abs(shifts_mm[similarities >= _MIN_SIMILARITY]))
    quantiles = np.array(
        [
            np.quantile(distances, [0.5, 0.9]) if len(distances) >= _MIN_EDGES else [np.nan] * 2
            for distances in distances_by_axis
        ]
    )
    median, p90 = np.sqrt((quantiles**2).sum(0)).tolist()
    return Mismatch(median=median, p90=p90, n=sum(map(len, distances_by_axis)))


def _compute_slope(image: Array, sigma: Array, axis: int) -> Array:
    """Return the magnitude of the derivative along an axis, smoothed by `sigma` (voxels)."""
    derivative_orders = [int(dimension == axis) for dimension in range(3)]
    return np.abs(
        ndimage.gaussian_filter(
            np.asarray(image, dtype=np.float32), sigma, order=derivative_orders, mode="nearest"
        )
    )


def _compute_edge_strength(slope: Array, strong_edges: MaskArray) -> Array:
    """Return the square root of a slope, relative to its median at the strong edges.

    Without the square root, a bright rim would dominate its neighborhood.
    """
    median = float(np.median(np.sqrt(slope[strong_edges] + 0.01) ** 2))
    return np.sqrt(slope / max(median, 1e-12) + 0.01)


def _search_shifts(
    first_edges: Array,
    second_edges: Array,
    strong_edges: MaskArray,
    axis: int,
    voxel_mm: Array,
    blur_mm: float,
    max_shift_mm: float,
) -> tuple[Array, Array]:
    """Return the shift of the second image at each strong edge (mm), and its similarity (N,).

    The edge strengths of both images and `strong_edges` are (X, Y, Z), with voxel size `voxel_mm`.
    Shifts of up to `max_shift_mm` along `axis` are tried, and the shift with the highest
    similarity is returned. `blur_mm` is the smoothing of the images (FWHM).
    """
    window = np.array([2.0, 2.0, 1.0]) * blur_mm / voxel_mm
    window[2] = max(blur_mm / voxel_mm[2], 0.5)
    step_mm = min(float(voxel_mm[axis]), blur_mm / 2)
    n_steps = int(np.ceil(max_shift_mm / step_mm)) + 1
    similarities = []
    for k in range(-n_steps, n_steps + 1):
        offsets = [
            -(k * step_mm / voxel_mm[axis]) if dimension == axis else 0.0 for dimension in range(3)
        ]
        # voxels k steps farther along the axis
        shifted_edges = ndimage.shift(second_edges, offsets, order=1, mode="nearest")
        similarities.append(_correlate_locally(first_edges, shifted_edges, window)[strong_edges])
    return _locate_peaks(np.stack(similarities), step_mm, n_steps * step_mm)


def _correlate_locally(first: Array, second: Array, window: Array) -> Array:
    """Correlate two images locally under a Gaussian window (standard deviations; voxels)."""

    def mean(image: Array) -> Array:
        return ndimage.gaussian_filter(image, window, mode="nearest", truncate=2.5)

    mean_first, mean_second = mean(first), mean(second)
    variance_first = mean(first * first) - mean_first * mean_first
    variance_second = mean(second * second) - mean_second * mean_second
    covariance = mean(first * second) - mean_first * mean_second
    return covariance / np.sqrt(np.maximum(variance_first * variance_second, 1e-12))


def _locate_peaks(similarities: Array, step: float, max_shift: float) -> tuple[Array, Array]:
    """Fit a parabola to the peak of each similarity curve.

    `similarities` are values at each shift (shifts, N); `step`, the distance between shifts, and
    `max_shift`, the largest shift, are in mm. Returns the shift of each peak (mm), and its
    similarity (N,), which is -1 if the maximum is at either end of the curve.
    """
    peak = similarities.argmax(0)
    is_at_end = (peak == 0) | (peak == len(similarities) - 1)
    inner_peak = np.clip(peak, 1, len(similarities) - 2)
    low, middle, high = (
        similarities[inner_peak + k, np.arange(similarities.shape[1])] for k in (-1, 0, 1)
    )
    curvature = low - 2 * middle + high
    is_concave = curvature < 0
    offset = np.where(is_concave, 0.5 * (low - high) / np.where(is_concave, curvature, -1), 0.0)
    shifts = (inner_peak + np.clip(offset, -0.5, 0.5)) * step - max_shift
    return shifts, np.where(is_at_end, -1.0, middle)
