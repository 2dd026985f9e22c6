"""Text of a verdict: its headline and its limits; what each series is, for those who meet its name in a table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from bids_sr.frozen import frozen
from bids_sr.io.json_values import listed
from bids_sr.metrics.long_tables import MISSING, MetricRow
from bids_sr.series import ACQUIRED, BASELINES, CONTROLS, MEASURED, PCA, SAME, SMOOTH, series
from bids_sr.sr.method import UnknownMethod, method_of_series
from bids_sr.stats.controls.negative_controls import PLACEBOS
from bids_sr.stats.controls.qc_flags import flag_text
from bids_sr.stats.evaluation.evidence import TOO_LITTLE, Decision, Table, below_zero, where_text
from bids_sr.stats.evaluation.tested_share import CALIBRATED, NOT_ACCURACY, OneLevelDown

Status = Literal["more accurate", "not more accurate", "not assessed", "not applied"]
NOTHING_APPLIED = "No method was applied, so no detail was added: use the acquired or the B-spline maps."
NO_DETAIL = (
    "Accuracy could not be measured: the high-resolution reference shows no reproducible detail beyond the acquired "
    "resolution."
)
NOTHING_COMPARED = "No super-resolution method was run; the series are interpolations."
MOVED_MM, MOVED_SHARE = 0.5, 0.2
"""Framewise displacement (mm) of a volume that moved, and the share of such volumes that is said before all else."""


@frozen
class Advice:
    """How those who read the limits get what is missing: other words on the command line than in Python."""

    reference: str  # a high-resolution reference
    images: str  # volumes to assess the quality of images
    controls: str  # control analyses
    # another acquired run of the task, and a reference beyond the acquired band, for series of other programs
    other_run: str
    fine_run: str


PROGRAM = Advice(
    reference="provide one with --truth DIR, or let --retrospective make one by downsampling the data",
    images="measured volumes (--truth, --retrospective) or a second pair (--pair-holdout)",
    controls="run them with --null-checks",
    other_run="scan the task twice and keep both runs, with their events, in the data set",
    fine_run="measure the run at the high resolution, downsample it for the program, and give it with --truth DIR",
)
COMMAND = replace(
    PROGRAM,
    other_run="scan the task twice and give the second run with --other-run and --other-events",
    fine_run="measure the run at the high resolution, downsample it for the program, and give it with --truth FILE",
)
PYTHON = Advice(
    reference="pass one as truth to Evaluator.fit, a measured series or known activation by contrast",
    images="a measured series as truth",
    controls="the bids-sr program runs them",
    other_run="scan the task twice and pass the second run as other_run",
    fine_run="measure the run at the high resolution, downsample it for the program, and pass it as truth",
)


@frozen
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


def moved(displacement: Sequence[float]) -> tuple[float, float] | None:
    """Mean displacement (mm), and the share of volumes that moved, of those that are known; None where none is.

    >>> moved([float("nan"), 0.2, 0.8])
    (0.5, 0.5)
    """
    known = [value for value in displacement if math.isfinite(value)]
    return (sum(known) / len(known), sum(value > MOVED_MM for value in known) / len(known)) if known else None


def motion_text(displacement: Sequence[float]) -> str:
    """That the head moved much, where it did, from framewise displacements (mm); else empty.

    >>> motion_text([float("nan"), 0.1, 0.9, 0.8])
    'Head motion is large: 67 % of the volumes moved by more than 0.5 mm (mean framewise displacement 0.60 mm).'
    >>> motion_text([0.1, 0.2])
    ''
    """
    if (found := moved(displacement)) is None:
        return ""
    mean, part = found
    if mean < MOVED_MM and part < MOVED_SHARE:
        return ""
    share = f"{round(100 * part):d} % of the volumes moved by more than {MOVED_MM:g} mm"
    return f"Head motion is large: {share} (mean framewise displacement {mean:.2f} mm)."


def verdict_line(verdict: Mapping[str, object]) -> str:
    """A verdict, as its JSON, in one line: large motion and methods that were not applied come before the headline.

    What is said of series of other programs comes after it.
    """
    others = compared_lines(verdict, "headline")
    own = [str(verdict[key]) for key in ("motion_text", "not_applied_text", "headline") if verdict.get(key)]
    return " ".join([each for each in own if not (others and each == NOTHING_COMPARED)] + others)


def compared_lines(verdict: Mapping[str, object], what: Literal["headline", "text"] = "text") -> list[str]:
    """What a verdict, as its JSON, says of series of other programs: a line each."""
    return [str(each.get(what, "")) for each in listed(verdict.get("compared")) if isinstance(each, Mapping)]


def status_of(table: Table | None, found: Mapping[str, Mapping[str, bool | None]]) -> Status:
    """What the evidence allows to say of the methods together: one that holds is enough."""
    if table is None or not table.shows_accuracy:
        return "not assessed"
    return "more accurate" if any(found["function"].values()) else "not more accurate"


def best_of(
    table: Table | None, methods: Sequence[str], function: Mapping[str, bool | None], tested: OneLevelDown | None = None
) -> str:
    """The method with the highest level in active voxels (else the first region), of those for which the claim holds.

    Where it holds for none, of all; the last of those that are equal. Without a truth the one that explains most one
    level down, else the last, which is the default.
    """
    known = [method for method in methods if function.get(method)] or list(methods)
    if table is None or not table.shows_accuracy:
        return tested.best(known) if tested is not None else next(reversed(known), "")
    if not known:
        return ""

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


def _listed(names: Sequence[str], last: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def _compared(table: Table, found: Mapping[str, dict[str, bool | None]], sentences: Sequence[Sentence]) -> str:
    """What a truth allows to say: who recovers real detail, and who does not."""
    region, _, threshold = where_text(table.regions[0] if table.regions else MISSING).partition(", ")
    place = "" if table.is_of_brain else f" in {region} ({threshold})" if threshold else f" in {region}"
    won = [method for method, holds in found["function"].items() if holds]
    lost = [method for method, holds in found["function"].items() if not holds]
    others = {s.against for s in sentences if s.decision}
    rivals = ["interpolation", *["denoising"] * bool(others & set(CONTROLS))]
    rivals += ["wmn"] * ("wmn" in others and won != ["wmn"])
    rival = _listed(rivals, "or")
    if won:
        verb = "recovers" if len(won) == 1 else "recover"
        text = f"{_listed(won)} {verb} real detail finer than your scan{place}, more accurately than {rival}. "
        does = "does" if len(lost) == 1 else "do"
        return (
            text + (f"{_listed(lost)} {does} not. " if lost else "") + _attributable(won, sentences, found["specific"])
        )
    if not lost:
        return ""
    text = f"No method recovers detail finer than your scan{place} more accurately than {rival}: "
    return text + "; ".join(_unbeaten(method, sentences) for method in lost) + "."


def _unmeasured(table: Table | None, methods: Sequence[str], tested: OneLevelDown | None) -> str:
    """What to do with maps whose accuracy is not known."""
    tested = tested or OneLevelDown()
    harm = [name for name in methods if name in tested.tested and below_zero(tested.tested[name])]
    rest = [name for name in methods if name not in harm]
    out = [NO_DETAIL] if table is not None and table.no_detail else []
    if rest:
        why = "" if out else ": whether it is true was not measured in this run"
        fine = f"do not interpret detail finer than {tested.acquired_text}"
        out.append(f"Treat the {_listed(rest)} maps as an interpolation and {fine}{why}.")
    if harm:
        are = "it is" if len(harm) == 1 else "they are"
        out.append(f"Do not use the {_listed(harm)} maps: {tested.where_text}, {are} worse than zero filling.")
    return " ".join(out)


def headline(
    table: Table | None, found: Mapping[str, dict[str, bool | None]], sentences: Sequence[Sentence],
    tested: OneLevelDown | None = None,
) -> str:  # fmt: skip
    """What may be claimed, by claim (function, image, specific) and method; None is what cannot be said."""
    if table is not None and table.shows_accuracy:
        first = _compared(table, found, sentences)
    else:
        first = _unmeasured(table, list(found["image"]), tested)
    good = [method for method, holds in found["image"].items() if holds]
    if good:
        images = f"Single images of {' and '.join(good)} are more accurate than those of bspline and inject."
        first = f"{first.strip()} {images}"
    return first.strip()


_NO_AGREEMENT = (
    "The two halves of the measured series do not agree detectably beyond the acquired resolution: at least one region "
    "has no reproducible detail to explain."
)
_VEINS = "BOLD detail is not neuronal detail: it also reflects draining veins."
_LITTLE = "no value for measured: {}. This says nothing about the other series and is not an upper bound for them."


def _limits_of_truth(table: Table, margin: float) -> list[str]:
    limits = []
    if not any(row.has_interval for row in table.gains):
        limits.append("Differences without an interval are inconclusive.")
    for region in table.regions:
        measured = table.level("measured", region)
        if measured is not None and not math.isfinite(measured.value):
            others = any(math.isfinite(r.value) for r in table.levels if r.region == region)
            text = f"{where_text(region)}: {_LITTLE.format(TOO_LITTLE)}" if others else _NO_AGREEMENT
            limits.append(text[:1].upper() + text[1:])
    limits.append(_VEINS)
    if table.evidence.name == "known":
        limits.append("Denoised B-spline was not compared with the known truth.")
    if not math.isfinite(margin):
        limits.append("No equivalence can be claimed: no margin was given, and no measured series sets one.")
    return list(dict.fromkeys(limits))


def limits_of(
    rows: Sequence[MetricRow], table: Table | None, found: Mapping[str, dict[str, bool | None]], margin: float,
    advice: Advice = PROGRAM, tested: OneLevelDown | None = None,
) -> list[str]:  # fmt: skip
    """What cannot be said."""
    limits = []
    accurate = table is not None and table.shows_accuracy
    if tested is not None and tested.tested and (tested.calibrated or not accurate):
        limits.append(CALIBRATED if tested.calibrated else NOT_ACCURACY)
    if found["image"] and (table is None or not (table.evidence.is_truth or table.no_detail)):
        limits.append(f"No high-resolution reference: {advice.reference}.")
    if table is not None and accurate:
        limits += _limits_of_truth(table, margin)
    elif table is not None and table.no_detail:
        limits += [_NO_AGREEMENT, _VEINS]
    if any(holds is None for holds in found["image"].values()):
        limits.append(
            "Image quality relative to bspline and inject was not assessed: this needs both of them, and "
            f"{advice.images}."
        )
    absent = [method for method, holds in found["specific"].items() if holds is None]
    if absent and accurate:
        limits.append(
            f"No control analysis was run for {', '.join(absent)}; participant-specific benefit is unknown "
            f"({advice.controls})."
        )
    raised = dict.fromkeys(r.parts.figure for r in rows if r.parts.family == "flag" and r.value == 1)
    if raised:
        limits.append(f"Flags were raised: {', '.join(flag_text(name) for name in raised)}.")
    limits.append("One run of one participant: test at the group level whether the result holds for others.")
    return limits


_FIXED = {
    **dict.fromkeys(
        ACQUIRED,
        "acquired series, motion-corrected; its maps are brought to the high-resolution grid by spline interpolation",
    ),
    SMOOTH: "B-spline series, smoothed in space; kernel width chosen on the other half of the blocks",
    PCA: "B-spline series, denoised by temporal PCA; number of components chosen on the other half of the blocks",
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
    if found.variant == SAME:
        return f"acquired series (zerofill), smoothed to the resolution of {found.method}"
    try:
        summary = method_of_series(found.method).summary
    except UnknownMethod:
        return ""
    member = ", trained with another seed" if found.kind == "member" else ""
    return f"method: {summary}{member}"
