"""The estimate of a plan for each participant alone, for machines on which each is a job of its own."""

from __future__ import annotations

from dataclasses import replace

from bids_sr.bids.retrospective_plan import foreseen
from bids_sr.config import Settings
from bids_sr.preflight.estimates import estimate
from bids_sr.preflight.plan import Estimate, Plan


def estimates(plan: Plan, settings: Settings) -> dict[str, Estimate]:
    """Participant (``sub-01``) → cost of a call that works on nobody else; `plan` as `check` returned it."""
    found = {}
    for subject in plan.subjects:
        worked_on = foreseen(subject, settings) if settings.evaluation.retrospective is not None else subject
        found[f"sub-{subject.label}"] = estimate(replace(plan, subjects=(worked_on,)), settings)
    return found
