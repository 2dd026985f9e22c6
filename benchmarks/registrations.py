"""Transforms and processor time of rigid registrations of participants' data by two versions:
python benchmarks/registrations.py DATA FOLDER --old PYTHON [--cases NAME ...].

DATA contains the data sets `studyforrest-localizer`, `pydecnef` and `opennft`, and PYTHON has the
old version installed. The boldrefs, T1w image and brain mask are computed once by the new
version. Cases are a boldref and a T1w image of one participant as acquired, with a header turned
by 90 or 180 degrees, with few slices, and scaled to the size of a rat's head; two runs of a
participant, also turned; and boldrefs moved by a known transform with noise of 1 %, of the same or
the inverse contrast. Displacements are the largest over the brain. Images and transforms are kept
in FOLDER, and the same command resumes after an interruption. Writes
benchmarks/results/registrations.{json,md}.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402

from bids_sr.io.arrays import Array  # noqa: E402
from bids_sr.io.nifti import SeriesReader, load_image, save_image  # noqa: E402
from bids_sr.io.volume import Volume  # noqa: E402
from bids_sr.preproc.bold_to_anat import register_to_t1w  # noqa: E402
from bids_sr.preproc.boldref import make_boldref  # noqa: E402
from bids_sr.preproc.rigid import register_rigid  # noqa: E402
from bids_sr.spatial.masks import brain_mask  # noqa: E402
from bids_sr.spatial.resampling import sample_volume  # noqa: E402
from bids_sr.spatial.transforms import (  # noqa: E402
    displacement,
    invert,
    rigid_matrix,
    voxel_centers,
)

RUNS = {
    "localizer": "studyforrest-localizer/sub-01/func/sub-01_task-localizer_bold.nii.gz",
    "run1": "pydecnef/sub-01/func/sub-01_task-perception_run-01_bold.nii.gz",
    "run2": "pydecnef/sub-01/func/sub-01_task-perception_run-02_bold.nii.gz",
    "nfpsc": "opennft/sub-01/func/sub-01_task-nfpsc_bold.nii.gz",
}
T1W = "studyforrest-localizer/sub-01/anat/sub-01_T1w.nii.gz"
MOVED = [3.0, -2.0, 4.0, 0.06, -0.04, 0.08]
"""Known transform: translations (mm) and rotations (rad)."""
SMALL = 0.12


def turn(image: Volume, axis: int, degrees: float) -> Volume:
    """Rotate the header of an image about its center."""
    center = (image.affine @ [*((np.array(image.data.shape) - 1) / 2), 1])[:3]
    rotation = np.deg2rad(degrees) * np.eye(3)[axis]
    return Volume(image.data, rigid_matrix([0, 0, 0, *rotation], center) @ image.affine)


def scale(image: Volume) -> Volume:
    """Scale a head to the size of a rat's head."""
    return Volume(image.data, np.diag([SMALL, SMALL, SMALL, 1]) @ image.affine)


def central_slices(image: Volume, count: int) -> Volume:
    """Return the central slices of an image."""
    first = (image.data.shape[2] - count) // 2
    affine = image.affine.copy()
    affine[:3, 3] = (image.affine @ [0, 0, first, 1])[:3]
    return Volume(np.ascontiguousarray(image.data[:, :, first : first + count]), affine)


def invert_contrast(image: Volume) -> Volume:
    """Return an image whose head has the inverse contrast."""
    top = np.percentile(image.data, 99)
    inverse = np.where(image.data > 0.1 * top, np.clip(1.3 * top - image.data, 0, None), 0)
    return image.like(inverse.astype(np.float32))


def make_known_transform(image: Volume) -> Array:
    """Return the transform (4 x 4, RAS+ mm) by `MOVED` about the center of the brain."""
    mask = brain_mask(image.data, image.affine)
    return rigid_matrix(MOVED, voxel_centers(mask, image.affine).mean(axis=0))


def move(image: Volume) -> Volume:
    """Move a head by `MOVED` about the center of the brain, and add noise."""
    xfm = make_known_transform(image)
    moved = sample_volume(image.data, image.affine, image.data.shape, image.affine, xfm)
    noise = np.random.default_rng(1).normal(size=moved.shape) * np.percentile(image.data, 99)
    return image.like((moved + 0.01 * noise).astype(np.float32))


def read(path: Path) -> Volume:
    return Volume(*load_image(path))


def cases(folder: Path) -> dict[str, Callable[[], tuple[Volume, Volume, Array | None]]]:
    """Return functions that make fixed and moving image by case.

    The third value is the brain mask of a T1w image, or None for two images of one contrast.
    """
    bold, run1, run2, nfpsc = (read(folder / f"{name}.nii") for name in RUNS)
    t1w, mask = read(folder / "t1w.nii"), read(folder / "t1w_mask.nii").data > 0.5
    return {
        "T1w": lambda: (bold, t1w, mask),
        "T1w, 8 slices": lambda: (central_slices(bold, 8), t1w, mask),
        "T1w, 4 slices": lambda: (central_slices(bold, 4), t1w, mask),
        "T1w, x 90": lambda: (turn(bold, 0, 90), t1w, mask),
        "T1w, z 90": lambda: (turn(bold, 2, 90), t1w, mask),
        "T1w, y 180": lambda: (turn(bold, 1, 180), t1w, mask),
        "T1w, z 180": lambda: (turn(bold, 2, 180), t1w, mask),
        "T1w, small": lambda: (scale(bold), scale(t1w), mask),
        "T1w, small, z 90": lambda: (turn(scale(bold), 2, 90), scale(t1w), mask),
        "other head": lambda: (run1, t1w, mask),
        "two runs": lambda: (run1, run2, None),
        "two runs, x 90": lambda: (run1, turn(run2, 0, 90), None),
        "moved run 1": lambda: (move(run1), run1, None),
        "moved nfpsc": lambda: (move(nfpsc), nfpsc, None),
        "moved, inverse": lambda: (move(run1), invert_contrast(run1), None),
        "moved nfpsc, inverse": lambda: (move(nfpsc), invert_contrast(nfpsc), None),
    }


def prepare(data: Path, folder: Path) -> None:
    """Store boldrefs, the T1w image and its brain mask, unless they are there."""
    if (folder / "t1w_mask.nii").exists():
        return
    from bids_sr.preproc.steps import anatomy
    from bids_sr.preproc.templates import load_template

    for name, path in RUNS.items():
        series = folder / "series.nii"
        with gzip.open(data / path) as source, series.open("wb") as target:
            shutil.copyfileobj(source, target)
        reader = SeriesReader(series)
        save_image(make_boldref(reader), reader.affine, folder / f"{name}.nii")
    template = load_template()
    head = anatomy.correct_head(data / T1W, random_seed=0)
    mask, _, _ = anatomy.mask_brain(
        head, template.t1, template.mask, here=folder, random_seed=0, sloppy=False
    )
    t1w = anatomy.correct_brain(head, mask, random_seed=0, sloppy=False)
    save_image(t1w.data, t1w.affine, folder / "t1w.nii")
    save_image(np.asarray(mask.data, np.float32), t1w.affine, folder / "t1w_mask.nii")


def measure(folder: Path, names: list[str], label: str) -> None:
    """Register images with the installed version, and store transforms and processor seconds."""
    from bids_sr.preproc.ants import AntsOptions, load_ants

    load_ants(0)
    available = cases(folder)
    for name in names or list(available):
        if (path := folder / f"{label} {name}.npz").exists():
            continue
        fixed, moving, mask = available[name]()
        inside = brain_mask(fixed.data, fixed.affine)
        prefix = str(folder / f"{label}_")
        start = time.process_time()
        if mask is None:
            moving_mask = brain_mask(moving.data, moving.affine)
            fit = register_rigid(
                fixed,
                moving,
                inside,
                moving_mask,
                options=AntsOptions(seed=0, prefix=prefix),
                soft=True,
            )
            xfm = fit.xfm
        else:
            xfm = invert(
                register_to_t1w(fixed, moving, mask, options=AntsOptions(seed=0, prefix=prefix))[0]
            )
        seconds = time.process_time() - start
        points = voxel_centers(inside, fixed.affine)
        np.savez(path, xfm=xfm, seconds=seconds, points=points)


def compare(folder: Path, names: list[str]) -> list[dict[str, object]]:
    """Compare the transforms and processor seconds of both versions."""
    rows: list[dict[str, object]] = []
    for name in names or list(cases(folder)):
        old, new = (np.load(folder / f"{label} {name}.npz") for label in ("old", "new"))
        points = old["points"]
        errors: list[object] = ["", ""]
        if name.startswith("moved"):
            image = cases(folder)["moved run 1" if "nfpsc" not in name else "moved nfpsc"]()[1]
            center = voxel_centers(brain_mask(image.data, image.affine), image.affine).mean(axis=0)
            true_xfm = rigid_matrix(MOVED, center)
            errors = [
                float(displacement(fit["xfm"], true_xfm, points).max()) for fit in (old, new)
            ]
        rows.append(
            {
                "case": name,
                "old, s": round(float(old["seconds"]), 1),
                "new, s": round(float(new["seconds"]), 1),
                "displacement, mm": float(displacement(old["xfm"], new["xfm"], points).max()),
                "old error, mm": errors[0],
                "new error, mm": errors[1],
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--old", help="Python with the old version of bids-sr")
    parser.add_argument("--cases", nargs="+", default=[])
    parser.add_argument("--measure", metavar="LABEL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder, names = options.folder, options.cases
    if options.measure:
        measure(folder, names, options.measure)
        return
    from _table import keep

    folder.mkdir(parents=True, exist_ok=True)
    prepare(options.data, folder)
    selected = ["--cases", *names] if names else []
    for label, python in (("old", options.old), ("new", sys.executable)):
        command = [python, __file__, options.data, folder, "--measure", label, *selected]
        subprocess.run(command, check=True)
    keep(
        "registrations",
        "Rigid registrations by two versions: processor time and displacement",
        compare(folder, names),
    )


if __name__ == "__main__":
    main()
