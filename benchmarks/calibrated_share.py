"""Share of zero filling's error that `sbl` explains with and without a calibration, right and
wrong ones.

python benchmarks/calibrated_share.py share DATA WORK [THREADS]
    studyforrest, the 19 volumes before the run
python benchmarks/calibrated_share.py harm DATA WORK [THREADS]
    wrong calibrations of two people
python benchmarks/calibrated_share.py distortion DATA WORK [THREADS]
    calibrations that are distorted otherwise
python benchmarks/calibrated_share.py short DATA WORK [THREADS]
    no calibration; the first 20 to 200 volumes of a run

DATA holds studyforrest-localizer, pydecnef and, for `short`, opennft. Runs are brought down by two
in plane; steps are those of the program, called in memory. The share is 1 - |series - measured|^2
/ |zero filling - measured|^2 in the brain, mean over the 40 strongest temporal components of the
measured run without drift; head motion is undone alike in all series.

Displacements by fine voxels are those of the registration: the patterns lie in the wrong place, as
after a registration that failed. A calibration of weight 0 changes nothing: the series is then
that of the run alone, bit by bit.

`short` tells the share that is tested one level down, too, by which the gate decides: as it is,
and as it was when all twelve courses of head motion were taken out of each half, and components of
rounding counted as others do. Of a short run the weaker of all components are thermal noise, so
the share of the eight strongest stands beside that of all.
"""

import sys
from pathlib import Path

import numpy as np
from _calibrated import FACTOR, Array, Measured, brought_down, explained, fluctuations, volumes
from _table import keep
from scipy import ndimage

from bids_sr.sr.data.temporal_components import motion_courses
from bids_sr.sr.method import get_method
from bids_sr.sr.variance.one_level_down import Trial, try_maps
from bids_sr.sr.variance.run_data import _LEAST_HALF

LOCALIZER = Path("studyforrest-localizer/sub-01/func/sub-01_task-localizer_bold.nii.gz")
OPENNFT = Path("opennft/sub-01/func/sub-01_task-nfpsc_bold.nii.gz")
LENGTHS = (20, 30, 40, 60, 80, 100, 136, 200)
PERCEPTION = "pydecnef/sub-01/func/sub-01_task-perception_run-0{}_bold.nii.gz"


def people(data: Path) -> dict[str, tuple[Path, slice, Path, slice]]:
    """Run, its volumes, calibration, its volumes."""
    one, two = (data / PERCEPTION.format(number) for number in (1, 2))
    return {
        "A": (data / LOCALIZER, slice(20, None), data / LOCALIZER, slice(1, 20)),
        "B2": (two, slice(None), one, slice(70, 90)),
    }


def share(data: Path, work: Path, threads: int) -> None:
    """Person A alone."""
    run, part, other, own = people(data)["A"]
    made = brought_down(run, part, work / "A", threads)
    rows = [
        explained(made, "blind"),
        explained(made, "calibrated", fluctuations(made, *volumes(other, own))),
    ]
    keep(
        "calibrated_share",
        "Share of zero filling's error explained, studyforrest, 19 volumes before the run",
        rows,
    )


def shifted(made: Measured, x: float, y: float) -> Array:
    """4x4 that moves a boldref point by high-resolution voxels in the plane."""
    out = np.eye(4)
    out[:3, 3] = made.reference.affine[:3, :2] @ np.array([x, y]) / 2
    return out


def wrong(
    made: Measured, right: tuple[Array, Array], other: tuple[Array, Array]
) -> list[dict[str, object]]:
    """Every wrong calibration of one run, and the right one."""
    values, affine = right
    spike = values.copy()
    spike[..., values.shape[-1] // 2] *= 1.1
    rows = [explained(made, "blind"), explained(made, "right", fluctuations(made, values, affine))]
    for name, (x, y) in {"x1": (1, 0), "y1": (0, 1), "x2": (2, 0), "y2": (0, 2)}.items():
        rows.append(explained(made, name, fluctuations(made, values, affine, shifted(made, x, y))))
    for name, spoiled, grid in (
        ("mirrored", values[::-1], affine),
        ("another's", *other),
        ("spike", spike, affine),
        ("five volumes", values[..., :5], affine),
    ):
        rows.append(explained(made, name, fluctuations(made, np.ascontiguousarray(spoiled), grid)))
    return rows


def harm(data: Path, work: Path, threads: int) -> None:
    """Wrong calibrations of two people."""
    found = people(data)
    calibrations = {name: volumes(other, own) for name, (_, _, other, own) in found.items()}
    rows: list[dict[str, object]] = []
    for name, (run, part, _, _) in found.items():
        (other,) = (each for each in found if each != name)
        made = brought_down(run, part, work / name, threads)
        for row in wrong(made, calibrations[name], calibrations[other]):
            rows.append({"run": name, **row})
            print(rows[-1], flush=True)
        keep(
            "calibrated_harm",
            "Wrong calibrations: what was decided, and the share of zero filling's error",
            rows,
        )


def distorted(values: Array, most: float) -> Array:
    """Volumes displaced along y, as by a field that is strongest at the front: up to so many
    voxels, smoothly.
    """
    x, y, z = np.indices(values.shape[:3], dtype=np.float64)
    width = [n / 4 for n in values.shape[:3]]
    front = 0.75 * values.shape[1]
    away = ((x - values.shape[0] / 2) / width[0]) ** 2 + ((y - front) / width[1]) ** 2
    at = np.stack([x, y + most * np.exp(-away / 2), z])
    volumes_of = (
        ndimage.map_coordinates(volume, at, order=3, mode="nearest")
        for volume in np.moveaxis(values, -1, 0)
    )
    return np.stack(list(volumes_of), -1)


def distortion(data: Path, work: Path, threads: int) -> None:
    """Calibrations whose distortion along phase encoding differs by up to one and two
    high-resolution voxels.
    """
    rows: list[dict[str, object]] = []
    for name, (run, part, other, own) in people(data).items():
        made = brought_down(run, part, work / name, threads)
        values, affine = volumes(other, own)
        rows.append({"run": name, **explained(made, "blind")})
        for most in (0.0, 1.0, 2.0):
            found = fluctuations(made, distorted(values, most), affine)
            rows.append({"run": name, **explained(made, f"distorted by {most:g}", found)})
            print(rows[-1], flush=True)
        keep(
            "calibrated_distortion",
            "Calibrations distorted along y: share of zero filling's error explained",
            rows,
        )


def tested_before(made: Measured) -> float | str:
    """Share one level down with all courses of head motion out of each half, and no regard to what
    that leaves.
    """
    mask, affine, recipe = (
        made.head.data > 0,
        made.preproc.affine,
        get_method("sbl").variance,
    )
    data = np.stack(list(made.preproc.volumes()), -1).astype(np.float32)
    courses = motion_courses(
        made.poses, affine[:3, :3] @ np.argwhere(mask).mean(0) + affine[:3, 3]
    )
    middle, halves = data.shape[-1] // 2, []
    if middle < _LEAST_HALF:
        return ""
    for part in (slice(middle), slice(middle, None)):
        moved = courses[part] - courses[part].mean(0)
        left, sizes, _ = np.linalg.svd(
            moved / np.maximum(np.linalg.norm(moved, axis=0), 1e-12), full_matrices=False
        )
        basis = left[:, sizes > 1e-6].astype(np.float32)
        change = data[..., part] - data[..., part].mean(-1, keepdims=True)
        change -= (change @ basis) @ basis.T
        values, vectors = np.linalg.eigh((change[mask].T @ change[mask]).astype(np.float64))
        signal, count = int((values > 1.5 * np.median(values[1:])).sum()), len(values)
        kept = min(recipe.components, count - 1, max(signal, 8))
        halves.append(
            np.moveaxis(
                change @ (vectors[:, ::-1][:, :kept] / np.sqrt(count)).astype(np.float32), -1, 0
            )
        )
    return round(try_maps(Trial(halves, mask, FACTOR), recipe)[0.0].share, 4)


def short(data: Path, work: Path, threads: int) -> None:
    """The gate on ever longer parts of a run."""
    rows: list[dict[str, object]] = []
    runs = {name: (run, part.start or 0) for name, (run, part, _, _) in people(data).items()}
    for name, (run, first) in {**runs, "C": (data / OPENNFT, 25)}.items():
        for count in LENGTHS:
            made = brought_down(run, slice(first, first + count), work / f"{name}{count}", threads)
            if made.preproc.shape[3] < count:
                break
            found = explained(made, "blind")
            rows.append(
                {
                    "run": name,
                    "volumes": count,
                    "tested before": tested_before(made),
                    "tested": found["tested"],
                    "share": found["share"],
                    "of the 8 strongest": found["of the 8 strongest"],
                }
            )
            print(rows[-1], flush=True)
        keep(
            "short_runs",
            "The first volumes of a run: share tested one level down, and of the measured run",
            rows,
        )


def main() -> int:
    """One subcommand."""
    wanted = {"share": share, "harm": harm, "distortion": distortion, "short": short}
    if len(sys.argv) < 4 or sys.argv[1] not in wanted:
        sys.exit(__doc__)
    threads = int(sys.argv[4]) if len(sys.argv) > 4 else 2
    wanted[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]), threads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
