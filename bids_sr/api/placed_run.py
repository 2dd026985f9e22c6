"""A run of images in a scope of the program's graph: what is given, and steps for the rest."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from bids_sr.api.image_inputs import (
    Dummies,
    ImageInputError,
    ImageLike,
    MaskLike,
    Motion,
    SuperResolutionWarning,
    mask_on,
    poses_of,
    slices_last,
    volume_of,
)
from bids_sr.frozen import frozen
from bids_sr.io.grids import AS_STORED
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.volume import Volume
from bids_sr.pipeline.graph import Scope
from bids_sr.pipeline.run_here import RunHere
from bids_sr.steps.imported import import_mask
from bids_sr.steps.motion import count_dummies, find_motion_left
from bids_sr.steps.registration import mask_bold
from bids_sr.steps.super_resolution import undo_motion
from bids_sr.workflows.acquired_runs import add_motion

Truth = ImageLike | Mapping[str, ImageLike]
OF_RUN = ("n_dummy", "boldref", "bold_mask", "bold_mask_hr", "hmc_xfms", "motion")
"""What is found of a run before anything is learned from it, by the names of the steps."""
_MOST_LEFT_MM = 0.5
"""Displacement of the brain (rms) above which a series that is said to be realigned is doubted."""


@frozen
class Given:
    """What `fit` of an estimator was given for one run beside its series; see there.

    `motion`: transforms of a boldref point to its volume point (T, 4, 4); None estimates them.
    `guide`: high-resolution T2*w image (3D); None for none. `lowres`: low-resolution image of the
    T2*w pair (3D); None for none. `guide_xfm`: transform of a boldref point to its guide point;
    None estimates it. `calibration`: short BOLD run at the high resolution (4D); None for none.
    `calibration_xfm`: transform of a boldref point to its calibration point; None estimates it.
    `calibration_events`: path of the BIDS events of the calibration; None for none. `seeds`:
    center of each seed by name (RAS+ mm); None for none. `truth`: series measured at the high
    resolution, or known activation by contrast; None for none. `other_run`: another acquired run
    of the task (4D); None for none. `other_events`: events of that run, or the path of their
    table; None for none.
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
    confounds: pd.DataFrame | None = None
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


def place_run(
    reader: SeriesReader,
    given: Given,
    settings: Mapping[str, object],
    folder: Path,
    n_dummy: Dummies,
    found: Mapping[str, object] | None = None,
) -> Scope:
    """Place a run, with the steps that find what is not given of `OF_RUN`."""
    slices_last(reader)
    total, known = reader.shape[3], dict(found or {})
    if n_dummy != "auto" and not 0 <= n_dummy <= total - 2:
        raise ImageInputError(
            f"n_dummy: {n_dummy} of {total} volumes leave less than two; give a smaller number"
        )
    dummies = None if n_dummy == "auto" else int(n_dummy)
    own = {"axis_order": AS_STORED, "origin": "Python", "dummy_scans": dummies}
    scope = Scope("run", {**own, **settings})
    scope.give(bold=reader, stc=reader)
    scope.add(count_dummies, undo_motion, quiet=True)
    if known and given.motion is None and given.boldref is None:
        scope.give(**{name: known[name] for name in ("boldref", "hmc_xfms", "motion")})
    else:
        _place_motion(scope, reader, given, known, folder)
    if known and given.mask is None:
        scope.give(**{name: known[name] for name in ("bold_mask", "bold_mask_hr")})
    elif given.mask is None:
        scope.add(mask_bold)
    else:
        mask = mask_on(given.mask, grid_of(reader), folder)
        scope.give(given_bold_mask=folder / "bold_mask.nii")
        save_image(mask.data, mask.affine, folder / "bold_mask.nii", dtype=np.uint8)
        scope.add(import_mask)
    return scope


def _place_motion(
    scope: Scope,
    reader: SeriesReader,
    given: Given,
    known: Mapping[str, object],
    folder: Path,
) -> None:
    """Head motion and reference, as far as they are given."""
    motion = cast("Motion | None", known.get("hmc_xfms"))
    motion = motion if given.motion is None else given.motion
    image = cast("Volume | None", known.get("boldref"))
    poses = None if motion is None else poses_of(motion, reader.shape[3])
    if poses is None and scope.setting("realigned"):
        poses = still(reader.shape[3])
    if poses is not None:
        scope.give(given_hmc_xfms=poses)
    if given.boldref is not None:
        image = volume_of(given.boldref, folder, "boldref")
        if image.data.shape != reader.shape[:3] or not np.allclose(
            image.affine, reader.affine, atol=1e-3
        ):
            raise ImageInputError(
                f"boldref: {image.data.shape} is not the grid of the series {reader.shape[:3]}"
            )
    if image is not None:
        name = "boldref" if poses is None else "given_boldref"
        scope.give(**{name: Volume(image.data, reader.affine)})
    add_motion(scope)


def still(n_volumes: int) -> np.ndarray:
    """Return poses (T, 4, 4) of a head that does not move.

    Nothing; the messages end when the context is left.
    """
    return np.repeat(np.eye(4)[None], n_volumes, 0)


def grid_of(reader: SeriesReader) -> Volume:
    """An image of nothing on the grid of a series.

    Image with no voxel set (3D, boolean), with the affine of the series.
    """
    return Volume(np.zeros(reader.shape[:3], bool), reader.affine)


def doubt_realigned(
    here: RunHere, scope: Scope, boldref: str = "boldref", mask: str = "bold_mask"
) -> None:
    """Warn where volumes of a series that is said to be realigned lie off its reference."""
    wires = {"boldref": scope[boldref], "bold_mask": scope[mask]}
    scope.add(find_motion_left, wires=wires)
    at, far = here.load(scope["doubtful_volume"], scope["displacement_mm"])
    if cast("float", far) > _MOST_LEFT_MM:
        where = f"realigned=True, but volume {at} lies {far:.1f} mm from the reference"
        text = (
            f"{where}: head motion would be taken for signal; leave realigned out, or give motion"
        )
        warnings.warn(text, SuperResolutionWarning, stacklevel=5)
