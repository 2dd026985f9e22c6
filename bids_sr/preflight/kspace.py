"""Check that a run is full k-space up to the Nyquist limit of its voxels, which methods assume.

Sidecar fields tell what was set, the spectrum of changes between volumes what is there: noise
reaches as far as k-space was acquired, at about one level unless it was filtered.
"""

from collections.abc import Iterator

import numpy as np

from bids_sr.bids import BoldRun, Findings
from bids_sr.io.arrays import Array
from bids_sr.io.grids import reordered

_FULL = 0.95  # of a matrix or of the limit; scanners leave out a line or two
_EMPTY = 0.75  # of the limit: little is left to learn from where nothing lies beyond
# radius at .1 of the power over that at .5: to 1.35 where cut off, from 1.5 on where smoothed
_STEEP = 1.4
_WEAK = 0.18  # of the power at low frequencies; .19 and more at the edge of runs as acquired
_LEAST = 24  # voxels along an axis, below which its spectrum has too few points
_VOLUMES, _SLICES = 16, 16
_NOT_THERE = (
    "the acquired Nyquist frequency differs from the Nyquist frequency implied by the voxel size"
)


def refuse_phase(run: BoldRun, findings: Findings) -> None:
    """Refuse a phase image that is named as a magnitude, by ImageType of its sidecar."""
    kinds = run.sidecar.get("ImageType")
    words = {str(kind).upper() for kind in kinds} if isinstance(kinds, list) else set()
    if words & {"P", "PHASE"} and not words & {"M", "MAGNITUDE"}:
        findings.refuse(
            run.bold,
            (
                "the sidecar describes a phase image (ImageType), but the file is named as a"
                " magnitude image"
            ),
            "Add part-phase to the file name, and add the magnitude image of the run.",
        )


def warn_of_header(run: BoldRun, findings: Findings) -> None:
    """Warn of sidecar fields by which the voxels are finer than what was acquired."""
    part = _number(run, "PartialFourier")
    if 0 < part < 1:
        text = (
            f"PartialFourier is {part:g}, so {_NOT_THERE}. Along the phase-encoding direction, one"
            f" side of k-space was acquired only up to {max(2 * part - 1, 0):.0%} of the implied"
            " Nyquist frequency. Finer detail is blurred or estimated from the other side."
        )
        findings.warn(run.bold, text)
    for name, acquired, voxels in _acquired(run):
        text = (
            f"{name} is {acquired:g}, but the image has {voxels:g} voxels along this axis. The"
            f" acquired Nyquist frequency is therefore {acquired / voxels:.0%} of the Nyquist"
            " frequency implied by the voxel size. Finer detail is interpolated, not measured."
        )
        findings.warn(run.bold, text)
    made = _number(run, "ReconMatrixPE")
    voxels = _voxels(run)[0]
    if made and made != voxels:
        text = (
            f"ReconMatrixPE is {made:g}, but the image has {voxels} voxels along the"
            " phase-encoding direction, so the image was resampled, cropped or padded. If it was"
            f" resampled, {_NOT_THERE}, and detail near the acquired Nyquist frequency is weak or"
            " missing."
        )
        findings.warn(run.bold, text)


def _number(run: BoldRun, name: str) -> float:
    """Value of a sidecar field; 0 where it is none that is finite."""
    value = run.sidecar.get(name)
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6
    return float(value) if good else 0.0  # type: ignore[arg-type]


def _voxels(run: BoldRun) -> tuple[int, int]:
    """Voxels along phase encoding and along readout; the fewer and the more if unknown."""
    x, y = run.shape[:2]
    direction = str(run.sidecar.get("PhaseEncodingDirection", ""))[:1]
    return (x, y) if direction == "i" else (y, x) if direction == "j" else (min(x, y), max(x, y))


def _acquired(run: BoldRun) -> Iterator[tuple[str, float, float]]:
    """Yield each field with fewer samples than voxels, its samples and these voxels."""
    phase, readout = _voxels(run)
    for name, voxels in (
        ("AcquisitionMatrixPE", _number(run, "ReconMatrixPE") or phase),
        ("BaseResolution", readout),
    ):
        if 0 < (acquired := _number(run, name)) < _FULL * voxels:
            yield name, acquired, voxels


def check_kspace(run: BoldRun, findings: Findings, *, forced: bool) -> None:
    """Refuse a run whose k-space is seen to be empty far below its limit; warn of a weak edge."""
    spectra = [
        ("ijk"[run.axis_order[axis]], *each)
        for axis, each in enumerate(_edges(_some_slices(run)))
        if each is not None
    ]
    said = [acquired / voxels for _, acquired, voxels in _acquired(run)]
    empty = [
        f"{end:.0%} along {name}"
        for name, half, end, _ in spectra
        if end <= _EMPTY and (end < _STEEP * half or min(said, default=1) <= _EMPTY)
    ]
    weak = [f"{edge:.0%} along {name}" for name, _, end, edge in spectra if edge < _WEAK]
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
    elif weak and not said:  # else the header has said it
        text = (
            f"at the edge of k-space, the power of signal changes is only {' and '.join(weak)}"
            " relative to low frequencies, so the run was probably filtered, smoothed or"
            f" resampled. {_NOT_THERE[0].upper()}{_NOT_THERE[1:]}, and detail near the acquired"
            " Nyquist frequency is weak or missing. Use the unprocessed run."
        )
        findings.warn(run.bold, text)


def _some_slices(run: BoldRun) -> Array:
    """Slices of successive volumes, an even number after a tenth of the run (X, Y, Z, T)."""
    from bids_sr.io.nifti import SeriesReader

    start, step = run.n_volumes // 10, -(-run.shape[2] // _SLICES)
    count = min(_VOLUMES, run.n_volumes - start) // 2 * 2
    with SeriesReader(run.bold, allow_nan=True) as reader:
        volumes = (reader.volume(t) for t in range(start, start + count))
        return np.stack([reordered(v, run.axis_order)[:, :, ::step] for v in volumes], axis=-1)


def _edges(volumes: Array) -> list[tuple[float, float, float] | None]:
    """Radii at which a half and a tenth of the power is left, and power at the edge, by axis.

    Radii in units of the Nyquist limit, power of changes from volume to volume over that at low
    frequencies; None for an axis of few voxels or without changes. The mean image weights the
    changes, so that the background, whose magnitudes have no band, does not count; medians over
    slices and volumes leave out spikes.
    """
    changes = (volumes[..., ::2] - volumes[..., 1::2]) * volumes.mean(axis=-1, keepdims=True)
    power = np.median(np.abs(np.fft.fft2(changes, axes=(0, 1))) ** 2, axis=(2, 3))
    edges: list[tuple[float, float, float] | None] = []
    for along in (power, power.T):
        if min(along.shape) < _LEAST:
            edges.append(None)
            continue
        radius, across = (np.abs(2 * np.fft.fftfreq(n)) for n in along.shape)
        line = along[:, across > 0.3].mean(axis=1)  # where physiology is weakest
        level = line[(radius > 0.05) & (radius <= 0.25)].mean()
        if not level > 0:
            edges.append(None)
            continue
        half, end = (float(radius[line >= part * level].max()) for part in (0.5, 0.1))
        edges.append((half, end, float(line[radius >= 0.9].mean() / level)))
    return edges
