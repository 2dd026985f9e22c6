"""Fits over volumes that come one by one, against those of the whole series."""

import numpy as np

from bids_sr.glm.streamed_fit import StreamedFit


def test_variance_and_mean_are_those_of_the_whole_series():
    rng = np.random.default_rng(0)
    series = 1e3 + rng.normal(size=(30, 50))
    columns = np.column_stack([np.ones(30), np.arange(30), rng.normal(size=30)])
    basis = np.linalg.qr(columns)[0]
    fit = StreamedFit(basis, series[0])
    for start in (0, 7, 14, 21, 28):
        fit.add(series[start : start + 7])
    np.testing.assert_allclose(fit.mean, series.mean(axis=0))
    for rank, dof in ((None, 27), (2, 28)):
        own = basis[:, :rank]
        rest = series - own @ (own.T @ series)
        expected = (rest**2).sum(axis=0) / dof
        np.testing.assert_allclose(fit.residual_variance(dof, rank), expected, rtol=1e-8)


def test_what_the_basis_spans_leaves_nothing():
    basis = np.linalg.qr(np.vander(np.linspace(-1, 1, 12), 3))[0]
    series = basis @ np.array([[5.0], [2.0], [1.0]])
    fit = StreamedFit(basis, series[0])
    fit.add(series)
    assert fit.residual_variance(9)[0] < 1e-12
