"""Amplitude of slow fluctuations at rest: ALFF, and its share of all fluctuation, fALFF.

ALFF is the standard deviation within a band, fALFF that over the standard deviation at all frequencies, of time series
without drift and confounds (Zang et al. 2007; Zou et al. 2008, here as standard deviations). The band is a projection
on cosines, as the low-pass of correlation is. Thermal noise has its share of the band: a noisier series has more ALFF,
not more brain activity, and anatomy alone makes the two halves of a run alike.
"""

import math
from dataclasses import dataclass

import numpy as np

from bids_sr.io.array_types import Float, Float32

Band = tuple[float, float]  # Hz


@dataclass(frozen=True, kw_only=True, slots=True)
class Amplitudes:
    """ALFF in the unit of the series and fALFF, (X, Y, Z) float32, 0 outside the mask; r of the ALFF of two halves."""

    alff: Float32
    falff: Float32
    half_r: float


def cosines_within(n: int, tr: float, band: Band) -> Float:
    """Orthonormal cosines (n, K) of n samples, tr s apart, from the lower to the upper frequency (Hz) of a band.

    ValueError where no cosine lies in it: the run is shorter than half a period, or its volumes are too far apart.
    """
    upper = min(band[1], 0.5 / tr)
    numbers = np.arange(max(1, math.ceil(2 * n * tr * band[0] - 1e-9)), math.floor(2 * n * tr * upper + 1e-9) + 1)
    numbers = numbers[numbers < n]
    if not len(numbers):
        raise ValueError(f"{n} volumes, {tr:g} s apart, hold nothing between {band[0]:g} and {band[1]:g} Hz")
    phase = np.pi / n * (np.arange(n) + 0.5)[:, None] * numbers
    return np.asarray(np.sqrt(2 / n) * np.cos(phase))


@dataclass(frozen=True, kw_only=True, slots=True)
class AmplitudeModel:
    """What is taken out of time series, and where their amplitude is looked for."""

    nuisance: Float  # (T, P) orthonormal, what is taken out
    whole: Float  # (T, K) cosines of the band
    halves: tuple[Float, Float]  # (T/2, K') those of each half of the run

    def fit(self, block: Float32) -> Float:
        """ALFF, fALFF and the ALFF of both halves of time series (T, N), (4, N); 0 where nothing varies."""
        signals = block.astype(np.float64)
        rest = signals - self.nuisance @ (self.nuisance.T @ signals)
        own, every = _spread(rest, self.whole), np.sqrt(np.mean(rest**2, axis=0))
        middle = len(self.halves[0])
        share = np.divide(own, every, out=np.zeros_like(own), where=every > 1e-6 * np.abs(signals).max(axis=0))
        return np.stack([own, share, _spread(rest[:middle], self.halves[0]), _spread(rest[middle:], self.halves[1])])


def _spread(signals: Float, cosines: Float) -> Float:
    return np.asarray(np.sqrt(((cosines.T @ signals) ** 2).sum(axis=0) / len(signals)))


def amplitude_model(nuisance: Float, tr: float, band: Band) -> AmplitudeModel:
    """The model of a run; `nuisance` (T, P) are drift, confounds and a constant. ValueError as `cosines_within`."""
    count = len(nuisance)
    basis, sizes, _ = np.linalg.svd(nuisance, full_matrices=False)
    return AmplitudeModel(
        nuisance=basis[:, sizes > 1e-9 * sizes[0]],
        whole=cosines_within(count, tr, band),
        halves=(cosines_within(count // 2, tr, band), cosines_within(count - count // 2, tr, band)),
    )
