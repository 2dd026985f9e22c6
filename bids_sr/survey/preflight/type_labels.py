"""Labels of trial types in file names, distinct among all types of a task in the data set."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from bids_sr.glm.contrasts import ALL, camel_case, label_types, order_types
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.entities import parse_entities
from bids_sr.survey.bids.inputs import Survey
from bids_sr.survey.bids.label_lists import list_some
from bids_sr.survey.notices import note
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


def changed_labels(
    types: Mapping[Path, TypesOfRun], labels: Mapping[Path, Mapping[str, str]]
) -> Iterator[Notice]:
    """Note labels that other types of the task have too, once per task."""
    for bolds in _group_by_task(types).values():
        modeled_types = {name for bold in bolds for name in types[bold].modeled}
        for text in _describe_changes(labels[bolds[0]], modeled_types):
            yield note(types[bolds[0]].table, text, code="events")


def _group_by_task(bolds: Iterable[Path]) -> dict[str, list[Path]]:
    """Return BOLD files by task."""
    bolds_by_task: dict[str, list[Path]] = {}
    for bold in bolds:
        bolds_by_task.setdefault(parse_entities(bold).get("task", ""), []).append(bold)
    return bolds_by_task


def _describe_changes(labels: Mapping[str, str], types: Collection[str]) -> list[str]:
    """Return a sentence per group of types whose labels of `camel_case` are equal without case.

    `labels` are of all types of a task. Groups without any of `types` are omitted.
    """
    groups: dict[str, list[str]] = {}
    for name in labels:
        groups.setdefault(camel_case(name).lower(), []).append(name)
    texts = []
    for key, names in groups.items():
        is_all = key == ALL and len(labels) > 1
        if {*names}.isdisjoint(types) or (len(names) == 1 and not is_all):
            continue
        labels_text = list_some([f"{name!r} (contrast-{labels[name]})" for name in names], 4)
        reason = (
            f"contrast-{ALL} is the mean of all trial types"
            if is_all
            else "trial types differ only in symbols or in case, which some file systems ignore"
        )
        texts.append(f"labels of maps were changed, because {reason}: {labels_text}.")
    return texts
