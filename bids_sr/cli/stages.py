"""Stages of a call with their time and memory, as sums over the steps of the call."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bids_sr.config import Settings, machine
from bids_sr.config.plugin import Plugin
from bids_sr.engine.memory import BASE_GB, Sizes, step_gb
from bids_sr.engine.step import AnyStep, Stage
from bids_sr.io.run_time import RunTime
from bids_sr.io.series import get_kind
from bids_sr.sr.method import method_of_series
from bids_sr.sr.models.request import ModelSettings
from bids_sr.sr.recipe_changes import select_changes
from bids_sr.sr.steps.model_times import compute_time_share, time_application, time_model
from bids_sr.sr.steps.super_resolution import super_resolve
from bids_sr.structural.steps.network_training import time_training_on_scans, train_on_scans
from bids_sr.survey.bids.retrospective_plan import as_downsampled
from bids_sr.survey.preflight.estimates import estimate
from bids_sr.survey.preflight.plan import Estimate, Plan, StageCost
from bids_sr.version import __version__

if TYPE_CHECKING:
    from bids_sr.engine.nodes import Node
    from bids_sr.survey.bids.inputs import BoldRun

_START_STAGE, _START_S = "starting the program and writing the reports", 14.0
_STAGE_TIMES: Mapping[Stage, RunTime] = {
    Stage.STRUCTURAL_PREPARATION: RunTime(always=30.0, high=90.0),
    Stage.STRUCTURAL: RunTime(always=8.0, high=40.0),
    Stage.ANATOMY: RunTime(always=1.7, t1w=0.18),
    Stage.OTHER_PROGRAMS: RunTime(always=0.5, volumes=0.01),
    Stage.HEAD_MOTION: RunTime(always=0.05, volumes=0.022),
    Stage.REGISTRATION: RunTime(always=0.4, low=4.5),
    Stage.SEEDS: RunTime(volumes=0.02),
    Stage.CALIBRATION: RunTime(always=3.0, high=15.0),
    Stage.PRIOR: RunTime(always=0.1),
    Stage.TRAINING: RunTime(always=2.0),
    Stage.SUPER_RESOLUTION: RunTime(volumes=0.022),
    Stage.MAPS: RunTime(always=0.4, volumes=0.008, maps=0.1),
    Stage.EVALUATION: RunTime(always=0.1, volumes=0.007, maps=0.01),
    Stage.EXPORT: RunTime(always=0.03, volumes=0.005),
    Stage.FIGURES: RunTime(always=0.35, maps=0.018),
    Stage.COMBINATION: RunTime(always=0.5, maps=0.4),
    Stage.STORAGE: RunTime(always=0.02, volumes=0.001),
}
"""Mean processor time of a step of each stage on processors of 2024 (``benchmarks/resources.py``).

Steps that make a model are not included.
"""


def estimate_with_time(
    plan: Plan, settings: Settings, steps: "Iterable[Node] | None" = None
) -> Estimate:
    """Return the cost of a call with the time and memory of each stage.

    Memory and disk space are estimated by `bids_sr.survey.preflight.estimates`. The time of a
    training on a GPU was not measured: it is infinite unless it has a limit.

    `steps` are the nodes to run; None means `list_remaining_steps`.
    """
    downsampled_plan = replace(plan, subjects=as_downsampled(plan.subjects, settings))
    cost = estimate(downsampled_plan, settings)
    get_seconds = make_time_function(downsampled_plan, settings, cost.sizes)
    if steps is None:
        steps = list_remaining_steps(plan, settings)
    seconds_by_step: defaultdict[AnyStep, float] = defaultdict(float)
    trainings: defaultdict[str, list[Node]] = defaultdict(list)
    for node in steps:
        if trains_network(node):
            trainings[node.step.stage].append(node)
        seconds_by_step[node.step] += get_seconds(node)
    seconds_by_stage, gb_by_stage = {_START_STAGE: _START_S}, {_START_STAGE: BASE_GB}
    for step, seconds in seconds_by_step.items():
        seconds_by_stage[step.stage] = seconds_by_stage.get(step.stage, 0.0) + seconds
        stage_gb = gb_by_stage.get(step.stage, 0.0)
        gb_by_stage[step.stage] = max(stage_gb, step_gb(step.memory, cost.sizes))
    on_gpu = bool(trainings) and _train_on_gpu(settings)
    rows, saved_s = [], 0.0
    for stage in (_START_STAGE, *Stage):
        if stage not in seconds_by_stage:
            continue
        training = [get_seconds(node) for node in trainings[stage]]
        wall_s = (seconds_by_stage[stage] - sum(training)) / cost.processors
        if on_gpu and training:
            limit_s = 60 * (settings.superres.max_train_minutes or math.inf)
            wall_s += limit_s * len(trainings[stage])
        elif training:
            training_s, fastest_s = _count_training_seconds(training, settings)
            wall_s += training_s
            saved_s += training_s - fastest_s
        rows.append(
            StageCost(
                stage=stage,
                minutes=seconds_by_stage[stage] / 60,
                wall_minutes=wall_s / 60,
                memory_gb=gb_by_stage[stage],
            )
        )
    return replace(
        cost,
        minutes=sum(row.wall_minutes for row in rows),
        saved_minutes=saved_s / 60,
        rows=tuple(rows),
    )


def _train_on_gpu(settings: Settings) -> bool:
    """Return whether networks are trained on a GPU."""
    resources = settings.resources
    if resources.device != "auto":
        return resources.device == "cuda"
    if resources.use_plugin is not None:
        return bool(Plugin.from_file(resources.use_plugin).gpu_args)
    return machine.has_gpu()


def _count_training_seconds(seconds: Sequence[float], settings: Settings) -> tuple[float, float]:
    """Return wall-clock seconds of trainings on a CPU, and with all processors as threads.

    `seconds` are the seconds of each training with its threads. A time limit saves no time.
    """
    threads, nprocs = settings.resources.omp_nthreads or 1, settings.resources.nprocs or 1
    n_parallel = min(len(seconds), max(1, nprocs // threads))
    wall_s = max(sum(seconds) / n_parallel, *seconds)
    if settings.superres.max_train_minutes is not None:
        return wall_s, wall_s
    shares = [compute_time_share(settings.superres.recipe, n) for n in (threads, nprocs)]
    return wall_s, min(wall_s, sum(seconds) / shares[0] * shares[1])


def list_remaining_steps(plan: Plan, settings: Settings) -> "list[Node]":
    """Return all steps without finished trainings in the working directory and steps before them.

    Other finished steps are included, because checksums of all input files would take long. With
    ``--retrospective``, the data are downsampled.
    """
    from bids_sr.engine.graph import Graph
    from bids_sr.engine.records import FinishedSteps, find_folder
    from bids_sr.workflows.participant import make_scope

    work_dir = settings.paths.work_dir or Path()
    downsampled_plan = replace(plan, subjects=as_downsampled(plan.subjects, settings))
    root = make_scope(settings, downsampled_plan, __version__)
    nodes = [node for scope in root.inward() for node in scope.nodes]
    begun_trainings = [
        node for node in nodes if trains_network(node) and find_folder(node, work_dir).exists()
    ]
    if not begun_trainings:
        return nodes
    finished_steps = FinishedSteps(Graph(root), work_dir, begun_trainings).finished_steps()
    return [node for node in nodes if node not in finished_steps]


def trains_network(node: "Node") -> bool:
    """Return whether a step trains a network, rather than reusing a given one."""
    training = _get_model(node)
    return training is not None and node.step.stage is not Stage.PRIOR and not training.is_given


def _get_model(node: "Node") -> ModelSettings | None:
    """Return the settings of the model that a step makes or reuses; None for other steps."""
    if not node.step.resumes:
        return None
    values: dict[str, Any] = {
        item.name: node.get_setting(item.name) for item in fields(ModelSettings)
    }
    return ModelSettings(**values)


def make_time_function(plan: Plan, settings: Settings, sizes: Sizes) -> "Callable[[Node], float]":
    """Return a function that computes the expected processor time (s) of a node for its run.

    The time of a training is the time with its threads. `sizes` are the sizes of the largest
    structural images, for steps of participants.
    """
    superres = settings.superres
    runs: dict[tuple[str, str], BoldRun] = {}
    for run in plan.runs:
        subject = run.entities["subject"]
        runs.setdefault((subject, ""), run)  # for steps of the participant
        runs.setdefault((subject, run.stem), run)

    def get_seconds(node: "Node") -> float:
        time = _get_time(node)
        subject, name = node.scope.owner
        run = runs.get((subject, name)) or runs.get((subject, ""))
        if run is None:
            seconds = time.seconds(high=sizes.scans)
        else:
            low = math.prod(run.shape) / 1e6
            high = low * math.prod(run.factor)
            n_maps = len(plan.contrasts.get(run.bold, ())) * len(
                settings.activation.choose_smoothing()
            )
            volumes = (high if node.scope.high_resolution else low) * run.n_volumes
            seconds = time.seconds(
                low=low, high=high, volumes=volumes, maps=high * n_maps, t1w=sizes.t1w
            )
            if node.step is super_resolve:
                seconds += volumes * _time_series(str(node.get_setting("series_name")))
        if not trains_network(node):
            return seconds
        threads = settings.resources.omp_nthreads or 1
        limit_s = 60 * (superres.max_train_minutes or math.inf)
        return min(limit_s, seconds * compute_time_share(superres.recipe, threads))

    def _time_series(name: str) -> float:
        if get_kind(name) == "baseline":
            return 0.0
        method = method_of_series(name).name
        changes = select_changes(superres.recipe_changes, method)
        return time_application(
            ModelSettings(method=method, recipe=superres.recipe, recipe_changes=changes)
        )

    return get_seconds


def _get_time(node: "Node") -> RunTime:
    """Return the time of a step without the application of a model: of its model or its stage."""
    training = _get_model(node)
    if training is None:
        return _STAGE_TIMES[node.step.stage]
    if node.step is train_on_scans:
        suffixes = cast("tuple[str, ...]", node.get_setting("suffixes"))
        return time_training_on_scans(training, suffixes)
    return time_model(training)
