"""SLURM requests of jobs: processors, memory and time, with a margin."""

import math
import re
from collections.abc import Sequence

from bids_sr.engine.memory import SHARED_GB
from bids_sr.io.frozen import frozen
from bids_sr.io.notices import UsageError

# Margins of memory. If shared memory is counted repeatedly, the estimate has a smaller margin, and
# shared memory is added for each processor.
_MEMORY_MARGIN, _PRIVATE_MEMORY_MARGIN = 1.3, 1.15
# Margins of time (a factor, and min). The error is larger than for memory, because nodes differ
# and file systems are shared.
_TIME_MARGIN, _EXTRA_MINUTES = 2.0, 10
# fraction of a job's memory for the program; the rest is for the shell and unexpected use
_PROGRAM_SHARE = 0.9
_SHARED_GIB = SHARED_GB * 1e9 / 2**30
MIN_MB, STEP_MB = 2048, 512
"""Smallest memory of a job, and step of all requests (MiB)."""
STEP_MIN = 5
"""Step of time limits (min)."""
DEFAULT_CPUS = 4
GROUP_MB, GROUP_MIN = 2048, 60
"""Memory (MiB) and time (min) of a group job without participants."""
_PARTICIPANTS_PER_MB = 4  # participants per MiB: values of 15,000 lines of tables, twice
_TIME_PATTERN = re.compile(
    r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?"
)


@frozen
class Request:
    """Resources of a job.

    `memory_mb` is in MiB, and the time limit `minutes` in min. `resident` is whether shared memory
    is counted for each process.
    """

    cpus: int
    memory_mb: int
    minutes: int
    gpus: int = 0
    resident: bool = True


def make_request(
    costs: Sequence[tuple[float, float]],
    *,
    cpus: int,
    gpus: int,
    memory_mb: int | None,
    minutes: int | None,
    resident: bool = True,
) -> Request:
    """Return the request for all tasks of an array.

    `costs` are memory (GB) and time (min) of each task. `memory_mb` is the memory requested by the
    user (MiB); None uses the largest cost with a margin, rounded up. `minutes` is the time limit
    set by the user; None uses the longest cost with a margin, rounded up. `resident` is whether
    shared memory is counted for each process.
    """
    memory_gib = max(memory for memory, _ in costs) * 1e9 / 2**30
    estimated_mb = max(
        compute_job_mb(memory_gib * _MEMORY_MARGIN, 0),
        compute_job_mb(memory_gib * _PRIVATE_MEMORY_MARGIN, cpus if resident else 0),
    )
    estimated_minutes = max(time for _, time in costs) * _TIME_MARGIN + _EXTRA_MINUTES
    return Request(
        cpus=cpus,
        memory_mb=memory_mb or max(MIN_MB, _round_up(estimated_mb, STEP_MB)),
        minutes=minutes or _round_up(estimated_minutes, STEP_MIN),
        gpus=gpus,
        resident=resident,
    )


def compute_job_mb(program: float, workers: int) -> int:
    """Return the memory of a job (MiB) for the memory of its program (GiB) and number of workers.

    The memory is also sufficient if accounting sums the resident memory of all processes.
    """
    return math.ceil((program + _SHARED_GIB * workers) * 1024 / _PROGRAM_SHARE)


def make_group_request(participants: int) -> Request:
    """Return the request of the group job, which reads tables and maps but no series."""
    return Request(
        cpus=1,
        memory_mb=GROUP_MB + _round_up(participants / _PARTICIPANTS_PER_MB, STEP_MB),
        minutes=GROUP_MIN + participants // 20,
    )


def _round_up(value: float, step: int) -> int:
    """Round a value up to a multiple of `step`."""
    return math.ceil(value / step) * step


def compute_program_gib(request: Request) -> float:
    """Return the memory that the program may use (GiB, rounded down to hundredths).

    It is less than the memory of the job, see `compute_job_mb`.
    """
    program_gib = request.memory_mb / 1024 * _PROGRAM_SHARE
    if request.resident:
        program_gib -= _SHARED_GIB * request.cpus
    return math.floor(program_gib * 100) / 100


def compute_signal_seconds(request: Request) -> int:
    """Return the time (s) before its time limit at which a job is signaled to stop.

    The program needs about ten seconds to stop.
    """
    return max(30, min(300, request.minutes * 60 // 20))


def parse_minutes(text: str) -> int:
    """Convert a SLURM time to minutes, rounded up; a number without a unit is in minutes.

    Raises `UsageError` if the text is not a valid time, or the time is 0.

    Examples
    --------
    >>> [parse_minutes(text) for text in ("90", "90:30", "1:30:00", "1-12", "1-12:30")]
    [90, 91, 90, 2160, 2190]
    """
    match = _TIME_PATTERN.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"--time {text}",
            "the time limit is not in a valid format",
            "write minutes, hours:minutes:seconds or days-hours",
        )
    days, first, second, third = (int(text or 0) for text in match.groups())
    seconds = first * 60 + second
    if match["days"] or match["third"]:
        seconds = days * 86400 + first * 3600 + second * 60 + third
    if seconds == 0:
        raise UsageError(
            f"--time {text}",
            "the time limit must be greater than 0",
            "specify the time in minutes, or omit the option",
        )
    return math.ceil(seconds / 60)


def format_time(minutes: int) -> str:
    """Format minutes as a SLURM time, ``D-HH:MM:00``."""
    days, minutes_of_day = divmod(minutes, 24 * 60)
    return f"{days}-{minutes_of_day // 60:02d}:{minutes_of_day % 60:02d}:00"
