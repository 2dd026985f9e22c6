"""Comparison of the selected participants with records and queue: what remains to be submitted."""

from collections.abc import Sequence
from pathlib import Path

from bids_sr.config import UsageError
from bids_sr.frozen import frozen
from bids_sr.slurm.records import OpenJob, is_done
from bids_sr.slurm.submission import GROUP


@frozen
class Remaining:
    """State of the selected participants (``sub-01``), and of the group level.

    Attributes
    ----------
    done, active, participants : tuple[str, ...]
        Participants that are done, that are pending or running, and all others.
    needs_group : bool
        Whether a group job is required that is neither done nor pending or running.
    replaced_groups : tuple[str, ...]
        Numbers of group jobs that a new group job replaces.
    open_numbers : tuple[str, ...]
        Numbers of the pending and running jobs of the output, without the numbers of tasks.
    """

    done: tuple[str, ...]
    active: tuple[str, ...]
    participants: tuple[str, ...]
    needs_group: bool
    replaced_groups: tuple[str, ...]
    open_numbers: tuple[str, ...]


def find_remaining(
    output_dir: Path,
    names: Sequence[str],
    digests: tuple[str, str],
    open_jobs: Sequence[OpenJob],
) -> Remaining:
    """Return what remains to be submitted for an output.

    Parameters
    ----------
    output_dir : Path
        Output directory with the records.
    names : Sequence[str]
        Selected participants (``sub-01``).
    digests : tuple[str, str]
        Settings of the call, see `bids_sr.slurm.records.compute_digests`.
    open_jobs : Sequence[OpenJob]
        Pending and running jobs, which were read before the records.

    Raises
    ------
    UsageError
        Selected participants are pending or running with other settings.
    """
    job_of = {name: job for job in open_jobs for name in job.names}
    done = tuple(name for name in names if is_done(output_dir, name, digests[0]))
    active = tuple(name for name in names if name in job_of and name not in done)
    _check_settings({name: job_of[name] for name in active}, digests[0])
    participants = tuple(name for name in names if name not in {*done, *active})
    groups = tuple(
        job.number for job in open_jobs if job.is_group and job.digests[1] == digests[1]
    )
    is_current = not active and is_done(output_dir, GROUP, digests[1])
    return Remaining(
        done=done,
        active=active,
        participants=participants,
        needs_group=len(names) > 1 and bool(participants or not (groups or is_current)),
        replaced_groups=groups,
        open_numbers=tuple(dict.fromkeys(job.number.partition("_")[0] for job in open_jobs)),
    )


def _check_settings(active: dict[str, OpenJob], digest: str) -> None:
    """Raise `UsageError` if participants are pending or running with other settings.

    `active`: task of each participant. `digest`: settings of the call.
    """
    other = {name: job.number for name, job in active.items() if job.digests[0] != digest}
    if other:
        names = " ".join(list(other)[:20]) + (
            f" and {len(other) - 20} more" if len(other) > 20 else ""
        )
        jobs = " ".join(dict.fromkeys(number.partition("_")[0] for number in other.values()))
        raise UsageError(
            f"{names}: pending or running with other settings",
            f"the jobs {jobs} would write to the same files",
            f"wait until these jobs have ended, or cancel them with scancel {jobs}, and run the"
            " command again",
        )
