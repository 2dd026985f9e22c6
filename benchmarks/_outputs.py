"""Whether two output directories hold the same: image arrays bit by bit, figures in tables to
1e-6.
"""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

TOLERANCE = 1e-6


def compare(one: Path, other: Path) -> tuple[int, list[str]]:
    """Compare images and tables of two output directories.

    Returns
    -------
    number of files compared, and a line for each that differs or is absent
    """
    names = sorted(
        {str(path.relative_to(root)) for root in (one, other) for path in _results(root)}
    )
    return len(names), [line for name in names if (line := _difference(one / name, other / name))]


def same_image(one: Path, other: Path) -> bool:
    """Whether affines and voxels are equal, NaN among them."""
    a, b = (nib.load(path) for path in (one, other))
    return np.array_equal(a.affine, b.affine) and np.array_equal(
        np.asarray(a.dataobj), np.asarray(b.dataobj), True
    )


def _results(root: Path) -> list[Path]:
    found = [path for pattern in ("*.nii.gz", "*.tsv") for path in root.rglob(pattern)]
    return [path for path in found if "logs" not in path.relative_to(root).parts]


def _difference(one: Path, other: Path) -> str:
    if not (one.exists() and other.exists()):
        return f"{one.name}: only in one of them"
    if one.name.endswith(".nii.gz"):
        return "" if same_image(one, other) else f"{one.name}: voxels differ"
    tables = [pd.read_csv(path, sep="\t", na_values="n/a") for path in (one, other)]
    try:
        pd.testing.assert_frame_equal(*tables, check_exact=False, rtol=TOLERANCE, atol=TOLERANCE)
    except AssertionError as error:
        return f"{one.name}: {' '.join(str(error).split())[:150]}"
    return ""
