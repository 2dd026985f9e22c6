"""First screen of a page: run, picture, one sentence, answers per contrast, and files to use."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from itertools import groupby
from typing import NamedTuple

from markupsafe import Markup

from bids_sr.evaluation.contrast_results import Answer, ContrastResult
from bids_sr.evaluation.result import RunResult
from bids_sr.evaluation.result_text import (
    decided_text,
    is_tested,
    write_result,
)
from bids_sr.evaluation.statements import Statement
from bids_sr.frozen import frozen
from bids_sr.metrics.rows import MetricRow
from bids_sr.metrics.word_lists import enumerate_unique
from bids_sr.report.markup import render

_MAX_ROWS = 10  # rows of the table that are visible at first
_AXIS = (-50.0, 110.0)  # percent, ends of the axis of the numbers
_AXIS_WIDTH = 90  # pixels


class _AnswerMark(NamedTuple):
    """Symbol and CSS class of an answer; symbols distinguish answers without color."""

    symbol: str
    css_class: str


_MARKS: Mapping[Answer, _AnswerMark] = {
    "yes": _AnswerMark("✓", "all"),
    "in active voxels": _AnswerMark("◐", "some"),
    "no": _AnswerMark("✗", "none"),
    "not testable": _AnswerMark("?", "unknown"),
}


class UseRow(NamedTuple):
    """Line of the files to use: a file (relative to the page) or a text, and a remark."""

    label: str
    file: str = ""
    text: str = ""
    remark: str = ""


@frozen
class FirstScreen:
    """Contents of the first screen of a run, or of all runs of a participant together.

    `title` names participant and run, and `facts` are volumes and voxel sizes. `alerts` are
    whatever changes the use of the maps, such as methods that were not applied. `picture` is
    markup; "" if there are no maps. `addition` follows the sentence; it may be empty.
    """

    title: str
    facts: str
    result: RunResult
    picture: Markup = field(default_factory=Markup)
    alerts: Sequence[str] = ()
    addition: str = ""
    use: Sequence[UseRow] = ()


def render_first_screen(screen: FirstScreen) -> Markup:
    """Render the first screen."""
    result = screen.result
    rows = _list_rows(result.contrasts)
    return render(
        "first_screen",
        screen,
        " ".join(filter(None, [write_result(result), screen.addition])),
        _choose_kind(result),
        rows[:_MAX_ROWS],
        rows[_MAX_ROWS:],
        sum(len(row.names) for row in rows),
    )


def _choose_kind(result: RunResult) -> str:
    """Return the CSS class of the sentence: measured, tested, or nothing to interpret."""
    if result.shown is None or result.shown.active.deciding_row is None:
        return "idle"
    return "tested" if is_tested(result.shown.active.deciding_row) else "good"


class _AnswerRow(NamedTuple):
    """Row of the table: contrasts with their common answer, and the number that decided."""

    names: tuple[str, ...]
    mark: _AnswerMark
    answer: str
    reason: str
    number: str
    interval: Markup

    @property
    def title(self) -> str:
        """Names of the contrasts."""
        return _join_names(self.names)


def _list_rows(results: Iterable[ContrastResult]) -> list[_AnswerRow]:
    """Return one row per contrast; contrasts without a number share a row per reason."""
    rows = []
    for result in results:
        row = result.active.deciding_row
        rows.append(
            _AnswerRow(
                names=(_format_name(result),),
                mark=_MARKS[result.answer],
                answer=result.answer,
                reason=_choose_reason(result),
                number=decided_text(row),
                interval=_draw_interval(row, _MARKS[result.answer].css_class),
            )
        )
    joined = []
    without_number = sorted((row for row in rows if not row.number), key=_get_reason)
    for _, group in groupby(without_number, _get_reason):
        same = list(group)
        joined.append(same[0]._replace(names=tuple(name for row in same for name in row.names)))
    return [*(row for row in rows if row.number), *joined]


def _choose_reason(result: ContrastResult) -> str:
    """Return the short reason of an answer; "" if the number next to it is the reason."""
    reason = result.active.short_reason
    if result.state == "recovered" or reason == Statement.WIDE_INTERVAL.short:
        return ""
    return reason


def _format_name(result: ContrastResult) -> str:
    """Return the name of a contrast for the table: ``a − b`` for a difference of conditions."""
    name = result.map_contrast.replace("MinusOthers", " − others").replace("Minus", " − ")
    if result.state == "recovered" and result.untested:
        return f"{name} without {enumerate_unique(result.untested)}"
    return name


def _join_names(names: Sequence[str]) -> str:
    """Return names in a list; names with the same end share it: ``a, b − others, c``."""
    by_end: dict[str, list[str]] = {}
    for name in names:
        start, sign, end = name.partition(" − ")
        by_end.setdefault(f"{sign}{end}", []).append(start)
    return ", ".join(f"{', '.join(starts)}{end}" for end, starts in by_end.items())


def _get_reason(row: _AnswerRow) -> tuple[str, str]:
    """Return answer and reason of a row."""
    return row.answer, row.reason


def _draw_interval(row: MetricRow | None, css_class: str) -> Markup:
    """Draw a value with its interval on an axis with 0 and 100 %; tested values are hollow."""
    if row is None or not math.isfinite(row.value):
        return Markup("")
    value, lower, upper = (_place(100 * number) for number in (row.value, row.lower, row.upper))
    return render(
        "whisker", value, lower, upper, _place(0), _place(100), is_tested(row), css_class
    )


def _place(percent: float) -> float | None:
    """Return the position of a value on the axis (pixels), None if it is not finite."""
    if not math.isfinite(percent):
        return None
    low, high = _AXIS
    share = (min(max(percent, low), high) - low) / (high - low)
    return round(2 + share * (_AXIS_WIDTH - 4), 1)
