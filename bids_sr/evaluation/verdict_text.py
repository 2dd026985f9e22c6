"""Headlines and limitations of the verdict on a run."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from bids_sr.evaluation.advice import CONTROLS_ADVICE, IMAGES_ADVICE, REFERENCE_ADVICE
from bids_sr.evaluation.contrast_results import ContrastResult, has_values
from bids_sr.evaluation.detail_support import SupportState
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
    MAX_THERMAL_NOISE,
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
_MAX_LISTED_BASELINES = 2
"""Number of baselines in a verdict line: the strongest that the method does not exceed."""
_NO_AGREEMENT = (
    "In at least one region, the two halves of the measured series are not detectably correlated"
    " above the acquired Nyquist frequency. Such a region has no reproducible detail to explain."
)
_ONLY_DETAIL = (
    "The verdict concerns only detail beyond the acquired resolution. Over all spatial"
    " frequencies, denoising may be more accurate."
)
_VEINS = "Detail in BOLD maps reflects draining veins as well as neuronal activity."
_SUPPORT_STATUS: Mapping[SupportState, VerdictStatus] = {
    "recovered": "recovered",
    "not supported": "not supported",
    "not testable": "not assessed",
}


@frozen
class VerdictLine:
    """One line of a verdict; its status determines its symbol.

    The topic is the results for the contrasts, or the comparison of series.
    """

    text: str
    status: VerdictStatus
    topic: Literal["contrasts", "series"] = "series"


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
    self_test: SelfTestResults | None,
    results: Mapping[str, Mapping[str, ContrastResult]],
    best: str = "",
    *,
    lost_series: Sequence[str] = (),
) -> list[VerdictLine]:
    """Return the verdict of a run: recovered contrasts, and one line per method.

    Parameters
    ----------
    claims : Sequence[Claim]
        Claims on all methods.
    evidence : Evidence | None
        Agreement with the strongest reference; None if there is no reference.
    self_test : SelfTestResults | None
        Results of the self-test; None if it was not run.
    results : Mapping[str, Mapping[str, ContrastResult]]
        Results for the detail of each contrast, by method and contrast.
    best : str, optional
        Method whose contrasts are described if accuracy was measured.
    lost_series : Sequence[str]
        Methods that lost the activation of the acquired run, which have lines of their own.
    """
    function_claims = [claim for claim in claims if claim.kind == "function"]
    if evidence is None or evidence.no_detail:
        methods = [claim.series for claim in function_claims if claim.series not in lost_series]
        lines = _write_caution_lines(
            methods, self_test or SelfTestResults(), results, no_detail=evidence is not None
        )
    else:
        lines = [
            *_write_result_lines(best, results.get(best, {}), self_test or SelfTestResults()),
            *_write_comparison_lines(function_claims, evidence, claims),
        ]
    if better_series := _list_series(claims, "image", holds=True):
        sentence = (
            f"Single volumes reconstructed by {enumerate_unique(better_series)} are closer to the"
            " reference than those of bspline and inject."
        )
        lines.append(VerdictLine(text=sentence, status="more accurate"))
    return lines


def _write_result_lines(
    method: str, results: Mapping[str, ContrastResult], self_test: SelfTestResults
) -> list[VerdictLine]:
    """Return the lines on the contrasts of a method, [] if no contrast has a value."""
    if not any(result.has_values for result in results.values()):
        return []
    return [
        VerdictLine(text=line.text, status=_SUPPORT_STATUS[line.state], topic="contrasts")
        for line in write_support_lines(method, results, self_test)
    ]


def _list_series(claims: Sequence[Claim], kind: AccuracyKind, *, holds: bool | None) -> list[str]:
    """Return the series whose claim holds (True), does not hold (False) or is undecided (None)."""
    return [claim.series for claim in claims if claim.kind == kind and claim.holds is holds]


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
    place = _describe_place(evidence)
    comparators = {comparison.row.minus for claim in claims for comparison in claim.comparisons}
    compared_kinds = (
        "interpolation" if comparators.isdisjoint(CONTROLS) else "interpolation and denoising"
    )
    detail = f"detail beyond the acquired resolution better than {compared_kinds} ({place})"
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
        values = _describe_values(claim, evidence)
        details = f" ({values})" if values else ""
        sentence = f"{claim.series} {_explain_loss(claim, evidence)}{details}."
        lines.append(VerdictLine(text=sentence, status="not more accurate"))
    return lines


def _describe_place(evidence: Evidence) -> str:
    """Return the contrast and the deciding region of a comparison."""
    region = "" if evidence.brain == MISSING else active_words(evidence.brain)[0]
    return ", ".join(filter(None, [f"contrast {evidence.contrast}", region]))


def _describe_values(claim: Claim, evidence: Evidence) -> str:
    """Return the values of a method by region; the region that decides comes first.

    For example, ``explained variance: 0 % [−5, 3] in the whole brain, 6 % [4, 9] in active
    voxels``; "" if there is no value.
    """
    rows_by_region = evidence.select_finite_rows(claim.series)
    phrases = []
    for region in sorted(rows_by_region, key=lambda name: name != evidence.brain):
        row = rows_by_region[region]
        form = "" if row.statistic == "r" else ".0%"
        interval_text = interval(row.lower, row.upper, form, unit=False)
        value_text = f"{number(row.value, form)} {interval_text}".rstrip()
        region_name = active_words(region)[0]
        article = "the " if region in ("brain", "roi") else ""
        phrases.append(f"{value_text} in {article}{region_name}")
    label = statistic(evidence.reference.statistic).label
    return f"{label}: {', '.join(phrases)}" if phrases else ""


def _explain_loss(claim: Claim, evidence: Evidence) -> str:
    """Return the predicate that explains why a method is not more accurate."""
    row = evidence.row(claim.series, evidence.brain)
    place = _describe_place(evidence)
    if row is not None and is_below_zero(row):
        return f"adds wrong detail ({place}): its explained variance is below 0"
    unbeaten_series = claim.unbeaten
    if not unbeaten_series:
        return (
            f"was not found to recover true detail ({place}): its explained variance does not"
            " differ from 0"
        )
    values = {name: evidence.value(name) for name in unbeaten_series}
    strongest = sorted(
        unbeaten_series,
        key=lambda name: -values[name] if math.isfinite(values[name]) else math.inf,
    )[:_MAX_LISTED_BASELINES]
    series_text = enumerate_unique(sorted(strongest, key=unbeaten_series.index), "or")
    if len(unbeaten_series) > len(strongest):
        series_text = f"baselines such as {series_text}"
    return f"was not found to recover more true detail than {series_text}"


def _write_caution_lines(
    methods: Sequence[str],
    self_test: SelfTestResults,
    results: Mapping[str, Mapping[str, ContrastResult]],
    *,
    no_detail: bool,
) -> list[VerdictLine]:
    """Return verdict lines for a run whose accuracy is unknown, with advice on using its maps.

    Parameters
    ----------
    methods : Sequence[str]
        Methods that were applied.
    self_test : SelfTestResults
        Results of the self-test.
    results : Mapping[str, Mapping[str, ContrastResult]]
        Results for the detail of each contrast, by method and contrast.
    no_detail : bool
        Whether the reference exists but has no reproducible detail.
    """
    harmful = [name for name in methods if self_test.is_harmful(name)]
    lines_by_method = {
        name: _write_result_lines(name, results.get(name, {}), self_test)
        for name in methods
        if name not in harmful
    }
    result_lines = [line for lines in lines_by_method.values() for line in lines]
    untested = [name for name, lines in lines_by_method.items() if not lines]
    caution = _write_caution(
        untested, self_test, no_detail=no_detail, has_support=bool(result_lines)
    )
    warnings = [
        f"Do not use the {name} maps. {capitalize(self_test.where_text)}, {name} was less accurate"
        " than zero filling."
        for name in harmful
    ]
    return [
        *result_lines,
        *([VerdictLine(text=caution, status="not assessed")] if caution else ()),
        *(VerdictLine(text=warning, status="not more accurate") for warning in warnings),
    ]


def _write_caution(
    methods: Sequence[str], self_test: SelfTestResults, *, no_detail: bool, has_support: bool
) -> str:
    """Return sentences on methods whose detail was not tested; "" if all methods were tested.

    `no_detail` is as in `_write_caution_lines`. `has_support` is True if there are lines on other
    methods; otherwise, the sentences state that accuracy was not measured.
    """
    names = enumerate_unique(methods)
    limit = f"interpret nothing finer than {self_test.acquired_text}."
    if has_support and not no_detail:
        return (
            f"The {names} maps were neither measured nor tested. Treat them as interpolated maps,"
            f" and {limit}"
            if methods
            else ""
        )
    reason = _NO_DETAIL if no_detail else _NOT_MEASURED
    advice = f" Treat the {names} maps as interpolated maps, and {limit}" if methods else ""
    return f"{reason}{advice}"


def limits(
    claims: Sequence[Claim],
    evidence: Evidence | None,
    margin: float,
    raised_flags: Iterable[str],
    self_test: SelfTestResults | None,
    results: Mapping[str, Mapping[str, ContrastResult]],
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
    raised_flags : Iterable[str]
        Names of raised quality-control flags.
    self_test : SelfTestResults | None
        Results of the self-test; None if it was not run.
    results : Mapping[str, Mapping[str, ContrastResult]]
        Results for the detail of each contrast, by method and contrast.
    """
    is_measured = evidence is not None and not evidence.no_detail
    has_tested_detail = has_values(results)
    failed_checks = [FLAGS[name].failed for name in raised_flags]
    limitations = _write_self_test_limits(
        self_test, is_measured=is_measured, has_tested_detail=has_tested_detail
    )
    if evidence is None and _list_series(claims, "function", holds=None):
        limitations.append(
            f"This run has no high-resolution reference. To measure accuracy, {REFERENCE_ADVICE}."
        )
    if evidence is not None:
        limitations += (
            _write_reference_limits(evidence, margin) if is_measured else [_NO_AGREEMENT, _VEINS]
        )
    limitations += _write_claim_limits(claims, is_measured=is_measured)
    limitations.append(f"Interpolated maps and maps from networks {NO_ERROR}")
    if failed_checks:
        limitations.append(f"These quality checks failed: {'; '.join(failed_checks)}.")
    limitations.append(
        "These results are from one run of one participant. Test at the group level whether they"
        " generalize."
    )
    return limitations


def _write_self_test_limits(
    self_test: SelfTestResults | None, *, is_measured: bool, has_tested_detail: bool
) -> list[str]:
    """Return the limitations of the self-test and of the test of each contrast's detail.

    Parameters
    ----------
    self_test : SelfTestResults | None
        Results of the self-test; None if it was not run.
    is_measured : bool
        Whether accuracy was measured, so that results do not depend on the tests.
    has_tested_detail : bool
        Whether the detail of any contrast was tested.
    """
    limitations = []
    has_scores = self_test is not None and bool(self_test.tested)
    if self_test is not None and has_scores and (self_test.calibrated or not is_measured):
        limitations.append(CALIBRATED if self_test.calibrated else NOT_ACCURACY)
    if has_tested_detail and not is_measured:
        limitations.append(BLIND_SPOT)
    if self_test is not None and has_scores and self_test.thermal_noise > MAX_THERMAL_NOISE:
        limitations.append(
            f"Thermal noise is {self_test.thermal_noise:.1%} of the signal, more than in all runs"
            f" with measured accuracy (at most {MAX_THERMAL_NOISE:.1%}). The accuracy measured in"
            " these runs therefore does not apply, and the self-test may accept a map with wrong"
            " detail."
        )
    return limitations


def _write_claim_limits(claims: Sequence[Claim], *, is_measured: bool) -> list[str]:
    """Return the limitations of claims on detail, images and specificity.

    `is_measured` is True if accuracy was measured; claims on detail and specificity are only
    limited in this case.
    """
    limitations = []
    if is_measured and _list_series(claims, "function", holds=True):
        limitations.append(_ONLY_DETAIL)
    if is_measured and "srgan" in _list_series(claims, "function", holds=False):
        limitations.append("The published training recipe for srgan was never run to completion.")
    if _list_series(claims, "image", holds=None):
        limitations.append(
            "Image quality relative to bspline and inject was not assessed. This comparison"
            f" requires both series and {IMAGES_ADVICE}."
        )
    if is_measured and (uncontrolled_methods := _list_series(claims, "specific", holds=None)):
        limitations.append(
            f"No negative controls were run for {enumerate_unique(uncontrolled_methods)}, so it is"
            " unknown whether the gain is specific to this participant."
            f" {CONTROLS_ADVICE}"
        )
    return limitations


def _write_reference_limits(evidence: Evidence, margin: float) -> list[str]:
    """Return the limitations of a comparison with a reference."""
    limitations = []
    if not any(row.has_interval for row in evidence.rows.values() if row.minus != MISSING):
        limitations.append("Differences without a confidence interval are inconclusive.")
    for region in evidence.regions:
        measured_row = evidence.row("measured", region)
        if measured_row is not None and not math.isfinite(measured_row.value):
            limitations.append(
                f"In the region '{region_text(region)}', the explained variance of the measured"
                f" series is not defined because the series has {TOO_LITTLE}. The values of the"
                " other series are not affected."
            )
    limitations.append(_VEINS)
    if evidence.reference is KNOWN:
        limitations.append(
            "The denoised B-spline series were not compared with the known activation."
        )
    if not math.isfinite(margin):
        limitations.append(
            "Equivalence cannot be claimed because no equivalence margin was specified, and a"
            " margin cannot be derived without a measured series."
        )
    return limitations


def leading_sentences(verdict: VerdictFacts) -> list[str]:
    """Return sentences that precede a verdict: large motion, and methods not applied."""
    sentences = verdict.get("motion_text"), verdict.get("not_applied_text")
    return [sentence for sentence in sentences if sentence]


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
