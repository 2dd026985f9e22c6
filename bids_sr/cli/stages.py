"""Stages of a call with their cost, as sums over the steps of the call."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.config import Settings, machine
from bids_sr.config.plugin import Plugin
from bids_sr.engine.memory import BASE_GB, Sizes, step_gb
from bids_sr.engine.step import AnyStep, Stage
from bids_sr.sr.steps.training_costs import compute_time_share
from bids_sr.survey.bids.retrospective_plan import as_downsampled
from bids_sr.survey.preflight.estimates import estimate
from bids_sr.survey.preflight.plan import Estimate, Plan, StageCost
from bids_sr.version import __version__

if TYPE_CHECKING:
    from bids_sr.engine.nodes import Node
    from bids_sr.survey.bids.inputs import BoldRun

_START_STAGE, _START_S = "starting the program and writing the reports", 14.0


def estimate_with_time(
    plan: Plan, settings: Settings, steps: "Iterable[Node] | None" = None
) -> Estimate:
    """Return the cost of a call with the time and memory of each stage.

    Memory and disk space are estimated by `bids_sr.survey.preflight.estimates`, and processor time
    is declared by the steps. The time of a training on a GPU was not measured: it is infinite
    unless it has a limit.

    `steps` are the nodes to run; None means `list_remaining_steps`.
    """
    downsampled_plan = replace(plan, subjects=as_downsampled(plan.subjects, settings))
    cost = estimate(downsampled_plan, settings)
    get_seconds = make_time_function(downsampled_plan, cost.sizes)
    if steps is None:
        steps = list_remaining_steps(plan, settings)
    seconds_by_step: defaultdict[AnyStep, float] = defaultdict(float)
    trainings: defaultdict[str, list[Node]] = defaultdict(list)
    for node in steps:
        if node.cost.trains:
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
        if on_gpu:
            wall_s += sum(node.cost.limit for node in trainings[stage])
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
        node for node in nodes if node.cost.trains and find_folder(node, work_dir).exists()
    ]
    if not begun_trainings:
        return nodes
    finished_steps = FinishedSteps(Graph(root), work_dir, begun_trainings).finished_steps()
    return [node for node in nodes if node not in finished_steps]


def make_time_function(plan: Plan, sizes: Sizes) -> "Callable[[Node], float]":
    """Return a function that computes the declared processor time (s) of a node for its run.

    `sizes` are the sizes of the largest structural images, for steps of participants.
    """
    runs: dict[tuple[str, str], BoldRun] = {}
    for run in plan.runs:
        subject = run.entities["subject"]
        runs.setdefault((subject, ""), run)  # for steps of the participant
        runs.setdefault((subject, run.stem), run)

    def get_seconds(node: "Node") -> float:
        subject, name = node.scope.owner
        run = runs.get((subject, name)) or runs.get((subject, ""))
        if run is None:
            return node.cost.seconds(high=sizes.scans)
        low = math.prod(run.shape) / 1e6
        high = low * math.prod(run.factor)
        return node.cost.seconds(
            low=low,
            high=high,
            volumes=(high if node.scope.high_resolution else low) * run.n_volumes,
            t1w=sizes.t1w,
        )

    return get_seconds
