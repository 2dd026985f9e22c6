"""Contents of the page of structural scans: tables, figures and text.

The result is a sentence on the comparison with interpolation. The sections are the table of
methods, errors by acquisition protocol, agreement of volumes and their variability over sessions.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from bids_sr.engine.metric_rows import BRAIN, MISSING, cell_number, columns_json
from bids_sr.engine.number_text import estimate, number, p_value
from bids_sr.evaluation.statistics.comparison_table import describe_columns, write_comparisons
from bids_sr.evaluation.statistics.wilcoxon import ALPHA
from bids_sr.group.output_files import GroupNames
from bids_sr.group.page import GroupFigures, GroupPage, fold
from bids_sr.group.paired_values_figure import plot_paired_values
from bids_sr.io.atomic_files import write_json, write_text
from bids_sr.io.frozen import frozen
from bids_sr.io.metric_registry import statistic
from bids_sr.io.word_lists import add_counts, format_count
from bids_sr.report.comparison_html import comparisons_html
from bids_sr.report.facts import facts_html
from bids_sr.report.first_screen import (
    AnswerCell,
    AnswerRow,
    ContrastView,
    FirstScreen,
    render_first_screen,
)
from bids_sr.report.markup import join, render, render_folded, render_selector, table
from bids_sr.structural.group.figures import (
    CLASS_NAMES,
    agreement_figure,
    change_figure,
    tabulate_similarity,
    variability_figure,
)
from bids_sr.structural.group.values import (
    OVERLAP,
    QUALITY,
    SIMILARITY,
    SIZE,
    StructuralTables,
    list_series,
    volume_pairs,
)
from bids_sr.structural.group.volume_change import has_months, read_volumes
from bids_sr.structural.overview import HEADS, MARKS, UNDECIDED

_METHODS_TEXT = """
The participant was the unit of all statistics, and values from several sessions of the same
participant were averaged. Each method was compared with the interpolation that had the better
median by means of the Wilcoxon signed-rank test [@wilcoxon1945]. Selecting the better
interpolation favors interpolation. Differences are Hodges-Lehmann estimates with the corresponding
confidence intervals [@hodges1963]. The p values were corrected for all contrasts and methods of a
metric [@holm1979], separately for metrics of the whole scan and for metrics of the brain and its
tissues. The table also contains paired t tests. Errors of image quality metrics are absolute
differences from the value in the measured high-resolution scan [@attention_unet]. Agreement
between volumes is reported as bias and limits of agreement (bias ± 1.96 standard deviations), with
95 % confidence intervals from the t distribution. Variability between sessions is reported as the
pooled within-participant standard deviation. Change over time is reported in percent of the volume
of the participant at baseline, and summarized by the median and quartiles across participants.
"""


@frozen
class ScansContent:
    """Contents of the page.

    `protocol` is the column or sidecar key with the protocols; "" if none was specified. `absent`
    are lines on missing participants, and `about` facts about the call.
    """

    names: GroupNames
    tables: StructuralTables
    protocol: str
    absent: Sequence[str]
    about: Mapping[str, object]


def write_structural_tables(folder: Path, names: GroupNames, tables: StructuralTables) -> None:
    """Write the group tables as TSV files, each with a JSON file that describes its columns."""
    statistics = sorted(set(tables.values["statistic"]))
    identifiers = describe_columns("scans_tables")
    frames = {
        "methods": tables.methods,
        "protocols": tables.protocols,
        "agreement": tables.agreement,
        "variability": tables.variability,
        "change": tables.change,
    }
    described: dict[str, tuple[pd.DataFrame, Mapping[str, object]]] = {
        "metrics": (tables.values, {**identifiers, **columns_json(statistics)}),
        **{name: (frame, describe_columns(f"scans_{name}")) for name, frame in frames.items()},
    }
    for name, (frame, columns) in described.items():
        text = frame.to_csv(sep="\t", index=False, na_rep=MISSING, float_format=cell_number)
        write_text(folder / f"{names.tables}_{name}.tsv", text)
        write_json(folder / f"{names.tables}_{name}_columns.json", columns)
    write_comparisons(
        folder / f"{names.tables}_stats.tsv",
        folder / f"{names.tables}_stats_columns.json",
        "scans_stats",
        tables.comparisons.to_dict("records"),
    )


def describe_scans(folder: Path, content: ScansContent) -> GroupPage:
    """Return the contents of the page, and write its figures below a folder."""
    figures = GroupFigures(folder=folder, start=content.names.tables)
    return GroupPage(
        names=content.names,
        answer=_verdict_html(content, figures),
        participants=_participants_html(content),
        sections=(
            fold("methods-table", "Methods by metric", _methods_html(content.tables), ["metrics"]),
            fold(
                "protocols", "Quality metrics by protocol", _protocols_html(content), ["metrics"]
            ),
            fold(
                "agreement", "Agreement of volumes", _agreement_html(content, figures), ["volumes"]
            ),
            fold(
                "variability", "Variability between sessions", _variability_html(content, figures)
            ),
            fold("change", "Change from baseline", _change_html(content, figures)),
        ),
        methods=_METHODS_TEXT,
        about=content.about,
    )


def _verdict_html(content: ScansContent, figures: GroupFigures) -> Markup:
    """Return the main result as a sentence and numbers, and figures of similarity."""
    tables = content.tables
    n_participants = tables.values["participant"].nunique()
    comparisons = _select_psnr(tables.comparisons)
    n_compared = n_participants if comparisons.empty else int(comparisons["n"].max())
    headline, state = write_headline(tables.comparisons, n_compared)
    screen = FirstScreen(
        title="structural scans",
        facts=(
            f"{format_count(n_compared, 'participant')} · reference: measured scan,"
            " in slices that were not used for training"
        ),
        views=[ContrastView(sentence=f"{headline}.", kind=state)],
        heads=HEADS,
        rows=[
            AnswerRow(
                (row.contrast,),
                (
                    AnswerCell(
                        *MARKS.get(row.word, UNDECIDED),
                        f"{row.series} − {row.minus} (corrected p {p_value(row.p_holm)})",
                        f"{number(row.difference, '+.2f')} dB",
                    ),
                ),
            )
            for row in comparisons.itertuples()
        ],
    )
    answer = render_first_screen(screen)
    statistics = [name for name in ("psnr", "ssim") if (tables.values["statistic"] == name).any()]
    drawings = [
        figures.embed(
            partial(
                plot_paired_values,
                tabulate_similarity(tables.values, name),
                f"{_metric_label(name)}{_unit_text(name)}",
            ),
            f"desc-{name}",
            f"{_metric_label(name)}. Each line is a participant, and boxes show the median and"
            " quartiles.",
        )
        for name in statistics
    ]
    return join([answer, *drawings])


def write_headline(all_comparisons: pd.DataFrame, n: int) -> tuple[str, str]:
    """Return the main result in one sentence, and its state: ``good``, ``bad`` or ``idle``.

    A method is more similar to the measured scans than interpolation if it is better in at least
    one contrast and not worse in any contrast. `all_comparisons` are from `compare_methods`, and
    `n` is the number of participants.
    """
    comparisons = _select_psnr(all_comparisons)
    if comparisons.empty:
        return "There is no method that can be compared with interpolation", "idle"
    better_rows, worse_rows = (
        comparisons[comparisons["word"] == word] for word in ("better", "worse")
    )
    label = _metric_label("psnr")
    phrases = []
    for relation, rows in (("exceeds", better_rows), ("is below", worse_rows)):
        for series, contrasts in rows.groupby("series", sort=False)["contrast"]:
            phrases.append(
                f"{series} {relation} interpolation in {label} of {', '.join(contrasts)}"
            )
    if phrases:
        state = "bad" if len(worse_rows) else "good"
        return "; ".join(phrases), state
    smallest_p = float(comparisons["p_smallest"].min()) * len(comparisons)
    reason = "" if smallest_p < ALPHA else f" ({n} participants cannot reach p < .05)"
    return f"No difference from interpolation was found in {label}{reason}", "idle"


def _select_psnr(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Return the comparisons of methods with interpolation by PSNR in the brain."""
    return comparisons[(comparisons["statistic"] == "psnr") & (comparisons["region"] == BRAIN)]


def _participants_html(content: ScansContent) -> Markup:
    """Return included and missing participants, and the participants of each protocol."""
    values = content.tables.values
    n_sessions = values.groupby("participant", sort=False)["session"].nunique()
    included = add_counts(n_sessions.items(), "sessions")
    facts: dict[str, object] = {"Included": included, "Missing": list(content.absent) or "none"}
    if content.protocol:
        groups = values.groupby("protocol")["participant"].unique()
        facts |= {f"Protocol {name}": list(participants) for name, participants in groups.items()}
    return facts_html(facts)


def _methods_html(tables: StructuralTables) -> Markup:
    """Return table 1, series by metric with differences from interpolation, per contrast."""
    sizes = tables.methods[tables.methods["statistic"] == SIZE].set_index("series")["median"]
    metrics = tables.methods[tables.methods["statistic"] != SIZE]
    by_contrast = dict(iter(tables.comparisons.groupby("contrast", sort=False)))
    return render_selector(
        [
            (
                str(contrast),
                join(
                    [
                        _means_html(contrast_rows, sizes),
                        render_folded(
                            "Differences from interpolation",
                            _differences_html(by_contrast.get(contrast, tables.comparisons[:0])),
                        ),
                    ]
                ),
            )
            for contrast, contrast_rows in metrics.groupby("contrast", sort=False)
        ]
    )


def _means_html(contrast_rows: pd.DataFrame, sizes: pd.Series) -> Markup:
    """Return the table of means of one contrast, by series and metric.

    `sizes` are numbers of network parameters by series.
    """
    pairs = set(zip(contrast_rows["statistic"], contrast_rows["region"], strict=True))
    regions = list(dict.fromkeys(contrast_rows["region"]))
    columns = [
        (name, region)
        for region in regions
        for name in (*SIMILARITY, *OVERLAP)
        if (name, region) in pairs
    ]
    heads = ["series"]
    for name, region in columns:
        is_only_brain = region == "brain" and len(regions) == 1
        region_phrase = "" if is_only_brain else f", {_class_name(region)}"
        heads.append(f"{_metric_label(name)}{region_phrase}{_unit_text(name)}")
    if len(sizes):
        heads.append("parameters")
    cell_rows = []
    for series, series_rows in contrast_rows.groupby("series", sort=False):
        cells = [str(series)]
        for name, region in columns:
            is_column = (series_rows["statistic"] == name) & (series_rows["region"] == region)
            matches = series_rows[is_column]
            cells.append(_mean_text(matches.iloc[0]) if len(matches) else MISSING)
        if len(sizes):
            n_parameters = sizes.get(str(series))
            cells.append(MISSING if n_parameters is None else f"{n_parameters:,.0f}")
        cell_rows.append(cells)
    n_participants = int(contrast_rows["n"].max())
    caption = f"Mean ± standard deviation across {n_participants} participants"
    return table(caption, heads, cell_rows)


def _mean_text(row: pd.Series) -> str:
    """Return mean ± SD with decimals that suit the size of the mean."""
    size = abs(row["mean"])
    number_format = ".2f"
    if size < 1:
        number_format = ".4f" if size >= 0.01 else ".2e"
    return f"{number(row['mean'], number_format)} ± {number(row['sd'], number_format)}"


def _differences_html(comparisons: pd.DataFrame) -> Markup:
    """Return the table of comparisons of methods with the better interpolation."""
    return comparisons_html(
        "scans_stats",
        list(comparisons.itertuples()),
        "Each method compared with the better interpolation",
        {
            "metric": [_metric_label(name) for name in comparisons["statistic"]],
            "region": [_class_name(region) for region in comparisons["region"]],
        },
    )


def _protocols_html(content: ScansContent) -> Markup:
    """Return table 2, mean absolute errors of quality metrics, one table per protocol."""
    errors = content.tables.protocols
    if errors.empty:
        return Markup("")
    intro = (
        f"Participants are grouped by {content.protocol}."
        if content.protocol
        else "All participants are in one group. To group participants by acquisition protocol,"
        " use --set anat.protocol=NAME with a column of participants.tsv or a key of the"
        " JSON sidecars."
    )
    series_names = list_series(errors)
    entries = []
    for (protocol, contrast), protocol_errors in errors.groupby(
        ["protocol", "contrast"], sort=False
    ):
        title = f"{contrast}, protocol {protocol}" if content.protocol else str(contrast)
        n_participants = int(protocol_errors["n"].max())
        caption = (
            f"{title}: absolute difference from the measured scan, mean ± standard deviation"
            f" across {n_participants} participants (* smallest)"
        )
        heads = ["metric", "region", *series_names]
        cell_rows = _make_error_cells(protocol_errors, series_names)
        entries.append((title, table(caption, heads, cell_rows, names=2)))
    return join([Markup("<p>{}</p>").format(intro), render_selector(entries)])


def _make_error_cells(
    protocol_errors: pd.DataFrame, series_names: Sequence[str]
) -> list[list[str]]:
    """Return cells per metric and region: the errors of all series, smallest marked."""
    errors_by_metric = protocol_errors.groupby(["statistic", "region"], sort=False)
    cell_rows = []
    for (name, region), metric_errors in sorted(
        errors_by_metric, key=lambda item: QUALITY.index(item[0][0])
    ):
        series_errors = metric_errors.set_index("series")
        best_series = series_errors["mae"].idxmin()
        cells = [f"{_metric_label(name)}{_unit_text(name)}", _class_name(region)]
        for series in series_names:
            if series not in series_errors.index:
                cells.append(MISSING)
                continue
            row = series_errors.loc[series]
            star = " *" if series == best_series else ""
            cells.append(f"{number(row['mae'], '.4f')} ± {number(row['mae_sd'], '.4f')}{star}")
        cell_rows.append(cells)
    return cell_rows


def _metric_label(name: str) -> str:
    return statistic(name).label or name


def _unit_text(name: str) -> str:
    """Return the unit of a statistic in parentheses, "" for pure numbers and the scan's unit."""
    unit = statistic(name).unit
    return "" if unit in ("1", "signal") else f" ({unit})"


def _agreement_html(content: ScansContent, figures: GroupFigures) -> Markup:
    """Return Bland-Altman plots and limits of agreement, one entry per class."""
    tables = content.tables
    pairs = volume_pairs(tables.values)
    if pairs.empty:
        return Markup("")
    entries = []
    for (contrast, region), class_rows in tables.agreement.groupby(
        ["contrast", "region"], sort=False
    ):
        class_name = _class_name(str(region))
        figure = figures.embed(
            partial(agreement_figure, pairs[pairs["contrast"] == contrast], str(region)),
            f"desc-agreement{region}",
            f"Bland-Altman plot of {class_name} volume: difference from the measured"
            " scan as a function of the mean of both. Each point is a participant. The solid"
            " line shows the bias, dashed lines show the 95 % limits of agreement, and bands"
            " show their 95 % confidence intervals.",
        )
        heads = ["series", "unit", "participants", "bias", "lower limit", "upper limit"]
        cell_rows = [
            [
                row.series,
                row.unit,
                str(row.n),
                estimate(row.bias, row.bias_lower, row.bias_upper, "+.1f"),
                estimate(row.low_limit, row.low_limit_lower, row.low_limit_upper, "+.1f"),
                estimate(row.high_limit, row.high_limit_lower, row.high_limit_upper, "+.1f"),
            ]
            for row in class_rows.itertuples()
        ]
        caption = f"Difference in {class_name} volume from the measured scans"
        entries.append((class_name, join([figure, table(caption, heads, cell_rows, names=2)])))
    return render_selector(entries)


def _variability_html(content: ScansContent, figures: GroupFigures) -> Markup:
    """Return the variability of volumes between sessions as a figure and a table."""
    variability = content.tables.variability
    if variability.empty:
        return render(
            "note",
            "note",
            "No participant has structural scans from two sessions. To measure the variability of"
            " volumes over time, run the participant level once per session (--session-label).",
        )
    classes = list(dict.fromkeys(variability["region"]))
    figure = figures.embed(
        partial(variability_figure, content.tables.values, classes),
        "desc-variability",
        "Volume in each session, in percent of the mean across sessions. Each line is a"
        " participant.",
    )
    heads = [
        "class",
        "series",
        "participants",
        "sessions",
        "mean (ml)",
        "within-participant SD (ml)",
        "SD (% of mean)",
    ]
    cell_rows = [
        [
            _class_name(row.region),
            row.series,
            str(row.n),
            str(row.n_scans),
            number(row.mean, ".1f"),
            number(row.sd_within, ".2f"),
            number(row.cv_percent, ".2f"),
        ]
        for row in variability.itertuples()
    ]
    caption = "Variability of volumes between sessions of a participant"
    return join([figure, table(caption, heads, cell_rows, names=2)])


def _change_html(content: ScansContent, figures: GroupFigures) -> Markup:
    """Return volumes and their change from baseline over time (attention-unet, figure 13)."""
    tables = content.tables
    changes = tables.change
    if changes.empty:
        return Markup("")
    by_month = has_months(tables.values)
    volumes = read_volumes(tables.values)
    classes = list(dict.fromkeys(changes["region"]))
    unit = "month" if by_month else "session"
    figure = figures.embed(
        partial(change_figure, volumes, classes, unit),
        "desc-change",
        f"Volumes in high-resolution scans by {unit}. Top: volumes in ml. Bottom: percent change"
        " from the baseline of the participant. Boxes show the median and quartiles, whiskers"
        " show the full range, and diamonds show the mean.",
    )
    heads = [
        "class",
        "series",
        unit,
        "participants",
        "median volume (ml)",
        "participants with a baseline scan",
        "change, median [quartiles] (%)",
        "absolute change (%)",
    ]
    note = (
        ""
        if by_month
        else " Sessions are grouped by their labels. To group sessions by month, add dates"
        " (acq_time in sub-*_sessions.tsv) or specify a column with"
        " --set anat.months=COLUMN."
    )
    caption = f"Volumes by {unit} and change from the baseline of the participant.{note}"
    cell_rows = [_make_change_cells(row) for row in changes.itertuples()]
    return join([figure, table(caption, heads, cell_rows, names=3)])


def _make_change_cells(row: Any) -> list[str]:
    """Return the cells of a row of `StructuralTables.change`."""
    change = absolute_change = MISSING
    if row.n_change:
        change = estimate(row.change_median, row.change_q1, row.change_q3, ".2f")
        absolute_change = estimate(row.absolute_median, row.absolute_q1, row.absolute_q3, ".2f")
    return [
        _class_name(row.region),
        row.series,
        str(row.time),
        str(row.n),
        estimate(row.median, row.q1, row.q3, ".1f"),
        str(row.n_change),
        change,
        absolute_change,
    ]


def _class_name(region: str) -> str:
    return CLASS_NAMES.get(region, region)
