"""Head motion and registration of a BOLD run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.bids import BoldRun
from bids_sr.bids.precomputed import PrecomputedField, PrecomputedRun
from bids_sr.frozen import frozen
from bids_sr.io.grids import AxisOrder, Factor
from bids_sr.pipeline.artifacts import (
    Distortion,
    Facts,
    File,
    Image,
    Mask,
    Series,
    Table,
    Transforms,
)
from bids_sr.pipeline.flow import say, subworkflow, table_in, transforms_in
from bids_sr.pipeline.outputs import Outputs
from bids_sr.pipeline.step import Part
from bids_sr.steps import calibration_run, imported, motion, primary_dataset, registration
from bids_sr.workflows.anatomy import Anatomy
from bids_sr.workflows.pair import RegisteredPair
from bids_sr.workflows.run_plan import RunPlan


@frozen
class HeadMotion:
    """Reference of a series, and the pose of the head in each of its volumes.

    `motion`: parameters, one row per volume. `head_mask`: None if motion was estimated by another
    program.
    """

    boldref: Image
    hmc_xfms: Transforms
    motion: Table
    head_mask: Mask | None = None


@frozen
class Brain:
    """Brain on the acquired and the high-resolution grid of a run."""

    bold_mask: Mask
    bold_mask_hr: Mask
    mask_facts: Facts


@frozen
class Registration:
    """Brain, tissues and region of interest on the grids of a run, and how it lies to others.

    What a participant without T1w image, or a run without pair, does not have is None; the region
    is the brain then.
    """

    bold_mask: Mask
    bold_mask_hr: Mask
    roi_bold: Mask
    roi_bold_hr: Mask
    registration: Facts
    tpms_bold: list[Image] | None = None
    boldref2t1w_xfm: Transforms | None = None
    highres2boldref_xfm: Transforms | None = None
    guide_hr: Image | None = None


@frozen
class Calibration:
    """A short high-resolution run that tells where the run fluctuates."""

    calibration_ref: Image
    boldref2calibration_xfm: Transforms
    calibration_patterns: Image
    calibration_facts: Facts


@frozen
class FittedRun:
    """A run whose motion and registration are known.

    `stc`: its series, corrected in time and smoothed as requested, but with head motion.
    `distortion`: None if there is no field map.
    """

    bold: Series
    stc: Series
    n_dummy: int
    motion: HeadMotion
    registration: Registration
    distortion: Distortion | None = None
    calibration: Calibration | None = None


def fit_run(
    plan: RunPlan, anat: Anatomy | None, pair: RegisteredPair | None, outputs: Outputs
) -> FittedRun:
    """Estimate head motion and registration of a run, or take over what another program found.

    Parameters
    ----------
    plan : RunPlan
        Plan of the run.
    anat : Anatomy | None
        Anatomy of the participant; None if missing.
    pair : RegisteredPair | None
        T2*-weighted pair of the run; None if missing.
    outputs : Outputs
        Where files of the run are stored.
    """
    run, preprocessing = plan.bold, plan.planned.settings.preprocessing
    known = run.precomputed
    bold = import_bold(run)
    n_dummy = motion.count_dummies(bold, dummy_scans=plan.dummy_scans)
    distortion = None
    if known is not None and known.field is not None:
        distortion = undistort(bold, known.field, plan.phase_encoding)
    if known is None:
        head_motion = estimate_motion(bold, n_dummy)
        say(Part.PREPROCESSING, motion.describe_boldref(plan.dummy_scans))
        say(Part.PREPROCESSING, motion.MOTION_TEXT)
    else:
        head_motion = take_over_motion(bold, n_dummy, known, distortion, run.axis_order)
        text = imported.describe_motion(known.origin.text, rebuilt=known.hmc is None)
        say(Part.PREPROCESSING, text)
        if distortion is not None:
            say(Part.PREPROCESSING, imported.describe_distortion(known.origin.text))
    outputs = outputs.with_references(own=head_motion.boldref)
    keep_motion(head_motion, outputs)
    stc = correct_acquired(
        bold,
        n_dummy,
        slice_times=plan.slice_times,
        start_time=plan.start_time,
        input_smoothing=preprocessing.input_smoothing,
    )
    if plan.timed:
        say(Part.PREPROCESSING, motion.describe_slice_timing(plan.start_time))
    if preprocessing.input_smoothing:
        text = motion.describe_input_smoothing(preprocessing.input_smoothing)
        say(Part.PREPROCESSING, text)
    if "slicetiming" in preprocessing.ignore:
        say(Part.PREPROCESSING, "Slice-timing correction was not performed.")
    elif run.is_corrected and not plan.timed:
        text = "Slice-timing correction had already been applied to the input series."
        say(Part.PREPROCESSING, text)
    registered = register_run(plan, head_motion.boldref, anat, pair, outputs)
    calibration = None
    if plan.calibrated and run.calibration is not None:
        calibration = _calibrate(plan, run.calibration, head_motion.boldref, registered, outputs)
    return FittedRun(
        bold=bold,
        stc=stc,
        n_dummy=n_dummy,
        motion=head_motion,
        registration=registered,
        distortion=distortion,
        calibration=calibration,
    )


def import_bold(run: BoldRun) -> Series:
    """Read the series of a run, its echoes combined."""
    bold_file: File = run.bold
    if run.echoes:
        files, echo_times = zip(*run.echoes, strict=True)
        bold_file = motion.combine_echoes(list(files), echo_times=list(echo_times))
        say(Part.PREPROCESSING, motion.describe_echoes(echo_times))
    elif echo := run.entities.get("echo"):
        say(Part.PREPROCESSING, f"Only echo {echo} of the multi-echo run was analyzed.")
    return motion.import_series(bold_file, tr=run.tr, axis_order=run.axis_order)


def undistort(bold: Series, field: PrecomputedField, phase_encoding: str) -> Distortion:
    """Return how far the field map of another program shifts the signal of a run."""
    return imported.field_to_shift(
        bold,
        field.fieldmap,
        transforms_in(field.xfm),
        readout=field.readout,
        phase_encoding=phase_encoding,
    )


def estimate_motion(bold: Series, n_dummy: int, boldref: Image | None = None) -> HeadMotion:
    """Estimate the head's pose in every volume.

    `boldref`: reference; None: steady volumes are brought into register and averaged.
    """
    if boldref is None:
        boldref = motion.average_volumes(bold, n_dummy=n_dummy)
    head_mask = motion.mask_head(boldref)
    hmc_xfms, parameters = motion.estimate_motion(bold, boldref, head_mask, n_dummy=n_dummy)
    return HeadMotion(boldref=boldref, hmc_xfms=hmc_xfms, motion=parameters, head_mask=head_mask)


def take_over_motion(
    bold: Series,
    n_dummy: int,
    known: PrecomputedRun,
    distortion: Distortion | None,
    axis_order: AxisOrder,
) -> HeadMotion:
    """Take over head motion of another program: its transforms, else the parameters it reports.

    `axis_order`: axis of the file that each axis of the series is.
    """
    if known.hmc is not None:
        return given_motion(bold, n_dummy, transforms_in(known.hmc), distortion)
    assert known.confounds is not None, "without transforms, confounds tell head motion"
    hmc_xfms, parameters, boldref = imported.rebuild_motion(
        bold, table_in(known.confounds), distortion, n_dummy=n_dummy, axis_order=axis_order
    )
    return HeadMotion(boldref=boldref, hmc_xfms=hmc_xfms, motion=parameters)


def given_motion(
    bold: Series,
    n_dummy: int,
    hmc_xfms: Transforms,
    distortion: Distortion | None = None,
    boldref: Image | None = None,
) -> HeadMotion:
    """Return head motion by transforms that are given.

    `boldref`: reference that they belong to; None: the mean of the steady volumes by them.
    """
    hmc_xfms, parameters, boldref = imported.import_motion(
        bold, hmc_xfms, distortion, boldref, n_dummy=n_dummy
    )
    return HeadMotion(boldref=boldref, hmc_xfms=hmc_xfms, motion=parameters)


def keep_motion(head_motion: HeadMotion, outputs: Outputs) -> None:
    """Store the reference of a run, and the transforms of its volumes."""
    outputs.keep(
        head_motion.boldref,
        {"desc": "hmc", "suffix": "boldref"},
        sidecar=motion.BOLDREF_SIDECAR,
    )
    outputs.keep(
        head_motion.hmc_xfms,
        {"from": "orig", "to": "boldref", "mode": "image", "desc": "hmc", "suffix": "xfm"},
        sidecar=motion.HMC_SIDECAR,
        exported_as={},
    )


def correct_acquired(
    bold: Series,
    n_dummy: int,
    *,
    slice_times: Sequence[float] | None,
    start_time: float,
    input_smoothing: float,
) -> Series:
    """Correct an acquired series in time and smooth it, before others are made of it.

    Parameters
    ----------
    bold : Series
        Acquired series.
    n_dummy : int
        Volumes at the start that are not steady.
    slice_times : Sequence[float] | None
        Times of the slices (s); None: their timing is not corrected.
    start_time : float
        Moment that slices are brought to (s after the start of a volume).
    input_smoothing : float
        FWHM (mm) of the smoothing; 0 for none.
    """
    stc = bold
    if slice_times is not None:
        stc = motion.correct_slice_timing(
            bold, slice_times=slice_times, start_time=start_time, n_dummy=n_dummy
        )
    if input_smoothing:
        stc = motion.smooth_acquired(stc, input_smoothing=input_smoothing)
    return stc


def register_run(
    plan: RunPlan,
    boldref: Image,
    anat: Anatomy | None,
    pair: RegisteredPair | None,
    outputs: Outputs,
) -> Registration:
    """Register a run to T1w image and pair; bring brain, tissues and region to its grids."""
    known, factor = plan.bold.precomputed, plan.bold.factor
    coreg_file = None if known is None else known.coreg
    mask_file = None if known is None else known.mask
    origin = "" if known is None else known.origin.text
    seed = plan.planned.settings.resources.random_seed
    text = registration.describe_registration(
        to_t1w=anat is not None and coreg_file is None, to_pair=pair is not None
    )
    say(Part.PREPROCESSING, text)
    boldref2t1w_xfm = coreg_facts = None
    if anat is not None:
        boldref2t1w_xfm, coreg_facts = _register_to_t1w(
            boldref, anat, coreg_file, origin=origin, random_seed=seed
        )
        outputs.keep(
            boldref2t1w_xfm,
            _coreg("boldref", "T1w"),
            exported_as={},
        )
        outputs.keep(
            primary_dataset.invert_coreg(boldref2t1w_xfm),
            _coreg("T1w", "boldref"),
            exported_only=True,
        )
    brain = find_brain(
        boldref, anat, boldref2t1w_xfm, mask_file=mask_file, factor=factor, origin=origin
    )
    outputs.keep(brain.bold_mask, registration.MASK_ENTITIES, sidecar=registration.MASK_SIDECAR)
    outputs.keep(
        brain.bold_mask_hr,
        {"res": "hr", "desc": "brain", "suffix": "mask"},
        sidecar=registration.MASK_HR_SIDECAR,
        # beside the primary series, where that is requested in the run's space
        exported_as={"res": ""} if plan.in_func else None,
    )
    roi_bold, roi_bold_hr = brain.bold_mask, brain.bold_mask_hr
    tpms_bold = region_facts = None
    if anat is not None and boldref2t1w_xfm is not None:
        tpms_bold = registration.tissues_to_bold(boldref, anat.t1w_tpms, boldref2t1w_xfm)
        roi_bold, roi_bold_hr, region_facts = registration.region_to_bold(
            anat.roi_source,
            boldref2t1w_xfm,
            brain.bold_mask,
            brain.bold_mask_hr,
            anat.roi_xfms,
            random_seed=seed,
        )
        say(Part.PREPROCESSING, registration.REGION_TEXT)
        outputs.keep(
            roi_bold,
            {"desc": "roi", "suffix": "mask"},
            sidecar={"Description": "region of interest", "Type": "ROI"},
        )
    highres2boldref_xfm = guide_hr = guide_facts = None
    if pair is not None:
        highres2boldref_xfm, guide_hr, guide_facts = registration.register_to_pair(
            boldref,
            pair.highres_file,
            pair.highres2lowres_xfm,
            factor=factor,
            random_seed=seed,
        )
        outputs.keep(
            highres2boldref_xfm,
            _coreg("highres", "boldref"),
        )
    facts = registration.gather_registration(
        brain.mask_facts,
        None if anat is None else anat.brain_facts,
        coreg_facts,
        region_facts,
        guide_facts,
    )
    outputs.keep(facts, {"desc": "registration", "suffix": "metrics"}, level="minimal")
    text = registration.describe_imported_registration(
        origin, mask=mask_file is not None, to_t1w=coreg_file is not None
    )
    say(Part.PREPROCESSING, text)
    return Registration(
        bold_mask=brain.bold_mask,
        bold_mask_hr=brain.bold_mask_hr,
        roi_bold=roi_bold,
        roi_bold_hr=roi_bold_hr,
        registration=facts,
        tpms_bold=tpms_bold,
        boldref2t1w_xfm=boldref2t1w_xfm,
        highres2boldref_xfm=highres2boldref_xfm,
        guide_hr=guide_hr,
    )


def _coreg(origin: str, target: str) -> dict[str, str]:
    """Return entities of a transform that brings an image onto another."""
    return {"from": origin, "to": target, "mode": "image", "desc": "coreg", "suffix": "xfm"}


def _register_to_t1w(
    boldref: Image, anat: Anatomy, coreg_file: Path | None, *, origin: str, random_seed: int
) -> tuple[Transforms, Facts]:
    """Register the reference to the T1w image; `coreg_file`: transform of another program."""
    if coreg_file is not None:
        return imported.import_coreg(
            boldref, anat.t1w_preproc, anat.t1w_mask, transforms_in(coreg_file), origin=origin
        )
    return registration.register_to_t1w(
        boldref, anat.t1w_preproc, anat.t1w_mask, random_seed=random_seed
    )


def find_brain(
    boldref: Image,
    anat: Anatomy | None = None,
    boldref2t1w_xfm: Transforms | None = None,
    *,
    mask_file: Path | None = None,
    factor: Factor,
    origin: str = "",
) -> Brain:
    """Find the brain on both grids of a run.

    Parameters
    ----------
    boldref : Image
        Reference of the run.
    anat : Anatomy | None, optional
        Anatomy, whose brain limits the mask; None: the run determines the mask.
    boldref2t1w_xfm : Transforms | None, optional
        Registration to the T1w image.
    mask_file : Path | None, optional
        Mask that takes the place of an estimate.
    factor : Factor
        Acquired over high-resolution voxel size, each axis.
    origin : str, default=""
        Where `mask_file` is from.
    """
    if mask_file is not None:
        masks = imported.import_mask(boldref, mask_file, factor=factor, origin=origin)
    else:
        t1w_mask = None if anat is None else anat.t1w_mask
        masks = registration.mask_bold(boldref, t1w_mask, boldref2t1w_xfm, factor=factor)
    bold_mask, bold_mask_hr, mask_facts = masks
    return Brain(bold_mask=bold_mask, bold_mask_hr=bold_mask_hr, mask_facts=mask_facts)


def _calibrate(
    plan: RunPlan,
    run: BoldRun,
    boldref: Image,
    registered: Registration,
    outputs: Outputs,
) -> Calibration:
    """Measure the fluctuations in the calibration of a run."""
    say(Part.SERIES, calibration_run.describe_calibration(with_events=run.events is not None))
    settings = plan.planned.settings
    with subworkflow("calibration_wf"):
        bold = motion.import_series(run.bold, tr=run.tr, axis_order=run.axis_order)
        n_dummy = motion.count_dummies(bold, dummy_scans=settings.preprocessing.dummy_scans)
        return fit_calibration(
            bold,
            n_dummy,
            estimate_motion(bold, n_dummy),
            boldref,
            registered.bold_mask,
            events=run.events,
            tr=run.tr,
            factor=plan.bold.factor,
            random_seed=settings.resources.random_seed,
            outputs=replace(outputs, axis_order=run.axis_order),
        )


def fit_calibration(
    bold: Series,
    n_dummy: int,
    head_motion: HeadMotion,
    boldref: Image,
    bold_mask: Mask,
    *,
    events: Path | None,
    tr: float,
    factor: Factor,
    random_seed: int,
    outputs: Outputs,
    boldref2calibration_xfm: Transforms | None = None,
) -> Calibration:
    """Register a calibration run to a run, and measure where it fluctuates.

    Parameters
    ----------
    bold : Series
        Calibration run.
    n_dummy : int
        Volumes at its start that are not steady.
    head_motion : HeadMotion
        Its head motion.
    boldref, bold_mask : Image, Mask
        Reference and brain of the run that it calibrates.
    events : Path | None
        Its events; None: no task is taken out.
    tr : float
        Its repetition time (s).
    factor : Factor
        Voxel of the run over that of the calibration, each axis.
    random_seed : int
        Seed of the registration.
    outputs : Outputs
        Where files are stored.
    boldref2calibration_xfm : Transforms | None, optional
        Takes a boldref point to its calibration point; None estimates it.
    """
    head_mask = head_motion.head_mask
    if head_mask is None:
        head_mask = motion.mask_head(head_motion.boldref)
    xfm, facts = calibration_run.register_calibration(
        boldref,
        bold_mask,
        head_motion.boldref,
        head_mask,
        known_calibration_xfm=boldref2calibration_xfm,
        factor=factor,
        random_seed=random_seed,
    )
    outputs.keep(
        xfm,
        _coreg("calibration", "boldref"),
        sidecar=calibration_run.CALIBRATION_XFM_SIDECAR,
    )
    patterns, measured = calibration_run.measure_calibration(
        bold,
        head_mask,
        head_motion.hmc_xfms,
        head_motion.motion,
        facts,
        events,
        n_dummy=n_dummy,
        tr=tr,
    )
    outputs.keep(measured, {"desc": "calibration", "suffix": "metrics"})
    return Calibration(
        calibration_ref=head_motion.boldref,
        boldref2calibration_xfm=xfm,
        calibration_patterns=patterns,
        calibration_facts=measured,
    )
