"""Verdict on series of other programs.

Is each more accurate than the acquired series, in which band, and by how much?

A series is held against the acquired one (`zerofill`, whose band is that of the acquisition,
untouched) and against the acquired one smoothed to the same resolution (`NORDICSame`), by the
variance of a reference that they explain, in the voxels in which it has signal. *Within* the
acquired Nyquist limit it must explain some and exceed both to be more accurate: smoothing, and
noise removal that smoothing does as well, are no gain. *Beyond* the limit, where the acquisition
saw nothing, its detail must explain variance of the reference; detail that explains less than none
is invented. A series on the acquired grid has no detail there, and none is looked for. Where noise
exceeds the effect, any smaller copy of a series explains more: within the limit a gain counts only
where the correlation rises, too.

References, the best first: known activation; for detail beyond the limit a series measured at the
high resolution; for the band within it another acquired run of the task. A measured series of the
same scan holds, within the acquired band, the noise of the acquired series, and a program that has
seen the whole run carries noise of one half of the blocks into the other: there a gain is said and
not counted, while a loss, which this cannot explain, is. Halves of a series against one another
are never counted, for the same reason.
"""

import math
from collections.abc import Mapping, Sequence

from bids_sr.evaluation import advice as evaluation_advice
from bids_sr.evaluation import compared_text
from bids_sr.evaluation.evidence import (
    HALVES,
    WORTH,
    Claim,
    Comparison,
    Decision,
    Evidence,
    Kind,
    Status,
    Why,
    below_zero,
    strongest,
)
from bids_sr.frozen import frozen
from bids_sr.metrics.rows import MetricRow
from bids_sr.series import ACQUIRED_BAND, same_name

_MARGIN = 0.02
"""Differences of explained variance below it count as none."""
ON_ACQUIRED = "acquired"
"""What the facts of a series say of its grid where that is the acquired one."""
COMPARED = "compared_fwhm"
"""The statistic that every compared series of a run has in its table."""
_KINDS: tuple[Kind, ...] = ("within", "beyond")


@frozen
class _ComparedVerdict:
    """What can be said of one series.

    `text`: the same with bands and numbers, and what to scan where something is not assessed.
    `claims`: what was decided within and beyond the acquired Nyquist limit. `fwhm_mm`: smoothing
    of the control at the same resolution; NaN: there is none.
    """

    name: str
    status: Status
    headline: str
    text: str
    claims: tuple[Claim, ...]
    fwhm_mm: float
    facts: Mapping[str, object]

    def to_json(self) -> dict[str, object]:
        """Return it as plain values; no width of a control that is not there."""
        by_kind = {each.kind: each for each in self.claims if each.evidence is not None}
        return {
            "name": self.name,
            "status": self.status,
            "headline": self.headline,
            "text": self.text,
            "decisions": {kind: each.decision for kind, each in by_kind.items()},
            "references": {
                kind: each.evidence.reference.words
                for kind, each in by_kind.items()
                if each.evidence
            },
            "same_resolution_fwhm_mm": self.fwhm_mm if math.isfinite(self.fwhm_mm) else None,
            "frame": dict(self.facts),
        }

    @property
    def rows(self) -> list[MetricRow]:
        """For the table of the evaluation."""
        return [
            MetricRow(series=self.name, statistic=COMPARED, value=self.fwhm_mm),
            *(
                MetricRow(
                    series=self.name,
                    statistic="compared",
                    band=each.kind,
                    minus=ACQUIRED_BAND,
                    region=each.region,
                    contrast=each.evidence.contrast,
                    value=WORTH[each.decision],
                )
                for each in self.claims
                if each.evidence is not None and each.decision is not None
            ),
        ]


def compared_verdict(
    name: str,
    rows: Sequence[MetricRow],
    *,
    fwhm_mm: float,
    facts: Mapping[str, object],
    advice: evaluation_advice.Advice,
    margin: float | None = None,
) -> _ComparedVerdict:
    """Say whether a series is more accurate than the acquired one.

    `facts`: how it lies on the run, as `bids_sr.registration.compared_frame.Alignment.facts` tells
    it. `margin`: differences of explained variance below it count as none; None: `_MARGIN`.
    """
    finer = facts.get("grid") != ON_ACQUIRED
    claims = [
        _claim(kind, name, rows, _MARGIN if margin is None else margin, finer=finer)
        for kind in _KINDS
    ]
    decided = [each for each in claims if each.decision is not None]
    status = _status(claims)
    parts = [compared_text.compared_headline(name, status)]
    parts += [
        compared_text.compared_band(each, fwhm_mm, counts=_counts(each), finer=finer)
        for each in decided
    ]
    parts += [
        compared_text.compared_lacking(each.kind, advice, finer=finer)
        for each in claims
        if each not in decided
    ]
    if any(each.kind == "within" and each.holds and not _counts(each) for each in decided):
        parts.append(f"To assess the accuracy in this band, {advice.other_run}.")
    return _ComparedVerdict(
        name=name,
        status=status,
        headline=parts[0],
        text=" ".join([*parts, *compared_text.compared_place(facts)]),
        claims=tuple(claims),
        fwhm_mm=fwhm_mm,
        facts=facts,
    )


def _claim(
    kind: Kind, name: str, rows: Sequence[MetricRow], margin: float, *, finer: bool
) -> Claim:
    """Return what the strongest reference says of a band, by active voxels first.

    The whole brain may not say the contrary.
    """
    evidence = strongest(kind, rows, [name])
    known = {} if evidence is None else evidence.known(name)
    if evidence is None or not known:
        return Claim(kind=kind, series=name, decision=None)
    by_region: dict[str, tuple[Decision, Why]] = {
        region: _within(evidence, level, margin)
        if kind == "within"
        else _beyond(evidence, level, margin, finer=finer)
        for region, level in known.items()
    }
    contrary = {"better", "worse"} <= {decision for decision, _ in by_region.values()}
    sure = [
        region for region, (decision, why) in by_region.items() if decision in ("better", "worse")
    ]
    explained = [region for region, (_, why) in by_region.items() if why]
    region = next(iter([*([] if contrary else [*sure, *explained]), *by_region]))
    decided: tuple[Decision, Why] = ("unclear", "contrary") if contrary else by_region[region]
    places = [(ACQUIRED_BAND, region), *[(same_name(name), region)] * (kind == "within")]
    places += [(ACQUIRED_BAND, evidence.brain)] * contrary
    return Claim(
        kind=kind,
        series=name,
        decision=decided[0],
        evidence=evidence,
        region=region,
        why=decided[1],
        comparisons=tuple(
            evidence.compare(name, other, where, margin)
            for other, where in places
            if evidence.row(name, where, other) is not None
        ),
    )


def _counts(claim: Claim) -> bool:
    """Whether a gain over the acquired series counts.

    It does not against a measured series of the same scan, which shares its noise.
    """
    return claim.evidence is None or (claim.kind, claim.evidence.reference) != ("within", HALVES)


def _sure(comparison: Comparison, margin: float) -> Decision:
    """What a difference says; one that is sure and smaller than the margin is none."""
    small = comparison.decision in ("better", "worse") and abs(comparison.row.value) < margin
    return "same" if small else comparison.decision


def _within(evidence: Evidence, level: MetricRow, margin: float) -> tuple[Decision, Why]:
    """Whether a series is more accurate in the acquired band, and what rules out its gain."""
    name, region = level.series, level.region
    over = _sure(evidence.compare(name, ACQUIRED_BAND, region, margin), margin)
    if over != "better":
        return over, ""
    likeness = evidence.row(name, region, ACQUIRED_BAND, "r")
    if likeness is not None and not likeness.lower > 0:
        return "same", "size"
    if evidence.row(name, region, same_name(name)) is None:
        return "unclear", "no control"
    if _sure(evidence.compare(name, same_name(name), region, margin), margin) != "better":
        return "same", "smoothed"
    return ("better", "") if level.lower > 0 else ("same", "nothing")


def _beyond(
    evidence: Evidence, level: MetricRow, margin: float, *, finer: bool
) -> tuple[Decision, Why]:
    """Whether a series has true detail beyond the acquired band.

    Less noise than the acquired series leaks is no such detail.
    """
    over = _sure(evidence.compare(level.series, ACQUIRED_BAND, level.region, margin), margin)
    if not finer or (over == "worse" and abs(level.value) < margin):
        return "same", "no detail"
    if over == "worse":
        return ("worse" if below_zero(level) else "unclear"), ""
    return ("better" if level.lower > 0 else "same", "") if over == "better" else (over, "")


def _status(claims: Sequence[Claim]) -> Status:
    """What the bands say together."""
    decided = [each for each in claims if each.decision is not None]
    counted = {"same" if each.holds and not _counts(each) else each.decision for each in decided}
    judged = any(_counts(each) or each.why == "smoothed" for each in decided)
    lacking = any(each.why == "no control" for each in decided)
    if (
        not decided
        or (counted == {"same"} and not judged)
        or (lacking and not counted & {"better", "worse"})
    ):
        return "not assessed"
    if {"better", "worse"} <= counted:
        return "mixed"
    return (
        "more accurate"
        if "better" in counted
        else "less accurate"
        if "worse" in counted
        else "not more accurate"
    )
