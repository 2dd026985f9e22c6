"""Table of the detail that a run supports, one row per contrast and region."""

import math
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from bids_sr.engine.metric_rows import MetricRow
from bids_sr.evaluation.detail_support import (
    COVERAGE,
    ContrastResult,
    RegionResult,
    classify_detail,
)
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.tested_detail import HALF_RESOLUTION
from bids_sr.glm.contrasts import ALL

_COLUMNS = (
    "series",
    "contrast",
    "region",
    "fwhm_mm",
    "state",
    "explained_variance",
    "lower",
    "upper",
    "voxels",
    "coverage",
    "reason",
)


def tabulate_support(
    rows: Sequence[MetricRow],
    methods: Mapping[str, str],
    contrasts: Sequence[str],
    smoothing: Sequence[float] = (0.0,),
) -> pd.DataFrame:
    """Return what the tests at half the resolution show, with rule and words of the report.

    `methods` contains the series whose detail was to be tested, and why it was not tested, as a
    clause; "" if it was. `contrasts` are the names of all contrasts of the run; `all` is first in
    the table. `smoothing` is the smoothing of the effects (FWHM, mm).
    The table has one row per series, smoothing, contrast and region (active voxels, brain). An
    explained variance and its 95 % interval are NaN if they are undefined.
    """
    ordered_contrasts = sorted(contrasts, key=lambda name: name != ALL)
    cells = [
        row_cells
        for method, reason in methods.items()
        for width in smoothing
        for support in classify_detail(rows, method, ordered_contrasts, fwhm_mm=width).values()
        for row_cells in _iterate_cells(rows, method, support, width, reason)
    ]
    return pd.DataFrame(cells, columns=list(_COLUMNS))


def _iterate_cells(
    rows: Sequence[MetricRow],
    method: str,
    support: ContrastResult,
    width: float,
    reason: str,
) -> Iterator[dict[str, object]]:
    """Yield the cells of both regions of one contrast; see `tabulate_support`."""
    values = {
        (row.statistic, row.contrast, row.region, row.fwhm_mm): row.value
        for row in rows
        if row.series == method and (row.reference == HALF_RESOLUTION or row.statistic == COVERAGE)
    }
    if not values:
        reason = reason or Statement.NOT_DOWNSAMPLED
    contrast = support.contrast
    for region, name, result in (
        (ACQUIRED_ACTIVE, "active voxels", support.active),
        ("brain", "brain", support.brain),
    ):
        yield {
            "series": method,
            "contrast": contrast,
            "region": name,
            "fwhm_mm": width,
            **_describe_result(result),
            "voxels": values.get(("voxels", contrast, region, width), math.nan),
            "coverage": values.get((COVERAGE, support.map_contrast, "brain", 0.0), math.nan),
            "reason": reason or result.reason,
        }


def _describe_result(result: RegionResult) -> dict[str, object]:
    """Return state, explained variance and interval of a result; NaN if they are undefined."""
    row = result.row
    value, lower, upper = (math.nan,) * 3 if row is None else (row.value, row.lower, row.upper)
    return {"state": result.state, "explained_variance": value, "lower": lower, "upper": upper}
