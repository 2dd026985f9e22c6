"""Large effects of a contrast in words, and as plain values for JSON."""

import math
from collections.abc import Mapping, Sequence

from bids_sr.evaluation.contrast_text import quote_contrast
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.evaluation.large_effects import DARK_RATIO, LARGE_PERCENT, OTHERS, LargeEffects
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.tested_detail import HALF_RESOLUTION
from bids_sr.evaluation.words import capitalize
from bids_sr.metrics.number_text import interval_ends, number
from bids_sr.metrics.rows import MISSING, MetricRow
from bids_sr.series import MEASURED

_BASES: Mapping[str, str] = {
    HALF_RESOLUTION: "in the test",
    MEASURED: "relative to the high-resolution reference",
}
"""References of the explained variance without large effects, in words."""


def describe_large_effects(contrast: str, effects: LargeEffects, rows: Sequence[MetricRow]) -> str:
    """Return a text on the large effects of a contrast, with the explained variance without them.

    `rows` are of the series and the contrast.
    """
    values = {
        "contrast": capitalize(quote_contrast(contrast)),
        "median": number(effects.median, ".1f"),
        "p95": number(effects.p95, ".1f"),
        "n": f"{effects.n:,}",
        "n_active": f"{effects.n_active:,}",
        "limit": f"{LARGE_PERCENT:g}",
    }
    if not effects.n:
        return Statement.NO_LARGE_EFFECTS.format(**values)
    veins = ""
    if effects.n_dark:
        veins = Statement.PROBABLY_VEINS.format(
            n_dark=f"{effects.n_dark:,}",
            dark=number(effects.dark_share, ".0%"),
            ratio=number(DARK_RATIO, ".0%"),
            other_dark=number(effects.other_dark_share, ".0%"),
        )
    without = ""
    all_rows, other_rows = (_select_rows(rows, region) for region in (ACQUIRED_ACTIVE, OTHERS))
    for reference, row in other_rows.items():
        if reference in all_rows:
            without += Statement.WITHOUT_LARGE.format(
                basis=capitalize(_BASES[reference]),
                without=_explained_text(row),
                all=_explained_text(all_rows[reference]),
            )
    return Statement.LARGE_EFFECTS.format(
        **values,
        share=number(effects.detail_share, ".0%"),
        tsnr=number(effects.tsnr, ".0f"),
        other_tsnr=number(effects.other_tsnr, ".0f"),
        veins=veins,
        without=without,
    )


def plain_large_effects(effects: LargeEffects, rows: Sequence[MetricRow]) -> dict[str, object]:
    """Return the large effects of a contrast as plain values for JSON; None if undefined.

    `rows` are of the series and the contrast. ``without_large`` is the explained variance in the
    other active voxels by reference; without large effects, it is empty.
    """
    shares = {
        "effect_median": effects.median,
        "effect_p95": effects.p95,
        "detail_share": effects.detail_share,
        "tsnr_median": effects.tsnr,
        "other_tsnr_median": effects.other_tsnr,
        "dark_share": effects.dark_share,
        "other_dark_share": effects.other_dark_share,
    }
    return {
        "above_percent": LARGE_PERCENT,
        "voxels": effects.n,
        "active_voxels": effects.n_active,
        "dark_voxels": effects.n_dark,
        **_round_values(shares),
        "without_large": {
            reference: _round_values(
                {"explained_variance": row.value, "lower": row.lower, "upper": row.upper}
            )
            for reference, row in _select_rows(rows, OTHERS).items()
        },
    }


def _select_rows(rows: Sequence[MetricRow], region: str) -> dict[str, MetricRow]:
    """Return the explained variances of the detail in a region, by reference.

    `rows` are of one series and contrast; only unsmoothed effects are selected.
    """
    rows_by_reference = {
        row.reference: row
        for row in rows
        if (row.statistic, row.band, row.minus, row.region) == ("ev", "beyond", MISSING, region)
        and not row.fwhm_mm
    }
    return {name: rows_by_reference[name] for name in _BASES if name in rows_by_reference}


def _explained_text(row: MetricRow) -> str:
    """Return an explained variance with its interval, such as ``53 % (40 to 66)``."""
    ends = " to ".join(interval_ends(row.lower, row.upper, ".0%")) or "no interval"
    return f"{number(row.value, '.0%')} ({ends})"


def _round_values(values: Mapping[str, float]) -> dict[str, float | None]:
    """Round values to four decimals; None for NaN."""
    return {name: None if math.isnan(value) else round(value, 4) for name, value in values.items()}
