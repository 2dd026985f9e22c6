"""A fitted `SuperResolver` applied to one run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from bids_sr.api.image_inputs import (
    ImageInputError,
    ImageLike,
    Motion,
    PreparedRun,
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
from bids_sr.sr.data.temporal_components import TemporalStatistics
from bids_sr.sr.device import Precision
from bids_sr.sr.inference.acquired import PosedImage, Upsampler, UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import Keeping, make_upsampler, write_series
from bids_sr.sr.method import get_method
from bids_sr.sr.models.compatibility import check_model
from bids_sr.sr.models.model import LoadedModel

PLAIN = (*INTERPOLATIONS, *PAIR_BASELINES)
"""Baselines that need no model."""


class FittedRun(BaseEstimator):
    """What a `SuperResolver` learned of a run, applied to series of it."""

    method: str
    realigned: bool
    data_consistency: Keeping
    precision: Precision
    n_jobs: int
    device: Literal["cpu", "cuda"]
    verbose: int
    factor_: tuple[float, float, float]
    model_: LoadedModel | None
    applied_: bool
    facts_: dict[str, Mapping[str, object]]
    _run: PreparedRun
    _same: str
    _example: tuple[Array, Array]
    _guide: PosedImage | None
    _statistics: TemporalStatistics | None

    def _upsampler(self, affine: Array | None = None) -> Upsampler:
        """Return the upsampler from a volume (x, y, z) and its pose (4, 4) to the finer grid.

        The volume has the affine of the run unless `affine` is given.
        """
        check_is_fitted(self)
        run, own = self._run, self._run.boldref.affine if affine is None else affine
        if self.model_ is not None:
            check_model(self.model_.card, own, "bold", self.factor_)
        acquired = UpsamplerInputs(
            factor=self.factor_,
            affine=own,
            guide=self._guide,
            statistics=self._statistics,
            precision=self.precision,
            device=self.device,
            threads=self.n_jobs,
        ).in_run(run.boldref.data, run.boldref.affine, run.brain.data)
        return make_upsampler(self.method, acquired, self.model_)

    def _transform_one(
        self, bold: ImageLike, motion: Motion | None, out_file: str | os.PathLike[str] | None
    ) -> nib.Nifti1Image:
        """Super-resolve one run; parameters and result are those of `SuperResolver.transform`."""
        say = notes("SuperResolver.transform", self.verbose)
        with working_folder() as folder, opened(bold, folder, "bold") as reader:
            poses = self._poses(reader, motion)
            target = folder / "fine.nii" if out_file is None else Path(out_file)
            if target.resolve() == reader.path.resolve():
                raise ImageInputError(
                    f"out_file: {target} is the series itself; name another file"
                )
            say(f"{reader.shape[3]} volumes by {self.method}")
            write_series(
                reader,
                target,
                self._upsampler(reader.affine),
                poses,
                self._run.boldref.affine,
                factor=self.factor_,
                consistency=self.data_consistency,
                threads=self.n_jobs,
                tr=told_tr(reader.header),
            )
            fine = nib.Nifti1Image.from_filename(target)
            if out_file is None:
                data = np.asarray(fine.dataobj, dtype=np.float32)
                fine = nib.Nifti1Image(
                    data[..., 0] if reader.ndim == 3 else data, fine.affine, fine.header
                )
        return fine

    def _poses(self, reader: SeriesReader, motion: Motion | None) -> Array:
        """Head motion of a series that may be another run than that of `fit`."""
        run, shape = self._run, self._run.boldref.data.shape
        if reader.shape[:3] != shape or not np.allclose(
            reader.affine, run.boldref.affine, atol=1e-3
        ):
            own = f"its grid {reader.shape[:3]} is not that of the run of fit {shape}"
            raise ImageInputError(f"bold: {own}; fit on this run")
        if same_run_as(reader) == self._same:
            return run.poses if motion is None else poses_of(motion, reader.shape[3])
        if self.method not in PLAIN and get_method(self.method).of_the_run:
            raise ImageInputError(
                f"bold: {self.method} learned from another run and serves that one alone; fit on"
                " this run"
            )
        if motion is not None:
            return poses_of(motion, reader.shape[3])
        if self.realigned:
            return np.repeat(np.eye(4)[None], reader.shape[3], 0)
        return estimate_run(reader, run.boldref.data).matrices
