"""Head motion of a run: estimation, and remaining motion in registered series."""

import numpy as np

from bids_sr.engine.artifacts import Image, Mask, Series, Table
from bids_sr.engine.step import Stage, step
from bids_sr.preproc import hmc
from bids_sr.preproc.boldref import estimate_run
from bids_sr.preproc.head_motion import motion_table
from bids_sr.spatial.itk_files import Transforms
from bids_sr.spatial.transforms import compute_displacement_mm

HMC_SIDECAR = {
    "Description": (
        "one rigid transform per volume, which maps points of the boldref to points of the volume"
    )
}
MOTION_TEXT = (
    "Head-motion parameters with respect to the boldref were estimated by Gauss-Newton"
    " minimization of squared intensity differences [@bakermatthews2004], with a gain and a"
    " quadratic bias."
)
"""Methods text of head-motion estimation."""


@step(Stage.HEAD_MOTION, makes=("hmc_xfms", "motion"))
def estimate_motion(
    bold: Series, boldref: Image, head_mask: Mask, *, n_dummy: int
) -> tuple[Transforms, Table]:
    """Estimate the head position in every volume without resampling.

    `bold` is the acquired series (uncompressed), and `boldref` is on its grid (3D). `head_mask` is
    the brain, segmented without a T1w image. The first `n_dummy` volumes are not in the steady
    state.

    Returns transforms of boldref points to points of each volume (RAS mm); and trans_x, y, z (mm),
    rot_x, y, z (rad) and residual, one row per volume. Raises `ValueError` if there are no
    volumes.
    """
    estimate = estimate_run(bold, boldref.data, head_mask.data, n_dummy=n_dummy)
    return estimate.matrices, motion_table(estimate.params, estimate.residual)


@step(Stage.HEAD_MOTION, makes=("worst_volume", "displacement_mm"))
def estimate_residual_motion(
    bold: Series, boldref: Image, bold_mask: Mask, *, n_dummy: int
) -> tuple[int, float]:
    """Return the largest remaining head motion in a series that is assumed to be registered.

    Returns the volume that is farthest from the boldref among the first steady-state, the middle
    and the last volume; and its RMS displacement (mm).
    """
    volumes = sorted({n_dummy, (n_dummy + bold.shape[3]) // 2, bold.shape[3] - 1})
    with np.errstate(all="ignore"):
        estimate = hmc.estimate_motion(
            (bold.volume(t) for t in volumes), boldref.data, bold_mask.data, bold.affine
        )
    displacements = compute_displacement_mm(estimate.matrices, bold_mask.data, bold.affine)
    return volumes[int(displacements.argmax())], float(displacements.max())
