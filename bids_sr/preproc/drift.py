"""Regressors of slow drift: cosines and a linear trend."""

import numpy as np

from bids_sr.io.arrays import Float

CUTOFF_S = 128.0


def drift_basis(n: int, tr: float) -> Float:
    """Return an orthonormal basis (n, K) of slow cosines and a linear trend.

    Without the trend, drift would remain at both ends of the run.
    """
    ramp = np.arange(n)[:, None] - (n - 1) / 2
    return np.linalg.qr(np.hstack([slow_cosines(n, tr), ramp])[:, :n])[0]


def slow_cosines(n: int, tr: float, cutoff_hz: float = 1 / CUTOFF_S) -> Float:
    """Return a constant and cosines (DCT-II) of n samples up to a cut-off frequency, (n, K).

    All columns have amplitude 1. `tr` is in seconds, and `cutoff_hz` in Hz.
    """
    n_cosines = min(int(np.floor(2 * n * tr * cutoff_hz)) + 1, n)
    return np.cos(np.pi * (np.arange(n)[:, None] + 0.5) * np.arange(n_cosines) / n)
