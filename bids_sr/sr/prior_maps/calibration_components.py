"""Temporal principal components of a short high-resolution run (the calibration run).

Volumes with signal spikes or head motion spikes are excluded, and drift and task are regressed
out. A run of 20 volumes has few degrees of freedom (see docs/acquire.md). Therefore, only strong
components of head motion are used as regressors, and the task is not regressed out if too few
degrees of freedom would remain. If the task remains in the calibration, the prior favors the
regions whose task effect is tested in the other run.

Thermal noise is spread evenly over all temporal components, whereas fluctuations are concentrated
in strong components. The noise variance is the mean eigenvalue of the weaker half of the spectrum.
This single value for the brain shows whether the calibration run is mainly noise.
"""

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.preproc.hmc import MAD_TO_SD
from bids_sr.spatial.reproducible_numbers import fix_signs
from bids_sr.sr.prior_maps.temporal_components import SeriesError

MIN_VOLUMES = 8
"""Smallest number of volumes for a variance estimate."""
# The following values are our choices.
_MAX_FD_MM = 0.5  # mm, framewise displacement above which a volume is excluded
# A volume is excluded if its rms residual, or the residual of one of its slices, exceeds the
# median over volumes by this factor and by `_MAX_DEVIATION` robust standard deviations.
_MAX_VOLUME_RATIO, _MAX_SLICE_RATIO, _MAX_DEVIATION = 1.5, 2.0, 5.0
_MIN_SLICE_VOXELS = 50  # brain voxels, smallest number in a slice that is tested
# mm, smallest standard deviation of head motion components that are regressed out, and number of
# volumes per component
_MIN_MOTION_MM, _VOLUMES_PER_MOTION = 0.03, 6
_MAX_ITERATIONS = 3  # rounds in which outliers are found and excluded
# ratio of degrees of freedom to volumes below which the task is not regressed out
_MIN_DOF_RATIO = 0.5
_MAX_PATTERNS = 40


def calibration_components(
    series: Array,
    mask: Array,
    *,
    drift: Array,
    motion: Array | None = None,
    fd: Array | None = None,
    task: Array | None = None,
    first_volume: int = 0,
) -> tuple[Array, dict[str, object]]:
    """Return fluctuation patterns of a motion-corrected series, and a description of its noise.

    Parameters
    ----------
    series : Array
        Volumes in the steady state (X, Y, Z, T), in signal units.
    mask : Array
        Brain mask (X, Y, Z). Excluded volumes and noise are determined within the mask.
    drift : Array
        Slow time series, including a constant (T, K).
    motion : Array | None, optional
        Head motion in mm (T, P), with rotations as displacements at the head's radius.
    fd : Array | None, optional
        Framewise displacement in mm (T,). Values that are not finite count as 0.
    task : Array | None, optional
        Predicted response of each condition (T, C).
    first_volume : int, optional
        Number of the first volume in its run.

    Returns
    -------
    tuple[Array, dict[str, object]]
        Temporal principal components of the fluctuations as images (C, X, Y, Z; float32,
        read-only), strongest first, scaled by their standard deviation over time. Head motion and
        thermal noise are not removed from them. The images cover the whole grid, because
        fluctuations outside the brain (eyes, vessels) also affect other runs. The dictionary
        contains the number of volumes used, the numbers of excluded volumes, the degrees of
        freedom besides drift, head motion and task, the number of regressors of each type, the
        standard deviation of thermal noise (signal units), and its share of the variance.

    Raises
    ------
    SeriesError
        If there are too few volumes, or the series is constant or contains values that are not
        finite.
    """
    in_mask = np.asarray(mask) > 0
    voxel_series = _prepare_series(series, in_mask)
    steady = _find_steady_volumes(voxel_series, in_mask, np.asarray(drift, dtype=np.float64), fd)
    regressors = _make_regressors(steady, drift, motion, task)
    n_steady = int(steady.sum())
    dof = n_steady - regressors.basis.shape[1]
    residual = _regress_out(voxel_series[steady], regressors.basis)
    variance = float(np.square(residual, dtype=np.float64).sum()) / dof / residual.shape[1]
    if not variance > 1e-12 * float(np.square(series[in_mask][:, :1], dtype=np.float64).mean()):
        raise SeriesError("the calibration run is constant over time within the brain")
    noise_variance = min(_compute_noise_variance(residual, dof), variance)
    patterns = _compute_patterns(
        series, steady, voxel_series[steady], drift, task if regressors.n_task else None
    )
    return patterns, {
        "n_used": n_steady,
        "n_patterns": len(patterns),
        "dof": dof,
        "censored": [first_volume + int(t) for t in np.flatnonzero(~steady)],
        "n_drift": regressors.n_drift,
        "n_motion": regressors.n_motion,
        "n_task": regressors.n_task,
        "noise_sd": round(float(np.sqrt(noise_variance)), 4),
        "noise_share": round(float(noise_variance / variance), 4),
    }


def _prepare_series(series: Array, in_mask: Array) -> Array:
    """Return the demeaned series within the mask (T, N; float32).

    SeriesError is raised if the series cannot be used.
    """
    if not np.isfinite(series).all():
        raise SeriesError("the calibration run contains NaN or infinite values")
    voxel_series = np.asarray(series)[in_mask]
    return np.ascontiguousarray(
        (voxel_series - voxel_series.mean(axis=1, dtype=np.float64, keepdims=True)).T,
        dtype=np.float32,
    )


def _find_steady_volumes(
    voxel_series: Array, in_mask: Array, drift: Array, fd: Array | None
) -> Array:
    """Return which volumes have no motion spikes or outliers (T,), determined iteratively."""
    steady = np.ones(len(voxel_series), dtype=bool)
    if fd is not None:
        steady &= np.nan_to_num(np.asarray(fd, dtype=np.float64)) <= _MAX_FD_MM
    z_of_voxels = np.nonzero(in_mask)[2]
    voxels_of_slices = [np.flatnonzero(z_of_voxels == z) for z in np.unique(z_of_voxels)]
    tested_slices = [voxels for voxels in voxels_of_slices if len(voxels) >= _MIN_SLICE_VOXELS]
    for _ in range(_MAX_ITERATIONS):
        if steady.sum() < MIN_VOLUMES:
            break
        # volumes with larger residuals of the drift than steady volumes, as a whole or in a slice
        coefficients = np.linalg.lstsq(drift[steady], voxel_series[steady], rcond=None)[0]
        squared_residual = np.square(voxel_series - drift @ coefficients)
        outliers = _exceeds_spread(squared_residual.mean(axis=1), steady, _MAX_VOLUME_RATIO)
        for voxels in tested_slices:
            mean_square = squared_residual[:, voxels].mean(axis=1)
            outliers |= _exceeds_spread(mean_square, steady, _MAX_SLICE_RATIO)
        if not (outliers & steady).any():
            break
        steady &= ~outliers
    if steady.sum() < MIN_VOLUMES:
        raise SeriesError(
            f"head motion or artifacts affect {int((~steady).sum())} of the {len(steady)} volumes "
            f"of the calibration run; at least {MIN_VOLUMES} unaffected volumes are required"
        )
    return steady


def _exceeds_spread(mean_square: Array, steady: Array, max_ratio: float) -> Array:
    """Return which mean squares (T,) are much larger than in the steady volumes."""
    rms = np.sqrt(mean_square)
    median = float(np.median(rms[steady]))
    sigma = MAD_TO_SD * float(np.median(np.abs(rms[steady] - median)))
    return np.asarray((rms > max_ratio * median) & (rms > median + _MAX_DEVIATION * sigma))


@frozen
class _Regressors:
    """Orthonormal regressors over the steady volumes (T', P), and their number by type."""

    basis: Array
    n_drift: int
    n_motion: int
    n_task: int


def _make_regressors(
    steady: Array, drift: Array, motion: Array | None, task: Array | None
) -> _Regressors:
    """Return the regressors of drift, head motion and task over the steady volumes."""
    n_steady = int(steady.sum())
    basis = _compute_basis(np.asarray(drift)[steady])
    n_drift, n_motion, n_task = basis.shape[1], 0, 0
    if motion is not None:
        residual_motion = np.asarray(motion, dtype=np.float64)[steady]
        residual_motion = residual_motion - basis @ (basis.T @ residual_motion)
        left_vectors, singular_values, _ = np.linalg.svd(residual_motion, full_matrices=False)
        strong_motion = left_vectors[:, singular_values / np.sqrt(n_steady) > _MIN_MOTION_MM]
        strong_motion = strong_motion[:, : n_steady // _VOLUMES_PER_MOTION]
        basis = np.hstack([basis, strong_motion])
        n_motion = strong_motion.shape[1]
    if task is not None:
        with_task = _compute_basis(np.hstack([basis, np.asarray(task)[steady]]))
        if n_steady - with_task.shape[1] >= max(_MIN_DOF_RATIO * n_steady, 1.0):
            n_task = with_task.shape[1] - basis.shape[1]
            basis = with_task
    return _Regressors(basis=basis, n_drift=n_drift, n_motion=n_motion, n_task=n_task)


def _compute_noise_variance(residual: Array, dof: int) -> float:
    """Return the noise variance of a voxel from the weaker half of the residual spectrum (T, N).

    Eigenvalues of noise follow a semicircle around its variance with a radius of 2 sqrt(dof / N)
    (Marchenko and Pastur 1967). The mean of the weaker half is therefore too low by a fraction of
    8 / (3 pi) sqrt(dof / N), which is corrected.
    """
    gram = (residual @ residual.T).astype(np.float64) / residual.shape[1]
    # the remaining eigenvalues belong to the removed regressors
    eigenvalues = np.sort(np.linalg.eigvalsh(gram))[-dof:]
    bias = 8 / (3 * np.pi) * np.sqrt(dof / residual.shape[1])
    mean_of_weaker_half = eigenvalues[: max(1, dof // 2)].mean()
    return float(max(mean_of_weaker_half, 0.0)) / max(1 - bias, 0.5)


def _compute_patterns(
    series: Array, steady: Array, brain_change: Array, drift: Array, task: Array | None
) -> Array:
    """Return the strongest components as read-only images on the whole grid.

    Components are computed from the steady volumes within the brain, `brain_change` (T', N). Drift
    and task are regressed out. Head motion is not regressed out: with twenty volumes, much of the
    variance that correlates with head motion is signal, and volumes with motion spikes were
    excluded.
    """
    regressors = (
        np.asarray(drift) if task is None else np.hstack([np.asarray(drift), np.asarray(task)])
    )
    basis = _compute_basis(regressors[steady])
    residual = _regress_out(brain_change, basis)
    eigenvalues, eigenvectors = np.linalg.eigh((residual @ residual.T).astype(np.float64))
    max_patterns = min(_MAX_PATTERNS, len(residual) - basis.shape[1])
    time_series = eigenvectors[:, np.argsort(eigenvalues)[::-1][:max_patterns]]
    time_series = fix_signs(time_series - basis @ (basis.T @ time_series))
    n_volumes, n_patterns = time_series.shape
    patterns = np.empty((n_patterns, *series.shape[:3]), dtype=np.float32)
    for z in range(series.shape[2]):
        slab = np.asarray(series[:, :, z], dtype=np.float64)[..., steady].reshape(-1, n_volumes)
        projections = slab @ time_series / np.sqrt(n_volumes)
        patterns[..., z] = projections.T.reshape(n_patterns, *series.shape[:2])
    patterns.setflags(write=False)
    return patterns


def _compute_basis(regressors: Array) -> Array:
    """Return an orthonormal basis of regressors (T, P), without negligible columns."""
    regressors = np.asarray(regressors, dtype=np.float64)
    norms = np.linalg.norm(regressors, axis=0)
    regressors = regressors[:, norms > 1e-9] / norms[norms > 1e-9]
    if not regressors.shape[1]:
        return regressors
    left_vectors, singular_values, _ = np.linalg.svd(regressors, full_matrices=False)
    return np.asarray(left_vectors[:, singular_values > 1e-6 * singular_values[0]])


def _regress_out(voxel_series: Array, basis: Array) -> Array:
    """Return time series (T, N; float32) without the columns of an orthonormal basis (T, P)."""
    return voxel_series - (basis @ (basis.T @ voxel_series)).astype(np.float32)
