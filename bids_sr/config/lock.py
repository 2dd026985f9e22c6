"""A lock against two runs over one participant in one output or one working directory.

One small file for each participant in both directories names who holds it. Whether its holder
still runs is told without comparing clocks: on the same machine by the process, elsewhere by
whether the holder touches the file while it is watched. A run whose lock was taken from it,
because its machine slept, interrupts itself. The library filelock has no such heartbeat: it trusts
``flock``, which several network file systems of clusters keep on one host alone.
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
from dataclasses import asdict
from pathlib import Path

from bids_sr.config.values import UsageError
from bids_sr.frozen import frozen
from bids_sr.io.atomic_files import read_json

_LOGGER = logging.getLogger(__name__)
_BEAT_S = 5.0
_WATCH_S = 3.5 * _BEAT_S
_FOLDER = "locks"


@frozen
class _Holder:
    """Who holds a lock."""

    run: str  # identifier, the name of its logs
    host: str
    pid: int
    began: str  # as text for people; never compared
    # one start of one system and one numbering of its processes; "" where that is unknown
    machine: str
    # when the process began, as the kernel counts; tells it from a later one of the same number
    ticks: str

    def __str__(self) -> str:
        return f"run {self.run} on {self.host}, process {self.pid}, since {self.began}"


def _myself(run: str) -> _Holder:
    """This process as a holder."""
    began = time.strftime("%Y-%m-%d %H:%M:%S")
    machine = _machine()
    ticks = _ticks(os.getpid()) or ""
    return _Holder(
        run=run,
        host=socket.gethostname(),
        pid=os.getpid(),
        began=began,
        machine=machine,
        ticks=ticks,
    )


def _machine() -> str:
    """One start of this system and one numbering of processes: containers count their own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _ticks(pid: int) -> str | None:
    """Return the start time of a process, or None if it does not exist or is a zombie."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()
        )
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]


def _read_holder(path: Path) -> _Holder | None:
    """Who holds a lock; None where the file is not there or cannot be read."""
    try:
        return _Holder(**read_json(path))
    except TypeError:
        return None


def _still_runs(path: Path, holder: _Holder | None) -> bool:
    """Return whether a lock's holder still runs; takes `_WATCH_S` if it died elsewhere."""
    if holder is not None and holder.machine and holder.machine == _machine():
        return _ticks(holder.pid) == holder.ticks
    first = _beat(path)
    until = time.monotonic() + _WATCH_S
    while first is not None and time.monotonic() < until:
        time.sleep(min(0.5, _BEAT_S / 10))
        if _beat(path) != first:
            return path.exists()
    return False


def _beat(path: Path) -> int | None:
    """Time stamp of a lock; opened, because network file systems ask their server only then."""
    try:
        with path.open("rb") as stream:
            return os.fstat(stream.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def output_lock(
    output_dir: Path, work_dir: Path | None, *, participants: Sequence[str] | None, run_uuid: str
) -> Iterator[None]:
    """Hold the locks of participants (all or none) in both directories while the block runs.

    `participants` are labels; None is the group level, which has a lock of its own. Raises
    `UsageError` where another run holds one, naming it and the way out; nothing is left behind.

    `work_dir`: folder of intermediate files; None locks the results alone.
    """
    names = ["group"] if participants is None else [f"sub-{label}" for label in participants]
    folders = [output_dir / "logs" / _FOLDER] + (
        [work_dir / _FOLDER] if work_dir is not None else []
    )
    made = {parent for folder in folders for parent in folder.parents if not parent.exists()}
    holder = _myself(run_uuid)
    held: list[Path] = []
    stop = threading.Event()
    beats = threading.Thread(target=_keep_beating, args=(held, holder, stop), daemon=True)
    try:
        locked: list[Path] = []
        for path in (folder / f"{name}.lock" for name in names for folder in folders):
            (held if _lock(path, holder) else locked).append(path)
        if locked:
            names_taken = ", ".join(dict.fromkeys(path.stem for path in locked))
            lines = [f"{path}: {_read_holder(path) or 'an unknown run'}" for path in locked]
            raise UsageError(
                f"another run is working on {names_taken}",
                "Two simultaneous runs would write to the same files. " + "; ".join(lines),
                "wait until the other run has finished, or stop it, and then run the command"
                " again. Other participants can be processed at the same time with"
                " --participant-label. If you are sure that the other run is no longer running,"
                " delete the lock file named above",
            )
        beats.start()
        yield
    finally:
        stop.set()
        for path in held:
            if _read_holder(path) == holder:
                path.unlink(missing_ok=True)
        for folder in [*folders, *sorted(made, key=lambda path: len(path.parts), reverse=True)]:
            with contextlib.suppress(OSError):  # in use, or with content
                folder.rmdir()


def _lock(path: Path, holder: _Holder) -> bool:
    """Make one lock file; False where another run holds it."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _create(path, json.dumps(asdict(holder), indent=1) + "\n")
            return True
        except FileExistsError:
            other = _read_holder(path)
            if _still_runs(path, other):
                return False
            _take_away(path, other)
        except FileNotFoundError:
            continue  # another run has just removed the directory that it left empty
        except OSError as error:
            raise UsageError(
                f"cannot write {path}", str(error), "choose a writable directory"
            ) from error


def _create(path: Path, text: str) -> None:
    """Write a file that must not be there."""
    with path.open("x", encoding="utf-8") as stream:
        try:
            stream.write(text)
            stream.flush()
        except OSError:
            path.unlink(missing_ok=True)
            raise


def _take_away(path: Path, dead: _Holder | None) -> None:
    """Remove the lock of a run that ended without removing it, and no other's."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return  # another run was quicker
    if _read_holder(aside) == dead:
        _LOGGER.warning(
            "%s: taking over the lock of %s, which is no longer running.",
            path,
            dead or "an unknown run",
        )
    elif not path.exists():
        os.rename(aside, path)  # another run was quicker and holds it now
        return
    aside.unlink(missing_ok=True)


def _keep_beating(held: Sequence[Path], holder: _Holder, stop: threading.Event) -> None:
    """Show that this run is alive; interrupt it where a lock is no longer its own."""
    while not stop.wait(_BEAT_S):
        for path in held:
            with contextlib.suppress(OSError):
                os.utime(path)
            if stop.is_set() or _read_holder(path) == holder or _unreachable(path):
                continue
            _LOGGER.error(
                "%s: another run has taken over this lock, so this run stops.",
                path,
            )
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _unreachable(path: Path) -> bool:
    """Whether the file system does not answer now; that is no loss of a lock."""
    try:
        return not path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return False
    except OSError:
        return True
