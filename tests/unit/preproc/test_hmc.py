"""Test hmc: recovery of known motion in mm, with drift, activation, large motion, spikes, and
derivatives.
"""

import numpy as np
import pytest
from data.moved_head import (
    AFFINE,
    NOISE,
    SHAPE,
    draw_motion,
    head,
    make_reference,
    motion_errors,
    scan,
)
from nibabel.affines import apply_affine as apply
from scipy import ndimage

from bids_sr.preproc.hmc import MotionEstimator, estimate_motion
from bids_sr.spatial.transforms import displacement, rigid_matrix, rigid_params


@pytest.mark.parametrize("seed", [0, 1])
def test_known_motion_is_recovered(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = [draw_motion(rng, 0.1, 5) for _ in range(8)]
    motion = estimate_motion([scan(m, rng) for m in truth], make_reference(rng), head()[0], AFFINE)
    errors_mm = motion_errors(motion.matrices, truth)
    # The volumes have half as many voxels as the benchmark (64 x 64 x 30), whose limit is 0.02.
    assert errors_mm.mean() < 0.03
    assert errors_mm.max() < 0.05
    center = MotionEstimator(make_reference(rng), head()[0], AFFINE).center
    np.testing.assert_allclose(
        motion.params, [rigid_params(m, center) for m in motion.matrices], atol=1e-9
    )
    assert (motion.residual < 0.05).all()


@pytest.mark.parametrize(("axis", "thickness"), [(2, 1), (2, 3), (0, 1)])
def test_motion_of_a_few_slices_is_estimated_in_their_plane(axis: int, thickness: int) -> None:
    rng = np.random.default_rng(axis + thickness)
    first = SHAPE[axis] // 2
    slices = (slice(None),) * axis + (slice(first, first + thickness),)
    affine = AFFINE.copy()
    affine[axis, 3] += first * affine[axis, axis]
    in_plane = np.array([k != axis for k in range(3)] + [k == axis for k in range(3)])
    truth = [
        rigid_matrix(rigid_params(draw_motion(rng, 0.3, 3), head()[2]) * in_plane, head()[2])
        for _ in range(4)
    ]
    motion = estimate_motion(
        [scan(m, rng)[slices] for m in truth],
        make_reference(rng)[slices],
        head()[0][slices],
        affine,
    )
    points = apply(affine, np.argwhere(head()[0][slices]))
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
    motion = estimate_motion([scan(m, rng) for m in truth], make_reference(rng), head()[0], AFFINE)
    assert motion_errors(motion.matrices, truth).max() < 0.1


def test_drifting_smooth_bias_and_gain_are_not_taken_for_motion() -> None:
    rng = np.random.default_rng(5)
    mask, _, _ = head()
    bias = ndimage.gaussian_filter(rng.normal(size=SHAPE), 12)
    bias = (bias - bias[mask].mean()) / np.abs(bias[mask] - bias[mask].mean()).max()
    truth = [draw_motion(rng, 0.1, 2) for _ in range(6)]
    series = [scan(m, rng) * (1 + 0.1 * bias * (k + 1) / 6) * 1.03**k for k, m in enumerate(truth)]
    reference = make_reference(rng)
    modeled = motion_errors(estimate_motion(series, reference, mask, AFFINE).matrices, truth)
    assert modeled.max() < 0.1


def test_activation_is_not_taken_for_motion() -> None:
    rng = np.random.default_rng(2)
    mask = head()[0]
    still = scan(np.eye(4))
    distance = apply(AFFINE, np.indices(SHAPE).reshape(3, -1).T) - [-38, -22, 30]
    blob = np.exp(-(distance**2).sum(axis=1) / (2 * (12 / 2.355) ** 2)).reshape(SHAPE)
    task = np.tile(np.r_[np.zeros(4), np.ones(4)], 8)
    series = [still * (1 + 0.04 * blob * on) + rng.normal(0, NOISE, SHAPE) for on in task]
    motion = estimate_motion(series, make_reference(rng), mask, AFFINE, calibration=series[::3])
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


def test_a_volume_without_the_head_keeps_the_previous_estimate() -> None:
    rng = np.random.default_rng(0)
    truth = draw_motion(rng, 1, 2)
    series = [scan(truth, rng), np.zeros(SHAPE), scan(truth, rng)]
    motion = estimate_motion(series, make_reference(rng), head()[0], AFFINE)
    assert motion_errors(motion.matrices[[0, 2]], [truth] * 2).max() < 0.05
    assert np.isfinite(motion.matrices).all()


def test_inputs_without_anything_to_register_are_rejected() -> None:
    image = scan(np.eye(4))
    with pytest.raises(ValueError, match="0 voxels"):
        MotionEstimator(image, np.zeros(SHAPE), AFFINE)


def test_motion_of_a_small_head_is_recovered_in_proportion() -> None:
    """Use voxels 1 mm wide in place of 5 mm, as in a rodent."""
    mask, *_ = head()
    rng = np.random.default_rng(3)
    truth = [np.eye(4), *(draw_motion(rng, 0.5, 4.0) for _ in range(5))]
    volumes = [scan(motion, rng) for motion in truth]
    small = np.diag([0.2, 0.2, 0.2, 1.0])
    human = estimate_motion(volumes, scan(np.eye(4)), mask, AFFINE)
    rodent = estimate_motion(volumes, scan(np.eye(4)), mask, small @ AFFINE)
    enlarged = [np.linalg.inv(small) @ matrix @ small for matrix in rodent.matrices]
    assert motion_errors(human.matrices, truth).max() < 0.1
    assert motion_errors(np.array(enlarged), truth).max() < 0.1
