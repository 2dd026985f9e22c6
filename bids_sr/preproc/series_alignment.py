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
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.notices import InvalidInput
from bids_sr.io.volume import Volume
from bids_sr.preproc.hmc import estimate_motion
from bids_sr.spatial.masks import MaskError, brain_mask, grow, head_mask
from bids_sr.spatial.matrices import apply_along, block_matrix, downsample
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
# fraction of the median signal in the head; voxels with a lower mean are outside the mask of the
# series
_MIN_SIGNAL_FRACTION = 0.1
# Fractions of the head. A series that lacks signal in a smaller part was not masked; a series with
# signal in a smaller part has no usable mask.
_MIN_MASKED_FRACTION, _MIN_COVERED_FRACTION = 0.05, 0.1
# fraction of an acquired voxel: less than one of its high-resolution voxels
_MAX_ZERO_FRACTION = 0.01
# distance (mm) from the border of the brain beyond which NaN is not accepted as a mask
_MAX_NAN_DEPTH_MM = 10.0
# correlation of the mean images in the head, below which the series is from another head or has
# lost its mean
_MIN_MEAN_CORRELATION = 0.6
# correlation of the mean images before registration, below which nothing is registered
_MIN_START_CORRELATION = 0.2
# correlation of slightly smoothed volume-to-volume changes, below which the series is from another
# run
_MIN_CHANGE_CORRELATION = 0.05
# distance (mm) between two references of one run above which they are in different frames
_MAX_REFERENCE_DISTANCE_MM = 5.0
# ratio of signals above which a series is scaled to the signal of its run
_MAX_SIGNAL_RATIO = 1.05
_CHANGE_SIGMA_VOXELS = 1.5  # voxels, smoothing of changes (sigma)
_MEAN_FWHM_MM = (0.0, 4.0, 6.0, 8.0, 10.0, 12.0, 16.0)  # mm, smoothing of mean images (FWHM)

_FWHM_PER_SIGMA = 2.355  # full width at half maximum of a Gaussian over its standard deviation

_Shift = tuple[float, float, float]


@frozen
class Alignment:
    """Alignment of a compared series with its run.

    `motion` is the head motion of the series relative to the run: 1 if it is the same, 0 if it was
    corrected, NaN if the head hardly moved. `shift` is the shift of the mean image relative to the
    run, in acquired voxels along the axes of the run. `mean_similarity` is the correlation of the
    mean images in the head, and `change_similarity` the correlation of the changes between
    consecutive volumes. `scale` converts the signal of the series to the signal of the run (1 if
    they agree), and `offset` is added after scaling, in units of the run. `valid` are the voxels
    to compare: positive in the run, and not masked in the series (3D). `signal_threshold` is the
    mean of the series above which a voxel has signal.
    """

    motion: float
    shift: _Shift
    mean_similarity: float
    change_similarity: float
    scale: float
    offset: float
    valid: MaskArray
    signal_threshold: float

    @property
    def shift_text(self) -> str:
        """Text on the shift: voxels along each axis with a shift that is worth reporting."""
        phrases = [
            f"{size:+.2f} voxels along {axis}".replace("-", "−")
            for size, axis in zip(self.shift, "xyz", strict=True)
            if abs(size) >= _REPORTED_SHIFT
        ]
        return ", ".join(phrases)

    def facts(self) -> dict[str, object]:
        """Return the alignment as plain values for the report."""
        return {
            "shift": self.shift_text,
            "alike": round(self.mean_similarity, 3),
            "scale": float(f"{self.scale:.6g}"),
            "offset": float(f"{self.offset:.6g}"),
            "least_signal": float(f"{self.signal_threshold:.6g}"),
        }


def check_alignment(
    acquired: SeriesReader, compared: SeriesReader, *, is_corrected: bool
) -> Alignment:
    """Align a series with its run, or raise InvalidInput if they cannot be compared.

    `is_corrected` is whether the series was specified as corrected for head motion.
    """
    alignment = align_volumes(
        read_comparison_volumes(acquired),
        read_comparison_volumes(compared),
        np.asarray(acquired.affine, dtype=float),
    )
    if rejection := find_rejection(alignment, is_corrected=is_corrected):
        raise InvalidInput(*rejection)
    return alignment


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
    series = _scale_to_run(compared, mean, head)
    region = _select_region(head, series.has_signal, affine)
    mask = region.mask
    similarity = pearson_correlation(mean[mask], series.mean[mask])
    starts = [t for t in acquired if t + 1 in acquired]
    changes = [
        np.concatenate([_smoothed_change(volumes, t)[mask] for t in starts])
        for volumes in (acquired, series.volumes)
    ]
    shift = (0.0, 0.0, 0.0)
    if similarity >= _MIN_START_CORRELATION:
        pose = region.estimate_pose(mean, series.mean)
        aligned_mean = sample_volume(
            np.where(series.has_signal, series.mean, mean), affine, mean.shape, affine, pose
        )
        # A series that is only shifted must not count as a different series, so its similarity is
        # also computed after alignment.
        similarity = max(similarity, pearson_correlation(mean[mask], aligned_mean[mask]))
        shift = _find_shift(mean, series.mean, region, pose)
    return Alignment(
        motion=_compare_motion(acquired, series.volumes, mask, affine),
        shift=shift,
        mean_similarity=similarity,
        change_similarity=pearson_correlation(*changes),
        scale=series.scale,
        offset=series.offset,
        valid=series.valid,
        signal_threshold=series.signal_threshold,
    )


def _check_brain_for_nan(volumes: Mapping[int, Array], brain: MaskArray, affine: Array) -> None:
    """Raise InvalidInput if a series is NaN inside the brain.

    A region of NaN voxels that extends outside the brain, and not deep into it, counts as a mask.
    """
    is_stored_nan = np.any([~np.isfinite(volume) for volume in volumes.values()], axis=0)
    if not is_stored_nan.any():
        return
    is_nan = _average_to_grid(is_stored_nan.astype(np.float32), brain.shape) > 0.5
    components, _ = ndimage.label(is_nan)
    enclosed_nan = brain & is_nan & ~np.isin(components, np.unique(components[is_nan & ~brain]))
    if count := int((enclosed_nan | (is_nan & grow(brain, affine, -_MAX_NAN_DEPTH_MM))).sum()):
        raise InvalidInput(
            f"{count} voxels inside the brain are NaN",
            "NaN values are allowed only outside the brain.",
        )


@frozen
class _ScaledSeries:
    """Volumes of a compared series on the acquired grid, with the signal of the run.

    `scale` and `offset` convert stored values to the signal of the run. Voxels of the stored mean
    above `signal_threshold` have signal. `valid` voxels are compared: they are positive in the run
    and not masked in the series.
    """

    volumes: dict[int, Array]
    mean: Array
    scale: float
    offset: float
    has_signal: MaskArray
    valid: MaskArray
    signal_threshold: float


def _scale_to_run(compared: Mapping[int, Array], mean: Array, head: MaskArray) -> _ScaledSeries:
    """Scale a series to the signal of its run, on the acquired grid.

    `mean` is the mean image of the run, and `head` the mask of the head on the acquired grid.
    """
    run_threshold = _compute_signal_threshold(mean, head)
    stored_mean = np.mean([np.nan_to_num(volume) for volume in compared.values()], axis=0)
    compared_mean = _average_to_grid(stored_mean, mean.shape)
    threshold = _compute_signal_threshold(compared_mean, head)
    # a voxel of the acquired grid has no signal if any of its high-resolution voxels is 0
    zero_fraction = _average_to_grid((stored_mean == 0).astype(np.float32), mean.shape)
    has_signal = (compared_mean > threshold) & (zero_fraction < _MAX_ZERO_FRACTION)
    in_both = (mean > 0) & (has_signal | ((mean < run_threshold) & (compared_mean > 0)))
    scale, offset = _fit_signal_scale(mean[head & has_signal], compared_mean[head & has_signal])
    scaled_volumes = {
        t: scale * downsample(np.nan_to_num(volume), mean.shape) + offset
        for t, volume in compared.items()
    }
    return _ScaledSeries(
        volumes=scaled_volumes,
        mean=np.mean(list(scaled_volumes.values()), axis=0),
        scale=scale,
        offset=offset,
        has_signal=has_signal,
        valid=in_both,
        signal_threshold=threshold,
    )


def _compute_signal_threshold(mean: Array, mask: MaskArray) -> float:
    """Return the threshold above which voxels of a mean image have signal; 0 without a head."""
    head_values = mean[mask & (mean > 0)]
    return _MIN_SIGNAL_FRACTION * float(np.median(head_values)) if head_values.size else 0.0


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


def _smoothed_change(volumes: Mapping[int, Array], t: int) -> Array:
    """Return the change from volume t to the next, smoothed within slices (3D)."""
    change = np.asarray(volumes[t + 1], np.float32) - volumes[t]
    return ndimage.gaussian_filter(change, (_CHANGE_SIGMA_VOXELS, _CHANGE_SIGMA_VOXELS, 0))


@frozen
class _Region:
    """Part of the head for the registration of a series to its run.

    `margin` is the dilation of the mask for registration (voxels). `has_signal` are the voxels
    with signal in the series, and `affine` is the voxel-to-world matrix of the acquired grid
    (4 x 4, RAS+ mm).
    """

    mask: MaskArray
    margin: int
    has_signal: MaskArray
    affine: Array

    def estimate_pose(self, values: Array, compared: Array) -> Float:
        """Register a volume of a series to a volume of its run.

        Voxels of the series without signal take the `values` of the run, because their border
        would count as an edge of the head. The result transforms points of the run to their
        position in the series (4, 4; RAS mm).
        """
        filled_volume = np.where(self.has_signal, compared, values)
        motion = estimate_motion(
            [filled_volume], values, self.mask, self.affine, margin=self.margin
        )
        return motion.matrices[0]


def _find_shift(mean: Array, series_mean: Array, region: _Region, pose: Array) -> _Shift:
    """Return the shift of the mean image of a series, which `pose` aligns with its run.

    A smoothed series can seem shifted, because smoothing crosses the edge of the field of view. It
    is not shifted if a mean image of the run has the same position after the smoothing that makes
    it most similar to the series.
    """
    shift = _measure_shift(pose, region)
    if max(map(abs, shift)) < _REPORTED_SHIFT:
        return shift
    sigma = max(
        (fwhm / _FWHM_PER_SIGMA / voxel_sizes(region.affine) for fwhm in _MEAN_FWHM_MM),
        key=lambda sigma: pearson_correlation(
            ndimage.gaussian_filter(mean, sigma)[region.mask], series_mean[region.mask]
        ),
    )
    smoothed_pose = region.estimate_pose(ndimage.gaussian_filter(mean, sigma), series_mean)
    smoothed_shift = _measure_shift(smoothed_pose, region)
    return smoothed_shift if max(map(abs, smoothed_shift)) < _REPORTED_SHIFT else shift


def _measure_shift(pose: Array, region: _Region) -> _Shift:
    """Return the median displacement of the head by a transform (acquired voxels per axis)."""
    points = voxel_centers(region.mask, region.affine, 7)
    displacement = np.median(apply_affine(pose, points) - points, axis=0)
    x_shift, y_shift, z_shift = map(float, np.linalg.inv(region.affine[:3, :3]) @ displacement)
    return x_shift, y_shift, z_shift


def _compare_motion(
    acquired: Mapping[int, Array], series: Mapping[int, Array], mask: MaskArray, affine: Array
) -> float:
    """Return the head motion of a series relative to its run; NaN if the head hardly moved.

    The motion of the run is regressed out of the motion of the series; the result is the slope.
    """
    run_motion, series_motion = (
        _fit_displacements(volumes, mask, affine) for volumes in (acquired, series)
    )
    power = float(np.square(run_motion).sum(1).mean())
    limit_mm = max(_MIN_MOTION_MM, _MIN_MOTION_VOXELS * float(voxel_sizes(affine)[:2].min()))
    if power < limit_mm**2:
        return math.nan
    return float((run_motion * series_motion).sum(1).mean()) / power


def _fit_displacements(volumes: Mapping[int, Array], mask: MaskArray, affine: Array) -> Float:
    """Return the head motion of some volumes relative to their mean (volumes, 6; mm).

    The deviation of each volume from the mean is explained by the gradient of the mean, which is
    accurate for motion below a voxel. Rotations are in mm at the rms radius of the mask.
    """
    mean = np.mean(list(volumes.values()), axis=0)
    axes = [
        np.gradient(mean, axis=k) if mean.shape[k] > 1 else np.zeros_like(mean) for k in range(3)
    ]
    gradient = np.stack(axes, -1)[mask] @ np.linalg.inv(affine[:3, :3])
    points = apply_affine(affine, np.argwhere(mask))
    arms = points - points.mean(0)
    arms /= np.sqrt(np.square(arms).sum(1).mean())
    basis = np.column_stack([gradient, np.cross(arms, gradient), mean[mask]])
    deviations = np.column_stack([(volume - mean)[mask] for volume in volumes.values()])
    displacements = np.linalg.lstsq(basis, deviations)[0][:6].T
    return np.asarray(displacements, dtype=np.float64)


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


def register_corrected(
    alignment: Alignment, compared: SeriesReader, boldref: Volume, mask: MaskArray
) -> Float:
    """Register a motion-corrected series to the boldref of its run.

    Parameters
    ----------
    alignment : Alignment
        Alignment of the compared series with its run.
    compared : SeriesReader
        Series that is compared with the run (4D).
    boldref : Volume
        Boldref of the run (3D).
    mask : MaskArray
        Brain voxels of the boldref (3D, boolean).

    Returns
    -------
    Float
        Transform of boldref points to points of all volumes of the series (4 x 4, RAS+ mm).

    Raises
    ------
    InvalidInput
        The reference of the series is more than 5 mm away from the boldref of the run.
    """
    shape = boldref.data.shape
    series_mean = np.mean(
        [downsample(volume, shape) for volume in read_comparison_volumes(compared).values()],
        axis=0,
    )
    reference = np.asarray(boldref.data)
    has_signal = series_mean > alignment.signal_threshold
    region = _select_region(mask, has_signal, boldref.affine)
    pose = region.estimate_pose(reference, alignment.scale * series_mean + alignment.offset)
    distance_mm = rms_distance(np.eye(4), pose, voxel_centers(mask, boldref.affine, 7))
    if distance_mm > _MAX_REFERENCE_DISTANCE_MM:
        raise InvalidInput(
            "the series is corrected for head motion, but its reference image is"
            f" {distance_mm:.1f} mm away from the boldref of the run"
        )
    return pose


def read_comparison_volumes(reader: SeriesReader) -> dict[int, Array]:
    """Read the volumes of a series that `align_volumes` compares, in order."""
    return {t: reader.volume(t) for t in comparison_volumes(reader.shape[3])}


def comparison_volumes(n_volumes: int) -> list[int]:
    """Return the numbers of `_N_PAIRS` pairs of consecutive volumes, counted from 0.

    The first volumes are not included, as they may not be in the steady state.

    >>> comparison_volumes(60)
    [5, 6, 14, 15, 24, 25, 34, 35, 44, 45, 53, 54]
    """
    starts = np.unique(np.linspace(0, n_volumes - 2, 2 * _N_PAIRS + 1)[1::2].round().astype(int))
    return sorted({int(t) for start in starts for t in (start, start + 1)})


def _select_region(mask: MaskArray, has_signal: MaskArray, affine: Array) -> _Region:
    """Select the part of the head to register.

    The part is the head without voxels at or beyond the border of the series' signal. It is not
    dilated, because the filled voxels around it would bias the registration to the identity. If
    the series has signal in almost all or almost none of the head, this is the whole head.
    """
    covered_head = mask & ndimage.binary_erosion(has_signal, border_value=1)
    is_unmasked = (mask & ~has_signal).sum() <= _MIN_MASKED_FRACTION * mask.sum()
    if is_unmasked or covered_head.sum() < _MIN_COVERED_FRACTION * mask.sum():
        return _Region(mask=mask, margin=2, has_signal=has_signal, affine=affine)
    return _Region(mask=covered_head, margin=0, has_signal=has_signal, affine=affine)


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
