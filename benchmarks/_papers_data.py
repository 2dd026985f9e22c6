"""Measured images of `papers.py`."""

from pathlib import Path

import nibabel as nib
import numpy as np
from _table import HERE

from bids_sr.io.arrays import Array

EXAMPLE = HERE.parent / "examples" / "studyforrest"
T1W = EXAMPLE / "sub-01/anat/sub-01_T1w.nii.gz"
BOLD = EXAMPLE / "derivatives/highres-reference/sub-01/func/sub-01_task-localizer_bold.nii.gz"


def series(file: Path) -> tuple[Array, tuple[float, ...]]:
    """Return an image as float32, and its voxel size in mm."""
    image = nib.as_closest_canonical(nib.load(file))  # type: ignore[attr-defined]
    zooms = tuple(float(zoom) for zoom in image.header.get_zooms()[:3])
    return np.asarray(image.dataobj, np.float32), zooms
