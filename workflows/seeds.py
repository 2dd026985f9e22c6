"""Regressors of a run: events, or time series of seeds or temporal components."""

from bids_sr.pipeline.artifacts import Confounds, Mask, Regressors, Series
from bids_sr.pipeline.flow import add_methods_text, read_events
from bids_sr.pipeline.outputs import Outputs
from bids_sr.pipeline.step import Part
from bids_sr.steps import seeds as steps_seeds
from bids_sr.steps.seeds import SeedTemplate
from bids_sr.workflows.anatomy import Anatomy
from bids_sr.workflows.confounds import RunConfounds
from bids_sr.workflows.fit_run import FittedRun
from bids_sr.workflows.run_plan import RunPlan


def find_template(plan: RunPlan, fitted: FittedRun, anat: Anatomy | None) -> SeedTemplate:
    """Return the transforms from a run to the template, and the atlas if seeds have labels."""
    if anat is None:
        return SeedTemplate()
    xfm, template = fitted.registration.boldref2t1w_xfm, anat.template.t1w2std_xfm
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
    fitted: FittedRun,
    anat: Anatomy | None,
    raw: Series,
    confounds: RunConfounds,
    outputs: Outputs,
) -> Regressors:
    """Return the events of a task run, or seed or component time series of a resting-state run."""
    if plan.bold.events is not None:
        return read_events(plan.bold.events)
    if plan.seeds:
        regressors, columns = steps_seeds.seed_series(
            raw,
            fitted.registration.bold_mask,
            confounds.confounds,
            template=find_template(plan, fitted, anat),
            seeds=plan.seeds,
            n_dummy=fitted.n_dummy,
            design=plan.design,
            nuisance=plan.nuisance,
        )
        atlas = plan.planned.settings.activation.atlas
        add_methods_text(Part.PREPROCESSING, steps_seeds.describe_seeds(plan.seeds, atlas))
    else:
        regressors, columns = steps_seeds.component_series(
            raw,
            fitted.registration.bold_mask,
            confounds=confounds.confounds,
            n_dummy=fitted.n_dummy,
        )
        add_methods_text(Part.PREPROCESSING, steps_seeds.COMPONENTS_TEXT)
    outputs.store(regressors, {"desc": "seeds", "suffix": "timeseries"}, facts=columns)
    return regressors


def find_own_seeds(
    plan: RunPlan,
    fitted: FittedRun,
    anat: Anatomy | None,
    name: str,
    series: Series,
    mask: Mask,
    confounds: Confounds,
    regressors: Regressors,
    outputs: Outputs,
) -> list[Regressors]:
    """Return the time series of the seeds in a series, one per smoothing width of the maps.

    `mask`: brain on the grid of `series`. `regressors`: time series of the same seeds in the
    acquired series, without smoothing.
    """
    own_regressors, table, columns = steps_seeds.own_seed_series(
        series,
        mask,
        regressors,
        confounds,
        template=find_template(plan, fitted, anat),
        seeds=plan.seeds,
        n_dummy=fitted.n_dummy,
        design=plan.design,
        nuisance=plan.nuisance,
        smoothing=plan.planned.settings.activation.smoothing,
    )
    outputs.store(table, {"desc": f"{name}Seeds", "suffix": "timeseries"}, facts=columns)
    return own_regressors
