"""Processing of a BOLD run, from the acquired series to maps, evaluation and report."""

from collections.abc import Mapping

from bids_sr.pipeline.flow import add_methods_text, subworkflow
from bids_sr.pipeline.nodes import scope_name
from bids_sr.pipeline.step import Part
from bids_sr.steps import series_description
from bids_sr.workflows.anatomy import Anatomy
from bids_sr.workflows.combination import ProcessedRun
from bids_sr.workflows.evaluate_run import evaluate_run
from bids_sr.workflows.fit_run import fit_run
from bids_sr.workflows.make_series import make_series
from bids_sr.workflows.map_run import map_run
from bids_sr.workflows.pair import RegisteredPair, TrainedNetwork
from bids_sr.workflows.report_run import report_run
from bids_sr.workflows.run_plan import RunPlan


def process_run(
    plan: RunPlan,
    anat: Anatomy | None,
    pair: RegisteredPair | None,
    models: Mapping[str, TrainedNetwork],
    *,
    n_runs: int,
    only_run: bool,
) -> ProcessedRun:
    """Process a BOLD run and report the results.

    `anat` and `pair`, the T2*-weighted pair of the run, are None if missing. `models` are networks
    trained on the pair, by series. `n_runs` is the number of runs of the participant. `only_run`
    states whether the task has only this run, whose map is then also the map of the participant.
    Returns the results that the participant level uses.
    """
    run_outputs = plan.analysis.outputs(
        plan.entities,
        datasets=plan.analysis.datasets([plan.bold]),
        provenance=plan.provenance,
        axis_order=plan.bold.axis_order,
    )
    with subworkflow(scope_name(plan.bold.stem), run=plan.bold.stem):
        _describe_series(plan)
        fitted_run = fit_run(plan, anat, pair, run_outputs)
        # The grids of all following files are known after the motion correction.
        outputs = run_outputs.with_references(
            boldref=fitted_run.motion.boldref, t1w=None if anat is None else anat.t1w_preproc
        )
        series = make_series(plan, fitted_run, anat, pair, models, outputs)
        maps = map_run(plan, fitted_run, series, anat, outputs)
        run_evaluation = evaluate_run(plan, fitted_run, series, maps, pair, outputs)
        report_run(
            plan,
            fitted_run,
            series,
            maps,
            run_evaluation,
            anat=anat,
            pair=pair,
            outputs=outputs,
            n_runs=n_runs,
            only_run=only_run,
        )
    return ProcessedRun(plan=plan, fitted_run=fitted_run, series=series, maps=maps)


def _describe_series(plan: RunPlan) -> None:
    """Add the description of the series of a run to the methods text."""
    bold = plan.bold
    has_precomputed_field = bold.precomputed is not None and bold.precomputed.field is not None
    text = series_description.describe_all_series(
        list(plan.stored_names),
        with_distortion=has_precomputed_field,
        with_thinner_slices=bold.factor[2] != 1,
    )
    add_methods_text(Part.SERIES, text)
