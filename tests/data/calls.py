"""What the program plans for a data set, what it reports, and tables of what it refuses.

A message is found by its file, and by values in its reason and remedy: numbers, names and options.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.collect import survey
from bids_sr.survey.bids.inputs import BoldRun, Survey
from bids_sr.survey.preflight.plan import Plan
from bids_sr.workflows.call_checks import check
from data.dataset import BidsMaker, snapshot

Spoil = Callable[[BidsMaker], list[str] | None]


def arguments(maker: BidsMaker, *options: str, out: Path | None = None) -> list[str]:
    """Return the arguments of a call at the participant level without the BIDS validator.

    Output and working directory are next to the data set.
    """
    root = maker.root.parent
    required = [str(maker.root), str(out or root / "out"), "participant", "-w", str(root / "work")]
    return [*required, "--skip-bids-validation", *options]


def settings_for(maker: BidsMaker, *options: str, out: Path | None = None) -> Settings:
    """Return the settings of a call."""
    return parse_settings(arguments(maker, *options, out=out)).resolve(run_uuid="x")


def survey_for(maker: BidsMaker, *options: str) -> Survey:
    """Return the inputs that a call finds."""
    return survey(settings_for(maker, *options))


def plan_for(maker: BidsMaker, *options: str, out: Path | None = None) -> Plan:
    """Return the plan of preflight."""
    return check(settings_for(maker, *options, out=out))


def plan_with_validator(maker: BidsMaker, *options: str) -> Plan:
    """Return the plan of a call with the installed BIDS validator; skip the test without one."""
    program = "bids-validator-deno"
    if not (Path(sys.executable).with_name(program).is_file() or shutil.which(program)):
        pytest.skip(f"{program} is not installed")
    line = [text for text in arguments(maker, *options) if text != "--skip-bids-validation"]
    return check(parse_settings(line).resolve(run_uuid="x"))


def mentions(notice: Notice, *values: str) -> bool:
    """Return whether reason and remedy contain all values as whole numbers or words."""
    text = f"{notice.why} {notice.remedy}"
    return all(
        re.search(rf"(?<![\w.]){re.escape(value)}(?!\w|\.\d)", text) is not None
        for value in values
    )


def about(notices: Iterable[Notice], file: str, *values: str) -> list[Notice]:
    """Return the messages about a file or option (a part of its name) that mention all values."""
    return [notice for notice in notices if file in notice.what and mentions(notice, *values)]


def problem_of(notices: Sequence[Notice], file: str, *values: str, code: str = "input") -> Notice:
    """Return the only problem, which must have this file, these values, a code and a remedy."""
    text = "\n".join(f"{notice} [{notice.code}]" for notice in notices)
    assert [notice.code for notice in about(notices, file, *values)] == [code], text
    assert len(notices) == 1, text
    (problem,) = notices
    assert problem.level == "error"
    assert problem.remedy
    return problem


@dataclass(frozen=True, kw_only=True)
class Case:
    """A way to spoil a valid data set, and file, values and code of the only message."""

    spoil: Spoil
    file: str
    values: tuple[str, ...]
    code: str


class Cases(dict[str, Case]):
    """Table of inputs that are refused; functions are added by the decorator `refused`."""

    def refused(self, file: str, *values: str, code: str = "input") -> Callable[[Spoil], Spoil]:
        """Add a function that spoils a data set and returns the options of the call."""

        def add(spoil: Spoil) -> Spoil:
            self[spoil.__name__] = Case(spoil=spoil, file=file, values=values, code=code)
            return spoil

        return add


def check_case(case: Case, maker: BidsMaker, *options: str) -> Notice:
    """Check that a call is refused by the message of the case, and that nothing is written.

    `options` are those of all cases of a table; return the message.
    """
    more = case.spoil(maker) or []
    before = snapshot(maker.root.parent)
    plan = plan_for(maker, *options, *more)
    problem = problem_of(plan.problems, case.file, *case.values, code=case.code)
    assert snapshot(maker.root.parent) == before
    return problem


def only_run(plan: Plan | Survey) -> BoldRun:
    """Return the only run of the only participant."""
    (subject,) = plan.subjects
    (run,) = subject.runs
    return run
