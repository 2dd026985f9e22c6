"""Links in the output and working directories that lead into the input data.

The data set is never modified. If a folder for results is a link into the data, results would
replace files of the data, and files of the data would be moved as results of an earlier call.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bids_sr.bids import Findings
from bids_sr.config import Settings
from bids_sr.config.sections.paths import WORKFLOW
from bids_sr.config.values import split_named

# in the output directory; a README of the user is not changed
_FILES = ("dataset_description.json", ".bidsignore", "CHANGES", "CITATION.*", "*.html")
_FOLDERS = ("logs", "group", ".group")
_WORK_FOLDERS = ("locks", WORKFLOW, f"{WORKFLOW}/*")

# function that returns the target of a path if it is in the input data, and otherwise None
_FindTarget = Callable[[Path], Path | None]


def refuse_links_into_data(
    settings: Settings, findings: Findings, *, labels: Sequence[str] | None = None
) -> None:
    """Report files and folders for results that are links into the input data.

    Links to other places are accepted, and searched for further links. `labels` are the
    participants whose results can be written. If None, these are all participants of the output.
    """
    paths = settings.paths
    output_dir, work_dir = paths.output_dir, paths.work_dir
    find_target = _make_search(settings)
    written = [path for pattern in _FILES for path in output_dir.glob(pattern)]
    for root in paths.list_participant_roots():
        written.append(root)
        if find_target(root) is not None or not root.is_dir():
            continue
        names = [folder.name for folder in root.glob("sub-*")]
        if labels is not None:
            names = [f"sub-{label}" for label in labels]
        for name in names:
            written += _iterate_links(root / name, find_target)
    for name in _FOLDERS:
        written += _iterate_links(output_dir / name, find_target)
    if work_dir is not None:
        written += (path for pattern in _WORK_FOLDERS for path in work_dir.glob(pattern))
    for path in written:
        if (target := find_target(path)) is not None:
            findings.add_problem(
                path,
                f"results would be written there, but it is a link to {target} in the input data",
                "Remove this link, or choose another output or working directory. The input data"
                " are never modified.",
            )


def _make_search(settings: Settings) -> _FindTarget:
    """Return the function that finds the target of a path in the input data.

    Input data are the data set, derivatives and the high-resolution reference. The output and
    working directories may be in their directories.
    """
    paths, truth_dir = settings.paths, settings.evaluation.truth_dir
    derivatives = [Path(split_named(text)[1]) for text in settings.preprocessing.derivatives]
    data_dirs = _resolve(paths.bids_dir, *derivatives, truth_dir)
    result_dirs = _resolve(paths.output_dir, paths.work_dir)

    def find_target(path: Path) -> Path | None:
        target = os.path.realpath(path)
        is_input = _is_in(target, data_dirs) and not _is_in(target, result_dirs)
        return Path(target) if is_input else None

    return find_target


def _is_in(target: str, folders: Sequence[str]) -> bool:
    """Return whether a path is a folder of `_resolve`, or in one of these folders."""
    return any(f"{target}/".startswith(folder) for folder in folders)


def _resolve(*folders: Path | None) -> list[str]:
    """Return the real paths of folders, with a slash at their end; None is omitted."""
    return [os.path.join(os.path.realpath(folder), "") for folder in folders if folder is not None]


def _iterate_links(root: Path, find_target: _FindTarget) -> Iterator[Path]:
    """Yield a folder, which need not exist, and all links below it.

    Linked folders are searched as well, but not the input data.
    """
    yield root
    visited: set[str] = set()
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(folder)) if find_target(folder) is None else []
        except OSError:  # the folder is missing, or other checks report it
            continue
        for entry in entries:
            is_new = True
            if entry.is_symlink():
                yield Path(entry)
                target = os.path.realpath(entry)
                is_new = target not in visited
                visited.add(target)
            if is_new and entry.is_dir():
                folders.append(Path(entry))
