"""The simulated scanner against scenes whose answer is known."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest

from bids_sr.phantom.presets import centered_affine
from bids_sr.phantom.scanner import (
    Coil,
    EpiScanner,
    acquire_static,
    complex_noise,
    distorted,
    distortion,
    slice_mean,
)
from bids_sr.spatial.transforms import hr_grid, invert, rigid_matrix
from bids_sr.sr.resolution.matrices import kspace_crop

SHAPE = (32, 32, 12)
AFFINE = centered_affine(SHAPE, (6.0, 6.0, 4.0), (2.0, -5.0, 9.0))
HEAD = centered_affine((100, 100, 60), (2.0, 2.0, 2.0), (0.0, 0.0, 10.0))
COIL = Coil(seed=4, unevenness=0.0)
CENTER = (0.0, 0.0, 10.0)


def blob(at: tuple[float, float, float], width: float = 6.0) -> np.ndarray:
    """Gaussian of sigma `width` mm on the HEAD grid."""
    index = np.indices((100, 100, 60), dtype=float)
    world = index * 2.0 + HEAD[:3, 3][:, None, None, None]
    far = ((world - np.array(at)[:, None, None, None]) ** 2).sum(0)
    return (100 * np.exp(-far / (2 * width**2))).astype(np.float32)


def center(image: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Center of mass in mm of what is above a hundredth of the maximum (the rest is ringing of the magnitude)."""
    index = np.argwhere(image > 0.01 * image.max())
    weight = image[tuple(index.T)].astype(float)
    return (affine @ [*(index * weight[:, None]).sum(0) / weight.sum(), 1.0])[:3]


def scanner(**options: object) -> EpiScanner:
    return EpiScanner(SHAPE, AFFINE, coil=COIL, head_affine=HEAD, pose=np.eye(4), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("params", [(0, 0, 0, 0, 0, 0), (1.5, -2.0, 0.7, 0, 0, 0), (0.3, 0.2, -0.4, 0.05, -0.04, 0.08)])
def test_motion_takes_a_landmark_where_its_matrix_says(params: tuple[float, ...]) -> None:
    at = (14.0, 21.0, 13.0)
    motion = rigid_matrix(params, CENTER)
    machine = scanner()
    image = machine.measure(machine.part(machine.bring(blob(at))), motion)
    npt.assert_allclose(center(image, AFFINE), (motion @ [*at, 1.0])[:3], atol=0.05)


def test_pose_takes_an_image_point_to_the_head() -> None:
    at, pose = (-12.0, 9.0, 6.0), rigid_matrix((2, -3, 1, 0.03, 0.05, -0.04), CENTER)
    image = acquire_static(blob(at), HEAD, (SHAPE, AFFINE), pose, COIL, low_shape=SHAPE)
    npt.assert_allclose(center(image, AFFINE), (invert(pose) @ [*at, 1.0])[:3], atol=0.05)


@pytest.mark.parametrize("at", [(0.0, 0.0, 9.0), (13.3, -21.7, 12.1)])
def test_low_and_high_resolution_show_a_landmark_at_the_same_place(at: tuple[float, float, float]) -> None:
    centers = []
    for factor in ((1, 1, 1), (2, 2, 1)):
        grid = hr_grid(SHAPE, AFFINE, factor)
        image = acquire_static(blob(at), HEAD, grid, np.eye(4), COIL, low_shape=SHAPE)
        centers.append(center(image, grid[1]))
    npt.assert_allclose(centers[0], centers[1], atol=0.05 * 6.0)
    npt.assert_allclose(centers[0], at, atol=0.05 * 6.0)


def test_low_resolution_is_the_truncation_of_the_high_one() -> None:
    machine = scanner()
    rng = np.random.default_rng(0)
    fine = rng.random(machine.oversampled_grid[0], dtype=np.float32)
    high, low = machine.ideal(fine, (2, 2, 1)), machine.ideal(fine, (1, 1, 1))
    cropped, affine = kspace_crop(high, hr_grid(SHAPE, AFFINE, (2, 2, 1))[1], factor=(2, 2, 1))
    npt.assert_allclose(cropped, low, atol=1e-4)
    npt.assert_allclose(affine, AFFINE, atol=1e-9)
    assert np.abs(high).shape == (64, 64, 12)


def test_the_moving_scanner_agrees_with_the_plain_one_where_nothing_moves() -> None:
    machine = scanner()
    machine._crop[1] = np.linalg.solve(machine.readout_blur(), machine._crop[1])  # without the blur of the readout
    scene = blob((5.0, 5.0, 10.0), width=5.0)
    moving = machine.measure(machine.part(machine.bring(scene)), np.eye(4))
    plain = acquire_static(scene, HEAD, (SHAPE, AFFINE), np.eye(4), COIL, low_shape=SHAPE)
    assert np.abs(moving - plain).max() < 0.02 * plain.max()


def test_truncation_is_of_the_complex_image() -> None:
    scene = blob((5.0, 5.0, 10.0))
    images = {}
    for radians in (0.0, 300.0):  # much more than any coil: the image's k-space leaves the acquired window
        coil = Coil(seed=4, unevenness=0.0, radians=radians)
        machine = EpiScanner(SHAPE, AFFINE, coil=coil, head_affine=HEAD, pose=np.eye(4))
        moving = machine.measure(machine.part(machine.bring(scene)), np.eye(4))
        plain = acquire_static(scene, HEAD, (SHAPE, AFFINE), np.eye(4), coil, low_shape=SHAPE)
        images[radians] = (moving, plain)
    for k in (0, 1):
        assert np.abs(images[0.0][k] - images[300.0][k]).max() > 0.2 * images[0.0][k].max()


def test_readout_blur_keeps_the_mean_and_widens_a_point_along_phase_encoding() -> None:
    blur = scanner().readout_blur()
    npt.assert_allclose(blur.sum(1), 1.0, atol=1e-12)
    profile = np.abs(blur[:, 16])
    assert profile.argmax() == 16
    assert 0.05 < profile[[15, 17]].max() / profile[16] < 0.3


def test_a_slice_answers_to_its_own_response_only() -> None:
    machine = scanner()
    still = machine.part(machine.bring(blob(CENTER, 30.0)))
    change = machine.part(machine.bring(blob(CENTER, 8.0)), local=True)
    when = np.zeros(SHAPE[2])
    when[5] = 1.0
    rest = machine.measure(still, np.eye(4))
    task = machine.measure(still, np.eye(4), active={"a": change}, responses={"a": when})
    changed = np.abs(task - rest).max(axis=(0, 1))
    assert changed[5] > 50
    npt.assert_array_equal(changed[np.arange(12) != 5], 0)


def test_local_parts_measure_what_whole_ones_do() -> None:
    machine = scanner()
    fine = machine.bring(blob((20.0, -10.0, 10.0), 5.0))
    motion = rigid_matrix((1, 2, -1, 0.02, 0.02, 0.03), CENTER)
    still = machine.part(machine.bring(blob(CENTER, 30.0)))
    one = np.ones(SHAPE[2])
    local = machine.measure(still, motion, active={"a": machine.part(fine, local=True)}, responses={"a": one})
    whole = machine.part(fine)
    shape = machine.sampling_grid[0]
    everything = type(whole)(
        coefficients=whole.coefficients, affine=whole.affine, window=(slice(0, shape[0]), slice(0, shape[1]))
    )
    full = machine.measure(still, motion, active={"a": everything}, responses={"a": one})
    assert np.abs(local - full).max() < 1.0  # of a change of 100
    assert np.abs(full - machine.measure(still, motion)).max() > 50


def test_a_small_scene_brought_alone_is_the_scene_brought_whole() -> None:
    machine = scanner(shift=distortion_field())
    scene = blob((20.0, -10.0, 10.0), 4.0)
    scene[scene < 1e-3] = 0
    small = machine.bring(scene)
    scene[0, 0, 0] = scene[-1, -1, -1] = 1e-6  # now the whole grid counts
    npt.assert_allclose(small, machine.bring(scene), atol=1e-3)


def distortion_field() -> np.ndarray:
    grid = EpiScanner.grid_of_scene(SHAPE, AFFINE)
    inside = np.zeros(grid[0], dtype=bool)
    inside[30:-30, 25:-25] = True
    return distortion(np.random.default_rng(2), grid, inside, 3.0)


def test_distortion_has_the_stated_size_and_nothing_that_an_affine_motion_could_do() -> None:
    grid = EpiScanner.grid_of_scene(SHAPE, AFFINE)
    inside = np.zeros(grid[0], dtype=bool)
    inside[30:-30, 25:-25] = True
    field = distortion_field()
    assert np.abs(field[inside]).max() == pytest.approx(3.0, rel=1e-5)
    points = np.argwhere(inside) @ grid[1][:3, :3].T
    design = np.column_stack([np.ones(len(points)), points])
    npt.assert_allclose(np.linalg.lstsq(design, field[inside], rcond=None)[0], 0, atol=2e-4)


def test_distortion_displaces_against_its_sign_and_conserves_signal() -> None:
    voxel, shift_mm = 1.5, 3.0
    y = np.arange(80)
    scene = np.zeros((2, 80, 3), dtype=np.float32)
    scene += np.exp(-((y - 40.0) ** 2) / (2 * 4.0**2))[None, :, None].astype(np.float32)
    constant = distorted(scene, voxel, np.full(scene.shape, shift_mm, dtype=np.float32))
    assert np.average(y, weights=constant[0, :, 1]) == pytest.approx(40 - shift_mm / voxel, abs=0.01)
    bend = (2 * np.sin(y / 12.0))[None, :, None] * np.ones((2, 1, 3))
    bent = distorted(scene, voxel, bend.astype(np.float32))
    assert bent[0, :, 1].sum() == pytest.approx(scene[0, :, 1].sum(), rel=2e-3)
    assert np.abs(bent - scene).max() > 0.1


def test_noise_is_white_complex_and_its_own_in_each_image() -> None:
    noise = complex_noise(np.random.default_rng(0), (64, 64, 10), 3.0)
    assert noise.dtype == np.complex64
    assert noise.real.std() == pytest.approx(3.0, rel=0.02)
    assert noise.imag.std() == pytest.approx(3.0, rel=0.02)
    assert abs(np.corrcoef(noise.real.ravel(), noise.imag.ravel())[0, 1]) < 0.02
    flat = np.full((100, 100, 60), 100.0, dtype=np.float32)
    images = [
        acquire_static(
            flat, HEAD, (SHAPE, AFFINE), np.eye(4), COIL, low_shape=SHAPE, sigma=2.0, rng=np.random.default_rng(k)
        )
        for k in (1, 2)
    ]
    inner = (slice(8, 24), slice(8, 24), slice(2, 10))
    residuals = [image[inner].ravel() - image[inner].mean() for image in images]
    assert (residuals[0] - residuals[1]).std() / np.sqrt(2) == pytest.approx(2.0, rel=0.1)


def test_slice_mean_averages_groups() -> None:
    fine = np.arange(12.0).reshape(1, 1, 12)
    npt.assert_array_equal(slice_mean(fine, 4)[0, 0], [1.5, 5.5, 9.5])
