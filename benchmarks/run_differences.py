"""Difference between two runs of one condition: false positives.

python benchmarks/run_differences.py OUT

OUT is the output of a call with participant sub-01, whose boldref is the head. Foci are measured
in two runs; in the second, the head is displaced by up to .5 mm and .5 degrees. Boldrefs have
noise and smooth changes of intensity; effects have noise and a reconstruction error, of which a
part is shared. Runs are registered, resampled and compared by the steps of the program.
"""

import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from _table import keep
from place_error import draw_pose
from scipy.ndimage import gaussian_filter

from bids_sr.engine.artifacts import Derivative
from bids_sr.group.combination.steps.combined_runs import contrast_runs
from bids_sr.group.combination.steps.resampled_runs import (
    estimate_place_error,
    register_to_first_run,
    resample_run_maps,
)
from bids_sr.io.volume import Volume
from bids_sr.spatial.resampling import sample_volume
from bids_sr.survey.preflight.combined_runs import RunTerm

N_SEEDS = 30
N_FOCI, FWHM_MM = 40, (5.0, 10.0)
NOISE, RELATIVE_ERROR, SHARED = 0.25, 0.2, 0.7  # percent; relative to the effect; correlation
TERMS = (
    RunTerm(label="run-2", contrast="a", weight=1.0, runs=("run-2",)),
    RunTerm(label="run-1", contrast="a", weight=-1.0, runs=("run-1",)),
)


def measure_effect(foci, points):
    """Return the effect of foci at points (…, 3; mm)."""
    effect = np.zeros(points.shape[:-1])
    for center, fwhm, height in foci:
        distance = np.square(points - center).sum(-1)
        effect += height * np.exp(-4 * np.log(2) * distance / fwhm**2)
    return effect


def compare(boldref, mask, mask_hr, rng, folder):
    """Return maps with and without the error of the place."""
    pose = draw_pose(rng)
    data, affine = boldref.data, boldref.affine
    moved = sample_volume(data, affine, data.shape, affine, np.linalg.inv(pose))
    field = gaussian_filter(rng.normal(size=data.shape), (8, 8, 6))
    sd = 0.005 * data[mask.data].mean()
    boldrefs = [
        Volume((values + rng.normal(0, sd, data.shape)).astype(np.float32), affine)
        for values in (data, moved * (1 + 0.02 * field / field[mask.data].std()))
    ]
    xfm = register_to_first_run(boldrefs[1], boldrefs[0], mask, mask, folder, random_seed=0)
    place = estimate_place_error(boldrefs[1], boldrefs[0], mask, xfm)
    voxels = np.argwhere(mask_hr.data)
    centers = nib.affines.apply_affine(
        mask_hr.affine, voxels[rng.integers(len(voxels), size=N_FOCI)]
    )
    foci = [(center, rng.uniform(*FWHM_MM), rng.uniform(1, 5)) for center in centers]
    grid = nib.affines.apply_affine(
        mask_hr.affine, np.moveaxis(np.indices(mask_hr.data.shape), 0, -1)
    )
    to_first = np.linalg.inv(pose)
    maps = []
    pattern = gaussian_filter(rng.normal(size=mask_hr.data.shape), 1)
    for name, points, transform in (
        ("run-1", grid, None),
        ("run-2", nib.affines.apply_affine(to_first, grid), xfm),
    ):
        truth = measure_effect(foci, points)
        own = gaussian_filter(rng.normal(size=truth.shape), 1)
        shared = sample_volume(
            pattern,
            mask_hr.affine,
            truth.shape,
            mask_hr.affine,
            None if transform is None else to_first,
        )
        error = np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own
        error_sd = RELATIVE_ERROR * np.abs(truth) + 1e-3
        noise = gaussian_filter(rng.normal(size=truth.shape), 0.6)
        noise *= NOISE / noise.std()
        effect = truth + error_sd * error / pattern.std() + noise
        values = {
            "effect": effect,
            "variance": np.full(truth.shape, NOISE**2),
            "t": effect / NOISE,
        }
        source = [
            Derivative(
                Volume(np.where(mask_hr.data, data, 0).astype(np.float32), mask_hr.affine),
                {"contrast": "a", "stat": stat, "desc": "sbl", "suffix": "statmap"},
                {"SmoothingFWHM": 0.0, "MeanSignal": 100.0, "Model": {"DegreesOfFreedom": 300}},
            )
            for stat, data in values.items()
        ]
        resampled = resample_run_maps(
            source,
            mask_hr,
            mask_hr,
            first2run_xfm=transform,
            here=folder / name,
            run=name,
            contrasts=["a"],
            over_sessions=True,
        )
        sd_map = Derivative(
            Volume(error_sd.astype(np.float32), mask_hr.affine),
            {**resampled[0].entities, "stat": "sd"},
            resampled[0].sidecar,
        )
        maps += [*resampled, sd_map]
    results = []
    for place_errors in ({"run-2": place}, {}):
        images, _ = contrast_runs(
            maps,
            place_errors,
            [],
            here=folder,
            series_name="sbl",
            over_runs={"change": TERMS},
            runs={
                name: {"subject": "01", "task": "x", "run": name[-1], "datatype": "func"}
                for name in ("run-1", "run-2")
            },
            left_out={},
            thresholds=["fdr"],
            calibrated=False,
        )
        results.append(
            {
                image.entities.get("stat", image.entities["desc"]): np.array(image.volume.data)
                for image in images
            }
            | {"share": images[0].sidecar["PlaceErrorShare"]}
        )
    return results


def main(out):
    """Measure the null."""
    (boldref_file,) = Path(out).rglob("sub-01_*desc-hmc_boldref.nii.gz")
    (mask_file,) = Path(out).rglob("sub-01_*space-boldref_label-brain_desc-acquired_mask.nii.gz")
    image = nib.load(boldref_file)
    boldref = Volume(np.asarray(image.dataobj, np.float32), image.affine)
    mask = Volume(np.asarray(nib.load(mask_file).dataobj) > 0, image.affine)
    fine = np.diag([0.5, 0.5, 1, 1])
    fine[:2, 3] = -0.25
    mask_hr = Volume(np.kron(mask.data, np.ones((2, 2, 1), bool)), image.affine @ fine)
    nulls = []
    for seed in range(N_SEEDS):
        rng_state = np.random.default_rng(seed)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for run in ("run-1", "run-2"):
                (folder / run).mkdir()
            results = compare(boldref, mask, mask_hr, rng_state, folder)
            nulls.append(
                [
                    value
                    for result in results
                    for value in (
                        result["sblFdr"].any(),
                        np.mean(np.abs(result["t"][mask_hr.data]) > 1.96),
                    )
                ]
                + [results[0]["share"]]
            )
    table = np.array(nulls, float)
    rows = [
        {
            "error of the place": text,
            "maps with significant voxels": int(table[:, 2 * k].sum()),
            "of": N_SEEDS,
            "voxels beyond 1.96": float(table[:, 2 * k + 1].mean()),
            "share of the variance": float(table[:, -1].mean()) if k == 0 else 0.0,
        }
        for k, text in enumerate(("included", "omitted"))
    ]
    keep("run_differences", "Two runs of one condition", rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
