"""Resources available to the program: processors, memory and a GPU.

Containers, SLURM jobs and processor masks may provide less than the machine has, and a program
that exceeds these limits is throttled or killed. The smallest limit therefore applies.
"""

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bids_sr.engine.memory import SHARED_GB

# control groups of version 1 report a larger value if there is no limit
_UNLIMITED_BYTES = 2.0**60
_USABLE_SHARE = 0.9  # share of the free memory; the rest is left to other programs
_DEFAULT_FREE_BYTES = 4e9  # if the system does not report the free memory
_TORCH_QUERY = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 3)"


def processors(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> int:
    """Return the number of processors that this process may use.

    The number is the minimum of the processor mask, the quotas of all control groups of the
    process, and the processors granted by SLURM. `root` contains ``proc`` and ``sys``.
    """
    limits: list[float] = [len(os.sched_getaffinity(0))]
    for folder in _iterate_control_groups(root, "cpu"):
        quota, period = _read_numbers(folder / "cpu.max", 2)
        if quota is None:  # version 1 has two files
            (quota,) = _read_numbers(folder / "cpu.cfs_quota_us", 1)
            (period,) = _read_numbers(folder / "cpu.cfs_period_us", 1)
        if quota is not None and period and quota > 0:
            limits.append(quota / period)
    if slurm_limit := _count_slurm_processors(environ):
        limits.append(slurm_limit)
    return max(1, math.floor(min(limits) + 1e-6))


def memory_gb(
    root: Path = Path("/"), environ: Mapping[str, str] = os.environ, *, free: bool = True
) -> float:
    """Return the memory that may be used now (GB), or with `free` False the total memory.

    Usable memory is nine tenths of the free memory, within all limits of this process.
    """
    key = "MemAvailable:" if free else "MemTotal:"
    kilobytes = {
        words[0]: float(words[1])
        for words in map(str.split, _read_lines(root / "proc/meminfo"))
        if len(words) > 1
    }
    unknown = _DEFAULT_FREE_BYTES if free else math.inf
    sizes = [kilobytes[key] * 1024 if key in kilobytes else unknown]
    for folder in _iterate_control_groups(root, "memory"):
        for names in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, usage = (_read_numbers(folder / name, 1)[0] for name in names)
            if limit is not None and limit < _UNLIMITED_BYTES:
                used = max(0.0, (usage or 0.0) - _read_page_cache(folder)) if free else 0
                sizes.append(limit - used)
    gigabytes = (_USABLE_SHARE if free else 1) * max(0.0, min(sizes)) / 1e9
    slurm_gb = _read_granted_gb(environ)
    # fork server and first worker, in addition to the program
    if free and sums_resident(root, environ):
        slurm_gb = max(0.0, _USABLE_SHARE * slurm_gb - 2 * SHARED_GB)
    return min(gigabytes, slurm_gb)


def _iterate_control_groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the control group directories of this process (both versions), from its own upward.

    In a container, the path in ``/proc`` refers to the host, and only the root of the tree exists.
    """
    base = root / "sys/fs/cgroup"
    for line in _read_lines(root / "proc/self/cgroup"):
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0":  # version 2
            top = base / "unified" if (base / "unified").is_dir() else base
        elif controller in controllers.split(","):
            top = base / controllers if (base / controllers).is_dir() else base / controller
        else:
            continue
        group = top / path.strip("/")
        for folder in (group, *group.parents):
            yield folder
            if folder == top:
                break


def _read_numbers(path: Path, count: int) -> list[float | None]:
    """Return the first numbers in a file; None for missing words and words such as ``max``."""
    words = " ".join(_read_lines(path)).split()
    return [
        _parse_optional_number(words[index]) if index < len(words) else None
        for index in range(count)
    ]


def _read_page_cache(folder: Path) -> float:
    """Return the reclaimable page cache (bytes) charged to a control group."""
    counters = dict(
        line.split()[:2] for line in _read_lines(folder / "memory.stat") if len(line.split()) == 2
    )
    for prefix in ("total_", ""):
        if f"{prefix}inactive_file" in counters:
            return sum(
                float(counters.get(f"{prefix}{name}_file", 0)) for name in ("inactive", "active")
            )
    return 0.0


def _read_lines(path: Path) -> list[str]:
    """Return the lines of a file, none if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def sums_resident(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether only SLURM limits the memory, so that shared memory counts for each process.

    Returns False if a control group sets the same limit, and outside of jobs.
    """
    return _read_granted_gb(environ) < memory_gb(root, {}, free=False)


def _read_granted_gb(environ: Mapping[str, str]) -> float:
    """Return the memory granted by SLURM on this node (GB), infinite without job or limit."""
    node_mib = _parse_optional_number(environ.get("SLURM_MEM_PER_NODE"))
    processor_mib = _parse_optional_number(environ.get("SLURM_MEM_PER_CPU"))
    if not node_mib and processor_mib:
        node_mib = processor_mib * (
            _parse_optional_number(environ.get("SLURM_CPUS_ON_NODE"))
            or _count_slurm_processors(environ)
            or 1.0
        )
    return node_mib * 2**20 / 1e9 if node_mib else math.inf


def _count_slurm_processors(environ: Mapping[str, str]) -> float | None:
    """Return the processors per task of a SLURM job, or per node if unspecified."""
    return _parse_optional_number(environ.get("SLURM_CPUS_PER_TASK")) or _parse_optional_number(
        environ.get("SLURM_CPUS_ON_NODE")
    )


def _parse_optional_number(text: str | None) -> float | None:
    """Return a text as a number, None if it is not numeric."""
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def find_semaphore_fault() -> str:
    """Return why processes cannot share semaphores, which need ``/dev/shm``; "" if they can."""
    import multiprocessing

    try:
        multiprocessing.get_context("fork").Lock()  # removed at once
    except (OSError, ImportError) as error:
        return str(getattr(error, "strerror", None) or error)
    return ""


def has_gpu(
    root: Path = Path("/"),
    environ: Mapping[str, str] = os.environ,
    query_gpu: Callable[[], bool] | None = None,
) -> bool:
    """Return whether torch can use a CUDA device that ``CUDA_VISIBLE_DEVICES`` does not hide.

    If there is a device, torch is queried by `query_gpu`, by default in a separate process,
    because this process does not need torch.
    """
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and (
        not visible.strip() or visible.strip().startswith("-1") or visible == "NoDevFiles"
    ):
        return False
    devices = root / "dev"
    if not any(devices.glob("nvidia[0-9]*")) and not (devices / "dxg").exists():
        return False
    if query_gpu is not None:
        return query_gpu()
    import shutil
    import subprocess

    python = sys.executable or shutil.which("python3") or "python3"
    command = [python, "-c", _TORCH_QUERY]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
