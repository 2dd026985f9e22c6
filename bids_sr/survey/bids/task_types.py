"""Trial types of a task in all events tables of a data set.

File names of maps contain labels of trial types. Labels are distinct among all types of a task,
whichever participants are selected, so that a label has the same meaning in all calls.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bids_sr.glm.contrasts import UNNAMED, list_modeled_types, order_types
from bids_sr.io.tables import TABLE_ERRORS, read_rows
from bids_sr.survey.bids.entities import parse_entities
from bids_sr.survey.bids.layout import list_subfolders


def read_task_types(
    bids_dir: Path, type_order: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """Return the trial types by task in all events tables, in the order of contrasts.

    Tables that cannot be read are skipped. `type_order` are trial types by task in the order of
    ``Levels`` at the root of the data set, which are included.
    """
    if not type_order:
        return {}
    names: dict[str, dict[str, None]] = {
        task: dict.fromkeys(list_modeled_types(levels, levels))
        for task, levels in type_order.items()
    }
    for table in _list_events(bids_dir):
        task = parse_entities(table).get("task")
        for name in names if task is None else {task} & names.keys():
            names[name] |= dict.fromkeys(_read_types(table, type_order[name]))
    return {task: order_types(types, type_order[task]) for task, types in names.items()}


def _list_events(bids_dir: Path) -> Iterator[Path]:
    """Yield the events tables of all participants, and the tables shared by them.

    Folders that cannot be read are skipped.
    """
    pattern = re.compile(r"(.*_)?events\.tsv")
    for participant in [bids_dir, *_list_readable_subfolders(bids_dir, "sub-")]:
        for session_dir in [participant, *_list_readable_subfolders(participant, "ses-")]:
            for folder in (session_dir, session_dir / "func"):
                with suppress(OSError):
                    paths = sorted(folder.iterdir())
                    yield from (path for path in paths if pattern.fullmatch(path.name))


def _list_readable_subfolders(folder: Path, prefix: str) -> list[Path]:
    """Return the subfolders whose names start with a prefix, or none if they cannot be listed."""
    try:
        return list_subfolders(folder, prefix)
    except OSError:
        return []


def _read_types(table: Path, levels: Sequence[str]) -> tuple[str, ...]:
    """Return the trial types in an events table; () if it cannot be read."""
    try:
        columns, rows = read_rows(table)
    except TABLE_ERRORS:
        return ()
    if "trial_type" not in columns:
        return (UNNAMED,)
    return list_modeled_types((row["trial_type"] for _, row in rows), levels)
