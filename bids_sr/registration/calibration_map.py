"""Standard deviation maps of a calibration: its own, and that at the resolution of the run that it is for."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from bids_sr.io.array_types import Array
from bids_sr.io.nifti import SeriesReader
from bids_sr.registration import calibration_alignment as tools
from bids_sr.sr.resolution.degradation import Factor, kspace_crop
from bids_sr.sr.variance.calibration_sd import LEAST_VOLUMES, CalibrationError, calibration_sd
from bids_sr.stats.glm.confounds import drift_basis, framewise_displacement

LOGGER = logging.getLogger(__name__)


def calibration_maps(
    reader: SeriesReader, mask: Array, matrices: Array, params: Array, facts: dict[str, Any], *, n_dummy: int,
    tr: float, factor: Factor, events: str | Path | None = None,
) -> tuple[Array, Array, dict[str, Any]]:  # fmt: skip
    """The map, the same at the resolution of the run, and what is to be told of it.

    Parameters
    ----------
    reader, mask : (X, Y, Z, T) calibration, uncompressed, and the brain in its reference
    matrices, params : (T, 4, 4) reference point to the volume's point (RAS mm); (T, 6) the same in mm and rad
    facts : of its registration; takes what is known before something speaks against its use
    n_dummy, tr : first volumes to leave out; repetition time (s)
    factor : voxel of the run over that of the calibration
    events : BIDS events of the calibration; None: there is no task to take out

    Raises
    ------
    CalibrationError : it cannot be used; the message says why
    """
    first = n_dummy
    if not mask.any() or reader.shape[3] - first < LEAST_VOLUMES:
        count = f"{max(reader.shape[3] - first, 0)} volumes in the steady state and {int(mask.sum())} voxels of brain"
        raise CalibrationError(f"it has {count}; {LEAST_VOLUMES} volumes are needed for a variance")
    series = tools.in_reference(reader, matrices, first)
    used = slice(first, first + series.shape[3])
    fd, far = framewise_displacement(params[used]), tools.moved_mm(matrices[used], mask, reader.affine)
    task, told = _task(events, tr, reader.shape[3])
    away = far > tools.MOST_MOTION_MM
    told |= {
        "fd_max_mm": round(float(np.nanmax(fd)), 4), "fd_mean_mm": round(float(np.nanmean(fd)), 4),
        "motion_max_mm": round(float(far.max()), 4), "far_share": round(float(away.mean()), 4),
    }  # fmt: skip
    facts |= told
    if against := tools.objection(facts):
        raise CalibrationError(against)
    courses: dict[str, Any] = {
        "drift": drift_basis(series.shape[3], tr), "motion": tools.motion_mm(params[used]),
        "fd": np.where(away, np.inf, fd), "task": None if task is None else task[used],
    }  # fmt: skip
    found = calibration_sd(series, mask, **courses)
    low, low_mask = (kspace_crop(image, reader.affine, factor=factor)[0] for image in (series, mask * 1.0))
    found_low = calibration_sd(low, low_mask > 0.5, **courses)
    told |= {
        "n_used": found.n_used, "dof": found.dof,
        "censored": [int(t) + first for t in found.censored], "n_drift": found.n_drift, "n_motion": found.n_motion,
        "n_task": found.n_task, "noise_sd": round(found.noise_sd, 4), "noise_share": round(found.noise_share, 4),
        "sd_median": round(float(np.median(found.sd[mask])), 4),
    }  # fmt: skip
    return found.sd, found_low.sd, told


def _task(events: str | Path | None, tr: float, volumes: int) -> tuple[Array | None, dict[str, Any]]:
    """Regressors of the task, and what became of it."""
    from bids_sr.stats.glm.design import DesignError

    if events is None:
        return None, {"task": "no events"}
    try:
        return tools.task_regressors(events, tr, volumes), {"task": Path(events).name}
    except DesignError as error:
        LOGGER.warning("The task of the calibration stays in its variance: %s", error)
        return None, {"task": f"not taken out: {error}"}
