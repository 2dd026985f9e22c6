"""Tables of the evaluation as fragments of HTML: each figure with its interval, in words where words are due.

A difference is set in bold where its interval excludes 0, nowhere else: a larger figure alone is no finding.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from html import escape

from bids_sr.metrics.long_tables import MISSING, MetricRow
from bids_sr.metrics.registry import METRICS
from bids_sr.reports.tables import evaluation_rows as pick
from bids_sr.stats.controls.negative_controls import claims, subject_specific

Cells = Sequence[str]
NOTHING = "<p class='notice'>The evaluation table holds nothing of this.</p>"
AMOUNTS = ("ev", "r", "amplitude", "right")
FIGURES = pick.FIGURE_TEXT


def cell(row: MetricRow | None, *, bold: bool = False) -> str:
    """A figure with its interval, as the inside of a table cell."""
    if row is None:
        return "–"
    text = escape(pick.value_text(row.value))
    if bold and row.excludes_zero:
        text = f"<strong>{text}</strong>"
    interval = escape(pick.interval_text(row))
    return f"{text}<br><small>{interval}</small>" if interval else text


def table_html(
    caption: str, heads: Sequence[tuple[str, str]], lines: Iterable[tuple[Cells, Cells]], *, texts: Iterable[int] = ()
) -> str:
    """A table; empty where it has no line.

    Parameters
    ----------
    caption : plain text
    heads : text and unit of each column, plain text
    lines : row headings as plain text, and cells as HTML
    texts : columns, counted from the first, whose cells hold words
    """
    rows = list(lines)
    if not rows:
        return ""
    words = {*range(len(rows[0][0])), *texts}
    kind = ["".join(" class='text'" for _ in [0] if k in words) for k in range(len(heads))]
    head = "".join(
        f"<th scope='col'{kind[k]}>{escape(text)}{f'<br><small>{escape(unit)}</small>' if unit else ''}</th>"
        for k, (text, unit) in enumerate(heads)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<th scope='row'>{escape(name)}</th>" for name in names)
        + "".join(f"<td{kind[k]}>{content}</td>" for k, content in enumerate(cells, len(names)))
        + "</tr>"
        for names, cells in rows
    )
    return (
        f"<div class='wide'><table class='metrics'><caption>{escape(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def folded(title: str, content: str) -> str:
    """Content behind a line to click; nothing where there is none."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>" if content else ""


def agreement_html(rows: Sequence[MetricRow], *, prefix: str, names: Sequence[str] = ()) -> str:
    """Agreement of halves: regions (thresholds of the active region) as columns, a table each contrast and scale.

    Parameters
    ----------
    rows : of the evaluation
    prefix : ``split_ev``, ``split_r`` or ``self_r``; with the first, all that there is beside it follows
    names : order of the series
    """
    parts = _levels(rows, prefix, names)
    if prefix == "split_ev":
        parts.insert(1, _amounts(rows, names))
    parts.append(_differences(rows, f"gain_{prefix}_beyond", names))
    if prefix == "split_ev":
        parts.append(folded("Correlations", "".join(_levels(rows, "split_r", names))))
    return "".join([*parts, _controls(rows)]) or NOTHING


def _levels(rows: Sequence[MetricRow], prefix: str, names: Sequence[str]) -> list[str]:
    """A table each contrast and scale of one figure; all but the first are folded."""
    parts = []
    for number, contrast in enumerate(pick.contrasts_of(pick.having(rows, f"{prefix}_"))):
        for band, words in pick.BANDS.items():
            table = _regions_table(rows, f"{prefix}_{band}", contrast, f"{contrast}, {words}", names)
            parts.append(table if number == 0 and band == "beyond" else folded(f"{contrast}, {words}", table))
    return parts


def _amounts(rows: Sequence[MetricRow], names: Sequence[str]) -> str:
    """Explained variance, r, recovered amplitude and right share beside one another, beyond the Nyquist limit."""
    own = pick.having(rows, "split_ev_beyond")
    contrast = next(iter(pick.contrasts_of(own)), None)
    regions = pick.shown_regions([row for row in own if row.contrast == contrast])
    found = {
        (name, region): pick.pick(rows, f"split_{name}_beyond", contrast=contrast, region=region)
        for name in AMOUNTS
        for region in regions
    }
    heads = [("series", ""), *[(FIGURES[name], pick.region_text(region)) for region in regions for name in AMOUNTS]]
    lines = [
        (
            (pick.series_text(series),),
            [cell(found[name, region].get(series)) for region in regions for name in AMOUNTS],
        )
        for series in pick.series_of([row for row in own if row.contrast == contrast], names)
    ]
    return table_html(f"What of the measured detail beyond the acquired Nyquist limit: {contrast}", heads, lines)


def _regions_table(
    rows: Sequence[MetricRow], measure: str, contrast: str, caption: str, names: Sequence[str], *, kinds: Cells = ()
) -> str:
    own = [row for row in rows if row.measure == measure and row.contrast == contrast]
    regions = pick.regions_of(own)
    found = {region: pick.pick(own, measure, region=region) for region in regions}
    heads = [("series", ""), *[(pick.region_text(region), "") for region in regions]]
    lines = [
        ((pick.series_text(name),), [cell(found[region].get(name)) for region in regions])
        for name in pick.series_of(own, names)
    ]
    what = FIGURES[measure.split("_")[1]]
    return table_html(f"{what[:1].upper()}{what[1:]} and 95 % interval: {caption}", heads, lines)


def _differences(rows: Sequence[MetricRow], measure: str, names: Sequence[str]) -> str:
    """Methods against what is no method, region by region; bold where the interval excludes 0."""
    own = [
        row
        for row in rows
        if row.measure == measure and pick.kind_of(row.series) == "method" and pick.kind_of(row.against) != "placebo"
    ]
    tables = []
    for number, contrast in enumerate(pick.contrasts_of(own)):
        some = [row for row in own if row.contrast == contrast]
        regions = pick.regions_of(some)
        found = {(row.series, row.against, row.region): row for row in some}
        pairs = sorted(
            {(row.series, row.against): None for row in some},
            key=lambda pair: pick.series_of(some, names).index(pair[0]),
        )
        lines = [
            ((one, f"− {other}"), [cell(found.get((one, other, region)), bold=True) for region in regions])
            for one, other in pairs
        ]
        heads = [("method", ""), ("less", ""), *[(pick.region_text(region), "") for region in regions]]
        what = {"split_ev": "explained variance"}.get(measure.removeprefix("gain_").rpartition("_")[0], "r")
        caption = f"Difference of {what} beyond the acquired Nyquist limit: {contrast} (bold: the interval excludes 0)"
        table = table_html(caption, heads, lines)
        tables.append(table if number == 0 else folded(f"Differences, {contrast}", table))
    return "".join(tables)


def _controls(rows: Sequence[MetricRow]) -> str:
    """What the denoising controls were given, and what they would reach at the setting that is best in hindsight."""
    own = pick.having(rows, "control_")
    contrast = next(iter(pick.contrasts_of(own)), MISSING)
    own = [row for row in own if row.contrast == contrast]
    given = {"control_fwhm": "smoothed by {} mm (FWHM)", "control_rank": "{} temporal components kept"}
    lines = []
    for name in dict.fromkeys(row.series for row in own):
        for region in pick.regions_of(row for row in own if row.series == name):
            here = [row for row in own if (row.series, row.region) == (name, region)]
            text = "; ".join(given[r.measure].format(f"{r.value:g}") for r in here if r.measure in given)
            best = next((row for row in here if row.measure == "control_best_r_beyond"), None)
            reached = next(iter(pick.pick(
                [row for row in rows if row.series == name], "split_r_beyond", contrast=contrast, region=region
            ).values()), None)  # fmt: skip
            lines.append(((name, pick.region_text(region)), [escape(text or MISSING), cell(reached), cell(best)]))
    heads = [("control", ""), ("region", ""), ("given", ""), ("r beyond Nyquist", ""), ("best in hindsight", "")]
    where = f", {contrast}" if contrast != MISSING else ""
    table = table_html(f"Denoising controls{where}: settings chosen on the other half", heads, lines, texts=(2,))
    return folded("Settings of the denoising controls", table)


def truth_html(rows: Sequence[MetricRow], names: Sequence[str] = ()) -> str:
    """Agreement with the truth: a line each series and smoothing, a table each contrast, region and kind of truth."""
    own = pick.having(rows, "truth_")
    parts = []
    keys = list(dict.fromkeys((row.against, row.contrast, row.region) for row in own))
    keys.sort(key=lambda key: (key[0] != "measured", key[1] != "all"))
    for number, (against, contrast, region) in enumerate(keys):
        some = [row for row in own if (row.against, row.contrast, row.region) == (against, contrast, region)]
        there = {row.measure for row in some}
        measures = [each for each in METRICS.values() if each.label and each.name in there]
        lines = []
        for fwhm in sorted({row.fwhm_mm for row in some}):
            found = {each.name: pick.pick(some, each.name, fwhm_mm=fwhm) for each in measures}
            for name in pick.series_of([row for row in some if row.fwhm_mm == fwhm], names):
                cells = [f"{fwhm:g}", *[cell(found[each.name].get(name)) for each in measures]]
                lines.append(((pick.series_text(name),), cells))
        heads = [("series", ""), ("smoothing", "mm"), *[(m.label, "" if m.unit == "1" else m.unit) for m in measures]]
        what = "the measured high-resolution series" if against == "measured" else "the known activation"
        where = f", {pick.region_text(region)}" if region != MISSING else ""
        title = f"{contrast} against {what}{where}"
        table = table_html(title, heads, lines)
        parts.append(table if number < 2 else folded(title, table))
    return "".join(parts) or NOTHING


def holdout_html(rows: Sequence[MetricRow], names: Sequence[str] = ()) -> str:
    """Image quality on the pair that was not trained on; methods against all others."""
    caption = "Images of the pair that was not trained on"
    return _images_html(pick.having(rows, "pair_"), names, ("pair_psnr", "pair_ssim"), "pair_gain_psnr", caption)


def images_html(rows: Sequence[MetricRow], names: Sequence[str] = ()) -> str:
    """Likeness of volumes to the measured ones; all series against B-spline and the injected image."""
    caption = "Volumes against those measured at the high resolution"
    return _images_html(rows, names, ("truth_psnr", "truth_ssim"), "gain_truth_psnr", caption)


def _images_html(
    own: Sequence[MetricRow], names: Sequence[str], wanted: tuple[str, str], gain: str, caption: str
) -> str:
    measures = [name for name in wanted if any(row.measure == name for row in own)]
    heads = dict(zip(wanted, (("PSNR", "dB"), ("SSIM", "")), strict=True))
    found = {name: pick.pick(own, name) for name in measures}
    lines = [
        ((pick.series_text(name),), [cell(found[measure].get(name)) for measure in measures])
        for name in pick.series_of([row for row in own if row.measure in measures], names)
    ]
    levels = table_html(caption, [("series", ""), *[heads[name] for name in measures]], lines)
    gains = [row for row in own if row.measure == gain]
    differences = table_html(
        f"{caption}: differences (bold: the interval excludes 0)",
        [("method", ""), ("less", ""), ("PSNR", "dB")],
        [((row.series, f"− {row.against}"), [cell(row, bold=True)]) for row in gains],
    )
    return levels + differences or NOTHING


def null_html(rows: Sequence[MetricRow], names: Sequence[str] = ()) -> str:
    """False positives of each series in words and figures."""
    own = pick.having(rows, "null_")
    nominal = next((row.value for row in own if row.measure == "null_nominal"), 0.001)
    rates, families = pick.pick(own, "null_rate"), pick.pick(own, "null_fwe")
    kinds: tuple[pick.Kind, ...] = ("baseline", "control", "method", "placebo", "measured")
    lines = []
    for name in pick.series_of([*rates.values(), *families.values()], names, kinds):
        rate, family = rates.get(name), families.get(name)
        count = str(rate.n) if rate is not None and rate.n is not None else "–"
        lines.append(((pick.series_text(name),), [_per_mille(rate), null_words(rate, nominal), cell(family), count]))
    heads = [
        ("series", ""), ("voxels, p < .001", f"per mille; nominal {1000 * nominal:g}"), ("reading", ""),
        ("shuffles with any finding", "p < .05 corrected; nominal .05"), ("shuffles", ""),
    ]  # fmt: skip
    rates_table = table_html("False positives where there is no signal", heads, lines, texts=(2,))
    return rates_table + _threshold_html(own, names, kinds) or NOTHING


def _threshold_html(own: Sequence[MetricRow], names: Sequence[str], kinds: tuple[pick.Kind, ...]) -> str:
    """What each series shows beyond the threshold that its own shuffles set."""
    found = [pick.pick(own, measure) for measure in ("null_threshold", "null_peak", "null_active")]
    lines = []
    for name in pick.series_of([*found[0].values()], names, kinds):
        threshold, peak, active = (each.get(name) for each in found)
        words = threshold_words(threshold, peak, active)
        lines.append(((pick.series_text(name),), [cell(threshold), cell(peak), words]))
    heads = [("series", ""), ("threshold", "z; p < .05 familywise"), ("peak", "z; all conditions"), ("reading", "")]
    return table_html("Thresholds that the shuffles set (maximum statistic)", heads, lines, texts=(3,))


def threshold_words(threshold: MetricRow | None, peak: MetricRow | None, active: MetricRow | None) -> str:
    """Whether a series' peak passes the threshold of its shuffles, and how many of its voxels do."""
    if threshold is None or peak is None or active is None or not pick.known(peak):
        return "not measured"
    if not pick.known(threshold):
        return "too few shuffles for a threshold (10 at least)"
    if peak.value <= threshold.value:
        return "no voxel passes: nothing here is told from noise"
    return f"the peak passes; {active.value:.0f} of {active.n or 0} voxels tested do"


def _per_mille(row: MetricRow | None) -> str:
    if row is None:
        return cell(None)
    return cell(replace(row, value=1000 * row.value, lower=1000 * row.lower, upper=1000 * row.upper))


def null_words(row: MetricRow | None, nominal: float) -> str:
    """Whether a rate's interval covers what the test promises."""
    if row is None or not pick.known(row):
        return "not measured"
    if not pick.interval_text(row):
        return "no interval"
    if row.lower <= nominal <= row.upper:
        return "covers the nominal rate"
    return "too many false positives" if row.lower > nominal else "fewer than nominal (conservative)"


def placebo_html(rows: Sequence[MetricRow]) -> str:
    """What is owed to this subject's own pair, guide and time course: own less each placebo, in words first."""
    own = pick.placebo_gains(rows)
    if not own:
        return NOTHING
    parts = []
    for number, contrast in enumerate(pick.contrasts_of(own)):
        some = [row for row in own if row.contrast == contrast]
        if number == 0:
            beyond = [row for row in some if row.measure.endswith("_beyond")] or some
            parts.append("".join(f"<p>{escape(text)}</p>" for text in placebo_words(beyond)))
        for measure in sorted({row.measure for row in some}, key=lambda name: not name.endswith("_beyond")):
            caption = f"Own less placebo: {contrast}, {_band(measure)} (bold: the interval excludes 0)"
            table = _placebo_table([row for row in some if row.measure == measure], caption)
            first = number == 0 and measure.endswith("_beyond")
            parts.append(table if first else folded(f"Own less placebo: {contrast}, {_band(measure)}", table))
    return "".join(parts)


def _placebo_table(rows: Sequence[MetricRow], caption: str) -> str:
    """A line each method and placebo, a column each region."""
    regions = pick.regions_of(rows)
    found = {(row.series, row.against, row.region): row for row in rows}
    pairs = sorted({(r.series, r.against): None for r in rows}, key=lambda p: (p[0], pick.kind_of(p[1]) == "control"))
    heads = [("method", ""), ("less", ""), ("which is", ""), *[(pick.region_text(region), "") for region in regions]]
    lines = [
        (
            (one, other),
            [
                escape(pick.placebo_text(other)),
                *[cell(found.get((one, other, region)), bold=True) for region in regions],
            ],
        )
        for one, other in pairs
    ]
    return table_html(caption, heads, lines, texts=(2,))


def _band(measure: str) -> str:
    return pick.BANDS.get(measure.rpartition("_")[2], measure)


def placebo_words(rows: Sequence[MetricRow]) -> list[str]:
    """A sentence each method: whether its gain may be called specific to this subject.

    Parameters
    ----------
    rows : differences of one contrast; only the brain enters where it was measured
    """
    brain = [row for row in rows if row.region == "brain"] or list(rows)
    return [each.words for each in subject_specific(claims(brain))]
