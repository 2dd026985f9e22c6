"""Figure of the seed correlation maps of a run without events, thresholded and unthresholded."""

from collections.abc import Iterator, Sequence

from bids_sr.engine.artifacts import Map
from bids_sr.engine.step_memory import MAPS
from bids_sr.report.figure_step import FigureDrawing, figure
from bids_sr.report.figure_steps.run_maps import SceneImages, draw_correlations
from bids_sr.report.sections import FigureSpec


@figure(
    FigureSpec(
        "networks",
        "activation",
        place=1,
        title="Connectivity",
        subtitle="Seed correlation (r)",
        heading="Seed {contrast}, {smoothing}",
        tab="Seed correlation",
        caption=(
            "Correlation between the filtered time series of each voxel and the seed, shown on"
            " the high-resolution T2*-weighted image (or on the boldref, if there is no T2*"
            " pair). Each row is a series. The axial and sagittal planes pass through the highest"
            " correlation in the first row, and are shown without a threshold and with a"
            " threshold of r ≥ .5. The fraction of brain voxels with r ≥ .5 is printed on the"
            " left. Smoothing and interpolation increase correlations, so compare each map with"
            " B-spline interpolation, which adds no detail."
        ),
        tables=("activation", "evaluation"),
    ),
    memory=MAPS,
)
def draw_networks(
    maps: list[Map],
    images: SceneImages,
    *,
    series_names: Sequence[str],
) -> Iterator[FigureDrawing]:
    """Draw the correlation maps of each seed; see `draw_correlations`."""
    from bids_sr.report.figures.seed_correlation import network_figure

    return draw_correlations("networks", network_figure, maps, images, series_names)
