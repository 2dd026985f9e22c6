"""Sentences and lines of a verdict: statements with their values."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from bids_sr.evaluation.evidence import Decision, VerdictStatus
from bids_sr.evaluation.statements import Statement
from bids_sr.frozen import frozen
from bids_sr.metrics.rows import MISSING, MetricRow


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


@frozen
class VerdictLine:
    """One line of a verdict; its status determines its symbol.

    The topic is the results for the contrasts, or the comparison of series.
    """

    sentences: tuple[Sentence, ...]
    status: VerdictStatus
    topic: Literal["contrasts", "series"] = "series"

    @property
    def text(self) -> str:
        """Text of all sentences."""
        return " ".join(sentence.text for sentence in self.sentences)
