"""Resources available to the program: processors, memory and a GPU.

Containers, SLURM jobs and processor masks may provide less than the machine has, and a program
that exceeds these limits is throttled or killed. The smallest limit therefore applies.

Memory of steps is declared here as well, and determines how many steps can run in parallel. The
values were measured by ``benchmarks/resources.py`` in the process of the step. The memory of a run
is the sum of the program with its fork server, a small amount per waiting worker, and the memory
that the running steps add.
"""

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path

from bids_sr.frozen import frozen

BASE_GB = 0.60
"""Memory of the program and its fork server, whose libraries are shared by all workers."""

WORKER_GB = 0.25
"""Memory of a waiting worker that is not shared."""

SHARED_GB = 0.45
"""Memory shared by fork server and workers, which a sum of resident memory counts for each
process.
"""

_HEADROOM = 1.15
"""Safety factor for other data sets and for memory retained by the allocator."""

_DENSE_AT_ONCE = 0.52
"""Millions of voxels above which a volume passes a dense network in parts."""


@frozen
class Sizes:
    """Sizes of the largest images, in millions of voxels; 0 if there is no such image.

    Attributes
    ----------
    scans : float
        Largest high-resolution scan of ``--sr-target anat``.
    trained : float
        All heads that one network is trained on.
    t1w : float
        Largest T1w image.
    low, high : float
        Acquired and high-resolution volume.
    learned : float
        High-resolution volume, if a method learns from the run's own volumes.
    measured : float
        High-resolution volume, if a run has a measured reference.
    dense : float
        High-resolution volume, if a dense network of recipe ``paper`` is used.
    spaces : float
        Sum of a run's grids in other spaces.
    calibrated : float
        Millions of values held in memory for a run with a calibration run, see
        `held_of_calibrated`.
    threads : int
        Further threads while maps of a run are applied; each thread holds the matrices of a slice.
    """

    scans: float = 0.0
    trained: float = 0.0
    t1w: float = 0.0
    low: float = 0.0
    high: float = 0.0
    learned: float = 0.0
    measured: float = 0.0
    dense: float = 0.0
    spaces: float = 0.0
    calibrated: float = 0.0
    threads: int = 0

    @property
    def dense_piece(self) -> float:
        """Voxels (millions) that pass a dense network at once when it is applied."""
        return min(self.dense, _DENSE_AT_ONCE)


@frozen
class Need:
    """Memory that a kind of step adds (GB): a constant, and values per million voxels of `Sizes`.

    Attributes
    ----------
    always : float
        Memory independent of sizes (GB).
    t1w, low, high, scans, trained, learned, measured, dense, dense_piece, spaces : float
        Memory per million voxels of the size with the same name (GB).
    calibrated : float
        Memory per million values held for a calibration run (GB).
    threads : float
        Memory per further thread (GB).
    """

    always: float = 0.03
    t1w: float = 0.0
    low: float = 0.0
    high: float = 0.1
    scans: float = 0.0
    trained: float = 0.0
    learned: float = 0.0
    measured: float = 0.0
    dense: float = 0.0
    dense_piece: float = 0.0
    spaces: float = 0.0
    calibrated: float = 0.0
    threads: float = 0.0

    def gigabytes(self, sizes: Sizes) -> float:
        """Return the memory (GB) for images of these sizes, 15 % more than measured."""
        grids = [item.name for item in fields(self) if item.name != "always"]
        return _HEADROOM * (
            self.always + sum(getattr(self, name) * getattr(sizes, name) for name in grids)
        )

    def is_there(self, sizes: Sizes) -> bool:
        """Return whether the grids that the step requires exist among the sizes."""
        required = ("t1w", "scans", "trained", "learned")
        return all(getattr(sizes, name) for name in required if getattr(self, name))


def held_of_calibrated(high: float) -> float:
    """Return the values (millions) that a calibrated method holds in memory.

    These are patterns (`high` million voxels) and the matrices of a tile; see
    `bids_sr.sr.variance.prior`.
    """
    return 40 * high + 60


def _of_t1w(always: float, t1w: float) -> Need:
    """Return the memory of a step that only depends on the T1w image."""
    return Need(always=always, t1w=t1w, high=0.0)


# Ten dense layers keep about 2,000 channels of whole volumes for their gradients
# (``benchmarks/results/dense_memory.md``).
_DENSE_TRAINING = 14.0
# Points as float32, a volume and its copies; see `bids_sr.spatial.output_grids`.
_SPACES = 0.03
SEGMENT = _of_t1w(0.31, 0.032)
REGION = _of_t1w(0.05, 0.052)
SHOW_IN_TEMPLATE = _of_t1w(0.35, 0.030)
TRAIN = Need(always=0.3, high=0.2, dense=_DENSE_TRAINING)
TRAIN_ON_VOLUMES = Need(always=0.45, high=0.0, learned=0.6, dense=_DENSE_TRAINING)
VARIANCE = Need(always=0.1, high=0.57)
SERIES = Need(always=0.06, high=0.25, dense_piece=1.6, spaces=_SPACES)
# 0.21 and 0.30 GB for a second thread with 64 x 64 x 34 voxels, without and with a calibration run
RESOLVE = replace(SERIES, calibrated=4e-3, threads=0.27)
# 100 volumes as float32, another copy of the brain voxels, and a slice in double precision
CALIBRATE = Need(always=0.06, high=0.7)
# 25 blocks: 0.32 GB for 0.79 million voxels, 0.91 GB with a comparison to measured effects
MAPS = Need(always=0.06, high=0.23)
EFFECTS = Need(always=0.06, high=0.33, measured=0.76)
TO_TEMPLATE = Need(always=0.35, spaces=_SPACES)
# At least the memory measured for three contrasts of a million voxels (`benchmarks/resources.py`);
# per further million voxels, the float32 arrays that a step holds at the same time. Registration
# without other steps takes 0.44 GB (rigid) and 0.76 GB (deformable) for 1.2 million voxels,
# including libraries.
PREPARE_SCANS, TRAIN_ON_SCANS = Need(always=0.45, scans=0.16), Need(always=0.6, trained=0.12)
RESOLVE_SCANS, MEASURE_SCANS = Need(always=0.35, scans=0.12), Need(always=0.25, scans=0.30)
_LARGE = (
    SEGMENT,
    REGION,
    SHOW_IN_TEMPLATE,
    TRAIN,
    TRAIN_ON_VOLUMES,
    VARIANCE,
    RESOLVE,
    CALIBRATE,
    EFFECTS,
    TO_TEMPLATE,
    PREPARE_SCANS,
    TRAIN_ON_SCANS,
    RESOLVE_SCANS,
    MEASURE_SCANS,
)
"""Largest needs among the steps of all graphs, so that preflight does not import the steps."""


def step_gb(need: Need, sizes: Sizes) -> float:
    """Return the peak memory (GB) of the process of a step, including an idle worker."""
    return WORKER_GB + need.gigabytes(sizes)


def largest_gb(sizes: Sizes) -> float:
    """Return the peak memory (GB) of the process of the largest step."""
    return max(step_gb(need, sizes) for need in _LARGE if need.is_there(sizes))


def workers_that_fit(
    mem_gb: float, nprocs: int, largest: float, worker_gb: float = WORKER_GB
) -> int:
    """Return the number of workers that fit in memory with the largest step; 0 if none does.

    `largest` (GB) is the memory of the process of this step, `worker_gb` the memory of a waiting
    worker.
    """
    room = mem_gb - BASE_GB - largest
    return 0 if room < -1e-9 else min(nprocs, 1 + math.floor(room / worker_gb + 1e-9))


def for_steps_gb(mem_gb: float, workers: int, worker_gb: float = WORKER_GB) -> float:
    """Return the memory (GB) that concurrent steps may declare together within `mem_gb`.

    The result excludes the program and all workers but one, which take `worker_gb` (GB) while they
    wait.
    """
    return mem_gb - BASE_GB - worker_gb * (workers - 1)


# control groups of version 1 report a larger value if there is no limit
_UNLIMITED = 2.0**60
_SHARE = 0.9  # share of the free memory; the rest is left to other programs
_ASK_TORCH = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 3)"


def processors(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> int:
    """Return the number of processors that this process may use.

    The number is the minimum of the processor mask, the quotas of all control groups of the
    process, and the processors granted by SLURM. `root` contains ``proc`` and ``sys``.
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
    if slurm_limit := _slurm_processors(environ):
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
        for words in map(str.split, _lines(root / "proc/meminfo"))
        if len(words) > 1
    }
    sizes = [kilobytes[key] * 1024 if key in kilobytes else 4e9 if free else math.inf]
    for folder in _groups(root, "memory"):
        for names in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, usage = (_words(folder / name, 1)[0] for name in names)
            if limit is not None and limit < _UNLIMITED:
                sizes.append(limit - (max(0.0, (usage or 0.0) - _cached(folder)) if free else 0))
    gigabytes = (_SHARE if free else 1) * max(0.0, min(sizes)) / 1e9
    slurm_gb = _granted_gb(environ)
    # fork server and first worker, in addition to the program
    if free and sums_resident(root, environ):
        slurm_gb = max(0.0, _SHARE * slurm_gb - 2 * SHARED_GB)
    return min(gigabytes, slurm_gb)


def sums_resident(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether only SLURM limits the memory, so that shared memory counts for each process.

    Returns False if a control group sets the same limit, and outside of jobs.
    """
    return _granted_gb(environ) < memory_gb(root, {}, free=False)


def _granted_gb(environ: Mapping[str, str]) -> float:
    """Return the memory granted by SLURM on this node (GB), infinite without job or limit."""
    node_mib = _number(environ.get("SLURM_MEM_PER_NODE"))
    processor_mib = _number(environ.get("SLURM_MEM_PER_CPU"))
    if not node_mib and processor_mib:
        node_mib = processor_mib * (
            _number(environ.get("SLURM_CPUS_ON_NODE")) or _slurm_processors(environ) or 1.0
        )
    return node_mib * 2**20 / 1e9 if node_mib else math.inf


def has_gpu(
    root: Path = Path("/"),
    environ: Mapping[str, str] = os.environ,
    ask: Callable[[], bool] | None = None,
) -> bool:
    """Return whether torch can use a CUDA device that ``CUDA_VISIBLE_DEVICES`` does not hide.

    If there is a device, torch is queried by `ask`, by default in a separate process, because this
    process does not need torch.
    """
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and (
        not visible.strip() or visible.strip().startswith("-1") or visible == "NoDevFiles"
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
    """Return the processors per task of a SLURM job, or per node if unspecified."""
    return _number(environ.get("SLURM_CPUS_PER_TASK")) or _number(
        environ.get("SLURM_CPUS_ON_NODE")
    )


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the control group directories of this process (both versions), from its own upward.

    In a container, the path in ``/proc`` refers to the host, and only the root of the tree exists.
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
        group = top / path.strip("/")
        for folder in (group, *group.parents):
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
    """Return the lines of a file, none if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _words(path: Path, count: int) -> list[float | None]:
    """Return the first numbers in a file; None for missing words and words such as ``max``."""
    words = " ".join(_lines(path)).split()
    return [_number(words[index]) if index < len(words) else None for index in range(count)]


def _number(text: str | None) -> float | None:
    """Return a text as a number, None if it is not numeric."""
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None
