"""Principal components over time of a short high-resolution run (the calibration).

They are those of its fluctuations.

Volumes with a spike or a jerk are left out, drift and the task are regressed out. A run of 20
volumes has few degrees of freedom (see docs/acquire.md), so only strong components of head motion
count, and the task stays in where too few would remain; a calibration that keeps its task favors
the places that the task of the other run is tested for.

Thermal noise is spread evenly over all temporal components, fluctuations are concentrated in the
stronger ones: the mean eigenvalue of the weaker half of the spectrum is taken for the noise
variance, one number for the brain, which tells whether the calibration is mostly noise.
"""

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.spatial.same_results import with_sign
from bids_sr.sr.variance.temporal_components import SeriesError

LEAST_VOLUMES = 8  # below which there is no variance worth the name
# choices of ours
_FD_MM = 0.5  # framewise displacement above which a volume is left out (mm)
# residual (rms) of a volume, and of one of its slices, over the median of all, above which the
# volume is left out; and robust standard deviations above the median that it must exceed too
_OUTLIER, _SLICE_OUTLIER, _SPREAD = 1.5, 2.0, 5.0
_SLICE_VOXELS = 50  # slices with fewer voxels of brain are skipped
# components of head motion that move the head by less (standard deviation, mm) are not regressed
# out, nor more than one for so many volumes
_MOTION_MM, _VOLUMES_PER_MOTION = 0.03, 6
_LEAST_SHARE = 0.5  # degrees of freedom over volumes, below which the task stays in
_PATTERNS = 40  # at most


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
    """Return patterns of the fluctuations of a motion-corrected series, and how noisy it is.

    Parameters
    ----------
    series : Array
        (X, Y, Z, T) in signal units, volumes in the steady state only.
    mask : Array
        (X, Y, Z), brain: where spoiled volumes and the noise are told from.
    drift : Array
        (T, K) slow time series, the constant among them.
    motion : Array | None, optional
        (T, P) head motion in mm (rotations as displacements at the head's radius).
    fd : Array | None, optional
        (T,) framewise displacement (mm); values that are not finite count as 0.
    task : Array | None, optional
        (T, C) predicted response of each condition.
    first : int, optional
        Number of the first volume in its run.

    Returns
    -------
    tuple[Array, dict[str, object]]
        (C, X, Y, Z) float32, read-only: principal components of the fluctuations over time,
        strongest first, each with its standard deviation over time as its size. Head motion and
        thermal noise stay in them. On the whole grid, as what fluctuates outside the brain (eyes,
        vessels) is in the data of other runs as well. What was found: volumes that entered,
        numbers of those left out, degrees of freedom beside drift, head motion and task,
        regressors of each kind, standard deviation of the thermal noise (signal units) and its
        share of the variance.

    Raises
    ------
    SeriesError : too few volumes, an empty mask, values that are not finite, or nothing
        changes
    """
    inside = np.asarray(mask) > 0
    flat = _checked(series, inside)
    kept = _steady(flat, inside, np.asarray(drift, dtype=np.float64), fd)
    regressors, counts = _regressors(kept, drift, motion, task)
    n = int(kept.sum())
    dof = int(kept.sum()) - regressors.shape[1]
    left = flat[kept] - (regressors @ (regressors.T @ flat[kept])).astype(np.float32)
    total = float(np.square(left, dtype=np.float64).sum()) / dof / left.shape[1]
    if not total > 1e-12 * float(np.square(series[inside][:, :1], dtype=np.float64).mean()):
        raise SeriesError("the calibration run is constant over time within the brain")
    noise = min(_noise_variance(left, dof), total)
    patterns = _patterns(series, kept, flat[kept], drift, task if counts[2] else None)
    return patterns, {
        "n_used": n,
        "n_patterns": len(patterns),
        "dof": dof,
        "censored": [first + int(t) for t in np.flatnonzero(~kept)],
        "n_drift": counts[0],
        "n_motion": counts[1],
        "n_task": counts[2],
        "noise_sd": round(float(np.sqrt(noise)), 4),
        "noise_share": round(float(noise / total), 4),
    }


def _patterns(
    series: Array, kept: Array, inside: Array, drift: Array, task: Array | None
) -> Array:
    """Strongest components of the volumes kept, as images of the whole grid; read-only.

    They are sought in the brain, `inside` (T', N). Drift and task are regressed out. Head motion
    is not: of twenty volumes much of what follows it is signal, and jerks were left out.
    """
    columns = (
        np.asarray(drift)[kept]
        if task is None
        else np.hstack([np.asarray(drift), np.asarray(task)])[kept]
    )
    basis = _calibration_basis(columns)
    left = inside - (basis @ (basis.T @ inside)).astype(np.float32)
    values, vectors = np.linalg.eigh((left @ left.T).astype(np.float64))
    courses = vectors[:, np.argsort(values)[::-1][: min(_PATTERNS, len(left) - basis.shape[1])]]
    courses = with_sign(courses - basis @ (basis.T @ courses))
    out = np.empty((courses.shape[1], *series.shape[:3]), dtype=np.float32)
    for z in range(series.shape[2]):
        slab = np.asarray(series[:, :, z], dtype=np.float64)[..., kept].reshape(-1, len(courses))
        out[..., z] = (slab @ courses / np.sqrt(len(courses))).T.reshape(
            len(out), *series.shape[:2]
        )
    out.setflags(write=False)
    return out


def _checked(series: Array, inside: Array) -> Array:
    """Series of the mask's voxels less their mean over time, (T, N) float32."""
    if series.ndim != 4 or series.shape[:3] != inside.shape:
        raise SeriesError(
            f"the calibration run has the shape {series.shape}, but the mask has the shape "
            f"{inside.shape}"
        )
    if not inside.any():
        raise SeriesError("the brain mask of the calibration run is empty")
    if series.shape[3] < LEAST_VOLUMES:
        raise SeriesError(
            f"the calibration run has {series.shape[3]} steady-state volumes, but at least "
            f"{LEAST_VOLUMES} are required to estimate a variance"
        )
    if not np.isfinite(series).all():
        raise SeriesError("the calibration run contains NaN or infinite values")
    chosen = np.asarray(series)[inside]
    return np.ascontiguousarray(
        (chosen - chosen.mean(axis=1, dtype=np.float64, keepdims=True)).T, dtype=np.float32
    )


def _calibration_basis(regressors: Array) -> Array:
    """Return orthonormal columns that span those of (T, P), without negligible ones."""
    regressors = np.asarray(regressors, dtype=np.float64)
    norm = np.linalg.norm(regressors, axis=0)
    regressors = regressors[:, norm > 1e-9] / norm[norm > 1e-9]
    if not regressors.shape[1]:
        return regressors
    left, sizes, _ = np.linalg.svd(regressors, full_matrices=False)
    return np.asarray(left[:, sizes > 1e-6 * sizes[0]])


def _steady(flat: Array, inside: Array, drift: Array, fd: Array | None) -> Array:
    """(T,) volumes without jerks and outliers, found in rounds."""
    if len(drift) != len(flat):
        raise SeriesError(
            f"expected one row of drift regressors per volume, got {len(drift)} rows for "
            f"{len(flat)} volumes"
        )
    kept = np.ones(len(flat), dtype=bool)
    if fd is not None:
        kept &= np.nan_to_num(np.asarray(fd, dtype=np.float64)) <= _FD_MM
    z = np.nonzero(inside)[2]
    slices = [np.flatnonzero(z == k) for k in np.unique(z) if (z == k).sum() >= _SLICE_VOXELS]
    for _ in range(3):
        if kept.sum() < LEAST_VOLUMES:
            break
        fit = np.linalg.lstsq(drift[kept], flat[kept], rcond=None)[0]
        square = np.square(flat - drift @ fit)
        bad = _outlying(square.mean(axis=1), kept, _OUTLIER)
        for voxels in slices:
            bad |= _outlying(square[:, voxels].mean(axis=1), kept, _SLICE_OUTLIER)
        if not (bad & kept).any():
            break
        kept &= ~bad
    if kept.sum() < LEAST_VOLUMES:
        raise SeriesError(
            f"head motion or artifacts affect {int((~kept).sum())} of the {len(kept)} volumes "
            f"of the calibration run; at least {LEAST_VOLUMES} unaffected volumes are required"
        )
    return kept


def _outlying(square: Array, kept: Array, ratio: float) -> Array:
    """(T,) volumes whose residual is larger than most, told from the volumes kept."""
    size = np.sqrt(square)
    middle = float(np.median(size[kept]))
    sigma = 1.4826 * float(np.median(np.abs(size[kept] - middle)))
    return np.asarray((size > ratio * middle) & (size > middle + _SPREAD * sigma))


def _regressors(
    kept: Array, drift: Array, motion: Array | None, task: Array | None
) -> tuple[Array, tuple[int, int, int]]:
    """Orthonormal regressors over the volumes kept, and how many are drift, motion and task."""
    n = int(kept.sum())
    basis = _calibration_basis(np.asarray(drift)[kept])
    counts = [basis.shape[1], 0, 0]
    if motion is not None:
        moved = np.asarray(motion, dtype=np.float64)[kept]
        moved = moved - basis @ (basis.T @ moved)
        left, sizes, _ = np.linalg.svd(moved, full_matrices=False)
        strong = left[:, sizes / np.sqrt(n) > _MOTION_MM][:, : n // _VOLUMES_PER_MOTION]
        basis = np.hstack([basis, strong])
        counts[1] = strong.shape[1]
    if task is not None:
        both = _calibration_basis(np.hstack([basis, np.asarray(task)[kept]]))
        if n - both.shape[1] >= max(_LEAST_SHARE * n, 1.0):
            counts[2] = both.shape[1] - basis.shape[1]
            basis = both
    return basis, (counts[0], counts[1], counts[2])


def _noise_variance(left: Array, dof: int) -> float:
    """Variance of one voxel's noise from the weaker half of the spectrum of what is left, (T, N).

    Eigenvalues of noise spread about its variance by 2 sqrt(dof / N) in a half circle (Marchenko
    and Pastur 1967), so the mean of the weaker half lies 8 / (3 pi) sqrt(dof / N) of it too low.
    """
    gram = (left @ left.T).astype(np.float64) / left.shape[1]
    # the others belong to the regressors taken out
    values = np.sort(np.linalg.eigvalsh(gram))[-dof:]
    low = 8 / (3 * np.pi) * np.sqrt(dof / left.shape[1])
    return float(max(values[: max(1, dof // 2)].mean(), 0.0)) / max(1 - low, 0.5)
