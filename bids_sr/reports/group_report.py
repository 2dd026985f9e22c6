"""``group.html``: the verdict first, who is missing, the paper's table with baselines, differences, group maps."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from bids_sr.boilerplate import bibliography
from bids_sr.reports.figures import group_figures
from bids_sr.reports.figures.style import FigureInputError, save_svg
from bids_sr.reports.tables.group_tables import claims_html, comparisons_html, maps_html, paper_html
from bids_sr.reports.tables.html_tables import facts_html, messages_html
from bids_sr.reports.text.group_verdicts import (
    SIZE,
    Finding,
    findings,
    meaning,
    placebo_sentence,
    primary_sentence,
    sentence,
    verdict,
    where_text,
)
from bids_sr.reports.text.methods_text import methods_html
from bids_sr.series import map_label
from bids_sr.stats.group.group_tests import Comparison
from bids_sr.stats.group.group_text import PaperTable
from bids_sr.stats.group.metric_tables import Question, Values
from bids_sr.stats.group.primary_comparison import Primary

METHODS = """
The unit of all group statistics is the participant. Runs of one participant were combined first by fixed effects: by
inverse variance where every run has an interval, else by their mean. Each method was compared with every baseline,
control and other method, and apart from these with its placebos, by the Wilcoxon signed-rank test [@wilcoxon1945],
computed exactly from the permutation distribution of its (mid)ranks. Differences are Hodges-Lehmann estimates with
the interval that belongs to that test [@hodges1963]; effect sizes are matched-pairs rank-biserial correlations. p
values were corrected within the comparisons of one method on one question [@holm1979]; false discovery rates over all
comparisons of a measure are in the table [@benjamini1995]. One comparison a task was fixed beforehand and is not
corrected: the default method less the strongest baseline in explained variance beyond the acquired Nyquist limit,
over the brain; all others are exploratory. The participants needed for 80 % power are those of the paired t test with
the observed effect, over the relative efficiency 3/pi of the signed-rank test. *The same* means that two one-sided
paired t tests [@schuirmann1987] place the mean difference within the margin: {margin}. Paired t tests and Friedman's
test [@friedman1937] over all series are in the table too. Figures that are not defined, such as the overlap of an
empty region, are left out and counted, never replaced. {maps}
"""
MAPS = (
    "Effect maps were divided by the mean signal of the run's brain, brought to {space} by one linear interpolation "
    "through the stored transforms, and tested over participants by a one-sample t test."
)
SIZE_NOTE = (
    "Sizes are voxels at or above the threshold of the paper's equation 2, divided by the factor of super-resolution. "
    "The p values are exact signed-rank tests against raw and against bspline, not corrected. What bspline alone "
    "changes is the finer grid, not a method; a smaller region is not better by itself."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class MapFigure:
    """A drawn figure of group maps: heading, caption and SVG file."""

    heading: str
    caption: str
    file: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupContent:
    """What the page is made from.

    Attributes
    ----------
    participants : who entered
    absent : who and what is missing, in words
    left_out : what could not be made, in words
    flags : warnings of the participants' own reports, in words
    idle : methods that were not applied in a run (they fell back to zero filling there), in words
    primary : the comparison of each task that was fixed beforehand
    methods : series under test
    comparisons, values, units : statistics, combined figures, unit by measure
    papers : the paper's table, one a task and pair of conditions
    claims : combined figures of the claim's parts
    maps : rows of the table of group maps
    map_figures : their figures
    space : template's space, or None
    margin : the margin of equivalence in words
    about : further facts
    """

    participants: Sequence[str]
    absent: Sequence[str]
    left_out: Sequence[str]
    flags: Sequence[str]
    methods: Sequence[str]
    comparisons: Sequence[Comparison]
    values: Values
    units: Mapping[str, str]
    papers: Sequence[PaperTable]
    claims: Values
    maps: Sequence[Mapping[str, str]]
    map_figures: Sequence[MapFigure]
    space: str | None
    margin: str
    about: Mapping[str, Any]
    idle: Sequence[str] = ()
    primary: Sequence[Primary] = ()


def image_html(file: Path, label: str) -> str:
    """An SVG file inside the page."""
    code = base64.b64encode(file.read_bytes()).decode("ascii")
    return f'<img src="data:image/svg+xml;base64,{code}" alt="{escape(label, quote=True)}">'


def build_group_report(target: Path, content: GroupContent, *, figure_dir: Path) -> Path:
    """Draw the figures, assemble the page and put it in place in whole.

    Parameters
    ----------
    target : ``group.html``
    content : what it is made from
    figure_dir : where the SVG files go; they are inside the page too
    """
    from bids_sr.reports.assembler import Section, TextReportlet, write_page

    told = findings(content.comparisons, content.methods)
    figure_dir.mkdir(parents=True, exist_ok=True)
    parts = [
        ("verdict", "Verdict", verdict_html(content, told), ()),
        ("participants", "Participants", participants_html(content), ()),
        ("paper", "The paper's table", sizes_html(content, figure_dir), ("regions of two conditions",)),
        ("comparisons", "Methods against references", findings_html(content, told, figure_dir), ("comparisons",)),
        ("maps", "Group maps", group_maps_html(content), ("group maps",)),
        ("methods", "Methods", methods_html(_methods_text(content), bibliography()), ()),
        ("about", "About", facts_html(content.about), ()),
    ]
    sections = [
        Section(name, title, [TextReportlet(f"{name}-0", text)] if text else [], [], missing if not text else [])
        for name, title, text, missing in parts
    ]
    write_page(target, title="bids-sr: group", sections=sections)
    return target


def verdict_html(content: GroupContent, told: Sequence[Finding]) -> str:
    """What may be claimed, in words; then every finding as a sentence."""
    count = len(content.participants)
    absent = "".join(f"<li>{escape(line)}</li>" for line in content.absent)
    missing = f"<div class='warning'><strong>Missing.</strong><ul>{absent}</ul></div>" if absent else ""
    lines = "".join(f"<li><strong>{escape(line)}</strong></li>" for line in verdict(told, content.methods))
    said = "".join(f"<li>{escape(sentence(each))}</li>" for each in told)
    strongest = [each for each in told if each.question.measure == told[0].question.measure]
    placebos = "".join(f"<li>{escape(text)}</li>" for each in strongest if (text := placebo_sentence(each)))
    return (
        f"<p>{count} participants.</p>{missing}{_idle_html(content)}{_primary_html(content)}"
        + ("<h3>Exploratory</h3>" if lines or said else "")
        + (f"<ul>{lines}</ul>" if lines else "<p class='notice'>No method under test has figures to compare.</p>")
        + (f"<h3>What was compared</h3><ul>{said}</ul>" if said else "")
        + (f"<h3>Beside the placebos</h3><ul>{placebos}</ul>" if placebos else "")
    )


def _idle_html(content: GroupContent) -> str:
    """Who was not applied where: first of all, as it is out of every comparison."""
    lines = "".join(f"<li>{escape(line)}</li>" for line in content.idle)
    return f"<div class='warning'><strong>Not applied, and not compared.</strong><ul>{lines}</ul></div>" * bool(lines)


def _primary_html(content: GroupContent) -> str:
    """The comparison that was fixed beforehand, or that there is none."""
    lines = "".join(f"<li><strong>{escape(primary_sentence(each))}</strong></li>" for each in content.primary)
    none = (
        "<p class='notice'>None: it is the default method less the strongest baseline in explained variance, which "
        "needs a measured or known truth.</p>"
    )
    return f"<h3>Primary comparison, fixed beforehand</h3>{f'<ul>{lines}</ul>' if lines else none}"


def participants_html(content: GroupContent) -> str:
    """Who entered, who is missing, what could not be made, whose report has warnings."""
    facts = {"Entered": list(content.participants), "Missing": list(content.absent) or "nobody"}
    out = facts_html(facts) + messages_html("notice", list(content.left_out))
    flags = "".join(f"<li>{escape(line)}</li>" for line in content.flags)
    return out + (f"<h3>Flags of the participants' own reports</h3><ul>{flags}</ul>" if flags else "")


def sizes_html(content: GroupContent, figure_dir: Path) -> str:
    """The paper's table and the figures of what is in it, then the parts of the claim."""
    out = []
    for number, paper in enumerate(content.papers):
        out.append(paper_html(paper))
        for fwhm in dict.fromkeys(key[0] for key in paper.lines):
            panels = [
                (title, content.values.get(Question(
                    paper.task, paper.variant, "activation", measure, "n/a", "n/a", contrast, fwhm), {}))
                for title, measure, contrast in (
                    (f"size, {paper.conditions[0]}", "quarter_paper", paper.conditions[0]),
                    (f"size, {paper.conditions[1]}", "quarter_paper", paper.conditions[1]),
                    ("Dice", "quarter_dice", "+".join(paper.conditions)),
                )
            ]  # fmt: skip
            file = figure_dir / f"group_desc-{map_label(f'paper{number}', fwhm)}.svg"
            out.append(_figure(
                lambda panels=panels: group_figures.paired_figure(panels, content.methods), file,
                f"Sizes (acquired voxels) and overlap, task {paper.task}, {fwhm:g} mm smoothing; a line a participant.",
            ))  # fmt: skip
    if out:
        out.append(f"<p>{escape(SIZE_NOTE)}</p>")
    return "".join(out) + claims_html(content.claims)


def _figure(draw: Any, file: Path, caption: str) -> str:
    """A figure inside the page with its caption; a notice where there is nothing to draw."""
    try:
        save_svg(draw(), file)
    except FigureInputError as error:
        return f"<p class='missing'>No figure: {escape(str(error))} ({escape(caption)})</p>"
    return f"<figure>{image_html(file, caption)}<figcaption>{escape(caption)}</figcaption></figure>"


def findings_html(content: GroupContent, told: Sequence[Finding], figure_dir: Path) -> str:
    """For each question of the verdict: boxes of all series, differences of each method, and the table."""
    out = []
    for number, question in enumerate(dict.fromkeys(each.question for each in told)):
        own = [each for each in told if each.question == question]
        unit, text = meaning(question.measure)
        title = f"{own[0].title[:1].upper()}{own[0].title[1:]}"
        out.append(f"<h3>{escape(title)}</h3><p>{escape(f'{where_text(question)}. {question.measure}: {text}.')}</p>")
        series = content.values.get(question, {})
        if own[0].kind != SIZE:  # those stand beside the paper's table
            out.append(_figure(
                lambda own=series, unit=unit: group_figures.paired_figure([("", own)], content.methods, unit=unit),
                figure_dir / f"group_desc-boxes{number}.svg",
                "Boxes: median and quartiles; a line a participant.",
            ))  # fmt: skip
        for each in own:
            rows = (*each.comparisons, *each.placebos)
            out.append(_figure(
                lambda rows=rows, unit=unit: group_figures.differences_figure(rows, unit=unit),
                figure_dir / f"group_desc-differences{number}{each.method}.svg",
                f"{each.method} less each reference: Hodges-Lehmann estimate, interval; band: margin of equivalence.",
            ))  # fmt: skip
            table = comparisons_html(rows, f"{each.method} against its references")
            out.append(f"<details><summary>{escape(each.method)}: figures</summary>{table}</details>")
    return "".join(out)


def group_maps_html(content: GroupContent) -> str:
    """Figures of the group maps and their table."""
    shown = [
        f"<h3>{escape(each.heading)}</h3><figure>{image_html(each.file, each.heading)}"
        f"<figcaption>{escape(each.caption)}</figcaption></figure>"
        for each in content.map_figures
    ]
    return "".join(shown) + maps_html(content.maps)


def _methods_text(content: GroupContent) -> str:
    maps = MAPS.format(space=content.space) if content.maps else ""
    return METHODS.format(margin=content.margin, maps=maps)
