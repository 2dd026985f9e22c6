"""Arguments of `SuperResolver.fit` for one run, without its series."""

from __future__ import annotations

from pathlib import Path

from bids_sr.api.image_inputs import ImageLike, MaskLike, Motion
from bids_sr.io.frozen import frozen


@frozen
class RunInputs:
    """Arguments of `fit` for one run, without its series; see `bids_sr.SuperResolver`.

    `mask_img` is the brain on the acquired grid; None to segment it. `motion` contains transforms
    of boldref points to points of each volume (T, 4, 4); None to estimate them. `boldref` is None
    for the mean of the volumes.

    `guide` is the high-resolution T2*w image, and `lowres` the low-resolution image of the pair
    (both 3D). `calibration` is a short BOLD run at the high resolution (4D), and
    `calibration_events` is the path of its BIDS events. `guide_xfm` and `calibration_xfm` are
    transforms of boldref points to guide points and to calibration points; None to estimate them.
    """

    mask_img: MaskLike | None = None
    motion: Motion | None = None
    boldref: ImageLike | None = None
    guide: ImageLike | None = None
    lowres: ImageLike | None = None
    guide_xfm: Motion | None = None
    calibration: ImageLike | None = None
    calibration_xfm: Motion | None = None
    calibration_events: str | Path | None = None
