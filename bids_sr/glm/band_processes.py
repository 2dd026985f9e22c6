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

from bids_sr.frozen import frozen
from bids_sr.glm.lag_bands import LagBands
from bids_sr.io.arrays import Float, MaskArray

_MAX_ITERATIONS = 50  # iterations of Newton's method
_TOLERANCE = 1e-9  # error of the ratios that ends the iteration
_MIN_STEP = 1e-3  # step length that ends the iteration
_STEP_REDUCTION = 0.3  # factor of the step length after a step that increases the error
_MAX_REDUCTION = 0.5  # largest relative decrease of D(f) in an iteration
MAX_RATIO_ERROR = 0.01
"""Largest error of a ratio (half the distance of nodes) of an accepted process."""
WHITE_NOISE_DISTANCES = np.array([0.98, 0.95, 0.9, 0.8, 0.65, 0.5, 0.35, 0.2, 0.1])
"""Fractions of the distance from white noise that are tested if no process has the ratios."""
# Samples of the spectrum per lag of the process. More samples resolve narrower peaks: processes
# whose time constant is up to about 3 and 25 times their memory.
_SAMPLES_PER_LAG = (64, 512)
_MAX_DIFFERENCE = 0.3  # largest difference of log D(f) between samples that resolve a peak
_PROCESSES_PER_BATCH = 64  # processes whose spectra are in memory at a time


@frozen
class BandProcesses:
    """M autoregressive processes with the coefficients c_j of D(f), (M, q + 1)."""

    bands: LagBands
    coefficients: Float

    @property
    def rho(self) -> Float:
        """Mean autocorrelations over bands (M, q)."""
        return self._in_batches(lambda batch, n_samples: self._moments(n_samples).ratios(batch))

    def autocorrelations(self, n: int) -> Float:
        """Return autocorrelations (M, n) at lags 0 … n - 1."""

        def compute(coefficients: Float, n_samples: int) -> Float:
            size = _spectrum_size(self.bands, n_samples, n)
            spectra = 1 / (coefficients @ _band_cosines(self.bands, size))
            autocovariances = fft.irfft(spectra, size)[:, :n]
            return np.asarray(autocovariances / autocovariances[:, :1])

        return self._in_batches(compute)

    def prediction_filters(self) -> Float:
        """Return the filters (M, p + 1) of prediction errors, which begin with 1.

        They are the minimum-phase factors of D(f) (Kolmogorov 1939).
        """

        def compute(coefficients: Float, n_samples: int) -> Float:
            size = _spectrum_size(self.bands, n_samples, 0)
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

        def compute(coefficients: Float, n_samples: int) -> Float:
            moments = _Moments(products, self.bands, n_samples)
            return moments.ratio_derivatives(coefficients)

        return np.asarray(self._in_batches(compute) @ np.linalg.pinv(self._rho_derivatives()))

    def step(self, size: float) -> tuple["BandProcesses", Float]:
        """Return processes (M q) with one changed parameter each, and the changes of `rho` (M, q).

        D(f) changes at most by the fraction `size`, and a parameter at most by `size`.
        """
        # (M, parameter, q + 1)
        directions = np.linalg.pinv(self._rho_derivatives()).transpose(0, 2, 1)
        n_samples = _find_resolution(self.coefficients, self.bands)
        cosines = _band_cosines(self.bands, _spectrum_size(self.bands, n_samples, 0))
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

    def _rho_derivatives(self) -> Float:
        """Return derivatives of `rho` with respect to the coefficients, (M, q, q + 1)."""
        return self._in_batches(
            lambda batch, n_samples: self._moments(n_samples).ratio_derivatives(batch)
        )

    def _moments(self, n_samples: int) -> "_Moments":
        """Return the moments whose ratios are `rho`."""
        return _Moments(_average_lags(self.bands), self.bands, n_samples)

    def _in_batches(self, compute: Callable[[Float, int], Float]) -> Float:
        """Return results for all processes, computed for several processes at a time.

        `compute` gets coefficients, and the number of samples per lag that resolve their spectra.
        """
        starts = range(0, len(self.coefficients), _PROCESSES_PER_BATCH)
        batches = [self.coefficients[start : start + _PROCESSES_PER_BATCH] for start in starts]
        return np.concatenate(
            [compute(batch, _find_resolution(batch, self.bands)) for batch in batches]
        )


def invert_band_ratios(
    target: Float, products: Float, bands: LagBands
) -> tuple[BandProcesses, Float]:
    """Return processes with given ratios, and the ratios' errors (M,).

    Processes close to a random walk are reached from white noise in several steps. If no process
    has ratios within `MAX_RATIO_ERROR`, the ratios are moved toward white noise, as far as
    necessary. An error is the largest over the bands.

    `target` are the ratios of mean lag products over bands and power of residuals (M, q), and
    `products` the matrix of `bids_sr.glm.autoregression.compute_expected_products` (q + 1, T).
    """
    coefficients, errors = _solve_from(_make_white(len(target), bands), target, products, bands)
    rows = np.flatnonzero(errors > MAX_RATIO_ERROR)
    coefficients[rows] = _make_white(len(rows), bands)
    white = products[1:, 0] / products[0, 0]
    for distance in (*WHITE_NOISE_DISTANCES[::-1], 1.0):
        if not len(rows):
            break
        moved_target = white + distance * (target[rows] - white)
        moved, moved_errors = _solve_from(coefficients[rows], moved_target, products, bands)
        is_found = moved_errors <= MAX_RATIO_ERROR
        coefficients[rows[is_found]] = moved[is_found]
        errors[rows] = moved_errors
        rows = rows[is_found]
    return BandProcesses(bands=bands, coefficients=coefficients), errors


def _make_white(n_processes: int, bands: LagBands) -> Float:
    """Return the coefficients of white noise (M, q + 1)."""
    coefficients = np.zeros((n_processes, len(bands.stops) + 1))
    coefficients[:, 0] = 1
    return coefficients


def _solve_from(
    start: Float, target: Float, products: Float, bands: LagBands
) -> tuple[Float, Float]:
    """Return coefficients (M, q + 1) and the errors of their ratios, (M,), from a start.

    For the other parameters, see `invert_band_ratios`.
    """
    coefficients, errors = start.copy(), np.empty(len(target))
    unresolved = np.arange(len(target))
    for n_samples in _SAMPLES_PER_LAG:
        moments = _Moments(products, bands, n_samples)
        rows, unresolved = unresolved, unresolved[:0]
        for first in range(0, len(rows), _PROCESSES_PER_BATCH):
            batch = rows[first : first + _PROCESSES_PER_BATCH]
            coefficients[batch], errors[batch], is_resolved = _solve(
                target[batch], coefficients[batch], moments
            )
            unresolved = np.append(unresolved, batch[~is_resolved])
        if not len(unresolved):
            break
    return coefficients, errors


def find_band_processes(rho: Float, bands: LagBands) -> BandProcesses:
    """Return the processes with given mean autocorrelations over bands (M, q)."""
    return invert_band_ratios(rho, _average_lags(bands), bands)[0]


def _solve(
    target: Float, coefficients: Float, moments: "_Moments"
) -> tuple[Float, Float, MaskArray]:
    """Return coefficients (M, q + 1), the errors of their ratios, and where they are resolved.

    Newton's method starts from given coefficients (M, q + 1). D(f) decreases at most by half in a
    step, so that it stays positive, and steps are shortened after a step that increases the error.
    A process is not resolved (M,) if a spectrum with a smaller error has peaks that are narrower
    than the samples resolve.
    """
    n_processes = len(target)
    coefficients = coefficients.copy()
    is_resolved = np.ones(n_processes, dtype=bool)
    best = coefficients.copy()
    best_errors = np.full(n_processes, np.inf)
    lengths = np.ones(n_processes)
    for _ in range(_MAX_ITERATIONS):
        errors = np.abs(moments.ratios(coefficients) - target).max(axis=1)
        is_smaller, has_resolved_peaks = errors < best_errors, moments.resolve(coefficients)
        is_better = is_smaller & has_resolved_peaks
        is_resolved[is_smaller] = has_resolved_peaks[is_smaller]
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
    return best, best_errors, is_resolved


class _Moments:
    """Expected products of processes as integrals over their spectra.

    `products` (q + 1, T) are factors of the autocovariances at lags 0 … T - 1, and `n_samples` is
    the number of samples of the spectra per lag.
    """

    def __init__(self, products: Float, bands: LagBands, n_samples: int) -> None:
        size = _spectrum_size(bands, n_samples, products.shape[1])
        self.cosines = _band_cosines(bands, size)
        weights = np.full(self.cosines.shape[1], 2 / size)
        weights[0] = weights[-1] = 1 / size
        self._factors = weights * fft.rfft(products, size, axis=1).real
        self._pairs = (self._factors[:, None] * self.cosines).reshape(-1, len(weights)).T

    def resolve(self, coefficients: Float) -> MaskArray:
        """Return whether the samples resolve the peaks of the spectra (M,)."""
        return _are_resolved(coefficients @ self.cosines)

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


def _average_lags(bands: LagBands) -> Float:
    """Return factors (q + 1, p + 1) of the autocovariance at lag 0 and of means over bands."""
    averages = bands.average(np.eye(bands.n_lags))
    factors = np.zeros((len(averages) + 1, bands.n_lags + 1))
    factors[0, 0] = 1
    factors[1:, 1:] = averages
    return factors


def _band_cosines(bands: LagBands, size: int) -> Float:
    """Return 1 and b_j at frequencies 0 … 1/2 per volume, (q + 1, size / 2 + 1)."""
    cosines = 2 * fft.rfft(_average_lags(bands), size, axis=1).real
    cosines[0] = 1
    return np.asarray(cosines)


def _find_resolution(coefficients: Float, bands: LagBands) -> int:
    """Return the number of samples per lag that resolve the spectra of processes (M, q + 1)."""
    for n_samples in _SAMPLES_PER_LAG[:-1]:
        cosines = _band_cosines(bands, _spectrum_size(bands, n_samples, 0))
        if _are_resolved(coefficients @ cosines).all():
            return n_samples
    return _SAMPLES_PER_LAG[-1]


def _are_resolved(inverse_spectra: Float) -> MaskArray:
    """Return whether samples resolve the peaks of inverse spectra D(f), (M,) for (M, F)."""
    return np.asarray(
        np.abs(np.diff(np.log(inverse_spectra), axis=1)).max(axis=1) < _MAX_DIFFERENCE
    )


def _spectrum_size(bands: LagBands, n_samples: int, n: int) -> int:
    """Return the number of samples of a spectrum for autocovariances at n lags.

    `n_samples` is the number of samples per lag of the process.
    """
    smallest = max(2 * n, n_samples * bands.n_lags)
    return 1 << int(np.ceil(np.log2(smallest)))
