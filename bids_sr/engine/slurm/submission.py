"""What a call of ``bids-sr-slurm`` submits: participants that are not done.

A task records a participant as done in ``logs/slurm/done`` of the output directory. Each
submission has a folder ``logs/slurm/<id>`` with its scripts, settings and logs.
"""

import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from bids_sr.engine.slurm.job_requests import Request
from bids_sr.io.frozen import frozen

GROUP = "group"
TASK_LIST = "participants.txt"
"""File with the participants of each task, one line per task."""


@frozen
class Site:
    """Site-specific options of jobs; an empty text is the default of the site.

    `container` is an image to use instead of the installed program, and `setup` a file with shell
    commands for the start of each job.
    """

    partition: str = ""
    account: str = ""
    qos: str = ""
    container: str = ""
    setup: str = ""

    @property
    def sbatch_options(self) -> dict[str, str]:
        """Options that are passed to SLURM unchanged, by name."""
        options = {"partition": self.partition, "account": self.account, "qos": self.qos}
        return {name: value for name, value in options.items() if value}


@frozen
class Submission:
    """Array of participants, followed by a group job.

    `id` is the time of submission and a random part; it is also the name of the folder of the
    submission. Directories have absolute paths. `tasks` contains the participants of each task
    (``sub-01``), starting with task 1; () without an array. `request` contains the resources of
    each task; None without an array. `training_request` contains the resources of the first task
    if it trains networks that the other tasks share, which then start after it; None if nothing is
    shared. `group_request` contains the resources of the group job; None
    if there is no group job. `program` is the name or path of the installed program. `binds` are
    files and directories to mount in a container, besides data, output and work. `database_dir` is
    the directory of the PyBIDS database; None if there is no database. `at_once` is the limit of
    simultaneous tasks; 0 for the limit of SLURM.
    """

    id: str
    bids_dir: Path
    output_dir: Path
    work_dir: Path
    tasks: tuple[tuple[str, ...], ...]
    request: Request | None
    group_request: Request | None
    training_request: Request | None = None
    site: Site
    program: str = "bids-sr"
    binds: tuple[Path, ...] = ()
    database_dir: Path | None = None
    at_once: int = 0

    @property
    def folder(self) -> Path:
        """Folder with scripts, settings and logs."""
        return _find_slurm_dir(self.output_dir) / self.id

    @property
    def done_dir(self) -> Path:
        """Folder with the records of participants that are done."""
        return _find_done_dir(self.output_dir)

    @property
    def job_name(self) -> str:
        """Name of the jobs in the queue."""
        return f"bids-sr-{self.id}"


def make_id() -> str:
    """Return a unique name of a submission; names sort by time."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"


def divide_into_tasks(labels: Sequence[str], batch: int) -> tuple[tuple[str, ...], ...]:
    """Divide participants into tasks of `batch` participants each, in their order."""
    return tuple(tuple(labels[start : start + batch]) for start in range(0, len(labels), batch))


def read_done(output_dir: Path) -> set[str]:
    """Return the participants (``sub-01``) that are done."""
    return {path.name for path in _find_done_dir(output_dir).glob("sub-*")}


def _find_done_dir(output_dir: Path) -> Path:
    """Return the folder with the records of participants that are done."""
    return _find_slurm_dir(output_dir) / "done"


def _find_slurm_dir(output_dir: Path) -> Path:
    """Return the folder of all submissions of an output."""
    return output_dir / "logs" / "slurm"
