"""Test hmc: recovery of known motion in mm, with drift, activation, large motion, spikes, and
derivatives.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from data.simulated_run import Scene, response
from nibabel.affines import apply_affine as apply
from scipy import ndimage

from bids_sr.spatial import hmc
from bids_sr.spatial.hmc import MotionEstimator, _evaluate_bias_basis, estimate_motion
from bids_sr.spatial.transforms import displacement, rigid_matrix, rigid_params

SHAPE = (40, 40, 18)
AFFINE = np.diag([5.0, 5.0, 5.0, 1.0])
AFFINE[:3, 3] = [-100, -100, -42]
NOISE = 0.01


@cache
def _scene() -> tuple[np.ndarray, np.ndarray]:
    """Return a folded head at 2.5 mm, wider than the slices, as spline coefficients, and its
    affine.
    """
    rng = np.random.default_rng(7)
    shape = (80, 80, 64)
    points = (np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2) * 2.5
    radius = np.sqrt((points[0] / 68) ** 2 + (points[1] / 82) ** 2 + (points[2] / 62) ** 2)
    folds = ndimage.gaussian_filter(rng.normal(size=shape), 2.2)
    image = (0.7 + 0.3 * np.tanh(folds / folds.std())) * ndimage.gaussian_filter(
        (radius < 1).astype(float), 1.2
    )
    affine = np.diag([2.5, 2.5, 2.5, 1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * 2.5
    return ndimage.spline_filter(image, order=3), affine


def scan(motion: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    """Return the head as scanned after `motion`, which maps points of the reference to their new
    positions.
    """
    coefficients, affine = _scene()
    points = np.indices(SHAPE).reshape(3, -1).T
    coordinates = apply(np.linalg.inv(affine) @ np.linalg.inv(motion) @ AFFINE, points)
    image = ndimage.map_coordinates(
        coefficients, coordinates.T, order=3, prefilter=False, cval=0.0
    ).reshape(SHAPE)
    return image + rng.normal(0, NOISE, SHAPE) if rng is not None else image


@cache
def _head() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mask, brain points (mm) and their center."""
    mask = scan(np.eye(4)) > 0.2
    points = apply(AFFINE, np.argwhere(mask))
    return mask, points, points.mean(axis=0)


def draw_motion(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """Draw a rigid motion of low..high mm and degrees in random directions."""

    def vector() -> np.ndarray:
        direction = rng.normal(size=3)
        return (
            direction / np.linalg.norm(direction) * np.exp(rng.uniform(np.log(low), np.log(high)))
        )

    return rigid_matrix([*vector(), *np.deg2rad(vector())], _head()[2])


def motion_errors(estimated: np.ndarray, truth: list[np.ndarray]) -> np.ndarray:
    points = _head()[1]
    return np.array(
        [
            np.sqrt((displacement(a, b, points) ** 2).mean())
            for a, b in zip(estimated, truth, strict=True)
        ]
    )


def _reference(rng: np.random.Generator) -> np.ndarray:
    return scan(np.eye(4)) + rng.normal(0, NOISE / 4, SHAPE)


@pytest.mark.parametrize("seed", [0, 1])
def test_known_motion_is_recovered(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = [draw_motion(rng, 0.1, 5) for _ in range(8)]
    motion = estimate_motion([scan(m, rng) for m in truth], _reference(rng), _head()[0], AFFINE)
    errors_mm = motion_errors(motion.matrices, truth)
    # The volumes have half as many voxels as the benchmark (64 x 64 x 30), whose limit is 0.02.
    assert errors_mm.mean() < 0.03
    assert errors_mm.max() < 0.05
    center = MotionEstimator(_reference(rng), _head()[0], AFFINE).center
    np.testing.assert_allclose(
        motion.params, [rigid_params(m, center) for m in motion.matrices], atol=1e-9
    )
    assert (motion.residual < 0.05).all()


@pytest.mark.parametrize(("axis", "thickness"), [(2, 1), (2, 2), (2, 3), (0, 1), (1, 2)])
def test_motion_of_a_few_slices_is_estimated_in_their_plane(axis: int, thickness: int) -> None:
    rng = np.random.default_rng(axis + thickness)
    first = SHAPE[axis] // 2
    slices = (slice(None),) * axis + (slice(first, first + thickness),)
    affine = AFFINE.copy()
    affine[axis, 3] += first * affine[axis, axis]
    in_plane = np.array([k != axis for k in range(3)] + [k == axis for k in range(3)])
    truth = [
        rigid_matrix(rigid_params(draw_motion(rng, 0.3, 3), _head()[2]) * in_plane, _head()[2])
        for _ in range(4)
    ]
    motion = estimate_motion(
        [scan(m, rng)[slices] for m in truth], _reference(rng)[slices], _head()[0][slices], affine
    )
    points = apply(affine, np.argwhere(_head()[0][slices]))
    errors_mm = [
        np.sqrt((displacement(a, b, points) ** 2).mean())
        for a, b in zip(motion.matrices, truth, strict=True)
    ]
    assert max(errors_mm) < 0.1
    assert np.abs(motion.params[:, ~in_plane]).max() < 1e-12
    assert (motion.residual < 0.1).all()


def test_large_motion_and_return_are_recovered() -> None:
    rng = np.random.default_rng(3)
    truth = [np.eye(4), draw_motion(rng, 14, 15), np.eye(4), draw_motion(rng, 10, 15)]
    motion = estimate_motion([scan(m, rng) for m in truth], _reference(rng), _head()[0], AFFINE)
    assert motion_errors(motion.matrices, truth).max() < 0.1


def test_drifting_smooth_bias_and_gain_are_not_taken_for_motion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(5)
    mask, _, _ = _head()
    bias = ndimage.gaussian_filter(rng.normal(size=SHAPE), 12)
    bias = (bias - bias[mask].mean()) / np.abs(bias[mask] - bias[mask].mean()).max()
    truth = [draw_motion(rng, 0.1, 2) for _ in range(6)]
    series = [scan(m, rng) * (1 + 0.1 * bias * (k + 1) / 6) * 1.03**k for k, m in enumerate(truth)]
    reference = _reference(rng)
    modeled = motion_errors(estimate_motion(series, reference, mask, AFFINE).matrices, truth)
    assert modeled.max() < 0.1
    monkeypatch.setattr(hmc, "_BIAS_DEGREE", 0)  # Model only a gain.
    assert (
        motion_errors(estimate_motion(series, reference, mask, AFFINE).matrices, truth).max() > 0.1
    )


def test_activation_is_not_taken_for_motion() -> None:
    rng = np.random.default_rng(2)
    mask = _head()[0]
    still = scan(np.eye(4))
    distance = apply(AFFINE, np.indices(SHAPE).reshape(3, -1).T) - [-38, -22, 30]
    blob = np.exp(-(distance**2).sum(axis=1) / (2 * (12 / 2.355) ** 2)).reshape(SHAPE)
    task = np.tile(np.r_[np.zeros(4), np.ones(4)], 8)
    series = [still * (1 + 0.04 * blob * on) + rng.normal(0, NOISE, SHAPE) for on in task]
    motion = estimate_motion(series, _reference(rng), mask, AFFINE, calibration=series[::3])
    # Task-locked motion: the difference between on and off, as a displacement.
    task_locked_mm = motion.params[task == 1].mean(axis=0) - motion.params[task == 0].mean(axis=0)
    assert (
        motion_errors(
            [rigid_matrix(task_locked_mm, MotionEstimator(still, mask, AFFINE).center)],
            [np.eye(4)],
        ).max()
        < 0.004
    )
    assert motion_errors(motion.matrices, [np.eye(4)] * len(series)).mean() < 0.03


def test_calibration_downweights_voxels_that_vary(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    mask = _head()[0]
    eyes = np.zeros(SHAPE)
    eyes[10:15, 28:33, 3:7] = 0.6
    series = [scan(np.eye(4), rng) + eyes * rng.choice([-1, 1]) for _ in range(24)]
    options = {"reference": _reference(rng), "mask": mask, "affine": AFFINE}
    monkeypatch.setattr(
        hmc, "_OUTLIER_LIMIT", np.inf
    )  # No residual loses weight in its own volume.
    uncalibrated = estimate_motion(series, **options).matrices
    calibrated = estimate_motion(series, **options, calibration=series).matrices
    truth = [np.eye(4)] * len(series)
    assert (
        motion_errors(calibrated, truth).mean() < 0.3 * motion_errors(uncalibrated, truth).mean()
    )


def test_an_artifact_in_one_volume_does_not_hide_activated_voxels() -> None:
    scene = Scene(Path("unwritten"))
    values = scene.values()
    task = response(scene.tr * np.arange(scene.n_volumes), scene.events)
    other_volumes = np.arange(scene.n_volumes) != 30

    def task_locked_mm(series: np.ndarray) -> float:
        """Return the largest translation (mm) per unit of the response, without the spoiled
        volume.
        """
        volumes = list(np.moveaxis(series, -1, 0))
        motion = estimate_motion(
            volumes, values.mean(-1), scene.head, scene.affine, calibration=volumes
        )
        slope = np.polyfit(task[other_volumes], motion.params[other_volumes, :3], 1)[0]
        return float(np.abs(slope).max())

    spoiled = values.copy()
    spoiled[12, 2, 3, 30] = 30000.0
    assert task_locked_mm(spoiled) < task_locked_mm(values) + 0.0005


def test_a_volume_without_the_head_keeps_the_previous_estimate() -> None:
    rng = np.random.default_rng(0)
    truth = draw_motion(rng, 1, 2)
    series = [scan(truth, rng), np.zeros(SHAPE), scan(truth, rng)]
    motion = estimate_motion(series, _reference(rng), _head()[0], AFFINE)
    assert motion_errors(motion.matrices[[0, 2]], [truth] * 2).max() < 0.05
    assert np.isfinite(motion.matrices).all()


def test_jacobian_agrees_with_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples change by minus the Jacobian times a small step of the head, also in size."""
    reference = scan(np.eye(4))
    monkeypatch.setattr(hmc, "_FWHM_MM", 12.0)
    estimator = MotionEstimator(reference, _head()[0], AFFINE)
    level = estimator._final_level
    jacobian = level.jacobian * level.scale
    for k, size in enumerate([0.2] * 3 + [0.003] * 3):
        step = np.zeros(6)
        step[k] = size
        moved = rigid_matrix(step, level.center)
        # The volume is sampled through `moved` while the head is still, which the model calls
        # +step.
        change, inside = level.subtract_reference(level.compute_coefficients(reference), moved)
        predicted = jacobian[:, k] * size
        deep = inside & (np.abs(level.points - level.center) < [60, 70, 25]).all(axis=1)
        slope = (change[deep] @ predicted[deep]) / (predicted[deep] @ predicted[deep])
        assert 0.85 < slope < 1.15
        assert np.corrcoef(change[deep], predicted[deep])[0, 1] > 0.97


def test_the_bias_basis_has_the_right_size_and_begins_with_a_constant() -> None:
    points = np.random.default_rng(0).normal(size=(50, 3))
    for degree, count in [(0, 1), (1, 4), (2, 10), (3, 20)]:
        basis = _evaluate_bias_basis(points, np.zeros(3), degree)
        assert basis.shape == (50, count)
        assert (basis[:, 0] == 1).all()
        assert np.linalg.matrix_rank(basis) == count


def test_inputs_without_anything_to_register_are_rejected() -> None:
    image = scan(np.eye(4))
    with pytest.raises(ValueError, match="contains only 0 voxels"):
        MotionEstimator(image, np.zeros(SHAPE), AFFINE)
    with pytest.raises(ValueError, match="the same three-dimensional shape"):
        MotionEstimator(image, np.ones((3, 3, 3)), AFFINE)
    with pytest.raises(ValueError, match="list of volumes is empty"):
        estimate_motion([], image, _head()[0], AFFINE)


@pytest.mark.parametrize("shape", [(27, 24, 25), (9, 8, 7), (9, 8, 2), (9, 8, 1)])
@pytest.mark.parametrize("shift", [0.4, -1.3])
def test_samples_equal_scipy_up_to_the_edges(shape, shift):
    volume = np.random.default_rng(0).random(shape, np.float32)
    level = hmc._SearchLevel(
        volume,
        np.ones(shape, bool),
        np.diag([3.0, 3.0, 3.0, 1.0]),
        4.0,
        bias_degree=0,
        samples=None,
    )
    moved = np.eye(4)
    moved[:3, 3] = 3 * shift
    residual, inside = level.subtract_reference(level.compute_coefficients(volume), moved)
    coordinates = np.argwhere(np.ones(shape, bool)) + shift
    expected = ndimage.map_coordinates(
        ndimage.spline_filter(level.smooth(volume), order=3, output=np.float32),
        coordinates.T,
        order=3,
        prefilter=False,
        mode="nearest",
        output=np.float64,
    )
    assert inside.any()
    np.testing.assert_allclose(residual[inside], (expected - level.values)[inside], atol=1e-6)


def _level_of(shape: tuple[int, ...]) -> hmc._SearchLevel:
    volume = np.random.default_rng(0).random(shape, np.float32)
    return hmc._SearchLevel(
        volume,
        np.ones(shape, bool),
        np.diag([3.0, 3.0, 3.0, 1.0]),
        4.0,
        bias_degree=1,
        samples=None,
    )


def test_points_rotated_out_of_the_field_of_view_have_no_residual():
    level = _level_of((26, 24, 5))
    volume = np.random.default_rng(1).random((26, 24, 5), np.float32)
    moved = rigid_matrix([2.0, -1, 0.5, 0.1, -0.05, 0.3], level.center)
    residual, inside = level.subtract_reference(level.compute_coefficients(volume), moved)
    coordinates = apply(level.inverse @ moved, level.points)
    expected = ((coordinates >= 0.5) & (coordinates <= np.array([24.5, 22.5, 3.5]))).all(axis=1)
    np.testing.assert_array_equal(inside, expected)
    assert 0.1 < inside.mean() < 0.9
    assert not residual[~inside].any()
    spline = ndimage.spline_filter(level.smooth(volume).astype(float), order=3)
    sampled = ndimage.map_coordinates(
        spline, coordinates[inside].T, order=3, prefilter=False, mode="nearest"
    )
    np.testing.assert_allclose(residual[inside], sampled - level.values[inside], atol=1e-6)


def test_a_weighted_step_equals_the_solution_over_all_samples():
    level = _level_of((26, 24, 15))
    rng = np.random.default_rng(1)
    count = len(level.points)
    assert count > 2 * hmc._SAMPLES_PER_BLOCK
    residual, weights, inside = rng.normal(size=count), rng.random(count), rng.random(count) < 0.9
    level.weight_samples(rng.random(count))
    step, remaining = level.fit_step(residual, inside, weights)
    weighted = level.weighted_jacobian * (weights * inside)[:, None]
    x = np.linalg.solve(weighted.T @ level.jacobian, weighted.T @ residual)
    np.testing.assert_allclose(step, (x / level.scale)[:6], rtol=1e-6)
    np.testing.assert_allclose(remaining, inside * (residual - level.jacobian @ x), atol=1e-6)


def test_motion_of_a_small_head_is_recovered_in_proportion() -> None:
    """Use voxels 1 mm wide in place of 5 mm, as in a rodent."""
    mask, *_ = _head()
    rng = np.random.default_rng(3)
    truth = [np.eye(4), *(draw_motion(rng, 0.5, 4.0) for _ in range(5))]
    volumes = [scan(motion, rng) for motion in truth]
    small = np.diag([0.2, 0.2, 0.2, 1.0])
    human = estimate_motion(volumes, scan(np.eye(4)), mask, AFFINE)
    rodent = estimate_motion(volumes, scan(np.eye(4)), mask, small @ AFFINE)
    enlarged = [np.linalg.inv(small) @ matrix @ small for matrix in rodent.matrices]
    assert motion_errors(human.matrices, truth).max() < 0.1
    assert motion_errors(np.array(enlarged), truth).max() < 0.1
