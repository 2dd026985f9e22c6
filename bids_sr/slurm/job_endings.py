"""Reasons why SLURM jobs fail, from state and exit code, as codes of `bids_sr.notices.CODES`."""

_BY_STATE = {
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
_BY_EXIT = {126: "absent", 127: "absent", 130: "interrupted", 137: "killed", 143: "killed"}
_MESSAGES = (  # messages of slurmstepd in the log of a task, and the states that they report
    ("DUE TO TIME LIMIT", "TIMEOUT"),
    ("oom-kill event", "OUT_OF_MEMORY"),
    ("oom_kill event", "OUT_OF_MEMORY"),
    ("exceeded memory limit", "OUT_OF_MEMORY"),
    ("exceeded job memory limit", "OUT_OF_MEMORY"),
    ("DUE TO NODE FAILURE", "NODE_FAIL"),
    ("DUE TO PREEMPTION", "PREEMPTED"),
    (" CANCELLED AT ", "CANCELLED"),
)


def get_code(state: str, exit_code: int | None = None) -> str:
    """Return the reason why a job failed, from its SLURM state or otherwise from its exit code.

    `exit_code` is the exit code of the shell: 128 plus the signal number for a process that was
    ended by a signal.

    >>> get_code("CANCELLED+"), get_code("FAILED", 137), get_code("FAILED")
    ('cancelled', 'killed', 'crashed')
    """
    return _BY_STATE.get(state.rstrip("+")) or _BY_EXIT.get(exit_code or 1, "crashed")


def message_state(line: str) -> str:
    """Return the SLURM state, such as ``TIMEOUT``, in a line of a log.

    The result is "" if SLURM did not write the line.
    """
    texts = _MESSAGES if line.startswith("slurmstepd") else ()
    return next((state for text, state in texts if text in line), "")
