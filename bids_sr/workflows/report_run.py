"""Report figures of a run, and input summaries of participants and runs.

No other result depends on these figures and summaries.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bids_sr.config import Settings
from bids_sr.engine.flow import as_artifact, concatenate, subworkflow
from bids_sr.engine.outputs import Outputs
from bids_sr.glm.contrasts import single_conditions
from bids_sr.io.atomic_files import read_json
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import size_text
from bids_sr.io.series import MEASURED
from bids_sr.report.figure_steps import (
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
from bids_sr.report.figure_steps.overview import JudgedRun, RunPage
from bids_sr.report.figure_steps.run_maps import SceneImages
from bids_sr.survey.bids.inputs import BoldRun, Pair, Subject
from bids_sr.survey.bids.precomputed import PrecomputedAnat, PrecomputedRun
from bids_sr.workflows.evaluate_run import FirstVerdict, RunEvaluation
from bids_sr.workflows.make_series import RunSeries
from bids_sr.workflows.map_run import MappedRun, MappedSeries, store_maps
from bids_sr.workflows.model_run import ModeledRun
from bids_sr.workflows.run_plan import RunPlan, SeriesCorrection

_ReportFacts = dict[str, object]


@frozen
class ReportedRun(ModeledRun):
    """Results of a run that its figures are drawn from."""

    series: RunSeries
    maps: MappedRun
    evaluation: RunEvaluation


def report_run(run: ReportedRun, outputs: Outputs) -> None:
    """Draw all figures of a run, and store the maps that its page names."""
    first_verdict = run.evaluation.first_verdict or run.evaluation
    store_maps(run.plan, run.maps, first_verdict.evidence, outputs)
    _draw_preprocessing(run, outputs)
    _draw_series(run, outputs)
    _draw_run_maps(run, outputs)
    _draw_evaluation(run, outputs)


def _draw_preprocessing(run: ReportedRun, outputs: Outputs) -> None:
    """Draw input summary, head motion, registration and linear model of a run."""
    fitted = run.fitted
    outputs.store_figures(
        motion_figures.summarize_run(
            run.model.censoring,
            fitted.outliers,
            run_facts=make_run_facts(run.plan.bold, run.plan.correction),
            n_dummy=fitted.n_dummy,
        )
    )
    outputs.store_figures(
        motion_figures.draw_motion(
            run.model.confounds,
            run.model.preproc,
            fitted.bold_mask,
            fitted.tpms_bold,
            fitted.acquired,
            fitted.outliers,
            n_dummy=fitted.n_dummy,
        )
    )
    outputs.store_figures(registration_figures.show_registration(fitted.registration_facts))
    outputs.store_figures(
        maps_figures.draw_design(run.model.preproc, run.model.linear, kinds=run.plan.maps.kinds)
    )
    if run.anat is not None:
        assert fitted.boldref2t1w_xfm is not None
        outputs.store_figures(
            registration_figures.draw_coregistration(
                fitted.boldref,
                run.anat.t1w_preproc,
                run.anat.t1w_mask,
                fitted.boldref2t1w_xfm,
                run.anat.t1w_tpms,
            )
        )
    if fitted.guide is not None:
        assert fitted.guide_hr is not None
        outputs.store_figures(
            registration_figures.draw_guide(
                fitted.boldref,
                fitted.guide_hr,
                as_artifact(fitted.guide.highres_file),
                fitted.bold_mask_hr,
            )
        )
    if fitted.calibration is not None:
        # with the self-test of the first method that uses the calibration run
        calibrated_series = next(
            request.name
            for request in run.plan.stored_series
            if request.learned_from == "run"
            and request.method is not None
            and request.method.uses_calibration
        )
        outputs.store_figures(
            registration_figures.draw_calibration(
                fitted.boldref,
                fitted.bold_mask,
                fitted.calibration.calibration_ref,
                fitted.calibration.boldref2calibration_xfm,
                fitted.calibration.calibration_facts,
                run.series.self_tests[calibrated_series],
            )
        )


def make_run_facts(run: BoldRun, correction: SeriesCorrection) -> _ReportFacts:
    """Return the input summary of a run, by label of the report line."""
    calibration, precomputed = run.calibration, run.precomputed
    facts: _ReportFacts = {"Run": run.stem}
    if "Description" in run.sidecar:
        facts["Description"] = run.sidecar["Description"]
    facts |= {
        "Volumes": run.n_volumes,
        "Repetition time (s)": run.tr,
        "Matrix": " × ".join(map(str, run.shape)),
        "Voxel size (mm)": size_text(run.zooms, unit=""),
        "Slice timing": "not corrected" if correction.slice_times is None else "corrected",
    }
    if correction.input_smoothing:
        facts["Smoothing before super-resolution (mm FWHM)"] = correction.input_smoothing
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


def _draw_series(run: ReportedRun, outputs: Outputs) -> None:
    """Draw the models and the series of a run."""
    _draw_models(run, outputs)
    fitted = run.fitted
    middle_volumes = {
        name: mapped_series.results.middle for name, mapped_series in run.maps.series.items()
    }
    if MEASURED in middle_volumes:
        middle_volumes[MEASURED] = middle_volumes.pop(MEASURED)  # moved to the last column
    outputs.store_figures(
        series_figures.draw_slice(
            middle_volumes,
            run.model.roi_hr,
            fitted.bold_mask_hr,
            series_names=run.plan.stored_names,
        )
    )


def _draw_models(run: ReportedRun, outputs: Outputs) -> None:
    """Draw the training of networks on volumes, and the variances estimated from the run."""
    for request in run.plan.stored_series:
        if request.learned_from == "volumes":
            network_files = run.series.high_resolution[request.name].network_files
            assert network_files is not None
            with subworkflow(request.name, high_resolution=True):
                outputs.store_figures(
                    model_training_figures.draw_volume_training(
                        network_files, series_name=request.name
                    )
                )
    estimated_names = [
        request.name for request in run.plan.stored_series if request.learned_from == "run"
    ]
    if estimated_names:
        variance = run.series.high_resolution[estimated_names[-1]].variance
        assert variance is not None
        outputs.store_figures(
            fluctuations_figures.draw_variance(
                variance.weight, variance.self_tests, make_scene_images(run)
            )
        )


def _draw_run_maps(run: ReportedRun, outputs: Outputs) -> None:
    """Draw maps and regions of a run."""
    all_maps, images = run.maps.maps, make_scene_images(run)
    _draw_surface_maps(run, outputs)
    if run.maps.regions is not None:
        outputs.store_figures(
            maps_figures.show_regions(
                run.maps.regions, run.evaluation.evidence, series_names=run.plan.stored_names
            )
        )
    if _draws_correlation(run.plan):
        outputs.store_figures(
            correlation_figures.draw_correlation(
                all_maps,
                images,
                series_names=run.plan.stored_names,
                contrasts=run.plan.contrasts,
            )
        )
    if run.plan.at_rest and "cc" in run.plan.maps.kinds:
        network_drawings = networks_figures.draw_networks(
            all_maps,
            images,
            series_names=run.plan.stored_names,
        )
        outputs.store_figures(network_drawings)
    conditions = single_conditions(run.plan.contrasts)
    has_quarter = "cc" in run.plan.maps.kinds and "quarter" in run.plan.maps.thresholds
    if len(conditions) == 2 and has_quarter and not run.plan.at_rest:
        outputs.store_figures(
            overlap_figures.draw_overlap(
                all_maps,
                images,
                series_names=run.plan.stored_names,
                overlap_pair=conditions,
            )
        )


def _draw_surface_maps(run: ReportedRun, outputs: Outputs) -> None:
    """Draw the maps of the primary series on the surfaces of the participant."""
    surface_maps = run.maps.series[run.plan.primary].surface_maps or {}
    for output_surfaces in () if run.anat is None else run.anat.surfaces:
        labels = output_surfaces.space.entities
        with (
            subworkflow(run.plan.primary, high_resolution=True),
            subworkflow("_".join([run.plan.primary, "on", *labels.values()])),
        ):
            outputs.store_figures(
                maps_figures.draw_surfaces(
                    surface_maps[output_surfaces.space.name],
                    output_surfaces.surfaces,
                    series_name=run.plan.primary,
                    space_entities=labels,
                )
            )


def _draws_correlation(plan: RunPlan) -> bool:
    """Return whether correlation maps of a task run are drawn.

    This requires correlation maps and one of three conditions: the user named ``cc``, t maps were
    not requested, or the training recipe is not ``fast``.
    """
    kinds = plan.maps.kinds
    is_requested = plan.requests_correlation or "glm" not in kinds or plan.stored.correlation
    return "cc" in kinds and not plan.at_rest and is_requested


def _draw_evaluation(run: ReportedRun, outputs: Outputs) -> None:
    """Draw overview, map viewer, evaluation and quality control of a run."""
    _draw_viewer(run, outputs)
    _draw_overview(run, outputs)
    fitted = run.fitted
    outputs.store_figures(
        evaluation_figures.draw_evaluation(
            run.evaluation.evaluation,
            run.evaluation.verdict,
            run.evaluation.evidence,
            fitted.boldref,
            fitted.bold_mask,
            run.evaluation.halves_figures,
            series_names=run.plan.stored_names,
        )
    )
    outputs.store_figures(
        quality_figures.draw_quality(run.evaluation.evaluation, run.evaluation.evidence)
    )


def _draw_viewer(run: ReportedRun, outputs: Outputs) -> None:
    """Draw the viewer of the maps of a run, which include the masks."""
    viewer = draw_map_viewer.show_viewer(
        _gather_judged_run(run, run.evaluation, list(run.maps.series.values())).maps,
        make_scene_images(run),
        run.evaluation.evidence,
        run.fitted.boldref2t1w_xfm,
        None if run.anat is None else run.anat.template.std2t1w_xfm,
        series_names=run.plan.stored_names,
        n_runs=run.plan.n_runs,
        entities=run.plan.entities,
        stored=run.plan.stored,
    )
    outputs.store_figures(viewer)


def _draw_overview(run: ReportedRun, outputs: Outputs) -> None:
    """Draw the first screen of a run, as soon as the first verdict is reached, and its reasons."""
    plan, evaluation, first = run.plan, run.evaluation, run.evaluation.first_verdict
    page = RunPage(
        entities=plan.entities,
        n_volumes=plan.bold.n_volumes,
        zooms=plan.bold.zooms,
        factor=plan.bold.factor,
        stored=plan.stored,
        has_regions=run.maps.regions is not None,
    )
    all_series = list(run.maps.series.values())
    if first is None:
        first_run = _gather_judged_run(run, evaluation, all_series)
    else:
        without_networks = [item for item in all_series if not _uses_network(item)]
        first_run = _gather_judged_run(run, first, without_networks)
        outputs.store_figures(
            overview_figures.draw_network_overview(
                _gather_judged_run(run, evaluation, all_series), first.evidence, page=page
            )
        )
    outputs.store_figures(overview_figures.draw_overview(first_run, page=page), awaited=True)
    outputs.store_figures(
        overview_figures.show_reasons(
            evaluation.evaluation,
            evaluation.verdict,
            evaluation.evidence,
            run.fitted.registration_facts,
            run.model.confounds,
            None if first is None else first.verdict,
            zooms=plan.bold.zooms,
            factor=plan.bold.factor,
            contrasts=plan.contrasts,
            minus_others=plan.minus_others,
            description=str(plan.bold.sidecar.get("Description", "")),
        )
    )


def _uses_network(mapped_series: MappedSeries) -> bool:
    """Return whether a series is from a network."""
    request = mapped_series.series.request
    return request is not None and request.uses_network


def _gather_judged_run(
    run: ReportedRun, judged: FirstVerdict | RunEvaluation, series: Sequence[MappedSeries]
) -> JudgedRun:
    """Return a verdict with the maps of some series."""
    tested = [item for item in series if item.half_resolution_maps is not None]
    return JudgedRun(
        verdict=judged.verdict,
        evidence=judged.evidence,
        registration=run.fitted.registration_facts,
        maps=concatenate(
            maps
            for mapped_series in series
            for maps in (mapped_series.maps, mapped_series.error_maps)
            if maps is not None
        ),
        images=make_scene_images(run),
        truth_maps=dict(run.evaluation.known_activation),
        half_resolution_maps=tested[0].half_resolution_maps if tested else None,
        error_rows=[item.error_rows for item in series if item.error_rows is not None],
    )


def make_scene_images(run: ModeledRun) -> SceneImages:
    """Return the images that the maps of a run are drawn on."""
    return SceneImages(
        bold_mask_hr=run.fitted.bold_mask_hr,
        roi_hr=run.model.roi_hr,
        boldref=run.fitted.boldref,
        guide_hr=run.fitted.guide_hr,
    )


def make_subject_facts(
    settings: Settings,
    subject: Subject,
    series: Sequence[str],
    *,
    smoothing: Sequence[float],
    template: str,
    rois: Sequence[str],
) -> _ReportFacts:
    """Return the summary of a participant, by label of the report line.

    The summary also lists the series of all runs (`series`), the `smoothing` of the maps (FWHM,
    mm) and regions of interest (`rois`).
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
        "Smoothing (mm FWHM)": ", ".join(f"{width:g}" for width in smoothing),
        "Region of interest": "; ".join(rois),
        "Training recipe": superres.recipe_text if superres.learned else "none",
        "Random seed": settings.resources.random_seed,
    }


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
