"""Array types for annotations, a checksum of arrays, and the division of ranges."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Real = NDArray[np.floating]
MaskArray = NDArray[np.bool_]


def float32_checksum(values: Array) -> str:
    """Return the SHA-256 of an array as little-endian float32 in C order (hexadecimal digits)."""
    return hashlib.sha256(np.ascontiguousarray(values, dtype="<f4").data).hexdigest()


def iterate_parts(count: int, size: int = 128) -> Iterator[slice]:
    """Yield consecutive slices of a range.

    With the default size, the time series of a slice of voxels fit into the processor cache.
    """
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def evenly_spaced(count: int, limit: int) -> tuple[int, ...]:
    """Return up to `limit` of `count` indices, evenly spaced from the first to the last.

    >>> evenly_spaced(7, 3)
    (0, 3, 6)
    """
    indices = np.linspace(0, count - 1, min(limit, count)).round().astype(int)
    return tuple(int(index) for index in np.unique(indices))
