"""Copy images volume by volume in another data type, compression or order of axes."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
from nibabel.nifti1 import Nifti1Header

from bids_sr.io.arrays import Array
from bids_sr.io.grids import AS_STORED, AxisOrder, reordered, reordered_affine, reordered_header
from bids_sr.io.nifti import SeriesReader, SeriesWriter, save_image


def compress_series(
    src_nii: Path,
    dst_gz: Path,
    *,
    dtype: npt.DTypeLike = "float32",
    order: AxisOrder = AS_STORED,
    code: int | None = None,
) -> None:
    """Copy a series to .nii.gz in another data type and order of axes.

    The type is little-endian, and one volume is in memory at a time.

    Integers take the range of the run, so that every volume is stored with one slope and none is
    quantized unlike its neighbors. 0 stays 0. If single voxels or an offset make this range so
    wide that the head would have fewer than 1,000 steps, the copy is float32. `code`: see
    `save_reordered`.

    `dtype`: data type on disk; integers are scaled to the range of the run. `order`: stored axis
    that each of the first three axes of the copy takes.
    """
    kind = np.dtype(dtype)
    with SeriesReader(src_nii) as reader:
        slope, inter = 1.0, 0.0
        if kind.kind in "iu":
            slope, inter = _scale(*reader.extent(), kind)
            if slope > _spread(reader.volume(0)) / _LEAST_STEPS:
                kind, slope, inter = np.dtype("<f4"), 1.0, 0.0
        _copy(
            reader,
            dst_gz,
            order,
            reader.tr,
            code=code,
            dtype=kind,
            slope=slope,
            inter=inter,
            compressed=True,
        )


_LEAST_STEPS = 1000  # of the integers, within the spread of the head


def _spread(volume: Array) -> float:
    """Return the range of most values of a volume, without background and padding.

    A few voxels far above the head (artifacts) count for nothing, nor does an offset. Infinite if
    only a few values occur.
    """
    values, counts = np.unique(volume, return_counts=True)
    rare = values[counts < 0.01 * volume.size]  # a background or padding has one value
    if not rare.size:
        return math.inf
    signal = volume[np.isin(volume, rare)]
    return float(np.percentile(np.abs(signal - np.median(signal)), 98))


def _scale(lowest: float, highest: float, kind: npt.DTypeLike) -> tuple[float, float]:
    """Slope and intercept with which a range about 0 fills an integer type, and 0 comes back as 0.

    The intercept is a whole multiple of the slope, which has eight significant bits, so that the
    multiple is exact in the single precision of the header, and of programs that read it.
    """
    limits = np.iinfo(np.dtype(kind))
    if highest - lowest < 1e-30:
        return 1.0, 0.0
    fraction, exponent = math.frexp((highest - lowest) / (float(limits.max) - limits.min - 4))
    slope = math.ldexp(math.ceil(fraction * 256), exponent - 8)
    return slope, (round(lowest / slope) - limits.min - 2) * slope


def copy_series(
    src: Path,
    dst: Path,
    *,
    order: AxisOrder = AS_STORED,
    tr: float | None = None,
    masked: bool = False,
) -> None:
    """Copy a series with its axes in another order (see `io.grids`).

    One volume is in memory at a time, and the values are unchanged: integers of 16 bits without
    a scale stay what they are, all else becomes float32.

    `tr` is its repetition time (s), that of its header by default, which may be missing or in a
    wrong unit. Of one that is `masked` what is not finite becomes 0; else it is refused.

    `order`: stored axis that each of the first three axes of the copy takes.
    """
    with SeriesReader(src, allow_nan=masked) as reader:
        short = reader.dtype.kind in "iu" and reader.dtype.itemsize <= 2 and not reader.scaled
        kind = reader.dtype if short else np.float32
        _copy(reader, dst, order, tr or reader.tr, dtype=kind, masked=masked)


def save_reordered(
    src: Path, dst: Path, *, order: AxisOrder = AS_STORED, code: int | None = None
) -> None:
    """Copy a 3D image with its axes in another order to a compressed file; type and values stay.

    `code` is that of qform and sform, by default those of the image.

    `src`: image or series to copy (NIfTI); only its first volume is copied. `order`: stored axis
    that each of the first three axes of the copy takes.
    """
    with SeriesReader(src, allow_nan=True) as reader:
        data = reordered(reader.volume(0), order)
        affine = reordered_affine(reader.affine, order)
        header = _header(reader, order, code)
        save_image(data, affine, dst, dtype=reader.dtype, header_like=header, compressed=True)


def _header(reader: SeriesReader, order: AxisOrder, code: int | None) -> Nifti1Header:
    header = reordered_header(reader.header, order)
    if code is not None:
        header["qform_code"] = header["sform_code"] = code
    return header


def _copy(
    reader: SeriesReader,
    dst: Path,
    order: AxisOrder,
    tr: float,
    *,
    dtype: npt.DTypeLike = "float32",
    code: int | None = None,
    slope: float = 1.0,
    inter: float = 0.0,
    compressed: bool | None = None,
    masked: bool = False,
) -> None:
    x, y, z = order
    shape = reader.shape[x], reader.shape[y], reader.shape[z], reader.shape[3]
    affine = reordered_affine(reader.affine, order)
    header = _header(reader, order, code)
    with SeriesWriter(
        dst,
        shape,
        affine,
        tr,
        dtype=dtype,
        header_like=header,
        slope=slope,
        inter=inter,
        compressed=compressed,
    ) as writer:
        for volume in reader.volumes():
            finite = np.nan_to_num(volume, posinf=0, neginf=0) if masked else volume
            writer.append(reordered(finite, order))
