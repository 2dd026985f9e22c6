"""Alignment of a T2*-weighted pair for training, at both resolutions."""

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.io.volume import Volume
from bids_sr.registration.rigid import displacement_summary, rigid
from bids_sr.registration.same_contrast import refine
from bids_sr.spatial import masks
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.matrices import acquire

# Fraction of the low-resolution voxel (rms over the head). The trained network reproduces a
# remaining shift, but interpolation blurs its training data. The estimate itself is accurate to
# .01 voxel.
_TOLERANCE_VOXELS = 0.03


PairInFrame = tuple[Volume, Volume, Volume, Array, dict[str, object]]
"""A pair for training: high-resolution image on the high-resolution grid and in the frame of the
low-resolution image, low-resolution image, brain mask, transform of its points to points of the
high-resolution image as acquired (1, 4, 4; RAS+ mm), and facts for the report."""


def truncated_pair(highres: Volume, factor: Factor) -> PairInFrame:
    """Return a pair whose low-resolution image is the k-space truncated high-resolution image.

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
    shape, grid = hr_grid(lowres.data.shape, lowres.affine, factor)
    high_volume = Volume(
        data=sample_volume(highres.data, highres.affine, shape, grid), affine=grid
    )
    mask = masks.brain_mask(lowres.data, affine)
    facts: dict[str, object] = {
        "truncated": True,
        "resampled": False,
        **displacement_summary(np.eye(4), mask, affine),
    }
    return high_volume, lowres, lowres.like(mask), np.eye(4)[None], facts


def registered_pair(
    highres: Volume,
    lowres: Volume,
    factor: Factor,
    *,
    seed: int,
    prefix: str,
    in_frame: bool = False,
) -> PairInFrame:
    """Register the two images of a measured pair.

    The high-resolution image is resampled at most once, and only if it is not aligned with the
    low-resolution image or on another grid. A pair that is `in_frame` is not registered.

    Parameters
    ----------
    highres : Volume
        High-resolution image of the T2*w pair (3D).
    lowres : Volume
        Low-resolution image of the T2*w pair (3D).
    factor : Factor
        Ratio of acquired to high-resolution voxel size along each axis.
    seed : int
        Seed of the random samples of ANTs.
    prefix : str
        Path and first letters of the files that ANTs writes.
    in_frame : bool, optional
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
    if not in_frame:
        fine_mask = masks.brain_mask(highres.data, highres.affine)
        fit = rigid(lowres, highres, mask, fine_mask, seed=seed, prefix=prefix)
        xfm = _polish(highres, lowres, mask, fit.xfm, factor)
        registration_facts = {"start": fit.start, "nmi": round(fit.nmi, 4)}
    size = displacement_summary(xfm, mask, lowres.affine)
    shape, grid = hr_grid(lowres.data.shape, lowres.affine, factor)
    tolerance = _TOLERANCE_VOXELS * float(lowres.zooms.min())
    is_aligned = size["displacement_rms_mm"] <= tolerance
    same_grid = highres.data.shape == shape and np.allclose(
        highres.affine, grid, atol=1e-3 * highres.zooms.min()
    )
    data = (
        highres.data
        if is_aligned and same_grid
        else sample_volume(
            highres.data, highres.affine, shape, grid, np.eye(4) if is_aligned else xfm, order=5
        )
    )
    facts: dict[str, object] = {
        "truncated": False,
        "resampled": not (is_aligned and same_grid),
        **size,
        "tolerance_mm": round(tolerance, 4),
        "same_grid": bool(same_grid),
        **registration_facts,
    }
    return Volume(data, grid), lowres, lowres.like(mask), xfm[None], facts


def _polish(highres: Volume, lowres: Volume, mask: Array, start: Array, factor: Factor) -> Array:
    """Refine the lowres-to-highres transform on a k-space truncated high-resolution image.

    The scanner truncates k-space in the same way, so both images have the same resolution.
    """
    xfm = np.asarray(start, dtype=float)
    shape, grid = hr_grid(lowres.data.shape, lowres.affine, factor)
    coverage = np.ones(highres.data.shape, dtype=np.float32)
    for _ in range(2):
        high = sample_volume(highres.data, highres.affine, shape, grid, xfm)
        low, affine = acquire(high, grid, factor=factor)
        field_of_view = sample_volume(
            coverage,
            highres.affine,
            lowres.data.shape,
            lowres.affine,
            xfm,
            order=1,
            zero_outside=True,
        )
        xfm = xfm @ refine(
            lowres,
            Volume(data=low, affine=affine),
            mask & (field_of_view > 0.99),
            np.eye(4),
            rounds=1,
        )
    return xfm
