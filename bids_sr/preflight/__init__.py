"""Preflight: everything that can be known to go wrong is said at once, before anything is written.

`check` reads headers, sidecars and tables; `check_machine` asks whether this machine can do it, which the one that
only submits jobs need not; `check_data` reads the voxels, at the start of a participant's work.
"""

from bids_sr.preflight.check import check
from bids_sr.preflight.data import check_data
from bids_sr.preflight.describe import dry_run_text, format_problems
from bids_sr.preflight.estimate import CostModel
from bids_sr.preflight.fit import check_machine
from bids_sr.preflight.model import Estimate, Plan, Row

__all__ = [
    "CostModel",
    "Estimate",
    "Plan",
    "Row",
    "check",
    "check_data",
    "check_machine",
    "dry_run_text",
    "format_problems",
]
