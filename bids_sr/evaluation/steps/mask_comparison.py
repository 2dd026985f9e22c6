"""Overlap of brain masks between series."""

import numpy as np

from bids_sr.engine.artifacts import File, Mask, Rows, Series
from bids_sr.engine.step import Stage, step
from bids_sr.engine.step_memory import EFFECTS
from bids_sr.evaluation.mask_overlap import mask_of_mean, mask_rows, resample_mask
from bids_sr.glm.block_effects import load_mean
from bids_sr.io.run_time import RunTime
from bids_sr.io.series import MEASURED


@step(Stage.EVALUATION, makes="mask_rows", memory=EFFECTS, cost=RunTime(always=0.5, volumes=0.002))
def compare_masks(
    preproc: Series, effects: dict[str, File], bold_mask_hr: Mask, *, n_dummy: int
) -> Rows:
    """Compare the brain mask of each series with the masks of acquired and measured series.

    Each mask is computed from the mean of the series.

    `preproc` is motion-corrected. `effects` are block effects of all series on the high-resolution
    grid, whose means are read one at a time. The first `n_dummy` volumes are excluded from the
    mean.
    """
    signal_sum = np.zeros(preproc.shape[:3], dtype=np.float64)
    for volume in preproc.volumes(n_dummy):
        signal_sum += volume
    acquired_mean = signal_sum / (preproc.shape[3] - n_dummy)
    acquired_mask = mask_of_mean(acquired_mean, preproc.affine)
    masks = {name: mask_of_mean(*load_mean(path)) for name, path in effects.items()}
    measured_mask = masks.get(MEASURED)
    reference_masks = {}
    if acquired_mask is not None:
        reference_masks["acquired"] = resample_mask(acquired_mask, preproc.affine, bold_mask_hr)
    if measured_mask is not None:
        reference_masks[MEASURED] = bold_mask_hr.like(measured_mask)
    return mask_rows(masks, reference_masks)
