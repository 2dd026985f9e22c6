"""Contents of the page of functional runs: accuracy, comparisons, group maps, paper's table.

Accuracy is shown for the group and for each participant.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from bids_sr.engine.artifacts import Derivative
from bids_sr.engine.metric_rows import MISSING, parse_cell
from bids_sr.engine.number_text import number, value_form
from bids_sr.evaluation.evidence import APPLIED
from bids_sr.evaluation.words import capitalize
from bids_sr.group import figures as group_figures, first_screen, verdicts
from bids_sr.group.comparisons import PRIMARY, is_primary_metric
from bids_sr.group.map_records import GroupMapRecord
from bids_sr.group.output_files import GroupNames
from bids_sr.group.page import GroupFigures, GroupPage, fold
from bids_sr.group.paired_values_figure import plot_paired_values
from bids_sr.group.paper_table import paper_html, paper_sizes
from bids_sr.group.values import (
    QUESTION,
    JoinedTables,
    find_input_smoothing,
    question_rows,
)
from bids_sr.group.voxel_tests import Z_SHOWN
from bids_sr.io.frozen import frozen
from bids_sr.io.metric_flags import FLAGS
from bids_sr.io.metric_registry import statistic
from bids_sr.io.series import map_label
from bids_sr.io.smoothing_words import smoothing_choice, smoothing_text
from bids_sr.io.word_lists import add_counts, format_count
from bids_sr.report.comparison_html import comparisons_html
from bids_sr.report.evaluation_rows import series_text
from bids_sr.report.facts import facts_html, messages_html
from bids_sr.report.figures.map_viewer import EFFECT, LazyVolumes, map_key, viewer_html
from bids_sr.report.figures.maps import Display
from bids_sr.report.first_screen import UseRow, render_first_screen
from bids_sr.report.markup import ColumnHead, join, render, render_folded, render_selector, table
from bids_sr.survey.bids.label_lists import list_some

_METHODS_TEXT = """
The participant was the unit of all group statistics. Values of a participant's runs were first
combined with fixed effects, weighted by inverse variance if every run had a confidence interval
and averaged otherwise. Each method was compared with every baseline, every denoising control and
every other method. Comparisons were performed with the Wilcoxon signed-rank test [@wilcoxon1945],
computed exactly from the permutation distribution of the (mid)ranks. Differences are Hodges-
Lehmann estimates with the corresponding confidence intervals [@hodges1963], and effect sizes are
matched-pairs rank-biserial correlations. The p values were corrected for all comparisons of one
method on one question [@holm1979]. The table also lists false discovery rates for all comparisons
of a measure [@benjamini1995]. One comparison per task was prespecified and corrected only for the
number of tasks: the explained variance of the detail in the whole brain for {method} (the default
method, or the only method that was run) minus the explained variance for the strongest baseline of
each participant. The strongest baseline has the largest value among baselines, denoising controls
and simple arithmetic. Because noise inflates the largest of several values, this comparison is
biased against the method and cannot show that the method is worse. All other comparisons were
exploratory. The number of participants required for 80 % power was computed for the paired t test
with the observed effect and divided by the relative efficiency of the signed-rank test (3/pi). Two
series were considered *the same* if two one-sided paired t tests [@schuirmann1987] showed that the
mean difference was within the equivalence margin ({margin}). The table also contains paired t
tests and Friedman's test [@friedman1937] for all series. Undefined values, such as the overlap of
an empty region, were excluded, counted and not replaced. {maps}
"""
_MAPS_TEXT = (
    "For participants with several runs, the effect map of all runs was used, in which the runs"
    " have equal weights. Effect maps were divided by the mean brain signal and resampled to"
    " {space} with a single linear interpolation through the stored transforms. A one-sample t"
    " test was performed across participants."
)
_SIGN_FLIPS_TEXT = (
    " Two-sided p values with family-wise error correction were computed from the distribution of"
    " the maximum absolute t in the brain under sign flips [@winkler2014]: all distinct flips if"
    " their number did not exceed the requested number, and otherwise random flips and the data"
    " without a flip."
)
_EXPLORATORY_NOTE = (
    "None of these comparisons was prespecified. The p values are corrected for the comparisons"
    " of one method on one question (Holm), but not across questions. Treat the results as"
    " hypotheses to be tested in other participants. The table of tests has all comparisons."
)
_SIZE_NOTE = (
    "The size of a region is the number of voxels at or above the threshold in equation 2 of the"
    " paper, divided by the super-resolution factor. The p values are from exact signed-rank"
    " tests against the acquired series and against bspline, and are uncorrected. The difference"
    " between the acquired series and bspline is due only to the finer grid. A smaller region is"
    " not necessarily an improvement."
)
_DEFAULT_MARGIN_TEXT = (
    "one tenth of the median difference between bspline and the measured series, if this"
    " difference is available"
)
_MAX_LISTED = 5  # runs or participants in an alert
# description of a raised flag, by the statistic of the flag
_FLAG_TEXTS = {f"flag_{name}": flag.failed for name, flag in FLAGS.items()}


@frozen
class RunsContent(first_screen.GroupContents):
    """Contents of the page.

    `runs` are the metrics tables of the participants. `absent` are lines on missing participants
    and runs, and `notes` sentences on the group maps and on who is not in them. `requested_margin`
    is the equivalence margin of the settings; None if none was requested. `about` are facts about
    the call.
    """

    names: GroupNames
    runs: pd.DataFrame
    absent: Sequence[str]
    notes: Sequence[str]
    requested_margin: float | None
    about: Mapping[str, str]


def describe_runs(folder: Path, content: RunsContent) -> GroupPage:
    """Return the contents of the page, and write its figures below a folder."""
    methods = content.tables.methods
    figures = GroupFigures(folder=folder, start=content.names.tables)
    findings = verdicts.select_findings(content.comparisons, methods, content.tables.contrasts)
    note = render("note", "note", _EXPLORATORY_NOTE)
    comparisons = join([note, _findings_html(content, findings, figures)])
    primary_reasons = [
        render("items", first_screen.list_primary_reasons(content, row)) for row in content.primary
    ]
    first = content.runs.iloc[0]
    return GroupPage(
        names=content.names,
        answer=_answer_html(content, folder),
        reasons=join([*primary_reasons, *_accuracy_html(content, figures)]),
        participants=_participants_html(content),
        sections=(
            fold("comparisons", "Exploratory comparisons", comparisons, ["comparisons"]),
            fold("maps", "Group maps", _group_maps_html(content), ["group maps"]),
            fold(
                "paper", "Comparison with Ota et al. (2022)", _sizes_html(content.tables, figures)
            ),
        ),
        methods=_methods_text(content),
        about={
            **content.about,
            "Version of bids-sr that wrote the tables": first["version"] or "not recorded",
            "Hash of the settings": first["digest"] or "not recorded",
        },
    )


def _findings_html(
    content: RunsContent,
    findings: Sequence[Sequence[verdicts.ComparisonRow]],
    figures: GroupFigures,
) -> Markup:
    """Return box plots and tables of comparisons for each question of findings."""
    questions = (
        list(question_findings)
        for _, question_findings in groupby(findings, key=lambda finding: finding[0].question)
    )
    return render_selector(
        (
            verdicts.title_text(question_findings[0][0]),
            join(_question_html(content, question_findings, index, figures)),
        )
        for index, question_findings in enumerate(questions)
    )


def _question_html(
    content: RunsContent,
    findings: Sequence[Sequence[verdicts.ComparisonRow]],
    index: int,
    figures: GroupFigures,
) -> Iterator[Markup]:
    """Yield the heading, figures and tables of one question.

    `index` is the number of the question in the names of figures.
    """
    first = findings[0][0]
    metric = statistic(first.statistic)
    title = capitalize(verdicts.question_text(first))
    question = content.comparisons.loc[first.comparison_index]
    values = question_rows(content.tables.values, question)
    yield Markup("<h3>{}</h3><p>{}</p>").format(
        title, f"{verdicts.context_text(first)}. {first.statistic}: {metric.description}."
    )
    factor = group_figures.percent_factor(first.statistic)
    # An earlier section of the page already shows these values in a figure.
    plotted = [plotted_values.index[0] for plotted_values in _accuracy_values(content)]
    if first.kind != verdicts.SIZE and values.index[0] not in plotted:
        yield figures.embed(
            partial(
                plot_paired_values,
                [
                    (
                        "",
                        factor * group_figures.select_series(values, content.tables.methods),
                    )
                ],
                "%" if factor > 1 else group_figures.format_unit(metric.unit),
            ),
            f"desc-boxes{index}",
            "Boxes show the median and quartiles. Each line is a participant.",
        )
    for rows in findings:
        method = rows[0].series
        yield comparisons_html(
            "stats", rows, f"{method} compared with its reference series: {title}"
        )


def _answer_html(content: RunsContent, folder: Path) -> Markup:
    """Return the first screen of each task, with missing data and methods that were not applied.

    `folder` is the folder of the page.
    """
    tables = content.tables
    unapplied = tables.reported[tables.reported["statistic"] == APPLIED]
    alerts = [
        f"{method} was not applied (zero filled): {list_some(list(runs), _MAX_LISTED)}."
        for method, runs in unapplied.groupby("series", sort=False)["name"]
    ]
    if missing := _missing_lines(content):
        alerts.append(f"Missing or not used: {list_some(missing, _MAX_LISTED)}.")
    screens = first_screen.list_screens(
        content, alerts=alerts, use=_list_used_files(content, folder)
    )
    return join(map(render_first_screen, screens))


def _list_used_files(content: RunsContent, folder: Path) -> list[UseRow]:
    """Return the files to use: a group map of the method, and the tables."""
    maps = content.maps.maps
    if (requested := content.list_over_runs()) and not maps.empty:
        first = maps["contrast"].isin([contrast for _, contrast, _ in requested])
        maps = pd.concat([maps[first], maps[~first]])
    is_applied = any(map(content.is_applied, content.tasks))
    paths = {} if maps.empty else dict(maps[::-1][["series", "z"]].to_numpy())  # first of a series
    own_map = (is_applied and paths.get(content.method)) or paths.get("bspline")
    uses = [
        *([UseRow("Map", file=f"group/{Path(own_map).name}")] if own_map else []),
        *(
            UseRow(label, file=f"{content.names.tables}_{suffix}.tsv")
            for label, suffix in (("Table", "metrics"), ("Tests", "stats"))
        ),
    ]
    return [use for use in uses if (folder / use.file).exists()]


def _accuracy_html(content: RunsContent, figures: GroupFigures) -> Iterator[Markup]:
    """Yield each participant's accuracy for all series, as a figure and a table per task."""
    methods = content.tables.methods
    for index, values in enumerate(_accuracy_values(content)):
        series_values = group_figures.select_series(values, methods)
        title = verdicts.title_text(values.iloc[0])
        form = value_form(values.iloc[0]["statistic"])
        factor = group_figures.percent_factor(values.iloc[0]["statistic"])
        cell_rows = [
            [participant, *(number(value, form) for value in row)]
            for participant, row in zip(series_values.index, series_values.to_numpy(), strict=True)
        ]
        yield figures.embed(
            partial(plot_paired_values, [("", factor * series_values)], "%" if factor > 1 else ""),
            f"desc-accuracy{index}",
            f"{title}. Each line is a participant, and boxes show the median and quartiles.",
        )
        yield table(
            f"{title}, by participant",
            ["participant", *map(series_text, series_values)],
            cell_rows,
        )


def _accuracy_values(content: RunsContent) -> list[pd.DataFrame]:
    """Return the participants' accuracy values in each task.

    These are the values of the primary comparison if it exists; otherwise, they are all accuracy
    values with the measured series as the reference.
    """
    values = content.tables.values
    primary = content.comparisons[content.comparisons["part"] == PRIMARY]
    if len(primary):
        return [
            question_rows(values, row) for _, row in primary.drop_duplicates(QUESTION).iterrows()
        ]
    measured = values[is_primary_metric(values) & (values["reference"] == "measured")]
    return [question_values for _, question_values in measured.groupby(QUESTION, sort=False)]


def _participants_html(content: RunsContent) -> Markup:
    """Return included participants by task, missing participants, and quality-control flags."""
    by_task = {
        f"Task {task}": add_counts(run_counts.items(), "runs")
        for task, run_counts in content.tasks.items()
        if len(content.tasks) > 1
    }
    included = list(content.runs["participant"].unique())
    participants = facts_html(
        {
            "With metrics tables": included,
            **by_task,
            "In the group maps": _list_map_members(content.maps.records),
            "Missing or not used": _missing_lines(content) or "none",
        }
    )
    reported = content.tables.reported
    raised_flags = reported[reported["statistic"].isin(_FLAG_TEXTS)]
    flag_lines = [
        f"{row.name}, {row.series}: {_FLAG_TEXTS[row.statistic]}"
        for row in raised_flags.itertuples()
    ]
    flags = render("items", list(dict.fromkeys(flag_lines)))
    return (
        participants
        + messages_html("note", list(content.notes))
        + render("headed", "Quality flags in the participant reports", flags)
    )


def count_runs_by_task(runs: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return the number of runs of each participant, by task."""
    counts = runs.groupby(["task", "participant"])["name"].nunique()
    return {
        task: task_counts.droplevel("task").to_dict()
        for task, task_counts in counts.groupby("task")
    }


def _list_map_members(records: Sequence[GroupMapRecord]) -> list[str]:
    """Return the participants in the group maps, with the number of maps if they differ."""
    computed = [record for record in records if record.n_voxels]
    counts = Counter(label for record in computed for label in record.participants)
    return [
        label if count == len(computed) else f"{label} ({count} of {len(computed)} maps)"
        for label, count in sorted(counts.items())
    ]


def _missing_lines(content: RunsContent) -> list[str]:
    """Return lines on missing participants and tables.

    Methods that only some runs have are also listed.
    """
    run_series = content.tables.series.groupby("name", sort=False)["series"].agg(set)
    missing_runs = {
        method: [run for run, series in run_series.items() if method not in series]
        for method in content.tables.methods
    }
    incomplete = {
        method: runs for method, runs in missing_runs.items() if 0 < len(runs) < len(run_series)
    }
    return [
        *content.absent,
        *(f"no {method}: {', '.join(runs)}" for method, runs in incomplete.items()),
    ]


def _group_maps_html(content: RunsContent) -> Markup:
    """Return the viewers of the group maps, and their table."""
    group_maps = content.maps
    maps = group_maps.maps.assign(
        before=[  # smoothing before super-resolution
            find_input_smoothing(content.tables.values, row.task, row.variant)
            for row in group_maps.maps.itertuples()
        ]
    )
    heads: list[ColumnHead] = [
        "series",
        "contrast",
        "task",
        ("smoothing before super-resolution", "mm"),
        ("of maps", "mm"),
        "participants",
        "highest z",
        f"where ({group_maps.space}, mm)",
        "z > 3.1 (mm³)",
        "FDR .05: z from",
        "FDR .05 (mm³)",
    ]
    rows = [
        [
            series_text(group_map.series),
            group_map.contrast,
            group_map.task,
            group_map.before,
            f"{group_map.fwhm_mm:g}",
            str(len(group_map.participants)),
            number(group_map.peak_z, ".2f"),
            " ".join(number(mm, ".0f") for mm in group_map.peak_mm),
            number(group_map.active_mm3, ".0f"),
            number(group_map.fdr_z, ".2f"),
            number(group_map.fdr_mm3, ".0f"),
        ]
        for group_map in maps.itertuples()
    ]
    if "fwe_t" in maps:
        heads += ["FWE .05: |t| above", "FWE .05 (mm³)"]
        for row, group_map in zip(rows, maps.itertuples(), strict=True):
            row += [number(group_map.fwe_t, ".2f"), number(group_map.fwe_mm3, ".0f")]
    viewers = _show_maps(content, maps)
    members = _members_html(group_maps.records)
    return join([*viewers, table("Group maps", heads, rows), members])


def _show_maps(content: RunsContent, maps: pd.DataFrame) -> Iterator[Markup]:
    """Yield a viewer of mean effect and z of each task, requested contrasts over runs first."""
    group_maps, background, mask = content.maps, content.maps.background, content.maps.mask
    if background is None or mask is None or maps.empty:
        return
    requested = {contrast: name for _, contrast, name in content.list_over_runs()}
    maps = maps.sort_values("contrast", key=lambda name: ~name.isin(requested), kind="stable")
    for (task, variant), task_maps in maps.groupby(["task", "variant"], sort=False):
        shown: dict[str, dict[tuple[str, str], LazyVolumes]] = {}
        files: dict[str, str] = {}
        for key, rows in task_maps.groupby(["contrast", "fwhm_mm", "before"], sort=False):
            choice = key[0], smoothing_choice(key[1], parse_cell(key[2]))
            for stat in ("z", EFFECT):
                paths = dict(rows[["series", stat]].to_numpy())
                if not content.is_applied(task):
                    paths.pop(content.method, None)
                derivatives = {name: Derivative(path, {}) for name, path in paths.items()}
                shown.setdefault(stat, {})[choice] = LazyVolumes(derivatives)
                files |= {
                    map_key(*choice, stat, name): f"group/{path.name}"
                    for name, path in paths.items()
                }
        heading = f"Task {task}" if variant == MISSING else f"Task {task}, {variant}"
        counts = sorted(set(task_maps["participants"].map(len)))
        text = (
            f"Group maps ({' to '.join(map(str, counts))} participants) in {group_maps.space}. The"
            " maps are not corrected for multiple comparisons. The table lists the one-sided"
            " threshold for a false discovery rate of .05 over the brain."
        )
        viewer = viewer_html(
            shown["z"],
            background,
            mask,
            display=Display(statistic="z", threshold=Z_SHOWN, floor=5.0),
            effects=shown[EFFECT],
            files=files,
            names=requested,
            first_series=content.method,
            space=str(group_maps.space),
        )
        yield render("headed", heading, join([render("note", "caption", text), viewer]))


def _members_html(records: Sequence[GroupMapRecord]) -> Markup:
    """Return the participants in the group maps and the other participants with reasons.

    Maps with the same participants are listed together.
    """
    by_members: dict[tuple[str, str], list[GroupMapRecord]] = {}
    for record in records:
        reasons = "; ".join(f"{label}: {item.reason}" for label, item in record.excluded.items())
        members = ", ".join(
            f"{member.participant} ({format_count(len(member.sessions), 'session')})"
            if member.sessions
            else member.participant
            for member in record.members
        )
        by_members.setdefault((members, reasons), []).append(record)
    rows = [
        [
            "; ".join(
                f"{record.key[0]} ({record.key[1]})" + ("" if record.n_voxels else ": no map")
                for record in same_records
            ),
            same_records[0].task_label,
            str(len(same_records[0].members)),
            members or "none",
            reasons or "none",
        ]
        for (members, reasons), same_records in by_members.items()
    ]
    heads = ["maps", "task", "number", "participants in the map", "other participants"]
    members_table = table("Participants in the group maps", heads, rows, texts={0, 1, 3, 4})
    return render_folded("Participants in each group map", members_table) if rows else Markup("")


def _sizes_html(tables: JoinedTables, figures: GroupFigures) -> Markup:
    """Return the paper's table with figures of its values."""
    pair_entries: list[Markup] = []
    for pair_index, pair_sizes in enumerate(paper_sizes(tables.values)):
        pair_entries.append(paper_html(pair_sizes, tables.methods))
        for (before, fwhm_mm), sizes in pair_sizes.groupby(["input_fwhm_mm", "fwhm_mm"]):
            panels = [
                (panel, group_figures.select_series(panel_sizes, tables.methods))
                for panel, panel_sizes in sizes.groupby("contrast", observed=True)
            ]
            input_mm = parse_cell(before)
            label = f"paper{pair_index}" + (f"In{input_mm * 10:.0f}" if input_mm > 0 else "")
            figure = figures.embed(
                partial(plot_paired_values, panels),
                f"desc-{map_label(label, fwhm_mm)}",
                "Region size (in acquired voxels) and overlap,"
                f" {verdicts.task_text(sizes.iloc[0])},"
                f" {smoothing_text(fwhm_mm, input_mm)}. Each line is a participant.",
            )
            pair_entries.append(figure)
    sizes_html = join(pair_entries)
    return sizes_html + Markup("<p>{}</p>").format(_SIZE_NOTE) if sizes_html else sizes_html


def _methods_text(content: RunsContent) -> str:
    """Return the description of the tests and maps."""
    group_maps = content.maps
    map_texts = [
        _MAPS_TEXT.format(space=group_maps.space) if len(group_maps.maps) else "",
        _SIGN_FLIPS_TEXT if "fwe_t" in group_maps.maps else "",
    ]
    margin = _DEFAULT_MARGIN_TEXT
    if content.requested_margin is not None:
        margin = (
            f"{content.requested_margin:g} for dimensionless values; for other values,"
            f" {_DEFAULT_MARGIN_TEXT}"
        )
    return _METHODS_TEXT.format(method=content.method, margin=margin, maps="".join(map_texts))
