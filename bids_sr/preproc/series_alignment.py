"""Check of another program's series against its run: signal, position and head motion.

A series is in the positions of the acquired volumes, or corrected for head motion. The user
specifies which, and `find_rejection` rejects a series that contradicts this.

Programs such as tedana and patch-denoise write 0 or NaN outside a mask. These voxels have no
signal and are excluded from all comparisons.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from nibabel.affines import apply_affine, voxel_sizes
from scipy import ndimage

from bids_sr.io.arrays import Array, Float, MaskArray
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import AS_STORED, AxisOrder, reorder
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.notices import InvalidInput
from bids_sr.io.volume import Volume
from bids_sr.preproc.head_comparison import signal_ratio
from bids_sr.preproc.hmc import estimate_motion
from bids_sr.preproc.same_contrast import refine
from bids_sr.spatial.masks import MaskError, brain_mask, grow, head_mask
from bids_sr.spatial.matrices import apply_along, block_matrix, downsample
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.similarity import pearson_correlation
from bids_sr.spatial.transforms import rms_distance, voxel_centers

_N_PAIRS = 6  # pairs of consecutive volumes, evenly spaced over the run, that are compared
# limits in mm and in acquired voxels (rms displacement) below which the motion of the run is too
# small to find out whether it was corrected
_MIN_MOTION_MM, _MIN_MOTION_VOXELS = 0.2, 0.05
# Motion of a series relative to its run. A series with less motion than the first value was
# corrected, and a series with more motion than the second value was not.
_MAX_CORRECTED_MOTION, _MIN_UNCORRECTED_MOTION = 0.35, 0.65
# shifts in acquired voxels along any axis: series above the first are rejected, shifts above the
# second are reported
_MAX_SHIFT, _REPORTED_SHIFT = 0.2, 0.1
# fraction of the signal of the run; voxels with a lower mean are outside the mask of the series
_MIN_SIGNAL_FRACTION = 0.1
# fraction of the head; a series with signal in a smaller part has no usable mask
_MIN_COVERED_FRACTION = 0.1
# fraction of an acquired voxel: less than one of its high-resolution voxels
_MAX_ZERO_FRACTION = 0.01
# distance (mm) from the border of the brain beyond which NaN is not accepted as a mask
_MAX_NAN_DEPTH_MM = 10.0
# correlation of the mean images in the head, below which the series is from another head or has
# lost its mean
_MIN_MEAN_CORRELATION = 0.6
# correlation of slightly smoothed volume-to-volume changes, below which the series is from another
# run
_MIN_CHANGE_CORRELATION = 0.05
# distance (mm) between two references of one run above which they are in different frames
_MAX_REFERENCE_DISTANCE_MM = 5.0
# ratio of signals above which a series is scaled to the signal of its run
_MAX_SIGNAL_RATIO = 1.05
_CHANGE_SIGMA_VOXELS = 1.5  # voxels, smoothing of changes (sigma)
_MEAN_FWHM_MM = (0.0, 4.0, 6.0, 8.0, 10.0, 12.0, 16.0)  # mm, smoothing of mean images (FWHM)


@frozen
class Alignment:
    """Alignment of a compared series with its run.

    `motion` is the head motion of the series relative to the run: 1 if it is the same, 0 if it was
    corrected, NaN if the head hardly moved. `shift` is the shift of the mean image relative to the
    run, in acquired voxels along the axes of the run. `mean_similarity` is the correlation of the
    mean images in the head, and `change_similarity` the correlation of the changes between
    consecutive volumes. `scale` converts the signal of the series to the signal of the run (1 if
    they agree), and `offset` is added after scaling, in units of the run. `mean` is the mean image
    of the converted series on the acquired grid, and `has_signal` are the voxels of this grid that
    are not masked in the series (3D).
    """

    motion: float
    shift: Float
    mean_similarity: float
    change_similarity: float
    scale: float
    offset: float
    mean: Array
    has_signal: MaskArray

    @property
    def shift_text(self) -> str:
        """Text on the shift: voxels along each axis with a shift that is worth reporting."""
        phrases = [
            f"{size:+.2f} voxels along {axis}".replace("-", "−")
            for size, axis in zip(self.shift, "xyz", strict=True)
            if abs(size) >= _REPORTED_SHIFT
        ]
        return ", ".join(phrases)

    def convert(self, volume: Array) -> Array:
        """Return a volume of the series in the signal units of the run, without NaN."""
        finite = np.nan_to_num(volume, posinf=0, neginf=0)
        return np.float32(self.scale) * finite + np.float32(self.offset)

    def facts(self) -> dict[str, object]:
        """Return the alignment as plain values for the report."""
        return {
            "shift": self.shift_text,
            "alike": round(self.mean_similarity, 3),
            "scale": float(f"{self.scale:.6g}"),
            "offset": float(f"{self.offset:.6g}"),
        }


def align_volumes(
    acquired: Mapping[int, Array], compared: Mapping[int, Array], affine: Array
) -> Alignment:
    """Align volumes of a series with the volumes of its run at the same moments.

    Parameters
    ----------
    acquired : Mapping[int, Array]
        Acquired volumes of the run by number (x, y, z).
    compared : Mapping[int, Array]
        Volumes of the compared series by number (3D), on the same grid or a finer grid over the
        same field of view.
    affine : Array
        Voxel-to-world matrix of the acquired grid (4 x 4, RAS+ mm).

    Returns
    -------
    Alignment
        Signal, position and head motion of the compared series relative to the run.

    Raises
    ------
    InvalidInput
        The acquired series shows no head, or the compared series is NaN inside the brain.
    """
    mean = np.mean(list(acquired.values()), axis=0)
    try:
        head, brain = head_mask(mean, affine), brain_mask(mean, affine)
    except (MaskError, ValueError) as error:
        raise InvalidInput(f"no head could be found in the acquired series ({error})") from None
    _check_brain_for_nan(compared, brain, affine)
    series = {t: downsample(np.nan_to_num(volume), mean.shape) for t, volume in compared.items()}
    has_signal = _find_signal(compared, mean, head)
    stored_mean = np.mean(list(series.values()), axis=0)
    scale, offset = _fit_signal_scale(mean[head & has_signal], stored_mean[head & has_signal])
    series = {t: scale * volume + offset for t, volume in series.items()}
    series_mean = scale * stored_mean + offset
    region = _select_region(head, has_signal)
    # A smoothed series seems shifted relative to its unsmoothed run, because smoothing crosses the
    # edge of the field of view.
    reference = mean
    for _ in range(2):
        pose = _register(reference, series_mean, has_signal, region, affine)
        aligned_mean = sample_volume(series_mean, affine, mean.shape, affine, pose)
        reference = _smooth_alike(mean, aligned_mean, region, affine)
    points = voxel_centers(region, affine, 7)
    shift_mm = np.median(apply_affine(pose, points) - points, axis=0)
    return Alignment(
        motion=_compare_motion(acquired, series, region, affine),
        shift=np.linalg.inv(affine[:3, :3]) @ shift_mm,
        # A series that is only shifted must not count as a different series.
        mean_similarity=max(
            pearson_correlation(mean[region], image[region])
            for image in (series_mean, aligned_mean)
        ),
        change_similarity=pearson_correlation(
            *(_smoothed_changes(volumes, region) for volumes in (acquired, series))
        ),
        scale=scale,
        offset=offset,
        mean=series_mean,
        has_signal=has_signal & (mean > 0),
    )


def _check_brain_for_nan(volumes: Mapping[int, Array], brain: MaskArray, affine: Array) -> None:
    """Raise InvalidInput if a series is NaN inside the brain.

    A region of NaN voxels that extends outside the brain, and not deep into it, counts as a mask.
    """
    is_stored_nan = np.any([~np.isfinite(volume) for volume in volumes.values()], axis=0)
    is_nan = _average_to_grid(is_stored_nan, brain.shape) > 0.5
    outer_nan = ndimage.binary_propagation(is_nan & ~brain, mask=is_nan)
    is_deep = grow(brain, affine, -_MAX_NAN_DEPTH_MM)
    if count := int((is_nan & (is_deep | ~outer_nan)).sum()):
        raise InvalidInput(
            f"{count} voxels inside the brain are NaN",
            "NaN values are allowed only outside the brain.",
        )


def _find_signal(compared: Mapping[int, Array], mean: Array, head: MaskArray) -> MaskArray:
    """Find the voxels of the acquired grid that are not masked in a series.

    `mean` is the mean image of the run, and `head` the mask of the head on the acquired grid. A
    voxel is masked if any of its high-resolution voxels is 0, or if its mean signal is much lower
    than in the run. Where the run is dark itself, any positive mean is signal.
    """
    stored_mean = np.mean([np.nan_to_num(volume) for volume in compared.values()], axis=0)
    series_mean = _average_to_grid(stored_mean, mean.shape)
    is_dark = mean < _MIN_SIGNAL_FRACTION * np.median(mean[head])
    least_signal = _MIN_SIGNAL_FRACTION * signal_ratio(mean, series_mean, head) * mean
    is_complete = _average_to_grid(stored_mean == 0, mean.shape) < _MAX_ZERO_FRACTION
    return is_complete & (series_mean > np.where(is_dark, 0, least_signal))


def _average_to_grid(volume: Array, shape: Sequence[int]) -> Array:
    """Average a volume over the voxels of a lower-resolution grid with the same field of view."""
    for axis, size in enumerate(shape):
        if volume.shape[axis] != size:
            volume = apply_along(block_matrix(volume.shape[axis], size), volume, axis)
    return volume


def _fit_signal_scale(run_signal: Array, series_signal: Array) -> tuple[float, float]:
    """Return scale and offset from the mean signal of a series to the mean signal of its run.

    Either the scale or the offset is fitted, whichever fits better. If the signals differ by less
    than 5 percent, the series is not changed.
    """
    if not run_signal.size:
        return 1.0, 0.0
    scale = float(np.median(run_signal)) / max(float(np.median(series_signal)), 1e-9)
    offset = float(np.median(run_signal - series_signal))
    if 1 / _MAX_SIGNAL_RATIO <= scale <= _MAX_SIGNAL_RATIO:
        return 1.0, 0.0
    scale_error, offset_error = (
        float(np.square(run_signal - fitted_signal).sum())
        for fitted_signal in (scale * series_signal, series_signal + offset)
    )
    return (scale, 0.0) if scale_error <= offset_error else (1.0, offset)


def _select_region(mask: MaskArray, has_signal: MaskArray) -> MaskArray:
    """Select the part of the head to register.

    The part is the head without voxels at or beyond the border of the series' signal, or the whole
    head if the series has signal in almost none of it.
    """
    covered_head = mask & ndimage.binary_erosion(has_signal, border_value=1)
    return covered_head if covered_head.sum() >= _MIN_COVERED_FRACTION * mask.sum() else mask


def _smooth_alike(mean: Array, series_mean: Array, region: MaskArray, affine: Array) -> Array:
    """Smooth the mean image of a run until it is most similar to the mean image of a series."""
    smoothed_images = [
        ndimage.gaussian_filter(mean, fwhm / FWHM_PER_SIGMA / voxel_sizes(affine))
        for fwhm in _MEAN_FWHM_MM
    ]
    return max(
        smoothed_images,
        key=lambda image: pearson_correlation(image[region], series_mean[region]),
    )


def _register(
    image: Array, series_mean: Array, has_signal: MaskArray, region: MaskArray, affine: Array
) -> Float:
    """Register the mean image of a series to an image of its run.

    Voxels of the series without signal take the values of the run, because their border would
    count as an edge of the head. The result transforms points of the run to their position in the
    series (4, 4; RAS mm).
    """
    filled_mean = Volume(np.where(has_signal, series_mean, image), affine)
    return np.asarray(
        refine(Volume(image, affine), filled_mean, region, np.eye(4), max_change_mm=math.inf)
    )


def _smoothed_changes(volumes: Mapping[int, Array], region: MaskArray) -> Array:
    """Return changes from volume to volume, smoothed within slices, in the voxels of a region."""
    sigma = (_CHANGE_SIGMA_VOXELS, _CHANGE_SIGMA_VOXELS, 0)
    return np.concatenate(
        [
            ndimage.gaussian_filter(np.float32(volumes[t + 1] - volume), sigma)[region]
            for t, volume in volumes.items()
            if t + 1 in volumes
        ]
    )


def _compare_motion(
    acquired: Mapping[int, Array], series: Mapping[int, Array], region: MaskArray, affine: Array
) -> float:
    """Return the head motion of a series relative to its run; NaN if the head hardly moved.

    The motion of the run is regressed out of the motion of the series; the result is the slope.
    """
    points = voxel_centers(region, affine, 7)

    def estimate_displacements(volumes: Mapping[int, Array]) -> Float:
        images = list(volumes.values())
        motion = estimate_motion(images, np.mean(images, axis=0), region, affine, margin=0)
        positions = np.array([apply_affine(matrix, points) for matrix in motion.matrices])
        return positions - positions.mean(axis=0)

    run_motion, series_motion = map(estimate_displacements, (acquired, series))
    power = float(np.square(run_motion).sum(axis=-1).mean())
    limit_mm = max(_MIN_MOTION_MM, _MIN_MOTION_VOXELS * float(voxel_sizes(affine)[:2].min()))
    if power < limit_mm**2:
        return math.nan
    return float((run_motion * series_motion).sum(axis=-1).mean()) / power


def find_rejection(alignment: Alignment, *, is_corrected: bool) -> tuple[str, str] | None:
    """Return the reason why a series cannot be compared, and the remedy; None if it can.

    `is_corrected` is whether the series was specified as corrected for head motion.
    """
    if alignment.mean_similarity < _MIN_MEAN_CORRELATION:
        return (
            "the mean image does not match the mean image of the run (correlation"
            f" {alignment.mean_similarity:.2f}). The series may be from another participant or"
            " head position, or its temporal mean may have been subtracted",
            "Provide a series that was computed from this run, on the grid of the run and"
            " with its temporal mean (in signal units).",
        )
    if alignment.change_similarity < _MIN_CHANGE_CORRELATION:
        return (
            "the time series do not match the time series of the run (correlation"
            f" {alignment.change_similarity:.2f}), so the series seems to be from another run",
            "Provide a series that was computed from this run.",
        )
    percent_text = f"{alignment.motion:.0%} of the head motion of the run"
    if is_corrected and alignment.motion > _MIN_UNCORRECTED_MOTION:
        return (
            f"the series contains {percent_text}, so it was not corrected for head motion",
            "Omit :corrected from --compare.",
        )
    if not is_corrected and alignment.motion < _MAX_CORRECTED_MOTION:
        return (
            f"the series contains only {percent_text}, so it was corrected for head motion",
            "Append :corrected to the path in --compare.",
        )
    if not is_corrected and max(map(abs, alignment.shift)) > _MAX_SHIFT:
        return (
            f"the series is shifted relative to the run by {alignment.shift_text} (voxels of"
            " the acquired grid)",
            "Correct the affine in the header, or the program that wrote the series."
            " Otherwise, activation would be mapped to the wrong position. If the series was"
            " corrected for head motion, append :corrected to the path in --compare.",
        )
    return None


def register_corrected(alignment: Alignment, boldref: Volume, mask: MaskArray) -> Float:
    """Register a motion-corrected series to the boldref of its run.

    `mask` contains the brain voxels of the boldref (3D). Returns the transform of boldref points
    to points of all volumes of the series (4 x 4, RAS+ mm). Raises `InvalidInput` if the reference
    of the series is more than 5 mm away from the boldref.
    """
    region = _select_region(mask, alignment.has_signal)
    reference = np.asarray(boldref.data)
    pose = _register(reference, alignment.mean, alignment.has_signal, region, boldref.affine)
    distance_mm = rms_distance(np.eye(4), pose, voxel_centers(mask, boldref.affine, 7))
    if distance_mm > _MAX_REFERENCE_DISTANCE_MM:
        raise InvalidInput(
            "the series is corrected for head motion, but its reference image is"
            f" {distance_mm:.1f} mm away from the boldref of the run"
        )
    return pose


def read_comparison_volumes(
    reader: SeriesReader, order: AxisOrder = AS_STORED
) -> dict[int, Array]:
    """Read the volumes of a series that `align_volumes` compares, with axes in the given order."""
    numbers = comparison_volumes(reader.shape[3])
    return {t: reorder(reader.volume(t), order) for t in numbers}


def comparison_volumes(n_volumes: int) -> list[int]:
    """Return the numbers of `_N_PAIRS` pairs of consecutive volumes, counted from 0.

    The first volumes are not included, as they may not be in the steady state.

    >>> comparison_volumes(60)
    [5, 6, 14, 15, 24, 25, 34, 35, 44, 45, 53, 54]
    """
    starts = np.unique(np.linspace(0, n_volumes - 2, 2 * _N_PAIRS + 1)[1::2].round().astype(int))
    return sorted({int(t) for start in starts for t in (start, start + 1)})


def check_nan_voxels(volumes: Iterable[Array]) -> None:
    """Raise InvalidInput if the NaN voxels of a series differ between volumes.

    Parameters
    ----------
    volumes : Iterable[Array]
        Volumes of the compared series in order (3D each).

    Raises
    ------
    InvalidInput
        The NaN voxels differ; the message contains the number of the volume.
    """
    is_nan_in_first: MaskArray | None = None
    for t, volume in enumerate(volumes):
        is_nan = ~np.isfinite(volume)
        if is_nan_in_first is None:
            is_nan_in_first = is_nan
        if not np.array_equal(is_nan, is_nan_in_first):
            raise InvalidInput(
                f"volume {t} has NaN values in other voxels than volume 0",
                "Use the same mask for all volumes.",
            )
