"""Displacement of edges between series."""

import logging
from collections.abc import Sequence

import numpy as np

from bids_sr.engine.artifacts import Image, Mask, Rows
from bids_sr.engine.metric_rows import metric_rows
from bids_sr.engine.step import Stage, step
from bids_sr.io.word_lists import enumerate_words
from bids_sr.spatial.edges import Mismatch, measure_edge_mismatch
from bids_sr.spatial.resampling import sample_volume

_LOGGER = logging.getLogger(__name__)
_MAX_MISMATCH_VOXELS = 0.5  # acquired voxels, largest median displacement without a flag


EDGE_COMPARISON_TEXT = (
    "Susceptibility distortion was measured as the local displacement that maximizes the"
    " agreement between edges in the boldref and edges in the T2*-weighted image, independent"
    " of image contrast. "
)
"""Methods text of `compare_edges`."""


@step(Stage.EVALUATION, makes="edges")
def compare_edges(
    boldref: Image,
    guide_hr: Image,
    bold_mask_hr: Mask,
    *,
    phase_encoding: str,
    guided_names: Sequence[str],
) -> Rows:
    """Measure the distance between edges in the boldref and the T2*w image (distortion).

    `guide_hr` is the registered T2*w image on the high-resolution grid. `phase_encoding` is the
    direction as in BIDS; "" if it is unknown. `guided_names` are the methods that use the T2*w
    image, for a warning.

    Returns median and 90th percentile of the distance (mm), and the flag.
    """
    axis = {"i": 0, "j": 1}.get(phase_encoding[:1])
    zooms = boldref.zooms
    boldref_hr = sample_volume(boldref.data, boldref.affine, guide_hr.data.shape, guide_hr.affine)
    mismatch = measure_edge_mismatch(
        boldref_hr,
        guide_hr.data,
        bold_mask_hr.data,
        guide_hr.affine,
        blur_mm=float(zooms[:2].max()),
        axis=axis,
    )
    limit_mm = _MAX_MISMATCH_VOXELS * float(zooms[1 if axis is None else axis])
    if warning := _describe_mismatch(mismatch, limit_mm, guided_names):
        _LOGGER.warning(warning)
    metrics = {
        "edge_mismatch": mismatch.median,
        "edge_mismatch_p90": mismatch.p90,
        "flag_distortion": float(mismatch.median > limit_mm),
    }
    return metric_rows("run", metrics, region="brain", n=mismatch.n)


def _describe_mismatch(mismatch: Mismatch, limit_mm: float, guided_names: Sequence[str]) -> str:
    """Return a warning about distortion; "" if the edges agree."""
    if np.isnan(mismatch.median):
        return (
            "Too few edges of the boldref were found in the T2*-weighted image to measure"
            " distortion."
        )
    if mismatch.median <= limit_mm:
        return ""
    methods = (
        enumerate_words(list(guided_names)) if guided_names else "methods that use this image"
    )
    verb = "places" if len(guided_names) == 1 else "place"
    return (
        f"Edges of the boldref and of the T2*-weighted image are {mismatch.median:.1f} mm apart"
        f" (median; 90th percentile {mismatch.p90:.1f} mm), more than half an acquired voxel"
        f" ({limit_mm:.1f} mm): the BOLD is distorted, and {methods} {verb} detail at wrong"
        " positions."
    )
