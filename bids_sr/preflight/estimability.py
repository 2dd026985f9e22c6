"""Contrasts that cannot be estimated from the events of a run."""

from typing import TYPE_CHECKING

from bids_sr.bids import BoldRun, Findings
from bids_sr.config import Settings
from bids_sr.glm.contrasts import Contrasts
from bids_sr.preflight.rough_model import surely_estimable

if TYPE_CHECKING:
    import pandas as pd

_MOST_VOLUMES = 5000  # for more volumes, building the model takes longer than all other checks


def is_estimable(
    run: BoldRun,
    contrasts: Contrasts,
    settings: Settings,
    findings: Findings,
) -> bool:
    """Return whether the linear model of a run is estimable without head motion.

    A problem gives the reason if it is not. Runs that are not tested (no events, no linear model,
    or many volumes) count as estimable. The events table must be valid.
    """
    if (
        "glm" not in settings.activation.kinds
        or run.n_volumes > _MOST_VOLUMES
        or run.events is None
    ):
        return True
    from bids_sr.glm.design import build_design, contrast_vector, frame_times
    from bids_sr.glm.regressors import DesignError, read_events

    events = read_events(run.events)
    dummies = settings.preprocessing.dummy_scans or 0
    high_pass = settings.activation.cosine_cutoff
    conditions = {name for weights in contrasts.values() for name in weights}
    start_time = run.start_time(settings.preprocessing.slice_time_ref)
    times = frame_times(run.n_volumes, run.tr, start_time=start_time)[dummies:]
    activation = settings.activation
    is_filtered = bool(activation.band_pass or activation.legendre_order)
    if not is_filtered and surely_estimable(events, conditions, times, run.tr, high_pass):
        return True
    table = _filter_columns(run, dummies, settings) if is_filtered else None
    try:
        design = build_design(
            events,
            n_volumes=run.n_volumes,
            tr=run.tr,
            n_dummy=dummies,
            start_time=start_time,
            high_pass=high_pass,
            confounds=table,
            confound_names=() if table is None else tuple(map(str, table)),
        )
        for name, weights in contrasts.items():
            contrast_vector(design, name, weights)
    except DesignError as error:
        fix = "Check onsets and durations, or choose other contrasts with --contrasts."
        findings.add_problem(
            run.events, f"the model cannot be estimated with this design matrix: {error}", fix
        )
        return False
    return True


def _filter_columns(run: BoldRun, dummies: int, settings: Settings) -> "pd.DataFrame":
    """Return the columns of a run's temporal model that do not depend on head motion."""
    import pandas as pd

    from bids_sr.glm.time_columns import time_columns, time_model

    activation = settings.activation
    no_motion = pd.DataFrame(index=range(run.n_volumes))
    model = time_model(None, None, activation.band_pass, activation.drift)
    return time_columns(no_motion, model, tr=run.tr, n_dummy=dummies)[0]
