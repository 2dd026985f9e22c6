"""Exact median of values that are read twice, in pieces, without holding them in memory."""

import numpy as np

from bids_sr.io.arrays import Array


class StreamedMedian:
    """Median of float32 values, which are passed once to `count` and then once to `collect`.

    The first pass counts values by the upper half of their bits, and the second keeps the values
    (about 1 %) that share these bits with the median.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(2**16, np.int64)
        self._collected: list[Array] = []

    def count(self, values: Array) -> None:
        """Count values in the first pass."""
        self._counts += np.bincount(_find_bins(values.ravel()), minlength=2**16)

    def collect(self, values: Array) -> None:
        """Keep the values in the bins of the median in the second pass."""
        bins = _find_bins(values)
        first, last = self._find_median_bins()
        self._collected.append(values[(bins >= first) & (bins <= last)])

    def compute(self) -> float:
        """Return the median after both passes."""
        first, _ = self._find_median_bins()
        n_values, n_smaller = int(self._counts.sum()), int(self._counts[:first].sum())
        ranks = np.array([(n_values - 1) // 2, n_values // 2]) - n_smaller
        return float(np.sort(np.concatenate(self._collected))[ranks].mean())

    def _find_median_bins(self) -> Array:
        """Return the bins of the lower and the upper of the two middle values."""
        n_values = int(self._counts.sum())
        ranks = [(n_values - 1) // 2, n_values // 2]
        return np.searchsorted(np.cumsum(self._counts), ranks, side="right")


def _find_bins(values: Array) -> Array:
    """Return the bins 0 to 65535 of float32 values, in the order of the values.

    The bits of positive numbers, read as integers, are in the order of the numbers; the order of
    negative numbers is reversed.
    """
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.int32)
    return ((bits ^ ((bits >> 31) & 0x7FFFFFFF)) >> 16) + 2**15
