"""Contrasts of all runs, from options and events."""

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.glm.contrasts import (
    DEFAULTS,
    Contrast,
    ContrastOverRuns,
    Term,
    comparable,
    is_possible,
    label_types,
    make_unique_label,
    name_terms,
    parse_over_runs,
    resolve_contrasts,
    sum_larger_side,
    weigh_terms,
)
from bids_sr.io.notices import UsageError
from bids_sr.io.tables import MISSING_MARKS
from bids_sr.survey.bids.entities import has_entities, parse_entities, parse_owner
from bids_sr.survey.bids.findings import (
    about,
    add_problem,
    count_problems,
    note,
    refuse_option,
    warn,
)
from bids_sr.survey.preflight.estimability import TypesOfRun, note_imprecise, select_estimable
from bids_sr.survey.preflight.events import MISSING_TYPE
from bids_sr.survey.preflight.plan import PlannedTerms
from bids_sr.survey.preflight.shared_types import share_averaged_types

# contrast as written by the user, or name and weights from ``--model``
_Request = str | tuple[str, Contrast]


def resolve_run_contrasts(
    types: Mapping[Path, TypesOfRun],
    requested: Sequence[_Request],
    labels: Mapping[Path, Mapping[str, str]],
) -> tuple[dict[Path, dict[str, Contrast]], dict[str, PlannedTerms]]:
    """Return the contrasts of each run, and the terms of contrasts over runs by name.

    Means over trial types are over the types that the runs of a task share
    (`bids_sr.survey.preflight.shared_types`). Default contrasts that cannot be estimated are left
    out, with a note. A requested contrast must be possible in at least one run. For runs without
    one of its trial types it is omitted, with a note. The terms of a contrast over runs are
    contrasts of their runs, which are added if they were not requested.

    Names of requested contrasts are distinct without case among all requests, whatever types a run
    has, so that a name has the same meaning in all runs of a task.

    `types` and `labels` of trial types are by BOLD file. `requested` are contrasts as written by
    the user, or name and weights from ``--model``; if empty, default contrasts are used, and
    beside `DEFAULTS`, too.
    """
    n_problems = count_problems()
    all_types = list(dict.fromkeys(name for run in types.values() for name in run.modeled))
    all_labels = label_types(all_types) | {
        name: label for run_labels in labels.values() for name, label in run_labels.items()
    }
    over_runs: dict[str, ContrastOverRuns] = {}
    own_requests: list[_Request] = []
    with_defaults = not requested
    for request in requested:
        if request == DEFAULTS and DEFAULTS not in all_types:
            with_defaults = True
        elif isinstance(request, str) and (
            parsed := parse_over_runs(request, all_types, all_labels)
        ):
            over_runs[make_unique_label(parsed.name, over_runs)] = parsed
        else:
            own_requests.append(request)
    possible_requests = _select_possible(types, own_requests)
    types = share_averaged_types(types)
    contrasts: dict[Path, dict[str, Contrast]] = {}
    for bold, run in types.items():
        run_labels = labels[bold]
        with about(*parse_owner(bold), code="events"):
            contrasts[bold] = {}
            if with_defaults:
                defaults = resolve_contrasts(
                    run.modeled,
                    described_types=run.described,
                    averaged_types=run.averaged,
                    labels=run_labels,
                )
                contrasts[bold] = select_estimable(run, defaults)
        changed_names = _change_names(own_requests, run_labels)
        for position in possible_requests[bold]:
            resolved = resolve_contrasts(
                run.modeled,
                [own_requests[position]],
                averaged_types=run.averaged,
                labels=run_labels,
            )
            ((name, weights),) = resolved.items()
            if weights not in contrasts[bold].values():
                name = changed_names.get((position, name), name)
                contrasts[bold][make_unique_label(name, contrasts[bold])] = weights
    planned_terms = {
        name: _plan_terms(contrast, types, contrasts, all_labels)
        for name, contrast in over_runs.items()
    }
    for bold, run in types.items():
        with about(*parse_owner(bold), code="events"):
            note_imprecise(run, contrasts[bold])
    unmapped = next((bold for bold, weights in contrasts.items() if not weights), None)
    if requested and unmapped is not None and count_problems() == n_problems:
        with about(*parse_owner(unmapped)):
            add_problem(
                unmapped,
                "none of the requested contrasts can be computed for this run, so the run would"
                " not have any activation maps",
                "Exclude the run (--task-id, --run-id), or add a contrast.",
            )
    return contrasts, planned_terms


def _plan_terms(
    contrast: ContrastOverRuns,
    types: Mapping[Path, TypesOfRun],
    contrasts: Mapping[Path, dict[str, Contrast]],
    labels: Mapping[str, str],
) -> PlannedTerms:
    """Return contrast and weight of each run of the terms of a contrast over runs.

    Terms of the same runs are one contrast of these runs, because their estimates are correlated.
    Missing contrasts are added to the `contrasts` of the runs.
    """
    option = _option_text(contrast.request)
    planned: dict[str, dict[Path, tuple[str, float]]] = {}
    participants = _list_participants(types)
    for runs in dict.fromkeys(term.runs for term in contrast.terms):
        terms = [replace(term, runs="") for term in contrast.terms if term.runs == runs]
        planned[runs] = {
            bold: _add_contrast(terms, run, contrasts[bold], labels)
            for bold, run in types.items()
            if has_entities(bold, runs) and _can_weigh(terms, run)
        }
        term_text = f"{' and '.join(repr(term.trial_type) for term in terms)} in {runs or 'a run'}"
        lacking = participants - _list_participants(planned[runs])
        selected = [run for bold, run in types.items() if has_entities(bold, runs)]
        cancel = not any(any(weigh_terms(terms, run.averaged).values()) for run in selected)
        if lacking == participants:
            refuse_option(
                option,
                f"the weights of {term_text} cancel, so that nothing is compared"
                if selected and cancel
                else f"no run of any participant has {term_text}",
                "Name entities and labels of the runs as in their file names, such as"
                " `thumb@ses-post - thumb@ses-pre`.",
            )
            continue
        for label in sorted(lacking - {""}):
            with about(label):
                warn(
                    option,
                    f"sub-{label} has no run with {term_text}, so that the contrast is not"
                    " computed for this participant, who is left out of its group map.",
                )
    bolds = [bold for term_runs in planned.values() for bold in term_runs]
    if len(set(bolds)) < len(bolds):
        refuse_option(
            option,
            "a run belongs to several terms, so that the runs of the terms overlap",
            "Give each term other runs, or several terms exactly the same runs.",
        )
    elif bolds and len(_list_participants(bolds)) == len(bolds):
        refuse_option(
            option,
            "the terms are from a single run of each participant",
            "Name a further run in a term, or remove `@` and the entities, which maps the contrast"
            " in each run.",
        )
    return planned


def _list_participants(bolds: Iterable[Path]) -> set[str]:
    """Return the labels of the participants of runs."""
    return {parse_entities(bold).get("subject", "") for bold in bolds}


def _can_weigh(terms: Sequence[Term], run: TypesOfRun) -> bool:
    """Return whether a run has the trial types of some terms, whose weights are not all 0."""
    weights = weigh_terms(terms, run.averaged)
    return any(weights.values()) and weights.keys() <= {*run.modeled}


def _add_contrast(
    terms: Sequence[Term],
    run: TypesOfRun,
    contrasts: dict[str, Contrast],
    labels: Mapping[str, str],
) -> tuple[str, float]:
    """Return the name of the contrast of some terms in a run, and the factor of its effect.

    The contrast, or its opposite, is added to `contrasts` if the run does not have it.
    """
    weights = {name: weight for name, weight in weigh_terms(terms, run.averaged).items() if weight}
    size = sum_larger_side(weights)
    for sign in (1.0, -1.0):
        signed = comparable({name: sign * weight for name, weight in weights.items()})
        for name, other in contrasts.items():
            if comparable(other) == signed:
                return name, sign * size / sum_larger_side(other)
    sign = 1.0 if terms[0].weight > 0 else -1.0
    name = name_terms([replace(term, weight=sign * term.weight) for term in terms], labels)
    if name in contrasts:
        name = make_unique_label(name, contrasts)
    contrasts[name] = {key: sign * weight / size for key, weight in weights.items()}
    return name, sign * size


def _change_names(
    requested: Sequence[_Request], labels: Mapping[str, str]
) -> dict[tuple[int, str], str]:
    """Return changed names by position and name of the requested contrasts, and report them.

    A name is changed if an earlier contrast of other weights has it, apart from case. `labels` are
    labels by trial type; contrasts of types without a label are not compared.
    """
    names: dict[str, Contrast] = {}
    changed_names: dict[tuple[int, str], str] = {}
    for position, request in enumerate(requested):
        try:
            resolved = resolve_contrasts([*labels], [request], labels=labels)
        except UsageError:
            continue
        ((name, weights),) = resolved.items()
        if weights in names.values():
            continue
        unique_name = make_unique_label(name, names)
        names[unique_name] = weights
        if unique_name != name:
            changed_names[position, name] = unique_name
            note(
                _option_text(request),
                f"the contrast is named {unique_name}, because another contrast has the name"
                f" {name}, perhaps with letters of other case, which some file systems ignore.",
            )
    return changed_names


def _select_possible(
    types: Mapping[Path, TypesOfRun], requested: Sequence[_Request]
) -> dict[Path, list[int]]:
    """Return the positions of the requested contrasts that are possible in each run.

    Contrasts with trial types that a run does not have are reported.
    """
    possible_requests: dict[Path, list[int]] = {bold: [] for bold in types}
    for position, request in enumerate(requested):
        bolds = [bold for bold, run in types.items() if is_possible(request, run.modeled)]
        for bold in bolds:
            possible_requests[bold].append(position)
        if not bolds:
            _refuse_impossible(request, types.values())
        elif len(bolds) < len(types):
            note(
                _option_text(request),
                f"the contrast is computed for {len(bolds)} of {len(types)} runs; the other runs"
                " lack at least one of its trial types.",
            )
    return possible_requests


def _refuse_impossible(request: _Request, runs: Collection[TypesOfRun]) -> None:
    """Report a contrast that is not possible in any run."""
    all_types = tuple(dict.fromkeys(name for run in runs for name in run.modeled))
    unmodeled = dict.fromkeys(sorted(MISSING_MARKS), MISSING_TYPE)
    unmodeled |= {name: cause for run in runs for name, cause in run.unmodeled.items()}
    try:
        resolved = resolve_contrasts(all_types, [request])
    except UsageError as error:
        reason = error.notice.why
        with contextlib.suppress(UsageError):
            resolved = resolve_contrasts((*all_types, *unmodeled), [request])
            types = {name for weights in resolved.values() for name in weights}
            for name in sorted(types - {*all_types})[:1]:
                reason = (
                    f"the trial type {name!r} is not modeled in any run because {unmodeled[name]}"
                )
        refuse_option(_option_text(request), reason, error.notice.remedy)
        return
    names = ", ".join(name for weights in resolved.values() for name in weights)
    refuse_option(
        _option_text(request),
        f"no run contains all trial types of the contrast ({names})",
        "Use trial types that occur in the same run, or name the runs, such as `A@run-1 -"
        " B@run-2`.",
    )


def _option_text(request: _Request) -> str:
    """Return the option that requests a contrast, for messages."""
    return (
        f"--contrasts {request}" if isinstance(request, str) else f"--model, contrast {request[0]}"
    )
