"""``group.html``: accuracy, missing participants, comparisons, group maps, paper's table.

Accuracy is shown over participants and of each.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from bids_sr.boilerplate import bibliography
from bids_sr.evaluation.evidence import APPLIED
from bids_sr.evaluation.words import capital
from bids_sr.figures.canvas import FigureInputError, svg_text
from bids_sr.figures.map_figures import Display, Scene, activation_figure
from bids_sr.frozen import frozen
from bids_sr.group import group_figures
from bids_sr.group import group_verdicts as words
from bids_sr.group.comparisons import PRIMARY, on_accuracy
from bids_sr.group.group_figures import comparisons_html, paper_html, papers
from bids_sr.group.group_tests import Z_SHOWN, GroupMaps
from bids_sr.group.group_values import QUESTION, Joined, of_question
from bids_sr.io.atomic_files import write_whole
from bids_sr.io.grids import Volume
from bids_sr.io.nifti import load_image
from bids_sr.metrics import FLAGS, MISSING, number, statistic
from bids_sr.report.assembler import data_uri, plain_section, write_page
from bids_sr.report.html_tables import facts_html, messages_html, series_text
from bids_sr.report.methods_text import methods_html
from bids_sr.report.participants_page import ALL, GROUP
from bids_sr.report.sections import folded, joined, picked, render, table
from bids_sr.series import map_label

_METHODS = """
The unit of all group statistics is the participant. Runs of one participant were combined first by
fixed effects: by inverse variance if every run has an interval, otherwise by their mean. Each
method was compared with every baseline, denoising control and other method, and separately with
its negative controls, by the Wilcoxon signed-rank test [@wilcoxon1945], computed exactly from the
permutation distribution of the (mid)ranks. Differences are Hodges-Lehmann estimates with the
corresponding intervals [@hodges1963]; effect sizes are matched-pairs rank-biserial correlations.
p values were corrected over the comparisons of one method on one question [@holm1979]; the table
also lists false discovery rates over all comparisons of a measure [@benjamini1995]. One comparison
per task was prespecified (corrected only for the number of tasks): {method} (the default method,
or the only method that was run) minus the strongest reference of each participant, in explained
variance above the acquired Nyquist frequency, over the brain. The strongest reference is the
largest value among baselines, denoising controls and simple arithmetic. Because noise inflates the
largest of several values, this comparison is biased against the method and cannot show that the
method is worse. All other comparisons are exploratory. The number of participants needed for 80 %
power was computed for the paired t test with the observed effect and divided by the relative
efficiency 3/pi of the signed-rank test. *The same* means that two one-sided paired t tests
[@schuirmann1987] place the mean difference within the margin: {margin}. The table also contains
paired t tests and Friedman's test [@friedman1937] over all series. Undefined values, such as the
overlap of an empty region, were excluded and counted, never replaced. {maps}
"""
_MAPS = (
    "Effect maps were divided by the mean signal of the run's brain, resampled to {space} by a"
    " single linear interpolation through the stored transforms, and tested across participants by"
    " a one-sample t test."
)
_FLIPS = (
    " Family-wise corrected, two-sided p values were computed from the largest absolute t over"
    " the brain in random sign flips [@winkler2014; @nilearn]."
)
_EXPLORATORY = (
    "None of these comparisons was prespecified. p values are corrected within the comparisons of"
    " one method on one question (Holm), not across questions: treat them as hypotheses to test in"
    " other participants."
)
_SIZE_NOTE = (
    "Sizes are voxels at or above the threshold of the paper's equation 2, divided by the"
    " super-resolution factor. p values are from exact signed-rank tests against the"
    " acquired series and against bspline, not corrected. The change from acquired to bspline is"
    " due only to the finer grid. A smaller region is not an improvement by itself."
)


_GAP = (
    "a tenth of the median difference between bspline and the measured series, if there is such a"
    " difference"
)
_FLAGS = {f"flag_{name}": flag.failed for name, flag in FLAGS.items()}


@frozen
class GroupContent:
    """What the page is made from.

    `tables`: tables that entered; `joined`: what they hold together; `comparisons`: the statistics
    of it. `maps`: maps of z with the template below them. `method`: series of the primary
    comparisons. `margin`: of equivalence, where one was asked for, else None.
    """

    tables: pd.DataFrame
    joined: Joined
    comparisons: pd.DataFrame
    maps: GroupMaps
    absent: Sequence[str]
    method: str
    margin: float | None
    about: Mapping[str, str]


def build_group_report(output_dir: Path, content: GroupContent) -> Path:
    """Write ``group.html`` atomically and return its path.

    Its figures are embedded and also written to ``group/figures``.
    """
    methods = content.joined.methods
    figure_dir = output_dir / "group" / "figures"
    figure_dir.mkdir(parents=True, exist_ok=True)
    findings = words.findings(content.comparisons, methods)
    made_maps = _MAPS.format(space=content.maps.space) if len(content.maps.maps) else ""
    made_maps += _FLIPS * ("fwe_t" in content.maps.maps)
    margin = (
        _GAP
        if content.margin is None
        else f"{content.margin:g} for pure numbers; for others {_GAP}"
    )
    comparisons = joined(
        [_exploratory_html(findings, methods), _findings_html(content, findings, figure_dir)]
    )
    sections = [
        plain_section("verdict", "Accuracy over participants", _answer_html(content, figure_dir)),
        plain_section("participants", "Participants", _participants_html(content)),
        plain_section("comparisons", "Exploratory comparisons", comparisons, ["comparisons"]),
        plain_section(
            "maps", "Group maps", _group_maps_html(content.maps, figure_dir), ["group maps"]
        ),
        plain_section(
            "paper",
            "Comparison with Ota et al. (2022)",
            _sizes_html(content.joined, figure_dir),
            ["regions of two conditions"],
        ),
        plain_section(
            "methods",
            "Methods",
            methods_html(
                _METHODS.format(method=content.method, margin=margin, maps=made_maps),
                bibliography(),
            ),
        ),
        plain_section("about", "About", _about_html(content)),
    ]
    page = output_dir / GROUP
    write_page(page, title="bids-sr: group", sections=sections, neighbors=ALL)
    return page


def _missing_lines(content: GroupContent) -> list[str]:
    """Who and what is missing, and methods that some runs have and others lack, in words."""
    there = content.joined.series.groupby("name", sort=False)["series"].agg(set)
    lacking = {
        method: [run for run, own in there.items() if method not in own]
        for method in content.joined.methods
    }
    some = {method: runs for method, runs in lacking.items() if 0 < len(runs) < len(there)}
    return [*content.absent, *(f"no {method}: {', '.join(runs)}" for method, runs in some.items())]


def _runs_of_tasks(tables: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Participants of each task, with the number of their runs."""
    counts = tables.groupby(["task", "participant"])["name"].nunique()
    return {task: own.droplevel("task").to_dict() for task, own in counts.groupby("task")}


def _participants_html(content: GroupContent) -> Markup:
    """Return who is included by task, who is missing, and the participants' warnings."""
    tasks = _runs_of_tasks(content.tables)
    by_task = {
        f"Task {name}": words.people_text(people)
        for name, people in tasks.items()
        if len(tasks) > 1
    }
    included = list(content.tables["participant"].unique())
    people = facts_html(
        {"Included": included, **by_task, "Missing": _missing_lines(content) or "none"}
    )
    raised = content.joined.told[content.joined.told["statistic"].isin(_FLAGS)]
    flags = [f"{row.name}, {row.series}: {_FLAGS[row.statistic]}" for row in raised.itertuples()]
    people += messages_html("note", list(content.maps.left_out))
    raised_flags = render("items", list(dict.fromkeys(flags)))
    return people + render("headed", "Flags in the reports of the participants", raised_flags)


def _about_html(content: GroupContent) -> Markup:
    """The call, and what made the tables."""
    first = content.tables.iloc[0]
    return facts_html(
        {
            **content.about,
            "Version that wrote the tables": first["version"] or "not recorded",
            "Digest of their settings": first["digest"] or "not recorded",
            "All values": "group_metrics.tsv (long table), group_stats.tsv (all comparisons)",
        }
    )


def _answer_html(content: GroupContent, figure_dir: Path) -> Markup:
    """Return the primary comparison of each task as a sentence and numbers.

    Each participant is shown, and who and what is missing.
    """
    primary = content.comparisons[content.comparisons["part"] == PRIMARY]
    forests = [
        _figure(
            partial(group_figures.primary_figure, row),
            figure_dir,
            f"group_desc-primary{k}",
            f"Primary comparison, {words.where_text(row)}: one diamond per participant (a"
            " selection over all ranks if there are many); the square is the Hodges-Lehmann"
            " estimate with its"
            " interval.",
        )
        for k, row in enumerate(primary.itertuples())
    ]
    tables = content.joined
    tasks = _runs_of_tasks(content.tables)
    sentences = {
        task: words.not_assessed_text(task, tables.values, tables.told, content.method)
        for task in tasks
    }
    idle = tables.told[tables.told["statistic"] == APPLIED].groupby("series", sort=False)["name"]
    return joined(
        [
            words.group_answer_html(content.comparisons, tasks, sentences),
            *forests,
            *_people_html(content, figure_dir),
            render("box", "Missing.", _missing_lines(content)),
            render(
                "box",
                "Not applied (zero filled).",
                [f"{', '.join(runs)}: {method} was zero filled" for method, runs in idle],
            ),
        ]
    )


def _accuracy_values(content: GroupContent) -> list[pd.DataFrame]:
    """Return the values that express accuracy in each task.

    They are those of the primary comparison, or all measured ones without it.
    """
    values = content.joined.values
    primary = content.comparisons[content.comparisons["part"] == PRIMARY]
    if len(primary):
        return [
            of_question(values, row) for _, row in primary.drop_duplicates(QUESTION).iterrows()
        ]
    measured = values[on_accuracy(values) & (values["reference"] == "measured")]
    return [own for _, own in measured.groupby(QUESTION, sort=False)]


def _people_html(content: GroupContent, figure_dir: Path) -> Iterator[Markup]:
    """Accuracy of each participant in every series, as a figure and as a table, for each task."""
    methods = content.joined.methods
    for k, values in enumerate(_accuracy_values(content)):
        shown = group_figures.shown_series(values, methods)
        title = words.title_text(values.iloc[0])
        lines = [
            [who, *map(number, row)]
            for who, row in zip(shown.index, shown.to_numpy(), strict=True)
        ]
        yield _figure(
            partial(group_figures.paired_figure, [("", values)], methods),
            figure_dir,
            f"group_desc-accuracy{k}",
            f"{title}: one line per participant; boxes: median and quartiles.",
        )
        yield table(f"{title}, by participant", ["participant", *map(series_text, shown)], lines)


def _exploratory_html(findings: Sequence[Sequence[words.Row]], methods: Sequence[str]) -> Markup:
    """Return what the exploratory comparisons suggest, then each finding as a sentence.

    Exploratory comparisons are those that were not fixed beforehand.
    """
    lines = words.verdict(findings, methods)
    placebos = [
        words.placebo_sentence(each)
        for each in findings
        if each[0].strength == findings[0][0].strength
    ]
    nothing = render("note", "note", "No tested method has values to compare.")
    return joined(
        [
            render("note", "note", _EXPLORATORY),
            render("items", lines, bold=True) or nothing,
            folded(
                "All comparisons as sentences",
                render("items", list(map(words.sentence, findings))),
            ),
            render("headed", "Control analyses", render("items", list(filter(None, placebos)))),
        ]
    )


def _sizes_html(tables: Joined, figure_dir: Path) -> Markup:
    """The paper's table and the figures of what is in it."""
    shown = joined(
        part
        for k, own in enumerate(papers(tables.values))
        for part in (
            paper_html(own, tables.methods),
            *(
                _figure(
                    partial(
                        group_figures.paired_figure,
                        list(each.groupby("contrast", observed=True)),
                        tables.methods,
                    ),
                    figure_dir,
                    f"group_desc-{map_label(f'paper{k}', width)}",
                    f"Sizes (acquired voxels) and overlap, {words.task_text(each.iloc[0])},"
                    f" {width:g} mm smoothing; lines: participants.",
                )
                for width, each in own.groupby("fwhm_mm")
            ),
        )
    )
    return joined([shown, Markup("<p>{}</p>").format(_SIZE_NOTE) if shown else ""])


def _figure(
    draw: Callable[[], Figure], figure_dir: Path, name: str, caption: str, heading: str = ""
) -> Markup:
    """Return a figure embedded in the page with its caption, and write it as a file.

    Where there is nothing to draw, a notice is returned.
    """
    try:
        svg = svg_text(draw())
    except FigureInputError as error:
        return render("note", "missing", f"No figure: {error} ({caption})")
    write_whole(figure_dir / f"{name}.svg", svg)
    return render("figure", data_uri(svg.encode()), heading or caption, caption, name)


def _findings_html(
    content: GroupContent, findings: Sequence[Sequence[words.Row]], figure_dir: Path
) -> Markup:
    """Return boxes, differences and the table for each question of the verdict."""
    questions = (list(own) for _, own in groupby(findings, key=lambda each: each[0].question))
    return picked(
        (words.title_text(own[0][0]), joined(_of_question(content, own, k, figure_dir)))
        for k, own in enumerate(questions)
    )


def _of_question(
    content: GroupContent,
    findings: Sequence[Sequence[words.Row]],
    k: int,
    figure_dir: Path,
) -> Iterator[Markup]:
    first = findings[0][0]
    about = statistic(first.statistic)
    title = capital(words.question_text(first))
    values = of_question(content.joined.values, content.comparisons.loc[first.at])
    yield Markup("<h3>{}</h3><p>{}</p>").format(
        title, f"{words.where_text(first)}. {first.statistic}: {about.description}."
    )
    # those stand beside their tables
    beside = [each.index[0] for each in _accuracy_values(content)]
    if first.kind != words.SIZE and values.index[0] not in beside:
        yield _figure(
            partial(
                group_figures.paired_figure,
                [("", values)],
                content.joined.methods,
                unit=about.unit,
            ),
            figure_dir,
            f"group_desc-boxes{k}",
            "Boxes: median and quartiles; one line per participant.",
        )
    for rows in findings:
        method = rows[0].series
        yield _figure(
            partial(group_figures.differences_figure, rows, unit=about.unit),
            figure_dir,
            f"group_desc-differences{k}{method}",
            f"{method} minus each reference: Hodges-Lehmann estimate and interval; band:"
            " equivalence margin.",
        )
        yield folded(
            f"{method}: values",
            comparisons_html(rows, f"{method} against its references: {title}"),
        )


def _group_maps_html(group_maps: GroupMaps, figure_dir: Path) -> Markup:
    """Return figures of z for each task and contrast, and the table.

    A figure has a row for each series, the same planes and one color scale.
    """
    heads = [
        "series",
        "contrast",
        "task",
        "smoothing (mm)",
        "participants",
        "highest z",
        f"where ({group_maps.space}, mm)",
        "z > 3.1 (mm³)",
        "FDR .05: z from",
        "FDR .05 (mm³)",
    ]
    rows = [
        [
            each.series,
            each.contrast,
            each.task,
            f"{each.fwhm_mm:g}",
            str(len(each.participants)),
            number(each.peak_z, ".2f"),
            " ".join(number(mm, ".0f") for mm in each.peak_mm),
            number(each.active_mm3, ".0f"),
            number(each.fdr_z, ".2f"),
            number(each.fdr_mm3, ".0f"),
        ]
        for each in group_maps.maps.itertuples()
    ]
    if "fwe_t" in group_maps.maps:
        heads += ["FWE .05: |t| above", "FWE .05 (mm³)"]
        for row, each in zip(rows, group_maps.maps.itertuples(), strict=True):
            row += [number(each.fwe_t, ".2f"), number(each.fwe_mm3, ".0f")]
    caption = "Group maps"
    return joined([*_map_figures(group_maps, figure_dir), table(caption, heads, rows)])


def _map_figures(group_maps: GroupMaps, figure_dir: Path) -> Iterator[Markup]:
    if group_maps.background is None or group_maps.mask is None or group_maps.maps.empty:
        return
    scene = Scene(background=group_maps.background, mask=group_maps.mask, roi=group_maps.mask)
    display = Display(statistic="z", threshold=Z_SHOWN, floor=5.0)
    for (task, variant, contrast), own in group_maps.maps.groupby(
        ["task", "variant", "contrast"], sort=False
    ):
        rows = {each.series: Volume(*load_image(each.z)) for each in own.itertuples()}
        kind, where = ("", "") if variant == MISSING else (f"_{variant}", f", {variant}")
        counts = sorted(set(own["participants"].map(len)))
        first = own.iloc[0]
        heading = f"{contrast}, task {task}{where}"
        figure = _figure(
            partial(activation_figure, rows, scene, display=display, n_slices=3),
            figure_dir,
            f"group_task-{task}{kind}_contrast-{contrast}_desc-maps",
            f"z of the mean over {' to '.join(map(str, counts))} participants in"
            f" {group_maps.space}, {first['fwhm_mm']:g} mm smoothing; planes chosen by"
            f" {first['series']}. Not corrected for multiple tests; the table lists the one-sided"
            " threshold at a false discovery rate of .05 over the brain.",
            heading,
        )
        yield render("headed", heading, figure)
