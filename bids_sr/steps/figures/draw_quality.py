"""Figures of the quality control, and of where a run fluctuates."""

from collections.abc import Iterable, Iterator, Mapping

from bids_sr.pipeline.artifacts import Derivative, Facts, Image, Map, Mask, Rows, Volume
from bids_sr.pipeline.figure import Content, Drawn, figure
from bids_sr.reports.sections import Shown
from bids_sr.steps.figures import run_maps
from bids_sr.steps.figures.display_grids import grid_of, onto, percent_of

MAX_CONTRASTS = 4
QUALITY_MAPS = {"sd": "uncertainty", "unrepeated": "unrepeated"}
"""Statistic of a map of the quality control to the desc of its figure."""
OfSeries = Mapping[str, Derivative]


@figure(
    Shown("guards", "guards", html=True, tab="Checks", missing="quality checks", tables=("evaluation",)),
    Shown(
        "uncertainty", "guards",
        heading="Uncertainty: {contrast}",
        tab="Uncertainty",
        caption="Disagreement about the effect between ensemble members trained from different seeds. It shows the "
        "influence of chance in training; it cannot show an error that all members share.",
        request="uncertainty (--n-ensemble 2 or more)",
    ),
    Shown(
        "calibration", "guards",
        subtitle="Calibration of the uncertainty",
        tab="Calibration",
        caption="Error as a function of uncertainty, voxels binned by deciles of uncertainty. Above the line, the "
        "uncertainty is underestimated. The noise of a measured reference counts as error.",
        request="calibration of the uncertainty (--n-ensemble with --truth or --retrospective)",
    ),
    Shown(
        "unrepeated", "guards",
        heading="Unsupported detail: {contrast}",
        tab="Unsupported detail",
        caption="Local fraction of high-frequency signal that neither anatomy nor split-half data support; above 0.5 "
        "it is colored and counted. Errors common to both halves, or along edges of the pair, go undetected.",
        missing="map of unsupported detail",
        unless="unrepeated",
    ),
    Shown("unrepeated", "guards", html=True, tab="Unsupported detail"),
)  # fmt: skip
def draw_quality(
    evaluation: Rows, flags: Facts, boldref: Image, bold_mask: Mask, bold_mask_hr: Mask, guide_hr: Image | None = None,
    guard_maps: list[Map] | None = None,
) -> Iterator[Drawn]:  # fmt: skip
    """Flags and metrics of the quality control, uncertainty and unrepeated detail as maps.

    Parameters
    ----------
    guard_maps : uncertainty and unrepeated detail
    boldref, bold_mask : reference of the run and brain on its grid, for effects in percent
    """
    from bids_sr.reports.figures.quality_control_figures import calibration_figure
    from bids_sr.reports.text.evaluation_text import guards_html

    if text := guards_html(evaluation, run_maps.raised(flags)):
        yield Drawn("guards", text)
    percent = percent_of(boldref, bold_mask)
    yield from _overlays(_quality_maps(guard_maps or ()), bold_mask_hr, guide_hr or boldref, percent)
    tables = _calibration(guard_maps or ())
    if any(tables.values()):
        yield Drawn("calibration", calibration_figure(tables))


def _overlays(
    found: Mapping[tuple[str, str], OfSeries], brain: Volume, background: Volume, percent: float | None
) -> Iterator[Drawn]:
    """One figure a kind of map and contrast, a row each series that has anything to show; a sentence on the others."""
    from markupsafe import escape

    from bids_sr.reports.figures.quality_control_figures import OVERLAYS, overlay_figure
    from bids_sr.stats.controls.unrepeated_detail import THRESHOLD

    grid = grid_of(brain)
    below = onto(background, *grid)
    empty: dict[str, list[str]] = {}  # series to contrasts
    for (stat, contrast), of_series in found.items():
        maps = {name: onto(each.volume, *grid) for name, each in of_series.items()}
        if stat == "unrepeated":
            bare = [name for name, data in maps.items() if not (data[brain.data > 0] > THRESHOLD).any()]
            for name in bare:
                empty.setdefault(name, []).append(contrast)
            maps = {name: data for name, data in maps.items() if name not in bare}
        if maps:
            drawn = overlay_figure(maps, brain.affine, below, brain.data, percent=percent, **OVERLAYS[stat])
            yield Drawn(QUALITY_MAPS[stat], drawn, contrast=contrast)
    if empty:
        where = ", ".join(f"{name} ({', '.join(contrasts)})" for name, contrasts in empty.items())
        text = f"<p>Unsupported detail: no voxel above 0.5 in {escape(where)}.</p>"
        yield Drawn(QUALITY_MAPS["unrepeated"], text)


def _calibration(maps: Iterable[Derivative]) -> dict[str, list[tuple[float, float]]]:
    """Uncertainty and true error by tenths of the uncertainty, of each series and contrast; the first of many."""
    tables: dict[str, list[tuple[float, float]]] = {}
    for each in maps:
        found = each.sidecar.get("Reliability")
        for against, rows in found.items() if isinstance(found, Mapping) else ():
            if isinstance(rows, list):
                name = f"{each.entities.get('desc', '')}, {each.entities.get('contrast', '')} (against {against})"
                pairs = [(row["sd"], row["error"]) for row in rows]
                tables[name] = [(x, y) for x, y in pairs if isinstance(x, float) and isinstance(y, float)]
    return dict(list(tables.items())[: 2 * MAX_CONTRASTS])


def _quality_maps(maps: Iterable[Derivative]) -> dict[tuple[str, str], OfSeries]:
    """(statistic, contrast) to series to map; of many contrasts, that of all and the first ones."""
    found: dict[tuple[str, str], dict[str, Derivative]] = {}
    for each in maps:
        own = each.entities
        if own.get("stat") in QUALITY_MAPS and not own.get("space"):
            found.setdefault((own["stat"], own.get("contrast", "")), {})[own.get("desc", "")] = each
    shown = sorted(dict.fromkeys(contrast for _, contrast in found), key=lambda name: name != "all")[:MAX_CONTRASTS]
    return {key: of_series for key, of_series in found.items() if key[1] in shown}


@figure(
    Shown(
        "variance", "superres", place=1,
        subtitle="Where the run fluctuates",
        tab="Where the run fluctuates",
        caption="The prior of the variance-weighted method: the temporal standard deviation on the high-resolution "
        "grid; below the color bar, from what it was estimated. Detail beyond the acquired resolution is "
        "reconstructed where this map has structure. The map should follow gray matter, vessels and CSF; it is black "
        "where the method was not applied.",
        missing="variance map of the run (no variance-weighted method was used, or the step did not finish)",
    ),
)  # fmt: skip
def draw_variance(
    weight: Image, tested: Facts, bold_mask_hr: Mask, boldref: Image, guide_hr: Image | None = None
) -> Content:
    """Where a run fluctuates on the high-resolution grid, below an image of the anatomy (on any grid)."""
    from bids_sr.reports.figures.quality_control_figures import variance_figure

    grid = grid_of(weight)
    anatomy = onto(guide_hr or boldref, *grid)
    calibrated = any(isinstance(each, Mapping) and each.get("calibrated") for each in tested.values())
    return variance_figure(
        weight.data, weight.affine, onto(bold_mask_hr, *grid) > 0.5, anatomy,
        source=f"the acquired series{' and the calibration' * calibrated}",
    )  # fmt: skip
