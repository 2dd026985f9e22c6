"""Recovery of known affines and deformations between two scans of a head."""

import numpy as np
import pytest
from nibabel.affines import apply_affine as apply
from scipy import ndimage

from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import AntsOptions
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import invert, rigid_matrix
from bids_sr.structural.preparation import _measure_transform, _register_to

SHAPE = (44, 50, 40)
AFFINE = np.array([[2.0, 0, 0, -43], [0, 2, 0, -49], [0, 0, 2, -39], [0, 0, 0, 1]])
TURN = rigid_matrix([1.5, -1.0, 0.8, 0.03, -0.02, 0.02], (0, 0, 0))
STRETCH = TURN @ np.diag([1.05, 0.96, 1.03, 1.0])


@pytest.fixture(scope="module")
def head():
    """Return T1w and FLAIR images of a textured ellipsoid with a rim, and the brain mask."""
    rng = np.random.default_rng(8)
    x, y, z = (np.indices(SHAPE) - (np.array(SHAPE)[:, None, None, None] - 1) / 2) * 2
    radius = np.sqrt((x / 33) ** 2 + (y / 39) ** 2 + (z / 30) ** 2)
    texture = ndimage.gaussian_filter(rng.normal(size=SHAPE), 2.0)
    texture /= texture.std()
    inside, rim = radius < 1, (radius >= 1.06) & (radius < 1.2)
    t1w = inside * np.where(texture > 0.8, 150, np.where(texture > -0.2, 450, 700)) + 500.0 * rim
    flair = inside * np.where(texture > 0.8, 80, np.where(texture > -0.2, 600, 400)) + 300.0 * rim
    images = [
        np.maximum(ndimage.gaussian_filter(i, 0.5) + rng.normal(0, 8, SHAPE), 0)
        for i in (t1w, flair)
    ]
    return [image.astype(np.float32) for image in images], inside


def points_of(mask):
    return np.argwhere(mask)[::25] @ AFFINE[:3, :3].T + AFFINE[:3, 3]


def error(placement, expected, mask):
    """Return the root mean square distance (mm) between mapped and known points."""
    return float(
        np.sqrt(
            (np.linalg.norm(placement.map_points(points_of(mask)) - expected, axis=1) ** 2).mean()
        )
    )


def register(frame, scan, mask, align, folder, *, mm):
    """Return the transform of a scan and its measures."""
    options = AntsOptions(seed=0, prefix=str(folder / f"{align}_"))
    placement = _register_to(frame, scan, options, align=align, mm=mm)
    return placement, _measure_transform(placement, mask, frame.affine)


def test_scaling_is_recovered_by_an_affine_and_not_by_a_rigid_transform(head, tmp_path):
    (t1w, flair), mask = head
    frame = Volume(data=t1w, affine=AFFINE)
    scan = Volume(data=sample_volume(flair, AFFINE, SHAPE, AFFINE, invert(STRETCH)), affine=AFFINE)
    placements = {
        align: register(frame, scan, mask, align, tmp_path, mm=4.0)
        for align in ("rigid", "affine")
    }
    expected = apply(STRETCH, points_of(mask))
    assert (
        error(placements["affine"][0], expected, mask) < 0.5
    )  # one eighth of the registered voxel size
    assert error(placements["rigid"][0], expected, mask) > 1.0
    placement, facts = placements["affine"]
    scales = 100 * (np.linalg.svd(placement.xfm[:3, :3], compute_uv=False) - 1)
    assert (facts["stretch_percent"], facts["shrink_percent"]) == pytest.approx(
        (scales[0], scales[2]), abs=1e-3
    )
    assert facts["stretch_percent"] == pytest.approx(5, abs=1.5)
    assert facts["shrink_percent"] == pytest.approx(-4, abs=1.5)
    assert facts["affine_rms_mm"] > 0.8
    assert facts["offset_mm"] == pytest.approx(np.linalg.norm([1.5, -1.0, 0.8]), abs=0.4)
    assert set(placements["rigid"][1]) == {
        "offset_mm",
        "offset_deg",
        "displacement_rms_mm",
        "displacement_max_mm",
    }


def test_the_affine_of_a_low_resolution_scan_has_the_right_direction(head, tmp_path):
    (t1w, _), mask = head
    low = np.diag([4.0, 4, 4, 1])
    low[:3, 3] = AFFINE[:3, 3] + 1
    known_affine = TURN @ np.diag([1.06, 0.95, 1.0, 1.0])
    blurred = ndimage.gaussian_filter(t1w, 0.8)
    scan = Volume(
        data=sample_volume(blurred, AFFINE, (22, 25, 20), low, invert(known_affine)), affine=low
    )
    frame = Volume(data=t1w, affine=AFFINE)
    placement, facts = register(frame, scan, mask, "affine", tmp_path, mm=2.0)
    # the error of the inverse is above 3 mm
    assert error(placement, apply(known_affine, points_of(mask)), mask) < 0.5
    assert facts["stretch_percent"] == pytest.approx(6, abs=1.5)
    assert facts["shrink_percent"] == pytest.approx(-5, abs=1.5)


@pytest.mark.parametrize("coarse", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_smooth_warp_is_recovered_in_the_right_direction(head, tmp_path, coarse):
    (t1w, _), mask = head
    x, y, z = np.indices(SHAPE) / 6.0
    # displacements from points of the scan to the frame
    bend = np.stack([2.5 * np.sin(y), 2.5 * np.sin(z + 1), 2.0 * np.sin(x + 2)])
    shape, affine = SHAPE, AFFINE
    if coarse:
        shape, affine = (22, 25, 20), AFFINE @ np.diag([2.0, 2, 2, 1])
        affine[:3, 3] += 1
        bend = np.stack([sample_volume(part, AFFINE, shape, affine) for part in bend])
    scan = Volume(
        data=sample_volume(t1w, AFFINE, bend.shape[1:], affine, displacement=bend), affine=affine
    )
    frame = Volume(data=t1w, affine=AFFINE)
    placements = {
        align: register(frame, scan, mask, align, tmp_path, mm=4.0)
        for align in ("affine", "nonlinear")
    }
    residuals = {}
    for align, (placement, _) in placements.items():
        mapped = placement.map_points(points_of(mask))
        indices = apply(invert(affine), mapped).T
        unwarped = mapped + np.stack(
            [ndimage.map_coordinates(part, indices, order=1, mode="nearest") for part in bend], 1
        )
        residuals[align] = float(np.sqrt(((unwarped - points_of(mask)) ** 2).sum(1).mean()))
    assert residuals["affine"] > 1.5
    assert residuals["nonlinear"] < 0.6 * residuals["affine"]
    facts = placements["nonlinear"][1]
    assert 1.0 < facts["warp_rms_mm"] < facts["warp_max_mm"] < 8
    similarity = {
        align: np.corrcoef(placement.resample(scan, frame, 3)[mask], t1w[mask])[0, 1]
        for align, (placement, _) in placements.items()
    }
    assert similarity["nonlinear"] > similarity["affine"] + 0.05
