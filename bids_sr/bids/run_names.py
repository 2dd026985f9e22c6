"""Checks of image names: supported entities, distinct output names, and misspelled suffixes."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from bids_sr.bids.entities import file_stem, parse_entities, without_echo
from bids_sr.bids.findings import Findings
from bids_sr.frozen import frozen

RUN_ENTITIES = ("sub", "ses", "task", "acq", "ce", "rec", "dir", "run", "echo", "part", "chunk")
"""Entities of a raw BOLD run, which the output names retain."""
_REPLACED = "desc"
_RENAME = "Rename the file and its sidecars."
_USE_DERIVATIVES = (
    f"{_RENAME} If the file was written by fMRIPrep, specify the raw dataset and add"
    " -d fmriprep=DIR."
)
# image file of any program, with any spelling of the extension
_ANY_IMAGE = re.compile(
    r"(?P<stem>.+?)(?P<extension>\.nii(\.(gz|bz2|xz|zst))?|\.img(\.gz)?|\.mg[hz]|\.mnc)",
    re.IGNORECASE,
)
_OTHER_SUFFIXES = ("boldref", "cbv", "sbref", "phase", "noRF", "mask")


def _parts(path: Path) -> list[tuple[str, str]]:
    """Return (entity, part of the name) pairs of a file name in order, e.g. ("run", "run-1")."""
    return [(part.partition("-")[0], part) for part in file_stem(path).split("_")]


def named_folders(path: Path) -> list[str]:
    """Return the names of the participant and session directories of an image."""
    dataset_dir = path.parent.parent
    return (
        [dataset_dir.parent.name, dataset_dir.name]
        if dataset_dir.name.startswith("ses-")
        else [dataset_dir.name]
    )


def name_of_unusable(path: Path, stem: str) -> str:
    """Return the name of a skipped run whose file name cannot be used.

    The name is `stem`, preceded by the directories if their labels differ from the file name,
    because another run may have this name.

    >>> name_of_unusable(Path("sub-01/func/sub-02_task-tap_bold.nii"), "sub-02_task-tap")
    'sub-01/sub-02_task-tap'
    """
    folders = named_folders(path)
    labels = [part for part in stem.split("_") if part.startswith(("sub-", "ses-"))]
    return stem if labels == folders else "/".join((*folders, stem or path.name))


def check_names(paths: Sequence[Path], findings: Findings) -> list[Path]:
    """Return the series whose outputs get distinct names, and report all others as problems.

    Output names retain the entities of raw BOLD runs, and replace ``desc``. Each problem is
    attributed to its run.

    Parameters
    ----------
    paths : Sequence[Path]
        Selected series of one participant, with well-formed entities.
    findings : Findings
        Collects the problems.
    """
    usable, same_name = list[Path](), dict[str, list[Path]]()
    for path in paths:
        reason = unusable_entity(path)
        if reason:
            with findings.about(parse_entities(path).get("subject", ""), file_stem(path)):
                findings.add_problem(path, reason, _USE_DERIVATIVES)
            continue
        usable.append(path)
        name = "_".join(part for key, part in _parts(path) if key != _REPLACED)
        same_name.setdefault(name, []).append(path)
    for name, series in same_name.items():
        if len(series) > 1:
            with findings.about(parse_entities(series[0]).get("subject", ""), name):
                findings.add_problem(series[0], *_shared_name(name, series))
            usable = [path for path in usable if path not in series]
    return usable


def unusable_entity(path: Path) -> str:
    """Return why the entities of a series cannot be used in output names, "" if they can."""
    parts = _parts(path)
    for key, part in parts:
        if key not in RUN_ENTITIES and key != _REPLACED:
            return (
                f"the file name contains {part}, which is not allowed in the name of a raw BOLD"
                " run"
            )
    repeated = [key for key, count in Counter(key for key, _ in parts).items() if count > 1]
    return f"the file name contains {repeated[0]}- more than once" if repeated else ""


def _shared_name(name: str, series: Sequence[Path]) -> tuple[str, str]:
    """Return reason and remedy for several series whose outputs would have the same names."""
    names_text, clash = ", ".join(path.name for path in series), f"({name}_…)"
    if len({file_stem(path) for path in series}) == 1:
        return (
            f"the run is stored in {len(series)} files ({names_text})",
            "Keep only one of these files.",
        )
    extensions = {path.name[len(file_stem(path)) :] for path in series}
    common = (
        f"differ only in {_REPLACED}"
        if len({file_stem(path) for path in series}) == len(series) and len(extensions) == 1
        else f"have the same name apart from {_REPLACED} and the extension"
    )
    return (
        f"{len(series)} series {common} ({names_text}), so their outputs would have the same file"
        f" names {clash}",
        "Select one of the series with --bids-filter-file, or distinguish them with acq- or rec-"
        " labels.",
    )


@frozen
class UnreadName:
    """Image that no search by suffix finds, because its name is misspelled.

    Attributes
    ----------
    path : Path
        Image file.
    run : str
        Name without the suffix, as far as it can be recognized.
    reason, remedy : str
        Fault of the name, and advice.
    is_copy : bool
        Whether the image is also stored under a valid name.
    """

    path: Path
    run: str
    reason: str
    remedy: str
    is_copy: bool


def unread_names(folder: Path, suffix: str = "bold") -> Iterator[UnreadName]:
    """Yield the images in a directory whose suffix or extension is a misspelling of `suffix`.

    Images with other suffixes are not included. The directory may be missing.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
    except OSError:
        return
    valid_name = re.compile(rf"[^.]*(?<![^_]){suffix}\.nii(\.gz)?")
    split = re.compile(rf"(.*?)(_{suffix}.*)?", re.IGNORECASE)
    series = {name.partition(".")[0] for name in names if valid_name.fullmatch(name)}
    for name in names:
        if valid_name.fullmatch(name) or (image := _ANY_IMAGE.fullmatch(name)) is None:
            continue
        stem, extension = image["stem"], image["extension"]
        last = stem.rpartition("_")[2]
        before, after = _groups(split, stem)
        is_bare = suffix == "bold" and "-" in last and not after  # ends in an entity
        if last in _OTHER_SUFFIXES or not (after or is_bare or suffix.lower() in last.lower()):
            continue
        reason = f"the file name ends in {last!r} instead of the suffix {suffix!r}"
        remedy = _RENAME
        if last == suffix:
            reason = "the file name contains a point before the extension"
        if last == suffix and extension not in (".nii", ".nii.gz"):
            reason = f"the extension {extension} is not one of .nii and .nii.gz"
            remedy = "Rename the file, or convert the image to .nii.gz."
        run = before if after or is_bare else stem.rpartition("_")[0]
        yield UnreadName(
            path=folder / name,
            run=without_echo(run),
            reason=reason,
            remedy=remedy,
            is_copy=f"{run}_{suffix}" in series,
        )


def _groups(pattern: re.Pattern[str], text: str) -> tuple[str, str]:
    """Return the two groups of a pattern that matches every text; a missing group is ""."""
    match = pattern.fullmatch(text)
    return (text, "") if match is None else (match[1], match[2] or "")
