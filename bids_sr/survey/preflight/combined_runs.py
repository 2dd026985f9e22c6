"""Runs of a participant that are combined, and runs that are left out with the reason.

Runs belong together if all entities of their names but `run` are equal, and over sessions all but
`run` and `session`. The factor of super-resolution and the voxel size must be equal too, and of
each contrast the weights of the trial types. Unless all runs are requested, phase encoding, echo
time and field strength must be equal as well.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import mode

from bids_sr.config.sections.activation import COMBINE_ALL_OPTION
from bids_sr.glm.connectivity_seeds import seed_names
from bids_sr.glm.contrasts import ComparableWeights, comparable
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import size_text
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.acquisitions import (
    WITHOUT_RUN,
    find_unlike_runs,
    find_unusual_acquisitions,
    list_acquisition_fields,
    read_acquisition,
)
from bids_sr.survey.bids.entities import (
    SHORT_NAMES,
    EntityKey,
    has_entities,
    parse_entities,
    run_order,
    short_run_name,
    stem_of_echoes,
    without_entities,
)
from bids_sr.survey.bids.inputs import BoldRun
from bids_sr.survey.notices import attribute, warning
from bids_sr.survey.preflight.plan import Plan


@frozen
class RunTerm:
    """Term of a contrast over runs: mean effect of a `contrast` over `runs`, with a weight.

    `label` names the runs as requested, such as ``ses-pre``, and `runs` are their short names.
    """

    label: str
    contrast: str
    weight: float
    runs: tuple[str, ...]


@frozen
class RunGroup:
    """Runs of one participant and task that are combined.

    `entities` are the entities of the combined maps: long names to labels, without `run`, and over
    sessions without `session`. `runs` are the combined runs by a short name such as ``run-1``, or
    ``ses-A_run-1`` if the runs are from several sessions (`over_sessions`). All maps are brought
    to the frame of the first run. `contrasts` has the names of the runs that are combined, by
    contrast; two or more each. `over_runs` has the terms of contrasts over these runs by name.

    `left_out` has the reason by the name of a run that is not combined at all, and `excluded` are
    these runs, except skipped runs. `missing_contrasts` has the reason by the name of a run, by
    contrast without this run, and `uncombined` the reason by contrast that fewer than two runs
    have with the same weights. `unusual` has the reason by the name of a run that is combined on
    request, although it was acquired otherwise.
    """

    entities: Mapping[str, str]
    over_sessions: bool
    runs: Mapping[str, BoldRun]
    contrasts: Mapping[str, Sequence[str]]
    over_runs: Mapping[str, tuple[RunTerm, ...]]
    left_out: Mapping[str, str]
    excluded: Mapping[str, BoldRun]
    missing_contrasts: Mapping[str, Mapping[str, str]]
    uncombined: Mapping[str, str]
    unusual: Mapping[str, str]

    @property
    def label(self) -> str:
        """Common entities of the runs as in file names, without the data type."""
        return "_".join(
            f"{SHORT_NAMES.get(key, key)}-{label}"
            for key, label in self.entities.items()
            if key != "datatype"
        )

    @property
    def used_contrasts(self) -> dict[str, Sequence[str]]:
        """Names of the runs by contrast whose maps are combined or a term of a contrast."""
        used = dict(self.contrasts)
        for term in chain.from_iterable(self.over_runs.values()):
            used[term.contrast] = tuple(dict.fromkeys((*used.get(term.contrast, ()), *term.runs)))
        return used


def format_combined_runs(runs: Sequence[BoldRun], plan: Plan) -> list[str]:
    """Return a line per group of combined runs of a participant, for the dry run."""
    group_lines = []
    for group in group_runs(runs, plan):
        session_text = " over sessions" if group.over_sessions else ""
        group_lines.append(f"{group.label}: {', '.join(group.runs)} are combined{session_text}")
        group_lines += [
            f"  {name} = {format_terms(terms)}" for name, terms in group.over_runs.items()
        ]
        group_lines += [
            f"  not combined: {sentence}" for sentence in list_uncombined_contrasts(group)
        ]
    return group_lines


def format_terms(terms: Sequence[RunTerm]) -> str:
    """Return the terms of a contrast over runs as a formula with the runs of each term.

    >>> terms = [RunTerm(label="", contrast="a", weight=w, runs=(f"run-{w}",)) for w in (2, -1)]
    >>> format_terms(terms)
    '2*a in run-2 - a in run--1'
    """
    return _join_terms(
        (term.weight, f"{term.contrast} in {' and '.join(term.runs)}") for term in terms
    )


def name_over_runs(name: str, terms: Sequence[RunTerm]) -> str:
    """Return the name of a contrast over runs as it was requested, from its name in files.

    >>> run, weights = "run-{}", (1, -1)
    >>> terms = [RunTerm(label=run.format(w), contrast="a", weight=w, runs=()) for w in weights]
    >>> name_over_runs("aRun1MinusARun2", terms), name_over_runs("change", terms)
    ('a@run-1 − a@run--1', 'change')
    """
    if not any(word in name for word in ("Minus", "Plus")):
        return name
    named = ((term.weight, f"{term.contrast}@{term.label}".rstrip("@")) for term in terms)
    return _join_terms(named).replace("- ", "− ")


def _join_terms(terms: Iterable[tuple[float, str]]) -> str:
    """Return weights and texts of terms as a formula."""
    formula = " ".join(
        f"{'-' if weight < 0 else '+'} " + f"{abs(weight):g}*{text}".removeprefix("1*")
        for weight, text in terms
    )
    return formula.removeprefix("+ ")


def group_runs(runs: Sequence[BoldRun], plan: Plan) -> list[RunGroup]:
    """Return the groups of runs of one participant that are combined.

    Runs of a session come before runs over sessions. Groups with fewer than two runs are left out.
    """
    return _select_combined(_sort_runs(runs, plan))


def list_uncombined_contrasts(group: RunGroup) -> list[str]:
    """Return a phrase per reason why contrasts of a group are not combined."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for contrast, reason in group.uncombined.items():
        by_reason[reason].append(contrast)
    return [f"{', '.join(contrasts)} ({reason})" for reason, contrasts in by_reason.items()]


def runs_left_out(runs: Sequence[BoldRun], plan: Plan, methods: Sequence[str]) -> Iterator[Notice]:
    """Warn of runs of a participant that are not combined with other runs of their task.

    `plan` has contrasts and series of all runs, and `methods` are the series of the methods.
    """
    warned_runs = set()
    for run, text in _explain_left_out(runs, plan, methods):
        if run.bold not in warned_runs:  # one warning per run
            warned_runs.add(run.bold)
            yield from attribute([warning(run.bold, text)], *run.owner)


def lost_contrasts(runs: Sequence[BoldRun], plan: Plan) -> Iterator[Notice]:
    """Warn of contrasts over runs that are not computed for a participant.

    A participant who never had a run of a term is named when the terms are planned.
    """
    groups = _sort_runs(runs, plan)
    subject = runs[0].entities["subject"]
    for name, terms in plan.over_runs.items():
        computed = {g.entities["task"] for g in _select_combined(groups) if name in g.over_runs}
        reasons = {g.entities["task"]: g.uncombined[name] for g in groups if name in g.uncombined}
        stems_by_term: list[dict[str, list[str]]] = []  # by task
        for by_bold in terms.values():
            stems_by_term.append(defaultdict(list))
            for bold in by_bold:
                if (entities := parse_entities(bold))["subject"] == subject:
                    stems_by_term[-1][entities["task"]].append(stem_of_echoes(bold))
        tasks = set.intersection(*({*stems} for stems in stems_by_term))
        for task in sorted(tasks - computed) if tasks else [""] * all(stems_by_term):
            reason = reasons.get(task, "the names of its runs differ in more than ses and run")
            for stems in stems_by_term:
                if plan.skipped.keys() >= {*stems[task]} > set():
                    reason = f"the runs of a term are skipped ({', '.join(stems[task])})"
            fault = warning("--contrasts", f"{name} is not computed: {reason}.")
            yield from attribute([fault], subject)


def _explain_left_out(
    runs: Sequence[BoldRun], plan: Plan, methods: Sequence[str]
) -> Iterator[tuple[BoldRun, str]]:
    """Yield runs that are not combined or only in part, with a sentence; see `runs_left_out`.

    A run can occur several times.
    """
    groups = _sort_runs(runs, plan)
    for group in groups:
        for name, run in group.excluded.items():
            if group.left_out[name] == WITHOUT_RUN:
                yield run, f"{WITHOUT_RUN}."
    for group in _select_combined(groups):
        members = {**group.runs, **group.excluded}
        group_series = {name for run in group.runs.values() for name in plan.list_series(run)}
        for name, run in members.items():
            if name in group.left_out:
                yield run, _not_combined_text(group.left_out[name])
                continue
            reasons = [
                f"contrast {contrast}: {reason}"
                for contrast, reason in group.missing_contrasts.get(name, {}).items()
            ]
            reasons += [
                f"{method}: the run has no such series"
                for method in methods
                if method in group_series and method not in plan.list_series(run)
            ]
            sentences = []
            if name in group.unusual:
                sentences.append(
                    "combined with the other runs of its task on request, but it was acquired"
                    f" otherwise: {group.unusual[name]}."
                )
            if reasons:
                sentences.append(
                    f"combined with the other runs of its task only in part: {'; '.join(reasons)}."
                )
            if sentences:
                yield run, " ".join(sentences)
    for group in groups:
        if not _is_combined(group):
            for name, run in _find_preventing_runs(group, plan).items():
                yield run, _not_combined_text(group.left_out[name])


def _sort_runs(runs: Sequence[BoldRun], plan: Plan) -> list[RunGroup]:
    """Group the runs of each session and task, and of each task over sessions.

    Groups may have no run that can be combined.
    """
    sessions: dict[EntityKey, list[BoldRun]] = defaultdict(list)
    for run in runs:
        sessions[without_entities(run.entities, ["run"])].append(run)
    tasks: dict[EntityKey, list[list[BoldRun]]] = defaultdict(list)
    for session_runs in sessions.values():
        task_key = without_entities(session_runs[0].entities, ["run", "session"])
        tasks[task_key].append(session_runs)
    return [
        *(
            _make_group(session_runs, plan, over_sessions=False)
            for session_runs in sessions.values()
        ),
        *(
            _make_group([*chain.from_iterable(task_sessions)], plan, over_sessions=True)
            for task_sessions in tasks.values()
            if len(task_sessions) > 1
        ),
    ]


def _make_group(runs: Sequence[BoldRun], plan: Plan, *, over_sessions: bool) -> RunGroup:
    """Sort out which runs can be combined: two or more, or none."""
    runs_by_name = {
        short_run_name(run.entities, over_sessions=over_sessions): run
        for run in sorted(runs, key=lambda run: run_order(run.entities))
    }
    left_out = _find_unlike(runs_by_name)
    unusual_runs = _find_unusual(_omit(runs_by_name, left_out))
    if not plan.combines_all_runs:
        left_out |= {
            name: f"{reason}; {COMBINE_ALL_OPTION} combines this run nevertheless"
            for name, reason in unusual_runs.items()
        }
    included_runs = _omit(runs_by_name, left_out)
    weights_by_run = {name: _get_weights(run, plan) for name, run in included_runs.items()}
    over_runs, lost = _find_terms(runs_by_name, included_runs, left_out, plan)
    terms = [*chain.from_iterable(over_runs.values())]
    contrasts = _find_common_contrasts(weights_by_run)
    missing_contrasts = _find_missing_contrasts(included_runs, weights_by_run, contrasts, terms)
    combined_names = {*chain(*contrasts.values()), *chain(*(term.runs for term in terms))}
    left_out |= {
        name: next(
            iter(missing_contrasts.get(name, {}).values()),
            "no contrast in common with the other runs",
        )
        for name in included_runs
        if name not in combined_names
    }
    excluded_entities = ["run", "session"] if over_sessions else ["run"]
    entities = without_entities(runs[0].entities, excluded_entities)
    for stem, notices in plan.skipped.items():
        skipped = parse_entities(Path(f"{stem}_bold.nii.gz"))
        if without_entities(skipped, excluded_entities) == entities:
            name = short_run_name(skipped, over_sessions=over_sessions)
            left_out[name] = f"the run was skipped: {notices[0].why}"
    computed = {*contrasts, *(term.contrast for term in terms)}
    return RunGroup(
        entities={**dict(entities), "datatype": "func"},
        runs={name: run for name, run in runs_by_name.items() if name in combined_names},
        over_sessions=over_sessions,
        contrasts=contrasts,
        over_runs=over_runs,
        left_out=left_out,
        excluded={name: run for name, run in runs_by_name.items() if name in left_out},
        missing_contrasts={
            name: reasons for name, reasons in missing_contrasts.items() if name in combined_names
        },
        uncombined={
            contrast: _explain_uncombined(contrast, weights_by_run)
            for contrast in dict.fromkeys(chain.from_iterable(weights_by_run.values()))
            if contrast not in computed
        }
        | lost,
        unusual={name: unusual_runs[name] for name in combined_names & unusual_runs.keys()},
    )


def _find_unlike(runs: Mapping[str, BoldRun]) -> dict[str, str]:
    """Return the reasons for runs whose name, factor or voxel size does not fit the others."""
    return find_unlike_runs(
        {name: run.entities for name, run in runs.items()},
        {
            name: f"factor {size_text(run.factor, ' x ', '')},"
            f" voxels of {size_text(run.zooms, ' x ')}"
            for name, run in runs.items()
        },
    )


def _find_unusual(runs: Mapping[str, BoldRun]) -> dict[str, str]:
    """Return the reasons for runs that were acquired otherwise than the others."""
    return find_unusual_acquisitions(
        {
            name: read_acquisition(list_acquisition_fields(run), run.affine)
            for name, run in runs.items()
        }
    )


def _find_terms(
    runs: Mapping[str, BoldRun],
    included_runs: Collection[str],
    left_out: Mapping[str, str],
    plan: Plan,
) -> tuple[dict[str, tuple[RunTerm, ...]], dict[str, str]]:
    """Return the terms of contrasts over some runs, and why contrasts lack runs.

    `runs` are the runs of a group by name, of which `included_runs` can be combined; `left_out`
    has the reasons of the others. Contrasts with terms of other runs are not included.
    """
    over_runs: dict[str, tuple[RunTerm, ...]] = {}
    lost: dict[str, str] = {}
    for name, planned in plan.over_runs.items():
        members = {
            label: {run: by_bold[bold.bold] for run, bold in runs.items() if bold.bold in by_bold}
            for label, by_bold in planned.items()
        }
        if not all(members.values()):
            continue
        terms = []
        for label, by_run in members.items():
            included = [by_run[run] for run in by_run if run in included_runs]
            if not included:
                lost[name] = "; ".join(f"{runs[run].stem}: {left_out[run]}" for run in by_run)
                break
            contrast, weight = usual = mode(included)
            names = tuple(run for run in included_runs if by_run.get(run) == usual)
            terms.append(RunTerm(label=label, contrast=contrast, weight=weight, runs=names))
        else:
            used = {run for term in terms for run in term.runs}
            if len(used) > 1:
                over_runs[name] = tuple(terms)
            else:
                lost[name] = f"only in {used.pop()}"
    return over_runs, lost


def _omit(runs: Mapping[str, BoldRun], left_out: Collection[str]) -> dict[str, BoldRun]:
    """Return the runs by name without the runs that are left out."""
    return {name: run for name, run in runs.items() if name not in left_out}


def _find_common_contrasts(
    weights_by_run: Mapping[str, Mapping[str, ComparableWeights]],
) -> dict[str, tuple[str, ...]]:
    """Return the names of two or more runs with equal weights, by contrast.

    `weights_by_run` are the weights of the contrasts by name of the run.
    """
    contrasts: dict[str, tuple[str, ...]] = {}
    for contrast in dict.fromkeys(chain.from_iterable(weights_by_run.values())):
        usual_weights = mode(
            weights[contrast] for weights in weights_by_run.values() if contrast in weights
        )
        members = tuple(
            name
            for name, weights in weights_by_run.items()
            if weights.get(contrast) == usual_weights
        )
        if len(members) > 1:
            contrasts[contrast] = members
    return contrasts


def _find_missing_contrasts(
    runs: Mapping[str, BoldRun],
    weights_by_run: Mapping[str, Mapping[str, ComparableWeights]],
    contrasts: Mapping[str, Sequence[str]],
    terms: Sequence[RunTerm],
) -> dict[str, dict[str, str]]:
    """Return the reasons by run and contrast why a run is not combined in a contrast.

    A contrast of `terms` is only missed by runs that its terms name. `contrasts` are the names of
    the combined runs by contrast.
    """
    missing_contrasts: dict[str, dict[str, str]] = defaultdict(dict)
    term_contrasts = {term.contrast for term in terms}
    for name, run in runs.items():
        selected = {term.contrast for term in terms if has_entities(run.bold, term.label)}
        for contrast, members in contrasts.items():
            if name not in members and contrast not in term_contrasts - selected:
                missing_contrasts[name][contrast] = (
                    "the weights of the trial types differ from the weights in most runs"
                    if contrast in weights_by_run[name]
                    else "the run has no such contrast"
                )
    return missing_contrasts


def _explain_uncombined(
    contrast: str, weights_by_run: Mapping[str, Mapping[str, ComparableWeights]]
) -> str:
    """Return why no two runs have a contrast with the same weights, as a clause.

    `weights_by_run` are the weights of the contrasts by name of the run.
    """
    types_by_run = {
        name: {trial_type for trial_type, _ in weights[contrast]}
        for name, weights in weights_by_run.items()
        if contrast in weights
    }
    if len(types_by_run) == 1:
        return f"only in {next(iter(types_by_run))}"
    shared_types = set.intersection(*types_by_run.values())
    differences = [
        f"only {name} has {', '.join(sorted(types - shared_types))}"
        for name, types in types_by_run.items()
        if types - shared_types
    ]
    reason = "the weights of the trial types differ between runs"
    return f"{reason}: {', '.join(differences)}" if differences else reason


def _select_combined(candidates: Sequence[RunGroup]) -> list[RunGroup]:
    """Return the groups with runs to combine.

    Groups of runs without a session are left out if the group over sessions has the same name.
    """
    groups = [group for group in candidates if _is_combined(group)]
    over_sessions = [group.entities for group in groups if group.over_sessions]
    return [
        group for group in groups if group.over_sessions or group.entities not in over_sessions
    ]


def _is_combined(group: RunGroup) -> bool:
    """Return whether a group has runs to combine; over sessions, from at least two sessions."""
    sessions = {run.entities.get("session") for run in group.runs.values()}
    return len(sessions) > 1 if group.over_sessions else bool(group.runs)


def _not_combined_text(reason: str) -> str:
    """Return a sentence on a run that is not combined."""
    return f"not combined with the other runs of its task: {reason}."


def _find_preventing_runs(group: RunGroup, plan: Plan) -> dict[str, BoldRun]:
    """Return runs by name that keep the runs of a task from being combined at all.

    The first run is not among them. Runs without contrasts, such as runs at rest, have nothing to
    combine.
    """
    excluded = [
        (name, run)
        for name, run in group.excluded.items()
        if group.left_out[name] != WITHOUT_RUN and _get_weights(run, plan)
    ]
    return dict(excluded if group.runs else excluded[1:])


def _get_weights(run: BoldRun, plan: Plan) -> dict[str, ComparableWeights]:
    """Return the weights of a run's contrasts that other runs can have too."""
    # components of one run are not the components of another run
    components = seed_names(())
    return {
        contrast: comparable(weights)
        for contrast, weights in plan.contrasts.get(run.bold, {}).items()
        if run.events is not None or contrast not in components
    }
