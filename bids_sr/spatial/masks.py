"""Masks of heads and brains: Otsu's threshold, morphology in mm, and head size.

Everything works on arrays with their voxel-to-RAS affine; distances are in mm, whatever the shape
of the voxels.
"""

import numpy as np
from nibabel.affines import voxel_sizes
from scipy import ndimage

from bids_sr.io.arrays import Array, Mask


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
