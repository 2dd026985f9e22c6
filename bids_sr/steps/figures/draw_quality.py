"""Figures of the quality control, and of where a run fluctuates."""

from collections.abc import Iterable, Iterator, Mapping

from bids_sr.pipeline.artifacts import Derivative, Facts, Image, Map, Mask, Rows
from bids_sr.pipeline.step import Content, Drawn, figure
from bids_sr.report.sections import Shown
from bids_sr.steps.figures import run_maps
from bids_sr.steps.figures.display_grids import binary, grid_of, onto, percent_of

_MAX_CONTRASTS = 4


@figure(
    Shown(
        "guards",
        "guards",
        html=True,
        tab="Checks",
        missing="quality checks",
        tables=("evaluation",),
    ),
    Shown(
        "uncertainty",
        "guards",
        heading="Uncertainty: {contrast}",
        tab="Uncertainty",
        caption=(
            "Disagreement about the effect between ensemble members trained from different seeds."
            " It shows the influence of chance in training; it cannot show an error that all"
            " members share."
        ),
        request="uncertainty (--n-ensemble 2 or more)",
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
) -> Iterator[Drawn]:
    """Draw flags and metrics of the quality control, and uncertainty as maps, a row each series.

    `boldref, bold_mask`: reference of the run and brain on its grid, for effects in percent.
    `uncertainty_maps`: standard deviation between ensemble members, by contrast and method; None
    without ensembles. Checks in HTML, then maps of up to four contrasts.
    """
    from bids_sr.figures.canvas import units_text
    from bids_sr.figures.map_figures import overlay_figure
    from bids_sr.report.metric_tables import guards_html

    if text := guards_html(evaluation, run_maps.raised(flags)):
        yield Drawn("guards", text)
    label = (
        "standard deviation of the effect between members"
        f" ({units_text(percent_of(boldref, bold_mask))})"
    )
    grid = grid_of(bold_mask_hr)
    for contrast, of_series in _by_contrast(uncertainty_maps or ()).items():
        maps = {name: onto(each.volume, *grid) for name, each in of_series.items()}
        background = onto(guide_hr or boldref, *grid)
        drawn = overlay_figure(maps, bold_mask_hr, background, label=label)
        yield Drawn("uncertainty", drawn, contrast=contrast)


def _by_contrast(maps: Iterable[Derivative]) -> dict[str, dict[str, Derivative]]:
    """Contrast to series to map; of many contrasts, that of all and the first ones."""
    found: dict[str, dict[str, Derivative]] = {}
    for each in maps:
        found.setdefault(each.entities["contrast"], {})[each.entities["desc"]] = each
    shown = sorted(found, key=lambda name: name != "all")[:_MAX_CONTRASTS]
    return {name: of_series for name, of_series in found.items() if name in shown}


@figure(
    Shown(
        "variance",
        "superres",
        place=1,
        subtitle="Where the run fluctuates",
        tab="Where the run fluctuates",
        caption=(
            "The prior of the variance-weighted method: the temporal standard deviation on the"
            " high-resolution grid; its source is named below the color bar. Detail beyond"
            " the acquired resolution is reconstructed where this map has structure. The map"
            " should follow gray matter, vessels and CSF; it is black where the method was not"
            " applied."
        ),
        missing=(
            "variance map of the run (no variance-weighted method was used, or the step did not"
            " finish)"
        ),
    ),
)
def draw_variance(
    weight: Image, tested: Facts, bold_mask_hr: Mask, boldref: Image, guide_hr: Image | None = None
) -> Content:
    """Draw where a run fluctuates on the high-resolution grid, below an anatomical image.

    The anatomical image may be on any grid.

    `weight`: temporal standard deviation on the high-resolution grid (3D, signal units). `tested`:
    what each series explains one level of resolution down.
    """
    from bids_sr.figures.map_figures import variance_figure

    grid = grid_of(weight)
    anatomy = onto(guide_hr or boldref, *grid)
    calibrated = any(
        isinstance(each, Mapping) and each.get("calibrated") for each in tested.values()
    )
    source = f"the acquired series{' and the calibration' * calibrated}"
    return variance_figure(weight, binary(onto(bold_mask_hr, *grid)), anatomy, source=source)
