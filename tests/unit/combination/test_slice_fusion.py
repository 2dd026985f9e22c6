"""Fusion of runs across displaced slices, on columns of known thin-slice effect."""

import numpy as np
import pytest

from bids_sr.combination import slice_fusion
from bids_sr.combination.slice_fusion import (
    SlicedEffects,
    SliceFusionError,
    fuse_slices,
    stack_first_run,
)
from bids_sr.io.arrays import Array, Float

N_THICK, N_THIN = 10, 20
SHAPE = (12, 12, N_THIN)
COLUMNS = np.ones(SHAPE[:2], dtype=bool)
ACQUIRED = np.broadcast_to(slice_fusion.compute_slice_positions(N_THICK), (*SHAPE[:2], N_THICK))
DISPLACED = ACQUIRED + 0.8  # thin slices, 0.4 of a thick slice


@pytest.fixture(scope="module")
def prior_sd() -> Float:
    """Return a prior SD that varies between thin slices."""
    return np.exp(np.random.default_rng(0).normal(0, 1, SHAPE))


@pytest.fixture(scope="module")
def effect(prior_sd: Float) -> Float:
    """Return an effect in thin slices, sampled from the prior."""
    root = np.linalg.cholesky(slice_fusion.slice_correlation(N_THIN) + 1e-9 * np.eye(N_THIN))
    return prior_sd * (np.random.default_rng(1).normal(size=SHAPE) @ root.T)


def acquire(effect: Array, positions: Array, seed: int = 2) -> Float:
    """Return thick slices of an effect at positions (X, Y, m), with noise."""
    thick = (slice_fusion.slice_profiles(positions, N_THIN) @ effect[..., None])[..., 0]
    noise = np.random.default_rng(seed).normal(size=thick.shape)
    return thick + 0.1 * thick.std() * noise


def further_run(effect: Array, true: Array, assumed: Array, seed: int = 3) -> SlicedEffects:
    """Return a further run, acquired at `true` positions and modeled at `assumed` positions."""
    effects = acquire(effect, true, seed)[None]
    return SlicedEffects(effects=effects, positions=assumed, relative_noise=0.02)


def first_run(effect: Array) -> SlicedEffects:
    """Return the first run, with low noise."""
    return SlicedEffects(
        effects=acquire(effect, ACQUIRED)[None], positions=ACQUIRED, relative_noise=0.02
    )


def explained(estimate: Array, effect: Array) -> float:
    """Return the share of the variance of an effect that an estimate explains."""
    return float(1 - ((estimate.reshape(effect.shape) - effect) ** 2).sum() / (effect**2).sum())


def test_displaced_slices_recover_the_thin_effect(prior_sd: Float, effect: Float) -> None:
    runs = [first_run(effect), further_run(effect, DISPLACED, DISPLACED)]
    spline = explained(slice_fusion.interpolate_thin(runs[0].effects[0]), effect)
    flat = explained(fuse_slices(runs, np.ones(SHAPE), COLUMNS), effect)
    fused = explained(fuse_slices(runs, prior_sd, COLUMNS), effect)
    assert spline < 0.75
    assert fused > max(0.88, flat + 0.05)
    assert flat > spline + 0.05


def test_a_third_run_at_other_positions_adds_detail(prior_sd: Float, effect: Float) -> None:
    runs = [first_run(effect), further_run(effect, ACQUIRED + 0.3, ACQUIRED + 0.3)]
    third = further_run(effect, ACQUIRED + 0.9, ACQUIRED + 0.9, seed=4)
    gain = explained(fuse_slices([*runs, third], prior_sd, COLUMNS), effect) - explained(
        fuse_slices(runs, prior_sd, COLUMNS), effect
    )
    assert gain > 0.02


def test_undisplaced_slices_add_no_detail(prior_sd: Float, effect: Float) -> None:
    reference, undisplaced = first_run(effect), further_run(effect, ACQUIRED, ACQUIRED)
    fused = explained(fuse_slices([reference, undisplaced], prior_sd, COLUMNS), effect)
    single = explained(
        fuse_slices([reference, undisplaced.remove_influence()], prior_sd, COLUMNS), effect
    )
    assert abs(fused - single) < 0.01


def test_displacement_of_wrong_sign_is_worse_than_the_spline(
    prior_sd: Float, effect: Float
) -> None:
    reference, mirrored_run = first_run(effect), further_run(effect, DISPLACED, ACQUIRED - 0.8)
    fused = fuse_slices([reference, mirrored_run], prior_sd, COLUMNS)
    spline = slice_fusion.interpolate_thin(reference.effects[0])
    assert explained(fused, effect) < explained(spline, effect) - 0.05


def test_the_order_of_further_runs_does_not_matter(prior_sd: Float, effect: Float) -> None:
    reference = first_run(effect)
    later_runs = [
        further_run(effect, ACQUIRED + d, ACQUIRED + d, seed=5 + k)
        for k, d in enumerate((0.5, -0.8))
    ]
    forward, backward = (
        fuse_slices([reference, *order], prior_sd, COLUMNS)
        for order in (later_runs, later_runs[::-1])
    )
    np.testing.assert_allclose(forward, backward, atol=1e-9)


def test_columns_outside_the_mask_are_0(prior_sd: Float, effect: Float) -> None:
    reference = first_run(effect)
    columns = COLUMNS.copy()
    columns[:3] = False
    fused = fuse_slices([reference, further_run(effect, DISPLACED, DISPLACED)], prior_sd, columns)[
        0
    ]
    assert not fused[:3].any()
    assert explained(fused[3:], effect[3:]) > 0.5


def test_corrected_thin_slices_average_to_the_acquired_slices(effect: Float) -> None:
    thick = acquire(effect, ACQUIRED)
    corrected = slice_fusion.reproduce_slices(effect, thick)
    pairs = corrected.reshape(*SHAPE[:2], N_THICK, 2).mean(axis=3)
    np.testing.assert_allclose(pairs, thick, atol=1e-9)
    np.testing.assert_allclose(slice_fusion.reproduce_slices(corrected, thick), corrected)


def test_estimate_does_not_depend_on_the_scale_of_the_prior(
    prior_sd: Float, effect: Float
) -> None:
    runs = [first_run(effect), further_run(effect, DISPLACED, DISPLACED)]
    np.testing.assert_allclose(
        fuse_slices(runs, prior_sd, COLUMNS), fuse_slices(runs, 7 * prior_sd, COLUMNS), atol=1e-8
    )


def test_posterior_mean_is_the_ridge_solution(prior_sd: Float) -> None:
    """Compare with the precision form of the posterior."""
    rng = np.random.default_rng(7)
    sd, positions = prior_sd[:1, :1], [ACQUIRED[:1, :1], DISPLACED[:1, :1]]
    values = rng.normal(size=2 * N_THICK)
    runs = [
        SlicedEffects(effects=effect[None, None, None], positions=position, relative_noise=noise)
        for effect, position, noise in zip(
            values.reshape(2, -1), positions, (0.1, 0.3), strict=True
        )
    ]
    profiles = np.concatenate([slice_fusion.slice_profiles(p[0, 0], N_THIN) for p in positions])
    prior = sd[0, 0][:, None] * slice_fusion.slice_correlation(N_THIN) * sd[0, 0]
    signal = np.diag(profiles @ prior @ profiles.T)
    variance = np.where(signal > 0, np.repeat([0.1, 0.3], N_THICK) * signal, 1.0)
    precision = np.linalg.inv(prior) + profiles.T / variance @ profiles
    mean = np.linalg.solve(precision, profiles.T @ (values / variance))
    fused = fuse_slices(runs, sd, COLUMNS[:1, :1])[0, 0, 0]
    np.testing.assert_allclose(fused, mean, atol=1e-6)


def test_slice_positions_follow_the_transform() -> None:
    affine = np.diag([3.0, 3.0, 7.0, 1.0])
    affine[:3, 3] = -20.0, 5.0, 11.0
    head_moved_up = np.eye(4)
    head_moved_up[:3, 3] = 3.0, 0.0, 0.8 * 3.5
    image = np.random.default_rng(0).normal(size=(1, *SHAPE[:2], N_THICK))
    values, positions = slice_fusion.sample_at_columns(
        image, affine, SHAPE[:2], affine, head_moved_up
    )
    np.testing.assert_allclose(positions, ACQUIRED - 0.8, atol=1e-9)
    np.testing.assert_allclose(values[0, :-1], image[0, 1:], atol=1e-9)


def test_a_rotated_plane_is_sampled_within_its_slices() -> None:
    """A linear image is sampled exactly at points where slices cross the columns."""
    affine = np.diag([3.0, 3.0, 7.0, 1.0])
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]]
    axes = [np.arange(n, dtype=float) for n in (*SHAPE[:2], N_THICK)]
    i, j, k = np.meshgrid(*axes, indexing="ij")
    image = (3.0 * i + 6.0 * j + 7.0 * k)[None]  # x + 2 y + z of the second run (mm)
    values, positions = slice_fusion.sample_at_columns(image, affine, SHAPE[:2], affine, turn)
    i, j = i[..., :1] + 0 * positions, j[..., :1] + 0 * positions
    z = 7.0 * (positions - 0.5) / 2
    points = turn[:3, :3] @ np.stack([3.0 * i, 3.0 * j, z]).reshape(3, -1)
    expected = (points[0] + 2 * points[1] + points[2]).reshape(positions.shape)
    inside = (slice(2, -2), slice(3, -3), slice(2, -2))
    np.testing.assert_allclose(values[0][inside], expected[inside], atol=0.15)


def test_a_slice_outside_the_grid_has_no_influence(prior_sd: Float, effect: Float) -> None:
    reference, second_run = first_run(effect), further_run(effect, DISPLACED, DISPLACED)
    effects = second_run.effects.copy()
    effects[..., -1] += 100.0  # the slice ends 0.8 thin slices outside the grid
    modified_run = SlicedEffects(effects=effects, positions=DISPLACED, relative_noise=0.02)
    np.testing.assert_allclose(
        fuse_slices([reference, modified_run], prior_sd, COLUMNS),
        fuse_slices([reference, second_run], prior_sd, COLUMNS),
        atol=1e-9,
    )


def test_prior_sd_is_positive_next_to_edges() -> None:
    temporal_sd = np.full((4, 5, N_THICK), 2.0)
    np.testing.assert_allclose(slice_fusion.thin_prior_sd(temporal_sd), 2.0)
    temporal_sd[1, :, 4] = 200.0
    assert slice_fusion.thin_prior_sd(temporal_sd).min() > 0.5
    assert slice_fusion.interpolate_thin(temporal_sd).min() < 0  # the spline undershoots


def test_prior_sd_has_no_edge_around_a_mask() -> None:
    temporal_sd = np.full((4, 5, N_THICK), 2.0)
    temporal_sd[0] = temporal_sd[..., :3] = 0
    np.testing.assert_allclose(slice_fusion.thin_prior_sd(temporal_sd), 2.0)


def test_a_single_run_is_rejected(prior_sd: Float, effect: Float) -> None:
    with pytest.raises(SliceFusionError, match=r"single run.*two runs or more"):
        fuse_slices([stack_first_run(acquire(effect, ACQUIRED)[None])], prior_sd, COLUMNS)


@pytest.mark.parametrize(
    ("shape", "plane", "match"),
    [
        ((12, 11, 2 * N_THICK), (12, 12, N_THICK), "prior SD has the shape"),
        (SHAPE, (12, 11, N_THICK), "run 2: the effects have the shape"),
    ],
)
def test_error_of_mismatched_shapes_names_the_array_and_the_run(
    shape: tuple[int, ...], plane: tuple[int, ...], match: str
) -> None:
    runs = [
        stack_first_run(np.zeros((1, *ACQUIRED.shape))),
        SlicedEffects(effects=np.zeros((1, *plane)), positions=np.zeros(plane)),
    ]
    with pytest.raises(SliceFusionError, match=match):
        fuse_slices(runs, np.ones(shape), COLUMNS)


def test_an_empty_prior_is_rejected() -> None:
    with pytest.raises(SliceFusionError, match="temporal SD of the first run is 0"):
        slice_fusion.thin_prior_sd(np.zeros((2, 2, 3)))


def test_slices_in_another_orientation_are_rejected() -> None:
    turned = np.array([[3.0, 0, 0, 0], [0, 0, 7.0, 0], [0, 3.0, 0, 0], [0, 0, 0, 1]])
    with pytest.raises(SliceFusionError, match="parallel within 45 degrees"):
        slice_fusion.sample_at_columns(
            np.zeros((1, 4, 4, 4)), turned, (4, 4), np.diag([3.0, 3.0, 7.0, 1.0]), np.eye(4)
        )


def test_several_effects_are_fused_independently(prior_sd: Float, effect: Float) -> None:
    reference, second_run = first_run(effect), further_run(effect, DISPLACED, DISPLACED)
    flipped = first_run(effect[::-1]), further_run(effect[::-1], DISPLACED, DISPLACED)
    stacked_runs = [
        SlicedEffects(
            effects=np.concatenate([first.effects, second.effects]),
            positions=first.positions,
            relative_noise=first.relative_noise,
        )
        for first, second in zip((reference, second_run), flipped, strict=True)
    ]
    fused = fuse_slices(stacked_runs, prior_sd, COLUMNS)
    np.testing.assert_allclose(fused[:1], fuse_slices([reference, second_run], prior_sd, COLUMNS))
    np.testing.assert_allclose(fused[1:], fuse_slices(flipped, prior_sd, COLUMNS))
