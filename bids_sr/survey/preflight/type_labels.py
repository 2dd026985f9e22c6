"""Labels of trial types in file names, distinct among all types of a task in the data set."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from bids_sr.glm.contrasts import label_types, order_types
from bids_sr.survey.bids.entities import parse_entities
from bids_sr.survey.bids.inputs import Survey
from bids_sr.survey.preflight.estimability import TypesOfRun


def label_trial_types(
    types: Mapping[Path, TypesOfRun], data_set: Survey
) -> dict[Path, Mapping[str, str]]:
    """Return the labels of trial types by BOLD file.

    `types` are the trial types of the selected runs by BOLD file.
    """
    labels_by_run: dict[Path, Mapping[str, str]] = {}
    for task, bolds in _group_by_task(types).items():
        modeled_types = {name for bold in bolds for name in types[bold].modeled}
        task_types = {*data_set.task_types.get(task, ()), *modeled_types}
        labels = label_types(order_types(task_types, data_set.type_order.get(task, ())))
        labels_by_run |= dict.fromkeys(bolds, labels)
    return labels_by_run


def _group_by_task(bolds: Iterable[Path]) -> dict[str, list[Path]]:
    """Return BOLD files by task."""
    bolds_by_task: dict[str, list[Path]] = {}
    for bold in bolds:
        bolds_by_task.setdefault(parse_entities(bold).get("task", ""), []).append(bold)
    return bolds_by_task
