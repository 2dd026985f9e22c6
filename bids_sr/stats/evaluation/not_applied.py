"""Methods that fell back to zero filling: their rows are not compared with others."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bids_sr.metrics.long_tables import MetricRow
from bids_sr.series import is_variant_of

APPLIED = "verdict_applied"
_COMPARING = ("gain_", "pair_gain_")


def was_applied(card: Mapping[str, Any]) -> bool:
    """Whether a model's card says that what was found is used, and not zero filling in its place."""
    held_out = card.get("held_out")
    model = held_out.get("model", "") if isinstance(held_out, Mapping) else ""
    return card.get("applied") is not False and not str(model).lower().startswith("zero filling")


def stands_for(series: str, not_applied: Sequence[str]) -> bool:
    """Whether a series is that of a method that was not applied, or its placebo, or its member of another seed."""
    return series in not_applied or is_variant_of(series, not_applied)


def compared_rows(rows: Iterable[MetricRow]) -> list[MetricRow]:
    """Rows without the comparisons of methods that the rows tell were not applied, nor those with them."""
    rows = list(rows)
    idle = [row.series for row in rows if row.measure == APPLIED and row.value == 0]
    return [
        row
        for row in rows
        if not (row.measure.startswith(_COMPARING) and any(stands_for(s, idle) for s in (row.series, row.against)))
    ]
