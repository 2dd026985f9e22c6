"""First results on a run: number of dummy volumes, head motion, and brain."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from bids_sr.api.image_inputs import (
    ImageInputError,
    SuperResolutionWarning,
    check_grid,
    check_slice_axis,
    load_mask,
    load_poses,
    load_volume,
)
from bids_sr.api.run_inputs import RunInputs
from bids_sr.engine.artifacts import Facts, Image, Mask, Series
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.volume import Volume
from bids_sr.preproc.alternation import LARGEST_ALTERNATION, SPLIT_FIX, describe_alternation
from bids_sr.preproc.steps import motion, outlier_volumes
from bids_sr.spatial.itk_files import Transforms
from bids_sr.workflows.fit_run import (
    Brain,
    FittedCalibration,
    FittedRun,
    HeadMotion,
    exclude_clipped,
    find_brain,
    find_steady_state,
    fit_motion,
    reuse_motion,
)

# mm, RMS displacement of the brain above which a warning about realigned series is issued
_MAX_RESIDUAL_MM = 0.5


@frozen
class RunBasics:
    """Non-steady-state volumes of a run, its head motion, its brain, and its outlier volumes.

    `outliers` is None if outlier volumes are not replaced.
    """

    n_dummy: int
    motion: HeadMotion
    brain: Brain
    outliers: Facts | None = None


def fit_basics(
    reader: SeriesReader,
    inputs: RunInputs,
    folder: Path,
    *,
    factor: Factor,
    dummy_scans: int | None,
    realigned: bool,
) -> RunBasics:
    """Estimate the properties of a run that were not passed.

    The series of `reader` must allow random access. Files are written to `folder`. `factor` is the
    acquired over high-resolution voxel size by axis. `dummy_scans` is the number of
    non-steady-state volumes at the start; None to detect it. `realigned` is whether head motion
    was already corrected.
    """
    check_slice_axis(reader)
    n_volumes = reader.shape[3]
    if dummy_scans is not None and not 0 <= dummy_scans <= n_volumes - 2:
        raise ImageInputError(
            f"expected a number from 0 to {n_volumes - 2}, got {dummy_scans}; at least two of the "
            f"{n_volumes} volumes must remain",
            argument="dummy_scans",
        )
    poses = make_identity_transforms(n_volumes) if realigned else None
    if inputs.motion is not None:
        poses = load_poses(inputs.motion, n_volumes)
    boldref = _load_boldref(reader, inputs, folder)
    mask_file = None
    if inputs.mask_img is not None:
        mask = load_mask(inputs.mask_img, make_empty_mask(reader), folder)
        mask_file = folder / "bold_mask.nii"
        save_image(mask.data, mask.affine, mask_file, dtype=np.uint8)
    steady_run = find_steady_state(reader, dummy_scans=dummy_scans)
    bold, n_found_dummies, outliers = steady_run.bold, steady_run.n_dummy, steady_run.outliers
    if share := outlier_volumes.get_alternation(outliers):
        reason = describe_alternation(share)
        if share > LARGEST_ALTERNATION:
            raise ImageInputError(reason, SPLIT_FIX, "bold")
        warnings.warn(SuperResolutionWarning(f"{reason}; models include it."), stacklevel=2)
    if poses is not None:
        head_motion = reuse_motion(
            bold, n_found_dummies, poses, boldref=boldref, outliers=outliers
        )
    else:
        head_motion = fit_motion(bold, n_found_dummies, boldref)
    brain = exclude_clipped(
        find_brain(head_motion.boldref, mask_file=mask_file, factor=factor, origin="Python"),
        steady_run,
    )
    return RunBasics(n_dummy=n_found_dummies, motion=head_motion, brain=brain, outliers=outliers)


def make_identity_transforms(n_volumes: int) -> Transforms:
    """Return identity transforms (T, 4, 4) of a run without head motion."""
    return np.repeat(np.eye(4)[None], n_volumes, 0)


def _load_boldref(reader: SeriesReader, inputs: RunInputs, folder: Path) -> Volume | None:
    """Return the boldref of a run that was passed; None to compute it."""
    if inputs.boldref is None:
        return None
    image = load_volume(inputs.boldref, folder, "boldref")
    check_grid(image, make_empty_mask(reader), "boldref")
    return Volume(image.data, reader.affine)


def make_empty_mask(reader: SeriesReader) -> Volume:
    """Return an empty mask on the grid of a series (X, Y, Z, boolean)."""
    return Volume(np.zeros(reader.shape[:3], bool), reader.affine)


def to_fitted_run(
    reader: SeriesReader, run_basics: RunBasics, calibration: FittedCalibration | None = None
) -> FittedRun:
    """Return a run as workflows require it, without slice-timing correction and anatomy.

    Outlier volumes are replaced. `calibration` is a short high-resolution run, or None.
    """
    bold: Series = reader
    if run_basics.outliers:
        bold = outlier_volumes.replace_same_volumes(
            reader, run_basics.outliers, n_dummy=run_basics.n_dummy
        )
    brain = run_basics.brain
    return FittedRun(
        boldref=brain.boldref,
        bold_mask=brain.bold_mask,
        bold_mask_hr=brain.bold_mask_hr,
        factor=brain.factor,
        hmc_xfms=run_basics.motion.hmc_xfms,
        outliers=run_basics.outliers,
        stc=bold,
        acquired=reader,
        bold=bold,
        n_dummy=run_basics.n_dummy,
        motion=run_basics.motion.motion,
        roi_bold=brain.bold_mask,
        roi_bold_hr=brain.bold_mask_hr,
        regions={},
        regions_hr={},
        registration_facts=brain.mask_facts,
        calibration=calibration,
    )


def warn_if_not_realigned(bold: Series, boldref: Image, mask: Mask, n_dummy: int) -> None:
    """Warn if volumes of a series that was passed as realigned are displaced from the boldref."""
    volume, displacement_mm = motion.estimate_residual_motion(bold, boldref, mask, n_dummy=n_dummy)
    if displacement_mm > _MAX_RESIDUAL_MM:
        warning = SuperResolutionWarning(
            f"volume {volume} is displaced by {displacement_mm:.1f} mm relative to the boldref, so"
            " that head motion would be treated as signal",
            "Omit realigned, or pass the head-motion transforms with motion.",
            "realigned",
        )
        warnings.warn(warning, stacklevel=5)
