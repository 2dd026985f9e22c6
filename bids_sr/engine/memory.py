"""Memory that steps declare to the scheduler, and how many of them can run side by side.

A run takes what the program and its fork server hold, a little for each idle worker, and what the
steps add that run at the same time.
"""

import math
from dataclasses import fields

from bids_sr.io.frozen import frozen

BASE_GB = 0.60
"""Memory of the program and its fork server, whose libraries are shared by all workers."""

WORKER_GB = 0.25
"""Memory of a waiting worker that is not shared."""

SHARED_GB = 0.45
"""Memory shared by fork server and workers, which a sum of resident memory counts for each
process.
"""

_HEADROOM = 1.15  # safety factor for other data sets and for memory retained by the allocator

# largest number of patterns of a calibration run, and values (millions) in matrices of a tile
_MAX_PATTERNS, _TILE_MILLIONS = 40, 60

# millions of voxels above which a volume passes the network of the `tv` paper in parts
_MAX_DENSE_MILLIONS = 0.52


@frozen
class Sizes:
    """Sizes of the largest images, in millions of voxels; 0 if there is no such image.

    `scans` is the largest high-resolution scan of ``--sr-target anat``, `trained` are all heads
    that one network is trained on, and `t1w` is the largest T1w image. `low` and `high` are the
    acquired and the high-resolution volume. `learned`, `measured` and `dense` are the
    high-resolution volume if a method learns from the run's own volumes, if a run has a measured
    reference, and if the network of recipe ``paper`` of `tv` is used. `spaces` is the sum of a
    run's grids in other spaces.

    `calibrated` is in millions of values held in memory for a run with a calibration run, see
    `count_calibration_millions`. `threads` is the number of further threads while maps of a run
    are applied; each thread holds the matrices of a slice.
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
        """Voxels (millions) that pass the network of the `tv` paper at once."""
        return min(self.dense, _MAX_DENSE_MILLIONS)


@frozen
class Need:
    """Memory of a step (GB): a constant part, and parts proportional to the image sizes.

    `always` is independent of sizes (GB). Other fields are per million voxels of the size with the
    same name (GB), except `calibrated`, which is per million values held for a calibration run,
    and `threads`, which is per further thread.
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
        size_names = [item.name for item in fields(self) if item.name != "always"]
        return _HEADROOM * (
            self.always + sum(getattr(self, name) * getattr(sizes, name) for name in size_names)
        )

    def has_grids(self, sizes: Sizes) -> bool:
        """Return whether the grids that the step requires exist among the sizes."""
        required = ("t1w", "scans", "trained", "learned")
        return all(getattr(sizes, name) for name in required if getattr(self, name))


def count_calibration_millions(high: float) -> float:
    """Return the values (millions) that a calibrated method holds in memory.

    These are patterns (`high` million voxels) and the matrices of a tile; see
    `bids_sr.sr.prior_maps.prior`.
    """
    return _MAX_PATTERNS * high + _TILE_MILLIONS


def step_gb(need: Need, sizes: Sizes) -> float:
    """Return the peak memory (GB) of the process of a step, including an idle worker."""
    return WORKER_GB + need.gigabytes(sizes)


def workers_that_fit(
    mem_gb: float, nprocs: int, largest: float, worker_gb: float = WORKER_GB
) -> int:
    """Return the number of workers that fit in memory with the largest step; 0 if none does.

    `largest` (GB) is the memory of the process of this step, `worker_gb` the memory of a waiting
    worker.
    """
    free_gb = mem_gb - BASE_GB - largest
    return 0 if free_gb < -1e-9 else min(nprocs, 1 + math.floor(free_gb / worker_gb + 1e-9))


def for_steps_gb(mem_gb: float, workers: int, worker_gb: float = WORKER_GB) -> float:
    """Return the memory (GB) that concurrent steps may declare together within `mem_gb`.

    It excludes the program and all workers but one, which take `worker_gb` (GB) while they wait.
    """
    return mem_gb - BASE_GB - worker_gb * (workers - 1)
