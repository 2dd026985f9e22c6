"""Quality checks of a run, with the section of the page that has the details."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bids_sr.evaluation.motion_summary import describe_motion, is_motion_large
from bids_sr.evaluation.run_evidence import RunEvidence
from bids_sr.io.metric_flags import FLAGS
from bids_sr.report.registration_facts import registration_warnings

_REGISTRATION_PREFIXES = ("bold_t1w_", "bold_pair_")  # keys of registration facts
_FLAG_SECTION = "guards"
"""Section of the page with the details of flags."""
_FLAGS_WITH_SERIES = ("harm", "lost_activation")
"""Flags whose checks name the series that raised the flag."""


class Check(NamedTuple):
    """Result of a check, with a text and the section with details."""

    passed: bool
    text: str
    section: str


def list_checks(
    displacement: Sequence[float], registration: Mapping[str, object], evidence: RunEvidence
) -> list[Check]:
    """Return the checks of head motion, registration and flags, failed flags first.

    `displacement` is the framewise displacement (FD, mm) of the volumes, and `registration` are
    facts of the registration; checks without data are omitted.
    """
    text = describe_motion(displacement)
    motion = [Check(not is_motion_large(displacement), text, "motion")] if text else []
    return [*motion, *registration_checks(registration), *flag_checks(evidence)]


def registration_checks(facts: Mapping[str, object]) -> list[Check]:
    """Check the registrations for warnings, [] if nothing was registered."""
    n_warnings = len(registration_warnings(facts))
    if not n_warnings and not any(key.startswith(_REGISTRATION_PREFIXES) for key in facts):
        return []
    noun = "warnings" if n_warnings > 1 else "warning"
    text = f"Registration: {n_warnings} {noun}" if n_warnings else "Registration"
    return [Check(not n_warnings, text, "registration")]


def flag_checks(evidence: RunEvidence) -> list[Check]:
    """Return one check per flag, failed checks first."""
    checks = []
    for name, raised_by in evidence.raised_flags.items():
        series = ", ".join(dict.fromkeys(raised_by))
        raised_text = f": {series}" if name in _FLAGS_WITH_SERIES and raised_by else ""
        outcome = FLAGS[name].failed if raised_by else FLAGS[name].passed
        checks.append(Check(not raised_by, f"{outcome}{raised_text}", _FLAG_SECTION))
    return sorted(checks, key=lambda check: check.passed)
