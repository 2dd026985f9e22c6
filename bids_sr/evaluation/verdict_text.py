"""What may be claimed of the series of a run, and what not.

These are headlines, limits, and verdicts on series of other programs.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from bids_sr.evaluation.evidence import (
    CALIBRATED,
    KNOWN,
    MOST_THERMAL_NOISE,
    NOT_ACCURACY,
    Claim,
    Decision,
    Evidence,
    Kind,
    OneLevelDown,
    Status,
    Why,
    below_zero,
)
from bids_sr.evaluation.words import (
    TOO_LITTLE,
    capital,
    names,
    region_text,
    specific_text,
    value_text,
)
from bids_sr.frozen import frozen
from bids_sr.glm.activation_regions import NO_ERROR
from bids_sr.metrics import FLAGS, MISSING, MetricRow, VerdictFacts
from bids_sr.series import CONTROLS, same_name

NOTHING_APPLIED = (
    "No method was applied, so no detail was added: use the acquired or the B-spline maps."
)
NOTHING_COMPARED = "No super-resolution method was run; the series are interpolations."
_NO_DETAIL = (
    "Accuracy could not be measured: the high-resolution reference shows no reproducible detail"
    " beyond the acquired resolution."
)


@frozen
class Advice:
    """How readers of the limits get what is missing.

    The words differ between the command line and Python.

    `other_run`: another acquired run of the task, and a reference beyond the acquired band, for
    series of other programs. `fine_run`: how to get a reference beyond the acquired band for other
    programs.
    """

    reference: str
    images: str
    controls: str
    other_run: str
    fine_run: str


PROGRAM = Advice(
    reference=(
        "provide one with --truth DIR, or let --retrospective make one by downsampling the data"
    ),
    images="measured volumes (--truth, --retrospective) or a second pair (--pair-holdout)",
    controls="run them with --null-checks",
    other_run="scan the task twice and keep both runs, with their events, in the data set",
    fine_run=(
        "measure the run at the high resolution, downsample it for the program, and give it with"
        " --truth DIR"
    ),
)
COMMAND = replace(
    PROGRAM,
    other_run="scan the task twice and give the second run with --other-run and --other-events",
    fine_run=(
        "measure the run at the high resolution, downsample it for the program, and give it with"
        " --truth FILE"
    ),
)
_PYTHON = Advice(
    reference=(
        "pass one as truth to Evaluator.fit, a measured series or known activation by contrast"
    ),
    images="a measured series as truth",
    controls="the bids-sr program runs them",
    other_run="scan the task twice and pass the second run as other_run",
    fine_run=(
        "measure the run at the high resolution, downsample it for the program, and pass it as"
        " truth"
    ),
)
Audience = Literal["program", "command", "python"]
ADVICE: Mapping[Audience, Advice] = {"program": PROGRAM, "command": COMMAND, "python": _PYTHON}
"""Advice for readers of ``bids-sr``, ``bids-sr-evaluate`` and `bids_sr.Evaluator`."""


def headline(
    claims: Sequence[Claim], evidence: Evidence | None, one_level: OneLevelDown | None
) -> str:
    """What may be claimed for the methods of a run.

    `evidence`: agreement with the strongest reference; None for none. `one_level`: what was tested
    one level down; None for nothing.
    """
    on_function = [each for each in claims if each.kind == "function"]
    if evidence is None or evidence.no_detail:
        methods = [each.series for each in on_function]
        said = _unmeasured(methods, one_level or OneLevelDown(), no_detail=evidence is not None)
    else:
        won = _series(claims, "function", holds=True)
        said = _compared(on_function, evidence)
        said += [
            specific_text(each)
            for each in claims
            if each.kind == "specific" and each.series in won
        ]
    if good := _series(claims, "image", holds=True):
        said.append(
            f"Single images of {names(good)} are more accurate than those of bspline and inject."
        )
    return " ".join(filter(None, said))


def _series(claims: Sequence[Claim], kind: Kind, *, holds: bool | None) -> list[str]:
    """Of which series a claim of a kind holds, does not, or cannot be said."""
    return [each.series for each in claims if each.kind == kind and each.holds is holds]


def _compared(claims: Sequence[Claim], evidence: Evidence) -> list[str]:
    """What a reference allows to say: who recovers real detail, and who does not."""
    place = "" if evidence.brain in ("brain", MISSING) else f" in {region_text(evidence.brain)}"
    won, lost = (_series(claims, "function", holds=holds) for holds in (True, False))
    others = {each.row.minus for claim in claims for each in claim.comparisons}
    rivals = ["interpolation", *["denoising"] * bool(others & set(CONTROLS))]
    detail = f"detail finer than your scan{place}"
    if won:
        verb = "recovers" if len(won) == 1 else "recover"
        said = [f"{names(won)} {verb} real {detail}, more accurately than {names(rivals, 'or')}."]
        return said + (
            [f"{names(lost)} {'does' if len(lost) == 1 else 'do'} not."] if lost else []
        )
    reach = (
        (
            f"{each.series} does not exceed {', '.join(each.unbeaten)}"
            if each.unbeaten
            else f"{each.series} is not shown to explain any variance"
        )
        for each in claims
    )
    return [
        f"No method recovers {detail} more accurately than {names(rivals, 'or')}:"
        f" {'; '.join(reach)}."
    ]


def _unmeasured(methods: Sequence[str], one_level: OneLevelDown, *, no_detail: bool) -> list[str]:
    """What to do with maps whose accuracy is not known."""
    harm = [
        name for name in methods if name in one_level.tested and below_zero(one_level.tested[name])
    ]
    rest = [name for name in methods if name not in harm]
    said = [_NO_DETAIL] if no_detail else []
    if rest:
        why = "" if no_detail else ": whether it is true was not measured in this run"
        finer = f"do not interpret detail finer than {one_level.acquired_text}"
        said.append(f"Treat the {names(rest)} maps as an interpolation and {finer}{why}.")
    if harm:
        are = "it is" if len(harm) == 1 else "they are"
        said.append(
            f"Do not use the {names(harm)} maps: {one_level.where_text}, {are} worse than zero"
            " filling."
        )
    return said


_NO_AGREEMENT = (
    "The two halves of the measured series do not agree detectably beyond the acquired resolution:"
    " at least one region has no reproducible detail to explain."
)
_BEYOND_ALONE = (
    "The headline is on detail finer than your scan; over all frequencies denoising may be"
    " more accurate."
)
_VEINS = "BOLD detail is not neuronal detail: it also reflects draining veins."


def limits(
    claims: Sequence[Claim],
    evidence: Evidence | None,
    margin: float,
    raised: Iterable[str],
    advice: Advice,
    one_level: OneLevelDown | None,
) -> list[str]:
    """What cannot be said of the methods of a run; `raised` are names of flags.

    `evidence`: agreement with the strongest reference; None for none. `one_level`: what was tested
    one level down; None for nothing.
    """
    accurate = evidence is not None and not evidence.no_detail
    out = []
    if one_level is not None and one_level.tested and (one_level.calibrated or not accurate):
        out.append(CALIBRATED if one_level.calibrated else NOT_ACCURACY)
    if one_level is not None and one_level.tested and one_level.thermal_noise > MOST_THERMAL_NOISE:
        out.append(
            f"Thermal noise is {one_level.thermal_noise:.1%} of the signal, more than in all runs"
            f" measured as acquired (at most {MOST_THERMAL_NOISE:.1%}): figures of other people"
            " are not of such runs, and the test one level down may let a harmful map pass."
        )
    if evidence is None and _series(claims, "function", holds=None):
        out.append(f"No high-resolution reference: {advice.reference}.")
    if evidence is not None:
        out += _limits_of(evidence, margin) if accurate else [_NO_AGREEMENT, _VEINS]
    if accurate and _series(claims, "function", holds=True):
        out.append(_BEYOND_ALONE)
    if accurate and "srgan" in _series(claims, "function", holds=False):
        out.append("srgan: its published recipe was never run to its end.")
    if _series(claims, "image", holds=None):
        both = "this needs both of them, and "
        out.append(
            "Image quality relative to bspline and inject was not assessed:"
            f" {both}{advice.images}."
        )
    if accurate and (lacking := _series(claims, "specific", holds=None)):
        unknown = "participant-specific benefit is unknown"
        out.append(
            f"No control analysis was run for {names(lacking)}; {unknown} ({advice.controls})."
        )
    out.append(f"Maps of interpolations and networks {NO_ERROR}.")
    up = [FLAGS[name].failed for name in raised]
    out += [f"Flags were raised: {', '.join(up)}."] if up else []
    return [
        *out,
        "One run of one participant: test at the group level whether the result holds for others.",
    ]


def _limits_of(evidence: Evidence, margin: float) -> list[str]:
    """What a reference cannot say."""
    out = (
        []
        if any(row.has_interval for row in evidence.rows.values() if row.minus != MISSING)
        else ["Differences without an interval are inconclusive."]
    )
    for region in evidence.regions:
        measured = evidence.row("measured", region)
        if measured is not None and not math.isfinite(measured.value):
            about = "This says nothing about the other series and is not an upper bound for them."
            out.append(
                f"{capital(region_text(region))}: no value for measured: {TOO_LITTLE}. {about}"
            )
    out.append(_VEINS)
    out += (
        ["Denoised B-spline was not compared with the known truth."]
        if evidence.reference is KNOWN
        else []
    )
    if not math.isfinite(margin):
        out.append(
            "No equivalence can be claimed: no margin was given, and no measured series sets one."
        )
    return out


_HEADS: Mapping[Status, str] = {
    "more accurate": "is more accurate than the acquired series",
    "not more accurate": "is not shown to be more accurate than the acquired series",
    "less accurate": "is less accurate than the acquired series",
    "mixed": (
        "is more accurate than the acquired series in one band and less accurate in the other"
    ),
}


def compared_headline(name: str, status: Status) -> str:
    """Whether a series of another program is more accurate than the acquired one."""
    return f"{name} {_HEADS[status]}." if status in _HEADS else f"{name}: not assessed."


_BAND: Mapping[Kind, str] = {
    "within": "within the acquired band",
    "beyond": "beyond the acquired band",
}
_FOUND: Mapping[tuple[Kind, Decision], str] = {
    ("within", "better"): "closer to the reference than the acquired series",
    ("within", "worse"): "farther from the reference than the acquired series",
    ("within", "same"): "as accurate as the acquired series",
    ("within", "unclear"): "no detectable difference from the acquired series",
    ("beyond", "better"): "it shows true detail that the acquired series lacks",
    ("beyond", "worse"): "the detail that it adds is not true",
    ("beyond", "same"): "it shows no true detail",
    ("beyond", "unclear"): "true detail is not shown for sure",
}
_WHY: Mapping[Why, str] = {
    "smoothed": "not more accurate than the acquired series smoothed to the same resolution",
    "size": "closer to the reference in amplitude alone, as any smaller copy of a noisy series is",
    "nothing": (
        "closer to the reference than the acquired series, and not shown to explain any of it"
    ),
    "no control": (
        "not assessed, as its smoothness, and so the control at the same resolution, could not be"
        " told"
    ),
    "no detail": "it adds no detail",
}
_NOT_COUNTED = (
    " (a gain there is not counted: the measured series is of the same scan and shares its noise,"
    " which a program that has seen the whole run carries from one half of the blocks into the"
    " other)"
)
_ON_ACQUIRED_GRID = "Beyond the acquired band it has no detail: it is on the acquired grid."


def compared_band(claim: Claim, fwhm_mm: float, *, counts: bool, finer: bool) -> str:
    """Return findings and numbers on another program's series in one band.

    `fwhm_mm` is that of its control.
    """
    if claim.evidence is None or claim.decision is None or (claim.kind == "beyond" and not finer):
        return _ON_ACQUIRED_GRID
    where = "the brain" if claim.region == "brain" else region_text(claim.region)
    smoothed = f"acquired smoothed to about its resolution ({fwhm_mm:.1f} mm)"
    numbers = [f"explained variance {value_text(row, '.2f')} in {where}" for row in _level(claim)]
    for each in claim.comparisons:
        row = each.row
        over = "acquired in the brain" if row.region != claim.region else "acquired"
        if row.minus != same_name(claim.series):
            numbers.append(f"{value_text(row, '+.2f')} over {over}")
        elif fwhm_mm > 0:
            numbers.append(f"{value_text(row, '+.2f')} over {smoothed}")
    if claim.why == "contrary":
        ahead = claim.comparisons[0].row.value > 0
        contrary = "its noise or wrong detail outweighs that" if ahead else "it is more accurate"
        said = (
            f"{'more' if ahead else 'less'} accurate in {where}, but over the whole brain"
            f" {contrary}"
        )
    else:
        said = _WHY[claim.why] if claim.why else _FOUND[claim.kind, claim.decision]
    better = claim.kind == "within" and claim.decision == "better"
    said += ", also at the same resolution" if better and fwhm_mm > 0 else ""
    said += _NOT_COUNTED if claim.decision == "better" and not counts else ""
    return (
        f"{capital(_BAND[claim.kind])} {said}: {', '.join(numbers)}, against"
        f" {claim.evidence.reference.words}."
    )


def _level(claim: Claim) -> list[MetricRow]:
    row = None if claim.evidence is None else claim.evidence.row(claim.series, claim.region)
    return [] if row is None else [row]


def compared_lacking(kind: Kind, advice: Advice, *, finer: bool) -> str:
    """Why a band of a series of another program is not assessed, and what to scan.

    `kind`: band, ``within`` or ``beyond`` the acquired Nyquist limit.
    """
    if kind == "beyond" and not finer:
        return _ON_ACQUIRED_GRID
    way, need = advice.fine_run, "this takes a high-resolution reference"
    if kind == "within":
        way, need = advice.other_run, "this takes a second run of the same task"
    return f"{capital(_BAND[kind])}: not assessed; {need} ({way})."


def compared_place(facts: Mapping[str, object]) -> list[str]:
    """What has to be known of how a series of another program lies on the run."""
    out = []
    if facts.get("shift") and facts.get("frame") == "as acquired":
        out.append(f"It lies {facts['shift']} (of the acquired grid) from the run.")
    if left_out := int(str(facts.get("left_out", 0))):
        total = int(str(facts["brain_voxels"]))
        out.append(
            f"It was judged without {left_out:,} of {total:,} brain voxels"
            f" ({100 * left_out / total:.2g} %), in which it or the acquired series has no signal."
        )
    return out


def said_first(verdict: VerdictFacts) -> list[str]:
    """What a verdict says before its headline: motion, and what was idle.

    Sentences in that order, at most two; may be empty.
    """
    texts = verdict.get("motion_text"), verdict.get("not_applied_text")
    return [text for text in texts if text]


def verdict_line(verdict: VerdictFacts) -> str:
    """Return a verdict in one line.

    Large motion and methods that were not applied come before the headline.

    What is said of series of other programs comes after it.
    """
    others = [each["headline"] for each in verdict.get("compared", [])]
    headline = verdict.get("headline", "")
    if others and headline == NOTHING_COMPARED:
        headline = ""
    return " ".join(filter(None, [*said_first(verdict), headline, *others]))
