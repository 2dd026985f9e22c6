"""Correlation of filtered time series with regressors."""

import numpy as np

from bids_sr.glm.autoregression import orthonormal
from bids_sr.glm.design import Design, nuisance_columns
from bids_sr.glm.drift import slow_cosines
from bids_sr.glm.time_columns import cosines_outside, time_column_names
from bids_sr.glm.time_series import FLAT, largest_size
from bids_sr.io.arrays import Float, Real

_Filter = tuple[Float, Float | None]


def temporal_filter(n: int, tr: float, low_pass: float | None) -> _Filter:
    """Return linear detrending and a low-pass for n samples, tr seconds apart.

    Two sets of time series: constant and slope (T, 2), and the cosines kept (T, K), detrended, or
    None where nothing is filtered out. A low-pass of None, 0 or at or above the Nyquist frequency
    (Hz) is detrending alone; ValueError where it leaves no cosine, as the run is shorter than half
    a period.

    They come before the correlation with the task, the activation map of the paper. Source:
    STSS-SRfMRI (stss-srfmri), equation 1, on vectors without their mean: of raw signals the
    equation is nearly constant, as all of them are mostly mean. The paper names no cut-off of the
    low-pass; 0.1 Hz is ours: the canonical response passes little above it, and respiration lies
    above it. It is the projection on cosines (DCT-II) up to the cut-off: no phase, no start-up,
    the same at both ends. The task's time series is detrended and filtered alike. Blocks of other
    conditions stay in the time series, as in the paper; only the GLM takes them out.
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


def filter_of_design(design: Design, low_pass: float | None, confounds: bool) -> _Filter:
    """Return the filter of correlations for a design with columns of the temporal model.

    Constant, slope, these columns and the cosines above the low-pass are regressed out together,
    so that censored volumes have no weight and nothing is interpolated before filtering.

    `confounds`: whether the confounds of the design are regressed out with them.
    """
    names = (
        nuisance_columns(design.columns, design.conditions)
        if confounds
        else time_column_names(design.columns)
    )
    n, tr = len(design.matrix), design.tr
    columns = [np.ones(n), np.linspace(-1, 1, n)]
    columns += [design.matrix[:, design.columns.index(name)] for name in names]
    if low_pass and low_pass < 0.5 / tr:
        columns += list(cosines_outside(n, tr, 0.0, low_pass)[0].T)
    trend = orthonormal(np.column_stack(columns))
    if trend.shape[1] > n - 2:
        raise ValueError(
            f"temporal filters and censoring remove all signal from the {n} volumes. Use a "
            "wider --band-pass or a higher --low-pass, or censor fewer volumes"
        )
    return trend, None


def _filtered(signals: Float, temporal: _Filter) -> Float:
    """Filtered time series (T, N), or what they are in units of the band's cosines, (K, N)."""
    trend, band = temporal
    if band is None:
        return signals - trend @ (trend.T @ signals)
    return band.astype(signals.dtype).T @ signals


def cross_correlation(signals: Real, tasks: Float, temporal: _Filter) -> Float:
    """Return CC = x·y / (|x| |y|), (C, N), of filtered signals (T, N) and tasks (T, C).

    It is 0 where a voxel does not vary.

    `signals`: time series, one voxel a column (T, N). `tasks`: predicted time series, one contrast
    a column (T, C). Correlations from -1 to 1, one contrast a row.
    """
    # less the first volume, as single precision is enough for what changes
    x, y = (_filtered(values - values[0], temporal) for values in (tasks, signals))
    x_norm, y_norm = np.linalg.norm(x, axis=0), np.linalg.norm(y, axis=0)
    flat = y_norm <= FLAT * np.sqrt(len(signals)) * largest_size(signals)
    scale = x_norm[:, None] * np.where(flat, 1.0, y_norm)[None, :]
    out = np.divide(x.T @ y, scale, out=np.zeros_like(scale), where=scale > 0)
    out[:, flat] = 0.0
    return np.clip(out, -1.0, 1.0)
