"""SLURM requests of jobs: processors, memory and time, with headroom."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from bids_sr.config import UsageError
from bids_sr.config.memory import SHARED_GB
from bids_sr.slurm.submission import Request

_MEMORY_ROOM, _BESIDE_SHARED = 1.3, 1.15
"""Where what is shared is added, an estimate has less room, and each processor still a worker."""
_TIME_ROOM, _TIME_SPARE_MIN = 2.0, 10
"""An estimate of time errs more than one of memory: nodes differ, and file systems are shared."""
# of the memory of a job, for the program; the rest is for the shell and for what is not foreseen
_PROGRAM_SHARE = 0.9
_SHARED_GIB = SHARED_GB * 1e9 / 2**30
_SEEN_ROOM = 1.25
LEAST_MB, STEP_MB, STEP_MIN = 2048, 512, 5
DEFAULT_CPUS = 4
GROUP_MB, GROUP_MIN = 2048, 60
_PEOPLE_A_MB = 4  # participants: values of 15,000 lines of tables, twice
_RAISE = 2
_TIME = re.compile(r"(?:(?P<d>\d+)-)?(?P<a>\d+)(?::(?P<b>\d+))?(?::(?P<c>\d+))?")


def request_for(
    costs: Sequence[tuple[float, float]],
    *,
    cpus: int,
    gpus: int,
    memory_mb: int | None,
    minutes: int | None,
    resident: bool = True,
) -> Request:
    """Return the request for all tasks of an array from each one's memory (GB) and time (min).

    `memory_mb` and `minutes` are what the user fixed; None: from the costs with head room, rounded
    up.
    """
    needed = max(memory for memory, _ in costs) * 1e9 / 2**30
    shared = job_mb(needed * _BESIDE_SHARED, cpus * resident)
    memory = max(job_mb(needed * _MEMORY_ROOM, 0), shared)
    longest = max(time for _, time in costs) * _TIME_ROOM + _TIME_SPARE_MIN
    memory_mb = memory_mb or max(LEAST_MB, _up(memory, STEP_MB))
    minutes = minutes or _up(longest, STEP_MIN)
    return Request(cpus=cpus, memory_mb=memory_mb, minutes=minutes, gpus=gpus, resident=resident)


def group_request(participants: int) -> Request:
    """The request of the group job, which reads tables and maps and no series."""
    return Request(
        cpus=1,
        memory_mb=GROUP_MB + _up(participants / _PEOPLE_A_MB, STEP_MB),
        minutes=GROUP_MIN + participants // 20,
    )


def enlarged(request: Request, code: str, seen_mb: int = 0) -> Request:
    """The request of a job that failed, with more of what it ran out of: memory or time.

    Twice as much, of memory a quarter more than was seen.

    `seen_mb`: most memory that SLURM saw of the job (MiB), where it ran out of that; 0 for
    unknown.
    """
    more, longer = (_RAISE if code == each else 1 for each in ("memory", "time"))
    memory = request.memory_mb * more
    if seen_mb:  # less than it had, where the kernel ended it or a sample came before the peak
        memory = _up(max(request.memory_mb, seen_mb) * _SEEN_ROOM, STEP_MB)
    return replace(request, memory_mb=memory, minutes=request.minutes * longer)


def program_gib(request: Request) -> float:
    """What the program is told it may use (GiB), less than the job has: see `job_mb`.

    Memory for the program (GiB), rounded down to hundredths.
    """
    told = request.memory_mb / 1024 * _PROGRAM_SHARE
    told -= _SHARED_GIB * request.cpus * request.resident
    return math.floor(told * 100) / 100


def job_mb(program: float, workers: int) -> int:
    """What a job asks for (MiB) whose program may use so much (GiB) with a process a processor.

    It is enough for accounting that adds up the resident memory of all processes, too.
    """
    return math.ceil((program + _SHARED_GIB * workers) * 1024 / _PROGRAM_SHARE)


def signal_seconds(request: Request) -> int:
    """How long before its time limit a job is told to stop; the program needs some ten seconds."""
    return max(30, min(300, request.minutes * 60 // 20))


def minutes_of(text: str) -> int:
    """Read a SLURM time, with seconds rounded up to minutes; raises `UsageError` if it is none.

    `text`: time in one of SLURM's forms; a number alone is minutes.

    >>> [minutes_of(text) for text in ("90", "90:30", "1:30:00", "1-12", "1-12:30")]
    [90, 91, 90, 2160, 2190]
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"--time {text}",
            "the time limit is not in a valid format",
            "write minutes, hours:minutes:seconds or days-hours",
        )
    first, second, third = (int(match[name] or 0) for name in "abc")
    if match["d"] is not None:
        seconds = int(match["d"]) * 86400 + first * 3600 + second * 60 + third
    elif match["c"] is not None:
        seconds = first * 3600 + second * 60 + third
    else:
        seconds = first * 60 + second
    if seconds == 0:
        raise UsageError(
            f"--time {text}",
            "the time limit must be greater than 0",
            "specify the time in minutes, or omit the option",
        )
    return math.ceil(seconds / 60)


def time_text(minutes: int) -> str:
    """Return minutes as SLURM takes them: ``D-HH:MM:00``."""
    days, rest = divmod(minutes, 1440)
    return f"{days}-{rest // 60:02d}:{rest % 60:02d}:00"


def _up(value: float, step: int) -> int:
    return math.ceil(value / step) * step
