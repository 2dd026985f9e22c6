"""First screen of the page of functional runs, per task: picture, sentence and participants.

The sentence is on the primary comparison of the task. Tasks without a reference have the result of
the test at half the resolution.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from bids_sr.engine.metric_rows import MISSING, parse_cell
from bids_sr.engine.number_text import interval, number, points
from bids_sr.evaluation.detail_support import SupportState
from bids_sr.evaluation.evidence import APPLIED
from bids_sr.evaluation.result_text import ANSWERS, explained_text, quote_contrast
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.statistics.decisions import SIGNIFICANT_WORDS
from bids_sr.evaluation.statistics.wilcoxon import ALPHA, LOWEST_NOMINAL_LEVEL
from bids_sr.evaluation.tested_detail import HALF_RESOLUTION
from bids_sr.evaluation.words import reference_phrase, region_text
from bids_sr.glm.activation_regions import fdr_region
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
from bids_sr.report.stored_verdicts import StoredVerdict

_TESTED_HEADS = TableHeads("Participant", ["May I interpret its detail?"], "Explained, % [95 %]")
_TITLES = {"bspline": "B-spline"}
_VALUE_MARK = AnswerMark("", "all")
_Tested = tuple[StoredVerdict, Mapping[str, Any]]
"""Verdict, and its result for a contrast in active voxels."""


@frozen
class GroupContents:
    """Tables and maps of a group.

    `tasks` are the numbers of runs of each participant, by task. `method` is the method of the
    primary comparisons, and `verdicts` are those of the participants.
    """

    tasks: Mapping[str, Mapping[str, int]]
    tables: JoinedTables
    comparisons: pd.DataFrame
    maps: GroupMaps
    method: str
    verdicts: Sequence[StoredVerdict]

    @property
    def primary(self) -> list[ComparisonRow]:
        """Primary comparisons; [] if no task has a reference."""
        comparisons = self.comparisons
        return list(comparisons[comparisons["part"] == PRIMARY].itertuples())

    def select_verdicts(self, task: str) -> list[StoredVerdict]:
        """Return the verdicts of a task."""
        return [verdict for verdict in self.verdicts if verdict.task == task]

    def select_maps(self, task: str, contrast: str) -> pd.DataFrame:
        """Return the maps of a contrast, the method's map first."""
        maps = self.maps.maps
        if maps.empty:
            return maps
        selected = maps[(maps["task"] == task) & (maps["contrast"] == contrast)]
        return selected.sort_values("series", key=lambda names: names != self.method)

    def list_over_runs(self) -> list[tuple[str, str, str]]:
        """Return task, contrast and requested name of each contrast over runs."""
        named = [
            (record.task, record.key[0], record.requested_name)
            for record in self.maps.records
            if record.terms
        ]
        return list(dict.fromkeys(named))

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
    screens = list(_list_change_screens(contents))
    screens += [_make_primary_screen(contents, row) for row in primary]
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
            ["Strongest baseline"],
            "Explained, %",
        ),
        rows=list(_list_participants(contents, row)),
    )


def _list_change_screens(contents: GroupContents) -> Iterator[FirstScreen]:
    """Yield a screen per contrast over runs, with what changed in each participant."""
    for task, contrast, name in contents.list_over_runs():
        changes = {
            f"sub-{verdict.participant}": change
            for verdict in contents.select_verdicts(task)
            for change in verdict.facts.get("changes", ())
            if change["contrast"] == contrast
        }
        rows = contents.select_maps(task, contrast)
        sentence, volumes = Statement.GROUP_NO_MAP.format(contrast=name), ""
        if len(rows) and contents.maps.mask is not None:
            row = rows.iloc[0]
            volumes = _measure_changes(row["z"], contents.maps.mask)
            sentence = Statement.GROUP_CHANGE.format(
                contrast=name,
                n=len(row["participants"]),
                volume=f"{volumes} are" if volumes else "no voxel is",
                smoothing=smoothing_text(row["fwhm_mm"], 0),
            )
        yield FirstScreen(
            title=f"group · {task} · {name}",
            facts=format_count(len(changes), "participant"),
            views=[
                ContrastView(
                    sentence=sentence,
                    kind="good" if volumes else "idle",
                    picture=_draw_maps(contents, task, MISSING, contrast, name)
                    if len(rows)
                    else Markup(""),
                )
            ],
            heads=TableHeads("Participant", ["What changed?"], "%"),
            rows=[_make_change_row(label, change) for label, change in changes.items()],
        )


def _measure_changes(path: Path, mask: Volume) -> str:
    """Return the significant volumes of a group z map in words; "" if there are none."""
    z, affine = load_image(path)
    significant, _ = fdr_region(z, mask.data > 0)
    voxel_mm3 = abs(np.linalg.det(affine[:3, :3]))
    counts = {
        "increases": np.count_nonzero(significant & (z > 0)),
        "decreases": np.count_nonzero(significant & (z < 0)),
    }
    return " and ".join(
        f"{name} in {count * voxel_mm3:,.0f} mm³" for name, count in counts.items() if count
    )


def _make_change_row(participant: str, change: Mapping[str, Any]) -> AnswerRow:
    """Return the row of a participant in a contrast over runs: regions, and the map."""
    found = [region for region in change["regions"] if region["is_found"]]
    answers = [f"{region['region']} {number(region['effect'], '+.2f')} %" for region in found]
    if in_map := change.get("in_map"):
        answers.append(f"{in_map['largest']} (map)")
    (region,) = change["regions"] if len(change["regions"]) == 1 else (None,)
    return AnswerRow(
        (participant,),
        (
            AnswerCell(
                mark=MARKS["recovered" if answers else "not testable"],
                answer=", ".join(answers) or "nothing found",
                number=""
                if region is None
                else f"{number(region['effect'], '+.2f')}"
                f" {interval(region['lower'], region['upper'], '.2f')}",
            ),
        ),
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
        difference=_describe_difference(row),
        n_above=row.n_above,
        n=row.n,
        p=p,
    )


def _describe_difference(row: ComparisonRow) -> str:
    """Return the difference, with its interval unless its level is below 95 %."""
    is_nominal = row.level >= LOWEST_NOMINAL_LEVEL
    ends = (row.lower, row.upper) if is_nominal else (math.nan, math.nan)
    return points(row.difference, *ends).removeprefix("+")


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
        cell = AnswerCell(
            mark=_VALUE_MARK,
            answer=f"{series_text(rival)} {_percent(value - difference)}",
            number=_percent(value).removesuffix("\N{NO-BREAK SPACE}%"),
            interval=draw_interval(value, math.nan, math.nan, _VALUE_MARK.css_class),
        )
        yield AnswerRow((participant,), (cell,))


def _make_tested_screen(contents: GroupContents, task: str) -> FirstScreen:
    """Return the first screen of a task without a primary comparison."""
    contrast, results = select_tested(contents.select_verdicts(task))
    run_counts = contents.tasks[task]
    sentences = [write_tested(contrast, results, contents), _explain_no_comparison(contents, task)]
    return FirstScreen(
        title=f"group · {task}",
        facts=_describe_group(
            len(run_counts), run_counts, 0.0, find_input_smoothing(contents.tables.values, task)
        ),
        views=[
            ContrastView(
                sentence=" ".join(filter(None, sentences)),
                kind="tested" if results else "idle",
                picture=_draw_maps(contents, task, MISSING, contrast or "all"),
            )
        ],
        heads=_TESTED_HEADS,
        rows=[_make_tested_row(verdict, facts) for verdict, facts in results],
    )


def select_tested(verdicts: Sequence[StoredVerdict]) -> tuple[str, Sequence[_Tested]]:
    """Return the contrast that is shown, and its result in active voxels by verdict.

    The contrast is that of all events, or else the first; "" if nothing was measured or tested.
    """
    tested = [
        (verdict, contrast["contrast"], contrast["active"])
        for verdict in verdicts
        for contrast in verdict.facts.get("contrasts", ())
        if contrast["active"].get("explained_variance") is not None
    ]
    shown = min((name for _, name, _ in tested), key=rank_contrast, default="")
    return shown, [(verdict, facts) for verdict, name, facts in tested if name == shown]


def write_tested(contrast: str, results: Sequence[_Tested], contents: GroupContents) -> str:
    """Return a sentence on the explained variance in the test; "" if no run was tested."""
    if not results:
        return ""
    shares: dict[str, list[float]] = {}
    for verdict, facts in results:
        shares.setdefault(verdict.participant, []).append(facts["explained_variance"])
    return Statement.GROUP_TESTED.format(
        series=contents.method,
        value=_percent(float(np.median([*map(np.mean, shares.values())]))),
        contrast=_name_contrast(contrast),
        participants=format_count(len(shares), "participant"),
    )


def _make_tested_row(verdict: StoredVerdict, facts: Mapping[str, Any]) -> AnswerRow:
    """Return the row of a verdict, as on the page of its participant."""
    state: SupportState = facts["state"]
    value, lower, upper = (
        math.nan if facts[key] is None else float(facts[key])
        for key in ("explained_variance", "lower", "upper")
    )
    is_hollow = facts["reference"] == HALF_RESOLUTION
    cell = AnswerCell(
        mark=MARKS[state],
        answer=ANSWERS[state],
        number=explained_text(value, lower, upper, in_table=True),
        interval=draw_interval(value, lower, upper, MARKS[state].css_class, is_hollow=is_hollow),
    )
    return AnswerRow((verdict.stem.partition("_task-")[0].replace("_", " "),), (cell,))


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
    if row.note:
        sentences.append(f"{row.note[:1].upper()}{row.note[1:].rstrip('.')}.")
    if without_value:
        sentences.append(
            Statement.GROUP_WITHOUT_VALUE.format(participants=", ".join(without_value))
        )
    return sentences


def _draw_maps(
    contents: GroupContents, task: str, variant: str, contrast: str, name: str = ""
) -> Markup:
    """Draw the group z maps of B-spline interpolation and, if applied, of the method.

    The markup is "" if there are no maps. If the contrast has no map, the first contrast of the
    task is drawn. `name` is the name of the contrast as requested; by default, its label.
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
    title = f"Group z map of {name or contrast}"
    return render_picture(
        [PanelGroup(title, f"{maps.space}, smoothed by {rows['fwhm_mm'].iloc[0]:g} mm", panels)],
        square,
        maps.background,
        limit=scale_end(first, square, np.inf),
        unit="z",
        subject=title,
    )
