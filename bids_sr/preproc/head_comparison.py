"""Comparison of the boldrefs of two runs: signal ratio, same head, and mirrored head.

Images of one participant and sequence differ only by the scale of the signal, a smooth intensity
bias and noise. Two images of one head correlate more strongly than an image and its own mirror
image, which has the same coil, contrast and gross anatomy but another cortex.
"""

import numpy as np
from scipy import ndimage

from bids_sr.io.arrays import Array, Float, MaskArray
from bids_sr.io.volume import Volume
from bids_sr.preproc.same_contrast import SAME_CONTRAST_CORRELATION, mask_field_of_view, refine
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import voxel_centers

_DETAIL_MM = 10.0  # mm, sigma of the Gaussian whose local mean is divided out
SAME_HEAD = 0.8
"""Smallest similarity of runs of one head. Two runs of a participant have .98 to .99, heads and
their own mirror images .43 to .73 (at 3 and 6 mm; `benchmarks/results/head_similarity.md`).
"""
# largest 1 - r of a mirrored image, relative to 1 - r as stored, that shows that left and right
# are swapped
_MAX_MIRRORED_DISTANCE = 0.5
# largest correction (mm) of the start for a mirrored head, whose mirror plane is estimated
_MAX_START_ERROR_MM = 15.0


def signal_ratio(first: Array, other: Array, mask: MaskArray) -> float:
    """Return the median ratio of two images on one grid.

    The median is not affected by a mask that includes some background, by signal dropout or by
    vessels.

    Images and brain `mask` are (X, Y, Z). Voxels of the mask that are not positive in both images
    are ignored. Returns the signal of `other` relative to the signal of `first`; 1 if no voxel is
    positive in both.

    >>> image = np.array([100.0, 200.0, 300.0, 0.0])
    >>> signal_ratio(image, 3 * image, np.ones(4, dtype=bool))
    3.0
    """
    has_signal = mask & (first > 0) & (other > 0)
    if not has_signal.any():
        return 1.0
    return float(np.median(other[has_signal] / first[has_signal]))


def is_mirrored(
    first: Volume, other: Volume, mask: MaskArray, xfm: Array, similarity: float
) -> bool:
    """Return whether left and right of a head are swapped relative to the first run.

    The heads are the boldrefs of two runs. Left and right of the other run are swapped before it
    is registered again. `mask` contains brain voxels of the first run (3D), and `xfm` is the rigid
    transform from points of the first run to points of the other run (4 x 4, RAS+ mm).
    `similarity` is the result of `head_similarity` for the images as stored.
    """
    mirrored_image, reflection = _swap_sides(other)
    # The head is nearly symmetric about the sagittal plane through its center.
    head_reflection = np.diag([-1.0, 1.0, 1.0, 1.0])
    head_reflection[0, 3] = 2 * float(voxel_centers(mask, first.affine)[:, 0].mean())
    start = reflection @ xfm @ head_reflection
    refined_xfm = refine(
        first, mirrored_image, mask, start, rounds=3, max_change_mm=_MAX_START_ERROR_MM
    )
    resampled = resample_with_field_of_view(mirrored_image, first, refined_xfm)
    swapped_similarity = head_similarity(first.data, resampled, mask, first.zooms)
    return swapped_similarity >= SAME_HEAD and 1 - swapped_similarity < _MAX_MIRRORED_DISTANCE * (
        1 - similarity
    )


def _swap_sides(image: Volume) -> tuple[Volume, Float]:
    """Return an image with swapped left and right on its grid, and the reflection in RAS+ mm.

    The voxel axis that is closest to the left-right axis is reversed.
    """
    axis = int(np.argmax(np.abs(image.affine[0, :3]) / image.zooms))
    reverse = np.eye(4)
    reverse[axis, axis], reverse[axis, 3] = -1, image.data.shape[axis] - 1
    reflection = image.affine @ reverse @ np.linalg.inv(image.affine)
    return image.like(np.flip(image.data, axis)), np.asarray(reflection)


def resample_with_field_of_view(moving: Volume, fixed: Volume, xfm: Array) -> Float:
    """Resample an image to the grid of a fixed image; 0 outside its field of view.

    The transform `xfm` maps a fixed point to its moving point (4 x 4, RAS+ mm).
    """
    resampled = sample_volume(moving.data, moving.affine, fixed.data.shape, fixed.affine, xfm)
    return np.where(mask_field_of_view(moving, fixed, xfm), resampled, 0)


def head_similarity(first: Array, other: Array, mask: MaskArray, zooms: Array) -> float:
    """Return the similarity of two heads on one grid: the correlation of their local detail.

    If the images correlate at `SAME_CONTRAST_CORRELATION` or more before local means are divided
    out, this higher correlation is returned, because images without local detail have only noise
    there. Voxels without signal in either image, such as voxels outside the field of view, are
    ignored. The similarity is NaN if fewer than two voxels remain or an image is constant.
    """
    has_signal = mask & (first > 0) & (other > 0)
    if has_signal.sum() < 2:
        return float("nan")
    if min(float(image[has_signal].std()) for image in (first, other)) == 0:
        return float("nan")
    correlation = float(np.corrcoef(first[has_signal], other[has_signal])[0, 1])
    if correlation >= SAME_CONTRAST_CORRELATION:
        return correlation
    first_detail, other_detail = (
        local_detail(image, has_signal, zooms)[has_signal] for image in (first, other)
    )
    return float(np.corrcoef(first_detail, other_detail)[0, 1])


def local_detail(image: Array, mask: MaskArray, zooms: Array) -> Float:
    """Return the relative deviation of an image from its local mean, which removes the bias field.

    Image and brain `mask` are (X, Y, Z). Voxels outside the mask do not contribute to local means.
    `zooms` are voxel sizes (mm). Returns the deviation as a fraction of the local mean, 0 outside
    the mask.
    """
    sigma = _DETAIL_MM / np.asarray(zooms, dtype=float)
    weight = ndimage.gaussian_filter(mask.astype(np.float64), sigma)
    mean = ndimage.gaussian_filter(np.where(mask, image, 0.0).astype(np.float64), sigma)
    has_signal = mask & (mean > 0)
    return np.where(has_signal, image * weight / np.where(has_signal, mean, 1) - 1, 0.0)
