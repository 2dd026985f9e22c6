"""A prior written out as matrices: the same as by conjugate gradients, and as every matrix written
down by hand.
"""

import numpy as np
import pytest
import torch
from variance_helpers import (
    dense_covariance,
    dense_down,
    dense_prior,
    drawn,
    prior_of,
    sizes,
    window_of,
)

from bids_sr.sr.resolution.operators import level_above
from bids_sr.sr.variance import dense
from bids_sr.sr.variance.prior import Prior, Window

SHAPE, FACTOR = (10, 12, 2), (2.0, 2.0, 1.0)


def signed(shape=SHAPE, noise=0.05):
    """A prior with two maps and three patterns, which have signs."""
    window = window_of(shape, FACTOR)
    maps = torch.cat([drawn(1, 2, *sizes(window)).abs() + 0.1, drawn(2, 3, *sizes(window))])
    return Prior(window=window, weight=maps, fwhm=(3.0, 1.5, 8.0, 8.0, 8.0), noise=noise)


def test_matrices_are_those_of_the_prior():
    prior = signed((8, 6, 1))
    rows, columns, _ = prior.window.matrices
    both = dense.tile_covariance(prior.weight[:, 0], prior.fwhm, rows, columns)
    down = dense_down(prior.window)
    np.testing.assert_allclose(both.cross, down @ dense_prior(prior), atol=1e-4)
    np.testing.assert_allclose(
        both.data, dense_covariance(prior) - prior.noise * np.eye(len(down)), atol=1e-4
    )


def test_the_mean_is_that_of_conjugate_gradients():
    prior, images = signed(), drawn(3, 4, SHAPE[2], *SHAPE[:2])
    slow = torch.stack(
        [prior.prior_times_adjoint(prior.solve(image, 200, 1e-5)) for image in images]
    )
    torch.testing.assert_close(
        dense.expected(prior, images), slow, rtol=0, atol=2e-3 * float(slow.abs().max())
    )


def test_tiles_cover_the_window_once_and_agree_with_the_whole(monkeypatch):
    shape = (56, 60, 1)
    window = Window.around(level_above(shape, FACTOR), np.ones(shape, bool))
    smooth = prior_of(shape, FACTOR, fwhm=(3.0,), noise=0.05, seed=1, spread=0.3)
    prior = Prior(window=window, weight=smooth.weight, fwhm=(3.0,), noise=smooth.noise)
    images = torch.stack([prior.draw(torch.Generator().manual_seed(k)) for k in range(3)])
    at_once = dense.expected(prior, images)
    one = dense._tiles_of(window, 56 * 60)
    many = dense._tiles_of(window, 36 * 36)
    assert (len(one), len(many)) == (1, 16)
    count = torch.zeros(window.level.fine[:2])
    for tile in many:
        count[tile.made] += 1
    assert torch.equal(count, torch.ones_like(count))
    monkeypatch.setattr(dense, "_tiles_of", lambda _: many)
    left = (dense.expected(prior, images) - at_once).norm() / at_once.norm()
    assert 1e-6 < left < 0.1


def test_slices_that_get_thinner_are_refused():
    prior = prior_of((6, 6, 2), (2.0, 2.0, 2.0))
    with pytest.raises(ValueError, match="not independent"):
        next(dense.reconstructions(prior, drawn(0, 2, 2, 6, 6)))
