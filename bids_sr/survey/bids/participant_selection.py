"""Participants of a dataset, and their selection by label."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.config import Selection
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.content import describe_denied, is_denied
from bids_sr.survey.bids.label_lists import list_available
from bids_sr.survey.notices import input_error, note, problem

_LABEL = re.compile(r"[0-9A-Za-z+]+")


def list_participants(bids_dir: Path) -> list[str]:
    """Return the sorted labels of all participants.

    Raises `InputError` if there are no participants.
    """
    labels = [label for label in _list_directory_labels(bids_dir) if _LABEL.fullmatch(label)]
    if not labels:
        raise input_error(
            bids_dir,
            "no sub-… directories were found",
            "Specify the root directory of a BIDS dataset.",
        )
    return labels


def note_labels(bids_dir: Path) -> Iterator[Notice]:
    """Note directories with invalid labels."""
    for label in _list_directory_labels(bids_dir):
        if not _LABEL.fullmatch(label):
            yield note(
                bids_dir / f"sub-{label}",
                "the directory is skipped because its name is not a valid BIDS label (letters,"
                " digits and +).",
            )


def _list_directory_labels(bids_dir: Path) -> list[str]:
    """Return the sorted labels of all directories of participants, valid or not."""
    return sorted(
        path.name.removeprefix("sub-") for path in bids_dir.glob("sub-*") if path.is_dir()
    )


def select_participants(existing: Sequence[str], selection: Selection) -> list[str]:
    """Return the labels of the selected participants that exist; all without a selection."""
    return [label for label in selection.participant_label or existing if label in existing]


def refuse_missing_participants(
    bids_dir: Path, existing: Sequence[str], selection: Selection
) -> Iterator[Notice]:
    """Yield the problem of each selected participant that the data set does not have."""
    for label in selection.participant_label:
        if label not in existing:
            yield problem(
                bids_dir / f"sub-{label}",
                f"participant {label!r} was not found in the dataset",
                f"Available: {list_available(label, existing)}",
            )


def find_denied_folders(root: Path, labels: Sequence[str]) -> dict[str, Notice]:
    """Return the problem of each participant with a folder that may not be read, by label.

    `root` is the data set or the directory of derivatives. Participants without folders have no
    problem.
    """
    problems = {}
    for label in labels:
        denied_folder = next(filter(is_denied, _list_image_folders(root / f"sub-{label}")), None)
        if denied_folder is not None:
            denied = describe_denied(denied_folder)
            problems[label] = replace(denied, subject=label, run=f"sub-{label}")
    return problems


def _list_image_folders(participant: Path) -> Iterator[Path]:
    """Yield the folders of a participant that are searched for images, with their sessions."""
    sessions = [participant / name for name in _list_names(participant) if name[:4] == "ses-"]
    for folder in (participant, *sessions):
        yield from (folder, folder / "anat", folder / "func")


def _list_names(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; empty if the folder does not exist."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
