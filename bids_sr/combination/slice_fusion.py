"""Fusion of runs with displaced slices into effects on slices of half the thickness.

Runs of one task show the same head in thick slices. If the head moved between the runs, or if the
stack of slices was shifted, slices of different runs are at different positions in the head. Each
column of voxels across the slices of the first run is estimated separately:

    y_r = D_r e + noise           effects in the thick slices of run r
    e ~ N(0, W K W)               prior of the effects in thin slices
    estimate = W K W D' (D W K W D' + N)^-1 y     posterior mean, D and y of all runs together

D_r averages over box-shaped slice profiles at the positions of run r, K is a Gaussian correlation
between thin slices, and W is the diagonal matrix of the prior standard deviation (SD) of each thin
slice. N is the noise variance of each thick slice, a multiple of the slice's prior variance. The
estimate is the effect that the runs share, and it does not reproduce the slices of any single run.

A single run contains only the sum of the two halves of each slice and therefore cannot be refined
in this way. `benchmarks/results/across.md` lists measured accuracies.

Arrays: X and Y are the voxels in plane, m the thick and n = 2 m the thin slices of the first run,
and m_r the thick slices of run r. Positions across slices are in thin slices of the first run, and
0 is the center of its first thin slice. Affines turn voxel indices into RAS+ mm.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array, Float, MaskArray, iterate_parts

THIN_PER_THICK = 2
"""Number of thin slices per thick slice."""
COLUMN_CHUNK = 256
"""Number of columns whose covariances are in memory at a time."""
_CORRELATION_FWHM_SLICES = 1.5  # thin slices, full width at half maximum of K
_MIN_RELATIVE_SD = 0.02  # SD of voxels with signal, relative to the median SD
_RELATIVE_NOISE = 0.2  # noise variance of a thick slice, relative to its prior variance
_UNINFORMATIVE_NOISE = 1e6  # relative noise variance of a run that has no influence
_MIN_COSINE = 2**-0.5  # smallest cosine of the angle between columns and slice normal


class SliceFusionError(ValueError):
    """Error raised for images that cannot be fused across slices."""


@frozen
class SlicedEffects:
    """Effects of one run in its thick slices, at the columns of the first run.

    Parameters
    ----------
    effects : Array
        Effects (N, X, Y, m_r), such as N contrasts, in a unit that all runs share.
    positions : Array
        Slice positions along the columns (X, Y, m_r), in thin slices of the first run.
    relative_noise : float
        Noise variance of a slice, relative to its prior variance.
    """

    effects: Array
    positions: Array
    relative_noise: float = _RELATIVE_NOISE

    def remove_influence(self) -> "SlicedEffects":
        """Return the run with so much noise that the run does not influence an estimate."""
        return replace(self, relative_noise=_UNINFORMATIVE_NOISE)


def stack_first_run(effects: Array) -> SlicedEffects:
    """Return the effects (N, X, Y, m) of the first run with the slice positions of its grid."""
    positions = np.broadcast_to(compute_slice_positions(effects.shape[3]), effects.shape[1:])
    return SlicedEffects(effects=effects, positions=positions)


def compute_slice_positions(n_thick: int) -> Float:
    """Return the positions (m,) of the thick slices of the first run.

    >>> compute_slice_positions(3)
    array([0.5, 2.5, 4.5])
    """
    return np.arange(n_thick, dtype=np.float64) * THIN_PER_THICK + (THIN_PER_THICK - 1) / 2


def slice_profiles(positions: Array, n_thin: int) -> Float:
    """Return box-shaped profiles of thick slices over thin slices.

    Parameters
    ----------
    positions : Array
        Positions of the thick slices (..., m).
    n_thin : int
        Number of thin slices.

    Returns
    -------
    Float
        (..., m, n). Rows sum to 1. The row of a slice that is not completely inside the thin grid
        is 0, so that the slice does not influence an estimate.

    Examples
    --------
    >>> slice_profiles(np.array([0.5, 1.3]), 4)
    array([[0.5, 0.5, 0. , 0. ],
           [0.1, 0.5, 0.4, 0. ]])
    """
    thin_positions = np.arange(n_thin)
    lower = positions[..., None] - THIN_PER_THICK / 2
    upper = positions[..., None] + THIN_PER_THICK / 2
    overlap = np.minimum(thin_positions + 0.5, upper) - np.maximum(thin_positions - 0.5, lower)
    inside = (lower >= -0.5) & (upper <= n_thin - 0.5)
    profiles: Float = np.where(inside, np.clip(overlap, 0, 1) / THIN_PER_THICK, 0.0)
    return profiles


def thin_affine(affine: Array) -> Float:
    """Return the affine of thin slices that cover the field of view of thick slices.

    Affines are 4 x 4, from voxel indices to RAS+ mm.

    >>> thin_affine(np.diag([3.0, 3.0, 6.0, 1.0]))[2]
    array([ 0. ,  0. ,  3. , -1.5])
    """
    thin = np.array(affine, dtype=np.float64)
    thin[:3, 3] += thin[:3, 2] * (0.5 / THIN_PER_THICK - 0.5)
    thin[:3, 2] /= THIN_PER_THICK
    return thin


def sample_at_columns(
    images: Array, affine: Array, shape: Sequence[int], first_affine: Array, first_to_run: Array
) -> tuple[Float, Float]:
    """Interpolate images of another run at the columns of the first run.

    Values are interpolated by a cubic spline within each slice and never across slices.

    Parameters
    ----------
    images : Array
        Images in the thick slices of the other run, (N, X_r, Y_r, m_r).
    affine : Array
        Affine of the images (4 x 4, voxel indices to RAS+ mm).
    shape : Sequence[int]
        Voxels in plane of the first run, (X, Y).
    first_affine : Array
        Affine of the thick slices of the first run (4 x 4, voxel indices to RAS+ mm).
    first_to_run : Array
        Rigid transform (4 x 4) from points of the first run to points of the other run (RAS+ mm).

    Returns
    -------
    tuple[Float, Float]
        Values (N, X, Y, m_r), and slice positions along the columns (X, Y, m_r), in thin slices of
        the first run.

    Raises
    ------
    SliceFusionError
        The slices of the runs are not parallel to within 45 degrees.
    """
    thin_to_run = np.linalg.inv(affine) @ first_to_run @ thin_affine(first_affine)
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    column_axis = (first_to_run @ first_affine)[:3, 2]
    cosine = abs(normal @ column_axis) / (np.linalg.norm(normal) * np.linalg.norm(column_axis))
    if cosine < _MIN_COSINE:
        raise SliceFusionError(
            "the slices of two runs must be parallel within 45 degrees to be fused; the runs were"
            " acquired in different orientations"
        )
    i, j = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    values = np.empty((len(images), *i.shape, images.shape[3]))
    positions = np.empty(values.shape[1:])
    for k in range(images.shape[3]):
        # the point (i, j, position) of a column has the third voxel index k in the other run
        row = thin_to_run[2]
        position = (k - row[3] - row[0] * i - row[1] * j) / row[2]
        points = np.stack([i, j, position, np.ones_like(position)])
        in_plane = np.tensordot(thin_to_run[:2], points, axes=1)
        positions[..., k] = position
        for sampled, image in zip(values, images, strict=True):
            sampled[..., k] = ndimage.map_coordinates(
                image[..., k], in_plane, order=3, mode="nearest"
            )
    return values, positions


def spline_matrix(n_thick: int) -> Float:
    """Return the matrix (n, m) of a cubic spline across slices that reproduces thick slices.

    The mean of an interpolating spline over a thick slice differs from the value of the slice. The
    matrix therefore includes the smallest correction that makes both equal.
    """
    spline = ndimage.zoom(
        np.eye(n_thick), (THIN_PER_THICK, 1), order=3, mode="nearest", grid_mode=True
    )
    average = slice_profiles(compute_slice_positions(n_thick), len(spline))
    corrected: Float = spline + np.linalg.pinv(average) @ (np.eye(n_thick) - average @ spline)
    return corrected


def interpolate_thin(thick: Array) -> Float:
    """Interpolate thick slices (..., m) to thin slices (..., n) with unchanged means."""
    thin: Float = thick @ spline_matrix(thick.shape[-1]).T
    return thin


def thin_prior_sd(temporal_sd: Array) -> Float:
    """Return the prior SD of the effect in thin slices.

    Effects are assumed to be large where the signal of the run fluctuates strongly. The logarithm
    is interpolated, because a spline of the SD itself would fall to 0 next to strong edges. Voxels
    without signal get the SD of the nearest voxel with signal, so that a mask does not cause an
    edge.

    Parameters
    ----------
    temporal_sd : Array
        Standard deviation over time of the first run, (X, Y, m), any unit; 0 outside the head.

    Returns
    -------
    Float
        Prior SD (X, Y, n), larger than 0, in the unit of `temporal_sd`.

    Raises
    ------
    SliceFusionError
        The map is 0 everywhere.
    """
    if not (temporal_sd > 0).any():
        raise SliceFusionError("the temporal SD of the first run is 0 in all voxels")
    lowest_sd = _MIN_RELATIVE_SD * float(np.median(temporal_sd[temporal_sd > 0]))
    nearest = ndimage.distance_transform_edt(
        temporal_sd < lowest_sd, return_distances=False, return_indices=True
    )
    return np.exp(interpolate_thin(np.log(temporal_sd[tuple(nearest)])))


def slice_correlation(n_thin: int) -> Float:
    """Return the correlation K (n, n) of thin slices, a Gaussian function of their distance."""
    distance = np.subtract.outer(np.arange(n_thin), np.arange(n_thin))
    correlation: Float = np.exp(-4 * np.log(2) * (distance / _CORRELATION_FWHM_SLICES) ** 2)
    return correlation


def joint_covariance(
    prior_sd: Array, positions: Sequence[Array], relative_noise: Sequence[float]
) -> tuple[Float, Float]:
    """Return prior covariances among the thick slices of all runs, and with thin slices.

    Parameters
    ----------
    prior_sd : Array
        Prior SD of P columns (P, n).
    positions : Sequence[Array]
        Slice positions of each run (P, m_r), in thin slices of the first run.
    relative_noise : Sequence[float]
        Noise variance of the slices of each run, relative to their prior variance.

    Returns
    -------
    tuple[Float, Float]
        D W K W D' + N (P, M, M), and W K W D' (P, n, M), for the M slices of all runs.
    """
    n_thin = prior_sd.shape[1]
    profiles = slice_profiles(np.concatenate(positions, axis=1), n_thin)
    prior = prior_sd[:, :, None] * slice_correlation(n_thin) * prior_sd[:, None, :]
    thin_covariance = prior @ profiles.transpose(0, 2, 1)
    signal_covariance = profiles @ thin_covariance
    signal_variance = np.diagonal(signal_covariance, axis1=1, axis2=2)
    n_slices = [run_positions.shape[1] for run_positions in positions]
    slice_noise = np.repeat(relative_noise, n_slices)
    # slices outside the grid have no signal, so their noise variance is arbitrary but not 0
    noise_variance = np.where(signal_variance > 0, slice_noise * signal_variance, 1.0)
    noise_covariance = noise_variance[:, :, None] * np.eye(len(slice_noise))
    return signal_covariance + noise_covariance, thin_covariance


def fuse_slices(runs: Sequence[SlicedEffects], prior_sd: Array, columns: MaskArray) -> Float:
    """Estimate effects in thin slices of the first run from the thick slices of several runs.

    The order of the runs does not change the result.

    Parameters
    ----------
    runs : Sequence[SlicedEffects]
        Effects in each run. The first run, which defines the columns, can be among them
        (`stack_first_run`).
    prior_sd : Array
        Prior SD of the effect (X, Y, n) up to a factor, larger than 0 (`thin_prior_sd`).
    columns : MaskArray
        Columns to fuse (X, Y).

    Returns
    -------
    Float
        Effects in thin slices (N, X, Y, n), 0 in other columns.

    Raises
    ------
    SliceFusionError
        There are fewer than two runs, or the shapes of the arrays do not match.
    """
    check_run_shapes(runs, prior_sd, columns)
    column_indices = np.flatnonzero(columns)
    estimate: Float = np.zeros((len(runs[0].effects), columns.size, prior_sd.shape[2]))
    for part in iterate_parts(len(column_indices), COLUMN_CHUNK):
        chunk = column_indices[part]
        values, covariance, thin_covariance = column_model(runs, prior_sd, chunk)
        fused = thin_covariance @ np.linalg.solve(covariance, values)
        estimate[:, chunk] = fused.transpose(2, 0, 1)
    return estimate.reshape(len(estimate), *prior_sd.shape)


def reproduce_slices(thin: Array, thick: Array) -> Float:
    """Correct thin slices (..., n) so that they average to thick slices (..., m)."""
    average = slice_profiles(compute_slice_positions(thick.shape[-1]), thin.shape[-1])
    return thin + interpolate_thin(thick - thin @ average.T)


def column_model(
    runs: Sequence[SlicedEffects], prior_sd: Array, column_indices: Array
) -> tuple[Float, Float, Float]:
    """Return the effects of selected columns in all runs, and the covariances of the model.

    Parameters
    ----------
    runs, prior_sd
        See `fuse_slices`.
    column_indices : Array
        Indices of P columns in the flattened plane of the first run.

    Returns
    -------
    tuple[Float, Float, Float]
        Effects in the M slices of all runs (P, M, N), followed by the results of
        `joint_covariance`.
    """
    effects = [
        run.effects.reshape(len(run.effects), -1, run.effects.shape[3])[:, column_indices]
        for run in runs
    ]
    covariance, thin_covariance = joint_covariance(
        prior_sd.reshape(-1, prior_sd.shape[2])[column_indices],
        [run.positions.reshape(-1, run.positions.shape[2])[column_indices] for run in runs],
        [run.relative_noise for run in runs],
    )
    values = np.concatenate(effects, axis=2).astype(np.float64)
    return values.transpose(1, 2, 0), covariance, thin_covariance


def check_run_shapes(runs: Sequence[SlicedEffects], prior_sd: Array, columns: MaskArray) -> None:
    """Raise `SliceFusionError` unless runs, prior SD and columns fit together."""
    if len(runs) < 2:
        raise SliceFusionError(
            "a single run cannot be refined across slices, because it contains only the sum of"
            " the halves of each slice; give two runs or more"
        )
    n_thin = THIN_PER_THICK * (prior_sd.shape[-1] // THIN_PER_THICK)
    expected = (*columns.shape[:2], n_thin)
    if prior_sd.shape != expected:
        raise SliceFusionError(
            f"the prior SD has the shape {tuple(prior_sd.shape)}, expected {expected}"
        )
    for number, run in enumerate(runs, 1):
        shape = (len(runs[0].effects), *columns.shape[:2], run.positions.shape[2])
        if run.effects.shape != shape or run.positions.shape != shape[1:]:
            raise SliceFusionError(
                f"run {number}: the effects have the shape {tuple(run.effects.shape)} and the"
                f" positions {tuple(run.positions.shape)}, expected {shape} and {shape[1:]}"
            )
