"""Records of submissions to SLURM, one JSON file each.

The file is ``logs/slurm/<id>/submission.json`` below the output directory.

SLURM requests (memory, time, with headroom) and array tasks.

Arrays are written as ``--array 1-10`` or ``1-20:2%4``.
"""

import json
import math
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, field, replace
from pathlib import Path

from bids_sr.config import UsageError, section
from bids_sr.config.machine import SHARED_GB
from bids_sr.config.section import Checked, option
from bids_sr.frozen import frozen
from bids_sr.io.atomic_files import write_whole

_FORMAT = 2
GROUP = "group"


@frozen
class Request(Checked):
    """What a job asks for: processors, memory (MiB), time (minutes), GPUs.

    `gpus`: number of GPUs; 0 for none. `resident`: whether what processes share counts for each.
    """

    cpus: int
    memory_mb: int
    minutes: int
    gpus: int = 0
    resident: bool = True


@frozen
class Site(Checked):
    """Where and how jobs run; an empty text is the site's own."""

    partition: str = option(
        "", "--partition NAME", "SLURM partition (default: the default partition of the cluster)"
    )
    account: str = option(
        "", "--account NAME", "SLURM account (default: the default account of the cluster)"
    )
    qos: str = option(
        "", "--qos NAME", "SLURM quality of service (default: the default of the cluster)"
    )
    container: str = option(
        "",
        "--container IMAGE",
        "Apptainer or Singularity image to use instead of the installed program",
    )
    setup: str = option(
        "",
        "--setup FILE",
        "file with shell commands to run at the start of each job, such as module load. After"
        " these commands, bids-sr must be on the PATH",
        type=section.folder,
    )
    requeues: int = option(
        3,
        "--requeues N",
        "maximum number of times that a job is requeued after reaching its time limit",
        least=0,
    )
    program: str = option(
        "bids-sr",
        help="name or path of the installed command, used if no container is specified",
    )
    binds: tuple[str, ...] = option(
        (),
        help="additional directories and files to mount in the container, besides the data,"
        " output and working directories",
    )

    @property
    def asked(self) -> dict[str, str]:
        """What is handed to SLURM as it was given, by the names of its options."""
        named = {"partition": self.partition, "account": self.account, "qos": self.qos}
        return {name: value for name, value in named.items() if value}


@frozen
class Job(Checked):
    """An array of tasks with the same request; or the group level, one task without an array.

    `tasks`: participants of each task (``sub-01``), task 1 first. `indices`: those that were asked
    for, from 1. `at_once`: how many may run at the same time (0: as many as SLURM lets). `number`:
    that SLURM gave; empty: not submitted.
    """

    name: str
    tasks: tuple[tuple[str, ...], ...]
    indices: tuple[int, ...]
    request: Request
    at_once: int = 0
    number: str = ""

    @property
    def is_group(self) -> bool:
        """Whether it is that of the group level."""
        return self.name == GROUP

    @property
    def task_of(self) -> dict[str, int]:
        """Participant → task, of the tasks that were asked for."""
        return {label: index for index in self.indices for label in self.tasks[index - 1]}

    def number_of(self, label: str) -> str:
        """The number of a participant's task in SLURM (``12_3``); empty: not submitted."""
        task = "" if self.is_group or not self.number else f"_{self.task_of[label]}"
        return f"{self.number}{task}"

    def log_name(self, task: object) -> str:
        """The name of the log of a task."""
        return f"{self.name}.log" if self.is_group else f"{self.name}_{task}.log"


def group_job(request: Request) -> Job:
    """The job of the group level."""
    return Job(name=GROUP, tasks=((GROUP,),), indices=(1,), request=request)


@frozen
class Submission(Checked):
    """Arrays that were submitted together, and the group job behind them.

    `id`: time of submission and a random part; the name of its folder. Directories are absolute.
    `jobs`: the group level's last. `printed`: scripts were written for someone else to submit.
    """

    id: str
    bids_dir: Path
    output_dir: Path
    work_dir: Path
    jobs: tuple[Job, ...]
    site: Site = field(default_factory=Site)
    printed: bool = False

    @property
    def arrays(self) -> tuple[Job, ...]:
        """Those of participants."""
        return tuple(job for job in self.jobs if not job.is_group)

    @property
    def group(self) -> Job | None:
        """That of the group level, None where there is none."""
        return next((job for job in self.jobs if job.is_group), None)

    @property
    def folder(self) -> Path:
        """Scripts, logs, status files and settings of this submission."""
        return _slurm_dir(self.output_dir) / self.id

    @property
    def job_name(self) -> str:
        """Name of all its jobs, by which they are found in the queue."""
        return f"bids-sr-{self.id}"

    @property
    def participants(self) -> tuple[str, ...]:
        """Everyone in its tasks."""
        return tuple(label for array in self.arrays for label in array.task_of)

    def save(self) -> Path:
        """Write it to its folder, in whole."""
        values = {"format": _FORMAT, **asdict(self)}
        text = json.dumps(values, indent=1, default=str, ensure_ascii=False)
        return write_whole(self.folder / "submission.json", text + "\n")


def _slurm_dir(output_dir: Path) -> Path:
    """Where all submissions of an output are kept."""
    return output_dir / "logs" / "slurm"


def new_id() -> str:
    """A name for a submission; later ones sort behind earlier ones."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"


def load(path: Path) -> Submission:
    """Read what `Submission.save` wrote.

    Raises `UsageError` where it cannot be read, or another version wrote it.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") != _FORMAT:
            raise ValueError("the file was written by another version of bids-sr")
        return Submission(**values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        fix = (
            "use the version of bids-sr that submitted the jobs, or move the directory away. To"
            " see the jobs, use squeue"
        )
        raise UsageError(f"{path} cannot be read", str(error), fix) from error


def submissions(output_dir: Path) -> list[Submission]:
    """Return all submissions of an output, oldest first.

    Raises `UsageError` where one cannot be read.
    """
    return [load(path) for path in sorted(_slurm_dir(output_dir).glob("*/submission.json"))]


def latest(submissions: Iterable[Submission]) -> dict[str, Submission]:
    """Participant → the last submission that works on them, in the order of their names."""
    last = {label: submission for submission in submissions for label in submission.participants}
    return dict(sorted(last.items()))


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
_PART = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")
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


def choose(spec: str, tasks: int) -> tuple[tuple[int, ...], int]:
    """Read ``--array`` for an array of a given number of tasks.

    Returns the chosen tasks (all if it is empty) and how many run at once.

    Raises `UsageError` for what cannot be read, or names tasks that there are not.

    `spec`: tasks and ranges, such as ``1-20:2%4``; empty for all.
    """
    ranges, percent, limit = spec.replace(" ", "").partition("%")
    if percent and not (limit.isascii() and limit.isdigit() and int(limit)):
        raise _unreadable(spec, f"{limit!r} is not a valid number of simultaneous tasks")
    indices: set[int] = set()
    for part in ranges.split(",") if ranges else ():
        match = _PART.fullmatch(part) if part.isascii() else None
        if match is None:
            raise _unreadable(
                spec, f"{part!r} is neither a task number nor a range of task numbers"
            )
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if first < 1 or last > tasks or first > last or step < 1:
            raise _unreadable(spec, f"{part!r} is outside the range of task numbers, 1 to {tasks}")
        indices.update(range(first, last + 1, step))
    return tuple(sorted(indices or range(1, tasks + 1))), int(limit or 0)


def _unreadable(spec: str, why: str) -> UsageError:
    return UsageError(
        f"--array {spec}",
        why,
        (
            "write 1-10, or 3,5, or 1-20:2. To limit the number of simultaneous tasks to 4,"
            " append %4"
        ),
    )


def as_spec(indices: Sequence[int], at_once: int = 0) -> str:
    """Ascending tasks as SLURM takes them, runs of neighbors joined.

    `at_once`: how many may run at the same time; 0 for no limit.
    """
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    text = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
    return f"{text}%{at_once}" if at_once else text


def in_tasks(labels: Sequence[str], batch: int) -> tuple[tuple[str, ...], ...]:
    """Return participants in tasks of `batch` each, at least 1, in their order."""
    return tuple(tuple(labels[at : at + batch]) for at in range(0, len(labels), batch))
