"""Tables of the group's page: comparisons, the paper's numbers beside ours, and maps."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from bids_sr.reports.markup import render, table
from bids_sr.reports.tables.evaluation_rows import series_text
from bids_sr.reports.text import group_verdicts as words
from bids_sr.stats.group.group_tables import Cell, PaperTable
from bids_sr.stats.group.group_tests import Comparison
from bids_sr.stats.group.paired_tests import Spread, Wilcoxon

# What the paper reports of 30 participants; smoothing sigma 1.5, unit not given (METHODS: 3.5 or 13.2 mm FWHM)
PAPER = (
    ("paper: acquired", "σ = 1.5", "140.00 (64.75–184.00)", "128.50 (43.50–208.25)", ".590 (.408–.735)", ("", "", "")),
    ("paper: srgan", "σ = 1.5", "83.37 (42.31–119.68)", "87.00 (28.93–129.00)", ".490 (.361–.589)",
     ("p < .001", "p < .001", "p = .00466")),
    ("paper: acquired", "0", "–", "–", ".417 (.320–.575)", ("", "", "")),
    ("paper: srgan", "0", "–", "–", ".355 (.238–.457)", ("", "", "p = 2.76e−6")),
)  # fmt: skip


def spread_text(value: Spread) -> str:
    """Median and quartiles."""
    if not value.n:
        return "not defined"
    return f"{words.number(value.median)} ({words.number(value.first)}–{words.number(value.third)})"


def _cell(cell: Cell) -> str:
    lacking = f"defined in {cell.spread.n} of {cell.of}" if cell.spread.n < cell.of else ""
    return render("value", spread_text(cell.spread) if cell.of else "–", lacking)


def _p(test: Wilcoxon | None) -> str:
    if test is None:
        return "–"
    if test.method == "identical":
        return "identical"
    short = words.p_text(test.p_value).removeprefix("p = ").removeprefix("p ")
    return render("value", short, "" if test.can_reach else f"smallest possible: {words.number(test.smallest_p)}")


def paper_html(paper: PaperTable) -> Markup:
    """The paper's table with every baseline beside the methods, and the paper's own numbers."""
    a, b = paper.conditions
    heads = ["series", "smoothing (mm)"]
    for what in (f"size, {a}", f"size, {b}", f"Dice, {a} and {b}"):
        heads += [f"{what}: median (IQR)", "p, acquired", "p, bspline"]
    rows: list[list[str]] = []
    for (fwhm, series), cells in paper.lines.items():
        tests = [(_cell(cell), _p(cell.against_raw), _p(cell.against_spline)) for cell in cells]
        rows.append([series_text(series), f"{fwhm:g}", *(text for each in tests for text in each)])
    for name, smoothing, *medians, p_values in PAPER:
        own = [(m, p.removeprefix("p = ") or "–", "–") for m, p in zip(medians, p_values, strict=True)]
        rows.append([Markup("<em>{}</em>").format(name), smoothing, *(str(text) for each in own for text in each)])
    where = f"task {paper.task}" + (f", {paper.variant}" if paper.variant != "n/a" else "")
    return table(f"Region size (acquired voxels) and overlap, {where}", heads, rows)


def comparisons_html(comparisons: Sequence[Comparison], caption: str) -> Markup:
    """Comparisons of one question as a table."""
    heads = (
        "series", "reference", "n", "median (IQR)", "reference, median (IQR)", "difference [interval]", "effect size",
        "p", "p, Holm", "FDR", "p, equivalence", "result", "note",
    )  # fmt: skip
    rows = []
    for each in comparisons:
        interval: str = "–"
        if each.estimate is not None:
            interval = words.interval_text(each.estimate)
            if each.estimate.level < 0.949:
                interval = Markup("{} <small>{:.0f} %</small>").format(interval, 100 * each.estimate.level)
        effect = words.number(each.test.effect_size, sign=True) if each.test else "–"
        named = map(series_text, (each.series, each.reference))
        rows.append([
            *named, each.n, spread_text(each.own), spread_text(each.other), interval, effect, _p(each.test),
            *(words.number(p) for p in (each.p_holm, each.p_fdr, each.p_equivalence_holm)), each.word, each.note,
        ])  # fmt: skip
    return table(caption, heads, rows)


def maps_html(rows: Sequence[Mapping[str, str]]) -> Markup:
    """Table of group maps: one row each, columns as the keys of the first."""
    heads = list(rows[0]) if rows else []
    return table("Group maps, smallest smoothing above 0", heads, [list(row.values()) for row in rows])
