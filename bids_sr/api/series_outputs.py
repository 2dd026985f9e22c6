"""Series that estimators return: in memory, or in a file that is written volume by volume."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np

from bids_sr.api.image_inputs import ImageInputError
from bids_sr.io.copies import copy_series
from bids_sr.io.nifti import SeriesReader


def check_target(out_file: str | os.PathLike[str] | None, reader: SeriesReader) -> Path | None:
    """Return the path of an output file; raise ImageInputError if it is the input series."""
    target = None if out_file is None else Path(out_file)
    if target is not None and target.resolve() == reader.path.resolve():
        raise ImageInputError(
            f"{target} is the input series, which would be overwritten",
            "Choose another file.",
            "out_file",
        )
    return target


def to_series_image(series_file: Path, target: Path | None, *, is_volume: bool) -> nib.Nifti1Image:
    """Return a series from its output file, or in memory without a target.

    `is_volume` is whether the input was a single volume without a time axis.
    """
    if target is None:
        image = nib.Nifti1Image.from_filename(series_file)
        data = np.asarray(image.dataobj, dtype=np.float32)
        image.header.set_data_dtype(np.float32)
        return nib.Nifti1Image(data[..., 0] if is_volume else data, image.affine, image.header)
    copy_series(series_file, target)
    return nib.Nifti1Image.from_filename(target)
