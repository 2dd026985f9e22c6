"""First screen of a page: title, picture, one sentence, a table of answers, and files to use.

Pages of runs, participants and groups, and pages of structural scans, begin with this screen.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from itertools import groupby
from typing import NamedTuple

from markupsafe import Markup

from bids_sr.engine.metric_rows import MetricRow
from bids_sr.evaluation.contrast_results import Answer, ContrastResult
from bids_sr.evaluation.result import RunResult
from bids_sr.evaluation.result_text import (
    decided_text,
    is_tested,
    name_contrast,
    write_result,
)
from bids_sr.evaluation.statements import Statement
from bids_sr.io.frozen import frozen
from bids_sr.report.markup import render

_MAX_ROWS = 10  # rows of the table that are visible at first
_NO_QUOTES = str.maketrans("", "", "“”")
_AXIS = (-50.0, 110.0)  # percent, ends of the axis of the numbers
_AXIS_WIDTH = 90  # pixels
_NO_PICTURE = Markup("")


class AnswerMark(NamedTuple):
    """Symbol and CSS class of an answer; symbols distinguish answers without color."""

    symbol: str
    css_class: str


MARKS: Mapping[Answer, AnswerMark] = {
    "yes": AnswerMark("✓", "all"),
    "in active voxels": AnswerMark("◐", "some"),
    "no": AnswerMark("✗", "none"),
    "not testable": AnswerMark("?", "unknown"),
}
"""Marks by answer."""


class UseRow(NamedTuple):
    """Line of the files to use: a file (relative to the page) or a text, and a remark."""

    label: str
    file: str = ""
    text: str = ""
    remark: str = ""


class AnswerRow(NamedTuple):
    """Row of the table: contrasts or participants with their answer, and the decisive number.

    `reason` and `number` may be empty, and `interval` is markup (`draw_interval`).
    """

    names: tuple[str, ...]
    mark: AnswerMark
    answer: str
    reason: str
    number: str
    interval: Markup = _NO_PICTURE

    @property
    def title(self) -> str:
        """Names of the contrasts."""
        return _join_names(self.names)


class TableHeads(NamedTuple):
    """Heads of the columns of the table, and the key of the symbols in its last column."""

    name: str
    question: str
    number: str
    key: str = ""


_CONTRAST_HEADS = TableHeads(
    "Contrast", "May I interpret its detail?", "Explained, % [95 %]", "● measured ○ tested"
)
_TESTED_HEADS = _CONTRAST_HEADS._replace(number="Tested, % [95 %]", key="")


@frozen
class FirstScreen:
    """Contents of the first screen.

    `title` names what the page is about, and `facts` are facts in the same line, such as voxel
    sizes. `sentence` is the result, and `kind` its CSS class: ``good``, ``tested``, ``bad``, or
    ``idle`` for results that are not to be used. `alerts` are whatever changes the use of the
    maps, such as methods that were not applied. `picture` is markup; "" if there are no maps.
    """

    title: str
    facts: str
    sentence: str
    kind: str = "idle"
    picture: Markup = field(default_factory=Markup)
    alerts: Sequence[str] = ()
    heads: TableHeads = _CONTRAST_HEADS
    rows: Sequence[AnswerRow] = ()
    use: Sequence[UseRow] = ()


def make_first_screen(
    title: str,
    facts: str,
    result: RunResult,
    *,
    addition: str = "",
    picture: Markup = _NO_PICTURE,
    alerts: Sequence[str] = (),
    use: Sequence[UseRow] = (),
) -> FirstScreen:
    """Return the first screen of a result; `addition` follows its sentence and may be empty."""
    return FirstScreen(
        title=title,
        facts=facts,
        sentence=" ".join(filter(None, [write_result(result), addition])),
        kind=_choose_kind(result),
        picture=picture,
        alerts=alerts,
        heads=_CONTRAST_HEADS if result.is_measured else _TESTED_HEADS,
        rows=_list_rows(result.contrasts),
        use=use,
    )


def _choose_kind(result: RunResult) -> str:
    """Return the CSS class of the sentence: measured, tested, or nothing to interpret."""
    if result.shown is None or result.shown.active.deciding_row is None:
        return "idle"
    return "tested" if is_tested(result.shown.active.deciding_row) else "good"


def _list_rows(results: Iterable[ContrastResult]) -> list[AnswerRow]:
    """Return one row per contrast; contrasts without a number share a row per reason."""
    rows = []
    for result in results:
        row = result.active.deciding_row
        rows.append(
            AnswerRow(
                names=(name_contrast(result).translate(_NO_QUOTES),),
                mark=MARKS[result.answer],
                answer=result.answer,
                reason=_choose_reason(result),
                number=decided_text(row),
                interval=_draw_row(row, MARKS[result.answer].css_class),
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


def _get_reason(row: AnswerRow) -> tuple[str, str]:
    """Return answer and reason of a row."""
    return row.answer, row.reason


def _draw_row(row: MetricRow | None, css_class: str) -> Markup:
    """Draw the value of a row with its interval; "" if there is none."""
    if row is None or not math.isfinite(row.value):
        return Markup("")
    return draw_interval(row.value, row.lower, row.upper, css_class, is_hollow=is_tested(row))


def draw_interval(
    value: float, lower: float, upper: float, css_class: str, *, is_hollow: bool = False
) -> Markup:
    """Draw a share with its interval (if finite) on an axis with 0 and 100 %."""
    centers = [_place(100 * number) for number in (value, lower, upper)]
    return render("whisker", *centers, _place(0), _place(100), is_hollow, css_class)


def _place(percent: float) -> float | None:
    """Return the position of a value on the axis (pixels), None if it is not finite."""
    if not math.isfinite(percent):
        return None
    low, high = _AXIS
    share = (min(max(percent, low), high) - low) / (high - low)
    return round(2 + share * (_AXIS_WIDTH - 4), 1)


def render_first_screen(screen: FirstScreen) -> Markup:
    """Render the first screen."""
    n_names = sum(len(row.names) for row in screen.rows)
    return render(
        "first_screen", screen, screen.rows[:_MAX_ROWS], screen.rows[_MAX_ROWS:], n_names
    )


def _join_names(names: Sequence[str]) -> str:
    """Return names in a list; names with the same end share it: ``a, b − others, c``."""
    by_end: dict[str, list[str]] = {}
    for name in names:
        start, sign, end = name.partition(" − ")
        by_end.setdefault(f"{sign}{end}", []).append(start)
    return ", ".join(f"{', '.join(starts)}{end}" for end, starts in by_end.items())
