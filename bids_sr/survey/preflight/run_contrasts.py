"""Contrasts of all runs, from options and events."""

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.glm.contrasts import (
    DEFAULTS,
    ComparableWeights,
    Contrast,
    ContrastOverRuns,
    Contrasts,
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
from bids_sr.io.frozen import frozen
from bids_sr.io.notices import Notice, UsageError
from bids_sr.io.tables import MISSING_MARKS
from bids_sr.survey.bids.entities import has_entities, parse_entities, parse_owner
from bids_sr.survey.notices import (
    Choice,
    attribute,
    is_problem,
    note,
    option_problem,
    problem,
    warning,
)
from bids_sr.survey.preflight.estimability import (
    TypesOfRun,
    imprecise_effects,
    inestimable_defaults,
    select_estimable,
)
from bids_sr.survey.preflight.events import MISSING_TYPE
from bids_sr.survey.preflight.plan import PlannedTerms
from bids_sr.survey.preflight.shared_types import share_averaged_types, unshared_types

# contrast as written by the user, or name and weights from ``--model``
_Request = str | tuple[str, Contrast]


@frozen
class RunContrasts:
    """Contrasts of each run by BOLD file, and the terms of contrasts over runs by name."""

    by_run: Mapping[Path, dict[str, Contrast]]
    over_runs: Mapping[str, PlannedTerms]


def resolve_run_contrasts(
    types: Mapping[Path, TypesOfRun],
    requested: Sequence[_Request],
    labels: Mapping[Path, Mapping[str, str]],
) -> Choice[RunContrasts]:
    """Choose the contrasts of each run.

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
    all_types = list(dict.fromkeys(name for run in types.values() for name in run.modeled))
    all_labels = label_types(all_types) | {
        name: label for run_labels in labels.values() for name, label in run_labels.items()
    }
    requests = [request for request in requested if request != DEFAULTS or DEFAULTS in all_types]
    resolution = _Resolution(share_averaged_types(types), labels)
    resolution.notices += unshared_types(types, resolution.types)
    if len(requests) < len(requested) or not requested:
        resolution.add_defaults()
    over_runs: dict[str, ContrastOverRuns] = {}
    for request in requests:
        written_name = ""
        if isinstance(request, str):
            written_name = find_written_name(request, all_types)
            if parsed := parse_over_runs(request, all_types, all_labels):
                weights = [
                    {f"{term.trial_type}@{term.runs}": term.weight for term in parsed.terms}
                ]
                name = resolution.choose_name(request, parsed.name, weights, written_name)
                over_runs[name] = parsed
                continue
        resolution.add_request(request, written_name)
    planned_terms = {
        name: resolution.plan_terms(contrast, all_labels) for name, contrast in over_runs.items()
    }
    notices = resolution.notices
    for name, contrast in over_runs.items():
        notices += terms_without_runs(contrast, planned_terms[name], resolution.types)
        notices += terms_of_equal_runs(contrast, planned_terms[name])
    for bold, run in resolution.types.items():
        found = imprecise_effects(run, resolution.contrasts[bold])
        notices += attribute(found, *parse_owner(bold), code="events")
    if requested and not any(map(is_problem, notices)):
        notices += unmapped_run(resolution.contrasts)
    value = RunContrasts(by_run=resolution.contrasts, over_runs=planned_terms)
    return Choice(value=value, notices=tuple(notices))


class _Resolution:
    """Contrasts of all runs that are resolved so far, and notices about them."""

    def __init__(
        self, types: Mapping[Path, TypesOfRun], labels: Mapping[Path, Mapping[str, str]]
    ) -> None:
        self.types, self.labels = types, labels
        self.contrasts: dict[Path, dict[str, Contrast]] = {bold: {} for bold in types}
        self.notices: list[Notice] = []
        self._names = _ContrastNames()

    def add_defaults(self) -> None:
        """Add the default contrasts of each run that can be estimated."""
        for bold, run in self.types.items():
            defaults = resolve_contrasts(
                run.modeled,
                described_types=run.described,
                averaged_types=run.averaged,
                labels=self.labels[bold],
            )
            found = inestimable_defaults(run, defaults)
            self.notices += attribute(found, *parse_owner(bold), code="events")
            self.contrasts[bold] = select_estimable(run, defaults)
            for name, weights in self.contrasts[bold].items():
                self._names.add(name, f"the default contrast {name}", [weights])

    def add_request(self, request: _Request, written_name: str) -> None:
        """Add a requested contrast to the runs that have its trial types, unless they have it."""
        bolds = [bold for bold, run in self.types.items() if is_possible(request, run.modeled)]
        self.notices += runs_without_types(request, len(bolds), self.types.values())
        by_name: dict[str, dict[Path, Contrast]] = defaultdict(dict)  # labels differ by task
        for bold in bolds:
            resolved = resolve_contrasts(
                self.types[bold].modeled,
                [request],
                averaged_types=self.types[bold].averaged,
                labels=self.labels[bold],
            )
            ((name, weights),) = resolved.items()
            if comparable(weights) not in map(comparable, self.contrasts[bold].values()):
                by_name[name][bold] = weights
        for name, by_bold in by_name.items():
            chosen = self.choose_name(request, name, [*by_bold.values()], written_name)
            for bold, weights in by_bold.items():
                self.contrasts[bold][chosen] = weights

    def choose_name(
        self, request: _Request, name: str, weights: Sequence[Contrast], written_name: str
    ) -> str:
        """Return the name of a requested contrast, and add it.

        `weights` are the weights in each run. A written name of another contrast is refused;
        other names are changed, with a note.
        """
        option = _option_text(request)
        chosen = self._names.make_distinct(name, weights)
        if chosen.lower() != name.lower():
            origin = self._names.find_origin(name)
            self.notices.append(
                option_problem(
                    option,
                    f"another contrast has the name {name}, apart from case: {origin}",
                    "Choose another name.",
                )
                if written_name
                else note(
                    option,
                    f"the contrast is named {chosen}, because another contrast has the name"
                    f" {name}, apart from case: {origin}.",
                )
            )
        self._names.add(chosen, option, weights)
        return chosen

    def plan_terms(self, contrast: ContrastOverRuns, labels: Mapping[str, str]) -> PlannedTerms:
        """Return contrast and weight of each run of the terms of a contrast over runs.

        Missing contrasts are added to the runs. `labels` are of all trial types.
        """
        planned: dict[str, dict[Path, tuple[str, float]]] = {}
        for runs, terms in _group_terms(contrast).items():
            planned[runs] = {}
            for bold, run in self.types.items():
                if has_entities(bold, runs) and _can_weigh(terms, run):
                    planned[runs][bold] = self._add_term(terms, bold, labels)
        return planned

    def _add_term(
        self, terms: Sequence[Term], bold: Path, labels: Mapping[str, str]
    ) -> tuple[str, float]:
        """Return the name of the contrast of some terms in a run, and the factor of its effect.

        The contrast, or its opposite, is added if the run does not have it.
        """
        weights = {
            name: weight
            for name, weight in weigh_terms(terms, self.types[bold].averaged).items()
            if weight
        }
        sign = 1.0 if terms[0].weight > 0 else -1.0
        factor = sign * sum_larger_side(weights)
        contrast = {name: weight / factor for name, weight in weights.items()}
        for name, other in self.contrasts[bold].items():
            size = sum_larger_side(other)
            for other_sign in (1.0, -1.0):
                scaled = {key: other_sign * weight / size for key, weight in other.items()}
                if comparable(scaled) == comparable(contrast):
                    return name, other_sign * factor / size
        signed = [replace(term, weight=sign * term.weight) for term in terms]
        name = self._names.make_distinct(name_terms(signed, labels), [contrast])
        self._names.add(name, "a term of a contrast over runs", [contrast])
        self.contrasts[bold][name] = contrast
        return name, factor


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

    def find_origin(self, name: str) -> str:
        """Return the option of a contrast with this name, or the word for a default."""
        return self._contrasts[name.lower()][1]

    def make_distinct(self, name: str, weights: Iterable[Contrast]) -> str:
        """Return the name, changed if another contrast has it, and spelled as before."""
        known_name, _, known = self._contrasts.get(name.lower(), (name, "", set()))
        if not known or not known.isdisjoint(map(comparable, weights)):
            return known_name
        return make_unique_label(name, self._contrasts)


def _group_terms(contrast: ContrastOverRuns) -> dict[str, list[Term]]:
    """Return the terms of a contrast by the entities of their runs.

    Terms of the same runs are one contrast of these runs, because their estimates are correlated.
    """
    groups: dict[str, list[Term]] = defaultdict(list)
    for term in contrast.terms:
        groups[term.runs].append(replace(term, runs=""))
    return groups


def terms_without_runs(
    contrast: ContrastOverRuns, planned: PlannedTerms, types: Mapping[Path, TypesOfRun]
) -> Iterator[Notice]:
    """Refuse terms without a run, and warn of participants without a run of a term."""
    option = _option_text(contrast.request)
    participants = _list_participants(types)
    for runs, terms in _group_terms(contrast).items():
        term_text = f"{' and '.join(repr(term.trial_type) for term in terms)} in {runs or 'a run'}"
        lacking = participants - _list_participants(planned[runs])
        selected = [run for bold, run in types.items() if has_entities(bold, runs)]
        cancel = not any(any(weigh_terms(terms, run.averaged).values()) for run in selected)
        if lacking == participants:
            yield option_problem(
                option,
                f"the weights of {term_text} cancel, so that nothing is compared"
                if selected and cancel
                else f"no run of any participant has {term_text}",
                "Name entities and labels of the runs as in their file names, such as"
                " `thumb@ses-post - thumb@ses-pre`.",
            )
            continue
        for label in sorted(lacking - {""}):
            text = (
                f"sub-{label} has no run with {term_text}, so that the contrast is not"
                " computed for this participant, who is left out of its group map."
            )
            yield from attribute([warning(option, text)], label)


def terms_of_equal_runs(contrast: ContrastOverRuns, planned: PlannedTerms) -> Iterator[Notice]:
    """Refuse a contrast whose terms overlap, or are from one run of each participant."""
    option = _option_text(contrast.request)
    bolds = [bold for term_runs in planned.values() for bold in term_runs]
    if len(set(bolds)) < len(bolds):
        yield option_problem(
            option,
            "a run belongs to several terms, so that the runs of the terms overlap",
            "Give each term other runs, or several terms exactly the same runs.",
        )
    elif bolds and len(_list_participants(bolds)) == len(bolds):
        yield option_problem(
            option,
            "the terms are from a single run of each participant",
            "Name a further run in a term, or remove `@` and the entities, which maps the contrast"
            " in each run.",
        )


def unmapped_run(contrasts: Mapping[Path, Contrasts]) -> Iterator[Notice]:
    """Reject the first run without any of the requested contrasts."""
    unmapped = next((bold for bold, weights in contrasts.items() if not weights), None)
    if unmapped is not None:
        fault = problem(
            unmapped,
            "none of the requested contrasts can be computed for this run, so the run would"
            " not have any activation maps",
            "Exclude the run (--task-id, --run-id), or add a contrast.",
        )
        yield from attribute([fault], *parse_owner(unmapped))


def _list_participants(bolds: Iterable[Path]) -> set[str]:
    """Return the labels of the participants of runs."""
    return {parse_entities(bold).get("subject", "") for bold in bolds}


def _can_weigh(terms: Sequence[Term], run: TypesOfRun) -> bool:
    """Return whether a run has the trial types of some terms, whose weights are not all 0."""
    weights = weigh_terms(terms, run.averaged)
    return any(weights.values()) and weights.keys() <= {*run.modeled}


def runs_without_types(
    request: _Request, n_possible: int, runs: Collection[TypesOfRun]
) -> Iterator[Notice]:
    """Note a requested contrast that is possible in some of the runs; refuse it if in none."""
    if not n_possible:
        yield _refuse_impossible(request, runs)
    elif n_possible < len(runs):
        yield note(
            _option_text(request),
            f"the contrast is computed for {n_possible} of {len(runs)} runs; the other runs"
            " lack at least one of its trial types.",
        )


def _refuse_impossible(request: _Request, runs: Collection[TypesOfRun]) -> Notice:
    """Return the problem of a contrast that is not possible in any run."""
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
        return option_problem(_option_text(request), reason, error.notice.remedy)
    names = ", ".join(name for weights in resolved.values() for name in weights)
    return option_problem(
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
