"""Memory of the steps: what each declares to the scheduler, and how many can run side by side.

The numbers were measured by ``benchmarks/resources.py``, in the process that ran the step. A run takes what the program
and its fork server hold, a little for each worker that waits, and what the steps add that run at one time.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

BASE_GB = 0.60
"""What the program holds, with the fork server whose libraries all workers share."""

WORKER_GB = 0.25
"""What a worker holds of its own between two steps."""

HEADROOM = 1.15
"""Over what was measured: other data sets, and what the allocator keeps for itself."""

DENSE_AT_ONCE = 0.52
"""Millions of voxels above which a volume goes through a wide network in parts."""

DENSE_TRAINING = 14.0
"""Ten dense layers keep some 2,000 channels of whole volumes for their gradients (``benchmarks/dense_memory.py``)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Millions of voxels of the largest T1w image (0 without one), acquired volume and high-resolution volume.

    `scans` are those of the largest high-resolution scan of ``--sr-target anat``, and 0 otherwise; `trained` those of
    all heads that one network is trained on; `learned` those of the high-resolution volume where a method learns from
    the run's own volumes, and 0 otherwise; `dense` those where a dense network of recipe `paper` works.
    """

    scans: float = 0.0
    trained: float = 0.0
    t1w: float = 0.0
    low: float = 0.0
    high: float = 0.0
    learned: float = 0.0
    dense: float = 0.0

    @property
    def dense_piece(self) -> float:
        """What of that goes through the network at once when it is applied."""
        return min(self.dense, DENSE_AT_ONCE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """What a kind of step adds (GB): always, and for a million voxels of each grid. `t1w` alone needs a T1w image."""

    always: float = 0.03
    t1w: float = 0.0
    low: float = 0.0
    high: float = 0.1
    scans: float = 0.0
    trained: float = 0.0
    learned: float = 0.0
    dense: float = 0.0
    dense_piece: float = 0.0

    def gigabytes(self, sizes: Sizes) -> float:
        """With head room, on grids of these sizes."""
        grids = [item.name for item in fields(self) if item.name != "always"]
        return HEADROOM * (self.always + sum(getattr(self, name) * getattr(sizes, name) for name in grids))


def step_gb(need: Need, sizes: Sizes) -> float:
    """Memory that the process of a step holds of its own at the peak (GB)."""
    return WORKER_GB + need.gigabytes(sizes)


def largest_gb(needs: Iterable[Need], sizes: Sizes) -> float:
    """The step that needs most, of those that there are (GB)."""
    return max(step_gb(need, sizes) for need in needs)


def workers_that_fit(mem_gb: float, nprocs: int, largest: float) -> int:
    """How many workers there may be, so that the largest step can run beside all others waiting; 0 if not even one."""
    room = mem_gb - BASE_GB - largest
    return 0 if room < -1e-9 else min(nprocs, 1 + math.floor(room / WORKER_GB + 1e-9))


def for_steps_gb(mem_gb: float, workers: int) -> float:
    """Memory that the steps which run at one time may declare together, so that the whole stays within `mem_gb`."""
    return mem_gb - BASE_GB - WORKER_GB * (workers - 1)
