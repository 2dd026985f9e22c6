"""Time, memory and disk from image sizes, and check of this machine's memory and device.

Time is that of processors of 2024, measured as processor seconds of all processes by
``benchmarks/resources.py`` and spread over those that can be kept busy; memory is the peak of all
processes together, which does not grow with the number of volumes because nodes stream, except
where a calibration is used; disk counts what lies in the working directory (float32, uncompressed)
and in the results.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bids_sr.bids import BoldRun, Findings, Subject
from bids_sr.bids.headers import read_header
from bids_sr.bids.method_options import method_of_model, pretrained_for
from bids_sr.bids.retrospective_plan import as_downsampled
from bids_sr.config import Settings, machine, memory_model
from bids_sr.config.levels import StoredMaps, reaches, series_level
from bids_sr.config.memory_model import (
    BASE_GB,
    WORKER_GB,
    Need,
    Sizes,
    held_of_calibrated,
    largest_gb,
    step_gb,
    workers_that_fit,
)
from bids_sr.config.spaces import FUNC
from bids_sr.io.template_cache import grid_of
from bids_sr.notices import Notice
from bids_sr.preflight.plan import Estimate, Plan, Row
from bids_sr.series import PAIR_BASELINES, series_name, series_names
from bids_sr.sr.method import get_method

# Constants of the estimate: ``_S`` are processor seconds, ``_S_LOW`` and ``_S_HIGH`` those for a
# million voxels of one volume on the acquired and on the high-resolution grid, ``_S_GRID`` for a
# million voxels of that grid however many volumes there are.
_STARTUP_S = 20.0
_ANATOMICAL_S = (32.0, 1.2)  # always, and for a million voxels of the T1w image
_PRECOMPUTED_SHARE = 0.4  # of the anatomical stage where another program has made most of it
_REGISTRATION_S = 1.0
_REGISTRATION_S_GRID = 115.0
_PAIR_S = 1.0
_PAIR_S_GRID = 35.0
_REPORT_S = 12.0
_REPORT_S_GRID = 20.0
_MOTION_S_LOW = 0.35
_SERIES_S = 2.0  # of each series of a run, however large
_SERIES_S_HIGH = 0.1
_GUIDED_S_HIGH = 0.19
_MEASURED_S_HIGH = 0.42
_SPACE_S = 0.15  # for a million voxels of a volume in another space
_SPACE_SHARE = 0.5  # of such a volume that the field of view of a run fills, at most
_KEEP_S_HIGH = 0.03
_ACTIVATION_S_HIGH = 0.02
_MAP_S = 0.8  # of each node of maps, however large
_EVALUATE_S_HIGH = 0.1
_BESIDE_GB = 0.1  # that a step beside the largest one adds on average
_EFFECTS_SHARE = (0.75, 0.06)  # of a series, the effects of the first and of any other
_CALIBRATION_S = 20.0
_CALIBRATION_S_HIGH = 2.0
_TEMPLATE_GB = 0.12
_T1W_COPIES = 6.5
_MAP_COPIES = 5.5  # of each contrast: five statistics, and regions
_REGION_COPIES = 0.1
_OVERHEAD_GB = 0.03
_COMPRESSION = 0.85
_MAP_COMPRESSION = 0.16
_FIGURES_GB = 0.02
_TRANSFORMS_GB = 0.007
_SCANS_PREPARE_S = (30.0, 45.0)  # of structural scans: always, and for a million voxels
_SCANS_TRAIN_S = (220.0, 400_000.0)  # for a million voxels of all, recipes fast and paper
_SCANS_MEASURE_S = (10.0, 12.0)
_CORE_USE = 0.85
_CORES_A_RUN = 2.5
_BRAIN_BOX_MM3 = 4.5e6  # of a grid around the brain of a template, with its rim


_ALIGN = {"rigid": 1.0, "affine": 1.5, "nonlinear": 2.0}
"""What other transforms make of `_SCANS_PREPARE_S`: an affine measured; a deformation by its
further iterations.
"""


def _high(runs: Sequence[BoldRun]) -> float:
    """Millions of voxels in all volumes on the high-resolution grid."""
    return sum(_run_gigabytes(run)[1] for run in runs) * 1e3 / 4


def _low(runs: Sequence[BoldRun]) -> float:
    """Millions of voxels in all volumes on the acquired grid."""
    return sum(_run_gigabytes(run)[0] for run in runs) * 1e3 / 4


def _grid(runs: Sequence[BoldRun]) -> float:
    """Millions of voxels of one volume of each run on the acquired grid."""
    return sum(math.prod(run.shape) for run in runs) / 1e6


def _run_gigabytes(run: BoldRun) -> tuple[float, float]:
    """Size of the series as float32 (GB), on the acquired and on the high-resolution grid."""
    low = float(np.prod(run.shape)) * run.n_volumes * 4e-9
    return low, low * float(np.prod(run.factor))


def _row(sizes: Sizes, stage: str, seconds: float, need: Need, disk_gb: float = 0.0) -> Row:
    """A row whose memory is that of one kind of step."""
    return Row(stage=stage, minutes=seconds / 60, memory_gb=step_gb(need, sizes), disk_gb=disk_gb)


def _sizes_of(subjects: Iterable[Subject], settings: Settings) -> Sizes:
    """The largest grid of each kind, of all participants."""
    every = tuple(subjects)
    runs = [run for one in every for run in one.runs]
    scans = max((_millions(pair.highres) for one in every for pair in one.structural), default=0.0)
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
        dense=high if settings.superres.dense else 0.0,
        spaces=max(
            (_elsewhere(run, settings) for one in every if one.t1w for run in one.runs),
            default=0.0,
        ),
        calibrated=held_of_calibrated(high) if calibrated else 0.0,
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


def _millions(path: Path) -> float:
    """Millions of voxels of an image; a file that cannot be read is complained of elsewhere."""
    header = read_header(path, Findings())
    return 0.0 if header is None else math.prod(header.shape[:3]) / 1e6


def estimate(plan: Plan, settings: Settings) -> Estimate:
    """Estimate time, memory and disk of a plan.

    Parameters
    ----------
    plan : Plan
        What the call will do.
    settings : Settings
        All settings of the call.

    Returns
    -------
    Estimate
        Cost with a row for each stage; nothing without runs.
    """
    runs = plan.runs
    if not runs:
        return Estimate()
    sizes = _sizes_of(plan.subjects, settings)
    report_s = _REPORT_S * len(runs) + _REPORT_S_GRID * _grid(runs)
    figures_gb = (_FIGURES_GB + _OVERHEAD_GB) * len(runs)
    rows = [
        _row(sizes, "start-up", _STARTUP_S, Need()),
        _anatomical(plan, sizes),
        _motion(plan, sizes),
        *_calibrations(plan, settings, sizes),
        *_training(plan, settings, sizes),
        *_series(plan, settings, sizes),
        _activation(plan, settings, sizes),
        *_evaluation(plan, settings, sizes),
        _row(
            sizes,
            "report",
            report_s,
            Need(always=0.03, t1w=0.020) if sizes.t1w else Need(),
            figures_gb,
        ),
    ]
    largest, nprocs = largest_gb(sizes), settings.resources.nprocs or 1
    given = settings.resources.mem_gb
    workers = nprocs if given is None else max(1, workers_that_fit(given, nprocs, largest))
    cores = max(1.0, min(_CORE_USE * workers, _CORES_A_RUN * len(runs)))
    # need none of each other
    side_by_side = len(runs) * max(1, len(plan.series)) * len(settings.activation.smoothing)
    peak = BASE_GB + largest + (min(workers, side_by_side) - 1) * (WORKER_GB + _BESIDE_GB)
    return Estimate(
        minutes=sum(row.minutes for row in rows) / cores,
        processors=cores,
        sizes=sizes,
        memory_gb=peak if given is None else min(peak, max(given, BASE_GB + largest)),
        work_gb=sum(row.disk_gb for row in rows),
        output_gb=_results(plan, settings, sizes),
        rows=tuple(rows),
    )


def _anatomical(plan: Plan, sizes: Sizes) -> Row:
    """Anatomy once for each participant, registration once for each run and pair."""
    seconds = _REGISTRATION_S * len(plan.runs) + _REGISTRATION_S_GRID * _grid(plan.runs)
    always, for_voxels = _ANATOMICAL_S
    disk = 0.0
    for subject in plan.subjects:
        if subject.t1w:
            share = 1.0 if subject.precomputed is None else _PRECOMPUTED_SHARE
            seconds += share * (always + for_voxels * sizes.t1w)
            disk += _TEMPLATE_GB + _T1W_COPIES * sizes.t1w * 4e-3
        seconds += len(subject.pairs) * (_PAIR_S + _PAIR_S_GRID * sizes.low)
    need = memory_model.SEGMENT if sizes.t1w else Need()
    return _row(sizes, "anatomical and registration", seconds, need, disk)


def _calibrations(plan: Plan, settings: Settings, sizes: Sizes) -> list[Row]:
    """Return the calibration of each run whose method uses one."""
    found = [(run, run.calibration) for run in plan.runs if run.calibration is not None]
    if not found or not settings.superres.calibrated:
        return []
    volumes = [
        math.prod(run.shape) * math.prod(run.factor) * one.n_volumes / 1e6 for run, one in found
    ]
    seconds = sum(_CALIBRATION_S + _CALIBRATION_S_HIGH * size for size in volumes)
    return [_row(sizes, "calibration", seconds, memory_model.CALIBRATE, sum(volumes) * 4e-3)]


def _motion(plan: Plan, sizes: Sizes) -> Row:
    # imported, in time, in space (`raw`)
    copies = 3 if any(run.slice_timing for run in plan.runs) else 2
    disk = copies * sum(_run_gigabytes(run)[0] for run in plan.runs)
    return _row(sizes, "motion", _MOTION_S_LOW * _low(plan.runs), Need(), disk)


def _training(plan: Plan, settings: Settings, sizes: Sizes) -> list[Row]:
    superres = settings.superres
    given = [method_of_model(file) for file in superres.pretrained]
    if superres.model_source == "reuse":
        return []
    limit = (superres.max_train_minutes or math.inf) * 60
    pairs = sum(len(subject.pairs) for subject in plan.subjects)
    low, high, seconds = sizes.low, sizes.high, 0.0
    for name in superres.learned:
        if name in given:
            continue
        method, cost = get_method(name), get_method(name).cost(superres.recipe)
        # each run by its own size; nothing is trained that could stop on the clock
        if method.trained_on == "series":
            seconds += sum(
                cost.seconds(low=_grid([run]), volumes=_high([run])) for run in plan.runs
            )
            continue
        count = len(plan.runs) if method.of_the_run else pairs
        seconds += min(cost.seconds(low=low, high=high), limit) * count
    return (
        [_row(sizes, "training", seconds * superres.n_ensemble, memory_model.VARIANCE)]
        if seconds
        else []
    )


def _series_s(settings: Settings, name: str) -> float:
    """Return processor seconds to compute and store a million high-resolution voxels."""
    superres = settings.superres
    method = next((each for each in superres.learned if series_name(each) == name), None)
    if method is not None:
        return get_method(method).cost(superres.recipe).series + _SERIES_S_HIGH + _KEEP_S_HIGH
    return (_GUIDED_S_HIGH if name in PAIR_BASELINES else _SERIES_S_HIGH) + _KEEP_S_HIGH


def _series(plan: Plan, settings: Settings, sizes: Sizes) -> list[Row]:
    rows = []
    for name in plan.series[1:]:
        here = [run for run in plan.runs if name in plan.series_of(run)]
        if here:
            disk = sum(_run_gigabytes(run)[1] for run in here)
            seconds = _SERIES_S * len(here) + _series_s(settings, name) * _high(here)
            rows.append(_row(sizes, f"series {name}", seconds, memory_model.SERIES, disk))
    if volumes := _in_spaces(plan, settings):
        rows.append(
            _row(
                sizes,
                "series in other spaces",
                _SPACE_S * volumes,
                memory_model.SERIES,
                volumes * 4e-3,
            )
        )
    return rows


def _in_spaces(plan: Plan, settings: Settings) -> float:
    """Millions of voxels in all volumes of the primary series in other spaces."""
    runs = (run for subject in plan.subjects if subject.t1w for run in subject.runs)
    return sum(_elsewhere(run, settings) * run.n_volumes for run in runs)


def _activation(plan: Plan, settings: Settings, sizes: Sizes) -> Row:
    """Cost the statmaps of every series and smoothing, and the block effects.

    The evaluation rests on both.
    """
    widths = len(settings.activation.smoothing)
    voxels = {
        run.bold: [_high([run]) if name != "raw" else _low([run]) for name in plan.series_of(run)]
        for run in plan.runs
    }
    seconds = (
        sum(_ACTIVATION_S_HIGH * v + _MAP_S for each in voxels.values() for v in each) * widths
    )
    first, other = _EFFECTS_SHARE
    effects = (
        sum((first + other * max(0, len(each) - 2)) * max(each) for each in voxels.values()) * 4e-3
    )
    maps = (
        widths
        * 4e-3
        * _MAP_COPIES
        * sum(_contrasts(plan, run) * sum(voxels[run.bold]) / run.n_volumes for run in plan.runs)
    )
    return _row(sizes, "activation", seconds, memory_model.MAPS, maps + effects)


def _contrasts(plan: Plan, run: BoldRun) -> int:
    return max(1, len(plan.contrasts.get(run.bold, {})))


def _evaluation(plan: Plan, settings: Settings, sizes: Sizes) -> list[Row]:
    """Cost the series made for comparison: measured, ensemble members and placebos."""
    superres, wanted = settings.superres, settings.evaluation
    high, count = _high(plan.runs), len(plan.series)
    rows = [_row(sizes, "evaluation", _EVALUATE_S_HIGH * count * high, memory_model.EFFECTS)]
    extras = dict.fromkeys(superres.learned, superres.n_ensemble - 1)
    if wanted.null_checks:
        extras |= {
            name: number + len(get_method(name).placebos) for name, number in extras.items()
        }
    truth = any(run.truth is not None and run.truth.series is not None for run in plan.runs)
    made = sum(extras.values()) + truth
    if made:
        # a member or a placebo takes what its method's series does, but for keeping it
        each = sum(
            n * (_series_s(settings, series_name(name)) - _KEEP_S_HIGH)
            for name, n in extras.items()
        )
        seconds = (each + truth * _MEASURED_S_HIGH + made * _EVALUATE_S_HIGH) * high
        disk = made * (1 + _EFFECTS_SHARE[1]) * sum(_run_gigabytes(run)[1] for run in plan.runs)
        rows.append(_row(sizes, "series for evaluation", seconds, memory_model.SERIES, disk))
    if compared := [
        run for run in plan.runs for _ in (*run.compared, *([run.another] if run.another else []))
    ]:
        widths = len(settings.activation.smoothing)
        seconds = (_SERIES_S_HIGH + _EVALUATE_S_HIGH + _ACTIVATION_S_HIGH * widths) * _high(
            compared
        )
        disk = sum(_run_gigabytes(run)[1] for run in compared)
        rows.append(_row(sizes, "series of other programs", seconds, memory_model.SERIES, disk))
    return rows


def _results(plan: Plan, settings: Settings, sizes: Sizes) -> float:
    """Return the size of stored outputs (GB) by level; links to a file take no space."""
    superres, how, level = settings.superres, settings.activation, settings.run.level
    stored = StoredMaps(
        level=level,
        methods=superres.methods,
        baselines=superres.baselines,
        smoothing=how.smoothing,
        thresholds=how.thresholds,
        kinds=how.kinds,
    )
    share = _COMPRESSION * (0.5 if settings.preprocessing.output_dtype == "int16" else 1.0)
    with_t1w = sum(1 for subject in plan.subjects if subject.t1w)
    total = _FIGURES_GB * len(plan.runs) + (_TRANSFORMS_GB + sizes.t1w * 4e-3) * with_t1w
    total += share * _SPACE_SHARE * _in_spaces(plan, settings) * 4e-3
    for run in plan.runs:
        low, high = _run_gigabytes(run)
        contrasts = _contrasts(plan, run)
        for name in plan.series_of(run):
            size = low if name == "raw" else high
            maps = sum(
                len(own.stats) + _REGION_COPIES * len(own.thresholds)
                for own in stored.of(name).values()
            )
            total += _MAP_COMPRESSION * maps * contrasts * size / run.n_volumes
            if reaches(level, series_level(name, series_names(superres.chosen))):
                total += share * size
    return total


def estimates(plan: Plan, settings: Settings) -> dict[str, Estimate]:
    """Return the cost of a call for each participant (``sub-01``) alone.

    `plan` is as `check` returned it.

    Parameters
    ----------
    plan : Plan
        What the call will do.
    settings : Settings
        All settings of the call.

    Returns
    -------
    dict[str, Estimate]
        Cost by participant, that of downsampled data with ``--retrospective``.
    """
    return {
        f"sub-{one.label}": estimate(replace(plan, subjects=(one,)), settings)
        for one in as_downsampled(plan.subjects, settings)
    }


def estimate_structural(plan: Plan, settings: Settings) -> Estimate:
    """Time, memory and disk, from the numbers of voxels of the high-resolution scans.

    Parameters
    ----------
    plan : Plan
        What the call will do.
    settings : Settings
        All settings of the call.

    Returns
    -------
    Estimate
        Cost with a row for each stage; nothing without participants.
    """
    if not plan.subjects:
        return Estimate()
    superres = settings.superres
    sizes, methods = _sizes_of(plan.subjects, settings), len(superres.chosen)
    learning = sum(pretrained_for(superres, name) is None for name in superres.chosen)
    scans = sum(len(subject.structural) for subject in plan.subjects)
    voxels, people = scans * sizes.scans, len(plan.subjects)
    copies = 2 + methods + (2 if superres.baselines == "all" else 1)
    limit = (superres.max_train_minutes or 1e9) * 60 * people
    train = (
        0.0
        if superres.model_source == "reuse"
        else _SCANS_TRAIN_S[superres.recipe != "fast"] * voxels
    )
    always, for_voxels = _SCANS_PREPARE_S
    prepare = always * people + for_voxels * _ALIGN[superres.anat_align] * voxels
    always, for_voxels = _SCANS_MEASURE_S
    measure = always * people + for_voxels * voxels * copies
    stages = {
        "preparation": (prepare, 6 * voxels * 4e-3),
        "training": (min(train, limit) * learning, 0.1 * methods * people),
        "measures and figures": (measure, 0.02 * people),
    }
    largest = largest_gb(sizes)
    costs = ((stage, seconds / 60, disk) for stage, (seconds, disk) in stages.items())
    rows = tuple(
        Row(stage=stage, minutes=each, memory_gb=largest, disk_gb=disk)
        for stage, each, disk in costs
    )
    processors = min(people, settings.resources.nprocs or 1)
    return Estimate(
        minutes=sum(row.minutes for row in rows) / processors,
        processors=processors,
        memory_gb=BASE_GB + largest,
        sizes=sizes,
        work_gb=sum(row.disk_gb for row in rows),
        output_gb=copies * voxels * 2e-3 + 0.05 * methods * people,
        rows=rows,
    )


def check_machine(plan: Plan, settings: Settings) -> list[Notice]:
    """Report what the machine that does the work, not one that submits it, lacks for it.

    Parameters
    ----------
    plan : Plan
        What the call will do.
    settings : Settings
        All settings of the call.

    Returns
    -------
    list[Notice]
        Problems with memory or GPU; none with a plugin.
    """
    found, resources = Findings(), settings.resources
    if resources.use_plugin is None:
        given, there = resources.mem_gb or 0, machine.memory_gb(free=False)
        if given > there:
            reason = f"{given:g} GB are more than the {there:.1f} GB of this machine or job"
            most = int(there)
            fix = f"Give at most --mem-gb {most}, which is --mem-mb {1024 * most}."
            found.refuse_option(f"--mem {given:g}", reason, fix)
        free = None if resources.mem_gb is not None else machine.memory_gb()
        check_memory(settings, _sizes_of(plan.subjects, settings), free, found)
        if resources.device == "cuda" and settings.superres.learned and not machine.has_gpu():
            fix = (
                "Use --device cpu or auto, or check CUDA_VISIBLE_DEVICES and that torch was built"
                " with CUDA."
            )
            found.refuse_option("--device cuda", "torch finds no usable CUDA device", fix)
    return found.problems


def check_memory(
    settings: Settings, sizes: Sizes, memory_gb: float | None, found: Findings
) -> None:
    """Report memory too small for the largest step alone; None where it is not known.

    Parameters
    ----------
    settings : Settings
        All settings of the call.
    sizes : Sizes
        Millions of voxels of the largest images.
    memory_gb : float | None
        Memory that may be used now (GB).
    found : Findings
        Takes up problems and notes.
    """
    need = BASE_GB + largest_gb(sizes)
    if settings.resources.use_plugin is not None or memory_gb is None or memory_gb >= need:
        return
    given, enough, smaller = settings.resources.mem_gb, math.ceil(need * 10) / 10, ""
    if BASE_GB + largest_gb(Sizes(low=sizes.low, high=sizes.high)) <= memory_gb:
        smaller = ", or leave the T1w image out by a --bids-filter-file"
    elif BASE_GB + largest_gb(Sizes(t1w=sizes.t1w, low=sizes.low, high=sizes.low)) <= memory_gb:
        smaller = ", or ask for a smaller --sr-factor"
    if given is not None:
        reason = f"{need:.1f} GB are needed by the program with its largest step"
        found.refuse_option(f"--mem {given:g}", reason, f"Give --mem {enough:g} or more{smaller}.")
    else:
        reason = f"{need:.1f} GB are needed, and {memory_gb:.1f} GB are available"
        found.refuse("memory", reason, f"Run where {enough:g} GB are free{smaller}.")
