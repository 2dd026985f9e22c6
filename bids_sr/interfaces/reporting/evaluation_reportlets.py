"""Reportlets of the evaluation, drawn from files: verdict, agreement with the truth, controls, quality control."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bids_sr.interfaces.reporting import figure_data as tools
from bids_sr.interfaces.reporting.reportlet import NO_FILE, Drawn, FileName, reportlet

MAX_CONTRASTS = 4
SCORED = {"split_ev_beyond": "explained variance", "split_r_beyond": "r"}
"""What is written beside a map beyond the Nyquist limit, the strongest evidence first; nothing without a truth."""
BEYOND = "beyond_"
"""How the arrays of `figures_npz` begin that hold an effect beyond the acquired Nyquist limit."""
QUALITY_MAPS = {"sd": "uncertainty", "unrepeated": "unrepeated"}
"""Statistic of a map of the quality control to the desc of its figure."""
Rows = Sequence[Any]


@reportlet
def EvaluationReport(
    *,
    in_table: FileName,
    verdict_json: FileName = NO_FILE,
    flags_json: FileName = NO_FILE,
    figures_npz: FileName = NO_FILE,
    boldref: FileName = NO_FILE,
    bold_mask: FileName = NO_FILE,
    has_truth: bool = False,
    series_names: Sequence[str] = (),
) -> Iterator[Drawn]:
    """Verdict, agreement with the truth (without one, reliability), negative controls and the paper's claim.

    Parameters
    ----------
    figures_npz : effects beyond the Nyquist limit of each series, for the maps
    boldref, bold_mask : reference of the run and brain on its grid, for effects in percent
    has_truth : whether high-resolution BOLD or activation is known
    """
    from bids_sr.metrics.long_tables import read_table
    from bids_sr.reports.tables.evaluation_rows import having
    from bids_sr.reports.tables.evaluation_tables import agreement_html, holdout_html, images_html
    from bids_sr.reports.tables.region_size_tables import claim_html
    from bids_sr.reports.text.evaluation_text import verdict_html

    rows = read_table(in_table)
    if verdict_json:
        flags = tools.read_json(flags_json) if flags_json else None
        yield Drawn(verdict_html(tools.read_json(verdict_json), rows, flags), "verdict")
    leading = "split_ev" if having(rows, "split_ev_") else "split_r"
    if has_truth and having(rows, f"{leading}_"):
        yield from _agreement(rows, series_names, leading)
    elif having(rows, "self_r_"):  # values alone: a figure would rank the series
        yield Drawn(agreement_html(rows, prefix="self_r", names=series_names), "reliability")
    if figures_npz:
        yield from _maps(rows, figures_npz, SCORED if has_truth else {}, tools.percent_of(boldref, bold_mask))
    yield from _truth(rows, series_names)
    yield from _negative_controls(rows, series_names)
    for prefix, table, desc in (
        ("truth_psnr", images_html, "images"),
        ("pair_", holdout_html, "holdout"),
        ("claim_", claim_html, "claim"),
    ):
        if having(rows, prefix):
            yield Drawn(table(rows, series_names), desc)


def _agreement(rows: Rows, names: Sequence[str], prefix: str) -> Iterator[Drawn]:
    """Agreement with the measured halves: the first contrast whole, the highest band of the others, and tables."""
    from bids_sr.reports.figures.evaluation_figures import agreement_figure, contrasts_figure
    from bids_sr.reports.tables.evaluation_rows import contrasts_of, having
    from bids_sr.reports.tables.evaluation_tables import agreement_html

    first = contrasts_of(having(rows, f"{prefix}_"))[0]
    yield Drawn(agreement_figure(rows, prefix=prefix, contrast=first, names=names), "splithalf")
    others = [c for c in contrasts_of(having(rows, f"{prefix}_beyond")) if c != first][:MAX_CONTRASTS]
    if others:
        yield Drawn(contrasts_figure(rows, prefix=prefix, contrasts=others, names=names), "splithalfContrasts")
    yield Drawn(agreement_html(rows, prefix=prefix, names=names), "splithalf")


def _maps(rows: Rows, path: str, measures: Mapping[str, str], percent: float | None) -> Iterator[Drawn]:
    """Effects beyond the Nyquist limit side by side, where they were kept."""
    from bids_sr.reports.figures.quality_control_figures import beyond_figure
    from bids_sr.reports.tables.evaluation_rows import pick, region_text, shown_regions, shown_series

    with np.load(path, allow_pickle=False) as found:
        names = [name.removeprefix(BEYOND) for name in found.files if name.startswith(BEYOND)]
        contrast = str(found["contrast"])
        lead = next(iter(shown_regions([r for r in rows if r.measure in measures and r.contrast == contrast])), "brain")
        where = region_text(lead)
        candidates = [
            (pick(rows, measure, contrast=contrast, region=lead), f"{text}, {where}")
            for measure, text in measures.items()
        ]
        scores, what = next((each for each in candidates if each[0]), ({}, ""))
        maps = {name: found[BEYOND + name] for name in shown_series(names, scores)}
        affine, mask = found["affine"], found["mask"]
    if maps:
        values = {name: row.value for name, row in scores.items()}
        yield Drawn(beyond_figure(maps, affine, mask, scores=values, score=what, percent=percent), "beyond")


def _truth(rows: Rows, names: Sequence[str]) -> Iterator[Drawn]:
    from bids_sr.reports.figures.evaluation_figures import truth_figure
    from bids_sr.reports.tables.evaluation_rows import contrasts_of, having
    from bids_sr.reports.tables.evaluation_tables import truth_html

    if own := having(rows, "truth_"):
        against = "measured" if any(row.against == "measured" for row in own) else own[0].against
        contrast = contrasts_of([row for row in own if row.against == against])[0]
        if figure := truth_figure(rows, contrast=contrast, against=against, names=names):
            yield Drawn(figure, "truth")
        yield Drawn(truth_html(rows, names), "truth")


def _negative_controls(rows: Rows, names: Sequence[str]) -> Iterator[Drawn]:
    from bids_sr.reports.figures.evaluation_figures import null_figure, placebo_figure
    from bids_sr.reports.tables.evaluation_rows import BANDS, contrasts_of, having, placebo_gains
    from bids_sr.reports.tables.evaluation_tables import null_html, placebo_html

    if having(rows, "null_rate", "null_fwe"):
        yield Drawn(null_figure(rows, names), "nullrate")
        yield Drawn(null_html(rows, names), "nullrate")
    if gains := placebo_gains(rows):
        known = {row.measure for row in gains}
        measures = {f"gain_split_ev_{band}": text for band, text in BANDS.items() if f"gain_split_ev_{band}" in known}
        yield Drawn(placebo_figure(gains, measures=measures, contrast=contrasts_of(gains)[0]), "placebo")
        yield Drawn(placebo_html(rows), "placebo")


@reportlet
def QualityReport(
    *,
    in_table: FileName,
    flags_json: FileName = NO_FILE,
    consistency_files: Sequence[FileName] = (),
    consistency_names: Sequence[str] = (),
    maps: Sequence[Any] = (),
    entities: Sequence[Any] = (),
    sidecars: Sequence[Any] = (),
    mask_hr: FileName = NO_FILE,
    background: FileName = NO_FILE,
    boldref: FileName = NO_FILE,
    bold_mask: FileName = NO_FILE,
) -> Iterator[Drawn]:
    """Flags and metrics of the quality control, loss of acquired data, uncertainty and unrepeated detail as maps.

    Parameters
    ----------
    consistency_files, consistency_names : loss of acquired data, one row a volume, and the series of each file
    maps, entities, sidecars : maps of the quality control among others; without sidecars, no calibration is drawn
    background : image to draw over, on any grid
    boldref, bold_mask : reference of the run and brain on its grid, for effects in percent
    """
    from bids_sr.metrics.long_tables import read_table
    from bids_sr.reports.figures.quality_control_figures import calibration_figure, consistency_figure
    from bids_sr.reports.text.evaluation_text import guards_html

    if text := guards_html(read_table(in_table), tools.read_json(flags_json) if flags_json else None):
        yield Drawn(text, "guards")
    if consistency_files:
        files = zip(consistency_names, consistency_files, strict=True)
        curves = {name: tools.table(path)["inconsistency"] for name, path in files}
        if any(np.isfinite(values).any() for values in curves.values()):
            yield Drawn(consistency_figure(curves), "consistency")
    if maps and mask_hr:
        percent = tools.percent_of(boldref, bold_mask)
        shown = _quality_maps(tools.flat(maps), tools.flat(entities))
        yield from _overlays(shown, mask_hr, background or mask_hr, percent)
    tables = _calibration(tools.flat(entities), tools.flat(sidecars)) if sidecars else {}
    if any(tables.values()):
        yield Drawn(calibration_figure(tables), "calibration")


def _overlays(
    found: Mapping[tuple[str, str], Mapping[str, str]], mask_hr: str, background: str, percent: float | None
) -> Iterator[Drawn]:
    """One figure a kind of map and contrast, a row each series that has anything to show; a sentence on the others."""
    from markupsafe import escape

    from bids_sr.reports.figures.quality_control_figures import OVERLAYS, overlay_figure
    from bids_sr.stats.controls.unrepeated_detail import THRESHOLD

    brain = tools.load(mask_hr)
    grid = brain.data.shape, brain.affine
    below = tools.onto(background, *grid)
    empty: dict[str, list[str]] = {}  # series to contrasts
    for (stat, contrast), paths in found.items():
        maps = {name: tools.onto(path, *grid) for name, path in paths.items()}
        if stat == "unrepeated":
            bare = [name for name, data in maps.items() if not (data[brain.data > 0] > THRESHOLD).any()]
            for name in bare:
                empty.setdefault(name, []).append(contrast)
            maps = {name: data for name, data in maps.items() if name not in bare}
        if maps:
            figure = overlay_figure(maps, brain.affine, below, brain.data, percent=percent, **OVERLAYS[stat])
            yield Drawn(figure, QUALITY_MAPS[stat], contrast=contrast)
    if empty:
        where = ", ".join(f"{name} ({', '.join(contrasts)})" for name, contrasts in empty.items())
        text = f"<p>Unsupported detail: no voxel above 0.5 in {escape(where)}.</p>"
        yield Drawn(text, QUALITY_MAPS["unrepeated"])


def _calibration(
    entities: Sequence[Mapping[str, str]], sidecars: Sequence[Mapping[str, Any]]
) -> dict[str, list[tuple[float, float]]]:
    """Uncertainty and true error by tenths of the uncertainty, of each series and contrast; the first of many."""
    tables: dict[str, list[tuple[float, float]]] = {}
    for own, said in zip(entities, sidecars, strict=True):
        for against, rows in said.get("Reliability", {}).items():
            if isinstance(rows, list):
                name = f"{own.get('desc', '')}, {own.get('contrast', '')} (against {against})"
                pairs = [(row["sd"], row["error"]) for row in rows]
                tables[name] = [(x, y) for x, y in pairs if isinstance(x, float) and isinstance(y, float)]
    return dict(list(tables.items())[: 2 * MAX_CONTRASTS])


def _quality_maps(paths: Sequence[str], entities: Sequence[Mapping[str, str]]) -> dict[tuple[str, str], dict[str, str]]:
    """(statistic, contrast) to series to file; of many contrasts, that of all and the first ones."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for path, own in zip(paths, entities, strict=True):
        if own.get("stat") in QUALITY_MAPS and not own.get("space"):
            found.setdefault((own["stat"], own.get("contrast", "")), {})[own.get("desc", "")] = path
    shown = sorted(dict.fromkeys(contrast for _, contrast in found), key=lambda name: name != "all")[:MAX_CONTRASTS]
    return {key: files for key, files in found.items() if key[1] in shown}


@reportlet
def VarianceReport(*, weight_file: FileName, guide: FileName = NO_FILE, mask: FileName) -> Iterator[Drawn]:
    """Where a run fluctuates on the high-resolution grid, below an image of the anatomy (on any grid)."""
    from bids_sr.reports.figures.quality_control_figures import variance_figure

    weight = tools.load(weight_file)
    grid = weight.data.shape, weight.affine
    anatomy = tools.onto(guide, *grid) if guide else None
    yield Drawn(variance_figure(weight.data, weight.affine, tools.onto(mask, *grid) > 0.5, anatomy), "variance")
