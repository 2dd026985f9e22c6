"""Share of zero filling's error that `sbl` explains with a calibration of 19 volumes before the run, at the true level.

python benchmarks/calibrated_share.py LOCALIZER.nii.gz WORK [THREADS]

LOCALIZER is the measured run (80 x 80 x 35 x 156): volumes 20 to 155, brought down by two in plane, are the run;
volumes 1 to 19 are its calibration. Steps are those of the program, called in memory. The share is 1 - |series -
measured|^2 / |zero filling - measured|^2 in the brain, mean over the 40 strongest temporal components of the measured
run without drift; head motion is undone alike in all series.
"""

import json
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from _people_measured import without_drift
from _table import keep

from bids_sr.io.nifti import SeriesReader, load_image, save_image
from bids_sr.io.volume import Volume
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.resolution.matrices import kspace_crop, upsample
from bids_sr.steps import calibration_run, motion, super_resolution, training

FACTOR, TR = (2.0, 2.0, 1.0), 2.0
RUN, CALIBRATION, COUNT = slice(20, None), slice(1, 20), 40


def made(source: Path, work: Path, threads: int) -> tuple[dict[str, Path], Any, float]:
    """Files of all series, the brain on the acquired grid, and the weight that the calibration got."""
    image: Any = nib.load(source)  # type: ignore[attr-defined]
    data = np.asarray(image.dataobj, np.float32)
    low, affine = kspace_crop(data[..., RUN], image.affine, factor=FACTOR)
    for name, values, grid in (
        ("run", low, affine), ("truth", data[..., RUN], image.affine), ("fine", data[..., CALIBRATION], image.affine)
    ):  # fmt: skip
        save_image(values, grid, work / f"{name}.nii", tr=TR)
    run, fine = SeriesReader(work / "run.nii"), SeriesReader(work / "fine.nii")
    found = []
    for series in (run, fine):
        reference = motion.average_volumes(series, n_dummy=0)
        head = motion.mask_head(reference)
        found.append((reference, head, *motion.estimate_motion(series, reference, head, n_dummy=0)))
    (reference, head, poses, _), (fine_reference, fine_head, fine_poses, table) = found
    xfm, told = calibration_run.register_calibration(
        reference, head, fine_reference, fine_head, work, factor=FACTOR, random_seed=0
    )
    _, patterns, facts = calibration_run.measure_calibration(fine, fine_head, fine_poses, table, told, n_dummy=0, tr=TR)
    preproc, _ = super_resolution.undo_motion(run, reference, poses, here=work, data_consistency="off")
    shape, grid = hr_grid(reference.data.shape, reference.affine, FACTOR)
    files, weight = {}, 0.0
    for name in ("measured", "zerofill", "blind", "calibrated"):
        here = work / name
        here.mkdir(exist_ok=True)
        files[name] = here / "series.nii"
        if name == "measured":
            whole = Volume(np.ones(shape, np.float32), grid)
            super_resolution.place_measured(SeriesReader(work / "truth.nii"), whole, poses, here=here)
            continue
        given: dict[str, Any] = {}
        if name != "zerofill":
            model, card, _, temporal, _, _ = training.estimate_variance(
                preproc, head, poses, *((patterns, xfm, facts) if name == "calibrated" else ()), here=here, n_dummy=0,
                method="sbl", factor=FACTOR, model_source="train", omp_nthreads=threads,
            )  # fmt: skip
            given = {"model_file": model, "temporal": temporal}
            weight = json.loads(Path(card).read_text())["held_out"].get("weight", 0.0)
        super_resolution.super_resolve(
            run, reference, head, poses, **given, here=here, series_name="zerofill" if not given else "sbl",
            factor=FACTOR, data_consistency="off", precision="auto", force=True, omp_nthreads=threads, device="cpu",
        )  # fmt: skip
    return files, head.data, weight


def main() -> int:
    """One table."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    work, threads = Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 2
    work.mkdir(parents=True, exist_ok=True)
    files, head, weight = made(Path(sys.argv[1]), work, threads)
    brain = upsample("nearest", (head > 0).astype(np.float32), FACTOR) > 0.5
    inside = {
        name: without_drift(name, "A", load_image(file)[0]).series[brain].astype(np.float64)
        for name, file in files.items()
    }
    courses = np.linalg.eigh(inside["measured"].T @ inside["measured"])[1][:, ::-1][:, :COUNT]
    known = inside["measured"] @ courses
    missed = np.square(known - inside["zerofill"] @ courses).sum(0)
    rows: list[dict[str, object]] = []
    for name in ("blind", "calibrated"):
        share = float((1 - np.square(known - inside[name] @ courses).sum(0) / missed).mean())
        rows.append({"sbl": name, "weight": weight if name == "calibrated" else "", "share": round(share, 4)})
        print(rows[-1], flush=True)
    keep("calibrated_share", "Share of zero filling's error explained, studyforrest, 19 volumes before the run", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
