"""Rigid registration of two images of one head by mutual information.

Matrices are 4x4 (RAS mm) and map a point of the fixed image to its position in the moving image.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import AntsOptions, RegistrationStage, read_linear
from bids_sr.preproc.brain import downsample
from bids_sr.preproc.linear import LinearFit, LinearRegistration
from bids_sr.spatial import low_resolution_grids, masks
from bids_sr.spatial.reproducible_numbers import round_values
from bids_sr.spatial.transforms import (
    displacement,
    quarter_turns,
    rigid_params,
    rms_distance,
    voxel_centers,
)

# fraction of the smaller head; if the heads overlap by less, the headers are not the only start
_MIN_OVERLAP = 0.3
# fraction of the best start's mutual information; below it, registration from the headers is poor
_POOR_MATCH_RATIO = 0.5
# mm, size of the voxels on which starts are compared; scaled with the head
_LARGE_VOXEL_MM = 4.0
# fraction of a large voxel (rms over the head); closer transforms are the same result
_SAME_RESULT_VOXELS = 0.25
# A header that is wrong by a quarter turn leads to a match with little information. Rotated starts
# are registered on large voxels if they are close to that match before registration.
_N_TURNS_TRIED = 3
_CLOSE_MATCH_RATIO = 0.25  # fraction of the mutual information above 1 that counts as close
# A rotated start is selected if it raises the mutual information above 1 by this factor.
_MIN_TURNED_GAIN = 1.5
# Once the metric no longer improves, its slope slowly falls to this value. With the default of
# `RegistrationStage`, almost all iterations are computed; with 7e-7, a slab of 8 slices moved by
# 0.055 mm.
_CONVERGENCE_SLOPE = 5e-7
_SOFT_SIGMA_VOXELS = 0.35  # voxels, smoothing (sigma) of the last level of a soft registration


@frozen
class _Fit:
    """Rigid transform and its quality.

    `xfm` transforms a fixed point to its moving point (4 x 4, RAS+ mm). `nmi` is the normalized
    mutual information in the fixed mask and its rim; 1 if the images are independent. `start` is
    the start of the registration: "headers", "centers of mass" or "turned headers".
    """

    xfm: Array
    nmi: float
    start: str


def register_rigid(
    fixed: Volume,
    moving: Volume,
    fixed_mask: Array,
    moving_mask: Array,
    options: AntsOptions,
    *,
    soft: bool = False,
) -> _Fit:
    """Register two images of one head with a rigid transform by mutual information.

    Registration starts from the headers (scanner coordinates). If the heads hardly overlap or the
    match is poor, it also starts from the centers of mass, and the better match is selected; if
    both starts lead to the same result on large voxels, only the second one is used.

    A header may also be wrong by quarter turns. The best rotation by quarter turns about the
    centers of mass is registered if it matches better on large voxels, and selected if it raises
    the mutual information above 1 by half.

    Parameters
    ----------
    fixed, moving : Volume
        Images (3D). The image with larger voxels or less of the head should be the fixed image.
    fixed_mask, moving_mask : Array
        Heads or brains on the grids of the images (3D, boolean).
    options : AntsOptions
        Seed and names of files.
    soft : bool, optional
        Whether to smooth also at the last level, by about a third of a voxel.

    Returns
    -------
    _Fit
        Transform of the best match, with its mutual information and start.
    """
    voxel_mm = float(fixed.zooms.min())
    registration = LinearRegistration(
        fixed=fixed,
        moving=moving,
        metric_mask=dilate_for_metric(fixed_mask, fixed),
        stages=linear_stages("Rigid", voxel_mm, _SOFT_SIGMA_VOXELS * voxel_mm if soft else 0.0),
        options=options,
        read_xfm=_read_rigid,
    )
    large_mm = _LARGE_VOXEL_MM * masks.head_scale(moving_mask, moving.affine)
    large_registration = _use_large_voxels(registration, fixed_mask, large_mm)
    fixed_center = _center_of_mass(fixed_mask, fixed.affine)
    moving_center = _center_of_mass(moving_mask, moving.affine)
    shift = np.eye(4)
    shift[:3, 3] = moving_center - fixed_center
    starts = {"headers": np.eye(4), "centers of mass": shift}
    if _overlap(fixed, fixed_mask, moving, moving_mask) >= _MIN_OVERLAP:
        scores = {name: registration.score(start) for name, start in starts.items()}
        if scores["headers"] - 1 >= _POOR_MATCH_RATIO * (scores["centers of mass"] - 1):
            del starts["centers of mass"]
    if len(starts) > 1 and _have_same_result(
        large_registration, starts.values(), tolerance_mm=_SAME_RESULT_VOXELS * large_mm
    ):
        del starts["headers"]  # the centers of mass are closer to the common result
    fits = {
        name: registration.fit_from(start, str(number))
        for number, (name, start) in enumerate(starts.items())
    }
    best_start = max(fits, key=lambda name: fits[name].nmi)
    best = fits[best_start]
    turned_start = _find_turned_start(large_registration, fixed_center, moving_center, best)
    if turned_start is not None:
        turned_fit = registration.fit_from(turned_start, str(len(fits)))
        if turned_fit.nmi - 1 > _MIN_TURNED_GAIN * (best.nmi - 1):
            best, best_start = turned_fit, "turned headers"
    return _Fit(xfm=best.xfm, nmi=best.nmi, start=best_start)


def _read_rigid(file: Path) -> Array:
    """Read the rigid transform that ANTs wrote."""
    return nearest_rigid(read_linear(file))


def nearest_rigid(matrix: Array) -> Array:
    """Return the closest rigid matrix, which removes rounding errors of single-precision files."""
    left_vectors, _, right_vectors = np.linalg.svd(matrix[:3, :3])
    rigid_matrix = np.array(matrix, dtype=float)
    rigid_matrix[:3, :3] = left_vectors @ right_vectors
    return round_values(rigid_matrix)


def _use_large_voxels(
    registration: LinearRegistration, fixed_mask: Array, mm: float
) -> LinearRegistration:
    """Return the first stage of a registration on voxels of `mm`.

    It takes a small part of the time. `fixed_mask` is without its rim.
    """
    fixed = downsample(registration.fixed, mm)
    mask = low_resolution_grids.downsample_mask(fixed_mask, registration.fixed.affine, mm)
    return replace(
        registration,
        fixed=fixed,
        moving=downsample(registration.moving, mm),
        metric_mask=dilate_for_metric(mask, fixed),
        stages=linear_stages("Rigid", mm)[:1],
    )


def dilate_for_metric(mask: Array, image: Volume) -> Array:
    """Dilate a head or brain mask by 1.5 times the largest voxel size.

    Registration metrics need the surroundings of the head. The image is on the grid of the mask
    (3D, boolean).
    """
    return masks.grow(mask, image.affine, 1.5 * float(image.zooms.max()))


def linear_stages(
    kind: str, voxel_mm: float, last_sigma_mm: float = 0.0
) -> list[RegistrationStage]:
    """Return the stages of a linear registration.

    `kind` is a transform of ANTs, ``Rigid`` or ``Affine``. `voxel_mm` is the smallest voxel size
    of the images, and `last_sigma_mm` the smoothing of the last level (sigma). The second of two
    stages uses all voxels.
    """
    return [
        RegistrationStage(
            transform=f"{kind}[0.1]",
            iterations=(100, 50),
            shrink=(2, 1),
            mm=(1.2 * voxel_mm, 0.6 * voxel_mm),
            threshold=_CONVERGENCE_SLOPE,
        ),
        RegistrationStage(
            transform=f"{kind}[0.05]",
            iterations=(30,),
            shrink=(1,),
            mm=(last_sigma_mm,),
            sampling=1.0,
            threshold=_CONVERGENCE_SLOPE,
        ),
    ]


def _center_of_mass(mask: Array, affine: Array) -> Array:
    """Return the center of mass of a mask (3,; RAS+ mm)."""
    return apply_affine(affine, np.argwhere(mask).mean(axis=0))


def _overlap(fixed: Volume, fixed_mask: Array, moving: Volume, moving_mask: Array) -> float:
    """Return the fraction of the smaller mask that the headers place inside the other mask."""
    moving_on_fixed = (
        low_resolution_grids.coverage(moving_mask, moving.affine, fixed.data.shape, fixed.affine)
        > 0.5
    )
    volumes_mm3 = [
        fixed_mask.sum() * np.prod(fixed.zooms),
        moving_mask.sum() * np.prod(moving.zooms),
    ]
    return float(
        (moving_on_fixed & fixed_mask).sum() * np.prod(fixed.zooms) / max(min(volumes_mm3), 1.0)
    )


def _have_same_result(
    registration: LinearRegistration, starts: Iterable[Array], *, tolerance_mm: float
) -> bool:
    """Return whether registrations from two starts lead to nearly the same transform."""
    first, second = (
        registration.fit_from(start, f"start{number}").xfm for number, start in enumerate(starts)
    )
    points = voxel_centers(registration.metric_mask, registration.fixed.affine)
    return rms_distance(first, second, points) < tolerance_mm


def _find_turned_start(
    registration: LinearRegistration, fixed_center: Array, moving_center: Array, best: LinearFit
) -> Array | None:
    """Return the start rotated by multiples of 90 degrees that should be registered, if any.

    A rotated start is promising if it is close to the best match so far (`best`), or better than
    the headers before registration. The most promising starts are registered on large voxels
    (`registration`). The result is the best of these transforms (4 x 4, RAS+ mm); None unless it
    matches better than `best` on these voxels. `fixed_center` and `moving_center` are the centers
    of mass of the heads (RAS+ mm), which are aligned.
    """
    scored_starts = []
    for rotation in quarter_turns():
        start = np.eye(4)
        start[:3, :3] = rotation
        start[:3, 3] = moving_center - rotation @ fixed_center
        scored_starts.append((registration.score(start), start))
    scored_starts.sort(key=lambda scored_start: -scored_start[0])
    minimum = min(_CLOSE_MATCH_RATIO * (best.nmi - 1), registration.score(np.eye(4)) - 1)
    promising_starts = [start for start_nmi, start in scored_starts if start_nmi - 1 >= minimum]
    best_start, best_nmi = None, registration.score(best.xfm)
    for number, start in enumerate(promising_starts[:_N_TURNS_TRIED]):
        fit = registration.fit_from(start, f"turned{number}")
        if fit.nmi > best_nmi:
            best_start, best_nmi = fit
    return best_start


def displacement_summary(xfm: Array, mask: Array, affine: Array) -> dict[str, float]:
    """Return the displacement of a head by a rigid transform.

    The values by name are the shift of the center (mm), the rotation (degrees), and the rms and
    maximal displacement (mm) over the mask.
    """
    points = voxel_centers(mask, affine)
    parameters = rigid_params(xfm, points.mean(axis=0))
    return {
        "offset_mm": round(float(np.linalg.norm(parameters[:3])), 4),
        "offset_deg": round(float(np.rad2deg(np.linalg.norm(parameters[3:]))), 4),
        "displacement_rms_mm": round(rms_distance(np.eye(4), xfm, points), 4),
        "displacement_max_mm": round(float(displacement(np.eye(4), xfm, points).max()), 4),
    }
