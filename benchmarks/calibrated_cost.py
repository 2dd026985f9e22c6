"""Cost of a calibration: time and memory to fit and apply it, compared with the same run without
calibration.

python benchmarks/calibrated_cost.py RUN.nii.gz OTHER_RUN.nii.gz WORK [THREADS]

RUN is used as acquired. Its calibration is 20 volumes of OTHER_RUN on a grid twice as fine in
plane (zero filling and white noise, because only the cost is measured, not accuracy). Steps of the
program are called in memory. Each is timed twice, with and without calibration alternately, in
separate processes, so that memory is measured per step.
"""

import json
import multiprocessing
import resource
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from _table import keep

from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.sr.matrices import upsample
from bids_sr.sr.models.request import ModelSettings

FACTOR = (2.0, 2.0, 1.0)
FIRST, VOLUMES = 70, 20


def prepared(run: Path, calibration_run_file: Path, work: Path) -> dict[str, Any]:
    """Compute head motion, brain and registration, which are needed with and without a
    calibration.
    """
    from bids_sr.steps import (
        bold_reference,
        calibration_run,
        motion,
        resampled_series,
    )

    image: Any = nib.load(run)  # type: ignore[attr-defined]
    save_image(
        np.asarray(image.dataobj, np.float32),
        image.affine,
        work / "run.nii",
        header_like=image.header,
    )
    image = nib.load(calibration_run_file)  # type: ignore[attr-defined]
    fine = upsample(
        "zerofill", np.asarray(image.dataobj[..., FIRST : FIRST + VOLUMES], np.float32), FACTOR
    )
    fine += np.random.default_rng(0).normal(0, 0.01 * fine.mean(), fine.shape)
    affine = image.affine @ np.diag([0.5, 0.5, 1, 1])
    affine[:3, 3] -= image.affine[:3, :2] @ [0.25, 0.25]
    save_image(fine.astype(np.float32), affine, work / "calibration.nii", tr=2.0)
    out: dict[str, Any] = {}
    for name in ("run", "calibration"):
        series = SeriesReader(work / f"{name}.nii")
        reference = bold_reference.average_volumes(series, n_dummy=0)
        head = bold_reference.mask_head(reference)
        out[name] = (reference, head, *motion.estimate_motion(series, reference, head, n_dummy=0))
    (reference, head, poses, _), (other_reference, other_head, other_poses, table) = (
        out["run"],
        out["calibration"],
    )
    xfm, registration_facts = calibration_run.register_calibration(
        reference, head, other_reference, other_head, work, factor=FACTOR, random_seed=0
    )
    patterns, facts = calibration_run.measure_calibration(
        SeriesReader(work / "calibration.nii"),
        other_head,
        other_poses,
        table,
        registration_facts,
        n_dummy=0,
        tr=2.0,
    )
    resampled_series.correct_motion(SeriesReader(work / "run.nii"), reference, poses, here=work)
    return {
        "reference": reference,
        "head": head,
        "poses": poses,
        "calibration": calibration_run.Calibration(
            calibration_patterns=patterns,
            boldref2calibration_xfm=xfm,
            calibration_facts=facts,
        ),
    }


def measure(inputs: dict[str, Any], calibrated: bool, work: Path, threads: int) -> None:
    """Estimate the maps and apply them; write times, memory and the decision to a file."""
    from bids_sr.execution.usage import retain_freed_memory
    from bids_sr.steps import super_resolution, training

    retain_freed_memory()  # as in each worker of a run
    folder = work / ("calibrated" if calibrated else "blind")
    folder.mkdir(exist_ok=True)
    reference, head, poses = inputs["reference"], inputs["head"], inputs["poses"]
    start_s = time.monotonic()
    files = training.estimate_variance(
        SeriesReader(work / "preproc.nii"),
        head,
        poses,
        inputs["calibration"] if calibrated else None,
        here=folder,
        n_dummy=0,
        training=ModelSettings(method="sbl", model_source="train", omp_nthreads=threads),
        factor=FACTOR,
    )
    set_up_s = time.monotonic()
    aligned = super_resolution.AlignedSeries(
        stc=SeriesReader(work / "run.nii"), boldref=reference, bold_mask=head, hmc_xfms=poses
    )
    super_resolution.super_resolve(
        aligned,
        files.model_file,
        here=folder,
        series_name="sbl",
        factor=FACTOR,
        inference=super_resolution.Inference(precision="auto", force=True, omp_nthreads=threads),
    )
    applied = time.monotonic()
    costs = {
        "set-up s": set_up_s - start_s,
        "application s": applied - set_up_s,
        "GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "weight": json.loads(Path(str(files.card_file)).read_text())["held_out"].get("weight", ""),
    }
    (folder / "cost.json").write_text(json.dumps(costs))


def main() -> int:
    """Measure with and without calibration, twice each."""
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    work, threads = Path(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 2
    work.mkdir(parents=True, exist_ok=True)
    inputs = prepared(Path(sys.argv[1]), Path(sys.argv[2]), work)
    rows: list[dict[str, object]] = []
    for calibrated in (True, False, True, False):
        child = multiprocessing.Process(target=measure, args=(inputs, calibrated, work, threads))
        child.start()
        child.join()
        name = "calibrated" if calibrated else "blind"
        costs = json.loads((work / name / "cost.json").read_text())
        rows.append(
            {
                "sbl": name,
                **{key: round(v, 2) if isinstance(v, float) else v for key, v in costs.items()},
            }
        )
        print(rows[-1], flush=True)
    size = " x ".join(map(str, SeriesReader(work / "run.nii").shape))
    keep(
        "calibrated_cost", f"Cost of a calibration, {size}, by 2 in plane, {threads} threads", rows
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
