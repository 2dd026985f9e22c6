"""Rules on the directories of a call: mounts, write access, earlier results and free space."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from bids_sr.config import Paths, Settings
from bids_sr.io.dataset_description import RESULTS
from bids_sr.io.json_values import as_mapping
from bids_sr.io.mounts import advise_mount, advise_user, is_container, is_mounted, is_own_image
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.derivative_folders import read_generator
from bids_sr.survey.bids.inheritance import read_object
from bids_sr.survey.notices import is_problem, judge, problem, warning
from bids_sr.survey.preflight.output_links import judge_links
from bids_sr.survey.preflight.plan import Estimate
from bids_sr.version import __version__, is_compatible

# folders that stopped calls, SLURM and `bids-sr-models` create before a dataset description exists
_OWN_FOLDERS = frozenset({"logs", "sourcedata"})
# stand for the directories of the host in messages
_HOST_OUTPUT, _HOST_WORK = "/path/to/out", "/path/to/work"
_RESERVE_GB = 0.2  # space for logs and figures, which the estimate does not include


def judge_directories(settings: Settings) -> Iterator[Notice]:
    """Reject unusable directories.

    A directory is unusable if it is not writable, or if results and data would be mixed.
    """
    paths = settings.paths
    output_notices = [
        *_judge_directory("the output directory", paths.output_dir, _HOST_OUTPUT, settings)
    ]
    notices = [*judge_dataset_mount(paths.bids_dir), *output_notices]
    if paths.work_dir is not None:
        notices += _judge_directory("the working directory", paths.work_dir, _HOST_WORK, settings)
    yield from notices
    if is_own_image() and not output_notices and not is_mounted(paths.output_dir):
        yield warning(
            paths.output_dir,
            "the output directory is not mounted from the host, so the results are lost when the"
            f" container is removed. {advise_mount(paths.output_dir, _HOST_OUTPUT)}",
        )
    # an earlier run, possibly of another user, may have left files in the output directory
    if not any(map(is_problem, notices)):
        yield from judge((_judge_links, judge_owner, _judge_work_dir, _judge_folders), settings)
    yield from _judge_earlier_results(settings)


def judge_dataset_mount(bids_dir: Path) -> Iterator[Notice]:
    """Report a data set that does not exist, or is empty, because it was not mounted.

    Containers of other images can contain data, so that only a path in their root is reported.
    """
    path = bids_dir.absolute()
    if not is_container():
        return
    is_expected = is_own_image() or _is_root(_find_existing_parent(path))
    if not path.exists() and not is_mounted(path) and is_expected:
        yield problem(
            bids_dir,
            "the dataset directory was not found in the container, because no directory of the"
            " host is mounted there",
            advise_mount(path, "/path/to/bids", read_only=True),
        )
    elif os.access(path, os.R_OK) and is_mounted(path) and not any(path.glob("*")):
        yield problem(
            bids_dir,
            "the dataset directory is empty",
            "Check the path of the host that is mounted there: Docker creates an empty directory"
            " if the path does not exist.",
        )


def _judge_directory(
    description: str, path: Path, host_path: str, settings: Settings
) -> Iterator[Notice]:
    """Reject a directory that is unusable; `host_path` represents the directory of the host."""
    yield from _judge_separate(description, path, settings)
    yield from [*_judge_mount(description, path, host_path)] or _judge_writable(description, path)


def _judge_separate(description: str, path: Path, settings: Settings) -> Iterator[Notice]:
    """Report a directory inside the data set, except below its derivatives, or around it."""
    bids_dir = settings.paths.bids_dir
    dataset, derivatives = bids_dir.resolve(), (bids_dir / "derivatives").resolve()
    directory = path.resolve()
    is_derivative = directory != derivatives and directory.is_relative_to(derivatives)
    if directory.is_relative_to(dataset) and not is_derivative:
        yield problem(
            path,
            f"{description} must not be inside the dataset {bids_dir}, because the dataset is"
            " never modified",
            "Choose a directory outside the dataset, or a subdirectory of its derivatives"
            f" directory such as {bids_dir / 'derivatives/bids-sr'}.",
        )
    elif dataset.is_relative_to(directory) and bids_dir != settings.paths.retrospective_dir:
        fix = "Choose an empty directory that does not contain the dataset."
        yield problem(path, f"{description} must not contain the dataset {bids_dir}", fix)


def _judge_mount(description: str, path: Path, host_path: str) -> Iterator[Notice]:
    """Reject a directory that would be lost with the container.

    A new directory in the root of our image is a missing mount. Other directories can be part of
    an image that is based on ours. `host_path` represents the directory of the host.
    """
    parent = _find_existing_parent(path)
    is_lost = _is_root(parent) or not os.access(parent, os.W_OK | os.X_OK)
    if is_lost and is_own_image() and not is_mounted(path):
        yield problem(
            path,
            f"{description} is not mounted from the host, so its files would be lost when the"
            " container is removed",
            advise_mount(path, host_path),
        )


def judge_output_mount(output_dir: Path) -> Iterator[Notice]:
    """Reject an output that would be lost with the container."""
    return _judge_mount("the output directory", output_dir, _HOST_OUTPUT)


def _judge_writable(description: str, path: Path) -> Iterator[Notice]:
    """Reject a directory that cannot be created or written.

    `description` describes the directory in messages.
    """
    parent = _find_existing_parent(path)
    fix = (
        advise_user()
        if is_own_image()
        else "Choose another directory, or change the permissions of this directory."
    )
    if not parent.is_dir():
        yield problem(
            path, f"{description} cannot be created because {parent} is not a directory", fix
        )
    elif not os.access(parent, os.W_OK | os.X_OK):
        yield problem(
            path,
            f"{description} is not writable: write permission is missing for {parent}, or the"
            " file system is read-only",
            fix,
        )


def _judge_links(settings: Settings) -> Iterator[Notice]:
    """Reject links into the data among the results of the requested participants."""
    return judge_links(settings, labels=settings.selection.participant_label or None)


def judge_owner(settings: Settings) -> Iterator[Notice]:
    """Reject an output directory with files of another program, version or data set."""
    paths = settings.paths
    description = paths.output_dir / "dataset_description.json"
    fix = f"Choose an empty directory, such as {paths.bids_dir / 'derivatives/bids-sr'}."
    if not description.exists():
        file = _find_unrelated_file(paths)
        if file is not None:
            yield problem(
                paths.output_dir,
                f"the output directory is not empty (it contains {file.name}) and was not created"
                " by bids-sr",
                fix,
            )
        return
    name, version = read_generator(description)
    dataset = _read_source(description)
    reason = ""
    if name != RESULTS:
        reason = (
            f"the output directory contains results of {name or 'another program'}, according"
            f" to {description.name}"
        )
    elif version and not is_compatible(version):
        reason = (
            f"the output directory contains results of bids-sr {version}, but this is version"
            f" {__version__}"
        )
    elif dataset not in (None, paths.bids_dir.resolve(), paths.retrospective_dir.resolve()):
        reason = f"the output directory contains results of another dataset, {dataset}"
    if reason:
        yield problem(paths.output_dir, reason, fix)


def _read_source(description: Path) -> Path | None:
    """Return the data set that results were computed from, None if it does not exist."""
    source = str(as_mapping(read_object(description).get("DatasetLinks")).get("raw", ""))
    dataset = (description.parent / unquote(source.removeprefix("file://"))).resolve()
    return dataset if source and (dataset / description.name).is_file() else None


def _find_unrelated_file(paths: Paths) -> Path | None:
    """Return a file or folder in the output directory that no call of this program created."""
    output_dir = paths.output_dir
    entries = output_dir.iterdir() if output_dir.is_dir() else ()
    unrelated = [path for path in entries if path.name[0] != "." and path != paths.work_dir]
    was_started = any(output_dir.glob("logs/*/settings.toml"))  # by a call that was stopped
    if was_started or all(path.name in _OWN_FOLDERS for path in unrelated):
        return None
    return min(unrelated)


def _judge_work_dir(settings: Settings) -> Iterator[Notice]:
    """Reject a working directory with steps of another version, or of an unknown one."""
    file = settings.paths.version_file
    if file is None or not file.parent.is_dir():
        return
    version = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
    if not is_compatible(version):
        yield problem(
            file.parent,
            "the working directory contains steps of"
            f" {f'bids-sr {version}' if version else 'an earlier version of bids-sr'}, but this is"
            f" version {__version__}",
            "Delete this folder, or choose another working directory with --work-dir.",
        )


def _judge_folders(settings: Settings) -> Iterator[Notice]:
    """Reject existing folders of the output that are not writable."""
    output_dir = settings.paths.output_dir
    folders = {output_dir / "logs": "the log directory"}
    for label in settings.selection.participant_label or ("*",):
        for path in sorted(output_dir.glob(f"sub-{label}")):
            folders[path] = "the output directory of a participant"
    for path, description in folders.items():
        if path.is_dir():
            yield from _judge_writable(description, path)


def _judge_earlier_results(settings: Settings) -> Iterator[Notice]:
    """Report earlier results with the same names: with and without ``--retrospective``.

    The folder of downsampled runs exists if earlier results are retrospective.
    """
    paths = settings.paths
    was_retrospective = paths.retrospective_dir.is_dir()
    is_downsampled = paths.bids_dir == paths.retrospective_dir
    is_retrospective = settings.evaluation.retrospective is not None or is_downsampled
    if was_retrospective != is_retrospective and any(paths.output_dir.glob("sub-*/func/*")):
        yield problem(
            paths.output_dir,
            "the output directory contains results of an earlier run"
            f" {'with' if was_retrospective else 'without'} --retrospective",
            "Choose another output directory, because the output files have the same names"
            " with and without --retrospective.",
        )


def judge_disk_space(settings: Settings, estimate: Estimate) -> Iterator[Notice]:
    """Report disks with too little space, including the files of an earlier run of this call.

    `estimate` contains the size (GB) of both directories.
    """
    sizes_by_disk: dict[int, list[tuple[Path, float]]] = {}  # directory and size (GB)
    for path, size_gb in (
        (settings.paths.output_dir, estimate.output_gb),
        (settings.paths.work_dir, estimate.work_gb),
    ):
        if path is not None:
            disk = _find_existing_parent(path).stat().st_dev
            sizes_by_disk.setdefault(disk, []).append((path, size_gb))
    for sizes in sizes_by_disk.values():
        directories = [path for path, _ in sizes]
        required_gb = sum(size_gb for _, size_gb in sizes) + _RESERVE_GB
        free_gb = shutil.disk_usage(_find_existing_parent(directories[0])).free / 1e9
        if (
            free_gb < required_gb
            and free_gb + sum(map(_measure_size_gb, directories)) < required_gb
        ):
            yield problem(
                " and ".join(map(str, directories)),
                f"{_format_gb(free_gb)} of disk space are available, but"
                f" {_format_gb(required_gb)} are required (including {_format_gb(_RESERVE_GB)} for"
                " logs and figures)",
                "Free some disk space, choose other directories (use -w for the working"
                " directory), or process fewer participants or methods per call.",
            )


def _find_existing_parent(path: Path) -> Path:
    """Return the path, or the nearest parent directory that exists."""
    absolute_path = path.absolute()
    candidates = (absolute_path, *absolute_path.parents)
    return next(
        (candidate for candidate in candidates if os.path.lexists(candidate)), candidates[-1]
    )


def _is_root(path: Path) -> bool:
    """Return whether an absolute path is the root of the file system."""
    return path == Path(path.anchor)


def _measure_size_gb(path: Path) -> float:
    """Return the size of the files in a directory (GB)."""
    files = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
    return sum(os.lstat(file).st_size for file in files) / 1e9


def _format_gb(size_gb: float) -> str:
    """Return a size (GB) as text."""
    return f"{size_gb:.1f} GB" if size_gb >= 1 else f"{size_gb:.2f} GB"
