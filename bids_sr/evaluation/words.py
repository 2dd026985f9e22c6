"""Sentences on accuracy, made here and nowhere else.

They are on a comparison, a claim, a run, or a series of another program.

Every one is made of a decided claim (`bids_sr.evaluation.evidence.Claim`) and the rows that
it rests on. Values in brackets are 95 % intervals.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from bids_sr.evaluation.evidence import (
    ACQUIRED_ACTIVE,
    HALVES,
    STRONGEST,
    Claim,
    Comparison,
    Decision,
    Evidence,
    below_zero,
    tenths_of,
)
from bids_sr.evaluation.negative_controls import PLACEBOS, placebos_of
from bids_sr.evaluation.self_test import OneLevelDown
from bids_sr.metrics.number_text import ends, estimate, number
from bids_sr.metrics.registry import statistic
from bids_sr.metrics.rows import MISSING, MetricRow

DECISIONS: Mapping[str, tuple[str, str, str]] = {
    "better": ("▲", "higher", "is more accurate than"),
    "same": ("=", "equivalent", "is equivalent to"),
    "worse": ("▼", "lower", "is less accurate than"),
    "unclear": ("?", "no detectable difference", "does not differ detectably from"),
    # of a size, where neither is better
    "larger": ("", "larger", "is larger than"),
    "smaller": ("", "smaller", "is smaller than"),
}
"""Sign of each decision, what it says of a difference, and of the series compared."""
_PLURAL: Mapping[str, str] = {
    "better": "are more accurate than",
    "same": "are equivalent to",
    "worse": "are less accurate than",
    "unclear": "do not differ detectably from",
}
"""Verb phrases for the volumes of a series, by decision."""
MARKS: Mapping[str, tuple[str, str]] = {
    "more accurate": ("✓", "good"),
    "not more accurate": ("✗", "bad"),
    "less accurate": ("▼", "bad"),
    "mixed": ("▲▼", "open"),
    "not assessed": ("?", "open"),
    "not applied": ("○", "idle"),
}
"""Symbol and class of each status; the symbol tells it without the color."""
BANDS: Mapping[str, str] = {
    "beyond": "above the acquired Nyquist frequency",
    "all": "signal units",
    "within": "below the acquired Nyquist frequency",
}
TOO_LITTLE = "too little reproducible detail (correlation between its two halves below .5)"
"""Why a measured series has no explained variance, 2 - 1/r, if this would be below 0."""

_REFERENCES = {
    (each.name, each.statistic == "psnr"): each.words
    for references in STRONGEST.values()
    for each in references
}


class Sentence(NamedTuple):
    """Statement, with the value or comparison that it is on.

    Where there is neither, it has the series that it is about.

    `decision`: what the difference allows to say; None without a difference.
    """

    text: str
    row: MetricRow | None = None
    decision: Decision | None = None
    series: str = MISSING


def names(which: Iterable[str], last: str = "and") -> str:
    """Return names in a sentence.

    >>> names(["a", "b", "c"], "or"), names(["a"])
    ('a, b or c', 'a')
    """
    *rest, end = dict.fromkeys(which)
    return f"{', '.join(rest)} {last} {end}" if rest else end


def capital(text: str) -> str:
    """A text that begins a sentence."""
    return text[:1].upper() + text[1:]


def active_words(region: str) -> tuple[str, str]:
    """Return the short name of a region, and its definition ("" if the name says it all).

    >>> active_words("acquired40")
    ('active voxels', '|t| > 4 in the acquired run')
    >>> active_words("brain")
    ('whole brain', '')
    """
    if tenths := tenths_of(region):
        return "active voxels", f"|t| > {tenths / 10:g} in one half of the reference"
    if region == ACQUIRED_ACTIVE:
        return "active voxels", "|t| > 4 in the acquired run"
    return region_text(region), ""


def region_text(region: str) -> str:
    """A region in words; nothing for none.

    Words for the region; a name that is not known stays.
    """
    if tenths := tenths_of(region):
        return f"voxels active in one half of the reference (|t| > {tenths / 10:g})"
    known = {
        ACQUIRED_ACTIVE: "voxels active in the acquired run (|t| > 4)",
        "roi": "region of interest",
        "active": "truly active voxels",
        "brain": "whole brain",
        MISSING: "",
    }
    return known.get(region, region)


def against(row: MetricRow) -> str:
    """Return what a value is compared with; "" if it has no reference."""
    words = _REFERENCES.get((row.reference, row.statistic == "psnr"))
    return f"relative to {words}" if words else ""


def measure_text(row: MetricRow) -> str:
    """What a value measures: its statistic, and the spatial frequencies where they are a part."""
    name = statistic(row.statistic).label or row.statistic
    return f"{name} {BANDS[row.band]}" if row.band in ("within", "beyond") else name


def value_text(row: MetricRow, form: str = "") -> str:
    """A value with its interval, in its unit.

    `form`: format of the numbers, such as ``.2f``; empty for the usual one.
    """
    return estimate(row.value, row.lower, row.upper, form) + (" dB" if row.unit == "dB" else "")


def comparison(compared: Comparison) -> Sentence:
    """A difference between two series, or between a method and one of its placebos."""
    row = compared.row
    placebo = PLACEBOS.get(compared.row.minus)
    other = f"the same method with {placebo.instead}" if placebo else row.minus
    images = row.statistic == "psnr"
    where = against(row) if images else region_text(row.region)
    if math.isfinite(row.value):
        form = "+.2f" if images else "+.3f"
        decided = DECISIONS[compared.decision][2]
        shown = value_text(row, form)
        if images:
            decision = _PLURAL[compared.decision]
            text = f"Individual volumes of {row.series} {decision} {other} volumes"
            text += f" (difference in PSNR {where}: {shown})".replace("  ", " ")
        else:
            text = f"{row.series} {decided} {other}: {shown}, {where}"
    else:
        text = f"{row.series} was not compared with {other}, {where}"
    text += "."
    if placebo and compared.decision == "better":
        text += f" This part of the gain depends on {placebo.attributable_to}."
    if images and (row.minus, row.reference) == ("bspline", "measured"):
        text += (
            " Static detail contributes to this difference, which favors a T2* pair computed from"
            " volumes of the same run."
        )
    return Sentence(text, row, compared.decision)


def specific_text(claim: Claim, *, in_full: bool = False) -> str:
    """Tell whether a gain is attributable to this participant's own data.

    The text is empty where no control analysis was run.
    """
    if claim.holds is None:
        return ""
    reach = claim.unbeaten
    there = [each.row.minus for each in claim.comparisons]
    if claim.holds:
        text = f"Part of the gain from {claim.series} is specific to this participant's own data."
    else:
        shared = names((PLACEBOS[name].attributable_to for name in reach), "or")
        verb = "reach" if len(reach) > 1 else "reaches"
        text = (
            f"The gain from {claim.series} was not found to depend on {shared}: {names(reach)}"
            f" {verb} the same gain."
        )
    lacking = [name for name in placebos_of(claim.series) if name not in there]
    if not (in_full and lacking):
        return text
    many = len(lacking) > 1
    return (
        f"{text} The negative control{'s' * many} {names(lacking)} {'were' if many else 'was'}"
        " not run."
    )


def levels(evidence: Evidence, of: Iterable[str]) -> list[Sentence]:
    """How much of the detail each series has, in active voxels first."""
    sentences = []
    for name in of:
        if known := evidence.known(name):
            (region, first), *others = known.items()
            texts = [f"{name}: {value_text(first, '.3f')}, {region_text(region)}"]
            texts += [
                f"{words} {number(value, '.3f')}"
                for words, value in beside(evidence, name, region)
            ]
            texts += [f"{region_text(where)} {number(row.value, '.3f')}" for where, row in others]
            sentences.append(Sentence("; ".join(texts) + ".", first))
    return sentences


def beside(evidence: Evidence, series: str, region: str) -> list[tuple[str, float]]:
    """Name and value of what is told beside explained variance, as far as it is known.

    `region`: name of the region; empty for the first one. Label and value of each other statistic;
    none beside a correlation.
    """
    others = ("r", "amplitude", "correct_fraction") if evidence.reference.statistic == "ev" else ()
    values = ((statistic(name).label, evidence.value(series, region, name)) for name in others)
    return [(text, value) for text, value in values if math.isfinite(value)]


def basis(evidence: Evidence) -> str:
    """What the levels are, and what they are held against."""
    smooth = f", {evidence.fwhm_mm:g} mm FWHM" if evidence.fwhm_mm else ""
    text = [
        f"The reference is {evidence.reference.words}, and the contrast is"
        f" {evidence.contrast}{smooth}."
    ]
    if evidence.reference is HALVES:
        text.append(
            "The effect of each series in one half of the task blocks was compared with the effect"
            " in the reference in the other half, with a correction for noise in the reference."
        )
    if evidence.reference.statistic == "ev":
        text.append(
            "Explained variance is computed for detail (the effect above the acquired Nyquist"
            " frequency). A value of 1 means that the series contains all of the true detail, 0"
            " that it contains none, and a value below 0 that its detail is wrong."
        )
    else:
        text.append(
            "Values are correlations between maps above the acquired Nyquist frequency. Noise that"
            " is common to both maps counts as agreement."
        )
    text.append(
        "Values in brackets are 95 % confidence intervals from resampled blocks. The intervals do"
        " not include the uncertainty in the selection of active voxels and in the prior SD map."
    )
    return " ".join(text)


def tested(one_level: OneLevelDown, methods: Collection[str]) -> list[Sentence]:
    """What was tested one level down, and what became of a calibration; it compares nothing."""
    out = [
        Sentence(f"{capital(one_level.where_text)}, {share_text(row)}.", row)
        for name, row in one_level.tested.items()
        if name in methods
    ]
    told = {
        name: f"Calibration of {name}: {text}" for name, text in one_level.calibrations.items()
    }
    both = [
        *told.items(),
        *((name, text) for name in methods if (text := untested(one_level, name))),
    ]
    return out + [Sentence(f"{text}.", series=name) for name, text in both if name in methods]


def untested(one_level: OneLevelDown, method: str) -> str:
    """Why a method was not tested one level down; empty where it was.

    Clause without a period, or an empty text.
    """
    why = one_level.reasons.get(method, "").rstrip(".")
    return f"{method} was not included in the {one_level.test_text}: {why}" if why else ""


def share_text(row: MetricRow) -> str:
    """Return the change of squared error in the self-test relative to zero filling, as a clause.

    The clause is in the past tense and has the interval, if there is one.
    """
    span = " to ".join(ends(row.lower, row.upper, ".0%"))
    over = f"95 % interval over {row.n or 'the'} segments of the run: {span} %" if span else ""
    if row.value < -1:
        reduced = "the squared error was more than twice as large as with zero filling"
    else:
        reduced = f"reduction in squared error: {number(row.value, '.0%')}"
    details = f" ({'; '.join(filter(None, [reduced, over]))})"
    if below_zero(row):
        return f"{row.series} was less accurate than zero filling{details}"
    if row.lower <= 0:
        return f"{row.series} did not differ detectably from zero filling{details}"
    return (
        f"{row.series} reduced the squared error by {number(row.value, '.0%')} relative to zero"
        f" filling{f' ({over})' * bool(over)}"
    )


def idle_text(not_applied: Sequence[str]) -> str:
    """Which methods were not applied; empty for none.

    `not_applied`: names of methods that fell back to zero filling.
    """
    if not not_applied:
        return ""
    if len(not_applied) > 1:
        return (
            f"{names(not_applied)} were not applied (zero filled). Their series are identical to"
            " zerofill and are not compared."
        )
    return (
        f"{names(not_applied)} was not applied (zero filled). Its series is identical to zerofill"
        " and is not compared."
    )
