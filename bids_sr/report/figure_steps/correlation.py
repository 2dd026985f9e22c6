"""Figure of cross-correlation maps of a run in axial and sagittal planes."""

from collections.abc import Iterator, Sequence

from bids_sr.engine.artifacts import Map
from bids_sr.engine.step_memory import MAPS
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.steps.region_growth import select_contrasts
from bids_sr.report.figure_step import FigureDrawing, figure
from bids_sr.report.figure_steps.run_maps import (
    SceneImages,
    draw_correlations,
)
from bids_sr.report.sections import FigureSpec


@figure(
    FigureSpec(
        "correlation",
        "activation",
        place=1,
        subtitle="Cross-correlation (CC) maps",
        heading="{contrast}, {smoothing}",
        tab="CC maps",
        caption=(
            "Correlation between the detrended, low-pass filtered time series of each voxel and"
            " the task, shown on the high-resolution T2*-weighted image (or on the boldref, if"
            " there is no T2* pair). Each row is a series. The axial and sagittal planes pass"
            " through the highest CC of the first row in the region of interest (light blue"
            " outline), and the region in the yellow frame is enlarged. All rows have the same"
            " color scale and threshold, and negative values are not shown. The peak is the"
            " highest CC in the region of interest. A sharper map is not necessarily more"
            " accurate, so compare each map with B-spline interpolation, which adds no detail."
        ),
        tables=("activation",),
    ),
    memory=MAPS,
)
def draw_correlation(
    maps: list[Map],
    images: SceneImages,
    *,
    series_names: Sequence[str],
    contrasts: Contrasts,
) -> Iterator[FigureDrawing]:
    """Draw the cross-correlation maps of each condition; see `draw_correlations`."""
    from bids_sr.report.figures.correlation import correlation_figure

    conditions = select_contrasts(contrasts)
    return draw_correlations(
        "correlation", correlation_figure, maps, images, series_names, conditions
    )
