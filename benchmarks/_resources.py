"""Run a command and watch its processes: wall time, processor time, peak memory as proportional
set size (PSS).
"""

import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Resources of a command: exit code, wall time (s), peak of the summed PSS (GiB) and number of
    processes.

    `cpu_seconds` is the time of all processes, `main_cpu_seconds` the time of the command's own
    process. `read_gb` and `written_gb` are requests of all processes, cached or not; `peak_gb` is
    the largest size of a folder on the disk.
    """

    code: int
    seconds: float
    peak_gib: float
    processes: int
    output: str
    cpu_seconds: float = 0.0
    main_cpu_seconds: float = 0.0
    read_gb: float = 0.0
    written_gb: float = 0.0
    peak_gb: float = 0.0


def _session_pids(session: int) -> list[int]:
    """Return processes of a session; a daemon that leaves the session is not included."""
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (OSError, IndexError):
                continue
            if int(fields[3]) == session:
                pids.append(int(entry.name))
    return pids


def _pss_kib(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        return 0
    return 0


def _cpu_seconds(pid: int) -> float:
    """Return the processor time of a process, without finished children."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def asked_gb(pid: int) -> tuple[float, float]:
    """Return data that a process has read and written (GB), including children that it
    waited for.
    """
    try:
        counters = dict(
            line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines()
        )
    except OSError:
        return 0.0, 0.0
    return int(counters["rchar"]) / 1e9, int(counters["wchar"]) / 1e9


def disk_gb(folder: Path) -> float:
    """Return the size of files below a folder on the disk (GB), each counted once, without
    holes.
    """
    blocks: dict[int, int] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                state = os.lstat(os.path.join(place, name))
            except OSError:  # deleted meanwhile
                continue
            blocks[state.st_ino] = state.st_blocks
    return 512 * sum(blocks.values()) / 1e9


def watch(
    command: Sequence[str],
    *,
    log: Path | None = None,
    interval_s: float = 0.5,
    folder: Path | None = None,
) -> Usage:
    """Run ``command`` in its own session and sample its memory until it ends.

    `folder`: its size is also sampled.
    """
    peak, most_processes, done = 0, 0, threading.Event()
    requested_gb, largest_gb = (0.0, 0.0), 0.0
    cpu: dict[int, float] = {}
    start = time.monotonic()
    process = subprocess.Popen(
        command,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ,
    )

    def sample() -> None:
        nonlocal peak, most_processes, requested_gb, largest_gb
        turn = 0
        while not done.wait(interval_s):
            pids = _session_pids(process.pid)
            cpu.update({pid: max(cpu.get(pid, 0.0), _cpu_seconds(pid)) for pid in pids})
            peak, most_processes = (
                max(peak, sum(map(_pss_kib, pids))),
                max(most_processes, len(pids)),
            )
            now = tuple(map(sum, zip(*map(asked_gb, pids), strict=True))) or (0.0, 0.0)
            requested_gb = max(requested_gb[0], now[0]), max(requested_gb[1], now[1])
            turn += 1
            if folder is not None and turn % 10 == 0:
                largest_gb = max(largest_gb, disk_gb(folder))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    output, _ = process.communicate()
    done.set()
    sampler.join()
    if log is not None:
        log.write_text(output)
    return Usage(
        code=process.returncode,
        seconds=time.monotonic() - start,
        peak_gib=peak / 2**20,
        processes=most_processes,
        output=output,
        cpu_seconds=sum(cpu.values()),
        main_cpu_seconds=cpu.get(process.pid, 0.0),
        read_gb=requested_gb[0],
        written_gb=requested_gb[1],
        peak_gb=largest_gb,
    )
