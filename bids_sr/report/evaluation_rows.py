"""Rows of the evaluation table shown in a figure or table, their order, and their labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from bids_sr import series as registry
from bids_sr.metrics.rows import MetricRow
from bids_sr.series import ACQUIRED, BASELINES, CONTROLS, Kind

_ORDER: tuple[Kind, ...] = (
    "run",
    "baseline",
    "control",
    "method",
    "placebo",
    "member",
    "measured",
)
KIND_TEXT: Mapping[Kind, str] = {
    "baseline": "interpolation and other baselines",
    "control": "denoising and smoothing controls",
    "method": "methods",
    "measured": "measured at high resolution",
    "placebo": "negative controls",
    "member": "ensemble members",
    "run": "the run",
}
_ACQUIRED_TEXT: Mapping[str, str] = {
    registry.RAW: "acquired",
    registry.RAW_SPLINE: "acquired (interpolated maps)",
}


def kind_of(series: str) -> Kind:
    """Return the kind of a series; the acquired one counts among the baselines.

    The kinds are those of tables and figures.
    """
    kind = registry.kind_of(series)
    return "baseline" if kind == "acquired" else kind


def series_text(series: str) -> str:
    """A series as a figure or a table of the report names it; files keep the name itself."""
    found = registry.series(series)
    if found.variant == registry.SAME:
        return f"acquired, smoothed to the resolution of {found.method}"
    return _ACQUIRED_TEXT.get(series) or CONTROLS.get(series, series)


def contrasts_of(rows: Iterable[MetricRow]) -> list[str]:
    """Return contrasts as they come, that of all conditions first."""
    found = list(dict.fromkeys(row.contrast for row in rows))
    return sorted(found, key=lambda name: name != "all")


def series_of(
    rows: Iterable[MetricRow], names: Sequence[str] = (), kinds: Iterable[Kind] = ()
) -> list[str]:
    """Return the series of the rows by kind, in the wanted order within each kind.

    The kinds are baselines, controls, methods, ..., measured.

    Raw comes before all, those not wanted follow as they come. `kinds` are those to keep; default:
    all but members of ensembles and placebos.
    """
    kept = set(kinds) or {"baseline", "control", "method", "measured", "run"}
    ordered = [name for name in dict.fromkeys(row.series for row in rows) if kind_of(name) in kept]
    place = {name: k for k, name in enumerate(names)}
    known = {name: k for k, name in enumerate((*ACQUIRED, *BASELINES, *CONTROLS))}
    return sorted(
        ordered,
        key=lambda name: (
            _ORDER.index(kind_of(name)),
            not name.startswith("raw"),
            place.get(name, len(place)),
            known.get(name, 99),
        ),
    )


def placebo_gains(rows: Iterable[MetricRow]) -> list[MetricRow]:
    """Return the measured detail each method explains beyond its placebos.

    The denoised B-spline is listed apart.
    """
    return [
        row
        for row in rows
        if (row.statistic, row.reference) == ("ev", "measured")
        and kind_of(row.series) == "method"
        and row.is_difference
        and kind_of(row.minus) == "placebo"
    ]


def shown_series(names: Sequence[str], scores: Mapping[str, float]) -> list[str]:
    """Return the series to show: plain interpolation, two best methods, and measured series.

    Without scores, the last methods are the best.

    `scores`: row that ranks each method; empty keeps the order of the names.
    """
    methods = [name for name in names if kind_of(name) == "method"]
    known = {name: value for name, value in scores.items() if math.isfinite(value)}
    if scores:
        methods.sort(key=lambda name: known.get(name, -math.inf))
    wanted = ("bspline", *methods[-2:], "measured")
    return [name for name in wanted if name in names]
