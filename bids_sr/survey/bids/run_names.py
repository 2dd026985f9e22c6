"""Checks of image names: supported entities, distinct output names, and misspelled suffixes."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from bids_sr.io.frozen import frozen
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.entities import file_stem, parse_entities, without_echo
from bids_sr.survey.notices import attribute, problem

RUN_ENTITIES = ("sub", "ses", "task", "acq", "ce", "rec", "dir", "run", "echo", "part", "chunk")
"""Entities of a raw BOLD run, which the output names retain."""
_REPLACED_ENTITY = "desc"
_RENAME_FIX = "Rename the file and its sidecars."
_DERIVATIVES_FIX = (
    f"{_RENAME_FIX} If the file was written by fMRIPrep, specify the raw dataset and add"
    " -d fmriprep=DIR."
)
_CIFTI_NAME = re.compile(r"\.[dp]\w+\.nii$")
_CIFTI = (
    "CIFTI files are not supported",
    "Use the unprocessed series as a NIfTI image (_bold.nii.gz).",
)
# image file of any program, with any spelling of the extension
_ANY_IMAGE = re.compile(
    r"(?P<stem>.+?)(?P<extension>\.nii(\.(gz|bz2|xz|zst))?|\.img(\.gz)?|\.mg[hz]|\.mnc)",
    re.IGNORECASE,
)
_OTHER_SUFFIXES = ("boldref", "cbv", "sbref", "phase", "noRF", "mask")


def label_invalid_name(path: Path, stem: str) -> str:
    """Return the name of a skipped run whose file name cannot be used.

    The name is `stem`, preceded by the directories if their labels differ from the file name,
    because another run may have this name.

    >>> label_invalid_name(Path("sub-01/func/sub-02_task-tap_bold.nii"), "sub-02_task-tap")
    'sub-01/sub-02_task-tap'
    """
    folders = entity_folders(path)
    labels = [part for part in stem.split("_") if part.startswith(("sub-", "ses-"))]
    return stem if labels == folders else "/".join((*folders, stem or path.name))


def entity_folders(path: Path) -> list[str]:
    """Return the names of the participant and session directories of an image."""
    dataset_dir = path.parent.parent
    return (
        [dataset_dir.parent.name, dataset_dir.name]
        if dataset_dir.name.startswith("ses-")
        else [dataset_dir.name]
    )


def select_distinct(paths: Sequence[Path]) -> list[Path]:
    """Return the series whose outputs get distinct names.

    Output names retain the entities of raw BOLD runs, and replace ``desc``. `paths` are the
    selected series of one participant, with well-formed entities.
    """
    return [series[0] for series in _group_by_output_name(paths).values() if len(series) == 1]


def judge_names(paths: Sequence[Path]) -> Iterator[Notice]:
    """Yield the problem of each series that `select_distinct` leaves out, about its run."""
    for path in paths:
        if reason := find_unusable_entity(path):
            subject = parse_entities(path).get("subject", "")
            yield from attribute(
                [problem(path, reason, _DERIVATIVES_FIX)], subject, file_stem(path)
            )
    for name, series in _group_by_output_name(paths).items():
        if len(series) > 1:
            subject = parse_entities(series[0]).get("subject", "")
            reasons = _describe_shared_name(name, series)
            yield from attribute([problem(series[0], *reasons)], subject, name)


def _group_by_output_name(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the series with usable entities by the name that their outputs retain."""
    series_by_name: dict[str, list[Path]] = {}
    for path in paths:
        if not find_unusable_entity(path):
            name = "_".join(part for key, part in _split_name(path) if key != _REPLACED_ENTITY)
            series_by_name.setdefault(name, []).append(path)
    return series_by_name


def find_unusable_entity(path: Path) -> str:
    """Return why the entities of a series cannot be used in output names, "" if they can."""
    parts = _split_name(path)
    for key, part in parts:
        if key not in RUN_ENTITIES and key != _REPLACED_ENTITY:
            return (
                f"the file name contains {part}, which is not allowed in the name of a raw BOLD"
                " run"
            )
    repeated = [key for key, count in Counter(key for key, _ in parts).items() if count > 1]
    return f"the file name contains {repeated[0]}- more than once" if repeated else ""


def _split_name(path: Path) -> list[tuple[str, str]]:
    """Return (entity, part of the name) pairs of a file name in order, e.g. ("run", "run-1")."""
    return [(part.partition("-")[0], part) for part in file_stem(path).split("_")]


def _describe_shared_name(name: str, series: Sequence[Path]) -> tuple[str, str]:
    """Return reason and remedy for several series whose outputs would have the same names."""
    file_names = ", ".join(path.name for path in series)
    stems = {file_stem(path) for path in series}
    if len(stems) == 1:
        return (
            f"the run is stored in {len(series)} files ({file_names})",
            "Keep only one of these files.",
        )
    endings = {path.name[len(file_stem(path)) :] for path in series}  # suffix and extension
    if len(stems) == len(series) and len(endings) == 1:
        similarity = f"differ only in {_REPLACED_ENTITY}"
    else:
        similarity = f"have the same name apart from {_REPLACED_ENTITY} and the extension"
    return (
        f"{len(series)} series {similarity} ({file_names}), so their outputs would have the same"
        f" file names ({name}_…)",
        "Select one of the series with --bids-filter-file, or distinguish them with acq- or rec-"
        " labels.",
    )


@frozen
class MisspelledImage:
    """Image that no search by suffix finds, because its name is misspelled.

    `run` is the name without the suffix, as far as it can be recognized. `reason` is the fault of
    the name, and `remedy` is advice. `is_copy` states whether the image is also stored under a
    valid name.
    """

    path: Path
    run: str
    reason: str
    remedy: str
    is_copy: bool


def find_misspelled_images(folder: Path, suffix: str = "bold") -> Iterator[MisspelledImage]:
    """Yield the images in a directory whose suffix or extension is a misspelling.

    `suffix` is the correct suffix. Images with other suffixes are not included. The directory may
    be missing.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
    except OSError:
        return
    valid_name = re.compile(rf"[^.]*(?<![^_]){suffix}\.nii(\.gz)?")
    valid_stems = {name.partition(".")[0] for name in names if valid_name.fullmatch(name)}
    for name in names:
        image = None if valid_name.fullmatch(name) else _ANY_IMAGE.fullmatch(name)
        if image is None:
            continue
        stem, extension = image["stem"], image["extension"]
        ending = stem.rpartition("_")[2]
        suffix_match = re.search(f"_{suffix}", stem, re.IGNORECASE)
        lacks_suffix = suffix == "bold" and "-" in ending and suffix_match is None
        is_similar = suffix_match or lacks_suffix or suffix.lower() in ending.lower()
        if ending in _OTHER_SUFFIXES or not is_similar:
            continue
        if suffix_match is not None:
            run = stem[: suffix_match.start()]
        else:
            run = stem if lacks_suffix else stem.rpartition("_")[0]
        reason, remedy = (
            _CIFTI
            if _CIFTI_NAME.search(name)
            else _describe_misspelling(ending, extension, suffix)
        )
        yield MisspelledImage(
            path=folder / name,
            run=without_echo(run),
            reason=reason,
            remedy=remedy,
            is_copy=f"{run}_{suffix}" in valid_stems,
        )


def _describe_misspelling(ending: str, extension: str, suffix: str) -> tuple[str, str]:
    """Return reason and remedy for an image whose name ends in `ending` instead of `suffix`."""
    if ending != suffix:
        reason = f"the file name ends in {ending!r} instead of the suffix {suffix!r}"
    elif extension in (".nii", ".nii.gz"):
        reason = "the file name contains a point before the extension"
    else:
        reason = f"the extension {extension} is not one of .nii and .nii.gz"
        return reason, "Rename the file, or convert the image to .nii.gz."
    return reason, _RENAME_FIX
