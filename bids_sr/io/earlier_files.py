"""Results of earlier calls for the runs of a new call.

Next to new results, they could be mistaken for results with the same settings. They are moved, not
deleted.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

EARLIER = Path("sourcedata", "earlier")
"""Target directory of earlier results, relative to the derivatives."""
_RUN_PREFIX = re.compile(
    r"sub-[^_]+(_ses-[^_]+)?(_task-[^_]+(_(acq|ce|rec|dir|run)-[^_]+)*)?(?=_)"
)


def move_earlier_files(
    out: Path, stored: Collection[Path], *, with_all_runs: bool
) -> dict[str, list[str]]:
    """Move earlier files of the runs of newly stored files, unless they were stored again.

    Sidecars that apply to no stored file are moved with the files that they describe.

    `stored` are the files that were stored by this call. `with_all_runs` states whether earlier
    results over the runs and sessions of a task are moved as well, because the call processed all
    runs. Returns the names of moved files by run.
    """
    runs = {run_prefix(path.name) for path in stored} - {""}
    if with_all_runs:
        runs |= {re.sub("_run-[^_]+", "", run) for run in runs}
        runs |= {re.sub("_ses-[^_]+", "", run) for run in runs if "_task-" in run}
    stored_labels = defaultdict[Path, set[frozenset[str]]](set)
    for path in stored:
        for folder in path.parents if path.suffix != ".json" else ():
            stored_labels[folder].add(frozenset(_split_name(path)))
    moved_names: dict[str, list[str]] = {}
    for path in sorted(_list_participant_files(stored, out)):
        run = run_prefix(path.name)
        if run not in runs or path in stored or path.suffix == ".json" or path.is_dir():
            continue
        for file in (path, *_find_obsolete_sidecars(path, stored_labels) - set(stored)):
            target = out / EARLIER / file.relative_to(out)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
        moved_names.setdefault(run, []).append(path.name)
    return moved_names


def run_prefix(name: str) -> str:
    """Return the start of a file name that identifies its run, or its session without a task."""
    match = _RUN_PREFIX.match(name)
    return match[0] if match else ""


def _list_participant_files(stored: Collection[Path], root: Path) -> set[Path]:
    """Return all files below `root` in the directories of participants with stored files.

    These include the series that earlier calls exported to other data sets, without the anatomical
    images there, which are shared by all runs.
    """
    subject_folders = set()
    for path in stored:
        folder_names = path.relative_to(root).parts if path.is_relative_to(root) else ()
        subject_index = next(
            (index for index, name in enumerate(folder_names) if name.startswith("sub-")), None
        )
        if subject_index is not None:
            subject_folders.add(root.joinpath(*folder_names[: subject_index + 1]))
            subject_folders.update(
                root.glob(f"derivatives/bids-sr-*/{folder_names[subject_index]}/**/func")
            )
    return {path for folder in subject_folders if folder.is_dir() for path in folder.rglob("*.*")}


def _find_obsolete_sidecars(
    path: Path, stored_labels: Mapping[Path, Collection[frozenset[str]]]
) -> set[Path]:
    """Return the sidecars that apply to a file and to no stored file.

    `stored_labels` contains entities and suffix of each stored file, see `_split_name`, by each
    folder above the file.
    """
    sidecars = [*path.parent.glob("*.json"), *path.parent.parent.glob("*.json")]
    return {
        sidecar
        for sidecar in sidecars
        if sidecar.name == f"{path.name}.json"  # sidecar of a figure
        or _is_obsolete(
            _split_name(sidecar), _split_name(path), stored_labels.get(sidecar.parent, ())
        )
    }


def _is_obsolete(
    sidecar_labels: set[str], file_labels: set[str], stored_labels: Collection[frozenset[str]]
) -> bool:
    """Return whether a sidecar applies to a file by inheritance, and to no stored file."""
    return sidecar_labels <= file_labels and not any(
        sidecar_labels <= labels for labels in stored_labels
    )


def _split_name(path: Path) -> set[str]:
    """Return the entities and the suffix of a file name."""
    return set(path.name.partition(".")[0].split("_"))
