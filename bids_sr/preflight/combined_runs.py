"""Groups of a participant's runs that are combined, and excluded runs with reasons.

Runs are grouped if all entities of their names except `run` are equal, and over sessions all
except `run` and `session`. The super-resolution factor and the voxel size must also be equal, and
the trial-type weights of each contrast.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from bids_sr.bids import BoldRun, entities_of
from bids_sr.bids.findings import Findings
from bids_sr.config.seeds import seed_names
from bids_sr.frozen import frozen
from bids_sr.glm.contrasts import comparable
from bids_sr.io.grids import size_text
from bids_sr.preflight.plan import Plan

_T = TypeVar("_T")
_NOT_OF_A_RUN = ("suffix", "extension", "datatype")
WITHOUT_RUN = (
    "the name has no run- entity, but other runs of this task have one, so it is not combined with"
    " them. Add run- to its name to combine it"
)
"""Reason why a run is not combined with numbered runs."""


@frozen
class RunGroup:
    """Runs of one participant and task that are combined.

    Parameters
    ----------
    entities : Mapping[str, str]
        Entities of the combined maps (long names to labels), without `run`, and over sessions
        without `session`.
    runs : Mapping[str, BoldRun]
        Combined runs by short name, such as ``run-1``, or ``ses-A_run-1`` over sessions. All maps
        are transformed to the frame of the first run.
    over_sessions : bool
        Whether the runs are from several sessions.
    contrasts : Mapping[str, tuple[str, ...]]
        Names of the combined runs by contrast; at least two per contrast.
    left_out : Mapping[str, str]
        Reasons by name of the runs that are not combined in any contrast.
    without : Mapping[str, Mapping[str, str]]
        Reasons by name of a run and by contrast that excludes the run.
    """

    entities: Mapping[str, str]
    runs: Mapping[str, BoldRun]
    over_sessions: bool
    contrasts: Mapping[str, tuple[str, ...]]
    left_out: Mapping[str, str]
    without: Mapping[str, Mapping[str, str]]

    @property
    def label(self) -> str:
        """Entities of the combined maps as in file names."""
        shown = {key: label for key, label in self.entities.items() if key != "datatype"}
        return "_".join(f"{_SHORT.get(key, key)}-{label}" for key, label in shown.items())


_SHORT = {
    "subject": "sub",
    "session": "ses",
    "acquisition": "acq",
    "ceagent": "ce",
    "reconstruction": "rec",
    "direction": "dir",
}


def group_runs(runs: Sequence[BoldRun], plan: Plan) -> list[RunGroup]:
    """Return the groups of runs of one participant that are combined.

    Groups within sessions come before groups over sessions. Groups with fewer than two runs are
    omitted.
    """
    sessions: dict[tuple[tuple[str, str], ...], list[BoldRun]] = defaultdict(list)
    for run in runs:
        sessions[_key(run, without=("run",))].append(run)
    groups = [
        _group(session_runs, plan, over_sessions=False) for session_runs in sessions.values()
    ]
    tasks: dict[tuple[tuple[str, str], ...], list[list[BoldRun]]] = defaultdict(list)
    for session_runs in sessions.values():
        tasks[_key(session_runs[0], without=("run", "session"))].append(session_runs)
    for task_sessions in tasks.values():
        if len(task_sessions) > 1:
            groups.append(
                _group(
                    [run for session_runs in task_sessions for run in session_runs],
                    plan,
                    over_sessions=True,
                )
            )
    return [group for group in groups if group is not None]


def warn_of_left_out(
    runs: Sequence[BoldRun], plan: Plan, methods: Sequence[str], findings: Findings
) -> None:
    """Warn about runs of a participant that are not combined with other runs of their task.

    Parameters
    ----------
    runs : Sequence[BoldRun]
        Runs of one participant.
    plan : Plan
        Plan with contrasts and series of all runs.
    methods : Sequence[str]
        Series of the methods.
    findings : Findings
        Receives the warnings.
    """
    reported = set()
    for run in runs_without_number(runs):
        with findings.about(run.entities["subject"], run.stem):
            findings.warn(run.bold, f"{WITHOUT_RUN}.")
        reported.add(run.bold)
    for group in group_runs(runs, plan):
        members = {**group.runs, **_named(runs, group)}
        for name, run in members.items():
            if run.bold in reported:
                continue
            series = {label for member in group.runs.values() for label in plan.series_of(member)}
            missing = [
                method
                for method in methods
                if method in series and method not in plan.series_of(run)
            ]
            reasons = [
                f"contrast {contrast}: {reason}"
                for contrast, reason in group.without.get(name, {}).items()
            ]
            reasons += [f"{method}: the run has no such series" for method in missing]
            text = ""
            if name in group.left_out:
                text = f"not combined with the other runs of its task: {group.left_out[name]}."
            elif reasons:
                text = (
                    f"combined with the other runs of its task only in part: {'; '.join(reasons)}."
                )
            if text:
                reported.add(run.bold)
                with findings.about(run.entities["subject"], run.stem):
                    findings.warn(run.bold, text)


def combined_lines(runs: Sequence[BoldRun], plan: Plan) -> list[str]:
    """Return one line per group of combined runs of a participant, for the dry run."""
    lines = []
    for group in group_runs(runs, plan):
        scope = " over sessions" if group.over_sessions else ""
        lines.append(f"{group.label}: {', '.join(group.runs)} are combined{scope}")
    return lines


def is_only_run(run: BoldRun, runs: Sequence[BoldRun]) -> bool:
    """Return whether the participant has no other run with equal entities except run and session.

    `runs` are all runs of the participant.
    """
    key = _key(run, without=("run", "session"))
    return sum(_key(member, without=("run", "session")) == key for member in runs) == 1


def runs_without_number(runs: Sequence[BoldRun]) -> list[BoldRun]:
    """Return runs without `run` in their names if other runs with the same entities have it."""
    numbered = {_key(run, without=("run",)) for run in runs if "run" in run.entities}
    return [
        run
        for run in runs
        if "run" not in run.entities and _key(run, without=("run",)) in numbered
    ]


def _group(runs: Sequence[BoldRun], plan: Plan, *, over_sessions: bool) -> RunGroup | None:
    """Return the group of combined runs, None if there are fewer than two, or only one session."""
    left_out: dict[str, str] = {}
    unnumbered = {run.bold for run in runs_without_number(runs)}
    runs_by_name = {
        _name(run, over_sessions=over_sessions): run for run in sorted(runs, key=_order)
    }
    for name in [name for name, run in runs_by_name.items() if run.bold in unnumbered]:
        left_out[name] = WITHOUT_RUN
    sizes = {
        name: f"factor {size_text(run.factor, ' x ', '')}, voxels of {size_text(run.zooms, ' x ')}"
        for name, run in runs_by_name.items()
        if name not in left_out
    }
    usual = _most_frequent(sizes.values())
    left_out |= {
        name: f"{size}; expected {usual}, as in most runs"
        for name, size in sizes.items()
        if size != usual
    }
    contrasts, without = _shared_contrasts(
        {name: run for name, run in runs_by_name.items() if name not in left_out}, plan
    )
    combined = {name for names in contrasts.values() for name in names}
    for name in runs_by_name.keys() - left_out.keys() - combined:
        reasons = without.pop(name, {})
        left_out[name] = next(iter(reasons.values()), "no contrast in common with the other runs")
    members = {name: run for name, run in runs_by_name.items() if name in combined}
    if not members or (
        over_sessions and len({run.entities.get("session") for run in members.values()}) < 2
    ):
        return None
    dropped = ("run", "session") if over_sessions else ("run",)
    entities = dict(_key(runs[0], without=dropped))
    for stem, notices in plan.left_out.items():
        skipped = entities_of(Path(f"{stem}_bold.nii.gz"))
        if {key: label for key, label in skipped.items() if key not in dropped} == entities:
            name = _short_name(skipped, over_sessions=over_sessions)
            left_out[name] = f"the run was skipped: {notices[0].why}"
    return RunGroup(
        entities={**entities, "datatype": "func"},
        runs=members,
        over_sessions=over_sessions,
        contrasts=contrasts,
        left_out=left_out,
        without=without,
    )


def _shared_contrasts(
    runs: Mapping[str, BoldRun], plan: Plan
) -> tuple[dict[str, tuple[str, ...]], dict[str, dict[str, str]]]:
    """Return runs with equal weights by contrast, and reasons by excluded run and contrast."""
    # data-driven components differ between runs
    components = seed_names(())
    weights_by_run = {
        name: {
            contrast: comparable(weights)
            for contrast, weights in plan.contrasts.get(run.bold, {}).items()
            if run.events is not None or contrast not in components
        }
        for name, run in runs.items()
    }
    contrasts: dict[str, tuple[str, ...]] = {}
    without: dict[str, dict[str, str]] = defaultdict(dict)
    for contrast in dict.fromkeys(
        contrast for weights in weights_by_run.values() for contrast in weights
    ):
        usual = _most_frequent(
            weights[contrast] for weights in weights_by_run.values() if contrast in weights
        )
        members = tuple(
            name for name in weights_by_run if weights_by_run[name].get(contrast) == usual
        )
        if len(members) < 2:
            continue
        contrasts[contrast] = members
        for name in weights_by_run.keys() - set(members):
            without[name][contrast] = (
                "the weights of the trial types differ from the weights in most runs"
                if contrast in weights_by_run[name]
                else "the run has no such contrast"
            )
    return contrasts, dict(without)


def _most_frequent(values: Iterable[_T]) -> _T | None:
    """Return the most frequent value, the first of equally frequent values."""
    all_values = list(values)
    return max(all_values, key=all_values.count, default=None)


def _named(runs: Sequence[BoldRun], group: RunGroup) -> dict[str, BoldRun]:
    """Return the runs that a group excludes, by their short names."""
    dropped = ("run", "session") if group.over_sessions else ("run",)
    entities = {key: label for key, label in group.entities.items() if key != "datatype"}
    runs_by_name = {
        _name(run, over_sessions=group.over_sessions): run
        for run in runs
        if dict(_key(run, without=dropped)) == entities
    }
    return {name: run for name, run in runs_by_name.items() if name in group.left_out}


def _key(run: BoldRun, *, without: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the entities of a run, except some, as a hashable key."""
    dropped = (*_NOT_OF_A_RUN, *without)
    return tuple((key, label) for key, label in run.entities.items() if key not in dropped)


def _name(run: BoldRun, *, over_sessions: bool) -> str:
    """Return the short name of a run in a group."""
    return _short_name(run.entities, over_sessions=over_sessions)


def _short_name(entities: Mapping[str, str], *, over_sessions: bool) -> str:
    """Return session and run number as in file names."""
    keys = ("session", "run") if over_sessions else ("run",)
    parts = [f"{_SHORT.get(key, key)}-{entities[key]}" for key in keys if key in entities]
    return "_".join(parts) or "no run-"


def _order(run: BoldRun) -> tuple[str, int, str]:
    """Return the key that sorts runs by session and number."""
    label = run.entities.get("run", "")
    return run.entities.get("session", ""), int(label) if label.isdigit() else 0, label
