"""Arguments of an estimator's `fit` for one run, without its series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bids_sr.api.image_inputs import ImageLike, MaskLike, Motion
from bids_sr.frozen import frozen

Truth = ImageLike | Mapping[str, ImageLike]


@frozen
class RunInputs:
    """Arguments of `fit` for one run, without its series; see `bids_sr.SuperResolver`.

    Parameters
    ----------
    mask : MaskLike | None
        Brain on the acquired grid; None to segment it.
    motion : Motion | None
        Transforms of boldref points to points of each volume (T, 4, 4); None to estimate them.
    boldref : ImageLike | None
        Boldref of the run; None for the mean of its volumes.
    guide : ImageLike | None
        High-resolution T2*w image (3D).
    lowres : ImageLike | None
        Low-resolution image of the T2*w pair (3D).
    guide_xfm : Motion | None
        Transform of boldref points to guide points; None to estimate it.
    calibration : ImageLike | None
        Short BOLD run at the high resolution (4D).
    calibration_xfm : Motion | None
        Transform of boldref points to calibration points; None to estimate it.
    calibration_events : str | Path | None
        Path of the BIDS events of the calibration run.
    events : pd.DataFrame | str | Path | None
        Events of the run, or the path of their table; None for a run with seeds.
    seeds : Mapping[str, Sequence[float]] | None
        Center of each seed by name (RAS mm).
    confounds : pd.DataFrame | np.ndarray | str | Path | None
        Confounds of the run, one row per volume; None to use its head motion.
    roi : MaskLike | None
        Region of interest on the high-resolution grid; None for the brain.
    truth : Truth | None
        Series measured at the high resolution, or known activation by contrast.
    other_run : ImageLike | None
        Another acquired run of the task (4D).
    other_events : pd.DataFrame | str | Path | None
        Events of this run, or the path of their table.
    """

    mask: MaskLike | None = None
    motion: Motion | None = None
    boldref: ImageLike | None = None
    guide: ImageLike | None = None
    lowres: ImageLike | None = None
    guide_xfm: Motion | None = None
    calibration: ImageLike | None = None
    calibration_xfm: Motion | None = None
    calibration_events: str | Path | None = None
    events: pd.DataFrame | str | Path | None = None
    seeds: Mapping[str, Sequence[float]] | None = None
    confounds: pd.DataFrame | np.ndarray | str | Path | None = None
    roi: MaskLike | None = None
    truth: Truth | None = None
    other_run: ImageLike | None = None
    other_events: pd.DataFrame | str | Path | None = None

    @property
    def known(self) -> Mapping[str, ImageLike]:
        """Known activation by contrast."""
        return self.truth if isinstance(self.truth, Mapping) else {}

    @property
    def measured(self) -> ImageLike | None:
        """Series measured at the high resolution; None if `truth` is activation or missing."""
        return None if isinstance(self.truth, Mapping) else self.truth
