"""Records of submissions to SLURM.

Each record is a file ``logs/slurm/<id>/submission.json`` in the output directory.
"""

import json
import secrets
import time
from collections.abc import Iterable
from dataclasses import asdict, field
from pathlib import Path

from bids_sr.config import UsageError, readers
from bids_sr.config.section import OptionSection, option
from bids_sr.frozen import frozen
from bids_sr.io.atomic_files import write_text

_FORMAT = 2
GROUP = "group"


@frozen
class Request(OptionSection):
    """Resources of a job.

    Attributes
    ----------
    cpus : int
        Number of processors.
    memory_mb : int
        Memory (MiB).
    minutes : int
        Time limit (min).
    gpus : int
        Number of GPUs.
    resident : bool
        Whether shared memory is counted for each process.
    """

    cpus: int
    memory_mb: int
    minutes: int
    gpus: int = 0
    resident: bool = True


@frozen
class Site(OptionSection):
    """Site-specific settings of jobs; an empty text is the default of the site."""

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
        type=readers.check_folder,
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
    def sbatch_options(self) -> dict[str, str]:
        """Options that are passed to SLURM unchanged, by name."""
        options = {"partition": self.partition, "account": self.account, "qos": self.qos}
        return {name: value for name, value in options.items() if value}


@frozen
class ArrayJob(OptionSection):
    """Array of tasks with the same request, or the group level with one task and without an array.

    Attributes
    ----------
    name : str
        Name of the array, or ``group``.
    tasks : tuple[tuple[str, ...], ...]
        Participants of each task (``sub-01``), starting with task 1.
    indices : tuple[int, ...]
        Numbers of the selected tasks, from 1.
    request : Request
        Resources of each task.
    at_once : int
        Limit of simultaneous tasks; 0 for the limit of SLURM.
    number : str
        Job number in SLURM; empty if not submitted.
    """

    name: str
    tasks: tuple[tuple[str, ...], ...]
    indices: tuple[int, ...]
    request: Request
    at_once: int = 0
    number: str = ""

    @property
    def is_group(self) -> bool:
        """Whether the job is the group level."""
        return self.name == GROUP

    @property
    def task_of(self) -> dict[str, int]:
        """Task number of each participant in the selected tasks."""
        return {label: index for index in self.indices for label in self.tasks[index - 1]}

    def find_number(self, label: str) -> str:
        """Return the SLURM number of a participant's task (``12_3``), or "" if not submitted."""
        task = "" if self.is_group or not self.number else f"_{self.task_of[label]}"
        return f"{self.number}{task}"

    def log_name(self, task: object) -> str:
        """Return the file name of the log of a task."""
        return f"{self.name}.log" if self.is_group else f"{self.name}_{task}.log"


def make_group_job(request: Request) -> ArrayJob:
    """Return the job of the group level."""
    return ArrayJob(name=GROUP, tasks=((GROUP,),), indices=(1,), request=request)


@frozen
class Submission(OptionSection):
    """Arrays that were submitted together, followed by a group job.

    Attributes
    ----------
    id : str
        Time of submission and a random part; also the name of the submission's directory.
    bids_dir, output_dir, work_dir : Path
        Absolute paths of the data, output and working directories.
    jobs : tuple[ArrayJob, ...]
        Arrays, and the group level at the end.
    site : Site
        Site-specific settings.
    printed : bool
        Whether the scripts were written for another user to submit.
    """

    id: str
    bids_dir: Path
    output_dir: Path
    work_dir: Path
    jobs: tuple[ArrayJob, ...]
    site: Site = field(default_factory=Site)
    printed: bool = False

    @property
    def arrays(self) -> tuple[ArrayJob, ...]:
        """Arrays of participants."""
        return tuple(job for job in self.jobs if not job.is_group)

    @property
    def group(self) -> ArrayJob | None:
        """Job of the group level, or None."""
        return next((job for job in self.jobs if job.is_group), None)

    @property
    def folder(self) -> Path:
        """Directory with scripts, logs, status files and settings of this submission."""
        return _find_slurm_dir(self.output_dir) / self.id

    @property
    def job_name(self) -> str:
        """Name of all jobs of the submission in the queue."""
        return f"bids-sr-{self.id}"

    @property
    def participants(self) -> tuple[str, ...]:
        """Participants of the selected tasks."""
        return tuple(label for array in self.arrays for label in array.task_of)

    def save(self) -> Path:
        """Write the record of the submission atomically."""
        values = {"format": _FORMAT, **asdict(self)}
        text = json.dumps(values, indent=1, default=str, ensure_ascii=False)
        return write_text(self.folder / "submission.json", text + "\n")


def _find_slurm_dir(output_dir: Path) -> Path:
    """Return the directory of all submissions of an output."""
    return output_dir / "logs" / "slurm"


def make_id() -> str:
    """Return a unique name of a submission; names sort by time."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"


def load(path: Path) -> Submission:
    """Read a record written by `Submission.save`.

    Raises
    ------
    UsageError
        The file cannot be read or was written by another version.
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

    Raises
    ------
    UsageError
        A record cannot be read.
    """
    return [load(path) for path in sorted(_find_slurm_dir(output_dir).glob("*/submission.json"))]


def latest_submissions(submissions: Iterable[Submission]) -> dict[str, Submission]:
    """Return the last submission of each participant, sorted by participant."""
    submission_of = {
        label: submission for submission in submissions for label in submission.participants
    }
    return dict(sorted(submission_of.items()))
