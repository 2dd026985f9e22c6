"""Contrasts of all runs, from options and events."""

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.glm.contrasts import (
    DEFAULTS,
    ComparableWeights,
    Contrast,
    ContrastOverRuns,
    Term,
    comparable,
    find_written_name,
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

    A name has one meaning in all runs of all participants: names of different contrasts are
    distinct without case.

    `types` and `labels` of trial types are by BOLD file. `requested` are contrasts as written by
    the user, or name and weights from ``--model``; if empty, default contrasts are used, and
    beside `DEFAULTS`, too.
    """
    n_problems = count_problems()
    all_types = list(dict.fromkeys(name for run in types.values() for name in run.modeled))
    all_labels = label_types(all_types) | {
        name: label for run_labels in labels.values() for name, label in run_labels.items()
    }
    requests = [request for request in requested if request != DEFAULTS or DEFAULTS in all_types]
    types = share_averaged_types(types)
    contrasts: dict[Path, dict[str, Contrast]] = {bold: {} for bold in types}
    names = _ContrastNames()
    if len(requests) < len(requested) or not requested:
        _add_defaults(types, labels, contrasts, names)
    over_runs: dict[str, ContrastOverRuns] = {}
    for request in requests:
        written_name = ""
        if isinstance(request, str):
            written_name = find_written_name(request, all_types)
            if parsed := parse_over_runs(request, all_types, all_labels):
                weights = [
                    {f"{term.trial_type}@{term.runs}": term.weight for term in parsed.terms}
                ]
                over_runs[names.choose(request, parsed.name, weights, written_name)] = parsed
                continue
        _add_request(request, written_name, types, labels, contrasts, names)
    planned_terms = {
        name: _plan_terms(contrast, types, contrasts, all_labels, names)
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


class _ContrastNames:
    """Names of the contrasts of all runs, which are distinct without case.

    The weights of a contrast can differ between runs, such as the weights of ``all``. Contrasts
    are the same if they have the same weights in a run.
    """

    def __init__(self) -> None:
        self._contrasts: dict[str, tuple[str, str, set[ComparableWeights]]] = {}  # by lower case

    def add(self, name: str, origin: str, weights: Iterable[Contrast]) -> None:
        """Add weights of a contrast; `origin` is its option or the word for a default."""
        known_name, known_origin, known = self._contrasts.get(name.lower(), (name, origin, set()))
        self._contrasts[name.lower()] = (
            known_name,
            known_origin,
            known.union(map(comparable, weights)),
        )

    def choose(
        self, request: _Request, name: str, weights: Sequence[Contrast], written_name: str = ""
    ) -> str:
        """Return the name of a requested contrast, and add it.

        `weights` are the weights in each run. A written name of another contrast is refused;
        other names are changed, with a note.
        """
        option = _option_text(request)
        chosen = self.make_distinct(name, weights)
        if chosen.lower() != name.lower():
            origin = self._contrasts[name.lower()][1]
            if written_name:
                refuse_option(
                    option,
                    f"another contrast has the name {name}, apart from case: {origin}",
                    "Choose another name.",
                )
            else:
                note(
                    option,
                    f"the contrast is named {chosen}, because another contrast has the name"
                    f" {name}, apart from case: {origin}.",
                )
        self.add(chosen, option, weights)
        return chosen

    def make_distinct(self, name: str, weights: Iterable[Contrast]) -> str:
        """Return the name, changed if another contrast has it, and spelled as before."""
        known_name, _, known = self._contrasts.get(name.lower(), (name, "", set()))
        if not known or not known.isdisjoint(map(comparable, weights)):
            return known_name
        return make_unique_label(name, self._contrasts)


def _add_defaults(
    types: Mapping[Path, TypesOfRun],
    labels: Mapping[Path, Mapping[str, str]],
    contrasts: Mapping[Path, dict[str, Contrast]],
    names: _ContrastNames,
) -> None:
    """Add the default contrasts of each run that can be estimated."""
    for bold, run in types.items():
        with about(*parse_owner(bold), code="events"):
            defaults = resolve_contrasts(
                run.modeled,
                described_types=run.described,
                averaged_types=run.averaged,
                labels=labels[bold],
            )
            contrasts[bold].update(select_estimable(run, defaults))
        for name, weights in contrasts[bold].items():
            names.add(name, f"the default contrast {name}", [weights])


def _add_request(
    request: _Request,
    written_name: str,
    types: Mapping[Path, TypesOfRun],
    labels: Mapping[Path, Mapping[str, str]],
    contrasts: Mapping[Path, dict[str, Contrast]],
    names: _ContrastNames,
) -> None:
    """Add a requested contrast to the runs that have its trial types, unless they have it."""
    by_name: dict[str, dict[Path, Contrast]] = defaultdict(dict)  # labels differ between tasks
    for bold in _select_possible(types, request):
        resolved = resolve_contrasts(
            types[bold].modeled,
            [request],
            averaged_types=types[bold].averaged,
            labels=labels[bold],
        )
        ((name, weights),) = resolved.items()
        if comparable(weights) not in map(comparable, contrasts[bold].values()):
            by_name[name][bold] = weights
    for name, by_bold in by_name.items():
        chosen = names.choose(request, name, [*by_bold.values()], written_name)
        for bold, weights in by_bold.items():
            contrasts[bold][chosen] = weights


def _plan_terms(
    contrast: ContrastOverRuns,
    types: Mapping[Path, TypesOfRun],
    contrasts: Mapping[Path, dict[str, Contrast]],
    labels: Mapping[str, str],
    names: _ContrastNames,
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
            bold: _add_contrast(terms, run, contrasts[bold], labels, names)
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
    names: _ContrastNames,
) -> tuple[str, float]:
    """Return the name of the contrast of some terms in a run, and the factor of its effect.

    The contrast, or its opposite, is added to `contrasts` if the run does not have it.
    """
    weights = {name: weight for name, weight in weigh_terms(terms, run.averaged).items() if weight}
    sign = 1.0 if terms[0].weight > 0 else -1.0
    factor = sign * sum_larger_side(weights)
    contrast = {name: weight / factor for name, weight in weights.items()}
    for name, other in contrasts.items():
        size = sum_larger_side(other)
        for other_sign in (1.0, -1.0):
            scaled = {key: other_sign * weight / size for key, weight in other.items()}
            if comparable(scaled) == comparable(contrast):
                return name, other_sign * factor / size
    signed = [replace(term, weight=sign * term.weight) for term in terms]
    name = names.make_distinct(name_terms(signed, labels), [contrast])
    names.add(name, "a term of a contrast over runs", [contrast])
    contrasts[name] = contrast
    return name, factor


def _select_possible(types: Mapping[Path, TypesOfRun], request: _Request) -> list[Path]:
    """Return the runs in which a requested contrast is possible.

    Contrasts with trial types that a run does not have are reported.
    """
    bolds = [bold for bold, run in types.items() if is_possible(request, run.modeled)]
    if not bolds:
        _refuse_impossible(request, types.values())
    elif len(bolds) < len(types):
        note(
            _option_text(request),
            f"the contrast is computed for {len(bolds)} of {len(types)} runs; the other runs"
            " lack at least one of its trial types.",
        )
    return bolds


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
