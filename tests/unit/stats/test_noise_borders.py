"""A voxel between two groups of noise has a mixture of both, so that no rounding decides."""

import numpy as np

from bids_sr.glm.linear_model import ContrastModel
from bids_sr.glm.noise import (
    Borders,
    Noise,
    _like_groups,
    expected_products,
    orthonormal,
    unseen,
)

RNG = np.random.default_rng(0)


def mixed(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and what each voxel gets of the means of its groups."""
    labels, means, borders = _like_groups(values)
    out = means[labels] * borders.own_shares(len(labels))[:, None]
    np.add.at(out, borders.voxels, borders.shares[:, None] * means[borders.groups])
    return labels, out


def test_rounding_moves_voxels_to_other_groups_but_not_their_results() -> None:
    """Some hundred voxels lie on the first cut."""
    values = RNG.normal(0.2, 0.05, (2, 4000))
    values[0] *= 3
    for _ in range(40):  # until the mean is where they are
        values[0, :300] = values[0].mean()
    values[0, :300] += 1e-9 * RNG.normal(size=300)
    (before, smooth), (after, again) = (
        mixed(values + 1e-8 * noise) for noise in (np.zeros(values.shape), RNG.normal(size=(2, 1)))
    )
    moved = before != after
    shifted = values.copy()
    shifted[0, :300] += 2e-8 * RNG.normal(size=300)
    labels, results = mixed(shifted)
    assert (labels != before).sum() > 50
    np.testing.assert_allclose(results, smooth, atol=1e-4)
    np.testing.assert_allclose(again, smooth, atol=1e-4)
    assert moved.sum() < 4000


def test_shares_sum_to_one_and_few_voxels_have_several_groups() -> None:
    values = RNG.normal(0.2, 0.1, (3, 20000))
    labels, means, borders = _like_groups(values)
    own = borders.own_shares(len(labels))
    assert own.min() > 0.2
    assert own.max() == 1
    assert (borders.groups != labels[borders.voxels]).all()
    assert 0.02 < (own < 1).mean() < 0.2
    part = borders.of(slice(100, 200), 20000)
    inside = (borders.voxels >= 100) & (borders.voxels < 200)
    assert np.array_equal(part.voxels, borders.voxels[inside] - 100)
    assert np.array_equal(part.shares, borders.shares[inside])
    assert len(means) == 64


def test_the_linear_model_mixes_the_results_of_both_groups() -> None:
    """In whatever blocks it is fitted."""
    n, count = 80, 30
    matrix = np.column_stack([np.sin(np.arange(n) / 5), np.ones(n)])
    signals = 100 + RNG.normal(size=(n, count)).cumsum(axis=0) * 0.2 + RNG.normal(size=(n, count))
    labels = np.arange(count) % 2
    rho = np.array([[0.1, 0.05], [0.5, 0.3]])
    spread = np.zeros((2, 2, 2))
    at = np.array([3, 8, 20])
    shares = np.array([0.5, 0.25, 0.1])
    borders = Borders(voxels=at, groups=1 - labels[at], shares=shares)
    one, other, mixture = (
        ContrastModel(matrix, np.array([[1.0, 0.0]]), noise)
        for noise in (
            Noise(labels=labels, rho=rho, spread=spread),
            Noise(labels=1 - labels, rho=rho, spread=spread),
            Noise(labels=labels, rho=rho, spread=spread, borders=borders),
        )
    )
    plain, swapped = one.fit(signals), other.fit(signals)
    part = np.zeros(count)
    part[at] = shares
    for voxels in (slice(None), slice(0, 9), slice(9, 30)):
        found = mixture.fit(signals[:, voxels], voxels)
        for stat in ("effect", "variance", "effective"):
            wanted = (1 - part) * plain[stat] + part * swapped[stat]
            np.testing.assert_allclose(found[stat], wanted[:, voxels])
        np.testing.assert_allclose(found["t"], found["effect"] / np.sqrt(found["variance"]))
    assert np.abs(plain["variance"] - swapped["variance"])[:, at].min() > 1e-4


def test_a_target_that_no_process_shows_is_approached_the_same_way() -> None:
    """Targets of smooth series in a model with many columns, with and without rounding noise."""
    rng = np.random.default_rng(1)
    t = np.arange(60)
    cosines = [np.cos(np.pi * (t + 0.5) * k / 60) for k in range(8)]
    basis = orthonormal(np.column_stack([*cosines, rng.normal(size=(60, 6)).cumsum(axis=0)]))
    products = expected_products(basis, 6)
    targets = 0.9 ** np.arange(1, 7) - 0.15 + 0.03 * rng.normal(size=(400, 6))
    before = unseen(targets, products)
    moved = [
        np.abs(unseen(targets + 1e-7 * rng.normal(size=targets.shape), products) - before).max()
        for _ in range(10)
    ]
    assert max(moved) < 1e-3
