"""Methods that were not applied: their series is zero filling under another name, and says nothing of the method."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bids_sr.metrics.long_tables import MetricRow
from bids_sr.series import is_variant_of

APPLIED = "verdict_applied"
_COMPARING = ("gain_", "pair_gain_")


def was_applied(card: Mapping[str, Any]) -> bool:
    """Whether a model's card says that what was found is used, and not zero filling in its place.

    Parameters
    ----------
    card : of the model; ``"applied": false`` or ``held_out.model`` that begins with "zero filling" says that it is not
    """
    held_out = card.get("held_out")
    model = held_out.get("model", "") if isinstance(held_out, Mapping) else ""
    return card.get("applied") is not False and not str(model).lower().startswith("zero filling")


def stands_for(series: str, not_applied: Sequence[str]) -> bool:
    """Whether a series is that of a method that was not applied, or its placebo, or its member of another seed."""
    return series in not_applied or is_variant_of(series, not_applied)


def compared_rows(rows: Iterable[MetricRow], not_applied: Sequence[str] = ()) -> list[MetricRow]:
    """Rows without the comparisons of methods that were not applied, nor those with them; their own figures stay.

    Parameters
    ----------
    not_applied : names of methods, beside those that the rows tell (`verdict_applied` of 0)
    """
    given = list(rows)
    idle = [*not_applied, *(row.series for row in given if row.measure == APPLIED and row.value == 0)]
    return [
        row
        for row in given
        if not (row.measure.startswith(_COMPARING) and any(stands_for(s, idle) for s in (row.series, row.against)))
    ]
