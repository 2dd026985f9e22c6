"""Detection of non-steady-state volumes at the start of a run.

nipype's ``NonSteadyStateDetector`` is not used, because it counts volumes that are in the steady
state: all 10 volumes before a head movement that changes the mean signal by 1 %, or 5 volumes of
rest before a task that changes it by .5 %. One very bright voxel hides a transient of
three volumes from it.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.checksums import once_per_state
from bids_sr.io.nifti import SeriesReader
from bids_sr.preproc.alternation import measure_alternation

# The first half of the examined volumes may contain a transient, which lasts a few T1. The median
# and the spread of the signal in the second half require a number of volumes.
_TRANSIENT_S = 12.5  # s, shortest time that is searched for a transient
_N_TRANSIENT = 25  # smallest number of volumes that are searched for a transient
_FOLLOWING_S = 5.0  # s, shortest time that a volume is compared with
_N_FOLLOWING = 10  # smallest number of volumes that a volume is compared with
_MIN_VOLUMES = 6  # volumes; shorter runs are not examined
_MIN_Z = 3.5  # modified z score of an outlier (Iglewicz and Hoaglin)
_MAD_PER_SD = 0.6745  # median absolute deviation of a normal distribution with SD 1
_MIN_EXCESS = 0.01  # of the median signal
_MAX_LOSS = 0.5  # of the median signal; volumes with less are empty or contain noise
# mean signal of head voxels, above the background as a fraction of the 98th percentile
_HEAD_RANGE = (0.3, 3.0)


@once_per_state
def count_nonsteady_volumes(path: Path) -> int:
    """Count non-steady-state volumes of an acquired series from its first volumes.

    The signal is the mean of head voxels above the background, so that very bright voxels, padding
    and offsets have no influence.
    """
    with SeriesReader(path, stays_open=True) as reader:
        stop = min(2 * limit_nonsteady(reader.tr), reader.shape[3])
        total = np.zeros(reader.shape[:3], np.float64)
        lowest, highest = np.full_like(total, np.inf), np.full_like(total, -np.inf)
        for volume in reader.volumes(stop=stop):
            lowest, highest = np.minimum(lowest, volume), np.maximum(highest, volume)
            total += volume
        varies = highest > lowest  # padding is constant
        if not varies.any():
            return 0
        mean = total[varies] / stop
        background, bright = np.percentile(mean, [2, 98])
        # The upper limit is the brightness of vessels and excludes very bright voxels.
        lower, upper = (background + factor * (bright - background) for factor in _HEAD_RANGE)
        head = np.zeros(reader.shape[:3], dtype=bool)
        head[varies] = (mean > lower) & (mean < upper)
        if not head.any():
            head = varies
        return _count_nonsteady(
            [
                float(volume[head].mean(dtype=np.float64)) - background
                for volume in reader.volumes(stop=stop)
            ],
            _count_volumes(_FOLLOWING_S, _N_FOLLOWING, reader.tr),
        )


def limit_nonsteady(tr: float) -> int:
    """Return the largest number of volumes that `count_nonsteady_volumes` can count.

    `tr` is the repetition time (s), or 0 if it is not known.
    """
    return _count_volumes(_TRANSIENT_S, _N_TRANSIENT, tr)


def _count_volumes(seconds: float, least: int, tr: float) -> int:
    """Return the number of volumes in a time, at least `least`, also if TR (s) is unknown (0)."""
    return max(least, math.ceil(seconds / tr)) if tr > 0 else least


def _count_nonsteady(signal: Sequence[float] | Array, n_following: int = _N_FOLLOWING) -> int:
    """Return the number of volumes at the start that are brighter than the rest.

    Median and median absolute deviation are computed from the second half of the volume means,
    after the transient. A volume is counted as long as its modified z score (Iglewicz and Hoaglin)
    exceeds 3.5 and as it is 1 % brighter than this median and than the median of the `n_following`
    volumes after it. Drift and quiet signals are therefore not counted. Counting stops at the
    first volume that does not meet the criteria, unless its signal is below half of the median: an
    empty or a noise volume counts if brighter volumes follow. If every second volume has another
    contrast, the darker volumes are scaled up first.
    """
    values = np.array(signal, dtype=np.float64)
    n = len(values)
    if n < _MIN_VOLUMES:
        return 0
    if share := measure_alternation(values[n // 2 :]):
        darker = int(np.median(values[1::2]) < np.median(values[::2]))
        values[darker::2] /= 1 - share
    second_half = values[n // 2 :]
    center = float(np.median(second_half))
    robust_sd = float(np.median(np.abs(second_half - center))) / _MAD_PER_SD
    following_medians = [np.median(values[k + 1 : k + 1 + n_following]) for k in range(n - 1)]
    excess = np.minimum(values - center, values - np.array([*following_medians, values[-1]]))
    is_outlier = (values - center > _MIN_Z * robust_sd) & (excess > _MIN_EXCESS * abs(center))
    is_outlier[n // 2 :] = False
    is_bad = values - center < -_MAX_LOSS * abs(center)
    is_bad[n // 2 :] = False
    leading = is_outlier[: np.argmin(is_outlier | is_bad)]
    return int(np.flatnonzero(leading).max(initial=-1)) + 1
