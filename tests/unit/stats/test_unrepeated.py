"""Unrepeated detail: planted false detail is found, true and repeatable detail is not."""

import numpy as np
import pytest
from scipy import ndimage

from bids_sr.stats.controls import unrepeated_detail

SHAPE, TWO = (64, 64, 9), (2.0, 2.0, 1.0)
BLOCKS = 6
AT, ELSEWHERE = (20, 24, 4), (44, 40, 4)


def round_brain() -> np.ndarray:
    x, y, _ = np.indices(SHAPE)
    return (x - 31.5) ** 2 + (y - 31.5) ** 2 < 26**2


GRID = unrepeated_detail.HighResGrid(mask=round_brain(), zooms=(1.5, 1.5, 3.0), factor=TWO)


def near(at: tuple[int, int, int], voxels: float = 2.0) -> np.ndarray:
    return sum(((axis - c) * z) ** 2 for axis, c, z in zip(np.indices(SHAPE), at, (1, 1, 2), strict=True)) < voxels**2


def stripes(at: tuple[int, int, int]) -> np.ndarray:
    """A blob of texture three voxels wide, too fine for the acquired grid, amplitude 1."""
    x, y, z = np.indices(SHAPE)
    wide = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * 4.0**2) - (z - at[2]) ** 2 / 2)
    return wide * np.cos(2 * np.pi * x / 3) * np.cos(2 * np.pi * y / 4)


def texture(seed: int, sigma: float = 0.6) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), (sigma, sigma, 0))
    return noise / noise.std()


def acquired(image: np.ndarray) -> np.ndarray:
    return image - GRID.detail(image)


GUIDED = 500 + 40 * texture(0)


def test_detail_is_what_lies_at_or_beyond_the_acquired_limit() -> None:
    x = np.indices(SHAPE)[0]
    for cycles, kept in ((15, 0), (16, 1), (20, 1), (32, 1)):
        wave = np.cos(2 * np.pi * cycles * x / SHAPE[0] + (0 if cycles == 32 else 0.4))
        np.testing.assert_allclose(GRID.detail(wave), kept * wave, atol=1e-9)
        turned = np.moveaxis(wave, 0, 1)
        np.testing.assert_allclose(GRID.detail(turned), kept * turned, atol=1e-9)


def test_detail_fits_grids_of_odd_size_and_other_factors() -> None:
    shape = (45, 38, 3)
    grid = unrepeated_detail.HighResGrid(mask=np.ones(shape, bool), zooms=(1, 1, 1), factor=(1.5, 2.0, 1.0))
    image = np.random.default_rng(0).normal(size=shape)
    full = np.fft.fft2(image, axes=(0, 1))
    inside = [np.abs(np.fft.fftfreq(n) * n) < n / f / 2 - 1e-6 for n, f in ((45, 1.5), (38, 2.0))]
    full[inside[0][:, None] & inside[1]] = 0
    np.testing.assert_allclose(grid.detail(image), np.fft.ifft2(full, axes=(0, 1)).real, atol=1e-9)


def test_a_mean_with_the_detail_of_the_pair_or_with_less_of_it_is_clean() -> None:
    for part in (1.0, 0.5, 0.0):
        mean = acquired(GUIDED) + part * GRID.detail(GUIDED)
        assert unrepeated_detail.mean_detail(mean, GUIDED, GRID).max() < 1e-6


def test_a_false_blob_in_the_mean_is_found_and_nothing_else() -> None:
    mean = acquired(GUIDED) + 0.6 * GRID.detail(GUIDED) + 150 * GRID.detail(stripes(AT))
    found = unrepeated_detail.mean_detail(mean, GUIDED, GRID)
    assert (found[near(AT)] > unrepeated_detail.THRESHOLD).all()
    assert (found[near(ELSEWHERE, 6)] < 0.05).all()
    assert 0 < unrepeated_detail.unrepeated_share(found, GRID.mask) < 0.1
    assert 0 <= found.min() <= found.max() <= 1


def test_detail_of_the_wrong_sign_or_of_another_head_is_found() -> None:
    for wrong in (-GRID.detail(GUIDED), GRID.detail(40 * texture(1))):
        found = unrepeated_detail.mean_detail(acquired(GUIDED) + wrong, GUIDED, GRID)
        assert np.median(found[GRID.mask]) == pytest.approx(0.5, abs=0.1)


def halves(
    pattern: np.ndarray, amplitudes: tuple[float, float], *, noise: float = 1.0, seed: int = 0
) -> list[np.ndarray]:
    """Terms of both halves: acquired noise everywhere, and a pattern of given amplitude in each half."""
    rng = np.random.default_rng(seed)
    out = []
    for amplitude in amplitudes:
        blocks = [acquired(ndimage.gaussian_filter(rng.normal(size=SHAPE), (1, 1, 0)) * 4) for _ in range(BLOCKS)]
        fine = [0.3 * GRID.detail(rng.normal(size=SHAPE)) for _ in range(BLOCKS)]
        effects = np.stack([amplitude * pattern + noise * (a + b) for a, b in zip(blocks, fine, strict=True)])
        out.append(unrepeated_detail.block_terms(effects, np.full(BLOCKS, 1 / BLOCKS)))
    return out


def test_detail_of_one_half_alone_is_found() -> None:
    found = [
        unrepeated_detail.effect_detail(*halves(8 * stripes(AT), amplitudes, seed=seed), GRID, guided=GUIDED)
        for seed, amplitudes in enumerate([(1, 0), (0, 1)] * 4)
    ]
    # the other half's noise may repeat it once in twenty times, and neighbors share that noise
    assert np.mean([(each[near(AT)] > unrepeated_detail.THRESHOLD).mean() for each in found]) > 0.8
    assert np.mean([(each[near(ELSEWHERE, 6)] > unrepeated_detail.THRESHOLD).mean() for each in found]) < 0.05


def test_detail_of_opposite_sign_in_the_halves_cancels_and_of_one_sign_is_supported() -> None:
    together = unrepeated_detail.effect_detail(*halves(8 * stripes(AT), (1, 1)), GRID, guided=GUIDED)
    assert (together[near(AT)] == 0).all()
    against = unrepeated_detail.effect_detail(*halves(8 * stripes(AT), (1.5, -0.5)), GRID, guided=GUIDED)
    assert (against[near(AT)] > unrepeated_detail.THRESHOLD).mean() > 0.9


def test_detail_that_follows_the_pair_is_supported_by_it_alone() -> None:
    wide = np.exp(-sum(((axis - c) / w) ** 2 for axis, c, w in zip(np.indices(SHAPE), AT, (6, 6, 2), strict=True)))
    pattern = -8 * wide * GRID.detail(texture(0))
    terms = halves(pattern, (1, 0))
    assert (unrepeated_detail.effect_detail(*terms, GRID)[near(AT)] > unrepeated_detail.THRESHOLD).mean() > 0.9
    assert (unrepeated_detail.effect_detail(*terms, GRID, guided=GUIDED)[near(AT)] == 0).all()
    other = unrepeated_detail.effect_detail(*terms, GRID, guided=500 + 40 * texture(9))
    assert (other[near(AT)] > unrepeated_detail.THRESHOLD).mean() > 0.8


def test_flips_hold_their_level_where_nothing_repeats() -> None:
    one, two = halves(np.zeros(SHAPE), (0, 0), seed=3)
    support = unrepeated_detail.time_support(one, two, GRID)
    assert 0.005 < support[GRID.mask].mean() < 0.05  # each of two questions holds its level, both are asked
    np.testing.assert_array_equal(support, unrepeated_detail.time_support(one, two, GRID))


def test_strong_detail_of_one_half_is_no_support_whatever_the_other_halfs_noise() -> None:
    chance = [
        unrepeated_detail.time_support(*halves(20 * stripes(AT), (1, 0), seed=seed), GRID)[near(AT)].mean()
        for seed in range(12)
    ]
    assert np.mean(chance) < 0.15


@pytest.mark.parametrize("count", [2, 3, 8])
def test_true_detail_is_supported_with_few_blocks_and_with_many(count: int) -> None:
    rng = np.random.default_rng(0)
    terms = [(20 * stripes(AT) + rng.normal(size=(count, *SHAPE))) / count for _ in range(2)]
    support = unrepeated_detail.time_support(*terms, GRID)
    assert support[near(AT)].all()
    # one flip of two leaves the sign alone: chance is then a quarter in each half, not a twentieth
    assert support[near(ELSEWHERE, 8)].mean() < {2: 0.25, 3: 0.15, 8: 0.06}[count]


def test_what_conditions_share_is_no_support_for_their_difference() -> None:
    rng = np.random.default_rng(0)
    effects = 10 * stripes(AT) + rng.normal(size=(8, *SHAPE))
    weights = np.array([0.25, -0.25] * 4)
    terms = unrepeated_detail.block_terms(effects, weights)
    np.testing.assert_allclose(terms.sum(0), np.tensordot(weights, effects, 1), atol=1e-4)
    # without the shared part taken out, a flip that leaves the sum of weights other than 0 shows the stripes
    assert np.abs(terms[0]).max() < 0.25 * 6
    plain = unrepeated_detail.block_terms(effects[:, :4], np.array([0.5, 0, 0.5, 0, 0, 0, 0, 0]))
    np.testing.assert_allclose(plain, 0.5 * effects[[0, 2], :4], rtol=1e-5)


def test_no_detail_nothing_unrepeated() -> None:
    low = [np.stack([acquired(block) for block in half]) for half in halves(np.zeros(SHAPE), (0, 0))]
    assert unrepeated_detail.unrepeated_share(unrepeated_detail.effect_detail(*low, GRID), GRID.mask) == 0


def test_what_cannot_be_asked_is_refused() -> None:
    empty = unrepeated_detail.HighResGrid(mask=~np.ones(SHAPE, bool), zooms=(1, 1, 1), factor=TWO)
    same = unrepeated_detail.HighResGrid(mask=GRID.mask, zooms=(1, 1, 1), factor=(1.0, 1.0, 2.0))
    with pytest.raises(unrepeated_detail.DetailError, match="mask is empty"):
        unrepeated_detail.mean_detail(GUIDED, GUIDED, empty)
    with pytest.raises(unrepeated_detail.DetailError, match="nothing beyond"):
        unrepeated_detail.mean_detail(GUIDED, GUIDED, same)
    with pytest.raises(unrepeated_detail.DetailError, match="and a mask of"):
        unrepeated_detail.mean_detail(GUIDED[:5], GUIDED, GRID)
    with pytest.raises(unrepeated_detail.DetailError, match="halves of 0 and 6"):
        unrepeated_detail.effect_detail(np.zeros((0, *SHAPE)), np.zeros((6, *SHAPE)), GRID)


def test_wrong_detail_that_is_the_same_in_both_halves_is_not_seen() -> None:
    """Why it is not called hallucination: detail that is all wrong, made alike in every block, reads 0."""
    alike, not_alike = (
        unrepeated_detail.effect_detail(*halves(8 * stripes(AT), by_half), GRID)[near(AT)]
        for by_half in ((1, 1), (1.5, -0.5))
    )
    assert alike.max() == 0
    assert (not_alike > unrepeated_detail.THRESHOLD).mean() > 0.9
