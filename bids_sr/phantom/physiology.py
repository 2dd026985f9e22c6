"""Fluctuations of the simulated BOLD: drift, physiology, initial transient, resting networks.

Physiology is breathing and heartbeat, and the transient is the approach to the steady state.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.phantom.fields import polynomial
from bids_sr.phantom.head import Head
from bids_sr.phantom.presets import Preset
from bids_sr.phantom.scanner import Scanner
from bids_sr.spatial.resampling import sample_volume

# shares of the signal (peak, or so)
DRIFT, UNEVEN_DRIFT, BREATH, HEARTBEAT = 0.008, 0.004, 0.0015, 0.02


@frozen
class Transient:
    """Approach to the steady state: relative signal excess of the first volumes, (N, X, Y, Z).

    It is on the sampling grid.

    `mean_excess` is its mean over the brain (N,); `dummies` is the number of volumes in which that
    is above 1 %.
    """

    excess: Array
    mean_excess: Array
    dummies: int


def approach(head: Head, preset: Preset, scanner: Scanner) -> Transient:
    """Return excess signal of the first volumes until it is below 0.1 % in the mean."""
    maps, means = [], []
    steady = preset.epi.scene(head)
    floor = np.maximum(steady, 0.02 * float(steady[head.brain].mean()))
    for pulse in range(200):
        excess = (preset.epi.scene(head, pulse) - steady) / floor
        mean = float(excess[head.brain].mean())
        if mean < 1e-3:
            break
        maps.append(
            sample_volume(excess, head.affine, *scanner.sampling_grid, scanner.pose, order=1)
        )
        means.append(mean)
    mean_excess = np.array(means)
    return Transient(
        excess=np.stack(maps), mean_excess=mean_excess, dummies=int((mean_excess > 0.01).sum())
    )


class Physiology:
    """Factor on the signal at each volume and slice; rates, phases and maps are drawn."""

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
        pulsating = head.veins + 0.3 * head.fractions["csf"] * head.brain
        pulsating = ndimage.gaussian_filter(pulsating, 2.0 / head.affine[0, 0])
        self._pulse_map = sample_volume(
            pulsating, head.affine, shape, affine, scanner.pose, order=1
        )
        self._breath_map = 1 + 0.6 * polynomial(rng, affine, shape)
        self._drift_map = polynomial(rng, affine, shape)
        self._tr, self._slice_times = preset.tr, preset.slice_times
        end = preset.volumes * preset.tr + 1.0
        self._clock = np.arange(0, end, 0.05)
        self._breath = _rhythm(rng, self._clock, rate=rng.uniform(0.23, 0.30))
        self._heart = _rhythm(rng, self._clock, rate=rng.uniform(0.95, 1.20))
        part = self._clock / end - 0.5
        phases = rng.uniform(0, 2 * np.pi, 2)
        self._drift = rng.choice([-1.0, 1.0]) * 2 * part + 0.5 * np.cos(
            3 * np.pi * part + phases[0]
        )
        self._uneven = np.cos(2 * np.pi * part + phases[1])

    def factor(self, t: int) -> Array:
        """Factor on the sampling grid for volume t, float32."""
        times = t * self._tr + self._slice_times

        def at(series: Array) -> Array:
            return np.interp(times, self._clock, series).astype(np.float32)

        out = 1 + np.float32(BREATH) * self._breath_map * at(self._breath)
        out += np.float32(HEARTBEAT) * self._pulse_map * at(self._heart)
        out += np.float32(UNEVEN_DRIFT) * self._drift_map * at(self._uneven) + np.float32(
            DRIFT
        ) * at(self._drift)
        if t < len(self._transient.excess):
            out *= 1 + self._transient.excess[t]
        return np.asarray(out, dtype=np.float32)


def _rhythm(rng: np.random.Generator, clock: Array, rate: float) -> Array:
    """Oscillation whose rate (1/s) wanders by some percent; unit amplitude."""
    wander = ndimage.gaussian_filter1d(rng.standard_normal(clock.size), 100)
    wander *= 0.05 / wander.std()
    phase = 2 * np.pi * np.cumsum(rate * (1 + wander)) * (clock[1] - clock[0])
    return np.sin(phase + rng.uniform(0, 2 * np.pi))


_BAND = (0.01, 0.1)  # Hz, where connectivity at rest is looked for
_STEP = 0.1  # s


class Fluctuations:
    """Known slow time courses of resting-state networks, unit standard deviation, at any time.

    All foci of a network follow its one course: what is correlated, and by how much, is known.
    Courses of different networks are orthogonal over the run, so that a seed's map in a model of
    all seeds is that of the seed alone.

    `seconds` is the length of the run.
    """

    def __init__(self, rng: np.random.Generator, names: Sequence[str], seconds: float) -> None:
        self._clock = np.arange(0.0, seconds + 1.0, _STEP)
        length = self._clock.size * _STEP
        first = max(1, int(np.ceil(_BAND[0] * length)))
        # a run of seconds has no slow ones to choose from
        last = max(first + len(names), int(_BAND[1] * length))
        angle = 2 * np.pi / length * np.outer(self._clock, np.arange(first, last + 1))
        drawn = rng.standard_normal((2, last - first + 1, len(names)))
        basis, _ = np.linalg.qr(np.cos(angle) @ drawn[0] + np.sin(angle) @ drawn[1])
        self._courses = dict(zip(names, basis.T * np.sqrt(self._clock.size), strict=True))

    def __call__(self, network: str, times: Array) -> Array:
        """Course of a network at times (s) of any shape."""
        return np.interp(times, self._clock, self._courses[network])
