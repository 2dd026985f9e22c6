"""Compare minimum norm and FOCUSS of the benchmarks with dense matrices."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))
sys.path.append(str(Path(__file__).parents[1] / "sr"))

import _minimum_norm
from variance_helpers import acquired, patchy, whole_of

from bids_sr.sr.prior_maps.prior import Prior
from bids_sr.sr.recipe import VarianceRecipe


def crop(n, m):
    """Return the matrix of a k-space crop about the center of the field of view."""
    k, x, u = np.arange(m) - m // 2, (np.arange(n) + 0.5) / n, (np.arange(m) + 0.5) / m
    return np.real(np.exp(2j * np.pi * np.outer(u, k)) @ np.exp(-2j * np.pi * np.outer(k, x))) / n


def prototype(images, rounds, power, lam, width=2.0, floor=0.02):
    """Compute the weighted minimum norm of one slice by dense matrices.

    Return the detail added to images (C, x, y) above the acquired Nyquist frequency.
    """
    m, n = images.shape[-1], 2 * images.shape[-1]
    d = crop(n, m)
    fill = np.linalg.pinv(d)
    gap = np.subtract.outer(np.arange(n), np.arange(n))
    k = np.kron(*[np.exp(-4 * np.log(2) * gap**2 / width**2)] * 2)
    down, filled = np.kron(d, d), fill @ images @ fill.T
    sd = np.sqrt(np.square(filled).sum(0))
    for _ in range(rounds + 1):
        w = np.maximum(sd, floor * np.median(sd)).ravel() ** power
        half = down * w @ k * w
        a = half @ down.T
        solved = np.linalg.solve(
            a + lam * np.trace(a) / len(a) * np.eye(len(a)), images.reshape(-1, m * m).T
        )
        x = (half.T @ solved).T.reshape(-1, n, n)
        x = x - fill @ (d @ x @ d.T) @ fill.T
        sd = np.sqrt(np.square(filled + x).sum(0))
    return x


@pytest.mark.parametrize(("rounds", "power"), [(0, 1.0), (2, 0.7)])
def test_minimum_norm_equals_the_solution_by_dense_matrices(rounds, power):
    whole = whole_of((8, 8, 1), (2, 2, 1))
    simulated_prior = Prior(region=whole, weight=patchy(whole)[None] * 300, fwhm=(2.0,), noise=1.0)
    generator = torch.Generator().manual_seed(0)
    data = torch.stack([acquired(simulated_prior, generator) for _ in range(6)])
    prior = _minimum_norm.minimum_norm(
        data, whole, power=power, rounds=rounds, estimator=VarianceRecipe(fwhm=(2.0,), noise=0.02)
    )
    detail = whole.level.select_above_nyquist(prior.make_slice_function(0)(data[:, 0]))
    expected = prototype(data[:, 0].numpy().astype(float), rounds, power, 0.02)
    assert np.linalg.norm(detail.numpy() - expected) < 0.02 * np.linalg.norm(expected)


def test_the_first_step_of_sbl_is_weighted_minimum_norm():
    whole = whole_of((8, 8, 2), (2, 2, 1))
    data = torch.randn((6, 2, 8, 8), generator=torch.Generator().manual_seed(0))
    minimum_norm, weighted = (
        _minimum_norm.minimum_norm(data, whole),
        _minimum_norm.estimate_prior(data, whole, _minimum_norm.WMN),
    )
    torch.testing.assert_close(minimum_norm.weight, weighted.weight)
    assert minimum_norm.noise == pytest.approx(weighted.noise)
