"""Calls of SLURM, all of them, by argument lists and never a line of the shell."""

import getpass
import math
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence

from bids_sr.config import UsageError

QUEUE_FORMAT = "%i|%T|%r"
"""What is asked of ``squeue`` of each job: its number (``12_3`` of a task), its state, the reason.
"""
ACTIVE = frozenset(
    {
        "PENDING",
        "CONFIGURING",
        "RUNNING",
        "COMPLETING",
        "SUSPENDED",
        "STOPPED",
        "REQUEUED",
        "REQUEUE_FED",
        "REQUEUE_HOLD",
        "RESV_DEL_HOLD",
        "RESIZING",
        "SIGNALING",
        "SPECIAL_EXIT",
        "STAGE_OUT",
    }
)
"""States in which a job still holds, or waits for, a place."""
_SECONDS = 120.0
_AT_ONCE = 500  # jobs or names that one command line can hold
_OF_THE_SUBMITTER = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT")
_PEAK = re.compile(r"^([\d_]+)\..*\|([\d.]+)M$", re.MULTILINE)
_NUMBER = re.compile(r"\d+")
_LARGEST = re.compile(r"^MaxArraySize\s*=\s*(\d+)", re.MULTILINE)


class SlurmError(UsageError):
    """SLURM cannot be used as it was asked for; its own words are the reason."""

    code = "slurm"


def call(
    program: str, *arguments: str, seconds: float | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run one command of SLURM; one that hangs has failed, and says so.

    It gets a session of its own, so that Ctrl-C at the terminal does not end it between submitting
    and reporting. What a job hands down to the jobs that it submits, its own memory and
    processors, is left out of the environment; the name of the user, which some sites' plugins
    need, is in it. Raises `SlurmError` where there is no such program.

    `seconds`: time limit (s), after which exit code and output are 1 and a message; None takes
    120 s.
    """
    seconds = _SECONDS if seconds is None else seconds
    if shutil.which(program) is None:
        fix = "run the command on a login node, use --print-only, or omit --use-plugin"
        raise SlurmError(
            f"the command {program} was not found",
            "SLURM is not installed on this computer",
            fix,
        )
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user that no list knows
        name = str(os.getuid())
    kept = {k: v for k, v in os.environ.items() if k[:6] != "SLURM_" or k in _OF_THE_SUBMITTER}
    words = [program, *arguments]
    try:
        return subprocess.run(
            words,
            env={"LOGNAME": name, "USER": name, **kept, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(
            words, 1, "", f"the command timed out after {seconds:.0f} s"
        )


def submit(arguments: Sequence[str]) -> str:
    """Submit a script and return the number of the job. Raises `SlurmError` if SLURM refuses."""
    out = _answer("sbatch", *arguments)
    number = job_number(out)
    if _NUMBER.fullmatch(number) is None:
        fix = "use squeue to check whether the job was submitted"
        raise SlurmError("sbatch did not return a job number", out.strip() or "no output", fix)
    return number


def job_number(said: str) -> str:
    """The number of a job as ``sbatch --parsable`` writes it, behind which a cluster may stand."""
    return said.strip().rpartition("\n")[2].partition(";")[0]


def queue(job_names: Sequence[str]) -> dict[str, str]:
    """Return jobs by number (``12_3`` for a task) with states, recently ended ones included."""
    states: dict[str, str] = {}
    asked = ("--noheader", "--array", "--all", "--states=all", f"--format={QUEUE_FORMAT}")
    for names in chunks(job_names):
        listed = rows(_answer("squeue", *asked, f"--name={','.join(names)}"))
        states.update({job: state for job, state, _ in listed})
    return states


def peaks_mb(jobs: Sequence[str]) -> dict[str, int]:
    """The most memory (MiB) that SLURM's accounting saw of jobs; without accounting of none.

    Of the largest step of each, by its number (``12_3`` for a task).
    """
    if not jobs or shutil.which("sacct") is None:
        return {}
    asked = ("--noheader", "--parsable2", "--units=M", "--format=JobID,MaxRSS")
    said = call("sacct", *asked, f"--jobs={','.join(jobs)}").stdout
    sizes = sorted((float(size), job) for job, size in _PEAK.findall(said))
    return {job: math.ceil(size) for size, job in sizes}


def rows(listed: str) -> list[list[str]]:
    """Return lines of three columns as ``squeue`` writes them.

    Three cells of each line; other lines are left out.
    """
    lines = (line.split("|", 2) for line in listed.splitlines())
    return [[cell.strip() for cell in line] for line in lines if len(line) == 3]


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs and tasks (``12_3``).

    `UsageError`: someone who was chosen neither waits nor runs.
    """
    for chosen in chunks(list(jobs)):
        _answer("scancel", *chosen)


def largest_index() -> int | None:
    """The largest number that a task may have; None where SLURM does not say."""
    found = _LARGEST.search(_answer("scontrol", "show", "config"))
    return int(found[1]) - 1 if found else None


def sums_resident() -> bool:
    """Whether memory limits may be kept by sums over processes, what they share counted for each.

    Also where SLURM does not tell.
    """
    if shutil.which("scontrol") is None:
        return True
    told = call("scontrol", "show", "config").stdout
    return "JobAcctGather" not in told or (
        "OverMemoryKill" in told and "UsePss" not in told and "jobacct_gather/cgroup" not in told
    )


def chunks(items: Sequence[str]) -> list[Sequence[str]]:
    """Return items in groups that one command line can hold."""
    return [items[at : at + _AT_ONCE] for at in range(0, len(items), _AT_ONCE)]


def _answer(program: str, *arguments: str) -> str:
    """What a command writes. Raises `SlurmError` where it fails."""
    done = call(program, *arguments)
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip() or "no output"
        fix = "correct the reported problem and try again"
        raise SlurmError(f"{program} failed with exit code {done.returncode}", said, fix)
    return done.stdout
