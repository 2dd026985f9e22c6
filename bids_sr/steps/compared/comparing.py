"""Steps that hold series of other programs against the acquired one: controls at the same resolution, verdicts."""

from collections.abc import Sequence

from threadpoolctl import threadpool_limits

from bids_sr.config.memory_model import EFFECTS
from bids_sr.pipeline.artifacts import Facts, Mask, Series
from bids_sr.pipeline.step import step
from bids_sr.spatial.masks import voxel_sizes
from bids_sr.stats.evaluation.same_resolution import changes_of, same_resolution
from bids_sr.steps.activation import Factor
from bids_sr.steps.compared.placing import UPSAMPLING


@step(makes="same_widths", memory=EFFECTS)
def match_resolution(
    series: dict[str, Series], bold_mask_hr: Mask, *, factor: Factor, n_dummy: int, compared_names: Sequence[str]
) -> Facts:
    """Smoothing (mm FWHM) of the acquired series that gives it the smoothness of each compared one, by their names.

    Parameters
    ----------
    series : compared ones, and `zerofill`, which stands for the acquired one, on the high-resolution grid
    """
    mask, zooms = bold_mask_hr.data, [float(mm) for mm in voxel_sizes(bold_mask_hr.affine)]
    with threadpool_limits(1):
        acquired = changes_of(series[UPSAMPLING], n_dummy)
        return {
            name: round(same_resolution(acquired, changes_of(series[name], n_dummy), mask, zooms, factor), 2)
            for name in compared_names
        }
