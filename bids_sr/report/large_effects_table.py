"""Table of the large effects of a run's recovered contrasts."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from bids_sr.engine.metric_rows import MetricRow
from bids_sr.engine.number_text import number
from bids_sr.evaluation.contrast_results import ContrastResult
from bids_sr.evaluation.large_effects import DARK_RATIO, LARGE_PERCENT
from bids_sr.evaluation.large_effects_results import LargeEffectsResult, collect_large_effects
from bids_sr.evaluation.result_text import explained_text, quote_contrast
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.tested_detail import HALF_RESOLUTION
from bids_sr.io.series import MEASURED
from bids_sr.report.markup import ColumnHead, join, render, render_folded, table

_EXPLAINED: Mapping[str, str] = {
    HALF_RESOLUTION: "tested",
    MEASURED: "measured",
}
"""Heads of the explained variances, by reference."""


def render_large_effects(
    results: Mapping[str, ContrastResult], rows: Sequence[MetricRow], method: str
) -> Markup:
    """Render a folded table of the large effects; "" if no contrast has values.

    `results` of the method are by contrast, and `rows` are of the evaluation of the run. The table
    contains the contrasts whose detail is recovered.
    """
    large_effects = {
        contrast: collected
        for contrast, result in results.items()
        if result.state == "recovered"
        and (collected := collect_large_effects(rows, method, contrast, result.map_contrast))
    }
    if not large_effects:
        return Markup("")
    references = [
        reference
        for reference in _EXPLAINED
        if any(reference in collected.explained for collected in large_effects.values())
    ]
    limit = f"{LARGE_PERCENT:g} %"
    heads: list[ColumnHead] = [
        "contrast",
        ("super-resolved effect in active voxels", "median, 95th percentile (%)"),
        f"active voxels with an acquired effect above {limit}",
        "their share of the added detail",
        ("their median tSNR", "(others)"),
        ("of these dark: probably veins", "(dark others)"),
        *((f"{_EXPLAINED[reference]} without them", "/ with them") for reference in references),
    ]
    lines = table(
        "Effects in active voxels of contrasts whose detail may be interpreted",
        heads,
        [
            _make_line(contrast, collected, references)
            for contrast, collected in large_effects.items()
        ],
    )
    contrast, collected = next(iter(large_effects.items()))
    effects = collected.effects
    title = Statement.LARGE_EFFECTS_TITLE.format(
        contrast=quote_contrast(contrast),
        n=f"{effects.n:,}",
        n_active=f"{effects.n_active:,}",
        limit=limit,
        share=number(effects.detail_share, ".0%"),
    )
    definitions = Statement.LARGE_EFFECTS.format(limit=limit, ratio=number(DARK_RATIO, ".0%"))
    return render_folded(title, join([lines, render("note", "caption", definitions)]))


def _make_line(
    contrast: str, collected: LargeEffectsResult, references: Sequence[str]
) -> list[str]:
    """Return the cells of one contrast, see `render_large_effects`."""
    effects = collected.effects
    cells = [
        contrast,
        f"{number(effects.median, '.1f')}, {number(effects.p95, '.1f')}",
        f"{effects.n:,} of {effects.n_active:,}",
        number(effects.detail_share, ".0%"),
        f"{number(effects.tsnr, '.0f')} ({number(effects.other_tsnr, '.0f')})",
        f"{effects.n_dark:,}: {number(effects.dark_share, '.0%')}"
        f" ({number(effects.other_dark_share, '.0%')})",
    ]
    for reference in references:
        pair = collected.explained.get(reference)
        cells.append("n/a" if pair is None else " / ".join(map(explained_text, reversed(pair))))
    return cells
