"""Check that k-space is filled up to the Nyquist limit of the voxels, as methods assume.

Sidecar fields contain the scanner settings, and the spectrum of changes between volumes shows the
actual extent: noise extends as far as k-space was acquired, at a constant level unless it was
filtered.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import reorder
from bids_sr.survey.bids import BoldRun, Findings

_MIN_FULL_SHARE = 0.95  # of the voxels along an axis; scanners omit one or two lines
_MAX_EMPTY_EXTENT = 0.75  # of the Nyquist limit; with less, little detail remains to be learned
# radius at 10 % power divided by radius at 50 % power: up to 1.35 if truncated, 1.5 or more if
# smoothed
_MAX_EDGE_RATIO = 1.4
_MIN_EDGE_POWER = 0.18  # relative to low frequencies; .19 or more at the edge of acquired runs
# radii relative to the Nyquist limit: low frequencies, edge, and frequencies along the other axis
# with the weakest physiological noise
_MIN_LOW_RADIUS, _MAX_LOW_RADIUS, _MIN_EDGE_RADIUS, _MIN_OTHER_RADIUS = 0.05, 0.25, 0.9, 0.3
_MIN_SAMPLES = 24  # voxels along an axis; fewer give too few points of its spectrum
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
    image_type = run.sidecar.get("ImageType")
    terms = {str(term).upper() for term in image_type} if isinstance(image_type, list) else set()
    if terms & {"P", "PHASE"} and not terms & {"M", "MAGNITUDE"}:
        findings.add_problem(
            run.bold,
            "the sidecar describes a phase image (ImageType), but the file is named as a"
            " magnitude image",
            "Add part-phase to the file name, and add the magnitude image of the run.",
        )


def _note_processing(run: BoldRun, findings: Findings) -> None:
    """Report processing on the scanner (ImageType), and slice times of a 3D acquisition."""
    image_type = run.sidecar.get("ImageType")
    terms = [str(term).upper() for term in image_type] if isinstance(image_type, list) else []
    for term in dict.fromkeys(terms):
        if term in _PROCESSING:
            text = (
                f"ImageType contains {term}, so the scanner {_PROCESSING[term]}. If the"
                " unprocessed series exists, use it."
            )
            findings.note(run.bold, text)
    is_3d = str(run.sidecar.get("MRAcquisitionType", "")).upper() == "3D"
    if is_3d and run.sidecar.get("SliceTiming") is not None:
        text = (
            "MRAcquisitionType is 3D, but SliceTiming exists. All slices of a 3D acquisition have"
            " the same time. If the run is a 3D EPI, use --ignore slicetiming."
        )
        findings.note(run.bold, text)


def warn_of_header(run: BoldRun, findings: Findings) -> None:
    """Warn of sidecar fields that imply voxels smaller than the acquired resolution."""
    _note_processing(run, findings)
    partial_fourier = _read_number(run, "PartialFourier")
    if 0 < partial_fourier < 1:
        text = (
            f"PartialFourier is {partial_fourier:g}, so {_NYQUIST_DIFFERS}. Along the"
            " phase-encoding direction, one side of k-space was acquired only up to"
            f" {max(2 * partial_fourier - 1, 0):.0%} of the implied Nyquist frequency. Finer"
            " detail is blurred or estimated from the other side."
        )
        findings.warn(run.bold, text)
    for axis in _list_zero_filled(run):
        text = (
            f"{axis.field} is {axis.n_samples:g}, but the image has {axis.n_voxels:g} voxels"
            f" along this axis. The acquired Nyquist frequency is therefore {axis.share:.0%} of"
            " the Nyquist frequency implied by the voxel size. Finer detail is interpolated, not"
            " measured."
        )
        findings.warn(run.bold, text)
    recon_matrix = _read_number(run, "ReconMatrixPE")
    n_phase_voxels, _ = _get_matrix_by_direction(run)
    if recon_matrix and recon_matrix != n_phase_voxels:
        text = (
            f"ReconMatrixPE is {recon_matrix:g}, but the image has {n_phase_voxels} voxels along"
            " the phase-encoding direction, so the image was resampled, cropped or padded. If it"
            f" was resampled, {_NYQUIST_DIFFERS}, and detail near the acquired Nyquist frequency"
            " is weak or missing."
        )
        findings.warn(run.bold, text)


def check_kspace(run: BoldRun, findings: Findings, *, forced: bool) -> None:
    """Reject a run with empty k-space far below its Nyquist limit, and warn of a weak edge.

    With `forced`, empty k-space becomes a note.
    """
    extents = {
        "ijk"[run.axis_order[axis]]: extent
        for axis, extent in enumerate(_measure_extents(_read_slices(run)))
        if extent is not None
    }
    shares = [axis.share for axis in _list_zero_filled(run)]
    is_zero_filled = min(shares, default=1) <= _MAX_EMPTY_EXTENT
    empty = [
        f"{extent.end_radius:.0%} along {axis_name}"
        for axis_name, extent in extents.items()
        if extent.end_radius <= _MAX_EMPTY_EXTENT
        and (extent.end_radius < _MAX_EDGE_RATIO * extent.half_radius or is_zero_filled)
    ]
    weak_edges = [
        f"{extent.edge_power:.0%} along {axis_name}"
        for axis_name, extent in extents.items()
        if extent.edge_power < _MIN_EDGE_POWER
    ]
    if empty:
        findings.refuse_unless(
            forced,
            run.bold,
            f"k-space is empty above {' and '.join(empty)} (in percent of the Nyquist frequency"
            " implied by the voxel size). The run was interpolated, so there is no measured"
            " detail to learn from",
            "Reconstruct the run with the acquired matrix size and without interpolation, or"
            " process the interpolated run with --set superres.force=true.",
        )
    elif weak_edges and not shares:  # otherwise already reported from the sidecar
        text = (
            "at the edge of k-space, the power of signal changes is only"
            f" {' and '.join(weak_edges)} relative to low frequencies, so the run was probably"
            " filtered, smoothed or resampled."
            f" {_NYQUIST_DIFFERS[0].upper()}{_NYQUIST_DIFFERS[1:]}, and detail near the acquired"
            " Nyquist frequency is weak or missing. Use the unprocessed run."
        )
        findings.warn(run.bold, text)


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


class _ZeroFilledAxis(NamedTuple):
    """In-plane axis with fewer samples than voxels, according to a field of the sidecar."""

    field: str
    n_samples: float
    n_voxels: float

    @property
    def share(self) -> float:
        """Samples relative to voxels."""
        return self.n_samples / self.n_voxels


def _list_zero_filled(run: BoldRun) -> Iterator[_ZeroFilledAxis]:
    """Yield the axes along which the sidecar states fewer samples than voxels."""
    n_phase_voxels, n_readout_voxels = _get_matrix_by_direction(run)
    for name, n_voxels in (
        ("AcquisitionMatrixPE", _read_number(run, "ReconMatrixPE") or n_phase_voxels),
        ("BaseResolution", n_readout_voxels),
    ):
        n_samples = _read_number(run, name)
        if 0 < n_samples < _MIN_FULL_SHARE * n_voxels:
            yield _ZeroFilledAxis(field=name, n_samples=n_samples, n_voxels=n_voxels)


def _get_matrix_by_direction(run: BoldRun) -> tuple[int, int]:
    """Return the voxels along phase encoding and readout; smaller number first if unknown."""
    x, y = run.shape[:2]
    direction = str(run.sidecar.get("PhaseEncodingDirection", ""))[:1]
    if direction == "i":
        return x, y
    return (y, x) if direction == "j" else (min(x, y), max(x, y))


def _read_number(run: BoldRun, name: str) -> float:
    """Return the value of a sidecar field, or 0 unless it is a finite number."""
    value = run.sidecar.get(name)
    is_valid = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6
    return float(value) if is_valid else 0.0  # type: ignore[arg-type]
