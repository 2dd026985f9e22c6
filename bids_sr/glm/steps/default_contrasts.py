"""Default contrasts of a run for callers without a plan, such as the Python interface."""

from collections.abc import Mapping, Sequence

from bids_sr.glm.contrasts import Contrast, resolve_contrasts
from bids_sr.glm.design import DesignSettings, build_design
from bids_sr.glm.regressors import DesignError, Events
from bids_sr.glm.type_roles import assign_roles, imprecise_contrasts, inestimable_contrasts


def choose_default_contrasts(
    events: Events, design: DesignSettings, n_volumes: int, tr: float, *, n_dummy: int
) -> tuple[dict[str, Contrast], Mapping[str, Sequence[str]]]:
    """Return the default contrasts that the events allow to estimate.

    `n_volumes` includes the `n_dummy` volumes that are not fitted, and `tr` is in s. Returns
    weights of conditions by contrast, all contrasts if none can be estimated; and names of omitted
    contrasts, and of omitted or imprecise conditions and contrasts, by a text about them.
    """
    try:
        task_design = build_design(
            events, design, n_volumes=n_volumes, tr=tr, n_dummy=n_dummy, confound_names=()
        )
    except DesignError:  # reported with the model of the run
        return resolve_contrasts(events.conditions), {}
    roles = assign_roles(events.conditions, events, task_design, n_volumes=n_volumes)
    modeled_conditions = [name for name in events.conditions if name not in roles.silent]
    contrasts = resolve_contrasts(
        modeled_conditions, described_types=roles.described, averaged_types=roles.averaged
    )
    inestimable = inestimable_contrasts(contrasts, roles.information)
    names_by_text: dict[str, Sequence[str]] = {
        "all events have modulation 0:": events.unmodulated,
        "no volume shows a response to": roles.silent,
        "almost nothing is observed of the response to": tuple(roles.faint),
        "effects are imprecise, because little is observed of the response to": tuple(roles.weak),
        "the mean over conditions is computed without": tuple(roles.dominating),
        "these contrasts cannot be estimated:": inestimable,
    }
    estimable = {name: weights for name, weights in contrasts.items() if name not in inestimable}
    if imprecise := imprecise_contrasts(estimable or contrasts, roles.information):
        names_by_text["standard errors are more than 3 times as large as with rest:"] = [
            *imprecise
        ]
    return estimable or contrasts, {text: names for text, names in names_by_text.items() if names}
