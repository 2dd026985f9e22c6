"""What jobs ask for: the estimate with head room; more for those that had too little."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from bids_sr.config import UsageError
from bids_sr.slurm.submission import Request

MEMORY_ROOM = 1.5
TIME_ROOM, TIME_SPARE_MIN = 2.0, 10
"""An estimate of time errs more than one of memory: nodes differ, and file systems are shared."""
PROGRAM_SHARE = 0.9  # of the memory of a job, for the program; the rest is for the shell and for what is not foreseen
LEAST_MB, STEP_MB, STEP_MIN = 2048, 512, 5
DEFAULT_CPUS = 4
GROUP_MB, GROUP_MIN = 4096, 60
RAISE = 2
_TIME = re.compile(r"(?:(?P<d>\d+)-)?(?P<a>\d+)(?::(?P<b>\d+))?(?::(?P<c>\d+))?")


def request_for(
    costs: Sequence[tuple[float, float]], *, cpus: int, gpus: int, memory_mb: int | None, minutes: int | None
) -> Request:
    """The request that holds for every task of an array.

    Parameters
    ----------
    costs : memory (GB) and time (min) of each task, as estimated
    cpus, gpus : of a task
    memory_mb, minutes : what the user fixed; None: from the costs with head room, rounded up

    Returns
    -------
    request : of one task
    """
    memory = max(memory for memory, _ in costs) * 1000**3 / 1024**2 * MEMORY_ROOM / PROGRAM_SHARE
    longest = max(time for _, time in costs) * TIME_ROOM + TIME_SPARE_MIN
    return Request(
        cpus=cpus,
        memory_mb=memory_mb or max(LEAST_MB, _up(memory, STEP_MB)),
        minutes=minutes or _up(longest, STEP_MIN),
        gpus=gpus,
    )


def group_request(participants: int) -> Request:
    """The request of the group job, which reads tables and maps and no series."""
    return Request(cpus=1, memory_mb=GROUP_MB + _up(participants, STEP_MB), minutes=GROUP_MIN + participants // 20)


def raised(request: Request, *, memory: bool, time: bool) -> Request:
    """Twice the memory, the time, or both."""
    return replace(
        request,
        memory_mb=request.memory_mb * (RAISE if memory else 1),
        minutes=request.minutes * (RAISE if time else 1),
    )


def program_gib(request: Request) -> float:
    """What the program is told it may use (GiB), less than the job has."""
    return math.floor(request.memory_mb * PROGRAM_SHARE / 1024 * 100) / 100


def job_mb(program: float) -> int:
    """What a job asks for (MiB) whose program may use so much (GiB)."""
    return math.ceil(program * 1024 / PROGRAM_SHARE)


def signal_seconds(request: Request) -> int:
    """How long before its time limit a job is told to stop; the program needs some ten seconds."""
    return max(30, min(300, request.minutes * 60 // 20))


def minutes_of(text: str) -> int:
    """Read a time as SLURM writes it: ``90``, ``90:00``, ``1:30:00``, ``1-12``, ``1-12:30``; seconds round up.

    Raises
    ------
    UsageError
        it is no such time, or none at all
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"--time {text}", "that is no time", "write minutes, hours:minutes:seconds or days-hours")
    first, second, third = (int(match[name] or 0) for name in "abc")
    if match["d"] is not None:
        seconds = int(match["d"]) * 86400 + first * 3600 + second * 60 + third
    elif match["c"] is not None:
        seconds = first * 3600 + second * 60 + third
    else:
        seconds = first * 60 + second
    if seconds == 0:
        raise UsageError(f"--time {text}", "a job needs some time", "give minutes, or leave the option out")
    return math.ceil(seconds / 60)


def time_text(minutes: int) -> str:
    """Minutes as SLURM takes them: ``D-HH:MM:00``."""
    days, rest = divmod(minutes, 1440)
    return f"{days}-{rest // 60:02d}:{rest % 60:02d}:00"


def _up(value: float, step: int) -> int:
    return math.ceil(value / step) * step
