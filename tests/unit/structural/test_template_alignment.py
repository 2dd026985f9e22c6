"""Structural scans on a grid around the template's brain: transforms and cropping."""

import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy import ndimage

from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import AntsOptions
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import invert, rigid_matrix
from bids_sr.structural import preparation as structural_preparation
from bids_sr.structural.point_transforms import PointTransform, compose
from bids_sr.structural.preparation import prepare
from bids_sr.structural.template_alignment import (
    align_to_template,
    closest_rigid,
    template_grid,
)

FRAME = np.array([[1.5, 0, 0, -20], [0, 1.5, 0, -22], [0, 0, 3.0, -24], [0, 0, 0, 1]])
SHAPE = (28, 30, 16)
TEMPLATE = np.diag([2.0, 2.0, 2.0, 1.0])
TEMPLATE[:3, 3] = (-24, -24, -24)
TO_HEAD = np.array([[1.1, 0, 0, 1.0], [0, 0.9, 0, -2.0], [0, 0, 1, 0.5], [0, 0, 0, 1]])


def brain_box():
    mask = np.zeros((24, 24, 24), bool)
    mask[6:18, 7:17, 8:16] = True
    return mask


def test_the_grid_surrounds_the_brain_and_keeps_the_voxel_volume():
    frame, mask = Volume(np.zeros(SHAPE, np.float32), FRAME), brain_box()
    grid = template_grid(Volume(mask.astype(np.float32), TEMPLATE), mask, frame)
    assert np.prod(grid.zooms) == pytest.approx(1.5 * 1.5 * 3, rel=1e-5)
    corners = np.array([[0, 0, 0], np.subtract(grid.data.shape, 1)])
    low, high = apply_affine(grid.affine, corners)
    box_low, box_high = (apply_affine(TEMPLATE, end) for end in ((6, 7, 8), (17, 16, 15)))
    np.testing.assert_allclose(low, box_low - 4)
    assert (high >= box_high + 4).all()
    assert (high < box_high + 4 + 2 * grid.zooms).all()


@pytest.mark.parametrize(
    ("align", "between"),
    [("template-rigid", "rigid"), ("template", "affine"), ("template-warp", "nonlinear")],
)
def test_scans_are_interpolated_once_with_both_transforms(tmp_path, monkeypatch, align, between):
    random = np.random.default_rng(0)
    smooth = 1 + np.add.outer(np.add.outer(np.arange(28), np.arange(30)), np.arange(16)) / 40
    scan = Volume((smooth + random.normal(0, 0.01, SHAPE)).astype(np.float32), FRAME)
    head = np.zeros(SHAPE, bool)
    head[4:24, 4:26, 3:13] = True
    shift = np.eye(4)
    shift[:3, 3] = (2.0, 0, 0)
    monkeypatch.setattr(
        structural_preparation, "brain_from_head", lambda *_a, **_k: (head, TO_HEAD, {})
    )
    monkeypatch.setattr(
        structural_preparation, "correct_bias_field", lambda image, *_m, **_k: image
    )
    aligned = []

    def register(_frame, _image, _ants_options, *, align, **_options):
        aligned.append(align)
        return PointTransform(xfm=shift)

    monkeypatch.setattr(structural_preparation, "_register_to", register)
    requested = []

    def place(*images, transform, grid, **_options):
        requested.append(transform)
        displacements = np.full((3, 3, 3, 3), 1.5, np.float32)
        coarse = np.diag([60.0, 60.0, 60.0, 1.0])
        coarse[:3, 3] = -60
        if transform == "nonlinear":
            return PointTransform(xfm=images[4], displacement=displacements, grid=coarse)
        return PointTransform(xfm=images[4])

    monkeypatch.setattr(structural_preparation, "align_to_template", place)
    mask = brain_box()
    template = Volume(mask.astype(np.float32), TEMPLATE)
    prepared = prepare(
        {("T1w", "highres"): scan, ("T1w", "lowres"): scan.like(scan.data)},
        template,
        mask,
        align=align,
        options=AntsOptions(seed=0, prefix=str(tmp_path / "x_"), sloppy=True),
    )
    assert aligned == requested == [between]
    to_head = TO_HEAD.copy()
    if between == "nonlinear":
        to_head[:3, 3] += 1.5
    grid = template_grid(template, mask, scan)
    assert prepared.mask.shape == grid.data.shape
    np.testing.assert_allclose(prepared.affine, grid.affine)
    assert prepared.mask.any()
    for image, xfm in (
        (prepared.highres["T1w"], to_head),
        (prepared.lowres["bspline"]["T1w"], shift @ to_head),
    ):
        direct = sample_volume(scan.data, FRAME, grid.data.shape, grid.affine, xfm)
        inside = prepared.mask & (image < 1)
        ratio = image[inside] / direct[inside]
        assert ratio.std() / ratio.mean() < 1e-5, "equal to the scan up to a factor"
        assert not image[~prepared.mask].any()
    assert prepared.facts["template"]["brain_cropped_percent"] > 10, "this head is larger"
    np.testing.assert_array_equal(prepared.to_template, np.eye(4))


GRID = np.array([[3.0, 0, 0, -45], [0, 3, 0, -51], [0, 0, 3, -42], [0, 0, 0, 1]])
KNOWN = rigid_matrix([3.0, -2.0, 4.0, 0.08, -0.05, 0.06], (0, 0, 0))


@pytest.fixture(scope="module")
def brain():
    """Return the template, a textured ellipsoid without surroundings, and its mask."""
    shape = (31, 35, 29)
    random = np.random.default_rng(5)
    x, y, z = (np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2) * 3
    mask = np.sqrt((x / 33) ** 2 + (y / 39) ** 2 + (z / 30) ** 2) < 1
    texture = ndimage.gaussian_filter(random.normal(size=shape), 2.0)
    texture /= texture.std()
    image = mask * np.where(texture > 0.8, 0.2, np.where(texture > -0.2, 0.6, 1.0))
    return Volume(ndimage.gaussian_filter(image, 0.6).astype(np.float32), GRID), mask


def register_deformed_template(brain, to_head, transform, tmp_path, start, bend=None):
    """Move the template's brain into a head by known transforms and register it."""
    template, mask = brain
    deformation = {} if bend is None else {"displacement": bend}
    head = sample_volume(
        template.data, GRID, mask.shape, GRID, invert(to_head), zero_outside=True, **deformation
    )
    inside = ndimage.binary_fill_holes(head > 0.1)
    return align_to_template(
        Volume(head, GRID),
        inside,
        template,
        mask,
        start,
        transform=transform,
        grid=template,
        options=AntsOptions(seed=0, prefix=str(tmp_path / "x_"), sloppy=True),
    )


def rms(points, expected):
    return float(np.sqrt(((points - expected) ** 2).sum(axis=1).mean()))


def test_a_rigid_transform_to_the_template_is_recovered_from_a_scaled_start(brain, tmp_path):
    points = np.argwhere(brain[1])[::17] @ GRID[:3, :3].T + GRID[:3, 3]
    start = KNOWN @ np.diag([1.08, 0.95, 1.04, 1.0])
    start[:3, 3] += (1.5, -1.0, 1.0)
    placement = register_deformed_template(brain, KNOWN, "rigid", tmp_path, start)
    assert np.linalg.svd(placement.xfm[:3, :3], compute_uv=False) == pytest.approx(
        [1, 1, 1], abs=1e-6
    )
    expected = apply_affine(KNOWN, points)
    assert rms(apply_affine(start, points), expected) > 2
    assert rms(placement.map_points(points), expected) < 0.5  # one sixth of a voxel
    affine = register_deformed_template(brain, KNOWN, "affine", tmp_path, start)
    np.testing.assert_array_equal(affine.xfm, start)


def test_a_known_deformation_to_the_template_is_recovered(brain, tmp_path):
    mask = brain[1]
    points = np.argwhere(ndimage.binary_erosion(mask, iterations=3))[::17]
    points = points @ GRID[:3, :3].T + GRID[:3, 3]
    x, y, z = np.indices(mask.shape) / 5.0
    # displacements from points of the head to the template
    bend = np.stack([3.5 * np.sin(y), 3.5 * np.sin(z + 1), 3.0 * np.sin(x + 2)]).astype(np.float32)

    def residual(placement):
        mapped = placement.map_points(points)
        indices = apply_affine(invert(GRID), mapped).T
        parts = [ndimage.map_coordinates(part, indices, order=1, mode="nearest") for part in bend]
        return rms(apply_affine(invert(KNOWN), mapped) + np.stack(parts, 1), points)

    placements = {
        transform: register_deformed_template(brain, KNOWN, transform, tmp_path, KNOWN, bend)
        for transform in ("affine", "nonlinear")
    }
    assert residual(placements["affine"]) > 2
    assert residual(placements["nonlinear"]) < 0.6 * residual(placements["affine"])


def test_composed_placements_equal_successive_placements():
    random = np.random.default_rng(2)
    frame = Volume(np.zeros((12, 12, 12), np.float32), np.diag([4.0, 4.0, 4.0, 1.0]))
    coarse = np.diag([24.0, 24.0, 24.0, 1.0])
    coarse[:3, 3] = -24
    smooth = [random.normal(0, 2, (3, 5, 5, 5)).astype(np.float32) for _ in range(2)]
    first, second = (
        PointTransform(xfm=xfm, displacement=displacements, grid=coarse)
        for xfm, displacements in zip((KNOWN, invert(KNOWN)), smooth, strict=True)
    )
    points = apply_affine(frame.affine, random.integers(2, 10, (50, 3)))
    composition = compose(frame, first, second)
    np.testing.assert_allclose(
        composition.map_points(points), second.map_points(first.map_points(points)), atol=1e-3
    )
    matrices = compose(frame, PointTransform(xfm=TO_HEAD), PointTransform(xfm=KNOWN))
    assert matrices.displacement is None
    np.testing.assert_allclose(matrices.xfm, KNOWN @ TO_HEAD)


def test_the_closest_rigid_transform_keeps_rotation_and_center():
    points = np.random.default_rng(0).normal((10, -20, 5), 40, (100, 3))
    np.testing.assert_allclose(closest_rigid(KNOWN, points), KNOWN, atol=1e-9)
    scaled = KNOWN @ np.diag([1.1, 1.1, 1.1, 1.0])
    turn = closest_rigid(scaled, points)
    np.testing.assert_allclose(turn[:3, :3], KNOWN[:3, :3], atol=1e-9)
    middle = points.mean(axis=0)
    np.testing.assert_allclose(apply_affine(turn, middle), apply_affine(scaled, middle))
