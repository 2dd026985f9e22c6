"""Another acquired run as a reference of a run."""

from bids_sr.engine.flow import add_methods_text, subworkflow
from bids_sr.engine.step import Part
from bids_sr.evaluation.steps import another_run
from bids_sr.glm.block_effects import Effects
from bids_sr.glm.steps import task_events
from bids_sr.preproc.steps import run_confounds, temporal_model
from bids_sr.workflows.fit_run import (
    FittedRun,
    correct_acquired,
    find_steady_state,
    fit_motion,
)
from bids_sr.workflows.run_plan import OtherRun, RunPlan


def measure_another_run(plan: RunPlan, fitted_run: FittedRun, other_run: OtherRun) -> Effects:
    """Measure the block effects of another run of the task on the high-resolution grid."""
    with subworkflow("another_run_wf"):
        file = other_run.file
        steady_run = find_steady_state(
            file.import_series(),
            dummy_scans=plan.dummy_scans_option,
            search_outliers=plan.searches_outliers,
        )
        head_motion = fit_motion(steady_run.bold, steady_run.n_dummy)
        assert head_motion.head_mask is not None
        stc = correct_acquired(steady_run.bold, steady_run.n_dummy, file.correction)
        time_columns = None
        if plan.temporal is not None:
            _, _, time_columns, _ = temporal_model.add_temporal_regressors(
                run_confounds.motion_confounds(head_motion.motion, outliers=steady_run.outliers),
                None,
                model=plan.temporal,
                high_pass=plan.design.high_pass,
                n_regressors=plan.n_regressors,
                nuisance=plan.nuisance,
                at_rest=plan.at_rest,
                tr=file.tr,
                n_dummy=steady_run.n_dummy,
            )
        effects = another_run.measure_other_run(
            stc,
            head_motion.boldref,
            head_motion.head_mask,
            head_motion.hmc_xfms,
            head_motion.motion,
            task_events.select_events(
                other_run.events, levels=other_run.levels, pauses=plan.bold.pauses
            ),
            fitted_run,
            time_columns=time_columns,
            outliers=steady_run.outliers,
            n_dummy=steady_run.n_dummy,
            design=other_run.design,
            random_seed=plan.random_seed,
        )
    add_methods_text(Part.EVALUATION, another_run.OTHER_RUN_TEXT)
    return effects
