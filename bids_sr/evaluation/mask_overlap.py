"""Overlap of the brain masks of series, each mask computed from the series' temporal mean.

Source: TV self-supervision, which compares the brain masks of original and reconstructed series.
"""

import math
from collections.abc import Mapping

import numpy as np

from bids_sr.engine.metric_rows import MetricRow, metric_rows
from bids_sr.io.arrays import Float, MaskArray, Real
from bids_sr.io.volume import Volume
from bids_sr.spatial.masks import MaskError, brain_mask
from bids_sr.spatial.resampling import sample_volume


def mask_rows(
    masks: Mapping[str, MaskArray | None], references: Mapping[str, Volume]
) -> list[MetricRow]:
    """Return the Jaccard index of the mask of each series with the mask of each reference.

    All masks are on one grid (X, Y, Z); a mask of None gives n/a. `references` are masks of the
    acquired series and, if available, of the measured series, by name. There is one row per pair
    of a series and a different reference.
    """
    rows: list[MetricRow] = []
    for reference, reference_mask in references.items():
        for series, mask in masks.items():
            if series != reference:
                value = math.nan if mask is None else jaccard(mask, reference_mask.data)
                rows += metric_rows(
                    series, {"mask_jaccard": value}, reference=reference, region="brain"
                )
    return rows


def jaccard(first: MaskArray, second: MaskArray) -> float:
    """Return the Jaccard index of two masks of one shape; NaN if both are empty.

    >>> jaccard(np.array([True, True, False]), np.array([False, True, True]))
    0.3333333333333333
    """
    union_size = int((first | second).sum())
    return int((first & second).sum()) / union_size if union_size else math.nan


def mask_of_mean(mean: Real, affine: Float) -> MaskArray | None:
    """Return the brain mask of a temporal mean image (X, Y, Z); None if no brain is found."""
    try:
        return brain_mask(np.asarray(mean), affine)
    except MaskError:
        return None


def resample_mask(mask: MaskArray, affine: Float, grid: Volume) -> Volume:
    """Resample a mask to another grid; interpolated values of at least .5 are inside."""
    values = sample_volume(
        mask.astype(np.float32), affine, grid.data.shape, grid.affine, None, order=1
    )
    return Volume(values >= 0.5, grid.affine)
