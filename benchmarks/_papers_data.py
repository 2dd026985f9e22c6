"""Measured images of `papers.py`."""

from pathlib import Path

import nibabel as nib
import numpy as np
from _table import HERE

from bids_sr.io.arrays import Array

EXAMPLE = HERE.parent / "examples" / "studyforrest"
BOLD = EXAMPLE / "derivatives/highres-reference/sub-01/func/sub-01_task-localizer_bold.nii.gz"


def series(file: Path) -> tuple[Array, tuple[float, ...]]:
    """Return an image as float32, and its voxel size in mm."""
    image = nib.as_closest_canonical(nib.load(file))  # type: ignore[attr-defined]
    zooms = tuple(float(zoom) for zoom in image.header.get_zooms()[:3])
    return np.asarray(image.dataobj, np.float32), zooms


def bold_of(data_set: Path) -> Path:
    """Return the measured high-resolution run of a data set, or the example's."""
    if data_set == EXAMPLE:
        return BOLD
    (file,) = data_set.glob("sub-01/func/*_bold.nii.gz")
    return file


def t1w_of(data_set: Path) -> Path:
    """Return the T1w image of a data set."""
    (file,) = data_set.glob("sub-01/anat/*_T1w.nii.gz")
    return file


def t2starw_of(data_set: Path) -> Path:
    """Return the high-resolution T2*w image of a data set."""
    (file,) = data_set.glob("sub-01/anat/*_acq-highres_T2starw.nii.gz")
    return file
