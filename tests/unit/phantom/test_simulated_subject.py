"""A simulated subject: images agree with the known motion, poses and effects."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np
import numpy.testing as npt
import pytest
from scipy import ndimage

from bids_sr.phantom.block_design import predict_response
from bids_sr.phantom.bold_run import SimulatedRun
from bids_sr.phantom.fields import distance_to_mask, polynomial, smooth_field, upsample
from bids_sr.phantom.ground_truth import simulate_effects
from bids_sr.phantom.poses import ROTATION_CENTER, draw_motion
from bids_sr.phantom.presets import PRESETS
from bids_sr.phantom.sequences import PulseSequence
from bids_sr.phantom.simulated_subject import TASKS, RandomStreams, SimulatedSubject
from bids_sr.phantom.still_scans import simulate_pair
from bids_sr.spatial.matrices import kspace_crop
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import invert, rigid_params


@pytest.fixture(scope="module")
def series(run: SimulatedRun) -> np.ndarray:
    """Return the BOLD series without thermal noise, (X, Y, Z, T)."""
    return np.stack(list(run.volumes(2, noise=False)), axis=-1)


@pytest.fixture(scope="module")
def null_series(null_run: SimulatedRun) -> np.ndarray:
    """Return the series without activation and thermal noise, (X, Y, Z, T)."""
    return np.stack(list(null_run.volumes(2, noise=False)), axis=-1)


def test_the_known_motion_realigns_the_series(run: SimulatedRun, series: np.ndarray) -> None:
    shape, affine = run.subject.bold_grid
    first = run.transient.dummies + 2
    brain = series.mean(-1) > 400

    def residual_variation(matrices: np.ndarray) -> float:
        realigned = [
            sample_volume(series[..., t], affine, shape, affine, matrices[t])
            for t in range(series.shape[-1])
        ]
        return float(np.stack(realigned[first:], -1)[brain].std(-1).mean())

    unaligned = residual_variation(np.tile(np.eye(4), (len(run.motion), 1, 1)))
    assert residual_variation(run.motion) < 0.75 * unaligned
    assert residual_variation(invert(run.motion)) > 1.3 * unaligned


def test_activation_in_the_series_has_the_known_amplitude(
    run: SimulatedRun, null_series: np.ndarray, series: np.ndarray
) -> None:
    preset = run.preset
    shape, affine = run.subject.bold_grid
    change = series - null_series
    first = run.transient.dummies + 2
    realigned = [
        sample_volume(change[..., t], affine, shape, affine, run.motion[t])
        for t in range(preset.volumes)
    ]
    data = np.stack(realigned, -1)[..., first:]
    rest = run.simulate_still_volume()
    times = (np.arange(preset.volumes) * preset.tr)[first:]
    for k, condition in enumerate(TASKS["tap"]):
        truth = run.simulate_still_volume(**{condition: 1.0}) - rest
        voxels = np.argwhere(truth > 0.4 * truth.max())
        measured = []
        for x, y, z in voxels:
            slice_times = times + preset.slice_times[z]
            design = np.stack(
                [predict_response(run.events, c, slice_times) for c in TASKS["tap"]], axis=1
            )
            measured.append(np.linalg.lstsq(design, data[x, y, z], rcond=None)[0][k])
        expected = truth[tuple(voxels.T)]
        assert np.dot(measured, expected) / np.dot(expected, expected) == pytest.approx(
            1.0, abs=0.03
        )
        assert np.corrcoef(measured, expected)[0, 1] > 0.98


def test_the_null_series_differs_only_by_activation(
    run: SimulatedRun, null_series: np.ndarray, series: np.ndarray
) -> None:
    npt.assert_array_equal(null_series[..., 0], series[..., 0])  # the run starts at rest
    signal = predict_response(run.events, "thumb", np.arange(run.preset.volumes) * run.preset.tr)
    peak_volume = int(np.argmax(signal))
    change = series[..., peak_volume] - null_series[..., peak_volume]
    truth = kspace_crop(
        simulate_effects([run])[1]["thumb"], run.subject.hr_grid[1], factor=run.preset.factor
    )[0]
    assert np.corrcoef(change[truth > 1], truth[truth > 1])[0, 1] > 0.9
    assert np.abs(change[np.abs(truth) < 0.01]).max() < 0.15 * change.max()


def test_the_run_approaches_its_steady_state(run: SimulatedRun, series: np.ndarray) -> None:
    brain = series.mean(-1) > 400
    mean = series[brain].mean(0)
    steady = mean[5:15].mean()
    n = run.transient.dummies
    assert 1 <= n <= 4
    assert mean[0] > mean[1] > steady
    excess = mean / steady - 1
    brain_on_scene = ndimage.zoom(brain, (1.5, 1.5, 1), order=0)
    assert excess[0] == pytest.approx(run.transient.excess[0][brain_on_scene].mean(), rel=0.15)
    assert np.all(excess[:n] > 0.01)
    assert np.all(excess[n : n + 5] < 0.02)
    npt.assert_array_equal(run.motion[n], np.eye(4))


def test_magnetization_follows_the_closed_form() -> None:
    t1 = np.array([0.85, 1.35, 4.0])
    e1 = np.exp(-2.0 / t1)
    sequence = PulseSequence(te=0.0, tr=2.0, flip=70.0)
    right_angle = PulseSequence(te=0.0, tr=2.0, flip=90.0)
    npt.assert_allclose(right_angle.magnetization(t1, 1), 1 - e1, rtol=1e-5)
    npt.assert_allclose(sequence.magnetization(t1, 0), 1, rtol=1e-6)
    m = np.ones(3)
    for pulses in range(1, 101):
        m = 1 + (m * np.cos(np.deg2rad(70.0)) - 1) * e1
        if pulses == 3:
            npt.assert_allclose(sequence.magnetization(t1, 3), m, rtol=1e-5)
    npt.assert_allclose(sequence.magnetization(t1, None), m, rtol=1e-5)


def without_noise(subject: SimulatedSubject) -> SimulatedSubject:
    """Return a subject whose scans have no noise."""
    clean = copy(subject)
    clean.preset = replace(subject.preset, snr=np.inf)
    return clean


def test_scans_of_a_pair_are_one_scene_in_different_poses(subject: SimulatedSubject) -> None:
    scans = simulate_pair(without_noise(subject), 0)
    (high, high_affine), (low, low_affine) = (
        (scans[k].image, scans[k].affine) for k in ("highres", "lowres")
    )
    between = subject.pair_poses[0]["highres"] @ invert(subject.pair_poses[0]["lowres"])
    npt.assert_array_equal(scans["highres"].pose, subject.pair_poses[0]["highres"])
    registered = sample_volume(high, high_affine, high.shape, high_affine, between)
    cropped, affine = kspace_crop(registered, high_affine, factor=subject.preset.factor)
    npt.assert_allclose(affine, low_affine, atol=1e-9)
    inner = (slice(None), slice(None), slice(2, -2))
    error = np.sqrt(np.mean((cropped[inner] - low[inner]) ** 2)) / low.std()
    wrong_pose_image = kspace_crop(
        sample_volume(high, high_affine, high.shape, high_affine, invert(between)),
        high_affine,
        factor=subject.preset.factor,
    )[0]
    assert error < 0.06  # due to interpolation, and to the magnitude computed before truncation
    assert np.sqrt(np.mean((wrong_pose_image[inner] - low[inner]) ** 2)) / low.std() > 1.3 * error


def test_noise_of_the_pair_scales_with_voxel_size_and_is_independent(
    subject: SimulatedSubject,
) -> None:
    noisy, clean = simulate_pair(subject, 0), simulate_pair(without_noise(subject), 0)
    residual = {}
    for name in ("highres", "lowres"):
        difference = noisy[name].image - clean[name].image
        residual[name] = np.where(clean[name].image > 450, difference, 0)
    spread = {name: values[values != 0].std() for name, values in residual.items()}
    assert spread["highres"] / spread["lowres"] == pytest.approx(4.0, rel=0.05)
    blocks = residual["highres"].reshape(40, 2, 40, 2, -1).mean((1, 3))
    mask = (blocks != 0) & (residual["lowres"] != 0)
    assert abs(np.corrcoef(blocks[mask], residual["lowres"][mask])[0, 1]) < 0.05


def test_motion_is_small_smooth_and_zero_at_the_reference_volume() -> None:
    motion = draw_motion(np.random.default_rng(0), 300, 2.0, 3)
    npt.assert_array_equal(motion[3], np.eye(4))
    params = np.array([rigid_params(matrix, ROTATION_CENTER) for matrix in motion])
    assert 0.1 < np.abs(params[:, :3]).max() < 2.5
    assert np.rad2deg(np.abs(params[:, 3:]).max()) < 2.5
    assert np.median(np.abs(np.diff(params[:, :3], axis=0))) < 0.05


def test_random_fields_have_mean_0_sd_1_and_their_shape() -> None:
    rng = np.random.default_rng(0)
    for sigma in (1.2, 6.0):
        field = smooth_field(rng, (40, 33, 29), sigma)
        assert field.shape == (40, 33, 29)
        assert field.mean() == pytest.approx(0, abs=1e-4)
        assert field.std() == pytest.approx(1, abs=1e-4)
    line = upsample(np.arange(5.0)[:, None, None] * np.ones((1, 4, 4)), (9, 4, 4))
    npt.assert_allclose(line[:, 2, 2], np.arange(0, 4.5, 0.5), atol=1e-5)
    assert np.abs(polynomial(rng, np.diag([3.0, 3, 3, 1]), (30, 30, 30))).max() < 1.5


@pytest.mark.parametrize("name", list(PRESETS))
def test_fields_of_view_of_presets_include_the_motor_areas(name: str) -> None:
    preset = PRESETS[name]
    half = np.array(preset.bold_shape) * np.array(preset.bold_voxel) / 2
    for position in ((-40, -18, 54), (-32, -27, 59), (-4, -8, 58)):
        assert np.all(np.abs(np.array(position) - preset.bold_center) < half - 10)


def test_subjects_of_a_seed_differ_and_pairs_have_different_poses() -> None:
    preset = PRESETS["tiny"]
    first = SimulatedSubject(preset, "ribbon", seed=3, number=1, pairs=2)
    other_draw = RandomStreams(seed=3, subject=0)
    assert first.draw("head").random() != other_draw("head").random()
    poses = first.pair_poses
    assert np.abs(poses[0]["lowres"] - poses[1]["lowres"]).max() > 0.01
    relative_pose = rigid_params(poses[0]["highres"] @ invert(poses[0]["lowres"]), ROTATION_CENTER)
    assert np.linalg.norm(relative_pose[:3]) < 0.35


def test_fractions_of_tissues_add_up_to_1_in_the_head_and_to_less_in_air(
    subject: SimulatedSubject,
) -> None:
    head = subject.head
    total = np.sum([*head.fractions.values()], axis=0)
    assert 0 <= total.min() <= total.max() <= 1 + 1e-4
    distance_mm = distance_to_mask(head.brain, 1, float(head.affine[0, 0]))
    npt.assert_allclose(total[distance_mm <= 2], 1, atol=0.05)  # brain, fluid and skull
    assert np.median(total[np.abs(distance_mm - 8) < 2]) > 0.9  # scalp
    assert total[distance_mm > 30].max() < 1e-3
