"""Runs of a task that were processed in separate calls, and are therefore not combined.

Maps of all runs are computed from the runs of one call. If the sessions of a participant are
processed one by one, each has its own maps, and there is no map over sessions.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from bids_sr.config import Paths, Selection
from bids_sr.io.earlier_files import run_prefix
from bids_sr.io.frozen import frozen
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.entities import (
    EntityKey,
    parse_entities,
    run_order,
    short_run_name,
    without_entities,
)
from bids_sr.survey.bids.inputs import BoldRun
from bids_sr.survey.bids.label_lists import list_some
from bids_sr.survey.notices import warning

_MAX_RUNS = 6  # number of runs in a message
_FUNC_FOLDERS = ("func", "ses-*/func")
_RUN_ENTITIES = ("session", "run", "echo", "part")  # may differ between runs of a task


@frozen
class EarlierRuns:
    """Runs of a participant, by the beginning of their file names.

    `mapped` have maps in the output, which may be maps of all runs; `existing` have a series in
    the data set.
    """

    mapped: frozenset[str]
    existing: frozenset[str]


def find_earlier_runs(label: str, paths: Paths) -> EarlierRuns:
    """Find the maps and the series of a participant."""
    folder = f"sub-{label}"
    return EarlierRuns(
        mapped=_list_prefixes(paths.output_dir / folder, "*_statmap.nii.gz"),
        existing=_list_prefixes(paths.bids_dir / folder, "*_bold.nii*"),
    )


def _list_prefixes(participant_dir: Path, pattern: str) -> frozenset[str]:
    """Return the part of the names of functional files that identifies their runs, once each."""
    files = (
        path for folder in _FUNC_FOLDERS for path in participant_dir.glob(f"{folder}/{pattern}")
    )
    return frozenset(run_prefix(path.name) for path in files) - {""}


def list_run_options(selection: Selection) -> list[str]:
    """Return the options in use that select runs of a task."""
    values = {
        "--session-label": selection.session_label,
        "--run-id": selection.run_id,
        "--bids-filter-file": selection.bids_filter_file,
    }
    return [option for option, value in values.items() if value]


def separate_runs(
    runs: Sequence[BoldRun], skipped: Iterable[str], earlier: EarlierRuns, options: Sequence[str]
) -> Iterator[Notice]:
    """Warn of runs with maps from an earlier call that are not combined with the runs of a call.

    Runs count if their series are still in the data set but were not selected by the `options`.
    `runs` are runs of one participant that the call processes, and `skipped` names of runs that
    the call skips, which are named elsewhere. There is one warning per task.
    """
    names_in_call = [run.bold.name for run in runs] + [f"{name}_" for name in skipped]
    other_prefixes = earlier.mapped - {run_prefix(name) for name in names_in_call}
    other_runs = [_parse_prefix(prefix) for prefix in sorted(other_prefixes & earlier.existing)]
    # maps of all runs have no series in the data set
    all_maps = [_parse_prefix(prefix) for prefix in sorted(other_prefixes - earlier.existing)]
    tasks: dict[EntityKey, list[Mapping[str, str]]] = defaultdict(list)
    for run in runs:
        tasks[without_entities(run.entities, _RUN_ENTITIES)].append(run.entities)
    for key, task_runs in tasks.items():
        others = [run for run in other_runs if without_entities(run, _RUN_ENTITIES) == key]
        maps = [name for name in all_maps if without_entities(name, _RUN_ENTITIES) == key]
        if others:
            text = _describe(task_runs, others, maps, options)
            yield warning(f"sub-{task_runs[0]['subject']}", text)


def _parse_prefix(prefix: str) -> dict[str, str]:
    """Return the entities in the beginning of a file name."""
    return parse_entities(Path(f"{prefix}_bold.nii.gz"))


def _describe(
    task_runs: Sequence[Mapping[str, str]],
    others: Sequence[Mapping[str, str]],
    maps: Sequence[Mapping[str, str]],
    options: Sequence[str],
) -> str:
    """Return the warning about runs of a task that are not combined, given their entities.

    `maps` are the entities of existing maps of several runs.
    """
    over_sessions = len({run.get("session") for run in (*task_runs, *others)}) > 1
    call_text, other_text = (
        list_some(
            [
                short_run_name(entities, over_sessions=over_sessions)
                for entities in sorted(group, key=run_order)
            ],
            _MAX_RUNS,
        )
        for group in (task_runs, others)
    )
    scope = "all sessions" if over_sessions else "all runs"
    sentences = [
        f"the maps of {other_text} (task {task_runs[0].get('task', '')}) are from another call and"
        f" are not combined with {call_text}, because a map of {scope} is computed only from runs"
        " of the same call."
    ]
    if any(("session" if over_sessions else "run") not in name for name in maps):
        sentences.append(f"The existing maps of {scope} are from an earlier call.")
    sentences.append(
        f"To compute maps of {scope}, process these runs in one call: omit"
        f" {' and '.join(options)}, or specify all labels. Finished steps in the working directory"
        " are reused."
    )
    return " ".join(sentences)
