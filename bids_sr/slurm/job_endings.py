"""Why SLURM jobs fail, by state and exit code, and what the user can do for each reason."""

from enum import StrEnum


class Why(StrEnum):
    """Why a job failed."""

    NOTHING = ""
    MEMORY = "out of memory"
    KILLED = "killed"
    CANCELLED = "cancelled"
    TIME = "timed out"
    REFUSED = "refused"
    CRASHED = "crashed"
    ABSENT = "program not found"
    NODE = "node failed"
    STOPPED = "interrupted"
    UNSEEN = "result not found"
    UNKNOWN = "never started"


_BY_STATE = {
    "OUT_OF_MEMORY": Why.MEMORY,
    "TIMEOUT": Why.TIME,
    "DEADLINE": Why.TIME,
    "CANCELLED": Why.CANCELLED,
    "PREEMPTED": Why.NODE,
    "NODE_FAIL": Why.NODE,
    "BOOT_FAIL": Why.NODE,
    "COMPLETED": Why.UNSEEN,
    "UNKNOWN": Why.UNKNOWN,
    "": Why.UNKNOWN,
}
_BY_CODE = {
    126: Why.ABSENT,
    127: Why.ABSENT,
    130: Why.STOPPED,
    137: Why.KILLED,
    143: Why.KILLED,
}
_MESSAGES = (  # of slurmstepd, in the log of a task
    ("DUE TO TIME LIMIT", "TIMEOUT"),
    ("oom-kill event", "OUT_OF_MEMORY"),
    ("oom_kill event", "OUT_OF_MEMORY"),
    ("exceeded memory limit", "OUT_OF_MEMORY"),
    ("exceeded job memory limit", "OUT_OF_MEMORY"),
    ("DUE TO NODE FAILURE", "NODE_FAIL"),
    ("DUE TO PREEMPTION", "PREEMPTED"),
    (" CANCELLED AT ", "CANCELLED"),
)
_AGAIN = "the same command runs it again."
REMEDIES: dict[Why, tuple[str, str]] = {
    Why.MEMORY: (
        "it had {had_gb:.1f} GB, {retry} asks for {more_gb:.1f}",
        "Give it more: raise memory_extra_gb in the plugin file, then run the same command again.",
    ),
    Why.TIME: (
        (
            "it had {had_time} for each start, {retry} asks for {more_time} and goes on from where"
            " it stopped"
        ),
        "Give it longer: raise time_minutes in the plugin file, then run the same command again.",
    ),
    Why.KILLED: (
        "{retry} goes on from there",
        (
            "It was killed, most often because memory ran out: raise memory_extra_gb in the plugin"
            " file."
        ),
    ),
    Why.CANCELLED: (
        "{retry} goes on from there",
        f"It was cancelled from outside (scancel, or an administrator); {_AGAIN}",
    ),
    Why.NODE: (
        "{retry} goes on from there",
        f"The machine failed or was taken away; {_AGAIN}",
    ),
    Why.REFUSED: (
        "the log says what is to be mended; then {retry}",
        (
            "Mend sbatch_args, time_minutes or memory_extra_gb in the plugin file, or take another"
            " partition."
        ),
    ),
    Why.CRASHED: (
        "the log names the step and its crash file; then {retry}",
        (
            "It ended before the step could answer; its last words, if any, follow. See template"
            " and sbatch_args."
        ),
    ),
    Why.ABSENT: (
        (
            "the node does not find the program; submit again with --setup FILE that makes it"
            " known, or --container IMAGE"
        ),
        "The node does not find the program: see template and sbatch_args in the plugin file.",
    ),
    Why.STOPPED: ("{retry} goes on from there", f"It was interrupted; {_AGAIN}"),
    Why.UNSEEN: (
        "{retry} goes on from there",
        (
            "The work directory (-w) must be one that every machine of the cluster sees under the"
            " same path."
        ),
    ),
    Why.UNKNOWN: (
        "{retry} goes on from there",
        f"SLURM knows nothing of it any more; {_AGAIN}",
    ),
}
"""What to do, by reason: about a task of an array, and about a step that ran as a job of its own.
"""


def why_ended(state: str, code: int | None = None) -> Why:
    """Return the reason from the SLURM state (empty: forgotten by SLURM), else the exit code.

    `code` is that of the shell: 128 and the signal for a process that a signal ended.

    Examples
    --------
    >>> why_ended("CANCELLED+"), why_ended("FAILED", 137), why_ended("FAILED")
    (<Why.CANCELLED: 'cancelled'>, <Why.KILLED: 'killed'>, <Why.CRASHED: 'crashed'>)
    """
    return _BY_STATE.get(state.rstrip("+")) or _BY_CODE.get(code or 1, Why.CRASHED)


def message_state(line: str) -> str:
    """The state that a line of a log gives, where SLURM wrote it; empty for any other."""
    texts = _MESSAGES if line.startswith("slurmstepd") else ()
    return next((state for text, state in texts if text in line), "")
