"""Plan of the group maps: the participants of each map, before any map is read.

The data set decides who belongs to the group. Independent components have no order or sign that
participants share, so they are not averaged.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from bids_sr.engine.metric_rows import MISSING
from bids_sr.group.input_maps import (
    DerivativeMaps,
    MapKey,
    ParticipantMaps,
    RunMaps,
    Task,
    group_by_participant,
    read_map_entry,
)
from bids_sr.group.map_records import Exclusion, GroupMapRecord, MapMember
from bids_sr.group.output_files import GroupNames
from bids_sr.io.frozen import frozen
from bids_sr.io.json_values import as_list, as_mapping
from bids_sr.io.word_lists import format_count

LEAST_PARTICIPANTS = 3
"""Smallest number of participants in a test, because two leave one degree of freedom."""


@frozen
class PlannedTask:
    """Maps of one task that will be computed.

    `participants` are sorted by label, and `records` of all group maps by contrast and then by
    series.
    """

    participants: Sequence[ParticipantMaps]
    records: Sequence[GroupMapRecord]

    @property
    def computed(self) -> list[GroupMapRecord]:
        """Records of the group maps with enough participants."""
        return [record for record in self.records if len(record.members) >= LEAST_PARTICIPANTS]

    def iterate_sources(self) -> Iterator[RunMaps]:
        """Yield the runs and stored maps of all runs that the group maps are computed from."""
        keys: dict[str, list[MapKey]] = defaultdict(list)
        for record in self.computed:
            for member in record.members:
                keys[member.participant].append(record.key)
        for participant in self.participants:
            yield from participant.select_sources(keys[participant.participant])


@frozen
class MapPlan:
    """Group maps that will be computed.

    `space` is the TemplateFlow name of the template, with the cohort after a plus sign; None if no
    maps can be computed. `notes` are sentences on maps that will not be computed.
    """

    space: str | None = None
    tasks: Sequence[PlannedTask] = ()
    notes: tuple[str, ...] = ()

    @property
    def records(self) -> list[GroupMapRecord]:
        """Records of all maps, with those that too few participants have."""
        return [record for task in self.tasks for record in task.records]

    @property
    def computed(self) -> list[GroupMapRecord]:
        """Records of the maps that will be computed."""
        return [record for task in self.tasks for record in task.computed]

    def list_images(self) -> list[Path]:
        """Return all images that will be read."""
        frames = [
            path
            for task in self.tasks
            for source in task.iterate_sources()
            for path in (source.mask, source.boldref)
            if path is not None
        ]
        return [*frames, *self.list_maps()]

    def list_maps(self) -> list[Path]:
        """Return the effect maps that will be read."""
        return [
            path for record in self.computed for member in record.members for path in member.files
        ]

    def list_transforms(self) -> list[Path]:
        """Return all transforms that will be read."""
        return [
            path
            for task in self.tasks
            for source in task.iterate_sources()
            for path in source.transforms_from(self.space or "")
        ]


@frozen
class GroupMembers:
    """Participants and runs of the group, as far as they are known from names and tables.

    `labels` are all participants (``sub-…``) that belong to the group, and those that were left
    out. `outsiders` are participants whose results do not belong to the data set.
    `component_names` are the names of the maps of independent components of runs at rest.
    `unequal` are reasons of contrasts with other weights, by name of the run and contrast.
    `weights` are the weights of the trial types by task and contrast. `uncombined` is the reason
    by participant and task for runs that are not combined.
    """

    labels: Sequence[str]
    outsiders: Collection[str]
    with_tables: Collection[str]
    runs_at_rest: Collection[str]
    component_names: Sequence[str]
    unequal: Mapping[str, Mapping[str, str]]
    weights: Mapping[tuple[Task, str], Mapping[str, float]]
    uncombined: Mapping[tuple[str, Task], str]


def list_weights(tables: pd.DataFrame) -> dict[tuple[Task, str], Mapping[str, float]]:
    """Return the weights of the trial types by task and contrast, as in most participants.

    `tables`: one row per metrics table, with the columns task, variant, weights and unequal.
    """
    weights: dict[tuple[Task, str], Mapping[str, float]] = {}
    for row in tables.itertuples():
        for contrast, contrast_weights in row.weights.items():
            if contrast not in row.unequal:
                weights.setdefault(((row.task, row.variant), contrast), contrast_weights)
    return weights


@frozen
class _TaskContext:
    """What the reasons for exclusions in one task depend on; see `plan_maps`."""

    task: Task
    space: str
    fwhm_mm: float
    collected: Sequence[RunMaps]
    effects: Sequence[RunMaps]
    members: GroupMembers


def plan_maps(
    collected: DerivativeMaps,
    usable: DerivativeMaps,
    members: GroupMembers,
    *,
    series: Sequence[str],
    names: GroupNames,
) -> MapPlan:
    """Plan the group maps of every task, contrast and series.

    `collected` are all maps of the requested runs. `usable` are the maps that belong together:
    without contrasts with other weights, and without runs that are not combined. The result has
    the order of `series`.
    """
    effects = _drop_components(usable, members)
    all_maps = effects.all
    space, fwhm_mm = common_space(all_maps), common_smoothing(all_maps)
    notes = _component_notes(usable, members)
    if space is None or fwhm_mm is None:
        return MapPlan(notes=(*notes, *_no_space_notes(all_maps)))
    available = effects.change(
        lambda maps: None if maps.explain_unavailable(space) else maps.keep_usable(space)
    )
    notes += _unavailable_run_notes(effects, available, space)
    tasks = []
    for task, participants in group_by_participant(available).items():
        heading = f"group maps for task {task[0]}"
        if len(participants) < LEAST_PARTICIPANTS:
            notes.append(f"{heading}: {too_few_text(len(participants))}")
        context = _TaskContext(
            task=task,
            space=space,
            fwhm_mm=fwhm_mm,
            collected=[maps for maps in collected.all if maps.task_key == task],
            effects=[maps for maps in all_maps if maps.task_key == task],
            members=members,
        )
        keys = {key for participant in participants for key in participant.map_keys()}
        records = [
            _make_record(context, key, participants, names)
            for contrast in sorted({key[0] for key in keys})
            for name in series
            if (key := (contrast, name, fwhm_mm, "effect")) in keys
        ]
        if len(participants) >= LEAST_PARTICIPANTS:
            notes += _sparse_notes(records)
        tasks.append(PlannedTask(participants=participants, records=records))
    return MapPlan(space=space, tasks=tasks, notes=tuple(notes))


def _drop_components(usable: DerivativeMaps, members: GroupMembers) -> DerivativeMaps:
    """Return maps without independent components of runs at rest.

    Combined maps belong to the runs of their participant and task.
    """
    tasks_at_rest = {
        (run.participant, run.task_key) for run in usable.runs if run.name in members.runs_at_rest
    }

    def drop(maps: RunMaps) -> RunMaps:
        at_rest = (maps.participant, maps.task_key) in tasks_at_rest
        return maps.drop_contrasts(members.component_names) if at_rest else maps

    return usable.change(drop)


def common_space(runs: Sequence[RunMaps]) -> str | None:
    """Return the space that is available for most participants, or None if there is none.

    Ties are resolved by name.
    """
    participant_spaces = {
        (run.participant, space)
        for run in runs
        for space in {*run.t1w2std, *run.maps} - {""}
        if not run.explain_unavailable(space)
    }
    counts = Counter(space for _, space in participant_spaces)
    return min(counts, key=lambda space: (-counts[space], space)) if counts else None


def common_smoothing(runs: Sequence[RunMaps]) -> float | None:
    """Return the smoothing (mm) above 0 that most participants have, the smaller one of several.

    0 if all maps are unsmoothed, None if there are no maps.
    """
    widths = {(run.participant, key[2]) for run in runs for key in run.map_keys()}
    counts = Counter(width for _, width in widths)
    return min(counts, key=lambda width: (not width, -counts[width], width), default=None)


def _component_notes(usable: DerivativeMaps, members: GroupMembers) -> list[str]:
    """Return a sentence per task whose independent components are not averaged."""
    tasks = {
        run.task
        for run in usable.runs
        if run.name in members.runs_at_rest
        and {key[0] for key in run.map_keys()} & {*members.component_names}
    }
    names = ", ".join(members.component_names)
    return [
        f"group maps for task {task}: independent components ({names}) were not averaged,"
        " because their order and signs are arbitrary and differ between participants. Maps of"
        " seeds (activation.seeds) can be averaged"
        for task in sorted(tasks)
    ]


def _no_space_notes(all_maps: Sequence[RunMaps]) -> list[str]:
    """Return why there is no common template space, with missing files of participants."""
    if not any(run.map_keys() for run in all_maps):
        return []
    reasons = dict.fromkeys(
        run.explain_unavailable("a template") for run in all_maps if run.map_keys()
    )
    return [
        "group maps: none of the participants has both effect maps and transforms to a standard"
        f" space ({'; '.join(reasons)})"
    ]


def _unavailable_run_notes(
    effects: DerivativeMaps, available: DerivativeMaps, space: str
) -> list[str]:
    """Return a sentence for each run that cannot be used although others of its task can.

    Runs are not needed if the participant has stored maps of all runs. Participants without any
    usable run are named with each map.
    """
    usable_tasks = {(run.participant, run.task_key) for run in available.runs}
    combined_tasks = {(run.participant, run.task_key) for run in available.combined}
    return [
        f"group maps: {run.name} was excluded, because {reason}"
        for run in effects.runs
        if (reason := run.explain_unavailable(space))
        and (run.participant, run.task_key) in usable_tasks - combined_tasks
    ]


def _make_record(
    context: _TaskContext,
    key: MapKey,
    participants: Sequence[ParticipantMaps],
    names: GroupNames,
) -> GroupMapRecord:
    """Return the record of a map with all participants who have it."""
    map_members = tuple(
        _make_member(participant, key, context.space)
        for participant in participants
        if key in participant.map_keys()
    )
    included = {member.participant for member in map_members}
    stored = [member.files[0] for member in map_members if member.origin == "stored"]
    terms = as_list(read_map_entry(stored[0], "Terms")) if stored else []
    return GroupMapRecord(
        names=names,
        task=context.task[0],
        variant=context.task[1],
        key=key,
        space=context.space,
        weights=context.members.weights.get((context.task, key[0]), {}),
        terms=[
            {key: value for key, value in as_mapping(term).items() if key != "runs"}
            for term in terms
        ],
        members=map_members,
        excluded={
            label: _explain_exclusion(context, key, label)
            for label in context.members.labels
            if label not in included
        },
        checksums={},
    )


def _make_member(participant: ParticipantMaps, key: MapKey, space: str) -> MapMember:
    """Return the files, runs and sessions of a participant's map."""
    origin = participant.origin(key)
    stored = participant.combined if origin == "stored" else None
    sources = [run for run in participant.runs if key in run.map_keys()]
    # without the maps of its runs, only the session of a stored map is known
    runs = participant.runs if stored is not None else sources
    with_sessions = runs or ([] if stored is None else [stored])
    return MapMember(
        participant=participant.participant,
        origin=origin,
        runs=tuple(run.name for run in runs),
        sessions=tuple(
            sorted({maps.session for maps in with_sessions if maps.session != MISSING})
        ),
        files=tuple(
            source.find_file(key, space) for source in (sources if stored is None else [stored])
        ),
    )


def _explain_exclusion(context: _TaskContext, key: MapKey, label: str) -> Exclusion:
    """Return why a participant has no map for a group map."""
    members = context.members
    if label in members.outsiders:
        reason = "the data set no longer contains this participant"
        return Exclusion(reason=reason, is_listed=True)
    stored = [maps for maps in context.collected if maps.participant == label]
    if not any(maps.map_keys() for maps in stored):
        if label not in members.with_tables:
            return Exclusion(reason="no run of this task was processed", is_listed=True)
        reason = (
            "no effect maps of this task are stored. They are stored with activation.kinds=glm and"
            " --level standard or full"
        )
        return Exclusion(reason=reason)
    if (label, context.task) in members.uncombined:
        reason = members.uncombined[label, context.task]
        return Exclusion(reason=reason, is_listed=True)
    contrast, series, fwhm_mm, _ = key
    for maps in stored:
        if contrast in (reasons := members.unequal.get(maps.name, {})):
            return Exclusion(reason=reasons[contrast], is_listed=True)
    effects = [maps for maps in context.effects if maps.participant == label]
    unavailable = [
        reason for maps in effects if (reason := maps.explain_unavailable(context.space))
    ]
    if unavailable and len(unavailable) == len(effects):
        return Exclusion(reason="; ".join(dict.fromkeys(unavailable)))
    keys = {key for maps in effects for key in maps.map_keys()}
    if not any(other[0] == contrast for other in keys):
        return Exclusion(reason=f"no map of the contrast {contrast} is stored")
    if not any(other[:2] == (contrast, series) for other in keys):
        return Exclusion(reason=f"no map of {series} is stored for the contrast {contrast}")
    return Exclusion(
        reason=f"no effect map of {contrast} ({series}) smoothed with {fwhm_mm:g} mm is stored in"
        f" a usable space"
    )


def _sparse_notes(records: Sequence[GroupMapRecord]) -> Iterator[str]:
    """Yield a sentence per series and number of participants on maps that cannot be tested."""
    contrasts: dict[tuple[str, int], list[str]] = {}
    for record in records:
        if (count := len(record.members)) < LEAST_PARTICIPANTS:
            contrasts.setdefault((record.key[1], count), []).append(record.key[0])
    for (series, count), names in contrasts.items():
        yield (
            f"group maps of {series} for task {records[0].task}, {', '.join(names)}:"
            f" {too_few_text(count)}"
        )


def too_few_text(count: int) -> str:
    """Explain that the number of participants is too small for a test."""
    return (
        f"at least {LEAST_PARTICIPANTS} participants are required, but only"
        f" {format_count(count, 'participant')} can be included"
    )
