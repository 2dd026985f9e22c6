"""``group.html``: accuracy over participants and of each, then who is missing, comparisons, group maps, the paper."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from bids_sr.boilerplate import bibliography
from bids_sr.reports.assembler import Panel, Section, Strip, data_uri, write_page
from bids_sr.reports.figures import group_figures
from bids_sr.reports.figures.style import FigureInputError
from bids_sr.reports.figures.svg_files import save_svg
from bids_sr.reports.markup import folded, joined, picked, render, table
from bids_sr.reports.participants_page import ALL
from bids_sr.reports.tables.evaluation_rows import series_text, value_text
from bids_sr.reports.tables.html_tables import facts_html, meaning, messages_html
from bids_sr.reports.tables.region_size_tables import PARTS
from bids_sr.reports.text import group_verdicts as words
from bids_sr.reports.text.methods_text import methods_html
from bids_sr.series import map_label
from bids_sr.stats.group.group_tests import Comparison
from bids_sr.stats.group.group_text import Cell, PaperTable
from bids_sr.stats.group.metric_tables import Question, Values
from bids_sr.stats.group.paired_tests import Spread, Wilcoxon, differences, spread, wilcoxon

METHODS = """
The unit of all group statistics is the participant. Runs of one participant were combined first by fixed effects: by
inverse variance if every run has an interval, otherwise by their mean. Each method was compared with every baseline,
control and other method, and separately with its control analyses, by the Wilcoxon signed-rank test
[@wilcoxon1945], computed exactly from the permutation distribution of its (mid)ranks. Differences are Hodges-Lehmann
estimates with the interval that belongs to that test [@hodges1963]; effect sizes are matched-pairs rank-biserial
correlations. p values were corrected within the comparisons of one method on one question [@holm1979]; false discovery
rates over all comparisons of a measure are in the table [@benjamini1995]. One comparison per task was prespecified
(corrected only for the number of tasks): the default method minus each participant's strongest reference, the largest
value among baselines, denoising controls and simple arithmetic, in explained variance beyond the acquired Nyquist
limit, over the brain. Because noise inflates the largest of several values, this comparison is biased against the
method, and cannot show that the method is worse. All others are exploratory. The number of participants needed for
80 % power is that of the paired t test with the observed effect, divided by the relative efficiency 3/pi of the
signed-rank test. *The same* means that two one-sided paired t tests [@schuirmann1987] place the mean difference within
the margin: {margin}. Paired t tests and Friedman's test [@friedman1937] over all series are in the table, too. Values
that are not defined, such as the overlap of an empty region, are excluded and counted, never replaced. {maps}
"""
MAPS = (
    "Effect maps were divided by the mean signal of the run's brain, resampled to {space} by a single linear "
    "interpolation through the stored transforms, and tested across participants by a one-sample t test."
)
EXPLORATORY = (
    "None of these comparisons was prespecified. p values are corrected within the comparisons of one method on "
    "one question (Holm), not across questions: treat them as hypotheses to test in other participants."
)
SIZE_NOTE = (
    "Sizes are voxels at or above the threshold of the paper's equation 2, divided by the super-resolution factor. "
    "The p values are those of exact signed-rank tests against the acquired series and against bspline, not corrected. "
    "The change from acquired to bspline is due to the finer grid alone; a smaller region is not better by itself."
)


ACCURACY = ("split_ev_beyond", "brain")
"""Measure and region of what is called accurate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MapFigure:
    """A drawn figure of group maps: heading, caption and SVG file."""

    heading: str
    caption: str
    file: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupContent:
    """What the page is made from."""

    # participants, absent: who entered; who and what is missing, in words
    participants: Sequence[str]
    absent: Sequence[str]
    # left_out, flags: what could not be made; warnings of the participants' own reports, in words
    left_out: Sequence[str]
    flags: Sequence[str]
    # comparisons, values, units: statistics of the methods, combined values, unit by metric
    methods: Sequence[str]
    comparisons: Sequence[Comparison]
    values: Values
    units: Mapping[str, str]
    papers: Sequence[PaperTable]  # the paper's table, one a task and pair of conditions
    claims: Values  # combined values of the parts of the attribution of region size
    # maps, map_figures, space: rows of the table of group maps, their figures, the template's space
    maps: Sequence[Mapping[str, str]]
    map_figures: Sequence[MapFigure]
    space: str | None
    # margin, about: the margin of equivalence in words; further facts
    margin: str
    about: Mapping[str, Any]
    idle: Sequence[str] = ()  # methods that were not applied in a run (they fell back to zero filling there), in words
    tasks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # participants, with the number of their runs
    reasons: Mapping[str, str] = field(default_factory=dict)  # by task, why accuracy was not assessed in it


def build_group_report(target: Path, content: GroupContent, *, figure_dir: Path) -> Path:
    """Draw the figures into `figure_dir` (they are inside the page too), and put the page in place in whole."""
    told = words.findings(content.comparisons, content.methods)
    text = METHODS.format(margin=content.margin, maps=MAPS.format(space=content.space) if content.maps else "")
    figure_dir.mkdir(parents=True, exist_ok=True)
    by_task = {f"Task {name}": words.people_text(people) for name, people in content.tasks.items()}
    by_task = by_task if len(by_task) > 1 else {}
    people = facts_html({"Included": list(content.participants), **by_task, "Missing": list(content.absent) or "none"})
    people += messages_html("notice", list(content.left_out))
    people += render("headed", "Flags of the participants' own reports", _list(content.flags))
    comparisons = joined([exploratory_html(content, told), findings_html(content, told, figure_dir)])
    parts = [
        ("verdict", "Accuracy over participants", answer_html(content, figure_dir), ()),
        ("participants", "Participants", people, ()),
        ("comparisons", "Exploratory comparisons", comparisons, ("comparisons",)),
        ("maps", "Group maps", group_maps_html(content), ("group maps",)),
        ("paper", "Comparison with Ota et al. (2022)", sizes_html(content, figure_dir), ("regions of two conditions",)),
        ("methods", "Methods", methods_html(text, bibliography()), ()),
        ("about", "About", facts_html(content.about), ()),
    ]
    sections = [
        Section(name=name, title=title, blocks=[Strip(name=f"{name}-0", panels=[Panel(content=text)])])
        if text else Section(name=name, title=title, missing=missing)
        for name, title, text, missing in parts
    ]  # fmt: skip
    write_page(target, title="bids-sr: group", sections=sections, neighbors=ALL)
    return target


def answer_html(content: GroupContent, figure_dir: Path) -> Markup:
    """The primary comparison of each task in a sentence and numbers, each participant; who and what is missing."""
    primary = [each for each in content.comparisons if each.primary]
    forests = [
        _figure(
            partial(group_figures.primary_figure, each),
            figure_dir / f"group_desc-primary{number}.svg",
            f"Primary comparison, {words.where_text(each.question)}: a point each participant; the diamond is the "
            "Hodges-Lehmann estimate with its interval.",
        )
        for number, each in enumerate(primary)
    ]
    return joined([
        words.group_answer_html(primary, content.tasks, content.reasons),
        *forests,
        *people_html(content, figure_dir),
        render("box", "Missing.", content.absent),
        render("box", "Not applied (fell back to zero filling).", content.idle),
    ])  # fmt: skip


def accuracy_questions(content: GroupContent) -> list[Question]:
    """What accuracy is measured by in each task: the primary comparisons; without one, explained variance of detail."""
    primary = [each.question for each in content.comparisons if each.primary]
    return list(dict.fromkeys(primary)) or [q for q in content.values if (q.measure, q.region) == ACCURACY]


def people_html(content: GroupContent, figure_dir: Path) -> list[Markup]:
    """Accuracy of each participant in every series, as a figure and as a table, for each task."""
    out = []
    for number, question in enumerate(accuracy_questions(content)):
        values = content.values.get(question, {})
        names = group_figures.shown_series(values, content.methods)
        people = sorted({who for name in names for who in values[name]})
        title = f"Explained variance of measured detail beyond the acquired Nyquist limit, {words.where_text(question)}"
        lines = [[who, *(value_text(values[name].get(who, math.nan)) for name in names)] for who in people]
        out.append(_figure(
            partial(group_figures.paired_figure, [("", values)], content.methods),
            figure_dir / f"group_desc-accuracy{number}.svg",
            f"{title}: one line per participant; boxes: median and quartiles.",
        ))  # fmt: skip
        out.append(table(f"{title}, by participant", ["participant", *map(series_text, names)], lines))
    return out


def exploratory_html(content: GroupContent, told: Sequence[words.Finding]) -> Markup:
    """What the comparisons that were not fixed beforehand suggest, in words; then every finding as a sentence."""
    lines = words.verdict(told, content.methods)
    strongest = [each for each in told if each.question.measure == told[0].question.measure]
    placebos = [text for each in strongest if (text := words.placebo_sentence(each))]
    nothing = render("note", "notice", "No method under test has values to compare.")
    return joined([
        render("note", "notice", EXPLORATORY),
        _list(lines, bold=True) or nothing,
        folded("All comparisons in words", _list([words.sentence(each) for each in told])),
        render("headed", "Control analyses", _list(placebos)),
    ])  # fmt: skip


def _list(texts: Sequence[str], *, bold: bool = False) -> Markup:
    return render("items", texts, bold) if texts else Markup("")


def sizes_html(content: GroupContent, figure_dir: Path) -> Markup:
    """The paper's table and the figures of what is in it, then the parts of the claim."""
    out = []
    for number, paper in enumerate(content.papers):
        out.append(paper_html(paper))
        one, other = paper.conditions
        wanted = (
            (f"size, {one}", "quarter_paper", one),
            (f"size, {other}", "quarter_paper", other),
            ("Dice", "quarter_dice", f"{one}+{other}"),
        )
        for fwhm in dict.fromkeys(key[0] for key in paper.lines):
            asked = {
                title: Question(paper.task, paper.variant, "activation", measure, "n/a", "n/a", contrast, fwhm)
                for title, measure, contrast in wanted
            }
            panels = [(title, content.values.get(question, {})) for title, question in asked.items()]
            out.append(_figure(
                partial(group_figures.paired_figure, panels, content.methods),
                figure_dir / f"group_desc-{map_label(f'paper{number}', fwhm)}.svg",
                f"Sizes (acquired voxels) and overlap, task {paper.task}, {fwhm:g} mm smoothing; lines: participants.",
            ))  # fmt: skip
    if out:
        out.append(Markup("<p>{}</p>").format(SIZE_NOTE))
    return joined([*out, claims_html(content.claims)])


def _figure(draw: Callable[[], Figure], file: Path, caption: str) -> Markup:
    """A figure inside the page with its caption; a notice where there is nothing to draw."""
    try:
        save_svg(draw(), file)
    except FigureInputError as error:
        return render("note", "missing", f"No figure: {error} ({caption})")
    return render("figure", data_uri(file), caption, caption, file.stem)


def findings_html(content: GroupContent, told: Sequence[words.Finding], figure_dir: Path) -> Markup:
    """For each question of the verdict: boxes of all series, differences of each method, and the table."""
    found = []
    drawn = accuracy_questions(content)
    for number, question in enumerate(dict.fromkeys(each.question for each in told)):
        own = [each for each in told if each.question == question]
        unit, text = meaning(question.measure)
        title = f"{own[0].title[:1].upper()}{own[0].title[1:]}"
        about = f"{words.where_text(question)}. {question.measure}: {text}."
        out = [Markup("<h3>{}</h3><p>{}</p>").format(title, about)]
        if own[0].kind != words.SIZE and question not in drawn:  # those stand beside the paper's table
            panels = [("", content.values.get(question, {}))]
            out.append(_figure(
                partial(group_figures.paired_figure, panels, content.methods, unit=unit),
                figure_dir / f"group_desc-boxes{number}.svg",
                "Boxes: median and quartiles; one line per participant.",
            ))  # fmt: skip
        for each in own:
            rows = (*each.comparisons, *each.placebos)
            out.append(_figure(
                partial(group_figures.differences_figure, rows, unit=unit),
                figure_dir / f"group_desc-differences{number}{each.method}.svg",
                f"{each.method} minus each reference: Hodges-Lehmann estimate and interval; band: equivalence margin.",
            ))  # fmt: skip
            out.append(
                folded(
                    f"{each.method}: values", comparisons_html(rows, f"{each.method} against its references: {title}")
                )
            )
        found.append((f"{title}, {words.where_text(question)}", joined(out)))
    return picked(found)


def group_maps_html(content: GroupContent) -> Markup:
    """Figures of the group maps and their table."""
    shown = [
        render(
            "headed", each.heading, render("figure", data_uri(each.file), each.heading, each.caption, each.file.stem)
        )
        for each in content.map_figures
    ]
    return joined([*shown, maps_html(content.maps)])


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


def claims_html(values: Values) -> Markup:
    """Which part of the reported effect is method, which grid, which smoothing: medians over participants."""
    out = []
    for metric, nothing, text in (("size", 1.0, "ratio of sizes"), ("dice", 0.0, "difference of overlaps")):
        lines: dict[tuple[str, str], dict[str, list[float]]] = {}
        for question, series in values.items():
            stem = question.measure.removeprefix("claim_")
            part = stem.removesuffix(f"_{metric}")
            if part == stem or part not in PARTS:
                continue
            for name, people in series.items():
                key = (f"{name}, {question.region}", f"{question.task}, {question.contrast.replace('+', ' and ')}")
                lines.setdefault(key, {}).setdefault(part, []).extend(people.values())
        rows = [[*key, *(_part(parts.get(part, []), nothing) for part in PARTS)] for key, parts in lines.items()]
        heads = ("series, threshold", "task, conditions", *(part.replace("part_", "") for part in PARTS))
        out.append(table(f"Sources of the change in region size: {text} (no effect is {nothing:g})", heads, rows))
    return joined(out)


def _part(values: Sequence[float], nothing: float) -> str:
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return "–"
    test = wilcoxon(differences(known, [nothing] * len(known))) if len(known) > 1 else None
    return render("value", spread_text(spread(known)), Markup("p {}").format(_p(test)) if test else "")


def maps_html(rows: Sequence[Mapping[str, str]]) -> Markup:
    """Table of group maps: one row each, columns as the keys of the first."""
    heads = list(rows[0]) if rows else []
    return table("Group maps, smallest smoothing above 0", heads, [list(row.values()) for row in rows])
