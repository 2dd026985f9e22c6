"""`people.py phantom`: what a registration leaves of the distortion and displacement between the
two scans.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from _people_runs import call
from _people_tables import keep
from scipy import ndimage

from bids_sr.io.array_types import Array
from bids_sr.phantom.bold_run import DISTORTION_MM, SimulatedRun, bold_run, calibration_of
from bids_sr.phantom.fields import polynomial
from bids_sr.phantom.phantom_files import write_image
from bids_sr.phantom.poses import draw_pose
from bids_sr.phantom.simulated_dataset import make_dataset, write_calibration
from bids_sr.phantom.simulated_subject import SimulatedSubject
from bids_sr.phantom.study import Study
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import invert, read_itk

STUDY, VOLUMES = Study(preset="tiny"), 20


@dataclass(frozen=True)
class Differences:
    """What differs between the run and its calibration, beside resolution, noise and a small
    displacement.

    distortion : more than the run's, fine voxels along phase encoding, where it is largest
    moved : how far the head lies from its place in the run, mm and as many degrees; 0: drawn, .5
        to 1.5 mm
    drift : percent by which the signal rises from the first to the last volume, unevenly over the
        head
    """

    distortion: float = 0.0
    moved: float = 0.0
    drift: float = 0.0


DIFFERENCES = {
    "same distortion": Differences(),
    "one fine voxel more": Differences(distortion=1.0),
    "two fine voxels more": Differences(distortion=2.0),
    "head moved by 4 mm and 4 degrees": Differences(moved=4.0),
    "signal rises by 10 %": Differences(drift=10.0),
}
BRIGHT = 400  # of the resting image: the brain


def phantom(arguments: Sequence[str]) -> None:
    """One simulated run with calibrations that differ from it; the run is the same in all."""
    out = Path(arguments[0]) / "phantom"
    rows = []
    for number, (name, differences) in enumerate(DIFFERENCES.items()):
        place = out / f"data-{number}"
        if not place.exists():
            make_dataset(place, STUDY)
            add_calibration(place, differences)
            shutil.rmtree(place / "sub-01" / "anat")  # neither template nor pair is needed
        (file,) = place.glob("sub-01/func/*_acq-highres_bold.nii.gz")
        kept = call(out / "data-0", "auto", out, place.name, file)
        true, left = errors(place, kept.folder / "boldref2calibration_xfm.txt")
        rows.append(
            {
                "calibration": name,
                "displaced by, mm rms": round(rms(true), 2),
                "used": kept.calibration["usable"],
                "left by the registration, mm rms": round(rms(left), 2),
                "largest": round(float(np.linalg.norm(left, axis=1).max()), 2),
                "left along phase encoding, mm rms": round(
                    float(np.sqrt(np.mean(left[:, 1] ** 2))), 2
                ),
            }
        )
    keep(
        "people_phantom",
        "Where calibrations of a simulated run lie (bids-sr-phantom, tiny)",
        rows,
        remarks=[
            (
                "Over the brain; fine voxels have 3 mm. Displaced: between the same tissue in the"
                " two images, by the known pose and distortion. Left: after the rigid registration"
                " of the two references."
            ),
        ],
    )


@dataclass(frozen=True, kw_only=True)
class Drifting(SimulatedRun):
    """A run whose signal rises, as a share of its mean, unevenly over the head."""

    rise: float

    def volumes(self, threads: int = 1, *, noise: bool = True) -> Iterator[Array]:
        """The run volume by volume; the mean of the factor over the run is 1."""
        shape, affine = self.scanner.grid
        uneven = self.rise * (
            1 + 0.5 * polynomial(self.subject.draw("calibration", 3), affine, shape)
        )
        for t, volume in enumerate(super().volumes(threads, noise=noise)):
            yield volume * (1 + uneven * (t / (self.preset.volumes - 1) - 0.5))


def differing(run: SimulatedRun, differences: Differences) -> Drifting:
    """A calibration of a run that differs from it as said."""
    plain, draw = calibration_of(run, VOLUMES), run.subject.draw
    pose, scanner = plain.pose, plain.scanner
    if moved := differences.moved:
        pose = draw_pose(draw("calibration"), (moved, moved), (moved, moved))
        scanner = replace(scanner, pose=run.scanner.pose @ invert(pose))
    assert run.scanner.shift is not None
    shift = sample_volume(
        run.scanner.shift, run.scanner.dense_grid[1], *scanner.dense_grid, invert(pose)
    )
    # it grows with the readout
    stretch = 1 + differences.distortion * plain.preset.bold_voxel[1] / DISTORTION_MM
    scanner = replace(scanner, shift=np.float32(stretch) * shift)
    return Drifting(
        **vars(replace(plain, pose=pose, scanner=scanner)), rise=differences.drift / 100
    )


def add_calibration(place: Path, differences: Differences) -> None:
    """Measure and write a calibration beside the run of a data set, with what is known of it."""
    run = bold_run(SimulatedSubject(STUDY.protocol, STUDY.scene, seed=STUDY.seed))
    scan = differing(run, differences)
    write_calibration(scan, place, "sub-01", threads=1)
    if differences.distortion:
        truth = place / "derivatives" / "ground-truth" / "sub-01" / "func"
        assert scan.scanner.shift is not None
        affine = scan.scanner.dense_grid[1] @ np.diag([2.0, 2.0, 2.0, 1.0])
        field = scan.scanner.shift[::2, ::2, ::2]
        write_image(
            truth / "sub-01_task-tap_acq-highres_desc-distortion_fieldmap",
            field,
            affine,
            {"Units": "mm"},
        )


def rms(displacement: np.ndarray) -> float:
    """Root mean square length of displacements (N, 3)."""
    return float(np.sqrt(np.mean((displacement**2).sum(1))))


def errors(place: Path, found: Path) -> tuple[np.ndarray, np.ndarray]:
    """Displacement of the calibration at each point of the brain (N, 3) in mm, and what a
    registration leaves of it.
    """
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
    return np.asarray(
        ndimage.map_coordinates(np.asarray(image.dataobj), index.T, order=1, mode="nearest")
    )
