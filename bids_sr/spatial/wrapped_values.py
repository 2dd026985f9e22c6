"""Unsigned integers that were stored as signed integers, so that the largest became negative."""

import numpy as np

from bids_sr.io.arrays import Array

_BITS = (8, 16, 32)  # signed integer types of images
# The smallest wrapped value is near the lower end of the type.
_MIN_RANGE_SHARE = 0.5
# share of the pairs of neighbors with different signs that agree better after unwrapping; about
# half of the pairs in a phase image, and none in an image with negative values of interpolation
_MIN_AGREEING_SHARE = 0.75
_MIN_PAIRS = 6  # such pairs; an isolated voxel has six neighbors


def may_be_wrapped(volume: Array) -> bool:
    """Return whether a volume of stored values has negative values as large as wrapped values."""
    lowest = float(volume.min())
    bits = _count_bits(volume)
    return bits > 0 and lowest <= -_MIN_RANGE_SHARE * 2 ** (bits - 1)


def _count_bits(volume: Array) -> int:
    """Return the bits of the smallest signed integer type of all values; 0 if there is none."""
    lowest, highest = float(volume.min()), float(volume.max())
    return next(
        (bits for bits in _BITS if -(2 ** (bits - 1)) <= lowest and highest < 2 ** (bits - 1)), 0
    )


def find_wrapped_values(volume: Array) -> tuple[int, int] | None:
    """Return the number of wrapped values in a volume, and 2 to the power of their bits.

    `volume` contains stored values without scaling (X, Y, Z). Adding the second number to wrapped
    values, which are negative, makes them continue their neighbors. None if no value is wrapped.
    """
    if not may_be_wrapped(volume):
        return None
    bits = _count_bits(volume)
    values = volume.astype(np.float64)
    is_negative = values < 0
    unwrapped = np.where(is_negative, values + 2.0**bits, values)
    n_pairs = n_agreeing = 0
    for axis in range(values.ndim):
        is_pair = np.diff(is_negative, axis=axis)
        stored_change, change = (
            np.abs(np.diff(image, axis=axis)[is_pair]) for image in (values, unwrapped)
        )
        n_pairs += stored_change.size
        n_agreeing += int(np.count_nonzero(change < stored_change))
    if n_pairs < _MIN_PAIRS or n_agreeing < _MIN_AGREEING_SHARE * n_pairs:
        return None
    return int(np.count_nonzero(is_negative)), 2**bits
