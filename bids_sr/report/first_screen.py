"""First screen of a page: title, picture, one sentence, a table of answers, and files to use.

Pages of runs, participants and groups, and pages of structural scans, begin with this screen.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import NamedTuple

from markupsafe import Markup

from bids_sr.evaluation.changes import write_change
from bids_sr.evaluation.detail_support import ContrastResult, RegionResult, SupportState
from bids_sr.evaluation.result import RunResult
from bids_sr.evaluation.result_text import (
    ANSWERS,
    REGIONS,
    explained_text,
    is_tested,
    list_contradicted,
    name_contrast,
    quote_contrast,
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
_EVIDENT = (Statement.WIDE_INTERVAL.short, Statement.NO_GAIN.short)  # reasons that a number shows


class AnswerMark(NamedTuple):
    """Symbol and CSS class of an answer; symbols distinguish answers without color."""

    symbol: str
    css_class: str


MARKS: Mapping[SupportState, AnswerMark] = {
    "recovered": AnswerMark("✓", "all"),
    "not supported": AnswerMark("✗", "none"),
    "not testable": AnswerMark("?", "unknown"),
}
"""Marks by state of the detail."""


class UseRow(NamedTuple):
    """Line of the files to use: a file (relative to the page) or a text, and a remark."""

    label: str
    file: str = ""
    text: str = ""
    remark: str = ""


def locate_regions(entities: Mapping[str, str]) -> UseRow:
    """Return the line of the table of regions; `entities` are labels by long entity name."""
    from bids_sr.engine.store import derivative_path

    table = {"desc": "regions", "suffix": "metrics", "datatype": "func", "extension": ".tsv"}
    return UseRow("Regions", file=derivative_path({**entities, **table}))


class AnswerCell(NamedTuple):
    """Answer in one region with its number.

    `reason` and `number` may be empty, and `interval` is markup (`draw_interval`).
    """

    mark: AnswerMark
    answer: str
    reason: str = ""
    number: str = ""
    interval: Markup = _NO_PICTURE


class AnswerRow(NamedTuple):
    """Row of the table: contrasts or participants with their answers, one per region."""

    names: tuple[str, ...]
    cells: tuple[AnswerCell, ...]

    @property
    def title(self) -> str:
        """Names of the contrasts."""
        return _join_names(self.names)


class TableHeads(NamedTuple):
    """Heads of the table: names, answers (one per region) and their number.

    `question` and the `key` of the numbers are above the answers; both may be "".
    """

    name: str
    answers: Sequence[str]
    number: str = ""
    question: str = ""
    key: str = ""


_CONTRAST_HEADS = TableHeads(
    "Contrast",
    [f"in {REGIONS['active']}", f"in the {REGIONS['brain']}"],
    question="May I interpret its detail?",
    key="Explained, % [95 %]: ● measured (without interval, the test decided) ○ tested",
)
_TESTED_HEADS = _CONTRAST_HEADS._replace(key="Tested, % [95 %]")


@frozen
class ContrastView:
    """Part of the first screen that the choice of a contrast changes.

    `sentence` is the result, and `kind` its CSS class: ``good``, ``tested``, ``bad``, or ``idle``
    for results that are not to be used. `picture` is markup; "" if there are no maps. `use` are
    the files to use. `contrast` is the contrast of the maps, and `name` its name in the list at
    the top of the page; "" if the page has no choice.
    """

    sentence: str
    kind: str = "idle"
    picture: Markup = field(default_factory=Markup)
    use: Sequence[UseRow] = ()
    contrast: str = ""
    name: str = ""


@frozen
class FirstScreen:
    """Contents of the first screen.

    `title` names what the page is about, and `facts` are facts in the same line, such as voxel
    sizes. The first of the `views` is shown first. `alerts` are whatever changes the use of the
    maps, such as methods that were not applied. The first `n_open` of the `rows` are always
    visible.
    """

    title: str
    facts: str
    views: Sequence[ContrastView]
    alerts: Sequence[str] = ()
    heads: TableHeads = _CONTRAST_HEADS
    rows: Sequence[AnswerRow] = ()
    n_open: int = 0


def make_first_screen(
    title: str,
    facts: str,
    result: RunResult,
    views: Sequence[ContrastView],
    *,
    alerts: Sequence[str] = (),
) -> FirstScreen:
    """Return the first screen of a result."""
    return FirstScreen(
        title=title,
        facts=facts,
        views=views,
        alerts=alerts,
        heads=_CONTRAST_HEADS if result.is_measured else _TESTED_HEADS,
        rows=_list_rows(result.contrasts),
        n_open=sum(bool(contrast.name) for contrast in result.contrasts),
    )


def make_view(
    result: RunResult,
    *,
    addition: str = "",
    picture: Markup = _NO_PICTURE,
    use: Sequence[UseRow] = (),
    contrast: str = "",
) -> ContrastView:
    """Return the view of a result; `addition` follows its sentence and may be empty."""
    if result.changes:
        (change,) = result.changes
        kind = "good" if change.is_found else "idle"
        sentence, name = write_change(change), change.name
    else:
        row = None if result.shown is None else result.shown.active.row
        kind = "idle" if row is None else "tested" if is_tested(row) else "good"
        texts = write_result(result), list_contradicted(result), addition
        sentence, name = " ".join(filter(None, texts)), quote_contrast(contrast).strip("“”")
    return ContrastView(
        sentence=sentence, kind=kind, picture=picture, use=use, contrast=contrast, name=name
    )


def _list_rows(results: Iterable[ContrastResult]) -> list[AnswerRow]:
    """Return one row per contrast; contrasts without numbers share a row per reason."""
    rows: list[AnswerRow] = []
    for result in results:
        cells = tuple(map(_make_cell, result.regions.values()))
        names = (name_contrast(result).translate(_NO_QUOTES),)
        same = [index for index, row in enumerate(rows) if row.cells == cells]
        if same and not result.name and not any(cell.number for cell in cells):
            rows[same[0]] = AnswerRow((*rows[same[0]].names, *names), cells)
        else:
            rows.append(AnswerRow(names, cells))
    return rows


def _make_cell(region: RegionResult) -> AnswerCell:
    """Return the answer in a region with its reason, unless the number is the reason.

    The number is the explained variance, measured if possible.
    """
    mark, row = MARKS[region.state], region.row
    reason = region.short_reason
    has_interval = row is not None and math.isfinite(row.lower)
    if region.state == "recovered" or (reason in _EVIDENT and has_interval):
        reason = ""
    cell = AnswerCell(mark, ANSWERS[region.state], reason)
    if row is None or not math.isfinite(row.value):
        return cell
    ends = row.value, row.lower, row.upper
    return cell._replace(
        number=explained_text(*ends, in_table=True),
        interval=draw_interval(*ends, mark.css_class, is_hollow=is_tested(row)),
    )


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
    """Render the first screen; rows without an answer are folded if others have one."""
    pictures = [(view.contrast, render("answer", view)) for view in screen.views]
    uses = [(view.contrast, render("use", view.use)) for view in screen.views if view.use]
    undecided = MARKS["not testable"]
    decided = [
        row
        for index, row in enumerate(screen.rows)
        if index < screen.n_open or any(cell.mark != undecided for cell in row.cells)
    ]
    rows = (decided or screen.rows)[:_MAX_ROWS]
    hidden = [row for row in screen.rows if row not in rows]
    n_hidden = sum(len(row.names) for row in hidden)
    return render("first_screen", screen, pictures, uses, rows, hidden, n_hidden)


def _join_names(names: Sequence[str]) -> str:
    """Return names in a list; names with the same end share it: ``a, b − others, c``."""
    by_end: dict[str, list[str]] = {}
    for name in names:
        start, sign, end = name.partition(" − ")
        by_end.setdefault(f"{sign}{end}", []).append(start)
    return ", ".join(f"{', '.join(starts)}{end}" for end, starts in by_end.items())
