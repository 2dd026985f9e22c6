"""What is found of a run before anything is learned from it: volumes, head motion and brain."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from bids_sr.api.image_inputs import (
    Dummies,
    ImageInputError,
    SuperResolutionWarning,
    mask_on,
    poses_of,
    slices_last,
    volume_of,
)
from bids_sr.api.run_inputs import RunInputs
from bids_sr.frozen import frozen
from bids_sr.io.arrays import Float
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.volume import Volume
from bids_sr.pipeline.artifacts import Image, Mask, Series, Transforms
from bids_sr.steps import motion
from bids_sr.workflows.fit_run import (
    Brain,
    Calibration,
    FittedRun,
    HeadMotion,
    Registration,
    estimate_motion,
    find_brain,
    given_motion,
)

_MOST_LEFT_MM = 0.5
"""Displacement of the brain (rms) above which a series that is said to be realigned is doubted."""


@frozen
class FoundRun:
    """Volumes at the start of a run that are not steady, its head motion, and its brain."""

    n_dummy: int
    motion: HeadMotion
    brain: Brain


def find_run(
    reader: SeriesReader,
    inputs: RunInputs,
    folder: Path,
    *,
    factor: Factor,
    n_dummy: Dummies,
    realigned: bool,
    known: FoundRun | None = None,
) -> FoundRun:
    """Find of a run what is not given.

    Parameters
    ----------
    reader : SeriesReader
        Series of the run, which has to be readable in any order.
    inputs : RunInputs
        What is given.
    folder : Path
        Folder for files.
    factor : Factor
        Acquired over high-resolution voxel size, each axis.
    n_dummy : Dummies
        Volumes at the start that are not steady; "auto" counts them.
    realigned : bool
        Whether head motion was undone before.
    known : FoundRun | None, optional
        What was found of the run before, where nothing else is given.
    """
    slices_last(reader)
    total = reader.shape[3]
    if n_dummy != "auto" and not 0 <= n_dummy <= total - 2:
        raise ImageInputError(
            f"n_dummy: expected a number from 0 to {total - 2}, got {n_dummy}; at least two of "
            f"the {total} volumes must remain"
        )
    taken = known is not None and inputs.motion is None and inputs.boldref is None
    poses = boldref = None
    if not taken:
        poses = _given_poses(reader, inputs, known, realigned=realigned)
        boldref = _given_boldref(reader, inputs, folder, known)
    mask_file = None
    if inputs.mask is not None:
        mask = mask_on(inputs.mask, grid_of(reader), folder)
        mask_file = folder / "bold_mask.nii"
        save_image(mask.data, mask.affine, mask_file, dtype=np.uint8)
    count = motion.count_dummies(reader, dummy_scans=None if n_dummy == "auto" else int(n_dummy))
    if known is not None and taken:
        head_motion = known.motion
    elif poses is not None:
        head_motion = given_motion(reader, count, poses, boldref=boldref)
    else:
        head_motion = estimate_motion(reader, count, boldref)
    if known is not None and mask_file is None:
        brain = known.brain
    else:
        brain = find_brain(
            head_motion.boldref, mask_file=mask_file, factor=factor, origin="Python"
        )
    return FoundRun(n_dummy=count, motion=head_motion, brain=brain)


def _given_poses(
    reader: SeriesReader, inputs: RunInputs, known: FoundRun | None, *, realigned: bool
) -> Float | None:
    """Return the poses of the head in the volumes, as far as they are given."""
    if inputs.motion is not None:
        return poses_of(inputs.motion, reader.shape[3])
    if known is not None:
        return poses_of(known.motion.hmc_xfms, reader.shape[3])
    return still(reader.shape[3]) if realigned else None


def _given_boldref(
    reader: SeriesReader, inputs: RunInputs, folder: Path, known: FoundRun | None
) -> Volume | None:
    """Return the reference of a run, if it is given."""
    if inputs.boldref is None:
        return None if known is None else Volume(known.motion.boldref.data, reader.affine)
    image = volume_of(inputs.boldref, folder, "boldref")
    if image.data.shape != reader.shape[:3] or not np.allclose(
        image.affine, reader.affine, atol=1e-3
    ):
        raise ImageInputError(
            "boldref: the image is not on the grid of the series (its shape is "
            f"{image.data.shape}; expected {reader.shape[:3]})"
        )
    return Volume(image.data, reader.affine)


def fitted_run(
    reader: SeriesReader, found: FoundRun, calibration: Calibration | None = None
) -> FittedRun:
    """Return a run as workflows take it; slice timing is not corrected, and there is no anatomy.

    `calibration`: short high-resolution run; None if missing.
    """
    brain = found.brain
    registration = Registration(
        bold_mask=brain.bold_mask,
        bold_mask_hr=brain.bold_mask_hr,
        roi_bold=brain.bold_mask,
        roi_bold_hr=brain.bold_mask_hr,
        registration=brain.mask_facts,
    )
    return FittedRun(
        bold=reader,
        stc=reader,
        n_dummy=found.n_dummy,
        motion=found.motion,
        registration=registration,
        calibration=calibration,
    )


def still(n_volumes: int) -> Transforms:
    """Return poses (T, 4, 4) of a head that does not move."""
    return np.repeat(np.eye(4)[None], n_volumes, 0)


def grid_of(reader: SeriesReader) -> Volume:
    """An image of nothing on the grid of a series.

    Image with no voxel set (3D, boolean), with the affine of the series.
    """
    return Volume(np.zeros(reader.shape[:3], bool), reader.affine)


def doubt_realigned(bold: Series, boldref: Image, mask: Mask, n_dummy: int) -> None:
    """Warn where volumes of a series that is said to be realigned lie off its reference."""
    at, far = motion.find_motion_left(bold, boldref, mask, n_dummy=n_dummy)
    if far > _MOST_LEFT_MM:
        text = (
            f"realigned=True was passed, but volume {at} is displaced by {far:.1f} "
            "mm relative to the boldref. Head motion would be treated as signal. "
            "Omit realigned, or pass the head-motion transforms with motion."
        )
        warnings.warn(text, SuperResolutionWarning, stacklevel=5)
