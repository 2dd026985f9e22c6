"""Reportlets of a run's results, drawn from files: a slice of all series, activation maps, regions, tables."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from bids_sr.interfaces.reporting import figure_data as tools
from bids_sr.interfaces.reporting.reportlet import NO_FILE, Drawn, FileName, reportlet
from bids_sr.series import kind_of, map_label

MAX_PAIRS = 3
SHOWN, KINDS = ("raw", "bspline"), ("method", "measured")
"""Series and kinds of series of which every map is drawn."""


@reportlet
def SuperresReport(
    *,
    series_files: Sequence[FileName],
    series_names: Sequence[str],
    raw_file: FileName = NO_FILE,
    roi_hr: FileName,
    mask_hr: FileName = NO_FILE,
) -> Iterator[Drawn]:
    """One slice of the middle volume: acquired, every baseline, super-resolved, and the difference."""
    from bids_sr.io.nifti import SeriesReader
    from bids_sr.reports.figures.style import NamedImage
    from bids_sr.reports.figures.superres_figures import slice_figure

    files = ({"raw": raw_file} if raw_file else {}) | dict(zip(series_names, series_files, strict=True))
    shown = []
    for name, path in files.items():
        with SeriesReader(path) as reader:
            shown.append(NamedImage(name=name, data=reader.volume(reader.shape[3] // 2), affine=reader.affine))
    mask = tools.load(mask_hr).data if mask_hr else None
    reference = "bspline" if "bspline" in files else series_names[0]
    yield Drawn(slice_figure(shown, tools.load(roi_hr).data, mask=mask, reference=reference), "srslice")


def scene_of(background: str, mask_hr: str, roi_hr: str) -> Any:
    """Background, brain and region of a run."""
    from bids_sr.reports.figures.activation_figures import Scene

    mask = tools.load(mask_hr)
    below = tools.onto(background, mask.data.shape, mask.affine)
    return Scene(background=below, affine=mask.affine, mask=mask.data, roi=tools.load(roi_hr).data)


def series_map(name: str, path: str, region: str | None = None) -> Any:
    """A row of an activation figure."""
    from bids_sr.reports.figures.style import NamedImage

    image = tools.load(path)
    significant = tools.load(region).data if region else None
    return NamedImage(name=name, data=image.data, affine=image.affine, significant=significant)


def color_limit(files: Iterable[str], floor: float) -> float:
    """End of the color scale of maps of one contrast, statistic and smoothing: of all its series (paths)."""
    from bids_sr.reports.figures.activation_figures import common_scale

    return common_scale([series_map("", path) for path in files], floor)


@reportlet
def DesignReport(
    *, events_file: FileName, confounds_tsv: FileName, timing: Mapping[str, Any], n_dummy: int = 0
) -> Iterator[Drawn]:
    """Events and design matrix of the linear model that every series of the run is fitted with.

    Parameters
    ----------
    events_file : BIDS events, or time series of seeds
    timing : repetition time and slice timing (`build_design`), and `high_pass` (Hz)
    """
    from bids_sr.interfaces.statmap_interfaces import default_confounds
    from bids_sr.reports.figures.design_figures import design_figure
    from bids_sr.stats.glm.design import build_design, read_confounds
    from bids_sr.stats.glm.regressors import read_regressors

    events, confounds = read_regressors(events_file), read_confounds(confounds_tsv)
    design = build_design(
        events, n_volumes=len(confounds), n_dummy=n_dummy, confounds=confounds,
        confound_names=default_confounds(confounds_tsv), **timing,
    )  # fmt: skip
    yield Drawn(design_figure(design, events.spans()), "design")


def compared(names: Iterable[str], order: Sequence[str]) -> list[str]:
    """Of the series, those of which maps are drawn: acquired, B-spline, methods and measured; without them all."""
    known = tools.ordered(names, order)
    return [name for name in known if name in SHOWN or kind_of(name) in KINDS] or known


@reportlet
def ActivationReport(
    *,
    maps: Sequence[Any],
    entities: Sequence[Any],
    background: FileName,
    mask_hr: FileName,
    roi_hr: FileName,
    series_names: Sequence[str] = (),
    at_rest: bool = False,
) -> Iterator[Drawn]:
    """For each contrast and smoothing, the t-maps (CC, where there are no t-maps) on one scale.

    Acquired, B-spline, methods and measured are drawn; the viewer has all series.

    Parameters
    ----------
    maps, entities : statistical maps and region masks of all series, and their entities; lists of lists are joined
    background : image to draw over, on any grid
    series_names : order of the rows
    at_rest : contrasts are seeds: the figures go by another name, and amplitudes of fluctuations are drawn too
    """
    from bids_sr.reports.figures.activation_figures import ALFF_DISPLAY, CC_DISPLAY, T_DISPLAY, activation_figure

    found = tools.sort_maps(tools.flat(maps), tools.flat(entities))
    scene = scene_of(background, mask_hr, roi_hr)
    display = T_DISPLAY if any(stat == "t" for _, stat, _ in found.stats) else CC_DISPLAY
    for (contrast, stat, fwhm), files in found.stats.items():
        if stat == display.statistic:
            regions = found.regions.get((contrast, "Fdr", fwhm), {})
            rows = [series_map(name, files[name], regions.get(name)) for name in compared(files, series_names)]
            limit = color_limit(files.values(), display.floor)
            figure = activation_figure(rows, scene, display=display, limit=limit)
            yield Drawn(figure, map_label("connectivity" if at_rest else "activation", fwhm / 10), contrast=contrast)
    for (stat, fwhm), files in found.amplitudes.items():
        if stat == "alff":
            rows = [series_map(name, files[name]) for name in tools.ordered(files, series_names)]
            yield Drawn(activation_figure(rows, scene, display=ALFF_DISPLAY), map_label("amplitude", fwhm / 10))


def _condition_pairs(labels: Sequence[str], given: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of single conditions, the first ``MAX_PAIRS`` of them."""
    single = [name for name in labels if (name in given if given else name != "all" and "Minus" not in name)]
    return list(combinations(single, 2))[:MAX_PAIRS]


@reportlet
def RegionsReport(
    *,
    maps: Sequence[Any],
    entities: Sequence[Any],
    background: FileName,
    mask_hr: FileName,
    roi_hr: FileName,
    series_names: Sequence[str] = (),
    conditions: Sequence[str] = (),
) -> Iterator[Drawn]:
    """The paper's quarter regions of pairs of conditions in the series that are drawn, with their Dice coefficient.

    Parameters
    ----------
    maps, entities, background, series_names : see `ActivationReport`
    conditions : single conditions; default: labels but for all and differences
    """
    from bids_sr.reports.figures.activation_figures import regions_figure
    from bids_sr.stats.regions.activation_regions import dice

    found = tools.sort_maps(tools.flat(maps), tools.flat(entities))
    scene = scene_of(background, mask_hr, roi_hr)
    quarters = {(label, fwhm): files for (label, kind, fwhm), files in found.regions.items() if kind == "Quarter"}
    pairs = _condition_pairs(list(dict.fromkeys(label for label, _ in quarters)), conditions)
    for (one, other), fwhm in ((p, f) for p in pairs for f in sorted({f for _, f in quarters})):
        first, second = quarters.get((one, fwhm), {}), quarters.get((other, fwhm), {})
        both = compared([name for name in first if name in second], series_names)
        rows = {name: (series_map(name, first[name]), series_map(name, second[name])) for name in both}
        overlap = {name: dice(a.data > 0, b.data > 0) for name, (a, b) in rows.items()}
        if rows:
            values = {name: np.nan if value is None else value for name, value in overlap.items()}
            figure = regions_figure(rows, scene, (one, other), values)
            contrast = f"{one}Versus{other[:1].upper()}{other[1:]}"
            yield Drawn(figure, map_label("regions", fwhm / 10), contrast=contrast)


@reportlet
def MetricsReport(
    *,
    image_tsv: FileName = NO_FILE,
    activation_tsv: FileName = NO_FILE,
    boldref: FileName = NO_FILE,
    bold_mask: FileName = NO_FILE,
    series_names: Sequence[str] = (),
    at_rest: bool = False,
) -> Iterator[Drawn]:
    """The metrics tables as HTML; effects in percent, too, where the reference of the run and its brain are given."""
    from bids_sr.metrics.long_tables import SERIES, read_cells
    from bids_sr.reports.tables.html_tables import metrics_html

    given = (image_tsv, activation_tsv)
    image, activation = (read_cells(path, SERIES).to_dict("records") if path else [] for path in given)
    mapped, percent = "Connectivity" if at_rest else "Activation", tools.percent_of(boldref, bold_mask)
    yield Drawn(metrics_html(image, activation, series_names, mapped=mapped, percent=percent), "metrics")


@reportlet
def ClustersReport(
    *,
    clusters_tsv: FileName,
    series_names: Sequence[str],
    evaluation_tsv: FileName = NO_FILE,
    verdict_json: FileName = NO_FILE,
) -> Iterator[Drawn]:
    """The largest clusters of the series that are compared, with the labels of an atlas.

    Parameters
    ----------
    evaluation_tsv, verdict_json : the contrast that the verdict is about comes first
    """
    from bids_sr.metrics.long_tables import read_cells, read_table
    from bids_sr.reports.tables.cluster_tables import clusters_html
    from bids_sr.stats.regions.activation_regions import COLUMNS

    judged = ""
    if evaluation_tsv and verdict_json:
        judged = tools.judged_contrast(read_table(evaluation_tsv), tools.read_json(verdict_json))
    yield Drawn(clusters_html(read_cells(clusters_tsv, COLUMNS), series_names, first=judged), "clusters")
