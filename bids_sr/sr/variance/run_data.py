"""What variance maps are found from, read off a series and a calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_sr.io.array_types import Array, Float
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.data.temporal_components import halves_of, mean_only, motion_courses, temporal_statistics, too_short
from bids_sr.sr.inference.guided_baselines import PosedImage
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.resolution.degradation import Factor
from bids_sr.sr.variance.fit_variance import LEAST_HALF, RunData

if TYPE_CHECKING:
    from bids_sr.io.nifti import SeriesReader


def run_data(
    reader: SeriesReader, mask: Array, recipe: VarianceRecipe, factor: Factor, *, n_dummy: int = 0,
    poses: Array | None = None, measured: tuple[Array, Array] | None = None,
) -> RunData:  # fmt: skip
    """Temporal statistics of a run and of its halves, and what a calibration measured.

    Parameters
    ----------
    reader : uncompressed series on its acquired grid, head motion undone
    mask : (x, y, z) brain
    recipe : of the maps; a control is not put to the test on held-out halves
    factor : acquired over high-resolution voxel size
    n_dummy : first volumes to leave out
    poses : (T, 4, 4), boldref point to the volume's point (RAS mm); what follows head motion is taken out
    measured : standard deviation maps of a calibration on the high-resolution and on the acquired grid

    Raises
    ------
    SeriesError : the run cannot be used
    """
    nuisance = None if poses is None else motion_courses(poses, center_of(mask, reader.affine))
    if too_short(reader, n_dummy):
        statistics, halves = mean_only(reader, n_dummy), None
    else:
        statistics = temporal_statistics(reader, mask, n_dummy, recipe.components, nuisance=nuisance)
        halves = None
        if recipe.least_explained is not None:
            halves = halves_of(reader, mask, n_dummy, recipe.components, nuisance, LEAST_HALF)
    high, low = measured or (None, None)
    return RunData(
        statistics=statistics, halves=halves, mask=mask, affine=reader.affine, factor=factor, measured=high,
        measured_low=low,
    )  # fmt: skip


def measured_on_run(
    sd: tuple[Array, Float], sd_low: tuple[Array, Float], xfm: Array, shape: tuple[int, ...], affine: Array,
    factor: Factor,
) -> tuple[Array, Array]:  # fmt: skip
    """Standard deviation maps of a calibration on the high-resolution and on the acquired grid of a run.

    Parameters
    ----------
    sd, sd_low : (map, affine) on the calibration's own grid, and of the calibration at the resolution of the run
    xfm : 4x4, takes a boldref point (RAS mm) to its point in the calibration
    shape, affine : acquired grid of the run
    """

    def seen(image: tuple[Array, Float], size: tuple[int, ...], grid: Array) -> Array:
        posed = PosedImage(data=image[0], affine=image[1], from_boldref=xfm)
        return posed.seen((int(size[0]), int(size[1]), int(size[2])), grid, None).clip(0)

    return seen(sd, *hr_grid(shape, affine, factor)), seen(sd_low, shape, affine)


def center_of(mask: Array, affine: Array) -> Float:
    """Middle of a mask (RAS mm)."""
    return np.asarray(affine[:3, :3] @ np.argwhere(mask).mean(0) + affine[:3, 3])
