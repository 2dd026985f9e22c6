"""Confounds of a run and columns of its temporal model."""

from functools import partial

from bids_sr.frozen import frozen
from bids_sr.pipeline.artifacts import Confounds, Facts, Series
from bids_sr.pipeline.flow import add_methods_text
from bids_sr.pipeline.outputs import Outputs
from bids_sr.pipeline.step import Part
from bids_sr.preflight.run_model import time_model
from bids_sr.steps import imported, run_confounds, temporal_model
from bids_sr.steps.temporal_model import TemporalModel
from bids_sr.workflows.fit_run import FittedRun
from bids_sr.workflows.run_plan import RunPlan


@frozen
class RunConfounds:
    """Confounds of a run.

    `censoring`: censored volumes; None if the run has no temporal model.
    """

    confounds: Confounds
    censoring: Facts | None = None


def prepare_confounds(
    plan: RunPlan, fitted_run: FittedRun, acquired: Series, outputs: Outputs
) -> RunConfounds:
    """Compute or import the confounds of a run, and add the columns of a temporal model.

    `acquired`: motion-corrected acquired series.
    """
    precomputed = plan.bold.precomputed
    if precomputed is not None and precomputed.confounds is not None:
        confounds, columns = imported.import_confounds(
            precomputed.confounds,
            fitted_run.outliers,
            origin=precomputed.origin.text,
            n_dummy=fitted_run.n_dummy,
        )
        add_methods_text(Part.PREPROCESSING, imported.describe_confounds(precomputed.origin.text))
    else:
        confounds, columns = _compute_confounds(plan, fitted_run, acquired)
    censoring = None
    temporal = make_temporal_model(plan)
    if temporal is not None:
        confounds, columns, _, censoring = temporal_model.add_temporal_regressors(
            confounds, columns, temporal=temporal, tr=plan.bold.tr, n_dummy=fitted_run.n_dummy
        )
        add_methods_text(
            Part.PREPROCESSING,
            temporal_model.describe_time_model(temporal.model),
            output=confounds,
            describe=partial(temporal_model.describe_censored, temporal.model),
        )
        outputs.store(censoring, {"desc": "censoring", "suffix": "metrics"}, level="minimal")
    outputs.store(
        confounds,
        {"desc": "confounds", "suffix": "timeseries"},
        facts=columns,
        exported_as={},
        level="minimal",
    )
    return RunConfounds(confounds=confounds, censoring=censoring)


def _compute_confounds(
    plan: RunPlan, fitted_run: FittedRun, acquired: Series
) -> tuple[Confounds, Facts]:
    """Compute the confounds of a run, with the description of their columns."""
    preprocessing = plan.analysis.settings.preprocessing
    registration, head_motion = fitted_run.registration, fitted_run.motion
    confounds, columns = run_confounds.gather_confounds(
        acquired,
        registration.bold_mask,
        head_motion.motion,
        head_motion.hmc_xfms,
        registration.tpms_bold,
        registration.facts,
        fitted_run.outliers,
        n_dummy=fitted_run.n_dummy,
        fd_spike_threshold=preprocessing.fd_spike_threshold,
        dvars_spike_threshold=preprocessing.dvars_spike_threshold,
        return_all_components=preprocessing.return_all_components,
    )
    return confounds, columns


def make_temporal_model(plan: RunPlan) -> TemporalModel | None:
    """Return the options of the temporal model of a run; None if there is no temporal model."""
    settings = plan.analysis.settings
    if not settings.activation.models_time:
        return None
    return TemporalModel(
        model=time_model(settings),
        high_pass=plan.design.high_pass,
        hrf=plan.design.hrf,
        at_rest=plan.at_rest,
        contrasts=plan.contrasts,
        nuisance=plan.nuisance,
    )
