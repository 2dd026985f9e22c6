"""Workflows that draw the evaluation: what the super-resolved series is worth, quality control, the variance map.

Each gives parallel lists, ``reportlets`` and ``entities``, for a sink; no result depends on anything made here.
"""

from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.reporting.evaluation_reportlets import EvaluationReport, QualityReport, VarianceReport
from bids_sr.interfaces.reporting.overview_reportlets import OverviewReport
from bids_sr.interfaces.reporting.reportlet_figures import CalibrationReport
from bids_sr.workflows.plans import RunPlan
from bids_sr.workflows.reportlets.subject_reportlets import drawing_workflow
from bids_sr.workflows.wiring import same


def init_evaluation_reportlets_wf(*, run: RunPlan, name: str = "evaluation_reportlets_wf") -> LiterateWorkflow:
    """Show the verdict on one run, what it rests on, and the quality control.

    Parameters
    ----------
    run : whether the truth is known, there is a pair to draw over, and the run could be split into halves

    Inputs
    ------
    evaluation_tsv, verdict_json, flags_json : rows of the evaluation; the verdict and the flags as text
    figures_npz : effects beyond the acquired Nyquist limit, only with halves
    consistency_files : loss of acquired data, one row a volume, a file each series
    maps, maps_entities, maps_sidecars : maps of the quality control, among any others, their entities and metadata;
        only with such maps
    mask_hr : brain mask on the high-resolution grid
    guide_hr : high-resolution image that guides, on that grid, only with a guide
    boldref : reference of the run, only without a guide

    Outputs
    -------
    reportlets, entities : figures and fragments of HTML, and the entities of each
    """
    names = list(run.series.names)
    has_truth = bool(run.evaluation.truth_file or run.evaluation.truth_maps)
    table = same("flags_json", evaluation_tsv="in_table")
    quality = [*table, *same("consistency_files", "mask_hr")]
    quality += same(guide_hr="background") if run.with_pair else same(boldref="background")
    if run.guarded:
        quality += same("maps", maps_entities="entities", maps_sidecars="sidecars")
    worth = [*table, *same("verdict_json")]
    if run.evaluation.split:
        worth += same("figures_npz")
    return drawing_workflow(name, {
        "worth": (EvaluationReport(has_truth=has_truth, series_names=names), worth),
        "guards": (QualityReport(consistency_names=names), quality),
    })  # fmt: skip


def init_overview_reportlets_wf(*, run: RunPlan, name: str = "overview_reportlets_wf") -> LiterateWorkflow:
    """Show the first screen of one run: the answer, three numbers, one figure, checks, and what to do next.

    Parameters
    ----------
    run : its name, known activation, and whether there is a pair to draw over

    Inputs
    ------
    evaluation_tsv, verdict_json, flags_json : rows of the evaluation; the verdict and the flags as text
    registration_json, confounds_tsv : quality of the registrations, and head motion
    maps, maps_entities : statistical maps of all series, with their entities
    mask_hr, roi_bold_hr : brain mask and region of interest on the high-resolution grid
    guide_hr : high-resolution image that guides, on that grid, only with a pair
    boldref : reference of the run, only without a pair

    Outputs
    -------
    reportlets, entities : one figure and one fragment of HTML, and the entities of each
    """
    wires = same(
        "evaluation_tsv", "verdict_json", "flags_json", "registration_json", "confounds_tsv", "maps", "mask_hr",
        maps_entities="entities", roi_bold_hr="roi_hr",
    )  # fmt: skip
    wires += same(guide_hr="background") if run.with_pair else same(boldref="background")
    shown = OverviewReport(
        run_name=str(run.facts.get("Run", run.name)), truth_maps=dict(run.evaluation.truth_maps),
        calibrated=run.calibrated, at_rest=run.at_rest,
    )  # fmt: skip
    return drawing_workflow(name, {"overview": (shown, wires)})


def init_variance_reportlets_wf(*, with_guide: bool, name: str = "variance_reportlets_wf") -> LiterateWorkflow:
    """Show where a run fluctuates on the high-resolution grid.

    Parameters
    ----------
    with_guide : whether there is a high-resolution image; else the reference of the run is drawn above

    Inputs
    ------
    weight_file : standard deviation of the fluctuations on that grid
    mask_hr : brain mask on that grid
    guide_hr : high-resolution image, on that grid, only with a guide
    boldref : reference of the run, only without a guide

    Outputs
    -------
    reportlets, entities : one figure, and the entities of it
    """
    guide = same(guide_hr="guide") if with_guide else same(boldref="guide")
    return drawing_workflow(name, {"variance": (VarianceReport(), [*same("weight_file", mask_hr="mask"), *guide])})


def init_calibration_reportlets_wf(*, name: str = "calibration_reportlets_wf") -> LiterateWorkflow:
    """Draw the calibration of one run: in register with the run, its map, and what it told.

    Inputs
    ------
    boldref, bold_mask : reference of the run, and its brain
    calibration_ref, calibration_sd, calibration_xfm, calibration_json : as `init_calibration_wf` gives them

    Outputs
    -------
    reportlets, entities : figures and fragments of HTML, and the entities of each
    """
    wires = same(
        "boldref", "bold_mask", "calibration_ref", "calibration_json", calibration_sd="sd_file",
        calibration_xfm="boldref2calibration_xfm",
    )  # fmt: skip
    return drawing_workflow(name, {"drawn": (CalibrationReport(), wires)})
