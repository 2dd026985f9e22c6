"""Calls of SLURM commands, always by argument lists and never through a shell."""

import getpass
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence

from bids_sr.io.notices import UsageError

_CODE_BY_STATE = {
    "OUT_OF_MEMORY": "memory",
    "TIMEOUT": "time",
    "DEADLINE": "time",
    "CANCELLED": "cancelled",
    "PREEMPTED": "node",
    "NODE_FAIL": "node",
    "BOOT_FAIL": "node",
    "COMPLETED": "unseen",
    "UNKNOWN": "unknown",
    "": "unknown",
}
_CODE_BY_EXIT = {126: "absent", 127: "absent", 130: "interrupted", 137: "killed", 143: "killed"}
QUEUE_FORMAT = "%i|%T|%r"
"""Format of ``squeue``: job number (``12_3`` for a task), state, and reason."""
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
"""States of jobs that are pending or running."""
_TIMEOUT_S = 120.0
_MAX_JOBS_PER_CALL = 500  # jobs or names per command line
# Options, filters and formats of SLURM commands, and limits of a surrounding job. They would
# change requests, the jobs that are found or cancelled, and the format of the output.
_REMOVED_PREFIXES = ("SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_", "SCONTROL_")
_KEPT_VARIABLES = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT")
_NUMBER_PATTERN = re.compile(r"\d+")
_ARRAY_SIZE_PATTERN = re.compile(r"^MaxArraySize\s*=\s*(\d+)", re.MULTILINE)


def get_code(state: str, exit_code: str) -> str:
    """Return the reason why a job failed, from its SLURM state or otherwise from its exit code.

    The reason is a code of `CODES`. `exit_code` is the exit code of the shell, with a colon and
    the signal that ended the job.

    >>> get_code("CANCELLED+", "0:0"), get_code("FAILED", "0:9"), get_code("FAILED", "1:0")
    ('cancelled', 'killed', 'crashed')
    """
    state = state.rstrip("+")
    code, _, signal = exit_code.partition(":")
    is_killed = state == "FAILED" and signal in ("9", "125")
    shell_code = 137 if is_killed else int(code or 1)
    return _CODE_BY_STATE.get(state) or _CODE_BY_EXIT.get(shell_code, "crashed")


class SlurmError(UsageError):
    """Error of a SLURM command, with its message as the reason."""

    code = "slurm"


def counts_shared_memory() -> bool:
    """Return whether SLURM may count shared memory for each process in memory limits.

    The result is also True if SLURM does not report its configuration.
    """
    if shutil.which("scontrol") is None:
        return True
    config = call("scontrol", "show", "config").stdout
    return "JobAcctGather" not in config or (
        "OverMemoryKill" in config
        and "UsePss" not in config
        and "jobacct_gather/cgroup" not in config
    )


def submit(arguments: Sequence[str], variables: Mapping[str, str]) -> str:
    """Submit a script and return the number of the job.

    `variables` are variables of ``sbatch`` (`bids_sr.engine.slurm.sbatch_variables`). Raises
    `SlurmError` if SLURM rejects the script, or does not return a number.
    """
    output = _run("sbatch", *arguments, variables=variables)
    number = parse_job_id(output)
    if _NUMBER_PATTERN.fullmatch(number) is None:
        fix = "use squeue to check whether the job was submitted"
        raise SlurmError("sbatch did not return a job number", output.strip() or "no output", fix)
    return number


def parse_job_id(output: str) -> str:
    """Return the job number in the output of ``sbatch --parsable``, without a cluster name."""
    return output.strip().rpartition("\n")[2].partition(";")[0]


def parse_squeue(squeue_text: str) -> list[list[str]]:
    """Return the cells of all lines with three columns in the output of ``squeue``."""
    lines = (line.split("|", 2) for line in squeue_text.splitlines())
    return [[cell.strip() for cell in line] for line in lines if len(line) == 3]


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs.

    Raises `SlurmError` if the command fails.
    """
    for group in divide_into_chunks(list(jobs)):
        _run("scancel", *group)


def divide_into_chunks(items: Sequence[str]) -> list[Sequence[str]]:
    """Divide items into groups that fit on one command line."""
    return [
        items[start : start + _MAX_JOBS_PER_CALL]
        for start in range(0, len(items), _MAX_JOBS_PER_CALL)
    ]


def read_largest_index() -> int | None:
    """Return the largest possible task number, or None if SLURM does not report it."""
    match = _ARRAY_SIZE_PATTERN.search(_run("scontrol", "show", "config"))
    return int(match[1]) - 1 if match else None


def _run(program: str, *arguments: str, variables: Mapping[str, str] | None = None) -> str:
    """Return the output of a command.

    `variables` are added to its environment; None adds no variables. Raises `SlurmError` if the
    command fails.
    """
    result = call(program, *arguments, variables=variables)
    if result.returncode:
        message = result.stderr.strip() or result.stdout.strip() or "no output"
        fix = "correct the reported problem and try again"
        raise SlurmError(f"{program} failed with exit code {result.returncode}", message, fix)
    return result.stdout


def call(
    program: str,
    *arguments: str,
    variables: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run a SLURM command; a command that times out counts as failed.

    The command runs in a separate session, so that Ctrl-C does not interrupt it between submission
    and report. Variables of SLURM commands and of a surrounding job, such as its memory, are
    removed from the environment. The user name is added, because plugins of some sites need it.

    `variables` are added to the environment; None adds no variables. `seconds` is the time limit,
    after which the exit code is 1 and the error output a message; None uses 120 s. Raises
    `SlurmError` if the command does not exist.
    """
    timeout_s = _TIMEOUT_S if seconds is None else seconds
    if shutil.which(program) is None:
        fix = "run the command on a login node, use --print-only, or omit --use-plugin"
        raise SlurmError(
            f"the command {program} was not found",
            "SLURM is not installed on this computer",
            fix,
        )
    command = [program, *arguments]
    try:
        return subprocess.run(
            command,
            env={**_make_environment(), **(variables or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(
            command, 1, "", f"the command timed out after {timeout_s:.0f} s"
        )


def _make_environment() -> dict[str, str]:
    """Return the environment variables of a SLURM command."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # the user is not in the user database
        user = str(os.getuid())
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_REMOVED_PREFIXES) or name in _KEPT_VARIABLES
    }
    return {"LOGNAME": user, "USER": user, **variables, "LC_ALL": "C"}
