"""Checks of BOLD file names: supported entities and distinct output names."""

from collections.abc import Sequence
from pathlib import Path

from bids_sr.bids.entities import file_stem
from bids_sr.bids.findings import Findings

RUN_ENTITIES = ("sub", "ses", "task", "acq", "ce", "rec", "dir", "run", "echo", "part", "chunk")
"""Entities of a raw BOLD run, which the output names retain."""
_REPLACED = "desc"
_USE_DERIVATIVES = "Specify the raw dataset. To use fMRIPrep outputs as well, add -d fmriprep=DIR."


def _parts(path: Path) -> list[tuple[str, str]]:
    """Return (entity, part of the name) pairs of a file name in order, e.g. ("run", "run-1")."""
    return [(part.partition("-")[0], part) for part in file_stem(path).split("_")]


def check_names(paths: Sequence[Path], findings: Findings) -> list[Path]:
    """Return the series whose outputs get distinct names, and report all others as problems.

    Output names retain the entities of raw BOLD runs, and replace ``desc``.

    Parameters
    ----------
    paths : Sequence[Path]
        Selected series of one participant, with well-formed entities.
    findings : Findings
        Collects the problems.
    """
    usable, same_name = list[Path](), dict[str, list[Path]]()
    for path in paths:
        unsupported = [
            part for key, part in _parts(path) if key not in RUN_ENTITIES and key != _REPLACED
        ]
        if unsupported:
            reason = (
                f"the file name contains {unsupported[0]}, which is not allowed in the name of a"
                " raw BOLD run"
            )
            findings.add_problem(path, reason, _USE_DERIVATIVES)
            continue
        usable.append(path)
        name = "_".join(part for key, part in _parts(path) if key != _REPLACED)
        same_name.setdefault(name, []).append(path)
    for name, series in same_name.items():
        if len(series) > 1:
            findings.add_problem(
                series[0],
                f"{len(series)} series differ only in {_REPLACED}"
                f" ({', '.join(path.name for path in series)}), so their outputs would have the"
                f" same file names ({name}_…)",
                "Select one of the series with --bids-filter-file, or distinguish them with acq-"
                " or rec- labels.",
            )
            usable = [path for path in usable if path not in series]
    return usable
