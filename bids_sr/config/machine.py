"""What this machine lets the program have: processors, memory and a GPU.

A container, a SLURM job and a mask of processors each give less than the machine has, and a
program that takes what the machine has is throttled or killed. So the least of all counts.

Memory of the steps: what each declares to the scheduler, and how many can run side by side.

The numbers were measured by ``benchmarks/resources.py``, in the process that ran the step. A run
takes what the program and its fork server hold, a little for each worker that waits, and what the
steps add that run at one time.
"""

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path

from bids_sr.frozen import frozen

BASE_GB = 0.60
"""What the program holds, with the fork server whose libraries all workers share."""

WORKER_GB = 0.25
"""What a worker holds of its own between two steps."""

SHARED_GB = 0.45
"""What fork server and workers share, and a sum of resident memory counts once for each."""

_HEADROOM = 1.15
"""Over what was measured: other data sets, and what the allocator keeps for itself."""

_DENSE_AT_ONCE = 0.52
"""Millions of voxels above which a volume goes through a wide network in parts."""


@frozen
class Sizes:
    """Millions of voxels of the T1w image, the acquired volume and the high-resolution volume.

    The T1w image is the largest one, with 0 voxels if there is none.

    `scans` are those of the largest high-resolution scan of ``--sr-target anat``, and 0 otherwise;
    `trained` those of all heads that one network is trained on; `learned` those of the
    high-resolution volume where a method learns from the run's own volumes, and 0 otherwise;
    `measured` those of it where a run has a measured reference; `dense` those where a dense
    network of recipe `paper` works; `spaces` those of a run's grids in other spaces, all of them
    together; `calibrated` millions of values that are held of a run with a calibration, see
    `held_of_calibrated`, and 0 without one. `threads`: further threads that each hold the matrices
    of a slice, where maps of a run are applied.
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
        """What of that goes through the network at once when it is applied."""
        return min(self.dense, _DENSE_AT_ONCE)


@frozen
class Need:
    """Memory that a kind of step adds (GB): a constant, and a value per million voxels.

    There is one such value for each grid. `t1w` alone needs a T1w image.

    `always`: memory whatever the sizes are (GB). `low`: memory for a million voxels of the
    acquired volume (GB). `high`: memory for a million voxels of the high-resolution volume (GB).
    `scans`: memory for a million voxels of a structural scan (GB). `trained`: memory for a million
    voxels of all heads trained on (GB). `learned`: memory for a million high-resolution voxels of
    a run learned from (GB). `measured`: memory for a million more with a measured reference (GB).
    `dense`: memory for a million voxels that a dense network trains on (GB). `dense_piece`: memory
    for a million voxels in a dense network at once (GB). `spaces`: memory for a million voxels of
    grids in other spaces (GB). `calibrated`: memory for a million values held with a calibration
    (GB). `threads`: memory for each further thread (GB).
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
        """With head room, 15 percent more than measured, on grids of these sizes."""
        grids = [item.name for item in fields(self) if item.name != "always"]
        return _HEADROOM * (
            self.always + sum(getattr(self, name) * getattr(sizes, name) for name in grids)
        )

    def is_there(self, sizes: Sizes) -> bool:
        """Whether data of these sizes have the grids that it works on.

        `sizes`: millions of voxels of the largest images.
        """
        asked = ("t1w", "scans", "trained", "learned")
        return all(getattr(sizes, name) for name in asked if getattr(self, name))


def held_of_calibrated(high: float) -> float:
    """Return the values (millions) held in memory by a calibrated method.

    These are patterns (`high` million voxels) and the matrices of a tile; see
    `bids_sr.sr.variance.prior`.
    """
    return 40 * high + 60


def _of_t1w(always: float, t1w: float) -> Need:
    return Need(always=always, t1w=t1w, high=0.0)


# Ten dense layers keep some 2,000 channels of whole volumes for their gradients
# (``benchmarks/results/dense_memory.md``)
_DENSE_TRAINING = 14.0
# Points of float32, a volume and its copies; see `bids_sr.spatial.output_grids`
_SPACES = 0.03
SEGMENT = _of_t1w(0.31, 0.032)
REGION = _of_t1w(0.05, 0.052)
SHOW_IN_TEMPLATE = _of_t1w(0.35, 0.030)
TRAIN = Need(always=0.3, high=0.2, dense=_DENSE_TRAINING)
TRAIN_ON_VOLUMES = Need(always=0.45, high=0.0, learned=0.6, dense=_DENSE_TRAINING)
VARIANCE = Need(always=0.1, high=0.57)
SERIES = Need(always=0.06, high=0.25, dense_piece=1.6, spaces=_SPACES)
# 0.21 and 0.30 GB for a second thread on 64 x 64 x 34 voxels, without and with a calibration
RESOLVE = replace(SERIES, calibrated=4e-3, threads=0.27)
# 100 volumes as float32, those of the brain once more, and a slice in double precision
CALIBRATE = Need(always=0.06, high=0.7)
# 25 blocks: 0.32 GB on 0.79 million voxels, 0.91 GB where those measured are compared
MAPS = Need(always=0.06, high=0.23)
EFFECTS = Need(always=0.06, high=0.33, measured=0.76)
TO_TEMPLATE = Need(always=0.35, spaces=_SPACES)
# No less than was measured on three contrasts of a million voxels (`benchmarks/resources.py`), and
# for a million voxels more as many float32 arrays as a step holds at one time; registration alone,
# on 1.2 million voxels: 0.44 GB rigidly, 0.76 GB with a deformation, with the libraries
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
"""Of the steps of every graph none needs more than these, so that preflight need not import the
steps.
"""


def step_gb(need: Need, sizes: Sizes) -> float:
    """Memory that the process of a step holds at the peak (GB), an idle worker's included."""
    return WORKER_GB + need.gigabytes(sizes)


def largest_gb(sizes: Sizes) -> float:
    """The step that needs most (GB).

    Memory of its process at the peak (GB).
    """
    return max(step_gb(need, sizes) for need in _LARGE if need.is_there(sizes))


def workers_that_fit(
    mem_gb: float, nprocs: int, largest: float, worker_gb: float = WORKER_GB
) -> int:
    """Return the workers that fit beside the largest step, all waiting; 0 if none fits.

    `largest` (GB) is that of the process of this step, `worker_gb` that of a worker that waits.
    """
    room = mem_gb - BASE_GB - largest
    return 0 if room < -1e-9 else min(nprocs, 1 + math.floor(room / worker_gb + 1e-9))


def for_steps_gb(mem_gb: float, workers: int, worker_gb: float = WORKER_GB) -> float:
    """Return the memory (GB) that concurrent steps may declare together within `mem_gb`.

    It is what is left beside the program and all workers but one, which take `worker_gb` (GB)
    while they wait.
    """
    return mem_gb - BASE_GB - worker_gb * (workers - 1)


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
