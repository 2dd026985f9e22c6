"""Voxelwise tests across participants, compared with scipy."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from bids_sr.group.voxel_tests import (
    compute_mean_statistics,
    compute_sign_flip_statistics,
    correct_by_sign_flips,
    draw_sign_flips,
)
from bids_sr.io.volume import Volume

RNG = np.random.default_rng(5)


def compute_statistics(values: np.ndarray) -> dict[str, np.ndarray]:
    """Return the statistics of effects (participants, N) in some voxels of a grid."""
    mask = np.zeros((20, 2, -(-values.shape[1] // 18)), dtype=bool)  # two blocks of slices
    mask[1:-1, 1] = True
    mask[mask] = np.arange(np.count_nonzero(mask)) < values.shape[1]
    return compute_mean_statistics(values.astype(np.float32), Volume(mask, np.eye(4)))


def test_statistics_equal_a_t_test() -> None:
    values = RNG.normal(0.5, 1, (6, 200)).astype(np.float32)
    values[:, 4] *= 1e3
    expected = stats.ttest_1samp(values.astype(float), 0)
    maps = compute_statistics(values)
    assert maps["effect"] == pytest.approx(values.mean(axis=0), rel=1e-6, abs=1e-6)
    variance = values.var(axis=0, ddof=1) / 6
    assert maps["variance"] == pytest.approx(variance, rel=1e-5)
    assert maps["t"] == pytest.approx(expected.statistic, rel=1e-6, abs=1e-6)
    z = stats.norm.isf(stats.t.sf(expected.statistic, 5))
    assert maps["z"] == pytest.approx(z, rel=1e-6, abs=1e-6)
    shifted = compute_statistics(values + 1000)
    t = stats.ttest_1samp((values + 1000).astype(float), 0).statistic
    assert shifted["t"] == pytest.approx(t, rel=1e-6)


def test_constant_voxels_have_t_and_z_0() -> None:
    """A mean of equal values differs from them by rounding, such as that of .1."""
    values = np.full((7, 4), [0.0, 5.0, 0.1, 1.0], dtype=np.float32)
    values[0, 3] = 2
    maps = compute_statistics(values)
    assert maps["t"][:3].tolist() == maps["z"][:3].tolist() == [0, 0, 0]
    assert maps["variance"][:3].tolist() == [0, 0, 0]
    assert maps["effect"] == pytest.approx([0, 5, 0.1, 8 / 7])
    assert maps["t"][3] == pytest.approx(8)


def simulate_activation(seed: int, effect: float) -> np.ndarray:
    """Return maps of twelve participants, 400 voxels, whose first five have an effect."""
    values = np.random.default_rng(seed).normal(0, 1, (12, 400)).astype(np.float32)
    values[:, :5] += effect
    return values


def flip_exhaustively(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return abs(t) of each voxel, and p values over all 2^(n-1) flips, computed with scipy."""
    values = values.astype(np.float64)
    flips = [(1, *signs) for signs in product((1, -1), repeat=len(values) - 1)]
    t = [stats.ttest_1samp(values * np.array(flip)[:, None], 0).statistic for flip in flips]
    largest = np.abs(t).max(axis=1)
    observed = np.abs(t[0])
    return observed, (largest[:, None] >= observed - 1e-9).mean(axis=0)


@pytest.mark.parametrize("participants", [3, 9, 70])
def test_t_of_each_flip_equals_a_t_test_of_flipped_data(participants: int) -> None:
    values = RNG.normal(0.4, 1, (participants, 1500)).astype(np.float32)
    values[:, 0] = np.linspace(1000, 1001, participants)
    signs = draw_sign_flips(participants, 600, seed=3)
    t, largest_t = compute_sign_flip_statistics(values, signs)
    expected = np.array(
        [
            stats.ttest_1samp(values.astype(np.float64) * flip[:, None], 0).statistic
            for flip in signs
        ]
    )
    assert t == pytest.approx(expected[0], rel=1e-6, abs=1e-6)
    assert largest_t == pytest.approx(np.abs(expected).max(axis=1), rel=1e-6)


@pytest.mark.parametrize(
    ("participants", "flips", "count"),
    [(3, 4, 4), (3, 100, 4), (3, 3, 4), (3, 2, 3), (5, 16, 16), (7, 63, 64), (12, 200, 201),
     (63, 50, 51), (90, 50, 51)],
)  # fmt: skip
def test_flips_differ_from_each_other_and_their_mirror_images(
    participants: int, flips: int, count: int
) -> None:
    signs = draw_sign_flips(participants, flips, seed=1)
    assert signs.shape == (count, participants)
    assert (signs[0] == 1).all()
    assert (np.abs(signs) == 1).all()
    both = np.concatenate([signs, -signs])
    assert len(np.unique(both, axis=0)) == 2 * count


def test_random_flips_depend_on_the_seed_and_are_balanced() -> None:
    for participants in (14, 80):
        signs = draw_sign_flips(participants, 2000, seed=1)
        assert (signs == draw_sign_flips(participants, 2000, seed=1)).all()
        assert (signs != draw_sign_flips(participants, 2000, seed=2)).any()
        relative_signs = signs[:, 1:] * signs[:, :1]
        # the standard error of the mean of 2000 signs is .022
        assert np.abs(relative_signs.mean(axis=0)).max() < 0.1


def test_all_flips_have_exact_p_values() -> None:
    for participants, flips in ((4, 8), (5, 100), (6, 32), (8, 5000)):
        values = simulate_activation(participants, 1.5)[:participants]
        observed, expected = flip_exhaustively(values)
        result = correct_by_sign_flips(values, flips, seed=7)
        assert result.flips == 2 ** (participants - 1)
        assert 10.0**-result.logp == pytest.approx(expected, rel=1e-5)
        assert ((observed > result.threshold) == (expected <= 0.05)).all()


def test_sign_flips_detect_activation_of_either_sign() -> None:
    for sign in (1, -1):
        values = simulate_activation(3, sign * 3.0)
        result = correct_by_sign_flips(values, 199, seed=1)
        significant = 10.0**-result.logp <= 0.05 + 1e-6
        assert np.flatnonzero(significant).tolist() == [0, 1, 2, 3, 4]
        assert result.logp.max() == pytest.approx(np.log10(200))
        assert result.flips == 200


def test_the_threshold_agrees_with_p_values_and_float32_t_maps() -> None:
    for seed in range(60):
        participants, flips = 5 + seed % 6, 19 + seed
        values = simulate_activation(seed, 2.0)[:participants]
        result = correct_by_sign_flips(values, flips, seed=seed)
        significant = 10.0**-result.logp <= 0.05 + 1e-6
        t = compute_statistics(values)["t"]
        assert ((np.abs(t) > result.threshold) == significant).all()
        assert np.isinf(result.threshold) == (result.flips < 20)


def test_sign_flips_keep_the_false_positive_rate() -> None:
    """With 9 participants and 99 flips, the smallest p of correlated voxels is uniform.

    Of 400 samples, 20 are expected at .05; less than 8 or more than 34 have a probability of .2 %.
    """
    rng = np.random.default_rng(8)
    smallest = []
    for seed in range(400):
        values = rng.normal(0, 1, (9, 30)) + rng.normal(0, 1, (9, 1))
        smallest.append(10.0 ** -correct_by_sign_flips(values, 99, seed=seed).logp.max())
    assert 8 <= sum(p <= 0.05 + 1e-6 for p in smallest) <= 34
    assert stats.kstest(smallest, stats.uniform.cdf).pvalue > 1e-3


@pytest.mark.parametrize("flips", [100, 500])
def test_p_values_of_five_participants_are_never_below_a_sixteenth(flips: int) -> None:
    for seed in range(40):
        result = correct_by_sign_flips(simulate_activation(1, 30.0)[:5], flips, seed=seed)
        assert 10.0 ** -result.logp.max() == pytest.approx(1 / 16)
        assert result.threshold == np.inf


def test_p_values_of_05_require_six_participants() -> None:
    result = correct_by_sign_flips(simulate_activation(1, 30.0)[:6], 2000, seed=2)
    assert 10.0 ** -result.logp.max() == pytest.approx(1 / 32)
    assert np.isfinite(result.threshold)
    assert correct_by_sign_flips(simulate_activation(1, 30.0), 18, seed=2).threshold == np.inf


def test_equal_values_do_not_depend_on_rounding() -> None:
    """Exchanging participants with equal values results in flips with the same abs(t)."""
    values = np.repeat(RNG.normal(1, 1, (3, 50)).astype(np.float32), 3, axis=0) / 3
    _, expected = flip_exhaustively(values)
    assert 10.0 ** -correct_by_sign_flips(values, 256, seed=0).logp == pytest.approx(expected)


def test_constant_voxels_have_a_corrected_p_of_1() -> None:
    values = simulate_activation(1, 3.0)
    values[:, 7], values[:, 8] = 0, 2
    result = correct_by_sign_flips(values, 50, seed=0)
    assert result.logp[7:9].tolist() == [0, 0]
    others = correct_by_sign_flips(np.delete(values, [7, 8], axis=1), 50, seed=0)
    assert np.delete(result.logp, [7, 8]).tolist() == others.logp.tolist()
    assert correct_by_sign_flips(values[:, 7:9], 50, seed=0).logp.tolist() == [0, 0]
