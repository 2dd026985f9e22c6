"""Series that are only resampled: the acquired series and the measured series."""

from pathlib import Path

from bids_sr.engine.artifacts import Image, Mask, Series
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.engine.step_memory import SERIES
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.series import ACQUIRED
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.itk_files import Transforms
from bids_sr.sr.inference.apply_to_series import write_series
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler

_AS_ACQUIRED: Factor = (1.0, 1.0, 1.0)


# Costs are per high-resolution voxel, so the cost is lower for a series on the acquired grid.
@step(Stage.SUPER_RESOLUTION, makes="preproc", memory=SERIES)
def correct_motion(
    stc: Series,
    boldref: Image,
    hmc_xfms: Transforms,
    distortion: Distortion | None = None,
    *,
    here: Path = HERE,
) -> Series:
    """Compute the acquired series: correct head motion on the acquired grid.

    The interpolation is the same as for every other series.

    `stc` is the acquired series after slice-timing correction (signal units), and `boldref`
    defines the grid of the output. `hmc_xfms` are transforms of boldref points to points of each
    volume (T, 4, 4; RAS mm). `distortion` is corrected by the same interpolation.
    """
    return _resample_series(stc, hmc_xfms, boldref, distortion, here / "preproc.nii")


@step(Stage.SUPER_RESOLUTION, makes="series", memory=SERIES)
def place_measured(
    stc: Series,
    bold_mask_hr: Mask,
    hmc_xfms: Transforms,
    distortion: Distortion | None = None,
    *,
    here: Path = HERE,
) -> Series:
    """Resample the measured series to the high-resolution grid, with the head motion of the run.

    No parameters are estimated from the measured series, so that it remains an independent
    reference.

    `stc` is the measured series after slice-timing correction (signal units). All other inputs
    belong to the evaluated run: `bold_mask_hr` defines the high-resolution grid, and `hmc_xfms`
    are transforms of boldref points to points of each volume (T, 4, 4; RAS mm).
    """
    return _resample_series(stc, hmc_xfms, bold_mask_hr, distortion, here / "series.nii")


def _resample_series(
    series: Series,
    hmc_xfms: Transforms,
    image: Image,
    distortion: Distortion | None,
    target: Path,
) -> Series:
    """Write a series, resampled with unchanged voxel size to the grid of an image, to a file."""
    write_series(
        series,
        target,
        make_upsampler(ACQUIRED, UpsamplerInputs(factor=_AS_ACQUIRED)),
        hmc_xfms,
        image.data.shape,
        image.affine,
        factor=_AS_ACQUIRED,
        distortion=distortion,
    )
    return SeriesReader(target)
