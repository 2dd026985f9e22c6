"""Results that the group level has to give for a described group, and their check.

Expected results follow from the description of the group (`_odd_groups_scene`) by the documented
rules. The program is not used.
"""

from __future__ import annotations

import hashlib
import html
import itertools
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import nibabel as nb
import numpy as np
from _odd_groups_scene import (
    SPACE,
    Call,
    Contrast,
    Damage,
    Folders,
    Group,
    Participant,
    Run,
    Stored,
    load_grid,
)
from scipy import stats

LEAST = 3  # participants of a map
GAIN = 5  # a participant is left out if the gain exceeds the other participants' voxels / GAIN
EVERY = 37  # every 37th voxel is compared in statistics other than the effect
NEAR = 1e-4  # largest relative error of the effect
NEAR_STATISTIC = 2e-3  # largest relative error of other statistics
STATISTICS = ("effect", "variance", "t", "z")

FOREIGN = ("group/notes.txt", "group/own_map.nii.gz", "group_scans_metrics.tsv")
"""Files of the user, and of the group level of structural scans, which have to remain."""

# causes and words that the reason has to contain
ABSENT, UNSELECTED, LACKS, RUNNING = "absent", "not selected", "lacks", "running"
GONE, NO_MAPS, NO_MASK, NO_BOLDREF = "gone", "no maps", "no mask", "no boldref"
WEIGHTS, COVERAGE, UNREADABLE, NOT_A_NUMBER = "weights", "coverage", "unreadable", "NaN"
WORDS = {
    GONE: r"data ?set|participants\.tsv|\blist",
    NO_MAPS: r"\bmap",
    NO_MASK: r"mask",
    NO_BOLDREF: r"boldref",
    WEIGHTS: r"weight",
    COVERAGE: r"voxel",
    UNREADABLE: r"read|damag|truncated|\bcut\b|decompress|incomplete|end of file|ended",
    NOT_A_NUMBER: r"\bnan\b|not a number|finite|missing value",
}
COMPONENT = re.compile(r"component\d+")
TOO_FEW = r"(at least|fewer than|less than|only|too few|minimum|requires?d?) .*participant"
NO_VOXEL = r"overlap|in common|no voxel|common voxel"
TURNED = r"\bsign|revers|turn|opposite|negat|invert|swap|flip"


Key = TypeVar("Key", str, tuple[tuple[str, float], ...])


class AmbiguousError(ValueError):
    """The rules do not define the result of a group."""


@dataclass(frozen=True)
class MapName:
    """Entities of a group map, without the statistic."""

    task: str
    variant: str
    contrast: str
    series: str

    def path(self, folders: Folders, call: Call, stat: str) -> Path:
        """Return the path of a map of a call."""
        entities = [
            "group",
            f"ses-{call.session}" if call.session else "",
            f"task-{self.task}",
            self.variant,
            f"space-{SPACE}_res-2_contrast-{self.contrast}_stat-{stat}_desc-{self.series}_statmap",
        ]
        return folders.out / "group" / f"{'_'.join(filter(None, entities))}.nii.gz"

    def __str__(self) -> str:
        parts = (self.task, self.variant, self.contrast, self.series)
        return " ".join(part for part in parts if part)


@dataclass
class Expected:
    """Expected map, or the reason why it cannot be computed.

    Attributes
    ----------
    values
        Effects in percent at all voxels of the brain mask, (N,), by label of each included
        participant.
    sessions
        Sessions of each included participant.
    reasons
        Causes, by label of each participant who is not included.
    gains
        Voxels gained without a participant, by label.
    turned
        Participants whose effects have the opposite sign in their own maps.
    unopened
        Damage of files that are needed and cannot be opened.
    """

    values: dict[str, np.ndarray] = field(default_factory=dict)
    sessions: dict[str, set[str]] = field(default_factory=dict)
    reasons: dict[str, set[str]] = field(default_factory=dict)
    gains: dict[str, int] = field(default_factory=dict)
    turned: set[str] = field(default_factory=set)
    unopened: list[Damage] = field(default_factory=list)

    @property
    def inside(self) -> np.ndarray:
        """Voxels with an effect of all included participants, (N,) boolean."""
        return np.asarray(np.all([values != 0 for values in self.values.values()], axis=0))

    @property
    def has_map(self) -> bool:
        """Whether there is a map."""
        return len(self.values) >= LEAST and bool(self.inside.any())


@dataclass
class Truth:
    """Expected result of a call.

    Attributes
    ----------
    maps
        All contrasts and series, with or without enough participants for a map.
    refused
        Names of which at least one has to be in the message; exit code 2 is expected.
    may_refuse
        Pattern of the message if the call may also be refused; "" if it may not.
    optional
        Participants who need not be named, because the call does not select them.
    tables
        Participants in ``group_metrics.tsv``.
    components
        Tasks whose maps are independent components, which have no group map.
    """

    maps: dict[MapName, Expected] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    may_refuse: str = ""
    optional: set[str] = field(default_factory=set)
    tables: set[str] = field(default_factory=set)
    components: set[str] = field(default_factory=set)


# --- the rules


def expect(group: Group, folders: Folders) -> Truth:
    """Compute the expected result of the call of a group.

    Raises
    ------
    AmbiguousError
        If the rules do not define the result.
    """
    truth = Truth()
    included = group.with_results()
    truth.tables = {participant.label for participant in included}
    if group.call.participants:
        labels = {participant.label for participant in group.participants}
        truth.optional = labels - set(group.call.participants)
    truth.optional |= {
        participant.label
        for participant in group.known_participants()
        if not participant.is_listed and not participant.runs  # only an empty folder remains
    }
    questions = dict.fromkeys((run.task, run.variant) for _, run in group.runs())
    for task, variant in questions:
        _expect_maps(group, task, variant, truth)
    truth.refused = list(_list_refusals(group, folders, truth))
    if len(included) < 2:
        truth.may_refuse = "participant"
    elif group.encoding not in ("utf-8", "utf-8-sig"):
        truth.may_refuse = r"participants\.tsv"
    return truth


def _list_refusals(group: Group, folders: Folders, truth: Truth) -> Iterator[str]:
    """Yield names, of which the message of a refusal has to contain at least one."""
    if group.running in truth.optional:
        raise AmbiguousError("a participant who is not selected is being processed")
    if group.running:
        yield group.running
    needed = [damaged for one_map in truth.maps.values() for damaged in one_map.unopened]
    for participant, run in group.runs():
        stored = _usable_stored(participant, run, group.call)
        for part in (run, *([] if stored is None else [stored])):
            for damage in part.damage:
                if part is run and {"effect": "maps"}.get(damage.role, damage.role) in run.absent:
                    raise AmbiguousError(f"a damaged file of {participant.label} does not exist")
                if not damage.is_found_by_dry_run:
                    continue
                if damage not in needed and not damage.is_in_table:
                    raise AmbiguousError(f"a damaged file of {participant.label} is not needed")
                yield folders.damaged_file(participant, part, damage).name


def _expect_maps(group: Group, task: str, variant: str, truth: Truth) -> None:
    """Add the maps of a task and variant."""
    runs: dict[str, list[Run]] = defaultdict(list)
    for participant, run in group.runs():
        if (run.task, run.variant) == (task, variant):
            runs[participant.label].append(run)
    names = _join_names(runs)
    series = dict.fromkeys(name for part in runs.values() for run in part for name in run.series)
    for joined, signs in names.items():
        at_rest = all(run.at_rest for part in runs.values() for run in part)
        if at_rest and COMPONENT.fullmatch(joined):
            truth.components.add(task)
            continue
        for one_series in series:
            expected = Expected()
            for participant in group.known_participants():
                _add_participant(group.call, participant, runs, signs, one_series, expected)
            if not expected.values:
                continue
            _apply_coverage_rule(expected)
            truth.maps[MapName(task, variant, joined, one_series)] = expected


@dataclass(frozen=True)
class _JoinedName:
    """Own name of a contrast that is joined under another name.

    `weights` are the usual weights under the own name, and `sign` is the sign of the own effect.
    """

    name: str
    weights: tuple[tuple[str, float], ...]
    sign: int


def _weights(contrast: Contrast) -> tuple[tuple[str, float], ...]:
    return tuple(sorted((name, round(weight, 6)) for name, weight in contrast.weights.items()))


def _join_names(runs: Mapping[str, Sequence[Run]]) -> dict[str, list[_JoinedName]]:
    """Return the own names of each contrast, by the name under which they are joined."""
    by_name: dict[str, dict[tuple[tuple[str, float], ...], set[str]]] = defaultdict(
        lambda: defaultdict(set)
    )
    with_maps: dict[str, set[str]] = defaultdict(set)
    for label, part in runs.items():
        for run in part:
            for contrast in run.contrasts:
                by_name[contrast.name][_weights(contrast)].add(label)
                if "maps" not in run.absent:
                    with_maps[contrast.name].add(label)
    usual = {}
    for name, by_weights in by_name.items():
        counts = [Counter({weights: len(labels) for weights, labels in by_weights.items()})]
        counts.append(
            Counter(
                {weights: len(labels & with_maps[name]) for weights, labels in by_weights.items()}
            )
        )
        usual[name] = _most_frequent(counts)
    joined: dict[str, list[_JoinedName]] = {}
    remaining = sorted(usual)
    while remaining:
        name = remaining.pop(0)
        opposite_weights = tuple(sorted((key, -weight) for key, weight in usual[name]))
        names = [name]
        names += [other for other in remaining if usual[other] == opposite_weights and usual[name]]
        remaining = [other for other in remaining if other not in names]
        chosen = name
        if len(names) > 1:
            counts = [
                Counter({one: len(by_name[one][usual[one]]) for one in names}),
                Counter({one: len(by_name[one][usual[one]] & with_maps[one]) for one in names}),
            ]
            chosen = _most_frequent(counts, ties=True)
        joined[chosen] = [
            _JoinedName(one, usual[one], 1 if usual[one] == usual[chosen] else -1) for one in names
        ]
    return joined


def _most_frequent(counts: Sequence[Counter[Key]], *, ties: bool = False) -> Key:
    """Return the most frequent key, which has to be the same in all counts.

    With `ties`, the first of equally frequent keys is returned.
    """
    found = []
    for count in counts:
        best = max(count.values())
        keys = sorted(key for key, number in count.items() if number == best)
        if len(keys) > 1 and not ties:
            raise AmbiguousError(f"equally frequent: {keys}")
        found.append(keys[0])
    if len(set(found)) > 1:
        raise AmbiguousError(f"participants without maps decide between {found}")
    return found[0]


def _add_participant(
    call: Call,
    participant: Participant,
    runs: Mapping[str, Sequence[Run]],
    joined_names: Sequence[_JoinedName],
    series: str,
    expected: Expected,
) -> None:
    """Add a participant to a map, or the causes why the participant is not included.

    For the parameters, see `_expect_maps` and `_JoinedName`.
    """
    label, part = participant.label, runs.get(participant.label, [])
    causes = set()
    if not participant.is_listed:
        expected.reasons[label] = {GONE}
        return
    if not part:
        is_selected = not call.participants or label in call.participants
        expected.reasons[label] = {ABSENT if is_selected else UNSELECTED}
        return
    absent = set().union(*(run.absent for run in part))
    for role, cause in (("maps", NO_MAPS), ("mask", NO_MASK), ("boldref", NO_BOLDREF)):
        if role in absent:
            causes.add(cause)
    contrasts = [contrast for run in part for contrast in run.contrasts]
    own = next(
        (
            joined
            for joined in joined_names
            if any(contrast.name == joined.name for contrast in contrasts)
        ),
        None,
    )
    if own is None:
        expected.reasons[label] = causes | {LACKS}
        return
    own_contrasts = [contrast for contrast in contrasts if contrast.name == own.name]
    if len(own_contrasts) != len(part) or len(set(map(_weights, own_contrasts))) > 1:
        raise AmbiguousError(f"the runs of {label} have different contrasts")
    if _weights(own_contrasts[0]) != own.weights:
        causes.add(WEIGHTS)
    if not all(series in run.series for run in part):
        causes.add(LACKS)
    stored = _usable_stored(participant, part[0], call)
    if stored is not None and absent:
        raise AmbiguousError(f"stored maps of {label}, whose runs lack files")
    if not causes:
        for damage in _list_damage([stored] if stored is not None else part, own.name, series):
            causes.add(NOT_A_NUMBER if damage.is_not_finite else UNREADABLE)
            if damage.is_found_by_dry_run:
                expected.unopened.append(damage)
    if causes:
        expected.reasons[label] = causes
        return
    if stored is not None:
        values = participant.stored_effect(stored, own.name, series)
    else:
        effects = [
            participant.effect(run, contrast, series)
            for run, contrast in zip(part, own_contrasts, strict=True)
        ]
        covered = np.all([effect != 0 for effect in effects], axis=0)
        values = np.where(covered, np.mean(effects, axis=0), 0)
    expected.values[label] = own.sign * values
    expected.sessions[label] = {run.session for run in part if run.session}
    if own.sign < 0:
        expected.turned.add(label)


def _list_damage(sources: Sequence[Run | Stored], name: str, series: str) -> Iterator[Damage]:
    """Yield the damage of files that the map of a contrast and series needs."""
    for damage in (damage for source in sources for damage in source.damage):
        is_for_all = damage.role in ("mask", "boldref")
        if is_for_all or (damage.name, damage.series) == (name, series):
            yield damage


def _usable_stored(participant: Participant, run: Run, call: Call) -> Stored | None:
    """Return the stored maps with exactly the included runs of a task and variant, or None."""
    included = {
        other
        for other in participant.runs
        if (other.task, other.variant) == (run.task, run.variant)
        and call.selects(participant, other)
    }
    return next((stored for stored in participant.stored if set(stored.runs) == included), None)


def _apply_coverage_rule(expected: Expected) -> None:
    """Leave out participants whose absence gains more voxels than the others have / GAIN."""
    while len(expected.values) > LEAST:
        covered = {label: values != 0 for label, values in expected.values.items()}
        n_common = int(np.all(list(covered.values()), axis=0).sum())
        without = {
            label: int(np.all([c for other, c in covered.items() if other != label], axis=0).sum())
            for label in covered
        }
        label = min(covered, key=lambda label: (n_common - without[label], label))
        gain = without[label] - n_common
        if gain * GAIN <= without[label]:
            return
        del expected.values[label], expected.sessions[label]
        expected.turned.discard(label)
        expected.reasons[label] = {COVERAGE}
        expected.gains[label] = gain


# --- the check


@dataclass(frozen=True)
class Texts:
    """Texts of a call: console, and the page of the group."""

    console: str
    page: str = ""

    def chunks(self) -> list[str]:
        """Return sentences and cells that are more than a list of included participants."""
        lines = [*self.console.splitlines(), *_page_lines(self.page)]
        chunks = [chunk for line in lines for chunk in re.split(r"(?<=[.;!?])\s", line)]
        return [chunk for chunk in chunks if _states_a_reason(chunk)]

    def naming(self, label: str) -> list[str]:
        """Return the sentences that name a participant with a reason."""
        return [chunk for chunk in self.chunks() if re.search(rf"{label}(?!\w)", chunk)]


def _page_lines(page: str) -> list[str]:
    """Return the texts of the elements of a page, without figures and scripts."""
    text = re.sub(r"(?s)<(script|style|svg|head).*?</\1>", " ", page)
    text = re.sub(
        r"</?(p|li|ul|ol|td|th|tr|table|div|section|h\d|br|dt|dd|details)\b[^>]*>", "\n", text
    )
    text = html.unescape(re.sub(r"<[^>]+>", "", text))
    return [" ".join(line.split()) for line in text.split("\n") if line.strip()]


def _states_a_reason(chunk: str) -> bool:
    """Return whether a sentence has more words than a list of included participants has."""
    if re.match(r"\W*included", chunk, re.IGNORECASE):
        return False
    words = re.findall(r"[^\W\d_]{2,}", re.sub(r"sub-\w+", "", chunk))
    ordinary = {"included", "participants", "participant", "and", "in", "the", "map", "maps", "of"}
    return len([word for word in words if word.lower() not in ordinary]) > 1


def snapshot(folders: Folders) -> dict[str, str]:
    """Return checksums of the files of the group level, by path relative to the output folder."""
    files = [*folders.out.glob("group*"), *folders.out.glob("group/**/*")]
    names = {str(path.relative_to(folders.out)): path for path in sorted(files) if path.is_file()}
    return {
        name: hashlib.sha1(path.read_bytes()).hexdigest()
        for name, path in names.items()
        if name not in FOREIGN
    }


def session_of(path: str) -> str:
    """Return the session in the name of a file of the group level; "" for pooled sessions."""
    match = re.match(r"group_ses-([^_.]+)", Path(path).name)
    return match.group(1) if match else ""


def check_results(
    group: Group, truth: Truth, folders: Folders, console: str, before: Mapping[str, str]
) -> Iterator[str]:
    """Yield what is wrong with the results of a call that ended with exit code 0.

    `before`: `snapshot` before the call.
    """
    call = group.call
    stem = "group" + (f"_ses-{call.session}" if call.session else "")
    page = folders.out / f"{stem}.html"
    if not page.exists():
        yield f"{page.name} does not exist"
    texts = Texts(console, page.read_text(encoding="utf-8") if page.exists() else "")
    yield from _check_files(call, truth, folders, before)
    yield from _check_tables(folders.out / f"{stem}_metrics.tsv", truth)
    if not (folders.out / f"{stem}_stats.tsv").exists():
        yield f"{stem}_stats.tsv does not exist"
    for name, expected in truth.maps.items():
        if expected.has_map:
            yield from _check_map(group, name, expected, folders, truth)
        else:
            yield from _check_absence(name, expected, texts)
    yield from _check_names(truth, texts)
    page_text = "\n".join(_page_lines(texts.page))
    if truth.components and not re.search(r"component.*\b(not|no|cannot)\b", page_text):
        yield "the page does not say that components have no group map"
    for name, expected in truth.maps.items():
        if expected.has_map:
            sessions = set[str]().union(*expected.sessions.values())
            words = {*expected.values, *(sessions if len(sessions) > 1 else ())}
            missing = [word for word in words if not re.search(rf"\b{word}\b", page_text)]
            if missing:
                yield f"{name}: the page does not contain {', '.join(sorted(missing))}"


def _check_files(
    call: Call, truth: Truth, folders: Folders, before: Mapping[str, str]
) -> Iterator[str]:
    """Yield maps that are missing or too many, and changed results of other sessions."""
    statistics = (*STATISTICS, *(["logpMaxT"] if call.flips else []))
    expected = {
        name.path(folders, call, stat).name
        for name, one_map in truth.maps.items()
        if one_map.has_map
        for stat in statistics
    }
    after = snapshot(folders)
    found = {
        Path(path).name
        for path in after
        if path.endswith(".nii.gz") and session_of(path) == call.session
    }
    for name in sorted(expected - found)[:3]:
        yield f"no {name}"
    for name in sorted(found - expected)[:3]:
        yield f"{name} must not exist"
    sidecars = {Path(path).name for path in after if path.endswith("_statmap.json")}
    for name in sorted(found & expected):
        if name.replace(".nii.gz", ".json") not in sidecars:
            yield f"{name} has no sidecar"
    images = {name.replace(".nii.gz", ".json") for name in found}
    for name in sorted(sidecars - images):
        if session_of(name) == call.session:
            yield f"{name} has no map"
    contrasts = {name.contrast for name, one_map in truth.maps.items() if one_map.has_map}
    for path in after:
        match = re.search(r"_contrast-([^_.]+)", path)
        is_map = path.endswith((".nii.gz", "_statmap.json"))
        is_of_call = session_of(path) == call.session
        if is_of_call and match and not is_map and match.group(1) not in contrasts:
            yield f"{path} must not exist"
    for path, checksum in before.items():
        if session_of(path) != call.session and after.get(path) != checksum:
            yield f"{path} of another call was changed or removed"
    if not any(session_of(path) != call.session for path in before):
        others = [path for path in after if session_of(path) != call.session]
        yield from (f"{path} must not exist" for path in others[:2])


def _check_tables(table: Path, truth: Truth) -> Iterator[str]:
    """Yield wrong participants of the table of metrics."""
    if not table.exists():
        yield f"{table.name} does not exist"
        return
    head, *rows = (line.split("\t") for line in table.read_text(encoding="utf-8").splitlines())
    found = {row[head.index("participant")] for row in rows}
    if found != truth.tables:
        yield f"{table.name} has {_differences(found, truth.tables)}"


def _differences(found: set[str], expected: set[str]) -> str:
    parts = [f"not {', '.join(sorted(expected - found))}"] * bool(expected - found)
    parts += [f"also {', '.join(sorted(found - expected))}"] * bool(found - expected)
    return " and ".join(parts) or "the right participants, some repeatedly"


def _check_map(
    group: Group, name: MapName, expected: Expected, folders: Folders, truth: Truth
) -> Iterator[str]:
    """Yield what is wrong with the maps of a contrast and series, and with their sidecars."""
    call = group.call
    paths = {
        stat: path
        for stat in (*STATISTICS, "logpMaxT")
        if (path := name.path(folders, call, stat)).exists()
    }
    faults = []
    for path in paths.values():
        sidecar_path = Path(str(path).replace(".nii.gz", ".json"))
        if sidecar_path.exists():
            sidecar = json.loads(sidecar_path.read_text(encoding="utf-8"))
            faults += _check_sidecar(sidecar, group, expected, truth)
    yield from (f"{name}: {fault}" for fault in dict.fromkeys(faults))
    yield from (f"{name}: {fault}" for fault in _check_values(paths, expected, call.flips))


def _check_sidecar(
    sidecar: Mapping[str, object], group: Group, expected: Expected, truth: Truth
) -> Iterator[str]:
    listed = sidecar.get("Participants")
    participants = [str(label) for label in listed] if isinstance(listed, list) else []
    if sorted(participants) != sorted(expected.values):
        yield f"Participants has {_differences(set(participants), set(expected.values))}"
    number = sidecar.get("NumberOfParticipants")
    if number != len(expected.values):
        yield f"NumberOfParticipants is {number}, not {len(expected.values)}"
    excluded = sidecar.get("Excluded")
    if not isinstance(excluded, dict):
        yield "no Excluded"
    else:
        if wrong := _differences_without_optional(set(excluded), set(expected.reasons), truth):
            yield f"Excluded has {wrong}"
        for label, causes in expected.reasons.items():
            if label in excluded:
                reason = str(excluded[label])
                yield from _check_reason(label, reason, causes, expected.gains.get(label))
    yield from _check_sessions(sidecar, expected, group)


def _differences_without_optional(found: set[str], expected: set[str], truth: Truth) -> str:
    found, expected = found - truth.optional, expected - truth.optional
    return _differences(found, expected) if found != expected else ""


def _check_reason(label: str, reason: str, causes: set[str], gain: int | None) -> Iterator[str]:
    if not reason.strip():
        yield f"no reason for {label}"
    patterns = [WORDS[cause] for cause in causes if cause in WORDS]
    if patterns and not any(re.search(word, reason, re.IGNORECASE) for word in patterns):
        yield f"reason for {label} ({', '.join(sorted(causes))}) is {reason!r}"
    digits = re.sub(r"(?<=\d)[\s,.'’](?=\d{3})", "", reason)
    if gain is not None and str(gain) not in digits and "%" not in reason:
        yield f"reason for {label} does not contain the gain of {gain} voxels: {reason!r}"


def _check_sessions(
    sidecar: Mapping[str, object], expected: Expected, group: Group
) -> Iterator[str]:
    sessions = set().union(*expected.sessions.values())
    if not sessions:
        yield from (
            f"{key} in a data set without sessions"
            for key in ("Sessions", "SessionsPerParticipant")
            if sidecar.get(key)
        )
        return
    listed, numbers = sidecar.get("Sessions"), sidecar.get("SessionsPerParticipant")
    found = (
        {str(label).removeprefix("ses-") for label in listed}
        if isinstance(listed, list)
        else set()
    )
    selected = {run.session for _, run in group.runs()}
    if not sessions <= found <= sessions | selected:
        yield f"Sessions is {listed}, not {sorted(sessions)}"
    expected_numbers = {label: len(labels) for label, labels in expected.sessions.items()}
    if numbers != expected_numbers:
        yield f"SessionsPerParticipant is {numbers}, not {expected_numbers}"


def _check_values(paths: Mapping[str, Path], expected: Expected, flips: int) -> Iterator[str]:
    """Yield wrong values of the maps, which scipy and numpy compute from the description."""
    grid, inside = load_grid(), expected.inside
    data = np.stack([values[inside] for values in expected.values.values()])
    maps = {}
    for stat, path in paths.items():
        image = nb.load(path)
        values = np.asarray(image.dataobj, dtype=np.float64)
        if values.shape != grid.mask.shape or not np.allclose(image.affine, grid.affine):
            yield f"{stat} is on another grid"
            return
        if np.any(values[~grid.mask] != 0):
            yield f"{stat} has values outside the brain mask"
        maps[stat] = values[grid.mask]
        if not np.isfinite(maps[stat]).all():
            yield f"{stat} has values that are not finite"
    if "effect" in maps:
        effect, mean = maps["effect"], data.mean(axis=0)
        if wrong := int(((effect != 0) != inside).sum()):
            found, expected_number = int((effect != 0).sum()), int(inside.sum())
            yield f"{found} voxels, expected {expected_number} ({wrong} differ)"
            return
        error = np.abs(effect[inside] - mean) / np.maximum(np.abs(mean), 0.1)
        if error.max() > NEAR:
            ratio = float(np.median(effect[inside] / mean))
            yield f"effect differs by up to {error.max():.2g} (median ratio {ratio:.3f})"
    some = data[:, ::EVERY]
    t = stats.ttest_1samp(some, 0).statistic
    truth = {
        "variance": some.var(axis=0, ddof=1) / len(some),
        "t": t,
        "z": np.sign(t) * stats.norm.isf(np.maximum(stats.t.sf(np.abs(t), len(some) - 1), 1e-300)),
    }
    for stat, expected_values in truth.items():
        if stat in maps:
            sampled = maps[stat][inside][::EVERY]
            error = np.abs(sampled - expected_values) / np.maximum(np.abs(expected_values), 1e-3)
            if error.max() > NEAR_STATISTIC:
                yield f"{stat} differs by up to {error.max():.2g}, relative to scipy"
    if "logpMaxT" in maps and flips:
        yield from _check_logp(maps["logpMaxT"][inside], data, flips)


def _check_logp(logp: np.ndarray, data: np.ndarray, flips: int) -> Iterator[str]:
    """Yield wrong corrected p values, given effects (participants, voxels)."""
    n = len(data)
    n_different = 2 ** (n - 1)
    most = math.log10(n_different if n_different <= flips else flips + 1)
    if logp.max() > most + 1e-4 or logp.min() < -1e-6:
        yield f"logpMaxT is {logp.min():.3f} to {logp.max():.3f}, with a limit of {most:.3f}"
    if n_different > flips:
        return
    mean_square = np.mean(data**2, axis=0)

    def absolute_t(signs: np.ndarray) -> np.ndarray:
        mean = signs @ data / n
        return np.asarray(np.abs(mean) / np.sqrt((mean_square - mean**2) / (n - 1)))

    signs = [np.array([1, *rest]) for rest in itertools.product((1, -1), repeat=n - 1)]
    largest = np.array([absolute_t(flip).max() for flip in signs])
    t = absolute_t(signs[0])[::EVERY]
    fewest = np.maximum((largest > t[:, None] * (1 + 1e-4)).sum(axis=1), 1)
    most_frequent = (largest > t[:, None] * (1 - 1e-4)).sum(axis=1)
    found = n_different * 10 ** -logp[::EVERY]
    wrong = (found < fewest - 0.05) | (found > most_frequent + 0.05)
    if wrong.any():
        yield f"p differs from all {n_different} flips in {wrong.mean():.0%} of the voxels"


def _check_absence(name: MapName, expected: Expected, texts: Texts) -> Iterator[str]:
    """Yield a missing explanation why there is no map of a contrast."""
    pattern = TOO_FEW if len(expected.values) < LEAST else NO_VOXEL
    if not re.search(pattern, " ".join(texts.console.split()), re.IGNORECASE):
        yield f"{name}: the console does not explain why there is no map"


def _check_names(truth: Truth, texts: Texts) -> Iterator[str]:
    """Yield participants who are not included, or turned, and not named."""
    reasons: dict[str, set[str]] = defaultdict(set)
    turned: set[str] = set()
    for expected in truth.maps.values():
        for label, causes in expected.reasons.items():
            reasons[label] |= causes
        if expected.has_map:
            turned |= expected.turned
    for label in sorted(set(reasons) - truth.optional):
        if not texts.naming(label):
            causes = ", ".join(sorted(reasons[label]))
            yield f"neither console nor page says why {label} is not included ({causes})"
    for label in sorted(turned):
        if not any(re.search(TURNED, chunk, re.IGNORECASE) for chunk in texts.naming(label)):
            yield f"neither console nor page says that the sign of {label} was turned"
