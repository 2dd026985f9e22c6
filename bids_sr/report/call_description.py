"""Methods text on a call as a whole: acquired runs with their grids, and software."""

import importlib.metadata
from collections.abc import Mapping, Sequence

from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor, Shape, highres_size, size_text
from bids_sr.io.word_lists import enumerate_words

# packages whose results depend on their version, by their name in texts
_PACKAGES = {
    "ANTsPy": "antspyx",
    "Nipype": "nipype",
    "nibabel": "nibabel",
    "nilearn": "nilearn",
    "NumPy": "numpy",
    "PyTorch": "torch",
    "SciPy": "scipy",
}


@frozen
class AcquiredRun:
    """Header of a BOLD run, as far as the methods text states it.

    `task` is a label, `tr` is in s, and `zooms` is the voxel size (mm). `description` is from the
    sidecar of the run; "" if there is none.
    """

    task: str
    n_volumes: int
    tr: float
    shape: Shape
    zooms: tuple[float, float, float]
    factor: Factor
    description: str = ""


def describe_acquisition(runs: Sequence[AcquiredRun]) -> str:
    """Return methods text on volumes, repetition time and both grids of all runs.

    Runs of a task with the same grids and repetition time share their sentences.
    """
    runs_by_protocol: dict[tuple[object, ...], list[AcquiredRun]] = {}
    for run in runs:
        header = (run.task, f"{run.tr:.4g}", run.shape, size_text(run.zooms), run.factor)
        protocol = (*header, run.description)
        runs_by_protocol.setdefault(protocol, []).append(run)
    return " ".join(map(_describe_equal_runs, runs_by_protocol.values()))


def _describe_equal_runs(runs: Sequence[AcquiredRun]) -> str:
    """Return methods text on runs that only differ in their numbers of volumes."""
    run = runs[0]
    fewest, most = min(run.n_volumes for run in runs), max(run.n_volumes for run in runs)
    run_text = "run" if len(runs) == 1 else f"{len(runs)} runs"
    volumes_text = f"{most}" if fewest == most else f"{fewest} to {most}"
    highres_shape = [
        highres_size(n, ratio) for n, ratio in zip(run.shape, run.factor, strict=True)
    ]
    highres_zooms = [
        size * n / n_highres
        for size, n, n_highres in zip(run.zooms, run.shape, highres_shape, strict=True)
    ]
    described = f" ({run.description[:1].lower()}{run.description[1:]})" if run.description else ""
    return (
        f"The {run_text} of the task {run.task} had {volumes_text} volumes with a repetition time"
        f" (TR) of {run.tr:.4g} s and a matrix of {_join_numbers(run.shape)} voxels of"
        f" {size_text(run.zooms)}{described}. The high-resolution grid had"
        f" {_join_numbers(highres_shape)} voxels of {size_text(highres_zooms)}"
        f" (super-resolution factor {_join_numbers(run.factor)})."
    )


def _join_numbers(values: Sequence[float]) -> str:
    """Return values along the axes of a grid as a text such as ``2 × 2 × 1``."""
    return " × ".join(f"{value:.4g}" for value in values)


def find_package_versions() -> dict[str, str]:
    """Return the versions of installed packages by their names in texts."""
    versions = {}
    for name, package in _PACKAGES.items():
        try:
            versions[name] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def describe_software(version: str, packages: Mapping[str, str]) -> str:
    """Return methods text on the software.

    `packages` are versions by name, such as ``Nipype``; packages that are missing are not named,
    except Nipype.
    """
    names = [f"{name} {number}" for name, number in packages.items() if name != "Nipype"]
    nipype = f"*Nipype* {packages.get('Nipype', '')}".rstrip()
    software = enumerate_words([f"*bids-sr* {version} [@bids_sr]", f"{nipype} [@nipype]", *names])
    return f"The analysis was performed with {software}."
