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
from collections.abc import Sequence
from dataclasses import asdict

from bids_sr.evaluation.contrast_results import has_values
from bids_sr.evaluation.contrast_text import plain_results
from bids_sr.evaluation.evidence import APPLIED, WORTH, Evidence, VerdictStatus, list_series
from bids_sr.evaluation.motion_summary import describe_motion, is_motion_large
from bids_sr.evaluation.run_evidence import RunEvidence
from bids_sr.evaluation.sentences import Sentence, VerdictLine
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.supporting_sentences import write_self_test, write_support
from bids_sr.evaluation.verdict_limits import list_limits
from bids_sr.evaluation.verdict_lines import write_lines, write_lost_lines
from bids_sr.frozen import frozen
from bids_sr.metrics.rows import MetricRow, VerdictFacts
from bids_sr.metrics.word_lists import enumerate_unique


@frozen
class Verdict:
    """Verdict on a run in words, with the evidence that it is based on.

    `lines` has one line per method, with its status. `motion` is a sentence on large head motion;
    "" if motion was not large. `not_applied_text` names methods that were not applied and their
    self-test; "" if all were applied. `rows` are the decisions as rows of the evaluation.
    """

    evidence: RunEvidence
    lines: tuple[VerdictLine, ...]
    status: VerdictStatus
    sentences: tuple[Sentence, ...]
    limits: tuple[Sentence, ...]
    motion: str
    not_applied_text: str
    rows: tuple[MetricRow, ...]

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
            best=self.evidence.best,
            not_applied=list(self.evidence.not_applied),
        )
        if self.motion:
            facts["motion_text"] = self.motion
        if self.evidence.not_applied:
            facts["not_applied_text"] = self.not_applied_text
        if results := self.evidence.best_results:
            acquired_text = self.evidence.self_test.acquired_text
            facts["contrasts"] = plain_results(results.values(), acquired_text)
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
    status = _decide_status(evidence)
    if evidence.methods:
        lines = write_lines(evidence)
        if evidence.accuracy is None and has_values(evidence.results):
            status = lines[0].status
    else:
        is_applied = not evidence.not_applied
        state = Statement.NOTHING_COMPARED if is_applied else Statement.NOTHING_APPLIED
        lines = [VerdictLine(sentences=(Sentence(state),), status=status)]
    return Verdict(
        evidence=evidence,
        lines=(*write_lost_lines(evidence.lost), *lines),
        status=status,
        sentences=tuple(write_support(evidence)),
        limits=tuple(list_limits(evidence)),
        motion=(
            f"{describe_motion(displacement, subject='Large head motion')}."
            if is_motion_large(displacement)
            else ""
        ),
        not_applied_text=_describe_not_applied(evidence),
        rows=(
            *_make_rows(evidence),
            *_make_applied_rows(evidence.methods, applied=True),
            *_make_applied_rows(evidence.not_applied, applied=False),
        ),
    )


def _decide_status(evidence: RunEvidence) -> VerdictStatus:
    """Return the status of a run."""
    if not evidence.methods:
        return "not applied" if evidence.not_applied else "not assessed"
    if evidence.accuracy is None:
        return "not assessed"
    has_gain = bool(list_series(evidence.claims, "function", holds=True))
    return "more accurate" if has_gain else "not more accurate"


def _describe_not_applied(evidence: RunEvidence) -> str:
    """Return sentences on methods that were not applied, with the reasons of their self-test."""
    methods = evidence.not_applied
    if not methods:
        return ""
    were = "were" if len(methods) > 1 else "was"
    values = {"series": enumerate_unique(methods), "were": were}
    sentences = [
        Sentence(Statement.ZERO_FILLED, values),
        *write_self_test(evidence.self_test, methods),
    ]
    return " ".join(sentence.text for sentence in sentences)


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
