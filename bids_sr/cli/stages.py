"""Stages of a call, and what each takes: sums over the steps that it places."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from bids_sr.bids.retrospective_plan import as_downsampled
from bids_sr.config import Settings
from bids_sr.config.memory_model import BASE_GB, Sizes, step_gb
from bids_sr.preflight.estimates import estimate
from bids_sr.preflight.plan import Estimate, Plan, Row
from bids_sr.series import RAW
from bids_sr.version import __version__

if TYPE_CHECKING:
    from bids_sr.bids import BoldRun
    from bids_sr.pipeline.graph import AnyStep, Placed

STAGES: Mapping[str, str] = {
    "prepare_scans": "structural scans: bias field, brain, registration",
    "structural": "structural scans: training and super-resolution of all contrasts",
    "anatomy": "anatomy: bias field, brain mask, template, atlas",
    "imported": "what other programs made",
    "motion": "head motion and slice timing",
    "register_pair": "registration",
    "registration": "registration",
    "seed_regressors": "time series of the seeds",
    "calibration_run": "calibration",
    "estimate_variance": "variance maps of the run",
    "training": "training",
    "super_resolution": "super-resolution and baselines",
    "compared": "series of other programs",
    "activation": "activation maps",
    "active_regions": "evaluation",
    "evaluation": "evaluation",
    "quality": "evaluation",
    "judgment": "evaluation",
    "primary": "files for other tools",
    "figures": "figures",
    "store": "storing",
}
"""Step, or the module in which it stands → what its stage is called, in the order of the work."""
_START, _START_S = "start of the program, pages of the report", 14.0


def stage_of(step: "AnyStep | None") -> str:
    """Return the key of `STAGES` for a step.

    `step`: step of the graph; None for what only joins. Name of a step or module, or an empty
    text.
    """
    known = () if step is None else (step.__name__, *step.__module__.split(".")[:1:-1])
    return next((name for name in known if name in STAGES), "")


def expected(plan: Plan, settings: Settings, steps: "Iterable[Placed] | None" = None) -> Estimate:
    """Return the cost of a call with the time and memory of each stage.

    `steps`: those that it runs; None places all, of downsampled data with ``--retrospective``.
    That of `preflight`, and processor time as the steps declare it.
    """
    from bids_sr.workflows.base import place_all

    plan = replace(plan, subjects=as_downsampled(plan.subjects, settings))
    cost = estimate(plan, settings)
    seconds, memory = {_START: _START_S}, {_START: BASE_GB}
    seconds_of = declared_seconds(plan, cost.sizes)
    if steps is None:
        scopes = place_all(settings, plan, __version__).inward()
        steps = (placed for one in scopes for placed in one.steps)
    for placed in steps:
        stage = STAGES[stage_of(placed.step)]
        seconds[stage] = seconds.get(stage, 0.0) + seconds_of(placed)
        own = step_gb(placed.step.memory, cost.sizes)
        memory[stage] = max(memory.get(stage, 0.0), own)
    rows = tuple(
        Row(stage=stage, minutes=seconds[stage] / 60, memory_gb=memory[stage])
        for stage in dict.fromkeys([_START, *STAGES.values()])
        if stage in seconds
    )
    minutes = sum(row.minutes for row in rows) / cost.processors
    return replace(cost, minutes=minutes, rows=rows)


def declared_seconds(plan: Plan, sizes: Sizes) -> "Callable[[Placed], float]":
    """Return what tells the processor time that a step declares for its run (s).

    `sizes`: of the largest structural images, for steps of participants.
    """
    runs: dict[tuple[str, str], BoldRun] = {}
    for run in plan.runs:
        subject = run.entities["subject"]
        runs.setdefault((subject, ""), run)  # for steps of the participant
        runs.setdefault((subject, run.stem), run)

    def seconds(placed: "Placed") -> float:
        subject, name = placed.scope.whom
        run = runs.get((subject, name)) or runs.get((subject, ""))
        if run is None:
            return placed.cost.seconds(high=sizes.scans)
        low = math.prod(run.shape) / 1e6
        high = low * math.prod(run.factor)
        try:
            is_raw = placed.setting("series_name") == RAW
        except KeyError:  # of the participant
            is_raw = True
        return placed.cost.seconds(
            low=low,
            high=high,
            volumes=(low if is_raw else high) * run.n_volumes,
            t1w=sizes.t1w,
        )

    return seconds
