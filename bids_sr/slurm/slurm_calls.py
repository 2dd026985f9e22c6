"""Calls of SLURM, all of them, by argument lists and never a line of the shell."""

import getpass
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence

from bids_sr.config import UsageError
from bids_sr.slurm.sbatch_scripts import QUEUE_FORMAT

SECONDS = 120
ACTIVE = frozenset({
    "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "REQUEUED", "REQUEUE_FED",
    "REQUEUE_HOLD", "RESV_DEL_HOLD", "RESIZING", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT",
})  # fmt: skip
"""States in which a job still holds, or waits for, a place."""
_NUMBER = re.compile(r"\d+")
_LARGEST = re.compile(r"^MaxArraySize\s*=\s*(\d+)", re.MULTILINE)


class SlurmError(UsageError):
    """A command of SLURM failed; its own words are the reason."""


def submit(arguments: Sequence[str]) -> str:
    """Submit a script and return the number of the job. Raises `SlurmError` if SLURM refuses it."""
    out = _call("sbatch", arguments)
    number = out.strip().partition(";")[0]  # a cluster's name may follow
    if _NUMBER.fullmatch(number) is None:
        raise SlurmError("sbatch gave no number", out.strip() or "it said nothing", "look with squeue what runs")
    return number


def queue(job_names: Sequence[str]) -> dict[str, str]:
    """Jobs by number (``12_3`` of a task) with their states, those that ended shortly before included."""
    found: dict[str, str] = {}
    for chunk in chunks(job_names):
        what = [f"--name={','.join(chunk)}", f"--format={QUEUE_FORMAT}"]
        found.update(parse_queue(_call("squeue", ["--noheader", "--array", "--all", "--states=all", *what])))
    return found


def parse_queue(text: str) -> dict[str, str]:
    """Read what ``squeue`` writes in `QUEUE_FORMAT`: number → state."""
    rows = (line.split("|") for line in text.splitlines())
    return {row[0].strip(): row[1].strip() for row in rows if len(row) >= 2}


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs and tasks (``12_3``)."""
    for chunk in chunks(list(jobs)):
        _call("scancel", chunk)


def largest_index() -> int | None:
    """The largest number that a task may have; None where SLURM does not say."""
    found = _LARGEST.search(_call("scontrol", ["show", "config"]))
    return int(found[1]) - 1 if found else None


def _call(program: str, arguments: Sequence[str]) -> str:
    if shutil.which(program) is None:
        fix = "call it where jobs are submitted from, or use --print-only and submit the scripts there"
        raise SlurmError(f"{program} is not found", "this machine has no SLURM", fix)
    try:
        done = subprocess.run(
            [program, *arguments], env=_environment(), stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="replace", timeout=SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        fix = "try again later"
        raise SlurmError(f"{program} did not answer in {SECONDS} s", "SLURM may be overloaded", fix) from None
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip() or "it said nothing"
        raise SlurmError(f"{program} ended with {done.returncode}", said, "mend what it names, then try again")
    return done.stdout


def _environment() -> dict[str, str]:
    """The environment with a user's name, which some sites' plugins need."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user that no list knows
        name = str(os.getuid())
    return {"LOGNAME": name, "USER": name, **os.environ}


def chunks(items: Sequence[str], size: int = 500) -> list[Sequence[str]]:
    """Items in groups that one command line can hold."""
    return [items[at : at + size] for at in range(0, len(items), size)]
