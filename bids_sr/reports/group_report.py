"""``group.html``: accuracy over participants and of each, then who is missing, comparisons, group maps, the paper."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from bids_sr.boilerplate import bibliography
from bids_sr.frozen import frozen
from bids_sr.io.atomic_files import write_whole
from bids_sr.io.nifti import load_image
from bids_sr.io.volume import Volume
from bids_sr.metrics.long_tables import MISSING
from bids_sr.metrics.measure_names import metric_of
from bids_sr.reports.assembler import Panel, Section, Strip, data_uri, write_page
from bids_sr.reports.figures import group_figures
from bids_sr.reports.figures.map_figures import Display, Scene, activation_figure
from bids_sr.reports.figures.style import FigureInputError
from bids_sr.reports.figures.svg_files import svg_text
from bids_sr.reports.markup import folded, joined, picked, render, table
from bids_sr.reports.participants_page import ALL, GROUP
from bids_sr.reports.tables.evaluation_rows import series_text, value_text
from bids_sr.reports.tables.group_comparison_tables import comparisons_html, maps_html, paper_html
from bids_sr.reports.tables.html_tables import facts_html, messages_html
from bids_sr.reports.text import group_verdicts as words
from bids_sr.reports.text.methods_text import methods_html
from bids_sr.series import map_label
from bids_sr.stats.group.group_activation import Z_SHOWN, GroupMaps
from bids_sr.stats.group.group_tables import PaperTable, paper_questions, paper_tables
from bids_sr.stats.group.group_tests import Comparison
from bids_sr.stats.group.metric_tables import Joined, Question, Source, runs_of_tasks, without_methods

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


GAP = "a tenth of the median gap between bspline and what was measured, where there is such a gap"
ACCURACY = ("split_ev_beyond", "brain")
"""Measure and region of what is called accurate."""


@frozen
class GroupContent:
    """What the page is made from."""

    # sources, joined, comparisons: tables that entered, what they hold together, and the statistics of it
    sources: Sequence[Source]
    joined: Joined
    comparisons: Sequence[Comparison]
    maps: GroupMaps
    absent: Sequence[str]  # who and what is missing, in words
    method: str  # of the primary comparisons
    margin: float | None  # of equivalence, where one was asked for
    about: Mapping[str, str]  # facts of the call


def build_group_report(output_dir: Path, content: GroupContent) -> Path:
    """Write ``group.html`` in whole, and return its path; figures, inside it too, go to ``group/figures``."""
    methods = content.joined.methods
    figure_dir = output_dir / "group" / "figures"
    figure_dir.mkdir(parents=True, exist_ok=True)
    told = words.findings(content.comparisons, methods)
    made_maps = MAPS.format(space=content.maps.space) if content.maps.maps else ""
    margin = GAP if content.margin is None else f"{content.margin:g} for pure numbers; for others {GAP}"
    comparisons = joined([exploratory_html(told, methods), findings_html(content, told, figure_dir)])
    parts = [
        ("verdict", "Accuracy over participants", answer_html(content, figure_dir), ()),
        ("participants", "Participants", participants_html(content), ()),
        ("comparisons", "Exploratory comparisons", comparisons, ("comparisons",)),
        ("maps", "Group maps", group_maps_html(content.maps, figure_dir), ("group maps",)),
        ("paper", "Comparison with Ota et al. (2022)", sizes_html(content.joined, figure_dir),
         ("regions of two conditions",)),
        ("methods", "Methods", methods_html(METHODS.format(margin=margin, maps=made_maps), bibliography()), ()),
        ("about", "About", about_html(content), ()),
    ]  # fmt: skip
    sections = [
        Section(name=name, title=title, blocks=[Strip(name=f"{name}-0", panels=[Panel(content=text)])])
        if text else Section(name=name, title=title, missing=missing)
        for name, title, text, missing in parts
    ]  # fmt: skip
    page = output_dir / GROUP
    write_page(page, title="bids-sr: group", sections=sections, neighbors=ALL)
    return page


def missing_lines(content: GroupContent) -> list[str]:
    """Who and what is missing, and methods that some runs lack, in words."""
    return [*content.absent, *without_methods(content.joined.present, content.joined.methods)]


def participants_html(content: GroupContent) -> Markup:
    """Who entered, of which task, who is missing, and what the participants' own reports warn of."""
    tasks = runs_of_tasks(content.sources)
    by_task = {f"Task {name}": words.people_text(people) for name, people in tasks.items() if len(tasks) > 1}
    included = list(dict.fromkeys(source.participant for source in content.sources))
    people = facts_html({"Included": included, **by_task, "Missing": missing_lines(content) or "none"})
    flags = [
        f"{run}, {series}: {metric_of(measure).description.removeprefix('1 where ')}".removesuffix(", else 0")
        for run, series, measure in content.joined.flags
    ]
    people += messages_html("note", list(content.maps.left_out))
    return people + render("headed", "Flags of the participants' own reports", _list(list(dict.fromkeys(flags))))


def about_html(content: GroupContent) -> Markup:
    """The call, and what made the tables."""
    first = content.sources[0]
    return facts_html({
        **content.about,
        "Tables made by version": first.version or "not recorded",
        "Digest of their settings": first.digest or "not recorded",
        "All values": "group_metrics.tsv (long table), group_stats.tsv (all comparisons)",
    })  # fmt: skip


def answer_html(content: GroupContent, figure_dir: Path) -> Markup:
    """The primary comparison of each task in a sentence and numbers, each participant; who and what is missing."""
    primary = [each for each in content.comparisons if each.primary]
    forests = [
        _figure(
            partial(group_figures.primary_figure, each),
            figure_dir,
            f"group_desc-primary{number}",
            f"Primary comparison, {words.where_text(each.question)}: a point each participant; the diamond is the "
            "Hodges-Lehmann estimate with its interval.",
        )
        for number, each in enumerate(primary)
    ]
    found, tasks = content.joined, runs_of_tasks(content.sources)
    reasons = {task: words.why_not_assessed(task, found.values, found.idle, content.method) for task in tasks}
    idle = {method: [run for run, each in found.idle if each == method] for _, method in found.idle}
    return joined([
        words.group_answer_html(primary, tasks, reasons),
        *forests,
        *people_html(content, figure_dir),
        render("box", "Missing.", missing_lines(content)),
        render("box", "Not applied (fell back to zero filling).",
               [f"{', '.join(runs)}: {method} fell back to zero filling" for method, runs in idle.items()]),
    ])  # fmt: skip


def accuracy_questions(content: GroupContent) -> list[Question]:
    """What accuracy is measured by in each task: the primary comparisons; without one, explained variance of detail."""
    primary = [each.question for each in content.comparisons if each.primary]
    return list(dict.fromkeys(primary)) or [q for q in content.joined.values if (q.measure, q.region) == ACCURACY]


def people_html(content: GroupContent, figure_dir: Path) -> Iterator[Markup]:
    """Accuracy of each participant in every series, as a figure and as a table, for each task."""
    found = content.joined
    for number, question in enumerate(accuracy_questions(content)):
        values = found.values.get(question, {})
        names = group_figures.shown_series(values, found.methods)
        people = sorted({who for name in names for who in values[name]})
        title = f"Explained variance of measured detail beyond the acquired Nyquist limit, {words.where_text(question)}"
        lines = [[who, *(value_text(values[name].get(who, math.nan)) for name in names)] for who in people]
        yield _figure(
            partial(group_figures.paired_figure, [("", values)], found.methods), figure_dir,
            f"group_desc-accuracy{number}", f"{title}: one line per participant; boxes: median and quartiles.",
        )  # fmt: skip
        yield table(f"{title}, by participant", ["participant", *map(series_text, names)], lines)


def exploratory_html(told: Sequence[words.Finding], methods: Sequence[str]) -> Markup:
    """What the comparisons that were not fixed beforehand suggest, in words; then every finding as a sentence."""
    lines = words.verdict(told, methods)
    strongest = [each for each in told if each.question.measure == told[0].question.measure]
    placebos = [text for each in strongest if (text := words.placebo_sentence(each))]
    nothing = render("note", "note", "No method under test has values to compare.")
    return joined([
        render("note", "note", EXPLORATORY),
        _list(lines, bold=True) or nothing,
        folded("All comparisons in words", _list([words.sentence(each) for each in told])),
        render("headed", "Control analyses", _list(placebos)),
    ])  # fmt: skip


def _list(texts: Sequence[str], *, bold: bool = False) -> Markup:
    return render("items", texts, bold) if texts else Markup("")


def sizes_html(found: Joined, figure_dir: Path) -> Markup:
    """The paper's table and the figures of what is in it."""
    papers = paper_tables(found.values, found.methods)
    shown = joined(_paper(paper, found, figure_dir, f"paper{number}") for number, paper in enumerate(papers))
    note = Markup("<p>{}</p>").format(SIZE_NOTE) if papers else ""
    return joined([shown, note])


def _paper(paper: PaperTable, found: Joined, figure_dir: Path, name: str) -> Markup:
    titles = (*(f"size, {condition}" for condition in paper.conditions), "Dice")
    panels = {}
    for fwhm, _ in paper.lines:
        questions = paper_questions(paper.task, paper.variant, paper.conditions, fwhm)
        panels[fwhm] = [(title, found.values.get(q, {})) for title, q in zip(titles, questions, strict=True)]
    return joined([
        paper_html(paper),
        *(
            _figure(
                partial(group_figures.paired_figure, own, found.methods), figure_dir,
                f"group_desc-{map_label(name, fwhm)}",
                f"Sizes (acquired voxels) and overlap, task {paper.task}, {fwhm:g} mm smoothing; lines: participants.",
            )
            for fwhm, own in panels.items()
        ),
    ])  # fmt: skip


def _figure(draw: Callable[[], Figure], figure_dir: Path, name: str, caption: str, heading: str = "") -> Markup:
    """A figure inside the page with its caption, and as a file; a notice where there is nothing to draw."""
    try:
        svg = svg_text(draw())
    except FigureInputError as error:
        return render("note", "missing", f"No figure: {error} ({caption})")
    write_whole(figure_dir / f"{name}.svg", svg)
    return render("figure", data_uri(svg.encode()), heading or caption, caption, name)


def findings_html(content: GroupContent, told: Sequence[words.Finding], figure_dir: Path) -> Markup:
    """For each question of the verdict: boxes of all series, differences of each method, and the table."""
    by_question: dict[Question, list[words.Finding]] = {}
    for each in told:
        by_question.setdefault(each.question, []).append(each)
    texts = [joined(_of_question(content, own, k, figure_dir)) for k, own in enumerate(by_question.values())]
    titles = [f"{_capital(own[0].title)}, {words.where_text(question)}" for question, own in by_question.items()]
    return picked(zip(titles, texts, strict=True))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _of_question(
    content: GroupContent, told: Sequence[words.Finding], number: int, figure_dir: Path
) -> Iterator[Markup]:
    found, question = content.joined, told[0].question
    measure = metric_of(question.measure)
    title = _capital(told[0].title)
    yield Markup("<h3>{}</h3><p>{}</p>").format(
        title, f"{words.where_text(question)}. {measure.name}: {measure.description}."
    )
    if told[0].kind != words.SIZE and question not in accuracy_questions(content):  # those stand beside their tables
        panels = [("", found.values.get(question, {}))]
        yield _figure(
            partial(group_figures.paired_figure, panels, found.methods, unit=measure.unit), figure_dir,
            f"group_desc-boxes{number}", "Boxes: median and quartiles; one line per participant.",
        )  # fmt: skip
    for each in told:
        rows = (*each.comparisons, *each.placebos)
        yield _figure(
            partial(group_figures.differences_figure, rows, unit=measure.unit), figure_dir,
            f"group_desc-differences{number}{each.method}",
            f"{each.method} minus each reference: Hodges-Lehmann estimate and interval; band: equivalence margin.",
        )  # fmt: skip
        values = comparisons_html(rows, f"{each.method} against its references: {title}")
        yield folded(f"{each.method}: values", values)


def group_maps_html(found: GroupMaps, figure_dir: Path) -> Markup:
    """Figures of z for each task and contrast (a row each series, the same planes, one color scale), and the table."""
    rows = [
        {
            "series": each.series,
            "contrast": each.contrast,
            "task": each.task,
            "smoothing (mm)": f"{each.fwhm_mm:g}",
            "participants": str(len(each.participants)),
            "highest z": f"{each.peak_z:.2f}",
            f"where ({found.space}, mm)": " ".join(f"{mm:.0f}" for mm in each.peak_mm),
            "z > 3.1 (mm³)": f"{each.active_mm3:.0f}",
        }
        for each in found.maps
    ]
    return joined([*_map_figures(found, figure_dir), maps_html(rows)])


def _map_figures(found: GroupMaps, figure_dir: Path) -> Iterator[Markup]:
    if found.background is None or found.mask is None or found.affine is None:
        return
    background, mask = Volume(found.background, found.affine), Volume(found.mask, found.affine)
    scene = Scene(background=background, mask=mask, roi=mask)
    display = Display(statistic="z", threshold=Z_SHOWN, floor=5.0)
    for task, variant, contrast in dict.fromkeys((each.task, each.variant, each.contrast) for each in found.maps):
        own = [m for m in found.maps if (m.task, m.variant, m.contrast) == (task, variant, contrast)]
        rows = {m.series: Volume(load_image(m.files["z"])[0], found.affine) for m in own}
        kind, told = ("", "") if variant == MISSING else (f"_{variant}", f", {variant}")
        counts = sorted({len(m.participants) for m in own})
        heading = f"{contrast}, task {task}{told}"
        figure = _figure(
            partial(activation_figure, rows, scene, display=display, n_slices=3),
            figure_dir,
            f"group_task-{task}{kind}_contrast-{contrast}_desc-maps",
            f"z of the mean over {' to '.join(map(str, counts))} participants in {found.space}, "
            f"{own[0].fwhm_mm:g} mm smoothing; planes chosen by {own[0].series}. Not corrected for multiple tests.",
            heading,
        )
        yield render("headed", heading, figure)
