"""Validation of the data set with the official BIDS validator, run as an offline program."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import shorten

from bids_sr.bids import Findings, parse_entities
from bids_sr.bids.entities import RUN_KEYS, same_run
from bids_sr.io.tables import read_column

_PROGRAM = "bids-validator-deno"
_TIMEOUT_S = 600.0
_MAX_FILES = 3  # number of files named per kind of error
_MAX_LENGTH = 200  # characters of the description of an error
_Issue = Mapping[str, str]
"""Issue in the report of the validator: code, subCode, severity, location, line and so on."""
_Codes = tuple[str, str]
"""Code and subcode of an issue."""
_Runs = Mapping[str, Sequence[Path | None]]
"""Name of a run → its BOLD file and further files."""
_PARTICIPANTS, _DESCRIPTION = "participants.tsv", "dataset_description.json"
# part of the codes of errors about participants that are not listed, or listed twice
_ROW_CODES = ("PARTICIPANT_ID", "UNIQUE")


def _find_validator() -> Path | None:
    """Return the validator next to the Python interpreter or on the PATH, or None."""
    neighbor = Path(sys.executable).parent / _PROGRAM
    if neighbor.is_file():
        return neighbor
    program = shutil.which(_PROGRAM)
    return Path(program) if program else None


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
            used_files = {bids_dir / _DESCRIPTION, bids_dir, *read_files}
            issues_by_use: dict[bool, list[_Issue]] = {True: [], False: []}
            for issue in issues:
                is_used = bids_dir / _get_relative_path(issue) in used_files
                issues_by_use[is_used].append(issue)
            _add_problems(issues_by_use[True], messages, bids_dir, participants, runs, findings)
            _add_warnings(issues_by_use[False], messages, bids_dir, participants, runs, findings)
        except subprocess.TimeoutExpired:
            reason = f"the BIDS validator did not finish within {timeout_s:g} s"
        except (OSError, ValueError) as error:
            reason = f"the BIDS validator failed ({error})"
    if reason:
        findings.note(what, f"the dataset was not validated because {reason}.")


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


def _add_problems(
    issues: Sequence[_Issue],
    messages: Mapping[str, str],
    bids_dir: Path,
    participants: Collection[str],
    runs: _Runs,
    findings: Findings,
) -> None:
    """Add the errors among issues as problems, one per kind and run.

    `messages` describes the codes.
    """
    # our own checks describe their problems more clearly
    files_with_problems = {Path(problem.what) for problem in findings.problems}
    errors_by_kind: dict[tuple[_Codes, tuple[str, str]], list[_Issue]] = {}
    for error in filter(_is_error, issues):
        if bids_dir / _get_relative_path(error) in files_with_problems:
            continue
        for label_and_run in _find_runs(error, bids_dir, participants, runs):
            errors_by_kind.setdefault((_get_codes(error), label_and_run), []).append(error)
    for (_, (label, run)), errors_of_kind in errors_by_kind.items():
        with findings.about(label, run):
            findings.add_problem(
                _list_files(errors_of_kind, bids_dir),
                _describe_issue(errors_of_kind[0], messages),
                "Correct the dataset, or skip the BIDS validator with --skip-bids-validation.",
            )


def _add_warnings(
    issues: Sequence[_Issue],
    messages: Mapping[str, str],
    bids_dir: Path,
    participants: Collection[str],
    runs: _Runs,
    findings: Findings,
) -> None:
    """Add the errors in files that are not read as warnings, one per kind and participant."""
    files_with_notices = {Path(notice.what) for notice in (*findings.problems, *findings.notices)}
    errors_by_kind: dict[tuple[_Codes, str], list[_Issue]] = {}
    for error in filter(_is_error, issues):
        affected_runs = _find_runs(error, bids_dir, participants, runs)
        if not affected_runs or bids_dir / _get_relative_path(error) in files_with_notices:
            continue
        labels = {label for label, _ in affected_runs}
        label = labels.pop() if len(labels) == 1 else ""
        errors_by_kind.setdefault((_get_codes(error), label), []).append(error)
    for (_, label), errors_of_kind in errors_by_kind.items():
        with findings.about(label):
            findings.warn(
                _list_files(errors_of_kind, bids_dir),
                f"{_describe_issue(errors_of_kind[0], messages)}. Processing continues because"
                " files of this name are not read.",
            )


def _get_codes(issue: _Issue) -> _Codes:
    """Return code and subcode of an issue, "" if missing."""
    return str(issue.get("code", "")), str(issue.get("subCode", ""))


def _is_error(issue: _Issue) -> bool:
    """Return whether an issue is an error, and not a warning."""
    return issue.get("severity") == "error"


def _list_files(issues: Sequence[_Issue], bids_dir: Path) -> str:
    """Return the files of issues, the first ones by path."""
    files = list(dict.fromkeys(str(bids_dir / _get_relative_path(issue)) for issue in issues))
    more_text = f" and {len(files) - _MAX_FILES} more" if len(files) > _MAX_FILES else ""
    return ", ".join(files[:_MAX_FILES]) + more_text


def _describe_issue(issue: _Issue, messages: Mapping[str, str]) -> str:
    """Return the description of an issue with its code, without a period at the end."""
    code, subcode = _get_codes(issue)
    text = shorten(
        messages.get(code, "") or str(issue.get("issueMessage", "")), _MAX_LENGTH, placeholder=" …"
    )
    return f"BIDS validator: {text or 'error'} [{code}{': ' + subcode if subcode else ''}]"


def _get_relative_path(issue: _Issue) -> Path:
    """Return the path of an issue, relative to the data set."""
    return Path(str(issue.get("location", "")).lstrip("/"))


def _find_runs(
    issue: _Issue,
    bids_dir: Path,
    participants: Collection[str],
    runs: _Runs,
) -> list[tuple[str, str]]:
    """Return (participant, run) of an error; ("", "") if it concerns the whole data set.

    The run is "" if the error concerns a participant. The list is empty if the error only concerns
    participants or runs that were not selected.
    """
    path = _get_relative_path(issue)
    folders = set[str]()
    if path == Path(_PARTICIPANTS):
        folders = _find_folders_of_rows(issue, bids_dir)
    elif len(path.parts) > 1 and path.parts[0].startswith("sub-"):
        folders = {path.parts[0]}
    entities = parse_entities(path)
    if "task" in entities:
        keys = entities.keys() & set(RUN_KEYS)
        entities_by_run = (
            (name, parse_entities(bold)) for name, (bold, *_) in runs.items() if bold
        )
        return [
            (run_entities["subject"], name)
            for name, run_entities in entities_by_run
            if (not folders or f"sub-{run_entities['subject']}" in folders)
            and same_run(entities, run_entities, keys)
        ]
    if not folders:
        return [("", "")]
    return sorted((label, "") for label in participants if f"sub-{label}" in folders)


def _find_folders_of_rows(issue: _Issue, bids_dir: Path) -> set[str]:
    """Return the participant folders that an error in ``participants.tsv`` concerns.

    These are the participant of the line or, for errors of the list of participants, those that
    are not listed exactly once.
    """
    listed_folders = read_column(bids_dir / _PARTICIPANTS, "participant_id")
    existing_folders = {path.name for path in bids_dir.glob("sub-*")}
    row = int(issue.get("line") or 0) - 2  # lines are counted from 1, after the column names
    folders = existing_folders & set(listed_folders[row : row + 1]) if row >= 0 else set()
    if (
        not folders
        and listed_folders
        and any(kind in str(issue.get("code", "")) for kind in _ROW_CODES)
    ):
        folders = {name for name in existing_folders if listed_folders.count(name) != 1}
    return folders
