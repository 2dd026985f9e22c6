"""Arguments of `SuperResolver.fit` for one run, without its series."""

from __future__ import annotations

from pathlib import Path

from bids_sr.api.image_inputs import ImageLike, MaskLike, Motion
from bids_sr.frozen import frozen


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
