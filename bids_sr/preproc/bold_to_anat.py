"""Registration of BOLD to anatomical images, and brain masks on the BOLD grid."""

import logging
from dataclasses import replace

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.grids import TURNED_DEG, Factor, Shape
from bids_sr.io.notices import InvalidInput
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import AntsOptions
from bids_sr.preproc.brain import downsample
from bids_sr.preproc.linear import mutual_information
from bids_sr.preproc.rigid import dilate_for_metric, displacement_summary, register_rigid
from bids_sr.spatial import low_resolution_grids, masks, similarity
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import (
    hr_grid,
    invert,
    rms_distance,
    rotation_angle_deg,
    voxel_centers,
)

_LOGGER = logging.getLogger(__name__)
# Dice coefficient of BOLD and T1w brain masks below which registration probably failed
_POOR_DICE = 0.7
BOLDREF_MASK = "boldref"
"""Origin of a brain mask that is only computed from the boldref, in the facts."""
_POOR_NMI = 1.02  # normalized mutual information below which registration probably failed
MARGIN_MM = 4.0
"""Margin around the boldref mask, which may be too small because of signal loss and partial volume
(mm).
"""


def register_to_t1w(
    boldref: Volume, t1w: Volume, t1w_mask: Array, options: AntsOptions
) -> tuple[Array, dict[str, object]]:
    """Register a T1w image to the boldref with a rigid transform.

    The boldref is the fixed image. If registration does not improve the mutual information over
    the headers, the identity is used (`bold_t1w_kept`).

    Parameters
    ----------
    boldref : Volume
        Boldref of the run (3D).
    t1w : Volume
        T1w image of the participant (3D).
    t1w_mask : Array
        Brain voxels of the T1w image (3D, boolean).
    options : AntsOptions
        Seed and names of files.

    Returns
    -------
    tuple[Array, dict[str, object]]
        Transform of a T1w point to its boldref point (4 x 4, RAS+ mm), and facts for the report.
    """
    bold_mask = masks.brain_mask(boldref.data, boldref.affine)
    brain, brain_mask = _downsample_brain(t1w, t1w_mask)
    fit = register_rigid(
        boldref,
        brain,
        bold_mask,
        brain_mask,
        options,
        soft=True,
    )
    header_nmi = mutual_information(
        boldref, brain, np.eye(4), dilate_for_metric(bold_mask, boldref)
    )
    use_headers = fit.nmi <= header_nmi
    if use_headers:
        _LOGGER.warning(
            "Registration of the BOLD series to the T1w image did not improve the alignment"
            " given by the image headers, so this alignment is used (mutual information %.4f"
            " after registration, %.4f with the headers).",
            fit.nmi,
            header_nmi,
        )
        fit = replace(fit, xfm=np.eye(4), nmi=header_nmi, start="headers")
    facts = _measure_agreement(boldref, bold_mask, brain, brain_mask, fit.xfm, fit.nmi)
    if (angle := rotation_angle_deg(fit.xfm)) > TURNED_DEG:
        _LOGGER.warning(
            "The orientation in the header of the BOLD series or the T1w image may be"
            " wrong: registration rotated the head by %.0f degrees. Check the registration"
            " in the report.",
            angle,
        )
    return invert(fit.xfm), facts | {"bold_t1w_start": fit.start, "bold_t1w_kept": use_headers}


def measure_coregistration(
    boldref: Volume, t1w: Volume, t1w_mask: Array, boldref2t1w: Array
) -> dict[str, object]:
    """Measure a precomputed registration for the report.

    Parameters
    ----------
    boldref : Volume
        Boldref of the run (3D).
    t1w : Volume
        T1w image of the participant (3D).
    t1w_mask : Array
        Brain voxels of the T1w image (3D, boolean).
    boldref2t1w : Array
        Transform of a T1w point to its boldref point (4 x 4, RAS+ mm).

    Returns
    -------
    dict[str, object]
        Size of the transform and agreement of the brain masks, by name.
    """
    bold_mask = masks.brain_mask(boldref.data, boldref.affine)
    brain, brain_mask = _downsample_brain(t1w, t1w_mask)
    to_t1w = invert(boldref2t1w)
    nmi = mutual_information(boldref, brain, to_t1w, dilate_for_metric(bold_mask, boldref))
    facts = _measure_agreement(boldref, bold_mask, brain, brain_mask, to_t1w, nmi)
    return facts | {"bold_t1w_start": "given"}


def _downsample_brain(t1w: Volume, t1w_mask: Array) -> tuple[Volume, Array]:
    """Return the T1w brain and its mask on 2 mm voxels (smaller voxels for small heads)."""
    mm = 2.0 * masks.head_scale(t1w_mask, t1w.affine)
    brain = downsample(Volume(data=np.where(t1w_mask, t1w.data, 0), affine=t1w.affine), mm)
    return brain, low_resolution_grids.downsample_mask(t1w_mask, t1w.affine, mm)


def _measure_agreement(
    boldref: Volume, mask: Array, brain: Volume, brain_mask: Array, xfm: Array, nmi: float
) -> dict[str, object]:
    """Measure how far a transform moves the brain, and how well the brain masks then agree.

    The transform `xfm` maps a boldref point to its T1w point.
    """
    t1w_mask = (
        low_resolution_grids.coverage(
            brain_mask, brain.affine, boldref.data.shape, boldref.affine, xfm
        )
        >= 0.5
    )
    dice = similarity.dice(mask, t1w_mask)
    is_poor = dice < _POOR_DICE or nmi < _POOR_NMI
    if is_poor:
        _LOGGER.warning(
            "The BOLD series and the T1w image are poorly aligned (Dice coefficient between"
            " the brain masks %.2f, mutual information %.3f). Check the registration in the"
            " report.",
            dice,
            nmi,
        )
    return {
        **{
            f"bold_t1w_{key}": value
            for key, value in _measure_displacement(xfm, mask, boldref.affine).items()
        },
        "bold_t1w_nmi": round(nmi, 4),
        "bold_t1w_mask_dice": round(dice, 4),
        "bold_t1w_poor": bool(is_poor),
    }


def _measure_displacement(xfm: Array, mask: Array, affine: Array) -> dict[str, float]:
    """Return the rotation and displacement of a transform by name.

    If the transform scales or shears, as a transform of another program may do, only its
    displacement in mm is returned.
    """
    try:
        return displacement_summary(xfm, mask, affine)
    except InvalidInput:
        return {
            "displacement_rms_mm": round(
                rms_distance(np.eye(4), xfm, voxel_centers(mask, affine)), 4
            )
        }


def register_pair_to_bold(
    boldref: Volume, highres: Volume, highres2lowres: Array | None, options: AntsOptions
) -> tuple[Array, dict[str, object]]:
    """Register the high-resolution image of a T2*w pair to the boldref with a rigid transform.

    The metric is mutual information instead of intensity differences, because the pair has another
    T1 weighting and no EPI distortion. The high-resolution image is registered directly, as it was
    more accurate than the low-resolution image (0.11 and 0.14 mm rms in the phantom). The
    low-resolution image has the geometry of the BOLD series, so the high-resolution image is first
    moved to its position by `highres2lowres`.

    Parameters
    ----------
    boldref : Volume
        Boldref of the run (3D).
    highres : Volume
        High-resolution image of the T2*w pair (3D).
    highres2lowres : Array | None
        Transform of a lowres point to its highres point (4 x 4, RAS+ mm); None is the identity.
    options : AntsOptions
        Seed and names of files.

    Returns
    -------
    tuple[Array, dict[str, object]]
        Transform of a boldref point to its highres point (4 x 4, RAS+ mm), and facts for the
        report.
    """
    to_highres = np.eye(4) if highres2lowres is None else np.asarray(highres2lowres, dtype=float)
    aligned_image = Volume(data=highres.data, affine=invert(to_highres) @ highres.affine)
    bold_mask = masks.brain_mask(boldref.data, boldref.affine)
    highres_mask = masks.brain_mask(highres.data, highres.affine)
    fit = register_rigid(
        boldref,
        aligned_image,
        bold_mask,
        highres_mask,
        options,
        soft=True,
    )
    xfm = to_highres @ fit.xfm
    is_poor = fit.nmi < _POOR_NMI
    if is_poor:
        _LOGGER.warning(
            "The BOLD series and the T2*-weighted image are poorly aligned (mutual"
            " information %.3f). Check the registration in the report.",
            fit.nmi,
        )
    facts: dict[str, object] = {
        f"bold_pair_{key}": value
        for key, value in displacement_summary(xfm, bold_mask, boldref.affine).items()
    }
    facts |= {
        "bold_pair_start": fit.start,
        "bold_pair_nmi": round(fit.nmi, 4),
        "bold_pair_poor": bool(is_poor),
    }
    return xfm, facts


def combine_masks(
    boldref: Volume, factor: Factor, brain: tuple[Volume, Array] | None
) -> tuple[Array, Array, Array, dict[str, object]]:
    """Combine the brain masks of boldref and T1w image on the acquired and high-resolution grids.

    With a T1w brain mask, a voxel is included if at least half of it is inside that mask and it is
    within 4 mm of the boldref mask. This excludes scalp and regions without signal. If the two
    masks agree poorly (Dice below 0.7), the boldref mask is used instead.

    Parameters
    ----------
    boldref : Volume
        Boldref of the run (3D).
    factor : Factor
        Ratio of acquired to high-resolution voxel size along each axis.
    brain : tuple[Volume, Array] | None
        T1w brain mask, and the transform of a T1w point to its boldref point (4 x 4, RAS+ mm);
        None uses only the boldref mask.

    Returns
    -------
    tuple[Array, Array, Array, dict[str, object]]
        Masks on the acquired and high-resolution grids (boolean), voxel-to-world matrix of the
        high-resolution grid (4 x 4, RAS+ mm), and facts for the report.
    """
    bold_mask = masks.brain_mask(boldref.data, boldref.affine)
    shape, affine = hr_grid(boldref.data.shape, boldref.affine, factor)
    highres_bold_mask = upsample_mask(bold_mask, boldref.affine, shape, affine)
    facts: dict[str, object] = {"mask_source": BOLDREF_MASK}
    if brain is None:
        return bold_mask, highres_bold_mask, affine, facts
    t1w_mask, xfm = brain
    to_t1w = invert(xfm)
    lowres_mask, highres_mask = (
        low_resolution_grids.coverage(t1w_mask.data, t1w_mask.affine, grid_shape, grid, to_t1w)
        >= 0.5
        for grid_shape, grid in ((boldref.data.shape, boldref.affine), (shape, affine))
    )
    dice = similarity.dice(bold_mask, lowres_mask)
    facts["mask_dice"] = round(dice, 4)
    if dice < _POOR_DICE:
        _LOGGER.warning(
            "The brain mask of the T1w image does not match the BOLD series (Dice"
            " coefficient %.2f), so the boldref mask is used instead",
            dice,
        )
        return bold_mask, highres_bold_mask, affine, facts
    facts["mask_source"] = (
        "T1w brain mask, restricted to voxels within 4 mm of the boldref brain mask"
    )
    margin_mm = MARGIN_MM * masks.head_scale(bold_mask, boldref.affine)
    lowres_mask = lowres_mask & masks.grow(bold_mask, boldref.affine, margin_mm)
    highres_mask = highres_mask & masks.grow(highres_bold_mask, affine, margin_mm)
    return lowres_mask, highres_mask, affine, facts


def upsample_mask(mask: Array, affine: Array, shape: Shape, highres_affine: Array) -> Array:
    """Resample a mask to a high-resolution grid over the same field of view.

    A voxel is included if at least half of it is inside the mask, or if the nearest voxel of the
    mask is.
    """
    is_covered = low_resolution_grids.coverage(mask, affine, shape, highres_affine) >= 0.5
    return is_covered | (
        sample_volume(mask.astype(np.float32), affine, shape, highres_affine, order=0) > 0.5
    )
