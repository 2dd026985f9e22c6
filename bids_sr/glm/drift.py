"""Slow drift of a run as cosines and a ramp."""

import numpy as np

from bids_sr.io.arrays import Float

CUTOFF_S = 128.0


def slow_cosines(n: int, tr: float, cutoff_hz: float = 1 / CUTOFF_S) -> Float:
    """Constant and cosines (DCT-II) of n samples up to a frequency, (n, K), of amplitude 1."""
    count = min(int(np.floor(2 * n * tr * cutoff_hz)) + 1, n)
    return np.cos(np.pi * (np.arange(n)[:, None] + 0.5) * np.arange(count) / n)


def drift_basis(n: int, tr: float) -> Float:
    """`slow_cosines` and a ramp, (n, K) orthonormal; cosines alone leave its ends."""
    ramp = np.arange(n)[:, None] - (n - 1) / 2
    return np.linalg.qr(np.hstack([slow_cosines(n, tr), ramp])[:, :n])[0]
