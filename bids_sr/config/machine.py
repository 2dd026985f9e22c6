"""What this machine lets the program have: processors, memory and a GPU.

A container, a SLURM job and a mask of processors each give less than the machine has, and a
program that takes what the machine has is throttled or killed. The smallest of all limits counts.
"""

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bids_sr.config.memory import SHARED_GB

# what the first version of control groups says where there is no limit is larger
_UNLIMITED = 2.0**60
_SHARE = 0.9  # of the memory that is free, the rest is left to others
_ASK_TORCH = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 3)"


def processors(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> int:
    """How many processors this process may keep busy; `root` is where ``proc`` and ``sys`` are.

    The least of the mask of processors, the quota of every control group above the process, and
    what SLURM granted.
    """
    limits: list[float] = [len(os.sched_getaffinity(0))]
    for folder in _groups(root, "cpu"):
        quota, period = _words(folder / "cpu.max", 2)
        if quota is None:
            (quota,), (period,) = (
                _words(folder / "cpu.cfs_quota_us", 1),
                _words(folder / "cpu.cfs_period_us", 1),
            )
        if quota is not None and period and quota > 0:
            limits.append(quota / period)
    if granted := _slurm_processors(environ):
        limits.append(granted)
    return max(1, math.floor(min(limits) + 1e-6))


def memory_gb(
    root: Path = Path("/"), environ: Mapping[str, str] = os.environ, *, free: bool = True
) -> float:
    """Return the memory that may be used now (GB), or all that there is.

    What may be used is nine tenths of the free memory, within every limit on this process.
    """
    known = "MemAvailable:" if free else "MemTotal:"
    kilobytes = {
        w[0]: float(w[1]) for w in map(str.split, _lines(root / "proc/meminfo")) if len(w) > 1
    }
    sizes = [kilobytes[known] * 1024 if known in kilobytes else 4e9 if free else math.inf]
    for folder in _groups(root, "memory"):
        for names in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, used = (_words(folder / name, 1)[0] for name in names)
            if limit is not None and limit < _UNLIMITED:
                sizes.append(limit - (max(0.0, (used or 0.0) - _cached(folder)) if free else 0))
    gigabytes = (_SHARE if free else 1) * max(0.0, min(sizes)) / 1e9
    granted = _granted_gb(environ)
    if free and sums_resident(root, environ):  # fork server and first worker beside the program
        granted = max(0.0, _SHARE * granted - 2 * SHARED_GB)
    return min(gigabytes, granted)


def sums_resident(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> bool:
    """Whether SLURM limits memory and no control group does: what processes share counts for each.

    False also outside of jobs.
    """
    return _granted_gb(environ) < memory_gb(root, {}, free=False)


def _granted_gb(environ: Mapping[str, str]) -> float:
    """Return the memory granted by SLURM on this node (GB), infinite without job or limit."""
    a_node = _number(environ.get("SLURM_MEM_PER_NODE"))
    a_processor = _number(environ.get("SLURM_MEM_PER_CPU"))
    if not a_node and a_processor:
        a_node = a_processor * (
            _number(environ.get("SLURM_CPUS_ON_NODE")) or _slurm_processors(environ) or 1.0
        )
    return a_node * 2**20 / 1e9 if a_node else math.inf


def has_gpu(
    root: Path = Path("/"),
    environ: Mapping[str, str] = os.environ,
    ask: Callable[[], bool] | None = None,
) -> bool:
    """Whether torch can use a CUDA device that ``CUDA_VISIBLE_DEVICES`` does not hide.

    Only where there is a device, `ask` asks torch, in a process of its own, as this one has no use
    for it.
    """
    shown = environ.get("CUDA_VISIBLE_DEVICES")
    if shown is not None and (
        not shown.strip() or shown.strip().startswith("-1") or shown == "NoDevFiles"
    ):
        return False
    devices = root / "dev"
    if not any(devices.glob("nvidia[0-9]*")) and not (devices / "dxg").exists():
        return False
    if ask is not None:
        return ask()
    import shutil
    import subprocess

    python = sys.executable or shutil.which("python3") or "python3"
    return (
        subprocess.run([python, "-c", _ASK_TORCH], capture_output=True, check=False).returncode
        == 0
    )


def _slurm_processors(environ: Mapping[str, str]) -> float | None:
    """Return the processors per task of a SLURM job, or those of the node if unspecified."""
    return _number(environ.get("SLURM_CPUS_PER_TASK")) or _number(
        environ.get("SLURM_CPUS_ON_NODE")
    )


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Return this process's control group directories (both versions), from its own upward.

    In a container the path that ``/proc`` tells is that of the host, and only the root of the tree
    is there.
    """
    for line in _lines(root / "proc/self/cgroup"):
        number, names, path = line.split(":", 2)
        if number == "0":
            top = root / "sys/fs/cgroup"
            top = top / "unified" if (top / "unified").is_dir() else top
        elif controller in names.split(","):
            base = root / "sys/fs/cgroup"
            top = next(
                (base / name for name in (names, controller) if (base / name).is_dir()),
                base / controller,
            )
        else:
            continue
        here = top / path.strip("/")
        for folder in (here, *here.parents):
            yield folder
            if folder == top:
                break


def _cached(folder: Path) -> float:
    """Return the reclaimable page cache (bytes) charged to a control group."""
    counters = dict(
        line.split()[:2] for line in _lines(folder / "memory.stat") if len(line.split()) == 2
    )
    for prefix in ("total_", ""):
        if f"{prefix}inactive_file" in counters:
            return sum(
                float(counters.get(f"{prefix}{name}_file", 0)) for name in ("inactive", "active")
            )
    return 0.0


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _words(path: Path, count: int) -> list[float | None]:
    """The numbers in a file of one line; None for those that are absent or no number (``max``)."""
    words = " ".join(_lines(path)).split()
    return [_number(words[k]) if k < len(words) else None for k in range(count)]


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None
