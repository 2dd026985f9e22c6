"""Validation of the data set with the official BIDS validator, run as an offline program."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from textwrap import shorten

from bids_sr.bids import Findings, parse_entities
from bids_sr.bids.entities import RUN_KEYS, same_run

_PROGRAM = "bids-validator-deno"
_TIMEOUT_S = 600.0
_MAX_FILES = 3  # number of files named per kind of error
_MAX_LENGTH = 200  # characters of the description of an error
# issue in the report of the validator: code, subCode, severity, location, line and so on
_Issue = Mapping[str, str]
_Owner = tuple[str, str]  # participant and run that an issue concerns; "" if it concerns all
_Runs = Mapping[str, Sequence[Path | None]]  # name of a run → its BOLD file and further files


def validate(
    bids_dir: Path,
    participants: Collection[str],
    runs: _Runs,
    read_files: Collection[Path],
    findings: Findings,
    timeout_s: float = _TIMEOUT_S,
) -> None:
    """Run the validator, and report its errors, one notice per kind.

    Errors in the dataset description and in `read_files` are problems, errors in other files are
    warnings. Errors that concern other participants or runs, or files that already have a problem,
    are omitted. If the validator fails, a note gives the reason.
    """
    program = _find_validator()
    special_file = next(_find_special_files(bids_dir), None)
    reason, what = "", bids_dir
    if program is None:
        reason = f"{_PROGRAM} is not installed"
    elif special_file is not None:
        reason = "it contains a pipe or device file, which the BIDS validator cannot read"
        what = special_file
    else:
        try:
            issues, messages = _run_validator(program, bids_dir, timeout_s)
            used_files = {bids_dir / "dataset_description.json", bids_dir, *read_files}
            runs_of = partial(_find_runs, bids_dir=bids_dir, participants=participants, runs=runs)
            _add_errors(issues, messages, bids_dir, used_files, runs_of, findings)
        except subprocess.TimeoutExpired:
            reason = f"the BIDS validator did not finish within {timeout_s:g} s"
        except (OSError, ValueError) as error:
            reason = f"the BIDS validator failed ({error})"
    if reason:
        findings.note(what, f"the dataset was not validated because {reason}.")


def _find_validator() -> Path | None:
    """Return the validator next to the Python interpreter or on the PATH, or None."""
    neighbor = Path(sys.executable).parent / _PROGRAM
    if neighbor.is_file():
        return neighbor
    program = shutil.which(_PROGRAM)
    return Path(program) if program else None


def _find_special_files(folder: Path) -> Iterator[Path]:
    """Yield pipes, sockets and devices below a folder, directly or as the target of a link.

    Links to folders are not followed.
    """
    for folder_path, _, names in os.walk(folder):
        for name in names:
            path = Path(folder_path, name)
            try:
                mode = path.stat().st_mode
            except OSError:  # a link without a target
                continue
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                yield path


def _run_validator(
    program: Path, bids_dir: Path, timeout_s: float
) -> tuple[list[_Issue], dict[str, str]]:
    """Return the issues of the validator, and the description of its codes."""
    # the validator would otherwise write to the home directory
    with tempfile.TemporaryDirectory(prefix="bids-sr-") as cache:
        environment = {
            **os.environ,
            "DENO_DIR": cache,
            "DENO_NO_UPDATE_CHECK": "1",
            "NO_COLOR": "1",
        }
        process = subprocess.run(
            [program, "--format", "json", "--ignoreWarnings", bids_dir.absolute()],
            capture_output=True,
            timeout=timeout_s,
            env=environment,
            check=False,
        )
    start = process.stdout.find(b"{")
    if start < 0:
        raise ValueError(
            (process.stderr or process.stdout).decode(errors="replace").strip()[-300:]
            or "no answer"
        )
    report = json.loads(process.stdout[start:])
    if not isinstance(report, dict) or "issues" not in report:
        raise ValueError("the validator output does not have the expected format")
    return report["issues"].get("issues", []), report["issues"].get("codeMessages", {})


def _find_runs(
    path: Path, bids_dir: Path, participants: Collection[str], runs: _Runs
) -> list[_Owner]:
    """Return the runs or the participant that a file concerns; ("", "") for the whole data set.

    The list is empty if the file only concerns participants or runs that were not selected.
    """
    folder = path.relative_to(bids_dir).parts[:1]
    label = folder[0][4:] if folder and folder[0].startswith("sub-") else ""
    entities = parse_entities(path)
    if "task" not in entities:
        return [(label, "")] if not label or label in participants else []
    keys = entities.keys() & set(RUN_KEYS)
    run_entities = {name: parse_entities(bold) for name, (bold, *_) in runs.items() if bold}
    return [
        (run["subject"], name)
        for name, run in run_entities.items()
        if label in ("", run["subject"]) and same_run(entities, run, keys)
    ]


def _add_errors(
    issues: Sequence[_Issue],
    messages: Mapping[str, str],
    bids_dir: Path,
    used_files: Collection[Path],
    runs_of: Callable[[Path], Sequence[_Owner]],
    findings: Findings,
) -> None:
    """Add errors, one notice per kind and participant or run.

    Errors in used files are problems, others are warnings of their participant. Our own notices
    describe a file more clearly, so that errors of such files are omitted.
    """
    with_problem = {Path(problem.what) for problem in findings.problems}
    with_notice = with_problem | {Path(notice.what) for notice in findings.notices}
    errors_by_kind: dict[tuple[bool, str, str, _Owner], list[_Issue]] = {}
    for issue in issues:
        path = _get_path(issue, bids_dir)
        is_used = path in used_files
        if issue.get("severity") != "error" or path in (with_problem if is_used else with_notice):
            continue
        owners = runs_of(path)
        labels = {label for label, _ in owners}
        if owners and not is_used:
            owners = [(labels.pop() if len(labels) == 1 else "", "")]
        for owner in owners:
            kind = (is_used, issue.get("code", ""), issue.get("subCode", ""), owner)
            errors_by_kind.setdefault(kind, []).append(issue)
    for (is_used, *_, owner), errors in errors_by_kind.items():
        what, why = _list_files(errors, bids_dir), _describe_issue(errors[0], messages)
        with findings.about(*owner):
            if is_used:
                fix = (
                    "Correct the dataset, or skip the BIDS validator with --skip-bids-validation."
                )
                findings.add_problem(what, why, fix)
            else:
                findings.warn(
                    what, f"{why}. Processing continues because files of this name are not read."
                )


def _list_files(issues: Sequence[_Issue], bids_dir: Path) -> str:
    """Return the files of issues, the first ones by path."""
    files = list(dict.fromkeys(str(_get_path(issue, bids_dir)) for issue in issues))
    more_text = f" and {len(files) - _MAX_FILES} more" if len(files) > _MAX_FILES else ""
    return ", ".join(files[:_MAX_FILES]) + more_text


def _get_path(issue: _Issue, bids_dir: Path) -> Path:
    """Return the path of an issue."""
    return bids_dir / issue.get("location", "").lstrip("/")


def _describe_issue(issue: _Issue, messages: Mapping[str, str]) -> str:
    """Return the description of an issue with its code, without a period at the end."""
    code, subcode = issue.get("code", ""), issue.get("subCode", "")
    text = messages.get(code) or issue.get("issueMessage", "")
    text = shorten(text, _MAX_LENGTH, placeholder=" …")
    return f"BIDS validator: {text or 'error'} [{code}{': ' + subcode if subcode else ''}]"
