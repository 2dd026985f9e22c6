"""Figure of one slice through all series of a run."""

from collections.abc import Sequence

from bids_sr.engine.artifacts import Image, Mask
from bids_sr.io.series import ACQUIRED
from bids_sr.report.figure_step import FigureContent, figure
from bids_sr.report.figure_steps import run_maps as run_maps_figures
from bids_sr.report.sections import FigureSpec


@figure(
    FigureSpec(
        "srslice",
        "superres",
        subtitle="One slice through all series",
        tab="One slice",
        caption=(
            "Top: one volume after motion correction, with the same gray scale for all series."
            " Below: enlarged region in the yellow frame and its difference from B-spline"
            " interpolation. If the region of interest is not the whole brain, it is outlined in"
            " light blue. A sharper image is not evidence of finer functional detail. For"
            " example, inject has as much static detail, but its signal change is only"
            " interpolated."
        ),
        missing="slice through all series",
        tables=("image",),
    ),
)
def draw_slice(
    middle: dict[str, Image],
    roi_hr: Mask,
    bold_mask_hr: Mask,
    *,
    series_names: Sequence[str],
) -> FigureContent:
    """Draw a slice of the middle volume in all series, and differences from B-spline."""
    from bids_sr.report.figures.maps import series_figure

    volumes = {
        name: middle[name] for name in run_maps_figures.list_names(series_names) if name in middle
    }
    reference = (
        "bspline" if "bspline" in volumes else next(name for name in volumes if name != ACQUIRED)
    )
    return series_figure(volumes, roi_hr, mask=bold_mask_hr, reference=reference)
