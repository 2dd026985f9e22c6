"""Figures of the quality control of a run."""

from collections.abc import Iterator

from bids_sr.pipeline.artifacts import Evidence, Image, Mask, Rows
from bids_sr.pipeline.figure import FigureDrawing, figure
from bids_sr.report.sections import FigureSpec


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
def draw_quality(
    evaluation: Rows,
    evidence: Evidence,
    boldref: Image,
    bold_mask: Mask,
    bold_mask_hr: Mask,
    guide_hr: Image | None = None,
) -> Iterator[FigureDrawing]:
    """Draw flags and metrics of the quality control.

    `boldref` and `bold_mask`, the brain on its grid, are used for effects in percent. `guide_hr`
    is a high-resolution T2*w image as background (3D); None for the boldref.
    """
    from bids_sr.report.verdict_html import guards_html

    if text := guards_html(evidence, evaluation):
        yield FigureDrawing("guards", text)
