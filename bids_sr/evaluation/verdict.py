"""Verdict on a run: which methods are more accurate than which comparators, and how certain.

*Image quality* means that single volumes are more similar to volumes of a high-resolution
acquisition. A network must exceed ``inject``, which only adds static detail.

*Function* means that activation maps contain true BOLD detail (neuronal or from draining veins).
It can only be claimed relative to a reference: explained variance must be above 0 and exceed every
baseline, every denoising control and simple arithmetic (`zerofill`, `sdmod`), each with an
interval above 0.

A gain that a placebo also reaches is not attributable to this participant's own data. A method
that fell back to zero filling was not applied; it is reported first and is not compared. Without a
reference, the verdict reports the self-test at half the resolution instead.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from bids_sr.evaluation.acquired_activation import lost_sentences
from bids_sr.evaluation.contrast_results import ContrastResult, collect_results, has_values
from bids_sr.evaluation.contrast_text import plain_results
from bids_sr.evaluation.evidence import (
    APPLIED,
    MAPS,
    WORTH,
    Claim,
    Comparison,
    Decision,
    Evidence,
    VerdictStatus,
    accuracy_evidence,
    derives_from,
    find_strongest,
)
from bids_sr.evaluation.motion_summary import describe_motion, is_motion_large
from bids_sr.evaluation.negative_controls import list_negative_controls
from bids_sr.evaluation.qc_flags import find_raised_flags
from bids_sr.evaluation.self_test import SelfTestResults, parse_self_test
from bids_sr.evaluation.sentences import Sentence, VerdictLine
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.supporting_sentences import write_self_test, write_support
from bids_sr.evaluation.verdict_limits import list_limits
from bids_sr.evaluation.verdict_lines import write_lines, write_lost_lines
from bids_sr.frozen import frozen
from bids_sr.metrics.rows import MetricRow, VerdictFacts
from bids_sr.metrics.word_lists import enumerate_unique
from bids_sr.series import CONTROLS, IMAGE_REFERENCES, SIMPLE_BASELINES


@frozen
class Verdict:
    """Verdict on a run.

    `lines` has one line per method, with its status. `best` is the applied method with the highest
    explained variance or, without a reference, the highest self-test score; "" if no method was
    applied. `not_applied` are the methods whose series are zero filled; they are reported first
    and not compared. `motion` is a sentence on large head motion; "" if motion was not large.
    `not_applied_text` names methods that were not applied and their self-test; "" if all were
    applied. `results` are for the detail of all contrasts of the best method. `acquired_text` is
    the acquired voxel size, such as ``6 mm``.
    """

    lines: tuple[VerdictLine, ...]
    status: VerdictStatus
    best: str
    not_applied: tuple[str, ...]
    claims: tuple[Claim, ...]
    sentences: tuple[Sentence, ...]
    limits: tuple[Sentence, ...]
    motion: str
    not_applied_text: str
    rows: tuple[MetricRow, ...]
    results: tuple[ContrastResult, ...] = ()
    acquired_text: str = SelfTestResults().acquired_text

    @property
    def headline(self) -> str:
        """Text of all lines."""
        return " ".join(line.text for line in self.lines)

    def to_json(self) -> VerdictFacts:
        """Return headline, status, sentences and limitations as plain values; None for NaN."""
        facts = VerdictFacts(
            headline=self.headline,
            lines=[
                {"text": line.text, "status": line.status, "topic": line.topic}
                for line in self.lines
            ],
            status=self.status,
            best=self.best,
            not_applied=list(self.not_applied),
        )
        if self.motion:
            facts["motion_text"] = self.motion
        if self.not_applied:
            facts["not_applied_text"] = self.not_applied_text
        if self.results:
            facts["contrasts"] = plain_results(self.results, self.acquired_text)
        facts["sentences"] = [_convert_sentence(sentence) for sentence in self.sentences]
        facts["limits"] = [sentence.text for sentence in self.limits]
        return facts


def _convert_sentence(sentence: Sentence) -> dict[str, object]:
    """Return a sentence and its row as plain values, None for NaN."""
    if sentence.row is None:
        return {"text": sentence.text, "series": sentence.series}
    cells = {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in asdict(sentence.row).items()
    }
    return {"text": sentence.text, "decision": sentence.decision or "", **cells}


def _combine(comparisons: Iterable[Comparison]) -> Decision | None:
    """Combine decisions: better if all are better, worse if any is worse, None if empty."""
    decisions = {comparison.decision for comparison in comparisons}
    if not decisions:
        return None
    if decisions == {"better"}:
        return "better"
    return "worse" if "worse" in decisions else "unclear"


def _claim_function(
    evidence: Evidence | None, method: str, references: Sequence[str], margins: Mapping[str, float]
) -> Claim:
    """Return the claim that a method shows true detail.

    The claim holds if the method exceeds all references in the deciding region, is not worse than
    any of them in the others, and has explained variance above 0 (not required of map
    correlations).
    """
    if evidence is None:
        return Claim(kind="function", series=method, decision=None)
    comparisons = [
        evidence.compare(method, reference, region, margins[region])
        for region in reversed(evidence.regions)  # the deciding region first
        for reference in references
    ]
    deciding_comparisons = comparisons[: len(references)]
    row = evidence.row(method, evidence.brain)
    has_true_detail = evidence.reference is MAPS or (row is not None and row.lower > 0)
    is_worse = any(comparison.decision == "worse" for comparison in comparisons)
    decision = _combine(deciding_comparisons) or "unclear"
    if decision == "better" and (is_worse or not has_true_detail):
        decision = "unclear"
    return Claim(
        kind="function",
        series=method,
        decision=decision,
        comparisons=tuple(comparisons),
        evidence=evidence,
    )


def claim_specific(evidence: Evidence | None, method: str) -> Claim:
    """Return the claim that a method's gain is specific to this participant's data.

    The claim holds if the method exceeds every placebo that was run. It is undecided if no placebo
    was compared. `evidence` is the agreement with the strongest reference; None if there is no
    reference.
    """
    comparisons: list[Comparison] = []
    if evidence is not None and evidence.reference is not MAPS:
        placebos = [
            name
            for name in list_negative_controls(method)
            if evidence.row(method, evidence.brain, name) is not None
        ]
        comparisons = [evidence.compare(method, name, evidence.brain) for name in placebos]
    return Claim(
        kind="specific",
        series=method,
        decision=_combine(comparisons),
        comparisons=tuple(comparisons),
        evidence=evidence,
    )


def _claim_image(rows: Sequence[MetricRow], method: str) -> Claim:
    """Return the claim on image quality, from measured volumes or else from a held-out pair.

    The claim is undecided if neither reference is available, or if the method exceeds only some of
    the baselines because the others were not compared.
    """
    evidence = find_strongest("image", rows, [method])
    if evidence is None:
        return Claim(kind="image", series=method, decision=None)
    baselines = [name for name in IMAGE_REFERENCES if evidence.row(method, minus=name) is not None]
    comparisons = tuple(evidence.compare(method, name) for name in baselines)
    decision = _combine(comparisons)
    is_incomplete = decision == "better" and len(comparisons) < len(IMAGE_REFERENCES)
    return Claim(
        kind="image",
        series=method,
        decision=None if is_incomplete else decision,
        comparisons=comparisons,
        evidence=evidence,
    )


def _find_best_method(
    evidence: Evidence | None,
    claims: Sequence[Claim],
    methods: Sequence[str],
    self_test: SelfTestResults,
) -> str:
    """Return the most accurate method in active voxels (else in the first region).

    Methods with a confirmed claim are preferred; among equal methods, the last is chosen. Without
    a reference, the method with the highest self-test score is returned, or the last method (the
    default) if there is no self-test. "" if there are no methods.
    """
    confirmed_methods = [
        claim.series for claim in claims if claim.kind == "function" and claim.holds
    ]
    candidates = confirmed_methods or list(methods)
    if evidence is None:
        return self_test.best(candidates)
    values = {name: evidence.value(name) for name in candidates}
    return max(
        reversed(candidates),
        key=lambda name: values[name] if math.isfinite(values[name]) else -math.inf,
        default="",
    )


def _make_rows(
    evidence: Evidence | None, claims: Sequence[Claim], margins: Mapping[str, float]
) -> list[MetricRow]:
    """Return the claims of a verdict, and the decisions on differences, as evaluation rows."""
    rows = [] if evidence is None else _make_evidence_rows(evidence, claims, margins)
    for claim in claims:
        value = math.nan if claim.holds is None else float(claim.holds)
        rows.append(MetricRow(series=claim.series, statistic=f"verdict_{claim.kind}", value=value))
    return rows


def _make_evidence_rows(
    evidence: Evidence, claims: Sequence[Claim], margins: Mapping[str, float]
) -> list[MetricRow]:
    """Return the decisions on function and the equivalence margins as evaluation rows."""
    rows = []
    for claim in claims:
        if claim.kind != "function":
            continue
        for comparison in claim.comparisons:
            rows.append(
                MetricRow(
                    series=claim.series,
                    statistic="verdict",
                    value=WORTH[comparison.decision],
                    minus=comparison.row.minus,
                    region=comparison.row.region,
                    contrast=evidence.contrast,
                    fwhm_mm=evidence.fwhm_mm,
                )
            )
    for region, margin in margins.items():
        rows.append(
            MetricRow(
                series="run",
                statistic="verdict_margin",
                value=margin,
                region=region,
                contrast=evidence.contrast,
                fwhm_mm=evidence.fwhm_mm,
            )
        )
    return rows


def _exclude_methods(rows: Sequence[MetricRow], methods: Sequence[str]) -> list[MetricRow]:
    """Return the rows that do not concern some methods, their placebos or their members."""
    return [
        row
        for row in rows
        if not derives_from(row.series, methods) and not derives_from(row.minus, methods)
    ]


def _describe_not_applied(
    rows: Sequence[MetricRow], methods: Sequence[str], facts: Mapping[str, object] | None
) -> str:
    """Return sentences on methods that were not applied, with the reasons of their self-test."""
    if not methods:
        return ""
    were = "were" if len(methods) > 1 else "was"
    values = {"series": enumerate_unique(methods), "were": were}
    sentences = [
        Sentence(Statement.ZERO_FILLED, values),
        *write_self_test(parse_self_test(rows, facts) or SelfTestResults(), methods),
    ]
    return " ".join(sentence.text for sentence in sentences)


def _find_margins(evidence: Evidence | None, margin: float | None) -> dict[str, float]:
    """Return the equivalence margin in each region; `margin` is used in all regions if given."""
    if evidence is None:
        return {}
    return {name: evidence.margin(name) if margin is None else margin for name in evidence.regions}


def _list_references(evidence: Evidence | None, baselines: Sequence[str]) -> list[str]:
    """Return the series that a method must exceed: baselines, and compared plain controls."""
    if evidence is None:
        return list(baselines)
    compared_series = evidence.series()
    controls = [name for name in (*SIMPLE_BASELINES, *CONTROLS) if name in compared_series]
    return list(dict.fromkeys([*baselines, *controls]))


def _make_claims(
    rows: Sequence[MetricRow],
    methods: Sequence[str],
    evidence: Evidence | None,
    references: Sequence[str],
    margins: Mapping[str, float],
) -> list[Claim]:
    """Return the three claims on each method: function, specific and image."""
    claims = []
    for method in methods:
        other_series = [name for name in references if name != method]
        claims.append(_claim_function(evidence, method, other_series, margins))
        claims += [claim_specific(evidence, method), _claim_image(rows, method)]
    return claims


def _decide_status(
    claims: Sequence[Claim], evidence: Evidence | None, *, has_methods: bool, is_applied: bool
) -> VerdictStatus:
    """Return the status of a run.

    `has_methods` is True if methods were applied, and `is_applied` False if a method fell back to
    zero filling.
    """
    if not has_methods:
        return "not assessed" if is_applied else "not applied"
    if evidence is None:
        return "not assessed"
    has_gain = any(claim.holds for claim in claims if claim.kind == "function")
    return "more accurate" if has_gain else "not more accurate"


def make_verdict(
    rows: Sequence[MetricRow],
    *,
    methods: Sequence[str],
    baselines: Sequence[str],
    margin: float | None = None,
    not_applied: Sequence[str] = (),
    displacement: Sequence[float] = (),
    one_level: Mapping[str, object] | None = None,
) -> Verdict:
    """Return the verdict that the metric rows of a run support.

    The deciding region is the brain or, if the reference has no reproducible detail there, active
    voxels. To claim function, a method may be undecided in active voxels, but not worse. `methods`
    and `baselines` are the series under evaluation. A method must exceed all baselines and
    controls for a claim of function. Differences within ± `margin` count as equivalent, in the
    unit of the evidence; None for a tenth of the gap between `bspline` and `measured`.
    `not_applied` are methods that fell back to zero filling. These methods, their placebos and
    their members are excluded. `displacement` is the framewise displacement of each volume (mm);
    NaN if unknown. `one_level` contains the facts of the self-test, see
    `bids_sr.evaluation.self_test.parse_self_test`.
    """
    applied_methods = [method for method in methods if method not in not_applied]
    unapplied_methods = [method for method in methods if method in not_applied]
    applied_rows = _exclude_methods(rows, unapplied_methods)
    detail_evidence = find_strongest("function", applied_rows, applied_methods)
    evidence = accuracy_evidence(applied_rows, applied_methods)
    self_test = parse_self_test(applied_rows, one_level) or SelfTestResults()
    margins = _find_margins(evidence, margin)
    references = _list_references(evidence, baselines)
    claims = _make_claims(applied_rows, applied_methods, evidence, references, margins)
    status = _decide_status(
        claims, evidence, has_methods=bool(applied_methods), is_applied=not unapplied_methods
    )
    lost_by_series = lost_sentences(applied_rows, applied_methods)
    candidates = [name for name in applied_methods if name not in lost_by_series]
    best = _find_best_method(evidence, claims, candidates or applied_methods, self_test)
    results = {
        name: _collect_results(applied_rows, name, evidence, self_test) for name in candidates
    }
    if applied_methods:
        lines = write_lines(
            claims, detail_evidence, self_test, results, best, lost_series=list(lost_by_series)
        )
        if evidence is None and has_values(results):
            status = lines[0].status
    else:
        state = Statement.NOTHING_APPLIED if unapplied_methods else Statement.NOTHING_COMPARED
        lines = [VerdictLine(sentences=(Sentence(state),), status=status)]
    deciding_margin = margins[evidence.brain] if evidence is not None else math.nan
    flags = [name for name, series in find_raised_flags(applied_rows).items() if series]
    return Verdict(
        lines=(*write_lost_lines(lost_by_series), *lines),
        status=status,
        best=best,
        not_applied=tuple(unapplied_methods),
        claims=tuple(claims),
        sentences=tuple(write_support(claims, evidence, applied_methods, self_test, margins)),
        limits=tuple(
            list_limits(claims, detail_evidence, deciding_margin, flags, self_test, results)
        ),
        motion=(
            f"{describe_motion(displacement, subject='Large head motion')}."
            if is_motion_large(displacement)
            else ""
        ),
        not_applied_text=_describe_not_applied(rows, unapplied_methods, one_level),
        rows=(
            *_make_rows(evidence, claims, margins),
            *_make_applied_rows(applied_methods, applied=True),
            *_make_applied_rows(unapplied_methods, applied=False),
        ),
        results=tuple(results.get(best, {}).values()),
        acquired_text=self_test.acquired_text,
    )


def _collect_results(
    rows: Sequence[MetricRow],
    method: str,
    evidence: Evidence | None,
    self_test: SelfTestResults,
) -> dict[str, ContrastResult]:
    """Return the results for the contrasts of a method.

    The results are {} if only correlations of maps were measured, which do not show how much
    detail is recovered, and if the self-test alone shows that the method is harmful.
    """
    if evidence is not None and evidence.reference is MAPS:
        return {}
    if evidence is None and self_test.is_harmful(method):
        return {}
    return collect_results(rows, method, evidence, self_test.reasons.get(method, "").rstrip("."))


def _make_applied_rows(methods: Sequence[str], *, applied: bool) -> list[MetricRow]:
    """Return rows that record whether methods were applied or zero filled."""
    return [MetricRow(series=name, statistic=APPLIED, value=float(applied)) for name in methods]
