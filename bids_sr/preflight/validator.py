"""The BIDS validator of the BIDS community, run on the data set as a program; it needs no network."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bids_sr.bids import Notice, Problem

PROGRAM = "bids-validator-deno"
TIMEOUT_S = 600.0
SHOWN = 3  # files named for each kind of error
OWN_CODES = frozenset({"NIFTI_HEADER_UNREADABLE", "EMPTY_FILE", "REPETITION_TIME_MISMATCH"})
"""Errors that our own checks state more plainly; dropped for files that already have a problem."""
_OWN_KEYS = frozenset({"RepetitionTime", "VolumeTiming"})


def find_validator() -> Path | None:
    """The program beside the running Python, or on PATH."""
    beside = Path(sys.executable).parent / PROGRAM
    if beside.is_file():
        return beside
    found = shutil.which(PROGRAM)
    return Path(found) if found else None


def validate(
    bids_dir: Path, participants: Sequence[str], known: Collection[Path] = (), timeout_s: float = TIMEOUT_S
) -> tuple[list[Problem], list[Notice]]:
    """Run the validator.

    Parameters
    ----------
    participants : labels chosen; errors in files of others are left out
    known : files for which a problem was already found

    Returns
    -------
    problems : errors, those of one kind together
    notices : that the validator was not there, did not end or did not answer
    """
    program = find_validator()
    if program is None:
        return [], [Notice(file=str(bids_dir), text=f"not validated: {PROGRAM} is not installed.")]
    endless = next(special_files(bids_dir), None)
    if endless is not None:
        text = "it is a pipe or a device, which the validator would wait for or read without end: not validated."
        return [], [Notice(file=str(endless), text=text)]
    try:
        report = _run(program, bids_dir, timeout_s)
    except subprocess.TimeoutExpired:
        return [], [Notice(file=str(bids_dir), text=f"not validated: the validator did not end in {timeout_s:g} s.")]
    except (OSError, ValueError) as error:
        return [], [Notice(file=str(bids_dir), text=f"not validated: the validator failed ({error}).")]
    return problems_of(report, bids_dir, participants, known), []


def special_files(folder: Path) -> Iterator[Path]:
    """Pipes, sockets and devices below a folder, also where a link leads to one; links to folders are not followed."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            try:
                mode = path.stat().st_mode
            except OSError:  # a link without a target
                continue
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                yield path


def _run(program: Path, bids_dir: Path, timeout_s: float) -> Mapping[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bids-sr-") as cache:  # so that nothing is written to a home directory
        environment = {**os.environ, "DENO_DIR": cache, "DENO_NO_UPDATE_CHECK": "1", "NO_COLOR": "1"}
        done = subprocess.run(
            [program, "--format", "json", "--ignoreWarnings", bids_dir.absolute()],
            capture_output=True,
            timeout=timeout_s,
            env=environment,
            check=False,
        )
    start = done.stdout.find(b"{")
    if start < 0:
        raise ValueError((done.stderr or done.stdout).decode(errors="replace").strip()[-300:] or "no answer")
    report = json.loads(done.stdout[start:])
    if not isinstance(report, dict) or "issues" not in report:
        raise ValueError("its answer has another form than expected")
    return report


def problems_of(
    report: Mapping[str, Any], bids_dir: Path, participants: Sequence[str], known: Collection[Path]
) -> list[Problem]:
    """Turn the errors of a report into problems, one for each kind."""
    messages = report["issues"].get("codeMessages", {})
    kinds: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for issue in report["issues"].get("issues", []):
        if issue.get("severity") == "error" and _concerns(issue, bids_dir, participants, known):
            kinds.setdefault((str(issue.get("code", "")), str(issue.get("subCode", ""))), []).append(issue)
    problems = []
    for (code, key), issues in kinds.items():
        files = [str(bids_dir / str(issue.get("location", "")).lstrip("/")) for issue in issues]
        more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
        text = _first(messages.get(code, "")) or _first(str(issues[0].get("issueMessage", "")))
        problems.append(
            Problem(
                file=", ".join(files[:SHOWN]) + more,
                reason=f"BIDS validator: {text or 'error'} [{code}{': ' + key if key else ''}]",
                fix="Mend it so that the validator finds no error, or go on without it: --skip-bids-validation.",
            )
        )
    return problems


def _concerns(issue: Mapping[str, Any], bids_dir: Path, participants: Sequence[str], known: Collection[Path]) -> bool:
    location = str(issue.get("location", "")).lstrip("/")
    first = location.split("/")[0]
    if first.startswith("sub-") and "/" in location and first.removeprefix("sub-") not in participants:
        return False
    plain = issue.get("code") in OWN_CODES or issue.get("subCode") in _OWN_KEYS
    return not (plain and bids_dir / location in known)


def _first(text: str) -> str:
    sentences = text.strip().replace("\n", " ").split(". ")
    return sentences[0].rstrip(".")
