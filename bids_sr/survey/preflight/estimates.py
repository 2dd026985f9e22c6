"""Estimates of memory and disk space from image sizes, and checks of memory and device.

Memory is the peak of all processes together. It does not grow with the number of volumes because
nodes stream, except with a calibration run. Disk space includes the working directory (float32,
uncompressed) and the results. Time depends on the steps, which are not known here.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bids_sr.config import Settings, machine
from bids_sr.config.levels import series_level
from bids_sr.config.spaces import FUNC
from bids_sr.engine.memory import (
    BASE_GB,
    WORKER_GB,
    Sizes,
    count_calibration_millions,
    workers_that_fit,
)
from bids_sr.engine.step_memory import find_largest_gb
from bids_sr.engine.storage_level import reaches
from bids_sr.io.grids import LARGE_SERIES_BYTES
from bids_sr.io.notices import Notice
from bids_sr.io.series import series_names
from bids_sr.io.template_files import load_grid
from bids_sr.survey.bids.headers import find_header
from bids_sr.survey.bids.inputs import BoldRun, Subject
from bids_sr.survey.bids.pretrained_models import input_of_models
from bids_sr.survey.notices import option_problem, problem
from bids_sr.survey.preflight.combined_runs import group_runs
from bids_sr.survey.preflight.plan import Estimate, Plan

# processors and memory
_PARALLEL_STEP_GB = 0.1  # average memory of a step that runs in parallel with the largest step
_CORE_UTILIZATION = 0.85  # average share of workers that are busy
_CORES_PER_RUN = 2.5  # average number of processors that the steps of a run can use

_FLOAT_GB = 4e-3  # size of a million voxels (float32)

# intermediate files
_TEMPLATE_GB = 0.12  # per participant with a T1w image, in addition to copies of the image
_T1W_COPIES = 6.5  # copies of the T1w image (float32)
# share of a series: effects of the first series, and of each further series
_EFFECTS_SHARE = (0.75, 0.06)
_MAP_COPIES = 5.5  # copies per contrast: five statistics, and regions
# copies per contrast: of a combined run in another frame, and of all runs together
_TRANSFORMED_MAPS, _COMBINED_MAPS = 3, 9
_OVERHEAD_GB = 0.03  # other files of a run

# of structural scans
_SCAN_COPIES, _METHOD_GB, _PARTICIPANT_GB = 6, 0.1, 0.02  # copies (float32), and other files
_STORED_SCAN_GB, _METHOD_OUTPUT_GB = 2e-3, 0.05  # a million voxels (2 bytes), and other results

# results
_COMPRESSION, _MAP_COMPRESSION = 0.85, 0.16  # compressed sizes of series and maps
_REGION_COPIES = 0.1  # compressed size of a region relative to a map
_TRANSFORMS_GB = 0.007  # per participant with a T1w image
_FIGURES_GB = 0.02  # per run
# largest fraction of a volume in another space that is inside the field of view of the run
_SHARE_IN_FIELD_OF_VIEW = 0.5
_BRAIN_BOX_MM3 = 4.5e6  # grid around the brain of a template, with margin


def estimate(plan: Plan, settings: Settings) -> Estimate:
    """Estimate memory, disk space and the number of busy processors of a plan.

    The estimate does not include time. If there are no participants, it has no entries.
    """
    sizes = _find_largest_grids(plan, settings)
    if not plan.runs:
        return _estimate_structural(plan, settings, sizes) if plan.subjects else Estimate()
    largest_gb = find_largest_gb(sizes)
    nprocs = settings.resources.nprocs or 1
    limit_gb = settings.resources.mem_gb
    workers = (
        nprocs if limit_gb is None else max(1, workers_that_fit(limit_gb, nprocs, largest_gb))
    )
    # these are independent of each other
    n_independent = (
        len(plan.runs) * max(1, len(plan.series)) * len(settings.activation.choose_smoothing())
    )
    peak_gb = (
        BASE_GB + largest_gb + (min(workers, n_independent) - 1) * (WORKER_GB + _PARALLEL_STEP_GB)
    )
    return Estimate(
        processors=max(1.0, min(_CORE_UTILIZATION * workers, _CORES_PER_RUN * len(plan.runs))),
        sizes=sizes,
        memory_gb=peak_gb
        if limit_gb is None
        else min(peak_gb, max(limit_gb, BASE_GB + largest_gb)),
        work_gb=_estimate_work_gb(plan, settings, sizes),
        output_gb=_estimate_output_gb(plan, settings, sizes),
    )


def _find_largest_grids(plan: Plan, settings: Settings) -> Sizes:
    """Return the largest grid of each kind among all participants."""
    superres, subjects = settings.superres, (*plan.subjects, *plan.training_subjects)
    runs = [run for subject in subjects for run in subject.runs]
    runs_with_t1w = [run for subject in subjects if subject.t1w for run in subject.runs]
    scans = _find_largest_scan(subjects, settings)
    high = max((math.prod(run.shape) * math.prod(run.factor) / 1e6 for run in runs), default=0.0)
    is_calibrated = superres.calibrated and any(run.calibration is not None for run in runs)
    return Sizes(
        scans=scans,
        trained=scans * max(1, len(plan.training_subjects)),
        t1w=max(
            (_count_millions(subject.t1w[0]) for subject in subjects if subject.t1w), default=0.0
        ),
        low=max((math.prod(run.shape) / 1e6 for run in runs), default=0.0),
        high=high,
        learned=high if superres.volume_trained else 0.0,
        measured=high if any(run.truth is not None for run in runs) else 0.0,
        dense=high if superres.dense else 0.0,
        spaces=max(
            (_count_millions_in_spaces(run, settings) for run in runs_with_t1w), default=0.0
        ),
        calibrated=count_calibration_millions(high) if is_calibrated else 0.0,
        threads=(settings.resources.omp_nthreads or 1) - 1 if superres.calibrated else 0,
    )


def _find_largest_scan(subjects: Sequence[Subject], settings: Settings) -> float:
    """Return the voxels (millions) of the largest structural scan at the high resolution."""
    sizes = [
        _count_millions(scan.highres) for subject in subjects for scan in subject.highres_scans
    ]
    model_input = input_of_models(settings.superres)
    if model_input is not None:
        sizes += [
            _count_millions(scan.path, model_input.mm)
            for subject in subjects
            for scan in subject.lowres_scans
        ]
    return max(sizes, default=0.0)


def _count_millions(path: Path, mm: tuple[float, float, float] | None = None) -> float:
    """Return the voxels (millions) of an image, 0 if unreadable (reported elsewhere).

    `mm` is another voxel size with the same field of view.
    """
    header = find_header(path)
    if header is None:
        return 0.0
    millions = math.prod(header.shape[:3]) / 1e6
    return millions if mm is None else millions * math.prod(header.zooms) / math.prod(mm)


def _estimate_structural(plan: Plan, settings: Settings, sizes: Sizes) -> Estimate:
    """Return memory and disk space from the voxel numbers of high-resolution structural scans."""
    superres = settings.superres
    subjects = {subject.label: subject for subject in (*plan.subjects, *plan.training_subjects)}
    n_participants = len(subjects)
    n_methods = len(superres.chosen)
    n_scans = sum(
        len(subject.highres_scans) + len(subject.lowres_scans) for subject in subjects.values()
    )
    millions = n_scans * sizes.scans
    n_outputs = 2 + n_methods + (2 if superres.all_baselines else 1)
    return Estimate(
        processors=min(n_participants, settings.resources.nprocs or 1),
        memory_gb=BASE_GB + find_largest_gb(sizes),
        sizes=sizes,
        work_gb=_SCAN_COPIES * millions * _FLOAT_GB
        + (_METHOD_GB * n_methods + _PARTICIPANT_GB) * n_participants,
        output_gb=n_outputs * millions * _STORED_SCAN_GB
        + _METHOD_OUTPUT_GB * n_methods * n_participants,
    )


def _estimate_work_gb(plan: Plan, settings: Settings, sizes: Sizes) -> float:
    """Return the size of intermediate files (GB)."""
    superres = settings.superres
    n_widths = len(settings.activation.choose_smoothing())
    n_with_t1w = sum(1 for subject in plan.subjects if subject.t1w)
    total_gb = n_with_t1w * (_TEMPLATE_GB + _T1W_COPIES * sizes.t1w * _FLOAT_GB)
    first_share, later_share = _EFFECTS_SHARE
    for run in plan.runs:
        low_gb, high_gb = _measure_series_gb(run)
        series = plan.list_series(run)
        n_extra_series = 1 if run.truth and run.truth.series else 0
        # import (at most, as float32), after slice timing, and resampled (`acquired`)
        total_gb += low_gb + _estimate_stored_gb(low_gb) * (2 if run.slice_timing else 1)
        total_gb += _estimate_stored_gb(high_gb) * (len(series) - 1 + n_extra_series)
        total_gb += high_gb * (
            first_share + later_share * max(0, len(series) - 2 + n_extra_series)
        )
        volumes_gb = (low_gb + high_gb * (len(series) - 1)) / run.n_volumes
        total_gb += n_widths * _MAP_COPIES * _count_contrasts(plan, run) * volumes_gb
        if run.calibration is not None and superres.calibrated:
            total_gb += high_gb / run.n_volumes * run.calibration.n_volumes
        total_gb += _FIGURES_GB + _OVERHEAD_GB
    for run, n_runs in _list_combined_groups(plan, settings):
        low_gb, high_gb = _measure_series_gb(run)
        volumes_gb = (low_gb + high_gb * (len(plan.list_series(run)) - 1)) / run.n_volumes
        n_maps = _TRANSFORMED_MAPS * n_runs + _COMBINED_MAPS
        total_gb += n_widths * n_maps * _count_contrasts(plan, run) * volumes_gb
    return total_gb + _count_exported_millions(plan, settings) * _FLOAT_GB


def _estimate_stored_gb(gigabytes: float) -> float:
    """Return the size (GB) of a series in the working directory, given its size as float32.

    Large series are stored as int16.
    """
    return gigabytes / 2 if gigabytes * 1e9 > LARGE_SERIES_BYTES else gigabytes


def _estimate_output_gb(plan: Plan, settings: Settings, sizes: Sizes) -> float:
    """Return the size of outputs (GB) at the storage level; links to files take no space."""
    superres, level = settings.superres, settings.run.level
    stored = settings.select_stored_maps(settings.activation.choose_smoothing())
    compression = _COMPRESSION * (0.5 if settings.preprocessing.output_dtype == "int16" else 1.0)
    n_with_t1w = sum(1 for subject in plan.subjects if subject.t1w)
    total_gb = _FIGURES_GB * len(plan.runs) + (_TRANSFORMS_GB + sizes.t1w * _FLOAT_GB) * n_with_t1w
    if settings.run.store_series:
        millions = _count_exported_millions(plan, settings)
        total_gb += compression * _SHARE_IN_FIELD_OF_VIEW * millions * _FLOAT_GB
    combined = [run for run, _ in _list_combined_groups(plan, settings)]
    for run in plan.runs:
        low_gb, high_gb = _measure_series_gb(run)
        n_contrasts = _count_contrasts(plan, run)
        # maps of the run, and of the groups whose first run it is
        copies = 1 + sum(first is run for first in combined)
        for name in plan.list_series(run):
            size_gb = low_gb if name == "acquired" else high_gb
            n_maps = sum(
                len(kind_maps.stats) + _REGION_COPIES * len(kind_maps.thresholds)
                for kind_maps in stored.outputs_of(name).values()
            )
            total_gb += _MAP_COMPRESSION * copies * n_maps * n_contrasts * size_gb / run.n_volumes
            is_reached = reaches(level, series_level(name, series_names(superres.chosen)))
            if is_reached and settings.run.store_series:
                total_gb += compression * size_gb
    return total_gb


def _count_exported_millions(plan: Plan, settings: Settings) -> float:
    """Return the voxels (millions) in all volumes of the exported series in other spaces."""
    runs = (run for subject in plan.subjects if subject.t1w for run in subject.runs)
    return sum(_count_millions_in_spaces(run, settings) * run.n_volumes for run in runs)


def _count_millions_in_spaces(run: BoldRun, settings: Settings) -> float:
    """Return the voxels (millions) of a volume of a run, summed over the other output spaces."""
    around_brain = _BRAIN_BOX_MM3 / (math.prod(run.zooms) / math.prod(run.factor))
    grids = [
        load_grid(space.template, space.resolution) if space.resolution else None
        for space in settings.preprocessing.spaces
        if space.name != FUNC and not space.is_surface
    ]
    return sum(around_brain if grid is None else math.prod(grid[0]) for grid in grids) / 1e6


def _list_combined_groups(plan: Plan, settings: Settings) -> list[tuple[BoldRun, int]]:
    """Return the first run of each group of combined runs, and the number of its runs."""
    if "glm" not in settings.activation.kinds:
        return []
    groups = (group for subject in plan.subjects for group in group_runs(subject.runs, plan))
    return [(next(iter(group.runs.values())), len(group.runs)) for group in groups]


def _measure_series_gb(run: BoldRun) -> tuple[float, float]:
    """Return the size of a series as float32 (GB) on the acquired and the high-resolution grid."""
    low_gb = float(np.prod(run.shape)) * run.n_volumes * 4e-9
    return low_gb, low_gb * float(np.prod(run.factor))


def _count_contrasts(plan: Plan, run: BoldRun) -> int:
    """Return the number of contrasts of a run, at least 1."""
    return max(1, len(plan.contrasts.get(run.bold, {})))


def check_machine(plan: Plan, settings: Settings) -> list[Notice]:
    """Return problems with memory, GPU or semaphores of the machine that processes the data.

    With a plugin, jobs run on other machines, and nothing is checked.
    """
    resources = settings.resources
    if resources.use_plugin is not None:
        return []
    free_gb = None if resources.mem_gb is not None else machine.memory_gb()
    return [
        *_missing_semaphores(),
        *_excessive_limit(settings),
        *too_little_memory(settings, plan.estimate.sizes, free_gb),
        *_missing_gpu(settings),
    ]


def _missing_semaphores() -> Iterator[Notice]:
    """Reject a machine on which parallel processes cannot create semaphores."""
    if fault := machine.find_semaphore_fault():
        yield problem(
            "/dev/shm",
            f"parallel processes cannot create semaphores there ({fault})",
            "Mount a writable /dev/shm: --tmpfs /dev/shm (Docker, Podman), -B /dev/shm"
            " (Apptainer), or chmod 1777 /dev/shm as root.",
        )


def _excessive_limit(settings: Settings) -> Iterator[Notice]:
    """Refuse a memory limit above the memory of the machine."""
    limit_gb, total_gb = settings.resources.mem_gb or 0, machine.memory_gb(free=False)
    if limit_gb > total_gb:
        yield option_problem(
            _format_option(limit_gb),
            f"the memory limit of {limit_gb:g} GB exceeds the {total_gb:.1f} GB of this"
            " machine or job",
            f"Use at most --mem-gb {int(total_gb)} (--mem-mb {1024 * int(total_gb)}).",
        )


def _missing_gpu(settings: Settings) -> Iterator[Notice]:
    """Refuse to train on a GPU that does not exist."""
    if settings.resources.device == "cuda" and settings.superres.learned and not machine.has_gpu():
        yield option_problem(
            "--set resources.device=cuda",
            "PyTorch did not find a usable CUDA device",
            "Use --set resources.device=cpu or --set resources.device=auto, or check"
            " CUDA_VISIBLE_DEVICES and whether PyTorch was built with CUDA support.",
        )


def too_little_memory(
    settings: Settings, sizes: Sizes, memory_gb: float | None
) -> Iterator[Notice]:
    """Reject memory that is too small for the largest step; `memory_gb` is None if not known."""
    need_gb = BASE_GB + find_largest_gb(sizes)
    if settings.resources.use_plugin is not None or memory_gb is None or memory_gb >= need_gb:
        return
    without_t1w = Sizes(low=sizes.low, high=sizes.high)
    without_highres = Sizes(t1w=sizes.t1w, low=sizes.low, high=sizes.low)
    alternative = ""
    if BASE_GB + find_largest_gb(without_t1w) <= memory_gb:
        alternative = " Alternatively, exclude the T1w image with --bids-filter-file."
    elif BASE_GB + find_largest_gb(without_highres) <= memory_gb:
        alternative = " Alternatively, use a smaller --sr-factor."
    limit_gb = settings.resources.mem_gb
    enough_gb = math.ceil(need_gb * 10) / 10
    if limit_gb is not None:
        yield option_problem(
            _format_option(limit_gb),
            f"the program requires {need_gb:.1f} GB of memory for its largest step, which is more"
            " than this limit",
            f"Use --mem {enough_gb:g} or more.{alternative}",
        )
    else:
        yield problem(
            "memory",
            f"the program requires {need_gb:.1f} GB of memory, but only {memory_gb:.1f} GB are"
            " available",
            f"Run the program on a computer with at least {enough_gb:g} GB of free"
            f" memory.{alternative}",
        )


def _format_option(mem_gb: float) -> str:
    """Return the memory limit (GB) as the option ``--mem``."""
    is_short = round(mem_gb, 2) == mem_gb
    return f"--mem {mem_gb:g}" if is_short else f"--mem {1024 * mem_gb:.0f}M"
