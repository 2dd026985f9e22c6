"""NIfTI series, read and written volume by volume to limit memory.

Files are read explicitly, without memory mapping, because mapped pages count as memory of the
process. A reader holds one volume. A writer uses a temporary file, which is renamed when all
volumes are written. Compressed files contain neither time nor name in their gzip header, so that
equal data give equal bytes.

A large series in the working directory is stored as its first volume and the difference of each
volume from it in half precision. The file has half the size, with an error below a thousandth of
the change. Only this module can read such a file (`SeriesReader.plain`).
"""

import contextlib
import gzip
import io
import math
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import nibabel as nib
import numpy as np
import numpy.typing as npt

from bids_sr.io import atomic_files
from bids_sr.io.arrays import Array, Float, Float32, iterate_parts
from bids_sr.io.grids import LARGE_SERIES_BYTES
from bids_sr.io.image_header import describe_excess
from bids_sr.io.notices import InvalidInput

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_GZIP_WBITS = 16 + zlib.MAX_WBITS  # zlib's gzip header, which contains neither time nor name
_HALF_DTYPE = np.dtype("<f2")
_HALF_INFINITY = 65520.0  # smallest magnitude that half precision rounds to infinity
# Values converted at a time, which fit into the cache. Torch distributes more than 32,767 values
# to its threads, which takes longer than the conversion.
_VALUES_PER_BLOCK = 32_000
# intent name of files with differences, which other programs would misread
_DIFFERENCES_INTENT = b"differences"
_CAL_MAX_OFFSET = 124  # byte offset of cal_max in the header, followed by cal_min
_PAGE_BYTES = 4096  # bytes of a file system page
_DATA_OFFSET = 352  # bytes of the header and the four zeros after it
_SECONDS_PER_UNIT = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}


class SeriesReader:
    """Reader of a NIfTI image by volumes or slabs.

    The image is 3D or 4D. `allow_nan` accepts NaN and infinite values instead of raising an error.
    Raises `InvalidInput` if the file is truncated, is not a readable NIfTI image, or does not
    contain real numbers in 3D or 4D.
    """

    def __init__(self, path: Path, *, allow_nan: bool = False) -> None:
        self.path = path
        image = _open_header(self.path)
        shape = _squeeze_shape(image.shape)
        if len(shape) not in (3, 4) or min(shape) < 1:
            raise InvalidInput(
                f"the image shape is {image.shape}, but a 3D or 4D image is expected",
                file=self.path,
            )
        if excess := describe_excess(shape):
            raise InvalidInput(f"{excess}", file=self.path)
        self.ndim = len(shape)
        self.shape: tuple[int, int, int, int] = (*shape[:3], shape[3] if len(shape) == 4 else 1)  # type: ignore[assignment]
        self.header = image.header
        self.affine: Float = np.asarray(image.affine, dtype=np.float64)
        self.zooms: tuple[float, float, float] = tuple(
            float(zoom) for zoom in nib.affines.voxel_sizes(self.affine)
        )  # type: ignore[assignment]
        self.tr = _read_repetition_time(self.header) if self.ndim == 4 else 0.0
        self.compressed = self.path.suffix == ".gz"
        array_proxy: Any = image.dataobj
        self.dtype = np.dtype(array_proxy.dtype)
        if self.dtype.kind not in "iuf":
            raise InvalidInput(
                f"the data type is {self.dtype}, but real numbers are expected", file=self.path
            )
        self._slope, self._inter = float(array_proxy.slope), float(array_proxy.inter)
        # nibabel removes the scaling from the header of a loaded image
        self.scaled = (self._slope, self._inter) != (1.0, 0.0)
        self._offset = int(array_proxy.offset)
        self.plain = self.header["intent_name"].item() != _DIFFERENCES_INTENT
        self.step = 0.0 if self.plain else float(self.header["intent_p1"])
        self._first_volume: Array | None = None
        self._allow_nan = allow_nan
        self._n_voxels = int(np.prod(self.shape[:3]))
        self._stream: IO[bytes] | None = None
        self._next_volume = 0
        if not self.compressed:
            self._require_complete(self.path.stat().st_size)

    def _require_complete(self, n_bytes: int) -> None:
        """Raise InvalidInput if an uncompressed file of this size lacks some volumes."""
        n_required_bytes = self._position(self.shape[3])
        if n_bytes < n_required_bytes:
            raise InvalidInput(
                f"the file is truncated ({n_bytes} of {n_required_bytes} bytes)", file=self.path
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        if self._stream is not None:
            self._stream.close()
        self._stream = None

    def volume(self, t: int) -> Float32:
        """Return volume t as a scaled float32 array (X, Y, Z), in Fortran order as in the file.

        A negative t counts from the end. Raises `InvalidInput` if the file is truncated or
        corrupt, or if the volume contains NaN or infinite values that are not allowed, and
        `IndexError` if the volume does not exist.
        """
        t = t + self.shape[3] if t < 0 else t
        if not 0 <= t < self.shape[3]:
            raise IndexError(f"{self.path}: volume {t} of {self.shape[3]}")
        if not self.plain and self._first_volume is None:
            with open(self.path, "rb") as start:
                start.seek(self._offset)
                self._first_volume = self._read(start, self._n_voxels, "its first volume")
        stream = self._seek_volume(t)
        self._next_volume = -1
        values = self._read_values(stream, self._first_volume, self._n_voxels, f"volume {t}")
        self._next_volume = t + 1
        return values.reshape(self.shape[:3], order="F")

    def _seek_volume(self, t: int) -> IO[bytes]:
        """Return a stream positioned at volume t.

        A compressed file is read forward if possible, otherwise from its start.
        """
        stream = self._stream
        if stream is None or (self.compressed and t < self._next_volume):
            self.close()
            opener: Any = gzip.open if self.compressed else open
            stream = self._stream = opener(self.path, "rb")
            self._next_volume = -1
        if self._next_volume != t:
            try:
                stream.seek(self._position(t))
            except (EOFError, OSError, zlib.error) as err:
                raise InvalidInput(
                    f"the file is truncated or corrupt before volume {t} ({err})", file=self.path
                ) from err
        return stream

    def volumes(self, start: int = 0, stop: int | None = None) -> Iterator[Float32]:
        """Yield volumes start..stop-1 in order (X, Y, Z).

        A compressed file is read in one forward pass; None for `stop` continues to the last
        volume.
        """
        for t in range(start, self.shape[3] if stop is None else min(stop, self.shape[3])):
            yield self.volume(t)

    def mean(self, start: int = 0, stop: int | None = None) -> Float:
        """Return the mean over volumes start..stop-1 in double precision (X, Y, Z).

        One volume is in memory at a time; None for `stop` continues to the last volume.
        """
        total = np.zeros(self.shape[:3], order="F")
        count = 0
        for volume in self.volumes(start, stop):
            total, count = total + volume, count + 1
        return total / count

    def extent(self) -> tuple[float, float]:
        """Return the smallest and largest value, extended to include 0.

        A file of differences has this range with a margin in its header; other files are read
        once.
        """
        if not self.plain:
            return float(self.header["cal_min"]), float(self.header["cal_max"])
        lowest = highest = 0.0
        for volume in self.volumes():
            lowest = min(lowest, float(volume.min()))
            highest = max(highest, float(volume.max()))
        return lowest, highest

    def slab(
        self, z0: int, z1: int, *, rows: slice = slice(None), volumes: slice = slice(None)
    ) -> Float32:
        """Return slices z0..z1-1 of an uncompressed series in Fortran order.

        Slices are along the third axis, counted from 0. `rows` is a range along the second axis,
        which is only supported for a single slice, and `volumes` a range of volumes. Returns
        values in these ranges (X, Y, z1 - z0, T); other values are not read. Raises `InvalidInput`
        if the file is compressed, truncated or corrupt, and `IndexError` if the slices do not
        exist, or if rows are given for more than one slice.
        """
        if self.compressed:
            raise InvalidInput("slabs can be read from uncompressed files only", file=self.path)
        if not 0 <= z0 < z1 <= self.shape[2]:
            raise IndexError(f"{self.path}: slices {z0}..{z1} of {self.shape[2]}")
        x, y, _, n_volumes = self.shape
        y0, y1, _ = rows.indices(y)
        if z1 - z0 > 1 and (y0, y1) != (0, y):
            raise IndexError(f"{self.path}: rows {y0}..{y1} of {z1 - z0} slices")
        times = range(*volumes.indices(n_volumes))
        n_skipped = z0 * x * y + y0 * x  # voxels of a volume before the slab
        values_by_volume = np.empty((len(times), (z1 - z0) * (y1 - y0) * x), dtype=np.float32)
        with open(self.path, "rb") as stream:
            first_values = None
            if not self.plain:
                stream.seek(self._offset + n_skipped * self.dtype.itemsize)
                first_values = self._read(stream, values_by_volume.shape[1], "its first volume")
            item_bytes = self.dtype.itemsize if self.plain else _HALF_DTYPE.itemsize
            for values, t in zip(values_by_volume, times, strict=True):
                stream.seek(self._position(t) + n_skipped * item_bytes)
                values[:] = self._read_values(
                    stream, first_values, values_by_volume.shape[1], f"volume {t}"
                )
        return values_by_volume.reshape(len(times), z1 - z0, y1 - y0, x).T

    def _read_values(
        self, stream: IO[bytes], first_values: Array | None, count: int, description: str
    ) -> Float32:
        """Read and scale the next values.

        `first_values` contains the values of the first volume if the file has differences, and
        otherwise is None.
        """
        if first_values is None:
            return self._scale(self._read(stream, count, description), description)
        stored = self._read(stream, count, description, _HALF_DTYPE)
        return self._scale(from_half_precision(stored, first_values, self.step), description)

    def _read(
        self, stream: IO[bytes], count: int, description: str, dtype: np.dtype | None = None
    ) -> Array:
        """Read the next values as stored; `description` names them in errors."""
        raw = np.empty(count, dtype=dtype or self.dtype)
        try:
            size = stream.readinto(raw.view(np.uint8))  # type: ignore[attr-defined]
        except (EOFError, OSError, zlib.error) as err:
            raise InvalidInput(
                f"the file is truncated or corrupt at {description} ({err})", file=self.path
            ) from err
        if size != raw.nbytes:
            raise InvalidInput(f"truncated at {description}", file=self.path)
        return raw

    def time_series(self, voxels: Array) -> Float32:
        """Return the values of a list of voxels in all volumes.

        Only these values are read if the file is not compressed. `voxels` are voxel indices (N,
        3), and time series (N, T).
        """
        n_volumes = self.shape[3]
        series = np.empty((len(voxels), n_volumes), dtype=np.float32)
        if self.compressed:
            for t, volume in enumerate(self.volumes()):
                series[:, t] = volume[tuple(voxels.T)]
            return series
        indices = np.ravel_multi_index(tuple(voxels.T), self.shape[:3], order="F")
        disk_dtype = self.dtype if self.plain else _HALF_DTYPE
        with open(self.path, "rb") as stream:
            first_values = (
                None if self.plain else _read_items(stream, self._offset, indices, self.dtype)
            )
            for t in range(n_volumes):
                stored_values = _read_items(stream, self._position(t), indices, disk_dtype)
                raw_values = (
                    stored_values
                    if first_values is None
                    else from_half_precision(stored_values, first_values, self.step)
                )
                series[:, t] = self._scale(raw_values, f"volume {t}")
        return series

    def _position(self, t: int) -> int:
        """Return the position of volume t in the file (bytes)."""
        if self.plain:
            return self._offset + t * self._n_voxels * self.dtype.itemsize
        return self._offset + self._n_voxels * (self.dtype.itemsize + t * _HALF_DTYPE.itemsize)

    def _scale(self, raw: Array, description: str) -> Float32:
        """Apply slope and intercept; raise InvalidInput for NaN unless it is allowed."""
        if self._slope != 1.0 or self._inter != 0.0:
            raw = raw.astype(np.float64) * self._slope + self._inter
        # a double beyond the float32 range becomes infinite and is rejected below
        with np.errstate(over="ignore"):
            values = raw.astype(np.float32, copy=False)
        if not self._allow_nan and not np.isfinite(values).all():
            raise InvalidInput(f"{description} contains NaN or infinite values", file=self.path)
        return values


def _open_header(path: Path) -> nib.Nifti1Image:
    """Open a single-file NIfTI image without reading its voxels.

    Raises `FileNotFoundError`, or `InvalidInput` if the file is not a readable single-file NIfTI
    image.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: the file was not found")
    try:
        image = _load_image_file(path)
    except (nib.filebasedimages.ImageFileError, EOFError, OSError, zlib.error, ValueError) as err:
        raise InvalidInput(f"the file is not a readable NIfTI image ({err})", file=path) from err
    if not isinstance(image, nib.Nifti1Image):
        raise InvalidInput(
            "only single-file NIfTI images (.nii, .nii.gz) are supported", file=path
        )
    return image


def _load_image_file(path: Path) -> nib.filebasedimages.FileBasedImage:
    """Open an image with nibabel, first without trying other formats than NIfTI-1."""
    try:
        return nib.Nifti1Image.from_filename(path)
    except (
        nib.filebasedimages.ImageFileError,
        nib.spatialimages.HeaderDataError,
        nib.wrapstruct.WrapStructError,
    ):
        return nib.load(path)


def _squeeze_shape(shape: Iterable[int]) -> tuple[int, ...]:
    """Return a shape; if it has more than four axes, without axes of length 1 after the third."""
    sizes = tuple(int(size) for size in shape)
    if len(sizes) > 4 and 1 in sizes[3:]:
        return sizes[:3] + tuple(size for size in sizes[3:] if size > 1)
    return sizes


def _read_repetition_time(header: nib.Nifti1Header) -> float:
    """Return the repetition time in a header (s)."""
    _, time_unit = header.get_xyzt_units()
    return shortest_decimal(header["pixdim"][4]) * _SECONDS_PER_UNIT.get(time_unit, 1.0)


def shortest_decimal(value: np.float32) -> float:
    """Return the shortest decimal number that single precision stores as a value.

    A repetition time of 0.72 s in a sidecar is thus 0.72 s in the header, and not 0.7200000286 s.
    """
    return float(str(np.float32(value)))


def from_half_precision(differences: Array, first: Float32, step: float) -> Float32:
    """Return values (N,) from `to_half_precision` differences and first-volume values (N,)."""
    import torch

    values = np.empty(len(differences), np.float32)
    source, target = torch.from_numpy(differences), torch.from_numpy(values)
    for block in iterate_parts(len(values), _VALUES_PER_BLOCK):
        target[block].copy_(source[block])
        block_values = values[block]
        block_values *= np.float32(step)
        block_values += first[block]
    return values


def _read_items(stream: IO[bytes], start: int, indices: Array, dtype: np.dtype) -> Array:
    """Read single values of an uncompressed file.

    The position of the open file `stream` does not change. `start` is the position of the first
    value of a volume (bytes), `indices` are numbers of the values in the volume (N,), and `dtype`
    is the data type on disk. Returns values (N,).
    """
    positions = (start + indices * dtype.itemsize).tolist()
    content = bytearray().join(
        os.pread(stream.fileno(), dtype.itemsize, position) for position in positions
    )
    return np.frombuffer(content, dtype)


class SeriesWriter:
    """Writer of a 4D NIfTI file by volumes or slabs.

    The file has its final name only after all volumes are written.

    `shape` is (X, Y, Z, T), `affine` the voxel-to-world matrix (4 x 4, RAS+ mm), and `tr` the
    repetition time (s), stored in pixdim[4]. `dtype` is the data type on disk; integers are stored
    as (value - inter) / slope, rounded. qform and sform codes and dim_info are copied from
    `header_like`; None uses code 1. `slope` and `inter` are written to the header (scl_slope,
    scl_inter). `compressed` None decides by the name of the file. `step` is the unit of
    differences from the first volume in half precision (see `difference_unit`); 0 writes an
    ordinary file.

    Raises `InvalidInput` if a volume has a wrong shape, or if the writer is closed before all
    volumes are written. No file is left in this case.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int, int, int],
        affine: Array,
        tr: float,
        *,
        dtype: npt.DTypeLike = "float32",
        header_like: nib.Nifti1Header | None = None,
        slope: float = 1.0,
        inter: float = 0.0,
        compressed: bool | None = None,
        step: float = 0.0,
    ) -> None:
        self.path = path
        if len(shape) != 4:
            raise InvalidInput(
                f"a series must have 4 dimensions, but {len(shape)} were given", file=self.path
            )
        self.shape = tuple(int(n) for n in shape)
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self._slope, self._inter = float(slope), float(inter)
        header = _make_header(
            self.shape, affine, tr, self.dtype, header_like, self._slope, self._inter
        )
        self._step = step
        self._first_volume: Array | None = None
        self._lowest = self._highest = 0.0
        if step:
            header["intent_name"], header["intent_p1"] = _DIFFERENCES_INTENT, step
        self._temporary = atomic_files.temporary_name(self.path)
        self._compressed = self.path.suffix == ".gz" if compressed is None else compressed
        self._file = open(self._temporary, "wb")  # noqa: SIM115 - closed by `close` or `discard`
        self._stream: Any = _PackedStream(self._file) if self._compressed else self._file
        self._stream.write(header.binaryblock + b"\0\0\0\0")
        self._n_written = 0
        self._written_slices: set[int] = set()
        self._is_open = True

    def append(self, volume: Array) -> None:
        """Write the next volume (X, Y, Z), in units after slope and intercept."""
        if volume.shape != self.shape[:3]:
            raise InvalidInput(
                f"the volume shape is {volume.shape}, but {self.shape[:3]} is expected",
                file=self.path,
            )
        if self._n_written >= self.shape[3]:
            raise InvalidInput(
                f"more than {self.shape[3]} volumes were written to the series", file=self.path
            )
        stored = _convert_for_disk(
            np.asarray(volume), self.dtype, self._slope, self._inter, self.path
        )
        if self._step:
            if self._first_volume is None:
                self._first_volume = np.array(stored, order="F")
                self._stream.write(np.ascontiguousarray(stored.T).data)
            self._update_range(stored)
            stored = to_half_precision(stored, self._first_volume, self._step, self.path)
        self._stream.write(np.ascontiguousarray(stored.T).data)
        self._n_written += 1

    def put_slab(self, z0: int, slab: Array) -> None:
        """Write consecutive slices of all volumes.

        The file must not be compressed, and slabs cannot be combined with `append`. `z0` is the
        first slice along the third axis, counted from 0, and `slab` has shape (X, Y, z, T).
        """
        x, y, z, n_volumes = self.shape
        if (
            self._compressed
            or self._n_written
            or slab.shape != (x, y, slab.shape[2], n_volumes)
            or z0 + slab.shape[2] > z
        ):
            raise InvalidInput(
                f"a slab of shape {slab.shape} cannot be written at slice {z0}", file=self.path
            )
        stored = _convert_for_disk(
            np.asarray(slab), self.dtype, self._slope, self._inter, self.path
        )
        data_start, item_bytes = _DATA_OFFSET, self.dtype.itemsize
        slice_voxels = x * y
        if self._step:
            # the first volume precedes the differences of all volumes
            self._stream.seek(data_start + z0 * slice_voxels * item_bytes)
            self._stream.write(stored[..., 0].tobytes(order="F"))
            data_start = data_start + z * slice_voxels * item_bytes
            item_bytes = _HALF_DTYPE.itemsize
            self._update_range(stored)
        for t in range(n_volumes):
            values = stored[..., t]
            if self._step:
                values = to_half_precision(values, stored[..., 0], self._step, self.path)
            self._stream.seek(data_start + (t * z + z0) * slice_voxels * item_bytes)
            self._stream.write(values.tobytes(order="F"))
        self._written_slices.update(range(z0, z0 + slab.shape[2]))

    def _update_range(self, stored: Array) -> None:
        """Extend the range of the series to include values."""
        self._lowest = min(self._lowest, float(stored.min()))
        self._highest = max(self._highest, float(stored.max()))

    def close(self) -> None:
        """Rename the file to its final name, or raise InvalidInput if volumes are missing."""
        if not self._is_open:
            return
        if self._n_written != self.shape[3] and len(self._written_slices) != self.shape[2]:
            self.discard()
            raise InvalidInput(
                f"the series was closed after {self._n_written} of {self.shape[3]} volumes",
                file=self.path,
            )
        try:
            if self._step:
                # range of the values as read; the error of half precision is less than the margin
                margin = (self._highest - self._lowest) * 2**-10
                self._stream.seek(_CAL_MAX_OFFSET)
                self._stream.write(
                    struct.pack("<2f", self._highest + margin, self._lowest - margin)
                )
            self._stream.close()
            self._file.close()
            atomic_files.put_in_place(self._temporary, self.path, durable=False)
            self._is_open = False
        finally:
            self.discard()

    def discard(self) -> None:
        """Close and delete the temporary file.

        Errors in writing the remaining bytes are ignored.
        """
        if not self._is_open:
            return
        self._is_open = False
        for stream in (self._stream, self._file):
            with contextlib.suppress(OSError):
                stream.close()
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


class _PackedStream(io.RawIOBase):
    """Stream that compresses into a buffered file; closing the stream does not close the file."""

    def __init__(self, target: IO[bytes]) -> None:
        super().__init__()
        self._target = target
        self._compressor = _make_compressor()

    def writable(self) -> bool:
        """Return True, as the stream can only be written."""
        return True

    def write(self, data: "ReadableBuffer", /) -> int:
        """Compress bytes and return their number."""
        view = memoryview(data)
        self._target.write(self._compressor.compress(view))
        return view.nbytes

    def close(self) -> None:
        """Write the remaining bytes; closing again has no effect."""
        if not self.closed:
            try:
                self._target.write(self._compressor.flush())
            finally:
                super().close()


def to_half_precision(values: Array, first: Array, step: float, path: Path) -> Array:
    """Return differences of values from `first` in units of `step`, in half precision.

    `first` has the values of the first volume; both arrays are in single precision and have one
    shape. `step` is the unit of the differences, see `difference_unit`, and `path` the file for
    the error message. Differences have the same shape, in Fortran order. Raises `InvalidInput` if
    a difference exceeds the range of half precision.
    """
    import torch  # torch converts faster than numpy

    shape = values.shape
    values, first = values.ravel(order="F"), first.ravel(order="F")
    differences = np.empty(len(values), _HALF_DTYPE)
    target = torch.from_numpy(differences)
    for block in iterate_parts(len(values), _VALUES_PER_BLOCK):
        change = values[block] - first[block]
        change *= np.float32(1 / step)
        # NaN fails both comparisons
        if not (change.max() < _HALF_INFINITY and change.min() > -_HALF_INFINITY):
            raise InvalidInput(
                "changes of the voxel values exceed the range of half precision", file=path
            )
        target[block].copy_(torch.from_numpy(change))
    return differences.reshape(shape, order="F")


def difference_unit(shape: tuple[int, ...], volume: Array) -> float:
    """Return the unit of differences for a large series, or 0 for a small series.

    The unit is a power of two, so that only half precision rounds. It is chosen from a `volume` of
    the series, so that signal changes do not exceed the range of half precision.
    """
    largest = float(np.abs(volume).max())
    if 4 * math.prod(shape) <= LARGE_SERIES_BYTES or not largest:
        return 0.0
    return 2.0 ** (math.ceil(math.log2(largest)) - 11)


def save_image(
    data: Array,
    affine: Array,
    path: Path,
    *,
    dtype: npt.DTypeLike | None = None,
    header_like: nib.Nifti1Header | None = None,
    tr: float | None = None,
    compressed: bool | None = None,
) -> None:
    """Write an image atomically.

    `data` has shape (X, Y, Z) or (X, Y, Z, T), and `affine` is the voxel-to-world matrix (4 x 4,
    RAS+ mm). `dtype` is the data type on disk, without scaling; None uses float32 for floats,
    uint8 for booleans, int32 for 64-bit integers, and otherwise the type of the data. qform and
    sform codes and dim_info are copied from `header_like`; None uses code 1. In 4D, `tr` is the
    repetition time (s); None copies it from `header_like`. `compressed` None decides by the name
    of the file.
    """
    data = np.asarray(data)
    is_compressed = path.suffix == ".gz" if compressed is None else compressed
    if data.ndim not in (3, 4):
        raise InvalidInput(
            f"an image must have 3 or 4 dimensions, but {data.ndim} were given", file=path
        )
    if dtype is None:
        dtype = {"f": np.float32, "b": np.uint8}.get(data.dtype.kind, data.dtype)
        dtype = np.int32 if np.dtype(dtype) == np.int64 else dtype
    disk_dtype = np.dtype(dtype).newbyteorder("<")
    if tr is None:
        tr = float(header_like["pixdim"][4]) if header_like is not None and data.ndim == 4 else 0.0
    header = _make_header(data.shape, affine, tr, disk_dtype, header_like, 1.0, 0.0)
    values = _convert_for_disk(data, disk_dtype, 1.0, 0.0, path)
    content = np.empty(_DATA_OFFSET + values.nbytes, np.uint8)
    content[:_DATA_OFFSET] = np.frombuffer(header.binaryblock + b"\0\0\0\0", np.uint8)
    content[_DATA_OFFSET:].view(disk_dtype).reshape(data.shape, order="F")[...] = values
    with atomic_files.atomic_file(path, durable=False) as temporary:
        if is_compressed:
            compressor = _make_compressor()
            temporary.write_bytes(compressor.compress(content.data) + compressor.flush())
        else:
            _write_sparse(temporary, content)


def _make_header(
    shape: tuple[int, ...],
    affine: Array,
    tr: float,
    dtype: npt.DTypeLike,
    like: nib.Nifti1Header | None,
    slope: float,
    inter: float,
) -> nib.Nifti1Header:
    """Return a little-endian NIfTI-1 header in mm and s.

    The qform and sform codes are copied from `like` (1 if it is None or has no codes).
    """
    header = nib.Nifti1Header(endianness="<")
    header.set_data_dtype(np.dtype(dtype).newbyteorder("<"))
    header.set_data_shape(shape)
    header.set_xyzt_units("mm", "sec" if len(shape) == 4 else "unknown")
    qcode, scode = (
        (int(like["qform_code"]), int(like["sform_code"])) if like is not None else (1, 1)
    )
    if qcode == scode == 0:
        qcode = scode = 1
    header.set_qform(affine, code=qcode, strip_shears=True)
    header.set_sform(affine, code=scode)
    header["pixdim"][1:4] = nib.affines.voxel_sizes(affine)
    if len(shape) == 4:
        header["pixdim"][4] = tr
    if like is not None:
        header["dim_info"] = like["dim_info"]
    header["vox_offset"], header["magic"] = _DATA_OFFSET, b"n+1"
    header["scl_slope"], header["scl_inter"] = slope, inter
    return header


def _convert_for_disk(
    values: Array, dtype: np.dtype, slope: float, inter: float, path: Path
) -> Array:
    """Convert values to the data type on disk; integers are rounded.

    Raises `InvalidInput` if values are outside the range of the integer type.
    """
    if dtype.kind == "f":
        return values.astype(dtype, copy=False)
    stored = np.rint((values.astype(np.float64) - inter) / slope)
    limits = np.iinfo(dtype)
    if stored.size and not (stored.min() >= limits.min and stored.max() <= limits.max):
        raise InvalidInput(
            f"some values are outside the range of the data type {dtype}", file=path
        )
    return stored.astype(dtype)


def _make_compressor() -> Any:
    """Return an ISA-L gzip stream, which is faster than zlib, for files of similar size."""
    # training on a computer that only reads images does not require this package
    from isal import isal_zlib

    return isal_zlib.compressobj(1, isal_zlib.DEFLATED, _GZIP_WBITS)


def _write_sparse(path: Path, content: npt.NDArray[np.uint8]) -> None:
    """Write a file without its pages of zeros, which are frequent in maps of the brain."""
    n_pages = len(content) // _PAGE_BYTES
    words = content[: n_pages * _PAGE_BYTES].view(np.uint64).reshape(n_pages, _PAGE_BYTES // 8)
    is_nonzero = np.bitwise_or.reduce(words, axis=1) != 0
    # the incomplete last page is always written
    edges = np.flatnonzero(np.diff([False, *is_nonzero, True, False])) * _PAGE_BYTES
    with open(path, "wb", buffering=0) as stream:
        for start, stop in edges.reshape(-1, 2):
            stream.seek(start)
            stream.write(content[start:stop].data)
        stream.truncate(len(content))


def load_image(path: Path) -> tuple[Float32, Float]:
    """Load the values and the affine of an image.

    The number of axes is as in the file, and errors are the same as for `SeriesReader`. Returns
    scaled values, and the voxel-to-world matrix (4 x 4, RAS+ mm).
    """
    with SeriesReader(path) as reader:
        if reader.ndim == 3:
            return reader.volume(0), reader.affine
        return np.stack(list(reader.volumes()), axis=-1), reader.affine
