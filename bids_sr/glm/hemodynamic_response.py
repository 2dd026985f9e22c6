"""Hemodynamic response to events: response functions and derivatives, by their names in nilearn.

The response function sums to one, so that the plateau of a sustained block is one. Derivatives
allow for responses of another shape, such as earlier or later responses; contrasts do not weigh
them.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Float

_DELAY_S = 0.1  # s, step of nilearn's derivative in time
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
            f" {_FUNCTIONS[self._parts[0]].words},"
            f" {f'with its {derivatives}' if derivatives else 'without derivatives'}"
        )

    def convolve(
        self, stimulus: Float, times: Float, *, oversampling: int, min_onset: float
    ) -> Float:
        """Return the columns of a trial type at given times (s), (T, columns).

        nilearn removes the main column from derivatives. `stimulus` are onsets, durations (s) and
        amplitudes of events (3, events). `oversampling` is the number of samples per TR, and
        `min_onset` the first sample (s after the first time).
        """
        from nilearn.glm.first_level import compute_regressor

        columns, _ = compute_regressor(
            stimulus, self.hrf_model, times, oversampling=oversampling, min_onset=min_onset
        )
        return np.asarray(columns)

    def integrate(self, seconds_after_onset: Float) -> Float:
        """Return the columns of a block without end in closed form, (columns, ...).

        `seconds_after_onset` may have any shape, and the main column is relative to its plateau.
        Within about .01 of nilearn's columns, apart from the removal of the main column from
        derivatives.
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
        from scipy.special import gammainc

        elapsed = np.maximum(seconds_after_onset, 0.0)
        peak, undershoot = (
            gammainc(time / dispersion, elapsed / dispersion)
            for time, dispersion in (
                (self.peak, self.peak_dispersion),
                (self.undershoot, self.undershoot_dispersion),
            )
        )
        return np.asarray((peak - self.ratio * undershoot) / (1 - self.ratio))


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
