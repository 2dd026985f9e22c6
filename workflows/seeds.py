"""Regressors of a run: events, or time series of seeds or temporal components."""

from collections.abc import Sequence

from bids_sr.frozen import frozen
from bids_sr.pipeline.artifacts import (
    Confounds,
    File,
    Image,
    Mask,
    Regressors,
    Series,
    Table,
    Transforms,
)
from bids_sr.pipeline.flow import read_events, say
from bids_sr.pipeline.outputs import Outputs
from bids_sr.pipeline.step import Part
from bids_sr.steps import seeds as steps_seeds
from bids_sr.workflows.anatomy import Anatomy
from bids_sr.workflows.confounds import RunConfounds
from bids_sr.workflows.fit_run import FittedRun
from bids_sr.workflows.run_plan import RunPlan


@frozen
class SeedFrame:
    """Transforms from a run to the template and atlas of the seeds.

    All fields are empty if there is no T1w image.
    """

    boldref2t1w_xfm: Transforms | None = None
    t1w2std_xfm: File | None = None
    atlas_source: Image | None = None
    atlas_labels: Table | None = None
    atlas_xfms: Sequence[File] = ()

    @classmethod
    def from_run(cls, plan: RunPlan, fitted: FittedRun, anat: Anatomy | None) -> "SeedFrame":
        """Return the transforms of a run, and the atlas if a seed is defined by labels."""
        if anat is None:
            return cls()
        xfm, template = fitted.registration.boldref2t1w_xfm, anat.template.t1w2std_xfm
        if not any(seed.labels for seed in plan.seeds):
            return cls(boldref2t1w_xfm=xfm, t1w2std_xfm=template)
        return cls(
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
        seeds = SeedFrame.from_run(plan, fitted, anat)
        regressors, columns = steps_seeds.seed_series(
            raw,
            fitted.registration.bold_mask,
            confounds.confounds,
            boldref2t1w_xfm=seeds.boldref2t1w_xfm,
            t1w2std_xfm=seeds.t1w2std_xfm,
            atlas_source=seeds.atlas_source,
            atlas_labels=seeds.atlas_labels,
            atlas_xfms=seeds.atlas_xfms,
            seeds=plan.seeds,
            n_dummy=fitted.n_dummy,
            tr=plan.bold.tr,
            high_pass=plan.high_pass,
            start_time=plan.start_time,
            nuisance=plan.nuisance,
        )
        atlas = plan.planned.settings.activation.atlas
        say(Part.PREPROCESSING, steps_seeds.describe_seeds(plan.seeds, atlas))
    else:
        regressors, columns = steps_seeds.component_series(
            raw,
            fitted.registration.bold_mask,
            confounds=confounds.confounds,
            n_dummy=fitted.n_dummy,
        )
        say(Part.PREPROCESSING, steps_seeds.COMPONENTS_TEXT)
    outputs.keep(regressors, {"desc": "seeds", "suffix": "timeseries"}, facts=columns)
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
    seeds = SeedFrame.from_run(plan, fitted, anat)
    own_regressors, table, columns = steps_seeds.own_seed_series(
        series,
        mask,
        regressors,
        confounds,
        boldref2t1w_xfm=seeds.boldref2t1w_xfm,
        t1w2std_xfm=seeds.t1w2std_xfm,
        atlas_source=seeds.atlas_source,
        atlas_labels=seeds.atlas_labels,
        atlas_xfms=seeds.atlas_xfms,
        seeds=plan.seeds,
        n_dummy=fitted.n_dummy,
        tr=plan.bold.tr,
        high_pass=plan.high_pass,
        start_time=plan.start_time,
        nuisance=plan.nuisance,
        smoothing=plan.planned.settings.activation.smoothing,
    )
    outputs.keep(table, {"desc": f"{name}Seeds", "suffix": "timeseries"}, facts=columns)
    return own_regressors
