"""Records of submissions to SLURM, one JSON file each.

The file is ``logs/slurm/<id>/submission.json`` below the output directory.
"""

import json
import secrets
import time
from collections.abc import Iterable
from dataclasses import asdict, field
from pathlib import Path

from bids_sr.config import UsageError, readers
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
        type=readers.folder,
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
