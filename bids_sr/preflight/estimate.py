"""What a call will cost, from image sizes alone: a linear model whose constants stand in one place.

Time is that of processor cores of 2024; memory is the peak of all processes, which does not grow with the number of
volumes because nodes stream; disk counts what lies in the working directory (float32, uncompressed) and in the results.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bids_sr.config import Settings
from bids_sr.inputs import BoldRun, Subject, factor_of
from bids_sr.preflight.model import Estimate, Plan, Row


@dataclass(frozen=True, kw_only=True, slots=True)
class CostModel:
    """Constants of the estimate; ``_s`` are core seconds for a million voxels of one volume."""

    anatomical_minutes: float = 2.5
    registration_minutes: float = 0.5
    train_minutes: tuple[tuple[str, float], ...] = (("fast", 6.0), ("paper", 4000.0))
    report_minutes: float = 1.0
    motion_s: float = 0.6
    series_s: float = 0.25
    learned_s: float = 0.6
    activation_s: float = 0.35
    base_gb: float = 0.8
    worker_gb: float = 0.7
    anatomical_gb: float = 1.6
    train_gb: float = 1.8
    volume_copies: int = 30
    slab_gb: float = 0.5
    compression: float = 0.45
    figures_gb: float = 0.02
    anatomical_disk_gb: float = 0.25
    core_use: float = 0.75


def run_gigabytes(run: BoldRun, settings: Settings) -> tuple[float, float]:
    """Size of the series as float32 (GB), on the acquired and on the high-resolution grid."""
    low = float(np.prod(run.shape)) * run.n_volumes * 4e-9
    return low, low * float(np.prod(factor_of(run, settings)))


def estimate(plan: Plan, settings: Settings, model: CostModel | None = None) -> Estimate:
    """Estimate time, memory and disk of a plan."""
    model = model or CostModel()
    runs = [run for subject in plan.subjects for run in subject.runs if _has_factor(run, settings)]
    if not runs:
        return Estimate()
    rows = [
        _anatomical(plan.subjects, runs, model),
        _motion(runs, settings, model),
        *_training(plan, settings, model),
        *_series(plan, runs, settings, model),
        _activation(plan, runs, settings, model),
        Row(
            stage="report",
            minutes=model.report_minutes * len(runs),
            memory_gb=model.worker_gb,
            disk_gb=model.figures_gb * len(runs),
        ),
    ]
    jobs = max(1, len(runs) * len(plan.series))
    cores = min(settings.resources.nprocs or 1, jobs)
    return Estimate(
        minutes=sum(row.minutes for row in rows) / max(1.0, model.core_use * cores),
        memory_gb=model.base_gb + max(row.memory_gb for row in rows),
        work_gb=sum(row.disk_gb for row in rows),
        output_gb=_results(plan, runs, settings, model),
        rows=tuple(rows),
    )


def _has_factor(run: BoldRun, settings: Settings) -> bool:
    return run.pair is not None or settings.superres.factor is not None


def _anatomical(subjects: tuple[Subject, ...], runs: list[BoldRun], model: CostModel) -> Row:
    with_t1w = sum(1 for subject in subjects if subject.t1w)
    return Row(
        stage="anatomical and registration",
        minutes=model.anatomical_minutes * with_t1w + model.registration_minutes * len(runs),
        memory_gb=model.anatomical_gb if with_t1w else model.worker_gb,
        disk_gb=model.anatomical_disk_gb * with_t1w,
    )


def _voxels(runs: list[BoldRun], settings: Settings, *, high: bool) -> float:
    """Millions of voxels in all volumes of the runs."""
    return sum(run_gigabytes(run, settings)[high] for run in runs) * 1e3 / 4


def _motion(runs: list[BoldRun], settings: Settings, model: CostModel) -> Row:
    copies = 3 if any(run.slice_timing for run in runs) else 2  # imported, in time, in space (`raw`)
    return Row(
        stage="motion",
        minutes=model.motion_s * _voxels(runs, settings, high=False) / 60,
        memory_gb=model.worker_gb + _volumes_gb(runs, settings, model),
        disk_gb=copies * sum(run_gigabytes(run, settings)[0] for run in runs),
    )


def _volumes_gb(runs: list[BoldRun], settings: Settings, model: CostModel) -> float:
    """Copies of one volume on the high-resolution grid that a node holds at once."""
    return max(run_gigabytes(run, settings)[1] / run.n_volumes for run in runs) * model.volume_copies


def _training(plan: Plan, settings: Settings, model: CostModel) -> list[Row]:
    superres = settings.superres
    pairs = sum(len(subject.pairs) for subject in plan.subjects)
    if not superres.learned or not pairs or superres.pretrained or superres.model_source == "reuse":
        return []
    minutes = dict(model.train_minutes)[superres.recipe]
    if superres.max_train_minutes is not None:
        minutes = min(minutes, superres.max_train_minutes)
    total = minutes * pairs * len(superres.learned)
    return [Row(stage="training", minutes=total, memory_gb=model.train_gb, disk_gb=0.0)]


def _series(plan: Plan, runs: list[BoldRun], settings: Settings, model: CostModel) -> list[Row]:
    rows = []
    for name in plan.series[1:]:
        here = [run for run in runs if name in plan.series_of(run)]
        if here:
            seconds = model.learned_s if name in settings.superres.learned else model.series_s
            rows.append(
                Row(
                    stage=f"series {name}",
                    minutes=seconds * _voxels(here, settings, high=True) / 60,
                    memory_gb=model.worker_gb + _volumes_gb(here, settings, model),
                    disk_gb=sum(run_gigabytes(run, settings)[1] for run in here),
                )
            )
    return rows


def _activation(plan: Plan, runs: list[BoldRun], settings: Settings, model: CostModel) -> Row:
    voxels = sum(_voxels([run], settings, high=name != "raw") for run in runs for name in plan.series_of(run)) * len(
        settings.activation.smoothing
    )
    maps = voxels / max(run.n_volumes for run in runs) * 4e-3 * 8
    return Row(
        stage="activation",
        minutes=model.activation_s * voxels / 60,
        memory_gb=model.worker_gb + model.slab_gb,
        disk_gb=maps,
    )


def _results(plan: Plan, runs: list[BoldRun], settings: Settings, model: CostModel) -> float:
    share = model.compression * (0.5 if settings.preprocessing.output_dtype == "int16" else 1.0)
    total = model.figures_gb * len(runs) + model.anatomical_disk_gb / 5 * len(plan.subjects)
    for run in runs:
        low, high = run_gigabytes(run, settings)
        contrasts = max(1, len(plan.contrasts.get(run.bold, {})))
        for name in plan.series_of(run):
            size = low if name == "raw" else high
            maps = size / run.n_volumes * contrasts * 6 * len(settings.activation.smoothing)
            total += share * size + model.compression * maps
    return total
