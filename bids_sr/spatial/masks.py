"""Masks and geometry: Otsu, morphology in mm, low-resolution grids, coverage of grids by masks.

Everything works on arrays with their voxel-to-RAS affine; distances are in mm, whatever the shape
of the voxels.

Displacement between the edges of two images: distortion that a rigid transform cannot undo.

Echo-planar images are stretched along the phase-encoding axis wherever the field is not
homogeneous, T2*-weighted images of a conventional sequence are not. Where a method lays the detail
of the one over the other, edges that lie apart become false detail. The displacement is found
without any model of it: around every strong edge of the first image the strength of its edges is
compared with that of the second one, shifted along the axis step by step, and the shift at which
they are most alike is kept. Only the strength of the gradient counts, not its sign, so contrasts
may differ.
"""

from collections.abc import Sequence

import numpy as np
from nibabel.affines import voxel_sizes
from scipy import ndimage

from bids_sr.frozen import frozen
from bids_sr.io.grids import Array, Mask
from bids_sr.spatial.resampling import FWHM_PER_SIGMA, sample_volume
from bids_sr.spatial.transforms import hr_grid


class MaskError(ValueError):
    """An image in which no brain, head or region can be told from the rest."""


def otsu(values: Array) -> float:
    """Return the threshold of the greatest between-class variance (Otsu 1979).

    Raises MaskError for fewer than two different values.

    Parameters
    ----------
    values : Array
        Intensities of any shape; those above the 99.9th percentile do not count.

    Returns
    -------
    float
        Intensity that separates the two classes best.

    Raises
    ------
    MaskError
        There are no values, or they are constant.
    """
    values = np.asarray(values, dtype=np.float64).ravel()
    if not values.size:
        raise MaskError(
            "the image contains no positive intensities, so a brain mask cannot be computed"
        )
    low, high = float(values.min()), float(np.percentile(values, 99.9))
    if not high > low:
        raise MaskError(
            "all intensities of the image are equal, so a brain mask cannot be computed"
        )
    counts, edges = np.histogram(values, bins=256, range=(low, high))
    centers = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    weighted = np.cumsum(counts * centers)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (weighted / below - (weighted[-1] - weighted) / above) ** 2
    return float(centers[int(np.nanargmax(between))])


# mm, added to distances that are compared: the voxel sizes of a header are rounded, and a distance
# that should be equal to the limit must not fall on either side of it by chance
_TIE_MM = 1e-4


def grow(mask: Mask, affine: Array, mm: float) -> Mask:
    """Dilate a mask by `mm` between voxel centers; a negative value erodes it instead.

    Parameters
    ----------
    mask : Mask
        Voxels of a region (3D, boolean).
    affine : Array
        Voxel-to-world matrix of the grid (4 x 4, RAS+ mm).
    mm : float
        Distance by which the border moves outward (mm); inward where negative.

    Returns
    -------
    Mask
        Voxels of the larger or smaller region (3D, boolean).
    """
    mask = np.asarray(mask, dtype=bool)
    if mm == 0 or not mask.any():
        return mask.copy()
    pad = int(np.ceil(abs(mm) / voxel_sizes(affine).min())) if mm < 0 else 0
    # the field of view's edge is no edge of the brain: the mask does not shrink from there
    padded = np.pad(mask, pad, mode="edge") if pad else mask
    inside = padded if mm < 0 else ~padded
    distance = np.asarray(ndimage.distance_transform_edt(inside, sampling=voxel_sizes(affine)))
    out = distance > _TIE_MM - mm if mm < 0 else distance <= mm + _TIE_MM
    return out[tuple(slice(pad, pad + n) for n in mask.shape)]


def close(mask: Mask, affine: Array, mm: float) -> Mask:
    """Fill clefts narrower than about 2 `mm`; nothing is lost.

    Voxels of the region and its clefts (3D, boolean).
    """
    pad = [(int(np.ceil(mm / size)) + 1,) * 2 for size in voxel_sizes(affine)]
    grown = grow(np.pad(mask, pad), affine, mm)
    back = grow(grown, affine, -mm)
    return back[tuple(slice(a, -b) for a, b in pad)] | mask


def open_(mask: Mask, affine: Array, mm: float) -> Mask:
    """Cut bridges narrower than about 2 `mm`.

    Voxels of the region without its bridges (3D, boolean).
    """
    return grow(grow(mask, affine, -mm), affine, mm) & mask


def bounding_box(mask: Mask) -> tuple[slice, slice, slice]:
    """Return the smallest box around a mask that is not empty."""
    ends = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    x, y, z = (slice(int(each[0]), int(each[-1]) + 1) for each in ends)
    return x, y, z


def largest_part(mask: Mask) -> Mask:
    """The largest connected part (faces touch).

    Voxels of that part alone (3D, boolean).
    """
    labels, count = ndimage.label(mask)
    if count < 2:
        return np.asarray(mask, dtype=bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == int(sizes.argmax())


def fill(mask: Mask) -> Mask:
    """Fill holes in 3D, then by slice of axis 2 (cavities open at the edge of the FOV).

    Voxels of the region and its holes (3D, boolean).
    """
    out = np.asarray(ndimage.binary_fill_holes(mask))
    for k in range(out.shape[2]):
        out[:, :, k] = ndimage.binary_fill_holes(out[:, :, k])
    return out


def dice(a: Mask, b: Mask) -> float:
    """Dice coefficient of two masks; 1 for two empty ones.

    `a`: voxels of the first region (boolean, any shape). `b`: voxels of the second region, of the
    same shape (boolean). Overlap from 0 (none) to 1 (the same voxels).
    """
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2.0 * int(np.count_nonzero(a & b)) / total if total else 1.0


def percent_scale(reference: Array, mask: Mask) -> float:
    """Return the factor from signal to percent of a run's mean brain signal.

    It is one number for all series and maps of a run.

    `reference` is the reference image of the acquired series (X, Y, Z), `mask` the brain on its
    grid. In percent of each series' own mean, sharper static images alone would look like better
    function.
    """
    return 100 / float(reference[np.asarray(mask) > 0].mean())


# Largest extent of a head in the field of view (mm): no human head, infants' included, has less,
# and lengths in mm are made for heads of the second size.
_LEAST_HUMAN_MM, HUMAN_MM = 60.0, 150.0


def head_scale(mask: Mask, affine: Array) -> float:
    """Return the size of a head relative to a human head, by which lengths in mm are multiplied.

    It is 1 for all heads of 60 mm and more in any direction, human infants included, so that
    results for humans do not depend on it; below, as in rodents, the largest extent over 150 mm. 1
    for an empty mask.
    """
    if not mask.any():
        return 1.0
    box = bounding_box(mask)
    extents = np.array([part.stop - part.start for part in box]) * voxel_sizes(affine)
    largest = float(extents.max())
    return 1.0 if largest >= _LEAST_HUMAN_MM else largest / HUMAN_MM


def head_mask(volume: Array, affine: Array) -> Mask:
    """The head (or the brain, where the rest was removed) in an anatomical volume (X, Y, Z).

    Voxels of the head without holes (3D, boolean). Clefts up to 12 mm are closed, in small heads
    in proportion.
    """
    positive = volume[volume > 0]
    part = largest_part(volume > 0.5 * otsu(positive))
    return fill(close(part, affine, 6.0 * head_scale(part, affine)))


# spread of a background (median absolute deviation), relative to how far the head is above it;
# dark parts of a head that fills the field of view have .2 and more
_UNIFORM = 0.05


def _offset(volume: Array, threshold: float) -> float:
    """Return the constant that was added to all voxels of an image, or 0.

    0 also if the background is dark enough to be told from the head by Otsu's `threshold`.
    """
    dark = volume[volume <= threshold]
    level = float(np.median(dark))
    spread = float(np.median(np.abs(dark - level)))
    above = float(volume[volume > threshold].mean()) - level
    return level if level > 0.75 * threshold and spread < _UNIFORM * above else 0.0


def brain_mask(volume: Array, affine: Array) -> Mask:
    """Return the brain mask of a T2*-weighted volume (X, Y, Z).

    It is bright, one piece and without holes. Raises MaskError for a constant volume.

    Otsu's threshold, lowered so that gray matter with signal loss stays, on the slightly smoothed
    volume; scalp and eyes are cut off by an opening; sinuses within the brain are closed.
    Fat-suppressed images have little else. In heads smaller than any human's, lengths are in
    proportion to the head. A constant that was added to all voxels does not count.

    `volume`: image with T2*-weighted contrast, such as boldref (3D).
    """
    seed = _brain_seed(volume, affine, 1.0)
    scale = head_scale(seed, affine)
    if scale < 1:
        seed = _brain_seed(volume, affine, scale)
    return fill(close(seed, affine, 8.0 * scale))


def _brain_seed(volume: Array, affine: Array, scale: float) -> Mask:
    """Return the largest bright part of a volume, without what hangs on by less than a voxel."""
    sizes = voxel_sizes(affine)
    volume = np.asarray(volume, dtype=np.float32)
    # of the volume as it is: smoothing over many voxels spreads the head into the background
    level = _offset(volume, otsu(volume))
    smooth = ndimage.gaussian_filter(volume, 1.5 * scale / sizes)
    threshold = otsu(smooth)
    mask = smooth > level + 0.75 * (threshold - level)
    opened = open_(mask, affine, 1.2 * float(sizes[:2].max()))
    return largest_part(opened if opened.any() else mask)


def coarsen(volume: Array, affine: Array, mm: float | Sequence[float]) -> tuple[Array, Array]:
    """Return low-pass and downsample a volume (float32) and affine to voxels of about `mm`.

    The outer edges stay the same; coarser axes stay as they are.

    Parameters
    ----------
    volume : Array
        Image or mask to downsample (3D).
    affine : Array
        Voxel-to-world matrix of the grid (4 x 4, RAS+ mm).
    mm : float | Sequence[float]
        Voxel size to reach (mm), one for all axes or one for each.

    Returns
    -------
    tuple[Array, Array]
        Coarser volume (float32), and its voxel-to-world matrix (4 x 4, RAS+ mm).
    """
    sizes = voxel_sizes(affine)
    factor = np.minimum(sizes / np.broadcast_to(np.asarray(mm, dtype=float), 3), 1.0)
    if (factor > 0.99).all():
        return np.asarray(volume, dtype=np.float32), np.asarray(affine, dtype=float)
    shape, grid = hr_grid(volume.shape, affine, factor)
    # a Gaussian whose width, with that of the high-resolution voxel, makes the low-resolution
    # voxel's (FWHM = voxel)
    smooth = ndimage.gaussian_filter(
        np.asarray(volume, dtype=np.float32),
        0.4247 * np.sqrt(np.maximum(factor**-2.0 - 1, 0)),
        mode="nearest",
    )
    return sample_volume(smooth, affine, shape, grid, order=1), grid


def coarse_mask(mask: Mask, affine: Array, mm: float) -> Mask:
    """A mask on voxels of about `mm`: those at least half inside it; see `coarsen`.

    Coarser voxels of which more than half lie inside (3D, boolean).
    """
    return coarsen(mask, affine, mm)[0] > 0.5


def correlation(a: Array, b: Array) -> float:
    """Pearson correlation of two lists of values; 0 where one is constant.

    `b`: values of the second variable (N,).
    """
    a, b = (np.asarray(each, dtype=np.float64) - float(np.mean(each)) for each in (a, b))
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0


def hr_factor(affine: Array, mm: float) -> tuple[int, int, int]:
    """How many times each axis must be divided for voxels of at most `mm`."""
    n = np.ceil(voxel_sizes(affine) / mm - 1e-6).astype(int)
    return int(n[0]), int(n[1]), int(n[2])


def block_average(fine: Array, factor: tuple[int, int, int]) -> Array:
    """Return means over blocks of `factor` voxels.

    `fine`: image whose shape is a multiple of the factor (3D). Mean of each block (3D, float32).
    """
    x, y, z = (n // f for n, f in zip(fine.shape, factor, strict=True))
    fx, fy, fz = factor
    return fine.reshape(x, fx, y, fy, z, fz).mean(axis=(1, 3, 5), dtype=np.float32)


def coverage(
    source: Array,
    source_affine: Array,
    shape: Sequence[int],
    affine: Array,
    xfm: Array | None = None,
    *,
    mm: float = 2.0,
) -> Array:
    """Return the mean of `source` over each voxel of another grid; float32.

    It tells how much of the voxel a mask or tissue fills.

    Parameters
    ----------
    source : Array
        (X, Y, Z) mask or probability; zero outside its field of view.
    source_affine : Array
        Voxel-to-world matrix of the source (4 x 4, RAS+ mm).
    shape, affine : Sequence[int]
        The grid of the result.
    xfm : Array | None, optional
        Takes a point of that grid to the source's point (RAS mm).
    mm : float, optional
        Distance between samples at most.

    Returns
    -------
    Array
        Mean by voxel of that grid (3D), from 0 to 1 for a mask.
    """
    factor = hr_factor(affine, mm)
    fine_shape, fine_affine = hr_grid(tuple(shape), affine, factor)
    fine = sample_volume(
        np.asarray(source, np.float32),
        source_affine,
        fine_shape,
        fine_affine,
        xfm,
        order=1,
        zero_outside=True,
    )
    return block_average(fine, factor)


_BINS = 32


def normalized_mutual_information(a: Array, b: Array) -> float:
    """Return (H(a) + H(b)) / H(a, b), 1 if independent, 2 if one-to-one (Studholme 1999).

    Parameters
    ----------
    a : Array
        Intensities of the first image in common voxels (N,).
    b : Array
        Intensities of the second image in the same voxels (N,).

    Returns
    -------
    float
        Ratio of entropies; also 1 where both images are constant.
    """

    def levels(values: Array) -> Array:
        low, high = np.percentile(values, [0.5, 99.5])
        scaled = (np.asarray(values, dtype=np.float64) - low) / max(float(high - low), 1e-12)
        return np.clip((scaled * _BINS).astype(int), 0, _BINS - 1)

    counts = np.bincount(levels(a) * _BINS + levels(b), minlength=_BINS**2)
    joint = counts.reshape(_BINS, _BINS) / max(np.size(a), 1)

    def entropy(p: Array) -> float:
        p = p[p > 0]
        return float(-(p * np.log(p)).sum())

    both = entropy(joint)
    return (entropy(joint.sum(axis=1)) + entropy(joint.sum(axis=0))) / both if both > 0 else 1.0


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
