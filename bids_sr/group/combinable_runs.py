"""Runs of a participant whose maps belong together, by the rules of the participant level.

Contrasts with other weights are already excluded across participants
(`bids_sr.group.equal_contrasts`).
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path

from bids_sr.bids.entities import lack_run_number
from bids_sr.group.input_maps import DerivativeMaps, RunMaps, sort_runs
from bids_sr.io.grids import size_text
from bids_sr.metrics.rows import MISSING
from bids_sr.metrics.word_lists import enumerate_words
from bids_sr.series import RAW

_VoxelSizes = tuple[str, str]
"""Voxel sizes of the acquired and of the super-resolved maps; "" if unknown."""
_REMEDY = (
    "Correct the data and rerun the participant level, or select runs with --run-id or"
    " --session-label"
)


def exclude_uncombinable(
    collected: DerivativeMaps,
) -> tuple[DerivativeMaps, list[tuple[str, str]]]:
    """Exclude runs that the participant level would not combine with the other runs of their task.

    These are runs with another voxel size or super-resolution factor than most runs, and runs
    without a number next to numbered runs. If fewer than two of several runs remain, none of them
    represents the participant, and all are excluded.

    Parameters
    ----------
    collected : DerivativeMaps
        Maps in a derivatives folder.

    Returns
    -------
    DerivativeMaps
        The remaining maps.
    list[tuple[str, str]]
        Participant label (``sub-…``) and a sentence for each task with excluded runs.
    """
    tasks: dict[tuple[str, str, str], list[RunMaps]] = defaultdict(list)
    for run in collected.runs:
        tasks[run.participant, run.task, run.variant].append(run)
    excluded: set[str] = set()
    lines = []
    for (participant, task, variant), task_runs in tasks.items():
        runs = sort_runs(task_runs)
        reasons = _list_exclusion_reasons(runs)
        if not reasons:
            continue
        remaining = [run for run in runs if run.name not in reasons]
        over_sessions = len({run.session for run in runs}) > 1
        names = {run.name: run.short_name(over_sessions=over_sessions) for run in runs}
        causes = "; ".join(f"{names[name]}: {reason}" for name, reason in reasons.items())
        label = "_".join([participant, f"task-{task}", *[variant] * (variant != MISSING)])
        if len(remaining) > 1:
            excluded |= reasons.keys()
            verb = "was" if len(reasons) == 1 else "were"
            text = (
                f"{enumerate_words([names[name] for name in reasons])} {verb} excluded from the"
                f" group maps, because runs that differ are not combined ({causes}). {_REMEDY}"
            )
        else:
            excluded |= {run.name for run in runs}
            text = (
                "the participant was excluded from the group maps, because"
                f" {enumerate_words([names[run.name] for run in runs])} cannot be combined"
                f" ({causes}). {_REMEDY}"
            )
        lines.append((participant, f"{label}: {text}"))
    remaining_runs = [run for run in collected.runs if run.name not in excluded]
    return replace(collected, runs=remaining_runs), lines


def _list_exclusion_reasons(runs: Sequence[RunMaps]) -> dict[str, str]:
    """Return the reason for each run that is not combined with the other runs of its task.

    Reasons are by name of the run.
    """
    if len(runs) < 2:
        return {}
    reasons = {
        run.name: "the name has no run- entity, but other runs of this task have one"
        for run in compress(runs, lack_run_number([run.entities for run in runs]))
    }
    sizes = {run.name: _read_voxel_sizes(run) for run in runs if run.name not in reasons}
    for index, quantity in enumerate(("acquired voxels", "super-resolved voxels")):
        counts = Counter(size[index] for size in sizes.values() if size[index])
        if len(counts) > 1:
            usual_value = counts.most_common(1)[0][0]
            for name, size in sizes.items():
                if size[index] not in ("", usual_value):
                    reasons.setdefault(
                        name, f"{quantity} of {size[index]}; expected {usual_value}"
                    )
    return reasons


def _read_voxel_sizes(run: RunMaps) -> _VoxelSizes:
    """Return the voxel sizes of a run's maps in boldref space."""
    acquired = super_resolved = ""
    for key in run.maps.get("", {}):
        if key[1] == RAW and not acquired:
            acquired = _read_voxel_size(run.map_file(key))
        elif key[1] != RAW and not super_resolved:
            super_resolved = _read_voxel_size(run.map_file(key))
    return acquired or _read_voxel_size(run.mask), super_resolved


def _read_voxel_size(image: Path | None) -> str:
    """Return the voxel size of an image in words, or "" if there is no image."""
    import nibabel as nib

    if image is None:
        return ""
    zooms: Sequence[float] = nib.load(image).header.get_zooms()[:3]  # type: ignore[attr-defined]
    return size_text(float(zoom) for zoom in zooms)
