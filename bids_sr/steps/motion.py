"""Import, head motion, slice timing, non-steady-state volumes, boldref and confounds of a run."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bids_sr.config.seeds import count_mapped
from bids_sr.glm import confound_table, time_columns
from bids_sr.glm.confounds import motion_columns, motion_table
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.model_confounds import model_confounds
from bids_sr.glm.nonsteady import nonsteady_at_start
from bids_sr.glm.smoothing import smooth
from bids_sr.io.atomic_files import read_json
from bids_sr.io.copies import copy_series
from bids_sr.io.grids import AxisOrder
from bids_sr.io.json_values import real
from bids_sr.io.nifti import SeriesReader, SeriesWriter, step_of
from bids_sr.io.volume import Volume
from bids_sr.pipeline.artifacts import (
    Confounds,
    Facts,
    File,
    Image,
    Mask,
    Series,
    Table,
    Transforms,
)
from bids_sr.pipeline.step import HERE, enumerated, step
from bids_sr.registration.calibration_alignment import moved_mm
from bids_sr.spatial import hmc, slice_timing
from bids_sr.spatial.boldref import estimate_run, make_boldref
from bids_sr.spatial.masks import HUMAN_MM, brain_mask, head_scale
from bids_sr.sr.method import Cost

_LOGGER = logging.getLogger(__name__)
BOLDREF_SIDECAR = {
    "Description": "reference image for head-motion correction (mean of the steady-state volumes)",
    "SkullStripped": False,
}
HMC_SIDECAR = {
    "Description": (
        "one rigid transform per volume, which maps points of the boldref to points of the volume"
    )
}
MOTION_TEXT = (
    "Head-motion parameters with respect to the boldref (three rotations and three"
    " translations) were estimated for each volume by Gauss-Newton minimization of squared"
    " intensity differences, using the image gradients of the boldref [@bakermatthews2004]. A"
    " gain and a quadratic intensity bias were estimated at the same time. Volumes were not"
    " resampled at this stage."
)
"""Methods text of head-motion estimation."""


@step(makes="bold", cost=Cost(volumes=0.02))
def import_series(
    bold_file: File, here: Path = HERE, *, tr: float, axis_order: AxisOrder
) -> Series:
    """Copy a series to an uncompressed file with slices on the third axis, volume by volume.

    Parameters
    ----------
    bold_file : File
        BOLD run as stored (NIfTI, 4D).
    axis_order : AxisOrder
        Axis of the file for each axis of the series; see `bids_sr.io.grids`.
    """
    copy_series(bold_file, here / "bold.nii", order=axis_order, tr=tr)
    return SeriesReader(here / "bold.nii")


def describe_echoes(echo_times: Sequence[float]) -> str:
    """Return methods text of the combination of echoes; `echo_times` are in ms."""
    times = enumerated([f"{ms:g}" for ms in echo_times])
    return (
        f"As the first step, the echoes of the run (echo times {times} ms) were optimally"
        " combined with weights based on the T2* of each voxel [@posse1999], which was fitted"
        " with tedana [@tedana]."
    )


@step(makes="bold_file", cost=Cost(volumes=0.05))
def combine_echoes(
    echo_files: list[File], here: Path = HERE, *, echo_times: Sequence[float]
) -> File:
    """Combine the echoes of a run optimally with tedana.

    Parameters
    ----------
    echo_files : list[File]
        Series of the echoes on one grid (NIfTI, 4D).
    echo_times : Sequence[float]
        Echo times (ms).

    Returns
    -------
    File
        Combined series (NIfTI, 4D).
    """
    from bids_sr.spatial import multi_echo

    multi_echo.combine_echoes(echo_files, echo_times, here / "combined.nii")
    return here / "combined.nii"


@step(makes="n_dummy")
def count_dummies(bold: Series, *, dummy_scans: int | None) -> int:
    """Count the non-steady-state volumes at the start, unless their number is given.

    `dummy_scans` is the number given by the user; None to detect it.
    """
    count = nonsteady_at_start(bold.path) if dummy_scans is None else dummy_scans
    if count > bold.shape[3] - 2:
        raise ValueError(
            f"{bold.path}: {count} of {bold.shape[3]} volumes are non-steady-state volumes,"
            " so fewer than two volumes are left"
        )
    return count


def describe_boldref(dummy_scans: int | None) -> str:
    """Return methods text of the boldref.

    `dummy_scans` is the given number of non-steady-state volumes; None if it is detected.
    """
    dummies = (
        "Non-steady-state volumes were detected from the global signal"
        if dummy_scans is None
        else f"The first {dummy_scans} volumes were treated as non-steady-state volumes"
    )
    return (
        f"{dummies} and excluded from all analyses. A BOLD reference image (boldref) was computed"
        " as the mean of the steady-state volumes after registration to each other."
    )


@step(makes="boldref", cost=Cost(always=0.7, volumes=0.0125))
def average_volumes(bold: Series, *, n_dummy: int) -> Image:
    """Average the steady-state volumes after registration to each other."""
    return Volume(make_boldref(bold, n_dummy=n_dummy), bold.affine, bold.header)


@step(makes="head_mask")
def mask_head(boldref: Image) -> Mask:
    """Segment the brain in the boldref without a T1w image (X, Y, Z, boolean).

    Slices at the edge of the field of view are included. A warning is logged if the head is
    smaller than a human head.
    """
    mask = brain_mask(boldref.data, boldref.affine)
    if (scale := head_scale(mask, boldref.affine)) < 1:
        _LOGGER.warning(
            "The head measures %.0f mm, which is smaller than a human head. All lengths in"
            " mm for masks, head motion and registration to the T1w image were multiplied by"
            " %.2g. Templates, framewise displacement (sphere of 50 mm) and figures are"
            " designed for human heads. If this is a human head, correct the voxel sizes in"
            " the header.",
            HUMAN_MM * scale,
            scale,
        )
    return boldref.like(mask)


@step(makes=("hmc_xfms", "motion"), cost=Cost(always=0.8, volumes=0.135))
def estimate_motion(
    bold: Series, boldref: Image, head_mask: Mask, *, n_dummy: int
) -> tuple[Transforms, Table]:
    """Estimate the head position in every volume without resampling.

    Parameters
    ----------
    bold, boldref : Series
        Acquired series (uncompressed), and boldref on its grid.
    head_mask : Mask
        Brain, segmented without a T1w image (3D, boolean).

    Returns
    -------
    tuple[Transforms, Table]
        Transforms of boldref points to points of each volume (RAS mm); and trans_x, y, z (mm),
        rot_x, y, z (rad) and residual, one row per volume.

    Raises
    ------
    ValueError
        If there are no volumes.
    """
    estimate = estimate_run(bold, boldref.data, head_mask.data, n_dummy=n_dummy)
    return estimate.matrices, motion_table(estimate.params, estimate.residual)


def describe_slice_timing(start_time: float) -> str:
    """Return methods text of slice-timing correction to `start_time` (s after volume start)."""
    return (
        "Slice-timing correction was performed with cubic spline interpolation in time. All"
        f" slices were shifted to {start_time:.4g} s after the start of the volume."
    )


@step(makes="stc", cost=Cost(volumes=0.02))
def correct_slice_timing(
    bold: Series,
    here: Path = HERE,
    *,
    slice_times: Sequence[float],
    start_time: float,
    n_dummy: int,
) -> Series:
    """Interpolate all slices in time to the same moment of the volume.

    Parameters
    ----------
    slice_times : Sequence[float]
        Acquisition time of each slice along the third axis (s after the start of a volume).
    start_time : float
        Target time of the interpolation (s after the start of a volume).
    """
    with SeriesWriter(
        here / "stc.nii",
        bold.shape,
        bold.affine,
        bold.tr,
        header_like=bold.header,
        step=step_of(bold.shape, bold.volume(0)),
    ) as writer:
        slice_timing.correct_slice_timing(
            bold, writer, slice_times, bold.tr, start_time, n_dummy=n_dummy
        )
    return SeriesReader(here / "stc.nii")


def describe_input_smoothing(input_smoothing: float) -> str:
    """Return methods text of smoothing (mm FWHM) on the acquired grid."""
    return (
        "Before super-resolution and all interpolations, the acquired series was smoothed with a"
        f" Gaussian kernel of {input_smoothing:g} mm FWHM [@stss_srfmri]. Head motion"
        " and the boldref were estimated without smoothing."
    )


@step(makes="stc", cost=Cost(volumes=0.01))
def smooth_acquired(unsmoothed: Series, here: Path = HERE, *, input_smoothing: float) -> Series:
    """Smooth every volume on the acquired grid before all other series are computed.

    `input_smoothing` is the width of the Gaussian (FWHM, mm).
    """
    first = smooth(unsmoothed.volume(0), unsmoothed.zooms, input_smoothing)
    with SeriesWriter(
        here / "smoothed.nii",
        unsmoothed.shape,
        unsmoothed.affine,
        unsmoothed.tr,
        header_like=unsmoothed.header,
        step=step_of(unsmoothed.shape, first),
    ) as writer:
        for volume in unsmoothed.volumes():
            writer.append(smooth(volume, unsmoothed.zooms, input_smoothing))
    return SeriesReader(here / "smoothed.nii")


@step(makes=("doubtful_volume", "displacement_mm"), cost=Cost(volumes=0.1))
def find_motion_left(
    bold: Series, boldref: Image, bold_mask: Mask, *, n_dummy: int
) -> tuple[int, float]:
    """Return the largest remaining head motion in a series that is assumed to be registered.

    Returns
    -------
    tuple[int, float]
        Volume that is farthest from the boldref among the first steady-state, the middle and the
        last volume; and its RMS displacement (mm).
    """
    volumes = sorted({n_dummy, (n_dummy + bold.shape[3]) // 2, bold.shape[3] - 1})
    with np.errstate(all="ignore"):
        estimate = hmc.estimate_motion(
            (bold.volume(t) for t in volumes), boldref.data, bold_mask.data, bold.affine
        )
    displacements = moved_mm(estimate.matrices, bold_mask.data, bold.affine)
    return volumes[int(displacements.argmax())], float(displacements.max())


@step(makes="confounds")
def motion_confounds(motion: Table, known_confounds: Confounds | None = None) -> Confounds:
    """Return confounds of head motion, for a run without a complete confounds table.

    `known_confounds` are columns that replace these columns or are added. The table has motion
    parameters, their backward differences and framewise displacement, one row per volume.
    """
    motion_table_columns = pd.DataFrame(motion_columns(motion))
    return (
        motion_table_columns
        if known_confounds is None
        else motion_table_columns.assign(**dict(known_confounds.items()))
    )


def describe_time_model(model: time_columns.TimeModel) -> str:
    """Return methods text of the temporal model of a run."""
    parts = []
    if model.censors:
        parts.append(
            f"Volumes with {model.rules} were censored [@power2012]. Censored volumes were"
            " excluded from models, correlations, seed time series and split-half analyses of"
            " all series, and were not replaced by interpolated values."
        )
    if model.band_pass is not None:
        low, high = model.band_pass
        parts.append(
            f"Band-pass filtering ({low:g} to {high:g} Hz) was performed within the models:"
            " discrete cosines of all other frequencies were included as nuisance regressors in"
            " all models and correlations."
        )
    if model.legendre is not None:
        parts.append(
            "Low-frequency drift was modeled with Legendre polynomials up to order"
            f" {model.legendre}."
        )
    return " ".join(parts)


def describe_censored(
    model: time_columns.TimeModel, folders: Sequence[Path], unfinished: int
) -> str:
    """Return methods text with the numbers of censored volumes.

    `folders` are the folders of finished `model_time` steps.
    """
    text = describe_time_model(model)
    if not model.censors:
        return text
    tables = [read_json(folder / "censoring.json") for folder in folders]
    shares = [real(table["share"]) for table in tables]
    counts = [f"{table['censored']} of {table['steady']}" for table in tables]
    numbers = (
        f"{counts[0]} volumes ({shares[0]:.1%}) were censored."
        if len(tables) == 1
        else f"In {len(tables)} runs, {min(shares):.1%} to {max(shares):.1%} of the"
        f" volumes were censored ({', '.join(counts)})."
    )
    return f"{text} {numbers}"


@step(makes=("confounds", "confounds_columns", "time_columns", "censoring"), small=True)
def model_time(
    gathered_confounds: Confounds,
    gathered_columns: Facts | None = None,
    *,
    fd_censor: float | None,
    enorm_censor: float | None,
    band_pass: Sequence[float],
    drift: str,
    tr: float,
    n_dummy: int,
    high_pass: float,
    at_rest: bool,
    contrasts: Contrasts,
    nuisance: list[str] | None,
) -> tuple[Confounds, Facts, Confounds, Facts]:
    """Add confounds that censor volumes, filter by frequency, and model drift.

    Parameters
    ----------
    gathered_confounds, gathered_columns : Confounds
        Confounds of the run and their descriptions.
    fd_censor, enorm_censor : float | None
        Thresholds of censoring (mm; mm and degrees); None to disable a threshold.
    band_pass : Sequence[float]
        Lowest and highest frequency that pass (Hz); empty to disable the filter.
    drift : str
        ``cosine`` or ``legendre:N``.
    high_pass : float
        Cut-off of the cosines that model drift (Hz); 0 if the added columns model drift.
    nuisance : list[str] | None
        Columns of the confounds in the model; None for motion and aCompCor.

    Returns
    -------
    tuple[Confounds, Facts, Confounds, Facts]
        Confounds with the added columns; descriptions of all columns; only the added columns; and
        counts of censored volumes.

    Raises
    ------
    TooFewVolumes
        If too few volumes remain for the model.
    """
    model = time_columns.time_model(fd_censor, enorm_censor, band_pass, drift)
    added, described = time_columns.time_columns(gathered_confounds, model, tr=tr, n_dummy=n_dummy)
    table = pd.concat([gathered_confounds, added], axis=1)
    uncensored = time_columns.kept_volumes(added, len(table))[n_dummy:]
    names = [
        name
        for name in model_confounds(table, nuisance)
        if not name.startswith(time_columns.CENSORED)
    ]
    conditions = {name for weights in contrasts.values() for name, w in weights.items() if w}
    time_columns.check_volumes(
        int(uncensored.sum()),
        len(uncensored),
        (count_mapped(conditions) if at_rest else len(conditions))
        + len(names)
        + 1
        + max(1, int(2 * len(uncensored) * tr * high_pass)),
        model,
        tr=tr,
        least_s=time_columns.LEAST_AT_REST_S if at_rest else 0.0,
    )
    facts = dict(time_columns.censoring_facts(uncensored, model))
    facts["volumes"] = [n_dummy + int(row) for row in np.flatnonzero(~uncensored)]
    facts["model"] = model.words
    return table, {**(gathered_columns or {}), **described}, added, facts


_NO_TISSUES = (
    "The single-tissue columns (csf, white_matter, csf_wm, a_comp_cor, w_comp_cor,"
    " c_comp_cor) are omitted because {why}. Denoising strategies that require these columns"
    " cannot be used for this run."
)


def describe_confounds(
    *, with_anat: bool, fd_spike_threshold: float, dvars_spike_threshold: float
) -> str:
    """Return methods text of confounds; `with_anat` is True if there are tissue maps."""
    signals = "brain, white matter and cerebrospinal fluid" if with_anat else "the brain"
    return (
        "The following confounds were computed: the six head-motion parameters and the mean"
        f" signals of {signals}, with their temporal derivatives (backward differences) and"
        " quadratic terms [@satterthwaite2013]; framewise displacement (FD) and DVARS"
        " [@power2012]; root mean square displacement [@jenkinson2002]; standardized DVARS"
        " [@nichols2017]; and discrete cosine regressors. Volumes with FD above"
        f" {fd_spike_threshold:g} mm or standardized DVARS above {dvars_spike_threshold:g} were"
        " annotated as motion outliers. Physiological noise regressors were extracted with"
        f"{' anatomical and' if with_anat else ''} temporal CompCor [@behzadi2007]."
    )


@step(makes=("confounds", "confounds_columns"), cost=Cost(volumes=0.063))
def gather_confounds(
    preproc: Series,
    bold_mask: Mask,
    motion: Table,
    hmc_xfms: Transforms,
    tpms_bold: list[Image] | None = None,
    registration: Facts | None = None,
    *,
    n_dummy: int,
    fd_spike_threshold: float,
    dvars_spike_threshold: float,
    return_all_components: bool,
) -> tuple[Confounds, Facts]:
    """Compute motion, tissue-signal and CompCor confounds, named and described as in fMRIPrep.

    Parameters
    ----------
    preproc : Series
        Motion-corrected series on the acquired grid (uncompressed).
    motion : Table
        Six motion parameters (mm, rad) and residual, one row per volume.
    hmc_xfms : Transforms
        Transforms of boldref points to points of each volume (RAS mm).
    registration : Facts | None
        Registration facts; tissue maps are not used if the brain mask of the T1w image is
        implausible.
    fd_spike_threshold, dvars_spike_threshold : float
        Thresholds of framewise displacement (mm) and standardized DVARS; a volume above either
        threshold is a motion outlier.
    return_all_components : bool
        Whether all CompCor components are included; otherwise the first components that explain
        half of the variance.

    Returns
    -------
    tuple[Confounds, Facts]
        Confounds, one row per volume; and description and unit of each column.
    """
    doubtful = registration is not None and registration.get("brain_doubts")
    tpms = [] if doubtful else [probability.data for probability in tpms_bold or ()]
    table, described = confound_table.gather(
        preproc,
        bold_mask.data,
        motion,
        hmc_xfms,
        tpms=tpms or None,
        n_dummy=n_dummy,
        fd_mm=fd_spike_threshold,
        std_dvars=dvars_spike_threshold,
        all_components=return_all_components,
    )
    if tpms:
        return table, described
    reason = (
        "the brain mask of the T1w image is implausible" if doubtful else "there is no T1w image"
    )
    return table, {"Description": _NO_TISSUES.format(why=reason), **described}
