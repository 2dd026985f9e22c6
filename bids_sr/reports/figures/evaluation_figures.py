"""Figures of the evaluation table: forest plots of halves and placebos; agreement with the truth.

Points are colored *and* shaped by what a series is, so that neither a gray print nor a color-blind
reader loses anything; the values stand beside them, because a figure that cannot be read off is
decoration.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from matplotlib.figure import Figure

from bids_sr.metrics.long_tables import MISSING, MetricRow
from bids_sr.metrics.number_text import number
from bids_sr.metrics.registry import statistic as registered
from bids_sr.reports.figures import style as s
from bids_sr.reports.figures.forest import Dashes, ForestPanel, Point, forest_figure
from bids_sr.reports.tables import evaluation_rows as pick
from bids_sr.reports.tables.evaluation_rows import Kind
from bids_sr.stats.evaluation.evidence import main_regions
from bids_sr.stats.evaluation.words import BANDS, region_text

_KIND_STYLE: Mapping[Kind, tuple[str, str]] = {
    "baseline": (s.BLUE, "o"),
    "control": (s.PURPLE, "s"),
    "method": (s.RED, "D"),
    "placebo": (s.ORANGE, "v"),
    "measured": (s.INK, "^"),
    "member": (s.GREEN, "P"),
    "run": (s.SOFT, "o"),
}
_Columns = Mapping[tuple[str, str], str]
"""Title of a panel by statistic and band."""
_EXPLAINED: _Columns = {
    ("ev", "beyond"): "explained variance beyond Nyquist",
    ("ev", "all"): "explained variance, signal units",
    ("r", "beyond"): "r beyond Nyquist",
}
_WHOLE_RUN: _Columns = {
    ("r_t", MISSING): "r of the t map",
    ("r", "all"): "r of the effect map",
    ("r", "beyond"): "r of the effect map beyond Nyquist",
    ("ev", "beyond"): "explained variance beyond Nyquist",
    ("average_precision", MISSING): "average precision",
    ("active_dice", MISSING): "Dice at matched size",
}


def of_halves(rows: Iterable[MetricRow]) -> list[MetricRow]:
    """Agreement of halves with the measured ones, no differences."""
    return [
        row
        for row in rows
        if row.reference == "measured"
        and row.statistic in ("ev", "r", "amplitude")
        and not row.is_difference
    ]


def of_whole_run(rows: Iterable[MetricRow]) -> list[MetricRow]:
    """Agreement with measured maps of the whole run, or with known activation; no differences."""
    return [
        row for row in rows if row.reference in ("measuredMap", "truth") and not row.is_difference
    ]


def _point(row: MetricRow, kind: Kind, *, hollow: bool = False) -> Point:
    color, marker = _KIND_STYLE[kind]
    return Point(
        value=row.value,
        color=color,
        marker=marker,
        lower=row.lower,
        upper=row.upper,
        hollow=hollow,
        text=number(row.value),
    )


def _points(rows: Iterable[MetricRow]) -> dict[str, list[Point]]:
    """Points by series; of several that answer, the first."""
    found: dict[str, list[Point]] = {}
    for row in rows:
        found.setdefault(row.series, [_point(row, pick.kind_of(row.series))])
    return found


def _reference_lines(
    points: Mapping[str, Sequence[Point]],
) -> dict[str, tuple[str, Dashes, float]]:
    styles: dict[str, tuple[str, Dashes]] = {
        "measured": (s.INK, (0, (4, 2))),
        "bspline": (s.BLUE, (0, (1, 1.5))),
    }
    return {
        name: (*look, points[name][0].value) for name, look in styles.items() if name in points
    }


def _labels(names: Sequence[str]) -> dict[str, str]:
    return {name: pick.series_text(name) for name in names}


def _legend(kinds: Iterable[Kind]) -> dict[str, Point]:
    """Looks of kinds of series, with their intervals."""
    found = dict.fromkeys(kinds)
    return {
        pick.KIND_TEXT[kind]: Point(value=0, color=color, marker=marker, lower=0, upper=0)
        for kind in found
        for color, marker in [_KIND_STYLE[kind]]
    }


def _row_names(regions: Sequence[str]) -> list[str]:
    """Names of rows of panels, one each region."""
    texts = [region_text(region) for region in regions]
    return [text[:1].upper() + text[1:] for text in texts]


def agreement_figure(
    rows: Sequence[MetricRow], *, statistic: str, contrast: str, names: Sequence[str] = ()
) -> Figure:
    """Plot the agreement of halves, a column for each scale and a row for each region.

    Every series is shown in the order of `names`; only scales that occur have a column.

    `statistic` is ev (r beyond the limit stands beside it) or r.
    """
    columns = (
        _EXPLAINED
        if statistic == "ev"
        else {(statistic, band): text for band, text in BANDS.items()}
    )
    own = [
        row
        for row in of_halves(rows)
        if row.contrast == contrast and (row.statistic, row.band) in columns
    ]
    there = {(row.statistic, row.band) for row in own}
    regions = main_regions(row.region for row in own)
    grid = []
    for region in regions:
        panels = []
        for key in (key for key in columns if key in there):
            points = _points(
                row for row in own if (row.statistic, row.band, row.region) == (*key, region)
            )
            strong = key == (statistic, "beyond")
            panels.append(
                ForestPanel(
                    title=columns[key],
                    points=points,
                    lines=_reference_lines(points),
                    strong=strong,
                )
            )
        grid.append(panels)
    label = "value with its 95 % interval" if any(math.isfinite(row.lower) for row in own) else ""
    series = pick.series_of(own, names)
    return forest_figure(
        grid,
        _labels(series),
        legend=_legend(map(pick.kind_of, series)),
        row_names=_row_names(regions),
        xlabel=label,
    )


def contrasts_figure(
    rows: Sequence[MetricRow],
    *,
    statistic: str,
    contrasts: Sequence[str],
    names: Sequence[str] = (),
) -> Figure:
    """The highest band for several contrasts: a column each contrast, a row each region."""
    own = [row for row in of_halves(rows) if (row.statistic, row.band) == (statistic, "beyond")]
    own = [row for row in own if row.contrast in contrasts]
    regions = main_regions(row.region for row in own)
    found = [
        {
            c: _points(row for row in own if (row.contrast, row.region) == (c, region))
            for c in contrasts
        }
        for region in regions
    ]
    grid = [
        [ForestPanel(title=c, points=p, lines=_reference_lines(p)) for c, p in row.items()]
        for row in found
    ]
    series = pick.series_of(own, names)
    return forest_figure(
        grid,
        _labels(series),
        legend=_legend(map(pick.kind_of, series)),
        row_names=_row_names(regions),
        xlabel=f"{_words(statistic)} beyond the acquired Nyquist limit",
        one_scale=True,
    )


def _words(statistic: str) -> str:
    return registered(statistic).label or statistic


def placebo_figure(rows: Sequence[MetricRow], *, contrast: str) -> Figure:
    """Plot what each method explains beyond its placebos, a column for each band.

    Markers are hollow where the interval contains 0.
    """
    own = [row for row in rows if row.contrast == contrast and row.band in BANDS]
    regions, there = main_regions(row.region for row in own), {row.band for row in own}
    pairs = sorted(dict.fromkeys((row.series, row.minus) for row in own), key=lambda pair: pair[0])
    found = {
        (row.band, row.region, f"{row.series}|{row.minus}"): [
            _point(row, pick.kind_of(row.minus), hollow=not row.excludes_zero)
        ]
        for row in own
    }
    labels = {f"{one}|{other}": f"{one} − {other}" for one, other in pairs}
    grid = [
        [
            ForestPanel(
                title=title,
                strong=band == "beyond",
                points={
                    key: found[band, region, key] for key in labels if (band, region, key) in found
                },
            )
            for band, title in BANDS.items()
            if band in there
        ]
        for region in regions
    ]
    legend = _legend(pick.kind_of(other) for _, other in pairs)
    legend["interval holds 0"] = Point(value=0, color=s.SOFT, marker="o", hollow=True)
    label = f"method - control: difference of {_words('ev')}, 95 % interval"
    return forest_figure(grid, labels, legend=legend, row_names=_row_names(regions), xlabel=label)


def truth_figure(
    rows: Sequence[MetricRow], *, contrast: str, reference: str, names: Sequence[str] = ()
) -> Figure | None:
    """Agreement of whole-run maps with a reference, a line each series and a point each smoothing.

    Points are not joined: what lies between two widths was not measured. Those of smoothed maps
    are hollow. None where no statistic of it is defined.
    """
    own = [
        row for row in of_whole_run(rows) if (row.contrast, row.reference) == (contrast, reference)
    ]
    region = next(iter(main_regions(row.region for row in own)), "")
    own = [
        row
        for row in own
        if row.region == region and math.isfinite(row.value) and row.series != "measured"
    ]
    shown = [key for key in _WHOLE_RUN if any((row.statistic, row.band) == key for row in own)]
    series = pick.series_of(own, names)
    if not shown or not series:
        return None
    markers = dict(zip(sorted({row.fwhm_mm for row in own}), "osD^vP", strict=False))
    panels = []
    for key in shown:
        points: dict[str, list[Point]] = {}
        for row in (row for row in own if (row.statistic, row.band) == key):
            color, marker = _KIND_STYLE[pick.kind_of(row.series)][0], markers.get(row.fwhm_mm, "P")
            point = Point(value=row.value, color=color, marker=marker, hollow=row.fwhm_mm > 0)
            points.setdefault(row.series, []).append(point)
        panels.append(ForestPanel(title=_WHOLE_RUN[key], points=points))
    legend = {
        f"smoothed by {width:g} mm" if width else "not smoothed": Point(
            value=0, color=s.INK, marker=marker, hollow=width > 0
        )
        for width, marker in markers.items()
    }
    return forest_figure([panels], _labels(series), legend=legend, from_zero=False)
