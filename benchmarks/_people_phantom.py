"""`people.py phantom`: what a registration leaves of the distortion and displacement between the two scans."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from _people_runs import call
from _people_tables import keep
from scipy import ndimage

from bids_sr.spatial.transforms import read_itk

PRESET = ("--preset", "tiny", "--calibration")
DIFFERENCES: dict[str, tuple[str, ...]] = {
    "same distortion": (),
    "one fine voxel more": ("--calibration-distortion", "1"),
    "two fine voxels more": ("--calibration-distortion", "2"),
    "head moved by 4 mm and 4 degrees": ("--calibration-moved", "4"),
    "signal rises by 10 %": ("--calibration-drift", "10"),
}
BRIGHT = 400  # of the resting image: the brain


def phantom(arguments: Sequence[str]) -> None:
    """One simulated run with calibrations that differ from it; the run itself is the same in all."""
    out = Path(arguments[0]) / "phantom"
    rows = []
    for number, (name, options) in enumerate(DIFFERENCES.items()):
        place = out / f"data-{number}"
        if not place.exists():
            program = str(Path(sys.executable).with_name("bids-sr-phantom"))
            subprocess.run([program, str(place), *PRESET, *options], check=True)
            shutil.rmtree(place / "sub-01" / "anat")  # neither template nor pair is needed
        (file,) = place.glob("sub-01/func/*_acq-highres_bold.nii.gz")
        kept = call(out / "data-0", "auto", out, place.name, file)
        true, left = errors(place, kept.folder / "boldref2calibration_xfm.txt")
        rows.append({
            "calibration": name, "displaced by, mm rms": round(rms(true), 2), "used": kept.calibration["usable"],
            "left by the registration, mm rms": round(rms(left), 2),
            "largest": round(float(np.linalg.norm(left, axis=1).max()), 2),
            "left along phase encoding, mm rms": round(float(np.sqrt(np.mean(left[:, 1] ** 2))), 2),
        })  # fmt: skip
    keep("people_phantom", "Where calibrations of a simulated run lie (bids-sr-phantom, tiny)", rows, remarks=[
        "Over the brain; fine voxels have 3 mm. Displaced: between the same tissue in the two images, by the known "
        "pose and distortion. Left: after the rigid registration of the two references.",
    ])  # fmt: skip


def rms(displacement: np.ndarray) -> float:
    """Root mean square length of displacements (N, 3)."""
    return float(np.sqrt(np.mean((displacement**2).sum(1))))


def errors(place: Path, found: Path) -> tuple[np.ndarray, np.ndarray]:
    """Displacement of the calibration at each point of the brain (N, 3) in mm, and what a registration leaves of it."""
    truth = place / "derivatives" / "ground-truth" / "sub-01" / "func"
    image: Any = nib.load(next(truth.glob("*_task-tap_desc-noisefree_boldref.nii.gz")))  # type: ignore[attr-defined]
    inside = np.argwhere(np.asarray(image.dataobj) > BRIGHT)
    points = inside @ image.affine[:3, :3].T + image.affine[:3, 3]
    pose = read_itk(next(truth.glob("*_from-calibration_to-boldref_*_xfm.txt")))[0]
    own = next(truth.glob("*_task-tap_desc-distortion_fieldmap.nii.gz"))
    more = next(truth.glob("*_acq-highres_desc-distortion_fieldmap.nii.gz"), None)
    there = np.zeros_like(points)
    there[:, 1] = _at(own, points)
    undistorted = _moved(pose, points + there)
    shown = undistorted.copy()
    for _ in range(20):  # the value at y comes from y + displacement there
        shift = _at(own, _moved(np.linalg.inv(pose), shown)) if more is None else _at(more, shown)
        shown[:, 1] = undistorted[:, 1] - shift
    return shown - points, _moved(read_itk(found)[0], points) - shown


def _moved(xfm: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.asarray(points @ xfm[:3, :3].T + xfm[:3, 3])


def _at(file: Path, points: np.ndarray) -> np.ndarray:
    """Values of a field map at points (mm)."""
    image: Any = nib.load(file)  # type: ignore[attr-defined]
    index = _moved(np.linalg.inv(image.affine), points)
    return np.asarray(ndimage.map_coordinates(np.asarray(image.dataobj), index.T, order=1, mode="nearest"))
