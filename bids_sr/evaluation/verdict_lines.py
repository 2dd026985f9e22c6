"""Lines of the headline of a verdict, and the verdict in one line."""

import math
from collections.abc import Mapping, Sequence

from bids_sr.evaluation.acquired_activation import LostActivation, write_lost_activation
from bids_sr.evaluation.contrast_results import ContrastResult
from bids_sr.evaluation.contrast_text import write_contrast_lines
from bids_sr.evaluation.evidence import Claim, Evidence, is_below_zero, list_series
from bids_sr.evaluation.run_evidence import RunEvidence
from bids_sr.evaluation.self_test import SelfTestResults
from bids_sr.evaluation.sentences import Sentence, VerdictLine
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.supporting_sentences import describe_self_test, write_specificity
from bids_sr.evaluation.words import active_words
from bids_sr.metrics.number_text import interval, number
from bids_sr.metrics.registry import statistic
from bids_sr.metrics.rows import MISSING, VerdictFacts
from bids_sr.metrics.word_lists import enumerate_unique
from bids_sr.series import CONTROLS

_MAX_LISTED_BASELINES = 2
"""Number of baselines in a line: the strongest that the method does not exceed."""


def write_lost_lines(lost: Mapping[str, LostActivation]) -> list[VerdictLine]:
    """Return one line per method that lost the activation of the acquired run."""
    return [
        VerdictLine(
            sentences=(_warn(name), write_lost_activation(name, activation)),
            status="less accurate",
        )
        for name, activation in lost.items()
    ]


def write_lines(evidence: RunEvidence) -> list[VerdictLine]:
    """Return the verdict of a run: recovered contrasts, and one line per method.

    If accuracy was measured, only contrasts of the best method are described. Methods that lost
    the acquired activation have lines of their own (`write_lost_lines`).
    """
    claims, self_test = evidence.claims, evidence.self_test
    function_claims = [claim for claim in claims if claim.kind == "function"]
    if evidence.accuracy is None:
        methods = [name for name in evidence.methods if name not in evidence.lost]
        lines = _write_unmeasured_lines(
            methods, self_test, evidence.results, no_detail=evidence.agreement is not None
        )
    else:
        lines = [
            *_write_result_lines(evidence.best, evidence.best_results, self_test),
            *_write_comparison_lines(function_claims, evidence.accuracy, claims),
        ]
    if better_series := list_series(claims, "image", holds=True):
        values = {"series": enumerate_unique(better_series)}
        sentence = Sentence(Statement.IMAGE_GAIN, values)
        lines.append(VerdictLine(sentences=(sentence,), status="more accurate"))
    return lines


def _write_unmeasured_lines(
    methods: Sequence[str],
    self_test: SelfTestResults,
    results: Mapping[str, Mapping[str, ContrastResult]],
    *,
    no_detail: bool,
) -> list[VerdictLine]:
    """Return the lines for a run whose accuracy is unknown, with advice on using its maps.

    `no_detail` is True if the reference exists but has no reproducible detail. For the other
    parameters, see `write_lines`.
    """
    harmful = [name for name in methods if self_test.is_harmful(name)]
    lines_by_method = {
        name: _write_result_lines(name, results.get(name, {}), self_test)
        for name in methods
        if name not in harmful
    }
    result_lines = [line for lines in lines_by_method.values() for line in lines]
    untested = [name for name, lines in lines_by_method.items() if not lines]
    values = {
        "series": enumerate_unique(untested),
        "size": self_test.acquired_text,
        "place": "",
    }
    states = []
    if no_detail:
        states.append(Statement.NO_DETAIL)
    elif not result_lines:
        states.append(Statement.NOT_MEASURED)
    elif untested:
        states.append(Statement.NOT_TESTED)
    if untested:
        states += [Statement.AS_INTERPOLATED, Statement.NOTHING_FINER]
    sentences = tuple(Sentence(state, values) for state in states)
    return [
        *result_lines,
        *([VerdictLine(sentences=sentences, status="not assessed")] if sentences else ()),
        *(
            VerdictLine(
                sentences=(_warn(name), describe_self_test(self_test, name)),
                status="not more accurate",
            )
            for name in harmful
        ),
    ]


def _write_result_lines(
    method: str, results: Mapping[str, ContrastResult], self_test: SelfTestResults
) -> list[VerdictLine]:
    """Return the lines on the contrasts of a method, [] if no contrast has a value."""
    if not any(result.has_values for result in results.values()):
        return []
    return write_contrast_lines(method, results, self_test)


def _warn(series: str) -> Sentence:
    """Return a warning of the maps of a method."""
    return Sentence(Statement.DO_NOT_USE, {"series": series})


def _write_comparison_lines(
    claims: Sequence[Claim], evidence: Evidence, all_claims: Sequence[Claim]
) -> list[VerdictLine]:
    """Return one line per method compared with a reference, methods with a gain first.

    `claims` are the claims on detail (*function*), one per method.
    """
    comparators = {comparison.row.minus for claim in claims for comparison in claim.comparisons}
    values = {
        "comparators": (
            "interpolation" if comparators.isdisjoint(CONTROLS) else "interpolation and denoising"
        ),
        "place": _describe_place(evidence),
    }
    lines = []
    for claim in claims:
        if claim.holds:
            gain = Sentence(Statement.GAIN, {"series": claim.series, **values})
            specificity = [
                sentence
                for candidate in all_claims
                if candidate.kind == "specific" and candidate.series == claim.series
                for sentence in write_specificity(candidate)
            ]
            lines.append(VerdictLine(sentences=(gain, *specificity), status="more accurate"))
    if not lines:
        no_gain = Sentence(Statement.NO_GAIN, values)
        lines.append(VerdictLine(sentences=(no_gain,), status="not more accurate"))
    return lines + [
        VerdictLine(sentences=(_explain_loss(claim, evidence),), status="not more accurate")
        for claim in claims
        if claim.holds is False
    ]


def _explain_loss(claim: Claim, evidence: Evidence) -> Sentence:
    """Return the sentence that explains why a method is not more accurate."""
    row = evidence.row(claim.series, evidence.brain)
    unbeaten = claim.unbeaten
    values = {name: evidence.value(name) for name in unbeaten}
    strongest = sorted(
        unbeaten, key=lambda name: -values[name] if math.isfinite(values[name]) else math.inf
    )[:_MAX_LISTED_BASELINES]
    baselines = enumerate_unique(sorted(strongest, key=unbeaten.index), "or")
    if row is not None and is_below_zero(row):
        state = Statement.WRONG_DETAIL
    else:
        state = Statement.NOT_MORE_DETAIL if unbeaten else Statement.NO_TRUE_DETAIL
    return Sentence(
        state,
        {
            "series": claim.series,
            "place": _describe_place(evidence),
            "baselines": (
                f"baselines such as {baselines}" if len(unbeaten) > len(strongest) else baselines
            ),
            "values": _describe_values(claim, evidence),
        },
        series=claim.series,
    )


def _describe_place(evidence: Evidence) -> str:
    """Return the contrast and the deciding region of a comparison."""
    region = "" if evidence.brain == MISSING else active_words(evidence.brain)[0]
    return ", ".join(filter(None, [f"contrast {evidence.contrast}", region]))


def _describe_values(claim: Claim, evidence: Evidence) -> str:
    """Return the values of a method by region in parentheses, the deciding region first.

    For example, `` (explained variance: 0 % [−5, 3] in the whole brain, 6 % [4, 9] in active
    voxels)``; "" if there is no value.
    """
    rows_by_region = evidence.select_finite_rows(claim.series)
    phrases = []
    for region in sorted(rows_by_region, key=lambda name: name != evidence.brain):
        row = rows_by_region[region]
        form = "" if row.statistic == "r" else ".0%"
        interval_text = interval(row.lower, row.upper, form, unit=False)
        value_text = f"{number(row.value, form)} {interval_text}".rstrip()
        article = "the " if region in ("brain", "roi") else ""
        phrases.append(f"{value_text} in {article}{active_words(region)[0]}")
    label = statistic(evidence.reference.statistic).label
    return f" ({label}: {', '.join(phrases)})" if phrases else ""


def verdict_line(verdict: VerdictFacts) -> str:
    """Return a verdict in one line.

    Sentences on large head motion and on methods that were not applied precede the headline;
    verdicts on series of other programs follow it.
    """
    compared_headlines = [compared["headline"] for compared in verdict.get("compared", [])]
    headline = verdict.get("headline", "")
    if compared_headlines and headline == Statement.NOTHING_COMPARED:
        headline = ""
    return " ".join(filter(None, [*leading_sentences(verdict), headline, *compared_headlines]))


def leading_sentences(verdict: VerdictFacts) -> list[str]:
    """Return sentences that precede a verdict: large motion, and methods not applied."""
    sentences = verdict.get("motion_text"), verdict.get("not_applied_text")
    return [sentence for sentence in sentences if sentence]
