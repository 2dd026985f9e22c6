"""The test that decides whether runs can be fused across slices, on columns of known effect."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from bids_sr.combination import fusion_gate, slice_fusion
from bids_sr.combination.slice_fusion import SlicedEffects, SliceFusionError, stack_first_run
from bids_sr.io.arrays import Array, Float

N_THICK, N_THIN = 10, 20
SHAPE = (14, 14, N_THIN)
COLUMNS = np.ones(SHAPE[:2], dtype=bool)
ACTIVE = np.ones(SHAPE, dtype=bool)
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


def acquire(effect: Array, positions: Array, seed: int) -> Float:
    """Return thick slices of an effect at positions (X, Y, m), with low noise."""
    thick = (slice_fusion.slice_profiles(positions, N_THIN) @ effect[..., None])[..., 0]
    return thick + 0.05 * thick.std() * np.random.default_rng(seed).normal(size=thick.shape)


@pytest.mark.parametrize(
    ("true", "assumed", "passes"),
    [
        pytest.param(DISPLACED, DISPLACED, True, id="displaced"),
        pytest.param(DISPLACED, ACQUIRED - 0.8, False, id="wrong sign"),
        pytest.param(ACQUIRED, ACQUIRED, False, id="equal slices"),
        pytest.param(ACQUIRED, ACQUIRED + 0.5, False, id="not displaced, a quarter assumed"),
        pytest.param(ACQUIRED, ACQUIRED + 1.0, False, id="not displaced, half a slice assumed"),
        pytest.param(
            ACQUIRED, ACQUIRED - 1.0, False, id="not displaced, half a slice below assumed"
        ),
    ],
)
def test_only_the_right_displacement_passes(
    prior_sd: Float, effect: Float, true: Array, assumed: Array, passes: bool
) -> None:
    first_run = acquire(effect, ACQUIRED, 2)
    halves = acquire(effect, true, 3), acquire(effect, true, 4)
    result = fusion_gate.check_fusion(first_run, halves, assumed, prior_sd, COLUMNS, ACTIVE)
    assert result.passed is passes


@pytest.mark.parametrize("assumed", [1.0, -1.0, 0.6])
def test_undisplaced_slices_fail_under_an_assumed_displacement(
    prior_sd: Float, effect: Float, assumed: float
) -> None:
    halves = acquire(effect, ACQUIRED, 3), acquire(effect, ACQUIRED, 4)
    result = fusion_gate.check_fusion(
        acquire(effect, ACQUIRED, 2), halves, ACQUIRED + assumed, prior_sd, COLUMNS, ACTIVE
    )
    assert result.undisplaced > 0.9
    assert not result.passed


def test_a_mirrored_prior_fails(prior_sd: Float, effect: Float) -> None:
    first_run = acquire(effect, ACQUIRED, 2)
    halves = acquire(effect, DISPLACED, 3), acquire(effect, DISPLACED, 4)
    result = fusion_gate.check_fusion(
        first_run, halves, DISPLACED, prior_sd[::-1], COLUMNS, ACTIVE
    )
    assert not result.passed


def test_noise_without_an_effect_fails(prior_sd: Float) -> None:
    first_run, *halves = (
        np.random.default_rng(seed).normal(size=ACQUIRED.shape) for seed in (1, 2, 3)
    )
    result = fusion_gate.check_fusion(
        first_run, (halves[0], halves[1]), DISPLACED, prior_sd, COLUMNS, ACTIVE
    )
    assert not result.passed


def test_runs_without_active_voxels_fail(prior_sd: Float, effect: Float) -> None:
    thick = acquire(effect, ACQUIRED, 2)
    result = fusion_gate.check_fusion(
        thick, (thick, thick), DISPLACED, prior_sd, COLUMNS, np.zeros(SHAPE, dtype=bool)
    )
    assert not result.passed
    assert np.isnan(fusion_gate.median_displacement(DISPLACED, np.zeros(SHAPE, dtype=bool)))


def test_leave_slices_out_equals_regression_on_all_other_slices(
    prior_sd: Float, effect: Float
) -> None:
    """Compare the short formula with a regression on all other values."""
    columns = np.zeros(SHAPE[:2], dtype=bool)
    columns[3, 4] = columns[5, 1] = True
    first_run = stack_first_run(acquire(effect, ACQUIRED, 2)[None])
    second_run = SlicedEffects(effects=acquire(effect, DISPLACED, 3)[None], positions=DISPLACED)
    predicted = fusion_gate.leave_slices_out([first_run, second_run], prior_sd, columns)[0]
    covariance, _ = slice_fusion.joint_covariance(
        prior_sd[columns],
        [ACQUIRED[columns], DISPLACED[columns]],
        [first_run.relative_noise, second_run.relative_noise],
    )
    values = np.concatenate(
        [first_run.effects[0][columns], second_run.effects[0][columns]], axis=1
    )
    for column in range(2):
        for k in (2, 7):
            other_slices = np.delete(np.arange(2 * N_THICK), N_THICK + k)
            weights = np.linalg.solve(
                covariance[column][np.ix_(other_slices, other_slices)],
                covariance[column][other_slices, N_THICK + k],
            )
            assert_allclose(
                predicted[column, k], weights @ values[column, other_slices], rtol=1e-6
            )


def test_displacement_is_the_median_over_active_voxels() -> None:
    positions = ACQUIRED.copy()
    positions[:7] += 0.9  # half of the columns
    active = ACTIVE.copy()
    active[7:] = False
    assert_allclose(fusion_gate.median_displacement(positions, active), 0.45)
    assert_allclose(fusion_gate.median_displacement(positions, ~active), 0.0)


@pytest.mark.parametrize(
    ("shift", "expected"), [(0.0, 0.0), (2.0, 0.0), (1.0, 0.5), (-0.5, 0.25), (3.4, 0.3)]
)
def test_displacement_is_modulo_the_slice(shift: float, expected: float) -> None:
    inner = np.zeros(SHAPE, dtype=bool)
    inner[..., 4:-4] = True
    assert_allclose(fusion_gate.median_displacement(ACQUIRED + shift, inner), expected, atol=1e-9)


def test_fused_score_must_exceed_every_control() -> None:
    passing = fusion_gate.GateResult(
        fused=0.5, first=0.2, second=0.3, undisplaced=0.1, opposite=-0.1, mirrored=0.4
    )
    assert passing.passed
    for control in ("first", "second", "undisplaced", "opposite"):
        assert not replace(passing, **{control: 0.46}).passed
    assert not replace(passing, mirrored=0.51).passed
    assert not replace(passing, fused=0.04, first=-1, second=-1, mirrored=-1).passed


def test_runs_are_linked_through_intermediate_runs() -> None:
    assert fusion_gate.find_linked_runs(4, set()) == []
    assert fusion_gate.find_linked_runs(4, {(1, 2)}) == [1, 2]
    assert fusion_gate.find_linked_runs(5, {(0, 1), (2, 4), (3, 4)}) == [2, 3, 4]
    assert fusion_gate.find_linked_runs(4, {(2, 3), (1, 2), (0, 1)}) == [0, 1, 2, 3]


def test_error_of_mismatched_shapes_names_the_array(prior_sd: Float) -> None:
    thick = np.ones(ACQUIRED.shape)
    with pytest.raises(SliceFusionError, match="prior SD has the shape"):
        fusion_gate.check_fusion(
            thick, (thick, thick), DISPLACED, prior_sd[..., :-2], COLUMNS, ACTIVE
        )
