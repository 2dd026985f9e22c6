"""Head motion of a run: table of the six parameters, and displacement between volumes."""

import numpy as np
import pandas as pd

from bids_sr.io.arrays import Array, Float
from bids_sr.io.confound_names import MOTION_PARAMETERS

HEAD_RADIUS_MM = 50.0
"""Radius of the sphere that framewise displacement measures rotations on."""
_BALL_RADIUS_MM = 80.0  # mm, radius of the ball of `rms_displacement`, as in FSL


def motion_table(params: Array, residual: Array) -> pd.DataFrame:
    """Return the six motion parameters (T, 6; mm, rad) and the residual (T,) as a table."""
    table = pd.DataFrame(np.asarray(params), columns=list(MOTION_PARAMETERS))
    return table.assign(residual=np.asarray(residual))


def motion_columns(motion: pd.DataFrame) -> pd.DataFrame:
    """Return the six motion parameters, their backward differences and FD, without nipype."""
    six = motion[list(MOTION_PARAMETERS)].astype(np.float64)
    return six.join(six.diff().add_suffix("_derivative1")).assign(
        framewise_displacement=framewise_displacement(six.to_numpy())
    )


def framewise_displacement(params: Array) -> Float:
    """Return framewise displacement (mm), (T,); the first value is NaN.

    Framewise displacement is the sum of absolute changes of the motion parameters (T, 6; mm, rad).
    Rotations are converted to displacements on a sphere of 50 mm. Source: power2012. Equal to
    nipype's ``FramewiseDisplacement``, whose import would take .6 s in the dry run.
    """
    change = np.abs(np.diff(np.asarray(params, dtype=np.float64), axis=0))
    change[:, 3:] *= HEAD_RADIUS_MM
    return np.concatenate([[np.nan], change.sum(axis=1)])


def rms_displacement(matrices: Array, center: Array) -> Float:
    """Return RMS displacement (mm) from the previous volume in a ball of 80 mm; first value NaN.

    Source: jenkinson2002. The published formula is the mean over the ball in closed form.
    `matrices` transform points of the boldref to each volume (T, 4, 4; RAS mm), and `center` is
    the center of the ball (3,; RAS mm).
    """
    change = np.linalg.inv(matrices[1:]) @ matrices[:-1]
    rotation_change = change[:, :3, :3] - np.eye(3)
    shift = rotation_change @ np.asarray(center, dtype=np.float64) + change[:, :3, 3]
    power = (shift**2).sum(axis=1) + (rotation_change**2).sum(axis=(1, 2)) * _BALL_RADIUS_MM**2 / 5
    return np.concatenate([[np.nan], np.sqrt(power)])
