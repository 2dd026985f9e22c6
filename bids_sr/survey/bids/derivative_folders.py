"""Derivatives of other programs (``--derivatives``), recognized by their dataset descriptions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from bids_sr.config.values import split_named
from bids_sr.io.atomic_files import read_json
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.content import require_content
from bids_sr.survey.bids.inheritance import read_object
from bids_sr.survey.bids.precomputed import DerivativeFolder
from bids_sr.survey.notices import Choice, InputError, input_error, option_problem

_FMRIPREP_PROGRAMS = ("fmriprep", "smriprep")
_THIS_PROGRAM = "bids-sr"
_DESCRIPTION = "dataset_description.json"


def open_derivatives(
    options: Iterable[str], bids_dir: Path
) -> Choice[tuple[DerivativeFolder, ...]]:
    """Open the directories of ``--derivatives``; there are none if any is unusable."""
    folders: dict[str, DerivativeFolder] = {}
    problems: list[Notice] = []
    for text in options:
        name, root = split_named(text)
        try:
            folder = _open_folder(name, Path(root).absolute(), bids_dir)
        except InputError as error:
            problems += error.problems
            continue
        if folder.name in folders:
            reason = "two derivatives directories have the same name"
            fix = "Use a different name for each directory: --derivatives one=DIR two=DIR."
            problems.append(option_problem(f"--derivatives {text}", reason, fix))
        folders[folder.name] = folder
    return Choice(value=() if problems else tuple(folders.values()), notices=tuple(problems))


def _open_folder(name: str, root: Path, bids_dir: Path) -> DerivativeFolder:
    """Open a derivatives directory; raise `InputError` if fMRIPrep did not generate it.

    `name` is the name given on the command line, "" for the name of the program.
    """
    description = root / _DESCRIPTION
    fix = "Specify the fMRIPrep output directory."
    if not root.is_dir():
        raise input_error(root, "the derivatives directory was not found", "Check the path.")
    if root.resolve() == bids_dir.resolve():
        reason = "this directory is the raw dataset, not its derivatives"
        raise input_error(description, reason, _propose_folder(root) or fix)
    require_content(description)
    try:
        program, version = _parse_generator(description)
    except InputError:
        if description.exists():
            raise
        reason = "the file is missing, so the software that generated the derivatives is unknown"
    except (LookupError, AttributeError, TypeError) as error:
        reason = (
            f"the software that generated the derivatives is not recorded ({type(error).__name__})"
        )
        fix = "Copy the file again; its GeneratedBy field must contain the name of the software."
    else:
        program_name = program.lower()
        if program_name in _FMRIPREP_PROGRAMS:
            return DerivativeFolder(
                root=root, name=name or program_name, program=program, version=version
            )
        reason, fix = _describe_other_program(program)
    raise input_error(description, reason, _propose_folder(root) or fix)


def _propose_folder(root: Path) -> str:
    """Propose the fMRIPrep directory that was probably meant instead of a wrong directory.

    Candidates are the source datasets of the wrong directory, then its subdirectories and parents,
    but not its siblings, which may belong to another study. A common mistake is to name the parent
    of the output directory.
    """
    for source_dir in _list_linked_folders(root):
        if _is_fmriprep_output(source_dir / _DESCRIPTION):
            return (
                "Specify the fMRIPrep output directory that was used to compute these"
                f" derivatives: {source_dir}."
            )
    for description in [
        *sorted(root.glob(f"*/{_DESCRIPTION}")),
        *sorted(root.glob(f"derivatives/*/{_DESCRIPTION}")),
        *(folder / _DESCRIPTION for folder in list(root.parents)[:3]),
    ]:
        if _is_fmriprep_output(description):
            return f"Specify the fMRIPrep output directory {description.parent}."
    return ""


def _list_linked_folders(root: Path) -> Iterator[Path]:
    """Yield the local source directories that a dataset description names."""
    try:
        links = read_json(root / _DESCRIPTION)["DatasetLinks"]
        urls = [urlsplit(str(link)) for link in links.values()]
    except (ValueError, LookupError, AttributeError):
        return
    for url in urls:
        if url.scheme in ("", "file"):
            yield Path(os.path.normpath(root / unquote(url.path)))


def _describe_other_program(program: str) -> tuple[str, str]:
    """Return reason and remedy for derivatives that fMRIPrep did not generate."""
    if program.lower() == _THIS_PROGRAM:
        return (
            "the derivatives were generated by bids-sr and contain super-resolved series"
            " instead of preprocessed runs",
            "Omit --derivatives. If the output and working directories (-w) are the same,"
            " completed steps are not repeated.",
        )
    return (
        f"the derivatives were generated by {program or 'unknown software'}, not by fMRIPrep",
        "Specify the fMRIPrep output directory; derivatives of other software are not supported.",
    )


def refuse_output_as_data(bids_dir: Path) -> None:
    """Raise `InputError` if the data set is an fMRIPrep output directory."""
    description = bids_dir / _DESCRIPTION
    if _is_fmriprep_output(description):
        raise input_error(
            description,
            "this directory is an fMRIPrep output directory, not a raw BIDS dataset",
            f"Specify the raw BIDS dataset, and pass this directory with -d fmriprep={bids_dir}.",
        )


def _is_fmriprep_output(description: Path) -> bool:
    """Return whether a dataset description names fMRIPrep or sMRIPrep as generator."""
    try:
        return _parse_generator(description)[0].lower() in _FMRIPREP_PROGRAMS
    except (InputError, LookupError, AttributeError, TypeError):
        return False


def _parse_generator(description: Path) -> tuple[str, str]:
    """Return program and version from a dataset description.

    Both are in the field GeneratedBy, or PipelineDescription for fMRIPrep 20.0. Raises
    `InputError` if the file cannot be read.
    """
    content: dict[str, Any] = read_object(description)
    first = (content.get("GeneratedBy") or [content["PipelineDescription"]])[0]
    return str(first.get("Name") or "").strip(), str(first.get("Version", ""))
