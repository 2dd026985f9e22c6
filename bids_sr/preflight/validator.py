"""The BIDS validator of the BIDS community, run on the data set as a program; it needs no network."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from bids_sr.bids import Findings

PROGRAM = "bids-validator-deno"
TIMEOUT_S = 600.0
SHOWN = 3  # files named for each kind of error
OWN_CODES = frozenset({"NIFTI_HEADER_UNREADABLE", "EMPTY_FILE", "REPETITION_TIME_MISMATCH"})
"""Errors that our own checks state more plainly; dropped for files that already have a problem."""
Issue = Mapping[str, str]
_OWN_KEYS = frozenset({"RepetitionTime", "VolumeTiming"})


def find_validator() -> Path | None:
    """The program beside the running Python, or on PATH."""
    beside = Path(sys.executable).parent / PROGRAM
    if beside.is_file():
        return beside
    found = shutil.which(PROGRAM)
    return Path(found) if found else None


def validate(bids_dir: Path, participants: Sequence[str], found: Findings, timeout_s: float = TIMEOUT_S) -> None:
    """Run the validator; errors of one kind become one problem, and why it did not answer a notice.

    Errors in files of others than these participants are left out, as are some of files that have a problem already.
    """
    program = find_validator()
    endless = next(special_files(bids_dir), None)
    if program is None:
        found.tell(bids_dir, f"not validated: {PROGRAM} is not installed.")
    elif endless is not None:
        text = "it is a pipe or a device, which the validator cannot read: not validated."
        found.tell(endless, text)
    else:
        try:
            issues, messages = _run(program, bids_dir, timeout_s)
            problems_of(issues, messages, bids_dir, participants, found)
        except subprocess.TimeoutExpired:
            found.tell(bids_dir, f"not validated: the validator did not finish within {timeout_s:g} s.")
        except (OSError, ValueError) as error:
            found.tell(bids_dir, f"not validated: the validator failed ({error}).")


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


def _run(program: Path, bids_dir: Path, timeout_s: float) -> tuple[list[Issue], dict[str, str]]:
    """What the validator finds, and what its codes mean."""
    with tempfile.TemporaryDirectory(prefix="bids-sr-") as cache:  # so that nothing is written to a home directory
        environment = {**os.environ, "DENO_DIR": cache, "DENO_NO_UPDATE_CHECK": "1", "NO_COLOR": "1"}
        done = subprocess.run(
            [program, "--format", "json", "--ignoreWarnings", bids_dir.absolute()],
            capture_output=True, timeout=timeout_s, env=environment, check=False,
        )  # fmt: skip
    start = done.stdout.find(b"{")
    if start < 0:
        raise ValueError((done.stderr or done.stdout).decode(errors="replace").strip()[-300:] or "no answer")
    report = json.loads(done.stdout[start:])
    if not isinstance(report, dict) or "issues" not in report:
        raise ValueError("its output is not in the expected format")
    return report["issues"].get("issues", []), report["issues"].get("codeMessages", {})


def problems_of(
    issues: Sequence[Issue], messages: Mapping[str, str], bids_dir: Path, participants: Sequence[str], found: Findings
) -> None:
    """Turn the errors of a report into problems, one for each kind; `messages` say what their codes mean."""
    known = {Path(problem.file) for problem in found.problems}
    kinds: dict[tuple[str, str], list[Issue]] = {}
    for issue in issues:
        if issue.get("severity") == "error" and _concerns(issue, bids_dir, participants, known):
            kinds.setdefault((str(issue.get("code", "")), str(issue.get("subCode", ""))), []).append(issue)
    for (code, key), issues in kinds.items():
        files = [str(bids_dir / str(issue.get("location", "")).lstrip("/")) for issue in issues]
        more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
        text = _first(messages.get(code, "")) or _first(str(issues[0].get("issueMessage", "")))
        found.refuse(
            ", ".join(files[:SHOWN]) + more,
            f"BIDS validator: {text or 'error'} [{code}{': ' + key if key else ''}]",
            "Correct the data set, or skip the validator: --skip-bids-validation.",
        )


def _concerns(issue: Issue, bids_dir: Path, participants: Sequence[str], known: Collection[Path]) -> bool:
    location = str(issue.get("location", "")).lstrip("/")
    first = location.split("/")[0]
    if first.startswith("sub-") and "/" in location and first.removeprefix("sub-") not in participants:
        return False
    plain = issue.get("code") in OWN_CODES or issue.get("subCode") in _OWN_KEYS
    return not (plain and bids_dir / location in known)


def _first(text: str) -> str:
    return text.strip().replace("\n", " ").split(". ")[0].rstrip(".")
