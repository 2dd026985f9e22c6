"""Figure of the active regions of two conditions and their overlap."""

from collections.abc import Iterator, Sequence

from bids_sr.engine.artifacts import Map
from bids_sr.engine.step_memory import MAPS
from bids_sr.report.figure_step import FigureDrawing, figure
from bids_sr.report.figure_steps import run_maps as run_maps_figures
from bids_sr.report.figure_steps.run_maps import SceneImages
from bids_sr.report.sections import FigureSpec

_REGION_KIND = "Quarter"


@figure(
    FigureSpec(
        "overlap",
        "activation",
        place=1,
        subtitle="Regions of two conditions",
        heading="{contrast}, {smoothing}",
        tab="Two conditions",
        caption=(
            "Voxels in the region of interest (light blue outline) whose correlation with a"
            " condition is at least max − (max − min)/4. Each row is a series. The planes and the"
            " enlarged region were selected from the first row. Dice coefficients, 2 |A ∩ B| /"
            " (|A| + |B|), include all planes and are the same as in the table. Because the"
            " threshold depends on the maximum of each map, and a finer grid changes the regions"
            " even without new detail (compare B-spline), less overlap is not evidence of a more"
            " accurate map."
        ),
        tables=("activation",),
    ),
    memory=MAPS,
)
def draw_overlap(
    maps: list[Map],
    images: SceneImages,
    *,
    series_names: Sequence[str],
    overlap_pair: Sequence[str],
) -> Iterator[FigureDrawing]:
    """Draw the active regions of two conditions at each smoothing width.

    The figures contain the acquired, B-spline and measured series, and the methods. A width is
    skipped if the first of these series has no active region.

    `series_names` are in display order, and `overlap_pair` are the names of the two contrasts.
    """
    from bids_sr.report.figures.canvas import FigureInputError
    from bids_sr.report.figures.overlap import overlap_figure

    first, second = overlap_pair
    regions = run_maps_figures.sort_maps(maps).regions
    scene = images.scene()
    for (contrast, kind, fwhm_mm), first_regions in regions.items():
        if (contrast, kind) != (first, _REGION_KIND):
            continue
        second_regions = regions.get((second, _REGION_KIND, fwhm_mm), {})
        names_with_both = [name for name in first_regions if name in second_regions]
        region_pairs = {
            name: (first_regions[name].volume, second_regions[name].volume)
            for name in run_maps_figures.displayed_series(names_with_both, series_names)
        }
        try:
            drawing = overlap_figure(region_pairs, scene, (first, second))
        except FigureInputError:
            continue
        yield FigureDrawing(
            "overlap",
            drawing,
            contrast=f"{first}+{second}",
            fwhm_mm=fwhm_mm,
            input_fwhm_mm=run_maps_figures.find_input_smoothing(first_regions),
        )
