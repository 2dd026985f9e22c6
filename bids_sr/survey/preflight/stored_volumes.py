"""Volumes of an image as stored, to check its voxels before processing."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bids_sr.io.arrays import Float
from bids_sr.io.grids import AxisOrder, reorder

_CHUNK_BYTES = 1 << 20


def read_volumes(path: Path, numbers: list[int], order: AxisOrder) -> dict[int, Float]:
    """Return some volumes of a series by number, with axes in the given order, in one pass."""
    from bids_sr.io.nifti import SeriesReader

    with SeriesReader(path, allow_nan=True) as reader:
        return {
            index: reorder(reader.volume(index).astype(np.float64), order) for index in numbers
        }


def iterate_volumes(path: Path) -> Iterator[np.ndarray]:
    """Yield raw voxels of each volume, reading to the end to verify the gzip checksum."""
    import nibabel as nb

    image: Any = nb.load(path)
    dtype = image.header.get_data_dtype()
    # the header of a loaded image does not contain the scaling
    slope, intercept = float(image.dataobj.slope), float(image.dataobj.inter)
    if not np.isfinite([slope, intercept]).all():
        raise ValueError("the scaling factor in the image header is not finite")
    n_bytes = int(np.prod(image.shape[:3])) * dtype.itemsize
    with _open(path) as stream:
        _read_bytes(stream, int(image.dataobj.offset))
        for _ in range(int(np.prod(image.shape[3:]))):
            volume = np.frombuffer(_read_bytes(stream, n_bytes), dtype=dtype)
            if dtype.itemsize > 4 or (slope, intercept) != (1, 0):
                _check_range(volume, slope, intercept)
            yield volume
        while stream.read(_CHUNK_BYTES):
            pass


def _open(path: Path) -> BinaryIO:
    """Open a file for reading, decompressed if gzipped."""
    if path.suffix == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return path.open("rb")


def _read_bytes(stream: BinaryIO, n_bytes: int) -> bytearray:
    """Read a number of bytes; raise `EOFError` if the stream ends earlier."""
    buffer = bytearray(n_bytes)
    view = memoryview(buffer)
    n_filled = 0
    while n_filled < n_bytes:
        n_read = stream.readinto(view[n_filled : n_filled + _CHUNK_BYTES])  # type: ignore[attr-defined]
        if not n_read:
            raise EOFError(f"the file is truncated: {n_bytes - n_filled} bytes are missing")
        n_filled += n_read
    return buffer


def _check_range(volume: np.ndarray, slope: float, intercept: float) -> None:
    """Raise `ValueError` if finite voxels overflow single precision after scaling.

    Images are processed in single precision.
    """
    extremes = np.array([volume.min(), volume.max()])
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (extremes * slope + intercept).astype(np.float32)
    if np.isfinite(extremes).all() and not np.isfinite(scaled).all():
        raise ValueError("voxel values overflow with the scaling factor in the image header")
