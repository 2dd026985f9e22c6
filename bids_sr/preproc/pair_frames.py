"""Alignment of a T2*-weighted pair for training, at both resolutions."""

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import AntsOptions
from bids_sr.preproc.rigid import displacement_summary, register_rigid
from bids_sr.preproc.same_contrast import mask_field_of_view, refine
from bids_sr.spatial import masks
from bids_sr.spatial.matrices import acquire
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid

# Fraction of the low-resolution voxel (rms over the head). The trained network reproduces a
# remaining shift, but interpolation blurs its training data. The estimate itself is accurate to
# 0.01 voxel.
_MAX_SHIFT_VOXELS = 0.03


PairInFrame = tuple[Volume, Volume, Volume, Array, dict[str, object]]
"""A pair for training: high-resolution image on the high-resolution grid and in the frame of the
low-resolution image, low-resolution image, brain mask, transform of its points to points of the
high-resolution image as acquired (1, 4, 4; RAS+ mm), and facts for the report."""


def make_truncated_pair(highres: Volume, factor: Factor) -> PairInFrame:
    """Make a pair whose low-resolution image is the k-space truncated high-resolution image.

    If the factor does not divide the high-resolution image, it is cropped first.

    Parameters
    ----------
    highres : Volume
        High-resolution image of the T2*w pair (3D).
    factor : Factor
        Ratio of acquired to high-resolution voxel size along each axis.

    Returns
    -------
    PairInFrame
        High-resolution image, low-resolution image, brain mask, transform (1, 4, 4; RAS+ mm) and
        facts.
    """
    data, affine = acquire(highres.data, highres.affine, factor=factor)
    lowres = Volume(data=np.maximum(np.asarray(data, dtype=np.float32), 0), affine=affine)
    shape, highres_affine = hr_grid(lowres.data.shape, lowres.affine, factor)
    highres_on_grid = Volume(
        data=sample_volume(highres.data, highres.affine, shape, highres_affine),
        affine=highres_affine,
    )
    mask = masks.brain_mask(lowres.data, affine)
    facts: dict[str, object] = {
        "truncated": True,
        "resampled": False,
        **displacement_summary(np.eye(4), mask, affine),
    }
    return highres_on_grid, lowres, lowres.like(mask), np.eye(4)[None], facts


def make_registered_pair(
    highres: Volume,
    lowres: Volume,
    factor: Factor,
    options: AntsOptions,
    *,
    is_aligned_by_headers: bool = False,
) -> PairInFrame:
    """Register the two images of a measured pair.

    The high-resolution image is resampled at most once, and only if it is not aligned with the
    low-resolution image or on another grid. A pair that is aligned by its headers is not
    registered.

    Parameters
    ----------
    highres : Volume
        High-resolution image of the T2*w pair (3D).
    lowres : Volume
        Low-resolution image of the T2*w pair (3D).
    factor : Factor
        Ratio of acquired to high-resolution voxel size along each axis.
    options : AntsOptions
        Seed and names of files.
    is_aligned_by_headers : bool, optional
        Whether the headers of the two images already agree.

    Returns
    -------
    PairInFrame
        High-resolution image, low-resolution image, brain mask, transform (1, 4, 4; RAS+ mm) and
        facts.

    Raises
    ------
    MaskError
        No brain is found in one of the images.
    """
    mask = masks.brain_mask(lowres.data, lowres.affine)
    xfm = np.eye(4)
    registration_facts: dict[str, object] = {}
    if not is_aligned_by_headers:
        highres_mask = masks.brain_mask(highres.data, highres.affine)
        fit = register_rigid(lowres, highres, mask, highres_mask, options)
        xfm = _refine_with_truncation(highres, lowres, mask, fit.xfm, factor)
        registration_facts = {"start": fit.start, "nmi": round(fit.nmi, 4)}
    displacements = displacement_summary(xfm, mask, lowres.affine)
    shape, highres_affine = hr_grid(lowres.data.shape, lowres.affine, factor)
    tolerance_mm = _MAX_SHIFT_VOXELS * float(lowres.zooms.min())
    is_aligned = displacements["displacement_rms_mm"] <= tolerance_mm
    same_grid = highres.data.shape == shape and np.allclose(
        highres.affine, highres_affine, atol=1e-3 * highres.zooms.min()
    )
    if is_aligned and same_grid:
        data = highres.data
    else:
        data = sample_volume(
            highres.data,
            highres.affine,
            shape,
            highres_affine,
            np.eye(4) if is_aligned else xfm,
            order=5,
        )
    facts: dict[str, object] = {
        "truncated": False,
        "resampled": not (is_aligned and same_grid),
        **displacements,
        "tolerance_mm": round(tolerance_mm, 4),
        "same_grid": bool(same_grid),
        **registration_facts,
    }
    return Volume(data, highres_affine), lowres, lowres.like(mask), xfm[None], facts


def _refine_with_truncation(
    highres: Volume, lowres: Volume, mask: Array, start: Array, factor: Factor
) -> Array:
    """Refine the lowres-to-highres transform on a k-space truncated high-resolution image.

    The scanner truncates k-space in the same way, so both images have the same resolution.
    """
    xfm = np.asarray(start, dtype=float)
    shape, grid = hr_grid(lowres.data.shape, lowres.affine, factor)
    for _ in range(2):
        aligned_image = sample_volume(highres.data, highres.affine, shape, grid, xfm)
        truncated_image, truncated_affine = acquire(aligned_image, grid, factor=factor)
        xfm = xfm @ refine(
            lowres,
            Volume(data=truncated_image, affine=truncated_affine),
            mask & mask_field_of_view(highres, lowres, xfm),
            np.eye(4),
            rounds=1,
        )
    return xfm
