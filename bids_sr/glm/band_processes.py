"""Noise processes whose parameters are mean autocorrelations over bands of lags.

Of all processes with given mean autocorrelations over bands, the process with the largest entropy
is autoregressive (Burg 1975), and its inverse autocovariance is constant within bands: the inverse
of its spectrum is

    D(f) = c_0 + sum_j c_j b_j(f),  b_j(f) twice the mean of cos(2 pi f l) over band j

It is therefore whitened from as many lag products as there are bands, and mean lag products over
bands are sufficient statistics. If bands are single lags, it is the process that Levinson's
recursion finds (`bids_sr.glm.autoregression`).
"""

from collections.abc import Callable

import numpy as np
from scipy import fft

from bids_sr.glm.lag_bands import LagBands
from bids_sr.io.arrays import Float, MaskArray
from bids_sr.io.frozen import frozen

_MAX_ITERATIONS = 50  # iterations of Newton's method
_TOLERANCE = 1e-9  # error of the ratios that ends the iteration
_MIN_STEP = 1e-3  # step length that ends the iteration
_STEP_REDUCTION = 0.3  # factor of the step length after a step that increases the error
_MAX_REDUCTION = 0.5  # largest relative decrease of D(f) in an iteration
_SAMPLES_PER_LAG = 64  # samples of the spectrum per lag of the process
# largest difference of log D(f) between samples; narrower peaks are not resolved, and belong to
# processes whose time constant is above three times their memory
_MAX_DIFFERENCE = 0.3
# time constants of the first-order processes that start Newton's method, relative to the
# memory; from white noise, it can end at a narrow peak at 0 Hz, which hardly changes residuals
_START_TIME_CONSTANTS = np.array([0.1, 0.3, 1.0, 2.0, 2.5])
_PROCESSES_PER_BATCH = 64  # processes whose spectra are in memory at a time


@frozen
class BandProcesses:
    """M autoregressive processes with the coefficients c_j of D(f), (M, q + 1)."""

    bands: LagBands
    coefficients: Float

    @property
    def rho(self) -> Float:
        """Mean autocorrelations over bands (M, q)."""
        return self._in_batches(self._rho_moments().ratios)

    def autocorrelations(self, n: int) -> Float:
        """Return autocorrelations (M, n) at lags 0 … n - 1."""
        size = _spectrum_size(self.bands, n)

        def compute(coefficients: Float) -> Float:
            spectra = 1 / (coefficients @ _band_cosines(self.bands, size))
            autocovariances = fft.irfft(spectra, size)[:, :n]
            return np.asarray(autocovariances / autocovariances[:, :1])

        return self._in_batches(compute)

    def prediction_filters(self) -> Float:
        """Return the filters (M, p + 1) of prediction errors, which begin with 1.

        They are the minimum-phase factors of D(f) (Kolmogorov 1939).
        """
        size = _spectrum_size(self.bands, 0)

        def compute(coefficients: Float) -> Float:
            cepstra = fft.irfft(np.log(coefficients @ _band_cosines(self.bands, size)), size)
            cepstra[:, 0] = cepstra[:, size // 2 :] = 0
            responses = fft.irfft(np.exp(fft.rfft(cepstra, size)), size)
            return np.asarray(responses[:, : self.bands.n_lags + 1])

        return self._in_batches(compute)

    def derivatives(self, products: Float) -> Float:
        """Return derivatives of residual ratios with respect to `rho`, (M, q, q).

        The second axis has the ratios. `products` is the matrix of
        `bids_sr.glm.autoregression.compute_expected_products` (q + 1, T).
        """
        to_rho = self._in_batches(self._rho_moments().ratio_derivatives)
        to_ratios = self._in_batches(_Moments(products, self.bands).ratio_derivatives)
        return np.asarray(to_ratios @ np.linalg.pinv(to_rho))

    def step(self, size: float) -> tuple["BandProcesses", Float]:
        """Return processes (M q) with one changed parameter each, and the changes of `rho` (M, q).

        D(f) changes at most by the fraction `size`, and a parameter at most by `size`.
        """
        to_rho = self._in_batches(self._rho_moments().ratio_derivatives)
        directions = np.linalg.pinv(to_rho).transpose(0, 2, 1)  # (M, parameter, q + 1)
        cosines = _band_cosines(self.bands, _spectrum_size(self.bands, 0))
        relative = np.stack(
            [
                np.abs(direction @ cosines / (row @ cosines)).max(axis=1)
                for direction, row in zip(directions, self.coefficients, strict=True)
            ]
        )
        changes = size / np.maximum(relative, 1.0)
        stepped = self.coefficients[:, None] + changes[:, :, None] * directions
        return (
            BandProcesses(
                bands=self.bands, coefficients=stepped.reshape(-1, self.coefficients.shape[1])
            ),
            changes,
        )

    def _rho_moments(self) -> "_Moments":
        """Return the moments whose ratios are `rho`."""
        return _Moments(_average_lags(self.bands), self.bands)

    def _in_batches(self, compute: Callable[[Float], Float]) -> Float:
        """Return results for all processes, computed for several processes at a time."""
        starts = range(0, len(self.coefficients), _PROCESSES_PER_BATCH)
        return np.concatenate(
            [compute(self.coefficients[start : start + _PROCESSES_PER_BATCH]) for start in starts]
        )


def find_band_processes(rho: Float, bands: LagBands) -> BandProcesses:
    """Return the processes with given mean autocorrelations over bands (M, q)."""
    return invert_band_ratios(rho, _average_lags(bands), bands)[0]


def invert_band_ratios(
    target: Float, products: Float, bands: LagBands
) -> tuple[BandProcesses, Float]:
    """Return the processes with the closest ratios, and the ratios' errors (M,).

    An error is the largest over the bands. `target` are the ratios of mean lag products over
    bands and power of residuals (M, q), and `products` the matrix of
    `bids_sr.glm.autoregression.compute_expected_products` (q + 1, T).
    """
    moments = _Moments(products, bands)
    results = [
        _solve(target[start : start + _PROCESSES_PER_BATCH], moments)
        for start in range(0, len(target), _PROCESSES_PER_BATCH)
    ]
    coefficients, errors = (np.concatenate(parts) for parts in zip(*results, strict=True))
    return BandProcesses(bands=bands, coefficients=coefficients), errors


def _solve(target: Float, moments: "_Moments") -> tuple[Float, Float]:
    """Return coefficients (M, q + 1) and the errors of their ratios, (M,).

    Newton's method starts from white noise or a first-order process, whichever is closest. D(f)
    decreases at most by half in a step, so that it stays positive, and steps are shortened after a
    step that increases the error.
    """
    n_processes = len(target)
    starts = _list_starts(moments)
    distances = np.abs(moments.ratios(starts) - target[:, None]).max(axis=2)
    coefficients = starts[distances.argmin(axis=1)]
    best = coefficients.copy()
    best_errors = np.full(n_processes, np.inf)
    lengths = np.ones(n_processes)
    for _ in range(_MAX_ITERATIONS):
        errors = np.abs(moments.ratios(coefficients) - target).max(axis=1)
        is_better = (errors < best_errors) & moments.resolve(coefficients)
        best[is_better], best_errors[is_better] = coefficients[is_better], errors[is_better]
        lengths = np.where(is_better, 1.0, lengths * _STEP_REDUCTION)
        rows = np.flatnonzero((best_errors > _TOLERANCE) & (lengths > _MIN_STEP))
        if not len(rows):
            break
        power, jacobian = moments.powers(best[rows]), moments.derivatives(best[rows])
        equations = power[:, 1:] - target[rows] * power[:, :1]
        slopes = jacobian[:, 1:] - target[rows, :, None] * jacobian[:, :1]
        # The power stays the same.
        slopes = np.concatenate([jacobian[:, :1], slopes], axis=1)
        values = np.concatenate([np.zeros((len(rows), 1)), equations], axis=1)
        steps = -np.linalg.solve(slopes, values[:, :, None])[:, :, 0]
        decrease = -((steps @ moments.cosines) / (best[rows] @ moments.cosines)).min(axis=1)
        longest = _MAX_REDUCTION / np.maximum(decrease, _MAX_REDUCTION)
        coefficients[rows] = best[rows] + (lengths[rows] * longest)[:, None] * steps
    return best, best_errors


def _list_starts(moments: "_Moments") -> Float:
    """Return coefficients (S, q + 1) of white noise and of first-order processes of power 1."""
    constants = np.exp(-1 / (_START_TIME_CONSTANTS * moments.bands.n_lags))
    starts = np.zeros((len(constants) + 1, len(moments.bands.stops) + 1))
    starts[0, 0] = 1
    if moments.bands.stops[0] == 1:
        starts[1:, 0] = (1 + constants**2) / (1 - constants**2)
        starts[1:, 1] = -constants / (1 - constants**2)
    else:
        starts[1:, 0] = 1
    return starts[moments.resolve(starts)]


class _Moments:
    """Expected products of processes as integrals over their spectra.

    `products` (q + 1, T) are factors of the autocovariances at lags 0 … T - 1.
    """

    def __init__(self, products: Float, bands: LagBands) -> None:
        size = _spectrum_size(bands, products.shape[1])
        self.bands = bands
        self.cosines = _band_cosines(bands, size)
        self._stride = size // _spectrum_size(bands, 0)
        weights = np.full(self.cosines.shape[1], 2 / size)
        weights[0] = weights[-1] = 1 / size
        self._factors = weights * fft.rfft(products, size, axis=1).real
        self._pairs = (self._factors[:, None] * self.cosines).reshape(-1, len(weights)).T

    def resolve(self, coefficients: Float) -> MaskArray:
        """Return which processes have no peak that is too narrow for the samples, (M,).

        The length of the run has no influence, so that `find_band_processes` agrees.
        """
        inverse_spectra = coefficients @ self.cosines[:, :: self._stride]
        differences = np.abs(np.diff(np.log(inverse_spectra), axis=1)).max(axis=1)
        return np.asarray(differences < _MAX_DIFFERENCE)

    def powers(self, coefficients: Float) -> Float:
        """Return the expected products (M, q + 1)."""
        return np.asarray((1 / (coefficients @ self.cosines)) @ self._factors.T)

    def derivatives(self, coefficients: Float) -> Float:
        """Return derivatives of expected products (M, q + 1, q + 1) by the coefficients."""
        slopes = -1 / np.square(coefficients @ self.cosines)
        n_factors = coefficients.shape[1]
        return np.asarray((slopes @ self._pairs).reshape(-1, n_factors, n_factors))

    def ratios(self, coefficients: Float) -> Float:
        """Return ratios (M, q) of the expected products to the first of them."""
        powers = self.powers(coefficients)
        return np.asarray(powers[:, 1:] / powers[:, :1])

    def ratio_derivatives(self, coefficients: Float) -> Float:
        """Return derivatives of `ratios` (M, q, q + 1) by the coefficients."""
        powers, slopes = self.powers(coefficients), self.derivatives(coefficients)
        ratios = powers[:, 1:] / powers[:, :1]
        return np.asarray(
            (slopes[:, 1:] - ratios[:, :, None] * slopes[:, :1]) / powers[:, :1, None]
        )


def _band_cosines(bands: LagBands, size: int) -> Float:
    """Return 1 and b_j at frequencies 0 … 1/2 per volume, (q + 1, size / 2 + 1)."""
    cosines = 2 * fft.rfft(_average_lags(bands), size, axis=1).real
    cosines[0] = 1
    return np.asarray(cosines)


def _average_lags(bands: LagBands) -> Float:
    """Return factors (q + 1, p + 1) of the autocovariance at lag 0 and of means over bands."""
    averages = bands.average(np.eye(bands.n_lags))
    factors = np.zeros((len(averages) + 1, bands.n_lags + 1))
    factors[0, 0] = 1
    factors[1:, 1:] = averages
    return factors


def _spectrum_size(bands: LagBands, n: int) -> int:
    """Return the number of samples of a spectrum for autocovariances at n lags."""
    smallest = max(2 * n, _SAMPLES_PER_LAG * bands.n_lags)
    return 1 << int(np.ceil(np.log2(smallest)))
