"""What may be claimed of the series of a run, and what not: headlines and limits."""

import math
from collections.abc import Iterable, Sequence

from bids_sr.evaluation.advice import Advice
from bids_sr.evaluation.evidence import KNOWN, Claim, Evidence, Kind, Status, below_zero
from bids_sr.evaluation.self_test import CALIBRATED, MOST_THERMAL_NOISE, NOT_ACCURACY, OneLevelDown
from bids_sr.evaluation.words import (
    TOO_LITTLE,
    active_words,
    capital,
    names,
    region_text,
    specific_text,
)
from bids_sr.frozen import frozen
from bids_sr.glm.map_sidecars import NO_ERROR
from bids_sr.metrics.flags import FLAGS
from bids_sr.metrics.number_text import interval, number
from bids_sr.metrics.registry import statistic
from bids_sr.metrics.rows import MISSING, VerdictFacts
from bids_sr.series import CONTROLS

NOTHING_APPLIED = (
    "No method was applied to this run, and all series are zero filled. Use the acquired or the"
    " B-spline maps."
)
NOTHING_COMPARED = (
    "No super-resolution method was run. All series are interpolations of the acquired series."
)
_NO_DETAIL = (
    "Accuracy could not be measured because the high-resolution reference has no reproducible"
    " detail beyond the acquired resolution."
)
_NOT_MEASURED = "Accuracy was not measured in this run."


@frozen
class VerdictLine:
    """One line of a verdict, with the status that decides its mark."""

    text: str
    status: Status


def verdict_lines(
    claims: Sequence[Claim], evidence: Evidence | None, one_level: OneLevelDown | None
) -> list[VerdictLine]:
    """Return the verdict of a run, one line per method.

    `evidence`: agreement with the strongest reference; None without a reference. `one_level`:
    results of the self-test; None if it was not run.
    """
    on_function = [each for each in claims if each.kind == "function"]
    if evidence is None or evidence.no_detail:
        methods = [each.series for each in on_function]
        lines = _unmeasured(methods, one_level or OneLevelDown(), no_detail=evidence is not None)
    else:
        lines = _compared(on_function, evidence, claims)
    if good := _series(claims, "image", holds=True):
        text = (
            f"Single volumes reconstructed by {names(good)} are closer to the reference than those"
            " of bspline and inject."
        )
        lines.append(VerdictLine(text=text, status="more accurate"))
    return lines


def _series(claims: Sequence[Claim], kind: Kind, *, holds: bool | None) -> list[str]:
    """Return the series whose claim of a kind holds, does not hold, or is undecided (None)."""
    return [each.series for each in claims if each.kind == kind and each.holds is holds]


def _compared(
    claims: Sequence[Claim], evidence: Evidence, every: Sequence[Claim]
) -> list[VerdictLine]:
    """Return one line per method compared with a reference, methods with a gain first.

    `claims`: on the function of each method. `every`: all claims of the run.
    """
    place = "" if evidence.brain in ("brain", MISSING) else f" in {region_text(evidence.brain)}"
    others = {each.row.minus for claim in claims for each in claim.comparisons}
    rivals = names(["interpolation", *["denoising"] * bool(others & set(CONTROLS))])
    detail = f"detail beyond the acquired resolution{place} better than {rivals}"
    won = [each for each in claims if each.holds]
    lost = [each for each in claims if each.holds is False]
    lines = []
    for claim in won:
        said = [f"{claim.series} recovers {detail}."]
        said += [
            specific_text(each)
            for each in every
            if each.kind == "specific" and each.series == claim.series
        ]
        lines.append(VerdictLine(text=" ".join(filter(None, said)), status="more accurate"))
    if not won:
        lines.append(VerdictLine(text=f"No method recovers {detail}.", status="not more accurate"))
    for claim in lost:
        value = _value_text(claim, evidence)
        text = f"{claim.series} {_reason(claim, evidence)}{f' ({value})' if value else ''}."
        lines.append(VerdictLine(text=text, status="not more accurate"))
    return lines


def _value_text(claim: Claim, evidence: Evidence) -> str:
    """Return the values of a method by region, first the region that decides.

    For example, ``explained variance: 0 % [−5, 3] in the whole brain, 6 % [4, 9] in active
    voxels``; "" if there is no value.
    """
    known = evidence.known(claim.series)
    parts = []
    for region in sorted(known, key=lambda name: name != evidence.brain):
        row = known[region]
        form = "" if row.statistic == "r" else ".0%"
        ends = interval(row.lower, row.upper, form, unit=False)
        value = f"{number(row.value, form)} {ends}".rstrip()
        name = active_words(region)[0]
        where = f"the {name}" if region in ("brain", "roi") else name
        parts.append(f"{value} in {where}")
    label = statistic(evidence.reference.statistic).label
    return f"{label}: {', '.join(parts)}" if parts else ""


def _reason(claim: Claim, evidence: Evidence) -> str:
    """Return why a method is not more accurate, as a predicate."""
    row = evidence.row(claim.series, evidence.brain)
    if row is not None and below_zero(row):
        return "adds wrong detail: its explained variance is below 0"
    if rivals := claim.unbeaten:
        strongest = sorted(rivals, key=lambda name: -_sortable(evidence.value(name)))[:_NAMED]
        listed = names(sorted(strongest, key=rivals.index), "or")
        among = "baselines such as " * (len(rivals) > len(strongest))
        return f"was not found to recover more true detail than {among}{listed}"
    return "was not found to recover true detail: its explained variance does not differ from 0"


_NAMED = 2
"""Baselines that a line of the verdict names: the strongest of those that are not exceeded."""


def _sortable(value: float) -> float:
    """Return a value; the smallest of all for NaN."""
    return value if math.isfinite(value) else -math.inf


def _unmeasured(
    methods: Sequence[str], one_level: OneLevelDown, *, no_detail: bool
) -> list[VerdictLine]:
    """Return how to use maps of unknown accuracy.

    `no_detail`: there is a reference, but it has no reproducible detail.
    """
    harm = [
        name for name in methods if name in one_level.tested and below_zero(one_level.tested[name])
    ]
    rest = [name for name in methods if name not in harm]
    why = _NO_DETAIL if no_detail else _NOT_MEASURED
    use = (
        f" Treat the {names(rest)} maps as interpolated maps, and do not interpret detail finer"
        f" than {one_level.acquired_text}."
        if rest
        else ""
    )
    lines = [VerdictLine(text=why + use, status="not assessed")]
    lines += [
        VerdictLine(
            text=(
                f"Do not use the {name} maps. {capital(one_level.where_text)}, {name} was less"
                " accurate than zero filling."
            ),
            status="not more accurate",
        )
        for name in harm
    ]
    return lines


_NO_AGREEMENT = (
    "In at least one region, the two halves of the measured series are not detectably correlated"
    " above the acquired Nyquist frequency. Such a region has no reproducible detail to explain."
)
_BEYOND_ALONE = (
    "The verdict concerns only detail beyond the acquired resolution. Over all spatial"
    " frequencies, denoising may be more accurate."
)
_VEINS = "Detail in BOLD maps reflects draining veins as well as neuronal activity."


def limits(
    claims: Sequence[Claim],
    evidence: Evidence | None,
    margin: float,
    raised: Iterable[str],
    advice: Advice,
    one_level: OneLevelDown | None,
) -> list[str]:
    """Return the limitations of a verdict; `raised` are names of flags.

    `evidence`: agreement with the strongest reference; None without a reference. `one_level`:
    results of the self-test; None if it was not run.
    """
    accurate = evidence is not None and not evidence.no_detail
    out = []
    if one_level is not None and one_level.tested and (one_level.calibrated or not accurate):
        out.append(CALIBRATED if one_level.calibrated else NOT_ACCURACY)
    if one_level is not None and one_level.tested and one_level.thermal_noise > MOST_THERMAL_NOISE:
        out.append(
            f"Thermal noise is {one_level.thermal_noise:.1%} of the signal, more than in all runs"
            f" with measured accuracy (at most {MOST_THERMAL_NOISE:.1%}). The accuracy measured in"
            " these runs therefore does not apply, and the self-test may accept a map with wrong"
            " detail."
        )
    if evidence is None and _series(claims, "function", holds=None):
        out.append(
            f"This run has no high-resolution reference. To measure accuracy, {advice.reference}."
        )
    if evidence is not None:
        out += _limits_of(evidence, margin) if accurate else [_NO_AGREEMENT, _VEINS]
    if accurate and _series(claims, "function", holds=True):
        out.append(_BEYOND_ALONE)
    if accurate and "srgan" in _series(claims, "function", holds=False):
        out.append("The published training recipe for srgan was never run to completion.")
    if _series(claims, "image", holds=None):
        out.append(
            "Image quality relative to bspline and inject was not assessed. This comparison"
            f" requires both series and {advice.images}."
        )
    if accurate and (lacking := _series(claims, "specific", holds=None)):
        out.append(
            f"No negative controls were run for {names(lacking)}, so it is unknown whether the"
            f" gain is specific to this participant. {advice.controls}"
        )
    out.append(f"Interpolated maps and maps from networks {NO_ERROR}")
    up = [FLAGS[name].failed for name in raised]
    out += [f"These quality checks failed: {'; '.join(up)}."] if up else []
    return [
        *out,
        "These results are from one run of one participant. Test at the group level whether they"
        " generalize.",
    ]


def _limits_of(evidence: Evidence, margin: float) -> list[str]:
    """Return the limitations of a comparison with a reference."""
    out = (
        []
        if any(row.has_interval for row in evidence.rows.values() if row.minus != MISSING)
        else ["Differences without a confidence interval are inconclusive."]
    )
    for region in evidence.regions:
        measured = evidence.row("measured", region)
        if measured is not None and not math.isfinite(measured.value):
            out.append(
                f"In the region '{region_text(region)}', the explained variance of the measured"
                f" series is not defined because the series has {TOO_LITTLE}. The values of the"
                " other series are not affected."
            )
    out.append(_VEINS)
    out += (
        ["The denoised B-spline series were not compared with the known activation."]
        if evidence.reference is KNOWN
        else []
    )
    if not math.isfinite(margin):
        out.append(
            "Equivalence cannot be claimed because no equivalence margin was specified, and a"
            " margin cannot be derived without a measured series."
        )
    return out


def said_first(verdict: VerdictFacts) -> list[str]:
    """Return the sentences that precede a verdict: large motion, methods that were not applied."""
    texts = verdict.get("motion_text"), verdict.get("not_applied_text")
    return [text for text in texts if text]


def verdict_line(verdict: VerdictFacts) -> str:
    """Return a verdict in one line.

    Large head motion and methods that were not applied come before the headline, verdicts on
    series of other programs after it.
    """
    others = [each["headline"] for each in verdict.get("compared", [])]
    headline = verdict.get("headline", "")
    if others and headline == NOTHING_COMPARED:
        headline = ""
    return " ".join(filter(None, [*said_first(verdict), headline, *others]))
