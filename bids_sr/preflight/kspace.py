"""Whether a run is full k-space up to the Nyquist limit of its voxels, which methods assume.

Sidecar fields tell what was set, the spectrum of changes between volumes what is there: noise
reaches as far as k-space was acquired, at about one level unless it was filtered.
"""

from collections.abc import Iterator

import numpy as np

from bids_sr.bids import BoldRun, Findings
from bids_sr.io.grids import Array, reordered

_FULL = 0.95  # of a matrix or of the limit; scanners leave out a line or two
_EMPTY = 0.75  # of the limit: little is left to learn from where nothing lies beyond
# radius at .1 of the power over that at .5: to 1.35 where cut off, from 1.5 on where smoothed
_STEEP = 1.4
_WEAK = 0.18  # of the power at low frequencies; .19 and more at the edge of runs as acquired
_LEAST = 24  # voxels along an axis, below which its spectrum has too few points
_VOLUMES, _SLICES = 16, 16
_NOT_THERE = "the acquired Nyquist limit is not where the voxels say"


def warn_of_header(run: BoldRun, found: Findings) -> None:
    """Warn of sidecar fields by which the voxels are finer than what was acquired."""
    part = _number(run, "PartialFourier")
    if 0 < part < 1:
        text = (
            f"PartialFourier is {part:g}: {_NOT_THERE}. Along phase encoding one side of k-space"
            f" ends at {max(2 * part - 1, 0):.0%} of it; detail beyond is blurred, or derived from"
            " the other side."
        )
        found.warn(run.bold, text)
    for name, acquired, voxels in _acquired(run):
        text = (
            f"{name} is {acquired:g} for {voxels:g} voxels: {_NOT_THERE}, but at"
            f" {acquired / voxels:.0%} of it; detail beyond is interpolated, not measured."
        )
        found.warn(run.bold, text)
    made, voxels = _number(run, "ReconMatrixPE"), _voxels(run)[0]
    if made and made != voxels:
        text = (
            f"ReconMatrixPE is {made:g}, but the image has {voxels} voxels along phase encoding:"
            f" it was resampled, cropped or padded. Once resampled, {_NOT_THERE}, and detail near"
            " it is weaker or none."
        )
        found.warn(run.bold, text)


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


def check_kspace(run: BoldRun, found: Findings, *, forced: bool) -> None:
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
        found.refuse_unless(
            forced,
            run.bold,
            f"its k-space is empty beyond {' and '.join(empty)} of the Nyquist limit of its"
            " voxels: it was interpolated, and has no measured detail there to learn from",
            "Reconstruct it at the acquired matrix, without interpolation, or overrule with"
            " --force.",
        )
    elif weak and not said:  # else the header has said it
        text = (
            f"at the edge of its k-space signal changes have {' and '.join(weak)} of the power"
            f" at low frequencies: it was filtered, smoothed or resampled. {_NOT_THERE[0].upper()}"
            f"{_NOT_THERE[1:]}: detail near it is weaker or gone. Give the run as acquired."
        )
        found.warn(run.bold, text)


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
    found: list[tuple[float, float, float] | None] = []
    for along in (power, power.T):
        if min(along.shape) < _LEAST:
            found.append(None)
            continue
        radius, across = (np.abs(2 * np.fft.fftfreq(n)) for n in along.shape)
        line = along[:, across > 0.3].mean(axis=1)  # where physiology is weakest
        level = line[(radius > 0.05) & (radius <= 0.25)].mean()
        if not level > 0:
            found.append(None)
            continue
        half, end = (float(radius[line >= part * level].max()) for part in (0.5, 0.1))
        found.append((half, end, float(line[radius >= 0.9].mean() / level)))
    return found
