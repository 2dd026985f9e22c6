"""Record of a group map: its participants and files, and why others are not included.

File names, sidecars, the table of inputs, the page, the console and the dry run are written from
these records.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from bids_sr.engine.metric_rows import MISSING
from bids_sr.group.input_maps import MapKey, Origin
from bids_sr.group.output_files import GroupNames
from bids_sr.io.frozen import frozen
from bids_sr.io.series import map_label
from bids_sr.io.volume import Volume
from bids_sr.survey.bids.label_lists import list_some
from bids_sr.survey.preflight.combined_runs import RunTerm, name_over_runs

ORIGIN_TEXTS: Mapping[Origin, str] = {
    "stored": "stored map of all runs",
    "computed": "mean of the maps of the runs with equal weights",
    "single": "map of the only run",
}
_MAX_LISTED_CONTRASTS = 6


@frozen
class MapMember:
    """Participant (``sub-…``) in a group map.

    `origin` states how the map of the participant was computed from the runs. `runs` are the
    starts of the file names of the runs in the participant's map, and `sessions` the labels of
    their sessions; () without sessions. `files` are the effect map of the participant, or the
    effect maps of the runs.
    """

    participant: str
    origin: Origin
    runs: tuple[str, ...]
    sessions: tuple[str, ...]
    files: tuple[Path, ...]


@frozen
class Exclusion:
    """Reason why a participant is not in a group map, which continues "… is not in the map: ".

    It `is_listed` if the missing participants and runs already contain the reason.
    """

    reason: str
    is_listed: bool = False


@frozen
class GroupMapRecord:
    """Group map of one contrast and series.

    `variant` are the entities other than session, task and run; n/a if there are none. `key` has
    contrast, series, FWHM (mm) and statistic of the participants' maps. `space` is the
    TemplateFlow name of the template, with the cohort after a plus sign. `weights` are the weights
    of the trial types in the contrast; empty if they are not recorded. `terms` are of a contrast
    over runs, without its runs; empty for other contrasts. `excluded` has a reason for each other
    participant, by label. `checksums` are the SHA-256 of the members' files; empty before the
    files are read. `n_voxels` is the number of voxels with values; 0 before the map is computed,
    and if it cannot be computed.
    """

    names: GroupNames
    task: str
    variant: str
    key: MapKey
    space: str
    weights: Mapping[str, float]
    terms: Sequence[Mapping[str, Any]]
    members: tuple[MapMember, ...]
    excluded: Mapping[str, Exclusion]
    checksums: Mapping[Path, str]
    n_voxels: int = 0

    @property
    def participants(self) -> tuple[str, ...]:
        """Labels of the participants in the map."""
        return tuple(member.participant for member in self.members)

    @property
    def requested_name(self) -> str:
        """Name of a contrast over runs as requested."""
        terms = [RunTerm(**term, runs=()) for term in self.terms]
        return name_over_runs(self.key[0], terms)

    @property
    def task_label(self) -> str:
        """Label of task and variant in file names, such as ``task-tap_acq-fast``."""
        return f"task-{self.task}" + ("" if self.variant == MISSING else f"_{self.variant}")

    def file_stem(self, stat: str) -> str:
        """Return the name of the map of a statistic, without extension."""
        contrast, series, fwhm_mm, _ = self.key
        return (
            f"{self.names.start}_{self.task_label}_space-{self.space}_res-2_contrast-{contrast}"
            f"_stat-{stat}_desc-{map_label(series, fwhm_mm)}_statmap"
        )

    def exclude(self, reasons: Mapping[str, str]) -> "GroupMapRecord":
        """Return the record without some members, with the reason for each of them."""
        exclusions = {label: Exclusion(reason=reason) for label, reason in reasons.items()}
        members = tuple(member for member in self.members if member.participant not in reasons)
        return replace(self, members=members, excluded={**self.excluded, **exclusions})

    def sidecar_entries(self) -> dict[str, object]:
        """Return the entries of the sidecars about participants, sessions and weights."""
        entries: dict[str, object] = {
            "NumberOfVoxels": self.n_voxels,
            "NumberOfParticipants": len(self.members),
            "Participants": list(self.participants),
            "Excluded": {label: exclusion.reason for label, exclusion in self.excluded.items()},
        }
        if sessions := {session for member in self.members for session in member.sessions}:
            entries["Sessions"] = sorted(sessions)
            entries["SessionsPerParticipant"] = {
                member.participant: len(member.sessions) for member in self.members
            }
        if self.names.sessions:
            entries["SelectedSessions"] = list(self.names.sessions)
        if self.weights:
            entries["ContrastWeights"] = dict(self.weights)
        if self.terms:
            entries["Terms"] = list(self.terms)
        return entries


@frozen
class GroupMaps:
    """Computed group maps, with notes on their computation.

    `maps` has one row per map (see `bids_sr.group.maps.compute_group_maps`), sorted by task,
    contrast and series. `notes` are sentences on maps that could not be computed or whose p values
    are limited, and `records` the participants of each planned map. `background` and `mask` are
    the template and the tested voxels on the grid of the maps. Without any map, `space` and images
    are None.
    """

    space: str | None = None
    maps: pd.DataFrame = field(default_factory=pd.DataFrame)
    notes: tuple[str, ...] = ()
    records: Sequence[GroupMapRecord] = ()
    background: Volume | None = None
    mask: Volume | None = None


def input_rows(
    records: Iterable[GroupMapRecord], output_dir: Path
) -> list[dict[str, str | int | float]]:
    """Return a row per group map, participant and file, with the columns ``group_inputs``."""
    rows: list[dict[str, str | int | float]] = []
    for record in records:
        contrast, series, fwhm_mm, _ = record.key
        map_cells: dict[str, str | int | float] = {
            "task": record.task,
            "variant": record.variant,
            "contrast": contrast,
            "series": series,
            "fwhm_mm": fwhm_mm,
        }
        for member in record.members:
            member_cells = {
                "participant": member.participant,
                "included": "yes",
                "origin": member.origin,
                "sessions": ",".join(member.sessions) or MISSING,
                "runs": ",".join(member.runs) or MISSING,
            }
            rows += [
                {
                    **map_cells,
                    **member_cells,
                    "file": f"bids::{path.relative_to(output_dir).as_posix()}",
                    "sha256": record.checksums.get(path, MISSING),
                }
                for path in member.files
            ]
        rows += [
            {**map_cells, "participant": label, "included": "no", "reason": exclusion.reason}
            for label, exclusion in record.excluded.items()
        ]
    return rows


def exclusion_lines(records: Sequence[GroupMapRecord]) -> list[str]:
    """Return a sentence per participant and reason for not being in group maps.

    Reasons that are listed elsewhere are omitted. The sentence names the contrasts and series
    unless the reason concerns all maps of the task.
    """
    lines: list[str] = []
    for label, task_records in _group_by_task(records).items():
        keys_by_reason: dict[tuple[str, str], list[MapKey]] = defaultdict(list)
        for record in task_records:
            for participant, exclusion in record.excluded.items():
                if not exclusion.is_listed:
                    keys_by_reason[participant, exclusion.reason].append(record.key)
        for (participant, reason), keys in sorted(keys_by_reason.items()):
            maps_text = _maps_text(keys, [record.key for record in task_records])
            lines.append(f"{participant} is not in the {maps_text} for {label}: {reason}")
    return lines


def _maps_text(keys: Sequence[MapKey], all_keys: Sequence[MapKey]) -> str:
    """Describe some of all maps of a task, such as ``group maps of all (acquired, sbl)``."""
    if len(keys) == len(all_keys):
        return "group maps"
    contrasts = list_some([*dict.fromkeys(key[0] for key in keys)], _MAX_LISTED_CONTRASTS)
    series = [*dict.fromkeys(key[1] for key in keys)]
    all_series = {key[1] for key in all_keys if key[0] in {key[0] for key in keys}}
    series_text = "" if set(series) == all_series else f" ({', '.join(series)})"
    return f"group maps of {contrasts}{series_text}"


def session_lines(records: Sequence[GroupMapRecord]) -> list[str]:
    """Return a sentence per task on the combined sessions, and on who has fewer of them."""
    lines = []
    for task_label, task_records in _group_by_task(records).items():
        sessions_by_participant: dict[str, set[str]] = defaultdict(set)
        for member in (member for record in task_records for member in record.members):
            sessions_by_participant[member.participant].update(member.sessions)
        sessions = sorted(set().union(*sessions_by_participant.values()))
        if len(sessions) < 2:
            continue
        incomplete = [
            f"{participant}: {len(labels)} ({', '.join(sorted(labels))})"
            for participant, labels in sorted(sessions_by_participant.items())
            if len(labels) < len(sessions)
        ]
        line = (
            f"group maps for {task_label}: the sessions {', '.join(sessions)} of each participant"
            f" were combined; {len(sessions_by_participant) - len(incomplete)} of"
            f" {len(sessions_by_participant)} participants have each of the {len(sessions)}"
            " sessions"
        )
        fewer = f". Number of sessions of the others: {'; '.join(incomplete)}"
        lines.append(line + (fewer if incomplete else ""))
    return lines


def plan_lines(records: Sequence[GroupMapRecord]) -> list[str]:
    """Return a line per task and set of participants on the planned group maps."""
    lines = []
    for task_label, task_records in _group_by_task(records).items():
        by_participants: dict[tuple[str, ...], list[MapKey]] = defaultdict(list)
        for record in task_records:
            by_participants[record.participants].append(record.key)
        for participants, keys in by_participants.items():
            contrasts = list_some([*dict.fromkeys(key[0] for key in keys)], _MAX_LISTED_CONTRASTS)
            series = ", ".join(dict.fromkeys(key[1] for key in keys))
            lines.append(
                f"group maps for {task_label} in {task_records[0].space}: {contrasts} ({series}),"
                f" {len(participants)} participants: {', '.join(participants)}"
            )
    return lines


def _group_by_task(
    records: Iterable[GroupMapRecord],
) -> dict[str, list[GroupMapRecord]]:
    """Return the records by label of task and variant."""
    by_task: dict[str, list[GroupMapRecord]] = defaultdict(list)
    for record in records:
        by_task[record.task_label].append(record)
    return by_task
