"""Processor time of the steps of a stage and of methods, from the sizes of images."""

from math import inf

from bids_sr.io.frozen import frozen


@frozen
class RunTime:
    """Processor time in seconds of a step of a stage, or of training and applying a method.

    `always` does not depend on the grid. `low` and `high` are per million voxels of one volume on
    the acquired and on the high-resolution grid, `volumes` per million voxels of all volumes on
    the grid of the step, `maps` per million high-resolution voxels of all contrasts and smoothing
    widths, and `t1w` per million voxels of the T1w image. `series` is the time for applying a
    network per million voxels of all volumes on the high-resolution grid, without interpolation.
    `most` is the number of high-resolution voxels (millions) above which training time no longer
    increases.
    """

    always: float = 0.0
    low: float = 0.0
    high: float = 0.0
    most: float = inf
    volumes: float = 0.0
    maps: float = 0.0
    series: float = 0.0
    t1w: float = 0.0

    def seconds(
        self,
        *,
        low: float = 0.0,
        high: float = 0.0,
        volumes: float = 0.0,
        maps: float = 0.0,
        t1w: float = 0.0,
    ) -> float:
        """Return the processor time (s), excluding the time for applying a network.

        Arguments are numbers of voxels in millions, as described in `RunTime`.
        """
        total = self.always + self.low * low + self.high * min(high, self.most)
        return total + self.volumes * volumes + self.maps * maps + self.t1w * t1w
