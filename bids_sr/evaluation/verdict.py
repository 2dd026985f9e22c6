"""Verdict of a run: better than, the same as, or worse than what, in which metric, and how sure.

*Image quality* says that single images look more like those of a finer acquisition; a network must
beat ``inject``, which plainly carries static detail over. *Function* says that the map of activity
shows true BOLD detail (of neurons or of the veins that drain them); it may be claimed only against
a reference, by a method that explains variance of it, and more than every baseline, denoising
control and the plain arithmetic there is (`zerofill`, `sdmod`), each by an interval above 0. What
a placebo reaches as well is not attributable to this participant's own data. A method that fell
back to zero filling was not applied: it is named first and not compared. Without a reference the
verdict has the test of the run one level of resolution down in its place.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

from bids_sr.evaluation import advice as evaluation_advice
from bids_sr.evaluation import motion_text, words
from bids_sr.evaluation import verdict_text as text
from bids_sr.evaluation.evidence import (
    APPLIED,
    MAPS,
    WORTH,
    Claim,
    Comparison,
    Decision,
    Evidence,
    Status,
    accuracy,
    derives_from,
    strongest,
)
from bids_sr.evaluation.negative_controls import placebos_of
from bids_sr.evaluation.qc_flags import raised_flags
from bids_sr.evaluation.self_test import OneLevelDown, one_level_down
from bids_sr.evaluation.words import Sentence
from bids_sr.frozen import frozen
from bids_sr.metrics.rows import MetricRow, VerdictFacts
from bids_sr.series import CONTROLS, IMAGE_REFERENCES, PLAIN


@frozen
class Verdict:
    """Verdict of a run.

    `lines`: one line per method, with its status. `best`: the applied method that explains most of
    the reference, or has the highest self-test score; "" if none was applied. `not_applied`:
    methods whose series are zero filled; they are reported first and compared with nothing.
    `motion`: sentence on large head motion; "" if it is not large. `not_applied_text`: which
    methods were not applied, and their self-test; "" if all were applied.
    """

    lines: tuple[text.VerdictLine, ...]
    status: Status
    best: str
    not_applied: tuple[str, ...]
    claims: tuple[Claim, ...]
    sentences: tuple[Sentence, ...]
    limits: tuple[str, ...]
    motion: str
    not_applied_text: str
    rows: tuple[MetricRow, ...]

    @property
    def headline(self) -> str:
        """All lines as one text."""
        return " ".join(each.text for each in self.lines)

    def to_json(self) -> VerdictFacts:
        """Return headline, status, sentences and limits as plain values, None for undefined."""
        told = VerdictFacts(
            headline=self.headline,
            lines=[{"text": each.text, "status": each.status} for each in self.lines],
            status=self.status,
            best=self.best,
            not_applied=list(self.not_applied),
        )
        if self.motion:
            told["motion_text"] = self.motion
        if self.not_applied:
            told["not_applied_text"] = self.not_applied_text
        told["sentences"] = [_plain(each) for each in self.sentences]
        told["limits"] = list(self.limits)
        return told


def _plain(sentence: Sentence) -> dict[str, object]:
    """A sentence with the row that it is on."""
    if sentence.row is None:
        return {"text": sentence.text, "series": sentence.series}
    row = {name: None if value != value else value for name, value in asdict(sentence.row).items()}
    return {"text": sentence.text, "decision": sentence.decision or "", **row}


def _together(comparisons: Iterable[Comparison]) -> Decision | None:
    """Combine comparisons: better where all are, worse where any is, None without any."""
    decisions = {each.decision for each in comparisons}
    if not decisions:
        return None
    return "better" if decisions == {"better"} else "worse" if "worse" in decisions else "unclear"


def _function(
    evidence: Evidence | None, method: str, references: Sequence[str], margins: Mapping[str, float]
) -> Claim:
    """Whether a method shows true detail.

    It is better than all in the main region, and worse than none in the active one.
    """
    if evidence is None:
        return Claim(kind="function", series=method, decision=None)
    comparisons = [
        evidence.compare(method, other, region, margins[region])
        for region in reversed(evidence.regions)
        for other in references
    ]
    level = evidence.row(method, evidence.brain)
    explains = evidence.reference is MAPS or (level is not None and level.lower > 0)
    decision = _together(comparisons[: len(references)]) or "unclear"
    if decision == "better" and not (
        explains and all(each.decision != "worse" for each in comparisons)
    ):
        decision = "unclear"
    return Claim(
        kind="function",
        series=method,
        decision=decision,
        comparisons=tuple(comparisons),
        evidence=evidence,
    )


def specific(evidence: Evidence | None, method: str) -> Claim:
    """Whether a method's gain is attributable to this participant's data.

    It is where the gain is above 0 for every placebo there is.

    `evidence`: agreement with the strongest reference; None for none. The claim is undecided where
    no placebo was compared.
    """
    comparisons: list[Comparison] = []
    if evidence is not None and evidence.reference is not MAPS:
        there = [
            name
            for name in placebos_of(method)
            if evidence.row(method, evidence.brain, name) is not None
        ]
        comparisons = [evidence.compare(method, name, evidence.brain) for name in there]
    return Claim(
        kind="specific",
        series=method,
        decision=_together(comparisons),
        comparisons=tuple(comparisons),
        evidence=evidence,
    )


def _image(rows: Sequence[MetricRow], method: str) -> Claim:
    """Return image quality against measured volumes, else on a second pair.

    It is not known where either reference is absent.
    """
    evidence = strongest("image", rows, [method])
    if evidence is None:
        return Claim(kind="image", series=method, decision=None)
    there = [name for name in IMAGE_REFERENCES if evidence.row(method, minus=name) is not None]
    comparisons = tuple(evidence.compare(method, name) for name in there)
    decision = _together(comparisons)
    lacking = decision == "better" and len(comparisons) < len(IMAGE_REFERENCES)
    return Claim(
        kind="image",
        series=method,
        decision=None if lacking else decision,
        comparisons=comparisons,
        evidence=evidence,
    )


def _best(
    evidence: Evidence | None,
    claims: Sequence[Claim],
    methods: Sequence[str],
    tested: OneLevelDown | None,
) -> str:
    """Return the method with the highest level in active voxels (else the first region).

    It is one of those for which the claim holds.

    Where it holds for none, of all; the last of those that are equal. Without a reference the one
    that explains most one level down, else the last, which is the default.
    """
    known = [each.series for each in claims if each.kind == "function" and each.holds] or list(
        methods
    )
    if evidence is None:
        return tested.best(known) if tested is not None else next(reversed(known), "")

    def level(method: str) -> float:
        value = evidence.value(method)
        return value if math.isfinite(value) else -math.inf

    return max(reversed(known), key=level, default="")


def _sentences(
    claims: Sequence[Claim],
    evidence: Evidence | None,
    methods: Sequence[str],
    tested: OneLevelDown | None,
    margins: Mapping[str, float],
) -> list[Sentence]:
    """Return the sentences on which a verdict rests.

    They are on levels, comparisons, the methods beside one another, and the test one level down.
    """
    out = []
    if evidence is not None:
        out = [
            Sentence(words.basis(evidence)),
            *words.levels(evidence, (*methods, "bspline", "measured")),
        ]
    for claim in claims:
        out += map(words.comparison, claim.comparisons)
        if claim.kind == "specific" and (said := words.specific_text(claim, in_full=True)):
            out.append(Sentence(said, series=claim.series))
    if evidence is not None:
        out += [
            words.comparison(evidence.compare(one, other, region, margins[region]))
            for region in evidence.regions
            for one, other in combinations([name for name in methods if name not in PLAIN], 2)
            if evidence.row(one, region, other) is not None
        ]
    return out + ([] if tested is None else words.tested(tested, methods))


def _rows(
    evidence: Evidence | None, claims: Sequence[Claim], margins: Mapping[str, float]
) -> list[MetricRow]:
    """Decisions and claims as rows of the evaluation."""
    out = []
    if evidence is not None:
        place: dict[str, Any] = {"contrast": evidence.contrast, "fwhm_mm": evidence.fwhm_mm}
        for claim in claims:
            for each in claim.comparisons if claim.kind == "function" else ():
                cells: dict[str, Any] = {"minus": each.row.minus, "region": each.row.region}
                value = WORTH[each.decision]
                out.append(
                    MetricRow(
                        series=claim.series, statistic="verdict", value=value, **cells, **place
                    )
                )
        for region, margin in margins.items():
            out.append(
                MetricRow(
                    series="run", statistic="verdict_margin", value=margin, region=region, **place
                )
            )
    for claim in claims:
        value = math.nan if claim.holds is None else float(claim.holds)
        out.append(MetricRow(series=claim.series, statistic=f"verdict_{claim.kind}", value=value))
    return out


def make_verdict(
    rows: Sequence[MetricRow],
    *,
    methods: Sequence[str],
    baselines: Sequence[str],
    margin: float | None = None,
    not_applied: Sequence[str] = (),
    advice: evaluation_advice.Advice = evaluation_advice.PROGRAM,
    displacement: Sequence[float] = (),
    one_level: Mapping[str, object] | None = None,
) -> Verdict:
    """Say what the evaluation of a run allows to say.

    The main region is the brain, or where the reference has no reproducible detail there, active
    voxels, and the headline says so; in the active region a method may be unclear, but not worse,
    to claim function.

    `methods, baselines`: under evaluation; all baselines and controls must be beaten before
    function may be claimed. `not_applied`: methods that fell back to zero filling; they, their
    placebos and their members are left out. `advice`: how the reader gets what the limits name as
    missing. `displacement`: (V,) framewise displacement of each volume (mm); NaN where it is not
    known. `one_level`: facts of the test one level down, as
    `bids_sr.evaluation.self_test.one_level_down` takes them. `margin`: differences within ± this
    count as none, in the unit of the evidence; None: a tenth of the gap between bspline and
    measured.
    """
    idle = [method for method in methods if method in not_applied]
    below = one_level_down(rows, one_level)
    why = [] if below is None else [sentence.text for sentence in words.tested(below, idle)]
    methods = [method for method in methods if method not in idle]
    rows = [
        row
        for row in rows
        if not (derives_from(row.series, idle) or derives_from(row.minus, idle))
    ]
    detail, evidence = strongest("function", rows, methods), accuracy(rows, methods)
    tested, margins = one_level_down(rows, one_level), {}
    references = list(baselines)
    if evidence is not None:
        margins = {
            name: evidence.margin(name) if margin is None else margin for name in evidence.regions
        }
        there = evidence.series()
        references = list(
            dict.fromkeys([*baselines, *(name for name in (*PLAIN, *CONTROLS) if name in there)])
        )
    claims = []
    for method in methods:
        claims.append(
            _function(evidence, method, [name for name in references if name != method], margins)
        )
        claims += [specific(evidence, method), _image(rows, method)]
    status: Status = "not applied" if idle and not methods else "not assessed"
    if methods and evidence is not None:
        status = "not more accurate"
        if any(each.holds for each in claims if each.kind == "function"):
            status = "more accurate"
    lines = [
        text.VerdictLine(
            text=text.NOTHING_APPLIED if idle else text.NOTHING_COMPARED, status=status
        )
    ]
    if methods:
        lines = text.verdict_lines(claims, detail, tested)
    least = margins[evidence.brain] if evidence is not None else math.nan
    raised = [name for name, up in raised_flags(rows).items() if up]
    return Verdict(
        lines=tuple(lines),
        status=status,
        best=_best(evidence, claims, methods, tested),
        not_applied=tuple(idle),
        claims=tuple(claims),
        sentences=tuple(_sentences(claims, evidence, methods, tested, margins)),
        limits=tuple(text.limits(claims, detail, least, raised, advice, tested)),
        motion=motion_text.motion_text(displacement),
        not_applied_text=" ".join(filter(None, [words.idle_text(idle), *why])),
        rows=(
            *_rows(evidence, claims, margins),
            *(MetricRow(series=name, statistic=APPLIED, value=1.0) for name in methods),
            *(MetricRow(series=name, statistic=APPLIED, value=0.0) for name in idle),
        ),
    )
