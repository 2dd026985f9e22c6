"""The prior against dense matrices on small grids, and against the prototype's formula."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from variance_helpers import (
    dense_covariance,
    dense_down,
    dense_prior,
    drawn,
    patchy,
    prior_of,
    sizes,
    window_of,
)

from bids_sr.sr.resolution.operators import level_above
from bids_sr.sr.variance.prior import _TOLERANCE, Prior, Window, _blocks, _correlation, correlation

GRIDS = [
    ((8, 7, 2), (2, 2, 1)),
    ((6, 9, 2), (1.5, 1.5, 1)),
    ((5, 6, 3), (2, 2, 2)),
    ((6, 5, 4), (1.5, 2, 1.5)),
]


def distance(a, b):
    """|a - b| / |b|."""
    a, b = (np.asarray(each, float) for each in (a, b))
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize("fwhm", [1.5, 3.0])
def test_no_correlation_is_a_subnormal_number(fwhm):
    """Many processors are slow with them, and they change no sum."""
    parts = [correlation(96, fwhm), *(part for _, part in _blocks(96, fwhm))]
    assert all(float(part[part != 0].min()) >= 1e-20 for part in parts)
    assert torch.allclose(correlation(96, fwhm), _correlation(96, fwhm), rtol=0, atol=1e-20)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(4, 11),
    st.integers(4, 11),
    st.integers(2, 5),
    st.sampled_from([1, 1.25, 1.5, 2, 3]),
    st.sampled_from([1, 1.5, 2]),
    st.integers(0, 99),
)
def test_the_adjoint_is_that_of_the_way_down(x, y, z, factor, across, seed):
    window = window_of((x, y, z), (factor, factor, across))
    fine, coarse = drawn(seed, *sizes(window)).double(), drawn(seed + 1, z, x, y)
    low, back = window.down(fine.float()).double(), window.adjoint(coarse).double()
    size = float(low.norm() * coarse.norm())
    assert abs(float((low * coarse).sum() - (fine * back).sum())) < 1e-5 * size


@pytest.mark.parametrize(("shape", "factor"), GRIDS)
def test_on_the_whole_grid_the_way_down_is_that_of_the_level(shape, factor):
    window = window_of(shape, factor)
    fine = drawn(0, *sizes(window))
    torch.testing.assert_close(window.down(fine), window.level.down(fine), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("shape", "factor"), GRIDS)
def test_the_covariance_is_the_dense_one_and_positive_definite(shape, factor):
    prior = prior_of(shape, factor)
    count = int(np.prod(shape))
    made = torch.stack(
        [prior.covariance(e) for e in torch.eye(count).reshape(count, shape[2], *shape[:2])]
    )
    made = made.reshape(count, count).numpy().astype(float)
    assert distance(made, dense_covariance(prior)) < 1e-5
    assert distance(made, made.T) < 1e-5
    assert np.linalg.eigvalsh((made + made.T) / 2).min() > 0.99 * prior.noise


def test_correlations_in_blocks_are_the_whole_ones():
    # 45 + 45 fine voxels: more blocks than one along both axes
    prior = prior_of((8, 7, 1), (2, 2, 1))
    image = drawn(0, 2, 90, 71)
    for number, width in enumerate(prior.fwhm):
        along = [
            np.exp(-4 * np.log(2) * np.subtract.outer(a, a) ** 2 / width**2)
            for a in map(np.arange, (90, 71))
        ]
        whole = along[0] @ image.numpy().astype(float) @ along[1]
        assert distance(prior.correlate(number, image), whole) < 1e-5


@pytest.mark.parametrize(("shape", "factor"), GRIDS)
def test_solving_is_the_dense_inverse(shape, factor):
    prior = prior_of(shape, factor)
    data = prior.draw(torch.Generator().manual_seed(1))
    known = np.linalg.solve(dense_covariance(prior), data.numpy().ravel().astype(float)).reshape(
        data.shape
    )
    assert distance(prior.solve(data, iterations=200, tolerance=1e-6), known) < 1e-4
    # the tolerance is that of the residual, and the inverse multiplies it by no more than the
    # condition
    assert (
        distance(prior.solve(data), known)
        < _TOLERANCE * np.linalg.cond(dense_covariance(prior)) ** 0.5
    )


def test_a_slice_that_is_solved_early_does_not_end_the_others():
    prior = prior_of((8, 8, 2), (2, 2, 1), noise=0.02)
    still = prior.weight.clone()
    still[:, 0] = 0  # this slice is noise alone, solved by the first step, and its data are large
    prior = Prior(window=prior.window, weight=still, fwhm=prior.fwhm, noise=prior.noise)
    data = prior.draw(torch.Generator().manual_seed(1))
    data[0] *= 1e4
    known = np.linalg.solve(dense_covariance(prior), data.numpy().ravel().astype(float)).reshape(
        data.shape
    )
    found = prior.solve(data, iterations=100)
    assert distance(found[1], known[1]) < 0.02
    alone = data.clone()
    alone[0] = 0
    torch.testing.assert_close(
        prior.solve(alone, iterations=100)[1], found[1], atol=1e-6, rtol=1e-2
    )
    assert not prior.solve(torch.zeros_like(data)).any()


@pytest.mark.parametrize(("shape", "factor"), GRIDS)
def test_what_is_expected_is_the_dense_conditional_mean(shape, factor):
    prior = prior_of(shape, factor)
    data = prior.draw(torch.Generator().manual_seed(2))
    down = dense_down(prior.window)
    known = (
        dense_prior(prior)
        @ down.T
        @ np.linalg.solve(dense_covariance(prior), data.numpy().ravel())
    )
    assert distance(prior.expect(data).ravel(), known) < 0.01


@pytest.mark.parametrize(("shape", "factor"), GRIDS)
def test_the_mean_variance_is_exact(shape, factor):
    prior = prior_of(shape, factor)
    known = np.trace(dense_covariance(prior)) / np.prod(shape) - prior.noise
    assert prior.mean_variance == pytest.approx(known, rel=1e-4)


@pytest.mark.parametrize("width", [0.0, 1.5, 3.0])
def test_the_variance_of_a_constant_map_is_the_dense_diagonal_up_to_a_factor(width):
    window = window_of((9, 8, 1), (2, 2, 1))
    prior = Prior(
        window=window, weight=torch.full((1, *sizes(window)), 2.0), fwhm=(width,), noise=0.0
    )
    ratio = prior.variance.numpy().ravel() / np.diag(dense_covariance(prior))
    # edges, where a correlation is cut; inside it is one number
    assert ratio.max() / ratio.min() < 1.6
    inside = ratio.reshape(9, 8)[2:-2, 2:-2]
    assert inside.max() / inside.min() < 1.1
    if not width:
        np.testing.assert_allclose(ratio, 1, rtol=1e-4)


@pytest.mark.parametrize(("shape", "factor"), [((4, 5, 1), (2, 2, 1)), ((3, 4, 2), (1.5, 2, 2))])
def test_draws_have_the_covariance_of_the_model(shape, factor):
    prior, count = prior_of(shape, factor), 3000
    generator = torch.Generator().manual_seed(0)
    draws = (
        torch.stack([prior.draw(generator).ravel() for _ in range(count)]).numpy().astype(float)
    )
    known = dense_covariance(prior)
    # of a sample covariance of normal data: E|S - A|^2 = (tr(A)^2 + |A|^2) / N
    expected = math.sqrt((np.trace(known) ** 2 + np.square(known).sum()) / count)
    assert np.linalg.norm(draws.T @ draws / count - known) < 1.5 * expected
    assert np.trace(draws.T @ draws / count) == pytest.approx(np.trace(known), rel=0.05)


@pytest.mark.parametrize(("shape", "factor"), GRIDS)
def test_nothing_of_the_acquired_band_is_added_and_two_changes_give_the_sum(shape, factor):
    prior = prior_of(shape, factor)
    generator = torch.Generator().manual_seed(3)
    one, two = prior.draw(generator), prior.draw(generator)
    added = prior.beyond(one)
    assert float(prior.window.level.down(added).norm()) < 1e-5 * float(added.norm())
    assert float(added.norm()) > 0.01 * float(one.norm())
    both = prior.beyond(one - 2 * two)
    # as far as each of the three is solved
    assert distance(both, added - 2 * prior.beyond(two)) < 0.02
    assert not prior.beyond(torch.zeros_like(one)).any()


def test_a_window_around_the_mask_serves_what_lies_in_the_mask():
    shape = (26, 24, 2)
    level = level_above(shape, (2, 2, 1))
    x, y, _ = np.indices(shape)
    mask = np.hypot(x - 12, y - 12) < 5
    small, whole = Window.around(level, mask), window_of(shape, (2, 2, 1))
    assert sizes(small) != sizes(whole)
    weight = patchy(whole, 1)[None] * torch.from_numpy(
        np.kron(mask[..., 0], np.ones((2, 2))).astype(np.float32)
    )
    weight = weight + 0.02
    wide = Prior(window=whole, weight=weight, fwhm=(2.0,), noise=0.01)
    narrow = Prior(
        window=small, weight=weight[(slice(None), *small.fine)], fwhm=(2.0,), noise=0.01
    )
    data = wide.draw(torch.Generator().manual_seed(0))
    inside = torch.from_numpy(np.kron(np.moveaxis(mask, 2, 0), np.ones((1, 2, 2))) > 0)

    def added(prior):
        cut = data[prior.window.coarse].contiguous()
        out = torch.zeros(2, 52, 48)
        out[prior.window.fine] = prior.prior_times_adjoint(
            prior.solve(cut, iterations=300, tolerance=1e-4)
        )
        return level.beyond(out)[inside]

    # four voxels away the sidelobes of what lies inside are small: .04 here
    assert distance(added(narrow), added(wide)) < 0.08
    assert not narrow.expect(data)[:, :2].any()


def test_as_many_maps_as_correlations():
    window = window_of((4, 4, 1), (2, 2, 1))
    with pytest.raises(ValueError, match="2 variance maps and 1 correlations"):
        Prior(window=window, weight=torch.ones(2, *sizes(window)), fwhm=(2.0,), noise=0.1)
