"""First screen of a participant's structural scans: one sentence, and one row per difference.

All values are from the metrics table.
"""

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from bids_sr.engine.metric_rows import BRAIN, MetricRow
from bids_sr.engine.number_text import number
from bids_sr.evaluation.acquired_scan import altered_sentences
from bids_sr.io.series import get_kind
from bids_sr.report.first_screen import (
    AnswerCell,
    AnswerMark,
    AnswerRow,
    ContrastView,
    FirstScreen,
    TableHeads,
    render_first_screen,
)

_STATISTIC = "psnr"  # statistic of the comparison with interpolation
HEADS = TableHeads("Contrast", ["PSNR relative to interpolation"], "Difference")
"""Heads of the table of differences."""
MARKS = {
    "better": (AnswerMark("▲", "all"), "higher"),
    "worse": (AnswerMark("▼", "none"), "lower"),
}
"""Marks and words of significant differences, by the word of the comparison."""
UNDECIDED = (AnswerMark("○", "unknown"), "as interpolation")
"""Mark and word of other differences, such as of a single participant: slices of one head are not
independent."""
Changes = Mapping[str, Mapping[str, tuple[float, str]]]
"""Difference in PSNR (dB) and the subtracted interpolation, by method and contrast."""


def scans_overview_html(
    rows: Sequence[MetricRow], participant: str, contrasts: Sequence[str]
) -> Markup:
    """Render the first screen of structural scans.

    `rows` are of the metrics table of the scans, `participant` is the name in the title, and
    `contrasts` are the BIDS suffixes of the scans, in order. The result of a single participant
    does not decide whether a method is better.
    """
    changes = compute_changes(rows)
    screen = FirstScreen(
        title=f"{participant} · structural scans · {', '.join(contrasts)}",
        facts="reference: measured scan, in slices that were not used for training",
        views=[
            ContrastView(
                sentence=" ".join([*altered_sentences(rows), f"{write_headline(changes)}."])
            )
        ],
        heads=HEADS,
        rows=[
            AnswerRow(
                (contrast,),
                (
                    AnswerCell(
                        *UNDECIDED,
                        f"{name} − {interpolation}",
                        f"{number(change, '+.2f')} dB",
                    ),
                ),
            )
            for name, change_by_contrast in changes.items()
            for contrast, (change, interpolation) in change_by_contrast.items()
        ],
    )
    return render_first_screen(screen)


def compute_changes(rows: Sequence[MetricRow]) -> dict[str, dict[str, tuple[float, str]]]:
    """Return each method's PSNR minus the better interpolation's, by method and contrast.

    Only brain values from held-out slices are used. The mapping is empty if there are none, or if
    no method was run.
    """
    values: dict[str, dict[str, float]] = {}
    for row in rows:
        is_compared = (row.statistic, row.reference, row.region) == (_STATISTIC, "heldOut", BRAIN)
        if is_compared and math.isfinite(row.value):
            values.setdefault(row.contrast, {})[row.series] = row.value
    changes: dict[str, dict[str, tuple[float, str]]] = {}
    for contrast, by_series in values.items():
        interpolations = [name for name in by_series if get_kind(name) == "baseline"]
        methods = [name for name in by_series if get_kind(name) == "method"]
        if not interpolations:
            continue
        best = max(interpolations, key=by_series.__getitem__)
        for name in methods:
            change = by_series[name] - by_series[best]
            changes.setdefault(name, {})[contrast] = (change, best)
    return changes


def write_headline(changes: Changes) -> str:
    """Return a sentence on the PSNR of methods relative to interpolation, by contrast.

    `changes` is the result of `compute_changes`.
    """
    if not changes:
        return (
            "The methods were not compared with interpolation because no slices were held out"
            " from training"
        )
    differences = [
        f"{name} {number(change, '+.2f')} dB in {contrast}"
        for name, change_by_contrast in changes.items()
        for contrast, (change, _) in change_by_contrast.items()
    ]
    return (
        f"PSNR relative to interpolation: {', '.join(differences)}; one participant does not"
        " decide whether a method is better"
    )
