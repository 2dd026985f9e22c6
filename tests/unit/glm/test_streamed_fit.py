"""Fits of volumes that arrive in chunks, compared with fits of the whole series."""

import numpy as np

from bids_sr.glm.streamed_fit import StreamedFit


def test_variance_and_mean_equal_a_fit_of_the_whole_series():
    rng = np.random.default_rng(0)
    series = 1e3 + rng.normal(size=(30, 50))
    columns = np.column_stack([np.ones(30), np.arange(30), rng.normal(size=30)])
    basis = np.linalg.qr(columns)[0]
    fit = StreamedFit(basis, series[0])
    for start in (0, 7, 14, 21, 28):
        fit.add(series[start : start + 7])
    np.testing.assert_allclose(fit.mean, series.mean(axis=0))
    for rank, dof in ((None, 27), (2, 28)):
        columns_used = basis[:, :rank]
        residuals = series - columns_used @ (columns_used.T @ series)
        expected = (residuals**2).sum(axis=0) / dof
        np.testing.assert_allclose(fit.residual_variance(dof, rank), expected, rtol=1e-8)


def test_series_in_the_span_of_the_basis_have_no_residual_variance():
    basis = np.linalg.qr(np.vander(np.linspace(-1, 1, 12), 3))[0]
    series = basis @ np.array([[5.0], [2.0], [1.0]])
    fit = StreamedFit(basis, series[0])
    fit.add(series)
    assert fit.residual_variance(9)[0] < 1e-12
