"""Helpers of the fault matrix: watch a run while it writes, distinguish complete from partial
files, mount small disks.
"""

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import nibabel as nib
import numpy as np
from _resources import _session_pids

BIDS_SR = str(Path(sys.executable).parent / "bids-sr")
_END = {".svg": b"</svg>", ".html": b"</html>"}


def fingerprints(out: Path) -> dict[str, str]:
    """Return the hash of the voxels of every image under ``out``, and of the bytes of every
    table.
    """
    prints = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if name.endswith(".nii.gz"):
            image = nib.load(path)
            content = (
                np.ascontiguousarray(image.dataobj.get_unscaled()).tobytes()
                + image.affine.tobytes()
            )
        elif name.endswith((".tsv", ".txt", ".safetensors")) and not name.startswith("logs"):
            content = path.read_bytes()
        else:
            continue
        prints[name] = hashlib.sha256(content).hexdigest()
    return prints


def differences(first: dict[str, str], second: dict[str, str]) -> list[str]:
    """Return names that only one side has, or whose content differs."""
    return sorted(
        name for name in first.keys() | second.keys() if first.get(name) != second.get(name)
    )


def incomplete(path: Path) -> str:
    """Return why a file under its final name is incomplete; "" if it is complete or was just
    replaced.
    """
    try:
        data = path.read_bytes()
        if path.name.endswith(".gz"):
            gzip.decompress(data)
        elif path.suffix == ".json":
            json.loads(data)
        elif path.suffix == ".zip":
            return zipfile.ZipFile(io.BytesIO(data)).testzip() or ""
        elif path.suffix in _END:
            # fragments
            end = (
                b">"
                if path.suffix == ".html" and path.parent.name == "figures"
                else _END[path.suffix]
            )
            return "" if data.rstrip().endswith(end) else "it does not end"
        elif path.suffix == ".tsv":
            widths = {line.count(b"\t") for line in data.splitlines()}
            return "" if data.endswith(b"\n") and len(widths) == 1 else "rows are missing or cut"
        elif path.suffix == ".safetensors":
            size = int.from_bytes(data[:8], "little")
            header = json.loads(data[8 : 8 + size])
            ends = [
                entry["data_offsets"][1]
                for name, entry in header.items()
                if name != "__metadata__"
            ]
            return "" if len(data) == 8 + size + max(ends) else "tensors are cut"
        return "" if data else "it is empty"
    except FileNotFoundError:
        return ""
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        return f"{type(error).__name__}: {error}"


class OutputWatch:
    """Checks every file that appears under its final name in the output."""

    def __init__(self, out: Path) -> None:
        self.out, self.half, self.seen = out, set(), 0
        self._known: dict[Path, tuple[int, int]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._thread.start()

    def _go_on(self) -> None:
        while not self._stop.wait(0.15):
            self.look()

    def look(self) -> None:
        """Check all new files once."""
        for path in list(self.out.rglob("*")):
            if (
                path.name.startswith(".")
                or "locks" in path.parts
                or path.name.startswith("resources")
            ):
                continue
            with contextlib.suppress(OSError):
                status = path.stat()
                stamp = (status.st_size, status.st_mtime_ns)
                if path.is_file() and self._known.get(path) != stamp:
                    self._known[path] = stamp
                    self.seen += 1
                    if incomplete(path):
                        self.half.add(f"{path.name}: {incomplete(path)}")

    def end(self) -> None:
        """Check a last time and stop."""
        self._stop.set()
        self._thread.join()
        self.look()


@dataclass
class Run:
    """One call of bids-sr in its own session; its output is followed line by line, and its files
    as they appear.
    """

    out: Path
    work: Path
    data: Path
    options: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)

    started: ClassVar[list["Run"]] = []

    def __post_init__(self) -> None:
        command = [
            BIDS_SR,
            str(self.data),
            str(self.out),
            "participant",
            "-w",
            str(self.work),
            *self.options,
        ]
        self.text = ""
        self.watch = OutputWatch(self.out)
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            command,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **self.environment},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        Run.started.append(self)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.text += line

    def wait_for(self, pattern: str, limit: float = 900) -> bool:
        """Wait until a line of the output matches; return False if the run ended before."""
        until = time.monotonic() + limit
        while time.monotonic() < until and not re.search(pattern, self.text):
            if self.process.poll() is not None:
                return bool(re.search(pattern, self.text))
            time.sleep(0.05)
        return bool(re.search(pattern, self.text))

    def until(self, seconds: float) -> bool:
        """Wait until some seconds after the start; return whether the run continues."""
        while self.process.poll() is None and time.monotonic() - self.began < seconds:
            time.sleep(0.02)
        return self.process.poll() is None

    def kill(self, *, all_of_it: bool) -> None:
        """Send SIGKILL to the whole session, or only to the scheduler, whose workers then have to
        stop by themselves.
        """
        with contextlib.suppress(ProcessLookupError):
            if all_of_it:
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                os.kill(self.process.pid, signal.SIGKILL)

    def end(self, limit: float = 1800) -> int:
        """Wait for the end; return 124 and leave no process if it takes longer than `limit`
        seconds.
        """
        try:
            code = self.process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            self.kill(all_of_it=True)
            self.process.wait()
            code = 124
        self.seconds = time.monotonic() - self.began
        self._reader.join(timeout=5)
        self.watch.end()
        return code


def end_all() -> None:
    """Kill all remaining runs if the matrix itself is interrupted."""
    for run in Run.started:
        if run.process.poll() is None:
            run.kill(all_of_it=True)


def workers_of(run: Run) -> list[int]:
    """Return the workers of a run: processes that the fork server has started."""
    parents = {}
    for pid in _session_pids(run.process.pid):
        with contextlib.suppress(OSError, IndexError, ValueError):
            parents[pid] = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    servers = {pid for pid, parent in parents.items() if parent == run.process.pid}
    return [pid for pid, parent in parents.items() if parent in servers]


def processes_left(run: Run, limit: float = 5.0) -> int:
    """Return processes of the session of a finished run, after a wait."""
    until = time.monotonic() + limit
    left = _session_pids(run.process.pid)
    while left and time.monotonic() < until:
        time.sleep(0.1)
        left = _session_pids(run.process.pid)
    return len(left)


@contextlib.contextmanager
def mounted(place: Path, *options: str) -> Iterator[Callable[[str], None]]:
    """Mount a small file system and unmount it at the end; yields a function that remounts it with
    other flags.
    """
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *options, str(place)], check=True)
    try:
        yield lambda flags: subprocess.run(
            ["mount", "-o", f"remount,{flags}", str(place)], check=True
        )
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
