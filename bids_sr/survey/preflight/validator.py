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

from bids_sr.io.notices import Notice
from bids_sr.survey.bids.entities import RUN_KEYS, parse_entities, same_run
from bids_sr.survey.bids.label_lists import list_some
from bids_sr.survey.notices import attribute, is_problem, note, problem, warning

_PROGRAM = "bids-validator-deno"
_TIMEOUT_S = 600.0
_MAX_FILES = 3  # number of files named per kind of error
_MAX_LENGTH = 200  # characters of the description of an error
# issue in the report of the validator: code, subCode, severity, location, line and so on
_Issue = Mapping[str, str]
_Owner = tuple[str, str]  # participant and run that an issue concerns; "" if it concerns all
_Kind = tuple[bool, _Owner, str, str]  # in a used file, owner, code and subCode of errors
_Runs = Mapping[str, Sequence[Path | None]]  # name of a run → its BOLD file and further files


def validate(
    bids_dir: Path,
    participants: Collection[str],
    runs: _Runs,
    read_files: Collection[Path],
    known: Collection[Notice],
) -> Iterator[Notice]:
    """Run the validator, and yield one notice per kind of error.

    Errors in the dataset description and in `read_files` are problems, errors in other files are
    warnings. Errors that concern other participants or runs are omitted, and errors of files that
    a `known` notice is about, because it describes the file more clearly. If the validator fails,
    a note gives the reason.
    """
    try:
        issues, messages = _read_issues(bids_dir)
    except _NotValidated as obstacle:
        yield note(obstacle.file, f"the dataset was not validated because {obstacle}.")
        return
    used_files = {bids_dir / "dataset_description.json", bids_dir, *read_files}
    with_problem = {Path(notice.what) for notice in known if is_problem(notice)}
    with_notice = {Path(notice.what) for notice in known}
    errors = [
        issue
        for issue in issues
        if issue.get("severity") == "error"
        and (path := _get_path(issue, bids_dir))
        not in (with_problem if path in used_files else with_notice)
    ]
    find_owners = partial(_find_owners, bids_dir=bids_dir, participants=participants, runs=runs)
    for (is_used, owner, *_), issues_of_kind in _group_errors(
        errors, bids_dir, used_files, find_owners
    ).items():
        what = _list_files(issues_of_kind, bids_dir)
        why = _describe_issue(issues_of_kind[0], messages)
        fix = "Correct the dataset, or skip the BIDS validator with --skip-bids-validation."
        text = f"{why}. Processing continues because files of this name are not read."
        notice = problem(what, why, fix) if is_used else warning(what, text)
        yield from attribute([notice], *owner)


class _NotValidated(Exception):
    """Error that there is no answer of the validator; `file` is the cause or the data set."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(reason)
        self.file = file


def _read_issues(bids_dir: Path) -> tuple[list[_Issue], dict[str, str]]:
    """Return the issues of the validator, and the description of its codes."""
    program = _find_validator()
    if program is None:
        raise _NotValidated(bids_dir, f"{_PROGRAM} is not installed")
    special_file = next(_find_special_files(bids_dir), None)
    if special_file is not None:
        reason = "it contains a pipe or device file, which the BIDS validator cannot read"
        raise _NotValidated(special_file, reason)
    try:
        return _run_validator(program, bids_dir)
    except subprocess.TimeoutExpired as error:
        reason = f"the BIDS validator did not finish within {_TIMEOUT_S:g} s"
        raise _NotValidated(bids_dir, reason) from error
    except (OSError, ValueError) as error:
        raise _NotValidated(bids_dir, f"the BIDS validator failed ({error})") from error


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


def _run_validator(program: Path, bids_dir: Path) -> tuple[list[_Issue], dict[str, str]]:
    """Return the issues in the report of the validator, and the description of its codes."""
    # the validator would otherwise write to the home directory
    with tempfile.TemporaryDirectory(prefix="bids-sr-") as cache:
        process = subprocess.run(
            [program, "--format", "json", "--ignoreWarnings", bids_dir.absolute()],
            capture_output=True,
            timeout=_TIMEOUT_S,
            env={
                **os.environ,
                "DENO_DIR": cache,
                "DENO_NO_UPDATE_CHECK": "1",
                "NO_COLOR": "1",
            },
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


def _group_errors(
    errors: Sequence[_Issue],
    bids_dir: Path,
    used_files: Collection[Path],
    find_owners: Callable[[Path], Sequence[_Owner]],
) -> dict[_Kind, list[_Issue]]:
    """Return the errors by kind; errors in files that are not used belong to their participant."""
    errors_by_kind: dict[_Kind, list[_Issue]] = {}
    for issue in errors:
        path = _get_path(issue, bids_dir)
        is_used = path in used_files
        owners = find_owners(path)
        labels = {label for label, _ in owners}
        if owners and not is_used:
            owners = [(labels.pop() if len(labels) == 1 else "", "")]
        for owner in owners:
            kind = is_used, owner, issue.get("code", ""), issue.get("subCode", "")
            errors_by_kind.setdefault(kind, []).append(issue)
    return errors_by_kind


def _find_owners(
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


def _list_files(issues: Sequence[_Issue], bids_dir: Path) -> str:
    """Return the files of issues, the first ones by path."""
    files = dict.fromkeys(str(_get_path(issue, bids_dir)) for issue in issues)
    return list_some([*files], _MAX_FILES)


def _get_path(issue: _Issue, bids_dir: Path) -> Path:
    """Return the path of an issue."""
    return bids_dir / issue.get("location", "").lstrip("/")


def _describe_issue(issue: _Issue, messages: Mapping[str, str]) -> str:
    """Return the description of an issue with its code, without a period at the end."""
    code, subcode = issue.get("code", ""), issue.get("subCode", "")
    text = messages.get(code) or issue.get("issueMessage", "")
    text = shorten(text, _MAX_LENGTH, placeholder=" …")
    return f"BIDS validator: {text or 'error'} [{code}{': ' + subcode if subcode else ''}]"
