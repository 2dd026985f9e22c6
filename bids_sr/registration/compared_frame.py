"""Where a series of another program lies on its run: as acquired, shifted, or with the head motion undone already.

A volume of the series is registered to the volume that was acquired at the same moment. A series that was denoised as
it was acquired lies on it; one whose motion was undone lies elsewhere in each volume, by the motion of the run; one
that was written on a wrong grid lies elsewhere by the same distance in all.
"""

from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Array, Float, Mask
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.spatial import hmc
from bids_sr.spatial.masks import MaskError, head_mask, voxel_sizes
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import apply, displacement
from bids_sr.sr.resolution.matrices import downsample

PLACES = 6
"""Moments of the run, evenly spaced, at each of which two volumes that follow one another are looked at."""
STILL_MM, STILL_VOXELS = 0.1, 0.04
"""Spread of positions below which a series moves as its run does: it errs by no more where it was realigned."""
MOST_SHIFT, SAID_SHIFT = 0.2, 0.1
"""Of an acquired voxel, along any axis: a series that lies farther off is refused; a shift above the second is said."""
LEAST_SIGNAL = 0.1
"""Of the median in the head; a voxel whose mean is below it has no signal: it lies outside the mask of the series."""
LEAST_MASKED, LEAST_COVERED = 0.05, 0.1
"""Of the head: a series without signal in less of it was not masked, one with signal in less of it has none."""
LEAST_LIKE = 0.6
"""Correlation of the mean images in the head; below it lies another head, or a series whose mean was taken off."""
WORTH_A_TRY = 0.2
"""The same before the two are registered; below it nothing is registered."""
TOGETHER = 0.05
"""Correlation of changes from a volume to the next, slightly smoothed; below it lies another run."""
MOST_GAIN = 1.05
"""Ratio of the signals above which a series is scaled to its run."""
_SMOOTH = 1.5  # voxels (sigma), of changes


class ComparedError(ValueError):
    """A series that cannot be compared with its run; the message says why, and what to do."""


@frozen
class Seen:
    """How a compared series lies on its run."""

    moves: bool  # whether its volumes lie where those of the run were acquired, whatever constant shift they have
    shift: tuple[float, float, float]  # constant part of where it lies, acquired voxels along the axes of the run
    spread_mm: float  # rms of what varies over the run, over the brain
    alike: float  # correlation of the mean images in the head
    together: float  # correlation of changes from a volume to the next
    gain: float  # signal of the run over its own

    @property
    def shift_text(self) -> str:
        """The shift in words: voxels along the axes where there is any to speak of."""
        parts = [
            f"{size:+.2f} voxels along {axis}".replace("-", "−")
            for size, axis in zip(self.shift, "xyz", strict=True)
            if abs(size) >= SAID_SHIFT
        ]
        return ", ".join(parts)

    @property
    def scale(self) -> float:
        """What it is multiplied by: 1 where its signal is that of the run."""
        return self.gain if not 1 / MOST_GAIN <= self.gain <= MOST_GAIN else 1.0

    def facts(self) -> dict[str, object]:
        """As plain values."""
        return {
            "frame": "as acquired" if self.moves else "head motion undone",
            "shift_voxels": [round(each, 3) for each in self.shift], "spread_mm": round(self.spread_mm, 3),
            "alike": round(self.alike, 3), "scale": round(self.scale, 4),
        }  # fmt: skip


def moments(n_volumes: int) -> list[int]:
    """Volumes that are looked at: `PLACES` pairs of neighbors.

    >>> moments(4)
    [0, 1, 2, 3]
    """
    starts = np.unique(np.linspace(0, n_volumes - 2, PLACES).round().astype(int))
    return sorted({int(t) for start in starts for t in (start, start + 1)})


def hold_against(own: Mapping[int, Array], other: Mapping[int, Array], affine: Array) -> Seen:
    """How some volumes of a series lie on those of the run at the same moments.

    Parameters
    ----------
    own : (x, y, z) volumes of the run as acquired, by number
    other : those of the compared series, on that grid or a finer one of its field of view
    affine : (4, 4) of the acquired grid, voxel to RAS mm

    Raises
    ------
    ComparedError : nothing in it looks like a head
    """
    shape = next(iter(own.values())).shape
    low = {t: np.asarray(downsample(volume, shape), dtype=np.float32) for t, volume in other.items()}
    mean, its = (np.mean(list(each.values()), axis=0) for each in (own, low))
    try:
        mask = head_mask(mean, affine)
    except (MaskError, ValueError) as error:
        raise ComparedError(f"no head is seen in the run ({error})") from None
    there = with_signal(its, mask)
    mask, how = covered(mask, there)
    alike = _correlation(mean[mask], its[mask])
    starts = [t for t in own if t + 1 in own]
    changes = [np.concatenate([_change(each, t)[mask] for t in starts]) for each in (own, low)]
    gain = float(np.median(mean[mask])) / max(float(np.median(its[mask])), 1e-9)
    poses = np.eye(4)[None]
    if alike >= WORTH_A_TRY:
        whole = {t: np.where(there, low[t], own[t] / gain) for t in starts}
        found = [hmc.estimate_motion([whole[t]], own[t], mask, affine, how).matrices[0] for t in starts]
        poses = np.stack(found)
        back = sample_volume(np.where(there, its, mean / gain), affine, shape, affine, poses[len(poses) // 2])
        alike = max(alike, _correlation(mean[mask], back[mask]))  # a shift is said as one
    shift, spread = _constant(poses, mask, affine)
    still = max(STILL_MM, STILL_VOXELS * float(voxel_sizes(affine)[:2].min()))
    return Seen(
        moves=spread < still, shift=shift, spread_mm=spread, alike=alike, together=_correlation(*changes), gain=gain
    )


def with_signal(mean: Array, mask: Mask) -> Mask:
    """Voxels in which a series has signal, from its mean image: programs such as tedana write zeros outside the brain.

    What a registration would take for an edge of the head there is filled with the run's own signal.
    """
    level = float(np.median(mean[mask & (mean > 0)])) if (mask & (mean > 0)).any() else 0.0
    return np.asarray(mean > LEAST_SIGNAL * level, dtype=bool)


def covered(mask: Mask, there: Mask) -> tuple[Mask, hmc.HmcSettings | None]:
    """The part of the head in which a series has signal, its border left out, and how it is registered there.

    That is the head where the series has signal in all of it, or in too little. A part is not dilated: what was filled
    around it would hold the volumes where those of the run lie.
    """
    inside = mask & ndimage.binary_erosion(there, border_value=1)
    if (mask & ~there).sum() <= LEAST_MASKED * mask.sum() or inside.sum() < LEAST_COVERED * mask.sum():
        return mask, None
    return inside, hmc.HmcSettings(margin=0)


def refusal_of(seen: Seen) -> tuple[str, str] | None:
    """Why a series cannot be compared, and the way out; None where it can."""
    if seen.alike < LEAST_LIKE:
        return (
            f"its mean image is unlike that of the run (correlation {seen.alike:.2f}): another head, another position, "
            "or a series whose mean was taken off",
            "Give the series of this run on its grid, with its mean (signal units).",
        )
    if seen.together < TOGETHER:
        return (
            f"its changes over time are unlike those of the run (correlation {seen.together:.2f}): another run",
            "Give the series that was made of this run.",
        )
    if seen.moves and max(map(abs, seen.shift)) > MOST_SHIFT:
        return (
            f"it lies {seen.shift_text} (of the acquired grid) from the run in every volume: shifted",
            "Correct its affine, or the program that wrote it; a shifted map is wrong whatever its detail.",
        )
    return None


def _change(volumes: Mapping[int, Array], t: int) -> Array:
    change = np.asarray(volumes[t + 1], np.float32) - volumes[t]
    return ndimage.gaussian_filter(change, (_SMOOTH, _SMOOTH, 0))


def _correlation(first: Array, second: Array) -> float:
    a, b = (np.asarray(each, dtype=np.float64) - float(np.mean(each)) for each in (first, second))
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0


def _constant(poses: Float, mask: Mask, affine: Array) -> tuple[tuple[float, float, float], float]:
    """Median shift over the moments (acquired voxels), and the rms over the brain of what varies about it (mm)."""
    points = apply(affine, np.argwhere(mask)[::7])
    moved = np.stack([apply(pose, points) - points for pose in poses])  # moments, points, 3
    middle = np.median(moved, axis=0)
    voxels = np.median(middle, axis=0) @ np.linalg.inv(affine[:3, :3]).T
    apart = float(np.sqrt(((moved - middle) ** 2).sum(-1).mean()))
    return (float(voxels[0]), float(voxels[1]), float(voxels[2])), apart


def read_moments(reader: SeriesReader) -> dict[int, Array]:
    """The volumes of a series that `hold_against` looks at; they are read in order."""
    return {t: reader.volume(t) for t in moments(reader.shape[3])}


def checked(own: SeriesReader, other: SeriesReader) -> Seen:
    """How a series lies on its run.

    Raises
    ------
    ComparedError : it cannot be compared
    """
    seen = hold_against(read_moments(own), read_moments(other), np.asarray(own.affine, dtype=float))
    if refused := refusal_of(seen):
        raise ComparedError(f"{refused[0]}. {refused[1]}")
    return seen


def poses_of(seen: Seen, poses: Float, other: SeriesReader, boldref: Volume, mask: Mask) -> Float:
    """(T, 4, 4) transforms that take a boldref point to where it lies in each volume of a compared series (RAS mm).

    Those of the run, where it moves as the run does; else one for all volumes, which brings the reference that it was
    aligned to into register with the run's.

    Raises
    ------
    ComparedError : its reference lies more than 5 mm from that of the run
    """
    if seen.moves:
        return poses
    shape = boldref.data.shape
    low = np.mean([downsample(each, shape) for each in read_moments(other).values()], axis=0)
    reference, there = np.asarray(boldref.data), with_signal(low, mask)
    inside, how = covered(mask, there)
    gain = float(np.median(reference[inside])) / max(float(np.median(low[inside])), 1e-9)
    whole = np.where(there, low, reference / gain)
    found = hmc.estimate_motion([whole], reference, inside, boldref.affine, how).matrices[0]
    points = apply(boldref.affine, np.argwhere(mask)[::7])
    far = float(np.sqrt((displacement(np.eye(4), found, points) ** 2).mean()))
    if far > MOST_APART_MM:
        raise ComparedError(
            f"its head motion was undone, and the reference it was aligned to lies {far:.1f} mm from that of the run"
        )
    return np.repeat(found[None], len(poses), axis=0)


MOST_APART_MM = 5.0
"""Of two references of one run: farther apart they are not in one frame."""
