"""Table of the detail that a run supports, one row per contrast and region."""

import math
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from bids_sr.evaluation.detail_support import COVERAGE, DetailSupport, classify_detail
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.evaluation.tested_detail import HALF_RESOLUTION
from bids_sr.metrics.rows import MetricRow

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
_NOT_TESTED = "the run could not be super-resolved at half the resolution"


def tabulate_support(
    rows: Sequence[MetricRow],
    methods: Mapping[str, str],
    contrasts: Sequence[str],
    smoothing: Sequence[float],
) -> pd.DataFrame:
    """Return what the tests at half the resolution show, with the rule of the report.

    Parameters
    ----------
    rows : Sequence[MetricRow]
        Results of the tests.
    methods : Mapping[str, str]
        Series whose detail was to be tested, and why it was not tested, as a clause; "" if it was.
    contrasts : Sequence[str]
        Names of all contrasts of the run.
    smoothing : Sequence[float]
        Smoothing of the effects (FWHM, mm).

    Returns
    -------
    pd.DataFrame
        One row per series, smoothing, contrast and region (active voxels, brain).
        Explained variances and their 95 % interval are NaN if they are undefined.
    """
    cells = [
        row_cells
        for method, reason in methods.items()
        for width in smoothing
        for row_cells in _iterate_cells(rows, method, reason, contrasts, width)
    ]
    return pd.DataFrame(cells, columns=list(_COLUMNS))


def _iterate_cells(
    rows: Sequence[MetricRow], method: str, reason: str, contrasts: Sequence[str], width: float
) -> Iterator[dict[str, object]]:
    """Yield the cells of all contrasts of a series at one smoothing."""
    values = {
        (row.statistic, row.contrast, row.region, row.fwhm_mm): row.value
        for row in rows
        if row.series == method and (row.reference == HALF_RESOLUTION or row.statistic == COVERAGE)
    }
    if not values:
        reason = reason or _NOT_TESTED
    for contrast, support in classify_detail(rows, method, contrasts, fwhm_mm=width).items():
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
                "coverage": values.get((COVERAGE, contrast, "brain", 0.0), math.nan),
                "reason": reason or result.reason,
            }


def _describe_result(result: DetailSupport) -> dict[str, object]:
    """Return state, explained variance and interval of a result; NaN if they are undefined."""
    row = result.row
    value, lower, upper = (math.nan,) * 3 if row is None else (row.value, row.lower, row.upper)
    return {"state": result.state, "explained_variance": value, "lower": lower, "upper": upper}
