"""Participants of an output that need no new job: done, or pending or running in SLURM.

A task writes a record when its participant is done, which contains a digest of the settings, so
that a participant is processed again with other settings. Jobs in the queue are found by the
names of the submissions in ``logs/slurm`` of the output.
"""

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path

from bids_sr.config import Settings
from bids_sr.config.section import get_option
from bids_sr.config.settings import analysis_digest
from bids_sr.frozen import frozen
from bids_sr.slurm import commands
from bids_sr.slurm.submission import GROUP, find_slurm_dir, make_job_name

_WITHOUT_EFFECT = frozenset(
    {
        "paths.work_dir",
        "selection.participant_label",
        "selection.bids_database_dir",
        "selection.skip_bids_validation",
        "resources.nprocs",
        "resources.omp_nthreads",
        "resources.mem_gb",
        "resources.device",
        "run.stop_on_first_crash",
        "run.verbosity",
    }
)
"""Settings of the machine and the selection, which do not change the files of a participant."""


@frozen
class OpenJob:
    """Pending or running task, or a pending or running group job.

    Attributes
    ----------
    number : str
        Number in SLURM (``12_3`` for a task).
    names : tuple[str, ...]
        Participants of the task (``sub-01``), or ``group``.
    digests : tuple[str, str]
        Settings of the job, see `compute_digests`.
    """

    number: str
    names: tuple[str, ...]
    digests: tuple[str, str]

    @property
    def is_group(self) -> bool:
        """Whether the job is a group job."""
        return self.names == (GROUP,)


def compute_digests(settings: Settings) -> tuple[str, str]:
    """Return digests of the settings for the records of a participant and of the group level.

    They cover all settings that change the output files, including the selection of runs. Only the
    digest of the group level depends on the selected participants.
    """
    values = [
        f"{group.name}.{item.name} = {getattr(getattr(settings, group.name), item.name)!r}"
        for group in dataclasses.fields(settings)
        for item in dataclasses.fields(getattr(settings, group.name))
        if f"{group.name}.{item.name}" not in _WITHOUT_EFFECT and not get_option(item).per_call
    ]
    labels = sorted(settings.selection.participant_label)
    # files such as models are represented by their content only in the digest of the analysis
    contents = analysis_digest(settings)
    return _compute_digest(contents, *values), _compute_digest(contents, *values, *labels)


def _compute_digest(*texts: str) -> str:
    """Return hexadecimal digits that are equal for equal texts."""
    return hashlib.sha256("\n".join(texts).encode("utf-8")).hexdigest()[:12]


def find_records_dir(output_dir: Path) -> Path:
    """Return the directory of the records."""
    return find_slurm_dir(output_dir) / "done"


def is_done(output_dir: Path, name: str, digest: str) -> bool:
    """Return whether a participant (``sub-01``) or ``group`` is done with the same settings.

    A participant whose directory was deleted is not done.
    """
    try:
        record = (find_records_dir(output_dir) / name).read_text(encoding="utf-8")
    except OSError:
        return False
    return record.strip() == digest and (name == GROUP or (output_dir / name).exists())


def find_open_jobs(output_dir: Path) -> list[OpenJob]:
    """Return the pending and running jobs of an output.

    A task writes its record before it leaves the queue. Records must therefore be read *after*
    this function was called, so that no finished task is submitted again.

    Raises
    ------
    SlurmError
        SLURM does not answer.
    UsageError
        The settings of an active submission cannot be read.
    """
    folders = {
        make_job_name(file.parent.name): file.parent
        for file in find_slurm_dir(output_dir).glob("*/settings.toml")
    }
    numbers_by_folder: dict[Path, list[str]] = {}
    for number, name in commands.list_open_jobs(sorted(folders)).items():
        numbers_by_folder.setdefault(folders[name], []).append(number)
    return [
        job
        for folder, numbers in sorted(numbers_by_folder.items())
        for job in _read_jobs(folder, numbers)
    ]


def _read_jobs(folder: Path, numbers: Iterable[str]) -> list[OpenJob]:
    """Return the jobs of a submission with these numbers."""
    digests = compute_digests(Settings.from_toml(folder / "settings.toml"))
    tasks = (folder / "participants.txt").read_text(encoding="utf-8").splitlines()
    jobs = []
    for number in numbers:
        _, _, task = number.partition("_")
        names = tuple(tasks[int(task) - 1].split()) if task else (GROUP,)
        jobs.append(OpenJob(number=number, names=names, digests=digests))
    return jobs
