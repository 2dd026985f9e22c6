"""Volumes of a run that do not show the head as the other volumes do.

Examples are volumes without excitation, unfinished volumes, volumes with a slice of noise or with
motion during the volume, spikes of the receiver gain, and copies that fill up a run. The search
precedes the estimation of head motion, because such a volume affects its neighbors (slice timing)
and the whole run (boldref, components, models).

Head motion also changes an image, and is not an artifact. Therefore the search has two stages.
Large changes from one volume to the next cut the run into segments, in one pass. The largest
segment is trusted. Volumes of short segments are registered to trusted volumes close in time, and
compared with them. Most runs have one segment, so that nothing is registered.
"""

from collections.abc import Sequence
from operator import attrgetter

import numpy as np
from scipy import ndimage

from bids_sr.io.arrays import Array, Float, Float32, MaskArray
from bids_sr.io.frozen import frozen
from bids_sr.io.nifti import SeriesReader
from bids_sr.preproc.gain_steps import LONG_SEGMENT_GAIN_CHANGE, TRUSTED_FRACTION, is_short_segment
from bids_sr.preproc.hmc import MAD_TO_SD, MotionEstimator
from bids_sr.spatial.masks import brain_mask
from bids_sr.spatial.resampling import sample_volume

# The following values are our choices; docs/methods.md describes them, and
# benchmarks/results/outlier_volumes.md shows the volumes of the example and of other runs.
LEAST_VOLUMES = 10
"""Smallest number of steady-state volumes; the spread of a shorter run is unknown."""
# A change cuts the run if it exceeds the median change by this ratio (whole volume or one slice),
_CHANGE_RATIO, _SLICE_CHANGE_RATIO = 2.5, 5.0
# or if it changes the mean signal by this share and by this number of robust standard deviations.
_MIN_MEAN_CHANGE, _MEAN_CHANGE_SDS = 0.025, 8.0
# smallest change of a slice that cuts, relative to the rms signal of the run
_MIN_SLICE_CHANGE = 0.05
_N_NEIGHBORS = 5  # trusted volumes on each side of a volume; their median is the reference
_N_ORDINARY = 6  # trusted volumes that are compared in the same way, for the spread of the run
# limits of a single volume, relative to ordinary volumes and to the mean signal of the brain
_DIFFERENCE_RATIO, _MIN_DIFFERENCE = 3.0, 0.05
# limits of one slice, relative to the slice in ordinary volumes and to the brain
_SLICE_RATIO, _MIN_SLICE_DIFFERENCE = 4.0, 0.2
# limits of the gain in short segments, and in robust standard deviations
_GAIN_CHANGE, _GAIN_CHANGE_SDS = 0.03, 8.0
# Volumes of a segment that agree with each other may show another pose of the head, where the
# distortion differs. They are outliers if the correlation with the reference is below this limit.
_MIN_CORRELATION = 0.9
# correlation of an image that differs from the reference mainly in its gain
_GAIN_CORRELATION = 0.98
_MIN_SLICE_VOXELS = 30  # voxels of the brain in a slice that is compared


@frozen
class OutlierVolume:
    """Volume that does not show the head as the other volumes do, counted from 0."""

    volume: int
    reason: str


def find_outlier_volumes(reader: SeriesReader, *, n_dummy: int = 0) -> tuple[OutlierVolume, ...]:
    """Find the volumes of a run that do not show the head as the other volumes do.

    `reader` contains the BOLD series as acquired, with random access. Non-steady-state volumes are
    not examined. Outliers are in the order of time. No outlier is returned if the run has fewer
    than `LEAST_VOLUMES` steady-state volumes.
    """
    if reader.shape[3] - n_dummy < LEAST_VOLUMES:
        return ()
    changes = _measure_changes(reader, n_dummy)
    reasons = _find_copies(reader, changes, n_dummy)
    segments = _cut_into_segments(changes, n_dummy, reasons)
    if len(segments) > 1:
        reasons |= _compare_segments(reader, segments)
    return tuple(
        OutlierVolume(volume=volume, reason=reasons[volume]) for volume in sorted(reasons)
    )


@frozen
class _Changes:
    """Changes between successive volumes of a run.

    `change` is the root mean square difference from the previous volume by slice (T, Z), 0 in the
    first row. `mean` is the mean signal by slice (T, Z), and `level` the root mean square signal
    of the run.
    """

    change: Float
    mean: Float
    level: float


def _measure_changes(reader: SeriesReader, first: int) -> _Changes:
    """Measure the changes between successive volumes in one pass, from volume `first` on."""
    n_volumes, n_slices = reader.shape[3], reader.shape[2]
    change, mean, power = (np.zeros((n_volumes, n_slices)) for _ in range(3))
    n_voxels = reader.shape[0] * reader.shape[1]
    previous: Array | None = None
    for t, volume in enumerate(reader.volumes(first), first):
        slices = np.moveaxis(np.asarray(volume, dtype=np.float32), 2, 0).reshape(n_slices, -1)
        mean[t] = slices.mean(axis=1, dtype=np.float64)
        power[t] = np.einsum("zi,zi->z", slices, slices) / n_voxels
        if previous is not None:
            difference = slices - previous
            change[t] = np.sqrt(np.einsum("zi,zi->z", difference, difference) / n_voxels)
        previous = slices
    return _Changes(
        change=change, mean=mean, level=float(np.sqrt(np.median(power[first:].mean(axis=1))))
    )


def _find_copies(reader: SeriesReader, changes: _Changes, first: int) -> dict[int, str]:
    """Return the copies of earlier volumes with the reason.

    A series without noise has none if at least half of its volumes are copies.
    """
    copies: dict[int, str] = {}
    first_occurrence: dict[bytes, int] = {}
    for t in range(first, len(changes.mean)):
        original = first_occurrence.setdefault(changes.mean[t].tobytes(), t)
        if original < t and np.array_equal(reader.volume(original), reader.volume(t)):
            copies[t] = f"a copy of volume {original}"
    return copies if 2 * len(copies) < len(changes.mean) - first else {}


def _cut_into_segments(changes: _Changes, first: int, copies: dict[int, str]) -> list[Array]:
    """Cut a run at large changes, and return the volumes of each segment, without copies."""
    volumes = np.array([t for t in range(first, len(changes.change)) if t not in copies])
    successive = volumes[1:]
    slice_changes = changes.change[successive]
    volume_changes = np.sqrt((slice_changes**2).mean(axis=1))
    mean_signal = changes.mean[volumes].mean(axis=1)
    mean_changes = np.diff(mean_signal)
    mean_change_sd = MAD_TO_SD * float(np.median(np.abs(mean_changes)))
    is_cut = volume_changes > _CHANGE_RATIO * np.median(volume_changes)
    is_cut |= (
        slice_changes
        > np.maximum(
            _SLICE_CHANGE_RATIO * np.median(slice_changes, axis=0),
            _MIN_SLICE_CHANGE * changes.level,
        )
    ).any(axis=1)
    is_cut |= np.abs(mean_changes) > max(
        _MEAN_CHANGE_SDS * mean_change_sd, _MIN_MEAN_CHANGE * abs(float(np.median(mean_signal)))
    )
    return np.split(volumes, np.flatnonzero(is_cut) + 1)


def _compare_segments(reader: SeriesReader, segments: list[Array]) -> dict[int, str]:
    """Compare the volumes of short segments with the others, and return outliers and reasons.

    Segments are compared in the order of their length. A segment without an outlier is trusted
    when the next one is compared.
    """
    segments_by_length = sorted(segments, key=len, reverse=True)
    n_volumes = sum(map(len, segments))
    trusted_segments = [
        segment
        for rank, segment in enumerate(segments_by_length)
        if rank == 0 or len(segment) >= TRUSTED_FRACTION * n_volumes
    ]
    comparer = _Comparer(reader, np.sort(np.concatenate(trusted_segments)))
    spread = _measure_spread(comparer)
    reasons: dict[int, str] = {}
    for segment in segments_by_length[len(trusted_segments) :]:
        middle = int(segment[len(segment) // 2])  # this volume decides
        comparisons = sorted(comparer.compare(middle), key=attrgetter("difference"))
        segment_reasons = [
            _explain_outlier(comparison, spread, len(segment), reader.tr)
            for comparison in comparisons
        ]
        if all(segment_reasons):
            reasons |= {int(t): segment_reasons[0] for t in segment}
        else:
            comparer.trusted = np.union1d(comparer.trusted, segment)
    return reasons


@frozen
class _OrdinarySpread:
    """Medians over ordinary volumes; `gain_sd` is the robust standard deviation of the gain."""

    difference: float
    correlation: float
    gain_sd: float
    slices: Float


def _measure_spread(comparer: "_Comparer") -> _OrdinarySpread:
    """Return how much evenly spaced trusted volumes differ from their neighbors."""
    positions = np.linspace(0, len(comparer.trusted) - 1, _N_ORDINARY + 2).round()[1:-1]
    ordinary = [
        comparison
        for t in comparer.trusted[np.unique(positions).astype(int)]
        for comparison in comparer.compare(int(t), both_sides=False)
    ]
    gains = np.array([comparison.gain for comparison in ordinary])
    return _OrdinarySpread(
        difference=float(np.median([comparison.difference for comparison in ordinary])),
        correlation=float(np.median([comparison.correlation for comparison in ordinary])),
        gain_sd=MAD_TO_SD * float(np.median(np.abs(gains - np.median(gains)))),
        slices=np.median([comparison.slices for comparison in ordinary], axis=0),
    )


@frozen
class _Comparison:
    """Comparison of a registered volume with a reference within the brain.

    Differences are relative to the mean of the reference; `slices` has NaN in slices outside the
    brain (Z,).
    """

    gain: float
    correlation: float
    difference: float
    slices: Float


class _Comparer:
    """Comparison of volumes with trusted volumes close in time."""

    def __init__(self, reader: SeriesReader, trusted: Array) -> None:
        self._reader = reader
        self.trusted = trusted

    def compare(self, volume: int, *, both_sides: bool = True) -> list[_Comparison]:
        """Compare a volume with the trusted volumes before and after; or with one side only."""
        earlier_volumes = self.trusted[self.trusted < volume][-_N_NEIGHBORS:]
        later_volumes = self.trusted[self.trusted > volume][:_N_NEIGHBORS]
        sides = sorted((earlier_volumes, later_volumes), key=len, reverse=True)
        sides = [side for side in sides if len(side) >= min(_N_NEIGHBORS, len(self.trusted) - 1)]
        return [self._compare(volume, side) for side in sides[: None if both_sides else 1]]

    def _compare(self, volume: int, neighbors: Array) -> _Comparison:
        """Compare a volume with the median of its neighbors."""
        reader = self._reader
        reference = np.median([reader.volume(int(t)) for t in neighbors], axis=0)
        brain = brain_mask(reference, reader.affine)
        registered_volume = self._register(reader.volume(volume), reference, brain)
        return _compare_images(registered_volume, reference, brain)

    def _register(self, image: Array, reference: Array, brain: MaskArray) -> Float32:
        """Return a volume in the pose of a reference; as it is if the mask is too small."""
        affine = self._reader.affine
        try:
            estimator = MotionEstimator(reference, brain, affine)
        except ValueError:
            return np.asarray(image, dtype=np.float32)
        with np.errstate(all="ignore"):
            matrix, _ = estimator.fit(image, [np.eye(4)])
        return sample_volume(image, affine, image.shape, affine, matrix)


def _compare_images(image: Array, reference: Array, brain: MaskArray) -> _Comparison:
    """Compare a volume with a reference in the same pose, within the brain."""
    head = ndimage.binary_dilation(brain, iterations=2)
    image_values, reference_values = (
        np.asarray(volume[brain], dtype=np.float64) for volume in (image, reference)
    )
    mean_signal = float(reference_values.mean())
    squared_difference = (np.asarray(image, dtype=np.float64) - reference) ** 2
    voxels_per_slice = brain.sum(axis=(0, 1))
    with np.errstate(all="ignore"):
        square_sums = np.where(brain, squared_difference, 0).sum(axis=(0, 1))
        slices = np.sqrt(square_sums / voxels_per_slice) / mean_signal
        correlation = float(np.corrcoef(image[head], reference[head])[0, 1])
    return _Comparison(
        gain=float(image_values @ reference_values / (reference_values @ reference_values)),
        correlation=correlation if np.isfinite(correlation) else 0.0,
        difference=float(np.sqrt(squared_difference[brain].mean())) / mean_signal,
        slices=np.where(voxels_per_slice >= _MIN_SLICE_VOXELS, slices, np.nan),
    )


def _explain_outlier(
    comparison: _Comparison, spread: _OrdinarySpread, n_in_segment: int, tr: float
) -> str:
    """Return why a volume is an outlier; "" if it is not an outlier.

    `n_in_segment` is the number of volumes in its segment, and `tr` the repetition time (s).
    """
    gain_limit = max(
        _GAIN_CHANGE if is_short_segment(n_in_segment, tr) else LONG_SEGMENT_GAIN_CHANGE,
        _GAIN_CHANGE_SDS * spread.gain_sd,
    )
    has_gain_change = abs(comparison.gain - 1) > gain_limit
    if has_gain_change and comparison.correlation > _GAIN_CORRELATION:
        return f"{comparison.gain:.2f} times as bright as neighboring volumes"
    with np.errstate(invalid="ignore"):
        unlike_slices = np.flatnonzero(
            (comparison.slices > _SLICE_RATIO * spread.slices)
            & (comparison.slices > _MIN_SLICE_DIFFERENCE)
        )
    n_slices = int(np.isfinite(comparison.slices).sum())
    if 0 < unlike_slices.size < n_slices:
        slice_text = (
            f"slice {unlike_slices[0]}"
            if unlike_slices.size == 1
            else f"slices from {unlike_slices[0]} to {unlike_slices[-1]}"
        )
        return f"{slice_text} unlike neighboring volumes"
    correlation_limit = min(_MIN_CORRELATION, 1 - _DIFFERENCE_RATIO * (1 - spread.correlation))
    if comparison.correlation < correlation_limit:
        return f"correlation with neighboring volumes {comparison.correlation:.2f}"
    difference_limit = max(_DIFFERENCE_RATIO * spread.difference, _MIN_DIFFERENCE)
    is_unlike = n_in_segment == 1 and comparison.difference > difference_limit
    if has_gain_change or unlike_slices.size or is_unlike:
        return (
            f"differs from neighboring volumes by {comparison.difference:.1%} of the mean signal"
            f" (median of other volumes: {spread.difference:.1%})"
        )
    return ""


def interpolation_weights(
    outliers: Sequence[int], n_volumes: int, n_dummy: int = 0
) -> dict[int, dict[int, float]]:
    """Return the weights of the volumes that replace outliers by linear interpolation in time.

    Volumes are counted from 0. The first `n_dummy` volumes, which are not in the steady state, are
    not used. Returns weights of the nearest other volumes by outlier; at the ends of the run,
    there is only one.
    """
    usable_volumes = np.setdiff1d(np.arange(n_dummy, n_volumes), outliers)
    weights: dict[int, dict[int, float]] = {}
    for volume in outliers:
        earlier_volumes = usable_volumes[usable_volumes < volume]
        later_volumes = usable_volumes[usable_volumes > volume]
        if len(earlier_volumes) and len(later_volumes):
            before, after = earlier_volumes[-1], later_volumes[0]
            later_weight = float((volume - before) / (after - before))
            weights[volume] = {int(before): 1 - later_weight, int(after): later_weight}
        elif len(usable_volumes):
            nearest = earlier_volumes[-1] if len(earlier_volumes) else later_volumes[0]
            weights[volume] = {int(nearest): 1.0}
    return weights
