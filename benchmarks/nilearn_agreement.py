"""Compare maps that nilearn computes from a preprocessed series with maps of this program's
functions from the same file.

python benchmarks/nilearn_agreement.py RAW DERIVATIVES TASK [--spaces SPACE[:res-LABEL] …] [--fwhm
MM …]

`first_level_from_bids` finds series, mask, events and confounds by their names; its design matrix,
mask and width of smoothing are used unchanged. `ols` is the correlation over the mask of both t
maps, each by ordinary least squares; `own_noise` is the correlation of nilearn's t map by ordinary
least squares with the t map of our noise model.
"""

import argparse
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from _table import keep
from nilearn.glm.first_level import FirstLevelModel, first_level_from_bids

from bids_sr.glm.linear_model import ContrastModel
from bids_sr.glm.noise import NoiseModel, estimate_noise
from bids_sr.glm.time_series import extract_time_series
from bids_sr.io.nifti import SeriesReader

STRATEGY = {"confounds_strategy": ("motion", "high_pass", "wm_csf"), "confounds_motion": "basic"}


class Read(NamedTuple):
    """One run as read and fitted by nilearn: the model, its series, and the conditions of its
    events.
    """

    model: FirstLevelModel
    series: Path
    conditions: list[str]


def read_and_fit(
    raw: Path,
    derivatives: Path,
    task: str,
    *,
    space: str | None = None,
    res: str = "",
    fwhm_mm: float = 0.0,
) -> Iterator[Read]:
    """Yield the runs of a task as nilearn finds and fits them, by ordinary least squares, with
    their masks.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first_levels = first_level_from_bids(
            raw,
            task,
            space_label=space or "",
            img_filters=[("res", res)] if res else None,
            derivatives_folder=str(derivatives.resolve()),
            mask_img="derivatives",
            smoothing_fwhm=fwhm_mm or None,
            noise_model="ols",
            hrf_model="spm",
            drift_model=None,
            minimize_memory=False,
            **STRATEGY,
        )
        for model, series, events, confounds in zip(*first_levels[:4], strict=True):
            # lists, for one run or several
            tables = [confounds] if isinstance(confounds, pd.DataFrame) else confounds
            for run_series, run_events, table in zip(series, events, tables, strict=True):
                yield Read(
                    model.fit(run_series, run_events, table),
                    Path(run_series),
                    sorted(set(run_events.trial_type)),
                )


def own_maps(read: Read, mask: np.ndarray, contrasts: np.ndarray, noise: str) -> np.ndarray:
    """Compute t of contrasts (C, voxels) by this program, with nilearn's design matrix, mask and
    smoothing.

    `noise` is "white" for ordinary least squares, or "own" for the model of the program.
    """
    matrix = read.model.design_matrices_[0].to_numpy(dtype=np.float64)
    t = np.zeros((len(contrasts), int(mask.sum())))
    with tempfile.TemporaryDirectory() as folder, SeriesReader(read.series) as reader:
        width = read.model.smoothing_fwhm or 0.0
        with extract_time_series(reader, mask, Path(folder), smoothing=(width,)) as found_series:
            signals = found_series[width]
            white = noise == "white"
            noise_model = (
                NoiseModel.white(t.shape[1])
                if white
                else estimate_noise(signals.blocks(), matrix, mask, reader.zooms, reader.tr)
            )
            fitted = ContrastModel(matrix, contrasts, noise_model)
            for voxels, block in signals.blocks():
                t[:, voxels] = fitted.fit(block, voxels)["t"]
    return t


def agreement(read: Read) -> list[dict[str, str | float]]:
    """Correlate over the mask with nilearn's t map of each condition and each pair, one row per
    contrast.
    """
    mask = read.model.masker_.mask_img_.get_fdata() > 0
    columns = list(read.model.design_matrices_[0].columns)
    weights = np.array([[float(column == name) for column in columns] for name in read.conditions])
    named = dict(zip(read.conditions, weights, strict=True))
    if len(read.conditions) > 1:
        named["-".join(read.conditions[:2])] = weights[0] - weights[1]
    theirs = [
        read.model.compute_contrast(contrast, stat_type="t", output_type="stat").get_fdata()[mask]
        for contrast in named.values()
    ]
    contrasts = np.array(list(named.values()))
    ours = {noise: own_maps(read, mask, contrasts, noise) for noise in ("white", "own")}
    return [
        {
            "series": read.series.name.removesuffix("_desc-preproc_bold.nii.gz"),
            "fwhm_mm": read.model.smoothing_fwhm or 0.0,
            "contrast": name,
            "voxels": int(mask.sum()),
            "ols": float(np.corrcoef(theirs[k], ours["white"][k])[0, 1]),
            "own_noise": float(np.corrcoef(theirs[k], ours["own"][k])[0, 1]),
            "largest_difference": float(np.abs(theirs[k] - ours["white"][k]).max()),
        }
        for k, name in enumerate(named)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("raw", type=Path)
    parser.add_argument("derivatives", type=Path)
    parser.add_argument("task")
    parser.add_argument("--spaces", nargs="+", default=["func"], help="func is that of the run")
    parser.add_argument("--fwhm", type=float, nargs="+", default=[0.0, 5.0])
    arguments = parser.parse_args()
    rows = [
        row
        for fwhm_mm in arguments.fwhm
        for space, _, res in (
            space_argument.removeprefix("func").partition(":res-")
            for space_argument in arguments.spaces
        )
        for read in read_and_fit(
            arguments.raw,
            arguments.derivatives,
            arguments.task,
            space=space,
            res=res,
            fwhm_mm=fwhm_mm,
        )
        for row in agreement(read)
    ]
    keep(
        "nilearn_agreement",
        "t maps of nilearn and ours, of one file: correlation over the mask",
        rows,
    )


if __name__ == "__main__":
    main()
