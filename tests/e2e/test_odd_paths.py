"""Paths with characters that nipype, ANTs and shells interpret, and a long name."""

import shutil

import nibabel as nib
import numpy as np
import pytest

from .conftest import BIN, SLOPPY, call

ODD = "Müller, J [50%] {x} %(here)s #1 'a' \"b\" $HOME & ; * ? (c) ~"


@pytest.mark.slow
def test_odd_paths_are_processed(tiny, tmp_path):
    """The data set, the output, the working directory and a region have odd paths."""
    base = tmp_path / ODD
    data, out = base / "data", base / ("x" * 200)
    shutil.copytree(tiny, data)
    (bold,) = data.glob("sub-01/func/*_bold.nii.gz")
    image = nib.load(bold)
    ball = np.zeros(image.shape[:3], np.uint8)
    ball[tuple(slice(size // 2 - 3, size // 2 + 3) for size in ball.shape)] = 1
    roi = base / f"{ODD}.nii.gz"
    nib.save(nib.Nifti1Image(ball, image.affine), roi)
    options = ("--sr-method", "bspline", "--roi", str(roi), "-w", str(base / "work"), *SLOPPY)
    code, text, _ = call([str(BIN / "bids-sr"), str(data), str(out), "participant", *options])
    assert code == 0, text
    assert list(out.glob("sub-01/func/*_stat-t_*_statmap.nii.gz"))
