"""Brain mask of a T1w image by antspyx and a skull-stripped template.

The mask of a whole head, a defaced head or a brain already stripped is the template's mask,
carried over by an affine registration whose metric is computed on the template's brain alone, then
fitted to the tissue found. It is checked for what cannot be true of a brain, or of the pose behind
it.
"""

from typing import Any

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume
from bids_sr.registration.ants import Stage, read_linear, register
from bids_sr.spatial import coarse_grids, masks, similarity
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import invert, points_in, quarter_turns, rigid_matrix, turn_deg

_VOLUME_ML = (900.0, 1900.0)  # of the brain of an adult or a child of school age
# of the affine from template to head; the templates are larger than most brains
_MAX_DETERMINANT = 1.1
_MIN_DICE = 0.85  # of the mask and the template's brain


def check_brain(
    volume: float,
    *,
    determinant: float | None = None,
    nmi: float | None = None,
    nmi_headers: float | None = None,
    template_dice: float | None = None,
    turned_deg: float | None = None,
) -> dict[str, object]:
    """Return figures of a brain mask, and under `brain_doubts` why it is probably wrong.

    A doubt is a clause; none where nothing speaks against the mask.

    `determinant`: of the affine from template to head; it and the next are None where no pose
    underlies the mask, as for that of another program. `nmi, nmi_headers`: normalized mutual
    information in the template's brain by the affine and by the headers. `turned_deg`: angle of
    the head to the template by the affine.
    """
    low, high = _VOLUME_ML
    doubts = []
    if not low <= volume <= high:
        doubts.append(
            f"the volume of the brain mask is {volume:.0f} ml (expected {low:.0f} to"
            f" {high:.0f} ml)"
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
    figures = {
        "brain_volume_ml": volume,
        "brain_determinant": determinant,
        "brain_nmi": nmi,
        "brain_nmi_headers": nmi_headers,
        "brain_template_dice": template_dice,
        "brain_turned_deg": turned_deg,
    }
    found: dict[str, object] = {k: round(v, 4) for k, v in figures.items() if v is not None}
    return found | {"brain_doubts": doubts}


def volume_ml(mask: Array, affine: Array) -> float:
    """Volume of a mask (ml)."""
    return np.count_nonzero(mask) * abs(float(np.linalg.det(affine[:3, :3]))) / 1000


_TOP_MM = 130.0  # brain and cerebellum lie within this distance below the top of the head
# the MNI templates are larger than most brains; at their own size they start in the scalp
_START_SCALE = 0.92
# Below this normalized mutual information in the template's brain the header may be wrong by
# quarter turns; upright heads had 1.09 and more, turned ones at most 1.04.
_UNLIKE_NMI = 1.06
_TURN_MM = 8.0  # voxels on which poses of turned heads are compared
_TURNS_TRIED = 3
# growth of the mutual information above 1, from which a turned pose is believed
_TURNED_GAIN = 1.5


def coarse(image: Volume, mm: float) -> Volume:
    """An image on voxels of about `mm`, same outer edges.

    Low-passed image on larger voxels (3D, float32).
    """
    data, affine = coarse_grids.coarsen(image.data, image.affine, mm)
    return Volume(data=data, affine=affine)


def two_mm_grid(template: Volume) -> Volume:
    """Return an empty 2 mm grid that starts at the center of the template's first voxel.

    Image of zeros on voxels of 2 mm (3D).
    """
    zooms = template.zooms
    affine = template.affine.copy()
    affine[:3, :3] = affine[:3, :3] / zooms * 2.0
    shape = np.ceil(np.array(template.data.shape) * zooms / 2.0 - 1e-3).astype(int)
    return Volume(data=np.zeros(shape, dtype=np.float32), affine=affine)


def _starts(head: Volume, template: Volume) -> list[Array]:
    """Return initial poses of the template in the head.

    The pose of the headers comes first, then smaller templates by pitch and shift about the top.
    """
    inside = points_in(masks.head_mask(head.data, head.affine), head.affine)
    top = np.percentile(inside[:, 2], 99.9)
    center = inside[inside[:, 2] > top - _TOP_MM].mean(axis=0)
    brain = points_in(template.data > 0.1, template.affine)
    middle = brain.mean(axis=0)
    shrunk = np.diag([_START_SCALE, _START_SCALE, _START_SCALE, 1.0])
    shrunk[:3, 3] = (1 - _START_SCALE) * middle
    poses = [np.eye(4)]
    for pitch in np.deg2rad([-30, -20, -10, 0, 10, 20, 30]):
        for up in (-24, -12, 0, 12):
            for front in (-12, 0, 12):
                shift = center - middle + np.array([0.0, front, up])
                poses.append(rigid_matrix([*shift, pitch, 0, 0], middle) @ shrunk)
    return poses


def mutual_information(fixed: Volume, moving: Volume, xfm: Array, mask: Array) -> float:
    """Return the normalized mutual information of `fixed` and `moving` inside `mask`.

    `mask` is on the fixed grid; `xfm` (fixed to moving) resamples `moving` onto it.

    Measure from 1 (independent) to 2 (one-to-one).
    """
    seen = sample_volume(
        moving.data, moving.affine, fixed.data.shape, fixed.affine, xfm, order=1, zero_outside=True
    )
    return similarity.normalized_mutual_information(fixed.data[mask], seen[mask])


def _align_head(
    head: Volume, template: Volume, template_mask: Array, *, seed: int, prefix: str, tries: int = 2
) -> tuple[Array, float, float]:
    """Return the template-to-head affine (RAS mm), the best of many starts at 4 mm.

    It maps a template point to its point in the head. If the match is poor, heads whose header is
    wrong by quarter turns are tried, too.

    With it the normalized mutual information in the template's brain, and that by the headers
    alone.

    The metric sees the template's brain alone, where only the true pose puts ventricles, white
    matter and cortex on their like. With a rim around it, the template's empty surroundings find a
    better match in the air around the scalp than in the skull, and the template grows to the size
    of the head.
    """
    low_template = coarse(template, 4.0)
    inside = coarse_grids.coarse_mask(template_mask, template.affine, 4.0)
    low_head = coarse(head, 4.0)
    poses = _starts(low_head, low_template)
    scores = [mutual_information(low_template, low_head, pose, inside) for pose in poses]
    levels: dict[str, Any] = {
        "iterations": (60, 20),
        "shrink": (2, 1),
        "mm": (4.0, 2.0),
        "sampling": 0.25,
    }
    stages = [Stage(transform="Rigid[0.1]", **levels), Stage(transform="Affine[0.1]", **levels)]

    def aligned(pose: Array, name: str) -> tuple[float, Array]:
        files = register(
            low_template,
            low_head,
            stages,
            seed=seed,
            prefix=f"{prefix}{name}_",
            start=pose,
            fixed_mask=inside,
        )
        matrix = read_linear(files[0])
        return mutual_information(low_template, low_head, matrix, inside), matrix

    found = [aligned(poses[n], str(n)) for n in np.argsort(scores)[::-1][:tries]]
    nmi, xfm = max(found, key=lambda pair: pair[0])
    if nmi < _UNLIKE_NMI:
        for number, pose in enumerate(_turned_poses(low_head, low_template, inside)):
            turned_nmi, turned = aligned(pose, f"turned{number}")
            if turned_nmi - 1 > _TURNED_GAIN * (nmi - 1):
                nmi, xfm = turned_nmi, turned
    return xfm, nmi, scores[0]


def _turned_poses(head: Volume, template: Volume, template_mask: Array) -> list[Array]:
    """Return the best poses of the template in a head whose header is wrong by quarter turns.

    One pose of each of the best turns, best first.
    """
    low_template, low_head = coarse(template, _TURN_MM), coarse(head, _TURN_MM)
    inside = coarse_grids.coarse_mask(template_mask, template.affine, _TURN_MM)
    center = points_in(masks.head_mask(head.data, head.affine), head.affine).mean(axis=0)
    best: list[tuple[float, int, Array]] = []
    for turn in quarter_turns():
        back = np.eye(4)
        back[:3, :3], back[:3, 3] = turn.T, center - turn.T @ center
        upright = Volume(data=low_head.data, affine=back @ low_head.affine)
        scored = [
            (mutual_information(low_template, upright, pose, inside), number, pose)
            for number, pose in enumerate(_starts(upright, low_template))
        ]
        score, _, pose = max(scored)
        best.append((score, len(best), invert(back) @ pose))
    return [pose for _, _, pose in sorted(best, reverse=True)[:_TURNS_TRIED]]


def _fit_mask(head: Volume, carried: Array) -> Array:
    """Brain mask from the carried one (fraction in [0, 1]) and the tissue of a T1w without bias.

    Gray and white matter are what is brighter than about half of the gray matter; what hangs on by
    less than a few mm is cut off; sulci and ventricles are closed; the result stays within 3 mm of
    the carried mask.
    """
    sure = masks.grow(carried > 0.5, head.affine, -4.0)
    inside = head.data[sure]
    tissue = inside[inside > masks.otsu(inside)] if inside.size else inside
    if tissue.size == 0:
        return carried > 0.5
    low, high = np.percentile(inside, 25) * 0.55, np.percentile(tissue, 98) * 1.15
    limit = masks.grow(carried > 0.5, head.affine, 3.0)
    bright = (head.data > low) & (head.data < high) & limit
    core = masks.largest_part(masks.open_(bright, head.affine, 2.5))
    near = masks.grow(core, head.affine, 1.5) & bright
    mask = masks.close(masks.largest_part(near | (sure & (head.data > 0))), head.affine, 6.0)
    return masks.fill(mask) & limit


def brain_from_head(
    head: Volume,
    template: Volume,
    template_mask: Array,
    *,
    seed: int,
    prefix: str,
    sloppy: bool,
    fitted: bool = True,
) -> tuple[Array, Array, dict[str, object]]:
    """Return brain mask (head's grid), template-to-head affine, and metrics of both.

    The affine maps a template point to its point in the head.

    Worked out at 2 mm; the mask's surface is smooth below that. The affine alone carries the
    template's mask: a deformation of a stripped template onto a whole head pulls the mask's edge
    into the cortex. The mask of a T1w image is `fitted` to its tissue; in another contrast, whose
    tissues lie in another order, the template's is taken as it is. Sloppy: one start in place of
    two.

    Parameters
    ----------
    head : Volume
        Image of a whole head, a defaced one, or a brain (3D).
    template : Volume
        Skull-stripped T1w template (3D).
    template_mask : Array
        Voxels of the brain in the template (3D, boolean).
    seed : int
        Seed of the random samples of ANTs.
    prefix : str
        Path and first letters of the files that ANTs writes.
    sloppy : bool
        Whether to be quick instead of accurate.
    fitted : bool, optional
        Whether the mask is fitted to the tissue of a T1w image.

    Returns
    -------
    tuple[Array, Array, dict[str, object]]
        Brain voxels (3D, boolean), affine (4 x 4, RAS+ mm), and the check of both.
    """
    low = coarse(head, 2.0)
    tries = 1 if sloppy else 2
    xfm, nmi, by_headers = _align_head(
        low, template, template_mask, seed=seed, prefix=prefix, tries=tries
    )
    carried = coarse_grids.coverage(
        template_mask, template.affine, low.data.shape, low.affine, invert(xfm)
    )
    mask = _fit_mask(low, carried).astype(np.float32) if fitted else carried
    check = check_brain(
        volume_ml(mask > 0.5, low.affine),
        determinant=float(np.linalg.det(xfm[:3, :3])),
        nmi=nmi,
        nmi_headers=by_headers,
        template_dice=similarity.dice(mask > 0.5, carried > 0.5),
        turned_deg=turn_deg(xfm),
    )
    fine = sample_volume(mask, low.affine, head.data.shape, head.affine, order=1) > 0.5
    return fine, xfm, check
