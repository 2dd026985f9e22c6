"""Sentences of a verdict: statements with their values."""

from collections.abc import Mapping
from typing import NamedTuple

from bids_sr.engine.metric_rows import MISSING, MetricRow
from bids_sr.evaluation.evidence import Decision
from bids_sr.evaluation.statements import Statement


class Sentence(NamedTuple):
    """Statement with its values, and the row or comparison that it describes.

    `decision` is None if the sentence is not on a difference. A sentence without `row` names its
    series in `series`.
    """

    state: Statement
    values: Mapping[str, str] = {}
    row: MetricRow | None = None
    decision: Decision | None = None
    series: str = MISSING

    @property
    def text(self) -> str:
        """Sentence in words."""
        return self.state.format_map(self.values)
