"""Volumes of an image as stored, to check its voxels before processing."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from bids_sr.io.arrays import Float, Float32
from bids_sr.io.grids import AxisOrder, reorder
from bids_sr.io.nifti import SeriesReader, Storage
from bids_sr.survey.bids.headers import parse_header

_CHUNK_BYTES = 1 << 20


def read_volumes(path: Path, numbers: list[int], order: AxisOrder) -> dict[int, Float]:
    """Return some volumes of a series by number, with axes in the given order, in one pass."""
    with SeriesReader(path, allow_nan=True, stays_open=True) as reader:
        return {
            index: reorder(reader.volume(index).astype(np.float64), order) for index in numbers
        }


class StoredVolumes:
    """Volumes of an image as stored, read in one pass; the file is opened once.

    Iteration yields the voxels of each volume (1D) and reads to the end, which verifies the gzip
    checksum. `affine` is the voxel-to-world matrix (4 x 4, RAS+ mm), and `storage` the data type
    with its scaling.
    """

    def __init__(self, path: Path) -> None:
        opener = gzip.open if path.suffix == ".gz" else open
        self._stream: IO[bytes] = opener(path, "rb")  # type: ignore[assignment]
        fields = parse_header(self._stream)
        self.shape: tuple[int, ...] = fields.get_data_shape()
        self.affine: Float = fields.get_best_affine()
        slope, intercept = fields.get_slope_inter()
        self.storage = Storage(fields.get_data_dtype(), slope or 1.0, intercept or 0.0)
        self._offset: int = fields.get_data_offset()

    def __iter__(self) -> Iterator[np.ndarray]:
        n_voxels, dtype = int(np.prod(self.shape[:3])), self.storage.dtype
        with self._stream as stream:
            stream.seek(self._offset)
            for _ in range(int(np.prod(self.shape[3:]))):
                content = stream.read(n_voxels * dtype.itemsize)
                if n_missing := n_voxels * dtype.itemsize - len(content):
                    raise EOFError(f"the file is truncated: {n_missing} bytes are missing")
                volume = np.frombuffer(content, dtype)
                if dtype.itemsize > 4 or self.storage.is_scaled:
                    self._check_range(volume)
                yield volume
            while stream.read(_CHUNK_BYTES):
                pass

    def decode(self, volume: np.ndarray) -> Float32:
        """Return the scaled values of a volume (X, Y, Z)."""
        return self.storage.decode(volume).reshape(self.shape[:3], order="F")

    def _check_range(self, volume: np.ndarray) -> None:
        """Raise `ValueError` if finite voxels overflow single precision, which is processed."""
        extremes = np.array([volume.min(), volume.max()])
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = (extremes * self.storage.slope + self.storage.inter).astype(np.float32)
        if np.isfinite(extremes).all() and not np.isfinite(scaled).all():
            raise ValueError("voxel values overflow with the scaling factor in the image header")
