"""Checks of a dataset: its root, file names, and field maps, which are not used."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from bids_sr.io.notices import Notice
from bids_sr.survey.bids.content import describe_denied, is_denied
from bids_sr.survey.bids.inheritance import parse_suffix, read_object
from bids_sr.survey.bids.run_names import entity_folders
from bids_sr.survey.notices import InputError, input_error, note, problem

_ENTITY = re.compile(r"[A-Za-z]+-[0-9A-Za-z+]+")
# BIDS suffix of a field map → description
_FIELD_MAPS = {
    "epi": "EPI with opposite phase encoding",
    "phasediff": "phase differences",
    "phase1": "phase images of two echoes",
    "fieldmap": "direct field mapping",
}


def check_dataset(bids_dir: Path) -> None:
    """Raise `InputError` unless the directory is the root of a BIDS data set.

    The root contains a dataset description with a name.
    """
    if not bids_dir.is_dir():
        reason = (
            "this path is a file, not a directory"
            if bids_dir.exists()
            else "the dataset directory was not found"
        )
        raise input_error(bids_dir, reason, "Specify the root directory of a BIDS dataset.")
    if is_denied(bids_dir):
        raise InputError([describe_denied(bids_dir)])
    description = bids_dir / "dataset_description.json"
    if not os.path.lexists(description):
        raise input_error(
            bids_dir,
            "dataset_description.json is missing, so the directory is not a BIDS dataset",
            "Specify the directory that contains dataset_description.json and the sub-…"
            " directories.",
        )
    if "Name" not in read_object(description):
        raise input_error(
            description,
            'the required field "Name" is missing',
            'Add "Name" and "BIDSVersion" to the file.',
        )


def judge_image_name(path: Path) -> Iterator[Notice]:
    """Yield the problem of an image whose name or directories are not valid.

    Labels become part of output names, so they may only contain letters, digits and +.
    """
    *entities, _ = path.name.split(".")[0].split("_")
    invalid_entity = next((entity for entity in entities if not _ENTITY.fullmatch(entity)), None)
    folders = entity_folders(path)
    labels = [entity for entity in entities if entity.startswith(("sub-", "ses-"))]
    if invalid_entity is not None:
        yield problem(
            path,
            f"the file name contains {invalid_entity!r}, which is not a valid BIDS entity"
            " (letters, a hyphen, then letters and digits)",
            "Rename the file and its sidecars.",
        )
    elif labels != folders:
        yield problem(
            path,
            f"the file name contains {' '.join(labels) or 'no participant label'}, but the"
            f" directories are named {' '.join(folders)}",
            "Rename the file, or move it to the matching directory.",
        )


def note_field_maps(bids_dir: Path, label: str) -> Iterator[Notice]:
    """Note the field maps of a participant, which are not used.

    Field maps would require sdcflows, which needs FSL or AFNI.
    """
    folders = [
        bids_dir / f"sub-{label}" / "fmap",
        *sorted(bids_dir.glob(f"sub-{label}/ses-*/fmap")),
    ]
    suffixes = {parse_suffix(path) for folder in folders for path in folder.glob("*.nii*")}
    descriptions = [text for suffix, text in _FIELD_MAPS.items() if suffix in suffixes]
    if descriptions:
        yield note(
            f"sub-{label}/fmap",
            f"field maps were found ({', '.join(descriptions)}), but bids-sr does not correct for"
            " susceptibility distortion. To use a field map, run fMRIPrep first and specify its"
            " output with -d fmriprep=DIR.",
        )
