"""Structural scans on a grid around the template's brain: where points go, and what is cropped."""

import numpy as np
import pytest
from nibabel.affines import apply_affine

from bids_sr.io.grids import Volume
from bids_sr.registration import structural_preparation
from bids_sr.registration.structural_preparation import Placement, prepare, template_grid
from bids_sr.spatial.resampling import sample_volume

FRAME = np.array([[1.5, 0, 0, -20], [0, 1.5, 0, -22], [0, 0, 3.0, -24], [0, 0, 0, 1]])
SHAPE = (28, 30, 16)
TEMPLATE = np.diag([2.0, 2.0, 2.0, 1.0])
TEMPLATE[:3, 3] = (-24, -24, -24)
TO_HEAD = np.array([[1.1, 0, 0, 1.0], [0, 0.9, 0, -2.0], [0, 0, 1, 0.5], [0, 0, 0, 1]])


def brain_box():
    mask = np.zeros((24, 24, 24), bool)
    mask[6:18, 7:17, 8:16] = True
    return mask


def test_the_grid_surrounds_the_brain_at_the_volume_of_the_frames_voxels():
    frame, mask = Volume(np.zeros(SHAPE, np.float32), FRAME), brain_box()
    grid = template_grid(Volume(mask.astype(np.float32), TEMPLATE), mask, frame)
    assert np.prod(grid.zooms) == pytest.approx(1.5 * 1.5 * 3, rel=1e-5)
    corners = np.array([[0, 0, 0], np.subtract(grid.data.shape, 1)])
    low, high = apply_affine(grid.affine, corners)
    box_low, box_high = (apply_affine(TEMPLATE, end) for end in ((6, 7, 8), (17, 16, 15)))
    np.testing.assert_allclose(low, box_low - 4)
    assert (high >= box_high + 4).all()
    assert (high < box_high + 4 + 2 * grid.zooms).all()


def test_scans_are_interpolated_once_through_both_transforms(tmp_path, monkeypatch):
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
    monkeypatch.setattr(structural_preparation, "unbiased", lambda image, *_m, **_k: image)
    aligned = []

    def register(_frame, _image, _mask, *, align, **_how):
        aligned.append(align)
        return Placement(xfm=shift), {}

    monkeypatch.setattr(structural_preparation, "_register_to", register)
    mask = brain_box()
    template = Volume(mask.astype(np.float32), TEMPLATE)
    made = prepare(
        {("T1w", "highres"): scan, ("T1w", "lowres"): scan.like(scan.data)},
        template,
        mask,
        align="template",
        seed=0,
        prefix=str(tmp_path / "x_"),
        sloppy=True,
    )
    assert aligned == ["affine"]
    grid = template_grid(template, mask, scan)
    assert made.mask.shape == grid.data.shape
    np.testing.assert_allclose(made.affine, grid.affine)
    assert made.mask.any()
    for image, xfm in ((made.hr["T1w"], TO_HEAD), (made.lr["bspline"]["T1w"], shift @ TO_HEAD)):
        direct = sample_volume(scan.data, FRAME, grid.data.shape, grid.affine, xfm)
        used = made.mask & (image < 1)
        ratio = image[used] / direct[used]
        assert ratio.std() / ratio.mean() < 1e-5, "the scan's values but for one factor"
        assert not image[~made.mask].any()
