"""Copies of images in another data type, compression or order of axes, volume by volume."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from nibabel.nifti1 import Nifti1Header

from bids_sr.io.arrays import Array
from bids_sr.io.grids import AS_STORED, AxisOrder, reorder, reorder_affine, reorder_header
from bids_sr.io.nifti import SeriesReader, SeriesWriter, Storage, save_image
from bids_sr.io.storage import choose_storage


def compress_series(
    src_nii: Path,
    dst_gz: Path,
    *,
    dtype: npt.DTypeLike = "float32",
    order: AxisOrder = AS_STORED,
    code: int | None = None,
) -> None:
    """Copy a series to .nii.gz in another data type and order of axes, volume by volume.

    Integers are scaled to the range of the run, so that all volumes have one slope and the same
    quantization, and 0 stays 0. If single voxels or an offset extend this range so much that the
    head would have fewer than 1,000 steps, the copy is float32.

    `dtype` is the data type on disk (little-endian), `order` the stored axis for each of the first
    three axes of the copy, and `code` the code of qform and sform; None copies the codes of the
    series.
    """
    with SeriesReader(src_nii) as reader:
        storage = choose_storage(reader, np.dtype(dtype))
        _copy_volumes(reader, dst_gz, order, storage, code=code, compressed=True)


def copy_series(
    src: Path,
    dst: Path,
    *,
    order: AxisOrder = AS_STORED,
    tr: float | None = None,
) -> None:
    """Copy a series with its axes in another order, volume by volume.

    The values do not change: 16-bit integers without a scale keep their type, other types become
    float32.

    `order` is the stored axis for each of the first three axes of the copy, see
    `bids_sr.io.grids`. `tr` is the repetition time (s); None copies the header's repetition time,
    which may be missing or in a wrong unit.
    """
    with SeriesReader(src) as reader:
        _copy_volumes(reader, dst, order, _choose_copy_storage(reader), tr=tr)


def _copy_volumes(
    reader: SeriesReader,
    dst: Path,
    order: AxisOrder,
    storage: Storage,
    *,
    tr: float | None = None,
    code: int | None = None,
    compressed: bool | None = None,
) -> None:
    """Copy the volumes of a series with reordered axes.

    The options are as in the callers; `compressed` None decides by the name of the file.
    """
    x, y, z = order
    shape = reader.shape[x], reader.shape[y], reader.shape[z], reader.shape[3]
    affine = reorder_affine(reader.affine, order)
    header = _reorder_header(reader, order, code)
    with SeriesWriter(
        dst,
        shape,
        affine,
        tr or reader.tr,
        storage=storage,
        header_like=header,
        compressed=compressed,
    ) as writer:
        for volume in reader.volumes():
            writer.append(reorder(volume, order))


def combine_volumes(
    reader: SeriesReader,
    dst: Path,
    weights: Mapping[int, Mapping[int, float]],
    alternation: Array | float = 0.0,
) -> None:
    """Copy a series and replace some volumes by weighted sums of other volumes.

    The data type is kept as in `copy_series`. The reader must have random access. `weights` are
    weights of the summed volumes by replaced volume, both counted from 0. `alternation` (X, Y, Z)
    is first subtracted from volumes 0, 2, 4 … and added to the others.
    """
    with SeriesWriter(
        dst,
        reader.shape,
        reader.affine,
        reader.tr,
        storage=_choose_copy_storage(reader),
        header_like=reader.header,
    ) as writer:
        for t in range(reader.shape[3]):
            source_weights = weights.get(t, {t: 1.0})
            weighted_volumes = [
                weight * (reader.volume(source) - (-1) ** source * alternation)
                for source, weight in source_weights.items()
            ]
            writer.append(np.sum(weighted_volumes, axis=0))


def _choose_copy_storage(reader: SeriesReader) -> Storage:
    """Return the data type of a copy: 16-bit integers without a scale, or float32."""
    stored = reader.storage
    is_short_int = stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2
    return stored if is_short_int and not stored.is_scaled else Storage()


def save_reordered(
    src: Path, dst: Path, *, order: AxisOrder = AS_STORED, code: int | None = None
) -> None:
    """Copy a 3D image with its axes in another order to a compressed file of the same data type.

    Only the first volume of a series is copied. `order` is the stored axis for each of the first
    three axes of the copy, and `code` the code of qform and sform; None copies the codes of the
    image.
    """
    with SeriesReader(src, allow_nan=True) as reader:
        data = reorder(reader.volume(0), order)
        affine = reorder_affine(reader.affine, order)
        header = _reorder_header(reader, order, code)
        save_image(
            data, affine, dst, dtype=reader.storage.dtype, header_like=header, compressed=True
        )


def _reorder_header(reader: SeriesReader, order: AxisOrder, code: int | None) -> Nifti1Header:
    """Return the header for another order of axes, with a code of qform and sform if given."""
    header = reorder_header(reader.header, order)
    if code is not None:
        header["qform_code"] = header["sform_code"] = code
    return header
