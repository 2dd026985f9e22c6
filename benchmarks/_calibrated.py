"""One measured run brought down by two in plane, calibrated by fine volumes, through the steps in
memory.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from _people_measured import DRIFTS, without_drift
from numpy.typing import NDArray

from bids_sr.io.nifti import SeriesReader, load_image, save_image
from bids_sr.io.volume import Volume
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.resolution.matrices import kspace_crop, upsample
from bids_sr.steps import calibration_run, motion, super_resolution, training

Array = NDArray[Any]
FACTOR, TR, COUNT = (2.0, 2.0, 1.0), 2.0, 40


@dataclass
class Measured:
    """The run under test, its reference, brain and head motion, and what was measured at the high
    resolution.
    """

    work: Path
    threads: int
    run: SeriesReader
    preproc: SeriesReader
    reference: Any
    head: Any
    poses: Array
    known: Array  # components of the measured run in the brain
    missed: Array  # by component, what zero filling misses of them
    courses: Array


def volumes(source: Path, part: slice) -> tuple[Array, Array]:
    """Volumes of a measured run, with a matrix that two divides, and their affine."""
    image: Any = nib.load(source)  # type: ignore[attr-defined]
    x, y = (n // 2 * 2 for n in image.shape[:2])
    return np.asarray(image.dataobj, np.float32)[:x, :y][..., part], image.affine


def brought_down(source: Path, part: slice, work: Path, threads: int) -> Measured:
    """Head motion of the run at the low resolution; measured and zero-filled series in its
    reference.
    """
    work.mkdir(parents=True, exist_ok=True)
    data, fine = volumes(source, part)
    low, affine = kspace_crop(data, fine, factor=FACTOR)
    for name, values, grid in (("run", low, affine), ("truth", data, fine)):
        save_image(values, grid, work / f"{name}.nii", tr=TR)
    run = SeriesReader(work / "run.nii")
    reference = motion.average_volumes(run, n_dummy=0)
    head = motion.mask_head(reference)
    poses, _ = motion.estimate_motion(run, reference, head, n_dummy=0)
    preproc = super_resolution.undo_motion(run, reference, poses, here=work)
    shape, grid = hr_grid(reference.data.shape, reference.affine, FACTOR)
    whole = Volume(np.ones(shape, np.float32), grid)
    measured = work / "measured"
    measured.mkdir(exist_ok=True)
    super_resolution.place_measured(SeriesReader(work / "truth.nii"), whole, poses, here=measured)
    made = Measured(
        work, threads, run, preproc, reference, head, poses, *(np.zeros(0) for _ in range(3))
    )
    inside = _inside(made, measured / "series.nii")
    left = inside.shape[1] - DRIFTS - 1  # of a short run there are no more
    made.courses = np.linalg.eigh(inside.T @ inside)[1][:, ::-1][:, : min(COUNT, left)]
    made.known = inside @ made.courses
    zero = _inside(made, _written(made, "zerofill", {}))
    made.missed = np.square(made.known - zero @ made.courses).sum(0)
    return made


def _inside(made: Measured, file: Path) -> Array:
    """Time series in the brain, without drift."""
    brain = upsample("nearest", (made.head.data > 0).astype(np.float32), FACTOR) > 0.5
    return without_drift("", "", load_image(file)[0]).series[brain].astype(np.float64)


def _written(made: Measured, name: str, given: dict[str, Any]) -> Path:
    here = made.work / name
    here.mkdir(exist_ok=True)
    super_resolution.super_resolve(
        made.run,
        made.reference,
        made.head,
        made.poses,
        **given,
        here=here,
        series_name="sbl" if given else "zerofill",
        factor=FACTOR,
        data_consistency="off",
        precision="auto",
        force=True,
        omp_nthreads=made.threads,
        device="cpu",
    )
    return here / "series.nii"


def fluctuations(
    made: Measured, values: Array, affine: Array, moved: Array | None = None
) -> tuple[Any, ...]:
    """What the steps make of a calibration: patterns, where they lie (then moved by a 4x4, RAS
    mm), and facts.
    """
    save_image(values, affine, made.work / "calibration.nii", tr=TR)
    fine = SeriesReader(made.work / "calibration.nii")
    reference = motion.average_volumes(fine, n_dummy=0)
    head = motion.mask_head(reference)
    poses, table = motion.estimate_motion(fine, reference, head, n_dummy=0)
    xfm, told = calibration_run.register_calibration(
        made.reference, made.head, reference, head, made.work, factor=FACTOR, random_seed=0
    )
    patterns, facts = calibration_run.measure_calibration(
        fine, head, poses, table, told, n_dummy=0, tr=TR
    )
    return patterns, xfm if moved is None else xfm @ moved, facts


def explained(made: Measured, name: str, calibration: Sequence[Any] = ()) -> dict[str, object]:
    """What was decided of a calibration, and the share of zero filling's error that `sbl`
    explains.
    """
    here = made.work / name
    here.mkdir(exist_ok=True)
    model, card, _, temporal, _, _ = training.estimate_variance(
        made.preproc,
        made.head,
        made.poses,
        *calibration,
        here=here,
        n_dummy=0,
        method="sbl",
        factor=FACTOR,
        model_source="train",
        omp_nthreads=made.threads,
    )
    held_out = json.loads(Path(card).read_text())["held_out"]
    series = _inside(made, _written(made, name, {"model_file": model, "temporal": temporal}))
    left = np.square(made.known - series @ made.courses).sum(0)
    gains = held_out.get("predicted_gain_by_weight", {})
    return {
        "sbl": name,
        "usable": calibration[2]["usable"] if calibration else "",
        "weight": held_out.get("weight", "") if calibration else "",
        "corrected by mm": held_out.get("position_correction_mm", ""),
        "predicted gain, cautious": gains.get("0.25", ""),
        "tested": held_out.get("explained_over_zerofill", ""),
        "share": round(float((1 - left / made.missed).mean()), 4),
        "of the 8 strongest": round(float((1 - left / made.missed)[:8].mean()), 4),
    }
