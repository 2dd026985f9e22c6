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
import errno
import gzip
import io
import math
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import nibabel as nib
import numpy as np
import numpy.typing as npt

from bids_sr.io import atomic_files
from bids_sr.io.arrays import Array, Float, Float32, iterate_parts
from bids_sr.io.grids import LARGE

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_GZIP = 16 + zlib.MAX_WBITS  # zlib's gzip header, which contains neither time nor name
_HALF = np.dtype("<f2")
_INFINITE_HALF = 65520.0  # smallest magnitude that half precision rounds to infinity
# Values converted at a time, which fit into the cache. Torch distributes more than 32,767 values
# to its threads, which takes longer than the conversion.
_STRIP = 32_000
# intent name of files with differences, which other programs would misread
_DIFFERENCES = b"differences"
_AT_EXTENT = 124  # byte offset of cal_max in the header, followed by cal_min
_PAGE = 4096  # bytes of a file system page
_DATA_OFFSET = 352  # bytes of the header and the four zeros after it
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}


class ImageError(ValueError):
    """Error for an unusable image file; the message begins with the name of the file."""


def _open_header(path: Path) -> nib.Nifti1Image:
    """Open a single-file NIfTI image without reading its voxels.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    ImageError
        The file is not a readable single-file NIfTI image.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: the file was not found")
    try:
        image = nib.load(path)
    except (nib.filebasedimages.ImageFileError, EOFError, OSError, zlib.error, ValueError) as err:
        raise ImageError(f"{path}: the file is not a readable NIfTI image ({err})") from err
    if not isinstance(image, nib.Nifti1Image):
        raise ImageError(f"{path}: only single-file NIfTI images (.nii, .nii.gz) are supported")
    return image


def shortest_decimal(value: np.float32) -> float:
    """Return the shortest decimal number that single precision stores as a value.

    A repetition time of 0.72 s in a sidecar is thus 0.72 s in the header, and not 0.7200000286 s.
    """
    return float(str(np.float32(value)))


class SeriesReader:
    """Reader of a NIfTI image by volumes or slabs.

    Parameters
    ----------
    path : Path
        Image (3D or 4D).
    allow_nan : bool, optional
        Whether to accept NaN and infinite values instead of raising an error.

    Raises
    ------
    ImageError
        The file is truncated, is not a readable NIfTI image, or does not contain real numbers in
        3D or 4D.
    """

    def __init__(self, path: Path, *, allow_nan: bool = False) -> None:
        self.path = path
        image = _open_header(self.path)
        shape = tuple(int(n) for n in image.shape)
        while len(shape) > 4 and 1 in shape[3:]:
            shape = shape[:3] + tuple(n for n in shape[3:] if n > 1)
        if len(shape) not in (3, 4) or min(shape) < 1:
            raise ImageError(
                f"{self.path}: the image shape is {image.shape}, but a 3D or 4D image is expected"
            )
        self.ndim = len(shape)
        self.shape: tuple[int, int, int, int] = (*shape[:3], shape[3] if len(shape) == 4 else 1)  # type: ignore[assignment]
        self.header = image.header
        self.affine: Float = np.asarray(image.affine, dtype=np.float64)
        self.zooms: tuple[float, float, float] = tuple(
            float(z) for z in nib.affines.voxel_sizes(self.affine)
        )  # type: ignore[assignment]
        unit = self.header.get_xyzt_units()[1]
        self.tr = (
            shortest_decimal(self.header["pixdim"][4]) * _SECONDS.get(unit, 1.0)
            if self.ndim == 4
            else 0.0
        )
        self.compressed = self.path.suffix == ".gz"
        stored: Any = image.dataobj
        self.dtype = np.dtype(stored.dtype)
        if self.dtype.kind not in "iuf":
            raise ImageError(
                f"{self.path}: the data type is {self.dtype}, but real numbers are expected"
            )
        self._slope, self._inter = float(stored.slope), float(stored.inter)
        # nibabel removes the scaling from the header of a loaded image
        self.scaled = (self._slope, self._inter) != (1.0, 0.0)
        self._offset = int(stored.offset)
        self.plain = self.header["intent_name"].item() != _DIFFERENCES
        self.step = 0.0 if self.plain else float(self.header["intent_p1"])
        self._first: Array | None = None
        self._allow_nan = allow_nan
        self._voxels = int(np.prod(self.shape[:3]))
        self._stream: IO[bytes] | None = None
        self._next = 0
        self._has_holes = False
        if not self.compressed:
            required, state = self._place(self.shape[3]), self.path.stat()
            if state.st_size < required:
                raise ImageError(
                    f"{self.path}: the file is truncated ({state.st_size} of {required} bytes)"
                )
            self._has_holes = self.plain and 512 * state.st_blocks < state.st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        if self._stream is not None:
            self._stream.close()
        self._stream = None

    def _place(self, t: int) -> int:
        """Return the position of volume t in the file (bytes)."""
        if self.plain:
            return self._offset + t * self._voxels * self.dtype.itemsize
        return self._offset + self._voxels * (self.dtype.itemsize + t * _HALF.itemsize)

    def _seek(self, t: int) -> IO[bytes]:
        """Return a stream positioned at volume t.

        A compressed file is read forward if possible, otherwise from its start.
        """
        stream = self._stream
        if stream is None or (self.compressed and t < self._next):
            self.close()
            opener: Any = gzip.open if self.compressed else open
            stream = self._stream = opener(self.path, "rb")
            self._next = -1
        if self._next != t:
            try:
                stream.seek(self._place(t))
            except (EOFError, OSError, zlib.error) as err:
                raise ImageError(
                    f"{self.path}: the file is truncated or corrupt before volume {t} ({err})"
                ) from err
        return stream

    def _read(
        self, stream: IO[bytes], count: int, item: str, dtype: np.dtype | None = None
    ) -> Array:
        raw = np.empty(count, dtype=dtype or self.dtype)
        try:
            size = stream.readinto(raw.view(np.uint8))  # type: ignore[attr-defined]
        except (EOFError, OSError, zlib.error) as err:
            raise ImageError(
                f"{self.path}: the file is truncated or corrupt at {item} ({err})"
            ) from err
        if size != raw.nbytes:
            raise ImageError(f"{self.path}: truncated at {item}")
        return raw

    def _read_around_holes(self, t: int) -> Array:
        """Return the stored values of volume t without reading holes of the file.

        In a map of the brain, most zeros are in holes (`_write_sparse`).
        """
        raw = np.zeros(self._voxels, dtype=self.dtype)
        content = raw.view(np.uint8).data
        begin, end = self._place(t), self._place(t + 1)
        with open(self.path, "rb", buffering=0) as stream:
            position = begin
            while position < end:
                try:
                    start = stream.seek(position, os.SEEK_DATA)
                except OSError as error:
                    if error.errno != errno.ENXIO:
                        raise
                    break  # the remaining file is a hole
                position = min(stream.seek(start, os.SEEK_HOLE), end)
                stream.seek(start)
                part = content[start - begin : max(position, start) - begin]
                if stream.readinto(part) != part.nbytes:
                    raise ImageError(f"{self.path}: the file is truncated at volume {t}")
        return raw

    def _scale(self, raw: Array, item: str) -> Float32:
        if self._slope != 1.0 or self._inter != 0.0:
            raw = raw.astype(np.float64) * self._slope + self._inter
        # a double beyond the float32 range becomes infinite and is rejected below
        with np.errstate(over="ignore"):
            out = raw.astype(np.float32, copy=False)
        if not self._allow_nan and not np.isfinite(out).all():
            raise ImageError(f"{self.path}: {item} contains NaN or infinite values")
        return out

    def volume(self, t: int) -> Float32:
        """Return volume t as a scaled float32 array (X, Y, Z), in Fortran order as in the file.

        A negative t counts from the end.

        Raises
        ------
        ImageError
            The file is truncated or corrupt, or the volume contains NaN or infinite values that
            are not allowed.
        IndexError
            The volume does not exist.
        """
        t = t + self.shape[3] if t < 0 else t
        if not 0 <= t < self.shape[3]:
            raise IndexError(f"{self.path}: volume {t} of {self.shape[3]}")
        if self._has_holes:
            values = self._scale(self._read_around_holes(t), f"volume {t}")
            return values.reshape(self.shape[:3], order="F")
        if not self.plain and self._first is None:
            with open(self.path, "rb") as start:
                start.seek(self._offset)
                self._first = self._read(start, self._voxels, "its first volume")
        stream = self._seek(t)
        self._next = -1
        values = self._values(stream, self._first, self._voxels, f"volume {t}")
        self._next = t + 1
        return values.reshape(self.shape[:3], order="F")

    def _values(self, stream: IO[bytes], first: Array | None, count: int, item: str) -> Float32:
        """Read and scale the next values.

        `first` contains the values of the first volume if the file has differences, and otherwise
        is None.
        """
        if first is None:
            return self._scale(self._read(stream, count, item), item)
        stored = self._read(stream, count, item, _HALF)
        return self._scale(from_half_precision(stored, first, self.step), item)

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

        Parameters
        ----------
        z0 : int
            First slice along the third axis, counted from 0.
        z1 : int
            End of the slices (exclusive).
        rows : slice, optional
            Range along the second axis, only supported for a single slice.
        volumes : slice, optional
            Range of volumes.

        Returns
        -------
        Float32
            Values in these ranges (X, Y, z1 - z0, T); other values are not read.

        Raises
        ------
        ImageError
            The file is compressed, truncated or corrupt.
        IndexError
            The slices do not exist, or rows are given for more than one slice.
        """
        if self.compressed:
            raise ImageError(f"{self.path}: slabs can be read from uncompressed files only")
        if not 0 <= z0 < z1 <= self.shape[2]:
            raise IndexError(f"{self.path}: slices {z0}..{z1} of {self.shape[2]}")
        x, y, _, n = self.shape
        y0, y1, _ = rows.indices(y)
        if z1 - z0 > 1 and (y0, y1) != (0, y):
            raise IndexError(f"{self.path}: rows {y0}..{y1} of {z1 - z0} slices")
        times = range(*volumes.indices(n))
        offset = z0 * x * y + y0 * x  # voxels of a volume before the slab
        out = np.empty((len(times), (z1 - z0) * (y1 - y0) * x), dtype=np.float32)
        with open(self.path, "rb") as stream:
            first = None
            if not self.plain:
                stream.seek(self._offset + offset * self.dtype.itemsize)
                first = self._read(stream, out.shape[1], "its first volume")
            item = self.dtype.itemsize if self.plain else _HALF.itemsize
            for values, t in zip(out, times, strict=True):
                stream.seek(self._place(t) + offset * item)
                values[:] = self._values(stream, first, out.shape[1], f"volume {t}")
        return out.reshape(len(times), z1 - z0, y1 - y0, x).T

    def time_series(self, voxels: Array) -> Float32:
        """Return the values of a list of voxels in all volumes.

        Only these values are read if the file is not compressed.

        Parameters
        ----------
        voxels : Array
            Voxel indices (N, 3).

        Returns
        -------
        Float32
            Time series (N, T).
        """
        n = self.shape[3]
        out = np.empty((len(voxels), n), dtype=np.float32)
        if self.compressed:
            for t, volume in enumerate(self.volumes()):
                out[:, t] = volume[tuple(voxels.T)]
            return out
        indices = np.ravel_multi_index(tuple(voxels.T), self.shape[:3], order="F")
        with open(self.path, "rb") as stream:

            def read(begin: int, dtype: np.dtype) -> Array:
                positions = (begin + indices * dtype.itemsize).tolist()
                values = bytearray().join(
                    os.pread(stream.fileno(), dtype.itemsize, position) for position in positions
                )
                return np.frombuffer(values, dtype)

            first = None if self.plain else read(self._offset, self.dtype)
            for t in range(n):
                stored = read(self._place(t), self.dtype if self.plain else _HALF)
                values = stored if first is None else from_half_precision(stored, first, self.step)
                out[:, t] = self._scale(values, f"volume {t}")
        return out


def _header(
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


def _to_dtype(values: Array, dtype: np.dtype, slope: float, inter: float, path: Path) -> Array:
    """Convert values to the data type on disk; integers are rounded.

    Raises
    ------
    ImageError
        Values are outside the range of the integer type.
    """
    if dtype.kind == "f":
        return values.astype(dtype, copy=False)
    stored = np.rint((values.astype(np.float64) - inter) / slope)
    limits = np.iinfo(dtype)
    if stored.size and not (stored.min() >= limits.min and stored.max() <= limits.max):
        raise ImageError(f"{path}: some values are outside the range of the data type {dtype}")
    return stored.astype(dtype)


def _packer() -> Any:
    """Return an ISA-L gzip stream.

    It is three times as fast as the fastest level of zlib, and files are not larger.
    """
    # training on a computer that only reads images does not require this package
    from isal import isal_zlib

    return isal_zlib.compressobj(1, isal_zlib.DEFLATED, _GZIP)


class _PackedStream(io.RawIOBase):
    """Stream that compresses into a buffered file; closing the stream does not close the file."""

    def __init__(self, below: IO[bytes]) -> None:
        super().__init__()
        self._below = below
        self._packer = _packer()

    def writable(self) -> bool:
        """Return True, as the stream can only be written."""
        return True

    def write(self, data: "ReadableBuffer", /) -> int:
        """Compress bytes and return their number."""
        view = memoryview(data)
        self._below.write(self._packer.compress(view))
        return view.nbytes

    def close(self) -> None:
        """Write the remaining bytes; closing again has no effect."""
        if not self.closed:
            try:
                self._below.write(self._packer.flush())
            finally:
                super().close()


class SeriesWriter:
    """Writer of a 4D NIfTI file by volumes or slabs.

    The file has its final name only after all volumes are written.

    Parameters
    ----------
    path : Path
        File to write.
    shape4d : tuple[int, int, int, int]
        Shape of the series (X, Y, Z, T).
    affine : Array
        Voxel-to-world matrix (4 x 4, RAS+ mm).
    tr : float
        Repetition time (s), stored in pixdim[4].
    dtype : npt.DTypeLike, optional
        Data type on disk; integers are stored as (value - inter) / slope, rounded.
    header_like : nib.Nifti1Header | None, optional
        Header whose qform and sform codes are copied; None uses code 1.
    slope, inter : float, optional
        Slope and intercept in the header (scl_slope, scl_inter).
    compressed : bool | None, optional
        Whether to compress; None decides by the name of the file.
    step : float, optional
        Unit of differences from the first volume in half precision (see `difference_unit`); 0
        writes an ordinary file.

    Raises
    ------
    ImageError
        A volume has a wrong shape, or the writer is closed before all volumes are written. No file
        is left in this case.
    """

    def __init__(
        self,
        path: Path,
        shape4d: tuple[int, int, int, int],
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
        if len(shape4d) != 4:
            raise ImageError(
                f"{self.path}: a series must have 4 dimensions, but {len(shape4d)} were given"
            )
        self.shape = tuple(int(n) for n in shape4d)
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self._slope, self._inter = float(slope), float(inter)
        header = _header(self.shape, affine, tr, self.dtype, header_like, self._slope, self._inter)
        self._step = step
        self._first: Array | None = None
        self._lowest = self._highest = 0.0
        if step:
            header["intent_name"], header["intent_p1"] = _DIFFERENCES, step
        self._temporary = atomic_files.temporary_name(self.path)
        self._compressed = self.path.suffix == ".gz" if compressed is None else compressed
        self._raw = open(self._temporary, "wb")  # noqa: SIM115 - closed by `close` or `discard`
        self._stream: Any = _PackedStream(self._raw) if self._compressed else self._raw
        self._stream.write(header.binaryblock + b"\0\0\0\0")
        self._written = 0
        self._slices: set[int] = set()
        self._open = True

    def append(self, volume: Array) -> None:
        """Write the next volume (X, Y, Z), in units after slope and intercept."""
        if volume.shape != self.shape[:3]:
            raise ImageError(
                f"{self.path}: the volume shape is {volume.shape}, but {self.shape[:3]} is"
                " expected"
            )
        if self._written >= self.shape[3]:
            raise ImageError(
                f"{self.path}: more than {self.shape[3]} volumes were written to the series"
            )
        stored = _to_dtype(np.asarray(volume), self.dtype, self._slope, self._inter, self.path)
        if self._step:
            if self._first is None:
                self._first = np.array(stored, order="F")
                self._stream.write(np.ascontiguousarray(stored.T).data)
            self._update_range(stored)
            stored = to_half_precision(stored, self._first, self._step, self.path)
        self._stream.write(np.ascontiguousarray(stored.T).data)
        self._written += 1

    def put_slab(self, z0: int, slab: Array) -> None:
        """Write consecutive slices of all volumes.

        The file must not be compressed, and slabs cannot be combined with `append`.

        Parameters
        ----------
        z0 : int
            First slice along the third axis, counted from 0.
        slab : Array
            Values of consecutive slices (X, Y, z, T).
        """
        x, y, z, n = self.shape
        if (
            self._compressed
            or self._written
            or slab.shape != (x, y, slab.shape[2], n)
            or z0 + slab.shape[2] > z
        ):
            raise ImageError(
                f"{self.path}: a slab of shape {slab.shape} cannot be written at slice {z0}"
            )
        stored = _to_dtype(np.asarray(slab), self.dtype, self._slope, self._inter, self.path)
        start, item = _DATA_OFFSET, self.dtype.itemsize
        if self._step:
            self._stream.seek(start + z0 * x * y * item)
            self._stream.write(stored[..., 0].tobytes(order="F"))
            start = start + z * x * y * item
            item = _HALF.itemsize
            self._update_range(stored)
        for t in range(n):
            values = stored[..., t]
            if self._step:
                values = to_half_precision(values, stored[..., 0], self._step, self.path)
            self._stream.seek(start + (t * z + z0) * x * y * item)
            self._stream.write(values.tobytes(order="F"))
        self._slices.update(range(z0, z0 + slab.shape[2]))

    def _update_range(self, stored: Array) -> None:
        self._lowest = min(self._lowest, float(stored.min()))
        self._highest = max(self._highest, float(stored.max()))

    def close(self) -> None:
        """Rename the file to its final name, or raise ImageError if volumes are missing."""
        if not self._open:
            return
        if self._written != self.shape[3] and len(self._slices) != self.shape[2]:
            self.discard()
            raise ImageError(
                f"{self.path}: the series was closed after {self._written} of {self.shape[3]}"
                " volumes"
            )
        try:
            if self._step:
                # range of the values as read; the error of half precision is less than the margin
                margin = (self._highest - self._lowest) * 2**-10
                self._stream.seek(_AT_EXTENT)
                self._stream.write(
                    struct.pack("<2f", self._highest + margin, self._lowest - margin)
                )
            self._stream.close()
            self._raw.close()
            atomic_files.put_in_place(self._temporary, self.path, durable=False)
            self._open = False
        finally:
            self.discard()

    def discard(self) -> None:
        """Close and delete the temporary file.

        Errors in writing the remaining bytes are ignored.
        """
        if self._open:
            self._open = False
            for stream in (self._stream, self._raw):
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


def to_half_precision(values: Array, first: Array, step: float, path: Path) -> Array:
    """Return differences of values from `first` in units of `step`, in half precision.

    Parameters
    ----------
    values, first : Array
        Values and values of the first volume, in single precision and of one shape.
    step : float
        Unit of the differences, see `difference_unit`.
    path : Path
        File for the error message.

    Returns
    -------
    Array
        Differences of the same shape, in Fortran order.

    Raises
    ------
    ImageError
        A difference exceeds the range of half precision.
    """
    import torch  # torch converts faster than numpy

    shape = values.shape
    values, first = values.ravel(order="F"), first.ravel(order="F")
    stored = np.empty(len(values), _HALF)
    target = torch.from_numpy(stored)
    for part in iterate_parts(len(values), _STRIP):
        change = values[part] - first[part]
        change *= np.float32(1 / step)
        # NaN fails both comparisons
        if not (change.max() < _INFINITE_HALF and change.min() > -_INFINITE_HALF):
            raise ImageError(
                f"{path}: changes of the voxel values exceed the range of half precision"
            )
        target[part].copy_(torch.from_numpy(change))
    return stored.reshape(shape, order="F")


def from_half_precision(stored: Array, first: Float32, step: float) -> Float32:
    """Return values (N,) from `to_half_precision` differences and first-volume values (N,)."""
    import torch

    values = np.empty(len(stored), np.float32)
    source, target = torch.from_numpy(stored), torch.from_numpy(values)
    for part in iterate_parts(len(values), _STRIP):
        target[part].copy_(source[part])
        strip = values[part]
        strip *= np.float32(step)
        strip += first[part]
    return values


def difference_unit(shape: tuple[int, ...], volume: Array) -> float:
    """Return the unit of differences for a large series, or 0 for a small series.

    The unit is a power of two, so that only half precision rounds. It is chosen from a `volume` of
    the series, so that signal changes do not exceed the range of half precision.
    """
    largest = float(np.abs(volume).max())
    if 4 * math.prod(shape) <= LARGE or not largest:
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

    Parameters
    ----------
    data : Array
        Values (X, Y, Z) or (X, Y, Z, T).
    affine : Array
        Voxel-to-world matrix (4 x 4, RAS+ mm).
    path : Path
        File to write.
    dtype : npt.DTypeLike | None, optional
        Data type on disk, without scaling; None uses float32 for floats, uint8 for booleans, int32
        for 64-bit integers, and otherwise the type of the data.
    header_like : nib.Nifti1Header | None, optional
        Header whose qform and sform codes are copied, and in 4D the repetition time; None uses
        code 1.
    tr : float | None, optional
        Repetition time (s); None copies it from `header_like`.
    compressed : bool | None, optional
        Whether to compress; None decides by the name of the file.
    """
    data = np.asarray(data)
    packed = path.suffix == ".gz" if compressed is None else compressed
    if data.ndim not in (3, 4):
        raise ImageError(
            f"{path}: an image must have 3 or 4 dimensions, but {data.ndim} were given"
        )
    if dtype is None:
        dtype = {"f": np.float32, "b": np.uint8}.get(data.dtype.kind, data.dtype)
        dtype = np.int32 if np.dtype(dtype) == np.int64 else dtype
    kind = np.dtype(dtype).newbyteorder("<")
    if tr is None:
        tr = float(header_like["pixdim"][4]) if header_like is not None and data.ndim == 4 else 0.0
    header = _header(data.shape, affine, tr, kind, header_like, 1.0, 0.0)
    values = _to_dtype(data, kind, 1.0, 0.0, path)
    content = np.empty(_DATA_OFFSET + values.nbytes, np.uint8)
    content[:_DATA_OFFSET] = np.frombuffer(header.binaryblock + b"\0\0\0\0", np.uint8)
    content[_DATA_OFFSET:].view(kind).reshape(data.shape, order="F")[...] = values
    with atomic_files.atomic_file(path, durable=False) as part:
        if packed:
            packer = _packer()
            part.write_bytes(packer.compress(content.data) + packer.flush())
        else:
            _write_sparse(part, content)


def _write_sparse(path: Path, content: npt.NDArray[np.uint8]) -> None:
    """Write a file without its pages of zeros, which are frequent in maps of the brain."""
    n_pages = len(content) // _PAGE
    words = content[: n_pages * _PAGE].view(np.uint64).reshape(n_pages, _PAGE // 8)
    nonzero = np.bitwise_or.reduce(words, axis=1) != 0
    # the incomplete last page is always written
    edges = np.flatnonzero(np.diff([False, *nonzero, True, False])) * _PAGE
    with open(path, "wb", buffering=0) as stream:
        for start, stop in edges.reshape(-1, 2):
            stream.seek(start)
            stream.write(content[start:stop].data)
        stream.truncate(len(content))


def load_image(path: Path) -> tuple[Float32, Float]:
    """Load the values and the affine of an image.

    The number of axes is as in the file, and errors are the same as for `SeriesReader`.

    Returns
    -------
    tuple[Float32, Float]
        Scaled values, and the voxel-to-world matrix (4 x 4, RAS+ mm).
    """
    with SeriesReader(path) as reader:
        if reader.ndim == 3:
            return reader.volume(0), reader.affine
        return np.stack(list(reader.volumes()), axis=-1), reader.affine
