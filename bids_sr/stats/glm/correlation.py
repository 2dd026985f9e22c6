"""Correlation of each voxel's time series with the task: the activation map of the paper.

Source: STSS-SRfMRI (stss-srfmri), equation 1, on vectors without their mean: of raw signals the equation is nearly
constant, as all of them are mostly mean. Before it, linear detrending and a temporal low-pass (the paper names no
cut-off; 0.1 Hz is ours: the canonical response passes little above it, and respiration lies above it). The low-pass
is the projection on cosines (DCT-II) up to the cut-off: no phase, no start-up, the same at both ends. The task's
time series is detrended and filtered alike. Blocks of other conditions stay in the time series, as in the paper;
only the GLM takes them out.
"""

from dataclasses import dataclass

import numpy as np

from bids_sr.io.array_types import Float

# Relative to the largest value; float32 itself resolves 1.2e-7, so less than this is rounding and not a signal.
FLAT = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class TemporalFilter:
    """Linear detrending, then a low-pass, as two sets of orthonormal time series."""

    trend: Float  # (T, 2) constant and slope
    band: Float | None  # (T, K) cosines kept, already without trend, or None where nothing is filtered out

    def coefficients(self, signals: Float) -> Float:
        """Filtered time series (T, N), or what they are in units of the band's cosines, (K, N)."""
        rest = signals - self.trend @ (self.trend.T @ signals)
        return rest if self.band is None else self.band.T @ rest


def temporal_filter(n: int, tr: float, low_pass: float | None) -> TemporalFilter:
    """Build the filter for n samples, tr seconds apart.

    A low-pass of None, 0 or at or above the Nyquist frequency (Hz) is detrending alone; ValueError where it leaves no
    cosine, as the run is shorter than half a period.
    """
    slope = np.arange(n) - (n - 1) / 2
    trend = np.column_stack([np.full(n, n**-0.5), slope / np.linalg.norm(slope)])
    if not low_pass or low_pass >= 0.5 / tr:
        return TemporalFilter(trend=trend, band=None)
    count = int(np.floor(2 * n * tr * low_pass))
    if count < 2:
        raise ValueError(f"a low-pass of {low_pass} Hz leaves nothing of {n * tr:.0f} s")
    phase = np.pi / n * (np.arange(n) + 0.5)[:, None] * np.arange(1, count + 1)
    band = np.sqrt(2 / n) * np.cos(phase)
    return TemporalFilter(trend=trend, band=band)


def cross_correlation(signals: Float, tasks: Float, temporal: TemporalFilter) -> Float:
    """CC = x·y / (|x| |y|) of filtered, mean-free time series, (C, N) in [-1, 1]; 0 where a voxel does not vary.

    From signals (T, N) of voxels and convolved on/off time series (T, C) of each contrast.
    """
    x, y = (temporal.coefficients(np.asarray(values, dtype=np.float64)) for values in (tasks, signals))
    x_norm, y_norm = np.linalg.norm(x, axis=0), np.linalg.norm(y, axis=0)
    flat = y_norm <= FLAT * np.sqrt(len(signals)) * np.abs(signals).max(axis=0, initial=0.0)
    scale = x_norm[:, None] * np.where(flat, 1.0, y_norm)[None, :]
    out = np.divide(x.T @ y, scale, out=np.zeros_like(scale), where=scale > 0)
    out[:, flat] = 0.0
    return np.clip(out, -1.0, 1.0)
