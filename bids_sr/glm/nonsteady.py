"""Number of non-steady-state volumes at the start of a run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.nifti import SeriesReader

_LOOKED_AT = 50  # volumes that may hold the transient at the start


def _count_nonsteady(signal: Sequence[float] | Array) -> int:
    """Number of volumes at the start that are brighter than the rest: not yet in steady state.

    Median and median absolute deviation come from the second half of (up to 50) means of volumes,
    where the transient is over. A volume is counted while its modified z score (Iglewicz and
    Hoaglin) is above 3.5 and it is 1 % brighter than this median and than that of the ten volumes
    after it, so that neither a drift nor a quiet signal makes dummies; the first that is not ends
    the count.
    """
    values = np.asarray(signal, dtype=np.float64)[:_LOOKED_AT]
    if len(values) < 6:
        return 0
    late = values[len(values) // 2 :]
    center = float(np.median(late))
    spread = float(np.median(np.abs(late - center))) / 0.6745
    after = np.array(
        [np.median(values[k + 1 : k + 11]) for k in range(len(values) - 1)] + [values[-1]]
    )
    excess = np.minimum(values - center, values - after)
    outlying = (values - center > 3.5 * spread) & (excess > 0.01 * abs(center))
    outlying[len(values) // 2 :] = False
    return int(np.argmin(outlying)) if not outlying.all() else len(values)


def nonsteady_at_start(path: Path) -> int:
    """Count non-steady-state volumes of an acquired series, from its first volumes alone.

    The signal is that of the head above the background, so that a hot voxel, padding or an offset
    does not matter.
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
        # up to the brightness that vessels have; beyond are hot voxels
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
