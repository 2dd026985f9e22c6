"""Spatial patterns of fluctuations in a high-resolution calibration run."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bids_sr.glm.design import frame_times
from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.glm.regressors import DesignError, read_events
from bids_sr.io.arrays import Array
from bids_sr.io.nifti import SeriesReader
from bids_sr.preproc.boldref import resample_to_reference
from bids_sr.preproc.drift import drift_basis
from bids_sr.preproc.head_motion import HEAD_RADIUS_MM, framewise_displacement
from bids_sr.spatial.transforms import compute_displacement_mm
from bids_sr.sr.prior_maps.calibration_components import MIN_VOLUMES, calibration_components
from bids_sr.sr.prior_maps.temporal_components import SeriesError

_LOGGER = logging.getLogger(__name__)
_MIN_OVERLAP = 0.5  # smallest fraction of the BOLD brain that is inside the calibration brain
# correlation of the two references in the brain below which the calibration is from another head
# or registration failed
_MIN_CORRELATION = 0.5
# mm, largest displacement of a volume from the reference (rms over the brain)
_MAX_MOTION_MM = 1.0
# largest fraction of volumes that may exceed the displacement and are excluded
_MAX_FAR_FRACTION = 0.25
_MAX_VOLUMES = 100  # volumes to read; more volumes add little information and need more memory


def calibration_patterns(
    reader: SeriesReader,
    mask: Array,
    matrices: Array,
    params: Array,
    facts: dict[str, object],
    *,
    n_dummy: int,
    tr: float,
    hrf: HemodynamicResponse,
    events: Path | None = None,
    levels: Sequence[str] = (),
) -> tuple[Array, dict[str, object]]:
    """Estimate the spatial patterns of fluctuations in a calibration run.

    Parameters
    ----------
    reader : SeriesReader
        Calibration run (4D, uncompressed).
    mask : Array
        Brain voxels of its boldref (3D, boolean).
    matrices : Array
        Transforms of a boldref point to its position in each volume (T, 4, 4; RAS+ mm).
    params : Array
        Translation (mm) and rotation vector (rad) of each volume (T, 6).
    facts : dict[str, object]
        Facts on the registration, to which facts on motion and task are added, also if the run is
        rejected.
    n_dummy : int
        Number of non-steady-state volumes at the start, which are excluded.
    tr : float
        Repetition time (s).
    hrf : HemodynamicResponse
        Response to the events.
    events : Path | None, optional
        BIDS events of the calibration run, whose task effects are regressed out; None if there is
        no task.
    levels : Sequence[str], optional
        Trial types in ``Levels`` of the events.

    Returns
    -------
    tuple[Array, dict[str, object]]
        Patterns on the grid of the calibration run (C, X, Y, Z), and facts for the report.

    Raises
    ------
    SeriesError
        The calibration run cannot be used; the message contains the reason.
    """
    n_steady_volumes = reader.shape[3] - n_dummy
    if not mask.any() or n_steady_volumes < MIN_VOLUMES:
        raise SeriesError(
            f"the calibration run has {max(n_steady_volumes, 0)} steady-state volumes and"
            f" {int(mask.sum())} brain voxels; at least {MIN_VOLUMES} volumes are required to"
            " estimate variances"
        )
    series = _realign_volumes(reader, matrices, n_dummy)
    used_volumes = slice(n_dummy, n_dummy + series.shape[3])
    fd = framewise_displacement(params[used_volumes])
    displacements = compute_displacement_mm(matrices[used_volumes], mask, reader.affine)
    task_regressors, run_facts = _read_task(events, levels, tr, reader.shape[3], hrf)
    # Rotations (rad) are converted to displacements (mm) at the radius of the head.
    motion = np.asarray(params[used_volumes], dtype=np.float64) * (
        [1.0] * 3 + [HEAD_RADIUS_MM] * 3
    )
    is_far = displacements > _MAX_MOTION_MM
    run_facts |= {
        "fd_max_mm": round(float(np.nanmax(fd)), 4),
        "fd_mean_mm": round(float(np.nanmean(fd)), 4),
        "motion_max_mm": round(float(displacements.max()), 4),
        "far_share": round(float(is_far.mean()), 4),
    }
    facts |= run_facts
    if reason := rejection_reason(
        {name: value for name, value in facts.items() if isinstance(value, float)}
    ):
        raise SeriesError(reason)
    patterns, components = calibration_components(
        series,
        mask,
        drift=drift_basis(series.shape[3], tr),
        motion=motion,
        fd=np.where(is_far, np.inf, fd),
        task=None if task_regressors is None else task_regressors[used_volumes],
        first_volume=n_dummy,
    )
    return patterns, run_facts | components


def _realign_volumes(reader: SeriesReader, matrices: Array, first: int) -> Array:
    """Return up to `_MAX_VOLUMES` steady-state volumes in reference space (X, Y, Z, T)."""
    stop = min(reader.shape[3], first + _MAX_VOLUMES)
    volumes = np.empty((*reader.shape[:3], stop - first), dtype=np.float32)
    for t in range(first, stop):
        volumes[..., t - first] = resample_to_reference(reader, t, matrices[t])
    return volumes


def _read_task(
    events: Path | None,
    levels: Sequence[str],
    tr: float,
    n_volumes: int,
    hrf: HemodynamicResponse,
) -> tuple[Array | None, dict[str, object]]:
    """Return task regressors (None if there are none), and a fact for the report.

    The regressors are the response of each condition with events, and its derivatives (T, C).
    """
    if events is None:
        return None, {"task": "no events file"}
    try:
        responses = read_events(events, levels).responses(frame_times(n_volumes, tr), hrf)
    except DesignError as error:
        _LOGGER.warning(
            "The task effects could not be removed from the calibration run: %s", error
        )
        return None, {"task": f"not removed: {error}"}
    regressors = [columns for columns in responses.values() if np.abs(columns[:, 0]).max() > 1e-3]
    task_regressors = np.concatenate([np.zeros((n_volumes, 0)), *regressors], axis=1)
    return task_regressors, {"task": events.name}


def rejection_reason(facts: Mapping[str, float]) -> str:
    """Return the reason why a calibration run cannot be used, with advice.

    `facts` are metrics of registration and head motion by name. Returns a clause; "" if the
    calibration run can be used.
    """
    if facts["overlap"] < _MIN_OVERLAP:
        return (
            f"the calibration run covers only {facts['overlap']:.0%} of the brain in the"
            " BOLD run. Acquire the calibration run with the same field of view as the BOLD"
            " run."
        )
    if facts["correlation"] < _MIN_CORRELATION:
        return (
            "after registration, the calibration run does not match the BOLD run (spatial"
            f" correlation {facts['correlation']:.2f}). The calibration run may be from"
            " another participant or have another contrast, or the registration may have"
            " failed. Check the registration figure."
        )
    if facts.get("far_share", 0.0) > _MAX_FAR_FRACTION:
        return (
            f"the head moved by {facts['motion_max_mm']:.1f} mm during the calibration run;"
            f" at most {_MAX_MOTION_MM:g} mm are allowed. Repeat the acquisition with less"
            " head motion."
        )
    return ""
