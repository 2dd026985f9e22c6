"""Copies of images, a volume in memory at a time: in another type, compressed, or with their axes in another order."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from bids_sr.io.grids import AS_STORED, AxisOrder, reordered, reordered_affine, reordered_header
from bids_sr.io.nifti import SeriesReader, SeriesWriter, save_image


def compress_series(
    src_nii: Path, dst_gz: Path, *, dtype: npt.DTypeLike = "float32",
    order: AxisOrder = AS_STORED,
) -> None:  # fmt: skip
    """Copy a series to .nii.gz in another type (little-endian) and order of axes, one volume in memory.

    Integers take two passes: the first finds the range of the run, the second stores every volume with that one slope,
    so that no volume is quantized unlike its neighbors.
    """
    kind = np.dtype(dtype)
    with SeriesReader(src_nii) as reader:
        slope, inter = 1.0, 0.0
        if kind.kind in "iu":
            lowest, highest = np.inf, -np.inf
            for volume in reader.volumes():
                lowest, highest = min(lowest, float(volume.min())), max(highest, float(volume.max()))
            limits = np.iinfo(kind)
            # float32 in the header: leave one step free at each end so that rounding of the slope cannot overflow
            slope = float(np.float32((highest - lowest) / (float(limits.max) - limits.min - 4))) or 1.0
            inter = float(np.float32(lowest - (limits.min + 2) * slope))
        _copy(reader, dst_gz, order, reader.tr, dtype=kind, slope=slope, inter=inter, compressed=True)


def copy_series(
    src: Path, dst: Path, *, order: AxisOrder = AS_STORED,
    dtype: npt.DTypeLike = "float32", tr: float | None = None,
) -> None:  # fmt: skip
    """Copy a series with its axes in another order (see `io.grids`), one volume in memory; values stay.

    `tr` is its repetition time (s), that of its header by default, which may be missing or in a wrong unit.
    """
    with SeriesReader(src) as reader:
        _copy(reader, dst, order, tr or reader.tr, dtype=dtype)


def save_reordered(src: Path, dst: Path, *, order: AxisOrder) -> None:
    """Copy a 3D image with its axes in another order to a compressed file; type and values stay."""
    with SeriesReader(src, allow_nan=True) as reader:
        data, affine = reordered(reader.volume(0), order), reordered_affine(reader.affine, order)
        header = reordered_header(reader.header, order)
        save_image(data, affine, dst, dtype=reader.dtype, header_like=header, compressed=True)


def _copy(
    reader: SeriesReader, dst: Path, order: AxisOrder, tr: float, *, dtype: npt.DTypeLike,
    slope: float = 1.0, inter: float = 0.0, compressed: bool | None = None,
) -> None:  # fmt: skip
    x, y, z = order
    shape = reader.shape[x], reader.shape[y], reader.shape[z], reader.shape[3]
    affine, header = reordered_affine(reader.affine, order), reordered_header(reader.header, order)
    with SeriesWriter(
        dst, shape, affine, tr, dtype=dtype, header_like=header, slope=slope, inter=inter, compressed=compressed
    ) as writer:
        for volume in reader.volumes():
            writer.append(reordered(volume, order))
