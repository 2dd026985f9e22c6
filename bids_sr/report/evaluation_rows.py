"""Selection, order and labels of evaluation rows in figures and tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import MappingProxyType

from bids_sr.engine.metric_rows import MetricRow
from bids_sr.io import series as registry
from bids_sr.io.context_values import set_value
from bids_sr.io.contrast_names import rank_contrast
from bids_sr.io.series import ACQUIRED_NAMES, REFERENCE_NAMES, KindOfSeries

KIND_TEXT: Mapping[KindOfSeries, str] = {
    "run": "the run",
    "baseline": "interpolation and other baselines",
    "control": "denoising and smoothing controls",
    "method": "methods",
    "measured": "measured at high resolution",
}
"""Kinds of series in words, in display order."""
_KIND_ORDER = list(KIND_TEXT)
# labels that replace names of series in figures and tables
_LABELS: ContextVar[Mapping[str, str]] = ContextVar("series_labels", default=MappingProxyType({}))


def list_series(
    rows: Iterable[MetricRow], names: Sequence[str] = (), kinds: Iterable[KindOfSeries] = ()
) -> list[str]:
    """Return the series of the rows, sorted by kind and then in the given order.

    The order of kinds is run, baselines, controls, methods, measured. Acquired series
    come first among baselines, and series that are not in `names` last. `names` are series in
    display order. `kinds` to include are by default all.
    """
    included_kinds = set(kinds) or {"baseline", "control", "method", "measured", "run"}
    names_in_rows = [
        name
        for name in dict.fromkeys(row.series for row in rows)
        if get_kind(name) in included_kinds
    ]
    positions = {name: index for index, name in enumerate(names)}
    default_positions = {name: index for index, name in enumerate(REFERENCE_NAMES)}
    return sorted(
        names_in_rows,
        key=lambda name: (
            _KIND_ORDER.index(get_kind(name)),
            name not in ACQUIRED_NAMES,
            positions.get(name, len(positions)),
            default_positions.get(name, len(default_positions)),
        ),
    )


def select_shown_series(names: Sequence[str], scores: Mapping[str, float]) -> list[str]:
    """Return the series to show: B-spline, the two best methods, and the measured series.

    `scores` ranks the methods; if it is empty, the last two methods are shown.
    """
    methods = [name for name in names if get_kind(name) == "method"]
    finite_scores = {name: value for name, value in scores.items() if math.isfinite(value)}
    if scores:
        methods.sort(key=lambda name: finite_scores.get(name, -math.inf))
    candidates = ("bspline", *methods[-2:], "measured")
    return [name for name in candidates if name in names]


def get_kind(series: str) -> KindOfSeries:
    """Return the kind of a series in figures and tables; the acquired series is a baseline."""
    kind = registry.get_kind(series)
    return "baseline" if kind == "acquired" else kind


def series_text(series: str) -> str:
    """Return the name of a series in figures and tables of the report."""
    return _LABELS.get().get(series) or registry.parse_series_name(series).label or series


def label_series(labels: Mapping[str, str]) -> AbstractContextManager[None]:
    """Use labels in place of the names of series in figures and tables within the context."""
    return set_value(_LABELS, labels)


def current_labels() -> Mapping[str, str]:
    """Return the labels of `label_series`; empty outside of its context."""
    return _LABELS.get()


def list_contrasts(rows: Iterable[MetricRow]) -> list[str]:
    """Return the contrasts in order of appearance, the contrast of all conditions first."""
    contrasts = list(dict.fromkeys(row.contrast for row in rows))
    return sorted(contrasts, key=rank_contrast)
