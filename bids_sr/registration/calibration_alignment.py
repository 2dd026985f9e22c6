"""Calibration and its run as arrays: registration, exclusion criteria, fluctuations.

Matrices are 4x4, RAS mm, and take a boldref point of the run to where it lies in the calibration.
"""

import logging
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy import ndimage

from bids_sr.glm.confounds import HEAD_RADIUS_MM, framewise_displacement
from bids_sr.glm.design import frame_times
from bids_sr.glm.drift import drift_basis
from bids_sr.glm.regressors import DesignError, read_events
from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.registration.rigid import refine, rigid, size_of
from bids_sr.spatial import coarse_grids, similarity
from bids_sr.spatial.boldref import in_place
from bids_sr.spatial.edges import EdgeError, edge_mismatch
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid, points_in, rms_distance
from bids_sr.sr.matrices import acquire
from bids_sr.sr.variance.calibration_components import LEAST_VOLUMES, calibration_components
from bids_sr.sr.variance.temporal_components import SeriesError

_LEAST_OVERLAP = 0.5  # of the run's brain that lies in the calibration's
# of the two references in the brain, below which it is another head or a failed registration
_LEAST_CORRELATION = 0.5
_MOST_MOTION_MM = 1.0  # of any volume that is used, from the reference (rms over the brain)
_MOST_FAR = 0.25  # share of the volumes that may lie farther away, and are left out
_MOST_VOLUMES = 100  # that are read; more tell little more and cost memory


def register_to_calibration(
    boldref: Volume,
    mask: Array,
    fine: Volume,
    fine_mask: Array,
    factor: Factor,
    *,
    seed: int,
    prefix: str,
) -> tuple[Array, dict[str, object]]:
    """Return the rigid boldref-to-calibration transform and how well it fits.

    It maps a boldref point to its point in the calibration.

    Mutual information first, then Gauss-Newton on intensities, as both are echo-planar images of
    one contrast; for the latter the calibration's reference is smoothed to the voxel of the run.
    `factor` is voxel of the run over that of the calibration.

    Parameters
    ----------
    boldref : Volume
        Reference image of the BOLD run (3D).
    mask : Array
        Voxels of the brain in boldref (3D, boolean).
    fine : Volume
        Reference image of the calibration (3D).
    fine_mask : Array
        Voxels of the brain in the calibration's reference (3D, boolean).
    factor : Factor
        Acquired over high-resolution voxel size along each axis.
    seed : int
        Seed of the random samples of ANTs.
    prefix : str
        Path and first letters of the files that ANTs writes.

    Returns
    -------
    tuple[Array, dict[str, object]]
        Transform (4 x 4, RAS+ mm), and figures of its size and fit by name.
    """
    fit = rigid(
        boldref,
        fine,
        mask,
        fine_mask,
        seed=seed,
        prefix=prefix,
        soft=True,
    )
    gap = np.sqrt(np.maximum(boldref.zooms**2 - fine.zooms**2, 0)) / fine.zooms
    soft = ndimage.gaussian_filter(
        np.asarray(fine.data, np.float32), gap / FWHM_PER_SIGMA, mode="nearest"
    )
    xfm = refine(boldref, Volume(data=soft, affine=fine.affine), mask, fit.xfm)
    facts: dict[str, object] = {
        **size_of(xfm, mask, boldref.affine),
        "start": fit.start,
        "nmi": round(fit.nmi, 4),
    }
    return xfm, facts | agreement(boldref, mask, fine, fine_mask, xfm, factor)


def agreement(
    boldref: Volume, mask: Array, fine: Volume, fine_mask: Array, xfm: Array, factor: Factor
) -> dict[str, float | None]:
    """Return the agreement of brains and edges after registration.

    The metrics are overlap, Dice, correlation and distance of edges (mm).

    Parameters
    ----------
    boldref : Volume
        Reference image of the BOLD run (3D).
    mask : Array
        Voxels of the brain in boldref (3D, boolean).
    fine : Volume
        Reference image of the calibration (3D).
    fine_mask : Array
        Voxels of the brain in the calibration's reference (3D, boolean).
    xfm : Array
        Transform of a boldref point to its calibration point (4 x 4, RAS+ mm).
    factor : Factor
        Acquired over high-resolution voxel size along each axis.

    Returns
    -------
    dict[str, float | None]
        Figures by name; None for edges that cannot be compared.
    """
    shape = boldref.data.shape
    carried = coarse_grids.coverage(fine_mask, fine.affine, shape, boldref.affine, xfm) >= 0.5
    overlap = float((carried & mask).sum() / max(int(mask.sum()), 1))
    grid_shape, affine = hr_grid(shape, boldref.affine, factor)
    moved = sample_volume(fine.data, fine.affine, grid_shape, affine, xfm)
    # as the run's matrix would show it
    low = np.asarray(acquire(moved, affine, factor=factor, magnitude=True)[0])
    both = carried & mask
    facts: dict[str, float | None] = {
        "overlap": round(overlap, 4),
        "dice": round(similarity.dice(mask, carried), 4),
        "correlation": round(similarity.correlation(low[both], boldref.data[both]), 4),
        "edges_apart_mm": None,
        "edges_apart_p90_mm": None,
    }
    try:
        mismatch = edge_mismatch(
            boldref.data, low, both, boldref.affine, blur_mm=float(boldref.zooms[:2].max())
        )
    except EdgeError:
        return facts
    told = {"edges_apart_mm": mismatch.median, "edges_apart_p90_mm": mismatch.p90}
    return facts | {
        key: round(value, 3) if math.isfinite(value) else None for key, value in told.items()
    }


def _in_reference(reader: SeriesReader, matrices: Array, first: int) -> Array:
    """Return steady-state volumes in reference space, (X, Y, Z, T) float32.

    The first `_MOST_VOLUMES` of them are used.
    """
    stop = min(reader.shape[3], first + _MOST_VOLUMES)
    out = np.empty((*reader.shape[:3], stop - first), dtype=np.float32)
    for t in range(first, stop):
        out[..., t - first] = in_place(reader, t, matrices[t])
    return out


def moved_mm(matrices: Array, mask: Array, affine: Array) -> Array:
    """Return (T,) rms displacement of the brain from the reference (mm)."""
    points = points_in(mask, affine, 7)
    return np.array([rms_distance(np.eye(4), matrix, points) for matrix in matrices])


def _task_regressors(events: Path, tr: float, volumes: int) -> Array:
    """Return (T, C) predicted response of each condition that happens.

    `DesignError`: the table cannot be used. One column for each condition (T, C); no columns
    without a response.
    """
    found = read_events(events).courses(frame_times(volumes, tr))
    kept = [regressor for regressor in found.values() if np.abs(regressor).max() > 1e-3]
    return np.stack(kept, axis=1) if kept else np.zeros((volumes, 0))


def objection(facts: Mapping[str, float]) -> str:
    """Why a calibration cannot be used, from what was measured; "" if it can.

    `facts`: figures of registration and head motion by name. Reason and advice as a clause; empty
    if nothing speaks against it.
    """
    if facts["overlap"] < _LEAST_OVERLAP:
        return (
            f"the calibration run covers only {facts['overlap']:.0%} of the brain in the"
            " BOLD run. Acquire the calibration run with the same field of view as the BOLD"
            " run."
        )
    if facts["correlation"] < _LEAST_CORRELATION:
        return (
            "after registration, the calibration run does not match the BOLD run (spatial"
            f" correlation {facts['correlation']:.2f}). The calibration run may be from"
            " another participant or have another contrast, or the registration may have"
            " failed. Check the registration figure."
        )
    if facts.get("far_share", 0.0) > _MOST_FAR:
        return (
            f"the head moved by {facts['motion_max_mm']:.1f} mm during the calibration run;"
            f" at most {_MOST_MOTION_MM:g} mm are allowed. Repeat the acquisition with less"
            " head motion."
        )
    return ""


_LOGGER = logging.getLogger(__name__)


def calibration_patterns(
    reader: SeriesReader,
    mask: Array,
    matrices: Array,
    params: Array,
    facts: dict[str, object],
    *,
    n_dummy: int,
    tr: float,
    events: Path | None = None,
) -> tuple[Array, dict[str, object]]:
    """The patterns of its fluctuations (C, X, Y, Z), and what is to be told of them.

    Parameters
    ----------
    reader, mask : SeriesReader
        (X, Y, Z, T) calibration, uncompressed, and the brain in its reference.
    matrices, params : Array
        (T, 4, 4) reference point to the volume's point (RAS mm); (T, 6) the same in mm and rad.
    facts : dict[str, object]
        Of its registration; takes what is known before something speaks against its use.
    n_dummy, tr : int
        First volumes to leave out; repetition time (s).
    events : Path | None, optional
        BIDS events of the calibration; None: there is no task to take out.

    Returns
    -------
    tuple[Array, dict[str, object]]
        Patterns on the grid of the calibration, and figures by name.

    Raises
    ------
    SeriesError : it cannot be used; the message says why
    """
    first = n_dummy
    if not mask.any() or reader.shape[3] - first < LEAST_VOLUMES:
        count = (
            f"{max(reader.shape[3] - first, 0)} steady-state volumes and {int(mask.sum())}"
            " brain voxels"
        )
        raise SeriesError(
            f"the calibration run has {count}; at least {LEAST_VOLUMES} volumes"
            " are required to estimate variances"
        )
    series = _in_reference(reader, matrices, first)
    used = slice(first, first + series.shape[3])
    fd = framewise_displacement(params[used])
    far = moved_mm(matrices[used], mask, reader.affine)
    task, task_facts = _task(events, tr, reader.shape[3])
    # mm at the head's radius
    motion = np.asarray(params[used], dtype=np.float64) * ([1.0] * 3 + [HEAD_RADIUS_MM] * 3)
    away = far > _MOST_MOTION_MM
    task_facts |= {
        "fd_max_mm": round(float(np.nanmax(fd)), 4),
        "fd_mean_mm": round(float(np.nanmean(fd)), 4),
        "motion_max_mm": round(float(far.max()), 4),
        "far_share": round(float(away.mean()), 4),
    }
    facts |= task_facts
    if against := objection(
        {name: value for name, value in facts.items() if isinstance(value, float)}
    ):
        raise SeriesError(against)
    patterns, components = calibration_components(
        series,
        mask,
        drift=drift_basis(series.shape[3], tr),
        motion=motion,
        fd=np.where(away, np.inf, fd),
        task=None if task is None else task[used],
        first=first,
    )
    return patterns, task_facts | components


def _task(events: Path | None, tr: float, volumes: int) -> tuple[Array | None, dict[str, object]]:
    """Regressors of the task, and what became of it."""
    if events is None:
        return None, {"task": "no events file"}
    try:
        return _task_regressors(events, tr, volumes), {"task": Path(events).name}
    except DesignError as error:
        _LOGGER.warning(
            "The task effects could not be removed from the calibration run: %s", error
        )
        return None, {"task": f"not removed: {error}"}
