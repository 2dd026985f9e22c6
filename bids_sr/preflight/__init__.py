"""Preflight: all foreseeable problems are reported together before anything is written.

`check` reads headers, sidecars and tables. `check_machine` checks memory and device of the machine
that processes the data, which need not be the machine that submits jobs. `check_data` reads the
voxels at the start of a participant's processing.
"""

from bids_sr.preflight.checks import check, exclude_runs
from bids_sr.preflight.estimates import check_machine
from bids_sr.preflight.exclusions import describe_skipped_runs
from bids_sr.preflight.plan import Estimate, Plan, StageCost
from bids_sr.preflight.plan_text import (
    choice_lines,
    cost_text,
    dry_run_text,
    format_problems,
    notes,
)
from bids_sr.preflight.unfit_references import drop_unfit_references
from bids_sr.preflight.voxel_checks import check_data

__all__ = [
    "Estimate",
    "Plan",
    "StageCost",
    "check",
    "check_data",
    "check_machine",
    "choice_lines",
    "cost_text",
    "describe_skipped_runs",
    "drop_unfit_references",
    "dry_run_text",
    "exclude_runs",
    "format_problems",
    "notes",
]
