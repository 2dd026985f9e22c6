"""Locks against simultaneous runs of a participant in the same output or working directory.

In both directories, a run holds a lease of the library filelock, next to a record of the run and
its participants. The lease is valid while its holder updates it. It expires at once if its
process on the same machine was killed, and otherwise `_LEASE_S` seconds after the last update,
measured without comparing clocks. A lease per participant would need two threads and two open
files per participant: 500 participants reach the common limit of 1024 open files.

A run that has lost its lease interrupts itself, because another run may already process its
participants: after its machine was suspended, after its lease was deleted, or if the file system
could not be written for almost `_LEASE_S` seconds.
"""

import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.io.atomic_files import read_json, write_json
from bids_sr.io.frozen import frozen
from bids_sr.io.notices import UsageError

if TYPE_CHECKING:
    from filelock import LeaseCompromise, SoftFileLease

_LOGGER = logging.getLogger(__name__)
_BEAT_S = 2.0  # interval at which the holder of a lease updates it
_LEASE_S = 17.5  # after this time without an update, the holder has stopped; equal in all runs
_START_S = 120.0  # longest wait until other runs have recorded their start
_FOLDER = "locks"


@frozen
class _Run:
    """Process of bids-sr, with the `names` that it processes: ``sub-…`` or ``group``.

    `run` is its identifier, the name of the log directory. `began` is a text for users.
    """

    run: str
    host: str
    pid: int
    began: str
    names: Sequence[str]

    def __str__(self) -> str:
        return f"run {self.run} on {self.host}, process {self.pid}, since {self.began}"


@contextlib.contextmanager
def output_lock(
    output_dir: Path, work_dir: Path | None, *, participants: Sequence[str] | None, run_uuid: str
) -> Iterator[None]:
    """Hold the locks of all participants in both directories within the context.

    `work_dir` is the directory of intermediate files; None locks only the output directory.
    `participants` is None for the lock of the group level. `run_uuid` is the unique identifier of
    the run. Raises `UsageError` if another run holds one of the locks; the message names the run
    and a remedy. No locks are left behind.
    """
    folders = [output_dir / "logs" / _FOLDER]
    if work_dir is not None:
        folders.append(work_dir / _FOLDER)
    new_folders = {
        parent for folder in folders for parent in folder.parents if not parent.exists()
    }
    deepest_first = sorted(new_folders, key=lambda path: len(path.parts), reverse=True)
    run = _Run(
        run=run_uuid,
        host=socket.gethostname(),
        pid=os.getpid(),
        began=time.strftime("%Y-%m-%d %H:%M:%S"),
        names=["group"] if participants is None else [f"sub-{label}" for label in participants],
    )
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_empty, (*folders, *deepest_first))
        try:
            _start(folders, run, stack)
        except TimeoutError as error:
            raise UsageError(
                f"too many runs start at the same time in {output_dir}",
                f"Other runs have been starting for {_START_S:g} s.",
                "run the command again",
            ) from error
        except OSError as error:
            raise UsageError(
                f"cannot write to {' or '.join(map(str, folders))}",
                str(error),
                "choose a writable directory",
            ) from error
        yield


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove the folders that are empty."""
    for folder in folders:
        with contextlib.suppress(OSError):  # in use, or not empty
            folder.rmdir()


def _start(folders: Sequence[Path], run: _Run, stack: contextlib.ExitStack) -> None:
    """Lease all folders and record the run there, until the end of the context.

    Raises `UsageError` if another run with a common name is running.
    """
    # Stopped runs on other machines take `_LEASE_S` to find, and must not delay other starts.
    _take_over(folders, run)
    with contextlib.ExitStack() as start:  # simultaneous runs start one after the other
        for folder in folders:
            start.enter_context(_acquire_start(folder))
        _take_over(folders, run)
        for folder in folders:
            lease, record = (folder / f"{run.run}{suffix}" for suffix in (".lease", ".json"))
            stack.enter_context(_make_lease(lease).acquire(blocking=False))
            stack.callback(record.unlink, missing_ok=True)
            write_json(record, asdict(run))


def _take_over(folders: Sequence[Path], run: _Run) -> None:
    """Remove the records of stopped runs with a common name.

    Raises `UsageError` if such a run is running.
    """
    others = {
        lease: other
        for folder in folders
        for lease, other in _read_runs(folder).items()
        if {*other.names} & {*run.names}
    }
    if running := _select_running(others):
        raise _make_lock_error(running, run.names)
    for lease, other in others.items():
        _LOGGER.warning(
            "%s: taking over the lock of %s, which is no longer running.", lease, other
        )


def _make_lock_error(runs: Mapping[Path, _Run], names: Sequence[str]) -> UsageError:
    """Return the error that other runs process some of the names, with a remedy."""
    common_names = [name for name in names if any(name in run.names for run in runs.values())]
    leases = "; ".join(f"{lease}: {run}" for lease, run in runs.items())
    return UsageError(
        f"another run is working on {', '.join(common_names)}",
        f"Two simultaneous runs would write to the same files. {leases}",
        "wait until the other run has finished, or stop it, and then run the command"
        " again. Other participants can be processed at the same time with"
        " --participant-label. If you are sure that the other run is no longer running,"
        " delete the lock file named above",
    )


def _acquire_start(folder: Path) -> contextlib.AbstractContextManager[object]:
    """Wait until no other run is starting in this folder, and let others wait in the context."""
    while True:
        # fails if another run has just removed the empty directory
        with contextlib.suppress(FileNotFoundError):
            return _make_lease(folder / "start.lease").acquire(timeout=_START_S)


def find_running(output_dir: Path) -> dict[str, str]:
    """Return the runs that are working on an output directory, by ``sub-…`` or ``group``.

    It takes `_BEAT_S` seconds if there are such runs, and `_LEASE_S` seconds if there are records
    of stopped runs on other machines.
    """
    running = _select_running(_read_runs(output_dir / "logs" / _FOLDER))
    return {name: str(run) for run in running.values() for name in run.names}


def _select_running(runs: Mapping[Path, _Run]) -> dict[Path, _Run]:
    """Return the runs that are still running, and remove the records of the others."""
    if not runs:
        return {}
    with ThreadPoolExecutor(len(runs)) as watchers:
        is_running = watchers.map(_is_running, runs)
        return {
            lease: runs[lease] for lease, running in zip(runs, is_running, strict=True) if running
        }


def _is_running(path: Path) -> bool:
    """Return whether a run updates its lease; remove its record if it has stopped.

    In a directory that is not writable, the record remains.
    """
    deadline = time.monotonic() + _LEASE_S
    first_inode, first_beat = _read_beat(path)

    def has_beaten() -> bool:
        inode, beat = _read_beat(path)
        return inode == first_inode and beat != first_beat

    try:
        with _make_lease(path).acquire(
            timeout=_LEASE_S + _BEAT_S, poll_interval=_BEAT_S / 20, cancel_check=has_beaten
        ):
            path.with_suffix(".json").unlink(missing_ok=True)
            return False
    except OSError:  # another process holds the lease, or the directory is not writable
        while path.exists() and not has_beaten() and time.monotonic() < deadline:
            time.sleep(_BEAT_S / 20)
        return has_beaten()


def _read_beat(path: Path) -> tuple[int, int]:
    """Return the inode and the time stamp of a lease; zeros if it is missing.

    The file is opened, because network file systems otherwise return cached values.
    """
    try:
        with path.open("rb") as stream:
            status = os.fstat(stream.fileno())
    except FileNotFoundError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns


def _make_lease(path: Path) -> "SoftFileLease":
    """Return a lease that is not held yet."""
    from filelock import SoftFileLease

    return SoftFileLease(
        path,
        lease_duration=_LEASE_S,
        heartbeat_interval=_BEAT_S,
        on_compromise=_stop_this_run,
        thread_local=False,
    )


def _stop_this_run(loss: "LeaseCompromise") -> None:
    """Interrupt this process after the loss of its lease; called by the thread of the lease."""
    _LOGGER.error(
        "%s: this run has lost its lock (%s), so it stops. Run the command again to resume.",
        loss.lock_file,
        loss.reason,
    )
    os.kill(os.getpid(), signal.SIGTERM)


def _read_runs(folder: Path) -> dict[Path, _Run]:
    """Return the recorded runs, which may have stopped, by their leases."""
    runs = {}
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(TypeError):  # just removed, or damaged
            runs[path.with_suffix(".lease")] = _Run(**read_json(path))
    return runs
