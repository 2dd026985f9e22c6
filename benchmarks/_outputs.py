"""Compare two output directories: image arrays bit by bit, values in tables to 1e-6."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

TOLERANCE = 1e-6


def compare(first: Path, second: Path) -> tuple[int, list[str]]:
    """Compare images and tables of two output directories.

    Returns
    -------
    number of files compared, and a line for each file that differs or is absent
    """
    names = sorted(
        {str(path.relative_to(root)) for root in (first, second) for path in _results(root)}
    )
    return len(names), [
        line for name in names if (line := _difference(first / name, second / name))
    ]


def same_image(first: Path, second: Path) -> bool:
    """Return whether affines and voxels are equal, including NaN."""
    a, b = (nib.load(path) for path in (first, second))
    return np.array_equal(a.affine, b.affine) and np.array_equal(
        np.asarray(a.dataobj), np.asarray(b.dataobj), True
    )


def _results(root: Path) -> list[Path]:
    paths = [path for pattern in ("*.nii.gz", "*.tsv") for path in root.rglob(pattern)]
    return [path for path in paths if "logs" not in path.relative_to(root).parts]


def _difference(first: Path, second: Path) -> str:
    if not (first.exists() and second.exists()):
        return f"{first.name}: only in one of them"
    if first.name.endswith(".nii.gz"):
        return "" if same_image(first, second) else f"{first.name}: voxels differ"
    tables = [pd.read_csv(path, sep="\t", na_values="n/a") for path in (first, second)]
    try:
        pd.testing.assert_frame_equal(*tables, check_exact=False, rtol=TOLERANCE, atol=TOLERANCE)
    except AssertionError as error:
        return f"{first.name}: {' '.join(str(error).split())[:150]}"
    return ""
