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
from bids_sr.spatial.reproducible_numbers import fix_signs
from bids_sr.sr.prior_maps.temporal_components import SeriesError

MIN_VOLUMES = 8  # smallest number of volumes for a variance estimate
# The following values are our choices.
_FD_MM = 0.5  # mm, framewise displacement above which a volume is excluded
# A volume is excluded if its rms residual, or the residual of one of its slices, exceeds the
# median by this ratio and by `_SPREAD` robust standard deviations.
_OUTLIER, _SLICE_OUTLIER, _SPREAD = 1.5, 2.0, 5.0
_SLICE_VOXELS = 50  # brain voxels, smallest number in a slice that is tested
# mm, smallest standard deviation of head motion components that are regressed out, and number of
# volumes per component
_MOTION_MM, _VOLUMES_PER_MOTION = 0.03, 6
# ratio of degrees of freedom to volumes below which the task is not regressed out
_MIN_DOF_RATIO = 0.5
_MAX_PATTERNS = 40  # largest number of patterns


def calibration_components(
    series: Array,
    mask: Array,
    *,
    drift: Array,
    motion: Array | None = None,
    fd: Array | None = None,
    task: Array | None = None,
    first: int = 0,
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
    first : int, optional
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
        If there are too few volumes, the mask is empty, or the series is constant or contains
        values that are not finite.
    """
    inside = np.asarray(mask) > 0
    flat = _prepare_series(series, inside)
    steady = _steady(flat, inside, np.asarray(drift, dtype=np.float64), fd)
    regressors, counts = _regressors(steady, drift, motion, task)
    n = int(steady.sum())
    dof = int(steady.sum()) - regressors.shape[1]
    residual = flat[steady] - (regressors @ (regressors.T @ flat[steady])).astype(np.float32)
    total = float(np.square(residual, dtype=np.float64).sum()) / dof / residual.shape[1]
    if not total > 1e-12 * float(np.square(series[inside][:, :1], dtype=np.float64).mean()):
        raise SeriesError("the calibration run is constant over time within the brain")
    noise = min(_noise_variance(residual, dof), total)
    patterns = _patterns(series, steady, flat[steady], drift, task if counts[2] else None)
    return patterns, {
        "n_used": n,
        "n_patterns": len(patterns),
        "dof": dof,
        "censored": [first + int(t) for t in np.flatnonzero(~steady)],
        "n_drift": counts[0],
        "n_motion": counts[1],
        "n_task": counts[2],
        "noise_sd": round(float(np.sqrt(noise)), 4),
        "noise_share": round(float(noise / total), 4),
    }


def _patterns(
    series: Array, steady: Array, brain_change: Array, drift: Array, task: Array | None
) -> Array:
    """Return the strongest components as read-only images on the whole grid.

    Components are computed from the steady volumes within the brain, `brain_change` (T', N). Drift
    and task are regressed out. Head motion is not regressed out: with twenty volumes, much of the
    variance that correlates with head motion is signal, and volumes with motion spikes were
    excluded.
    """
    columns = (
        np.asarray(drift)[steady]
        if task is None
        else np.hstack([np.asarray(drift), np.asarray(task)])[steady]
    )
    basis = _calibration_basis(columns)
    residual = brain_change - (basis @ (basis.T @ brain_change)).astype(np.float32)
    values, vectors = np.linalg.eigh((residual @ residual.T).astype(np.float64))
    time_series = vectors[
        :, np.argsort(values)[::-1][: min(_MAX_PATTERNS, len(residual) - basis.shape[1])]
    ]
    time_series = fix_signs(time_series - basis @ (basis.T @ time_series))
    out = np.empty((time_series.shape[1], *series.shape[:3]), dtype=np.float32)
    for z in range(series.shape[2]):
        slab = np.asarray(series[:, :, z], dtype=np.float64)[..., steady].reshape(
            -1, len(time_series)
        )
        out[..., z] = (slab @ time_series / np.sqrt(len(time_series))).T.reshape(
            len(out), *series.shape[:2]
        )
    out.setflags(write=False)
    return out


def _prepare_series(series: Array, inside: Array) -> Array:
    """Return the demeaned series within the mask (T, N; float32).

    SeriesError is raised if the series or the mask cannot be used.
    """
    if series.ndim != 4 or series.shape[:3] != inside.shape:
        raise SeriesError(
            f"the calibration run has the shape {series.shape}, but the mask has the shape "
            f"{inside.shape}"
        )
    if not inside.any():
        raise SeriesError("the brain mask of the calibration run is empty")
    if series.shape[3] < MIN_VOLUMES:
        raise SeriesError(
            f"the calibration run has {series.shape[3]} steady-state volumes, but at least "
            f"{MIN_VOLUMES} are required to estimate a variance"
        )
    if not np.isfinite(series).all():
        raise SeriesError("the calibration run contains NaN or infinite values")
    voxel_series = np.asarray(series)[inside]
    return np.ascontiguousarray(
        (voxel_series - voxel_series.mean(axis=1, dtype=np.float64, keepdims=True)).T,
        dtype=np.float32,
    )


def _calibration_basis(regressors: Array) -> Array:
    """Return an orthonormal basis of regressors (T, P), without negligible columns."""
    regressors = np.asarray(regressors, dtype=np.float64)
    norm = np.linalg.norm(regressors, axis=0)
    regressors = regressors[:, norm > 1e-9] / norm[norm > 1e-9]
    if not regressors.shape[1]:
        return regressors
    left_vectors, sizes, _ = np.linalg.svd(regressors, full_matrices=False)
    return np.asarray(left_vectors[:, sizes > 1e-6 * sizes[0]])


def _steady(flat: Array, inside: Array, drift: Array, fd: Array | None) -> Array:
    """Return which volumes have no motion spikes or outliers (T,), determined iteratively."""
    if len(drift) != len(flat):
        raise SeriesError(
            f"expected one row of drift regressors per volume, got {len(drift)} rows for "
            f"{len(flat)} volumes"
        )
    steady = np.ones(len(flat), dtype=bool)
    if fd is not None:
        steady &= np.nan_to_num(np.asarray(fd, dtype=np.float64)) <= _FD_MM
    z = np.nonzero(inside)[2]
    slices = [np.flatnonzero(z == k) for k in np.unique(z) if (z == k).sum() >= _SLICE_VOXELS]
    for _ in range(3):
        if steady.sum() < MIN_VOLUMES:
            break
        fit = np.linalg.lstsq(drift[steady], flat[steady], rcond=None)[0]
        square = np.square(flat - drift @ fit)
        outliers = _find_outliers(square.mean(axis=1), steady, _OUTLIER)
        for voxels in slices:
            outliers |= _find_outliers(square[:, voxels].mean(axis=1), steady, _SLICE_OUTLIER)
        if not (outliers & steady).any():
            break
        steady &= ~outliers
    if steady.sum() < MIN_VOLUMES:
        raise SeriesError(
            f"head motion or artifacts affect {int((~steady).sum())} of the {len(steady)} volumes "
            f"of the calibration run; at least {MIN_VOLUMES} unaffected volumes are required"
        )
    return steady


def _find_outliers(square: Array, steady: Array, ratio: float) -> Array:
    """Return volumes with an outlying residual (T,), compared with the steady volumes."""
    size = np.sqrt(square)
    middle = float(np.median(size[steady]))
    sigma = 1.4826 * float(np.median(np.abs(size[steady] - middle)))
    return np.asarray((size > ratio * middle) & (size > middle + _SPREAD * sigma))


def _regressors(
    steady: Array, drift: Array, motion: Array | None, task: Array | None
) -> tuple[Array, tuple[int, int, int]]:
    """Return orthonormal regressors over the steady volumes, and their number by type.

    The types are drift, head motion and task.
    """
    n = int(steady.sum())
    basis = _calibration_basis(np.asarray(drift)[steady])
    counts = [basis.shape[1], 0, 0]
    if motion is not None:
        residual_motion = np.asarray(motion, dtype=np.float64)[steady]
        residual_motion = residual_motion - basis @ (basis.T @ residual_motion)
        left_vectors, sizes, _ = np.linalg.svd(residual_motion, full_matrices=False)
        strong_motion = left_vectors[:, sizes / np.sqrt(n) > _MOTION_MM][
            :, : n // _VOLUMES_PER_MOTION
        ]
        basis = np.hstack([basis, strong_motion])
        counts[1] = strong_motion.shape[1]
    if task is not None:
        with_task = _calibration_basis(np.hstack([basis, np.asarray(task)[steady]]))
        if n - with_task.shape[1] >= max(_MIN_DOF_RATIO * n, 1.0):
            counts[2] = with_task.shape[1] - basis.shape[1]
            basis = with_task
    return basis, (counts[0], counts[1], counts[2])


def _noise_variance(residual: Array, dof: int) -> float:
    """Return the noise variance of a voxel from the weaker half of the residual spectrum (T, N).

    Eigenvalues of noise follow a semicircle around its variance with a radius of 2 sqrt(dof / N)
    (Marchenko and Pastur 1967). The mean of the weaker half is therefore too low by a fraction of
    8 / (3 pi) sqrt(dof / N), which is corrected.
    """
    gram = (residual @ residual.T).astype(np.float64) / residual.shape[1]
    # the remaining eigenvalues belong to the removed regressors
    values = np.sort(np.linalg.eigvalsh(gram))[-dof:]
    bias = 8 / (3 * np.pi) * np.sqrt(dof / residual.shape[1])
    return float(max(values[: max(1, dof // 2)].mean(), 0.0)) / max(1 - bias, 0.5)
