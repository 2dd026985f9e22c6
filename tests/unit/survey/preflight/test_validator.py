"""Errors of the BIDS validator: owners, files that are not read, and calls without an answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data.calls import about, plan_with_validator
from data.dataset import BidsMaker

from bids_sr.io.notices import Notice
from bids_sr.survey.preflight import validator

STEM = "sub-01_task-tap"
RUNS = {f"{STEM}_run-1": (Path(f"/d/sub-01/func/{STEM}_run-1_bold.nii"), None)}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that installs a shell script as the validator."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(sys, "executable", str(folder / "python"))

    def write(script: str) -> None:
        program = folder / "bids-validator-deno"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return write


@pytest.fixture
def problems(tmp_path: Path, install: Callable[[str], None]) -> Callable[..., list[Notice]]:
    """Return a function that lists the problems for issues of the validator.

    All files with issues are read by the call; the description is always read.
    """
    report = tmp_path / "report.json"
    install(f"cat {report}")

    def validate(*issues: dict[str, str], reported_paths: tuple[Path, ...] = ()) -> list[Notice]:
        errors = [{"severity": "error", **issue} for issue in issues]
        messages = {"NOT_INCLUDED": "Not part of BIDS. Rename it."}
        report.write_text(json.dumps({"issues": {"issues": errors, "codeMessages": messages}}))
        known = [Notice(what=str(path)) for path in reported_paths]
        files = {Path("/d" + issue["location"]) for issue in issues}
        files -= {Path("/d/dataset_description.json")}
        return list(validator.validate(Path("/d"), ["01"], RUNS, files, known))

    return validate


def test_issues_of_the_same_code_are_one_problem(problems: Callable[..., list[Notice]]) -> None:
    issues = [{"code": "NOT_INCLUDED", "location": f"/sub-01/x{i}.nii"} for i in range(5)]
    (problem,) = problems(*issues)
    assert problem.what == "/d/sub-01/x0.nii, /d/sub-01/x1.nii, /d/sub-01/x2.nii and 2 more"
    assert about([problem], "", "Not part of BIDS. Rename it.", "--skip-bids-validation")


@pytest.mark.parametrize(
    ("location", "owner"),
    [
        ("/task-tap_bold.json", ("01", f"{STEM}_run-1")),
        (f"/sub-01/func/{STEM}_run-01_recording-x_physio.tsv.gz", ("01", f"{STEM}_run-1")),
        ("/sub-01/sub-01_scans.tsv", ("01", "")),
        (f"/sub-01/func/{STEM}_acq-mb_run-1_bold.nii", None),  # another run
        ("/sub-02/func/a.nii", None),
        ("/task-rest_bold.json", None),
        ("/dataset_description.json", ("", "")),
        ("/participants.tsv", ("", "")),  # unknown participant: the table does not exist
    ],
)
def test_an_error_is_assigned_to_participant_and_run(
    problems: Callable[..., list[Notice]], location: str, owner: tuple[str, str] | None
) -> None:
    issue = {"code": "X", "location": location}
    found = [
        (problem.subject, problem.run) for problem in problems(issue) if problem.level == "error"
    ]
    assert found == ([] if owner is None else [owner])
    assert problems({**issue, "severity": "warning"}) == []
    assert problems(issue, reported_paths=(Path(f"/d{location}"),)) == []


@pytest.mark.parametrize(
    ("script", "value"), [("sleep 20", "1"), ("echo oops >&2; exit 1", "oops"), ("echo '{}'", "")]
)
def test_a_failing_or_missing_validator_is_a_notice(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    install: Callable[[str], None],
    script: str,
    value: str,
) -> None:
    arguments: tuple[Any, ...] = (tmp_path, ["01"], {}, (), ())
    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    monkeypatch.setattr(validator, "_TIMEOUT_S", 1.0)
    missing = list(validator.validate(*arguments))
    install(f"exec 2>&1\n{script}")
    for notices in (missing, list(validator.validate(*arguments))):
        (notice,) = notices
        assert (notice.what, notice.level) == (str(tmp_path), "note")
    assert value in notice.why


def test_the_installed_validator_reports_no_problem_and_writes_nothing(maker: BidsMaker) -> None:
    before = sorted(maker.root.rglob("*"))
    plan = plan_with_validator(maker)
    assert (plan.problems, plan.warnings) == ((), ())
    assert sorted(maker.root.rglob("*")) == before
