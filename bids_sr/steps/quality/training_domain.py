"""Differences between a run and the training data of its model."""

import logging

from bids_sr.metrics.rows import metric_rows
from bids_sr.pipeline.artifacts import File, Image, Mask, Rows
from bids_sr.pipeline.step import step
from bids_sr.sr.models.card import read_card
from bids_sr.sr.models.domain import domain_difference

_LOGGER = logging.getLogger(__name__)


@step(makes="domain_rows", small=True)
def check_domain(model_file: File, boldref: Image, bold_mask: Mask, *, series_name: str) -> Rows:
    """Compare the intensities and edges of a run with the training data of a network.

    The rows contain both differences and a flag; there are no rows if the model card lacks these
    values of the training data.
    """
    difference = domain_difference(read_card(model_file), boldref.data, bold_mask.data)
    if difference is None:
        return []
    intensity_difference, edge_ratio, warnings = difference
    for text in warnings:
        _LOGGER.warning("%s: %s", series_name, text)
    metrics = {
        "domain_distance": intensity_difference,
        "domain_edges": edge_ratio,
        "flag_domain": float(bool(warnings)),
    }
    return metric_rows(series_name, metrics, region="brain")
