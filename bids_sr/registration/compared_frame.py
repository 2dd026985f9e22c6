"""Alignment of another program's series with its run: as acquired, shifted or after hmc.

A volume of the series is registered to the volume that was acquired at the same moment. A series
that was denoised as it was acquired lies on it; one whose motion was undone lies elsewhere in each
volume, by the motion of the run; one that was written on a wrong grid lies elsewhere by the same
distance in all.

Programs such as tedana and patch-denoise write 0 or NaN outside a mask. There a series has no
signal, and it is judged where it has.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from nibabel.affines import apply_affine, voxel_sizes
from scipy import ndimage

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array, Float, Mask
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.spatial.hmc import estimate_motion
from bids_sr.spatial.masks import MaskError, brain_mask, grow, head_mask
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.similarity import correlation
from bids_sr.spatial.transforms import points_in, rms_distance
from bids_sr.sr.matrices import apply_along, block_matrix, downsample

_PLACES = 6
"""Moments of the run, evenly spaced, at each of which two volumes that follow one another are
looked at.
"""
_STILL_MM, _STILL_VOXELS = 0.1, 0.04
"""Spread of positions below which a series moves as its run does: it errs by no more where it was
realigned.
"""
_MOST_SHIFT, _SAID_SHIFT = 0.2, 0.1
"""Of an acquired voxel, along any axis: a series that lies farther off is refused; a shift above
the second is said.
"""
_LEAST_SIGNAL = 0.1
"""Of the median in the head; a voxel whose mean is below it has no signal: it lies outside the
mask of the series.
"""
_LEAST_MASKED, _LEAST_COVERED = 0.05, 0.1
"""Of the head: a series without signal in less of it was not masked, one with signal in less of it
has none.
"""
_DEEP_MM = 10.0
"""Inside the brain, farther from its border, NaN is no mask."""
_LEAST_LIKE = 0.6
"""Correlation of the mean images in the head; below it lies another head, or a series whose mean
was taken off.
"""
_WORTH_A_TRY = 0.2
"""The same before the two are registered; below it nothing is registered."""
_TOGETHER = 0.05
"""Correlation of changes from a volume to the next, slightly smoothed; below it lies another run.
"""
_MOST_APART_MM = 5.0
"""Of two references of one run: farther apart they are not in one frame."""
_MOST_GAIN = 1.05
"""Ratio of the signals above which a series is brought to the signal of its run."""
_SMOOTH = 1.5  # voxels (sigma), of changes
_SMOOTHED_MM = (0.0, 4.0, 6.0, 8.0, 10.0, 12.0, 16.0)  # FWHM


class ComparedError(ValueError):
    """A series that cannot be compared with its run; the message says why, and what to do."""


@frozen
class Alignment:
    """How a compared series lies on its run.

    `moves`: whether its volumes lie where those of the run were acquired, whatever constant shift
    they have. `shift`: constant part of where it lies, acquired voxels along the axes of the run.
    `alike`: correlation of the mean images in the head. `together`: correlation of changes from a
    volume to the next. `scale`: what its signal is multiplied by, and what is added then, to be
    that of the run: 1 and 0 where it is. `offset`: signal that is added after scaling, in units of
    the run. `least`: its voxels have signal where their mean is above it.
    """

    moves: bool
    shift: tuple[float, float, float]
    spread_mm: float
    alike: float
    together: float
    scale: float
    offset: float
    both: Mask
    least: float

    @property
    def shift_text(self) -> str:
        """The shift in words: voxels along the axes where there is any to speak of."""
        parts = [
            f"{size:+.2f} voxels along {axis}".replace("-", "−")
            for size, axis in zip(self.shift, "xyz", strict=True)
            if abs(size) >= _SAID_SHIFT
        ]
        return ", ".join(parts)

    def facts(self) -> dict[str, object]:
        """Return it as plain values."""
        return {
            "frame": "as acquired" if self.moves else "corrected for head motion",
            "shift": self.shift_text,
            "spread_mm": round(self.spread_mm, 3),
            "alike": round(self.alike, 3),
            "scale": float(f"{self.scale:.6g}"),
            "offset": float(f"{self.offset:.6g}"),
            "least_signal": float(f"{self.least:.6g}"),
        }


def moments(n_volumes: int) -> list[int]:
    """Return the volumes to inspect, `_PLACES` pairs of neighbors.

    None is at the start, which may not be in steady state.

    >>> moments(60)
    [5, 6, 14, 15, 24, 25, 34, 35, 44, 45, 53, 54]

    Numbers of the volumes in ascending order, counted from 0.
    """
    starts = np.unique(np.linspace(0, n_volumes - 2, 2 * _PLACES + 1)[1::2].round().astype(int))
    return sorted({int(t) for start in starts for t in (start, start + 1)})


def align_volumes(
    acquired: Mapping[int, Array], other: Mapping[int, Array], affine: Array
) -> Alignment:
    """How some volumes of a series lie on those of the run at the same moments.

    Parameters
    ----------
    acquired : Mapping[int, Array]
        (x, y, z) volumes of the run as acquired, by number.
    other : Mapping[int, Array]
        Those of the compared series, on that grid or a finer one of its field of view.
    affine : Array
        (4, 4) of the acquired grid, voxel to RAS mm.

    Returns
    -------
    Alignment
        Where the compared series lies, and how like the run it is.

    Raises
    ------
    ComparedError : nothing in it looks like a head, or it is NaN inside the brain
    """
    shape = next(iter(acquired.values())).shape
    mean = np.mean(list(acquired.values()), axis=0)
    try:
        mask = head_mask(mean, affine)
        brain = brain_mask(mean, affine)
    except (MaskError, ValueError) as error:
        raise ComparedError(f"no head could be found in the acquired series ({error})") from None
    _refuse_nan(other, brain, affine)
    own_level = _least_signal(mean, mask)
    as_given = np.mean([np.nan_to_num(each) for each in other.values()], axis=0)
    its = _means(as_given, shape)
    least = _least_signal(its, mask)
    # no voxel of a finer grid is 0
    there = (its > least) & (_means((as_given == 0).astype(np.float32), shape) < 0.01)
    both = (mean > 0) & (there | ((mean < own_level) & (its > 0)))
    scale, offset = _to_signal(mean[mask & there], its[mask & there])
    low = {
        t: scale * downsample(np.nan_to_num(volume), shape) + offset for t, volume in other.items()
    }
    its = np.mean(list(low.values()), axis=0)
    mask, margin = _covered(mask, there)
    alike = correlation(mean[mask], its[mask])
    starts = [t for t in acquired if t + 1 in acquired]
    changes = [
        np.concatenate([_change(each, t)[mask] for t in starts]) for each in (acquired, low)
    ]
    poses = np.eye(4)[None]
    if alike >= _WORTH_A_TRY:
        poses = np.stack(
            [_pose(acquired[t], low[t], there, (mask, margin), affine) for t in starts]
        )
        back = sample_volume(
            np.where(there, its, mean), affine, shape, affine, poses[len(poses) // 2]
        )
        alike = max(alike, correlation(mean[mask], back[mask]))  # a shift is said as one
    shift, spread = _constant(poses, mask, affine)
    if max(map(abs, shift)) >= _SAID_SHIFT and (sigma := _smoother(mean, its, mask, affine)).any():
        # across an edge of the field of view, smoothing alone moves what a registration sees
        smooth = {t: scale * ndimage.gaussian_filter(acquired[t], sigma) + offset for t in starts}
        again = np.stack([_pose(smooth[t], low[t], there, (mask, margin), affine) for t in starts])
        if max(map(abs, _constant(again, mask, affine)[0])) < _SAID_SHIFT:
            shift, spread = _constant(again, mask, affine)
    still = max(_STILL_MM, _STILL_VOXELS * float(voxel_sizes(affine)[:2].min()))
    return Alignment(
        moves=spread < still,
        shift=shift,
        spread_mm=spread,
        alike=alike,
        together=correlation(*changes),
        scale=scale,
        offset=offset,
        both=both,
        least=least,
    )


def _smoother(mean: Array, its: Array, mask: Mask, affine: Array) -> Float:
    """Standard deviation (voxels) of the symmetric smoothing that makes a mean most alike."""
    sigmas = [fwhm / 2.355 / voxel_sizes(affine) for fwhm in _SMOOTHED_MM]
    alike = [correlation(ndimage.gaussian_filter(mean, each)[mask], its[mask]) for each in sigmas]
    return sigmas[int(np.argmax(alike))]


def _refuse_nan(volumes: Mapping[int, Array], brain: Mask, affine: Array) -> None:
    """Refuse a series that is NaN inside the brain.

    A part that reaches out of the brain, and not deep into it, counts as a mask.
    """
    holes = np.any([~np.isfinite(volume) for volume in volumes.values()], axis=0)
    if not holes.any():
        return
    holes = _means(holes.astype(np.float32), brain.shape) > 0.5
    parts, _ = ndimage.label(holes)
    enclosed = brain & holes & ~np.isin(parts, np.unique(parts[holes & ~brain]))
    if count := int((enclosed | (holes & grow(brain, affine, -_DEEP_MM))).sum()):
        raise ComparedError(
            f"{count} voxels inside the brain are NaN. NaN values are allowed only outside"
            " the brain."
        )


def refuse_other_nan(volumes: Iterable[Array]) -> None:
    """Refuse a series whose voxels without a value differ from volume to volume: that is no mask.

    Parameters
    ----------
    volumes : Iterable[Array]
        Volumes of the compared series in order (3D each).

    Raises
    ------
    ComparedError : they differ; says in which volume
    """
    first: Mask | None = None
    for t, volume in enumerate(volumes):
        holes = ~np.isfinite(volume)
        first = holes if first is None else first
        if not np.array_equal(holes, first):
            raise ComparedError(
                f"volume {t} has NaN values in other voxels than volume 0. Use the same"
                " mask for all volumes."
            )


def _to_signal(values: Array, its: Array) -> tuple[float, float]:
    """Return scale and offset that map a series' mean signal to its run's.

    Of scale and offset, the one that fits better is used.

    One that has the signal of the run, but for a little, stays as it is.
    """
    if not values.size:
        return 1.0, 0.0
    scale = float(np.median(values)) / max(float(np.median(its)), 1e-9)
    offset = float(np.median(values - its))
    if 1 / _MOST_GAIN <= scale <= _MOST_GAIN:
        return 1.0, 0.0
    scaled, moved = (float(np.square(values - each).sum()) for each in (scale * its, its + offset))
    return (scale, 0.0) if scaled <= moved else (1.0, offset)


def _least_signal(mean: Array, mask: Mask) -> float:
    """Return the threshold of the mean image above which voxels have signal.

    Programs such as tedana write zeros outside the brain.

    What a registration would take for an edge of the head there is filled with the run's own
    signal.
    """
    inside = mean[mask & (mean > 0)]
    return _LEAST_SIGNAL * float(np.median(inside)) if inside.size else 0.0


def _means(volume: Array, shape: Sequence[int]) -> Array:
    """A volume as means over the voxels of a coarser matrix of its field of view."""
    for axis, m in enumerate(shape):
        volume = (
            apply_along(block_matrix(volume.shape[axis], m), volume, axis)
            if volume.shape[axis] != m
            else volume
        )
    return volume


def _covered(mask: Mask, there: Mask) -> tuple[Mask, int]:
    """Return the part of the head where a series has signal, and by how much to dilate it.

    The border of the part is excluded.

    That is the head where the series has signal in all of it, or in too little. A part is not
    dilated: what was filled around it would hold the volumes where those of the run lie.
    """
    inside = mask & ndimage.binary_erosion(there, border_value=1)
    if (
        mask & ~there
    ).sum() <= _LEAST_MASKED * mask.sum() or inside.sum() < _LEAST_COVERED * mask.sum():
        return mask, 2
    return inside, 0


def _pose(
    values: Array,
    its: Array,
    there: Mask,
    covered: tuple[Mask, int],
    affine: Array,
) -> Float:
    """Register a volume to one of the run, whose own signal fills voxels without any.

    `covered` is as returned by `_covered`.
    """
    inside, margin = covered
    filled = np.where(there, its, values)
    return estimate_motion([filled], values, inside, affine, margin=margin).matrices[0]


def refusal_of(seen: Alignment) -> tuple[str, str] | None:
    """Why a series cannot be compared, and the way out; None where it can."""
    if seen.alike < _LEAST_LIKE:
        return (
            (
                "the mean image does not match the mean image of the run (correlation"
                f" {seen.alike:.2f}). The series may be from another participant or head"
                " position, or its temporal mean may have been subtracted"
            ),
            "Provide a series that was computed from this run, on the grid of the run and"
            " with its temporal mean (in signal units).",
        )
    if seen.together < _TOGETHER:
        return (
            (
                "the time series do not match the time series of the run (correlation"
                f" {seen.together:.2f}), so the series seems to be from another run"
            ),
            "Provide a series that was computed from this run.",
        )
    if seen.moves and max(map(abs, seen.shift)) > _MOST_SHIFT:
        return (
            (
                f"all volumes are shifted relative to the run by {seen.shift_text} (voxels of"
                " the acquired grid)"
            ),
            (
                "Correct the affine in the header, or the program that wrote the series."
                " Otherwise, activation would be mapped to the wrong position."
            ),
        )
    return None


def _change(volumes: Mapping[int, Array], t: int) -> Array:
    change = np.asarray(volumes[t + 1], np.float32) - volumes[t]
    return ndimage.gaussian_filter(change, (_SMOOTH, _SMOOTH, 0))


def _constant(poses: Float, mask: Mask, affine: Array) -> tuple[tuple[float, float, float], float]:
    """Return the median shift (acquired voxels) and the rms variation about it (mm).

    The median is over the moments, the rms over the brain.
    """
    points = points_in(mask, affine, 7)
    moved = np.stack([apply_affine(pose, points) - points for pose in poses])  # moments, points, 3
    middle = np.median(moved, axis=0)
    voxels = np.median(middle, axis=0) @ np.linalg.inv(affine[:3, :3]).T
    apart = float(np.sqrt(((moved - middle) ** 2).sum(-1).mean()))
    return (float(voxels[0]), float(voxels[1]), float(voxels[2])), apart


def read_moments(reader: SeriesReader) -> dict[int, Array]:
    """The volumes of a series that `align_volumes` looks at; they are read in order."""
    return {t: reader.volume(t) for t in moments(reader.shape[3])}


def checked(acquired: SeriesReader, other: SeriesReader) -> Alignment:
    """How a series lies on its run.

    `InferenceError`: A value is not finite.
    """
    seen = align_volumes(
        read_moments(acquired), read_moments(other), np.asarray(acquired.affine, dtype=float)
    )
    if refused := refusal_of(seen):
        raise ComparedError(f"{refused[0]}. {refused[1]}")
    return seen


def poses_of(
    seen: Alignment, poses: Float, other: SeriesReader, boldref: Volume, mask: Mask
) -> Float:
    """Return (T, 4, 4) boldref-to-volume transforms of a compared series (RAS mm).

    Each maps a boldref point to where it lies in that volume.

    Those of the run, where it moves as the run does; else one for all volumes, which brings the
    reference that it was aligned to into register with the run's.

    Parameters
    ----------
    seen : Alignment
        How the compared series lies on its run.
    poses : Float
        Transforms of a boldref point to each volume of the run (T, 4, 4; RAS+ mm).
    other : SeriesReader
        Series that is compared with the run (4D).
    boldref : Volume
        Reference image of the BOLD run (3D).
    mask : Mask
        Voxels of the brain in boldref (3D, boolean).

    Returns
    -------
    Float
        Transforms by volume of the compared series (T, 4, 4; RAS+ mm).

    Raises
    ------
    ComparedError : its reference lies more than 5 mm from that of the run
    """
    if seen.moves:
        return poses
    shape = boldref.data.shape
    low = np.mean([downsample(each, shape) for each in read_moments(other).values()], axis=0)
    reference = np.asarray(boldref.data)
    there = low > seen.least
    pose = _pose(
        reference, seen.scale * low + seen.offset, there, _covered(mask, there), boldref.affine
    )
    far = rms_distance(np.eye(4), pose, points_in(mask, boldref.affine, 7))
    if far > _MOST_APART_MM:
        raise ComparedError(
            f"the series is corrected for head motion, but its reference image is {far:.1f}"
            " mm away from the boldref of the run"
        )
    return np.repeat(pose[None], len(poses), axis=0)
