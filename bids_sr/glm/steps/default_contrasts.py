"""Contrasts of a run for callers without a plan, such as the Python interface."""

from collections.abc import Mapping, Sequence
from functools import partial

from bids_sr.glm.contrasts import Contrast, resolve_contrasts
from bids_sr.glm.design import DesignSettings, build_design
from bids_sr.glm.regressors import DesignError, Events
from bids_sr.glm.type_roles import (
    assign_roles,
    find_pauses,
    imprecise_contrasts,
    inestimable_contrasts,
)


def choose_contrasts(
    events: Events,
    requested: Sequence[str],
    design: DesignSettings,
    n_volumes: int,
    tr: float,
    *,
    n_dummy: int,
) -> tuple[Events, dict[str, Contrast], Mapping[str, Sequence[str]]]:
    """Return the modeled events, and the requested or else the default contrasts.

    Pauses that are taken for rest are not modeled. Default contrasts are those that the events
    allow to estimate, or all if none can be estimated. `n_volumes` includes the `n_dummy` volumes
    that are not fitted, and `tr` is in s. Returns events, weights of conditions by contrast, and
    names of omitted contrasts, and of omitted or imprecise conditions and contrasts, by a text
    about them.
    """
    modeled, names_by_text = events, dict[str, Sequence[str]]()
    build = partial(build_design, settings=design, n_volumes=n_volumes, tr=tr, confound_names=())
    try:
        task_design = build(events, n_dummy=n_dummy)
        if pauses := find_pauses(events, task_design, requested):
            modeled = events.without(pauses)
            names_by_text["taken for rest, unless a contrast names it:"] = pauses
            task_design = build(modeled, n_dummy=n_dummy)
    except DesignError:  # reported with the model of the run
        return events, resolve_contrasts(events.conditions, requested), {}
    roles = assign_roles(modeled.conditions, modeled, task_design, n_volumes=n_volumes)
    if requested:
        contrasts = resolve_contrasts(modeled.conditions, requested)
    else:
        types = [name for name in modeled.conditions if name not in roles.silent]
        contrasts = resolve_contrasts(
            types, described_types=roles.described, averaged_types=roles.averaged
        )
        inestimable = inestimable_contrasts(contrasts, roles.information)
        names_by_text |= {
            "all events have modulation 0:": events.unmodulated,
            "no volume shows a response to": roles.silent,
            "almost nothing is observed of the response to": tuple(roles.faint),
            "effects are imprecise, because little is observed of": tuple(roles.weak),
            "the mean over conditions is computed without": tuple(roles.dominating),
            "these contrasts cannot be estimated:": inestimable,
        }
        estimable = {name: contrasts[name] for name in contrasts if name not in inestimable}
        contrasts = estimable or contrasts
    imprecise = imprecise_contrasts(contrasts, roles.information)
    names_by_text["standard errors are more than 3 times as large as with rest:"] = [*imprecise]
    return modeled, contrasts, {text: names for text, names in names_by_text.items() if names}
