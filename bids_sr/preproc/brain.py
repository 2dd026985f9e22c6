"""Brain mask of a T1w image by registration to a skull-stripped template.

The image may show a whole head, a defaced head or an extracted brain. The brain mask of the
template is transformed to the image by an affine registration, whose metric is restricted to the
template's brain, and then adapted to the tissue in the image. Implausible masks and poses are
reported.
"""

from typing import Any

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import AntsOptions, RegistrationStage
from bids_sr.preproc.linear import LinearRegistration, mutual_information
from bids_sr.spatial import low_resolution_grids, masks, similarity
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import (
    invert,
    quarter_turns,
    rigid_matrix,
    rotation_angle_deg,
    voxel_centers,
)

_BRAIN_VOLUME_ML = (900.0, 1900.0)  # ml, brain volume of an adult or a child of school age
# largest plausible determinant of the template-to-head affine; the templates are larger than most
# brains
_MAX_DETERMINANT = 1.1
_MIN_DICE = 0.85  # smallest plausible Dice coefficient of the mask and the template's brain
# mm, distance from the top of the head that contains brain and cerebellum
_BRAIN_HEIGHT_MM = 130.0
# initial scaling of the template; MNI templates are larger than most brains, so that their edge
# would otherwise start in the scalp
_INITIAL_SCALE = 0.92
# Normalized mutual information in the template's brain below which the header may be wrong by
# quarter turns. Upright heads had at least 1.09, rotated heads at most 1.04.
_MIN_UPRIGHT_NMI = 1.06
_TURNED_POSE_VOXEL_MM = 8.0  # mm, voxel size for the comparison of poses of rotated heads
_N_TURNS_TRIED = 3  # rotations that are registered
# A rotated pose is accepted if it raises the mutual information above 1 by this factor.
_MIN_TURNED_GAIN = 1.5


def brain_from_head(
    head: Volume,
    template: Volume,
    template_mask: Array,
    options: AntsOptions,
    *,
    adapt_to_tissue: bool = True,
) -> tuple[Array, Array, dict[str, object]]:
    """Compute the brain mask of a head by registration to a template.

    The mask is computed at 2 mm, so that its surface is smooth at a finer scale. Only an affine is
    used, because a nonlinear registration of a skull-stripped template to a whole head pulls the
    edge of the mask into the cortex.

    Parameters
    ----------
    head : Volume
        Image of a whole head, a defaced head or a brain (3D).
    template : Volume
        Skull-stripped T1w template (3D).
    template_mask : Array
        Brain voxels of the template (3D, boolean).
    options : AntsOptions
        Seed and names of files. If sloppy, the template is registered from one start instead of
        two.
    adapt_to_tissue : bool, optional
        Whether the mask is adapted to the tissue of a T1w image. Set this to False for other
        contrasts, whose tissues have another order of intensities.

    Returns
    -------
    tuple[Array, Array, dict[str, object]]
        Brain voxels (3D, boolean), transform of a template point to its point in the head (4 x 4,
        RAS+ mm), and the metrics of `check_brain`.
    """
    low_head = downsample(head, 2.0)
    xfm, nmi, header_nmi = _align_head(low_head, template, template_mask, options)
    mapped_mask = low_resolution_grids.coverage(
        template_mask, template.affine, low_head.data.shape, low_head.affine, invert(xfm)
    )
    mask = (
        _adapt_mask(low_head, mapped_mask).astype(np.float32) if adapt_to_tissue else mapped_mask
    )
    metrics = check_brain(
        volume_ml(mask > 0.5, low_head.affine),
        determinant=float(np.linalg.det(xfm[:3, :3])),
        nmi=nmi,
        nmi_headers=header_nmi,
        template_dice=similarity.dice(mask > 0.5, mapped_mask > 0.5),
        turned_deg=rotation_angle_deg(xfm),
    )
    brain = sample_volume(mask, low_head.affine, head.data.shape, head.affine, order=1) > 0.5
    return brain, xfm, metrics


def _align_head(
    head: Volume, template: Volume, template_mask: Array, options: AntsOptions
) -> tuple[Array, float, float]:
    """Register the template to the head by an affine, at 4 mm from the best of many starts.

    If the match is poor, starts for headers that are wrong by quarter turns are also registered.

    The metric is restricted to the template's brain, where only the true pose aligns ventricles,
    white matter and cortex. With a margin around the brain, the empty surroundings of the template
    match the air around the scalp better than the skull, and the template grows to the size of the
    head.

    Returns the transform of a template point to its point in the head (4 x 4, RAS+ mm), and the
    normalized mutual information in the template's brain after registration and with the headers.
    """
    low_template = downsample(template, 4.0)
    low_mask = low_resolution_grids.downsample_mask(template_mask, template.affine, 4.0)
    low_head = downsample(head, 4.0)
    poses = _make_initial_poses(low_head, low_template)
    levels: dict[str, Any] = {
        "iterations": (60, 20),
        "shrink": (2, 1),
        "mm": (4.0, 2.0),
        "sampling": 0.25,
    }
    registration = LinearRegistration(
        fixed=low_template,
        moving=low_head,
        metric_mask=low_mask,
        stages=[
            RegistrationStage(transform="Rigid[0.1]", **levels),
            RegistrationStage(transform="Affine[0.1]", **levels),
        ],
        options=options,
    )
    scores = [registration.score(pose) for pose in poses]
    fits = [
        registration.fit_from(poses[number], str(number))
        for number in np.argsort(scores)[::-1][: 1 if options.sloppy else 2]
    ]
    best = max(fits, key=lambda fit: fit.nmi)
    if best.nmi < _MIN_UPRIGHT_NMI:
        for number, pose in enumerate(_find_turned_poses(low_head, low_template, low_mask)):
            turned_fit = registration.fit_from(pose, f"turned{number}")
            if turned_fit.nmi - 1 > _MIN_TURNED_GAIN * (best.nmi - 1):
                best = turned_fit
    return best.xfm, best.nmi, scores[0]


def _find_turned_poses(head: Volume, template: Volume, template_mask: Array) -> list[Array]:
    """Return the best poses of the template in a head whose header is wrong by quarter turns.

    The list contains one pose for each of the best rotations, best first.
    """
    low_template = downsample(template, _TURNED_POSE_VOXEL_MM)
    low_head = downsample(head, _TURNED_POSE_VOXEL_MM)
    low_mask = low_resolution_grids.downsample_mask(
        template_mask, template.affine, _TURNED_POSE_VOXEL_MM
    )
    center = voxel_centers(masks.head_mask(head.data, head.affine), head.affine).mean(axis=0)
    best_poses: list[tuple[float, int, Array]] = []
    for rotation in quarter_turns():
        to_upright = np.eye(4)
        to_upright[:3, :3], to_upright[:3, 3] = rotation.T, center - rotation.T @ center
        upright = Volume(data=low_head.data, affine=to_upright @ low_head.affine)
        scores = [
            (mutual_information(low_template, upright, pose, low_mask), number, pose)
            for number, pose in enumerate(_make_initial_poses(upright, low_template))
        ]
        score, _, pose = max(scores)
        best_poses.append((score, len(best_poses), invert(to_upright) @ pose))
    return [pose for _, _, pose in sorted(best_poses, reverse=True)[:_N_TURNS_TRIED]]


def downsample(image: Volume, mm: float) -> Volume:
    """Downsample an image to voxels of about `mm` over the same field of view (float32)."""
    data, affine = low_resolution_grids.downsample_volume(image.data, image.affine, mm)
    return Volume(data=data, affine=affine)


def _make_initial_poses(head: Volume, template: Volume) -> list[Array]:
    """Return initial transforms of a template point to its point in the head (4 x 4, RAS+ mm).

    The identity (the pose of the headers) comes first. The other transforms use a scaled-down
    template with several pitch angles and several shifts from the center of the upper 130 mm of
    the head.
    """
    head_points = voxel_centers(masks.head_mask(head.data, head.affine), head.affine)
    head_top_mm = np.percentile(head_points[:, 2], 99.9)
    head_center = head_points[head_points[:, 2] > head_top_mm - _BRAIN_HEIGHT_MM].mean(axis=0)
    brain_points = voxel_centers(template.data > 0.1, template.affine)
    brain_center = brain_points.mean(axis=0)
    scaling = np.diag([_INITIAL_SCALE, _INITIAL_SCALE, _INITIAL_SCALE, 1.0])
    scaling[:3, 3] = (1 - _INITIAL_SCALE) * brain_center
    poses = [np.eye(4)]
    for pitch in np.deg2rad([-30, -20, -10, 0, 10, 20, 30]):
        for superior in (-24, -12, 0, 12):
            for anterior in (-12, 0, 12):
                shift = head_center - brain_center + np.array([0.0, anterior, superior])
                poses.append(rigid_matrix([*shift, pitch, 0, 0], brain_center) @ scaling)
    return poses


def _adapt_mask(head: Volume, template_mask: Array) -> Array:
    """Adapt a transformed template mask to the tissue of a bias-corrected T1w image.

    Tissue is brighter than about half of the gray matter intensity. Parts connected by bridges of
    less than a few mm are removed, and sulci and ventricles are closed. The result is within 3 mm
    of the transformed mask.

    `template_mask` is on the grid of the head, from 0 to 1 (3D). The result is boolean.
    """
    inner_brain = masks.grow(template_mask > 0.5, head.affine, -4.0)
    inner_values = head.data[inner_brain]
    tissue = (
        inner_values[inner_values > masks.otsu_threshold(inner_values)]
        if inner_values.size
        else inner_values
    )
    if tissue.size == 0:
        return template_mask > 0.5
    darkest = np.percentile(inner_values, 25) * 0.55
    brightest = np.percentile(tissue, 98) * 1.15
    outer_limit = masks.grow(template_mask > 0.5, head.affine, 3.0)
    bright_voxels = (head.data > darkest) & (head.data < brightest) & outer_limit
    tissue_core = masks.largest_component(masks.open_mask(bright_voxels, head.affine, 2.5))
    dilated_core = masks.grow(tissue_core, head.affine, 1.5) & bright_voxels
    mask = masks.close_mask(
        masks.largest_component(dilated_core | (inner_brain & (head.data > 0))), head.affine, 6.0
    )
    return masks.fill_holes(mask) & outer_limit


def check_brain(
    volume: float,
    *,
    determinant: float | None = None,
    nmi: float | None = None,
    nmi_headers: float | None = None,
    template_dice: float | None = None,
    turned_deg: float | None = None,
) -> dict[str, object]:
    """Return metrics of a brain mask, and the reasons why it is probably wrong.

    `volume` is in ml. `determinant` is the determinant of the template-to-head affine; this and
    the following values are None if the mask was not computed by registration, such as a mask of
    another program. `nmi` and `nmi_headers` are the normalized mutual information in the
    template's brain after registration and with the headers. `template_dice` compares the mask and
    the transformed template mask, and `turned_deg` is the rotation from template to head
    (degrees).

    Returns metrics by name, without those that are None; ``brain_doubts`` lists the reasons as
    clauses and is empty for a plausible mask.
    """
    smallest_ml, largest_ml = _BRAIN_VOLUME_ML
    doubts = []
    if not smallest_ml <= volume <= largest_ml:
        doubts.append(
            f"the volume of the brain mask is {volume:.0f} ml (expected {smallest_ml:.0f} to"
            f" {largest_ml:.0f} ml)"
        )
    if determinant is not None and determinant > _MAX_DETERMINANT:
        doubts.append(
            f"the template was enlarged to {determinant:.2f} times its volume, which"
            " suggests that it was registered to the scalp instead of the brain"
        )
    if nmi is not None and nmi_headers is not None and nmi < nmi_headers:
        doubts.append(
            "registration to the template did not improve the alignment given by the image headers"
        )
    if template_dice is not None and template_dice < _MIN_DICE:
        doubts.append(
            "the brain mask overlaps poorly with the template brain (Dice coefficient"
            f" {template_dice:.2f})"
        )
    metrics = {
        "brain_volume_ml": volume,
        "brain_determinant": determinant,
        "brain_nmi": nmi,
        "brain_nmi_headers": nmi_headers,
        "brain_template_dice": template_dice,
        "brain_turned_deg": turned_deg,
    }
    rounded_metrics: dict[str, object] = {
        name: round(value, 4) for name, value in metrics.items() if value is not None
    }
    return rounded_metrics | {"brain_doubts": doubts}


def volume_ml(mask: Array, affine: Array) -> float:
    """Return the volume of a mask (ml)."""
    return np.count_nonzero(mask) * abs(float(np.linalg.det(affine[:3, :3]))) / 1000


def empty_grid_2mm(template: Volume) -> Volume:
    """Return an empty image with 2 mm voxels that starts at the template's first voxel center."""
    zooms = template.zooms
    affine = template.affine.copy()
    affine[:3, :3] = affine[:3, :3] / zooms * 2.0
    shape = np.ceil(np.array(template.data.shape) * zooms / 2.0 - 1e-3).astype(int)
    return Volume(data=np.zeros(shape, dtype=np.float32), affine=affine)
