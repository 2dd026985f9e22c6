"""Steps that bring series of other programs to the grid of their run: where they lie, and one interpolation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from bids_sr.config.memory_model import SERIES
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.pipeline.artifacts import Distortion, Facts, Image, Mask, Series, Transforms
from bids_sr.pipeline.step import enumerated, step
from bids_sr.registration.compared_frame import checked, poses_of
from bids_sr.series import ACQUIRED_BAND
from bids_sr.sr.inference.acquired import Acquired
from bids_sr.sr.inference.apply_to_series import make_upsampler, super_resolve_series
from bids_sr.stats.evaluation.compared_verdict import ON_ACQUIRED
from bids_sr.steps.activation import Factor

AS_ACQUIRED: Factor = (1.0, 1.0, 1.0)
UPSAMPLING = ACQUIRED_BAND
"""How a series on the acquired grid is upsampled: as the acquired one, its band untouched."""


def compared_text(names: Sequence[str]) -> str:
    """Methods text of the compared series of a run."""
    return (
        f"Series of other programs ({enumerated(list(names))}) were judged beside the acquired one. Volumes at several "
        "moments were registered to those acquired at the same moments, which tells whether head motion was undone "
        "already. Those on the acquired grid were zero-filled as the acquired series is; each volume was interpolated "
        "once, and the series went through the same masks, models and comparisons. As a control at the same "
        "resolution, effects of the acquired series were smoothed by the Gaussian that gives the changes between its "
        "volumes the smoothness of those of the compared series.\n"
    )


@step(makes=("compared_xfms", "compared_facts"))
def align_compared(
    compared: Series, bold: Series, boldref: Image, bold_mask: Mask, hmc_xfms: Transforms, *, series_name: str
) -> tuple[Transforms, Facts]:
    """Find where the volumes of a compared series lie: as acquired, or with the head motion undone already.

    Parameters
    ----------
    compared : as its file has it, on the acquired grid or a finer one
    bold, boldref, bold_mask : run as acquired, its reference, and the brain in it
    hmc_xfms : of the run; take a boldref point to where it lies in each volume (RAS mm)

    Returns
    -------
    compared_xfms : the same of the compared series
    compared_facts : by its name, frame, grid, shift (acquired voxels), and what its signal is multiplied by

    Raises
    ------
    ComparedError : it is shifted, of another run or head, or in no frame of the run
    """
    seen = checked(bold, compared)
    facts = seen.facts() | {"grid": ON_ACQUIRED if compared.shape[:3] == bold.shape[:3] else "finer"}
    return poses_of(seen, hmc_xfms, compared, boldref, bold_mask.data), {series_name: facts}


@step(makes="series", memory=SERIES)
def place_compared(
    stc: Series, bold: Series, bold_mask_hr: Mask, compared_xfms: Transforms, compared_facts: Facts,
    distortion: Distortion | None = None, *, here: Path, factor: Factor, series_name: str,
) -> Series:  # fmt: skip
    """A compared series on the high-resolution grid of the run, each volume interpolated once.

    Parameters
    ----------
    stc : the series, corrected in time
    bold : run as acquired, for its grid
    bold_mask_hr : image on the high-resolution grid
    compared_xfms, compared_facts : see `align_compared`
    distortion : of the run; what had its motion undone is taken to have that undone, too

    Returns
    -------
    series : in signal units of the run
    """
    facts = compared_facts[series_name]
    assert isinstance(facts, dict)
    as_acquired, scale = facts["frame"] == "as acquired", float(facts["scale"])
    own = factor if stc.shape[:3] == bold.shape[:3] else AS_ACQUIRED
    upsample = make_upsampler(UPSAMPLING if own == factor else "raw", Acquired(factor=own))
    shape, affine = bold_mask_hr.data.shape, bold_mask_hr.affine
    target = here / "series.nii"
    with (
        threadpool_limits(1),
        SeriesWriter(target, (*shape, stc.shape[3]), affine, stc.tr, header_like=bold.header) as writer,
    ):
        super_resolve_series(
            stc, writer, lambda volume, pose: upsample(np.float32(scale) * volume, pose), compared_xfms, shape, affine,
            factor=own, distortion=distortion if as_acquired else None,
        )  # fmt: skip
    return SeriesReader(target)
