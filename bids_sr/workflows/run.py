"""Processing of a BOLD run, from the acquired series to maps, evaluation and report."""

from collections.abc import Mapping

from bids_sr.engine.flow import add_methods_text, subworkflow
from bids_sr.engine.nodes import scope_name
from bids_sr.engine.outputs import Outputs
from bids_sr.engine.step import Part
from bids_sr.report import series_description
from bids_sr.workflows.anatomy import Anatomy
from bids_sr.workflows.evaluate_run import evaluate_run
from bids_sr.workflows.fit_run import fit_run
from bids_sr.workflows.make_series import make_series
from bids_sr.workflows.map_run import map_run
from bids_sr.workflows.model_run import model_run
from bids_sr.workflows.pair import RegisteredPair, TrainedNetwork
from bids_sr.workflows.report_run import ReportedRun, report_run
from bids_sr.workflows.run_plan import RunPlan


def process_run(
    plan: RunPlan,
    anat: Anatomy | None,
    pair: RegisteredPair | None,
    networks: Mapping[str, TrainedNetwork],
    outputs: Outputs,
) -> ReportedRun:
    """Process a BOLD run and report the results.

    `anat` and `pair`, the T2*-weighted pair of the run, are None if missing. `networks` were
    trained on the pair, by series.
    """
    with subworkflow(scope_name(plan.bold.stem), run=plan.bold.stem):
        _describe_series(plan)
        fitted_run = fit_run(plan, anat, pair, outputs)
        # The grids of all following files are known after the motion correction.
        outputs = outputs.with_references(
            boldref=fitted_run.boldref, t1w=None if anat is None else anat.t1w_preproc
        )
        run = model_run(plan, fitted_run, anat, outputs)
        series = make_series(run, networks, outputs)
        maps = map_run(run, series, outputs)
        reported_run = ReportedRun(
            plan=plan,
            fitted=fitted_run,
            model=run.model,
            anat=anat,
            series=series,
            maps=maps,
            evaluation=evaluate_run(run, series, maps, pair, outputs),
        )
        report_run(reported_run, outputs)
    return reported_run


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
