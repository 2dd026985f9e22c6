"""First screen of the page of functional runs, per task: picture, sentence and participants.

The sentence is on the primary comparison of the task. Tasks without a reference have the result of
the test at half the resolution.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from markupsafe import Markup

from bids_sr.engine.metric_rows import MISSING, parse_cell
from bids_sr.engine.number_text import number, points
from bids_sr.evaluation.detail_support import SupportState
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE, APPLIED
from bids_sr.evaluation.result_text import ANSWERS, quote_contrast
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.statistics.decisions import SIGNIFICANT_WORDS
from bids_sr.evaluation.statistics.wilcoxon import ALPHA
from bids_sr.evaluation.tested_detail import HALF_RESOLUTION
from bids_sr.evaluation.words import reference_phrase, region_text
from bids_sr.group.comparisons import PRIMARY, is_primary_metric
from bids_sr.group.map_records import GroupMaps
from bids_sr.group.values import (
    QUESTION,
    JoinedTables,
    find_input_smoothing,
    participant_columns,
    participants_by_series,
    question_rows,
)
from bids_sr.group.verdicts import ComparisonRow, p_text, task_text
from bids_sr.group.voxel_tests import Z_SHOWN
from bids_sr.io.contrast_names import WITHOUT, rank_contrast
from bids_sr.io.frozen import frozen
from bids_sr.io.nifti import load_image
from bids_sr.io.smoothing_words import smoothing_text
from bids_sr.io.volume import Volume
from bids_sr.io.word_lists import add_counts, format_count
from bids_sr.report.evaluation_rows import series_text
from bids_sr.report.figures.result_picture import (
    PanelGroup,
    PicturePanel,
    choose_square,
    render_picture,
    scale_end,
)
from bids_sr.report.first_screen import (
    MARKS,
    AnswerCell,
    AnswerMark,
    AnswerRow,
    ContrastView,
    FirstScreen,
    TableHeads,
    UseRow,
    draw_interval,
)

_TESTED_HEADS = TableHeads("Participant", ["Reference"], "Explained, %")
_TITLES = {"bspline": "B-spline"}
_TESTED_MARK = AnswerMark("○", "unknown")


@frozen
class GroupContents:
    """Tables and maps of a group.

    `tasks` are the numbers of runs of each participant, by task. `method` is the method of the
    primary comparisons.
    """

    tasks: Mapping[str, Mapping[str, int]]
    tables: JoinedTables
    comparisons: pd.DataFrame
    maps: GroupMaps
    method: str

    @property
    def primary(self) -> list[ComparisonRow]:
        """Primary comparisons; [] if no task has a reference."""
        comparisons = self.comparisons
        return list(comparisons[comparisons["part"] == PRIMARY].itertuples())

    def is_applied(self, task: str) -> bool:
        """Return whether the method was applied in a run of the task."""
        n_unapplied = _count_unapplied(task, self.tables.reported, self.method)
        return n_unapplied < sum(self.tasks.get(task, {}).values())


def _count_unapplied(task: str, reported: pd.DataFrame, method: str) -> int:
    """Return in how many runs of a task the method was not applied."""
    cells = {"task": task, "statistic": APPLIED, "series": method}
    return int((reported[list(cells)] == pd.Series(cells)).all(axis=1).sum())


def list_screens(
    contents: GroupContents, *, alerts: Sequence[str] = (), use: Sequence[UseRow] = ()
) -> list[FirstScreen]:
    """Return the first screen of each task; the first has the alerts and the files to use."""
    primary = contents.primary
    assessed = {row.task for row in primary}
    screens = [_make_primary_screen(contents, row) for row in primary]
    screens += [
        _make_tested_screen(contents, task) for task in contents.tasks if task not in assessed
    ]
    for screen in screens[:1]:
        views = [replace(view, use=use) for view in screen.views]
        screens[0] = replace(screen, alerts=alerts, views=views)
    return screens


def _make_primary_screen(contents: GroupContents, row: ComparisonRow) -> FirstScreen:
    """Return the first screen of a primary comparison."""
    status = primary_status(row)
    return FirstScreen(
        title=f"group · {task_text(row).removeprefix('task ')}",
        facts=_describe_group(
            row.n, contents.tasks.get(row.task, {}), row.fwhm_mm, row.input_fwhm_mm
        ),
        views=[
            ContrastView(
                sentence=write_primary(row),
                kind={"more accurate": "good", "not more accurate": "bad"}.get(status, "idle"),
                picture=_draw_maps(contents, row.task, row.variant, row.contrast),
            )
        ],
        heads=TableHeads(
            "Participant",
            [f"Does {row.series} explain more than the strongest baseline?"],
            "Explained, %",
        ),
        rows=list(_list_participants(contents, row)),
    )


def _describe_group(
    n: int, run_counts: Mapping[str, int], fwhm_mm: float, input_fwhm_mm: str
) -> str:
    """Return the numbers of participants and runs, and the smoothing of maps and series."""
    n_runs = sum(run_counts.values())
    facts = [format_count(n, "participant")]
    facts += [format_count(n_runs, "run")] if n_runs else []
    smoothing = smoothing_text(fwhm_mm, parse_cell(input_fwhm_mm))
    return " · ".join([*facts, f"explained detail: {smoothing}"])


def write_primary(row: ComparisonRow) -> str:
    """Return the result of a primary comparison in one sentence."""
    return Statement.GROUP_EXPLAINS.format(
        series=row.series,
        value=_percent(row.median_series),
        contrast=_name_contrast(row.contrast),
        place=f"the {region_text(row.region)}",
        participants=format_count(row.n, "participant"),
        comparison=_compare(row),
    )


def _compare(row: ComparisonRow) -> str:
    """Return the clause on the comparison with the strongest baseline of each participant."""
    status = primary_status(row)
    if row.n < 2:
        return Statement.GROUP_TOO_FEW
    if row.word == SIGNIFICANT_WORDS[1]:
        statement = (
            Statement.GROUP_MORE if status == "more accurate" else Statement.GROUP_NOT_ABOVE_ZERO
        )
    else:
        statement = Statement.GROUP_NOT_MORE
    correction = f", corrected for {row.family} tasks" if row.family > 1 else ""
    p = f"{p_text(row.p_holm)}{correction}"
    if status == "not assessed":
        p = f"{p}; {row.n} participants cannot reach p < .05"
    return statement.format(
        difference=points(row.difference, row.lower, row.upper).removeprefix("+"),
        n_above=row.n_above,
        n=row.n,
        p=p,
    )


def _name_contrast(contrast: str) -> str:
    """Return the name of a contrast, with the condition that is not part of the values.

    >>> _name_contrast("allWithoutFace")
    '“all” without face'
    """
    name, without, condition = contrast.partition(WITHOUT)
    quoted = quote_contrast(name)
    return f"{quoted} without {condition[:1].lower()}{condition[1:]}" if without else quoted


def _percent(value: float) -> str:
    """Return a share in percent, without a line break before the sign."""
    return number(value, ".0%").replace(" ", "\N{NO-BREAK SPACE}")


def primary_status(row: ComparisonRow) -> str:
    """Return the status of a primary comparison.

    The status is *more accurate*, *not more accurate* or *not assessed*.
    """
    if row.n < 2:
        return "not assessed"
    if row.word == SIGNIFICANT_WORDS[1] and row.lower_of_series > 0:
        return "more accurate"
    return "not more accurate" if row.p_smallest * row.family < ALPHA else "not assessed"


def _list_participants(contents: GroupContents, row: ComparisonRow) -> Iterator[AnswerRow]:
    """Yield the participants with their values, the largest difference first."""
    question = pd.Series({name: getattr(row, name) for name in QUESTION})
    values = participants_by_series(question_rows(contents.tables.values, question))[row.series]
    ranked = sorted(
        zip(row.differences, row.participants, row.rivals, strict=True),
        key=lambda item: -item[0],
    )
    for difference, participant, rival in ranked:
        value = float(values[participant])
        state: SupportState = "recovered" if difference > 0 else "not supported"
        reason = f"{series_text(rival)} {_percent(value - difference)}"
        yield _make_row(participant, value, MARKS[state], ANSWERS[state], reason)


def _make_row(
    participant: str, value: float, mark: AnswerMark, answer: str, reason: str = ""
) -> AnswerRow:
    """Return the row of a participant with a share as value."""
    cell = AnswerCell(
        mark=mark,
        answer=answer,
        reason=reason,
        number=_percent(value).removesuffix("\N{NO-BREAK SPACE}%"),
        interval=draw_interval(
            value, math.nan, math.nan, mark.css_class, is_hollow=mark is _TESTED_MARK
        ),
    )
    return AnswerRow((participant,), (cell,))


def _make_tested_screen(contents: GroupContents, task: str) -> FirstScreen:
    """Return the first screen of a task without a primary comparison."""
    contrast, shares = select_tested(task, contents.tables.values, contents.method)
    run_counts = contents.tasks[task]
    sentences = [
        write_tested(contrast, shares, contents.method),
        _explain_no_comparison(contents, task),
    ]
    return FirstScreen(
        title=f"group · {task}",
        facts=_describe_group(
            len(run_counts), run_counts, 0.0, find_input_smoothing(contents.tables.values, task)
        ),
        views=[
            ContrastView(
                sentence=" ".join(filter(None, sentences)),
                kind="tested" if shares else "idle",
                picture=_draw_maps(contents, task, MISSING, contrast or "all"),
            )
        ],
        heads=_TESTED_HEADS,
        rows=[
            _make_row(participant, share, _TESTED_MARK, "tested")
            for participant, share in shares.items()
        ],
    )


def select_tested(task: str, values: pd.DataFrame, method: str) -> tuple[str, Mapping[str, float]]:
    """Return the contrast and the explained variance by participant in the test of a method.

    The values are of the test at half the resolution, of active voxels without smoothing, for the
    contrast of all events or else the first contrast; the contrast is "" if no run was tested.
    """
    cells = {
        "task": task,
        "series": method,
        "statistic": "ev",
        "reference": HALF_RESOLUTION,
        "region": ACQUIRED_ACTIVE,
        "fwhm_mm": 0,
    }
    tested = values[np.logical_and.reduce([values[name] == cell for name, cell in cells.items()])]
    if tested.empty:
        return "", {}
    row = tested.loc[[tested["contrast"].map(rank_contrast).idxmin()]]
    shares = participant_columns(row).iloc[0].astype(float)
    return row["contrast"].iloc[0], shares[np.isfinite(shares)].to_dict()


def write_tested(contrast: str, shares: Mapping[str, float], method: str) -> str:
    """Return a sentence on the explained variance in the test; "" if no run was tested."""
    if not shares:
        return ""
    return Statement.GROUP_TESTED.format(
        series=method,
        value=_percent(float(np.median(list(shares.values())))),
        contrast=_name_contrast(contrast),
        participants=format_count(len(shares), "participant"),
    )


def _explain_no_comparison(contents: GroupContents, task: str) -> str:
    """Return why a task has no primary comparison."""
    method, tables = contents.method, contents.tables
    if not tables.methods:
        return Statement.NOTHING_COMPARED
    if method not in tables.methods:
        return Statement.GROUP_NOT_RUN.format(series=method)
    if not contents.is_applied(task):
        return Statement.NOTHING_APPLIED.format(series=method, were="was")
    return not_compared_text(task, tables.values, tables.reported, method)


def not_compared_text(task: str, values: pd.DataFrame, reported: pd.DataFrame, method: str) -> str:
    """Return why the method was not compared with a reference; `reported` as in `JoinedTables`.

    Possible reasons are missing or uninformative references, and missing values of the method.
    """
    task_values = values[(values["task"] == task) & is_primary_metric(values)]
    if task_values.empty:
        reason = "there are no reference data"
    elif not np.isfinite(participant_columns(task_values)).any(axis=None):
        reason = "the reference data have no reproducible detail"
    elif n_unapplied := _count_unapplied(task, reported, method):
        reason = f"{method} was not applied in {format_count(n_unapplied, 'run')}"
    else:
        reason = f"{method} has no defined values in the whole brain"
    return Statement.GROUP_NOT_COMPARED.format(series=method, reason=reason)


def list_primary_reasons(contents: GroupContents, row: ComparisonRow) -> list[str]:
    """Return sentences on a primary comparison: reference, baselines and participants."""
    run_counts = contents.tasks.get(row.task, {})
    without_value = add_counts(
        (item for item in run_counts.items() if item[0] not in row.participants), "runs"
    )
    level = f"{100 * min(row.level, 1 - ALPHA):.0f} %"
    sentences = [
        f"Values are {reference_phrase(row)}. The interval has a level of {level} across"
        " participants, and p is from an exact signed-rank test of one prespecified comparison."
        if row.n > 1
        else f"Values are {reference_phrase(row)}.",
        Statement.GROUP_BASELINES,
    ]
    if row.n > 1:
        has_number = pd.notna(row.n_needed)
        statement = Statement.GROUP_POWER if has_number else Statement.GROUP_NO_POWER
        sentences.append(statement.format(n=number(row.n_needed, ".0f") if has_number else ""))
    if row.note:
        sentences.append(f"{row.note[:1].upper()}{row.note[1:].rstrip('.')}.")
    if without_value:
        sentences.append(
            Statement.GROUP_WITHOUT_VALUE.format(participants=", ".join(without_value))
        )
    return sentences


def _draw_maps(contents: GroupContents, task: str, variant: str, contrast: str) -> Markup:
    """Draw the group z maps of B-spline interpolation and, if applied, of the method.

    The markup is "" if there are no maps.

    If the contrast has no map, the first contrast of the task is drawn.
    """
    maps = contents.maps
    if maps.background is None or maps.mask is None or maps.maps.empty:
        return Markup("")
    of_task = maps.maps[(maps.maps["task"] == task) & (maps.maps["variant"] == variant)]
    if of_task.empty:
        return Markup("")
    if contrast not in set(of_task["contrast"]):
        contrast = of_task["contrast"].iloc[0]
    rows = of_task[of_task["contrast"] == contrast]
    paths = dict(rows[["series", "z"]].to_numpy())
    series = ("bspline", contents.method) if contents.is_applied(task) else ("bspline",)
    names = [name for name in series if name in paths]
    volumes = {name: Volume(*load_image(paths[name])) for name in names}
    first = next(iter(volumes.values()), None)
    mask = maps.mask.data > 0
    if first is None or not np.any(np.nan_to_num(first.data[mask])):
        return Markup("")
    active = (np.abs(first.data) > Z_SHOWN) & mask
    square = choose_square(first, active if active.any() else mask, np.inf)
    panels = [
        PicturePanel(title=_TITLES.get(name, name), note="", image=volume, brain=mask)
        for name, volume in volumes.items()
    ]
    title = f"Group z map of {contrast}"
    return render_picture(
        [PanelGroup(title, f"{maps.space}, smoothed by {rows['fwhm_mm'].iloc[0]:g} mm", panels)],
        square,
        maps.background,
        limit=scale_end(first, square, np.inf),
        unit="z",
        subject=title,
    )
