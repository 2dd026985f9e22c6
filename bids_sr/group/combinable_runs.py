"""Runs of a participant whose maps belong together, by the rules of the participant level.

Contrasts with other weights are already excluded across participants
(`bids_sr.group.equal_contrasts`).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.engine.metric_rows import MISSING
from bids_sr.group.input_maps import DerivativeMaps, RunMaps, Task, sort_runs
from bids_sr.io.atomic_files import read_json
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import size_text
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.notices import InvalidInput
from bids_sr.io.series import ACQUIRED
from bids_sr.io.word_lists import enumerate_words
from bids_sr.survey.bids.acquisitions import (
    Acquisition,
    find_unlike_runs,
    find_unusual_acquisitions,
    read_acquisition,
)
from bids_sr.survey.bids.entities import file_stem

_REMEDY = (
    "Correct the data and rerun the participant level, or select runs with --run-id or"
    " --session-label"
)


@frozen
class UncombinableRuns:
    """Runs that the participant level would not combine with the other runs of their task.

    `runs` are their names, and `reasons` sentences by participant (``sub-…``), and task and
    variant.
    """

    runs: frozenset[str]
    reasons: Mapping[tuple[str, Task], str]

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Participant and sentence for each task with such runs."""
        return [(participant, sentence) for (participant, _), sentence in self.reasons.items()]

    def exclude(self, collected: DerivativeMaps) -> DerivativeMaps:
        """Return the maps without these runs."""
        runs = [run for run in collected.runs if run.name not in self.runs]
        return replace(collected, runs=runs)


def find_uncombinable(collected: DerivativeMaps) -> UncombinableRuns:
    """Find runs that the participant level would not combine with the other runs of their task.

    These are runs with another voxel size or super-resolution factor than most runs, and runs
    without a number next to numbered runs. Without stored combined maps, which may contain such
    runs on request, these are also runs that were acquired otherwise. If fewer than two of several
    runs remain, none of them represents the participant, and all are excluded.
    """
    combined = {(maps.participant, maps.task_key) for maps in collected.combined}
    tasks: dict[tuple[str, Task], list[RunMaps]] = defaultdict(list)
    for run in collected.runs:
        tasks[run.participant, run.task_key].append(run)
    excluded: set[str] = set()
    sentences = {}
    for (participant, task), task_runs in tasks.items():
        runs = sort_runs(task_runs)
        sizes = {run.name: _read_voxel_sizes(run) for run in runs}
        reasons = find_unlike_runs(
            {run.name: run.entities for run in runs},
            {name: size and f"acquired voxels of {size}" for name, (size, _) in sizes.items()},
            {name: size and f"voxels of {size}" for name, (_, size) in sizes.items()},
        )
        if (participant, task) not in combined:
            reasons |= find_unusual_acquisitions(
                {run.name: _read_acquisition(run) for run in runs if run.name not in reasons}
            )
        if not reasons:
            continue
        can_combine_others = sum(run.name not in reasons for run in runs) > 1
        excluded |= reasons.keys() if can_combine_others else {run.name for run in runs}
        variant_label = [] if task[1] == MISSING else [task[1]]
        label = "_".join([participant, f"task-{task[0]}", *variant_label])
        text = _exclusion_text(runs, reasons, can_combine_others=can_combine_others)
        sentences[participant, task] = f"{label}: {text}"
    return UncombinableRuns(runs=frozenset(excluded), reasons=sentences)


def _read_acquisition(run: RunMaps) -> Acquisition:
    """Return the acquisition of a run from the sidecar of its boldref, as far as it is known.

    Unreadable images are reported by `bids_sr.group.input_checks` if they are needed.
    """
    unknown = Acquisition(phase_encoding=None, echo_time_ms=None, field_t=None)
    if run.boldref is None:
        return unknown
    sidecar = run.boldref.with_name(f"{file_stem(run.boldref)}_boldref.json")
    try:
        return read_acquisition(read_json(sidecar), SeriesReader(run.boldref).affine)
    except (OSError, ValueError):
        return unknown


def _read_voxel_sizes(run: RunMaps) -> tuple[str | None, str | None]:
    """Return the acquired and the super-resolved voxel size of a run's maps, None if unknown."""
    acquired = super_resolved = None
    for key in run.maps.get("", {}):
        if key[1] == ACQUIRED and not acquired:
            acquired = _read_voxel_size(run.map_file(key))
        elif key[1] != ACQUIRED and not super_resolved:
            super_resolved = _read_voxel_size(run.map_file(key))
    return acquired or _read_voxel_size(run.mask), super_resolved


def _read_voxel_size(image: Path | None) -> str | None:
    """Return the voxel size of an image in words, or None if there is no readable image.

    Unreadable images are reported by `bids_sr.group.input_checks` if they are needed.
    """
    if image is None:
        return None
    try:
        return size_text(SeriesReader(image).zooms)
    except (OSError, InvalidInput):
        return None


def _exclusion_text(
    runs: Sequence[RunMaps], reasons: Mapping[str, str], *, can_combine_others: bool
) -> str:
    """Return a sentence on runs that are not combined with the other runs of their task.

    `runs` are all runs of a participant and task, and `reasons` has a reason by the name of each
    run that is not combined. If the other runs cannot be combined, the participant is excluded.
    """
    over_sessions = len({run.session for run in runs}) > 1
    names = {run.name: run.short_name(over_sessions=over_sessions) for run in runs}
    causes = "; ".join(f"{names[name]}: {reason}" for name, reason in reasons.items())
    if can_combine_others:
        verb = "was" if len(reasons) == 1 else "were"
        return (
            f"{enumerate_words([names[name] for name in reasons])} {verb} excluded from the"
            f" group maps, because runs that differ are not combined ({causes}). {_REMEDY}"
        )
    return (
        "the participant was excluded from the group maps, because"
        f" {enumerate_words([names[run.name] for run in runs])} cannot be combined"
        f" ({causes}). {_REMEDY}"
    )
