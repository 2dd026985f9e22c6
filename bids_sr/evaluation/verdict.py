"""Verdict on a run: which methods are more accurate than which comparators, and how certain.

*Image quality* means that single volumes are more similar to volumes of a high-resolution
acquisition. A network must exceed ``inject``, which only adds static detail.

*Function* means that activation maps contain true BOLD detail (neuronal or from draining veins).
It can only be claimed relative to a reference: explained variance must be above 0 and exceed every
baseline, every denoising control and simple arithmetic (`zerofill`, `sdmod`), each with an
interval above 0.

A method that fell back to zero filling was not applied; it is reported first and is not compared.
Without a reference, the verdict reports the self-test at half the resolution instead.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict

from bids_sr.engine.metric_rows import MetricRow, VerdictFacts
from bids_sr.evaluation.evidence import (
    APPLIED,
    WORTH,
    Evidence,
    RunStatus,
    find_strongest_baseline,
)
from bids_sr.evaluation.motion_summary import describe_motion, is_motion_large
from bids_sr.evaluation.result import RunResult
from bids_sr.evaluation.result_text import (
    is_tested,
    plain_result,
    plain_row,
    write_headline,
    write_result,
)
from bids_sr.evaluation.run_evidence import RunEvidence
from bids_sr.evaluation.sentences import Sentence
from bids_sr.evaluation.supporting_sentences import write_self_test, write_support
from bids_sr.evaluation.verdict_limits import list_limits
from bids_sr.evaluation.verdict_lines import list_warnings
from bids_sr.io.frozen import frozen


@frozen
class Verdict:
    """Verdict on a run in words, with the evidence that it is based on.

    `warnings` precede the headline: large head motion, methods that were not applied or must not
    be used. `rows` are the decisions as rows of the evaluation.
    """

    evidence: RunEvidence
    status: RunStatus
    sentences: tuple[Sentence, ...]
    limits: tuple[Sentence, ...]
    warnings: tuple[str, ...]
    rows: tuple[MetricRow, ...]

    @property
    def headline(self) -> str:
        """Result of the run, and the contrasts whose detail may be interpreted."""
        return write_headline(self.evidence.result)

    def to_json(self) -> VerdictFacts:
        """Return headline, status, sentences and limitations as plain values; None for NaN."""
        result, self_test = self.evidence.result, self.evidence.self_test
        facts = plain_result(result)
        facts["status"], facts["warnings"] = self.status, list(self.warnings)
        facts["best"] = self.evidence.best
        facts["not_applied"] = list(self.evidence.not_applied)
        if self_test.sizes and self_test.final:
            facts["reduced"] = f"{self_test.sizes[0]} mm"
        accuracy = self.evidence.accuracy
        facts["reference"] = accuracy.reference.words if accuracy else ""
        if accuracy is not None and (row := find_strongest_baseline(accuracy)) is not None:
            facts["baseline"] = {"series": row.series, **(plain_row(row) or {})}
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


def make_verdict(evidence: RunEvidence, displacement: Sequence[float] = ()) -> Verdict:
    """Return the verdict that the evidence of a run supports.

    `displacement` is the framewise displacement of each volume (mm); NaN if unknown.
    """
    motion = (
        f"{describe_motion(displacement, subject='Large head motion')}."
        if is_motion_large(displacement)
        else ""
    )
    return Verdict(
        evidence=evidence,
        status=_decide_status(evidence),
        sentences=tuple(write_support(evidence)),
        limits=tuple(list_limits(evidence)),
        warnings=tuple(
            filter(None, [motion, _describe_not_applied(evidence), *list_warnings(evidence)])
        ),
        rows=(
            *_make_rows(evidence),
            *_make_applied_rows(evidence.methods, applied=True),
            *_make_applied_rows(evidence.not_applied, applied=False),
        ),
    )


def _decide_status(evidence: RunEvidence) -> RunStatus:
    """Return the status of a run."""
    if not evidence.methods:
        return "not applied" if evidence.not_applied else "nothing compared"
    shown = evidence.result.shown
    if shown is None or shown.active.row is None:
        return "no detail"
    return "tested" if is_tested(shown.active.row) else "measured"


def _describe_not_applied(evidence: RunEvidence) -> str:
    """Return why methods were not applied, by their self-test; "" if all were applied.

    Networks have no self-test; their reasons are warnings of their own. If no method was applied,
    the headline states that they were not.
    """
    methods = evidence.not_applied
    tested = [name for name in methods if name not in evidence.stopped]
    sentences = [sentence.text for sentence in write_self_test(evidence.self_test, tested)]
    if methods and evidence.methods:
        sentences.insert(0, write_result(RunResult(not_applied=methods)))
    return " ".join(sentences)


def _make_rows(evidence: RunEvidence) -> list[MetricRow]:
    """Return the claims of a verdict, and the decisions on differences, as evaluation rows."""
    rows = [] if evidence.accuracy is None else _make_evidence_rows(evidence, evidence.accuracy)
    for claim in evidence.claims:
        value = math.nan if claim.holds is None else float(claim.holds)
        rows.append(MetricRow(series=claim.series, statistic=f"verdict_{claim.kind}", value=value))
    return rows


def _make_evidence_rows(evidence: RunEvidence, accuracy: Evidence) -> list[MetricRow]:
    """Return the decisions on function and the equivalence margins as evaluation rows."""
    rows = []
    for claim in evidence.claims:
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
                    contrast=accuracy.contrast,
                    fwhm_mm=accuracy.fwhm_mm,
                )
            )
    for region, margin in evidence.margins.items():
        rows.append(
            MetricRow(
                series="run",
                statistic="verdict_margin",
                value=margin,
                region=region,
                contrast=accuracy.contrast,
                fwhm_mm=accuracy.fwhm_mm,
            )
        )
    return rows


def _make_applied_rows(methods: Sequence[str], *, applied: bool) -> list[MetricRow]:
    """Return rows that record whether methods were applied or zero filled."""
    return [MetricRow(series=name, statistic=APPLIED, value=float(applied)) for name in methods]
