"""Import, hmc, slice timing, non-steady volumes, reference and confounds of one BOLD run."""

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
"""Methods text of head motion that is estimated."""


@step(makes="bold", cost=Cost(volumes=0.02))
def import_series(
    bold_file: File, here: Path = HERE, *, tr: float, axis_order: AxisOrder
) -> Series:
    """Copy a series to an uncompressed file with slices on the third axis, one volume in memory.

    `bold_file`: BOLD run as stored (NIfTI, 4D). `axis_order`: axis of the file that each axis of
    the series is; see `bids_sr.io.grids`.
    """
    copy_series(bold_file, here / "bold.nii", order=axis_order, tr=tr)
    return SeriesReader(here / "bold.nii")


def describe_echoes(echo_times: Sequence[float]) -> str:
    """Return methods text of echoes that are combined; `echo_times` are in ms."""
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
    """Optimal combination of the echoes of a run, by tedana; `echo_times` are in ms.

    `echo_files`: series of the echoes on one grid (NIfTI, 4D each). Series in place of a run with
    a single echo (NIfTI, 4D).
    """
    from bids_sr.spatial import multi_echo

    multi_echo.combine_echoes(echo_files, echo_times, here / "combined.nii")
    return here / "combined.nii"


@step(makes="n_dummy")
def count_dummies(bold: Series, *, dummy_scans: int | None) -> int:
    """Count the non-steady-state volumes at the start, unless their number is given.

    `dummy_scans`: number that the user gave; None detects it.
    """
    count = nonsteady_at_start(bold.path) if dummy_scans is None else dummy_scans
    if count > bold.shape[3] - 2:
        raise ValueError(
            f"{bold.path}: {count} of {bold.shape[3]} volumes are non-steady-state volumes,"
            " so fewer than two volumes are left"
        )
    return count


def describe_boldref(dummy_scans: int | None) -> str:
    """Return methods text of a reference that is estimated.

    `dummy_scans`: volumes at the start that are not steady; None: their number is estimated.
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
    """Average steady volumes after bringing them into register."""
    return Volume(make_boldref(bold, n_dummy=n_dummy), bold.affine, bold.header)


@step(makes="head_mask")
def mask_head(boldref: Image) -> Mask:
    """Segment the brain in the reference.

    Slices at the edge of the field of view count.

    Voxels of the brain, without help of a T1w image (3D, boolean). Warns of a head smaller than
    any human's.
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
    """Estimate the head's pose in every volume; no image is resampled.

    `bold, boldref`: series as acquired, uncompressed; reference on its grid. `head_mask`: voxels
    of the brain, without help of a T1w image (3D, boolean). `ValueError`: there is not a single
    volume. Transforms, one a volume, that take a boldref point to where it lies in that volume
    (RAS mm); trans_x, y, z (mm), rot_x, y, z (rad) and residual, one row a volume.
    """
    found = estimate_run(bold, boldref.data, head_mask.data, n_dummy=n_dummy)
    return found.matrices, motion_table(found.params, found.residual)


def describe_slice_timing(start_time: float) -> str:
    """Return methods text of slices that are brought to a moment (s after the volume's start)."""
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
    """Bring all slices to one moment of the volume, in time only.

    `slice_times, start_time`: acquisition time of each slice along the third axis, and the moment
    to which they are brought (s after the start of a volume).
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
    """Smooth every volume on the acquired grid, from which all series are then made.

    `input_smoothing`: FWHM (mm).
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
    """Look for head motion in a series whose volumes are said to be in register.

    Of the first steady, the middle and the last volume the one farthest from the reference, and
    its rms displacement (mm).
    """
    at = sorted({n_dummy, (n_dummy + bold.shape[3]) // 2, bold.shape[3] - 1})
    with np.errstate(all="ignore"):
        found = hmc.estimate_motion(
            (bold.volume(t) for t in at), boldref.data, bold_mask.data, bold.affine
        )
    far = moved_mm(found.matrices, bold_mask.data, bold.affine)
    return at[int(far.argmax())], float(far.max())


@step(makes="confounds")
def motion_confounds(motion: Table, known_confounds: Confounds | None = None) -> Confounds:
    """Return confounds of head motion alone, for a run without a table of all.

    `known_confounds`: columns that take the place of these, or stand beside them. Returns
    parameters, their backward differences and framewise displacement, one row a volume.
    """
    own = pd.DataFrame(motion_columns(motion))
    return own if known_confounds is None else own.assign(**dict(known_confounds.items()))


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
    """Return methods text with the numbers of the runs whose volumes have been censored.

    `folders`: folders of the steps `model_time` that have ended.
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
    """Add columns that censor volumes, filter by frequency and model drift.

    Returns the confounds with these columns, the description of all columns, these columns alone,
    and numbers of the censoring. `TooFewVolumes`: the volumes kept are too few for the model.

    `gathered_confounds`, `gathered_columns`: confounds of the run and their descriptions.
    `fd_censor`, `enorm_censor`: thresholds of censoring (mm; mm and degrees); None: off.
    `band_pass`: lowest and highest frequency that remain (Hz); empty: all. `drift`: cosine, or
    legendre:N. `high_pass`: cut-off of the cosines that model drift (Hz); 0: these columns do.
    `nuisance`: columns of the confounds that enter the model; None: motion and aCompCor.
    """
    model = time_columns.time_model(fd_censor, enorm_censor, band_pass, drift)
    added, described = time_columns.time_columns(gathered_confounds, model, tr=tr, n_dummy=n_dummy)
    table = pd.concat([gathered_confounds, added], axis=1)
    kept = time_columns.kept_volumes(added, len(table))[n_dummy:]
    names = [
        name
        for name in model_confounds(table, nuisance)
        if not name.startswith(time_columns.CENSORED)
    ]
    conditions = {name for weights in contrasts.values() for name, w in weights.items() if w}
    time_columns.check_volumes(
        int(kept.sum()),
        len(kept),
        (count_mapped(conditions) if at_rest else len(conditions))
        + len(names)
        + 1
        + max(1, int(2 * len(kept) * tr * high_pass)),
        model,
        tr=tr,
        least_s=time_columns.LEAST_AT_REST_S if at_rest else 0.0,
    )
    facts = dict(time_columns.censoring_facts(kept, model))
    facts["volumes"] = [n_dummy + int(row) for row in np.flatnonzero(~kept)]
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
    """Return methods text of confounds; `with_anat`: whether there are maps of tissues."""
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
    """Gather motion, tissue signals and CompCor in one table, named and described as in fMRIPrep.

    `preproc`: motion-corrected series on the acquired grid, uncompressed. `motion`: six motion
    parameters (mm, rad) and residual, one row a volume. `hmc_xfms`: one a volume; take a boldref
    point to where it lies in that volume (RAS mm). `registration`: tissue maps are not used where
    it doubts the brain of the T1w image. `fd_spike_threshold, dvars_spike_threshold`: mm, and of
    std_dvars; above one of them a volume is a motion outlier. `return_all_components`: every
    component of CompCor, instead of those that explain half of the variance. Returns confounds,
    one row a volume; description and unit of each column.
    """
    doubtful = registration is not None and registration.get("brain_doubts")
    tpms = [] if doubtful else [each.data for each in tpms_bold or ()]
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
    why = "the brain mask of the T1w image is implausible" if doubtful else "there is no T1w image"
    return table, {"Description": _NO_TISSUES.format(why=why), **described}
