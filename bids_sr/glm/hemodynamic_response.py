"""Hemodynamic response to events: response functions and derivatives, by their names in nilearn.

The response function sums to one, so that the plateau of a sustained block is one. Derivatives
allow for responses of another shape, such as earlier or later responses; contrasts do not weigh
them.

The response to an event is the difference of two integrals of the response function in closed
form, so that it does not depend on the repetition time. nilearn samples events at 1/50 of TR and
rounds their onset up: at a TR of 14 s, effects of sounds of 2 s that begin 3 s before a volume are
1.4 times too large.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from bids_sr.io.arrays import Array, Float
from bids_sr.io.frozen import frozen

IMPULSE_S = 1.0
"""Area of an event of duration 0, as in SPM (s)."""
RESPONSE_S = 32.0
"""Length of response functions, as in SPM and nilearn (s); less than 2e-4 of the area is later."""
_DELAY_S = 0.1  # s, step of nilearn's derivative in time
_MIN_LENGTH_S = 1e-3  # s; shorter events are modeled with this length, and with their area
_MAX_PAIRS = 500_000  # largest number of pairs of event and volume that are computed at once
_DERIVATIVE_WORDS = {
    "derivative": "derivative in time",
}


@frozen
class HemodynamicResponse:
    """Model of the response to events.

    `hrf_model` is a name of nilearn: a response function, and derivatives after plus signs. Each
    trial type has a main column with its response, and a column per derivative.
    """

    hrf_model: str = "spm"

    @property
    def main(self) -> "HemodynamicResponse":
        """Model without derivatives."""
        return replace(self, hrf_model=self._parts[0])

    @property
    def derivatives(self) -> tuple[str, ...]:
        """Names of the derivatives, in the order of their columns."""
        return self._parts[1:]

    @property
    def n_columns(self) -> int:
        """Number of columns per trial type."""
        return len(self._parts)

    @property
    def words(self) -> str:
        """Noun phrase of the response function and its derivatives for the methods text."""
        derivatives = " and ".join(_DERIVATIVE_WORDS[name] for name in self.derivatives)
        return (
            "the canonical double-gamma hemodynamic response function (HRF) of"
            f" {_FUNCTIONS[self._parts[0]].words} with nilearn's parameters [@nilearn],"
            f" {f'with its {derivatives}' if derivatives else 'without derivatives'}"
        )

    def predict(
        self, spans: Sequence[tuple[float, float]], amplitudes: Float, times: Float
    ) -> Float:
        """Return the columns of a trial type at given times (T, columns).

        The plateau of a sustained event is its amplitude. The area of a shorter event is its
        duration times its amplitude; the area of an event of duration 0 is `IMPULSE_S` times its
        amplitude. The main column is removed from derivatives, as in nilearn.

        `spans` are onset and duration (s) of each event, and `amplitudes` have one value per event
        (events,). `times` ascend (T,), in s.
        """
        onsets, durations = np.array(spans, dtype=np.float64).T
        lengths = np.maximum(durations, _MIN_LENGTH_S)
        areas = np.where(durations > 0, durations, IMPULSE_S)
        heights = amplitudes * np.where(durations < _MIN_LENGTH_S, areas / lengths, 1.0)
        starts = onsets - (lengths - durations) / 2
        ends = starts + lengths + RESPONSE_S + _DELAY_S
        columns = np.zeros((self.n_columns, len(times)))
        for events, volumes in _pair_with_times(times, starts, ends):
            since_start = times[volumes] - starts[events]
            values = self.integrate(since_start) - self.integrate(since_start - lengths[events])
            for column, response in zip(columns, values * heights[events], strict=True):
                column += np.bincount(volumes, weights=response, minlength=len(times))
        for index in range(1, self.n_columns):
            earlier_columns = columns[:index].T
            fit = np.linalg.lstsq(earlier_columns, columns[index], rcond=None)[0]
            columns[index] -= earlier_columns @ fit
        return columns.T

    def integrate(self, seconds_after_onset: Float) -> Float:
        """Return the columns of a block without end in closed form, (columns, ...).

        `seconds_after_onset` may have any shape, and the main column is relative to its plateau.
        The main column is not removed from derivatives.
        """
        function = _FUNCTIONS[self._parts[0]]
        main = function.integrate(seconds_after_onset)
        derivatives = [
            _DERIVATIVES[name](function, seconds_after_onset) for name in self.derivatives
        ]
        return np.stack([main, *derivatives])

    @property
    def _parts(self) -> tuple[str, ...]:
        """Response function, followed by derivatives."""
        return tuple(self.hrf_model.split(" + "))


@frozen
class _DoubleGamma:
    """Difference of two gamma densities, with the parameters of nilearn.

    `peak` and `undershoot` are times of the densities, and `peak_dispersion` and
    `undershoot_dispersion` their scales (s). `ratio` is the weight of the undershoot, and `words`
    the source of the function in the methods text.
    """

    words: str
    peak: float
    undershoot: float
    peak_dispersion: float
    undershoot_dispersion: float
    ratio: float

    def integrate(self, seconds_after_onset: Float) -> Float:
        """Return the response to a block without end, relative to its plateau."""
        elapsed = np.clip(seconds_after_onset, 0.0, RESPONSE_S)
        return self._integrate(elapsed) / self._integrate(np.array(RESPONSE_S))

    def _integrate(self, elapsed: Float) -> Float:
        """Return the integral of the difference from 0 to some times (s)."""
        from scipy.special import gammainc

        peak, undershoot = (
            gammainc(time / dispersion, elapsed / dispersion)
            for time, dispersion in (
                (self.peak, self.peak_dispersion),
                (self.undershoot, self.undershoot_dispersion),
            )
        )
        return np.asarray(peak - self.ratio * undershoot)


_FUNCTIONS = {
    "spm": _DoubleGamma(
        words="SPM",
        peak=6,
        undershoot=16,
        peak_dispersion=1,
        undershoot_dispersion=1,
        ratio=1 / 6,
    ),
    "glover": _DoubleGamma(
        words="Glover",
        peak=6,
        undershoot=12,
        peak_dispersion=0.9,
        undershoot_dispersion=0.9,
        ratio=0.48,
    ),
}
"""Response functions by name."""


def _differentiate_in_time(function: _DoubleGamma, seconds_after_onset: Float) -> Float:
    """Return the derivative in time of the response to a block without end, as in nilearn."""
    delayed = function.integrate(seconds_after_onset - _DELAY_S)
    return (function.integrate(seconds_after_onset) - delayed) / _DELAY_S


_DERIVATIVES: dict[str, Callable[[_DoubleGamma, Float], Float]] = {
    "derivative": _differentiate_in_time,
}
"""Derivative of the response to a block without end, by name."""


def _pair_with_times(times: Float, starts: Float, ends: Float) -> Iterator[tuple[Array, Array]]:
    """Yield indices of events, and of the times between their start and end, in chunks.

    `times` ascend (T,). `starts` and `ends` have one value per event (events,).
    """
    first = np.searchsorted(times, starts)
    counts = np.searchsorted(times, ends) - first
    totals = np.cumsum(counts)
    limits = np.searchsorted(totals, np.arange(_MAX_PAIRS, totals[-1], _MAX_PAIRS))
    for chunk in np.split(np.arange(len(starts)), limits):
        n_earlier = np.cumsum(counts[chunk]) - counts[chunk]
        events = np.repeat(chunk, counts[chunk])
        volumes = np.repeat(first[chunk] - n_earlier, counts[chunk]) + np.arange(len(events))
        yield events, volumes
