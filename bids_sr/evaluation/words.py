"""Sentences on accuracy: on comparisons, claims, runs, and series of other programs.

All sentences on accuracy are worded in this module. Each is derived from a decided claim
(`bids_sr.evaluation.evidence.Claim`) and the rows that support it. Values in brackets are 95 %
intervals.
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
    is_below_zero,
    parse_tenths,
)
from bids_sr.evaluation.negative_controls import NEGATIVE_CONTROLS, list_negative_controls
from bids_sr.evaluation.self_test import SelfTestResults
from bids_sr.metrics.number_text import estimate, interval_ends, number
from bids_sr.metrics.registry import statistic
from bids_sr.metrics.rows import MISSING, MetricRow
from bids_sr.metrics.word_lists import enumerate_unique

DECISIONS: Mapping[str, tuple[str, str, str]] = {
    "better": ("▲", "higher", "is more accurate than"),
    "same": ("=", "equivalent", "is equivalent to"),
    "worse": ("▼", "lower", "is less accurate than"),
    "unclear": ("?", "no detectable difference", "does not differ detectably from"),
    # Sizes of active regions may be larger or smaller, but neither is better.
    "larger": ("", "larger", "is larger than"),
    "smaller": ("", "smaller", "is smaller than"),
}
"""Symbol, label of a difference, and verb phrase for a series, by decision."""
_PLURAL_PHRASES: Mapping[str, str] = {
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
    "tested": ("◐", "open"),
    "not supported": ("⊘", "bad"),
    "not assessed": ("?", "open"),
    "not applied": ("○", "idle"),
}
"""Symbol and CSS class by status; symbols distinguish all statuses without color."""
BANDS: Mapping[str, str] = {
    "beyond": "above the acquired Nyquist frequency",
    "all": "signal units",
    "within": "below the acquired Nyquist frequency",
}
TOO_LITTLE = "too little reproducible detail (correlation between its two halves below .5)"
"""Reason for an undefined explained variance of a measured series, 2 - 1/r below 0."""

_REFERENCE_WORDS = {
    (reference.name, reference.statistic == "psnr"): reference.words
    for references in STRONGEST.values()
    for reference in references
}
"""Reference in words, by its name and whether volumes (True) or effects (False) are compared."""


class Sentence(NamedTuple):
    """Sentence, with the value or comparison that it describes.

    `decision` is None if the sentence is not on a difference. A sentence without `row` names its
    series in `series`.
    """

    text: str
    row: MetricRow | None = None
    decision: Decision | None = None
    series: str = MISSING


def capitalize(text: str) -> str:
    """Return a text with its first letter capitalized."""
    return text[:1].upper() + text[1:]


def active_words(region: str) -> tuple[str, str]:
    """Return the short name of a region, and its definition ("" if the name says it all).

    >>> active_words("acquired40")
    ('active voxels', '|t| > 4 in the acquired run')
    >>> active_words("brain")
    ('whole brain', '')
    """
    if tenths := parse_tenths(region):
        return "active voxels", f"|t| > {tenths / 10:g} in one half of the reference"
    if region == ACQUIRED_ACTIVE:
        return "active voxels", "|t| > 4 in the acquired run"
    return region_text(region), ""


def region_text(region: str) -> str:
    """Return a region in words; the name itself if it has no words, "" for n/a."""
    if tenths := parse_tenths(region):
        return f"voxels active in one half of the reference (|t| > {tenths / 10:g})"
    region_names = {
        ACQUIRED_ACTIVE: "voxels active in the acquired run (|t| > 4)",
        "roi": "region of interest",
        "active": "truly active voxels",
        "brain": "whole brain",
        MISSING: "",
    }
    return region_names.get(region, region)


def reference_phrase(row: MetricRow) -> str:
    """Return the phrase that names the reference of a value; "" if it has no reference."""
    words = _REFERENCE_WORDS.get((row.reference, row.statistic == "psnr"))
    return f"relative to {words}" if words else ""


def measure_text(row: MetricRow) -> str:
    """Return the name of a row's statistic, followed by its frequency band if it has one."""
    name = statistic(row.statistic).label or row.statistic
    return f"{name} {BANDS[row.band]}" if row.band in ("within", "beyond") else name


def value_text(row: MetricRow, form: str = "") -> str:
    """Return a value with its interval and unit.

    `form` is the format of the numbers, such as ``.2f``; "" uses the default format.
    """
    return estimate(row.value, row.lower, row.upper, form) + (" dB" if row.unit == "dB" else "")


def comparison_sentence(comparison: Comparison) -> Sentence:
    """Return a sentence on the difference between two series or a method and its placebo."""
    row, decision = comparison.row, comparison.decision
    placebo = NEGATIVE_CONTROLS.get(row.minus)
    comparator = f"the same method with {placebo.replacement}" if placebo else row.minus
    is_image = row.statistic == "psnr"
    context = reference_phrase(row) if is_image else region_text(row.region)
    if not math.isfinite(row.value):
        text = f"{row.series} was not compared with {comparator}, {context}."
    elif is_image:
        value = value_text(row, "+.2f")
        text = f"Individual volumes of {row.series} {_PLURAL_PHRASES[decision]} {comparator}"
        text += f" volumes (difference in PSNR {context}: {value}).".replace("  ", " ")
    else:
        _, _, verb_phrase = DECISIONS[decision]
        value = value_text(row, "+.3f")
        text = f"{row.series} {verb_phrase} {comparator}: {value}, {context}."
    if placebo and decision == "better":
        text += f" This part of the gain depends on {placebo.cause}."
    if is_image and (row.minus, row.reference) == ("bspline", "measured"):
        text += (
            " Static detail contributes to this difference, which favors a T2* pair computed from"
            " volumes of the same run."
        )
    return Sentence(text, row, decision)


def specific_text(claim: Claim, *, in_full: bool = False) -> str:
    """Return sentences on whether a gain is specific to this participant's own data.

    The text is "" if no negative control was run. With `in_full`, controls that were not run are
    listed.
    """
    if claim.holds is None:
        return ""
    unbeaten_series = claim.unbeaten
    compared_controls = [comparison.row.minus for comparison in claim.comparisons]
    if claim.holds:
        text = f"Part of the gain from {claim.series} is specific to this participant's own data."
    else:
        inputs = enumerate_unique(
            (NEGATIVE_CONTROLS[name].cause for name in unbeaten_series), "or"
        )
        verb = "reach" if len(unbeaten_series) > 1 else "reaches"
        text = (
            f"The gain from {claim.series} was not found to depend on {inputs}:"
            f" {enumerate_unique(unbeaten_series)} {verb} the same gain."
        )
    missing_controls = [
        name for name in list_negative_controls(claim.series) if name not in compared_controls
    ]
    if not (in_full and missing_controls):
        return text
    names = enumerate_unique(missing_controls)
    if len(missing_controls) > 1:
        return f"{text} The negative controls {names} were not run."
    return f"{text} The negative control {names} was not run."


def accuracy_sentences(evidence: Evidence, series: Iterable[str]) -> list[Sentence]:
    """Return a sentence per series on its accuracy, in active voxels first."""
    sentences = []
    for name in series:
        rows_by_region = evidence.select_finite_rows(name)
        if not rows_by_region:
            continue
        (region, first_row), *other_regions = rows_by_region.items()
        texts = [f"{name}: {value_text(first_row, '.3f')}, {region_text(region)}"]
        for label, value in list_further_values(evidence, name, region):
            texts.append(f"{label} {number(value, '.3f')}")
        for other_region, row in other_regions:
            texts.append(f"{region_text(other_region)} {number(row.value, '.3f')}")
        sentences.append(Sentence("; ".join(texts) + ".", first_row))
    return sentences


def list_further_values(evidence: Evidence, series: str, region: str) -> list[tuple[str, float]]:
    """Return labels and values of further statistics of a series in a region.

    `region` is "" for the first region. Only finite values are returned, and only if the main
    statistic is explained variance.
    """
    if evidence.reference.statistic != "ev":
        return []
    values = {
        name: evidence.value(series, region, name)
        for name in ("r", "amplitude", "correct_fraction")
    }
    return [
        (statistic(name).label, value) for name, value in values.items() if math.isfinite(value)
    ]


def define_accuracy(evidence: Evidence) -> str:
    """Return sentences that define the reference and the values of accuracy."""
    smoothing = f", {evidence.fwhm_mm:g} mm FWHM" if evidence.fwhm_mm else ""
    sentences = [
        f"The reference is {evidence.reference.words}, and the contrast is"
        f" {evidence.contrast}{smoothing}."
    ]
    if evidence.reference is HALVES:
        sentences.append(
            "The effect of each series in one half of the task blocks was compared with the effect"
            " in the reference in the other half, with a correction for noise in the reference."
        )
    if evidence.reference.statistic == "ev":
        sentences.append(
            "Explained variance is computed for detail (the effect above the acquired Nyquist"
            " frequency). A value of 1 means that the series contains all of the true detail, 0"
            " that it contains none, and a value below 0 that its detail is wrong."
        )
    else:
        sentences.append(
            "Values are correlations between maps above the acquired Nyquist frequency. Noise that"
            " is common to both maps counts as agreement."
        )
    sentences.append(
        "Values in brackets are 95 % confidence intervals from resampled blocks. The intervals do"
        " not include the uncertainty in the selection of active voxels and in the prior SD map."
    )
    return " ".join(sentences)


def self_test_sentences(self_test: SelfTestResults, methods: Collection[str]) -> list[Sentence]:
    """Return sentences on the self-test of methods and on their calibrations."""
    sentences = [
        Sentence(f"{capitalize(self_test.where_text)}, {share_text(row)}.", row)
        for name, row in self_test.tested.items()
        if name in methods
    ]
    for name, text in self_test.calibrations.items():
        if name in methods:
            sentences.append(Sentence(f"Calibration of {name}: {text}.", series=name))
    for name in methods:
        if reason := untested_reason(self_test, name):
            sentences.append(Sentence(f"{reason}.", series=name))
    return sentences


def untested_reason(self_test: SelfTestResults, method: str) -> str:
    """Return why a method was not included in the self-test, as a clause without a period.

    The text is "" if there is no reason on record.
    """
    reason = self_test.reasons.get(method, "").rstrip(".")
    return f"{method} was not included in the {self_test.test_text}: {reason}" if reason else ""


def share_text(row: MetricRow) -> str:
    """Return the change of squared error in the self-test relative to zero filling, as a clause.

    The clause is in the past tense and includes the interval if there is one.
    """
    ends = " to ".join(interval_ends(row.lower, row.upper, ".0%"))
    interval_text = (
        f"95 % interval over {row.n or 'the'} segments of the run: {ends} %" if ends else ""
    )
    if row.value < -1:
        change = "the squared error was more than twice as large as with zero filling"
    else:
        change = f"reduction in squared error: {number(row.value, '.0%')}"
    details = f" ({'; '.join(filter(None, [change, interval_text]))})"
    if is_below_zero(row):
        return f"{row.series} was less accurate than zero filling{details}"
    if row.lower <= 0:
        return f"{row.series} did not differ detectably from zero filling{details}"
    details = f" ({interval_text})" if interval_text else ""
    return (
        f"{row.series} reduced the squared error by {number(row.value, '.0%')} relative to zero"
        f" filling{details}"
    )


def not_applied_text(methods: Sequence[str]) -> str:
    """Return a sentence on methods that fell back to zero filling; "" if there are none."""
    if not methods:
        return ""
    names = enumerate_unique(methods)
    if len(methods) > 1:
        return (
            f"{names} were not applied (zero filled). Their series are identical to zerofill and"
            " are not compared."
        )
    return (
        f"{names} was not applied (zero filled). Its series is identical to zerofill and is not"
        " compared."
    )
