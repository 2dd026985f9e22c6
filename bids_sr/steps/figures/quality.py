"""Figures of the quality control of a run."""

from collections.abc import Iterable, Iterator

from bids_sr.pipeline.artifacts import Derivative, Facts, Image, Map, Mask, Rows
from bids_sr.pipeline.figure import FigureDrawing, figure
from bids_sr.report.sections import FigureSpec
from bids_sr.steps.figures import run_maps as run_maps_figures
from bids_sr.steps.figures.display_grids import compute_percent_factor, read_grid, resample_to
from bids_sr.steps.figures.evaluation import MAX_CONTRASTS


@figure(
    FigureSpec(
        "guards",
        "guards",
        html=True,
        tab="Checks",
        missing="quality checks",
        tables=("evaluation",),
    ),
    FigureSpec(
        "uncertainty",
        "guards",
        heading="Uncertainty: {contrast}",
        tab="Uncertainty",
        caption=(
            "Standard deviation of the effect between ensemble members that were trained with"
            " different random seeds. This map shows random variation due to training, but not"
            " errors that are common to all members."
        ),
        request="uncertainty maps",
        remark="--n-ensemble 2 or more",
    ),
)
def draw_quality(
    evaluation: Rows,
    flags: Facts,
    boldref: Image,
    bold_mask: Mask,
    bold_mask_hr: Mask,
    guide_hr: Image | None = None,
    uncertainty_maps: list[Map] | None = None,
) -> Iterator[FigureDrawing]:
    """Draw flags and metrics of the quality control, and uncertainty maps with one row per series.

    Parameters
    ----------
    evaluation : Rows
        Metrics of the run.
    flags : Facts
        Quality-control flags of the run.
    boldref, bold_mask : Image
        Boldref and brain on its grid, for effects in percent.
    bold_mask_hr : Mask
        Brain on the high-resolution grid.
    uncertainty_maps : list[Map] | None
        Standard deviation between ensemble members, by contrast and method; None if there are no
        ensembles.
    guide_hr : Image | None
        High-resolution T2*w image as background (3D); None for the boldref.
    """
    from bids_sr.figures.canvas import units_text
    from bids_sr.figures.maps import overlay_figure
    from bids_sr.report.verdict_html import guards_html

    if text := guards_html(evaluation, run_maps_figures.flag_entries(flags)):
        yield FigureDrawing("guards", text)
    label = (
        "standard deviation of the effect between members"
        f" ({units_text(compute_percent_factor(boldref, bold_mask))})"
    )
    grid = read_grid(bold_mask_hr)
    for contrast, maps_by_series in _group_by_contrast(uncertainty_maps or ()).items():
        maps = {
            name: resample_to(statmap.volume, *grid) for name, statmap in maps_by_series.items()
        }
        background = resample_to(guide_hr or boldref, *grid)
        drawing = overlay_figure(maps, bold_mask_hr, background, label=label)
        yield FigureDrawing("uncertainty", drawing, contrast=contrast)


def _group_by_contrast(maps: Iterable[Derivative]) -> dict[str, dict[str, Derivative]]:
    """Return maps by contrast and series, for at most `MAX_CONTRASTS` contrasts.

    The contrast of all conditions is selected before the other contrasts.
    """
    by_contrast: dict[str, dict[str, Derivative]] = {}
    for statmap in maps:
        series = statmap.entities["desc"]
        by_contrast.setdefault(statmap.entities["contrast"], {})[series] = statmap
    selected_contrasts = sorted(by_contrast, key=lambda name: name != "all")[:MAX_CONTRASTS]
    return {
        name: maps_by_series
        for name, maps_by_series in by_contrast.items()
        if name in selected_contrasts
    }
