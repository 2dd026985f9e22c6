"""Odd groups, each with its expected result: one row of `KINDS` per kind.

A kind takes random numbers and a group in memory that is not yet written, and alters the group.
The expected result is computed from the final group (`_odd_groups_truth`), so that kinds can be
combined. A case is a number and a seed, which determine its kinds and random numbers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from _odd_groups_scene import (
    ACQUIRED,
    SBL,
    Call,
    Contrast,
    Damage,
    Folders,
    Group,
    Participant,
    Region,
    Run,
    Stored,
    load_grid,
    write_group,
)
from _odd_groups_truth import FOREIGN, AmbiguousError, Truth, check_results, expect, snapshot
from _odd_inputs_run import Outcome, draw_kinds, run_in_child
from _spoiled_files import pick

Rng = np.random.Generator
Alter = Callable[[Rng, Group], None]
Stage = Literal["runs", "participants", "effects", "files", "call", "earlier"]
STAGES: tuple[Stage, ...] = ("runs", "participants", "effects", "files", "call", "earlier")
"""Order in which the kinds of a case alter a group."""
SESSIONS = (("pre", "post"), ("1", "10"), ("A", "AB"))
"""Labels of two sessions, some with the same beginning."""
ATTEMPTS = 60  # draws of random numbers until the rules define the result
MOST_FAULTS = 6  # faults of a case that are reported

THUMB = Contrast("thumb", "thumb", {"thumb": 1.0})
LITTLE = Contrast("little", "little", {"little": 1.0})
MEAN = Contrast("all", "all", {"thumb": 0.5, "little": 0.5})
OTHER_MEAN = Contrast("all", "all", {"thumb": 0.5, "little": 0.5, "index": 0.5})
DIFFERENCE = Contrast("difference", "thumbMinusLittle", {"thumb": 1.0, "little": -1.0})
OPPOSITE = Contrast("difference", "littleMinusThumb", {"little": 1.0, "thumb": -1.0}, sign=-1)
EXTRA = Contrast("index", "index", {"index": 1.0})
TYPE_NAMED_COMPONENT = Contrast("component1", "component1", {"component1": 1.0})
COMPONENTS = [Contrast(f"component{number}", f"component{number}", {}) for number in (1, 2)]
SEEDS = [Contrast(name, name, {}) for name in ("motor", "visual")]


class UnfittingError(ValueError):
    """A kind cannot alter this group."""


@dataclass(frozen=True)
class GroupKind:
    """One row of the table.

    `touches`: parts of a group that the kind alters; kinds with a common part are not combined.
    """

    name: str
    alter: Alter
    touches: frozenset[str]
    stage: Stage


KINDS: dict[str, GroupKind] = {}


def kind(stage: Stage, *touches: str) -> Callable[[Alter], Alter]:
    """Enter a function in `KINDS`."""

    def enter(alter: Alter) -> Alter:
        name = alter.__name__
        KINDS[name] = GroupKind(name, alter, frozenset(touches), stage)
        return alter

    return enter


# --- helpers


def draw_group(rng: Rng) -> Group:
    """Return a group of 3 to 12 participants with one run and one or two contrasts.

    Every second participant has maps in signal units, as of an earlier version.
    """
    pairs = ([THUMB], [MEAN], [THUMB, LITTLE], [LITTLE, MEAN])
    contrasts = pairs[int(rng.integers(len(pairs)))]
    style = pick(rng, ("sub-{:02d}", "sub-{}", "sub-B{:02d}"))
    group = Group()
    for number in range(1, int(rng.integers(3, 13)) + 1):
        run = Run(
            contrasts=[*contrasts],
            signal=pick(rng, (500.0, 1000.0, 1500.0)),
            in_percent=number % 2 == 1,
        )
        level = float(rng.uniform(0.4, 1.6))
        group.participants.append(Participant(style.format(number), level, runs=[run]))
    return group


def _next_label(group: Group) -> str:
    """Return the label after the last participant's."""
    last = group.participants[-1].label
    digits = last.lstrip("sub-B")
    return f"{last.removesuffix(digits)}{int(digits) + 1:0{len(digits)}d}"


def _choose(rng: Rng, items: Sequence[Participant], least: int, most: int) -> list[Participant]:
    """Draw a number of participants."""
    if len(items) < least:
        raise UnfittingError("too few participants")
    count = int(rng.integers(least, min(most, len(items)) + 1))
    return [items[int(index)] for index in rng.permutation(len(items))[:count]]


def _copy(rng: Rng, run: Run, *, session: str = "", number: str = "", variant: str = "") -> Run:
    """Return a copy of a run with another effect and other entities, if they are given."""
    copied = deepcopy(run)
    copied.session = session or run.session
    copied.number = number or run.number
    copied.variant = variant or run.variant
    copied.shift = float(rng.uniform(-0.3, 0.3))
    return copied


def _task_runs(group: Group) -> list[Run]:
    """Return all runs with events."""
    return [
        run for participant in group.participants for run in participant.runs if not run.at_rest
    ]


def _ensure(group: Group, *contrasts: Contrast) -> None:
    """Add contrasts to all runs with events that lack them."""
    for run in _task_runs(group):
        names = {contrast.name for contrast in run.contrasts}
        run.contrasts += [contrast for contrast in contrasts if contrast.name not in names]


# --- runs


@kind("runs", "size")
def few_participants(rng: Rng, group: Group) -> None:
    """Keep two to four participants."""
    del group.participants[int(rng.integers(2, 5)) :]


def _split_sessions(rng: Rng, group: Group, labels: Sequence[str]) -> None:
    """Repeat all runs in sessions; up to half of the participants lack a session."""
    for participant in group.participants:
        participant.runs = [
            _copy(rng, run, session=label) for label in labels for run in participant.runs
        ]
    for participant in _choose(rng, group.participants, 0, len(group.participants) // 2):
        missing = pick(rng, labels)
        participant.runs = [run for run in participant.runs if run.session != missing]


@kind("runs", "sessions")
def pooled_sessions(rng: Rng, group: Group) -> None:
    """Select all of two or three sessions, or two of three."""
    labels = pick(rng, (("pre", "post"), ("1", "10"), ("pre", "mid", "post")))
    _split_sessions(rng, group, labels)
    if rng.random() < 0.5:
        group.call.sessions = tuple(sorted(labels)[:2])


@kind("runs", "sessions")
def one_session(rng: Rng, group: Group) -> None:
    """Select one of two sessions."""
    labels = pick(rng, SESSIONS)
    _split_sessions(rng, group, labels)
    group.call.sessions = (pick(rng, labels),)


@kind("runs", "sessions")
def only_session(rng: Rng, group: Group) -> None:
    """Have a single session, which is selected or not."""
    for run in _task_runs(group):
        run.session = "pre"
    if rng.random() < 0.5:
        group.call.sessions = ("pre",)


@kind("runs", "sessions", "earlier")
def sessions_one_by_one(rng: Rng, group: Group) -> None:
    """Call the program for one session or for all, and then for another session or for all."""
    labels = pick(rng, SESSIONS)
    _split_sessions(rng, group, labels)
    selections = [(labels[0],), (labels[1],), ()]
    first, second = (selections[int(index)] for index in rng.permutation(3)[:2])
    group.earlier_call, group.call.sessions = Call(sessions=first), second


def _split_runs(rng: Rng, participants: Sequence[Participant], count: int = 2) -> None:
    for participant in participants:
        participant.runs = [
            _copy(rng, run, number=str(number))
            for run in participant.runs
            for number in range(1, count + 1)
        ]


@kind("runs", "runs")
def two_runs(rng: Rng, group: Group) -> None:
    """Have two runs of all participants, or of some."""
    _split_runs(rng, _choose(rng, group.participants, 1, len(group.participants)))


@kind("participants", "runs", "stored")
def one_of_two_runs(rng: Rng, group: Group) -> None:
    """Select the first of two runs; some participants have stored maps of both."""
    _split_runs(rng, group.participants)
    for participant in _choose(rng, group.participants, 0, len(group.participants)):
        _store(rng, participant)
    group.call.runs = ("1",)


def _store(rng: Rng, participant: Participant) -> None:
    """Add stored maps of all runs, or of the runs of each session."""
    is_over_sessions = rng.random() < 0.7
    for variant in dict.fromkeys(run.variant for run in participant.runs):
        runs = [run for run in participant.runs if run.variant == variant]
        factor = float(rng.uniform(1.2, 1.6))
        sessions = dict.fromkeys(run.session for run in runs)
        if len(sessions) > 1 and is_over_sessions:
            participant.stored.append(Stored(runs, factor=factor))
            continue
        for session in sessions:
            of_session = [run for run in runs if run.session == session]
            if len(of_session) > 1:
                participant.stored.append(Stored(of_session, session, factor))


@kind("participants", "runs", "stored")
def stored_maps(rng: Rng, group: Group) -> None:
    """Have stored maps of all runs of most participants; some maps are outdated."""
    _split_runs(rng, group.participants)
    for participant in _choose(rng, group.participants, 1, len(group.participants)):
        _store(rng, participant)
        if rng.random() < 0.3:
            _outdate(rng, participant)


@kind("participants", "sessions", "stored")
def stored_over_sessions(rng: Rng, group: Group) -> None:
    """Have stored maps of both sessions of most participants; select both sessions or one."""
    _split_sessions(rng, group, ("pre", "post"))
    group.call.sessions = pick(rng, ((), (), ("pre",)))
    for participant in _choose(rng, group.participants, 1, len(group.participants)):
        if len({run.session for run in participant.runs}) > 1:
            _store(rng, participant)


def _outdate(rng: Rng, participant: Participant) -> None:
    """Remove a run after the maps of all runs were stored, or add one."""
    last = participant.runs[-1]
    if len(participant.runs) > 2 or rng.random() < 0.5:
        participant.runs.append(_copy(rng, last, number="3"))
    else:
        for stored in participant.stored:
            stored.runs = [*stored.runs, _copy(rng, last, number="3")]


@kind("runs", "series")
def two_series(rng: Rng, group: Group) -> None:
    """Have maps of a second series, of all participants or of some."""
    for participant in _choose(rng, group.participants, 1, len(group.participants)):
        for run in participant.runs:
            run.series.append(SBL)


@kind("runs", "variant")
def variants(rng: Rng, group: Group) -> None:
    """Have another acquisition, of all participants or of some, or in addition."""
    replaces = rng.random() < 0.4
    for participant in _choose(rng, group.participants, 1, len(group.participants)):
        others = [_copy(rng, run, variant="acq-mb") for run in participant.runs]
        participant.runs = others if replaces else [*participant.runs, *others]


@kind("effects", "tasks")
def two_tasks(rng: Rng, group: Group) -> None:
    """Have a second task of some participants; sometimes, only the first task is selected."""
    for participant in _choose(rng, group.participants, 1, len(group.participants)):
        others = [_copy(rng, run) for run in participant.runs]
        for run in others:
            run.task = "grip"
        participant.runs += others
    if rng.random() < 0.3:
        group.call.tasks = ("tap",)


def _add_rest(rng: Rng, group: Group, contrasts: Sequence[Contrast]) -> None:
    """Add runs at rest with the sessions and numbers of the other runs."""
    for participant in _choose(rng, group.participants, 2, len(group.participants)):
        others = [_copy(rng, run) for run in participant.runs]
        for run in others:
            run.task, run.at_rest, run.contrasts = "rest", True, [*contrasts]
        participant.runs += others


@kind("effects", "tasks")
def components(rng: Rng, group: Group) -> None:
    """Have runs at rest with independent components."""
    _add_rest(rng, group, COMPONENTS)


@kind("effects", "tasks")
def seeds_at_rest(rng: Rng, group: Group) -> None:
    """Have runs at rest with seeds."""
    _add_rest(rng, group, SEEDS)


# --- participants


@kind("participants", "gone")
def gone(rng: Rng, group: Group) -> None:
    """Keep the results of participants who were taken out of the data set."""
    source = group.participants[0]
    for _ in range(int(rng.integers(1, 4))):
        leftover = deepcopy(source)
        leftover.label, leftover.level = _next_label(group), 40.0
        leftover.in_folders = leftover.in_table = False
        group.participants.append(leftover)


@kind("participants", "listing")
def listed_in_one_place(rng: Rng, group: Group) -> None:
    """Have participants with results without a folder, or without a row in participants.tsv."""
    for participant in _choose(rng, group.participants, 1, 4):
        participant.in_folders = rng.random() < 0.5
        participant.in_table = not participant.in_folders


@kind("participants", "absent")
def without_results(rng: Rng, group: Group) -> None:
    """List one or two participants without results."""
    for _ in range(int(rng.integers(1, 3))):
        participant = Participant(_next_label(group), 1.0)
        participant.in_folders, participant.in_table = pick(
            rng, ((True, True), (True, False), (False, True))
        )
        participant.has_empty_output = rng.random() < 0.3
        group.participants.append(participant)


# --- effects


@kind("effects", "named")
def type_named_component(rng: Rng, group: Group) -> None:
    """Have a trial type with the name of a component."""
    _ensure(group, TYPE_NAMED_COMPONENT)


@kind("effects", "difference")
def opposite_names(rng: Rng, group: Group) -> None:
    """Name a difference in the opposite order in some participants."""
    _ensure(group, DIFFERENCE)
    with_results = [one for one in group.participants if one.runs]
    for participant in _choose(rng, with_results, 1, len(with_results)):
        for run in participant.runs:
            run.contrasts = [
                OPPOSITE if contrast is DIFFERENCE else contrast for contrast in run.contrasts
            ]


@kind("effects", "weights")
def unequal_weights(rng: Rng, group: Group) -> None:
    """Compute the mean of three trial types instead of two in some participants."""
    _ensure(group, MEAN)
    with_results = [one for one in group.participants if one.runs]
    for participant in _choose(rng, with_results, 1, max(1, len(with_results) // 2)):
        for run in participant.runs:
            run.contrasts = [
                OTHER_MEAN if contrast.name == MEAN.name else contrast
                for contrast in run.contrasts
            ]


@kind("effects", "lacks")
def lacking_contrast(rng: Rng, group: Group) -> None:
    """Lack a contrast in some participants."""
    _ensure(group, EXTRA)
    with_results = [one for one in group.participants if one.runs]
    for participant in _choose(rng, with_results, 1, len(with_results) - 1):
        for run in participant.runs:
            run.contrasts = [one for one in run.contrasts if one.name != EXTRA.name]


@kind("effects", "coverage")
def zero_contrast(rng: Rng, group: Group) -> None:
    """Have a contrast that is 0 everywhere in one or two participants."""
    _ensure(group, THUMB, LITTLE)
    with_results = [one for one in group.participants if one.runs]
    for participant in _choose(rng, with_results, 1, 2):
        for run in participant.runs:
            run.zero = {LITTLE.key}


def _slab(rng: Rng, share: float) -> Region:
    """Return a slab with approximately a share of the extent of the brain."""
    axis = int(rng.integers(3))
    indices = load_grid().indices[axis]
    first, last = int(indices.min()), int(indices.max()) + 1
    length = max(2, round(share * (last - first)))
    start = first + int(rng.integers(0, last - first - length + 1))
    return axis, start, start + length


@kind("effects", "coverage")
def slab_of_some(rng: Rng, group: Group) -> None:
    """Have slabs that miss a large or small part of the brain in one to three participants."""
    with_results = [one for one in group.participants if one.runs]
    for participant in _choose(rng, with_results, 1, 3):
        region = _slab(rng, float(rng.choice([0.15, 0.3, 0.6, 0.9])))
        for run in participant.runs if rng.random() < 0.7 else participant.runs[:1]:
            run.region = region


@kind("effects", "coverage")
def two_heights(rng: Rng, group: Group) -> None:
    """Have slabs at two heights without a common voxel."""
    upper = rng.random() < 0.5
    for index, participant in enumerate(group.participants):
        for run in participant.runs:
            run.region = (2, 20, 30) if (index % 2 == 0) == upper else (2, 60, 70)


@kind("effects", "coverage")
def different_edges(rng: Rng, group: Group) -> None:
    """Have a slightly different field of view in each run."""
    for participant in group.participants:
        for run in participant.runs:
            run.region = _slab(rng, float(rng.uniform(0.9, 1.0)))


# --- files


@kind("files", "files")
def without_maps(rng: Rng, group: Group) -> None:
    """Have tables but no maps of one to three participants."""
    for participant in _choose(rng, group.with_results(), 1, 3):
        participant.stored.clear()
        for run in participant.runs:
            run.absent.add("maps")


@kind("files", "files")
def without_images(rng: Rng, group: Group) -> None:
    """Have no brain mask, no boldref, or none of both, of one or two participants."""
    for participant in _choose(rng, group.with_results(), 1, 2):
        absent: tuple[str, ...] = pick(rng, (("mask",), ("boldref",), ("mask", "boldref")))
        for run in participant.runs:
            run.absent.update(absent)


def _damage(rng: Rng, group: Group, participant: Participant, role: str, how: str) -> None:
    """Damage a file of a run of a participant, or of the stored maps that replace the runs."""
    runs = [
        run
        for run in participant.runs
        if group.call.selects(participant, run) and not run.at_rest and run.contrasts
    ]
    if not runs:
        raise UnfittingError("no run with maps")
    run = pick(rng, runs)
    name, series = pick(rng, run.contrasts).name, pick(rng, run.series)
    if participant.stored and role in ("effect", "sidecar"):
        pick(rng, participant.stored).damage.append(Damage(role, how, name, series))
    elif role == "effect":
        run.damage.append(Damage(role, how, name, series))
    else:
        run.damage.append(Damage(role, how))


@kind("files", "damage")
def cannot_open(rng: Rng, group: Group) -> None:
    """Have one or two files that cannot be opened."""
    roles = {
        "effect": ("link", "loop", "empty", "head", "text"),
        "mask": ("link", "empty", "head", "text"),
        "boldref": ("link", "empty", "head", "text"),
        "table": ("link", "empty", "head", "row"),
        "sidecar": ("link", "empty", "head"),
    }
    for participant in _choose(rng, group.with_results(), 1, 2):
        role = pick(rng, ("effect", *roles))
        _damage(rng, group, participant, role, pick(rng, roles[role]))


@kind("files", "damage")
def cut_data(rng: Rng, group: Group) -> None:
    """Have images of one or two participants whose data are cut."""
    for participant in _choose(rng, group.with_results(), 1, 2):
        _damage(
            rng, group, participant, pick(rng, ("effect", "effect", "mask", "boldref")), "half"
        )


@kind("files", "damage")
def not_a_number(rng: Rng, group: Group) -> None:
    """Have NaN or infinity in images of one or two participants."""
    for participant in _choose(rng, group.with_results(), 1, 2):
        role = pick(rng, ("effect", "effect", "boldref"))
        _damage(rng, group, participant, role, pick(rng, ("nan", "voxel", "infinite")))


# --- call


@kind("call", "flips")
def permutations(rng: Rng, group: Group) -> None:
    """Correct for multiple comparisons with few or many sign flips."""
    group.call.flips = int(rng.choice([20, 50, 100]))


@kind("call", "running")
def running(rng: Rng, group: Group) -> None:
    """Call the group level while a participant is being processed."""
    group.running = pick(rng, [one for one in group.participants if one.is_listed]).label


@kind("call", "encoding")
def other_encoding(rng: Rng, group: Group) -> None:
    """Write participants.tsv in another encoding, with a participant without results."""
    group.encoding = pick(rng, ("latin-1", "utf-16", "utf-8-sig"))
    group.line_end = pick(rng, ("\n", "\r\n"))
    label = _next_label(group)
    group.participants.append(Participant(label, 1.0, in_folders=False))


@kind("call", "encoding")
def other_list(rng: Rng, group: Group) -> None:
    """Have labels without prefix, n/a or repeated rows in participants.tsv, or only folders."""
    group.prefix = pick(rng, ("", "sub-"))
    if rng.random() < 0.5:
        group.more_labels.append("n/a")
    if rng.random() < 0.5:
        listed = [one.label for one in group.participants if one.in_table]
        group.more_labels.append(pick(rng, listed))
    group.has_table = rng.random() < 0.7
    for participant in group.participants if not group.has_table else ():
        participant.in_table = False


@kind("call", "selection")
def selected_participants(rng: Rng, group: Group) -> None:
    """Select some participants."""
    with_results = group.with_results()
    chosen = _choose(rng, with_results, 2, len(with_results))
    group.call.participants = tuple(sorted(one.label for one in chosen))


@kind("earlier", "earlier")
def earlier_call(rng: Rng, group: Group) -> None:
    """Call the program before with more participants, contrasts, series or permutations."""
    earlier = _without_faults(group)
    earlier.call.participants = earlier.call.tasks = ()
    while True:
        changes = rng.random(4) < 0.5
        if changes.any():
            break
    for participant in earlier.participants:
        if not participant.is_listed:  # taken out of the data set after the call
            participant.in_folders = participant.in_table = True
    if changes[0]:
        source = next(one for one in earlier.participants if one.runs)
        for _ in range(int(rng.integers(1, 3))):
            added = deepcopy(source)
            added.label, added.level = _next_label(earlier), 1.3
            earlier.participants.append(added)
    if changes[1]:
        _ensure(earlier, Contrast("foot", "foot", {"foot": 1.0}))
    if changes[2]:
        earlier.call.flips = 20
    for run in _task_runs(earlier) if changes[3] else ():
        run.series = [ACQUIRED, SBL]
    group.earlier = earlier


def _without_faults(group: Group) -> Group:
    """Return a copy of a group that the program accepts."""
    copied = deepcopy(group)
    copied.running, copied.encoding = "", "utf-8"
    for participant in copied.participants:
        for part in (*participant.runs, *participant.stored):
            part.damage.clear()
    return copied


# --- cases


@dataclass(frozen=True)
class Case:
    """Group, its folders, and its expected result."""

    group: Group
    folders: Folders
    truth: Truth


def kinds_of(number: int, seed: int) -> tuple[GroupKind, ...]:
    """Draw one to three kinds that touch different parts; the first is chosen in order."""
    return draw_kinds([*KINDS.values()], number, seed)


def prepare(number: int, seed: int, kinds: Sequence[GroupKind], folder: Path) -> Case:
    """Return a case of some kinds, whose files are not yet written.

    Random numbers are drawn until the kinds fit and the rules define the result.
    """
    errors = []
    for attempt in range(ATTEMPTS):
        try:
            return _prepare_once((seed, number, attempt), kinds, folder)
        except (UnfittingError, AmbiguousError) as error:
            errors.append(str(error))
    names = ", ".join(entry.name for entry in kinds)
    raise UnfittingError(f"{names} do not fit: {', '.join(dict.fromkeys(errors))}")


def _prepare_once(entropy: tuple[int, int, int], kinds: Sequence[GroupKind], folder: Path) -> Case:
    group = draw_group(np.random.default_rng([*entropy, 0]))
    for index, entry in enumerate(sorted(kinds, key=lambda kind: STAGES.index(kind.stage))):
        entry.alter(np.random.default_rng([*entropy, 1 + index]), group)
    folders = Folders(folder)
    if group.earlier_call is not None:
        group.earlier = _without_faults(group)
        group.earlier.call = group.earlier_call
    if group.earlier is not None:
        truth = expect(group.earlier, folders)
        if truth.refused or truth.may_refuse:
            raise UnfittingError("the earlier call may be refused")
    return Case(group, folders, expect(group, folders))


def run_case(number: int, seed: int, folder: Path, kinds: Sequence[GroupKind] = ()) -> Outcome:
    """Write a case, run the program and check its results."""
    start_times = os.times()
    chosen = tuple(kinds or kinds_of(number, seed))
    # a new path per case, because the program may remember contents of files
    case_folder = folder / f"case-{number}"
    shutil.rmtree(case_folder, ignore_errors=True)
    while True:
        try:
            case = prepare(number, seed, chosen, case_folder)
            break
        except UnfittingError:
            if len(chosen) == 1:
                raise
            chosen = chosen[:-1]
    case_folder.mkdir(parents=True)
    result, faults = judge(case)
    names = tuple(entry.name for entry in chosen)
    # published tables must not contain paths of a machine
    wrong = "; ".join(faults[:MOST_FAULTS]).replace(str(folder), "FOLDER")
    end_times = os.times()
    seconds = round(sum(end_times[:4]) - sum(start_times[:4]), 1)
    return Outcome(number, names, "group", result, wrong, seconds)


def warm_up(folder: Path) -> None:
    """Import everything that the group level needs, before anything is forked."""
    group = draw_group(np.random.default_rng(0))
    folders = Folders(folder / "warm")
    folders.root.mkdir(parents=True, exist_ok=True)
    write_group(group, folders)
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        _run_program(folders, [*group.call.options(), "--set", "evaluation.group_permutations=4"])
    shutil.rmtree(folders.root)


def _run_program(folders: Folders, options: Sequence[str]) -> int:
    from bids_sr.cli.main import main

    # the handler of an earlier call writes to its standard error
    logging.getLogger().handlers.clear()
    fixed = ["group", "--nprocs", "1", "-w", str(folders.root / "work")]
    return main([str(folders.bids), str(folders.out), *fixed, *options])


def _call(folders: Folders, call: Call, *options: str) -> tuple[int, str]:
    """Call the program in a child process, and return its exit code and console text."""
    log = folders.root / "log"
    arguments = [*call.options(), *options]
    code = run_in_child(lambda: _run_program(folders, arguments), log, folders.root)
    return code, log.read_text(encoding="utf-8", errors="replace")


def judge(case: Case) -> tuple[str, list[str]]:
    """Write the files of a case, run the program, and return the outcome and its faults."""
    group, folders, truth = case.group, case.folders, case.truth
    faults = []
    if group.earlier is not None:
        write_group(group.earlier, folders)
        code, text = _call(folders, group.earlier.call)
        if code:
            faults.append(f"the earlier call ended with {code}: {_last_words(text)}")
    write_group(group, folders)
    before = snapshot(folders)
    _write_foreign(folders)
    files = _list_files(folders)
    with _process(group, folders):
        dry_code, dry_text = _call(folders, group.call, "--dry-run")
        if added := sorted(_list_files(folders) ^ files):
            faults.append(f"the dry run wrote or removed {', '.join(added[:3])}")
        code, text = _call(folders, group.call)
    for name, one_code, one_text in (("dry run", dry_code, dry_text), ("run", code, text)):
        if one_code not in (0, 2) or "Traceback" in one_text:
            faults.append(f"{name} with exit code {one_code}: {_last_words(one_text)}")
    for name in FOREIGN:
        path = folders.out / name
        if not path.exists() or path.read_text(encoding="utf-8") != name:
            faults.append(f"{name}, which no call wrote, was changed or removed")
    if faults and code not in (0, 2):
        return f"exit code {code}", faults
    if dry_code != code:
        faults.append(f"dry run with exit code {dry_code}, run with {code}")
    if code == 2:
        faults += _check_refusal(truth, dry_text if dry_code == 2 else text, text)
        if snapshot(folders) != before:
            faults.append("a refused call changed results of an earlier call")
        return "refused", faults
    if truth.refused:
        faults.append(f"accepted, and has to be refused because of {truth.refused[0]}")
        return "accepted", faults
    faults += check_results(group, truth, folders, text, before)
    has_maps = any(expected.has_map for expected in truth.maps.values())
    return "maps" if has_maps else "no map", faults


def _write_foreign(folders: Folders) -> None:
    for name in FOREIGN:
        path = folders.out / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name, encoding="utf-8")


def _list_files(folders: Folders) -> set[str]:
    """Return the paths of all files of the output folder except locks."""
    return {
        str(path.relative_to(folders.out))
        for path in folders.out.rglob("*")
        if "locks" not in path.parts and not path.is_dir()
    }


@contextlib.contextmanager
def _process(group: Group, folders: Folders):  # type: ignore[no-untyped-def]
    """Hold the lock of the participant who is being processed, if there is one."""
    if not group.running:
        yield
        return
    from bids_sr.config.lock import output_lock

    labels = [group.running.removeprefix("sub-")]
    with output_lock(folders.out, None, participants=labels, run_uuid="20260101-000000_other"):
        yield


def _check_refusal(truth: Truth, *texts: str) -> list[str]:
    """Return what is wrong with the messages of a refused call."""
    faults = []
    for text in texts:
        joined = "".join(text.split())  # the console wraps lines, also at hyphens
        patterns = [*map(re.escape, truth.refused), *filter(None, [truth.may_refuse])]
        if not patterns:
            faults.append(f"refused, and is sound: {_last_words(text)}")
        elif not any(re.search(pattern, joined) for pattern in patterns):
            faults.append(f"the message has none of {patterns}: {_last_words(text)}")
    return list(dict.fromkeys(faults))


def _last_words(text: str) -> str:
    return " ".join(text.split())[-300:]
