"""Figures of a run's linear model and maps: design, activation, surfaces and regions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from bids_sr.engine.artifacts import File, Map, Series, Table
from bids_sr.evaluation.run_evidence import StoredEvidence
from bids_sr.glm.steps.linear_models import LinearModel
from bids_sr.glm.steps.map_comparison import read_input_smoothing
from bids_sr.io.json_values import as_number
from bids_sr.report.figure_step import FigureDrawing, figure
from bids_sr.report.sections import FigureSpec, HtmlSpec

_PROTOCOL_CAPTION = (
    "Task design. Left: events and predicted responses (in resting-state runs, time series of the"
    " seeds), which are correlated with the time series of each voxel. Right: weights of the"
    " conditions in each contrast."
)
"""Caption of a run without linear model."""


@figure(
    FigureSpec(
        "design",
        "activation",
        place=2,
        subtitle="Events and design matrix",
        tab="Events and design",
        caption=(
            "Linear model of the run, which is the same for all series. Left: events and"
            " predicted responses (in resting-state runs, time series of the seeds). Middle:"
            " design matrix, with each regressor divided by its largest magnitude. Right: weights"
            " of the conditions in each contrast."
        ),
    ),
)
def draw_design(
    preproc: Series,
    model: LinearModel,
    *,
    kinds: Sequence[Literal["cc", "glm"]] = ("cc", "glm"),
) -> Iterator[FigureDrawing]:
    """Draw events, design matrix and contrasts of the model that all series share.

    `preproc` is the acquired series, for the times of the volumes. Without a linear model in
    `kinds`, the design matrix is not shown.
    """
    from bids_sr.report.figures.design import design_figure

    with_matrix = "glm" in kinds
    drawing = design_figure(
        model.build_design(preproc),
        model.inputs.regressors.spans(),
        model.mapped_contrasts,
        with_matrix=with_matrix,
    )
    yield FigureDrawing("design", drawing, caption="" if with_matrix else _PROTOCOL_CAPTION)


@figure(
    FigureSpec(
        "surface",
        "activation",
        heading="{contrast}, {smoothing}",
        tab="Surfaces",
        caption=(
            "Mean of the map across the cortical ribbon, shown on the white surface. Vertices"
            " below the threshold or outside the field of view are gray."
        ),
    ),
)
def draw_surfaces(
    surface_maps: list[Map],
    surfaces: Sequence[File],
    *,
    series_name: str,
    space_entities: Mapping[str, str],
) -> Iterator[FigureDrawing]:
    """Draw the t maps on both hemispheres; CC maps if there are no t maps.

    `surfaces` are white and pial surfaces, each left and right, in the frame of the T1w image.
    """
    from nilearn.surface import load_surf_data, load_surf_mesh

    from bids_sr.report.evaluation_rows import series_text
    from bids_sr.report.figures.maps import CC_DISPLAY, T_DISPLAY, surface_figure

    white_surfaces = [tuple(load_surf_mesh(white)) for white in surfaces[:2]]
    stats = {surface_map.entities["stat"] for surface_map in surface_maps}
    display = T_DISPLAY if "t" in stats else CC_DISPLAY
    space = space_entities["space"]
    title = f"{series_text(series_name)} on {space}"
    n_left = len(surface_maps) // 2  # maps of the left hemisphere come first
    for left_map, right_map in zip(surface_maps[:n_left], surface_maps[n_left:], strict=True):
        if left_map.entities["stat"] != display.statistic:
            continue
        vertex_values = [
            load_surf_data(str(side_map.content)) for side_map in (left_map, right_map)
        ]
        yield FigureDrawing(
            "surface",
            surface_figure(vertex_values, white_surfaces, display, title),
            contrast=left_map.entities["contrast"],
            fwhm_mm=as_number(left_map.sidecar["SmoothingFWHM"]),
            input_fwhm_mm=read_input_smoothing(left_map),
            label=space,
        )


@figure(
    HtmlSpec(
        "regions",
        "regions",
        tables=("regions",),
        caption=(
            "Effects in the mean time series of regions, in the series to use. The 95 % interval"
            " covers noise and, in series with a prior, the reconstruction error; there is none if"
            " the noise has fewer than 3 degrees of freedom (too few data). Clusters are from the"
            " unsmoothed acquired map (|t| above 4; above 10 cm³, split at a higher |t|); their"
            " numbers are unique in the run. Click on a peak to move the crosshair of the viewer."
            " Labels of which less than half was measured are not listed; q is the false discovery"
            " rate over the others. “vein?” marks regions with acquired effects above 5 % in at"
            " least half of their voxels. The file below has all regions."
        ),
    ),
)
def show_regions(
    regions: Table, evidence: StoredEvidence, *, series_names: Sequence[str]
) -> Iterator[FigureDrawing]:
    """Show the mean effects of regions; `series_names` are in display order."""
    from bids_sr.report.region_table import regions_html

    results = {name: evidence.result.select(name) for name in regions["contrast"].unique()}
    used = {
        name: "bspline" if result.shown is None else result.method
        for name, result in results.items()
    }
    if html := regions_html(regions, series_names, used, evidence.shown_contrast):
        yield FigureDrawing("regions", html)
