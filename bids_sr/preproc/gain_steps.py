"""Steps of the scale within a run, where all tissues and the background change by one factor.

Such a step has no physiological cause: two runs were joined into one file, or the receiver gain
changed. Activation, motion and drift change neither all tissues nor the noise outside the head by
one factor from one volume to the next.

The search needs one pass. It keeps a sample of the voxels of a few volumes in memory.
"""

import math
from collections import deque
from collections.abc import Sequence

import numpy as np

from bids_sr.io.arrays import Array, Float, Float32
from bids_sr.io.frozen import frozen

TRUSTED_FRACTION = 0.25
"""Share of the volumes in a part of a run that is used without a comparison with other parts."""
_SHORT_SEGMENT_S, _USUAL_TR_S = 10.0, 2.0  # s; the second if the header contains no TR
LONG_SEGMENT_GAIN_CHANGE = 0.1
"""Largest change of the scale in a longer part, relative to the other volumes; with a larger
change, its volumes are outliers."""
_MIN_STEP = 0.027  # log of the factor: 4 %, less 1.3 % of noise, motion, drift and activation
_MIN_MEAN_CHANGE = 0.015  # log change of the mean signal that is examined further
_SIDE = 5  # volumes on each side of a step
# A step takes at most two volumes. The change from the last volume before to the first volume
# after them is at least this share of the change between both sides, which a ramp does not reach.
_MIN_STEP_SHARE = 0.7
_MAX_SAMPLES = 16_384  # voxels, evenly distributed over the image
_MIN_VOXELS = 50  # sampled voxels of the head or background
# limits of the head and of the background, relative to the brightness of the head
_BRIGHT_PERCENTILE, _HEAD_THRESHOLD, _BACKGROUND_THRESHOLD = 98, 0.25, 0.1
# largest difference from the log factor of the head, relative to this factor
_MAX_BACKGROUND_DIFFERENCE, _MAX_TISSUE_DIFFERENCE = 0.4, 0.6
_MAX_KEPT_CHANGE = 0.3  # log change of a background that keeps its level, relative to the factor
# groups of voxels of the head by their brightness; the darkest contains the edge of the head
_N_BRIGHTNESS_GROUPS = 8
# smallest change of the background that rounding does not hide, in units of stored integers
_MIN_BACKGROUND_CHANGE = 1.5
# share of the voxels of the head that do not change, beyond noise and motion
_MAX_UNCHANGED_SHARE = 0.15


@frozen
class GainStep:
    """Step of the scale: first volume with the new scale (counted from 0), and the factor."""

    volume: int
    factor: float


class GainStepSearch:
    """Search for steps of the scale while the volumes of a run are read in order.

    `shape` is the shape of a volume (X, Y, Z), and `tr` the repetition time (s); 0 if it is not
    known. Values are `slope` times the stored value plus `intercept`.
    """

    def __init__(
        self, shape: Sequence[int], *, tr: float = 0.0, slope: float = 1.0, intercept: float = 0.0
    ) -> None:
        self._tr = tr
        self._stride = _choose_stride(shape)
        self._slope, self._intercept = slope, intercept
        self._window: deque[Float32] = deque(maxlen=2 * _SIDE + 1)
        self._is_head: Array | None = None
        self._candidates: list[_Candidate] = []
        self._n_volumes = 0
        self.signal: list[float] = []
        """Mean signal of the head in successive volumes, without the first and last ones."""

    def add(self, stored: Array) -> None:
        """Add the stored values of the next volume (X * Y * Z)."""
        values = stored[:: self._stride].astype(np.float32)
        if (self._slope, self._intercept) != (1, 0):
            values = values * np.float32(self._slope) + np.float32(self._intercept)
        self._window.append(values)
        self._n_volumes += 1
        if len(self._window) == 2 * _SIDE + 1:
            candidate = self._examine(self._n_volumes - 1 - _SIDE)
            if candidate is not None:
                self._candidates.append(candidate)

    def _examine(self, center: int) -> "_Candidate | None":
        """Compare the volumes before and after a volume; None if the scale does not change."""
        before, after = self._window[_SIDE - 1], self._window[_SIDE + 1]
        if self._is_head is None:
            self._is_head = _find_head(np.mean(self._window, axis=0))
        if self._is_head is None:
            return None
        earlier_mean, later_mean = (
            float(values[self._is_head].mean(dtype=np.float64)) for values in (before, after)
        )
        self.signal.append(earlier_mean)
        if (
            not min(earlier_mean, later_mean) > 0
            or abs(math.log(later_mean / earlier_mean)) < _MIN_MEAN_CHANGE
        ):
            return None
        return _measure_step(
            np.array(self._window, dtype=np.float64), center, unit=abs(self._slope)
        )

    def find(self) -> tuple[GainStep, ...]:
        """Return the steps between parts of the run that models would use.

        Shorter parts with another scale are outlier volumes (`bids_sr.preproc.outlier_volumes`).
        """
        steps = _merge(self._candidates)
        return steps if _lasts(steps, self._n_volumes, self._tr) else ()


@frozen
class _Candidate:
    """Step around a volume.

    `log_factor` is the change from the five volumes before to the five volumes after the volume
    `center`. `changes` are the log changes to `center` and to the volume after it.
    """

    center: int
    log_factor: float
    changes: tuple[float, float]


def _choose_stride(shape: Sequence[int]) -> int:
    """Return a step through the voxels of a volume that meets all columns and rows."""
    stride = max(1, math.prod(shape) // _MAX_SAMPLES)
    while math.gcd(stride, shape[0] * shape[1]) > 1:
        stride += 1
    return stride


def _measure_step(window: Float, center: int, *, unit: float) -> _Candidate | None:
    """Measure the step of the scale around the middle volume of a window (volumes, voxels).

    `unit` is the unit of stored integers. None if the scale does not change by one factor, or not
    within two volumes.
    """
    before, after = window[:_SIDE], window[_SIDE + 1 :]
    # both sides, because a moving head leaves some voxels and enters others
    is_head = _find_head(window.mean(axis=0))
    if is_head is None or not np.isfinite(window).all():
        return None
    is_head &= (before.min(axis=0) > 0) & (after.min(axis=0) > 0)
    if np.count_nonzero(is_head) < _MIN_VOXELS:
        return None
    log_head = np.log(np.maximum(window[:, is_head], np.finfo(np.float32).tiny))
    log_before, log_after = log_head[:_SIDE], log_head[_SIDE + 1 :]
    log_factor = float(np.median(np.median(log_after, axis=0) - np.median(log_before, axis=0)))
    change = float(np.median(log_head[_SIDE + 1] - log_head[_SIDE - 1]))
    if abs(log_factor) < _MIN_STEP or change / log_factor < _MIN_STEP_SHARE:
        return None
    is_same_in_background = _compare_background(before, after, log_factor, unit)
    if is_same_in_background is None:
        is_same_in_background = _changes_all_tissues(log_before, log_after, log_factor)
    if not is_same_in_background:
        return None
    first, second = (
        float(np.median(log_head[index + 1] - log_head[index])) for index in (_SIDE - 1, _SIDE)
    )
    return _Candidate(center=center, log_factor=log_factor, changes=(first, second))


def _find_head(mean: Array) -> Array | None:
    """Return the voxels of the head in a mean image; None if there is no bright head."""
    bright_level = float(np.percentile(mean, _BRIGHT_PERCENTILE)) if np.isfinite(mean).all() else 0
    is_head = mean > _HEAD_THRESHOLD * bright_level
    has_head = bright_level > 0 and np.count_nonzero(is_head) >= _MIN_VOXELS
    return is_head if has_head else None


def _compare_background(
    before: Float, after: Float, log_factor: float, unit: float
) -> bool | None:
    """Return whether the noise outside the head changes by the factor of the head.

    None if this cannot be determined: the image contains no noise outside the head, rounding to
    integers hides the change, or motion changes the background otherwise.
    """
    mean, later_mean = before.mean(axis=0), after.mean(axis=0)
    limit = _BACKGROUND_THRESHOLD * float(np.percentile(mean, _BRIGHT_PERCENTILE))
    is_background = np.maximum(mean, later_mean / math.exp(log_factor)) < limit
    is_background &= np.minimum(mean, later_mean) > 0
    if np.count_nonzero(is_background) < _MIN_VOXELS:
        return None
    level, later_level = float(mean[is_background].mean()), float(later_mean[is_background].mean())
    if level * abs(log_factor) < _MIN_BACKGROUND_CHANGE * unit:
        return None
    relative_change = math.log(later_level / level) / log_factor
    if abs(relative_change - 1) <= _MAX_BACKGROUND_DIFFERENCE:
        return True
    return False if abs(relative_change) <= _MAX_KEPT_CHANGE else None


def _changes_all_tissues(log_before: Float, log_after: Float, log_factor: float) -> bool:
    """Return whether all tissues of the head change by one factor.

    Tissues differ in brightness. Noise and motion spread the changes evenly around the factor, but
    if some tissues do not change, more voxels change by less than half of the factor than by more
    than one and a half.
    """
    earlier_level, later_level = log_before.mean(axis=0), log_after.mean(axis=0)
    change = (later_level - earlier_level) / log_factor
    if np.mean(change < 0.5) - np.mean(change > 1.5) > _MAX_UNCHANGED_SHARE:
        return False
    groups = np.array_split(change[np.argsort(earlier_level + later_level)], _N_BRIGHTNESS_GROUPS)
    return all(abs(float(np.median(group)) - 1) <= _MAX_TISSUE_DIFFERENCE for group in groups[1:])


def _merge(candidates: Sequence[_Candidate]) -> tuple[GainStep, ...]:
    """Return one step for all candidates at successive volumes."""
    groups: list[list[_Candidate]] = []
    for candidate in candidates:
        if groups and candidate.center - groups[-1][-1].center <= 1:
            groups[-1].append(candidate)
        else:
            groups.append([candidate])
    steps = []
    for group in groups:
        change_by_volume = {
            candidate.center + offset: abs(change)
            for candidate in group
            for offset, change in enumerate(candidate.changes)
        }
        strongest = max(group, key=lambda candidate: abs(candidate.log_factor))
        steps.append(
            GainStep(
                volume=max(change_by_volume, key=change_by_volume.__getitem__),
                factor=math.exp(strongest.log_factor),
            )
        )
    return tuple(steps)


def _lasts(steps: Sequence[GainStep], n_volumes: int, tr: float) -> bool:
    """Return whether a part with another scale is used for the models.

    Parts are compared with the longest part. As in the search for outlier volumes, a part of a
    quarter of the volumes is used, and a shorter part if its scale differs little.
    """
    edges = [0, *(step.volume for step in steps), n_volumes]
    lengths = np.diff(edges)
    levels = np.cumsum([0.0, *(math.log(step.factor) for step in steps)])
    differences = np.abs(levels - levels[int(lengths.argmax())])
    differs = differences >= _MIN_STEP
    is_kept = differs & [not is_short_segment(length, tr) for length in lengths]
    is_kept &= differences <= math.log1p(LONG_SEGMENT_GAIN_CHANGE)
    return bool(is_kept.any()) or lengths[differs].sum() >= TRUSTED_FRACTION * n_volumes


def is_short_segment(n_volumes: int, tr: float) -> bool:
    """Return whether a part of a run is too short for a change of the gain in time.

    The volumes of a short part whose scale is not the scale of the other volumes are outliers.
    `tr` is the repetition time (s); 0 if it is not known.
    """
    return n_volumes * (tr or _USUAL_TR_S) <= _SHORT_SEGMENT_S
