"""Exact median of values that are read in pieces, without holding them in memory."""

from collections.abc import Callable, Iterable

import numpy as np

from bids_sr.io.arrays import Array


def streamed_median(read: Callable[[], Iterable[Array]]) -> float:
    """Return the median of float32 values in two passes.

    `read` is called once per pass and yields all values in pieces. The first pass counts values by
    the upper half of their bits, and the second keeps the values (about 1 %) that share these bits
    with the median.
    """
    counts = np.zeros(2**16, np.int64)
    for values in read():
        counts += np.bincount(_find_bins(values).ravel(), minlength=len(counts))
    n_values = int(counts.sum())
    middle_ranks = np.array([(n_values - 1) // 2, n_values // 2])
    first, last = np.searchsorted(np.cumsum(counts), middle_ranks, side="right")
    middle_values = []
    for values in read():
        bins = _find_bins(values)
        middle_values.append(values[(bins >= first) & (bins <= last)])
    ranks = middle_ranks - int(counts[:first].sum())
    return float(np.sort(np.concatenate(middle_values))[ranks].mean())


def _find_bins(values: Array) -> Array:
    """Return bins 0 to 65535 of float32 values, in the order of the values.

    The bits of positive numbers, read as integers, are in the order of the numbers; the order of
    negative numbers is reversed.
    """
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.int32)
    return ((bits ^ ((bits >> 31) & 0x7FFFFFFF)) >> 16) + 2**15
