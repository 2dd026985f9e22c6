"""Check that k-space is filled up to the Nyquist limit of the voxels, as methods assume.

Sidecar fields contain the scanner settings, and the spectrum of changes between volumes shows the
actual extent: noise extends as far as k-space was acquired, at a constant level unless it was
filtered.
"""

from collections.abc import Iterator

import numpy as np

from bids_sr.bids import BoldRun, Findings
from bids_sr.io.arrays import Array
from bids_sr.io.grids import reorder

_FULL = 0.95  # share of a matrix or of the Nyquist limit; scanners omit one or two lines
_EMPTY = 0.75  # share of the Nyquist limit, below which little detail remains to be learned
# radius at 10 % power divided by radius at 50 % power: up to 1.35 if truncated, 1.5 or more if
# smoothed
_STEEP = 1.4
_WEAK = 0.18  # power relative to low frequencies; .19 or more at the edge of acquired runs
_LEAST = 24  # voxels along an axis; fewer give too few points of its spectrum
_VOLUMES, _SLICES = 16, 16
_NOT_THERE = (
    "the acquired Nyquist frequency differs from the Nyquist frequency implied by the voxel size"
)


def refuse_phase(run: BoldRun, findings: Findings) -> None:
    """Reject a phase image (ImageType in its sidecar) that is named as a magnitude image."""
    kinds = run.sidecar.get("ImageType")
    words = {str(kind).upper() for kind in kinds} if isinstance(kinds, list) else set()
    if words & {"P", "PHASE"} and not words & {"M", "MAGNITUDE"}:
        findings.add_problem(
            run.bold,
            (
                "the sidecar describes a phase image (ImageType), but the file is named as a"
                " magnitude image"
            ),
            "Add part-phase to the file name, and add the magnitude image of the run.",
        )


def warn_of_header(run: BoldRun, findings: Findings) -> None:
    """Warn of sidecar fields that imply voxels smaller than the acquired resolution."""
    part = _number(run, "PartialFourier")
    if 0 < part < 1:
        text = (
            f"PartialFourier is {part:g}, so {_NOT_THERE}. Along the phase-encoding direction, one"
            f" side of k-space was acquired only up to {max(2 * part - 1, 0):.0%} of the implied"
            " Nyquist frequency. Finer detail is blurred or estimated from the other side."
        )
        findings.warn(run.bold, text)
    for name, acquired, voxels in _iterate_zero_filled(run):
        text = (
            f"{name} is {acquired:g}, but the image has {voxels:g} voxels along this axis. The"
            f" acquired Nyquist frequency is therefore {acquired / voxels:.0%} of the Nyquist"
            " frequency implied by the voxel size. Finer detail is interpolated, not measured."
        )
        findings.warn(run.bold, text)
    recon_matrix = _number(run, "ReconMatrixPE")
    voxels = _voxels(run)[0]
    if recon_matrix and recon_matrix != voxels:
        text = (
            f"ReconMatrixPE is {recon_matrix:g}, but the image has {voxels} voxels along the"
            " phase-encoding direction, so the image was resampled, cropped or padded. If it was"
            f" resampled, {_NOT_THERE}, and detail near the acquired Nyquist frequency is weak or"
            " missing."
        )
        findings.warn(run.bold, text)


def _number(run: BoldRun, name: str) -> float:
    """Return the value of a sidecar field, or 0 unless it is a finite number."""
    value = run.sidecar.get(name)
    is_valid = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6
    return float(value) if is_valid else 0.0  # type: ignore[arg-type]


def _voxels(run: BoldRun) -> tuple[int, int]:
    """Return the voxels along phase encoding and readout; smaller number first if unknown."""
    x, y = run.shape[:2]
    direction = str(run.sidecar.get("PhaseEncodingDirection", ""))[:1]
    return (x, y) if direction == "i" else (y, x) if direction == "j" else (min(x, y), max(x, y))


def _iterate_zero_filled(run: BoldRun) -> Iterator[tuple[str, float, float]]:
    """Yield name, samples and voxels of each field with fewer samples than voxels."""
    phase, readout = _voxels(run)
    for name, voxels in (
        ("AcquisitionMatrixPE", _number(run, "ReconMatrixPE") or phase),
        ("BaseResolution", readout),
    ):
        if 0 < (acquired := _number(run, name)) < _FULL * voxels:
            yield name, acquired, voxels


def check_kspace(run: BoldRun, findings: Findings, *, forced: bool) -> None:
    """Reject a run with empty k-space far below its Nyquist limit, and warn of a weak edge.

    With `forced`, empty k-space becomes a note.
    """
    spectra = [
        ("ijk"[run.axis_order[axis]], *edge_values)
        for axis, edge_values in enumerate(_edges(_read_slices(run)))
        if edge_values is not None
    ]
    shares = [acquired / voxels for _, acquired, voxels in _iterate_zero_filled(run)]
    empty = [
        f"{extent:.0%} along {name}"
        for name, half, extent, _ in spectra
        if extent <= _EMPTY and (extent < _STEEP * half or min(shares, default=1) <= _EMPTY)
    ]
    weak_edges = [f"{edge:.0%} along {name}" for name, _, extent, edge in spectra if edge < _WEAK]
    if empty:
        findings.refuse_unless(
            forced,
            run.bold,
            f"k-space is empty above {' and '.join(empty)} (in percent of the Nyquist frequency"
            " implied by the voxel size). The run was interpolated, so there is no measured"
            " detail to learn from",
            "Reconstruct the run with the acquired matrix size and without interpolation, or"
            " process the interpolated run with --force.",
        )
    elif weak_edges and not shares:  # otherwise already reported from the sidecar
        text = (
            "at the edge of k-space, the power of signal changes is only"
            f" {' and '.join(weak_edges)} relative to low frequencies, so the run was probably"
            f" filtered, smoothed or resampled. {_NOT_THERE[0].upper()}{_NOT_THERE[1:]}, and"
            " detail near the acquired Nyquist frequency is weak or missing. Use the unprocessed"
            " run."
        )
        findings.warn(run.bold, text)


def _read_slices(run: BoldRun) -> Array:
    """Return slices of an even number of successive volumes (X, Y, Z, T) after 10 % of the run."""
    from bids_sr.io.nifti import SeriesReader

    start, step = run.n_volumes // 10, -(-run.shape[2] // _SLICES)
    count = min(_VOLUMES, run.n_volumes - start) // 2 * 2
    with SeriesReader(run.bold, allow_nan=True) as reader:
        volumes = (reader.volume(index) for index in range(start, start + count))
        return np.stack(
            [reorder(volume, run.axis_order)[:, :, ::step] for volume in volumes], axis=-1
        )


def _edges(volumes: Array) -> list[tuple[float, float, float] | None]:
    """Measure the extent of k-space along both in-plane axes.

    Changes between successive volumes are weighted by the mean image, so that the background,
    whose magnitudes are not band-limited, does not contribute. Medians over slices and volumes are
    used to exclude spikes.

    Returns
    -------
    list of (half, end, edge) or None
        Radii, relative to the Nyquist limit, at which half and a tenth of the power at low
        frequencies remain, and power at the edge relative to low frequencies. None for an axis
        with few voxels or without changes.
    """
    changes = (volumes[..., ::2] - volumes[..., 1::2]) * volumes.mean(axis=-1, keepdims=True)
    power = np.median(np.abs(np.fft.fft2(changes, axes=(0, 1))) ** 2, axis=(2, 3))
    edges: list[tuple[float, float, float] | None] = []
    for axis_power in (power, power.T):
        if min(axis_power.shape) < _LEAST:
            edges.append(None)
            continue
        radius, other_radius = (np.abs(2 * np.fft.fftfreq(size)) for size in axis_power.shape)
        # frequencies with the weakest physiological noise
        line = axis_power[:, other_radius > 0.3].mean(axis=1)
        level = line[(radius > 0.05) & (radius <= 0.25)].mean()
        if not level > 0:
            edges.append(None)
            continue
        half, end = (float(radius[line >= part * level].max()) for part in (0.5, 0.1))
        edges.append((half, end, float(line[radius >= 0.9].mean() / level)))
    return edges
