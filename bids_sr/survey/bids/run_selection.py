"""BOLD series of the participants, and their selection by session, task and run."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bids_sr.config import Selection
from bids_sr.io.notices import Notice
from bids_sr.survey.bids import dataset_checks, label_lists
from bids_sr.survey.bids.entities import parse_entities, parse_label, stem_of_echoes
from bids_sr.survey.bids.layout import Index
from bids_sr.survey.bids.run_names import find_unusable_entity, label_invalid_name
from bids_sr.survey.notices import attribute, note, option_problem, problem


def list_valid_bolds(index: Index, label: str) -> list[Path]:
    """Return the BOLD series of a participant with valid names.

    Names that no output can have are left out only if they are listed in ``.bidsignore``.
    """
    return [
        path
        for path in index.find("bold", label)
        if not any(dataset_checks.judge_image_name(path))
        and not (index.is_ignored(path) and find_unusable_entity(path))
    ]


def judge_bold_names(index: Index, label: str, selection: Selection) -> Iterator[Notice]:
    """Yield the problems of selected series with invalid names that ``.bidsignore`` does not list.

    Misspelled copies of other series are noted.
    """
    for path in index.find("bold", label):
        if is_selected(path, selection) and not index.is_ignored(path):
            name = label_invalid_name(path, stem_of_echoes(path))
            yield from attribute(dataset_checks.judge_image_name(path), label, name)
    for image in index.find_misspelled_images("bold", label):
        if is_selected(image.path, selection) and not index.is_ignored(image.path):
            fault = (
                note(image.path, f"the image is not read because {image.reason}.")
                if image.is_copy
                else problem(image.path, image.reason, image.remedy)
            )
            yield from attribute([fault], label, label_invalid_name(image.path, image.run))


def is_selected(path: Path, selection: Selection) -> bool:
    """Return whether the labels of a series are selected by session, task and run."""
    entities = parse_entities(path)
    return all(
        not labels or parse_label(entities, entity) in labels
        for entity, labels in _list_requested_labels(selection).items()
    )


def _list_requested_labels(selection: Selection) -> dict[str, tuple[str, ...]]:
    """Return the labels that the options select by entity; empty if all are selected."""
    return {
        "session": selection.session_label,
        "task": selection.task_id,
        "run": tuple(map(str, selection.run_id)),
    }


def refuse_missing_labels(all_bolds: Sequence[Path], selection: Selection) -> Iterator[Notice]:
    """Reject requested sessions, tasks and runs that none of the series has."""
    options = {"session": "--session-label", "task": "--task-id", "run": "--run-id"}
    for entity, labels in _list_requested_labels(selection).items():
        existing_labels = {parse_label(parse_entities(path), entity) for path in all_bolds} - {""}
        for label in labels:
            if label not in existing_labels:
                yield option_problem(
                    f"{options[entity]} {label}",
                    f"no BOLD runs with {entity} {label!r} were found for the selected"
                    " participants",
                    f"Available: {label_lists.list_available(label, sorted(existing_labels))}",
                )


def note_skipped_participants(bolds: Mapping[str, Sequence[Path]]) -> Iterator[Notice]:
    """Note participants without any selected run; `bolds` are the selected series by label."""
    for label, paths in bolds.items():
        if not paths:
            text = "none of the requested BOLD runs were found; the participant is skipped."
            yield from attribute([note(f"sub-{label}", text)], label)


def refuse_missing_runs(
    bolds: Mapping[str, Sequence[Path]], selection: Selection
) -> Iterator[Notice]:
    """Reject requested participants without any selected run, or a data set without one.

    `bolds` are the selected series by label of the participant.
    """
    missing = [label for label in bolds if not bolds[label]]
    requested = [label for label in missing if label in selection.participant_label]
    for label in requested:
        yield problem(
            f"sub-{label}",
            "no BOLD runs were found for the requested sessions, tasks and runs"
            if any(_list_requested_labels(selection).values())
            else "no BOLD runs were found for this participant",
            "Exclude the participant, or add the missing BOLD run"
            " (`func/sub-…_task-…_bold.nii.gz`) to the dataset.",
        )
    if requested or not bolds or len(missing) < len(bolds):
        return
    reason = "no BOLD runs were found in the dataset"
    fix = "Add BOLD runs (`func/sub-…_task-…_bold.nii.gz`) to the dataset."
    if selection.bids_filter_file is not None:
        reason = "no BOLD runs in the dataset match the filters in --bids-filter-file"
        fix = (
            "Check the filter file, or add BOLD runs (`func/sub-…_task-…_bold.nii.gz`) to the"
            " dataset."
        )
    yield problem("sub-*/func", reason, fix)
