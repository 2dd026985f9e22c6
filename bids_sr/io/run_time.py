"""Declared processor time of steps and methods, for estimates, progress and the order of steps."""

from math import inf

from bids_sr.io.frozen import frozen


@frozen
class RunTime:
    """Processor time in seconds of a step (see ``benchmarks/resources.py``), or of a method.

    `always` does not depend on the grid. `low` and `high` are per million voxels of one volume on
    the acquired and on the high-resolution grid, `volumes` per million voxels of all volumes on
    the high-resolution grid, and `t1w` per million voxels of the T1w image. `series` is the time
    for applying a network per million voxels of all volumes on the high-resolution grid, without
    interpolation. `trains` states whether the step trains a network: its time is then the time
    with the threads of the step on a CPU. `most` is the number of high-resolution voxels
    (millions) above which training time no longer increases, and `limit` a time limit that stops
    the step.
    """

    always: float = 0.0
    low: float = 0.0
    high: float = 0.0
    most: float = inf
    volumes: float = 0.0
    series: float = 0.0
    t1w: float = 0.0
    limit: float = inf
    trains: bool = False

    def seconds(
        self, *, low: float = 0.0, high: float = 0.0, volumes: float = 0.0, t1w: float = 0.0
    ) -> float:
        """Return the processor time (s), excluding the time for applying a network.

        Arguments are numbers of voxels in millions, on the grids described in `RunTime`.
        """
        total = self.always + self.low * low + self.high * min(high, self.most)
        return min(self.limit, total + self.volumes * volumes + self.t1w * t1w)
