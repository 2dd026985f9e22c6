"""Words for decisions, regions and bands, and sentences on comparisons, claims and the self-test.

Each sentence is derived from a decided claim (`bids_sr.evaluation.evidence.Claim`) or from the row
that supports it. Values in brackets are 95 % intervals. The verdict of a run is worded in
`bids_sr.evaluation.verdict_text`.
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


class DecisionWords(NamedTuple):
    """Symbol and label of a difference, and verb phrases for a series and for its volumes."""

    symbol: str
    label: str
    verb_phrase: str
    plural_phrase: str


class StatusMark(NamedTuple):
    """Symbol and CSS class of a status."""

    symbol: str
    css_class: str


DECISIONS: Mapping[str, DecisionWords] = {
    "better": DecisionWords("▲", "higher", "is more accurate than", "are more accurate than"),
    "same": DecisionWords("=", "equivalent", "is equivalent to", "are equivalent to"),
    "worse": DecisionWords("▼", "lower", "is less accurate than", "are less accurate than"),
    "unclear": DecisionWords(
        "?",
        "no detectable difference",
        "does not differ detectably from",
        "do not differ detectably from",
    ),
    # Sizes of active regions may be larger or smaller, but neither is better.
    "larger": DecisionWords("", "larger", "is larger than", "are larger than"),
    "smaller": DecisionWords("", "smaller", "is smaller than", "are smaller than"),
}
"""Words for the decision on a difference."""
MARKS: Mapping[str, StatusMark] = {
    "more accurate": StatusMark("✓", "good"),
    "not more accurate": StatusMark("✗", "bad"),
    "less accurate": StatusMark("▼", "bad"),
    "mixed": StatusMark("▲▼", "open"),
    "recovered": StatusMark("◐", "open"),
    "not supported": StatusMark("⊘", "bad"),
    "not assessed": StatusMark("?", "open"),
    "not applied": StatusMark("○", "idle"),
}
"""Marks by status; symbols distinguish all statuses without color."""
BANDS: Mapping[str, str] = {
    "beyond": "above the acquired Nyquist frequency",
    "all": "signal units",
    "within": "below the acquired Nyquist frequency",
}
"""Frequency bands in words; the band ``all`` is not limited, and has the name of its unit."""
TOO_LITTLE = "too little reproducible detail (correlation between its two halves below .5)"
"""Reason for an undefined explained variance of a measured series, 2 - 1/r below 0."""

_ACQUIRED_THRESHOLD = "|t| > 4"
"""Threshold of the region `ACQUIRED_ACTIVE`."""
_VOLUME_STATISTIC = "psnr"
"""Statistic that compares volumes; all other statistics of references compare effects."""
_REFERENCE_WORDS = {
    (reference.name, reference.statistic == _VOLUME_STATISTIC): reference.words
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


def _threshold_text(tenths: int) -> str:
    """Return the threshold of active voxels, which is given in tenths of t."""
    return f"|t| > {tenths / 10:g}"


def active_words(region: str) -> tuple[str, str]:
    """Return the short name of a region, and its definition ("" if the name says it all).

    >>> active_words("acquired40")
    ('active voxels', '|t| > 4 in the acquired run')
    >>> active_words("brain")
    ('whole brain', '')
    """
    if tenths := parse_tenths(region):
        return "active voxels", f"{_threshold_text(tenths)} in one half of the reference"
    if region == ACQUIRED_ACTIVE:
        return "active voxels", f"{_ACQUIRED_THRESHOLD} in the acquired run"
    return region_text(region), ""


def region_text(region: str) -> str:
    """Return a region in words; the name itself if it has no words, "" for n/a."""
    if tenths := parse_tenths(region):
        return f"voxels active in one half of the reference ({_threshold_text(tenths)})"
    region_names = {
        ACQUIRED_ACTIVE: f"voxels active in the acquired run ({_ACQUIRED_THRESHOLD})",
        "roi": "region of interest",
        "active": "truly active voxels",
        "brain": "whole brain",
        MISSING: "",
    }
    return region_names.get(region, region)


def reference_phrase(row: MetricRow) -> str:
    """Return the phrase that names the reference of a value; "" if it has no reference."""
    reference_words = _REFERENCE_WORDS.get((row.reference, row.statistic == _VOLUME_STATISTIC))
    return f"relative to {reference_words}" if reference_words else ""


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
    compares_volumes = row.statistic == _VOLUME_STATISTIC
    context = reference_phrase(row) if compares_volumes else region_text(row.region)
    decision_words = DECISIONS[decision]
    if not math.isfinite(row.value):
        difference_text = f"{row.series} was not compared with {comparator}, {context}."
    elif compares_volumes:
        difference_text = (
            f"Individual volumes of {row.series} {decision_words.plural_phrase} {comparator}"
            f" volumes (difference in PSNR {context}: {value_text(row, '+.2f')})."
        )
    else:
        difference_text = (
            f"{row.series} {decision_words.verb_phrase} {comparator}: {value_text(row, '+.3f')},"
            f" {context}."
        )
    sentences = [difference_text]
    if placebo and decision == "better":
        sentences.append(f"This part of the gain depends on {placebo.cause}.")
    if compares_volumes and (row.minus, row.reference) == ("bspline", "measured"):
        sentences.append(
            "Static detail contributes to this difference, which favors a T2* pair computed from"
            " volumes of the same run."
        )
    return Sentence(" ".join(sentences), row, decision)


def specific_text(claim: Claim, *, in_full: bool = False) -> str:
    """Return sentences on whether a gain is specific to this participant's own data.

    The text is "" if no negative control was run. With `in_full`, controls that were not run are
    listed.
    """
    if claim.holds is None:
        return ""
    if claim.holds:
        text = f"Part of the gain from {claim.series} is specific to this participant's own data."
    else:
        inputs = enumerate_unique((NEGATIVE_CONTROLS[name].cause for name in claim.unbeaten), "or")
        verb = "reach" if len(claim.unbeaten) > 1 else "reaches"
        text = (
            f"The gain from {claim.series} was not found to depend on {inputs}:"
            f" {enumerate_unique(claim.unbeaten)} {verb} the same gain."
        )
    compared_controls = [comparison.row.minus for comparison in claim.comparisons]
    missing_controls = [
        name for name in list_negative_controls(claim.series) if name not in compared_controls
    ]
    if not (in_full and missing_controls):
        return text
    noun, verb = ("controls", "were") if len(missing_controls) > 1 else ("control", "was")
    return f"{text} The negative {noun} {enumerate_unique(missing_controls)} {verb} not run."


def accuracy_sentences(evidence: Evidence, series: Iterable[str]) -> list[Sentence]:
    """Return a sentence per series on its accuracy, in active voxels first."""
    sentences = []
    for name in series:
        rows_by_region = evidence.select_finite_rows(name)
        if not rows_by_region:
            continue
        (region, first_row), *other_regions = rows_by_region.items()
        clauses = [f"{name}: {value_text(first_row, '.3f')}, {region_text(region)}"]
        for label, value in list_further_values(evidence, name, region):
            clauses.append(f"{label} {number(value, '.3f')}")
        for other_region, row in other_regions:
            clauses.append(f"{region_text(other_region)} {number(row.value, '.3f')}")
        sentences.append(Sentence("; ".join(clauses) + ".", first_row))
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
    reduction_text = number(row.value, ".0%")
    if is_below_zero(row):
        decision_phrase = "was less accurate than"
    elif row.lower <= 0:
        decision_phrase = "did not differ detectably from"
    else:
        remark = f" ({interval_text})" if interval_text else ""
        return (
            f"{row.series} reduced the squared error by {reduction_text} relative to zero"
            f" filling{remark}"
        )
    change = (
        "the squared error was more than twice as large as with zero filling"
        if row.value < -1
        else f"reduction in squared error: {reduction_text}"
    )
    details = "; ".join(filter(None, [change, interval_text]))
    return f"{row.series} {decision_phrase} zero filling ({details})"


def not_applied_text(methods: Sequence[str]) -> str:
    """Return a sentence on methods that fell back to zero filling; "" if there are none."""
    if not methods:
        return ""
    subject = enumerate_unique(methods)
    was, series_are, are = (
        ("were", "Their series are", "are") if len(methods) > 1 else ("was", "Its series is", "is")
    )
    return (
        f"{subject} {was} not applied (zero filled). {series_are} identical to zerofill and {are}"
        " not compared."
    )
