"""Participants of a dataset, and their selection by label."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from bids_sr.config import Selection
from bids_sr.survey.bids.findings import (
    about,
    add_notices,
    add_problem,
    describe_denied,
    input_error,
    is_denied,
    note,
)
from bids_sr.survey.bids.label_lists import list_available
from bids_sr.survey.bids.run_names import note_equal_without_case

_LABEL = re.compile(r"[0-9A-Za-z+]+")


def list_participants(bids_dir: Path) -> list[str]:
    """Return the sorted labels of all participants, and report directories with invalid labels.

    Raises `InputError` if there are no participants.
    """
    directory_labels = sorted(
        path.name.removeprefix("sub-") for path in bids_dir.glob("sub-*") if path.is_dir()
    )
    valid_labels = [label for label in directory_labels if _LABEL.fullmatch(label)]
    if not valid_labels:
        raise input_error(
            bids_dir,
            "no sub-… directories were found",
            "Specify the root directory of a BIDS dataset.",
        )
    for label in sorted(set(directory_labels) - set(valid_labels)):
        note(
            bids_dir / f"sub-{label}",
            "the directory is skipped because its name is not a valid BIDS label (letters,"
            " digits and +).",
        )
    folders = {label: bids_dir / f"sub-{label}" for label in valid_labels}
    note_equal_without_case("labels of the participants", folders)
    return valid_labels


def select_participants(
    bids_dir: Path, existing: Sequence[str], selection: Selection
) -> list[str]:
    """Return the labels of the selected participants; unavailable labels are reported as problems.

    Without ``--participant-label``, all participants are selected.
    """
    labels, available_labels = selection.participant_label or existing, set(existing)
    for label in labels:
        if label not in available_labels:
            add_problem(
                bids_dir / f"sub-{label}",
                f"participant {label!r} was not found in the dataset",
                f"Available: {list_available(label, existing)}",
            )
    return [label for label in labels if label in available_labels]


def select_readable(root: Path, labels: Sequence[str]) -> list[str]:
    """Return the participants whose folders in a data set or in derivatives may be read.

    The others are reported with the first folder that may not be read. Participants without
    folders are included. `root` is the data set or the directory of derivatives.
    """
    readable_labels = []
    for label in labels:
        denied_folder = next(filter(is_denied, _list_image_folders(root / f"sub-{label}")), None)
        if denied_folder is None:
            readable_labels.append(label)
            continue
        with about(label, f"sub-{label}"):
            add_notices([describe_denied(denied_folder)])
    return readable_labels


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
