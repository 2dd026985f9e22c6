"""Alignment of structural scans with a template, and the cropped template grid.

The frame, the high-resolution scan of the first contrast, is aligned to the template by a rigid,
affine or nonlinear transform.

Source: attention_unet, section 3.1, which compares these three and crops the image to the
intracranial volume of the template.
"""

from typing import Literal

import numpy as np
from nibabel.affines import apply_affine

from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import AntsOptions, read_linear, register
from bids_sr.preproc.brain import downsample
from bids_sr.preproc.normalization import normalize
from bids_sr.preproc.rigid import dilate_for_metric, linear_stages
from bids_sr.spatial.low_resolution_grids import downsample_mask
from bids_sr.spatial.transforms import voxel_centers
from bids_sr.structural.point_transforms import PointTransform, point_transform_from_composite

_CROP_MM = 4.0  # margin of the grid around the template's brain
_RIGID_MM = 2.0  # voxel size for rigid registration
_SLOPPY_RIGID_MM = 4.0  # voxel size for a faster, less accurate registration
_POINT_STEP = 7  # of the brain voxels, every seventh is a point for the initial rigid transform


def template_grid(template: Volume, template_mask: Array, frame: Volume) -> Volume:
    """Return an empty image around the template's intracranial volume.

    The image has the axes of the template, isotropic voxels with the voxel volume of the frame,
    and a margin of `_CROP_MM`. `template_mask` marks the intracranial volume in the template (3D,
    boolean).
    """
    voxel_mm = float(np.prod(frame.zooms[:3])) ** (1 / 3)
    voxels = np.argwhere(template_mask)
    zooms = np.asarray(template.zooms[:3], dtype=np.float64)
    first = voxels.min(axis=0) - _CROP_MM / zooms
    last = voxels.max(axis=0) + _CROP_MM / zooms
    shape = tuple(int(n) for n in np.ceil((last - first) * zooms / voxel_mm) + 1)
    affine = np.array(template.affine, dtype=np.float64)
    affine[:3, 3] = apply_affine(template.affine, first)
    affine[:3, :3] = affine[:3, :3] * (voxel_mm / zooms)
    return Volume(np.zeros(shape, dtype=np.float32), affine)


def align_to_template(
    frame: Volume,
    brain: Array,
    template: Volume,
    template_mask: Array,
    affine: Array,
    *,
    transform: Literal["rigid", "affine", "nonlinear"],
    grid: Volume,
    options: AntsOptions,
) -> PointTransform:
    """Align the brain of the frame to the template, and return the template's points in the frame.

    The given affine is used without change. A rigid transform starts from the rigid transform
    closest to the affine over the brain and maximizes mutual information. A nonlinear transform
    (SyN) starts from the affine.

    `frame` is a bias-corrected scan, `template` a skull-stripped T1w image, and the masks of their
    brains are boolean (all 3D). `affine` maps a template point to its point in the frame (4 x 4,
    RAS+ mm), as the result does. `grid` is the cropped grid in template space, for samples of a
    displacement.
    """
    if transform == "affine":
        return PointTransform(xfm=affine)
    if transform == "nonlinear":
        forward, _ = normalize(
            frame,
            brain,
            template,
            template_mask,
            affine,
            options.extend("syn_"),
        )
        return point_transform_from_composite(grid, affine, forward)
    mm = _SLOPPY_RIGID_MM if options.sloppy else _RIGID_MM
    low_template = downsample(template, mm)
    low_mask = downsample_mask(template_mask, template.affine, mm)
    low_brain = downsample(frame.like(np.where(brain, frame.data, 0)), mm)
    points = voxel_centers(template_mask, template.affine, _POINT_STEP)
    files = register(
        low_template,
        low_brain,
        linear_stages("Rigid", float(low_template.zooms.min())),
        options.extend("rigid_"),
        start=closest_rigid(affine, points),
        fixed_mask=dilate_for_metric(low_mask, low_template),
    )
    return PointTransform(xfm=read_linear(files[0]))


def closest_rigid(matrix: Array, points: Array) -> Array:
    """Return the rigid matrix that is closest to an affine over a set of points (least squares).

    `matrix` is affine (4 x 4, RAS+ mm). `points` are points before the transform (N, 3; RAS+ mm).
    """
    targets = apply_affine(matrix, points)
    center, target_center = points.mean(axis=0), targets.mean(axis=0)
    u, _, vt = np.linalg.svd((targets - target_center).T @ (points - center))
    rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
    rigid = np.eye(4)
    rigid[:3, :3] = rotation
    rigid[:3, 3] = target_center - rotation @ center
    return rigid
