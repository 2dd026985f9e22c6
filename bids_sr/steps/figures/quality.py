"""Figures of the quality control of a run."""

from collections.abc import Iterator

from bids_sr.pipeline.artifacts import Facts, Rows
from bids_sr.pipeline.figure import FigureDrawing, figure
from bids_sr.report.sections import FigureSpec
from bids_sr.steps.figures import run_maps as run_maps_figures


@figure(
    FigureSpec(
        "guards",
        "guards",
        html=True,
        tab="Checks",
        missing="quality checks",
        tables=("evaluation",),
    ),
)
def draw_quality(evaluation: Rows, flags: Facts) -> Iterator[FigureDrawing]:
    """Draw flags and metrics of the quality control."""
    from bids_sr.report.verdict_html import guards_html

    if text := guards_html(evaluation, run_maps_figures.flag_entries(flags)):
        yield FigureDrawing("guards", text)
