"""Arguments of `fit` of an estimator for one run beside its series."""

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
    """What `fit` of an estimator was given for one run beside its series; see there.

    Parameters
    ----------
    mask : MaskLike | None
        Voxels of the brain on the acquired grid; None finds them.
    motion : Motion | None
        Transforms of a boldref point to its volume point (T, 4, 4); None estimates them.
    boldref : ImageLike | None
        Reference of the run; None: the mean of its volumes.
    guide : ImageLike | None
        High-resolution T2*w image (3D); None if missing.
    lowres : ImageLike | None
        Low-resolution image of the T2*w pair (3D); None if missing.
    guide_xfm : Motion | None
        Transform of a boldref point to its guide point; None estimates it.
    calibration : ImageLike | None
        Short BOLD run at the high resolution (4D); None if missing.
    calibration_xfm : Motion | None
        Transform of a boldref point to its calibration point; None estimates it.
    calibration_events : str | Path | None
        Path of the BIDS events of the calibration; None if missing.
    events : pd.DataFrame | str | Path | None
        Events of the run, or the path of their table; None for a run with seeds.
    seeds : Mapping[str, Sequence[float]] | None
        Center of each seed by name (RAS+ mm); None if missing.
    confounds : pd.DataFrame | np.ndarray | str | Path | None
        Confounds of the run, one row per volume; None takes its head motion.
    roi : MaskLike | None
        Voxels of the region of interest on the high-resolution grid; None: the brain.
    truth : Truth | None
        Series measured at the high resolution, or known activation by contrast; None if missing.
    other_run : ImageLike | None
        Another acquired run of the task (4D); None if missing.
    other_events : pd.DataFrame | str | Path | None
        Events of that run, or the path of their table; None if missing.
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
        """The series that was measured at the high resolution."""
        return None if isinstance(self.truth, Mapping) else self.truth
