"""BIDS validator of the BIDS community, run on the dataset as an offline program."""

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

from bids_sr.bids import Findings, entities_of
from bids_sr.bids.entities import RUN_KEYS, same_run
from bids_sr.io.tables import column

_PROGRAM = "bids-validator-deno"
_TIMEOUT_S = 600.0
_SHOWN = 3  # files named for each kind of error
_LONGEST = 200  # characters of what it says of one
_Issue = Mapping[str, str]
_Runs = Mapping[str, Sequence[Path | None]]
"""Name of a run → its series, and other files of it."""
_PARTICIPANTS = "participants.tsv"
# in codes of errors about participants that are not listed, or listed twice
_OF_ROWS = ("PARTICIPANT_ID", "UNIQUE")


def _find_validator() -> Path | None:
    """The program beside the running Python, or on PATH."""
    beside = Path(sys.executable).parent / _PROGRAM
    if beside.is_file():
        return beside
    found = shutil.which(_PROGRAM)
    return Path(found) if found else None


def validate(
    bids_dir: Path,
    participants: Collection[str],
    runs: _Runs,
    findings: Findings,
    timeout_s: float = _TIMEOUT_S,
) -> None:
    """Run the validator and collect its errors as problems, one for each kind.

    If the validator does not answer, a notice says why.

    Errors of others than these runs of these participants are left out, as are those of files with
    a problem already.
    """
    program = _find_validator()
    endless = next(_special_files(bids_dir), None)
    if program is None:
        findings.tell(
            bids_dir, f"the dataset was not validated because {_PROGRAM} is not installed."
        )
    elif endless is not None:
        text = (
            "the dataset was not validated because it contains a pipe or device file, which the"
            " BIDS validator cannot read."
        )
        findings.tell(endless, text)
    else:
        try:
            issues, messages = _run(program, bids_dir, timeout_s)
            _problems_of(issues, messages, bids_dir, participants, runs, findings)
        except subprocess.TimeoutExpired:
            findings.tell(
                bids_dir,
                (
                    "the dataset was not validated because the BIDS validator did not finish"
                    f" within {timeout_s:g} s."
                ),
            )
        except (OSError, ValueError) as error:
            findings.tell(
                bids_dir,
                f"the dataset was not validated because the BIDS validator failed ({error}).",
            )


def _special_files(folder: Path) -> Iterator[Path]:
    """Return pipes, sockets and devices below a folder, or that a link there leads to.

    Links to folders are not followed.
    """
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            try:
                mode = path.stat().st_mode
            except OSError:  # a link without a target
                continue
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                yield path


def _run(program: Path, bids_dir: Path, timeout_s: float) -> tuple[list[_Issue], dict[str, str]]:
    """What the validator finds, and what its codes mean."""
    # so that nothing is written to a home directory
    with tempfile.TemporaryDirectory(prefix="bids-sr-") as cache:
        environment = {
            **os.environ,
            "DENO_DIR": cache,
            "DENO_NO_UPDATE_CHECK": "1",
            "NO_COLOR": "1",
        }
        done = subprocess.run(
            [program, "--format", "json", "--ignoreWarnings", bids_dir.absolute()],
            capture_output=True,
            timeout=timeout_s,
            env=environment,
            check=False,
        )
    start = done.stdout.find(b"{")
    if start < 0:
        raise ValueError(
            (done.stderr or done.stdout).decode(errors="replace").strip()[-300:] or "no answer"
        )
    report = json.loads(done.stdout[start:])
    if not isinstance(report, dict) or "issues" not in report:
        raise ValueError("the validator output does not have the expected format")
    return report["issues"].get("issues", []), report["issues"].get("codeMessages", {})


def _problems_of(
    issues: Sequence[_Issue],
    messages: Mapping[str, str],
    bids_dir: Path,
    participants: Collection[str],
    runs: _Runs,
    findings: Findings,
) -> None:
    """Turn report errors into problems, one for each kind; `messages` explains the codes."""
    known = {Path(problem.what) for problem in findings.problems}
    kinds: dict[tuple[str, str, tuple[str, str]], list[_Issue]] = {}
    for issue in (each for each in issues if each.get("severity") == "error"):
        if bids_dir / _place(issue) in known:  # which our own checks state more plainly
            continue
        code, key = str(issue.get("code", "")), str(issue.get("subCode", ""))
        for whose in _owners(issue, bids_dir, participants, runs):
            kinds.setdefault((code, key, whose), []).append(issue)
    for (code, key, whose), issues in kinds.items():
        files = [str(bids_dir / _place(issue)) for issue in issues]
        more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
        text = shorten(
            messages.get(code, "") or str(issues[0].get("issueMessage", "")),
            _LONGEST,
            placeholder=" …",
        )
        with findings.about(*whose):
            findings.refuse(
                ", ".join(files[:_SHOWN]) + more,
                f"BIDS validator: {text or 'error'} [{code}{': ' + key if key else ''}]",
                "Correct the dataset, or skip the BIDS validator with --skip-bids-validation.",
            )


def _place(issue: _Issue) -> Path:
    return Path(str(issue.get("location", "")).lstrip("/"))


def _owners(
    issue: _Issue,
    bids_dir: Path,
    participants: Collection[str],
    runs: _Runs,
) -> list[tuple[str, str]]:
    """Return the participant and run of an error, empty for the whole dataset.

    None is returned where all files of the error belong to others.
    """
    place = _place(issue)
    whose = (
        {place.parts[0]} if len(place.parts) > 1 and place.parts[0].startswith("sub-") else set()
    )
    if place == Path(_PARTICIPANTS):
        listed = column(bids_dir / place, "participant_id")
        line = int(issue.get("line") or 0) - 2
        there = {path.name for path in bids_dir.glob("sub-*")}
        whose = there & set(listed[line : line + 1]) if line >= 0 else set()
        if not whose and any(kind in str(issue.get("code", "")) for kind in _OF_ROWS):
            whose = {name for name in there if listed and listed.count(name) != 1}
    named = entities_of(place)
    if "task" in named:
        keys = named.keys() & set(RUN_KEYS)
        known = ((name, entities_of(bold)) for name, (bold, *_) in runs.items() if bold)
        return [
            (own["subject"], name)
            for name, own in known
            if (not whose or f"sub-{own['subject']}" in whose) and same_run(named, own, keys)
        ]
    return (
        sorted((label, "") for label in participants if f"sub-{label}" in whose)
        if whose
        else [("", "")]
    )
