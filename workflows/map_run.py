"""Activation maps of all series of a run, their comparison, and clusters."""

from collections.abc import Mapping

from bids_sr.frozen import frozen
from bids_sr.pipeline.artifacts import Image, Map, Mask, Rows, Table
from bids_sr.workflows.make_series import MadeSeries


@frozen
class MappedSeries:
    """Maps of one series, with metrics and what figures need of it; None without a prior."""

    made: MadeSeries
    maps: list[Map]
    map_metrics: Rows
    quality: Rows
    middle: Image
    tsnr: Image
    error_maps: list[Map] | None = None
    error_rows: Rows | None = None
    coverage_rows: Rows | None = None


@frozen
class RunMaps:
    """Maps of all mapped series by name, the acquired one first, in the region of interest."""

    mapped: Mapping[str, MappedSeries]
    roi: Mask
    roi_hr: Mask
    activation: Rows
    image_metrics: Rows
    clusters: Table
