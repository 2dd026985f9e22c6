"""Bands of successive lags that share a parameter of the noise model.

The memory of the noise model is stated in seconds. With one parameter per lag, models of short TR
would have a hundred parameters. Bands therefore widen with the lag, as the resolution that slow
fluctuations require decreases. At TR .5 s, they end at lags 1, 3, 5, 9, 15 and 24. Bands of a
single lag, at TR 2 s and above, are an ordinary autoregressive process.
"""

import numpy as np
import numpy.typing as npt

from bids_sr.io.arrays import Float
from bids_sr.io.frozen import frozen

MEMORY_S = 12.0
"""Memory of the noise model (s)."""
_N_BANDS = 6
_DOF_PER_BAND = 6  # degrees of freedom required per band, and per lag beyond one lag per band


@frozen
class LagBands:
    """Successive bands of lags; `stops` are the last lags of the bands, ascending from 1."""

    stops: tuple[int, ...]

    @property
    def n_lags(self) -> int:
        """Number of lags, which is the order of the autoregressive process."""
        return self.stops[-1]

    @property
    def widths(self) -> npt.NDArray[np.int64]:
        """Number of lags in each band (q,)."""
        return np.diff(self.stops, prepend=0)

    @property
    def are_single(self) -> bool:
        """Whether each band is a single lag."""
        return len(self.stops) == self.n_lags

    def average(self, values: Float) -> Float:
        """Return means over the lags of each band (q, …) of values at lags 1 … p (p, …)."""
        if self.are_single:
            return values
        sums = np.add.reduceat(values, np.subtract(self.stops, self.widths), axis=0)
        return np.asarray(sums / self.widths.reshape(-1, *(1,) * (values.ndim - 1)))

    def shift(self, columns: Float, direction: int) -> Float:
        """Shift columns (T, P) by each lag, and average over the lags of each band (q, T, P).

        Row t of a shift by lag l is row t + l for `direction` 1 and row t - l for -1. Rows beyond
        the ends are 0.
        """
        shifted = np.zeros((len(self.stops), *columns.shape))
        start = 1
        for band, stop in enumerate(self.stops):
            for lag in range(start, min(stop, len(columns) - 1) + 1):
                if direction > 0:
                    shifted[band, :-lag] += columns[lag:]
                else:
                    shifted[band, lag:] += columns[:-lag]
            start = stop + 1
        return np.asarray(shifted / self.widths[:, None, None])


def single_lags(order: int) -> LagBands:
    """Return bands of a single lag each, from 1 to `order`."""
    return LagBands(stops=tuple(range(1, order + 1)))


def choose_bands(tr: float, dof: int) -> LagBands:
    """Return the bands of a run, whose widths increase geometrically up to a memory of 12 s.

    There are six bands, and at least one lag per band: memory is longer if TR exceeds 2 s. Runs
    with fewer than six degrees of freedom per band or per lag have fewer bands and lags. `tr` is
    in s, and `dof` are the residual degrees of freedom.

    >>> choose_bands(2.0, 100).stops, choose_bands(0.5, 500).stops
    ((1, 2, 3, 4, 5, 6), (1, 3, 5, 9, 15, 24))
    """
    n_bands = max(1, min(_N_BANDS, dof // _DOF_PER_BAND))
    n_lags = max(n_bands, min(int(np.ceil(MEMORY_S / tr - 1e-6)), dof // _DOF_PER_BAND))
    growth = _find_growth(n_bands, n_lags)
    widths = growth ** np.arange(n_bands)
    stops = np.round(np.cumsum(widths) * n_lags / widths.sum()).astype(int)
    # Rounded stops can coincide, and their distances can decrease.
    offsets = np.arange(n_bands)
    stops = np.maximum.accumulate(np.maximum(stops, 1) - offsets) + offsets
    stops = np.cumsum(np.sort(np.diff(stops, prepend=0)))
    return LagBands(stops=tuple(int(stop) for stop in stops))


def _find_growth(n_bands: int, n_lags: int) -> float:
    """Return the ratio of successive widths, from 1, whose first band has a single lag."""
    lower, upper = 1.0, float(n_lags) + 1
    for _ in range(60):
        middle = (lower + upper) / 2
        if (middle ** np.arange(n_bands)).sum() < n_lags:
            lower = middle
        else:
            upper = middle
    return lower
