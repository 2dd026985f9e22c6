"""Headlines and limitations of the verdict on a run."""

import math
from collections.abc import Iterable, Mapping, Sequence

from bids_sr.evaluation.advice import Advice
from bids_sr.evaluation.detail_support import ContrastSupport, SupportState
from bids_sr.evaluation.evidence import (
    KNOWN,
    AccuracyKind,
    Claim,
    Evidence,
    VerdictStatus,
    is_below_zero,
)
from bids_sr.evaluation.self_test import (
    CALIBRATED,
    MOST_THERMAL_NOISE,
    NOT_ACCURACY,
    SelfTestResults,
)
from bids_sr.evaluation.support_text import BLIND_SPOT, write_support_lines
from bids_sr.evaluation.words import (
    TOO_LITTLE,
    active_words,
    capitalize,
    region_text,
    specific_text,
)
from bids_sr.frozen import frozen
from bids_sr.glm.map_sidecars import NO_ERROR
from bids_sr.metrics.flags import FLAGS
from bids_sr.metrics.number_text import interval, number
from bids_sr.metrics.registry import statistic
from bids_sr.metrics.rows import MISSING, VerdictFacts
from bids_sr.metrics.word_lists import enumerate_unique
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
_SUPPORT_STATUS: Mapping[SupportState, VerdictStatus] = {
    "tested": "tested",
    "not supported": "not supported",
    "not tested": "not assessed",
}


@frozen
class VerdictLine:
    """One line of a verdict; its status determines its symbol."""

    text: str
    status: VerdictStatus


def lost_lines(lost_by_series: Mapping[str, str]) -> list[VerdictLine]:
    """Return one line per method that lost the activation of the acquired run.

    `lost_by_series` contains a sentence on the loss by method.
    """
    return [
        VerdictLine(text=f"Do not use the {name} maps. {sentence}", status="less accurate")
        for name, sentence in lost_by_series.items()
    ]


def verdict_lines(
    claims: Sequence[Claim],
    evidence: Evidence | None,
    one_level: SelfTestResults | None,
    supports: Mapping[str, Mapping[str, ContrastSupport]],
    *,
    lost_series: Sequence[str] = (),
) -> list[VerdictLine]:
    """Return the verdict of a run, one line per method.

    Parameters
    ----------
    claims : Sequence[Claim]
        Claims on all methods.
    evidence : Evidence | None
        Agreement with the strongest reference; None if there is no reference.
    one_level : SelfTestResults | None
        Results of the self-test; None if it was not run.
    supports : Mapping[str, Mapping[str, ContrastSupport]]
        Results of the test of each contrast's detail, by method and contrast.
    lost_series : Sequence[str]
        Methods that lost the activation of the acquired run, which have lines of their own.
    """
    function_claims = [claim for claim in claims if claim.kind == "function"]
    if evidence is None or evidence.no_detail:
        methods = [claim.series for claim in function_claims if claim.series not in lost_series]
        lines = _write_caution_lines(
            methods, one_level or SelfTestResults(), supports, no_detail=evidence is not None
        )
    else:
        lines = _write_comparison_lines(function_claims, evidence, claims)
    if better_series := _series(claims, "image", is_shown=True):
        text = (
            f"Single volumes reconstructed by {enumerate_unique(better_series)} are closer to the"
            " reference than those of bspline and inject."
        )
        lines.append(VerdictLine(text=text, status="more accurate"))
    return lines


def _series(claims: Sequence[Claim], kind: AccuracyKind, *, is_shown: bool | None) -> list[str]:
    """Return the series whose claim holds (True), does not hold (False) or is undecided (None)."""
    return [claim.series for claim in claims if claim.kind == kind and claim.holds is is_shown]


def _write_comparison_lines(
    claims: Sequence[Claim], evidence: Evidence, all_claims: Sequence[Claim]
) -> list[VerdictLine]:
    """Return one line per method compared with a reference, methods with a gain first.

    Parameters
    ----------
    claims : Sequence[Claim]
        Claims on detail (*function*), one per method.
    evidence : Evidence
        Agreement with the strongest reference.
    all_claims : Sequence[Claim]
        All claims of the run.
    """
    region_phrase = (
        "" if evidence.brain in ("brain", MISSING) else f" in {region_text(evidence.brain)}"
    )
    comparators = {comparison.row.minus for claim in claims for comparison in claim.comparisons}
    compared_kinds = enumerate_unique(
        ["interpolation", *["denoising"] * bool(comparators & set(CONTROLS))]
    )
    detail = f"detail beyond the acquired resolution{region_phrase} better than {compared_kinds}"
    gains = [claim for claim in claims if claim.holds]
    losses = [claim for claim in claims if claim.holds is False]
    lines = []
    for claim in gains:
        sentences = [f"{claim.series} recovers {detail}."]
        sentences += [
            specific_text(candidate)
            for candidate in all_claims
            if candidate.kind == "specific" and candidate.series == claim.series
        ]
        lines.append(VerdictLine(text=" ".join(filter(None, sentences)), status="more accurate"))
    if not gains:
        lines.append(VerdictLine(text=f"No method recovers {detail}.", status="not more accurate"))
    for claim in losses:
        value = _value_text(claim, evidence)
        text = f"{claim.series} {_reason(claim, evidence)}{f' ({value})' if value else ''}."
        lines.append(VerdictLine(text=text, status="not more accurate"))
    return lines


def _value_text(claim: Claim, evidence: Evidence) -> str:
    """Return the values of a method by region; the region that decides comes first.

    For example, ``explained variance: 0 % [−5, 3] in the whole brain, 6 % [4, 9] in active
    voxels``; "" if there is no value.
    """
    rows_by_region = evidence.select_finite_rows(claim.series)
    phrases = []
    for region in sorted(rows_by_region, key=lambda name: name != evidence.brain):
        row = rows_by_region[region]
        form = "" if row.statistic == "r" else ".0%"
        ends = interval(row.lower, row.upper, form, unit=False)
        value = f"{number(row.value, form)} {ends}".rstrip()
        name = active_words(region)[0]
        region_name = f"the {name}" if region in ("brain", "roi") else name
        phrases.append(f"{value} in {region_name}")
    label = statistic(evidence.reference.statistic).label
    return f"{label}: {', '.join(phrases)}" if phrases else ""


def _reason(claim: Claim, evidence: Evidence) -> str:
    """Return the predicate that explains why a method is not more accurate."""
    row = evidence.row(claim.series, evidence.brain)
    if row is not None and is_below_zero(row):
        return "adds wrong detail: its explained variance is below 0"
    if unbeaten_series := claim.unbeaten:
        strongest = sorted(unbeaten_series, key=lambda name: -_sortable(evidence.value(name)))[
            :_NAMED
        ]
        series_text = enumerate_unique(sorted(strongest, key=unbeaten_series.index), "or")
        example_text = "baselines such as " * (len(unbeaten_series) > len(strongest))
        return f"was not found to recover more true detail than {example_text}{series_text}"
    return "was not found to recover true detail: its explained variance does not differ from 0"


_NAMED = 2
"""Number of baselines in a verdict line: the strongest that the method does not exceed."""


def _sortable(value: float) -> float:
    """Return a sort key for a value; NaN sorts first."""
    return value if math.isfinite(value) else -math.inf


def _write_caution_lines(
    methods: Sequence[str],
    one_level: SelfTestResults,
    supports: Mapping[str, Mapping[str, ContrastSupport]],
    *,
    no_detail: bool,
) -> list[VerdictLine]:
    """Return verdict lines for a run whose accuracy is unknown, with advice on using its maps.

    Parameters
    ----------
    methods : Sequence[str]
        Methods that were applied.
    one_level : SelfTestResults
        Results of the self-test.
    supports : Mapping[str, Mapping[str, ContrastSupport]]
        Results of the test of each contrast's detail, by method and contrast.
    no_detail : bool
        Whether the reference exists but has no reproducible detail.
    """
    harmful = [
        name
        for name in methods
        if name in one_level.tested and is_below_zero(one_level.tested[name])
    ]
    usable = [name for name in methods if name not in harmful and not supports.get(name)]
    reason = _NO_DETAIL if no_detail else _NOT_MEASURED
    lines = [
        VerdictLine(text=line.text, status=_SUPPORT_STATUS[line.state])
        for name in methods
        if name not in harmful and (tested := supports.get(name))
        for line in write_support_lines(name, tested, one_level)
    ]
    limit = f"do not interpret detail finer than {one_level.acquired_text}."
    use = (
        f" Treat the {enumerate_unique(usable)} maps as interpolated maps, and {limit}"
        if usable
        else ""
    )
    if lines and usable and not no_detail:
        text = (
            f"The accuracy of the {enumerate_unique(usable)} maps was neither measured nor tested."
            f" Treat these maps as interpolated maps, and {limit}"
        )
        lines.append(VerdictLine(text=text, status="not assessed"))
    elif not lines or no_detail:
        lines.append(VerdictLine(text=reason + use, status="not assessed"))
    lines += [
        VerdictLine(
            text=(
                f"Do not use the {name} maps. {capitalize(one_level.where_text)}, {name} was less"
                " accurate than zero filling."
            ),
            status="not more accurate",
        )
        for name in harmful
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
    one_level: SelfTestResults | None,
    supports: Mapping[str, Mapping[str, ContrastSupport]],
) -> list[str]:
    """Return the limitations of a verdict.

    Parameters
    ----------
    claims : Sequence[Claim]
        Claims on all methods.
    evidence : Evidence | None
        Agreement with the strongest reference; None if there is no reference.
    margin : float
        Equivalence margin in the unit of the evidence; NaN if it is unknown.
    raised : Iterable[str]
        Names of raised quality-control flags.
    advice : Advice
        Advice on missing references and controls.
    one_level : SelfTestResults | None
        Results of the self-test; None if it was not run.
    supports : Mapping[str, Mapping[str, ContrastSupport]]
        Results of the test of each contrast's detail, by method and contrast.
    """
    accurate = evidence is not None and not evidence.no_detail
    texts = []
    if one_level is not None and one_level.tested and (one_level.calibrated or not accurate):
        texts.append(CALIBRATED if one_level.calibrated else NOT_ACCURACY)
    if not accurate and any(supports.values()):
        texts.append(BLIND_SPOT)
    if one_level is not None and one_level.tested and one_level.thermal_noise > MOST_THERMAL_NOISE:
        texts.append(
            f"Thermal noise is {one_level.thermal_noise:.1%} of the signal, more than in all runs"
            f" with measured accuracy (at most {MOST_THERMAL_NOISE:.1%}). The accuracy measured in"
            " these runs therefore does not apply, and the self-test may accept a map with wrong"
            " detail."
        )
    if evidence is None and _series(claims, "function", is_shown=None):
        texts.append(
            f"This run has no high-resolution reference. To measure accuracy, {advice.reference}."
        )
    if evidence is not None:
        texts += _reference_limits(evidence, margin) if accurate else [_NO_AGREEMENT, _VEINS]
    if accurate and _series(claims, "function", is_shown=True):
        texts.append(_BEYOND_ALONE)
    if accurate and "srgan" in _series(claims, "function", is_shown=False):
        texts.append("The published training recipe for srgan was never run to completion.")
    if _series(claims, "image", is_shown=None):
        texts.append(
            "Image quality relative to bspline and inject was not assessed. This comparison"
            f" requires both series and {advice.images}."
        )
    if accurate and (lacking := _series(claims, "specific", is_shown=None)):
        texts.append(
            f"No negative controls were run for {enumerate_unique(lacking)}, so it is unknown"
            f" whether the gain is specific to this participant. {advice.controls}"
        )
    texts.append(f"Interpolated maps and maps from networks {NO_ERROR}")
    failed_checks = [FLAGS[name].failed for name in raised]
    texts += [f"These quality checks failed: {'; '.join(failed_checks)}."] if failed_checks else []
    return [
        *texts,
        "These results are from one run of one participant. Test at the group level whether they"
        " generalize.",
    ]


def _reference_limits(evidence: Evidence, margin: float) -> list[str]:
    """Return the limitations of a comparison with a reference."""
    texts = (
        []
        if any(row.has_interval for row in evidence.rows.values() if row.minus != MISSING)
        else ["Differences without a confidence interval are inconclusive."]
    )
    for region in evidence.regions:
        measured = evidence.row("measured", region)
        if measured is not None and not math.isfinite(measured.value):
            texts.append(
                f"In the region '{region_text(region)}', the explained variance of the measured"
                f" series is not defined because the series has {TOO_LITTLE}. The values of the"
                " other series are not affected."
            )
    texts.append(_VEINS)
    texts += (
        ["The denoised B-spline series were not compared with the known activation."]
        if evidence.reference is KNOWN
        else []
    )
    if not math.isfinite(margin):
        texts.append(
            "Equivalence cannot be claimed because no equivalence margin was specified, and a"
            " margin cannot be derived without a measured series."
        )
    return texts


def leading_sentences(verdict: VerdictFacts) -> list[str]:
    """Return sentences that precede a verdict: large motion, and methods not applied."""
    texts = verdict.get("motion_text"), verdict.get("not_applied_text")
    return [text for text in texts if text]


def verdict_line(verdict: VerdictFacts) -> str:
    """Return a verdict in one line.

    Sentences on large head motion and on methods that were not applied precede the headline;
    verdicts on series of other programs follow it.
    """
    compared_headlines = [compared["headline"] for compared in verdict.get("compared", [])]
    headline = verdict.get("headline", "")
    if compared_headlines and headline == NOTHING_COMPARED:
        headline = ""
    return " ".join(filter(None, [*leading_sentences(verdict), headline, *compared_headlines]))
