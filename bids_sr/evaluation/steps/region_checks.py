"""Checks of the response of a run and of its region of interest."""

import numpy as np

from bids_sr.engine.artifacts import Map, Mask, Series
from bids_sr.engine.step import Stage, step
from bids_sr.engine.step_memory import MAPS
from bids_sr.evaluation.qc_flags import Flags
from bids_sr.evaluation.region_checks import list_response_flags
from bids_sr.glm.region_response import (
    average_regions,
    find_active_clusters,
    list_averaged_regions,
    measure_response,
)
from bids_sr.glm.steps.linear_models import LinearModel
from bids_sr.glm.steps.map_comparison import sort_maps_of_run
from bids_sr.glm.steps.region_growth import select_contrasts
from bids_sr.io.series import ACQUIRED
from bids_sr.preproc.steps.aligned_series import BoldBrain
from bids_sr.spatial.masks import compute_mean_signal


@step(Stage.EVALUATION, makes="region_flags", memory=MAPS)
def check_region(
    preproc: Series,
    acquired_maps: list[Map],
    brain: BoldBrain,
    roi_bold: Mask,
    model: LinearModel,
) -> Flags:
    """Check whether a run and its region of interest respond to the task.

    `preproc` is the acquired series, corrected for motion, and `acquired_maps` are its maps of the
    linear model; the z maps with the largest smoothing define active voxels. The mean of the
    boldref in the `brain` is 100 %. `roi_bold` is the region of interest on the acquired grid. If
    the region is the whole brain, only the response of the run is checked.

    The conditions are compared with rest; contrasts of a run without such conditions are used
    instead.
    """
    stats, _ = sort_maps_of_run(acquired_maps)
    contrasts = model.mapped_contrasts
    widths = [fwhm_mm for _, stat, fwhm_mm in stats if stat == "z"]
    z_maps = {
        name: stats[name, "z", max(widths)][ACQUIRED].volume.data
        for name in select_contrasts(contrasts)
        if (name, "z", max(widths, default=0.0)) in stats
    }
    if not z_maps:
        return ()
    bold_mask = brain.bold_mask
    mask = bold_mask.data
    region = roi_bold.data & mask
    is_named = bool(region.any()) and not np.array_equal(region, mask)
    clusters = find_active_clusters(z_maps, mask)
    regions = list_averaged_regions(region if is_named else mask, mask, bold_mask.affine, clusters)
    response = measure_response(
        regions,
        average_regions(preproc, regions.values(), model.inputs.n_dummy),
        clusters,
        model.build_design(preproc),
        {name: contrasts[name] for name in z_maps},
    )
    percent = 100 / compute_mean_signal(brain.boldref.data, mask)
    return tuple(list_response_flags(response.times(percent), is_named=is_named))
