"""Text of a verdict: its headline and its limits; what each series is, for those who meet its name in a table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bids_sr.metrics.long_tables import MISSING, MetricRow
from bids_sr.series import ACQUIRED, BASELINES, CONTROLS, MEASURED, PCA, SMOOTH, series
from bids_sr.sr.method import UnknownMethod, method_of_series
from bids_sr.stats.controls.negative_controls import PLACEBOS
from bids_sr.stats.evaluation.evidence import Decision, Table

Status = Literal["more accurate", "not more accurate", "not assessed", "not applied"]
NOTHING_APPLIED = "No method was applied, so there is nothing to compare with the interpolations."
NO_REFERENCE = "No high-resolution reference was available, so accuracy was not assessed."
NO_DETAIL = (
    "The high-resolution reference shows no reproducible detail beyond the acquired resolution, so accuracy could not "
    "be assessed."
)
NOTHING_COMPARED = "No super-resolution method was run; the series are interpolations."


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """How those who read the limits get what is missing: other words on the command line than in Python."""

    reference: str  # a high-resolution reference
    images: str  # volumes to assess the quality of images
    controls: str  # control analyses


PROGRAM = Advice(
    reference="provide one with --truth DIR, or let --retrospective make one by downsampling the data",
    images="measured volumes (--truth, --retrospective) or a second pair (--pair-holdout)",
    controls="--null-checks runs them",
)
PYTHON = Advice(
    reference="pass one as truth to Evaluator.fit, a measured series or known activation by contrast",
    images="a measured series as truth",
    controls="the bids-sr program runs them",
)


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
    def of(cls, text: str, row: MetricRow, decision: Decision | str = "") -> "Sentence":
        """A statement on one row of the evaluation."""
        return cls(
            text=text, decision=decision, measure=row.measure, series=row.series, against=row.against,
            contrast=row.contrast, region=row.region, value=row.value, lower=row.lower, upper=row.upper,
        )  # fmt: skip


def where_text(region: str) -> str:
    """A region of the evaluation in words."""
    if region.startswith("active") and region[6:].isdigit():
        return f"active voxels, |t| > {int(region[6:]) / 10:g}"
    return {"roi": "region of interest", "active": "truly active voxels", MISSING: "all voxels"}.get(region, region)


def idle_text(not_applied: Sequence[str]) -> str:
    """Who was not applied, as text."""
    if not not_applied:
        return ""
    many = len(not_applied) > 1
    fell, whose = ("they fell", "Their series equal") if many else ("it fell", "Its series equals")
    return (
        f"{' and '.join(not_applied)} {'were' if many else 'was'} not applied: {fell} back to zero filling. "
        f"{whose} zerofill and {'are' if many else 'is'} left out of all comparisons. "
    )


def status_of(table: Table | None, found: Mapping[str, Mapping[str, bool | None]]) -> Status:
    """What the evidence allows to say of the methods together: one that holds is enough."""
    if table is None or not table.shows_accuracy:
        return "not assessed"
    return "more accurate" if any(found["function"].values()) else "not more accurate"


def best_of(table: Table | None, methods: Sequence[str], function: Mapping[str, bool | None]) -> str:
    """The method with the highest level in active voxels (else the first region), of those for which the claim holds.

    Where it holds for none, of all; the last of those that are equal; without a table the first.
    """
    known = [method for method in methods if function.get(method)] or list(methods)
    if table is None or not known:
        return next(iter(known), "")

    def level(method: str) -> float:
        row = table.level(method, table.lead)
        return row.value if row is not None and math.isfinite(row.value) else -math.inf

    return max(reversed(known), key=level)


def _attributable(won: Sequence[str], sentences: Sequence[Sentence], specific: dict[str, bool | None]) -> str:
    """Whether the gain of those that won is attributable to this subject's own data; placebos that reach it."""
    own = [method for method in won if specific.get(method)]
    text = f"Part of the gain of {' and '.join(own)} is specific to this participant's own data. " if own else ""
    for method in (each for each in won if specific.get(each) is False):
        reach = [
            s.against for s in sentences if s.series == method and s.against in PLACEBOS and s.decision != "better"
        ]
        what = " or ".join(dict.fromkeys(PLACEBOS[name].owed for name in reach))
        text += f"The gain of {method} is not shown to depend on {what}: {', '.join(reach)} "
        text += "reach it too. " if len(reach) > 1 else "reaches it too. "
    return text


def _unbeaten(method: str, sentences: Sequence[Sentence]) -> str:
    """Whom a method does not exceed, or that it explains nothing."""
    reach = [s.against for s in sentences if s.series == method and s.decision and s.decision != "better"]
    rivals = [name for name in dict.fromkeys(reach) if name not in PLACEBOS and name != MISSING]
    return (
        f"{method} does not exceed {', '.join(rivals)}" if rivals else f"{method} is not shown to explain any variance"
    )


def headline(table: Table | None, found: Mapping[str, dict[str, bool | None]], sentences: Sequence[Sentence]) -> str:
    """What may be claimed, by claim (function, image, specific) and method; None is what cannot be said."""
    if table is None:
        first = "Accuracy was not assessed: there is neither a high-resolution reference nor a split-half comparison."
    elif not table.shows_accuracy:
        first = NO_DETAIL if table.no_detail else NO_REFERENCE
        first += "" if table.evidence.is_truth else " Split-half reproducibility is reported instead."
    else:
        only = "" if table.is_of_brain else where_text(table.regions[0])
        won = [method for method, holds in found["function"].items() if holds]
        lost = [method for method, holds in found["function"].items() if not holds]
        first = ""
        others = {s.against for s in sentences if s.decision}
        rivals = "every baseline and denoised B-spline" if others & set(CONTROLS) else "every baseline"
        rivals += " and than wmn" * ("wmn" in others and won != ["wmn"])
        if won:
            verb = "is" if len(won) == 1 else "are"
            place = f", in {only}, " if only else " "
            first = f"Beyond the acquired resolution{place}{' and '.join(won)} {verb} more accurate than {rivals}. "
            first += f"This does not hold for {' and '.join(lost)}. " if lost else ""
            first += _attributable(won, sentences, found["specific"])
        elif lost:
            place = f", in {only}" if only else ""
            first = f"No method is more accurate than {rivals} beyond the acquired resolution{place}: "
            first += "; ".join(_unbeaten(method, sentences) for method in lost) + "."
    good = [method for method, holds in found["image"].items() if holds]
    if good:
        images = f"Single images of {' and '.join(good)} are more accurate than those of bspline and inject."
        first = f"{first.strip()} {images}"
    return first.strip()


def limits_of(
    rows: Sequence[MetricRow], table: Table | None, found: Mapping[str, dict[str, bool | None]], margin: float,
    advice: Advice = PROGRAM,
) -> list[str]:  # fmt: skip
    """What cannot be said."""
    limits = []
    if table is None or not (table.evidence.is_truth or table.no_detail):
        limits.append(f"No high-resolution reference: {advice.reference}.")
    elif not any(math.isfinite(row.lower) and math.isfinite(row.upper) for row in table.gains):
        limits.append("Differences without an interval are inconclusive.")
    if table is not None and (table.evidence.is_truth or table.no_detail):
        if table.no_detail or any(row.series == "measured" and not math.isfinite(row.value) for row in table.levels):
            limits.append(
                "The two halves of the measured series do not agree detectably beyond the acquired resolution: at "
                "least one region has no reproducible detail to explain."
            )
        limits.append("BOLD detail is not neuronal detail: it also reflects draining veins.")
    if table is not None and table.evidence.name == "known":
        limits.append("Denoised B-spline was not compared with the known truth.")
    if table is not None and not math.isfinite(margin):
        limits.append("No equivalence can be claimed: no margin was given, and no measured series sets one.")
    if any(holds is None for holds in found["image"].values()):
        limits.append(
            "Image quality relative to bspline and inject was not assessed: this needs both of them, and "
            f"{advice.images}."
        )
    absent = [method for method, holds in found["specific"].items() if holds is None]
    if absent:
        limits.append(
            f"No control analysis was run for {', '.join(absent)}; participant-specific benefit is unknown "
            f"({advice.controls})."
        )
    raised = dict.fromkeys(r.measure.removeprefix("flag_") for r in rows if r.measure[:5] == "flag_" and r.value == 1)
    if raised:
        limits.append(f"Flags were raised: {', '.join(name.replace('_', ' ') for name in raised)}.")
    limits.append("One run of one participant: test at the group level whether the result holds for others.")
    return limits


_FIXED = {
    **dict.fromkeys(ACQUIRED, "as acquired, motion-corrected; on the high-resolution grid by a spline of its maps"),
    SMOOTH: "the B-spline series, smoothed in space by the width that fits the other half of the blocks best",
    PCA: "the B-spline series from as many leading temporal components as fit the other half of the blocks best",
    MEASURED: "measured at the high resolution: the reference",
}


def description_of(name: str) -> str:
    """One line on a series: what makes it; "" for one that no method or baseline makes.

    >>> description_of("zerofill")
    'baseline: in-plane zero filling of k-space'
    >>> description_of("nobody")
    ''
    """
    if name in BASELINES:
        return f"baseline: {BASELINES[name]}"
    if name in PLACEBOS:
        return f"control analysis of {PLACEBOS[name].method}: {PLACEBOS[name].instead}"
    if name in _FIXED:
        return _FIXED[name]
    found = series(name)
    try:
        summary = method_of_series(found.method).summary
    except UnknownMethod:
        return ""
    member = ", trained with another seed" if found.kind == "member" else ""
    return f"method: {summary}{member}"
