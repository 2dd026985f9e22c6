"""Participants of a dataset, and their selection by label."""

import re
from collections.abc import Sequence
from pathlib import Path

from bids_sr.bids.findings import Findings, input_error
from bids_sr.bids.label_lists import list_available
from bids_sr.config import Selection

_LABEL = re.compile(r"[0-9A-Za-z+]+")


def list_participants(bids_dir: Path, findings: Findings) -> list[str]:
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
        text = (
            "the directory is skipped because its name is not a valid BIDS label (letters,"
            " digits and +)."
        )
        findings.note(bids_dir / f"sub-{label}", text)
    spellings_by_lowercase: dict[str, list[str]] = {}
    for label in valid_labels:
        spellings_by_lowercase.setdefault(label.lower(), []).append(label)
    for spellings in spellings_by_lowercase.values():
        if len(spellings) > 1:
            text = (
                f"the labels of the participants {' and '.join(spellings)} differ only in case."
                " On case-insensitive file systems (macOS, Windows), their results overwrite each"
                " other."
            )
            findings.note(bids_dir / f"sub-{spellings[0]}", text)
    return valid_labels


def select_participants(
    bids_dir: Path, existing: Sequence[str], selection: Selection, findings: Findings
) -> list[str]:
    """Return the labels of the selected participants; unavailable labels are reported as problems.

    Without ``--participant-label``, all participants are selected.
    """
    labels, available_labels = selection.participant_label or existing, set(existing)
    for label in labels:
        if label not in available_labels:
            fix = f"Available: {list_available(label, existing)}"
            findings.add_problem(
                bids_dir / f"sub-{label}",
                f"participant {label!r} was not found in the dataset",
                fix,
            )
    return [label for label in labels if label in available_labels]
