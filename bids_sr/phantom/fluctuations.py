"""Slow fluctuations of the networks of a simulated head at rest: known time courses that share nothing.

Each network has one course, which all its foci follow: what is correlated, and by how much, is known. Courses of
different networks are orthogonal over the run, so that a seed's map in a model of all seeds is that of the seed alone.
"""

from collections.abc import Sequence

import numpy as np

from bids_sr.io.array_types import Array

BAND = (0.01, 0.1)  # Hz, where connectivity at rest is looked for
_STEP = 0.1  # s


class Fluctuations:
    """Course of every network of a run, unit standard deviation, at any time of it.

    Parameters
    ----------
    rng : source of the courses
    names : of the networks
    seconds : length of the run
    """

    def __init__(self, rng: np.random.Generator, names: Sequence[str], seconds: float) -> None:
        self._clock = np.arange(0.0, seconds + 1.0, _STEP)
        length = self._clock.size * _STEP
        first = max(1, int(np.ceil(BAND[0] * length)))
        last = max(first + len(names), int(BAND[1] * length))  # a run of seconds has no slow ones to choose from
        angle = 2 * np.pi / length * np.outer(self._clock, np.arange(first, last + 1))
        drawn = rng.standard_normal((2, last - first + 1, len(names)))
        basis, _ = np.linalg.qr(np.cos(angle) @ drawn[0] + np.sin(angle) @ drawn[1])
        self._courses = dict(zip(names, basis.T * np.sqrt(self._clock.size), strict=True))

    def __call__(self, network: str, times: Array) -> Array:
        """Course of a network at times (s) of any shape."""
        return np.asarray(np.interp(times, self._clock, self._courses[network]))
