"""Figure of the seed correlation maps of a run without events, thresholded and unthresholded."""

from collections.abc import Iterator, Sequence

from bids_sr.engine.artifacts import Map
from bids_sr.engine.step_memory import MAPS
from bids_sr.glm.connectivity_seeds import count_mapped
from bids_sr.glm.contrasts import Contrasts
from bids_sr.io.run_time import RunTime
from bids_sr.report.figure_step import FigureDrawing, figure
from bids_sr.report.figure_steps import run_maps as run_maps_figures
from bids_sr.report.figure_steps.run_maps import SceneImages
from bids_sr.report.sections import FigureSpec


def networks_cost(contrasts: Contrasts) -> RunTime:
    """Return the processor time of `draw_networks`, which depends on the number of seeds."""
    return RunTime(always=0.5, high=0.1 * count_mapped(contrasts))


@figure(
    FigureSpec(
        "networks",
        "activation",
        place=1,
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
    """Draw the correlation maps of each seed at each smoothing width.

    The figures contain the acquired, B-spline and measured series, and the methods.
    """
    from bids_sr.report.figures.seed_correlation import network_figure

    scene = images.scene()
    statmaps = run_maps_figures.sort_maps(maps).stats
    for (contrast, stat, fwhm_mm), maps_by_series in statmaps.items():
        if stat == "cc":
            volumes = run_maps_figures.load_displayed_maps(maps_by_series, series_names)
            drawing = network_figure(volumes, scene)
            yield FigureDrawing(
                "networks",
                drawing,
                contrast=contrast,
                fwhm_mm=fwhm_mm,
                input_fwhm_mm=run_maps_figures.find_input_smoothing(maps_by_series),
            )
