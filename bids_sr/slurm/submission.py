"""Contents of a submission: an array of participants, the group job, and their resources."""

import secrets
import time
from pathlib import Path

from bids_sr.config import readers
from bids_sr.config.section import OptionSection, option
from bids_sr.frozen import frozen

GROUP = "group"


@frozen
class Request:
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

    @property
    def sbatch_options(self) -> dict[str, str]:
        """Options that are passed to SLURM unchanged, by name."""
        options = {"partition": self.partition, "account": self.account, "qos": self.qos}
        return {name: value for name, value in options.items() if value}


@frozen
class ArrayJob:
    """Array with one request for all tasks.

    `tasks` contains the participants of each task (``sub-01``), starting with task 1. `at_most` is
    the limit of simultaneous tasks; None is the limit of SLURM.
    """

    tasks: tuple[tuple[str, ...], ...]
    request: Request
    at_most: int | None = None

    @property
    def participants(self) -> tuple[str, ...]:
        """Participants of all tasks."""
        return tuple(name for task in self.tasks for name in task)


@frozen
class Submission:
    """Jobs that one call submits.

    Attributes
    ----------
    id : str
        Time of submission and a random part; also the name of the submission's directory.
    bids_dir, output_dir, work_dir : Path
        Absolute paths of the data, output and working directories.
    site : Site
        Site-specific settings.
    program : str
        Name or path of the installed command, which is used without a container.
    binds : tuple[str, ...]
        Further files and directories that a container needs.
    settings_toml : str
        Settings of the program for all jobs.
    digests : tuple[str, str]
        Settings in the records of participants and of the group level, see
        `bids_sr.slurm.records.compute_digests`.
    array : ArrayJob | None
        Participants to process; None for none.
    group : Request | None
        Request of the group job; None for no group job.
    """

    id: str
    bids_dir: Path
    output_dir: Path
    work_dir: Path
    site: Site
    program: str = "bids-sr"
    binds: tuple[str, ...] = ()
    settings_toml: str
    digests: tuple[str, str]
    array: ArrayJob | None
    group: Request | None

    @property
    def is_empty(self) -> bool:
        """Whether there are no jobs."""
        return self.array is None and self.group is None

    @property
    def folder(self) -> Path:
        """Directory with scripts, logs and settings of this submission."""
        return find_slurm_dir(self.output_dir) / self.id

    @property
    def job_name(self) -> str:
        """Name of all jobs of the submission in the queue."""
        return make_job_name(self.id)


def find_slurm_dir(output_dir: Path) -> Path:
    """Return the directory of all submissions of an output, and of the records."""
    return output_dir / "logs" / "slurm"


def make_job_name(submission_id: str) -> str:
    """Return the name in the queue of all jobs of a submission."""
    return f"bids-sr-{submission_id}"


def make_id() -> str:
    """Return a unique name of a submission; names sort by time."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
