"""Report figures of a run, and input summaries of participants and runs.

No other result depends on these figures and summaries.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bids_sr.bids import BoldRun, Pair, Subject
from bids_sr.bids.precomputed import PrecomputedAnat, PrecomputedRun
from bids_sr.config import Settings
from bids_sr.glm.contrasts import single_conditions
from bids_sr.io.atomic_files import read_json
from bids_sr.io.grids import size_text
from bids_sr.pipeline.flow import expect_cost, read_image, subworkflow
from bids_sr.pipeline.outputs import Outputs
from bids_sr.series import ACQUIRED, MEASURED
from bids_sr.steps.figures import (
    correlation as correlation_figures,
    evaluation as evaluation_figures,
    fluctuations as fluctuations_figures,
    map_viewer as draw_map_viewer,
    maps as maps_figures,
    model_training as model_training_figures,
    motion as motion_figures,
    networks as networks_figures,
    overlap as overlap_figures,
    overview as overview_figures,
    quality as quality_figures,
    registration as registration_figures,
    series as series_figures,
)
from bids_sr.steps.figures.run_maps import SceneImages
from bids_sr.workflows.anatomy import Anatomy
from bids_sr.workflows.evaluate_run import RunEvaluation
from bids_sr.workflows.fit_run import FittedCalibration, FittedRun
from bids_sr.workflows.make_series import RunSeries
from bids_sr.workflows.map_run import MappedRun, list_mapped_series, make_storage_rules
from bids_sr.workflows.pair import RegisteredPair
from bids_sr.workflows.run_plan import RunPlan

_ReportFacts = dict[str, object]


def report_run(
    plan: RunPlan,
    fitted_run: FittedRun,
    series: RunSeries,
    maps: MappedRun,
    run_evaluation: RunEvaluation,
    anat: Anatomy | None,
    pair: RegisteredPair | None,
    outputs: Outputs,
    *,
    n_runs: int,
    only_run: bool,
) -> None:
    """Draw all figures of a run.

    `anat` and `pair`, the T2*-weighted pair of the run, are None if missing. `n_runs` is the
    number of runs of the participant, which share the space of a report. `only_run` states whether
    the task has only this run, whose map is then also the map of the participant.
    """
    facts = make_run_facts(
        plan.analysis.settings, plan.bold, has_slice_timing=plan.corrects_slice_timing
    )
    draw_preprocessing(plan, fitted_run, series, anat, pair, facts, outputs)
    draw_series(plan, fitted_run, series, maps, run_evaluation, outputs)
    draw_run_maps(plan, fitted_run, series, maps, run_evaluation, anat, outputs)
    draw_evaluation_figures(
        plan,
        fitted_run,
        series,
        maps,
        run_evaluation,
        anat,
        facts,
        outputs,
        n_runs=n_runs,
        only_run=only_run,
    )


def draw_preprocessing(
    plan: RunPlan,
    fitted_run: FittedRun,
    series: RunSeries,
    anat: Anatomy | None,
    pair: RegisteredPair | None,
    facts: Mapping[str, object],
    outputs: Outputs,
) -> None:
    """Draw input summary, head motion, registration and linear model of a run.

    `facts`: input summary of the run. See `report_run` for other parameters.
    """
    registration, boldref = fitted_run.registration, fitted_run.motion.boldref
    outputs.store_figures(
        motion_figures.summarize_run(
            series.censoring, fitted_run.outliers, run_facts=facts, n_dummy=fitted_run.n_dummy
        )
    )
    outputs.store_figures(
        motion_figures.draw_motion(
            series.confounds,
            series.acquired.series,
            registration.bold_mask,
            registration.tpms_bold,
            fitted_run.acquired,
            fitted_run.outliers,
            n_dummy=fitted_run.n_dummy,
        )
    )
    outputs.store_figures(registration_figures.show_registration(registration.facts))
    outputs.store_figures(
        maps_figures.draw_design(
            series.acquired.series, series.model, kinds=plan.analysis.settings.activation.kinds
        )
    )
    if anat is not None:
        assert registration.boldref2t1w_xfm is not None
        outputs.store_figures(
            registration_figures.draw_coregistration(
                boldref,
                anat.t1w_preproc,
                anat.t1w_mask,
                registration.boldref2t1w_xfm,
                anat.t1w_tpms,
            )
        )
    if pair is not None:
        assert registration.guide_hr is not None
        outputs.store_figures(
            registration_figures.draw_guide(
                boldref,
                registration.guide_hr,
                read_image(pair.highres_file),
                registration.bold_mask_hr,
            )
        )
    if fitted_run.calibration is not None:
        _draw_calibration(plan, fitted_run, fitted_run.calibration, series, outputs)


def _draw_calibration(
    plan: RunPlan,
    fitted_run: FittedRun,
    calibration: FittedCalibration,
    series: RunSeries,
    outputs: Outputs,
) -> None:
    """Draw the calibration run with the self-test of the first method that uses it."""
    calibrated_series = next(
        request.name
        for request in plan.stored_series
        if request.learned_from == "run"
        and request.method is not None
        and request.method.uses_calibration
    )
    outputs.store_figures(
        registration_figures.draw_calibration(
            fitted_run.motion.boldref,
            fitted_run.registration.bold_mask,
            calibration.calibration_ref,
            calibration.boldref2calibration_xfm,
            calibration.calibration_facts,
            series.self_tests[calibrated_series],
        )
    )


def draw_series(
    plan: RunPlan,
    fitted_run: FittedRun,
    series: RunSeries,
    maps: MappedRun,
    run_evaluation: RunEvaluation,
    outputs: Outputs,
) -> None:
    """Draw the models and the series of a run; see `report_run` for parameters."""
    _draw_models(plan, fitted_run, series, outputs)
    registration = fitted_run.registration
    middle_volumes = {
        name: mapped_series.results.middle for name, mapped_series in maps.series.items()
    }
    if MEASURED in middle_volumes:
        middle_volumes[MEASURED] = middle_volumes.pop(MEASURED)  # moved to the last column
    outputs.store_figures(
        series_figures.draw_slice(
            middle_volumes,
            maps.roi_hr,
            registration.bold_mask_hr,
            series_names=plan.stored_names,
        )
    )
    series_names = plan.methods or [
        computed_series.name for computed_series in list_mapped_series(series)[1:2]
    ]
    outputs.store_figures(
        series_figures.draw_output(
            {name: series.high_resolution[name].series for name in series_names},
            {name: maps.series[name].results.tsnr for name in (ACQUIRED, *series_names)},
            registration.bold_mask_hr,
            run_evaluation.evidence,
            registration.tpms_bold,
            n_dummy=fitted_run.n_dummy,
        )
    )


def _draw_models(
    plan: RunPlan, fitted_run: FittedRun, series: RunSeries, outputs: Outputs
) -> None:
    """Draw the training of networks on volumes, and the variances estimated from the run."""
    for request in plan.stored_series:
        if request.learned_from == "volumes":
            network_files = series.high_resolution[request.name].network_files
            assert network_files is not None
            with subworkflow(request.name, high_resolution=True):
                outputs.store_figures(
                    model_training_figures.draw_volume_training(
                        network_files, series_name=request.name
                    )
                )
    estimated_names = [
        request.name for request in plan.stored_series if request.learned_from == "run"
    ]
    if estimated_names:
        variance = series.high_resolution[estimated_names[-1]].variance
        assert variance is not None
        outputs.store_figures(
            fluctuations_figures.draw_variance(
                variance.weight,
                variance.self_tests,
                fitted_run.registration.bold_mask_hr,
                fitted_run.motion.boldref,
                fitted_run.registration.guide_hr,
            )
        )


def make_scene_images(fitted_run: FittedRun, maps: MappedRun) -> SceneImages:
    """Return the images that the maps of a run are drawn on."""
    registration = fitted_run.registration
    return SceneImages(
        bold_mask_hr=registration.bold_mask_hr,
        roi_hr=maps.roi_hr,
        boldref=fitted_run.motion.boldref,
        guide_hr=registration.guide_hr,
    )


def draw_run_maps(
    plan: RunPlan,
    fitted_run: FittedRun,
    series: RunSeries,
    maps: MappedRun,
    run_evaluation: RunEvaluation,
    anat: Anatomy | None,
    outputs: Outputs,
) -> None:
    """Draw maps, regions and clusters of a run; see `report_run` for parameters."""
    all_maps, images = maps.maps, make_scene_images(fitted_run, maps)
    activation_drawings = maps_figures.draw_activation(
        all_maps,
        images,
        series_names=plan.stored_names,
        at_rest=plan.at_rest,
    )
    expect_cost(activation_drawings, maps_figures.activation_cost(plan.contrasts))
    outputs.store_figures(activation_drawings)
    if anat is not None:
        _draw_surface_maps(plan, maps, anat, outputs)
    outputs.store_figures(maps_figures.show_clusters(maps.clusters, run_evaluation.evidence))
    if draws_correlation(plan):
        outputs.store_figures(
            correlation_figures.draw_correlation(
                all_maps,
                images,
                series_names=plan.stored_names,
                contrasts=plan.contrasts,
            )
        )
    activation = plan.analysis.settings.activation
    if plan.at_rest and "cc" in activation.kinds:
        network_drawings = networks_figures.draw_networks(
            all_maps,
            images,
            series_names=plan.stored_names,
        )
        expect_cost(network_drawings, networks_figures.networks_cost(plan.contrasts))
        outputs.store_figures(network_drawings)
    conditions = single_conditions(plan.analysis.plan.contrasts[plan.bold.bold])
    if len(conditions) == 2 and activation.maps_quarter and not plan.at_rest:
        outputs.store_figures(
            overlap_figures.draw_overlap(
                all_maps,
                images,
                series_names=plan.stored_names,
                overlap_pair=conditions,
            )
        )


def _draw_surface_maps(plan: RunPlan, maps: MappedRun, anat: Anatomy, outputs: Outputs) -> None:
    """Draw the maps of the primary series on the surfaces of the participant."""
    surface_maps = maps.series[plan.primary].surface_maps or {}
    for output_surfaces in anat.surfaces:
        labels = output_surfaces.space.entities
        with (
            subworkflow(plan.primary, high_resolution=True),
            subworkflow("_".join([plan.primary, "on", *labels.values()])),
        ):
            outputs.store_figures(
                maps_figures.draw_surfaces(
                    surface_maps[output_surfaces.space.name],
                    output_surfaces.surfaces,
                    series_name=plan.primary,
                    space_entities=labels,
                )
            )


def draw_evaluation_figures(
    plan: RunPlan,
    fitted_run: FittedRun,
    series: RunSeries,
    maps: MappedRun,
    run_evaluation: RunEvaluation,
    anat: Anatomy | None,
    facts: Mapping[str, object],
    outputs: Outputs,
    *,
    n_runs: int,
    only_run: bool,
) -> None:
    """Draw overview, map viewer, evaluation and quality control of a run.

    `facts`: input summary of the run. See `report_run` for other parameters.
    """
    _draw_viewer(plan, fitted_run, maps, run_evaluation, anat, outputs, n_runs=n_runs)
    _draw_overview(
        plan, fitted_run, series, maps, run_evaluation, facts, outputs, only_run=only_run
    )
    registration, boldref = fitted_run.registration, fitted_run.motion.boldref
    outputs.store_figures(
        evaluation_figures.draw_evaluation(
            run_evaluation.evaluation,
            run_evaluation.verdict,
            run_evaluation.evidence,
            boldref,
            registration.bold_mask,
            run_evaluation.halves_figures,
            has_truth=plan.has_truth,
            series_names=plan.stored_names,
            region_name=_name_region(plan, anat),
        )
    )
    outputs.store_figures(
        quality_figures.draw_quality(
            run_evaluation.evaluation,
            run_evaluation.evidence,
            boldref,
            registration.bold_mask,
            registration.bold_mask_hr,
            registration.guide_hr,
        )
    )


def _draw_viewer(
    plan: RunPlan,
    fitted_run: FittedRun,
    maps: MappedRun,
    run_evaluation: RunEvaluation,
    anat: Anatomy | None,
    outputs: Outputs,
    *,
    n_runs: int,
) -> None:
    """Draw the map viewer of a run; see `report_run` for parameters."""
    registration = fitted_run.registration
    viewer = draw_map_viewer.show_viewer(
        maps.maps,
        registration.bold_mask_hr,
        run_evaluation.verdict,
        run_evaluation.evidence,
        fitted_run.motion.boldref,
        registration.guide_hr,
        registration.boldref2t1w_xfm,
        None if anat is None else anat.template.std2t1w_xfm,
        series_names=plan.stored_names,
        n_runs=n_runs,
        entities=plan.entities,
        stored=make_storage_rules(plan),
    )
    expect_cost(viewer, draw_map_viewer.viewer_cost(plan.contrasts))
    outputs.store_figures(viewer)


def _draw_overview(
    plan: RunPlan,
    fitted_run: FittedRun,
    series: RunSeries,
    maps: MappedRun,
    run_evaluation: RunEvaluation,
    facts: Mapping[str, object],
    outputs: Outputs,
    *,
    only_run: bool,
) -> None:
    """Draw the first screen of a run; see `draw_evaluation_figures` for parameters."""
    registration = fitted_run.registration
    activation_files = {} if plan.bold.truth is None else plan.bold.truth.activations
    outputs.store_figures(
        overview_figures.draw_overview(
            run_evaluation.evaluation,
            run_evaluation.verdict,
            run_evaluation.evidence,
            registration.facts,
            series.confounds,
            maps.maps,
            make_scene_images(fitted_run, maps),
            registration.bold_mask,
            {name: read_image(file) for name, file in activation_files.items()},
            maps.error_maps,
            entities=plan.entities,
            calibrated=plan.uses_calibration,
            at_rest=plan.at_rest,
            run_facts=facts,
            stored=make_storage_rules(plan),
            only_run=only_run,
        )
    )


def draws_correlation(plan: RunPlan) -> bool:
    """Return whether correlation maps of a task run are drawn.

    This requires correlation maps and one of three conditions: the user named ``cc``, t maps were
    not requested, or the training recipe is not ``fast``.
    """
    settings = plan.analysis.settings
    activation = settings.activation
    is_requested = (
        activation.draws_cc or "glm" not in activation.kinds or settings.superres.recipe != "fast"
    )
    return "cc" in activation.kinds and not plan.at_rest and is_requested


def _name_region(plan: RunPlan, anat: Anatomy | None) -> str:
    """Return the name of the region of interest, or of its file."""
    roi = plan.analysis.settings.activation.roi if anat is None else anat.roi
    return Path(roi).name


def make_subject_facts(
    settings: Settings,
    subject: Subject,
    series: Sequence[str],
    *,
    template: str,
    roi: str,
) -> _ReportFacts:
    """Return the summary of a participant, by label of the report line.

    The summary also lists the series of all runs (`series`) and the region of interest (`roi`).
    The files of precomputed anatomy depend on the atlas template (`template`).
    """
    sessions = {run.entities["session"] for run in subject.runs if "session" in run.entities}
    references = {str(run.truth.root) for run in subject.runs if run.truth}
    superres, precomputed = settings.superres, subject.precomputed
    facts: _ReportFacts = {"Participant": subject.label}
    if sessions:
        facts["Sessions"] = sorted(sessions)
    facts |= {
        "Runs": [run.stem for run in subject.runs],
        "T1w image": subject.t1w[0].name
        if subject.t1w
        else "none (the region of interest is the whole brain)",
        "T2* pair": sorted({_describe_pair(run.pair) for run in subject.runs}),
        "High-resolution reference": sorted(references) or "none",
    }
    if precomputed is not None:
        facts |= _describe_imports(precomputed, precomputed.files(template))
    return {
        **facts,
        "Series": list(dict.fromkeys(series)),
        "Smoothing (mm FWHM)": ", ".join(f"{width:g}" for width in settings.activation.smoothing),
        "Region of interest": roi,
        "Training recipe": superres.recipe_text if superres.learned else "none",
        "Random seed": settings.resources.random_seed,
    }


def make_run_facts(settings: Settings, run: BoldRun, *, has_slice_timing: bool) -> _ReportFacts:
    """Return the input summary of a run, by label of the report line.

    `has_slice_timing`: whether slice timing is corrected.
    """
    calibration, precomputed = run.calibration, run.precomputed
    input_smoothing = settings.preprocessing.input_smoothing
    facts: _ReportFacts = {"Run": run.stem}
    if "Description" in run.sidecar:
        facts["Description"] = run.sidecar["Description"]
    facts |= {
        "Volumes": run.n_volumes,
        "Repetition time (s)": run.tr,
        "Matrix": " × ".join(map(str, run.shape)),
        "Voxel size (mm)": size_text(run.zooms, unit=""),
        "Slice timing": "corrected" if has_slice_timing else "not corrected",
    }
    if input_smoothing:
        facts["Smoothing before super-resolution (mm FWHM)"] = input_smoothing
    factor_text = " × ".join(f"{axis_factor:g}" for axis_factor in run.factor)
    facts |= {
        "Super-resolution factor": factor_text
        + (" (in plane only)" if run.factor[2] == 1 else ""),
        "T2* pair": _describe_pair(run.pair),
        "Calibration run": f"{calibration.bold.name}, {calibration.n_volumes} volumes"
        if calibration
        else "none",
    }
    if precomputed is not None:
        facts |= _describe_imports(precomputed, precomputed.files)
    return facts


def _describe_pair(pair: Pair | None) -> str:
    """Return a description of the pair of a run."""
    if pair is None:
        return "none (only interpolation and methods that do not require a pair)"
    lowres = "a k-space-truncated copy of this image" if pair.lowres is None else pair.lowres.name
    sidecar = pair.highres.with_name(pair.highres.name.partition(".")[0] + ".json")
    description = read_json(sidecar).get("Description")
    return f"{pair.highres.name} and {lowres}" + (f" ({description})" if description else "")


def _describe_imports(
    precomputed: PrecomputedAnat | PrecomputedRun, files: Mapping[str, Path]
) -> _ReportFacts:
    """Return the report line on imported derivatives."""
    return {f"Derivatives from {precomputed.origin.text}": [path.name for path in files.values()]}
