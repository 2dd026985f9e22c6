"""Kinds of odd inputs, each with its expected result: one row of `KINDS` per kind.

A kind takes random numbers, a scene that is not yet written, and the expected result so far. It
alters both. Kinds that touch different parts of a data set can be combined.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import nibabel as nb
import numpy as np
from data.simulated_run import (
    EFFECTS,
    NOISE,
    SHAPE,
    STEM,
    ZOOMS,
    Event,
    Scene,
    centered,
    interleaved,
)

Rng = np.random.Generator
Depth = Literal["model", "end"]
"""Preflight and the linear model of the acquired series, or the whole run."""


@dataclass
class Right:
    """Expected result of an altered data set.

    Attributes
    ----------
    refused
        Patterns of messages; exit code 2 with at least one of them is expected.
    may_refuse
        The same for data sets that may also be accepted, with right results.
    notices
        Patterns which all have to appear if the data set is accepted.
    absent
        Patterns that must not appear.
    exact
        Maps equal the unaltered ones times `gain`; if False, they have the known effects.
    values
        Whether maps are checked.
    relative
        Effects are compared relative to the mean signal.
    types
        Trial types of `EFFECTS` that the table has.
    plan
        Further checks of the plan; each returns what is wrong, or "".
    labels
        Pattern of the label of a trial type.
    again
        Change of the written data, after which the program runs a second time.
    shell
        Command line around the program, with ``{}`` for it.
    environment
        Variables of the environment of the program.
    skipped
        Whether a run is skipped; its notice in the record is expected.
    group
        Whether the group level runs after the participants.
    after
        Further checks of the finished run; each returns what is wrong, or "".
    """

    refused: list[str] = field(default_factory=list)
    may_refuse: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    exact: bool = True
    gain: float = 1.0
    values: bool = True
    plan: list[Callable[[Any], str]] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    relative: bool = False
    types: tuple[str, ...] = tuple(EFFECTS)
    again: Callable[[Scene], None] | None = None
    shell: str = "{}"
    environment: dict[str, str] = field(default_factory=dict)
    skipped: bool = False
    group: bool = False
    after: list[Callable[[Scene], str]] = field(default_factory=list)


Alter = Callable[[Rng, Scene, Right], None]


@dataclass(frozen=True)
class Kind:
    """One row of the table.

    `touches`: parts of a data set that the kind alters; kinds with a common part are not combined.
    `depths`: depths that can test the expected result. `fault`: known fault of the
    program.
    """

    name: str
    alter: Alter
    touches: frozenset[str]
    depths: tuple[Depth, ...] = ("model", "end")
    fault: str = ""


KINDS: dict[str, Kind] = {}


def kind(
    *touches: str, depths: tuple[Depth, ...] = ("model", "end"), fault: str = ""
) -> Callable[[Alter], Alter]:
    """Enter a function in `KINDS`."""

    def enter(alter: Alter) -> Alter:
        name = alter.__name__
        KINDS[name] = Kind(name, alter, frozenset(touches), depths, fault)
        return alter

    return enter


def pick(rng: Rng, values: Any) -> Any:
    """Return one of some values unchanged (numpy would change its type)."""
    values = list(values)
    return values[int(rng.integers(len(values)))]


# --- timing of the acquisition


def _spaced(rng: Rng, scene: Scene, *, gap: tuple[float, float], length: float) -> list[Event]:
    """Return events of both types in random order, `gap` (s) apart, to the end of the run."""
    end, onset, events = scene.n_volumes * scene.tr - 12, 4.0, list[Event]()
    while onset < end:
        events.append((round(onset, 2), length, tuple(EFFECTS)[int(rng.integers(2))]))
        onset += length + float(rng.uniform(*gap))
    return events


def _with_gap(rng: Rng, scene: Scene, tr: float, acquisition: float) -> None:
    """Acquire all slices within the first seconds of each volume, with or without slice times."""
    scene.tr, scene.slice_times = tr, interleaved(SHAPE[2], acquisition)
    scene.sidecar["DelayTime"] = tr - acquisition
    if rng.random() < 0.5:
        scene.sidecar["SliceTiming"] = None


@kind("time", "events")
def sparse_blocks(rng: Rng, scene: Scene, right: Right) -> None:
    """Acquire volumes with a silent gap, as for sounds; blocks last two volumes or more."""
    _with_gap(rng, scene, pick(rng, (6.0, 8.0, 10.0)), pick(rng, (1.5, 2.0)))
    scene.events = _spaced(rng, scene, gap=(2 * scene.tr, 3 * scene.tr), length=2 * scene.tr)
    right.exact = False


@kind("time", "events")
def sounds_in_the_gap(rng: Rng, scene: Scene, right: Right) -> None:
    """Present one brief event in the silent gap of each volume."""
    scene.n_volumes = 90
    _with_gap(rng, scene, 10.0, 2.0)
    types = rng.permutation(np.repeat([*EFFECTS, ""], scene.n_volumes // 3))
    scene.events = [(10.0 * k + 4, 4.0, str(name)) for k, name in enumerate(types) if name]
    right.exact = False


@kind("time", "events")
def clustered_slices(rng: Rng, scene: Scene, right: Right) -> None:
    """Acquire volumes with a gap that is shorter than the response."""
    _with_gap(rng, scene, pick(rng, (3.0, 4.0)), 1.0)
    scene.n_volumes = 80
    scene.events = _spaced(rng, scene, gap=(10, 14), length=12.0)
    right.exact = False


@kind("time")
def corrected_already(rng: Rng, scene: Scene, right: Right) -> None:
    """Mark slice timing as corrected to the moment StartTime; SliceTiming may remain."""
    moment = float(rng.choice([0.0, 0.5, 0.93, 1.8]))
    listed = [float(time) for time in scene.slice_times]
    scene.slice_times = np.full(SHAPE[2], moment)
    is_listed = rng.random() < 0.7
    scene.sidecar |= {"SliceTimingCorrected": True, "StartTime": moment}
    scene.sidecar["SliceTiming"] = listed if is_listed else None
    if is_listed:
        right.notices.append("because SliceTimingCorrected is true")
    right.exact = False


@kind("time")
def no_slice_timing(rng: Rng, scene: Scene, right: Right) -> None:
    """Remove the slice times, or make them unusable."""
    scene.sidecar["SliceTiming"] = pick(rng, (None, [], [0.1] * 5, "n/a"))
    right.exact = False


@kind("time")
def volumes_with_a_pause(rng: Rng, scene: Scene, right: Right) -> None:
    """List a pause in the middle in VolumeTiming."""
    times = scene.tr * np.arange(scene.n_volumes)
    times[int(rng.integers(20, 40)) :] += float(rng.uniform(3, 20))
    scene.volume_times = times
    scene.sidecar["VolumeTiming"] = times.tolist()
    if rng.random() < 0.5:
        scene.sidecar["RepetitionTime"] = None
    right.refused.append("VolumeTiming")


@kind("time")
def volumes_listed(rng: Rng, scene: Scene, right: Right) -> None:
    """List equal intervals in VolumeTiming, instead of RepetitionTime or in addition."""
    scene.sidecar["VolumeTiming"] = (scene.tr * np.arange(scene.n_volumes)).tolist()
    if rng.random() < 0.7:
        scene.sidecar["RepetitionTime"] = None


# --- events tables


def _other_columns(rng: Rng, scene: Scene, name: str, cells: list[str]) -> None:
    at = int(rng.integers(len(scene.columns) + 1))
    scene.columns.insert(at, name)
    for row, cell in zip(scene.rows or [], cells, strict=True):
        row.insert(at, cell)


@kind("table")
def quotation_marks(rng: Rng, scene: Scene, right: Right) -> None:
    """Add a column of free text with quotation marks that are never closed."""
    words = ('"no', 'so "so', 'yes"', '"quoted"', '"', "it's", "''", 'a ""b')

    def alter(scene: Scene) -> None:
        count = len(scene.rows or [])
        cells = [pick(rng, words) if rng.random() < 0.4 else "yes" for _ in range(count)]
        _other_columns(rng, scene, pick(rng, ("said", "response", '"odd"', "comment")), cells)
        if rng.random() < 0.4:
            scene.rows = [
                [f'"{cell}"' if '"' not in cell else cell for cell in row]
                for row in scene.rows or []
            ]

    scene.tables.append(alter)


@kind("table")
def duplicated_columns(rng: Rng, scene: Scene, right: Right) -> None:
    """Write two columns with the same name."""
    name = pick(rng, ("trial_type", "onset", "duration"))

    def alter(scene: Scene) -> None:
        rows = scene.rows or []
        cells = ["5" if name != "trial_type" else "go" for _ in rows]
        _other_columns(rng, scene, name, cells)

    scene.tables.append(alter)
    right.refused.append(rf"several columns have the name '{name}'")


@kind("table")
def repeated_rows(rng: Rng, scene: Scene, right: Right) -> None:
    """List some events twice or three times, as in a table joined with itself."""
    share = float(rng.choice([0.2, 0.5, 1.0]))

    def alter(scene: Scene) -> None:
        rows = scene.rows or []
        again = [row for row in rows if rng.random() < share] or rows[:1]
        scene.rows = rows + again
        if rng.random() < 0.5:
            scene.rows = sorted(scene.rows, key=lambda row: float(row[0]))

    scene.tables.append(alter)
    right.notices.append("have the same onset, duration and trial_type")


@kind("table")
def rows_without_time(rng: Rng, scene: Scene, right: Right) -> None:
    """Add rows without onset or duration, rows of rest, and late rows."""

    def alter(scene: Scene) -> None:
        rows = scene.rows or []
        extra = [["n/a", "2", "thumb"], ["4", "n/a", "little"], ["7", "", "thumb"]]
        scene.rows = [*rows, *(row for row in extra if rng.random() < 0.7), extra[0]]
        scene.rows += [
            [f"{k}", "3", pick(rng, ("rest", "baseline", "n/a", "fixation"))] for k in (1, 90)
        ]

    scene.tables.append(alter)
    right.notices.append("onset or duration is n/a")


@kind("table")
def late_rows(rng: Rng, scene: Scene, right: Right) -> None:
    """Add a few events after the last volume."""

    def alter(scene: Scene) -> None:
        end = scene.n_volumes * scene.tr
        late = [[f"{end + 3 + 5 * k:g}", "4", "thumb"] for k in range(int(rng.integers(1, 4)))]
        scene.rows = [*(scene.rows or []), *late]

    scene.tables.append(alter)
    right.notices.append("after the end of")


@kind("table", "time")
def silent_type(rng: Rng, scene: Scene, right: Right) -> None:
    """Add a type whose only event begins so late that no volume shows its response."""
    seconds = round(float(rng.uniform(0.5, 2.0)), 1)
    _add_late_type(scene, seconds, pick(rng, ("0.5", "2", "20")))
    right.notices.append("'late' is not modeled because no volume of the run shows its response")
    right.plan.append(lambda plan: _check_mean(plan, scene, without="late"))


@kind("table", "time")
def hardly_observed_type(rng: Rng, scene: Scene, right: Right) -> None:
    """Add a type of which the run contains the first seconds of the response, or the last."""
    if rng.random() < 0.7:
        seconds = round(float(rng.uniform(3.0, 4.2)), 1)
        _add_late_type(scene, seconds, pick(rng, ("1", "2", "20")))
    else:
        _add_late_type(scene, scene.n_volumes * scene.tr + float(rng.integers(14, 20)), "2")
    right.exact = False
    right.notices.append("'late' is modeled but left out of the default contrasts")
    right.plan.append(lambda plan: _check_mean(plan, scene, without="late"))


def _add_late_type(scene: Scene, seconds: float, duration: str) -> None:
    """Add an event of the type ``late`` that begins so many seconds before the end of the run."""

    def alter(scene: Scene) -> None:
        onset = scene.n_volumes * scene.tr - seconds
        scene.rows = sorted(
            [*(scene.rows or []), [f"{onset:g}", duration, "late"]], key=lambda row: float(row[0])
        )

    scene.tables.append(alter)


def _check_mean(plan: Any, scene: Scene, *, without: str) -> str:
    """Return what is wrong with the default contrasts of the only run."""
    (contrasts,) = plan.contrasts.values()
    names = {name for weights in contrasts.values() for name in weights}
    types = {scene.written_name(name) for name in EFFECTS}
    if without in names:
        return f"{without!r} has default contrasts"
    expected = dict.fromkeys(types, 1 / len(types))
    return "" if contrasts.get("all") == expected else f"all is {contrasts.get('all')}"


@kind("table", "types")
def same_moments(rng: Rng, scene: Scene, right: Right) -> None:
    """List the events of one type again under another name, at nearly or exactly the same time."""
    shift = float(rng.choice([0.0, 0.0, 0.05]))
    repeated, other = (str(name) for name in rng.permutation(list(EFFECTS)))

    def alter(scene: Scene) -> None:
        rows = scene.rows or []
        again = [
            [f"{float(onset) + shift:.6g}", duration, "cue"]
            for onset, duration, name in rows
            if name == scene.written_name(repeated)
        ]
        scene.rows = sorted([*rows, *again], key=lambda row: float(row[0]))

    def check(plan: Any) -> str:
        (contrasts,) = plan.contrasts.values()
        weights = [dict(weights) for weights in contrasts.values()]
        names = {scene.written_name(repeated), scene.written_name(other), "cue"}
        if len(weights) != 2 or {*contrasts.get("all", {})} != names:
            return f"default contrasts are {weights}"
        return "" if {scene.written_name(other): 1.0} in weights else f"{other} is missing"

    scene.tables.append(alter)
    right.types, right.exact = (other,), right.exact and shift == 0
    right.notices.append("are not computed because the responses to .* cannot be separated")
    right.plan.append(check)


@kind("table", "types")
def summed_type(rng: Rng, scene: Scene, right: Right) -> None:
    """List all events again under a common name."""

    def alter(scene: Scene) -> None:
        rows = scene.rows or []
        again = [[onset, duration, "trial"] for onset, duration, _ in rows]
        scene.rows = [row for pair in zip(again, rows, strict=True) for row in pair]

    scene.tables.append(alter)
    right.notices.append("'trial' is not modeled because it lists the events of")
    right.plan.append(lambda plan: _check_mean(plan, scene, without="trial"))


@kind("table")
def text_format(rng: Rng, scene: Scene, right: Right) -> None:
    """Write a byte order mark, other line ends, spaces around names, and many decimals."""

    def spaced(scene: Scene) -> None:
        scene.rows = [
            [f"{float(o):.9f}", f"{float(d):.3e}", f" {name} "] for o, d, name in scene.rows or []
        ]

    def rewrite(scene: Scene) -> None:
        text = scene.table.read_text(encoding="utf-8")
        end = pick(rng, ("\r\n", "\r", "\n"))
        mark = b"\xef\xbb\xbf" if rng.random() < 0.5 else b""
        scene.table.write_bytes(mark + text.replace("\n", end).encode())

    if rng.random() < 0.5:
        scene.tables.append(spaced)
    scene.edits.append(rewrite)


@kind("table", "events")
def modulated_events(rng: Rng, scene: Scene, right: Right) -> None:
    """Add the column modulation: the strength of each event, or something else."""
    is_used = rng.random() < 0.7
    if is_used:
        scene.amplitudes = [float(rng.choice([0.5, 1.0, 2.0, 3.0])) for _ in scene.events]
        scene.amplitudes[:4] = [1.0, 1.0, 2.0, 2.0]  # both types have two amplitudes

    def alter(scene: Scene) -> None:
        words = [pick(rng, ("high", "low", "1", "n/a")) for _ in scene.rows or []]
        words[0] = "high"
        cells = [f"{value:g}" for value in scene.amplitudes] if is_used else words
        _other_columns(rng, scene, "modulation", cells)

    scene.tables.append(alter)
    right.exact = right.exact and not is_used
    used = "modulation is used as the amplitude of the events"
    right.notices.append(used if is_used else "modulation is not used")


@kind("table")
def decimal_commas(rng: Rng, scene: Scene, right: Right) -> None:
    """Write times with decimal commas."""

    def alter(scene: Scene) -> None:
        scene.rows = [
            [f"{float(o):.2f}".replace(".", ","), d, name] for o, d, name in scene.rows or []
        ]

    scene.tables.append(alter)
    right.refused.append("must be times in seconds")


@kind("events", "time")
def brief_events(rng: Rng, scene: Scene, right: Right) -> None:
    """Present events that are shorter than a fiftieth of TR, or of duration 0."""
    length = float(rng.choice([0.0, 0.001, 0.02, 0.035]))
    scene.n_volumes = 120
    scene.events = _spaced(rng, scene, gap=(9, 13), length=length)
    scene.strength = 6.0 / (length or 1.0)
    right.exact = False


@kind("events", "time")
def many_blocks(rng: Rng, scene: Scene, right: Right) -> None:
    """Present almost as many events as volumes, or more."""
    scene.n_volumes = int(rng.choice([60, 80]))
    interval = float(rng.choice([0.8, 1.0, 1.3])) * scene.tr
    count = int(scene.n_volumes * scene.tr / interval) - 2
    types = rng.permutation(np.resize([*EFFECTS, "", ""], count))
    scene.events = [
        (round(k * interval, 2), min(1.0, interval), str(name))
        for k, name in enumerate(types)
        if name
    ]
    scene.strength = 4.0
    right.exact = False
    right.may_refuse.append("too few|not usable|split")


@kind("names of types")
def numeric_types(rng: Rng, scene: Scene, right: Right) -> None:
    """Use numbers as trial types, whose labels must not be confused."""
    first, second, label = pick(
        rng,
        (
            ("1.5", "15", "1dot5"),
            ("-1", "1", "minus1"),
            ("1", "01", "1"),
            ("2", "2.0", "2"),
            ("0", "-0.5", "0"),
            ("1e3", "1000", "1e3"),
        ),
    )
    scene.names = {"thumb": first, "little": second}
    right.labels["thumb"] = rf"{label}$"


@kind("names of types")
def long_types(rng: Rng, scene: Scene, right: Right) -> None:
    """Use trial types of more than 80 letters that differ at the end."""
    text = "Valid cue of the other category: stimulus of the same size as the one before it, shown"
    scene.names = {"thumb": f"{text} at the left", "little": f"{text} at the right"}


@kind("names of types")
def names_of_columns(rng: Rng, scene: Scene, right: Right) -> None:
    """Use trial types with names of regressors, contrasts, or Python keywords."""
    first, second = pick(
        rng,
        (
            ("all", "typeAll"),
            ("all", "little"),
            ("constant", "drift_1"),
            ("trans_x", "intercept"),
            ("a+b", "a-b"),
            ("a b", "aB"),
            ("a_b", "a.b"),
            ("thumbMinusLittle", "little"),
            ("none", "True"),
            ("forest", "restless"),
            ("=x", "{subject}"),
        ),
    )
    scene.names = {"thumb": first, "little": second}
    if "all" in scene.names.values():
        right.labels["thumb"] = "typeAll"


@kind("names of types")
def accents(rng: Rng, scene: Scene, right: Right) -> None:
    """Use trial types with accents or of other scripts."""
    first, second = pick(rng, (("grün", "rot"), ("левая", "правая"), ("左", "右"), ("é", "e")))
    scene.names = {"thumb": first, "little": second}


@kind("names of types", "table")
def alike_types(rng: Rng, scene: Scene, right: Right) -> None:
    """Write one trial type in two ways that look alike."""
    first, second = pick(
        rng,
        (
            (unicodedata.normalize("NFC", "grün"), unicodedata.normalize("NFD", "grün")),
            ("thumb", "Thumb"),
            ("thumb", "thumb\u200b"),
            ("left\u00a0hand", "left hand"),
        ),
    )

    def alter(scene: Scene) -> None:
        count = 0
        for row in scene.rows or []:
            if row[2] == "thumb":
                row[2] = (first, second)[count % 2]
                count += 1

    scene.tables.append(alter)
    right.values = False
    right.notices.append("alike|differ only|differs? only by|same letters|same text")


# --- values of the series


@kind("values")
def without_mean(rng: Rng, scene: Scene, right: Right) -> None:
    """Subtract the mean, use percent signal change, or make all values negative."""
    variant = pick(rng, ("demeaned", "percent", "negative", "standardized"))

    def change(values: np.ndarray) -> np.ndarray:
        mean = values.mean(-1, keepdims=True)
        return np.asarray(
            {
                "demeaned": values - mean,
                "percent": 100 * (values - mean) / np.maximum(mean, 1),
                "negative": values - values.max() - 1,
                "standardized": (values - mean) / values.std(-1, keepdims=True),
            }[variant]
        )

    scene.series.append(change)
    scene.dtype = "float32"
    right.refused.append("not a magnitude series")


@kind("values", "header")
def phase(rng: Rng, scene: Scene, right: Right) -> None:
    """Name a phase image as a magnitude image."""
    scene.sidecar["ImageType"] = pick(rng, (["ORIGINAL", "PRIMARY", "P"], ["DERIVED", "PHASE"]))
    scene.series.append(lambda values: 4096 * np.random.default_rng(3).random(values.shape))
    right.refused.append("phase image")


@kind("files")
def phase_beside(rng: Rng, scene: Scene, right: Right) -> None:
    """Add the phase of the run; both files have the entity part."""

    def edit(scene: Scene) -> None:
        scene.rename(STEM, f"{STEM}_part-mag")
        path = scene.func / f"{STEM}_part-mag_events.tsv"
        if path.exists():
            path.rename(scene.func / f"{STEM}_events.tsv")
        for suffix in ("bold.nii.gz", "bold.json"):
            source = scene.func / f"{STEM}_part-mag_{suffix}"
            shutil.copy(source, scene.func / f"{STEM}_part-phase_{suffix}")

    scene.edits.append(edit)


@kind("values")
def hot_voxels(rng: Rng, scene: Scene, right: Right) -> None:
    """Make a few voxels outside the head much brighter than the head, always or in one volume."""
    where = np.argwhere(~scene.head)
    chosen = where[rng.choice(len(where), int(rng.integers(1, 4)), replace=False)]
    always, level = bool(rng.random() < 0.5), float(rng.choice([5000, 30000]))
    volume = int(rng.choice([0, 1, 30]))

    def change(values: np.ndarray) -> np.ndarray:
        for x, y, z in chosen:
            values[x, y, z, slice(None) if always else volume] = level
        return values

    scene.series.append(change)
    right.exact = False


@kind("values")
def offset(rng: Rng, scene: Scene, right: Right) -> None:
    """Add a constant to all voxels."""
    added = float(rng.choice([100, 500, 2000, 10000]))
    scene.series.append(lambda values: values + added)
    right.exact = False


@kind("values")
def padding(rng: Rng, scene: Scene, right: Right) -> None:
    """Fill a rim of the field of view with one value."""
    value = float(rng.choice([0, 0, 1, -1, 8, 100, -1024, 32767]))
    rim = int(rng.integers(1, 3))

    def change(values: np.ndarray) -> np.ndarray:
        values[:rim], values[-rim:] = value, value
        values[:, :rim], values[:, -rim:] = value, value
        return values

    scene.series.append(change)
    right.exact = False
    right.may_refuse.append("not a magnitude series|padding")


@kind("values")
def outlier_volumes(rng: Rng, scene: Scene, right: Right) -> None:
    """Spoil one to three volumes, or fill the run up with copies of a volume."""
    variant = pick(
        rng, ("noise", "slice", "unfinished", "gain", "empty", "contrast", "end", "copies")
    )

    def change(values: np.ndarray) -> np.ndarray:
        total = values.shape[-1]
        at = rng.choice(np.arange(2, total), int(rng.integers(1, 4)), replace=False)
        noise = np.abs(rng.normal(0, NOISE, values.shape))
        if variant == "noise":
            values[..., at] = noise[..., at]
        elif variant == "slice":
            z = int(rng.integers(1, values.shape[2] - 1))
            values[:, :, z, at] = noise[:, :, z, at]
        elif variant == "unfinished":
            values[:, :, int(rng.integers(2, 5)) :, -1] = 0
        elif variant == "gain":
            values[..., at] *= rng.choice([0.3, 0.8, 0.93, 1.1, 1.5, 2.5])
        elif variant == "empty":
            values[..., at] = 0
        elif variant == "contrast":
            values[..., at] = np.abs(900 - values[..., at])
        elif variant == "end":
            count = int(rng.integers(2, 7))
            values = np.concatenate([values, noise[..., :count]], -1)
        else:
            count, source = int(rng.integers(1, 9)), int(rng.choice([-1, 5]))
            copies = np.repeat(values[..., source, None], count, -1)
            values = np.concatenate([values, copies], -1)
        return values

    scene.series.append(change)
    right.exact = False
    right.notices.append("do not show the head as the other volumes do")


@kind("values")
def other_units(rng: Rng, scene: Scene, right: Right) -> None:
    """Scale the values, as floating point numbers."""
    gain = float(rng.choice([1e-6, 1e-3, 0.05, 40.0, 1e4, 1e7]))
    scene.series.append(lambda values: np.rint(values) * gain)
    scene.dtype = pick(rng, ("float32", "float64"))
    right.gain = gain


@kind("values")
def other_types(rng: Rng, scene: Scene, right: Right) -> None:
    """Use other data types and byte orders."""
    scene.series.append(np.rint)
    scene.dtype = pick(rng, ("uint16", "int32", "float64", ">i2", ">f4", "uint32", "int64"))


@kind("values")
def not_finite(rng: Rng, scene: Scene, right: Right) -> None:
    """Make the background NaN or infinite."""
    value = float(rng.choice([np.nan, np.inf]))

    def change(values: np.ndarray) -> np.ndarray:
        values[~scene.head] = value
        return values

    scene.series.append(change)
    scene.dtype = "float32"
    right.refused.append("NaN or infinite")


# --- header


@kind("header")
def scaled_voxels(rng: Rng, scene: Scene, right: Right) -> None:
    """Scale the voxels: an animal or an infant."""
    size = float(rng.choice([0.08, 0.1, 0.2, 0.5]))
    scene.affine = centered(SHAPE, [size * zoom for zoom in ZOOMS])
    # lengths in mm follow the head, so that small differences remain
    right.exact = False
    right.may_refuse.append("voxel")


@kind("header", "axes")
def flipped_axes(rng: Rng, scene: Scene, right: Right) -> None:
    """Flip the first axes and adapt the header."""
    axes = pick(rng, ((0,), (1,), (0, 1)))

    def order(values: np.ndarray) -> np.ndarray:
        return np.flip(values, axes)

    affine = scene.affine.copy()
    for axis in axes:
        affine[:3, 3] += affine[:3, axis] * (SHAPE[axis] - 1)
        affine[:3, axis] *= -1
    scene.affine = affine
    scene.stored.append(order)


@kind("header", "axes", "time")
def slices_first(rng: Rng, scene: Scene, right: Right) -> None:
    """Store slices along another axis of the file, perhaps listed from the other end."""
    axis = int(rng.integers(2))
    order = (2, 0, 1) if axis == 0 else (0, 2, 1)
    scene.stored.append(lambda values: np.transpose(values, (*order, *range(3, values.ndim))))
    scene.affine = scene.affine[:, [*order, 3]]
    back = rng.random() < 0.5
    times = [float(time) for time in scene.slice_times]
    scene.sidecar |= {
        "SliceEncodingDirection": "ijk"[axis] + "-" * back,
        "SliceTiming": times[:: -1 if back else 1],
    }


@kind("header")
def far_or_oblique(rng: Rng, scene: Scene, right: Right) -> None:
    """Move the origin far away, or tilt the slices."""
    angle = float(rng.choice([0.0, 0.2, 0.5]))
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    # head motion is estimated about the axes of the scanner, so that small differences remain
    right.exact = right.exact and angle == 0
    scene.affine = turn @ scene.affine
    scene.affine[:3, 3] += rng.choice([0, 100, -700], 3)


@kind("header", "files", "time")
def units_of_time(rng: Rng, scene: Scene, right: Right) -> None:
    """Write the TR of the header in milliseconds, without a unit, or not at all."""
    tr, unit = pick(
        rng, ((2000.0, "msec"), (2000.0, "sec"), (2.0, "unknown"), (0.0, "sec"), (2e6, "usec"))
    )

    def edit(scene: Scene) -> None:
        for path in scene.func.glob("*_bold.nii.gz"):
            image = nb.load(path)
            data = np.asarray(image.dataobj)
            header = image.header.copy()
            header.set_xyzt_units("mm", unit)
            header["pixdim"][4] = tr * scene.tr / 2
            nb.save(nb.Nifti1Image(data, image.affine, header), path)

    scene.edits.append(edit)


# --- names of files


@kind("files")
def two_series_of_one_name(rng: Rng, scene: Scene, right: Right) -> None:
    """Write two series that only differ in desc, which results replace."""

    def edit(scene: Scene) -> None:
        for suffix in ("bold.nii.gz", "bold.json"):
            source = scene.func / f"{STEM}_{suffix}"
            for desc in ("denoised", "optcom"):
                shutil.copy(source, scene.func / f"{STEM}_desc-{desc}_{suffix}")
            source.unlink()

    scene.edits.append(edit)
    right.refused.append("differ only in desc")


@kind("files")
def unusable_sibling(rng: Rng, scene: Scene, right: Right) -> None:
    """Write another series whose name cannot be used beside the run."""
    names = pick(
        rng,
        (
            ("sub-01_task-odd_res-2_bold.nii.gz",),
            ("sub-01_task-odd_foo-2_bold.nii.gz",),
            ("sub-02_task-tap_bold.nii.gz",),
            ("sub-01_ses-2_task-odd_bold.nii.gz",),
            ("task-odd_bold.nii.gz",),
            ("sub-01_task-o-dd_bold.nii.gz",),
            ("sub-01_task-odd_run-1_run-2_bold.nii.gz",),
            ("sub-01_task-odd_BOLD.nii.gz",),
            ("sub-01_task-odd_bold (1).nii.gz",),
            ("sub-01_task-odd_bold.nii.gz", "sub-01_task-odd_bold.nii"),
            ("sub-01_task-odd_desc-a_bold.nii.gz", "sub-01_task-odd_desc-b_bold.nii.gz"),
        ),
    )

    def edit(scene: Scene) -> None:
        for name in names:
            path = scene.func / name
            raw = gzip.decompress(scene.bold.read_bytes())
            path.write_bytes(gzip.compress(raw, 1) if name.endswith(".gz") else raw)
            shutil.copy(scene.json, path.with_name(f"{name.split('.')[0]}.json"))

    scene.edits.append(edit)
    right.skipped = True
    right.notices.append(re.escape(names[0]))
    if "desc" not in names[0]:
        right.absent.append("differ only in desc")


@kind("files", "table")  # the copy can have a sound table, and only the first run is skipped
def copied_run(rng: Rng, scene: Scene, right: Right) -> None:
    """Write the series a second time as another run."""
    change = int(rng.integers(4))

    def edit(scene: Scene) -> None:
        image = nb.load(scene.bold)
        series = np.asarray(image.dataobj, dtype=np.float32)
        series = (series, series + 1, 0.3 * series, series[..., : -len(EFFECTS)])[change]
        copy = scene.func / scene.bold.name.replace(STEM, f"{STEM}_run-2").replace(".gz", "")
        nb.save(nb.Nifti1Image(series, image.affine, image.header), copy)
        shutil.copy(scene.json, copy.with_suffix(".json"))
        shutil.copy(scene.table, copy.with_name(f"{STEM}_run-2_events.tsv"))

    scene.edits.append(edit)
    right.skipped = True
    right.notices.append("is a copy of")


@kind("files")
def one_described_series(rng: Rng, scene: Scene, right: Right) -> None:
    """Write a single series with desc in its name."""

    def edit(scene: Scene) -> None:
        for suffix in ("bold.nii.gz", "bold.json"):
            source = scene.func / f"{STEM}_{suffix}"
            source.rename(scene.func / f"{STEM}_desc-denoised_{suffix}")

    scene.edits.append(edit)


@kind("files")
def entities_of_derivatives(rng: Rng, scene: Scene, right: Right) -> None:
    """Add an entity to the name that raw BOLD runs do not have."""
    entity = pick(
        rng, ("res", "space", "label", "stat", "mod", "voi", "hemi", "den", "from", "model")
    )

    def edit(scene: Scene) -> None:
        for suffix in ("bold.nii.gz", "bold.json"):
            (scene.func / f"{STEM}_{suffix}").rename(scene.func / f"{STEM}_{entity}-2_{suffix}")

    scene.edits.append(edit)
    right.refused.append(rf"{entity}-2, which is not allowed in the name of a raw BOLD run|entit")


@kind("files", "data set")
def folder_of_fmriprep(rng: Rng, scene: Scene, right: Right) -> None:
    """Use the output of fMRIPrep as the data set."""

    def edit(scene: Scene) -> None:
        program = [{"Name": "fMRIPrep", "Version": "24.1.1"}]
        content = {
            "Name": "x",
            "BIDSVersion": "1.4.0",
            "DatasetType": "derivative",
            "GeneratedBy": program,
        }
        scene.put(scene.bids / "dataset_description.json", content)
        scene.rename("_bold", "_desc-preproc_bold")

    scene.edits.append(edit)
    right.refused.append("-d fmriprep=")


# seeds of a resting-state run need the T1w image, which the model depth leaves out
@kind("files", "table", "events", "names of types", "anatomy")
def task_without_events(rng: Rng, scene: Scene, right: Right) -> None:
    """Remove the table; the task label says rest, or contains these letters."""
    label, rest = pick(
        rng,
        (
            ("rest", True),
            ("restingstate", True),
            ("eyesOpenRest", True),
            ("forest", False),
            ("interest", False),
            ("arrest", False),
            ("restaurant", False),
            ("tap", False),
        ),
    )
    scene.at_rest = True
    scene.edits.append(lambda scene: scene.rename("task-tap", f"task-{label}"))
    (right.absent if rest else right.notices).append("the run is analyzed as resting state")
    right.values = False


@kind("files")
def rest_with_events(rng: Rng, scene: Scene, right: Right) -> None:
    """Label a run with an events table as rest."""
    scene.edits.append(lambda scene: scene.rename("task-tap", "task-rest"))


# --- echoes


@kind("files", "values", "echoes")
def echoes(rng: Rng, scene: Scene, right: Right) -> None:
    """Write three echoes: valid, one stored in another order, on another grid, with another TR,
    or with times in ms.
    """
    sound = ("sound", "mirrored", "reordered")
    variant = pick(
        rng, (*sound, "shape", "place", "TR", "header TR", "ms", "SliceTiming", "length")
    )
    times = (0.014, 0.03, 0.046)

    def edit(scene: Scene) -> None:
        image = nb.load(scene.bold)
        data = np.asarray(image.dataobj, float)
        for number, te in enumerate(times, 1):
            values, affine = data * np.exp(-(te - 0.03) / 0.045), image.affine.copy()
            fields: dict[str, object] = {"EchoTime": te * (1000 if variant == "ms" else 1)}
            odd = number == 3
            if odd and variant == "shape":
                values = values[:-2]
            if odd and variant == "place":
                affine[0, 3] += 9
            if odd and variant == "length":
                values = values[..., :-5]
            if odd and variant == "TR":
                fields["RepetitionTime"] = scene.tr * 1.5
            if odd and variant == "SliceTiming":
                fields["SliceTiming"] = [float(t) for t in scene.slice_times[::-1]]
            if odd and variant == "mirrored":
                affine[:, 3] += affine[:, 0] * (values.shape[0] - 1)
                values, affine[:, 0] = values[::-1], -affine[:, 0]
            if odd and variant == "reordered":
                values, affine = values.transpose(2, 0, 1, 3), affine[:, [2, 0, 1, 3]]
                fields["SliceEncodingDirection"] = "i"
            stem = scene.func / f"{STEM}_echo-{number}_bold"
            header = image.header.copy()
            header.set_data_dtype("int16")
            if odd and variant == "reordered":
                header.set_dim_info(slice=None)
            if odd and variant in ("TR", "header TR"):
                header["pixdim"][4] *= 1.5
            values = np.clip(np.rint(values), 0, 32000).astype("int16")
            nb.save(nb.Nifti1Image(values, affine, header), f"{stem}.nii.gz")
            shutil.copy(scene.json, f"{stem}.json")
            scene.edit_sidecar(Path(f"{stem}.json"), **fields)
        scene.bold.unlink()
        scene.json.unlink()

    scene.edits.append(edit)
    right.exact, right.relative = False, True
    if variant not in sound:
        right.refused.append("echo-3|EchoTime|echoes")
    if variant in sound[1:]:
        right.notices.append("reordered before the echoes are combined")


# --- anatomy


def _head_image(scene: Scene, zoom: float, extent: tuple[int, int, int]) -> np.ndarray:
    at = [(np.arange(n) - (n - 1) / 2) * zoom for n in extent]
    x, y, z = np.meshgrid(*at, indexing="ij")
    head = (x / 58) ** 2 + (y / 58) ** 2 + (z / 58) ** 2 < 1
    return np.asarray(head * (500 + 100 * np.sin(x / 9) * np.cos(y / 7)) + 5)


@kind("anatomy", depths=("model",))
def several_t1w(rng: Rng, scene: Scene, right: Right) -> None:
    """Write several T1w images: one is a slab, has large voxels or another label."""
    names = list(rng.permutation(["acq-inplane", "run-1", "acq-mprage", "rec-norm"])[:3])
    unfit, variant = int(rng.integers(3)), pick(rng, ("slab", "coarse", "label"))
    if variant == "label":
        names[unfit] = pick(rng, ("acq-a0Scout", "ce-gd", "inv-1", "rec-defaced"))

    def edit(scene: Scene) -> None:
        for index, name in enumerate(names):
            extent, zoom = (24, 24, 22), 5.0
            if index == unfit and variant != "label":
                extent, zoom = ((24, 24, 5), 5.0) if variant == "slab" else ((12, 12, 11), 10.0)
            affine = centered(extent, (zoom,) * 3)
            path = scene.anat / f"sub-01_{name}_T1w.nii.gz"
            scene.save(_head_image(scene, zoom, extent), path, affine=affine)

    scene.edits.append(edit)
    right.notices.append(r"3 T1w images were found")

    def check_first(plan: Any) -> str:
        first = plan.subjects[0].t1w[0].name
        return f"{first} is used ({variant})" if names[unfit] in first else ""

    right.plan.append(check_first)


@kind("anatomy", depths=("model",))
def negative_t1w(rng: Rng, scene: Scene, right: Right) -> None:
    """Make all values of the T1w image negative."""
    extent = (24, 24, 22)

    def edit(scene: Scene) -> None:
        values = _head_image(scene, 5.0, extent) - 1500
        scene.save(values, scene.anat / "sub-01_T1w.nii.gz", affine=centered(extent, (5.0,) * 3))

    scene.edits.append(edit)
    right.refused.append("negative")


@kind("anatomy", depths=("model",))
def swi(rng: Rng, scene: Scene, right: Right) -> None:
    """Write a T2*-weighted image with a much higher resolution than the run."""
    zoom = float(rng.choice([0.6, 0.75, 0.8]))
    extent = tuple(round(n * z / zoom) for n, z in zip(SHAPE[:2], ZOOMS, strict=False))

    def edit(scene: Scene) -> None:
        shape = (*extent, SHAPE[2])
        values = np.random.default_rng(5).integers(50, 900, shape)
        affine = centered(shape, (zoom, zoom, ZOOMS[2]))
        scene.save(values, scene.anat / "sub-01_T2starw.nii.gz", affine=affine)
        scene.put(scene.anat / "sub-01_T2starw.json", {"EchoTime": 0.02})

    scene.edits.append(edit)

    def check_factor(plan: Any) -> str:
        factor = max(plan.runs[0].factor)
        return f"factor {factor:g} by default" if factor > 4 else ""

    right.plan.append(check_factor)


@kind("anatomy")
def interpolated_pair(rng: Rng, scene: Scene, right: Right) -> None:
    """Write a T2*-weighted image that the scanner interpolated, with or without its fields."""
    is_stated, factor = bool(rng.integers(2)), int(rng.choice([2, 3]))
    shape = (2 * SHAPE[0], 2 * SHAPE[1], SHAPE[2])

    def edit(scene: Scene) -> None:
        measured = np.random.default_rng(5).integers(300, 900, shape)
        spectrum = np.fft.fftshift(np.fft.fft2(measured, axes=(0, 1)), axes=(0, 1))
        n = shape[0] * (factor - 1) // 2
        padded = np.fft.ifftshift(np.pad(spectrum, ((n, n), (n, n), (0, 0))), axes=(0, 1))
        values = np.abs(np.fft.ifft2(padded, axes=(0, 1))) * factor**2
        affine = centered(values.shape, (ZOOMS[0] / 2 / factor, ZOOMS[1] / 2 / factor, ZOOMS[2]))
        scene.save(values, scene.anat / "sub-01_T2starw.nii.gz", affine=affine)
        fields = {"BaseResolution": shape[0], "AcquisitionMatrixPE": shape[1]}
        sidecar = {"EchoTime": 0.02, **(fields if is_stated else {})}
        scene.put(scene.anat / "sub-01_T2starw.json", sidecar)

    scene.edits.append(edit)
    if is_stated:
        right.notices.append("pair is not used: the T2starw image was interpolated")
        right.plan.append(lambda plan: "" if plan.runs[0].factor == (2, 2, 1) else "wrong factor")
    elif factor == 2:  # a larger factor is not used by default
        right.refused.append("k-space is empty")


# --- confounds of another program


@kind("derivatives", "files")
def confounds(rng: Rng, scene: Scene, right: Right) -> None:
    """Write confounds with components that are n/a, without derivatives, with a column of text,
    or with the names of fMRIPrep 1.
    """
    sound = ("sound", "old names")
    variant = pick(rng, (*sound, "no components", "late components", "no derivatives", "text"))

    def edit(scene: Scene) -> None:
        prep = scene.root / "prep"
        shutil.rmtree(prep, ignore_errors=True)
        func = prep / "sub-01" / "func"
        program = [{"Name": "fMRIPrep", "Version": "24.1.1"}]
        content = {
            "Name": "x",
            "BIDSVersion": "1.4.0",
            "DatasetType": "derivative",
            "GeneratedBy": program,
        }
        scene.put(prep / "dataset_description.json", content)
        func.mkdir(parents=True)
        shutil.copy(scene.bold, func / f"{STEM}_desc-preproc_bold.nii.gz")
        fields = {"RepetitionTime": scene.tr, "SkullStripped": False}
        scene.put(func / f"{STEM}_desc-preproc_bold.json", fields)
        mask = scene.in_file(scene.head.astype(float))
        scene.save(mask, func / f"{STEM}_desc-brain_mask.nii.gz", dtype="uint8")
        draw = np.random.default_rng(4)
        motion = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
        derivatives = [f"{name}_derivative1" for name in motion]
        components = [f"a_comp_cor_0{k}" for k in range(6)]
        table = {
            name: [f"{value:.6f}" for value in draw.normal(0, 0.01, scene.n_volumes)]
            for name in (*motion, *derivatives, "csf", "white_matter", *components)
        }
        for name in derivatives:
            table[name][0] = "n/a"
        missing = slice(0 if variant == "no components" else 40, None)
        if "components" in variant:
            for name in components:
                table[name][missing] = ["n/a"] * len(table[name][missing])
        if variant == "no derivatives":
            table = {name: cells for name, cells in table.items() if name not in derivatives}
        if variant == "text":
            table["remark"] = ["ok"] * scene.n_volumes
        if variant == "old names":
            old_motion = [f"{kind}{axis}" for kind in ("", "Rot") for axis in "XYZ"]
            old_names = dict(zip(motion, old_motion, strict=True)) | {"csf": "CSF"}
            table = {old_names[name]: table[name] for name in old_names}
        lines = [
            "\t".join(table),
            *("\t".join(cells) for cells in zip(*table.values(), strict=True)),
        ]
        path = func / f"{STEM}_desc-confounds_timeseries.tsv"
        path.write_text("\n".join(lines) + "\n")

    scene.edits.append(edit)
    scene.options += ["-d", f"fmriprep={scene.root / 'prep'}"]
    right.exact = False
    if variant not in sound:
        right.may_refuse.append("confounds_timeseries")


# --- environment


@kind("environment")
def closed_streams(rng: Rng, scene: Scene, right: Right) -> None:
    """Close standard output or error, or end their reader early."""
    right.shell = pick(
        rng,
        (
            "{} >&-",
            "{} 2>&-",
            "{} >&- 2>&-",
            "{} 2>&1 | head -1; exit ${{PIPESTATUS[0]}}",
            "{} | true; exit ${{PIPESTATUS[0]}}",
        ),
    )


@kind("environment")
def no_utf8(rng: Rng, scene: Scene, right: Right) -> None:
    """Set a locale without UTF-8, and use a folder whose name needs it."""
    right.environment = {
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": pick(rng, ("0", "1")),
    }
    if rng.random() < 0.7:
        scene.root = scene.root / "Köpfe"


# --- several runs of the program


@kind("again", "values", "table", depths=("end",))
def stale_files(rng: Rng, scene: Scene, right: Right) -> None:
    """Change a file, but keep its size and modification time."""
    which = pick(rng, ("series", "events"))
    right.exact = False
    scene.names = {"little": "hands"}

    def rewrite(path: Path, content: bytes) -> None:
        times = path.stat()
        assert len(content) == times.st_size
        path.write_bytes(content)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    def unpack(scene: Scene) -> None:
        scene.bold.with_suffix("").write_bytes(gzip.decompress(scene.bold.read_bytes()))
        scene.bold.unlink()

    def swap(scene: Scene) -> None:
        text = scene.table.read_text().replace("thumb", "?").replace("hands", "thumb")
        rewrite(scene.table, text.replace("?", "hands").encode())
        scene.names = {"little": "thumb", "thumb": "hands"}

    def halve(scene: Scene) -> None:
        path = scene.bold.with_suffix("")
        raw = bytearray(path.read_bytes())
        raw[352:] = (np.frombuffer(raw[352:], "<i2") // 2).astype("<i2").tobytes()
        rewrite(path, bytes(raw))
        right.gain = 0.5

    scene.edits += [unpack] if which == "series" else []
    right.again = halve if which == "series" else swap


# --- whole data sets

EVERYTHING = tuple(sorted(frozenset().union(*(entry.touches for entry in KINDS.values()))))


@kind(*EVERYTHING, depths=("end",))
def unequal_weights(rng: Rng, scene: Scene, right: Right) -> None:
    """Let one of three participants have no event of a third trial type."""
    without = pick(rng, ("01", "02", "03"))
    extra = [[f"{onset}", "2", "miss"] for onset in (1.0, 21.0, 69.0)]

    def edit(scene: Scene) -> None:
        plain = scene.table.read_text()
        more = plain + "".join("\t".join(row) + "\n" for row in extra)
        for label in ("02", "03"):
            func = scene.bids / f"sub-{label}" / "func"
            shutil.copytree(scene.func, func)
            for path in sorted(func.iterdir()):
                path.rename(path.with_name(path.name.replace("sub-01", f"sub-{label}")))
        for label in ("01", "02", "03"):
            name = scene.table.name.replace("sub-01", f"sub-{label}")
            table = scene.bids / f"sub-{label}" / "func" / name
            table.write_text(plain if label == without else more)

    def check_group(scene: Scene) -> str:
        lines = (scene.root / "out" / "group_metrics.tsv").read_text().splitlines()
        header, *rows = [line.split("\t") for line in lines]
        participant_column, contrast_column = header.index("participant"), header.index("contrast")
        joined = {
            row[participant_column].removeprefix("sub-")
            for row in rows
            if row[contrast_column] == "all"
        }
        return f"`all` of {sorted(joined)} is combined" if without in joined else ""

    scene.edits.append(edit)
    right.exact, right.group = False, True
    right.after.append(check_group)


@kind(*EVERYTHING, depths=("end",))
def slab_at_rest(rng: Rng, scene: Scene, right: Right) -> None:
    """Use three real slices at rest, far from most seeds, with a T1w image: images of nibabel."""
    images = Path(nb.__file__).parent / "tests" / "data"

    def edit(scene: Scene) -> None:
        shutil.rmtree(scene.func)
        scene.func.mkdir()
        scene.anat.mkdir()
        stem = "sub-01_task-rest_bold"
        shutil.copy(images / "functional.nii", scene.func / f"{stem}.nii")
        scene.put(scene.func / f"{stem}.json", {"RepetitionTime": 2.0, "TaskName": "rest"})
        shutil.copy(images / "anatomical.nii", scene.anat / "sub-01_T1w.nii")

    scene.edits.append(edit)
    right.values = False
    right.may_refuse.append("seed|slices|volumes")


@kind(*EVERYTHING, depths=("end",))
def turned_t1w(rng: Rng, scene: Scene, right: Right) -> None:
    """Turn the simulated head by 90 degrees in the header of the T1w image."""
    axis, side = int(rng.integers(3)), float(rng.choice([-1, 1]))
    turn = np.eye(4)
    i, j = [k for k in range(3) if k != axis]
    turn[i, i] = turn[j, j] = 0
    turn[i, j], turn[j, i] = -side, side
    moved: dict[str, np.ndarray] = {}

    def edit(scene: Scene) -> None:
        source = scene.root / "phantom"
        program = Path(sys.executable).parent / "bids-sr-phantom"
        subprocess.run([program, source, "--preset", "tiny"], check=True, capture_output=True)
        shutil.rmtree(scene.bids / "sub-01")
        shutil.copytree(source / "sub-01" / "func", scene.func)
        path = next((source / "sub-01" / "anat").glob("*_T1w.nii.gz"))
        image = nb.load(path)
        middle = image.affine @ np.array([*((np.array(image.shape) - 1) / 2), 1])
        to_origin, back = np.eye(4), np.eye(4)
        to_origin[:3, 3], back[:3, 3] = -middle[:3], middle[:3]
        moved["turn"] = back @ turn @ to_origin
        scene.save(
            np.asarray(image.dataobj), scene.anat / path.name, affine=moved["turn"] @ image.affine
        )
        data = np.asarray(image.dataobj)
        inside = np.argwhere(data > 0.3 * data.max())[::97]
        moved["points"] = nb.affines.apply_affine(moved["turn"] @ image.affine, inside)

    def check_registration(scene: Scene) -> str:
        from bids_sr.spatial.itk_files import read_itk

        name = f"{STEM}_from-boldref_to-T1w_mode-image"
        truth = scene.root / "phantom" / "derivatives" / "ground-truth" / "sub-01" / "func"
        expected = read_itk(truth / f"{name}_desc-truth_xfm.txt")[0] @ np.linalg.inv(moved["turn"])
        (path,) = (scene.root / "out" / "sub-01" / "func").glob(f"{name}*_xfm.txt")
        apply = nb.affines.apply_affine
        displacement = apply(read_itk(path)[0], moved["points"]) - apply(expected, moved["points"])
        error_mm = float(np.linalg.norm(displacement, axis=1).mean())
        return f"registration to the T1w image is {error_mm:.1f} mm off" if error_mm > 6 else ""

    scene.edits.append(edit)
    right.values = False
    right.after.append(check_registration)


@kind(*EVERYTHING, depths=("end",))
def altered_sibling(rng: Rng, scene: Scene, right: Right) -> None:
    """Write three runs, one of which has another scale, a wrong log, swapped sides or more
    noise.
    """
    how = pick(rng, ("scale", "wrong log", "mirrored", "noisy"))
    altered, number = int(rng.integers(1, 4)), float(rng.uniform(2, 5))
    factor, late = (number if rng.random() < 0.5 else 1 / number), float(rng.uniform(10, 14))

    def move_events(run: Scene) -> None:
        run.rows = [[f"{float(row[0]) + late:g}", *row[1:]] for row in run.rows or []]

    def alter(run: Scene) -> None:
        if how == "scale":
            run.series.append(lambda values: factor * values)
        elif how == "wrong log":
            run.tables.append(move_events)
        elif how == "mirrored":
            run.series.append(lambda values: values[::-1])
        else:
            noise = np.random.default_rng(99)
            run.series.append(lambda values: values + noise.normal(0, 6.0, values.shape))

    def write_siblings(scene: Scene) -> None:
        shutil.rmtree(scene.func)
        scene.func.mkdir()
        for index in (1, 2, 3):
            run = Scene(scene.root / f"run{index}", seed=scene.seed + index, dtype="float32")
            if index == altered:
                alter(run)
            run.write()
            for path in run.func.iterdir():
                path.rename(scene.func / path.name.replace(STEM, f"{STEM}_run-{index}"))
            shutil.rmtree(run.root)

    def check_combination(scene: Scene) -> str:
        (path,) = (scene.root / "out").glob(
            "sub-01/func/*_space-firstBoldref_contrast-thumb_stat-effect_desc-acquired_statmap.nii.gz"
        )
        about = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
        expected = [f"run-{altered}"] if how in ("wrong log", "mirrored") else []
        if list(about["RunsLeftOut"]) != expected:
            return f"{how} in run-{altered}: left out are {about['RunsLeftOut']}"
        effect, truth = nb.load(path).get_fdata(), scene.truth("thumb")
        effect = effect * about["MeanSignal"] / 100
        if how == "mirrored" and altered == 1:
            return ""  # the other runs are registered to a mirrored head
        inside = (truth != 0) & (effect != 0)
        scale = factor if how == "scale" and altered == 1 else 1.0
        ratio = float(np.median(effect[inside] / truth[inside])) / scale
        return "" if abs(ratio - 1) < 0.05 else f"{how} in run-{altered}: effect {ratio:.2f}"

    scene.edits.append(write_siblings)
    right.values = False
    right.after.append(check_combination)
    if how != "noisy":
        right.notices.append("disagrees with other runs|times the signal of run-1")


# --- models and regions


@kind("time", "events", "table", "types")
def events_without_pause(rng: Rng, scene: Scene, right: Right) -> None:
    """Let the events of both types follow each other from before the first volume to the end."""
    length = float(rng.integers(8, 15))
    onsets = np.arange(-40, scene.n_volumes * scene.tr, length)
    scene.events = [(float(t), length, tuple(EFFECTS)[k % 2]) for k, t in enumerate(onsets)]
    right.values = False
    right.notices.append("together are nearly constant, so they cannot be separated from the mean")
    right.absent.append("separated from each other")

    def check(plan: Any) -> str:
        (contrasts,) = plan.contrasts.values()
        weights = [sorted(weights.values()) for weights in contrasts.values()]
        return "" if weights == [[-1.0, 1.0]] else f"contrasts are {contrasts}"

    right.plan.append(check)


@kind("model", "table", "types", "names of types")
def misspelled_type_in_model(rng: Rng, scene: Scene, right: Right) -> None:
    """Misspell a trial type in a contrast of a BIDS Stats Model, or add one to X."""
    in_contrast = rng.random() < 0.7
    names = [f"trial_type.{name}" for name in EFFECTS]
    wrong = pick(rng, ("trial_type.thump", "trial_type.Thumb", "trial_type.thumb1"))
    node = {
        "Level": "Run",
        "Name": "run",
        "GroupBy": ["run", "subject"],
        "Transformations": {
            "Transformer": "pybids-transforms-v1",
            "Instructions": [
                {"Name": "Factor", "Input": ["trial_type"]},
                {"Name": "Convolve", "Input": ["trial_type.*"], "Model": "spm"},
            ],
        },
        "Model": {"X": [1, *names, *([] if in_contrast else [wrong])], "Type": "glm"},
        "DummyContrasts": {"Test": "t"},
        "Contrasts": [
            {
                "Name": "difference",
                "ConditionList": [wrong if in_contrast else names[0], names[1]],
                "Weights": [1, -1],
                "Test": "t",
            }
        ],
    }
    content = {"Name": "tap", "BIDSModelVersion": "1.0.0", "Nodes": [node]}
    scene.edits.append(lambda scene: scene.put(scene.root / "model.json", content))
    scene.options += ["--model", str(scene.root / "model.json")]
    named = f"'{wrong.removeprefix('trial_type.')}', which is not modeled .*did you mean 'thumb'"
    (right.refused if in_contrast else right.notices).append(named)
    right.exact = False  # the model has no confounds


@kind("regions", "anatomy")
def empty_region(rng: Rng, scene: Scene, right: Right) -> None:
    """Give a region without voxels: a mask of zeros or NaN, or a label that the atlas lacks."""
    variant = pick(rng, ("zeros", "NaN", "label", "seed"))
    image = scene.root / "space-T1w_mask.nii.gz"

    def edit(scene: Scene) -> None:
        values = np.zeros((8, 8, 4), np.float32)
        if variant == "NaN":
            values[:] = np.nan
        if variant in ("label", "seed"):
            values[2:5, 2:5, 1:3] = 1
        nb.save(nb.Nifti1Image(values, np.diag([20.0, 20.0, 30.0, 1.0])), image)
        (scene.root / "space-T1w_mask.tsv").write_text("index\tname\n1\tHand_L\n2\tFoot_L\n")

    scene.edits.append(edit)
    if variant in ("zeros", "NaN"):
        scene.options += ["--roi", str(image)]
        right.refused.append("the mask image is empty")
    else:
        option = "roi" if variant == "label" else "seeds"
        scene.options += ["--set", f"activation.atlas={image}", f"activation.{option}=Foot_L"]
        right.refused.append("no voxels with the label Foot_L")
