"""Checks of a call before anything is processed, of the runs or scans that it selects."""

from bids_sr.config import Settings
from bids_sr.structural.preflight import check_scans
from bids_sr.survey.preflight.checks import check_runs, plan_call
from bids_sr.survey.preflight.plan import Plan


def check(settings: Settings) -> Plan:
    """Return the plan of a call with all problems; see `plan_call`."""
    return plan_call(settings, check_scans if settings.superres.target == "anat" else check_runs)
