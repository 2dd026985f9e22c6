"""Check that k-space is filled up to the Nyquist limit of the voxels, as methods assume.

Sidecar fields contain the scanner settings, and the spectrum of changes between volumes shows the
actual extent: noise extends as far as k-space was acquired, at a constant level unless it was
filtered.
"""

from collections.abc import Sequence

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import reorder
from bids_sr.io.json_values import as_texts
from bids_sr.survey.bids import BoldRun, Findings, Pair
from bids_sr.survey.bids.acquired_matrix import (
    INTERPOLATION_FIX,
    MAX_INTERPOLATED_SHARE,
    get_matrix_by_direction,
    interpolation_text,
    list_zero_filled,
    read_number,
)

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
# by term of ImageType
_PROCESSING = {
    "MOCO": "corrected head motion, and each volume was interpolated; estimated motion is too"
    " small, and detail near the Nyquist frequency is weak",
    "FILTERED": "filtered the images, and detail near the Nyquist frequency is weak",
    "INTERP": "interpolated the images, and detail beyond the acquired matrix is not measured",
}
_NYQUIST_DIFFERS = (
    "the acquired Nyquist frequency differs from the Nyquist frequency implied by the voxel size"
)


def refuse_phase(run: BoldRun, findings: Findings) -> None:
    """Reject a phase image (ImageType in its sidecar) that is named as a magnitude image."""
    terms = {term.upper() for term in as_texts(run.sidecar.get("ImageType"))}
    if terms & {"P", "PHASE"} and not terms & {"M", "MAGNITUDE"}:
        findings.add_problem(
            run.bold,
            "the sidecar describes a phase image (ImageType), but the file is named as a"
            " magnitude image",
            "Add part-phase to the file name, and add the magnitude image of the run.",
        )


def _note_processing(run: BoldRun, findings: Findings) -> None:
    """Report processing on the scanner (ImageType), and slice times of a 3D acquisition."""
    terms = [term.upper() for term in as_texts(run.sidecar.get("ImageType"))]
    for term in dict.fromkeys(terms):
        if term in _PROCESSING:
            findings.note(
                run.bold,
                f"ImageType contains {term}, so the scanner {_PROCESSING[term]}. If the"
                " unprocessed series exists, use it.",
            )
    is_3d = str(run.sidecar.get("MRAcquisitionType", "")).upper() == "3D"
    if is_3d and run.sidecar.get("SliceTiming") is not None:
        findings.note(
            run.bold,
            "MRAcquisitionType is 3D, but SliceTiming exists. All slices of a 3D acquisition have"
            " the same time. If the run is a 3D EPI, use --ignore slicetiming.",
        )


def warn_of_header(run: BoldRun, findings: Findings) -> None:
    """Warn of sidecar fields that imply voxels smaller than the acquired resolution."""
    _note_processing(run, findings)
    partial_fourier = read_number(run.sidecar, "PartialFourier")
    if 0 < partial_fourier < 1:
        findings.warn(
            run.bold,
            f"PartialFourier is {partial_fourier:g}, so {_NYQUIST_DIFFERS}. Along the"
            " phase-encoding direction, one side of k-space was acquired only up to"
            f" {max(2 * partial_fourier - 1, 0):.0%} of the implied Nyquist frequency. Finer"
            " detail is blurred or estimated from the other side.",
        )
    for axis in list_zero_filled(run.sidecar, run.shape):
        findings.warn(run.bold, f"{interpolation_text(axis)}.")
    recon_matrix = read_number(run.sidecar, "ReconMatrixPE")
    n_phase_voxels, _ = get_matrix_by_direction(run.sidecar, run.shape)
    if recon_matrix and recon_matrix != n_phase_voxels:
        findings.warn(
            run.bold,
            f"ReconMatrixPE is {recon_matrix:g}, but the image has {n_phase_voxels} voxels along"
            " the phase-encoding direction, so the image was resampled, cropped or padded. If it"
            f" was resampled, {_NYQUIST_DIFFERS}, and detail near the acquired Nyquist frequency"
            " is weak or missing.",
        )


def check_kspace(run: BoldRun, findings: Findings, *, forced: bool) -> None:
    """Reject a run with empty k-space far below its Nyquist limit, and warn of a weak edge.

    With `forced`, empty k-space becomes a note.
    """
    extents = {
        "ijk"[run.axis_order[axis]]: extent
        for axis, extent in enumerate(_measure_extents(_read_slices(run)))
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
        findings.refuse_unless(forced, run.bold, _describe_empty(empty, "BOLD"), INTERPOLATION_FIX)
    elif weak_edges and not shares:  # otherwise already reported from the sidecar
        findings.warn(
            run.bold,
            "at the edge of k-space, the power of signal changes is only"
            f" {' and '.join(weak_edges)} relative to low frequencies, so the run was probably"
            " filtered, smoothed or resampled."
            f" {_NYQUIST_DIFFERS[0].upper()}{_NYQUIST_DIFFERS[1:]}, and detail near the acquired"
            " Nyquist frequency is weak or missing. Use the unprocessed run.",
        )


def check_kspace_of_image(pair: Pair, image: Array, findings: Findings, *, forced: bool) -> None:
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
        findings.refuse_unless(forced, pair.highres, reason, INTERPOLATION_FIX)


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


def _read_slices(run: BoldRun) -> Array:
    """Return slices of an even number of successive volumes (X, Y, Z, T) after 10 % of the run."""
    from bids_sr.io.nifti import SeriesReader

    start, step = run.n_volumes // 10, -(-run.shape[2] // _N_SLICES)
    n_volumes = min(_N_VOLUMES, run.n_volumes - start) // 2 * 2
    with SeriesReader(run.bold, allow_nan=True) as reader:
        volumes = (reader.volume(index) for index in range(start, start + n_volumes))
        return np.stack(
            [reorder(volume, run.axis_order)[:, :, ::step] for volume in volumes], axis=-1
        )
