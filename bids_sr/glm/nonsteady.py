"""Detection of non-steady-state volumes at the start of a run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.nifti import SeriesReader

_LOOKED_AT = 50  # volumes that are examined for the transient


def _count_nonsteady(signal: Sequence[float] | Array) -> int:
    """Return the number of volumes at the start that are brighter than the rest.

    Median and median absolute deviation are computed from the second half of (up to 50) volume
    means, after the transient. A volume is counted as long as its modified z score (Iglewicz and
    Hoaglin) exceeds 3.5 and as it is 1 % brighter than this median and than the median of the ten
    following volumes. Drift and quiet signals are therefore not counted. Counting stops at the
    first volume that does not meet the criteria.
    """
    values = np.asarray(signal, dtype=np.float64)[:_LOOKED_AT]
    if len(values) < 6:
        return 0
    second_half = values[len(values) // 2 :]
    center = float(np.median(second_half))
    spread = float(np.median(np.abs(second_half - center))) / 0.6745
    following_median = np.array(
        [np.median(values[k + 1 : k + 11]) for k in range(len(values) - 1)] + [values[-1]]
    )
    excess = np.minimum(values - center, values - following_median)
    outlying = (values - center > 3.5 * spread) & (excess > 0.01 * abs(center))
    outlying[len(values) // 2 :] = False
    return int(np.argmin(outlying)) if not outlying.all() else len(values)


def nonsteady_at_start(path: Path) -> int:
    """Count non-steady-state volumes of an acquired series from its first volumes.

    The signal is the mean of head voxels above the background, so that very bright voxels, padding
    and offsets have no influence.
    """
    with SeriesReader(path) as reader:
        stop = min(_LOOKED_AT, reader.shape[3])
        lowest = highest = reader.volume(0)
        total = np.zeros(reader.shape[:3], np.float64)
        for volume in reader.volumes(stop=stop):
            lowest, highest = np.minimum(lowest, volume), np.maximum(highest, volume)
            total += volume
        varying = highest > lowest  # padding is constant
        if not varying.any():
            return 0
        mean = total[varying] / stop
        background, bright = np.percentile(mean, [2, 98])
        head = np.zeros(reader.shape[:3], dtype=bool)
        # The upper limit is the brightness of vessels and excludes very bright voxels.
        head[varying] = (mean > background + 0.3 * (bright - background)) & (
            mean < background + 3 * (bright - background)
        )
        if not head.any():
            head = varying
        return _count_nonsteady(
            [
                float(volume[head].mean(dtype=np.float64)) - background
                for volume in reader.volumes(stop=stop)
            ]
        )
