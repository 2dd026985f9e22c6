"""Memory that steps declare to the scheduler, and how many of them can run side by side.

A run takes what the program and its fork server hold, a little for each idle worker, and what the
steps add that run at the same time.
"""

import math
from dataclasses import fields

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


def step_gb(need: Need, sizes: Sizes) -> float:
    """Memory that the process of a step holds at the peak (GB), an idle worker's included."""
    return WORKER_GB + need.gigabytes(sizes)


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
