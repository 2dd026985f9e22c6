"""Verdict on series of other programs relative to the acquired series.

A series is compared with the acquired series (`zerofill`, whose band is unchanged) and with the
acquired series smoothed to the same resolution (for example `NORDICSame`). The measure is
explained variance of a reference in voxels with signal in this series.

Within the acquired band, a series is more accurate if its explained variance is above 0 and
exceeds the explained variance of both comparators. Smoothing, and denoising that is not better
than smoothing, is therefore not a gain. If noise exceeds the effect, any scaled-down copy of a
series explains more variance; a gain within the band counts only if the correlation also
increases.

Beyond the acquired Nyquist frequency, where the acquired series has no information, detail must
explain variance of the reference; detail with negative explained variance is false. A series on
the acquired grid has no such detail, and this band is not assessed.

References, the strongest first, are known activation; for detail beyond the Nyquist frequency, a
series measured at the high resolution; and for the acquired band, another acquired run of the
task. Within the acquired band, a measured series of the same scan contains the noise of the
acquired series, and a program that processes the whole run transfers noise between halves of the
blocks. A gain over this reference is reported but not counted. A loss is counted because shared
noise cannot explain a loss. For the same reason, agreement between halves of the same series is
never counted.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from bids_sr.engine.metric_rows import MetricRow
from bids_sr.engine.number_text import points
from bids_sr.evaluation.acquired_activation import find_lost_activation, write_lost_activation
from bids_sr.evaluation.evidence import (
    HALVES,
    WORTH,
    AccuracyKind,
    Comparison,
    Decision,
    Evidence,
    VerdictStatus,
    find_strongest,
    is_below_zero,
)
from bids_sr.evaluation.sentences import Sentence
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.words import BANDS, DECISIONS, capitalize, region_text, value_text
from bids_sr.io.frozen import frozen
from bids_sr.io.series import ACQUIRED_BAND, same_name

_MARGIN = 0.02  # smallest difference of explained variance that counts as a difference
ON_ACQUIRED = "acquired"
"""Value of ``grid`` in the facts of a series on the acquired grid."""
AS_ACQUIRED = "as acquired"
"""Value of ``frame`` in the facts of a series that was not corrected for head motion."""
COMPARED = "compared_fwhm"
"""Statistic of the table row that every compared series has."""
_HEADLINES: Mapping[VerdictStatus, Statement] = {
    "more accurate": Statement.COMPARED_BETTER,
    "not more accurate": Statement.COMPARED_NOT_BETTER,
    "less accurate": Statement.COMPARED_WORSE,
    "mixed": Statement.COMPARED_MIXED,
    "not assessed": Statement.COMPARED_NOT_ASSESSED,
}
_BEYOND_FINDINGS: Mapping[Decision, Statement] = {
    "better": Statement.TRUE_DETAIL,
    "worse": Statement.WRONG_ADDED_DETAIL,
    "same": Statement.NO_TRUE_ADDED_DETAIL,
    "unclear": Statement.NO_DETECTED_DETAIL,
}
_REQUIREMENTS: Mapping[AccuracyKind, Statement] = {
    "within": Statement.WITHIN_REQUIRES,
    "beyond": Statement.BEYOND_REQUIRES,
}


@frozen
class _BandClaim:
    """Decision on a series in one frequency band, from the strongest reference.

    `kind` is "within" or "beyond". `why` is the reason why a difference does not count, or None.
    `row` is the explained variance of the series in the deciding region, and `comparisons` are the
    differences that the decision is based on.
    """

    kind: AccuracyKind
    decision: Decision
    why: Statement | None
    evidence: Evidence
    row: MetricRow
    comparisons: tuple[Comparison, ...]

    @property
    def is_counted(self) -> bool:
        """Whether a gain over the acquired series counts.

        A gain over a measured series of the same scan does not count because both share noise.
        """
        return (self.kind, self.evidence.reference) != ("within", HALVES)

    @property
    def is_uncounted_gain(self) -> bool:
        """Whether the series is better, but the gain does not count."""
        return self.decision == "better" and not self.is_counted


@frozen
class _ComparedVerdict:
    """Verdict on one series of another program.

    `status` is the verdict in a few words. `headline` is the verdict in words, and whether the
    activation of the acquired run is lost. `sentences` are the headline, results by band, the data
    that missing assessments require, and position. `claims` are the decisions on the bands that
    have a reference. `fwhm_mm` is the smoothing of the control at the same resolution; NaN if
    there is no control. `facts` describe the alignment of the series with the run.
    """

    name: str
    status: VerdictStatus
    headline: str
    sentences: tuple[Sentence, ...]
    claims: tuple[_BandClaim, ...]
    fwhm_mm: float
    facts: Mapping[str, object]

    @property
    def text(self) -> str:
        """All sentences."""
        return _join(self.sentences)

    def to_json(self) -> dict[str, object]:
        """Return the verdict as plain values; the width is None if there is no control."""
        return {
            "name": self.name,
            "status": self.status,
            "headline": self.headline,
            "text": self.text,
            "decisions": {claim.kind: claim.decision for claim in self.claims},
            "references": {claim.kind: claim.evidence.reference.words for claim in self.claims},
            "same_resolution_fwhm_mm": self.fwhm_mm if math.isfinite(self.fwhm_mm) else None,
            "frame": dict(self.facts),
        }

    @property
    def rows(self) -> list[MetricRow]:
        """Rows of this verdict for the table of the evaluation."""
        return [
            MetricRow(series=self.name, statistic=COMPARED, value=self.fwhm_mm),
            *(
                MetricRow(
                    series=self.name,
                    statistic="compared",
                    band=claim.kind,
                    minus=ACQUIRED_BAND,
                    region=claim.row.region,
                    contrast=claim.evidence.contrast,
                    value=WORTH[claim.decision],
                )
                for claim in self.claims
            ),
        ]


def _join(sentences: Iterable[Sentence]) -> str:
    """Return sentences as text."""
    return " ".join(sentence.text for sentence in sentences)


def decide_compared_verdict(
    name: str,
    rows: Sequence[MetricRow],
    *,
    fwhm_mm: float,
    facts: Mapping[str, object],
    margin: float | None = None,
) -> _ComparedVerdict:
    """Decide whether a series is more accurate than the acquired series.

    `fwhm_mm` is the smoothing of the control at the same resolution (FWHM, mm); NaN if there is no
    control. `facts` describe the alignment with the run, see
    `bids_sr.preproc.series_alignment.Alignment.facts`. `margin` is the smallest difference of
    explained variance that counts; None for `_MARGIN`.
    """
    finer = facts.get("grid") != ON_ACQUIRED
    least = _MARGIN if margin is None else margin
    claims = {
        kind: claim
        for kind in _REQUIREMENTS
        if (claim := _make_claim(kind, name, rows, least, finer=finer))
    }
    status = _decide_status(claims.values())
    headline_sentences = [
        Sentence(_HEADLINES[status], {"series": name}, series=name),
        *(
            write_lost_activation(name, lost)
            for lost in find_lost_activation(rows, [name]).values()
        ),
    ]
    return _ComparedVerdict(
        name=name,
        status=status,
        headline=_join(headline_sentences),
        sentences=(
            *headline_sentences,
            *_describe_bands(name, claims, fwhm_mm, finer=finer),
            *_describe_position(facts),
        ),
        claims=tuple(claims.values()),
        fwhm_mm=fwhm_mm,
        facts=facts,
    )


class _BandDecision(NamedTuple):
    """Decision on a band in one region, and its reason; None if it needs no reason."""

    decision: Decision
    reason: Statement | None = None


def _make_claim(
    kind: AccuracyKind, name: str, rows: Sequence[MetricRow], margin: float, *, finer: bool
) -> _BandClaim | None:
    """Return the decision on a band from the strongest reference, None if there is none.

    Active voxels decide first, but the decision is "unclear" if the whole brain contradicts them.
    """
    evidence = find_strongest(kind, rows, [name])
    if evidence is None or not (region_rows := evidence.select_finite_rows(name)):
        return None
    decisions = {
        region: _decide_within(evidence, row, margin)
        if kind == "within"
        else _decide_beyond(evidence, row, margin, finer=finer)
        for region, row in region_rows.items()
    }
    region = _select_region(decisions)
    band_decision = decisions[region]
    comparisons = [(ACQUIRED_BAND, region)]
    if kind == "within":
        comparisons.append((same_name(name), region))
    if {"better", "worse"} <= {decision for decision, _ in decisions.values()}:
        band_decision = _BandDecision("unclear", Statement.CONTRARY)
        comparisons.append((ACQUIRED_BAND, evidence.brain))
    return _BandClaim(
        kind=kind,
        decision=band_decision.decision,
        why=band_decision.reason,
        evidence=evidence,
        row=region_rows[region],
        comparisons=tuple(
            evidence.compare(name, other_series, compared_region, margin)
            for other_series, compared_region in comparisons
            if evidence.row(name, compared_region, other_series) is not None
        ),
    )


def _decide_within(evidence: Evidence, row: MetricRow, margin: float) -> _BandDecision:
    """Decide whether a series is more accurate in the acquired band; if not, add the reason.

    `row` is the explained variance of the series in a region.
    """
    difference = _decide_difference(evidence, row, ACQUIRED_BAND, margin)
    if difference != "better":
        return _BandDecision(difference)
    correlation_gain = evidence.row(row.series, row.region, ACQUIRED_BAND, "r")
    if correlation_gain is not None and not correlation_gain.lower > 0:
        return _BandDecision("same", Statement.ONLY_SIZE)
    control = same_name(row.series)
    if evidence.row(row.series, row.region, control) is None:
        return _BandDecision("unclear", Statement.NO_SMOOTHNESS)
    if _decide_difference(evidence, row, control, margin) != "better":
        return _BandDecision("same", Statement.LIKE_SMOOTHING)
    if not row.lower > 0:
        return _BandDecision("same", Statement.NOTHING_EXPLAINED)
    return _BandDecision("better")


def _decide_beyond(
    evidence: Evidence, row: MetricRow, margin: float, *, finer: bool
) -> _BandDecision:
    """Decide whether a series has true detail above the acquired band; if not, add the reason.

    `row` is the explained variance of the series in a region. A series that contains less noise
    beyond the band than the acquired series leaks does not have true detail.
    """
    difference = _decide_difference(evidence, row, ACQUIRED_BAND, margin)
    if not finer or (difference == "worse" and abs(row.value) < margin):
        return _BandDecision("same", Statement.NO_ADDED_DETAIL)
    if difference == "worse" and not is_below_zero(row):
        return _BandDecision("unclear")
    if difference == "better" and not row.lower > 0:
        return _BandDecision("same")
    return _BandDecision(difference)


def _decide_difference(
    evidence: Evidence, row: MetricRow, other_series: str, margin: float
) -> Decision:
    """Return the decision on a difference; a detectable difference below the margin is "same".

    `row` is the explained variance of the series in a region.
    """
    comparison = evidence.compare(row.series, other_series, row.region, margin)
    is_small = comparison.decision in ("better", "worse") and abs(comparison.row.value) < margin
    return "same" if is_small else comparison.decision


def _select_region(decisions: Mapping[str, _BandDecision]) -> str:
    """Return the first region with a difference, else with a reason, else the first region."""
    return min(
        decisions,
        key=lambda region: (
            decisions[region].decision not in ("better", "worse"),
            decisions[region].reason is None,
        ),
    )


def _decide_status(claims: Collection[_BandClaim]) -> VerdictStatus:
    """Combine the decisions on both bands into a status."""
    decisions = {"same" if claim.is_uncounted_gain else claim.decision for claim in claims}
    is_assessed = any(
        claim.is_counted or claim.why is Statement.LIKE_SMOOTHING for claim in claims
    )
    lacks_control = any(claim.why is Statement.NO_SMOOTHNESS for claim in claims)
    if (decisions <= {"same"} and not is_assessed) or (
        lacks_control and not decisions & {"better", "worse"}
    ):
        return "not assessed"
    if {"better", "worse"} <= decisions:
        return "mixed"
    if "better" in decisions:
        return "more accurate"
    return "less accurate" if "worse" in decisions else "not more accurate"


def _describe_bands(
    name: str, claims: Mapping[AccuracyKind, _BandClaim], fwhm_mm: float, *, finer: bool
) -> list[Sentence]:
    """Return a sentence per frequency band, and the data that missing assessments require.

    `finer` is False if the series is on the acquired grid.
    """
    sentences = []
    requirements = []
    for kind, requirement in _REQUIREMENTS.items():
        claim = claims.get(kind)
        if kind == "beyond" and not finer:
            sentences.append(Sentence(Statement.ON_ACQUIRED_GRID, series=name))
            continue
        if claim is not None:
            sentences.append(_describe_band(claim, fwhm_mm))
        if claim is None or claim.is_uncounted_gain:
            requirements.append(Sentence(requirement, series=name))
    return sentences + requirements


def _describe_band(claim: _BandClaim, fwhm_mm: float) -> Sentence:
    """Describe the accuracy of another program's series in one frequency band, with values.

    `fwhm_mm` is the smoothing of the control at the same resolution (FWHM, mm).
    """
    row, decision = claim.row, claim.decision
    region_phrase = "the brain" if row.region == "brain" else region_text(row.region)
    state = claim.why or (
        _BEYOND_FINDINGS[decision] if claim.kind == "beyond" else Statement.WITHIN
    )
    stated_decision = decision
    if state is Statement.CONTRARY:
        stated_decision = "better" if claim.comparisons[0].row.value > 0 else "worse"
    finding = state.format(decision=DECISIONS[stated_decision].verb_phrase, region=region_phrase)
    if decision == "better" and claim.kind == "within" and fwhm_mm > 0:
        finding = f"{finding}, also at the same resolution"
    if claim.is_uncounted_gain:
        finding = Statement.NOT_COUNTED.format(finding=finding)
    explained_text = f"explained variance {value_text(row, '.0%')} in {region_phrase}"
    return Sentence(
        Statement.BAND,
        {
            "band": capitalize(BANDS[claim.kind]),
            "finding": finding,
            "values": ", ".join([explained_text, *_difference_texts(claim, fwhm_mm)]),
            "reference": claim.evidence.reference.words,
        },
        series=row.series,
    )


def _difference_texts(claim: _BandClaim, fwhm_mm: float) -> Iterator[str]:
    """Yield the differences from the acquired series and from the smoothed acquired series.

    `fwhm_mm` is the smoothing of the control at the same resolution; the control is omitted if it
    is not smoothed.
    """
    for comparison in claim.comparisons:
        row = comparison.row
        difference = points(row.value, row.lower, row.upper)
        if row.minus != same_name(row.series):
            place = "" if row.region == claim.row.region else " in the brain"
            yield f"{difference} over the acquired series{place}"
        elif fwhm_mm > 0:
            yield (
                f"{difference} over the acquired series smoothed to about its resolution"
                f" ({fwhm_mm:.1f} mm)"
            )


def _describe_position(facts: Mapping[str, object]) -> list[Sentence]:
    """Return sentences on the position and coverage of another program's series."""
    sentences = []
    if facts.get("shift") and facts.get("frame") == AS_ACQUIRED:
        sentences.append(Sentence(Statement.SHIFTED, {"shift": str(facts["shift"])}))
    if excluded := int(str(facts.get("left_out", 0))):
        total = int(str(facts["brain_voxels"]))
        values = {
            "excluded": f"{excluded:,}",
            "total": f"{total:,}",
            "share": f"{100 * excluded / total:.2g}",
        }
        sentences.append(Sentence(Statement.EXCLUDED, values))
    return sentences
