"""Calls a check that adds to findings, and returns what it found."""

from collections.abc import Callable
from typing import Any

from bids_sr.bids import Findings, Problem


def found_by(check: Callable[..., Any], *args: Any, **kwargs: Any) -> Findings:
    """Findings of a check, which takes them as its last positional argument."""
    found = Findings()
    check(*args, found, **kwargs)
    return found


def problems_of(check: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Problem]:
    """Problems that a check finds."""
    return found_by(check, *args, **kwargs).problems
