"""The simulated scanner on scenes with known images."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest

from bids_sr.phantom import scanner as scanner_module
from bids_sr.phantom.presets import _make_centered_affine
from bids_sr.phantom.scanner import Scanner, _make_readout_blur, draw_distortion, magnitude
from bids_sr.spatial.matrices import kspace_crop
from bids_sr.spatial.transforms import hr_grid, invert, rigid_matrix

SHAPE = (32, 32, 12)
AFFINE = _make_centered_affine(SHAPE, (6.0, 6.0, 4.0), (2.0, -5.0, 9.0))
HEAD = _make_centered_affine((100, 100, 60), (2.0, 2.0, 2.0), (0.0, 0.0, 10.0))
CENTER = (0.0, 0.0, 10.0)


def blob(position: tuple[float, float, float], width: float = 6.0) -> np.ndarray:
    """Return a Gaussian with a sigma of `width` mm on the HEAD grid."""
    index = np.indices((100, 100, 60), dtype=float)
    world = index * 2.0 + HEAD[:3, 3][:, None, None, None]
    squared_distance = ((world - np.array(position)[:, None, None, None]) ** 2).sum(0)
    return (100 * np.exp(-squared_distance / (2 * width**2))).astype(np.float32)


def center(image: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return the center of mass (mm) of voxels above 1 % of the maximum.

    Voxels below are ringing of the magnitude image.
    """
    index = np.argwhere(image > 0.01 * image.max())
    weight = image[tuple(index.T)].astype(float)
    return (affine @ [*(index * weight[:, None]).sum(0) / weight.sum(), 1.0])[:3]


def scanner(**overrides: object) -> Scanner:
    defaults = {
        "grid": (SHAPE, AFFINE),
        "pose": np.eye(4),
        "head_affine": HEAD,
        "coil": 4,
        "receive_field_size": 0.0,
        **overrides,
    }
    return Scanner(**defaults)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "params", [(0, 0, 0, 0, 0, 0), (1.5, -2.0, 0.7, 0, 0, 0), (0.3, 0.2, -0.4, 0.05, -0.04, 0.08)]
)
def test_motion_moves_a_landmark_by_its_matrix(params: tuple[float, ...]) -> None:
    landmark = (14.0, 21.0, 13.0)
    motion = rigid_matrix(params, CENTER)
    machine = scanner()
    image = machine.acquire_moving(machine.prepare(machine.resample_scene(blob(landmark))), motion)
    npt.assert_allclose(center(image, AFFINE), (motion @ [*landmark, 1.0])[:3], atol=0.05)


@pytest.mark.parametrize("landmark", [(0.0, 0.0, 9.0), (13.3, -21.7, 12.1)])
def test_a_landmark_has_the_same_position_at_both_resolutions(
    landmark: tuple[float, float, float],
) -> None:
    centers = []
    for factor in ((1, 1, 1), (2, 2, 1)):
        grid = hr_grid(SHAPE, AFFINE, factor)
        image = scanner(grid=grid, low_shape=SHAPE).acquire_still(blob(landmark))
        centers.append(center(image, grid[1]))
    npt.assert_allclose(centers[0], centers[1], atol=0.05 * 6.0)
    npt.assert_allclose(centers[0], landmark, atol=0.05 * 6.0)


def test_the_low_resolution_image_is_the_truncated_high_resolution_image() -> None:
    machine = scanner()
    rng = np.random.default_rng(0)
    fine = rng.random(machine.dense_grid[0], dtype=np.float32)
    high, low = machine.acquire_ideal(fine, (2, 2, 1)), machine.acquire_ideal(fine, (1, 1, 1))
    cropped, affine = kspace_crop(high, hr_grid(SHAPE, AFFINE, (2, 2, 1))[1], factor=(2, 2, 1))
    npt.assert_allclose(cropped, low, atol=1e-4)
    npt.assert_allclose(affine, AFFINE, atol=1e-9)
    assert np.abs(high).shape == (64, 64, 12)


def test_truncation_applies_to_the_complex_image(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = blob((5.0, 5.0, 10.0))
    images = {}
    # much larger than for any coil: the k-space of the image leaves the acquired window
    for radians in (0.0, 300.0):
        monkeypatch.setattr(scanner_module, "_PHASE_RAD", radians)
        machine = scanner()
        moving = machine.acquire_moving(machine.prepare(machine.resample_scene(scene)), np.eye(4))
        still = machine.acquire_still(scene)
        images[radians] = (moving, still)
    for k in (0, 1):
        assert np.abs(images[0.0][k] - images[300.0][k]).max() > 0.2 * images[0.0][k].max()


def test_readout_blur_keeps_the_mean_and_widens_a_point_along_phase_encoding() -> None:
    blur = _make_readout_blur(SHAPE[1])
    npt.assert_allclose(blur.sum(1), 1.0, atol=1e-12)
    profile = np.abs(blur[:, 16])
    assert profile.argmax() == 16
    assert 0.05 < profile[[15, 17]].max() / profile[16] < 0.3


def test_a_slice_changes_only_with_its_own_response() -> None:
    machine = scanner()
    still = machine.prepare(machine.resample_scene(blob(CENTER, 30.0)))
    change = machine.prepare(machine.resample_scene(blob(CENTER, 8.0)))
    slice_response = np.zeros(SHAPE[2])
    slice_response[5] = 1.0
    rest = machine.acquire_moving(still, np.eye(4))
    task = machine.acquire_moving(still, np.eye(4), [(change, slice_response)])
    change_by_slice = np.abs(task - rest).max(axis=(0, 1))
    assert change_by_slice[5] > 50
    npt.assert_array_equal(change_by_slice[np.arange(12) != 5], 0)


def distortion_field() -> np.ndarray:
    grid = scanner().dense_grid
    inside = np.zeros(grid[0], dtype=bool)
    inside[30:-30, 25:-25] = True
    return draw_distortion(np.random.default_rng(2), grid, inside, 3.0)


def test_distortion_has_the_requested_size_and_no_affine_part() -> None:
    grid = scanner().dense_grid
    inside = np.zeros(grid[0], dtype=bool)
    inside[30:-30, 25:-25] = True
    field = distortion_field()
    assert np.abs(field[inside]).max() == pytest.approx(3.0, rel=1e-5)
    points = np.argwhere(inside) @ grid[1][:3, :3].T
    design = np.column_stack([np.ones(len(points)), points])
    npt.assert_allclose(np.linalg.lstsq(design, field[inside], rcond=None)[0], 0, atol=2e-4)


def test_distortion_shifts_along_the_image_axis_and_conserves_signal() -> None:
    """In any pose, a constant displacement moves the center, against its sign.

    A varying displacement conserves the sum along the axis.
    """
    landmark, pose = (6.0, -9.0, 8.0), rigid_matrix((2, -3, 1, 0.03, 0.05, -0.3), CENTER)
    undistorted = scanner(pose=pose)
    grid, affine = undistorted.dense_grid
    shifted = scanner(pose=pose, shift=np.full(grid, 3.0, dtype=np.float32))
    expected = (invert(pose) @ [*landmark, 1.0])[:3] - [0, 3.0, 0]
    npt.assert_allclose(
        center(shifted.resample_scene(blob(landmark)), affine), expected, atol=0.05
    )
    bend = np.broadcast_to((2 * np.sin(np.arange(grid[1]) / 12.0))[:, None], grid).astype(
        np.float32
    )
    dense, bent = (
        undistorted.resample_scene(blob(landmark)),
        scanner(pose=pose, shift=bend).resample_scene(blob(landmark)),
    )
    strong = dense.sum(1) > 0.1 * dense.sum(1).max()
    npt.assert_allclose(bent.sum(1)[strong], dense.sum(1)[strong], rtol=5e-3)
    assert np.abs(bent - dense).max() > 1


def test_noise_is_white_complex_and_independent_between_images() -> None:
    image = np.array([3 + 4j, -2], np.complex64)
    for sigma, rng in ((3.0, None), (0.0, np.random.default_rng(0))):
        npt.assert_allclose(magnitude(image, sigma, rng), [5, 2])
    noise = magnitude(np.zeros((64, 64, 10), np.complex64), 3.0, np.random.default_rng(0))
    assert noise.dtype == np.float32
    assert np.square(noise).mean() == pytest.approx(2 * 3.0**2, rel=0.02)  # sum of both components
    # Rayleigh distribution: both components are independent
    assert noise.mean() == pytest.approx(3.0 * np.sqrt(np.pi / 2), rel=0.01)
    flat = np.full((100, 100, 60), 100.0, dtype=np.float32)
    images = [scanner().acquire_still(flat, 2.0, np.random.default_rng(k)) for k in (1, 2)]
    inner = (slice(8, 24), slice(8, 24), slice(2, 10))
    residuals = [image[inner].ravel() - image[inner].mean() for image in images]
    assert (residuals[0] - residuals[1]).std() / np.sqrt(2) == pytest.approx(2.0, rel=0.1)
