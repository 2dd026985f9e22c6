"""Sentences that support a verdict: values, comparisons and the self-test."""

import math
from collections.abc import Collection, Iterable
from itertools import combinations

from bids_sr.engine.number_text import interval_ends, number, value_form
from bids_sr.evaluation.evidence import (
    HALVES,
    Comparison,
    Decision,
    Evidence,
    is_below_zero,
)
from bids_sr.evaluation.run_evidence import RunEvidence
from bids_sr.evaluation.self_test_results import SelfTestResults
from bids_sr.evaluation.sentences import Sentence
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.words import DECISIONS, reference_phrase, region_text, value_text
from bids_sr.io.metric_registry import statistic
from bids_sr.io.series import SIMPLE_BASELINES

_VOLUME_STATISTIC = "psnr"
_FURTHER_STATISTICS = ("r", "amplitude", "correct_fraction")
"""Statistics that are given next to explained variance."""


def write_support(evidence: RunEvidence) -> list[Sentence]:
    """Return definitions, values, comparisons (also between methods), and the self-test."""
    sentences: list[Sentence] = []
    accuracy, methods = evidence.accuracy, evidence.methods
    if accuracy is not None:
        sentences = [
            *define_accuracy(accuracy),
            *_write_values(accuracy, (*methods, "bspline", "measured")),
        ]
    for claim in evidence.claims:
        sentences += map(write_comparison, claim.comparisons)
    if accuracy is not None:
        compared_methods = [name for name in methods if name not in SIMPLE_BASELINES]
        sentences += [
            write_comparison(accuracy.compare(method, other, region, evidence.margins[region]))
            for region in accuracy.regions
            for method, other in combinations(compared_methods, 2)
            if accuracy.row(method, region, other) is not None
        ]
    return [*sentences, *write_self_test(evidence.self_test, methods)]


def define_accuracy(evidence: Evidence) -> list[Sentence]:
    """Return definitions of the reference and of the values of accuracy."""
    values = {
        "reference": evidence.reference.words,
        "map_noun": "contrast",
        "contrast": evidence.contrast,
        "smoothing": f", {evidence.fwhm_mm:g} mm FWHM" if evidence.fwhm_mm else "",
    }
    sentences = [Sentence(Statement.REFERENCE, values)]
    if evidence.reference == HALVES:
        sentences.append(Sentence(Statement.HALVES, {"unit": "the task blocks"}))
    if evidence.reference.statistic != "ev":
        sentences.append(Sentence(Statement.CORRELATION))
    return [*sentences, Sentence(Statement.INTERVALS)]


def _write_values(evidence: Evidence, series: Iterable[str]) -> list[Sentence]:
    """Return a sentence per series on its accuracy, in active voxels first."""
    sentences = []
    for name in series:
        rows_by_region = evidence.select_finite_rows(name)
        if not rows_by_region:
            continue
        (region, first_row), *other_regions = rows_by_region.items()
        form = value_form(first_row.statistic)
        clauses = [f"{value_text(first_row, form)}, {region_text(region)}"]
        for label, text in list_further_values(evidence, name, region):
            clauses.append(f"{label} {text}")
        for other_region, row in other_regions:
            clauses.append(f"{region_text(other_region)} {number(row.value, form)}")
        values = {"series": name, "values": "; ".join(clauses)}
        sentences.append(Sentence(Statement.VALUES, values, row=first_row))
    return sentences


def list_further_values(evidence: Evidence, series: str, region: str) -> list[tuple[str, str]]:
    """Return labels and values (as text) of further statistics of a series in a region.

    `region` is "" for the first region. Only finite values are returned, and only if the main
    statistic is explained variance.
    """
    if evidence.reference.statistic != "ev":
        return []
    values = {name: evidence.value(series, region, name) for name in _FURTHER_STATISTICS}
    return [
        (statistic(name).label, number(value, value_form(name)))
        for name, value in values.items()
        if math.isfinite(value)
    ]


def write_comparison(comparison: Comparison) -> Sentence:
    """Return the difference between two series."""
    row, decision = comparison.row, comparison.decision
    compares_volumes = row.statistic == _VOLUME_STATISTIC
    has_static_detail = compares_volumes and (row.minus, row.reference) == ("bspline", "measured")
    values = {
        "series": row.series,
        "comparator": row.minus,
        "decision": DECISIONS[decision].verb_phrase,
        "value": value_text(
            row, "+.2f" if compares_volumes else value_form(row.statistic, sign="+")
        ),
        "place": (
            f"PSNR of single volumes {reference_phrase(row)}"
            if compares_volumes
            else region_text(row.region)
        ),
        "remark": f" {Statement.STATIC_DETAIL}" if has_static_detail else "",
    }
    is_compared = math.isfinite(row.value)
    state = Statement.COMPARISON if is_compared else Statement.NOT_COMPARED
    return Sentence(state, values, row=row, decision=decision)


def write_self_test(self_test: SelfTestResults, methods: Collection[str]) -> list[Sentence]:
    """Return sentences on the self-test of methods and on their calibrations."""
    sentences = [
        describe_self_test(self_test, name) for name in self_test.scores if name in methods
    ]
    for name, result in self_test.calibrations.items():
        if name in methods:
            values = {"series": name, "result": result}
            sentences.append(Sentence(Statement.CALIBRATION, values, series=name))
    return [*sentences, *list_untested(self_test, methods)]


def describe_self_test(self_test: SelfTestResults, method: str) -> Sentence:
    """Return whether a tested method reduced the squared error relative to zero filling."""
    row = self_test.scores[method]
    ends = " to ".join(interval_ends(row.lower, row.upper, ".0%"))
    decision: Decision = "unclear" if row.lower <= 0 else "better"
    if is_below_zero(row):
        decision = "worse"
    values = {
        "test": self_test.test_text,
        "series": method,
        "decision": DECISIONS[decision].verb_phrase,
        "value": number(row.value, ".0%"),
        "interval": (
            f"; 95 % interval over {row.n or 'the'} segments of the run: {ends} %" if ends else ""
        ),
    }
    return Sentence(Statement.SELF_TEST, values, row=row)


def list_untested(self_test: SelfTestResults, methods: Iterable[str]) -> list[Sentence]:
    """Return the reason for each method that was not included in the self-test."""
    return [
        Sentence(
            Statement.NOT_SELF_TESTED,
            {"series": name, "test": self_test.test_text, "reason": reason.rstrip(".")},
            series=name,
        )
        for name in methods
        if (reason := self_test.reasons.get(name))
    ]
