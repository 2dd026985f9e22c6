"""Series as a denoiser leaves them: MP-PCA of dipy, which is no dependency of the program (`pip
install dipy`).
"""

import shutil
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bids_sr.io.nifti import save_image

RADIUS = 3  # patches of 7 x 7 x 7 voxels, more than a run has volumes
Array = NDArray[Any]


def mppca(series: Array) -> Array:
    """MP-PCA (Veraart et al. 2016) of magnitudes, (X, Y, Z, T) float32, everywhere in the field of
    view.
    """
    from dipy.denoise.localpca import mppca as denoise

    return np.asarray(
        denoise(series.astype(np.float32), patch_radius=RADIUS, suppress_warning=True),
        dtype=np.float32,
    )


def mppca_file(source: Path, out: Path) -> None:
    """Denoise a file as it was acquired, before anything else; says how long it took and what it
    took out.
    """
    image = nib.Nifti1Image.from_filename(source)
    data, began = np.asarray(image.dataobj, dtype=np.float32), time.monotonic()
    found = mppca(data)
    header = image.header.copy()
    header.set_data_dtype(np.float32)
    save_image(found, image.affine, out, header_like=header)
    brain = data.mean(-1) > 0.25 * np.percentile(data.mean(-1), 98)
    before, after = (np.diff(each[brain][:, 5:], axis=1).std(1) for each in (data, found))
    taken = float(np.median(1 - (after / before) ** 2))
    print(
        f"{out}: {time.monotonic() - began:.0f} s; of the variance from volume to volume"
        f" {taken:.0%} was taken out"
    )


def mppca_dataset(source: Path, out: Path) -> None:
    """A copy of a data set whose BOLD runs are denoised."""
    shutil.copytree(source, out, ignore=shutil.ignore_patterns("*_bold.nii.gz"))
    for file in sorted(source.glob("sub-*/**/func/*_bold.nii.gz")):
        mppca_file(file, out / file.relative_to(source))
