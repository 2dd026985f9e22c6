"""What a call of ``bids-sr-slurm`` submits: participants that are neither done nor in the queue.

A task records a participant as done in ``logs/slurm/done`` of the output directory. Each
submission has a folder ``logs/slurm/<id>`` with its scripts, settings and logs; jobs in the queue
are recognized by the name of this folder.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bids_sr.engine.slurm.commands import list_active_jobs
from bids_sr.engine.slurm.job_requests import Request
from bids_sr.io.atomic_files import read_json
from bids_sr.io.frozen import frozen

GROUP = "group"
TASK_LIST = "participants.txt"
"""File with the participants of each task, one line per task."""
_NAME_PREFIX = "bids-sr-"


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
    (``sub-01``), starting with task 1; () without an array. `digests` contains the digest of data
    and settings by participant and ``group``, see `read_done`. `request` contains the resources of
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
    digests: Mapping[str, str]
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
        return f"{_NAME_PREFIX}{self.id}"


def make_id() -> str:
    """Return a unique name of a submission; names sort by time."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"


def divide_into_tasks(labels: Sequence[str], batch: int) -> tuple[tuple[str, ...], ...]:
    """Divide participants into tasks of `batch` participants each, in their order."""
    return tuple(tuple(labels[start : start + batch]) for start in range(0, len(labels), batch))


def read_done(output_dir: Path) -> dict[str, str]:
    """Return the digest of data and settings of each participant (and ``group``) that is done."""
    records = sorted(_find_done_dir(output_dir).glob("*.json"))
    return {path.stem: str(read_json(path).get("digest", "")) for path in records}


def _find_done_dir(output_dir: Path) -> Path:
    """Return the folder with the records of participants that are done."""
    return _find_slurm_dir(output_dir) / "done"


@frozen
class ActiveJobs:
    """Pending and running jobs of an output.

    `digests` contains the digest of data and settings by participant, by the number of the array,
    see `read_done`. `group_jobs` are the numbers of group jobs.
    """

    digests: Mapping[str, Mapping[str, str]]
    group_jobs: tuple[str, ...]

    @property
    def labels(self) -> set[str]:
        """All participants with a pending or running task."""
        return {label for digests in self.digests.values() for label in digests}


def find_active(output_dir: Path) -> ActiveJobs:
    """Query the queue for the jobs of all submissions of an output.

    Raises `SlurmError` if SLURM does not answer.
    """
    folders = {
        f"{_NAME_PREFIX}{path.parent.name}": path.parent
        for path in sorted(_find_slurm_dir(output_dir).glob("*/settings.toml"))
    }
    digests_by_array: dict[str, dict[str, str]] = {}
    group_jobs = []
    for name, job in list_active_jobs(list(folders)) if folders else ():
        number, _, task = job.partition("_")
        if task:
            lines = (folders[name] / TASK_LIST).read_text(encoding="utf-8").splitlines()
            entries = dict(entry.split(":") for entry in lines[int(task) - 1].split())
            digests_by_array.setdefault(number, {}).update(entries)
        else:
            group_jobs.append(number)
    return ActiveJobs(digests=digests_by_array, group_jobs=tuple(group_jobs))


def _find_slurm_dir(output_dir: Path) -> Path:
    """Return the folder of all submissions of an output."""
    return output_dir / "logs" / "slurm"
