"""Signal fluctuations of the simulated BOLD series.

These are scanner drift, physiology (breathing and heartbeat), the initial approach to the steady
state, and the activity of resting-state networks.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.phantom.fields import polynomial
from bids_sr.phantom.head import Head
from bids_sr.phantom.presets import Preset
from bids_sr.phantom.scanner import Scanner
from bids_sr.spatial.resampling import sample_volume

DRIFT, UNEVEN_DRIFT, BREATH, HEARTBEAT = 0.008, 0.004, 0.0015, 0.02
"""Approximate peak, as a fraction of the signal."""
_BAND_HZ = (0.01, 0.1)  # Hz, frequency band of resting-state connectivity
_STEP_S = 0.1  # s, sampling interval of the fluctuations of networks
_PHYSIOLOGY_STEP_S = 0.05  # s, sampling interval of drift, breathing and heartbeat


@frozen
class Transient:
    """Approach to the steady state.

    `excess` is the relative signal excess of the first volumes on the sampling grid (N, X, Y, Z).
    `dummies` is the number of volumes with a mean excess above 1 % in the brain.
    """

    excess: Array
    dummies: int


def simulate_transient(head: Head, preset: Preset, scanner: Scanner) -> Transient:
    """Return the excess signal of the first volumes until its mean is below 0.1 %."""
    excess_maps, dummies = [], 0
    steady = preset.epi.scene(head)
    floor = np.maximum(steady, 0.02 * float(steady[head.brain].mean()))
    for pulse in range(200):
        excess = (preset.epi.scene(head, pulse) - steady) / floor
        mean = float(excess[head.brain].mean())
        if mean < 1e-3:
            break
        excess_maps.append(
            sample_volume(excess, head.affine, *scanner.sampling_grid, scanner.pose, order=1)
        )
        dummies += mean > 0.01
    return Transient(excess=np.stack(excess_maps), dummies=dummies)


class Physiology:
    """Factor on the signal in each volume and slice, with random rates, phases and maps."""

    def __init__(
        self,
        rng: np.random.Generator,
        head: Head,
        preset: Preset,
        scanner: Scanner,
        transient: Transient,
    ) -> None:
        shape, affine = scanner.sampling_grid
        self._transient = transient
        pulsatility = head.veins + 0.3 * head.fractions["csf"] * head.brain
        pulsatility = ndimage.gaussian_filter(pulsatility, 2.0 / head.affine[0, 0])
        self._pulse_map = sample_volume(
            pulsatility, head.affine, shape, affine, scanner.pose, order=1
        )
        self._breath_map = 1 + 0.6 * polynomial(rng, affine, shape)
        self._drift_map = polynomial(rng, affine, shape)
        self._tr, self._slice_times = preset.tr, preset.slice_times
        end = preset.duration + 1.0
        self._clock = np.arange(0, end, _PHYSIOLOGY_STEP_S)
        self._breath = _make_rhythm(rng, self._clock, rate=rng.uniform(0.23, 0.30))
        self._heart = _make_rhythm(rng, self._clock, rate=rng.uniform(0.95, 1.20))
        relative_time = self._clock / end - 0.5
        phases = rng.uniform(0, 2 * np.pi, 2)
        self._drift = rng.choice([-1.0, 1.0]) * 2 * relative_time + 0.5 * np.cos(
            3 * np.pi * relative_time + phases[0]
        )
        self._uneven_drift = np.cos(2 * np.pi * relative_time + phases[1])

    def factor(self, t: int) -> Array:
        """Return the factor for volume t on the sampling grid (float32)."""
        times = t * self._tr + self._slice_times

        breath, heart, uneven_drift, drift = (
            np.interp(times, self._clock, time_series).astype(np.float32)
            for time_series in (self._breath, self._heart, self._uneven_drift, self._drift)
        )
        factor = 1 + np.float32(BREATH) * self._breath_map * breath
        factor += np.float32(HEARTBEAT) * self._pulse_map * heart
        factor += (
            np.float32(UNEVEN_DRIFT) * self._drift_map * uneven_drift + np.float32(DRIFT) * drift
        )
        if t < len(self._transient.excess):
            factor *= 1 + self._transient.excess[t]
        return np.asarray(factor, dtype=np.float32)


def _make_rhythm(rng: np.random.Generator, clock: Array, rate: float) -> Array:
    """Return an oscillation of unit amplitude whose rate (1/s) varies by some percent."""
    wander = ndimage.gaussian_filter1d(rng.standard_normal(clock.size), 100)
    wander *= 0.05 / wander.std()
    phase = 2 * np.pi * np.cumsum(rate * (1 + wander)) * (clock[1] - clock[0])
    return np.sin(phase + rng.uniform(0, 2 * np.pi))


class Fluctuations:
    """Known slow time series of resting-state networks, with unit standard deviation.

    All foci of a network have the same time series, so the correlations between foci are known.
    The time series of different networks are orthogonal over the run. A seed map is therefore the
    same in a model with one seed and in a model with all seeds.

    `names` has one name per network, and `seconds` is the length of the run.
    """

    def __init__(self, rng: np.random.Generator, names: Sequence[str], seconds: float) -> None:
        self._clock = np.arange(0.0, seconds + 1.0, _STEP_S)
        length = self._clock.size * _STEP_S
        first = max(1, int(np.ceil(_BAND_HZ[0] * length)))
        # a very short run does not have enough slow frequencies
        last = max(first + len(names), int(_BAND_HZ[1] * length))
        angle = 2 * np.pi / length * np.outer(self._clock, np.arange(first, last + 1))
        coefficients = rng.standard_normal((2, last - first + 1, len(names)))
        basis, _ = np.linalg.qr(np.cos(angle) @ coefficients[0] + np.sin(angle) @ coefficients[1])
        self._time_series = dict(zip(names, basis.T * np.sqrt(self._clock.size), strict=True))

    def __call__(self, network: str, times: Array) -> Array:
        """Return the time series of a network at times (s) of any shape."""
        return np.interp(times, self._clock, self._time_series[network])
