"""Figure of cross-correlation maps of a run in axial and sagittal planes."""

from collections.abc import Iterator, Sequence

from bids_sr.engine.artifacts import Map
from bids_sr.engine.step_memory import MAPS
from bids_sr.glm.connectivity_seeds import count_mapped
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.steps.region_growth import select_contrasts
from bids_sr.io.run_time import RunTime
from bids_sr.report.figure_step import FigureDrawing, figure
from bids_sr.report.figure_steps import run_maps as run_maps_figures
from bids_sr.report.figure_steps.run_maps import SceneImages
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
    cost=lambda contrasts: RunTime(always=0.5, high=0.1 * count_mapped(contrasts)),
)
def draw_correlation(
    maps: list[Map],
    images: SceneImages,
    *,
    series_names: Sequence[str],
    contrasts: Contrasts,
) -> Iterator[FigureDrawing]:
    """Draw the cross-correlation maps of each condition at each smoothing width.

    The figures contain the acquired, B-spline and measured series, and the methods.
    """
    from bids_sr.report.figures.correlation import correlation_figure
    from bids_sr.report.figures.maps import CC_DISPLAY

    scene = images.scene()
    conditions = select_contrasts(contrasts)
    statmaps = run_maps_figures.sort_maps(maps).stats
    for (contrast, stat, fwhm_mm), maps_by_series in statmaps.items():
        if stat == CC_DISPLAY.statistic and contrast in conditions:
            volumes = run_maps_figures.load_displayed_maps(maps_by_series, series_names)
            drawing = correlation_figure(volumes, scene)
            yield FigureDrawing(
                "correlation",
                drawing,
                contrast=contrast,
                fwhm_mm=fwhm_mm,
                input_fwhm_mm=run_maps_figures.find_input_smoothing(maps_by_series),
            )
