"""Seed correlation maps: does a super-resolved series keep what is connected with what?

Source: tv-self-sr, section 3.3: realigned volumes; Legendre polynomials up to the 4th order, motion parameters and
their derivatives, a band-pass and censored volumes in one regression, as AFNI's 3dTproject does it (doing them one
after the other brings back what an earlier step took out); smoothing of 3 mm FWHM before it, which
`timecourse.extract_courses` does and which commutes with it; the mean course of a seed of 3 mm radius correlated with
every voxel. Maps are compared where r >= .5 by accuracy and false discovery rate, that of the acquired series as the
truth.

The paper's band ends at 2 Hz, above the Nyquist frequency of its TR of 3 s: there it is a high-pass and no more. Ours
to choose: volumes that are censored are left out alone, not their neighbors; rotations enter the norm of the change in
degrees, as AFNI's do; a seed smaller than a voxel is the voxel it lies in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bids_sr.stats.glm.time_series import BLOCK_BYTES, VoxelCourses
from bids_sr.stats.regions.mask_overlap import Overlap, overlap

Float = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
DEGREE = 4
BAND_HZ = (0.005, 2.0)
CENSOR = 0.3
FWHM_MM = 3.0
SEED_RADIUS_MM = 3.0
THRESHOLD = 0.5
_FLAT = 1e-6


def nuisance(
    n: int, tr: float, params: npt.NDArray[np.floating] | None = None, *, degree: int = DEGREE,
    band_hz: tuple[float, float] = BAND_HZ,
) -> Float:  # fmt: skip
    """What is regressed out of n volumes, tr seconds apart.

    Parameters
    ----------
    params : (n, 6) translations (mm) and rotations (rad); with their backward differences, 0 for the first volume.
        None: no motion
    degree : of the Legendre polynomials
    band_hz : frequencies that stay; the others of the run's Fourier grid are regressed out as sine and cosine

    Returns
    -------
    (n, P), columns of unit norm; those that others already span do no harm
    """
    times = np.linspace(-1, 1, n)
    parts = [np.polynomial.legendre.legvander(times, degree)]
    if params is not None:
        moved = np.asarray(params, dtype=np.float64)
        if moved.shape != (n, 6):
            raise ValueError(f"motion of {moved.shape} does not belong to {n} volumes")
        change = np.vstack([np.zeros(6), np.diff(moved, axis=0)])
        parts += [moved - moved.mean(axis=0), change]
    cycles = np.arange(n // 2 + 1)
    frequency = cycles / (n * tr)
    for k in cycles[(frequency < band_hz[0]) | (frequency > band_hz[1])]:
        phase = 2 * np.pi * k * np.arange(n) / n
        parts.append(np.stack([np.cos(phase), np.sin(phase)], axis=1))
    design = np.hstack(parts)
    size = np.linalg.norm(design, axis=0)
    return np.asarray(design[:, size > _FLAT] / size[size > _FLAT])


def kept(params: npt.NDArray[np.floating], limit: float = CENSOR) -> Mask:
    """Volumes before which the head moved by less than the limit: Euclidean norm of the change of the translations
    (mm) and rotations (degrees). The first volume is kept. (T,) from (T, 6) in mm and rad."""
    moved = np.array(params, dtype=np.float64)
    moved[:, 3:] = np.degrees(moved[:, 3:])
    change = np.linalg.norm(np.diff(moved, axis=0), axis=1)
    return np.concatenate([[True], change < limit])


def clean(courses: npt.NDArray[np.floating], design: Float, keep: Mask | None = None) -> Float:
    """Residuals of the volumes that are kept, (K, N) from (T, N).

    Raises
    ------
    ValueError : no more volumes are left than the regressors take degrees of freedom
    """
    chosen = np.ones(len(courses), dtype=bool) if keep is None else np.asarray(keep, dtype=bool)
    values = np.asarray(courses, dtype=np.float64)[chosen]
    left, sizes, _ = np.linalg.svd(design[chosen], full_matrices=False)
    basis = left[:, sizes > 1e-10 * sizes[0]]
    if len(values) - basis.shape[1] < 2:
        raise ValueError(f"{len(values)} volumes are left for {basis.shape[1]} regressors: no correlation can be had")
    return np.asarray(values - basis @ (basis.T @ values))


def seed_sphere(mask: Mask, affine: Float, center_mm: Sequence[float], radius_mm: float = SEED_RADIUS_MM) -> Mask:
    """Voxels of the mask whose center lies within the radius, or the voxel in which the seed lies.

    Parameters
    ----------
    mask : (X, Y, Z) brain
    affine : voxel -> RAS mm
    center_mm : of the seed, RAS

    Raises
    ------
    ValueError : the seed lies outside the mask
    """
    at = np.argwhere(mask)
    distance = np.linalg.norm(at @ affine[:3, :3].T + affine[:3, 3] - np.asarray(center_mm, dtype=float), axis=1)
    chosen = distance <= radius_mm + 1e-6  # a neighbor at the radius itself is inside, whatever rounding says
    if not chosen.any():
        own = np.floor(np.linalg.solve(affine[:3, :3], np.asarray(center_mm, float) - affine[:3, 3]) + 0.5)
        chosen = (at == own).all(axis=1)
    if not chosen.any():
        raise ValueError(f"the seed at {tuple(center_mm)} mm lies outside the brain mask")
    out = np.zeros(mask.shape, dtype=bool)
    out[tuple(at[chosen].T)] = True
    return out


def seed_maps(
    courses: VoxelCourses, seeds: npt.NDArray[np.bool_], design: Float, keep: Mask | None = None,
    *, budget: int = BLOCK_BYTES,
) -> Float:  # fmt: skip
    """Correlation of every voxel with the mean course of each seed.

    Parameters
    ----------
    courses : of the mask's voxels, smoothed
    seeds : (S, N) voxels of each seed among them
    design : (T, P) regressors, see `nuisance`
    keep : (T,) volumes that are not censored
    budget : bytes that a block of voxels may take

    Returns
    -------
    (S, N) in [-1, 1]; 0 where a voxel does not vary
    """
    total = np.zeros((courses.n_times, len(seeds)))
    for where, block in courses.blocks(budget):
        total += np.asarray(block, dtype=np.float64) @ seeds[:, where].T
    # regression is linear: the cleaned mean is the mean of cleaned courses
    mean = clean(total / seeds.sum(axis=1), design, keep)
    unit = _unit(mean, np.abs(total).max())
    out = np.zeros((len(seeds), courses.n_voxels))
    for where, block in courses.blocks(budget):
        out[:, where] = unit.T @ _unit(clean(block, design, keep), np.abs(block).max(axis=0))
    return np.clip(out, -1.0, 1.0)


def agreement(reference: Float, found: Float, threshold: float = THRESHOLD, within: Mask | None = None) -> Overlap:
    """Voxels with r at or above the threshold in the map of the acquired series and in that of another.

    The paper prints `accuracy` and `false_discovery_rate` of what this returns.
    """
    return overlap(reference >= threshold, found >= threshold, within)


def _unit(values: Float, size: npt.ArrayLike) -> Float:
    """Columns without mean, of norm 1, or 0 where they are rounding only."""
    rest = values - values.mean(axis=0)
    norm = np.linalg.norm(rest, axis=0)
    flat = norm <= _FLAT * np.sqrt(len(values)) * np.asarray(size)
    return np.asarray(np.where(flat, 0.0, rest / np.where(flat, 1.0, norm)))
