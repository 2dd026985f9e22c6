"""Trial types of a task in all events tables of a data set.

File names of maps contain labels of trial types. Labels are distinct among all types of a task,
whichever participants are selected, so that a label has the same meaning in all calls.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bids_sr.glm.contrasts import UNNAMED, list_modeled_types, order_types
from bids_sr.io.tables import TABLE_ERRORS, read_rows
from bids_sr.survey.bids.entities import parse_entities
from bids_sr.survey.bids.layout import list_events


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
    for table in list_events(bids_dir):
        task = parse_entities(table).get("task")
        for name in names if task is None else {task} & names.keys():
            names[name] |= dict.fromkeys(_read_types(table, type_order[name]))
    return {task: order_types(types, type_order[task]) for task, types in names.items()}


def _read_types(table: Path, levels: Sequence[str]) -> tuple[str, ...]:
    """Return the trial types in an events table; () if it cannot be read."""
    try:
        columns, rows = read_rows(table)
    except TABLE_ERRORS:
        return ()
    if "trial_type" not in columns:
        return (UNNAMED,)
    return list_modeled_types((row["trial_type"] for _, row in rows), levels)
