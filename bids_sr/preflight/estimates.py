"""Memory and disk from image sizes, and check of this machine's memory and device.

Memory is the peak of all processes together, which does not grow with the number of volumes
because nodes stream, except where a calibration is used; disk counts what lies in the working
directory (float32, uncompressed) and in the results. Time is declared by steps, which are not
known here.
"""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bids_sr.bids import BoldRun, Findings, Pair, Subject, input_of_models
from bids_sr.bids.headers import read_header
from bids_sr.config import Settings, machine
from bids_sr.config.levels import StoredMaps, reaches, series_level
from bids_sr.config.memory import BASE_GB, WORKER_GB, Sizes, held_of_calibrated, workers_that_fit
from bids_sr.config.spaces import FUNC
from bids_sr.io.grids import LARGE
from bids_sr.io.image_header import Triple
from bids_sr.io.template_cache import grid_of
from bids_sr.notices import Notice
from bids_sr.preflight.combined_runs import group_runs
from bids_sr.preflight.plan import Estimate, Plan
from bids_sr.series import series_names
from bids_sr.sr.method import get_method
from bids_sr.steps.memory import largest_gb

_SPACE_SHARE = 0.5  # of a volume in another space that the field of view of a run fills, at most
_BESIDE_GB = 0.1  # that a step beside the largest one adds on average
_EFFECTS_SHARE = (0.75, 0.06)  # of a series, the effects of the first and of any other
_TEMPLATE_GB = 0.12
_T1W_COPIES = 6.5
_MAP_COPIES = 5.5  # of each contrast: five statistics, and regions
_CARRIED_MAPS, _COMBINED_MAPS = 3, 9  # of a combined run, and of all runs together
_REGION_COPIES = 0.1
_OVERHEAD_GB = 0.03
_COMPRESSION = 0.85
_MAP_COMPRESSION = 0.16
_FIGURES_GB = 0.02
_TRANSFORMS_GB = 0.007
_CORE_USE = 0.85
_CORES_A_RUN = 2.5
_BRAIN_BOX_MM3 = 4.5e6  # of a grid around the brain of a template, with its rim


def _run_gigabytes(run: BoldRun) -> tuple[float, float]:
    """Size of the series as float32 (GB), on the acquired and on the high-resolution grid."""
    low = float(np.prod(run.shape)) * run.n_volumes * 4e-9
    return low, low * float(np.prod(run.factor))


def _kept(gigabytes: float) -> float:
    """Size of a series in the working directory (GB), by that as float32."""
    return gigabytes / 2 if gigabytes * 1e9 > LARGE else gigabytes


def _scans(subject: Subject) -> tuple[Pair, ...]:
    """Return structural scans on grids of their own: pairs, and high-resolution scans only."""
    return (*subject.structural, *(scan for session in subject.controls for scan in session))


def _sizes_of(subjects: Iterable[Subject], settings: Settings) -> Sizes:
    """The largest grid of each kind, of all participants."""
    every = tuple(subjects)
    runs = [run for one in every for run in one.runs]
    scans = max((_millions(pair.highres) for one in every for pair in _scans(one)), default=0.0)
    given = input_of_models(settings.superres)
    if given is not None:
        lowres = [scan for one in every for session in one.lowres for scan in session]
        scans = max([scans, *(_millions_at(scan.path, given.mm) for scan in lowres)])
    high = max((math.prod(run.shape) * math.prod(run.factor) / 1e6 for run in runs), default=0.0)
    calibrated = (
        [run for run in runs if run.calibration is not None]
        if settings.superres.calibrated
        else []
    )
    return Sizes(
        scans=scans,
        trained=scans * (max(1, len(every) - 1) if settings.superres.train_on == "others" else 1),
        t1w=max((_millions(one.t1w[0]) for one in every if one.t1w), default=0.0),
        low=max((math.prod(run.shape) / 1e6 for run in runs), default=0.0),
        high=high,
        learned=high if settings.superres.volume_trained else 0.0,
        measured=high if any(run.truth is not None for run in runs) else 0.0,
        dense=high if settings.superres.dense else 0.0,
        spaces=max(
            (_elsewhere(run, settings) for one in every if one.t1w for run in one.runs),
            default=0.0,
        ),
        calibrated=held_of_calibrated(high) if calibrated else 0.0,
        threads=(settings.resources.omp_nthreads or 1) - 1 if settings.superres.calibrated else 0,
    )


def _elsewhere(run: BoldRun, settings: Settings) -> float:
    """Return the voxels (millions) of one volume of a run, summed over the other spaces."""
    around_brain = _BRAIN_BOX_MM3 / (math.prod(run.zooms) / math.prod(run.factor))
    grids = [
        grid_of(space.template, space.resolution) if space.resolution else None
        for space in settings.preprocessing.spaces
        if space.name != FUNC and not space.is_surface
    ]
    return sum(around_brain if grid is None else math.prod(grid[0]) for grid in grids) / 1e6


def _millions_at(path: Path, mm: Triple) -> float:
    """Millions of voxels that the field of view of an image has at another voxel size (mm)."""
    header = read_header(path, Findings())
    if header is None:
        return 0.0
    return _millions(path) * math.prod(header.zooms[:3]) / math.prod(mm)


def _millions(path: Path) -> float:
    """Millions of voxels of an image; a file that cannot be read is complained of elsewhere."""
    header = read_header(path, Findings())
    return 0.0 if header is None else math.prod(header.shape[:3]) / 1e6


def estimate(plan: Plan, settings: Settings) -> Estimate:
    """Estimate memory and disk of a plan, and how many processors are busy.

    Cost without time; nothing without participants.
    """
    sizes = _sizes_of(plan.subjects, settings)
    if not plan.runs:
        return _structural(plan, settings, sizes) if plan.subjects else Estimate()
    largest = largest_gb(sizes)
    nprocs = settings.resources.nprocs or 1
    limit = settings.resources.mem_gb
    workers = nprocs if limit is None else max(1, workers_that_fit(limit, nprocs, largest))
    # need none of each other
    side_by_side = len(plan.runs) * max(1, len(plan.series)) * len(settings.activation.smoothing)
    peak = BASE_GB + largest + (min(workers, side_by_side) - 1) * (WORKER_GB + _BESIDE_GB)
    return Estimate(
        processors=max(1.0, min(_CORE_USE * workers, _CORES_A_RUN * len(plan.runs))),
        sizes=sizes,
        memory_gb=peak if limit is None else min(peak, max(limit, BASE_GB + largest)),
        work_gb=_work(plan, settings, sizes),
        output_gb=_results(plan, settings, sizes),
    )


def _work(plan: Plan, settings: Settings, sizes: Sizes) -> float:
    """Return the size of intermediate files (GB)."""
    superres = settings.superres
    widths = len(settings.activation.smoothing)
    with_t1w = sum(1 for subject in plan.subjects if subject.t1w)
    total = with_t1w * (_TEMPLATE_GB + _T1W_COPIES * sizes.t1w * 4e-3)
    extras = (superres.n_ensemble - 1) * len(superres.learned)
    if settings.evaluation.null_checks:
        extras += sum(len(get_method(name).placebos) for name in superres.learned)
    first, other = _EFFECTS_SHARE
    for run in plan.runs:
        low, high = _run_gigabytes(run)
        series = plan.series_of(run)
        by_other_programs = len(run.compared) + bool(run.another)
        made = extras + bool(run.truth and run.truth.series)
        # imported (at most; as float32), in time, in space (`raw`)
        total += low + _kept(low) * (2 if run.slice_timing else 1)
        total += _kept(high) * (len(series) - 1 + made)
        total += high * (by_other_programs + first + other * max(0, len(series) - 2 + made))
        volumes = (low + high * (len(series) - 1)) / run.n_volumes
        total += widths * _MAP_COPIES * _contrasts(plan, run) * volumes
        if run.calibration is not None and superres.calibrated:
            total += high / run.n_volumes * run.calibration.n_volumes
        total += _FIGURES_GB + _OVERHEAD_GB
    for run, n_runs in _combined(plan, settings):
        low, high = _run_gigabytes(run)
        volumes = (low + high * (len(plan.series_of(run)) - 1)) / run.n_volumes
        maps = _CARRIED_MAPS * n_runs + _COMBINED_MAPS
        total += widths * maps * _contrasts(plan, run) * volumes
    return total + _in_spaces(plan, settings) * 4e-3


def _combined(plan: Plan, settings: Settings) -> list[tuple[BoldRun, int]]:
    """Return the first run of each group of combined runs, and the number of its runs."""
    if "glm" not in settings.activation.kinds:
        return []
    groups = (group for subject in plan.subjects for group in group_runs(subject.runs, plan))
    return [(next(iter(group.runs.values())), len(group.runs)) for group in groups]


def _in_spaces(plan: Plan, settings: Settings) -> float:
    """Millions of voxels in all volumes of the primary series in other spaces."""
    runs = (run for subject in plan.subjects if subject.t1w for run in subject.runs)
    return sum(_elsewhere(run, settings) * run.n_volumes for run in runs)


def _contrasts(plan: Plan, run: BoldRun) -> int:
    return max(1, len(plan.contrasts.get(run.bold, {})))


def _results(plan: Plan, settings: Settings, sizes: Sizes) -> float:
    """Return the size of stored outputs (GB) by level; links to a file take no space."""
    superres, activation, level = settings.superres, settings.activation, settings.run.level
    stored = StoredMaps(
        level=level,
        methods=superres.methods,
        baselines=superres.baselines,
        smoothing=activation.smoothing,
        thresholds=activation.thresholds,
        kinds=activation.kinds,
        correlation=superres.recipe != "fast",
    )
    share = _COMPRESSION * (0.5 if settings.preprocessing.output_dtype == "int16" else 1.0)
    with_t1w = sum(1 for subject in plan.subjects if subject.t1w)
    total = _FIGURES_GB * len(plan.runs) + (_TRANSFORMS_GB + sizes.t1w * 4e-3) * with_t1w
    total += share * _SPACE_SHARE * _in_spaces(plan, settings) * 4e-3
    combined = [run for run, _ in _combined(plan, settings)]
    for run in plan.runs:
        low, high = _run_gigabytes(run)
        contrasts = _contrasts(plan, run)
        # maps of the run, and of the groups whose first run it is
        copies = 1 + sum(first is run for first in combined)
        for name in plan.series_of(run):
            size = low if name == "raw" else high
            maps = sum(
                len(own.stats) + _REGION_COPIES * len(own.thresholds)
                for own in stored.of(name).values()
            )
            total += _MAP_COMPRESSION * copies * maps * contrasts * size / run.n_volumes
            if reaches(level, series_level(name, series_names(superres.chosen))):
                total += share * size
    return total


def _structural(plan: Plan, settings: Settings, sizes: Sizes) -> Estimate:
    """Memory and disk, from the numbers of voxels of the high-resolution scans."""
    superres = settings.superres
    people = len(plan.subjects)
    methods = len(superres.chosen)
    scans = [
        scan
        for subject in plan.subjects
        for scan in (*_scans(subject), *(one for session in subject.lowres for one in session))
    ]
    voxels = len(scans) * sizes.scans
    copies = 2 + methods + (2 if superres.baselines == "all" else 1)
    return Estimate(
        processors=min(people, settings.resources.nprocs or 1),
        memory_gb=BASE_GB + largest_gb(sizes),
        sizes=sizes,
        work_gb=6 * voxels * 4e-3 + (0.1 * methods + 0.02) * people,
        output_gb=copies * voxels * 2e-3 + 0.05 * methods * people,
    )


def check_machine(plan: Plan, settings: Settings) -> list[Notice]:
    """Report what the machine that does the work, not one that submits it, lacks for it.

    Problems with memory or GPU; none with a plugin.
    """
    findings = Findings()
    resources = settings.resources
    if resources.use_plugin is None:
        limit = resources.mem_gb or 0
        there = machine.memory_gb(free=False)
        if limit > there:
            reason = (
                f"the memory limit of {limit:g} GB exceeds the {there:.1f} GB of this machine or"
                " job"
            )
            most = int(there)
            fix = f"Use at most --mem-gb {most} (--mem-mb {1024 * most})."
            findings.refuse_option(_as_given(limit), reason, fix)
        free = None if resources.mem_gb is not None else machine.memory_gb()
        check_memory(settings, _sizes_of(plan.subjects, settings), free, findings)
        if resources.device == "cuda" and settings.superres.learned and not machine.has_gpu():
            fix = (
                "Use --device cpu or --device auto, or check CUDA_VISIBLE_DEVICES and whether"
                " PyTorch was built with CUDA support."
            )
            findings.refuse_option(
                "--device cuda", "PyTorch did not find a usable CUDA device", fix
            )
    return findings.problems


def _as_given(mem_gb: float) -> str:
    short = round(mem_gb, 2) == mem_gb
    return f"--mem {mem_gb:g}" if short else f"--mem {1024 * mem_gb:.0f}M"


def check_memory(
    settings: Settings, sizes: Sizes, memory_gb: float | None, findings: Findings
) -> None:
    """Report memory too small for the largest step alone; `memory_gb`: None if not known."""
    need = BASE_GB + largest_gb(sizes)
    if settings.resources.use_plugin is not None or memory_gb is None or memory_gb >= need:
        return
    limit = settings.resources.mem_gb
    enough = math.ceil(need * 10) / 10
    smaller = ""
    if BASE_GB + largest_gb(Sizes(low=sizes.low, high=sizes.high)) <= memory_gb:
        smaller = " Alternatively, exclude the T1w image with --bids-filter-file."
    elif BASE_GB + largest_gb(Sizes(t1w=sizes.t1w, low=sizes.low, high=sizes.low)) <= memory_gb:
        smaller = " Alternatively, use a smaller --sr-factor."
    if limit is not None:
        reason = (
            f"the program requires {need:.1f} GB of memory for its largest step, which is more"
            " than this limit"
        )
        findings.refuse_option(_as_given(limit), reason, f"Use --mem {enough:g} or more.{smaller}")
    else:
        reason = (
            f"the program requires {need:.1f} GB of memory, but only {memory_gb:.1f} GB are"
            " available"
        )
        findings.refuse(
            "memory",
            reason,
            (
                f"Run the program on a computer with at least {enough:g} GB of free"
                f" memory.{smaller}"
            ),
        )
