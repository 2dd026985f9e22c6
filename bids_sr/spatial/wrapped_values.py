"""Unsigned integers that were stored as signed integers, so that the largest became negative."""

import numpy as np

from bids_sr.io.arrays import Array

_BITS = (8, 16, 32)  # signed integer types of images
# The smallest wrapped value is near the lower end of the type.
_MIN_RANGE_SHARE = 0.5
# Neighbors agree if they differ by less than this share of the range. Of all neighbors with
# different signs that agree either as stored or after unwrapping, most agree after unwrapping; in
# a phase image about half, and none in an image with negative values of interpolation.
_MAX_DIFFERENCE_SHARE, _MIN_AGREEING_SHARE = 0.25, 0.75
_MIN_PAIRS = 6  # such neighbors; an isolated voxel has six


def may_be_wrapped(volume: Array) -> bool:
    """Return whether a volume of stored values has negative values as large as wrapped values."""
    return _find_bits(volume) > 0


def find_wrapped_values(volume: Array) -> tuple[int, int] | None:
    """Return the number of wrapped values in a volume, and 2 to the power of their bits.

    `volume` contains stored values without scaling (X, Y, Z). Adding the second number to wrapped
    values, which are negative, makes them continue their neighbors. None if no value is wrapped.
    """
    bits = _find_bits(volume)
    if not bits:
        return None
    values = volume.astype(np.float64)
    is_negative = values < 0
    is_pair_by_axis = [np.diff(is_negative, axis=axis) for axis in range(values.ndim)]
    limit = _MAX_DIFFERENCE_SHARE * 2.0**bits
    unwrapped = np.where(is_negative, values + 2.0**bits, values)
    n_agreeing, n_agreeing_stored = (
        sum(
            int(np.count_nonzero(np.abs(np.diff(image, axis=axis)[is_pair]) < limit))
            for axis, is_pair in enumerate(is_pair_by_axis)
        )
        for image in (unwrapped, values)
    )
    if n_agreeing < max(_MIN_PAIRS, _MIN_AGREEING_SHARE * (n_agreeing + n_agreeing_stored)):
        return None
    return int(np.count_nonzero(is_negative)), 2**bits


def _find_bits(volume: Array) -> int:
    """Return the bits of the smallest signed integer type of all values.

    0 if there is no such type, or if no value is near its lower end.
    """
    lowest, highest = float(volume.min()), float(volume.max())
    bits = next(
        (bits for bits in _BITS if -(2 ** (bits - 1)) <= lowest and highest < 2 ** (bits - 1)), 0
    )
    return bits if lowest <= -_MIN_RANGE_SHARE * 2 ** (bits - 1) else 0
