"""Tables of the group's report as fragments of HTML: the paper's table, comparisons, what the claim is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from bids_sr.reports.text.group_verdicts import number, p_text
from bids_sr.stats.group.group_tests import Comparison
from bids_sr.stats.group.group_text import Cell, PaperTable
from bids_sr.stats.group.metric_tables import Values
from bids_sr.stats.group.paired_tests import Spread, Wilcoxon, differences, spread, wilcoxon

# What the paper reports of 30 participants; smoothing sigma 1.5, unit not given (METHODS: 3.5 or 13.2 mm FWHM)
PAPER = (
    ("paper: raw", "σ = 1.5", "140.00 (64.75–184.00)", "128.50 (43.50–208.25)", ".590 (.408–.735)", ("", "", "")),
    ("paper: srgan", "σ = 1.5", "83.37 (42.31–119.68)", "87.00 (28.93–129.00)", ".490 (.361–.589)",
     ("p < .001", "p < .001", "p = .00466")),
    ("paper: raw", "0", "–", "–", ".417 (.320–.575)", ("", "", "")),
    ("paper: srgan", "0", "–", "–", ".355 (.238–.457)", ("", "", "p = 2.76e−6")),
)  # fmt: skip
PARTS = ("total", "part_grid", "part_smoothing", "part_method", "part_threshold")


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, style: str = "metrics") -> str:
    """A table; captions and heads are escaped, cells are fragments of HTML, the first of each row is its head."""
    top = "".join(f"<th scope='col'>{escape(text)}</th>" for text in head)
    body = "".join(
        f"<tr><th scope='row'>{first}</th>" + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    )
    return (
        f"<div class='wide'><table class='{style}'><caption>{escape(caption)}</caption>"
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def spread_text(value: Spread) -> str:
    """Median and quartiles."""
    if not value.n:
        return "not defined"
    return f"{number(value.median)} ({number(value.first)}–{number(value.third)})"


def _cell(cell: Cell) -> str:
    lacking = f"<br><small>defined in {cell.spread.n} of {cell.of}</small>" if cell.spread.n < cell.of else ""
    return (escape(spread_text(cell.spread)) if cell.of else "–") + lacking


def _p(test: Wilcoxon | None) -> str:
    if test is None:
        return "–"
    if test.method == "identical":
        return "identical"
    short = p_text(test.p_value).removeprefix("p = ").removeprefix("p ")
    return escape(short) + ("" if test.can_reach else f"<br><small>at best {number(test.smallest_p)}</small>")


def paper_html(paper: PaperTable) -> str:
    """The paper's table with every baseline beside the methods, and the paper's own numbers."""
    a, b = paper.conditions
    head = ["series", "smoothing (mm)"]
    for what in (f"size, {a}", f"size, {b}", f"Dice, {a} and {b}"):
        head += [f"{what}: median (IQR)", "p, raw", "p, bspline"]
    rows = []
    for (fwhm, series), cells in paper.lines.items():
        row = [escape(series), f"{fwhm:g}"]
        for cell in cells:
            row += [_cell(cell), _p(cell.against_raw), _p(cell.against_spline)]
        rows.append(row)
    for name, smoothing, *medians, p_values in PAPER:
        row = [f"<em>{escape(name)}</em>", escape(smoothing)]
        for median, p_value in zip(medians, p_values, strict=True):
            row += [escape(str(median)), escape(str(p_value)).removeprefix("p = ") or "–", "–"]
        rows.append(row)
    where = f"task {paper.task}" + (f", {paper.variant}" if paper.variant != "n/a" else "")
    return table(f"Region size (acquired voxels) and overlap, {where}", head, rows)


def comparisons_html(comparisons: Sequence[Comparison], caption: str) -> str:
    """Comparisons of one question as a table."""
    head = (
        "series", "reference", "n", "median (IQR)", "reference's", "difference [interval]", "effect size", "p",
        "p, Holm", "FDR", "p, equivalence", "word", "note",
    )  # fmt: skip
    rows = []
    for each in comparisons:
        interval = "–"
        if each.estimate is not None:
            ends = f"[{number(each.estimate.lower, sign=True)}, {number(each.estimate.upper, sign=True)}]"
            level = f" <small>{100 * each.estimate.level:.0f} %</small>" if each.estimate.level < 0.949 else ""
            interval = f"{number(each.estimate.value, sign=True)} {ends}{level}"
        effect = number(each.test.effect_size, sign=True) if each.test else "–"
        rows.append([
            escape(each.series), escape(each.reference), str(each.n), spread_text(each.own), spread_text(each.other),
            interval, effect, _p(each.test), *(number(p) for p in (each.p_holm, each.p_fdr, each.p_equivalence_holm)),
            escape(each.word), escape(each.note),
        ])  # fmt: skip
    return table(caption, head, rows) if rows else ""


def claims_html(values: Values) -> str:
    """Which part of the reported effect is method, which grid, which smoothing: medians over participants.

    Parameters
    ----------
    values : combined figures of the ``claim_total_`` and ``claim_part_`` measures
    """
    out = []
    for figure, nothing, text in (("size", 1.0, "ratio of sizes"), ("dice", 0.0, "difference of overlaps")):
        lines: dict[tuple[str, str, str, str], dict[str, list[float]]] = {}
        for question, series in values.items():
            stem = question.measure.removeprefix("claim_")
            part = stem.removesuffix(f"_{figure}")
            if part == stem or part not in PARTS:
                continue
            for name, people in series.items():
                key = (question.task, question.contrast, question.region, name)
                lines.setdefault(key, {}).setdefault(part, []).extend(people.values())
        rows = [
            [escape(f"{name}, {region}"), escape(f"{task}, {contrast.replace('+', ' and ')}")]
            + [_part(parts.get(part, []), nothing) for part in PARTS]
            for (task, contrast, region, name), parts in lines.items()
        ]
        if rows:
            head = ("series, threshold", "task, conditions", *(part.replace("part_", "") for part in PARTS))
            out.append(table(f"The paper's claim taken apart: {text} (no effect is {nothing:g})", head, rows))
    return "".join(out)


def _part(values: Sequence[float], nothing: float) -> str:
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return "–"
    test = wilcoxon(differences(known, [nothing] * len(known))) if len(known) > 1 else None
    return (
        f"{escape(spread_text(spread(known)))}<br><small>p {_p(test)}</small>" if test else spread_text(spread(known))
    )


def maps_html(rows: Sequence[Mapping[str, str]]) -> str:
    """Table of group maps: one row each, columns as the keys of the first."""
    if not rows:
        return ""
    return table(
        "Group maps, smallest smoothing above 0", list(rows[0]), [[escape(v) for v in row.values()] for row in rows]
    )
