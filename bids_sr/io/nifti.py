"""NIfTI series, read and written volume by volume to limit memory.

Files are read explicitly, without memory mapping, because mapped pages count as memory of the
process. A reader holds one volume. A writer uses a temporary file, which is renamed when all
volumes are written. Compressed files contain neither time nor name in their gzip header, so that
equal data give equal bytes.

Integers are stored with one slope and one intercept per file (`Storage`). An uncompressed series
of integers is rewritten in single precision if a value does not fit.
"""

import contextlib
import gzip
import math
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

import nibabel as nib
import numpy as np
import numpy.typing as npt

from bids_sr.io import atomic_files
from bids_sr.io.arrays import Array, Float, Float32, iterate_parts
from bids_sr.io.image_header import describe_excess
from bids_sr.io.notices import InvalidInput

_VALUES_PER_BLOCK = 32_000  # values converted at a time, which fit into the cache
_PAGE_BYTES = 4096  # bytes of a file system page
_DATA_OFFSET = 352  # bytes of the header and the four zeros after it
_SECONDS_PER_UNIT = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}


class OutOfRangeError(InvalidInput):
    """Error for values that an integer type cannot store."""


class Storage(NamedTuple):
    """Data type on disk, with slope and intercept of the stored values."""

    dtype: np.dtype = np.dtype("<f4")
    slope: float = 1.0
    inter: float = 0.0

    @property
    def is_scaled(self) -> bool:
        """Whether values differ from the stored numbers."""
        return (self.slope, self.inter) != (1.0, 0.0)

    def encode(self, values: Array, path: Path) -> Array:
        """Return values as stored in a file, with the same shape; integers are rounded.

        Raises `OutOfRangeError` if the data type cannot store them.
        """
        if self.dtype.kind == "f":
            return values.astype(self.dtype, copy=False)
        limits = np.iinfo(self.dtype)
        flat_values, stored = values.ravel(order="F"), np.empty(values.size, self.dtype)
        for block in iterate_parts(values.size, _VALUES_PER_BLOCK):
            steps = flat_values[block].astype(np.float64)
            steps -= self.inter
            steps /= self.slope
            np.rint(steps, out=steps)
            # NaN fails both comparisons
            if not (steps.min() >= limits.min and steps.max() <= limits.max):
                raise OutOfRangeError(
                    f"some values are outside the range of the data type {self.dtype}", file=path
                )
            stored[block] = steps
        return stored.reshape(values.shape, order="F")

    def decode(self, stored: Array) -> Float32:
        """Return the values of stored numbers; values above the float32 range are infinite."""
        if self.is_scaled:
            # a 16-bit integer times a slope of eight bits is exact in single precision
            is_exact = stored.dtype.itemsize <= 2 and math.frexp(self.slope)[0] * 256 % 1 == 0
            stored = stored.astype(np.float32 if is_exact else np.float64)
            stored *= self.slope
            stored += self.inter
        with np.errstate(over="ignore"):
            return stored.astype(np.float32, copy=False)


_SINGLE_PRECISION = Storage()


class SeriesReader:
    """Reader of a NIfTI image by volumes or slabs.

    The image is 3D or 4D. `allow_nan` accepts NaN and infinite values instead of raising an error.
    With `stays_open`, the file is opened only once, and is open until `close`.
    Raises `InvalidInput` if the file is truncated, is not a readable NIfTI image, or does not
    contain real numbers in 3D or 4D.
    """

    def __init__(self, path: Path, *, allow_nan: bool = False, stays_open: bool = False) -> None:
        self.path = path
        self.compressed = self.path.suffix == ".gz"
        self._stream = self._open() if stays_open else None
        image = _open_header(self.path, self._stream)
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
        array_proxy: Any = image.dataobj
        # nibabel removes the scaling from the header of a loaded image
        self.storage = Storage(
            np.dtype(array_proxy.dtype), float(array_proxy.slope), float(array_proxy.inter)
        )
        if self.storage.dtype.kind not in "iuf":
            raise InvalidInput(
                f"the data type is {self.storage.dtype}, but real numbers are expected",
                file=self.path,
            )
        self._offset = int(array_proxy.offset)
        self._allow_nan = allow_nan
        self._n_voxels = int(np.prod(self.shape[:3]))
        self._next_volume = -1
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
        stream = self._seek_volume(t)
        self._next_volume = -1
        values = self._read(stream, self._n_voxels, f"volume {t}")
        self._next_volume = t + 1
        return values.reshape(self.shape[:3], order="F")

    def _seek_volume(self, t: int) -> IO[bytes]:
        """Return a stream positioned at volume t.

        A compressed file is read forward if possible, otherwise from its start.
        """
        stream = self._stream
        if stream is None:
            stream = self._stream = self._open()
            self._next_volume = -1
        if self._next_volume != t:
            try:
                stream.seek(self._position(t))
            except (EOFError, OSError, zlib.error) as err:
                raise InvalidInput(
                    f"the file is truncated or corrupt before volume {t} ({err})", file=self.path
                ) from err
        return stream

    def _open(self) -> IO[bytes]:
        """Return the opened file."""
        opener: Any = gzip.open if self.compressed else open
        stream: IO[bytes] = opener(self.path, "rb")
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
        """Return the smallest and largest value, extended to include 0; the file is read once."""
        lowest = highest = 0.0
        for volume in self.volumes():
            lowest = min(lowest, float(volume.min()))
            highest = max(highest, float(volume.max()))
        return lowest, highest

    def slab(self, z: int, *, rows: slice = slice(None), volumes: slice = slice(None)) -> Float32:
        """Return a slice of an uncompressed series in Fortran order.

        Slices are along the third axis, counted from 0. `rows` is a range along the second axis,
        and `volumes` a range of volumes. Returns values in these ranges (X, Y, 1, T); other values
        are not read. Raises `InvalidInput` if the file is compressed, truncated or corrupt, and
        `IndexError` if the slice does not exist.
        """
        if self.compressed:
            raise InvalidInput("slabs can be read from uncompressed files only", file=self.path)
        if not 0 <= z < self.shape[2]:
            raise IndexError(f"{self.path}: slice {z} of {self.shape[2]}")
        x, y, _, n_volumes = self.shape
        y0, y1, _ = rows.indices(y)
        times = range(*volumes.indices(n_volumes))
        n_skipped = (z * y + y0) * x  # voxels of a volume before the slab
        values_by_volume = np.empty((len(times), (y1 - y0) * x), dtype=np.float32)
        with open(self.path, "rb") as stream:
            for values, t in zip(values_by_volume, times, strict=True):
                stream.seek(self._position(t) + n_skipped * self.storage.dtype.itemsize)
                values[:] = self._read(stream, values_by_volume.shape[1], f"volume {t}")
        return values_by_volume.reshape(len(times), 1, y1 - y0, x).T

    def _read(self, stream: IO[bytes], count: int, description: str) -> Float32:
        """Read and scale the next values; `description` names them in errors."""
        raw = np.empty(count, dtype=self.storage.dtype)
        try:
            size = stream.readinto(raw.view(np.uint8))  # type: ignore[attr-defined]
        except (EOFError, OSError, zlib.error) as err:
            raise InvalidInput(
                f"the file is truncated or corrupt at {description} ({err})", file=self.path
            ) from err
        if size != raw.nbytes:
            raise InvalidInput(f"truncated at {description}", file=self.path)
        return self._scale(raw, description)

    def _position(self, t: int) -> int:
        """Return the position of volume t in the file (bytes)."""
        return self._offset + t * self._n_voxels * self.storage.dtype.itemsize

    def _scale(self, raw: Array, description: str) -> Float32:
        """Apply slope and intercept; raise InvalidInput for NaN unless it is allowed."""
        values = self.storage.decode(raw)
        if not self._allow_nan and not np.isfinite(values).all():
            raise InvalidInput(f"{description} contains NaN or infinite values", file=self.path)
        return values


def _open_header(path: Path, stream: IO[bytes] | None) -> nib.Nifti1Image:
    """Open a single-file NIfTI image, or its `stream`, without reading its voxels.

    Raises `FileNotFoundError`, or `InvalidInput` if the file is not a readable single-file NIfTI
    image.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: the file was not found")
    try:
        image = _load_image_file(path, stream)
    except (nib.filebasedimages.ImageFileError, EOFError, OSError, zlib.error, ValueError) as err:
        raise InvalidInput(f"the file is not a readable NIfTI image ({err})", file=path) from err
    if not isinstance(image, nib.Nifti1Image):
        raise InvalidInput(
            "only single-file NIfTI images (.nii, .nii.gz) are supported", file=path
        )
    return image


def _load_image_file(path: Path, stream: IO[bytes] | None) -> nib.filebasedimages.FileBasedImage:
    """Open an image with nibabel, first without trying other formats than NIfTI-1."""
    try:
        if stream is not None:
            return nib.Nifti1Image.from_stream(stream)  # type: ignore[arg-type]
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


class SeriesWriter:
    """Writer of a 4D NIfTI file by volumes or slabs.

    The file has its final name only after all volumes are written.

    `shape` is (X, Y, Z, T), `affine` the voxel-to-world matrix (4 x 4, RAS+ mm), and `tr` the
    repetition time (s), stored in pixdim[4]. qform and sform codes and dim_info are copied from
    `header_like`; None uses code 1. `compressed` None decides by the name of the file.
    `storage` is single precision by default.

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
        storage: Storage = _SINGLE_PRECISION,
        header_like: nib.Nifti1Header | None = None,
        compressed: bool | None = None,
    ) -> None:
        self.path = path
        if len(shape) != 4:
            raise InvalidInput(
                f"a series must have 4 dimensions, but {len(shape)} were given", file=self.path
            )
        self.shape = tuple(int(n) for n in shape)
        self._storage = storage._replace(dtype=storage.dtype.newbyteorder("<"))
        self._header = _make_header(self.shape, affine, tr, self._storage, header_like)
        self._temporary = atomic_files.temporary_name(self.path)
        self._compressed = self.path.suffix == ".gz" if compressed is None else compressed
        self._open()
        self._n_written = 0
        self._written_slices: set[int] = set()
        self._is_open = True

    def _open(self) -> None:
        """Open the temporary file and write the header."""
        self._file = open(self._temporary, "wb")  # noqa: SIM115 - closed by `close` or `discard`
        self._stream: Any = self._file
        if self._compressed:
            # faster than zlib, for files of similar size; only programs that write need isal
            from isal.igzip import IGzipFile

            self._stream = IGzipFile("", "wb", 1, self._file, mtime=0)
        self._stream.write(self._header.binaryblock + b"\0\0\0\0")

    def _encode(self, values: Array) -> Array:
        """Return values as stored, in single precision if integers cannot store them.

        Raises `OutOfRangeError` if the series is compressed.
        """
        try:
            return self._storage.encode(values, self.path)
        except OutOfRangeError:
            if self._compressed:
                raise
        self._convert_to_single()
        return self._storage.encode(values, self.path)

    def _convert_to_single(self) -> None:
        """Rewrite the temporary file in single precision."""
        self._stream.close()
        integers, self._storage = self._storage, _SINGLE_PRECISION
        integer_file, self._temporary = self._temporary, atomic_files.temporary_name(self.path)
        _set_storage(self._header, self._storage)
        try:
            self._open()
            with open(integer_file, "rb") as source:
                source.seek(_DATA_OFFSET)
                while content := source.read(_VALUES_PER_BLOCK * integers.dtype.itemsize):
                    self._stream.write(integers.decode(np.frombuffer(content, integers.dtype)))
        finally:
            integer_file.unlink()

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
        stored = self._encode(np.asarray(volume))
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
        stored = self._encode(np.asarray(slab))
        for t in range(n_volumes):
            position = (t * z + z0) * x * y * self._storage.dtype.itemsize
            self._stream.seek(_DATA_OFFSET + position)
            self._stream.write(stored[..., t].tobytes(order="F"))
        self._written_slices.update(range(z0, z0 + slab.shape[2]))

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
    storage = Storage(np.dtype(dtype).newbyteorder("<"))
    if tr is None:
        tr = float(header_like["pixdim"][4]) if header_like is not None and data.ndim == 4 else 0.0
    header = _make_header(data.shape, affine, tr, storage, header_like)
    values = storage.encode(data, path)
    content = np.empty(_DATA_OFFSET + values.nbytes, np.uint8)
    content[:_DATA_OFFSET] = np.frombuffer(header.binaryblock + b"\0\0\0\0", np.uint8)
    content[_DATA_OFFSET:].view(storage.dtype).reshape(data.shape, order="F")[...] = values
    with atomic_files.atomic_file(path, durable=False) as temporary:
        if is_compressed:
            from isal import igzip

            temporary.write_bytes(igzip.compress(content.data, 1, mtime=0))
        else:
            _write_sparse(temporary, content)


def _make_header(
    shape: tuple[int, ...],
    affine: Array,
    tr: float,
    storage: Storage,
    like: nib.Nifti1Header | None,
) -> nib.Nifti1Header:
    """Return a little-endian NIfTI-1 header in mm and s.

    The qform and sform codes are copied from `like` (1 if it is None or has no codes).
    """
    header = nib.Nifti1Header(endianness="<")
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
    _set_storage(header, storage)
    return header


def _set_storage(header: nib.Nifti1Header, storage: Storage) -> None:
    """Write data type, slope and intercept to a header."""
    header.set_data_dtype(storage.dtype)
    header["scl_slope"], header["scl_inter"] = storage.slope, storage.inter


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
