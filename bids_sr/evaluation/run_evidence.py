"""Evidence of a run on the accuracy of its methods, before it is put into words.

The evidence is gathered once per verdict, in the step that reaches it. Verdict, figures, page
and JSON read it, so that all of them are about the same contrast, reference and method.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Annotated

from bids_sr.engine.artifacts import RecordKind
from bids_sr.engine.metric_rows import MetricRow, VerdictFacts
from bids_sr.evaluation.acquired_activation import LostActivation, find_lost_activation
from bids_sr.evaluation.contrast_results import TESTED_METHOD, collect_results
from bids_sr.evaluation.detail_support import ContrastResult
from bids_sr.evaluation.evidence import (
    MAPS,
    Claim,
    Comparison,
    Decision,
    Evidence,
    find_strongest,
    select_applied,
    select_compared_rows,
)
from bids_sr.evaluation.qc_flags import (
    LOST_ACTIVATION,
    Flag,
    find_raised_flags,
    harm_flags,
    read_flags,
)
from bids_sr.evaluation.result import RunResult, make_result
from bids_sr.evaluation.self_test_results import SelfTestResults, parse_self_test
from bids_sr.evaluation.tested_detail import HALF_RESOLUTION
from bids_sr.io.frozen import frozen
from bids_sr.io.series import CONTROLS, IMAGE_REFERENCES, SIMPLE_BASELINES


@frozen
class RunEvidence:
    """Evidence of a run.

    `methods` were applied; `not_applied` fell back to zero filling and are not compared. `best` is
    the applied method with the highest explained variance or, without a reference, the method
    whose contrasts were tested, or else the highest self-test score; "" if no method was applied.
    `stopped` has the reason why a network was not applied, as a clause. `agreement` is the
    agreement of all series with the strongest reference, for one contrast; None if there is no
    reference. `margins` are equivalence margins by region, and `claims` are two per method. `lost`
    are methods that lost the activation of the acquired run. `result` is the result for the detail
    of each contrast of the best method. `flags` are all quality-control flags.
    """

    methods: tuple[str, ...] = ()
    not_applied: tuple[str, ...] = ()
    stopped: Mapping[str, str] = field(default_factory=dict)
    best: str = ""
    agreement: Evidence | None = None
    margins: Mapping[str, float] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    lost: Mapping[str, LostActivation] = field(default_factory=dict)
    result: RunResult = field(default_factory=RunResult)
    self_test: SelfTestResults = field(default_factory=SelfTestResults)
    flags: tuple[Flag, ...] = ()

    @property
    def accuracy(self) -> Evidence | None:
        """Agreement with the strongest reference; None if the accuracy is unknown."""
        if self.agreement is None or self.agreement.no_detail:
            return None
        return self.agreement

    @property
    def contrast(self) -> str:
        """Contrast of the agreement; "" if there is no reference."""
        return "" if self.agreement is None else self.agreement.contrast

    @property
    def shown_contrast(self) -> str:
        """Contrast of the maps that the page shows first; "" if none is preferred."""
        shown = self.result.shown
        return self.contrast if shown is None else shown.map_contrast

    @property
    def raised_flags(self) -> dict[str, list[str]]:
        """Series that raised each evaluated flag; see `find_raised_flags`."""
        return find_raised_flags(self.flags, self.not_applied)


StoredEvidence = Annotated[RunEvidence, RecordKind(RunEvidence)]
"""Evidence as an artifact of steps."""


def gather_evidence(
    rows: Sequence[MetricRow],
    *,
    methods: Sequence[str],
    baselines: Sequence[str],
    margin: float | None = None,
    not_applied: Sequence[str] = (),
    stopped: Mapping[str, str] | None = None,
    self_test_facts: Mapping[str, object] | None = None,
    flags: Sequence[Flag] = (),
) -> RunEvidence:
    """Gather the evidence that the metric rows of a run support.

    The deciding region is the brain or, if the reference has no reproducible detail there, active
    voxels. To claim function, a method may be undecided in active voxels, but not worse. `methods`
    and `baselines` are the series under evaluation. A method must exceed all baselines and
    controls for a claim of function. Differences within ± `margin` count as equivalent, in the
    unit of the evidence; None for a tenth of the gap between `bspline` and `measured`.
    `not_applied` are methods that fell back to zero filling. These methods are not compared.
    `stopped` has the reason why a network was not applied.
    `self_test_facts` are as in `bids_sr.evaluation.self_test_results.parse_self_test`. `flags` are
    those that do not depend on the evidence.
    """
    applied_methods = [name for name in methods if name not in not_applied]
    unapplied_methods = [name for name in methods if name in not_applied]
    compared_rows = select_compared_rows(rows, unapplied_methods)
    agreement = find_strongest("function", compared_rows, applied_methods)
    evidence = RunEvidence(
        methods=tuple(applied_methods),
        not_applied=tuple(unapplied_methods),
        stopped=stopped or {},
        agreement=agreement,
        self_test=parse_self_test(rows, self_test_facts),
    )
    accuracy, self_test = evidence.accuracy, evidence.self_test
    margins = _find_margins(accuracy, margin)
    references = _list_references(accuracy, baselines, unapplied_methods)
    claims: list[Claim] = []
    for method in applied_methods:
        other_series = [name for name in references if name != method]
        claims.append(_claim_function(accuracy, method, other_series, margins))
        claims.append(_claim_image(compared_rows, method))
    lost = find_lost_activation(rows, applied_methods)
    candidates = [name for name in applied_methods if name not in lost]
    best = _find_best_method(accuracy, claims, candidates or applied_methods, self_test)
    tested = {(row.series, row.statistic, row.reference) for row in rows}
    if accuracy is None and (TESTED_METHOD, "ev", HALF_RESOLUTION) in tested:
        best = TESTED_METHOD if TESTED_METHOD in candidates else best
    results = {
        name: _collect_results(compared_rows, name, accuracy, self_test)
        for name in applied_methods
    }
    sizes = self_test.run_sizes
    return replace(
        evidence,
        best=best,
        margins=margins,
        claims=tuple(claims),
        lost=lost,
        result=make_result(
            best,
            results[best] if best in candidates else {},
            compared_rows,
            not_applied=unapplied_methods,
            sizes=sizes,
        ),
        # lost activation stands last in the report
        flags=tuple(
            sorted(
                [*flags, *harm_flags(accuracy, self_test.scores, results)],
                key=lambda flag: flag.name == LOST_ACTIVATION,
            )
        ),
    )


def _find_margins(evidence: Evidence | None, margin: float | None) -> dict[str, float]:
    """Return the equivalence margin in each region; `margin` is used in all regions if given."""
    if evidence is None:
        return {}
    return {name: evidence.margin(name) if margin is None else margin for name in evidence.regions}


def _list_references(
    evidence: Evidence | None, baselines: Sequence[str], not_applied: Sequence[str]
) -> list[str]:
    """Return the series that a method must exceed: baselines, and compared plain controls."""
    if evidence is None:
        return list(baselines)
    compared_series = evidence.series()
    controls = [
        name
        for name in (*SIMPLE_BASELINES, *CONTROLS)
        if name in compared_series and name not in not_applied
    ]
    return list(dict.fromkeys([*baselines, *controls]))


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
    has_true_detail = evidence.reference == MAPS or (row is not None and row.lower > 0)
    is_worse = any(comparison.decision == "worse" for comparison in comparisons)
    decision = _combine(deciding_comparisons) or "unclear"
    if decision == "better" and (is_worse or not has_true_detail):
        decision = "unclear"
    return Claim(
        kind="function",
        series=method,
        decision=decision,
        comparisons=tuple(comparisons),
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
    )


def _combine(comparisons: Iterable[Comparison]) -> Decision | None:
    """Combine decisions: better if all are better, worse if any is worse, None if empty."""
    decisions = {comparison.decision for comparison in comparisons}
    if not decisions:
        return None
    if decisions == {"better"}:
        return "better"
    return "worse" if "worse" in decisions else "unclear"


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
    if evidence is not None and evidence.reference == MAPS:
        return {}
    if evidence is None and self_test.is_harmful(method):
        return {}
    return collect_results(rows, method, evidence, self_test.reasons.get(method, "").rstrip("."))


def read_stored_evidence(verdict: VerdictFacts, rows: Sequence[MetricRow]) -> RunEvidence:
    """Return the evidence of a finished run from its stored verdict and its evaluation.

    The evidence has neither claims nor results. Reference and contrast are taken from the
    comparisons in the verdict; without comparisons, they are found in the same way as in the run.
    """
    methods = select_applied(rows)
    agreement_rows = rows
    for sentence in verdict.get("sentences", ()):
        if sentence.get("band") == "beyond":
            columns = ("reference", "contrast", "fwhm_mm")
            cells = tuple(sentence[name] for name in columns)
            agreement_rows = [
                row for row in rows if (row.reference, row.contrast, row.fwhm_mm) == cells
            ]
            break
    return RunEvidence(
        methods=tuple(methods),
        not_applied=tuple(verdict.get("not_applied", ())),
        best=verdict.get("best", ""),
        agreement=find_strongest("function", agreement_rows, methods),
        flags=tuple(read_flags(rows)),
    )
