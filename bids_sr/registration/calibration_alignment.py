"""A calibration and the run that it is for, on arrays: registration, task regressors, what rules it out.

Matrices are 4x4, RAS mm, and take a boldref point of the run to where it lies in the calibration.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from bids_sr.io.array_types import Array
from bids_sr.io.nifti import SeriesReader
from bids_sr.registration.ants import Image
from bids_sr.registration.rigid import refine, rigid, size_of
from bids_sr.spatial import masks
from bids_sr.spatial.edges import EdgeError, edge_mismatch
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import apply, displacement, hr_grid
from bids_sr.sr.resolution.degradation import kspace_crop
from bids_sr.stats.glm.confounds import HEAD_RADIUS_MM

Factor = tuple[float, float, float]
LEAST_OVERLAP = 0.5  # of the run's brain that lies in the calibration's
LEAST_CORRELATION = 0.5  # of the two references in the brain, below which it is another head or a failed registration
MOST_MOTION_MM = 1.0  # of any volume that is used, from the reference (rms over the brain)
MOST_FAR = 0.25  # share of the volumes that may lie farther away, and are left out
MOST_VOLUMES = 100  # that are read; more tell little more and cost memory


def register_to_calibration(
    boldref: Image, mask: Array, fine: Image, fine_mask: Array, factor: Factor, *, seed: int, prefix: str
) -> tuple[Array, dict[str, Any]]:
    """Rigid transform that takes a boldref point to its point in the calibration, and how well it fits.

    Mutual information first, then Gauss-Newton on intensities, as both are echo-planar images of one contrast; for the
    latter the calibration's reference is smoothed to the voxel of the run. `factor` is voxel of the run over that of
    the calibration.
    """
    fit = rigid(boldref, fine, mask, fine_mask, seed=seed, prefix=prefix, fine_mm=0.35 * float(boldref.zooms.min()))
    gap = np.sqrt(np.maximum(boldref.zooms**2 - fine.zooms**2, 0)) / fine.zooms
    soft = ndimage.gaussian_filter(np.asarray(fine.data, np.float32), gap / FWHM_PER_SIGMA, mode="nearest")
    xfm = refine(boldref, Image(data=soft, affine=fine.affine), mask, fit.xfm)
    facts: dict[str, Any] = {**size_of(xfm, mask, boldref.affine)}
    facts |= {"start": fit.start, "nmi": round(fit.nmi, 4)}
    return xfm, facts | agreement(boldref, mask, fine, fine_mask, xfm, factor)


def agreement(
    boldref: Image, mask: Array, fine: Image, fine_mask: Array, xfm: Array, factor: Factor
) -> dict[str, float | None]:
    """How far brains and edges of the two agree in register: overlap, Dice, correlation, distance of edges (mm)."""
    shape = boldref.data.shape
    carried = masks.coverage(fine_mask, fine.affine, shape, boldref.affine, xfm) >= 0.5
    overlap = float((carried & mask).sum() / max(int(mask.sum()), 1))
    low = downsampled(fine, boldref, factor, xfm)
    both = carried & mask
    facts: dict[str, float | None] = {
        "overlap": round(overlap, 4),
        "dice": round(masks.dice(mask, carried), 4),
        "correlation": round(_correlation(low[both], boldref.data[both]), 4),
        "edges_apart_mm": None,
        "edges_apart_p90_mm": None,
    }
    try:
        found = edge_mismatch(
            boldref.data, low, both, boldref.affine, blur_mm=float(boldref.zooms[:2].max())
        )  # fmt: skip
    except EdgeError:
        return facts
    told = {"edges_apart_mm": found.median, "edges_apart_p90_mm": found.p90}
    return facts | {key: round(value, 3) if math.isfinite(value) else None for key, value in told.items()}


def downsampled(fine: Image, boldref: Image, factor: Factor, xfm: Array) -> Array:
    """The calibration's reference as the run's matrix would show it, on the grid of boldref."""
    shape, affine = hr_grid(boldref.data.shape, boldref.affine, factor)
    moved = sample_volume(fine.data, fine.affine, shape, affine, xfm)
    return np.asarray(kspace_crop(moved, affine, factor=factor, magnitude=True)[0])


def _correlation(a: Array, b: Array) -> float:
    if a.size < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def in_reference(reader: SeriesReader, matrices: Array, first: int) -> Array:
    """Steady volumes in the pose of the reference, (X, Y, Z, T) float32; the first `MOST_VOLUMES` of them."""
    shape = reader.shape[:3]
    stop = min(reader.shape[3], first + MOST_VOLUMES)
    out = np.empty((*shape, stop - first), dtype=np.float32)
    for t in range(first, stop):
        out[..., t - first] = sample_volume(reader.volume(t), reader.affine, shape, reader.affine, matrices[t])
    return out


def moved_mm(matrices: Array, mask: Array, affine: Array) -> Array:
    """(T,) rms displacement of the brain from the reference (mm)."""
    points = apply(affine, np.argwhere(mask)[::7])
    return np.array([np.sqrt((displacement(np.eye(4), matrix, points) ** 2).mean()) for matrix in matrices])


def motion_mm(params: Array) -> Array:
    """(T, 6) motion parameters (mm, rad) with rotations as displacements at the head's radius (mm)."""
    return np.asarray(params, dtype=np.float64) * np.array([1.0] * 3 + [HEAD_RADIUS_MM] * 3)


def task_regressors(events: str | Path, tr: float, volumes: int) -> Array:
    """(T, C) predicted response of each condition that happens.

    Raises
    ------
    DesignError : the table cannot be used
    """
    from bids_sr.stats.glm.design import condition_regressors, frame_times, read_events

    found = condition_regressors(read_events(events), frame_times(volumes, tr))
    kept = [regressor for regressor in found.values() if np.abs(regressor).max() > 1e-3]
    return np.stack(kept, axis=1) if kept else np.zeros((volumes, 0))


def objection(facts: Mapping[str, Any]) -> str:
    """Why a calibration cannot be used, from what was measured; "" if it can."""
    if facts["overlap"] < LEAST_OVERLAP:
        return (
            f"only {facts['overlap']:.0%} of the run's brain lies in it: measure it with the field of view of the run"
        )
    if facts["correlation"] < LEAST_CORRELATION:
        return (
            f"in register it looks unlike the run (correlation {facts['correlation']:.2f}): another head, another "
            "contrast or a registration that failed; look at its figure"
        )
    if facts.get("far_share", 0.0) > MOST_FAR:
        return (
            f"the head moved by {facts['motion_max_mm']:.1f} mm, {MOST_MOTION_MM:g} mm are allowed: measure it again "
            "while the participant lies still"
        )
    return ""
