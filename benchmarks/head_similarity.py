"""Similarity of the mean images of runs: one head, mirrored heads and other people's heads.

python benchmarks/head_similarity.py DATA

DATA is the folder of `people.py`. Mean images are means of 30 volumes. `half`: in-plane resolution
divided by two, as k-space was cropped.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from _people_data import TESTED
from _people_measured import FACTOR
from _table import keep

from bids_sr.io.volume import Volume
from bids_sr.registration.head_comparison import (
    head_similarity,
    mirrored_similarity,
    resample_with_field_of_view,
    signal_ratio,
)
from bids_sr.registration.rigid import register_rigid
from bids_sr.registration.same_contrast import align_same_contrast, refine
from bids_sr.spatial.masks import brain_mask
from bids_sr.sr.matrices import kspace_crop

FIRST, END = 30, 60  # volumes of the mean image


def mean_image(data: Path, name: str, *, half: bool) -> Volume:
    """Return the mean image of a run of `people.py`."""
    image: Any = nib.load(data / TESTED[name].run.file)  # type: ignore[attr-defined]
    mean = np.asarray(image.dataobj[..., FIRST:END], dtype=np.float32).mean(axis=3)
    if not half:
        return Volume(mean, image.affine)
    cropped, affine = kspace_crop(mean[..., None], image.affine, factor=FACTOR)
    return Volume(cropped[..., 0], affine)


def registered(first: Volume, other: Volume) -> np.ndarray:
    """Return the transform from points of the first image to the other, as in the program."""
    masks = [brain_mask(image.data, image.affine) for image in (first, other)]
    alike = align_same_contrast(first, other, masks[0])
    if alike is not None:
        return alike
    with tempfile.TemporaryDirectory() as folder:
        fit = register_rigid(first, other, *masks, seed=0, prefix=str(Path(folder) / "run"))
    return refine(first, other, masks[0], fit.xfm)


def main() -> int:
    data = Path(sys.argv[1])
    rows = []
    for half in (False, True):
        images = {name: mean_image(data, name, half=half) for name in ("B1", "B2", "A", "C")}
        pairs = [("B1", "B2"), ("B1", "A"), ("B1", "C"), ("A", "C")]
        for first_name, other_name in [*((name, name) for name in images), *pairs]:
            first, other = images[first_name], images[other_name]
            mask = brain_mask(first.data, first.affine)
            xfm = np.eye(4) if first is other else registered(first, other)
            placed = resample_with_field_of_view(other, first, xfm)
            rows.append(
                {
                    "first": TESTED[first_name].title,
                    "other": TESTED[other_name].title,
                    "resolution": "half" if half else "as measured",
                    "similarity": round(head_similarity(first.data, placed, mask, first.zooms), 3),
                    "with swapped sides": round(mirrored_similarity(first, other, mask, xfm), 3),
                    "signal ratio": round(signal_ratio(first.data, placed, mask), 3),
                }
            )
            print(rows[-1], flush=True)
    keep(
        "head_similarity",
        "Similarity of mean images: the same head, mirrored heads and other heads",
        rows,
        remarks=[
            "Correlation of the local detail of mean images after rigid registration"
            " (`bids_sr.registration.head_comparison`); the correlation of the images if it is .97"
            " or more. With swapped sides: after left and right of the second image were swapped"
            " and the image was registered again."
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
