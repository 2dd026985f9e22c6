"""Locks against simultaneous runs of a participant in the same output or working directory.

A small file per participant in both directories identifies the lock holder. Whether the holder is
still running is determined without comparing clocks: by its process on the same machine, and
otherwise by watching whether the holder updates the file. A run that has lost its lock, for
example because its machine was suspended, interrupts itself. The library filelock has no such
heartbeat: it relies on ``flock``, which several network file systems of clusters only apply within
a host.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from bids_sr.config.values import UsageError
from bids_sr.frozen import frozen
from bids_sr.io.atomic_files import read_json

_LOGGER = logging.getLogger(__name__)
_BEAT_S = 5.0  # interval at which the holder of a lock updates it
_WATCH_S = 3.5 * _BEAT_S  # after this time without an update, the holder has stopped
_FOLDER = "locks"
_START_FIELD = 18  # start time among the fields behind the state in /proc/PID/stat


@frozen
class _Holder:
    """Run that holds a lock."""

    run: str  # identifier, the name of the log directory
    host: str
    pid: int
    began: str  # as text for users; never compared
    # identifier of the boot and of the process namespace; "" if unknown
    machine: str
    # kernel start time of the process, which distinguishes it from a later process with the same
    # number
    ticks: str

    def __str__(self) -> str:
        return f"run {self.run} on {self.host}, process {self.pid}, since {self.began}"


def _describe_this_process(run: str) -> _Holder:
    """Return this process as a lock holder."""
    return _Holder(
        run=run,
        host=socket.gethostname(),
        pid=os.getpid(),
        began=time.strftime("%Y-%m-%d %H:%M:%S"),
        machine=_identify_machine(),
        ticks=_read_start_ticks(os.getpid()) or "",
    )


def _identify_machine() -> str:
    """Return an identifier of the boot and of the process namespace (containers differ)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _read_start_ticks(pid: int) -> str | None:
    """Return the start time of a process (clock ticks after the boot) as text.

    None is returned if the process does not exist or is a zombie.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # see proc_pid_stat(5); the name of the program, in parentheses, may contain spaces
    state, *fields = text.rpartition(")")[2].split()
    return None if state in ("Z", "X") else fields[_START_FIELD]


def _read_holder(path: Path) -> _Holder | None:
    """Return the holder of a lock; None if the file is missing or unreadable."""
    try:
        return _Holder(**read_json(path))
    except TypeError:
        return None


def _is_running(path: Path, holder: _Holder | None) -> bool:
    """Return whether the holder of a lock is still running.

    It takes `_WATCH_S` seconds to find that a holder on another machine has stopped.
    """
    if holder is not None and holder.machine and holder.machine == _identify_machine():
        return _read_start_ticks(holder.pid) == holder.ticks
    first_beat = _read_heartbeat(path)
    deadline = time.monotonic() + _WATCH_S
    while first_beat is not None and time.monotonic() < deadline:
        time.sleep(min(0.5, _BEAT_S / 10))
        if _read_heartbeat(path) != first_beat:
            return path.exists()
    return False


def _read_heartbeat(path: Path) -> int | None:
    """Return the time stamp of a lock.

    The file is opened, because network file systems otherwise return cached values.
    """
    try:
        with path.open("rb") as stream:
            return os.fstat(stream.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def output_lock(
    output_dir: Path, work_dir: Path | None, *, participants: Sequence[str] | None, run_uuid: str
) -> Iterator[None]:
    """Hold the locks of all participants in both directories within the context.

    `work_dir` is the directory of intermediate files; None locks only the output directory.
    `participants` is None for the lock of the group level. `run_uuid` identifies the run. Raises
    `UsageError` if another run holds one of the locks; the message names the run and a remedy. No
    locks are left behind.
    """
    names = ["group"] if participants is None else [f"sub-{label}" for label in participants]
    folders = [output_dir / "logs" / _FOLDER]
    if work_dir is not None:
        folders.append(work_dir / _FOLDER)
    new_folders = {
        parent for folder in folders for parent in folder.parents if not parent.exists()
    }
    holder = _describe_this_process(run_uuid)
    own_locks: list[Path] = []
    stop_event = threading.Event()
    heartbeat = threading.Thread(
        target=_send_heartbeats, args=(own_locks, holder, stop_event), daemon=True
    )
    try:
        foreign_locks: list[Path] = []
        for path in (folder / f"{name}.lock" for name in names for folder in folders):
            locks = own_locks if _acquire(path, holder) else foreign_locks
            locks.append(path)
        if foreign_locks:
            raise _make_lock_error(foreign_locks)
        heartbeat.start()
        yield
    finally:
        stop_event.set()
        for path in own_locks:
            if _read_holder(path) == holder:
                path.unlink(missing_ok=True)
        deepest_first = sorted(new_folders, key=lambda path: len(path.parts), reverse=True)
        for folder in (*folders, *deepest_first):
            with contextlib.suppress(OSError):  # in use, or not empty
                folder.rmdir()


def find_running(output_dir: Path) -> dict[str, str]:
    """Return the runs that are working on an output directory, by ``sub-…`` or ``group``.

    It takes `_WATCH_S` seconds if there are locks of runs on other machines.
    """
    locks = sorted((output_dir / "logs" / _FOLDER).glob("*.lock"))
    if not locks:
        return {}
    holders = {path: _read_holder(path) for path in locks}
    with ThreadPoolExecutor(len(locks)) as watchers:
        is_running = dict(
            zip(locks, watchers.map(_is_running, locks, holders.values()), strict=True)
        )
    return {
        path.stem: str(holders[path] or "an unknown run") for path in locks if is_running[path]
    }


def _make_lock_error(locks: Sequence[Path]) -> UsageError:
    """Return the error that other runs hold locks, with these runs and a remedy."""
    names = ", ".join(dict.fromkeys(path.stem for path in locks))
    holders = [f"{path}: {_read_holder(path) or 'an unknown run'}" for path in locks]
    return UsageError(
        f"another run is working on {names}",
        "Two simultaneous runs would write to the same files. " + "; ".join(holders),
        "wait until the other run has finished, or stop it, and then run the command"
        " again. Other participants can be processed at the same time with"
        " --participant-label. If you are sure that the other run is no longer running,"
        " delete the lock file named above",
    )


def _acquire(path: Path, holder: _Holder) -> bool:
    """Create a lock file; return False if another run holds it."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_new(path, json.dumps(asdict(holder), indent=1) + "\n")
            return True
        except FileExistsError:
            other_holder = _read_holder(path)
            if _is_running(path, other_holder):
                return False
            _remove_stale(path, other_holder)
        except FileNotFoundError:
            continue  # another run has just removed the empty directory
        except OSError as error:
            raise UsageError(
                f"cannot write {path}", str(error), "choose a writable directory"
            ) from error


def _write_new(path: Path, text: str) -> None:
    """Write a new file; an existing file is an error."""
    with path.open("x", encoding="utf-8") as stream:
        try:
            stream.write(text)
            stream.flush()
        except OSError:
            path.unlink(missing_ok=True)
            raise


def _remove_stale(path: Path, stopped_holder: _Holder | None) -> None:
    """Remove the lock of a stopped run, unless another run has taken it over."""
    renamed = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        os.rename(path, renamed)
    except FileNotFoundError:
        return  # another run was faster
    if _read_holder(renamed) == stopped_holder:
        _LOGGER.warning(
            "%s: taking over the lock of %s, which is no longer running.",
            path,
            stopped_holder or "an unknown run",
        )
    elif not path.exists():
        os.rename(renamed, path)  # another run was faster and holds the lock now
        return
    renamed.unlink(missing_ok=True)


def _send_heartbeats(
    own_locks: Sequence[Path], holder: _Holder, stop_event: threading.Event
) -> None:
    """Update the locks of this run regularly, and interrupt it if a lock has been lost."""
    while not stop_event.wait(_BEAT_S):
        for path in own_locks:
            with contextlib.suppress(OSError):
                os.utime(path)
            if stop_event.is_set() or _read_holder(path) == holder or _is_unreachable(path):
                continue
            _LOGGER.error("%s: another run has taken over this lock, so this run stops.", path)
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _is_unreachable(path: Path) -> bool:
    """Return whether the file system does not respond, which does not mean a lost lock."""
    try:
        return not path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return False
    except OSError:
        return True
