"""Text of a verdict: its headline, and its limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bids_sr.metrics.long_tables import MISSING, MetricRow
from bids_sr.series import CONTROLS
from bids_sr.stats.controls.negative_controls import PLACEBOS
from bids_sr.stats.evaluation.evidence import Decision, Table


@dataclass(frozen=True, kw_only=True, slots=True)
class Sentence:
    """One statement with the metric that it rests on."""

    text: str  # plain words
    decision: Decision | str = ""  # better, same, worse or unclear; empty where the sentence does not compare
    # measure, series, against, contrast, region: as in the table of the evaluation
    measure: str = MISSING
    series: str = MISSING
    against: str = MISSING
    contrast: str = MISSING
    region: str = MISSING
    # value, lower, upper: the metric and its 95 % interval; NaN where there is none
    value: float = math.nan
    lower: float = math.nan
    upper: float = math.nan

    @classmethod
    def of(cls, text: str, row: MetricRow, decision: Decision | str = "") -> Sentence:
        """A statement on one row of the evaluation."""
        return cls(
            text=text, decision=decision, measure=row.measure, series=row.series, against=row.against,
            contrast=row.contrast, region=row.region, value=row.value, lower=row.lower, upper=row.upper,
        )  # fmt: skip


def idle_text(not_applied: Sequence[str]) -> str:
    """Who was not applied, as text."""
    if not not_applied:
        return ""
    many = len(not_applied) > 1
    fell, whose = ("they fell", "Their series are") if many else ("it fell", "Its series is")
    return (
        f"{' and '.join(not_applied)} {'were' if many else 'was'} not applied: {fell} back to zero filling. "
        f"{whose} that of zerofill and not compared. "
    )


def _attributable(won: Sequence[str], sentences: Sequence[Sentence], specific: dict[str, bool | None]) -> str:
    """Whether the gain of those that won is attributable to this subject's own data; placebos that reach it."""
    own = [method for method in won if specific.get(method)]
    text = f"Part of the gain of {' and '.join(own)} is owed to this subject's own data. " if own else ""
    for method in (each for each in won if specific.get(each) is False):
        reach = [
            s.against for s in sentences if s.series == method and s.against in PLACEBOS and s.decision != "better"
        ]
        what = " or ".join(dict.fromkeys(PLACEBOS[name].owed for name in reach))
        text += f"The gain of {method} is not shown to be owed to {what}: {', '.join(reach)} "
        text += "reach it too. " if len(reach) > 1 else "reaches it too. "
    return text


def headline(table: Table | None, found: Mapping[str, dict[str, bool | None]], sentences: Sequence[Sentence]) -> str:
    """What may be claimed, by claim (function, image, specific) and method; None is what cannot be said."""
    if table is None:
        first = "Nothing in this run shows whether the finer maps are truer."
    elif not table.evidence.is_truth:
        first = (
            "Without a measured high-resolution truth it cannot be told whether the finer maps are truer; only how "
            "well they repeat was compared, which is weaker."
        )
    else:
        won = [method for method, holds in found["function"].items() if holds]
        lost = [method for method, holds in found["function"].items() if not holds]
        first = ""
        others = {s.against for s in sentences if s.decision}
        rivals = "every baseline and control" if others & set(CONTROLS) else "every baseline"
        rivals += " and than wmn" * ("wmn" in others and won != ["wmn"])
        if won:
            verb = "shows" if len(won) == 1 else "show"
            first = f"{' and '.join(won)} {verb} more true BOLD detail than {rivals}. "
            first += _attributable(won, sentences, found["specific"])
        if lost and won:
            first += f"For {' and '.join(lost)} this cannot be said."
        elif lost:
            first = f"No method shows more true BOLD detail than {rivals}: not {' and not '.join(lost)}."
    good = [method for method, holds in found["image"].items() if holds]
    if good:
        first = f"{first.strip()} Images by {' and '.join(good)} are better than those of bspline and inject."
    return first.strip()


def limits_of(
    rows: Sequence[MetricRow], table: Table | None, found: Mapping[str, dict[str, bool | None]], margin: float
) -> list[str]:
    """What cannot be said."""
    limits = []
    if table is None or not table.evidence.is_truth:
        limits.append(
            "No high-resolution truth: give --truth, or let --retrospective make one by degrading the data themselves."
        )
    elif not any(math.isfinite(row.lower) and math.isfinite(row.upper) for row in table.gains):
        limits.append("Differences without an interval decide nothing.")
    if table is not None and table.evidence.is_truth:
        if any(row.series == "measured" and not math.isfinite(row.value) for row in table.levels):
            limits.append(
                "The two halves of the measured series do not agree for sure beyond the acquired resolution: in some "
                "region there is no true detail of which a share could be explained."
            )
        limits.append("BOLD detail is not yet neuronal detail: veins, which drain more than they feed, carry it too.")
    if table is not None and table.evidence.name == "known":
        limits.append("Denoised copies of bspline, the controls, were not held against the known truth.")
    if table is not None and not math.isfinite(margin):
        limits.append("Nothing can be called the same: no margin was given, and no measured series sets one.")
    if any(holds is None for holds in found["image"].values()):
        limits.append(
            "Image quality against bspline and inject is not known: it needs both of them, and measured volumes "
            "(--truth, --retrospective) or a second pair (--pair-holdout)."
        )
    absent = [method for method, holds in found["specific"].items() if holds is None]
    if absent:
        limits.append(f"No placebo was run for {', '.join(absent)}: what is owed to this subject's data is not known.")
    raised = dict.fromkeys(r.measure.removeprefix("flag_") for r in rows if r.measure[:5] == "flag_" and r.value == 1)
    if raised:
        limits.append(f"Flags were raised: {', '.join(name.replace('_', ' ') for name in raised)}.")
    limits.append("One run of one subject: whether it holds for others is a matter of the group.")
    return limits
