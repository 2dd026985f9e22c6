"""Checks of directories and files given as options: write access, owner, free space and models."""

import os
import shutil
from pathlib import Path
from urllib.parse import unquote

from bids_sr.bids import Findings, find_pretrained
from bids_sr.config import Settings
from bids_sr.config.vgg19_weights import VGG19_COMMAND
from bids_sr.io.atomic_files import read_json
from bids_sr.io.dataset_description import RESULTS
from bids_sr.preflight.plan import Estimate
from bids_sr.preflight.pretrained_models import check_pretrained
from bids_sr.version import __version__

_OWN = frozenset({"logs", "sourcedata"})
"""Folders that stopped calls, SLURM and `bids-sr-models` create before a dataset description
exists.
"""
_SPARE_GB = 0.2  # space for logs and figures, which the estimate does not include


def _existing_parent(path: Path) -> Path:
    """Return the path, or the nearest parent directory that exists."""
    path = path.absolute()
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    return path


def check_directories(settings: Settings, findings: Findings) -> None:
    """Report unusable directories, and problems with files and models given as options.

    A directory is unusable if it is not writable, or if results and data would be mixed.
    """
    bids, out, work = settings.paths.bids_dir, settings.paths.output_dir, settings.paths.work_dir
    n_problems = len(findings.problems)
    root = bids.resolve()
    derivatives = (bids / "derivatives").resolve()
    for description, path in (("the output directory", out), ("the working directory", work)):
        if path is None:
            continue
        full_path = path.resolve()
        if full_path.is_relative_to(root) and (
            full_path == derivatives or not full_path.is_relative_to(derivatives)
        ):
            reason = (
                f"{description} must not be inside the dataset {bids}, because the dataset is"
                " never modified"
            )
            fix = (
                "Choose a directory outside the dataset, or a subdirectory of its derivatives"
                f" directory such as {bids / 'derivatives/bids-sr'}."
            )
            findings.add_problem(path, reason, fix)
        elif root.is_relative_to(full_path) and bids != settings.paths.retrospective_dir:
            fix = "Choose an empty directory that does not contain the dataset."
            findings.add_problem(path, f"{description} must not contain the dataset {bids}", fix)
        _check_writable(description, path, findings)
    # an earlier run, possibly of another user, may have left files in the output directory
    if len(findings.problems) == n_problems:
        check_owner(settings, findings)
        _check_writable("the log directory", out / "logs", findings, only_existing=True)
        for label in settings.selection.participant_label or ("*",):
            for path in sorted(out.glob(f"sub-{label}")):
                _check_writable(
                    "the output directory of a participant", path, findings, only_existing=True
                )
    for file in (*settings.superres.pretrained, settings.superres.vgg_weights):
        if file is not None and not file.is_file():
            findings.add_problem(file, "the file was not found", "Check the path.")
        elif file is not None and file.suffix != ".safetensors":
            reason = (
                "the file is not a .safetensors file. Files written by torch.save can execute"
                " code and are therefore not loaded"
            )
            fix = "Specify a file in the .safetensors format."
            if file == settings.superres.vgg_weights:
                fix = f"Convert the torchvision weights with this command: {VGG19_COMMAND} {file}"
            findings.add_problem(file, reason, fix)
    _check_earlier_results(settings, findings)
    _check_models(settings, findings)
    if settings.resources.use_plugin is not None:
        _check_cluster(settings.resources.use_plugin, findings)


def _check_cluster(file: Path, findings: Findings) -> None:
    """Report a plugin file on a machine without the SLURM commands."""
    missing = [
        name for name in ("sbatch", "squeue", "scontrol", "scancel") if shutil.which(name) is None
    ]
    if missing:
        fix = "Run the program on a computer with the SLURM commands, or omit --use-plugin."
        findings.add_problem(
            file, f"the SLURM commands {', '.join(missing)} were not found on the PATH", fix
        )


def check_owner(settings: Settings, findings: Findings) -> None:
    """Reject an output directory with files of another program, version or data set."""
    paths = settings.paths
    out = paths.output_dir
    file = paths.output_dir / "dataset_description.json"
    fix = f"Choose an empty directory, such as {paths.bids_dir / 'derivatives/bids-sr'}."
    if not file.exists():
        entries = out.iterdir() if out.is_dir() else ()
        unrelated = [path for path in entries if path.name[0] != "." and path != paths.work_dir]
        has_logs = any(out.glob("logs/*/settings.toml"))  # left by a stopped call
        if unrelated and not has_logs and not all(path.name in _OWN for path in unrelated):
            reason = (
                f"the output directory is not empty (it contains {min(unrelated).name}) and was"
                " not created by bids-sr"
            )
            findings.add_problem(out, reason, fix)
        return
    marker = read_json(file)
    generators = marker.get("GeneratedBy")
    generator = (
        generators[0]
        if isinstance(generators, list) and generators and isinstance(generators[0], dict)
        else {}
    )
    name, version = str(generator.get("Name", "")), str(generator.get("Version", ""))
    links = marker.get("DatasetLinks")
    source = str(links.get("raw", "")) if isinstance(links, dict) else ""
    data = Path(unquote(source.removeprefix("file://")))
    data = (out / data).resolve()
    expected = {paths.bids_dir.resolve(), paths.retrospective_dir.resolve()}
    if name != RESULTS:
        findings.add_problem(
            out,
            (
                f"the output directory contains results of {name or 'another program'}, according"
                f" to {file.name}"
            ),
            fix,
        )
    elif version.partition(".")[0] not in ("", __version__.partition(".")[0]):
        findings.add_problem(
            out,
            (
                f"the output directory contains results of bids-sr {version}, but this is version"
                f" {__version__}"
            ),
            fix,
        )
    elif source and data not in expected and (data / file.name).is_file():
        findings.add_problem(
            out, f"the output directory contains results of another dataset, {data}", fix
        )


def _check_earlier_results(settings: Settings, findings: Findings) -> None:
    """Report earlier results with the same names, and missing figures for ``--reports-only``.

    Results with and without ``--retrospective`` have the same names.
    """
    out = settings.paths.output_dir
    is_retrospective = settings.evaluation.retrospective is not None
    if any(out.glob("sub-*/func/*")):
        is_downsampled = settings.paths.bids_dir == settings.paths.retrospective_dir
        has_retrospective = settings.paths.retrospective_dir.is_dir()
        fix = (
            "Choose another output directory, because the output files have the same names"
            " with and without --retrospective."
        )
        if has_retrospective and not is_downsampled and not is_retrospective:
            findings.add_problem(
                out,
                "the output directory contains results of an earlier run with --retrospective",
                fix,
            )
        elif is_retrospective and not has_retrospective:
            findings.add_problem(
                out,
                "the output directory contains results of an earlier run without --retrospective",
                fix,
            )
    if settings.run.reports_only and not any(out.glob("sub-*/figures/*")):
        reason = (
            "--reports-only rebuilds the report from the figures of an earlier run, but the"
            " output directory does not contain any figures"
        )
        findings.add_problem(
            out, reason, "Specify the output directory of an earlier run, or omit --reports-only."
        )


def _check_models(settings: Settings, findings: Findings) -> None:
    """Report models that are to be used but are missing or lack a card."""
    superres = settings.superres
    n_problems = len(findings.problems)
    check_pretrained(superres, findings)
    folder = superres.models_to_reuse(settings.paths.output_dir)
    unspecified = [name for name in superres.learned if find_pretrained(superres, name) is None]
    if (
        len(findings.problems) > n_problems
        or superres.model_source != "reuse"
        or not unspecified
        or folder is None
    ):
        return
    if not any(folder.rglob("*.safetensors")):
        fix = (
            "Specify the model directory with --model-dir, or omit --model-source"
            " reuse to train a new model."
        )
        findings.refuse_option(
            f"--model-source reuse: {folder}",
            "the model directory does not contain a model (.safetensors file)",
            fix,
        )


def _check_writable(
    description: str, path: Path, findings: Findings, *, only_existing: bool = False
) -> None:
    """Report a directory that cannot be created or written.

    `description` describes the directory in messages. With `only_existing`, a missing directory is
    accepted.
    """
    parent = _existing_parent(path)
    fix = "Choose another directory, or change the permissions of this directory."
    if only_existing and not path.is_dir():
        return
    if not parent.is_dir():
        findings.add_problem(
            path, f"{description} cannot be created because {parent} is not a directory", fix
        )
    elif not os.access(parent, os.W_OK | os.X_OK):
        findings.add_problem(
            path,
            (
                f"{description} is not writable: write permission is missing for {parent}, or the"
                " file system is read-only"
            ),
            fix,
        )


def check_disk_space(settings: Settings, estimate: Estimate, findings: Findings) -> None:
    """Report disks with too little space, including the files of an earlier run of this call.

    `estimate` contains the size (GB) of both directories.
    """
    needs: dict[int, tuple[Path, float, list[Path]]] = {}
    paths = settings.paths
    for path, gigabytes in (
        (paths.output_dir, estimate.output_gb),
        (paths.work_dir, estimate.work_gb),
    ):
        if path is not None:
            parent = _existing_parent(path)
            _, used, earlier = needs.setdefault(parent.stat().st_dev, (parent, 0.0, []))
            needs[parent.stat().st_dev] = (parent, used + gigabytes, [*earlier, path])
    for parent, need, directories in needs.values():
        free = shutil.disk_usage(parent).free / 1e9
        if (
            free < need + _SPARE_GB
            and free + sum(map(_measure_size_gb, directories)) < need + _SPARE_GB
        ):
            findings.add_problem(
                " and ".join(map(str, directories)),
                f"{_gb(free)} of disk space are available, but {_gb(need + _SPARE_GB)} are"
                f" required (including {_gb(_SPARE_GB)} for logs and figures)",
                "Free some disk space, choose other directories (use -w for the working"
                " directory), or process fewer participants or methods per call.",
            )


def _gb(size: float) -> str:
    """Return a size (GB) as text."""
    return f"{size:.1f} GB" if size >= 1 else f"{size:.2f} GB"


def _measure_size_gb(path: Path) -> float:
    """Return the size of the files in a directory (GB)."""
    files = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
    return sum(os.lstat(file).st_size for file in files) / 1e9
