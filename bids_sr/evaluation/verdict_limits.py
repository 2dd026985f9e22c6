"""Limitations of the verdict on a run."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bids_sr.evaluation.contrast_results import ContrastResult, has_values
from bids_sr.evaluation.evidence import KNOWN, Claim, Evidence, list_series
from bids_sr.evaluation.self_test import MAX_THERMAL_NOISE, SelfTestResults
from bids_sr.evaluation.statements import Sentence, Statement
from bids_sr.evaluation.words import region_text
from bids_sr.glm.map_sidecars import NO_ERROR
from bids_sr.metrics.flags import FLAGS
from bids_sr.metrics.rows import MISSING
from bids_sr.metrics.word_lists import enumerate_unique


def list_limits(
    claims: Sequence[Claim],
    evidence: Evidence | None,
    margin: float,
    raised_flags: Iterable[str],
    self_test: SelfTestResults,
    results: Mapping[str, Mapping[str, ContrastResult]],
) -> Iterator[Sentence]:
    """Yield the limitations of a verdict.

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
    self_test : SelfTestResults
        Results of the self-test.
    results : Mapping[str, Mapping[str, ContrastResult]]
        Results for the detail of each contrast, by method and contrast.
    """
    is_measured = evidence is not None and not evidence.no_detail
    yield from _limit_tests(self_test, is_measured=is_measured, is_tested=has_values(results))
    if evidence is None and list_series(claims, "function", holds=None):
        yield Sentence(state=Statement.NO_REFERENCE)
    if evidence is not None:
        if is_measured:
            yield from _limit_reference(evidence)
        yield Sentence(state=Statement.VEINS)
    if is_measured and not math.isfinite(margin):
        yield Sentence(state=Statement.NO_MARGIN)
    if is_measured and list_series(claims, "function", holds=True):
        yield Sentence(state=Statement.ONLY_DETAIL)
    if is_measured and "srgan" in list_series(claims, "function", holds=False):
        yield Sentence(state=Statement.SRGAN)
    if list_series(claims, "image", holds=None):
        yield Sentence(state=Statement.NO_IMAGE_REFERENCE)
    if is_measured and (uncontrolled := list_series(claims, "specific", holds=None)):
        values = {"series": enumerate_unique(uncontrolled)}
        yield Sentence(state=Statement.NO_CONTROLS, values=values)
    yield Sentence(state=Statement.MAPS_WITHOUT_ERROR, values={"no_error": NO_ERROR})
    if failed_checks := "; ".join(FLAGS[name].failed for name in raised_flags):
        yield Sentence(state=Statement.CHECKS_FAILED, values={"checks": failed_checks})
    yield Sentence(state=Statement.ONE_RUN)


def _limit_tests(
    self_test: SelfTestResults, *, is_measured: bool, is_tested: bool
) -> Iterator[Sentence]:
    """Yield the limitations of the self-test and of the test of each contrast's detail.

    `is_measured` is True if accuracy was measured, so that results do not depend on the tests, and
    `is_tested` if the detail of any contrast was tested.
    """
    if self_test.tested and self_test.calibrated:
        yield Sentence(state=Statement.CALIBRATED)
    elif self_test.tested and not is_measured:
        yield Sentence(state=Statement.NOT_ACCURACY)
    if is_tested and not is_measured:
        yield Sentence(state=Statement.BLIND_SPOT)
    if self_test.tested and self_test.thermal_noise > MAX_THERMAL_NOISE:
        values = {
            "noise": f"{self_test.thermal_noise:.1%}",
            "limit": f"{MAX_THERMAL_NOISE:.1%}",
        }
        yield Sentence(state=Statement.THERMAL_NOISE, values=values)


def _limit_reference(evidence: Evidence) -> Iterator[Sentence]:
    """Yield the limitations of a comparison with a reference."""
    if not any(row.has_interval for row in evidence.rows.values() if row.minus != MISSING):
        yield Sentence(state=Statement.NO_INTERVALS)
    for region in evidence.regions:
        measured_row = evidence.row("measured", region)
        if measured_row is not None and not math.isfinite(measured_row.value):
            yield Sentence(state=Statement.UNDEFINED, values={"region": region_text(region)})
    if evidence.reference is KNOWN:
        yield Sentence(state=Statement.NO_DENOISED)
