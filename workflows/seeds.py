"""Regressors of a run: events, or time series of seeds or temporal components."""

from functools import partial

from bids_sr.pipeline.artifacts import Regressors, Series
from bids_sr.pipeline.flow import add_methods_text, read_events
from bids_sr.pipeline.outputs import Outputs
from bids_sr.pipeline.step import Part
from bids_sr.steps import seeds as steps_seeds
from bids_sr.steps.linear_models import DesignInputs
from bids_sr.steps.seeds import SeedTemplate
from bids_sr.workflows.anatomy import Anatomy
from bids_sr.workflows.confounds import RunConfounds
from bids_sr.workflows.fit_run import FittedRun
from bids_sr.workflows.run_plan import RunPlan
from bids_sr.workflows.series_requests import ComputedSeries


def make_seed_template(plan: RunPlan, fitted_run: FittedRun, anat: Anatomy | None) -> SeedTemplate:
    """Return the transforms from a run to the template, and the atlas if seeds have labels."""
    if anat is None:
        return SeedTemplate()
    xfm, template = fitted_run.registration.boldref2t1w_xfm, anat.template.t1w2std_xfm
    if not any(seed.labels for seed in plan.seeds):
        return SeedTemplate(boldref2t1w_xfm=xfm, t1w2std_xfm=template)
    return SeedTemplate(
        boldref2t1w_xfm=xfm,
        t1w2std_xfm=template,
        atlas_source=anat.atlas.atlas_source,
        atlas_labels=anat.atlas.atlas_labels,
        atlas_xfms=anat.atlas.atlas_xfms,
    )


def find_regressors(
    plan: RunPlan,
    fitted_run: FittedRun,
    anat: Anatomy | None,
    acquired: Series,
    confounds: RunConfounds,
    outputs: Outputs,
) -> Regressors:
    """Return the events of a task run, or seed or component time series of a resting-state run."""
    if plan.bold.events is not None:
        return read_events(plan.bold.events)
    if plan.seeds:
        regressors, columns = steps_seeds.seed_series(
            acquired,
            fitted_run.registration.bold_mask,
            confounds.confounds,
            template=make_seed_template(plan, fitted_run, anat),
            seeds=plan.seeds,
            n_dummy=fitted_run.n_dummy,
            design=plan.design,
            nuisance=plan.nuisance,
        )
        atlas = plan.analysis.settings.activation.atlas
        add_methods_text(
            Part.PREPROCESSING,
            steps_seeds.describe_seeds(plan.seeds, atlas),
            output=regressors,
            describe=partial(steps_seeds.describe_seeds, plan.seeds, atlas),
        )
    else:
        regressors, columns = steps_seeds.component_series(
            acquired,
            fitted_run.registration.bold_mask,
            confounds=confounds.confounds,
            n_dummy=fitted_run.n_dummy,
        )
        add_methods_text(Part.PREPROCESSING, steps_seeds.COMPONENTS_TEXT)
    outputs.store(regressors, {"desc": "seeds", "suffix": "timeseries"}, facts=columns)
    return regressors


def extract_own_seeds(
    plan: RunPlan,
    fitted_run: FittedRun,
    anat: Anatomy | None,
    computed_series: ComputedSeries,
    inputs: DesignInputs,
    outputs: Outputs,
) -> list[Regressors]:
    """Return the time series of the seeds in a series, one per smoothing width of the maps.

    `inputs`: confounds of the run, and time series of the same seeds in the acquired series,
    without smoothing.
    """
    assert inputs.confounds is not None, "the program always computes or imports confounds"
    own_regressors, table, columns = steps_seeds.own_seed_series(
        computed_series.series,
        computed_series.mask,
        inputs.regressors,
        inputs.confounds,
        template=make_seed_template(plan, fitted_run, anat),
        seeds=plan.seeds,
        n_dummy=fitted_run.n_dummy,
        design=plan.design,
        nuisance=plan.nuisance,
        smoothing=plan.analysis.settings.activation.smoothing,
    )
    outputs.store(
        table, {"desc": f"{computed_series.name}Seeds", "suffix": "timeseries"}, facts=columns
    )
    return own_regressors
