"""Noise models of `libraries.py`: ours and nilearn's, on simulated runs and on the example."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

Array = NDArray[Any]
Row = dict[str, Any]
Table = tuple[list[Row], list[str]]
"""Rows, and remarks below the table."""
RUN = (
    Path(__file__).parents[1]
    / "examples/studyforrest/sub-01/func"
    / "sub-01_task-localizer_bold.nii.gz"
)


def timed(function: Callable[..., Any], *arguments: Any, repeats: int = 1) -> tuple[Any, float]:
    """Return the result of a function, and its processor time (s) per call."""
    started = time.process_time()
    for _ in range(repeats):
        result = function(*arguments)
    return result, (time.process_time() - started) / repeats


def noise() -> Table:
    """Compare variances and false positives of noise models, in known noise and the example.

    Known noise is AR(1) with a coefficient of .5 plus white noise, alike in 16,384 independent
    voxels of each of 8 runs, whose designs contain the task and 17 confounds.
    """
    rows: list[Row] = []
    for n_volumes in (60, 136, 300):
        runs = [_compare_noise_models(*_simulate_noise(n_volumes, seed)) for seed in range(8)]
        for same_model in zip(*runs, strict=True):
            numbers = {
                key: np.mean([row[key] for row in same_model])
                for key in same_model[0]
                if key != "model"
            }
            rows.append(
                {"data": "simulated", "volumes": n_volumes, "model": same_model[0]["model"]}
                | numbers
            )
    for row in _compare_noise_models(*_read_example_run()):
        effects_unknown = {"variance / true": "n/a", "p < .001, per mille": "n/a"}
        rows.append({"data": "example", "volumes": 136} | row | effects_unknown)
    return rows, []


def _simulate_noise(n_volumes: int, seed: int) -> tuple[Any, ...]:
    """Return time series without activation, design, contrast, mask and voxel sizes of a run."""
    rng = np.random.default_rng([n_volumes, seed])
    shape = (32, 32, 16)
    signals = 1000 + rng.normal(0, 5, (n_volumes, np.prod(shape)))
    state = rng.normal(0, 8 / np.sqrt(1 - 0.5**2), signals.shape[1])
    for volume in signals:
        state = 0.5 * state + rng.normal(0, 8, len(state))
        volume += state
    task = np.repeat(rng.integers(0, 2, n_volumes // 6 + 1), 6)[:n_volumes]
    task[:6], task[6:12] = 0, 1
    response = np.convolve(task, np.exp(-np.arange(8) / 3))[:n_volumes]
    confounds = ndimage.gaussian_filter1d(rng.normal(size=(n_volumes, 17)), 2, axis=0)
    matrix = np.column_stack([response, confounds, np.ones(n_volumes)])
    return signals, matrix, np.eye(19)[0], np.ones(shape, dtype=bool), (3.0, 3.0, 3.0)


def _read_example_run() -> tuple[Any, ...]:
    """Return time series, design, contrast, mask and voxel sizes of the example."""
    import pandas as pd
    from nilearn.glm.first_level import make_first_level_design_matrix
    from nilearn.masking import compute_epi_mask

    image = nib.load(RUN)
    mask = np.asarray(compute_epi_mask(image).dataobj) > 0
    signals = np.asarray(image.dataobj, dtype=float)[mask].T
    events = pd.read_csv(str(RUN).replace("_bold.nii.gz", "_events.tsv"), sep="\t")
    times = float(image.header.get_zooms()[3]) * np.arange(len(signals))
    design = make_first_level_design_matrix(times, events, hrf_model="spm", high_pass=1 / 128)
    weights = np.isin(design.columns, events.trial_type.unique()).astype(float)
    return signals, design.to_numpy(), weights, mask, image.header.get_zooms()[:3]


def _compare_noise_models(
    signals: Array, matrix: Array, weights: Array, mask: Array, zooms: Any
) -> list[Row]:
    """Return variances of a contrast, false positives and cost, one row per noise model."""
    from nilearn.glm.contrasts import compute_contrast
    from nilearn.glm.first_level import run_glm

    from bids_sr.glm.linear_model import ContrastModel
    from bids_sr.glm.noise import estimate_noise

    def fit_ours() -> dict[str, Array]:
        estimated_noise = estimate_noise(
            [(slice(0, signals.shape[1]), signals)], matrix, mask, zooms, 2.0
        )
        return ContrastModel(matrix, weights, estimated_noise).fit(signals)

    def fit_nilearn(model: str) -> dict[str, Array]:
        contrast = compute_contrast(*run_glm(signals, matrix, noise_model=model), weights)
        return {
            "effect": contrast.effect_size(),
            "variance": contrast.effect_variance(),
            "z": contrast.z_score(),
        }

    maps_ours, seconds_ours = timed(fit_ours)
    fits = {"ours": (maps_ours, seconds_ours)} | {
        f"nilearn, {model}": timed(fit_nilearn, model) for model in ("ar1", "ar3")
    }
    return [
        {
            "model": model,
            "variance / ours": float(
                np.median(np.ravel(maps["variance"]) / np.ravel(maps_ours["variance"]))
            ),
            "variance / true": float(maps["variance"].mean() / np.var(maps["effect"])),
            "p < .001, per mille": 500 * float((np.abs(maps["z"]) > -special.ndtri(0.001)).mean()),
            "CPU s": seconds,
        }
        for model, (maps, seconds) in fits.items()
    ]
