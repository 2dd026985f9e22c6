"""Correlation of temporally filtered series with regressors."""

import numpy as np

from bids_sr.glm.autoregression import orthonormal
from bids_sr.glm.design import Design
from bids_sr.glm.time_series import MIN_RELATIVE_CHANGE, find_largest_size
from bids_sr.io.arrays import Float, Real
from bids_sr.preproc.drift import slow_cosines
from bids_sr.preproc.temporal_regressors import cosines_outside, time_column_names

# Trend that is regressed out (T, K), and cosines of the pass band or None; `temporal_filter`.
_Filter = tuple[Float, Float | None]


def temporal_filter(n: int, tr: float, low_pass: float | None) -> _Filter:
    """Return the temporal filter for n samples: linear detrending, and a low-pass filter.

    The filter precedes the correlation with the task in the activation maps of the paper. Source:
    STSS-SRfMRI (stss-srfmri), equation 1, on vectors with their mean subtracted; for raw signals
    the equation is nearly constant, because their mean dominates. The paper does not state a
    cut-off. The default of 0.1 Hz passes most of the canonical response and removes respiration.
    The low-pass filter is the projection on cosines (DCT-II) up to the cut-off, which has zero
    phase and no transients at either end. The time series of the task is filtered in the same way.
    Blocks of other conditions remain in the time series, as in the paper; only the GLM models
    them.

    `tr` is in s and `low_pass` in Hz; with None, 0 or a value of at least the Nyquist frequency,
    the filter only detrends. Returns the constant and slope (T, 2), and the detrended cosines that
    pass the filter (T, K) or None. Raises `ValueError` if fewer than two cosines pass the filter.
    """
    slope = np.arange(n) - (n - 1) / 2
    trend = np.column_stack([np.full(n, n**-0.5), slope / np.linalg.norm(slope)])
    if not low_pass or low_pass >= 0.5 / tr:
        return trend, None
    band = np.sqrt(2 / n) * slow_cosines(n, tr, low_pass)[:, 1:]
    if band.shape[1] < 2:
        raise ValueError(
            f"a low-pass filter with a cut-off of {low_pass} Hz removes all signal from a run "
            f"of {n * tr:.0f} s"
        )
    return trend, band - trend @ (trend.T @ band)


def filter_of_design(
    design: Design, low_pass: float | None, *, with_confounds: bool = False
) -> _Filter:
    """Return the correlation filter for a design with columns of the temporal model.

    Constant, slope, these columns and the cosines above the low-pass cut-off (Hz) are regressed
    out jointly. Censored volumes thus have no weight, and no values are interpolated before
    filtering. If `with_confounds`, the confounds of the design are also regressed out.
    """
    removed_names = (
        design.nuisance_columns if with_confounds else time_column_names(design.columns)
    )
    n, tr = len(design.matrix), design.tr
    columns = [np.ones(n), np.linspace(-1, 1, n)]
    columns += [design.matrix[:, design.columns.index(name)] for name in removed_names]
    if low_pass and low_pass < 0.5 / tr:
        columns += list(cosines_outside(n, tr, 0.0, low_pass)[0].T)
    trend = orthonormal(np.column_stack(columns))
    if trend.shape[1] > n - 2:
        raise ValueError(
            f"temporal filters and censoring remove all signal from the {n} volumes. Use a "
            "wider --band-pass or a higher activation.low_pass, or censor fewer volumes"
        )
    return trend, None


def cross_correlation(signals: Real, tasks: Float, temporal: _Filter) -> Float:
    """Return CC = x·y / (|x| |y|), (C, N), of filtered signals and tasks.

    `signals` has one voxel per column (T, N), and `tasks` the predicted time series of one
    contrast per column (T, C). `temporal` is a filter of `temporal_filter` or `filter_of_design`.
    Correlations are from -1 to 1, and 0 for constant voxels.
    """
    # The first volume is subtracted because single precision suffices for changes.
    x, y = (_apply_filter(values - values[0], temporal) for values in (tasks, signals))
    x_norm, y_norm = np.linalg.norm(x, axis=0), np.linalg.norm(y, axis=0)
    is_constant = y_norm <= MIN_RELATIVE_CHANGE * np.sqrt(len(signals)) * find_largest_size(
        signals
    )
    scale = x_norm[:, None] * np.where(is_constant, 1.0, y_norm)[None, :]
    correlations = np.divide(x.T @ y, scale, out=np.zeros_like(scale), where=scale > 0)
    correlations[:, is_constant] = 0.0
    return np.clip(correlations, -1.0, 1.0)


def _apply_filter(signals: Float, temporal: _Filter) -> Float:
    """Return filtered time series (T, N), or coefficients of the pass-band cosines (K, N)."""
    trend, band = temporal
    if band is None:
        return signals - trend @ (trend.T @ signals)
    return band.astype(signals.dtype).T @ signals
