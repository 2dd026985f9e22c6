"""Stages of a call with their cost, as sums over the steps of the call."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bids_sr.bids.retrospective_plan import as_downsampled
from bids_sr.config import Settings
from bids_sr.config.memory import BASE_GB, Sizes, step_gb
from bids_sr.preflight.estimates import estimate
from bids_sr.preflight.plan import Estimate, Plan, StageCost
from bids_sr.version import __version__

if TYPE_CHECKING:
    from bids_sr.bids import BoldRun
    from bids_sr.pipeline.nodes import Node
    from bids_sr.pipeline.step import AnyStep

# stage, in order of processing → its steps, or the modules or folders that contain them
_STEPS_BY_STAGE: Mapping[str, Sequence[str]] = {
    "structural scans: bias correction, brain extraction and registration": ("prepare_scans",),
    "structural scans: training and super-resolution of all contrasts": ("structural",),
    "anatomical images: bias-field correction, brain mask, template registration and atlas": (
        "anatomy",
        "atlas_regions",
    ),
    "series from other programs": ("imported", "compared_series", "another_run"),
    "head-motion and slice-timing correction": (
        "acquired_series",
        "bold_reference",
        "clipped_voxels",
        "motion",
        "outlier_volumes",
        "run_confounds",
        "temporal_model",
    ),
    "registration": ("register_pair", "registration", "spaces", "surfaces"),
    "seed time series": ("seed_series", "component_series"),
    "calibration": ("register_calibration", "measure_calibration"),
    "prior SD maps": ("estimate_variance",),
    "training": ("training",),
    "super-resolution and baseline methods": ("t1w_pair", "resampled_series", "super_resolution"),
    "activation maps": ("activation", "map_comparison"),
    "evaluation": (
        "seeds",
        "clusters",
        "region_growth",
        "block_effects",
        "evaluation",
        "self_test",
        "run_verdict",
        "quality",
        "reconstruction_error",
        "region_checks",
        "region_effects",
        "task_events",
    ),
    "files for other software": (
        "average_series",
        "mask_in_template",
        "invert_coreg",
        "label_tissues",
        "show_in_space",
    ),
    "figures": ("figures",),
    "combination of runs": ("combination",),
    "storing the outputs": ("store",),
}
STAGES = {name: stage for stage, names in _STEPS_BY_STAGE.items() for name in names}
"""Step, or the module or folder that contains it → name of its stage."""
_START_STAGE, _START_S = "starting the program and writing the reports", 14.0


def estimate_with_time(
    plan: Plan, settings: Settings, steps: "Iterable[Node] | None" = None
) -> Estimate:
    """Return the cost of a call with the time and memory of each stage.

    Memory and disk space are estimated by `bids_sr.preflight.estimates`, and processor time is
    declared by the steps.

    `steps` are the nodes to run; None means all nodes, for downsampled data with
    ``--retrospective``.
    """
    from bids_sr.workflows.participant import make_scope

    downsampled_plan = replace(plan, subjects=as_downsampled(plan.subjects, settings))
    cost = estimate(downsampled_plan, settings)
    get_seconds = make_time_function(downsampled_plan, cost.sizes)
    if steps is None:
        scopes = make_scope(settings, downsampled_plan, __version__).inward()
        steps = (node for scope in scopes for node in scope.nodes)
    seconds_by_step: defaultdict[AnyStep, float] = defaultdict(float)
    for node in steps:
        seconds_by_step[node.step] += get_seconds(node)
    seconds_by_stage, gb_by_stage = {_START_STAGE: _START_S}, {_START_STAGE: BASE_GB}
    for step, seconds in seconds_by_step.items():
        stage = STAGES[find_stage(step)]
        seconds_by_stage[stage] = seconds_by_stage.get(stage, 0.0) + seconds
        gb_by_stage[stage] = max(gb_by_stage.get(stage, 0.0), step_gb(step.memory, cost.sizes))
    rows = tuple(
        StageCost(stage=stage, minutes=seconds_by_stage[stage] / 60, memory_gb=gb_by_stage[stage])
        for stage in (_START_STAGE, *_STEPS_BY_STAGE)
        if stage in seconds_by_stage
    )
    minutes = sum(row.minutes for row in rows) / cost.processors
    return replace(cost, minutes=minutes, rows=rows)


def list_stages(steps: "Iterable[Node]") -> list[str]:
    """Return the stages of some steps, in order of processing."""
    stages = {STAGES[find_stage(node.step)] for node in steps}
    return [stage for stage in _STEPS_BY_STAGE if stage in stages]


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


def find_stage(step: "AnyStep | None") -> str:
    """Return the key of `STAGES` for a step, "" for nodes without a step (None)."""
    if step is None:
        return ""
    folders = step.__module__.split(".")[1:]
    names = (step.__name__, *(["figures"] if "figures" in folders else folders))
    return next((name for name in names if name in STAGES), "")
