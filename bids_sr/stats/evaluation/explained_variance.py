"""Correlation, explained variance, recovered amplitude and right share of a map against the truth.

All follow from four inner products over voxels, each map less its mean over them: of the map e with the target t, of
each with itself, and of the target with itself *without its noise*. The last is exact for known activation; for a
measured target it is the inner product of the two halves of the blocks, which share no noise (``<t_a, t_b>``). With e
from half a and t from half b

    explained variance   1 - |e - T|² / |T|²  =  (2 <e_a, t_b> - <e_a, e_a>) / <t_a, t_b>
    recovered amplitude  <e_a, t_b> / <t_a, t_b>, the slope of e over T
    right share          <e_a, t_b> |<e_a, t_b>| / (<e_a, e_a> <t_a, t_b>): how much of the energy of e is the truth's,
                         the square of the correlation with the true map (attenuation corrected), with r's sign

because ``<e_a, t_b>`` estimates ``<e_a, T>`` without bias, and ``<e_a, e_a>`` is taken as it is, noise included. So the
target's noise costs a series nothing and its own noise costs it: a measured half explains 2 - 1/r of the variance,
where r is the correlation of the halves, and not 1. A map of zeros explains 0, a wrong map less than 0; the correlation
is blind to amplitude. What changes between the halves (habituation, motion) counts as noise of the target and as error
of the series. Where the halves of the target do not agree for sure (the interval of ``<t_a, t_b>`` reaches 0), only r
is defined.

Intervals of simulated runs held the expected metric in 88 to 99 % with three blocks a half and more, and in 71 to 83 %
with two, where they are too narrow; those of differences in 88 to 98 and 71 to 87 %.
"""

import math
from dataclasses import dataclass

import numpy as np

from bids_sr.io.array_types import Float

METRICS = ("r", "ev", "amplitude", "right")
OF_TRUTH = METRICS[1:]
"""Metrics that need the energy of the target without its noise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moments:
    """Inner products over voxels of pairs of maps, (K,) each, unit of the maps squared."""

    shared: Float  # of the map under test and the target
    energy: Float  # of the map with itself
    target: Float  # of the target with itself, its noise included
    true: Float  # of the target with itself without its noise

    def metric(self, name: str) -> Float:
        """One of `METRICS` for every pair, (K,); NaN where what it is divided by is not positive.

        Examples
        --------
        >>> half = Moments(shared=np.array([2.0]), energy=np.array([1.0]), target=np.array([4.0]), true=np.array([4.0]))
        >>> [float(half.metric(name)[0]) for name in METRICS]
        [1.0, 0.75, 0.5, 1.0]
        """
        top, below = {
            "r": (self.shared, np.sqrt(np.maximum(self.energy, 0) * np.maximum(self.target, 0))),
            "ev": (2 * self.shared - self.energy, self.true),
            "amplitude": (self.shared, self.true),
            "right": (self.shared * np.abs(self.shared), np.maximum(self.energy, 0) * self.true),
        }[name]
        return np.asarray(np.divide(top, below, out=np.full(len(top), math.nan), where=below > 0))
