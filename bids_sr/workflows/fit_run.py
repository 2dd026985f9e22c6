"""Head motion and registration of a BOLD run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.engine.artifacts import Facts, File, Image, Map, Mask, Series, Table
from bids_sr.engine.flow import (
    add_methods_text,
    as_artifact,
    describe_step,
    subworkflow,
)
from bids_sr.engine.outputs import Outputs
from bids_sr.engine.step import Part
from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import AS_STORED, BOLDREF, AxisOrder, Factor, inverse_order
from bids_sr.io.region_names import BRAIN
from bids_sr.preproc.steps import (
    acquired_series,
    bold_reference,
    clipped_voxels,
    imported,
    motion,
    outlier_volumes,
    registration,
)
from bids_sr.preproc.steps.aligned_series import (
    AlignedSeries,
    BoldBrain,
    BrainMasks,
    PosedBrain,
    RunBrain,
)
from bids_sr.report import primary_dataset
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.itk_files import Transforms, as_transforms
from bids_sr.sr.steps import calibration_run
from bids_sr.sr.steps.calibration_run import Calibration
from bids_sr.sr.steps.super_resolution import Guide
from bids_sr.survey.bids.acquisitions import list_acquisition_fields
from bids_sr.survey.bids.inputs import BoldRun
from bids_sr.survey.bids.precomputed import PrecomputedField, PrecomputedRun
from bids_sr.survey.bids.slice_axis import sidecar_in_order
from bids_sr.workflows.anatomy import Anatomy, RegionSource
from bids_sr.workflows.pair import RegisteredPair
from bids_sr.workflows.run_plan import RunPlan, SeriesCorrection, SeriesFile


@frozen
class HeadMotion:
    """Boldref of a series and head-motion estimates of its volumes.

    `motion`: motion parameters, one row per volume. `head_mask`: None if another program estimated
    the motion.
    """

    boldref: Image
    hmc_xfms: Transforms
    motion: Table
    head_mask: Mask | None = None


@frozen
class Brain(RunBrain):
    """Boldref of a run with its brain masks, and facts on them.

    `clipped_masks` and `clipped_facts`: mask (an empty list if there are none) and number of
    clipped voxels, which are excluded; None if they were not searched.
    """

    mask_facts: Facts
    clipped_masks: list[Map] | None = None
    clipped_facts: Facts | None = None


@frozen
class FittedCalibration(Calibration):
    """Calibration run with its boldref."""

    calibration_ref: Image


@frozen
class SteadyRun:
    """Series of a run with outlier volumes replaced.

    `acquired`: series with all volumes as acquired. `n_dummy`: number of non-steady-state volumes
    at the start. `outliers`: outlier volumes; None if they were not searched.
    """

    acquired: Series
    bold: Series
    n_dummy: int
    outliers: Facts | None = None


@frozen
class FittedRun(AlignedSeries, PosedBrain, RunBrain):
    """Result of `fit_run`: a run with estimated head motion and registration.

    `acquired`: series with all volumes as acquired. `bold`: series without outlier volumes, which
    were replaced. `motion`: motion parameters, one row per volume. `regions` and `regions_hr` are
    regions of interest by name, on both grids, also outside the brain; `roi_bold` and
    `roi_bold_hr` are their union within the brain, or the brain if there are none. If there
    is no T1w image, `tpms_bold` and `boldref2t1w_xfm` are None. `clipped_masks` are as in `Brain`.
    `guide` is the high-resolution image of the pair, and `guide_hr` is this image on the
    high-resolution grid; both are None if there is no pair. `calibration`: None if no calibration
    run is used.
    """

    acquired: Series
    bold: Series
    n_dummy: int
    motion: Table
    roi_bold: Mask
    roi_bold_hr: Mask
    registration_facts: Facts
    regions: dict[str, Mask]
    regions_hr: dict[str, Mask]
    clipped_masks: list[Map] | None = None
    tpms_bold: list[Image] | None = None
    boldref2t1w_xfm: Transforms | None = None
    guide: Guide | None = None
    guide_hr: Image | None = None
    calibration: FittedCalibration | None = None


def fit_run(
    plan: RunPlan, anat: Anatomy | None, pair: RegisteredPair | None, outputs: Outputs
) -> FittedRun:
    """Estimate head motion and registration of a run, or import them from derivatives.

    `anat` and `pair`, the T2*-weighted pair of the run, are None if missing.
    """
    run = plan.bold
    steady_run = find_steady_state(
        import_bold(run),
        dummy_scans=plan.dummy_scans,
        search_outliers=plan.searches_outliers,
    )
    bold, n_dummy = steady_run.bold, steady_run.n_dummy
    noise = acquired_series.record_noise(steady_run.acquired)
    outputs.store(noise, {"desc": "noise", "suffix": "metrics"}, level="minimal")
    distortion = None
    if run.precomputed is not None and run.precomputed.field is not None:
        distortion = import_distortion(bold, run.precomputed.field, plan.phase_encoding)
    head_motion = _find_motion(plan, steady_run, distortion)
    outputs = outputs.with_references(boldref=head_motion.boldref)
    store_motion(head_motion, outputs, run)
    stc = correct_acquired(bold, n_dummy, plan.correction)
    _add_correction_text(plan)
    fitted_run = register_run(plan, steady_run, head_motion, stc, distortion, anat, pair, outputs)
    if plan.uses_calibration and run.calibration is not None:
        calibration = _fit_calibration_run(plan, run.calibration, fitted_run, outputs)
        fitted_run = replace(fitted_run, calibration=calibration)
    return fitted_run


def import_bold(run: BoldRun) -> Series:
    """Read the series of a run, and combine the echoes of a multi-echo run."""
    bold_file: File = run.bold
    if run.echoes:
        files, echo_times = zip(*run.echoes, strict=True)
        bold_file = acquired_series.combine_echoes(list(files), echo_times=list(echo_times))
        add_methods_text(Part.PREPROCESSING, acquired_series.describe_echoes(echo_times))
    elif echo := run.entities.get("echo"):
        add_methods_text(
            Part.PREPROCESSING, f"Only echo {echo} of the multi-echo run was analyzed."
        )
    return acquired_series.import_series(bold_file, tr=run.tr, axis_order=run.axis_order)


def import_distortion(bold: Series, field: PrecomputedField, phase_encoding: str) -> Distortion:
    """Convert an imported field map to the signal displacement in a run."""
    return imported.field_to_shift(
        bold,
        field.fieldmap,
        as_transforms(field.xfm),
        readout=field.readout,
        phase_encoding=phase_encoding,
    )


def _find_motion(
    plan: RunPlan, steady_run: SteadyRun, distortion: Distortion | None
) -> HeadMotion:
    """Estimate the head motion of a run, or import it from derivatives."""
    run, bold, n_dummy = plan.bold, steady_run.bold, steady_run.n_dummy
    precomputed = run.precomputed
    if precomputed is None:
        head_motion = fit_motion(bold, n_dummy)
        add_methods_text(Part.PREPROCESSING, bold_reference.BOLDREF_TEXT)
        add_methods_text(Part.PREPROCESSING, motion.MOTION_TEXT)
        return head_motion
    head_motion = import_motion(
        bold, n_dummy, precomputed, distortion, run.axis_order, steady_run.outliers
    )
    text = imported.describe_motion(precomputed.origin.text, rebuilt=precomputed.hmc is None)
    add_methods_text(Part.PREPROCESSING, text)
    if distortion is not None:
        add_methods_text(Part.PREPROCESSING, imported.describe_distortion(precomputed.origin.text))
    return head_motion


def import_motion(
    bold: Series,
    n_dummy: int,
    derivatives: PrecomputedRun,
    distortion: Distortion | None,
    axis_order: AxisOrder,
    outliers: Facts | None,
) -> HeadMotion:
    """Import head motion from derivatives of another program.

    Transforms are used if they exist; otherwise, motion is rebuilt from the motion parameters.

    `axis_order`: axis of the file that corresponds to each axis of the series. `outliers`: outlier
    volumes, whose motion is not imported.
    """
    if derivatives.hmc is not None:
        return reuse_motion(
            bold, n_dummy, as_transforms(derivatives.hmc), distortion, outliers=outliers
        )
    assert derivatives.confounds is not None, (
        "without transforms, the confounds contain the head motion"
    )
    hmc_xfms, parameters, boldref = imported.rebuild_motion(
        bold,
        as_artifact(derivatives.confounds),
        distortion,
        outliers,
        n_dummy=n_dummy,
        axis_order=axis_order,
    )
    return HeadMotion(boldref=boldref, hmc_xfms=hmc_xfms, motion=parameters)


def reuse_motion(
    bold: Series,
    n_dummy: int,
    hmc_xfms: Transforms,
    distortion: Distortion | None = None,
    boldref: Image | None = None,
    outliers: Facts | None = None,
) -> HeadMotion:
    """Return the head motion that existing transforms describe.

    `boldref`: boldref of the transforms; None: the mean of the realigned steady-state volumes.
    `outliers`: outlier volumes of the run; None if they were not searched.
    """
    hmc_xfms, parameters, boldref = imported.import_motion(
        bold, hmc_xfms, distortion, boldref, outliers, n_dummy=n_dummy
    )
    return HeadMotion(boldref=boldref, hmc_xfms=hmc_xfms, motion=parameters)


def store_motion(head_motion: HeadMotion, outputs: Outputs, run: BoldRun) -> None:
    """Store the boldref of a run and the head-motion transforms of its volumes.

    The group level compares the acquisition of runs that are not combined.
    """
    acquisition = list_acquisition_fields(run)
    outputs.store(
        head_motion.boldref,
        {"desc": "hmc", "suffix": "boldref"},
        sidecar={
            **bold_reference.BOLDREF_SIDECAR,
            **sidecar_in_order(acquisition, inverse_order(run.axis_order)),
        },
    )
    outputs.store(
        head_motion.hmc_xfms,
        {"from": "orig", "to": "boldref", "mode": "image", "desc": "hmc", "suffix": "xfm"},
        sidecar=motion.HMC_SIDECAR,
        exported_as={},
    )


def correct_acquired(bold: Series, n_dummy: int, correction: SeriesCorrection) -> Series:
    """Correct slice timing of an acquired series and smooth it, as requested.

    `n_dummy`: number of non-steady-state volumes at the start.
    """
    stc = bold
    if correction.slice_times is not None:
        stc = acquired_series.correct_slice_timing(
            bold,
            slice_times=correction.slice_times,
            start_time=correction.start_time,
            n_dummy=n_dummy,
        )
    if correction.input_smoothing:
        stc = acquired_series.smooth_acquired(stc, input_smoothing=correction.input_smoothing)
    return stc


def _add_correction_text(plan: RunPlan) -> None:
    """Add methods text on slice-timing correction and smoothing of the acquired series."""
    correction = plan.correction
    if plan.corrects_slice_timing:
        add_methods_text(
            Part.PREPROCESSING, acquired_series.describe_slice_timing(correction.start_time)
        )
    if correction.input_smoothing:
        text = acquired_series.describe_input_smoothing(correction.input_smoothing)
        add_methods_text(Part.PREPROCESSING, text)
    if plan.bold.is_corrected and not plan.corrects_slice_timing:
        text = "Slice-timing correction had already been applied to the input series."
        add_methods_text(Part.PREPROCESSING, text)
    elif not plan.corrects_slice_timing:
        add_methods_text(Part.PREPROCESSING, "Slice-timing correction was not performed.")
    if plan.bold.precomputed is None or plan.bold.precomputed.field is None:
        text = "Susceptibility distortion was not corrected."
        add_methods_text(Part.PREPROCESSING, text)


def register_run(
    plan: RunPlan,
    steady_run: SteadyRun,
    head_motion: HeadMotion,
    stc: Series,
    distortion: Distortion | None,
    anat: Anatomy | None,
    pair: RegisteredPair | None,
    outputs: Outputs,
) -> FittedRun:
    """Register a run to T1w image and pair, and resample brain, tissues and region to its grids.

    `stc` and `distortion` are as in `AlignedSeries`. Without `anat`, the region of interest is
    the brain, unless it is given in the space of the boldref. Without `pair`, no guide is
    resampled.
    """
    boldref = head_motion.boldref
    anatomy = _register_to_anatomy(plan, boldref, anat, outputs)
    brain = _find_stored_brain(plan, steady_run, boldref, anat, anatomy, outputs)
    regions = _find_regions(plan, brain, anat, anatomy, outputs)
    registered_guide = _register_to_guide(plan, boldref, pair, outputs)
    facts = registration.gather_registration(
        brain.mask_facts,
        brain.clipped_facts,
        None if anat is None else anat.brain_facts,
        anatomy.facts,
        regions.facts,
        registered_guide.facts,
    )
    outputs.store(facts, {"desc": "registration", "suffix": "metrics"}, level="minimal")
    _add_registration_text(plan, facts, with_anat=anat is not None, with_pair=pair is not None)
    return FittedRun(
        boldref=boldref,
        bold_mask=brain.bold_mask,
        bold_mask_hr=brain.bold_mask_hr,
        factor=plan.bold.factor,
        hmc_xfms=head_motion.hmc_xfms,
        distortion=distortion,
        outliers=steady_run.outliers,
        stc=stc,
        acquired=steady_run.acquired,
        bold=steady_run.bold,
        n_dummy=steady_run.n_dummy,
        motion=head_motion.motion,
        roi_bold=regions.roi_bold,
        roi_bold_hr=regions.roi_bold_hr,
        regions=regions.regions,
        regions_hr=regions.regions_hr,
        registration_facts=facts,
        clipped_masks=brain.clipped_masks,
        tpms_bold=anatomy.tpms_bold,
        boldref2t1w_xfm=anatomy.boldref2t1w_xfm,
        guide=registered_guide.guide,
        guide_hr=registered_guide.guide_hr,
    )


@frozen
class _AnatomyOfRun:
    """Registration of a run to its T1w image, and tissues on its grid; None without this image."""

    boldref2t1w_xfm: Transforms | None = None
    tpms_bold: list[Image] | None = None
    facts: Facts | None = None


def _register_to_anatomy(
    plan: RunPlan, boldref: Image, anat: Anatomy | None, outputs: Outputs
) -> _AnatomyOfRun:
    """Register a run to its T1w image, or import the registration, and resample the tissues.

    The inverse transform is stored only in the exported dataset.
    """
    if anat is None:
        return _AnatomyOfRun()
    precomputed = plan.bold.precomputed
    if precomputed is not None and precomputed.coreg is not None:
        xfm, facts = imported.import_coreg(
            boldref,
            anat.t1w_preproc,
            anat.t1w_mask,
            as_transforms(precomputed.coreg),
            origin=precomputed.origin.text,
        )
    else:
        xfm, facts = registration.register_to_t1w(
            boldref, anat.t1w_preproc, anat.t1w_mask, random_seed=plan.random_seed
        )
    outputs.store(xfm, _make_coreg_entities("boldref", "T1w"), exported_as={})
    outputs.store(
        primary_dataset.invert_coreg(xfm),
        _make_coreg_entities("T1w", "boldref"),
        exported_only=True,
    )
    tpms_bold = registration.tissues_to_bold(boldref, anat.t1w_tpms, xfm)
    return _AnatomyOfRun(boldref2t1w_xfm=xfm, tpms_bold=tpms_bold, facts=facts)


def _find_stored_brain(
    plan: RunPlan,
    steady_run: SteadyRun,
    boldref: Image,
    anat: Anatomy | None,
    anatomy: _AnatomyOfRun,
    outputs: Outputs,
) -> Brain:
    """Compute or import the brain masks of a run without clipped voxels, and store them."""
    precomputed = plan.bold.precomputed
    brain = find_brain(
        boldref,
        anat,
        anatomy.boldref2t1w_xfm,
        mask_file=None if precomputed is None else precomputed.mask,
        factor=plan.bold.factor,
        origin="" if precomputed is None else precomputed.origin.text,
    )
    brain = exclude_clipped(
        brain,
        steady_run,
        outputs,
        echo_files=[path for path, _ in plan.bold.echoes],
        axis_order=plan.bold.axis_order,
    )
    _store_brain(plan, brain, outputs)
    return brain


@frozen
class _GuideOfRun:
    """High-resolution image of the pair of a run in its frame; None without a pair.

    The fields are as in `FittedRun`; `facts` are on the registration.
    """

    guide: Guide | None = None
    guide_hr: Image | None = None
    facts: Facts | None = None


def _register_to_guide(
    plan: RunPlan, boldref: Image, pair: RegisteredPair | None, outputs: Outputs
) -> _GuideOfRun:
    """Register a run to the high-resolution image of its pair, and store the transform."""
    if pair is None:
        return _GuideOfRun()
    xfm, guide_hr, facts = registration.register_to_pair(
        boldref,
        pair.highres_file,
        pair.highres2lowres_xfm,
        factor=plan.bold.factor,
        random_seed=plan.random_seed,
    )
    outputs.store(xfm, _make_coreg_entities("highres", "boldref"))
    guide = Guide(highres_file=pair.highres_file, highres2boldref_xfm=xfm)
    return _GuideOfRun(guide=guide, guide_hr=guide_hr, facts=facts)


def _add_registration_text(
    plan: RunPlan, facts: Facts, *, with_anat: bool, with_pair: bool
) -> None:
    """Add methods text on the registrations and the brain mask of a run.

    `facts` are on the registrations; `with_anat` and `with_pair` state whether the images exist.
    """
    precomputed = plan.bold.precomputed
    imports_coreg = precomputed is not None and precomputed.coreg is not None
    imports_mask = precomputed is not None and precomputed.mask is not None
    registration_text = registration.describe_registration(
        to_t1w=with_anat and not imports_coreg, to_pair=with_pair
    )
    add_methods_text(Part.PREPROCESSING, registration_text)
    if not imports_mask:
        add_methods_text(
            Part.PREPROCESSING,
            registration.describe_mask(with_anat=with_anat),
            output=facts,
            describe=lambda folders, _: registration.describe_mask(
                with_anat=with_anat, folders=folders
            ),
        )
    import_text = registration.describe_imported_registration(
        "" if precomputed is None else precomputed.origin.text,
        mask=imports_mask,
        to_t1w=imports_coreg,
    )
    add_methods_text(Part.PREPROCESSING, import_text)


def find_brain(
    boldref: Image,
    anat: Anatomy | None = None,
    boldref2t1w_xfm: Transforms | None = None,
    *,
    mask_file: Path | None = None,
    factor: Factor,
    origin: str = "",
) -> Brain:
    """Compute or import the brain masks on both grids of a run.

    The brain mask of `anat` limits the mask; if None, only the boldref determines the mask.
    `boldref2t1w_xfm` is the registration to the T1w image. `mask_file` is a mask of another
    program, and `origin` its origin (program and dataset), for texts; if the file is None, the
    mask is estimated. `factor` is the ratio of acquired to high-resolution voxel size, per axis.
    """
    if mask_file is not None:
        bold_mask, bold_mask_hr, mask_facts = imported.import_mask(
            boldref, mask_file, factor=factor, origin=origin
        )
    else:
        t1w_mask = None if anat is None else anat.t1w_mask
        bold_mask, bold_mask_hr, mask_facts = registration.mask_bold(
            boldref, t1w_mask, boldref2t1w_xfm, factor=factor
        )
    return Brain(
        boldref=boldref,
        factor=factor,
        bold_mask=bold_mask,
        bold_mask_hr=bold_mask_hr,
        mask_facts=mask_facts,
    )


def exclude_clipped(
    brain: Brain,
    steady_run: SteadyRun,
    outputs: Outputs | None = None,
    *,
    echo_files: Sequence[Path] = (),
    axis_order: AxisOrder = AS_STORED,
) -> Brain:
    """Exclude clipped voxels from the brain masks of a run, and store their mask.

    `outputs`: None to store nothing. For `echo_files` and `axis_order`, see the step
    `exclude_clipped`.
    """
    bold_mask, bold_mask_hr, clipped_masks, clipped_facts = clipped_voxels.exclude_clipped(
        steady_run.acquired,
        brain,
        list(echo_files),
        n_dummy=steady_run.n_dummy,
        axis_order=axis_order,
    )
    if outputs is not None:
        outputs.store(clipped_masks)
    return replace(
        brain,
        bold_mask=bold_mask,
        bold_mask_hr=bold_mask_hr,
        clipped_masks=clipped_masks,
        clipped_facts=clipped_facts,
    )


def _store_brain(plan: RunPlan, brain: BrainMasks, outputs: Outputs) -> None:
    """Store the brain masks on both grids of a run."""
    outputs.store(brain.bold_mask, registration.MASK_ENTITIES, sidecar=registration.MASK_SIDECAR)
    outputs.store(
        brain.bold_mask_hr,
        {"space": BOLDREF, "res": "hr", "desc": "brain", "suffix": "mask"},
        sidecar=registration.MASK_HR_SIDECAR,
        # The mask is exported only if the primary series is exported in the space of the run.
        exported_as={"res": ""} if plan.in_func else None,
    )


def _list_region_sources(plan: RunPlan, anat: Anatomy | None) -> list[RegionSource]:
    """Return the regions of interest of a run in the order of the option.

    The brain is only returned if there is no other region.
    """
    own_masks = plan.regions.own_masks
    sources = {
        roi: RegionSource(roi=roi, mask=as_artifact(path), in_run_space=True)
        for roi, path in own_masks.items()
    }
    if anat is not None:
        sources |= {
            source.roi: source for source in anat.regions if source.roi != BRAIN or not own_masks
        }
    return [sources[roi] for roi in plan.regions.names if roi in sources]


@frozen
class _RegionsOfRun:
    """Regions of interest of a run on both grids, as in `FittedRun`, and facts on their union."""

    roi_bold: Mask
    roi_bold_hr: Mask
    regions: dict[str, Mask]
    regions_hr: dict[str, Mask]
    facts: Facts | None = None


def _find_regions(
    plan: RunPlan,
    brain: BrainMasks,
    anat: Anatomy | None,
    anatomy: _AnatomyOfRun,
    outputs: Outputs,
) -> _RegionsOfRun:
    """Resample regions of interest to both grids of a run, and store their union as acquired.

    Without regions, the region of interest is the brain.
    """
    sources = _list_region_sources(plan, anat)
    if not sources:
        return _RegionsOfRun(
            roi_bold=brain.bold_mask, roi_bold_hr=brain.bold_mask_hr, regions={}, regions_hr={}
        )
    regions: dict[str, Mask] = {}
    regions_hr: dict[str, Mask] = {}
    facts = []
    for number, source in enumerate(sources, start=1):
        with subworkflow(f"region_{number}_wf"):
            name = plan.regions.names[source.roi]
            regions[name], regions_hr[name], region_facts = registration.region_to_bold(
                source.mask,
                brain,
                None if source.in_run_space else anatomy.boldref2t1w_xfm,
                source.xfms,
                random_seed=plan.random_seed,
            )
        facts.append(region_facts)
    roi_bold, roi_bold_hr, union_facts = registration.unite_regions(
        list(regions.values()),
        list(regions_hr.values()),
        facts,
        brain,
        region_texts=[Path(source.roi).name for source in sources],
    )
    outputs.store(
        roi_bold,
        {"space": BOLDREF, "label": "roi", "suffix": "mask"},
        sidecar={"Description": "region of interest", "Type": "ROI"},
    )
    if all(source.roi == BRAIN for source in sources):
        regions, regions_hr = {}, {}
    return _RegionsOfRun(
        roi_bold=roi_bold,
        roi_bold_hr=roi_bold_hr,
        regions=regions,
        regions_hr=regions_hr,
        facts=union_facts,
    )


def _fit_calibration_run(
    plan: RunPlan, run: BoldRun, brain: BoldBrain, outputs: Outputs
) -> FittedCalibration:
    """Preprocess the calibration run of a run, and measure its signal fluctuations."""
    add_methods_text(
        Part.SERIES, calibration_run.describe_calibration(with_events=run.events is not None)
    )
    with subworkflow("calibration_wf"):
        file = SeriesFile(bold_file=run.bold, tr=run.tr, axis_order=run.axis_order)
        steady_run = find_steady_state(
            file.import_series(),
            dummy_scans=plan.dummy_scans_option,
            search_outliers=False,
        )
        return fit_calibration(
            steady_run.bold,
            steady_run.n_dummy,
            fit_motion(steady_run.bold, steady_run.n_dummy),
            brain,
            events=run.events,
            levels=run.levels,
            tr=run.tr,
            hrf=plan.design.hrf,
            random_seed=plan.random_seed,
            outputs=replace(outputs, axis_order=run.axis_order),
        )


def find_steady_state(
    acquired: Series, *, dummy_scans: int | None, search_outliers: bool = True
) -> SteadyRun:
    """Count the non-steady-state volumes of a run, and replace its outlier volumes.

    `dummy_scans`: number of non-steady-state volumes; None to detect it.
    """
    n_dummy = bold_reference.count_dummies(acquired, dummy_scans=dummy_scans)
    if not search_outliers:
        return SteadyRun(acquired=acquired, bold=acquired, n_dummy=n_dummy)
    bold, outliers = outlier_volumes.replace_outliers(acquired, n_dummy=n_dummy)
    describe_step(Part.PREPROCESSING, outliers, outlier_volumes.describe_outliers)
    return SteadyRun(acquired=acquired, bold=bold, n_dummy=n_dummy, outliers=outliers)


def fit_calibration(
    bold: Series,
    n_dummy: int,
    head_motion: HeadMotion,
    brain: BoldBrain,
    *,
    events: Path | None,
    levels: Sequence[str],
    tr: float,
    hrf: HemodynamicResponse,
    random_seed: int,
    outputs: Outputs,
    boldref2calibration_xfm: Transforms | None = None,
) -> FittedCalibration:
    """Register a calibration run to a run, and measure its signal fluctuations.

    `bold`, `head_motion`, `n_dummy` (non-steady-state volumes at the start), `events`, `levels`
    (trial types in ``Levels`` of the events) and `tr` (s) are of the calibration run; `brain` is
    of the run to be super-resolved. If `events` is None, no task effects are regressed out, else
    their response `hrf`. `boldref2calibration_xfm` maps points of the boldref to points of the
    calibration run; if None, the transform is estimated.
    """
    head_mask = head_motion.head_mask
    if head_mask is None:
        head_mask = bold_reference.mask_head(head_motion.boldref)
    xfm, registration_facts = calibration_run.register_calibration(
        brain,
        head_motion.boldref,
        head_mask,
        known_calibration_xfm=boldref2calibration_xfm,
        random_seed=random_seed,
    )
    outputs.store(
        xfm,
        _make_coreg_entities("calibration", "boldref"),
        sidecar=calibration_run.CALIBRATION_XFM_SIDECAR,
    )
    patterns, calibration_facts = calibration_run.measure_calibration(
        bold,
        head_mask,
        head_motion.hmc_xfms,
        head_motion.motion,
        registration_facts,
        events,
        levels=levels,
        n_dummy=n_dummy,
        tr=tr,
        hrf=hrf,
    )
    outputs.store(calibration_facts, {"desc": "calibration", "suffix": "metrics"})
    return FittedCalibration(
        calibration_ref=head_motion.boldref,
        boldref2calibration_xfm=xfm,
        calibration_patterns=patterns,
        calibration_facts=calibration_facts,
    )


def _make_coreg_entities(origin: str, target: str) -> dict[str, str]:
    """Return entities of a coregistration transform from one image to another."""
    return {"from": origin, "to": target, "mode": "image", "desc": "coreg", "suffix": "xfm"}


def fit_motion(bold: Series, n_dummy: int, boldref: Image | None = None) -> HeadMotion:
    """Estimate head motion in every volume.

    `boldref`: target of the realignment; None: the average of realigned steady-state volumes.
    """
    if boldref is None:
        boldref = bold_reference.average_volumes(bold, n_dummy=n_dummy)
    head_mask = bold_reference.mask_head(boldref)
    hmc_xfms, parameters = motion.estimate_motion(bold, boldref, head_mask, n_dummy=n_dummy)
    return HeadMotion(boldref=boldref, hmc_xfms=hmc_xfms, motion=parameters, head_mask=head_mask)
