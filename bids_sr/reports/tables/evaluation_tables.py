"""Tables of the evaluation as HTML: each metric with its interval, and a reading where one is due.

A difference is set in bold where its interval excludes 0, nowhere else: a larger value alone is no finding.
"""

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from markupsafe import Markup

from bids_sr.metrics.long_tables import MISSING, MetricRow
from bids_sr.metrics.measure_names import parts_of
from bids_sr.metrics.registry import METRICS
from bids_sr.reports.markup import Head, folded, joined, picked, render, table
from bids_sr.reports.tables import evaluation_rows as pick
from bids_sr.stats.controls.negative_controls import claims, subject_specific
from bids_sr.stats.evaluation.evidence import TOO_LITTLE

K = TypeVar("K", bound=Hashable)
Rows = Sequence[MetricRow]
Names = Sequence[str]
Column = tuple[str, str, Mapping[K, str]]
"""Head, unit, and cells by the key of their line."""
Titled = tuple[str, Markup]
"""Title of a table, and the table."""
NOTHING = Markup("<p class='notice'>The evaluation table has no such values.</p>")


def cell(row: MetricRow | None, *, bold: bool = False) -> str:
    """A value with its interval, as the inside of a table cell."""
    if row is None:
        return "–"
    return render("value", pick.value_text(row.value), pick.interval_text(row), bold and row.excludes_zero)


def cells(rows: Mapping[K, MetricRow], *, bold: bool = False) -> dict[K, str]:
    """Values with their intervals, by the same keys."""
    return {key: cell(row, bold=bold) for key, row in rows.items()}


def table_of(
    caption: str,
    heads: Sequence[Head],
    lines: Mapping[K, Sequence[str]],
    columns: Iterable[Column[K]],
    *,
    names: int = 1,
    texts: Collection[int] = (),
) -> Markup:
    """A table of columns; a line without a cell in one has a dash there.

    `lines` are what each line begins with (headed by `heads`), by its key; `names` and `texts` as of `table`, where
    what a line begins with holds words.
    """
    filled = list(columns)
    rows = [[*first, *(found.get(key, "–") for _, _, found in filled)] for key, first in lines.items()]
    top = [*heads, *((head, unit) for head, unit, _ in filled)]
    return table(caption, top, rows, names=names, texts={*range(names), *texts})


def _lines(rows: Iterable[MetricRow], names: Names, kinds: tuple[pick.Kind, ...] = ()) -> dict[str, list[str]]:
    """A line each series."""
    return {name: [pick.series_text(name)] for name in pick.series_of(rows, names, kinds)}


def by_smoothing(rows: Rows, names: Names) -> dict[tuple[str, float], list[str]]:
    """A line each series and smoothing, the least smoothing first."""
    return {
        (name, fwhm): [pick.series_text(name), f"{fwhm:g}"]
        for fwhm in sorted({row.fwhm_mm for row in rows})
        for name in pick.series_of([row for row in rows if row.fwhm_mm == fwhm], names)
    }


def _by_region(rows: Rows, regions: Sequence[str]) -> list[Column[tuple[str, str]]]:
    """Differences of each pair of series, a column each region."""
    return [
        (pick.region_text(region), "",
         cells({(row.series, row.against): row for row in rows if row.region == region}, bold=True))
        for region in regions
    ]  # fmt: skip


def agreement_html(rows: Rows, *, prefix: str, names: Names = ()) -> Markup:
    """Agreement of halves beyond the acquired Nyquist limit: levels, then differences, one table at a time.

    `prefix` is ``split_ev``, ``split_r`` or ``self_r``. Other scales, and the regions of other contrasts than the
    first, are in the file alone.
    """
    if prefix == "self_r":
        return _reproducibility(rows, names) or NOTHING
    measure = f"{prefix}_beyond"
    own = [row for row in rows if row.measure == measure]
    what = pick.FIGURE_TEXT[parts_of(measure).figure]
    tables = [_amounts(rows, names)] if prefix == "split_ev" else []
    tables += _levels(own, f"{what[:1].upper()}{what[1:]}", names)
    tables += _differences(rows, f"gain_{measure}", f"Difference of {what}", names)
    return joined([picked([*tables, _controls(rows)]), _without_bound(rows)]) or NOTHING


REPEATS = (
    "For information only: reproducibility is not accuracy and does not rank the series. Interpolation and "
    "reproducible artifacts score as high as true detail. Other contrasts are in the full table (TSV)."
)


def _reproducibility(rows: Rows, names: Names) -> Markup:
    """Correlations of the halves of each series for the first contrast, folded, with what they do not say."""
    first = pick.contrasts_of(pick.having(rows, "self", "r"))[:1]
    levels = _levels([row for row in rows if row.measure == "self_r_beyond" and row.contrast in first], "Correlation r",
                     names)  # fmt: skip
    shown = joined([render("note", "notice", REPEATS), picked(levels)])
    return folded("Values of each series", shown) if levels else Markup()


def _without_bound(rows: Rows) -> Markup:
    """Why measured has no value where other series have one."""
    own = pick.having(rows, "split", "ev")
    known = {(r.measure, r.contrast, r.region) for r in own if r.series != "measured" and pick.known(r)}
    lacking = [r for r in own if r.series == "measured" and not pick.known(r)]
    if not any((r.measure, r.contrast, r.region) in known for r in lacking):
        return Markup("")
    return render("note", "notice", f"The explained variance of the measured series itself is n/a where it has "
                  f"{TOO_LITTLE}. It is not an upper bound for the other series: noise in the measured series "
                  "lowers it, and other series may be less noisy.")  # fmt: skip


def _regions_and_contrasts(rows: Rows) -> Iterator[tuple[str, Rows, Sequence[tuple[str, Rows]]]]:
    """The first contrast by region, then the leading region by contrast: title, rows, and rows by head of a column."""
    contrasts = pick.contrasts_of(rows)
    first = [row for row in rows if row.contrast == contrasts[0]] if contrasts else []
    if first:
        regions = pick.regions_of(first)
        columns = [(pick.region_text(name), [row for row in first if row.region == name]) for name in regions]
        yield f"{contrasts[0]}, by region", first, columns
    lead = next(iter(pick.shown_regions(rows)), "")
    others = [row for row in rows if row.region == lead]
    if len(contrasts) > 1 and others:
        columns = [(name, [row for row in others if row.contrast == name]) for name in contrasts]
        yield f"{pick.region_text(lead)}, by contrast", others, columns


def _levels(rows: Rows, what: str, names: Names) -> list[Titled]:
    """What each series reaches, by region and by contrast."""
    return [
        (f"{what}: {title}",
         table_of(f"{what} beyond the acquired Nyquist limit, 95 % interval: {title}", ["series"], _lines(own, names),
                  [(head, "", cells({row.series: row for row in some})) for head, some in columns]))
        for title, own, columns in _regions_and_contrasts(rows)
    ]  # fmt: skip


def _amounts(rows: Rows, names: Names) -> Titled:
    """Explained variance, r, recovered amplitude and correct fraction beside one another, beyond the Nyquist limit."""
    own = [row for row in rows if row.measure == "split_ev_beyond"]
    contrast = next(iter(pick.contrasts_of(own)), None)
    own = [row for row in own if row.contrast == contrast]
    columns = [
        (pick.FIGURE_TEXT[name], pick.region_text(region),
         cells(pick.pick(rows, f"split_{name}_beyond", contrast=contrast, region=region)))
        for region in pick.shown_regions(own) for name in pick.FIGURE_TEXT
    ]  # fmt: skip
    title = f"Recovered detail: {contrast}"
    caption = f"How much measured detail beyond the acquired Nyquist limit is recovered: {contrast}"
    return title, table_of(caption, ["series"], _lines(own, names), columns)


def _differences(rows: Rows, measure: str, what: str, names: Names) -> list[Titled]:
    """Methods against what is no method, by region and by contrast; bold where the interval excludes 0."""
    own = [
        row
        for row in rows
        if row.measure == measure and pick.kind_of(row.series) == "method" and pick.kind_of(row.against) != "placebo"
    ]
    tables = []
    for title, some, columns in _regions_and_contrasts(own):
        order = pick.series_of(some, names)
        pairs = sorted(dict.fromkeys((row.series, row.against) for row in some), key=lambda pair: order.index(pair[0]))
        caption = f"{what} beyond the acquired Nyquist limit: {title} (bold: the interval excludes 0)"
        lines = {(one, other): [one, pick.series_text(other)] for one, other in pairs}
        found = [
            (head, "", cells({(row.series, row.against): row for row in each}, bold=True)) for head, each in columns
        ]
        tables.append((f"{what}: {title}", table_of(caption, ["method", "minus"], lines, found, names=2)))
    return tables


def _controls(rows: Rows) -> Titled:
    """What denoised B-spline was given, and what it would reach at the setting that is best in hindsight."""
    own = pick.having(rows, "control")
    contrast = next(iter(pick.contrasts_of(own)), MISSING)
    own = [row for row in own if row.contrast == contrast]
    given = {"control_fwhm": "smoothed by {} mm (FWHM)", "control_rank": "{} temporal components kept"}
    lines = []
    for name in dict.fromkeys(row.series for row in own):
        for region in pick.regions_of(row for row in own if row.series == name):
            here = [row for row in own if (row.series, row.region) == (name, region)]
            text = "; ".join(given[r.measure].format(f"{r.value:g}") for r in here if r.measure in given)
            best = next((row for row in here if row.measure == "control_best_r_beyond"), None)
            reached = pick.pick(rows, "split_r_beyond", contrast=contrast, region=region).get(name)
            lines.append([name, pick.region_text(region), text or MISSING, cell(reached), cell(best)])
    where = f", {contrast}" if contrast != MISSING else ""
    caption = f"Denoised B-spline{where}: settings chosen on the other half"
    heads = ["series", "region", "setting", "r beyond Nyquist", "r with the best setting in hindsight"]
    return "Settings of denoised B-spline", table(caption, heads, lines, names=2, texts={0, 1, 2})


def truth_html(rows: Rows, names: Names = ()) -> Markup:
    """Agreement with the truth: a line each series and smoothing, a table each region and kind of truth.

    Of the first contrast of each kind of truth; the others are in the file.
    """
    own = [row for row in pick.having(rows, "truth") if row.contrast != MISSING]  # the others are of images
    tables = []
    for against in sorted(dict.fromkeys(row.against for row in own), key=lambda name: name != "measured"):
        some = [row for row in own if row.against == against]
        contrast = pick.contrasts_of(some)[0]
        some = [row for row in some if row.contrast == contrast]
        what = "the measured high-resolution series" if against == "measured" else "the known truth"
        for region in dict.fromkeys(row.region for row in some):
            where = f", {pick.region_text(region)}" if region != MISSING else ""
            title = f"{contrast} against {what}{where}"
            tables.append((title, _truth_table([row for row in some if row.region == region], title, names)))
    return picked(tables) or NOTHING


def _truth_table(rows: Rows, title: str, names: Names) -> Markup:
    there = {row.measure for row in rows}
    columns = [
        (each.label, "" if each.unit == "1" else each.unit,
         cells({(row.series, row.fwhm_mm): row for row in reversed(rows) if row.measure == each.name}))
        for each in METRICS.values() if each.label and each.name in there
    ]  # fmt: skip
    return table_of(title, ["series", ("smoothing", "mm")], by_smoothing(rows, names), columns)


def holdout_html(rows: Rows, names: Names = ()) -> Markup:
    """Image quality on the pair that was not trained on; methods against all others."""
    caption = "Images of the held-out pair"
    return _images_html(rows, names, ("pair_psnr", "pair_ssim"), "pair_gain_psnr", caption)


def images_html(rows: Rows, names: Names = ()) -> Markup:
    """Likeness of volumes to the measured ones; all series against B-spline and the injected image."""
    caption = "Single volumes compared with those measured at high resolution"
    return _images_html(rows, names, ("truth_psnr", "truth_ssim"), "gain_truth_psnr", caption)


def _images_html(own: Rows, names: Names, wanted: tuple[str, str], gain: str, caption: str) -> Markup:
    heads = zip(wanted, (("PSNR", "dB"), ("SSIM", "")), strict=True)
    columns = [(*head, cells(found)) for name, head in heads if (found := pick.pick(own, name))]
    levels = table_of(caption, ["series"], _lines([r for r in own if r.measure in wanted], names), columns)
    gains = [[row.series, pick.series_text(row.against), cell(row, bold=True)] for row in own if row.measure == gain]
    caption = f"{caption}: differences (bold: the interval excludes 0)"
    return levels + table(caption, ["method", "minus", ("PSNR", "dB")], gains, names=2, texts={0, 1}) or NOTHING


def null_html(rows: Rows, names: Names = ()) -> Markup:
    """False positives of each series: rates, what they mean, and what passes the threshold of its own shuffles."""
    own = pick.having(rows, "null")
    nominal = next((row.value for row in own if row.measure == "null_nominal"), 0.001)
    rates, families = pick.pick(own, "null_rate"), pick.pick(own, "null_fwe")
    lines = _lines([*rates.values(), *families.values()], names, pick.EXPLAINED)
    thousands = {name: pick.scaled(row, 1000) for name, row in rates.items()}
    columns: list[Column[str]] = [
        ("voxels, p < .001", f"per mille; nominal {1000 * nominal:g}", cells(thousands)),
        ("result", "", {name: null_words(rates.get(str(name)), nominal) for name in lines}),
        ("shuffles with any finding", "p < .05 corrected; nominal .05", cells(families)),
        ("shuffles", "", {name: str(row.n) for name, row in rates.items() if row.n is not None}),
    ]
    made = table_of("False positives where there is no signal", ["series"], lines, columns, texts={2})
    threshold, peak, active = (pick.pick(own, f"null_{name}") for name in ("threshold", "peak", "active"))
    lines = _lines(threshold.values(), names, pick.EXPLAINED)
    reading = {name: threshold_words(*(each.get(str(name)) for each in (threshold, peak, active))) for name in lines}
    columns = [
        ("threshold", "z; p < .05 familywise", cells(threshold)),
        ("peak", "z; all conditions", cells(peak)),
        ("result", "", reading),
    ]
    caption = "Thresholds from the shuffles (maximum statistic)"
    return made + table_of(caption, ["series"], lines, columns, texts={3}) or NOTHING


def threshold_words(threshold: MetricRow | None, peak: MetricRow | None, active: MetricRow | None) -> str:
    """Whether a series' peak passes the threshold of its shuffles, and how many of its voxels do."""
    if threshold is None or peak is None or active is None or not pick.known(peak):
        return "not measured"
    if not pick.known(threshold):
        return "too few shuffles for a threshold (10 at least)"
    if peak.value <= threshold.value:
        return "no voxel passes: nothing here is distinguishable from noise"
    return f"the peak passes; {active.value:.0f} of {active.n or 0} voxels tested do"


def null_words(row: MetricRow | None, nominal: float) -> str:
    """Whether a rate's interval covers what the test promises."""
    if row is None or not pick.known(row):
        return "not measured"
    if not pick.interval_text(row):
        return "no interval"
    if row.lower <= nominal <= row.upper:
        return "covers the nominal rate"
    return "too many false positives" if row.lower > nominal else "fewer than nominal (conservative)"


def placebo_html(rows: Rows) -> Markup:
    """What is attributable to this subject's own pair, guide and time series: own minus placebo, in words first."""
    own = pick.placebo_gains(rows)
    parts, tables = [], []
    for number, contrast in enumerate(pick.contrasts_of(own)):
        some = [row for row in own if row.contrast == contrast]
        if number == 0:
            beyond = [row for row in some if row.parts.band == "beyond"] or some
            parts += [Markup("<p>{}</p>").format(text) for text in placebo_words(beyond)]
        for measure in sorted({row.measure for row in some}, key=lambda name: parts_of(name).band != "beyond"):
            title = f"Method - control: {contrast}, {pick.BANDS[parts_of(measure).band]}"
            tables.append((title, _placebo_table([row for row in some if row.measure == measure], title)))
    return joined([*parts, picked(tables)]) or NOTHING


def _placebo_table(rows: Rows, title: str) -> Markup:
    """A line each method and placebo, a column each region."""
    pairs = sorted(dict.fromkeys((row.series, row.against) for row in rows), key=lambda pair: pair[0])
    lines = {(one, other): [one, other, pick.placebo_text(other)] for one, other in pairs}
    return table_of(
        f"{title} (bold: the interval excludes 0)", ["method", "control", "which is"], lines,
        _by_region(rows, pick.regions_of(rows)), names=2, texts={2},
    )  # fmt: skip


def placebo_words(rows: Rows) -> list[str]:
    """A sentence each method: whether its gain over the brain (else wherever measured) is specific to this subject."""
    brain = [row for row in rows if row.region == "brain"] or rows
    return [each.words for each in subject_specific(claims(brain))]
