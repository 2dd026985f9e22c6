"""Limitations of the verdict on a run."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bids_sr.evaluation.contrast_results import ContrastResult, has_values
from bids_sr.evaluation.evidence import KNOWN, Claim, Evidence, list_series
from bids_sr.evaluation.self_test import MAX_THERMAL_NOISE, SelfTestResults
from bids_sr.evaluation.sentences import Sentence
from bids_sr.evaluation.statements import Statement
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

    `evidence` is the agreement with the strongest reference; None if there is no reference. The
    equivalence `margin` is in the unit of the evidence; NaN if it is unknown. `raised_flags` are
    names of quality-control flags, and `results` are by method and contrast.
    """
    is_measured = evidence is not None and not evidence.no_detail
    yield from _limit_tests(self_test, is_measured=is_measured, is_tested=has_values(results))
    if evidence is None and list_series(claims, "function", holds=None):
        yield Sentence(Statement.NO_REFERENCE)
    if evidence is not None:
        if is_measured:
            yield from _limit_reference(evidence)
        yield Sentence(Statement.VEINS)
    if is_measured and not math.isfinite(margin):
        yield Sentence(Statement.NO_MARGIN)
    if is_measured and list_series(claims, "function", holds=True):
        yield Sentence(Statement.ONLY_DETAIL)
    if is_measured and "srgan" in list_series(claims, "function", holds=False):
        yield Sentence(Statement.SRGAN)
    if list_series(claims, "image", holds=None):
        yield Sentence(Statement.NO_IMAGE_REFERENCE)
    if is_measured and (uncontrolled := list_series(claims, "specific", holds=None)):
        values = {"series": enumerate_unique(uncontrolled)}
        yield Sentence(Statement.NO_CONTROLS, values)
    yield Sentence(Statement.MAPS_WITHOUT_ERROR, {"no_error": NO_ERROR})
    if failed_checks := "; ".join(FLAGS[name].failed for name in raised_flags):
        yield Sentence(Statement.CHECKS_FAILED, {"checks": failed_checks})
    yield Sentence(Statement.ONE_RUN)


def _limit_tests(
    self_test: SelfTestResults, *, is_measured: bool, is_tested: bool
) -> Iterator[Sentence]:
    """Yield the limitations of the self-test and of the test of each contrast's detail.

    `is_measured` is True if accuracy was measured, so that results do not depend on the tests, and
    `is_tested` if the detail of any contrast was tested.
    """
    if self_test.tested and self_test.calibrated:
        yield Sentence(Statement.CALIBRATED)
    elif self_test.tested and not is_measured:
        yield Sentence(Statement.NOT_ACCURACY)
    if is_tested and not is_measured:
        yield Sentence(Statement.BLIND_SPOT)
    if self_test.tested and self_test.thermal_noise > MAX_THERMAL_NOISE:
        noise, limit = (f"{value:.1%}" for value in (self_test.thermal_noise, MAX_THERMAL_NOISE))
        yield Sentence(Statement.THERMAL_NOISE, {"noise": noise, "limit": limit})


def _limit_reference(evidence: Evidence) -> Iterator[Sentence]:
    """Yield the limitations of a comparison with a reference."""
    if not any(row.has_interval for row in evidence.rows.values() if row.minus != MISSING):
        yield Sentence(Statement.NO_INTERVALS)
    for region in evidence.regions:
        measured_row = evidence.row("measured", region)
        if measured_row is not None and not math.isfinite(measured_row.value):
            yield Sentence(Statement.UNDEFINED, {"region": region_text(region)})
    if evidence.reference is KNOWN:
        yield Sentence(Statement.NO_DENOISED)
