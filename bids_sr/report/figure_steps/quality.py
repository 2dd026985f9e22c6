"""Figures of the quality control of a run."""

from collections.abc import Iterator

from bids_sr.engine.artifacts import Rows
from bids_sr.evaluation.run_evidence import StoredEvidence
from bids_sr.report.figure_step import FigureDrawing, figure
from bids_sr.report.sections import HtmlSpec


@figure(
    HtmlSpec("guards", "guards", tab="Checks", missing="quality checks", tables=("evaluation",)),
)
def draw_quality(evaluation: Rows, evidence: StoredEvidence) -> Iterator[FigureDrawing]:
    """Draw flags and metrics of the quality control."""
    from bids_sr.report.verdict_html import guards_html

    if text := guards_html(evidence, evaluation):
        yield FigureDrawing("guards", text)
