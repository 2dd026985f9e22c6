"""Trial types and contrasts that can be estimated from the events of a run.

Head motion is not known yet, so only events, drift and filters are part of the model.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.config import Settings
from bids_sr.glm.contrasts import ALL, MODULATION, Contrast, Contrasts
from bids_sr.io.frozen import frozen
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.inputs import BoldRun
from bids_sr.survey.notices import note, problem
from bids_sr.survey.preflight.events import UNMODULATED, describe_sum
from bids_sr.survey.preflight.run_model import (
    count_dummies,
    design_settings,
    hemodynamic_response,
    list_volume_times,
    time_model,
)

if TYPE_CHECKING:
    from bids_sr.glm.design import Design
    from bids_sr.glm.inseparable_types import InseparableTypes
    from bids_sr.glm.regressors import Events
    from bids_sr.glm.type_roles import TypeRoles

# Checks of larger models take longer than all other checks.
_MAX_SIZE = 5_000_000  # volumes times trial types
_MAX_TYPES = 500
_LATEST_ONSET_S = 6.0  # before the last volume, which then shows the peak of the response
_FIX = "Check onsets, durations and trial_type, or choose other contrasts with --contrasts."
_ADVICE = "Differences of trial types are not affected."
_REQUEST_ONLY = (
    "Its contrasts, which would be imprecise, are computed only if requested with --contrasts."
)


@frozen
class TypesOfRun:
    """Trial types of a run by their role in contrasts.

    `table` is the events table. `modeled` types have a regressor, in the order shared by the data
    set. Among them, `described` types have default contrasts, and `averaged` types are in the mean
    ``all``. `unmodeled` is the reason by type of the events table that has no regressor. `pauses`
    are taken for rest. `events` are the events without pauses; None for an unusable run, of which
    only the types are needed.

    `roles` are the roles according to the model of the run, with the variances of contrasts; None
    if no model was built. `inseparable` are groups of types whose responses cannot be separated in
    this model. `is_clear` states whether all types have a regressor and no column of the model is
    a mixture of others, so that all contrasts can be estimated.
    """

    modeled: tuple[str, ...]
    described: tuple[str, ...]
    averaged: tuple[str, ...]
    table: Path = Path()
    unmodeled: Mapping[str, str] = field(default_factory=dict)
    pauses: tuple[str, ...] = ()
    events: "Events | None" = None
    roles: "TypeRoles | None" = None
    inseparable: "tuple[InseparableTypes, ...]" = ()
    is_clear: bool = False

    @classmethod
    def all_described(cls, types: Sequence[str], table: Path = Path()) -> "TypesOfRun":
        """Return types that all have default contrasts."""
        names = tuple(types)
        return cls(modeled=names, described=names, averaged=names, table=table)


def assess_types(
    run: BoldRun,
    types: Sequence[str],
    events: "Events",
    requests: Sequence[str | tuple[str, Contrast]],
    settings: Settings,
) -> TypesOfRun:
    """Return the roles of the trial types of a run.

    `types` are the types of the events table with events in the run, and `requests` are requested
    contrasts.
    """
    from bids_sr.glm.regressors import DesignError
    from bids_sr.glm.type_roles import find_pauses

    reasons = {name: describe_sum(summed_types) for name, summed_types in events.summed.items()}
    reasons |= dict.fromkeys(events.unmodulated, UNMODULATED)
    design: Design | None = None
    pauses: tuple[str, ...] = ()
    try:
        if not _is_large(run, types) and not _are_too_many(events, run, settings):
            design = _build_design(events, run, settings)
            if pauses := find_pauses(events, design, requests):
                events = events.without(pauses)
                design = _build_design(events, run, settings)
    except DesignError:  # reported by `refuse_inestimable`
        design = None
    assert run.events is not None
    modeled = [name for name in types if name not in pauses]
    assessed = replace(
        TypesOfRun.all_described(modeled, run.events),
        unmodeled={**reasons, **dict.fromkeys(pauses, "it is taken for rest")},
        pauses=pauses,
        events=events,
    )
    return assessed if design is None else _assign_roles(assessed, design, run)


def _is_large(run: BoldRun, types: Sequence[str]) -> bool:
    """Return whether the model of a run is too large for these checks."""
    return run.n_volumes * len(types) > _MAX_SIZE or len(types) > _MAX_TYPES


def _are_too_many(events: "Events", run: BoldRun, settings: Settings) -> bool:
    """Return whether the responses to trial types alone are more than the volumes of a run.

    `run_model.is_long_enough` rejects such a run without its model, which would be large. Types
    are only counted if their response is certain to be seen.
    """
    times = list_volume_times(run, settings)
    if not len(times):
        return True
    is_seen = events.table["onset"].between(times[0], times[-1] - _LATEST_ONSET_S)
    if MODULATION in events.table:
        is_seen &= events.table[MODULATION] != 0
    n_types = events.table.loc[is_seen, "trial_type"].nunique()
    n_columns = n_types * hemodynamic_response(settings).n_columns
    return "glm" in settings.activation.kinds and n_columns >= len(times)


def _build_design(events: "Events", run: BoldRun, settings: Settings) -> "Design":
    """Return the model of a run, of the volumes that will be fitted, without head motion."""
    from bids_sr.glm.type_roles import is_precise
    from bids_sr.preproc.nonsteady import limit_nonsteady

    design = _build_design_without(0, events, run, settings)
    is_stated = settings.preprocessing.dummy_scans is not None or run.precomputed is not None
    if not is_stated and is_precise(design, limit_nonsteady(run.tr)):
        return design  # volumes at the start need not be read, because they do not matter
    dummies = count_dummies(run, settings)
    return _build_design_without(dummies, events, run, settings) if dummies else design


def _build_design_without(
    dummies: int, events: "Events", run: BoldRun, settings: Settings
) -> "Design":
    """Return the model of a run without head motion and without volumes at the start."""
    from bids_sr.glm.design import build_design

    table = None
    if settings.activation.band_pass or settings.activation.legendre_order:
        import pandas as pd

        from bids_sr.preproc.temporal_regressors import time_columns

        no_motion = pd.DataFrame(index=range(run.n_volumes))
        model = time_model(settings, with_censoring=False)
        table, _ = time_columns(no_motion, model, tr=run.tr, n_dummy=dummies)
    return build_design(
        events,
        design_settings(run, settings),
        n_volumes=run.n_volumes,
        tr=run.tr,
        n_dummy=dummies,
        confounds=table,
        confound_names=() if table is None else tuple(map(str, table)),
    )


def _assign_roles(assessed: TypesOfRun, design: "Design", run: BoldRun) -> TypesOfRun:
    """Return types with their roles according to the model of a run."""
    from bids_sr.glm.inseparable_types import find_inseparable_types
    from bids_sr.glm.type_roles import assign_roles

    events = assessed.events
    assert events is not None
    roles = assign_roles(assessed.modeled, events, design, n_volumes=run.n_volumes)
    silent = {
        name: (
            "no volume of the run shows its response ("
            f"{_describe_onsets(events, name)}; the run ends at {run.duration:g} s)"
        )
        for name in roles.silent
    }
    return replace(
        assessed,
        modeled=tuple(name for name in assessed.modeled if name not in silent),
        described=roles.described,
        averaged=roles.averaged,
        unmodeled={**assessed.unmodeled, **silent},
        roles=roles,
        inseparable=find_inseparable_types(design, roles.information),
        is_clear=not silent and design.rank == len(design.columns),
    )


def _describe_onsets(events: "Events", name: str) -> str:
    """Return the onsets of the events of a trial type as text."""
    onsets = sorted(onset for onset, _ in events.spans()[name])
    if len(onsets) == 1:
        return f"its only event begins at {onsets[0]:g} s"
    return f"its {len(onsets)} events begin at {onsets[0]:g} to {onsets[-1]:g} s"


def pauses_as_rest(types: TypesOfRun) -> Iterator[Notice]:
    """Note trial types that are taken for rest."""
    pauses = types.pauses
    if pauses:
        other = next(iter(types.modeled), pauses[0])
        yield note(
            types.table,
            f"{join_names(pauses)} {'is' if len(pauses) == 1 else 'are'} taken for rest"
            " because of the name, and because all trial types together are nearly constant."
            " To model the type, name it in a contrast, as in --contrasts"
            f" '{other}-{pauses[0]}'.",
        )


def unseen_types(types: TypesOfRun) -> Iterator[Notice]:
    """Note types whose response no volume shows; it is a problem if this applies to all types."""
    for name in () if types.roles is None else types.roles.silent:
        reason = types.unmodeled[name]
        yield note(types.table, f"the trial type {name!r} is not modeled because {reason}.")
    if not types.modeled:
        yield problem(types.table, "no volume of the run shows a response to an event", _FIX)


def imprecise_types(types: TypesOfRun) -> Iterator[Notice]:
    """Note types with a small observed share, and types left out of contrasts or of the mean."""
    roles = types.roles
    if roles is None:
        return
    for name, share in {**roles.faint, **roles.weak}.items():
        consequence = f"effects of the trial type {name!r} are imprecise"
        use, digits = "", 1
        if name in roles.faint:
            consequence = (
                f"the trial type {name!r} is modeled but left out of the default contrasts"
            )
            use, digits = f" {_REQUEST_ONLY}", 2
        cause = (
            "Most of its response is outside the run."
            if roles.information.is_outside_run(name)
            else "Only the start and the end of the response are estimated, because it is nearly"
            " constant in between. A slower high-pass filter (--set activation.high_pass) may keep"
            " more of it."
        )
        yield note(
            types.table,
            f"{consequence} because only {share:.{digits}%} of its response (by energy) is within"
            " the run and differs from the mean of the run and from drift."
            f" {cause}{use}",
        )
    for name, ratio in roles.dominating.items():
        yield note(
            types.table,
            f"the trial type {name!r} is left out of the mean over trial types (contrast {ALL},"
            " and comparisons with the mean of the others) because it would multiply the"
            f" standard error of the mean by {ratio:.1f}.",
        )


TYPE_RULES = (pauses_as_rest, unseen_types, imprecise_types)
"""Rules on the trial types of a run."""


def select_estimable(types: TypesOfRun, contrasts: Contrasts) -> dict[str, Contrast]:
    """Return the default contrasts that can be estimated, or all if none can."""
    inestimable = _list_inestimable(types, contrasts)
    return {
        name: dict(weights)
        for name, weights in contrasts.items()
        if name not in inestimable or len(inestimable) == len(contrasts)
    }


def _list_inestimable(types: TypesOfRun, contrasts: Contrasts) -> Sequence[str]:
    """Return the names of the contrasts that cannot be estimated according to the model."""
    if types.roles is None:
        return ()
    from bids_sr.glm.type_roles import inestimable_contrasts

    return inestimable_contrasts(contrasts, types.roles.information)


def inestimable_defaults(types: TypesOfRun, contrasts: Contrasts) -> Iterator[Notice]:
    """Note default contrasts that cannot be estimated; it is a problem if none can."""
    inestimable = _list_inestimable(types, contrasts)
    if not inestimable:
        return
    cause = _explain_inseparable(types.inseparable)
    if len(inestimable) == len(contrasts):
        yield problem(types.table, f"no default contrast can be estimated because {cause}", _FIX)
        return
    noun, verb = ("contrast", "is") if len(inestimable) == 1 else ("contrasts", "are")
    yield note(
        types.table,
        f"the default {noun} {', '.join(inestimable)} {verb} not computed because {cause}."
        f" {_ADVICE}",
    )


def imprecise_effects(types: TypesOfRun, contrasts: Contrasts) -> Iterator[Notice]:
    """Note contrasts whose t values are small because responses add up to a constant."""
    if types.roles is None:
        return
    from bids_sr.glm.type_roles import imprecise_contrasts

    factors = imprecise_contrasts(contrasts, types.roles.information)
    if factors:
        lowest, highest = min(factors.values()), max(factors.values())
        range_text = f"{lowest:.1f}" + (f" to {highest:.1f}" if len(factors) > 1 else "")
        yield note(
            types.table,
            f"standard errors of {', '.join(factors)} are {range_text} times as large as with rest"
            " between the events, and t values are smaller by this factor, because the responses"
            f" nearly add up to a constant. {_ADVICE}",
        )


def refuse_inestimable(
    run: BoldRun, types: TypesOfRun, contrasts: Contrasts, settings: Settings
) -> Iterator[Notice]:
    """Reject a model that cannot be fitted, or the first contrast that cannot be estimated.

    Head motion is not known yet. Very large models are not tested.
    """
    if types.is_clear or types.events is None or _is_large(run, types.modeled):
        return
    from bids_sr.glm.design import contrast_vector
    from bids_sr.glm.regressors import DesignError

    try:
        design = _build_design(types.events, run, settings)
    except DesignError as error:
        yield problem(types.table, f"the model of the run cannot be fitted: {error}", _FIX)
        return
    for name, weights in contrasts.items():
        try:
            contrast_vector(design, name, weights)
        except DesignError as error:
            weighted = {trial_type for trial_type, weight in weights.items() if weight}
            groups = [group for group in types.inseparable if weighted & {*group.types}]
            reason = str(error)
            if groups:
                cause = _explain_inseparable(groups)
                reason = f"the contrast {name} cannot be estimated because {cause}"
            yield problem(types.table, reason, _FIX)
            return


def _explain_inseparable(groups: "Sequence[InseparableTypes]") -> str:
    """Return why contrasts cannot be estimated, from the groups of inseparable trial types."""
    from bids_sr.glm.type_information import LARGEST_INFLATION

    return ", and ".join(map(_describe_group, groups)) or (
        f"their standard errors are more than {math.sqrt(LARGEST_INFLATION):g} times as large as"
        " with rest between the events"
    )


def _describe_group(group: "InseparableTypes") -> str:
    """Return what a group of trial types cannot be separated from."""
    is_single = len(group.types) == 1
    noun, pronoun, verb = ("response", "it", "is") if is_single else ("responses", "they", "are")
    subject = f"the {noun} to {join_names(group.types)}"
    if group.partner == "types":
        other_types = "the responses to other trial types" if is_single else "each other"
        return f"{subject} cannot be separated from {other_types}"
    together = "" if is_single else " together"
    if group.partner == "mean":
        return (
            f"{subject}{together} {verb} nearly constant, so {pronoun} cannot be separated from"
            " the mean of the run"
        )
    partner = "slow drift" if group.partner == "drift" else "the temporal filters of the model"
    return f"{subject}{together} cannot be separated from {partner}"


def join_names(names: Sequence[str]) -> str:
    """Return quoted names, separated by commas and ``and``."""
    quoted = [repr(name) for name in names]
    return " and ".join(filter(None, (", ".join(quoted[:-1]), quoted[-1])))
