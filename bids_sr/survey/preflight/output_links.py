"""Links in the output and working directories that lead into the input data.

The data set is never modified. If a folder for results is a link into the data, results would
replace files of the data, and files of the data would be moved as results of an earlier call.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from bids_sr.config import Settings
from bids_sr.config.sections.paths import WORKFLOW
from bids_sr.config.values import split_named
from bids_sr.io.dataset_description import dataset_root
from bids_sr.io.notices import Notice
from bids_sr.survey.notices import problem

# in the output directory; a README of the user is not changed
_FILES = ("dataset_description.json", ".bidsignore", "CHANGES", "CITATION.*", "*.html")
_FOLDERS = ("logs", "group", ".group")
_WORK_FOLDERS = ("locks", WORKFLOW)

# function that returns the target of a path if it is in the input data, and otherwise None
_FindTarget = Callable[[Path], Path | None]


def judge_links(settings: Settings, *, labels: Sequence[str] | None = None) -> Iterator[Notice]:
    """Reject files and folders for results that are links into the input data.

    Links to other places are accepted, and searched for further links. `labels` are the
    participants whose results can be written. If None, these are all participants of the output.
    """
    paths = settings.paths
    output_dir, work_dir = paths.output_dir, paths.work_dir
    find_target = _make_search(settings)
    written = [path for pattern in _FILES for path in output_dir.glob(pattern)]
    written.append(dataset_root(output_dir, "*").parent)
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
        for name in _WORK_FOLDERS:
            written += _iterate_links(work_dir / name, find_target)
    for path in written:
        if (target := find_target(path)) is not None:
            yield problem(
                path,
                f"results would be written there, but it is a link to {target} in the input data",
                "Remove this link, or choose another output or working directory. The input data"
                " are never modified.",
            )


def _make_search(settings: Settings) -> _FindTarget:
    """Return the function that finds the target of a path in the input data.

    Input data are the data set, derivatives and the high-resolution reference, with the targets of
    links in their participants' folders. The output and working directories may be in their
    directories, and contain some of them: of nested directories, the innermost counts.
    """
    paths, truth_dir = settings.paths, settings.evaluation.truth_dir
    derivatives = [Path(split_named(text)[1]) for text in settings.preprocessing.derivatives]
    # downsampled runs are both data and results
    results = {root.absolute() for root in paths.list_participant_roots()}
    data_dirs = _resolve(
        *(
            folder
            for folder in (paths.bids_dir, *derivatives, truth_dir)
            if folder is not None and folder.absolute() not in results
        )
    )
    result_dirs = _resolve(paths.output_dir, paths.work_dir)

    @cache
    def resolve_data() -> list[str]:
        linked = (link for folder in data_dirs for link in _iterate_linked_folders(folder))
        return [*data_dirs, *_resolve(*linked)]

    def find_target(path: Path) -> Path | None:
        target = os.path.realpath(path)
        result_depth = measure_depth(target, result_dirs)
        is_linked = target != os.path.abspath(path)
        folders = resolve_data() if is_linked and not result_depth else data_dirs
        return Path(target) if measure_depth(target, folders) > result_depth else None

    def measure_depth(target: str, folders: Sequence[str]) -> int:
        """Return the length of the innermost of the folders that contain a target, or 0."""
        return max((len(name) for name in folders if f"{target}/".startswith(name)), default=0)

    return find_target


def _iterate_linked_folders(data_dir: str) -> Iterator[Path]:
    """Yield the links to folders among and in the participants' folders of input data."""
    folders = [data_dir]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:  # other checks report it
            continue
        for entry in entries:
            if (folder == data_dir and not entry.name.startswith("sub-")) or not entry.is_dir():
                continue
            if entry.is_symlink():
                yield Path(entry)
            else:
                folders.append(entry.path)


def _resolve(*folders: Path | None) -> list[str]:
    """Return folders without links, with a slash at their end; missing ones (None) are omitted."""
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
