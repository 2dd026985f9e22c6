"""Reportlets of the first screen of a run, and of the viewer of its maps, drawn from files."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np

from bids_sr.interfaces.reporting import figure_data as tools
from bids_sr.interfaces.reporting.map_reportlets import color_limit, scene_of, series_map
from bids_sr.interfaces.reporting.reportlet import NO_FILE, Drawn, FileName, reportlet

NO_MAPS: Mapping[str, Any] = MappingProxyType({})
EFFECT_SHARE = 0.2
"""Effects below this share of the color scale are not drawn: they have no threshold of their own."""


@reportlet
def OverviewReport(
    *,
    evaluation_tsv: FileName,
    verdict_json: FileName,
    flags_json: FileName,
    registration_json: FileName,
    confounds_tsv: FileName,
    one_level_down_json: FileName = NO_FILE,
    image_tsv: FileName = NO_FILE,
    maps: Sequence[Any],
    entities: Sequence[Any],
    background: FileName,
    mask_hr: FileName,
    roi_hr: FileName,
    boldref: FileName = NO_FILE,
    bold_mask: FileName = NO_FILE,
    run_name: str,
    truth_maps: Mapping[str, Any] = NO_MAPS,
    calibrated: bool = False,
    at_rest: bool = False,
) -> Iterator[Drawn]:
    """The first screen: one sentence, three numbers, one figure, checks, and what to do next.

    Parameters
    ----------
    image_tsv : image metrics, which tell the effective resolution of each series
    one_level_down_json : facts of the test of the run one level of resolution down
    maps, entities : statistical maps of all series, and their entities; lists of lists are joined
    background : image to draw over, on any grid
    boldref, bold_mask : reference of the run and brain on its grid, for effects in percent
    truth_maps : known activation, contrast to file
    """
    from bids_sr.metrics.long_tables import read_table
    from bids_sr.reports.figures.style import units_text
    from bids_sr.reports.text.overview_text import RunFacts, overview_html
    from bids_sr.spatial.masks import voxel_sizes

    rows, verdict = read_table(evaluation_tsv), tools.read_json(verdict_json)
    found = tools.sort_maps(tools.flat(maps), tools.flat(entities))
    acquired = next(files["raw"] for files in found.stats.values() if "raw" in files)
    displacement = tools.table(confounds_tsv)["framewise_displacement"]
    run = RunFacts(
        name=run_name, displacement=[float(value) for value in displacement],
        acquired_mm=[float(v) for v in voxel_sizes(tools.load(acquired).affine)],
        made_mm=[float(v) for v in voxel_sizes(tools.load(mask_hr).affine)], calibrated=calibrated, at_rest=at_rest,
        resolution=_resolution(image_tsv) if image_tsv else {},
    )  # fmt: skip
    flags, one_level = tools.read_json(flags_json), tools.read_json(one_level_down_json) if one_level_down_json else {}
    registration = tools.read_json(registration_json)
    yield Drawn(overview_html(verdict, rows, flags, registration, run, one_level), "overview")
    contrast = _contrast(tools.judged_contrast(rows, verdict), found)
    unit = units_text(tools.percent_of(boldref, bold_mask))
    scene = scene_of(background, mask_hr, roi_hr)
    yield from _zoomed(found, contrast, verdict["best"], truth_maps, scene, unit, at_rest)


def _resolution(image_tsv: str) -> dict[str, float]:
    """Smoothness of the noise in plane (FWHM, mm; geometric mean of both axes) of each series."""
    from bids_sr.metrics.long_tables import SERIES, read_table

    found = {(row.series, row.measure): row.value for row in read_table(image_tsv, SERIES)}
    both = {name: found[name, "fwhm_x"] * found.get((name, "fwhm_y"), math.nan) for name, m in found if m == "fwhm_x"}
    return {name: math.sqrt(product) for name, product in both.items() if product > 0}


def _contrast(judged: str, found: tools.MapFiles) -> str:
    """The contrast that the verdict is about; without one, that of all conditions, or the first that was mapped."""
    mapped = list(dict.fromkeys(contrast for contrast, _, _ in found.stats))
    return next((name for name in (judged, "all", *mapped) if name in mapped), "")


def _zoomed(
    found: tools.MapFiles, contrast: str, best: str, truth_maps: Mapping[str, Any], scene: Any, unit: str,
    at_rest: bool,
) -> Iterator[Drawn]:  # fmt: skip
    """Acquired, B-spline, the best method and the truth, where it is known, on one color scale."""
    from bids_sr.reports.figures.activation_figures import CC_DISPLAY, T_DISPLAY, Display, peak_voxel, zoomed_figure
    from bids_sr.reports.figures.map_viewer import TITLES

    known = truth_maps.get(contrast)
    kinds = {stat for name, stat, _ in found.stats if name == contrast}
    stat = "effect" if known and "effect" in kinds else "t" if "t" in kinds else "cc"
    width = min(fwhm for name, kind, fwhm in found.stats if (name, kind) == (contrast, stat))
    files = dict(found.stats[contrast, stat, width])
    names = [name for name in ("raw", "bspline", best, "measured") if name in files]
    if known and stat == "effect" and "measured" not in files:
        files["truth"] = known
        names.append("truth")
    shown = [replace(series_map(name, files[name]), name=TITLES.get(name, name)) for name in names]
    display = {"t": T_DISPLAY, "cc": CC_DISPLAY}.get(stat)
    limit = color_limit(files.values(), display.floor if display else 0.0)
    if display is None:
        display = Display(statistic="effect", threshold=float(f"{EFFECT_SHARE * limit:.2g}"), floor=0.0, unit=unit)
    # the map that the viewer opens with
    judged = next(found.stats[contrast, kind, width] for kind in ("t", "cc", stat) if kind in kinds)
    at = peak_voxel(series_map("", judged.get("raw") or next(iter(judged.values()))), scene.mask, scene.affine)
    figure = zoomed_figure(shown, scene, display=display, limit=limit, at=at)
    smoothing = f"smoothed by {width / 10:g} mm" if width else "not smoothed"
    figure.set_label(
        f"Maps of {stat}, {'seed' if at_rest else 'contrast'} {contrast}, {smoothing}, in one zoomed axial slice on "
        "one color scale: " + ", ".join(each.name for each in shown)
    )
    yield Drawn(figure, "overview")


@reportlet
def ViewerReport(
    *,
    maps: Sequence[Any],
    entities: Sequence[Any],
    background: FileName,
    mask_hr: FileName,
    evaluation_tsv: FileName,
    verdict_json: FileName,
    series_names: Sequence[str] = (),
    n_runs: int = 1,
    common: Mapping[str, Any] = NO_MAPS,
    boldref2t1w_xfm: FileName = NO_FILE,
    std2t1w_xfm: FileName = NO_FILE,
) -> Iterator[Drawn]:
    """Every map of the run to scroll through, by contrast, smoothing and series: first the best method of the verdict.

    Parameters
    ----------
    maps, entities : statistical maps of all series, and their entities; lists of lists are joined
    background : image to draw over, on any grid
    evaluation_tsv, verdict_json : what is shown first: the verdict's contrast and its best method
    n_runs : runs of the participant, which share the page
    common : entities of the files of the run, by which the maps are named that are stored whole
    boldref2t1w_xfm, std2t1w_xfm : take a T1w point to its boldref point, and to its template point
    """
    from bids_sr.interfaces.derivatives_sink import derivative_path
    from bids_sr.metrics.long_tables import read_table
    from bids_sr.reports.figures.activation_figures import CC_DISPLAY, T_DISPLAY
    from bids_sr.reports.figures.map_viewer import ViewedMaps, map_key, room_of, viewer_html
    from bids_sr.reports.figures.style import NamedImage

    found = tools.sort_maps(tools.flat(maps), tools.flat(entities))
    display = T_DISPLAY if any(stat == "t" for _, stat, _ in found.stats) else CC_DISPLAY
    mask = tools.load(mask_hr)
    below = NamedImage(name="", data=tools.onto(background, mask.data.shape, mask.affine), affine=mask.affine)
    shown, names = {}, []
    files: dict[str, str] = {}
    verdict = tools.read_json(verdict_json)
    judged = _contrast(tools.judged_contrast(read_table(evaluation_tsv), verdict), found)
    stored = dict(zip(tools.flat(maps), tools.flat(entities), strict=True))
    order = sorted(found.stats, key=lambda key: (key[0] != judged, key[0] != "all", key[2]))
    for contrast, stat, fwhm in order:
        if stat == display.statistic:
            paths = found.stats[contrast, stat, fwhm]
            own = tools.ordered(paths, series_names)
            names += own
            smoothing = f"{fwhm / 10:g} mm" if fwhm else "none"
            shown[contrast, smoothing] = [series_map(name, paths[name]) for name in own]
            if common:
                files |= {
                    map_key(contrast, smoothing, name): derivative_path(
                        {**common, **stored[paths[name]], "datatype": "func", "extension": ".nii.gz"}
                    )
                    for name in own
                }
    given = ViewedMaps(display=display, maps=shown, series=list(dict.fromkeys(names)), files=files)
    mni = _mni(mask, boldref2t1w_xfm, std2t1w_xfm) if boldref2t1w_xfm and std2t1w_xfm else None
    if text := viewer_html(given, below, mask.data, first_series=verdict["best"], room=room_of(n_runs), mni=mni):
        yield Drawn(text, "viewer")


@reportlet
def GlassReport(
    *,
    maps: Sequence[Any],
    entities: Sequence[Any],
    evaluation_tsv: FileName,
    verdict_json: FileName,
    boldref2t1w_xfm: FileName,
    std2t1w_xfm: FileName,
) -> Iterator[Drawn]:
    """The map of the best method of the verdict in MNI space, as a glass brain; nothing where no method is best.

    Parameters
    ----------
    maps, entities : statistical maps of all series, and their entities; lists of lists are joined
    evaluation_tsv, verdict_json : what is shown: the verdict's contrast and its best method
    boldref2t1w_xfm, std2t1w_xfm : take a T1w point to its boldref point, and to its template point
    """
    from bids_sr.metrics.long_tables import read_table
    from bids_sr.reports.figures.activation_figures import CC_DISPLAY, T_DISPLAY
    from bids_sr.reports.figures.glass_figures import glass_figure, glass_image

    found = tools.sort_maps(tools.flat(maps), tools.flat(entities))
    display = T_DISPLAY if any(stat == "t" for _, stat, _ in found.stats) else CC_DISPLAY
    verdict = tools.read_json(verdict_json)
    contrast = _contrast(tools.judged_contrast(read_table(evaluation_tsv), verdict), found)
    widths = [fwhm for name, kind, fwhm in found.stats if (name, kind) == (contrast, display.statistic)]
    files = found.stats[contrast, display.statistic, min(widths)] if widths else {}
    if verdict["best"] not in files:
        return
    image = tools.load(files[verdict["best"]])
    shown = np.abs(np.nan_to_num(image.data)) > display.threshold
    if not shown.any():
        return
    places = np.argwhere(shown) @ image.affine[:3, :3].T + image.affine[:3, 3]
    points = _mni_points(places, boldref2t1w_xfm, std2t1w_xfm)
    limit = color_limit(files.values(), display.floor)
    figure = glass_figure(glass_image(points, image.data[shown]), display=display, limit=limit)
    figure.set_label(f"Glass brain: {display.statistic} of {contrast}, {verdict['best']}, in MNI space")
    yield Drawn(figure, "glass", contrast=contrast)


def _mni(grid: Any, boldref2t1w_xfm: str, std2t1w_xfm: str) -> Any:
    """MNI coordinates over the field of view of a grid of the run, through the stored transforms."""
    from bids_sr.reports.figures.map_viewer import MniGrid, mni_nodes
    from bids_sr.reports.figures.style import canonical

    volume = canonical(grid.data, grid.affine)
    nodes = mni_nodes(volume.data.shape, volume.affine)
    points = _mni_points(nodes.reshape(-1, 3), boldref2t1w_xfm, std2t1w_xfm)
    return MniGrid(points=points.reshape(nodes.shape))


def _mni_points(points: Any, boldref2t1w_xfm: str, std2t1w_xfm: str) -> Any:
    """MNI coordinates of points of the run (N, 3; RAS mm)."""
    from bids_sr.interfaces.statmap_interfaces import to_template
    from bids_sr.registration.ants import apply_to_points

    with TemporaryDirectory() as folder:
        transforms = SimpleNamespace(boldref2t1w_xfm=boldref2t1w_xfm, std2t1w_xfm=std2t1w_xfm)
        return apply_to_points(points.tolist(), to_template(transforms, Path(folder)), seed=1)
