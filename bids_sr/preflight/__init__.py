"""Preflight: everything that can be known to go wrong is said at once, before anything is written.

`check` reads headers, sidecars and tables; `check_machine` asks whether this machine can do it,
which the one that only submits jobs need not; `check_data` reads the voxels, at the start of a
participant's work.
"""

from bids_sr.preflight.checks import check, without, without_unfit_references
from bids_sr.preflight.estimates import check_machine
from bids_sr.preflight.plan import Estimate, Plan, Row, left_out_text
from bids_sr.preflight.plan_text import (
    choice_lines,
    cost_text,
    dry_run_text,
    format_problems,
    notes,
)
from bids_sr.preflight.voxel_checks import check_data

__all__ = [
    "Estimate",
    "Plan",
    "Row",
    "check",
    "check_data",
    "check_machine",
    "choice_lines",
    "cost_text",
    "dry_run_text",
    "format_problems",
    "left_out_text",
    "notes",
    "without",
    "without_unfit_references",
]
