"""Calibrations of the runs of `_people_data`: the right one, shorter and longer ones, and wrong
ones.

A displacement relative to the calibration's own reference ("of the fluctuations alone") cannot be
undone by registering references: such a calibration is as wrong as after a failed registration.
Registration undoes displacements of the whole calibration.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from _people_data import TESTED, Part, Tested, calibration_file, moved_events, write_calibration
from scipy import ndimage

from bids_sr.phantom.poses import ROTATION_CENTER
from bids_sr.phantom.scanner import draw_distortion
from bids_sr.spatial.resampling import sample_volume

Change = Callable[[np.ndarray, tuple[float, float, float]], np.ndarray]
SPIKE_AT, SPIKE = 10, 1.3


def fluctuations_moved(x: int = 0, y: int = 0) -> Change:
    """Return a change that displaces everything but the mean over time by whole high-resolution
    voxels.
    """

    def change(series: np.ndarray, _zooms: tuple[float, float, float]) -> np.ndarray:
        mean = series.mean(-1, keepdims=True)
        return np.asarray(mean + np.roll(series - mean, (x, y), axis=(0, 1)))

    return change


def moved(y: int) -> Change:
    """Return a change that displaces the whole calibration."""
    return lambda series, _zooms: np.roll(series, y, axis=1)


def mirrored(series: np.ndarray, _zooms: tuple[float, float, float]) -> np.ndarray:
    """Exchange left and right."""
    return np.ascontiguousarray(series[::-1])


def with_spike(series: np.ndarray, _zooms: tuple[float, float, float]) -> np.ndarray:
    """Brighten every other slice of one volume, as in a motion spike."""
    out = series.copy()
    out[:, :, ::2, SPIKE_AT] *= SPIKE
    return out


def distorted_by(voxels: float) -> Change:
    """Return a change that displaces smoothly along phase encoding (y), by at most so many
    high-resolution voxels.
    """

    def change(series: np.ndarray, zooms: tuple[float, float, float]) -> np.ndarray:
        mean = series.mean(-1)
        inside = ndimage.binary_fill_holes(mean > 0.25 * np.percentile(mean, 98))
        # for a head at its usual place, the displacement is largest at the front and at the ears
        affine = np.diag([*zooms, 1.0])
        affine[:3, 3] = np.asarray(ROTATION_CENTER) - np.argwhere(inside).mean(0) * zooms
        grid = (mean.shape[0], mean.shape[1], mean.shape[2]), affine
        field = draw_distortion(np.random.default_rng(7), grid, inside, voxels * zooms[1])
        shift, stretch = (
            (field, np.array([0.0, 1.0, 0.0])),
            1 + np.gradient(field, zooms[1], axis=1),
        )
        moved = [
            sample_volume(v, affine, *grid, shift=shift) * stretch
            for v in np.moveaxis(series, -1, 0)
        ]
        return np.stack(moved, axis=-1)

    return change


def _unchanged(series: np.ndarray, _zooms: tuple[float, float, float]) -> np.ndarray:
    return series


CHANGES: dict[str, tuple[str, Change]] = {
    "fine": ("right, 19 or 20 volumes", _unchanged),
    "mirrored": ("mirrored, left for right", mirrored),
    "x1": ("fluctuations one fine voxel off along x", fluctuations_moved(x=1)),
    "y1": ("fluctuations one fine voxel off along y", fluctuations_moved(y=1)),
    "x2": ("fluctuations two fine voxels off along x", fluctuations_moved(x=2)),
    "y2": ("fluctuations two fine voxels off along y", fluctuations_moved(y=2)),
    "moved": ("one fine voxel off along y as a whole", moved(1)),
    "spike": ("a spike in one volume", with_spike),
    "other": ("of another person", _unchanged),
    "five": ("five volumes only", _unchanged),
    "pe1": ("distorted along phase encoding by up to one fine voxel", distorted_by(1)),
    "pe2": ("distorted along phase encoding by up to two fine voxels", distorted_by(2)),
    "v10": ("10 volumes", _unchanged),
    "v60": ("60 volumes", _unchanged),
    "regressed": ("its task regressed out", _unchanged),
    "after": ("as many volumes after the run", _unchanged),
}
OTHER = {"A": "B1", "B1": "A", "B2": "A", "C": "A"}


def part_of(kind: str, tested: Tested) -> Part:
    """Return the volumes of a calibration; the volumes nearest to the run if there are fewer."""
    calibration = tested.calibration
    assert calibration.end is not None
    if kind == "other":
        return TESTED[OTHER[tested.name]].calibration
    if kind == "after":
        assert tested.after is not None
        return tested.after
    if kind == "five":
        return Part(file=calibration.file, first=calibration.end - 5, end=calibration.end)
    if kind == "v10":
        return Part(file=calibration.file, first=calibration.end - 10, end=calibration.end)
    if kind == "v60":
        return Part(file=calibration.file, first=calibration.first, end=calibration.first + 60)
    return calibration


def make_calibration(kind: str, tested: Tested, data: Path, out: Path) -> Path:
    """Return the file of a calibration, which is written unless it exists."""
    file = calibration_file(tested, out, kind)
    if file.exists():
        return file
    part = part_of(kind, tested)
    image, series = part.series(data)
    x, y, z, tr = (float(value) for value in image.header["pixdim"][1:5])
    events = ""
    if kind == "regressed":
        table = data / part.file.replace("_bold.nii.gz", "_events.tsv")
        events = moved_events(table, part.first * tr, one_type=tested.one_type)
    write_calibration(CHANGES[kind][1](series, (x, y, z)), part, data, file, events=events)
    return file
