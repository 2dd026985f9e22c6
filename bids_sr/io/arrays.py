"""Types of NumPy arrays by their elements, for annotations; checksums and parts of arrays."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Real = NDArray[np.floating]
Mask = NDArray[np.bool_]


def float32_checksum(values: Array) -> str:
    """SHA-256 of the values as little-endian single-precision numbers, in C order.

    `values`: numbers of any shape and type. Hexadecimal digest of 64 characters.
    """
    return hashlib.sha256(np.ascontiguousarray(values, dtype="<f4").data).hexdigest()


def parts_of(count: int, size: int = 128) -> Iterator[slice]:
    """Cut a range into parts; of voxels, by default, whose time series stay in the cache."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def evenly_spaced(count: int, most: int) -> tuple[int, ...]:
    """Return at most so many of `count` indices, evenly from the first to the last.

    Numbers in ascending order; empty where there is no volume.
    """
    chosen = np.linspace(0, count - 1, min(most, count)).round().astype(int)
    return tuple(int(k) for k in np.unique(chosen))
