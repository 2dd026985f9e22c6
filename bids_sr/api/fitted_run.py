"""A fitted `SuperResolver` applied to one run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from bids_sr.api.image_inputs import (
    ImageInputError,
    ImageLike,
    Motion,
    opened,
    poses_of,
    same_run_as,
    told_tr,
    working_folder,
)
from bids_sr.api.several_runs import notes
from bids_sr.io.array_types import Array
from bids_sr.io.nifti import SeriesReader
from bids_sr.series import INTERPOLATIONS, PAIR_BASELINES
from bids_sr.spatial.boldref import estimate_run
from bids_sr.sr.inference.apply_to_series import write_series
from bids_sr.sr.method import get_method

if TYPE_CHECKING:
    from bids_sr.api.super_resolver import SuperResolver

PLAIN = (*INTERPOLATIONS, *PAIR_BASELINES)
"""Baselines that need no model."""


def transform_one(
    fitted: SuperResolver, *, bold: ImageLike, motion: Motion | None, out_file: str | os.PathLike[str] | None
) -> nib.Nifti1Image:
    """Super-resolve one run; parameters and result are those of `SuperResolver.transform`."""
    say = notes(fitted, "transform")
    with working_folder() as folder, opened(bold, folder, "bold") as reader:
        poses = _poses(fitted, reader, motion)
        target = folder / "fine.nii" if out_file is None else Path(out_file)
        if target.resolve() == reader.path.resolve():
            raise ImageInputError(f"out_file: {target} is the series itself; name another file")
        say(f"{reader.shape[3]} volumes by {fitted.method}")
        _write(fitted, reader, poses, target)
        fine: Any = nib.load(target)
        if out_file is None:
            data = np.asarray(fine.dataobj, dtype=np.float32)
            fine = nib.Nifti1Image(data[..., 0] if reader.ndim == 3 else data, fine.affine, fine.header)
    return fine


def _poses(fitted: SuperResolver, reader: SeriesReader, motion: Motion | None) -> Array:
    """Head motion of a series that may be another run than that of `fit`."""
    run = fitted._run
    if reader.shape[:3] != run.mask.shape or not np.allclose(reader.affine, run.affine, atol=1e-3):
        own = f"its grid {reader.shape[:3]} is not that of the run of fit {run.mask.shape}"
        raise ImageInputError(f"bold: {own}; fit on this run")
    if same_run_as(reader) == fitted._same:
        return run.poses if motion is None else poses_of(motion, reader.shape[3])
    if fitted.method not in PLAIN and get_method(fitted.method).of_the_run:
        raise ImageInputError(
            f"bold: {fitted.method} learned from another run and serves that one alone; fit on this run"
        )
    if motion is not None:
        return poses_of(motion, reader.shape[3])
    if fitted.realigned:
        return np.repeat(np.eye(4)[None], reader.shape[3], 0)
    return estimate_run(reader, run.boldref).matrices


def _write(fitted: SuperResolver, reader: SeriesReader, poses: Array, target: Path) -> None:
    write_series(
        reader, target, fitted._upsampler(reader.affine), poses, fitted._run.affine, factor=fitted.factor_,
        consistency=fitted.data_consistency, threads=fitted.n_jobs, tr=told_tr(reader.header),
    )  # fmt: skip
