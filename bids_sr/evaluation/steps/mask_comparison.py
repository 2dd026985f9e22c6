"""Overlap of brain masks between series."""

from collections.abc import Mapping

import numpy as np

from bids_sr.engine.artifacts import Mask, Rows, Series
from bids_sr.engine.step import Stage, step
from bids_sr.engine.step_memory import MAPS
from bids_sr.evaluation.mask_overlap import mask_of_mean, mask_rows, resample_mask
from bids_sr.io.arrays import MaskArray
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.series import MEASURED


@step(Stage.EVALUATION, makes="mask_rows", memory=MAPS)
def compare_masks(
    preproc: Series, highres_series: Mapping[str, Series], bold_mask_hr: Mask, *, n_dummy: int
) -> Rows:
    """Compare the brain mask of each series with the masks of acquired and measured series.

    Each mask is computed from the mean of the series. The first `n_dummy` volumes are excluded.

    `preproc` is motion-corrected. The other series, by name, are on the high-resolution grid.
    """
    acquired_mask = _find_brain(preproc, n_dummy)
    masks = {name: _find_brain(series, n_dummy) for name, series in highres_series.items()}
    measured_mask = masks.get(MEASURED)
    reference_masks = {}
    if acquired_mask is not None:
        reference_masks["acquired"] = resample_mask(acquired_mask, preproc.affine, bold_mask_hr)
    if measured_mask is not None:
        reference_masks[MEASURED] = bold_mask_hr.like(measured_mask)
    return mask_rows(masks, reference_masks)


def _find_brain(series: SeriesReader, n_dummy: int) -> MaskArray | None:
    """Return the brain mask of the mean of a series; None if no brain is found."""
    signal_sum = np.zeros(series.shape[:3], dtype=np.float64)
    for volume in series.volumes(n_dummy):
        signal_sum += volume
    return mask_of_mean(signal_sum / (series.shape[3] - n_dummy), series.affine)
