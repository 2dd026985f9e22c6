"""Records of submissions to SLURM, one JSON file each.

The file is ``logs/slurm/<id>/submission.json`` below the output directory.
"""

import json
import secrets
import time
from collections.abc import Iterable
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

from bids_sr.config import UsageError, section
from bids_sr.config.section import Checked, option
from bids_sr.frozen import frozen
from bids_sr.io.atomic_files import write_whole

_FORMAT = 2
GROUP = "group"


@frozen
class Request(Checked):
    """What a job asks for: processors, memory (MiB), time (minutes), GPUs.

    `gpus`: number of GPUs; 0 for none.
    """

    cpus: int
    memory_mb: int
    minutes: int
    gpus: int = 0


@frozen
class Site(Checked):
    """Where and how jobs run; an empty text is the site's own."""

    partition: str = option("", "--partition NAME", "partition (default: the site's)")
    account: str = option("", "--account NAME", "account (default: the site's)")
    qos: str = option("", "--qos NAME", "qos (default: the site's)")
    container: str = option(
        "",
        "--container IMAGE",
        "apptainer or singularity image to run instead of the installed program",
    )
    setup: str = option(
        "",
        "--setup FILE",
        "shell commands that each job runs first, such as module load; bids-sr is then found by"
        " PATH",
        type=section.folder,
    )
    requeues: int = option(
        3, "--requeues N", "how often a task that reaches its time limit is requeued", least=0
    )
    program: str = option("bids-sr", help="the command as installed, where there is no container")
    binds: tuple[str, ...] = option(
        (), help="directories and files outside data, output and work that a container sees"
    )

    @property
    def asked(self) -> dict[str, str]:
        """What is handed to SLURM as it was given, by the names of its options."""
        named = {"partition": self.partition, "account": self.account, "qos": self.qos}
        return {name: value for name, value in named.items() if value}


@frozen
class Job(Checked):
    """An array of tasks with the same request; or the group level, one task without an array.

    `at_once`: how many may run at the same time (0: as many as SLURM lets). `number`: that SLURM
    gave; empty: not submitted.
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

    `id`: time of submission and a random part; the name of its folder. `printed`: scripts were
    written for someone else to submit.
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
    """A name for a submission; later ones sort behind earlier ones.

    Time to the second and six random hexadecimal digits.
    """
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"


def load(path: Path) -> Submission:
    """Read what `Submission.save` wrote.

    Raises `UsageError` where it cannot be read, or another version wrote it.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values.pop("format")
        if version == 1:
            values = _from_first_format(values)
        elif version != _FORMAT:
            raise ValueError("another version of bids-sr wrote it")
        return Submission(**values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        fix = (
            "use the version that submitted, or move the folder away; the jobs themselves are seen"
            " with squeue"
        )
        raise UsageError(f"{path} cannot be read", str(error), fix) from error


def _from_first_format(values: dict[str, Any]) -> dict[str, Any]:
    """A record of an earlier version: arrays, and a group job in fields of its own."""
    arrays, request, number = (values.pop(n) for n in ("arrays", "group_request", "group_job"))
    jobs = [{"number": array.pop("job"), **array} for array in arrays]
    if request is not None:
        jobs.append({**asdict(group_job(Request(**request))), "number": number})
    return {**values, "jobs": jobs}


def submissions(output_dir: Path) -> list[Submission]:
    """Return all submissions of an output, oldest first.

    Raises `UsageError` where there is none, or one cannot be read.
    """
    return [load(path) for path in sorted(_slurm_dir(output_dir).glob("*/submission.json"))]


def latest(found: Iterable[Submission]) -> dict[str, Submission]:
    """Participant → the last submission that works on them, in the order of their names."""
    last = {label: submission for submission in found for label in submission.participants}
    return dict(sorted(last.items()))
