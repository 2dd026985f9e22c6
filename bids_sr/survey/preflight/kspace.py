"""Check that k-space is filled up to the Nyquist limit of the voxels, as methods assume.

Sidecar fields contain the scanner settings, and the spectrum of changes between volumes shows the
actual extent: noise extends as far as k-space was acquired, at a constant level unless it was
filtered.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import reorder
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.acquired_matrix import (
    INTERPOLATION_FIX,
    MAX_INTERPOLATED_SHARE,
    list_zero_filled,
)
from bids_sr.survey.bids.inputs import BoldRun, Pair
from bids_sr.survey.notices import problem_unless, warning
from bids_sr.survey.preflight.sidecar_checks import NYQUIST_DIFFERS

# radius at 10 % power divided by radius at 50 % power: up to 1.35 if truncated, 1.5 or more if
# smoothed
_MAX_EDGE_RATIO = 1.4
_MIN_EDGE_POWER = 0.18  # relative to low frequencies; .19 or more at the edge of acquired runs
# radii relative to the Nyquist limit: low frequencies, edge, and frequencies along the other axis
# with the weakest physiological noise
_MIN_LOW_RADIUS, _MAX_LOW_RADIUS, _MIN_EDGE_RADIUS, _MIN_OTHER_RADIUS = 0.05, 0.25, 0.9, 0.3
_MIN_SAMPLES = 24  # voxels along an axis; fewer give too few points of its spectrum
_MIN_STEP = 1.0  # decades of power; at most .8 in images that were filtered or smoothed
_N_SMOOTH = 12  # size of an image relative to the standard deviation of its smooth copy
_MIN_WEIGHTED = 0.3  # smooth signal relative to bright voxels; background and edges have less
_N_VOLUMES, _N_SLICES = 16, 16  # largest numbers of volumes and slices that are read


def list_kspace_volumes(run: BoldRun) -> range:
    """Return the numbers of an even number of successive volumes after 10 % of a run."""
    start = run.n_volumes // 10
    return range(start, start + min(_N_VOLUMES, run.n_volumes - start) // 2 * 2)


def select_slices(volume: Array, run: BoldRun) -> Array:
    """Return slices of a volume (as stored) with the axis order of the run (X, Y, Z)."""
    return reorder(volume, run.axis_order)[:, :, :: -(-run.shape[2] // _N_SLICES)]


def check_kspace(run: BoldRun, slices: Sequence[Array], *, forced: bool) -> Iterator[Notice]:
    """Reject a run with empty k-space far below its Nyquist limit, and warn of a weak edge.

    `slices` are the result of `select_slices` for each volume of `list_kspace_volumes`. With
    `forced`, empty k-space becomes a note.
    """
    extents = {
        "ijk"[run.axis_order[axis]]: extent
        for axis, extent in enumerate(_measure_extents(np.stack(slices, axis=-1)))
        if extent is not None
    }
    shares = [axis.share for axis in list_zero_filled(run.sidecar, run.shape)]
    is_zero_filled = min(shares, default=1) <= MAX_INTERPOLATED_SHARE
    empty = [
        f"{extent.end_radius:.0%} along {axis_name}"
        for axis_name, extent in extents.items()
        if extent.end_radius <= MAX_INTERPOLATED_SHARE
        and (extent.end_radius < _MAX_EDGE_RATIO * extent.half_radius or is_zero_filled)
    ]
    weak_edges = [
        f"{extent.edge_power:.0%} along {axis_name}"
        for axis_name, extent in extents.items()
        if extent.edge_power < _MIN_EDGE_POWER
    ]
    if empty:
        yield problem_unless(forced, run.bold, _describe_empty(empty, "BOLD"), INTERPOLATION_FIX)
    elif weak_edges and not shares:  # otherwise already reported from the sidecar
        yield warning(
            run.bold,
            "at the edge of k-space, the power of signal changes is only"
            f" {' and '.join(weak_edges)} relative to low frequencies, so the run was probably"
            " filtered, smoothed or resampled."
            f" {NYQUIST_DIFFERS[0].upper()}{NYQUIST_DIFFERS[1:]}, and detail near the acquired"
            " Nyquist frequency is weak or missing. Use the unprocessed run.",
        )


def check_kspace_of_image(pair: Pair, image: Array, *, forced: bool) -> Iterator[Notice]:
    """Reject the high-resolution image of a pair (3D, as stored) if it was interpolated.

    Slices of a T2*w image are not checked, because runs keep their slice thickness. One image has
    no noise over time, so only a step of k-space is reported: filters and resampling attenuate
    high frequencies gradually. With `forced`, it becomes a note.
    """
    axes = pair.orders[0][:2] if pair.contrast == "T2starw" else pair.orders[0]
    radii = {"ijk"[axis]: find_step(np.moveaxis(image, axis, 0)) for axis in axes}
    empty = [f"{radius:.0%} along {name}" for name, radius in radii.items() if radius]
    if empty:
        reason = _describe_empty(empty, pair.contrast)
        yield problem_unless(forced, pair.highres, reason, INTERPOLATION_FIX)


def find_step(image: Array) -> float | None:
    """Return the radius of a step in k-space along the first axis of an image (3D), if any.

    The radius is relative to the Nyquist limit of the voxels. A step is a drop of the power that
    exceeds the drop over the same distance before. The image is weighted by its smooth copy,
    because the background, whose magnitudes are not band-limited, must not contribute.
    """
    from scipy.ndimage import gaussian_filter

    n = image.shape[0] // 2
    if 2 * n < _MIN_SAMPLES:
        return None
    slices = image[:, :, :: -(-image.shape[2] // _N_SLICES)].astype(np.float32)
    smooth = gaussian_filter(slices, [size / _N_SMOOTH for size in slices.shape[:2]] + [0.0])
    weights = np.square(np.maximum(smooth / np.percentile(smooth, 90) - _MIN_WEIGHTED, 0))
    power = np.square(np.abs(np.fft.rfft(slices * weights, axis=0))).mean(axis=(1, 2))
    decades = np.log10(np.maximum(power, np.finfo(np.float32).tiny))
    width = max(2, n // 24)  # frequencies on either side of a step
    radii = range(max(2 * width + 2, n // 4), int(MAX_INTERPOLATED_SHARE * n) + 2)
    drops = {}
    for k in radii:
        outer, level = decades[k + 1 : k + 1 + width], decades[k - width : k].mean()
        earlier_drop = decades[k - 2 * width - 1 : k - width - 1].mean() - level
        drops[k] = level - outer.mean() - max(earlier_drop, 0)
    radius = max(drops, key=drops.__getitem__, default=0)
    return radius / n if drops.get(radius, 0) > _MIN_STEP else None


def _describe_empty(empty: Sequence[str], contrast: str) -> str:
    """Describe an image whose k-space is empty above some frequencies."""
    return (
        f"k-space is empty above {' and '.join(empty)} (in percent of the Nyquist frequency"
        f" implied by the voxel size). The {contrast} image was interpolated, so there is no"
        " measured detail to learn from"
    )


@frozen
class _KspaceExtent:
    """Extent of k-space along an axis; radii are relative to the Nyquist limit of the voxels.

    Up to `half_radius` and `end_radius`, at least half and a tenth of the power at low frequencies
    remain. `edge_power` is the power at the edge relative to low frequencies.
    """

    half_radius: float
    end_radius: float
    edge_power: float


def _measure_extents(volumes: Array) -> list[_KspaceExtent | None]:
    """Measure the extent of k-space along both in-plane axes of slices (X, Y, Z, T).

    Changes between successive volumes are weighted by the mean image, so that the background,
    whose magnitudes are not band-limited, does not contribute. Medians over slices and volumes are
    used to exclude spikes, and the mean over changes is removed, because volumes may alternate.
    The extent is None for an axis with few voxels or without changes.
    """
    changes = volumes[..., ::2] - volumes[..., 1::2]
    if changes.shape[-1] > 1:
        changes = changes - changes.mean(axis=-1, keepdims=True)
    changes = changes * volumes.mean(axis=-1, keepdims=True)
    power = np.median(np.abs(np.fft.fft2(changes, axes=(0, 1))) ** 2, axis=(2, 3))
    return [_measure_extent(power), _measure_extent(power.T)]


def _measure_extent(power: Array) -> _KspaceExtent | None:
    """Measure the extent of k-space along the first axis of a power spectrum (2D, unshifted)."""
    if min(power.shape) < _MIN_SAMPLES:
        return None
    radius, other_radius = (np.abs(2 * np.fft.fftfreq(size)) for size in power.shape)
    profile = power[:, other_radius > _MIN_OTHER_RADIUS].mean(axis=1)
    is_low = (radius > _MIN_LOW_RADIUS) & (radius <= _MAX_LOW_RADIUS)
    low_frequency_power = profile[is_low].mean()
    if not low_frequency_power > 0:
        return None
    half_radius, end_radius = (
        float(radius[profile >= fraction * low_frequency_power].max()) for fraction in (0.5, 0.1)
    )
    return _KspaceExtent(
        half_radius=half_radius,
        end_radius=end_radius,
        edge_power=float(profile[radius >= _MIN_EDGE_RADIUS].mean() / low_frequency_power),
    )
