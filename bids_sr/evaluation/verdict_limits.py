"""Limitations of the verdict on a run."""

import math
from collections.abc import Iterator

from bids_sr.engine.metric_rows import MISSING
from bids_sr.evaluation.evidence import KNOWN, Evidence, list_series
from bids_sr.evaluation.run_evidence import RunEvidence
from bids_sr.evaluation.self_test_results import MAX_THERMAL_NOISE
from bids_sr.evaluation.sentences import Sentence
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.words import region_text
from bids_sr.glm.map_sidecars import NO_ERROR
from bids_sr.io.metric_flags import FLAGS


def list_limits(evidence: RunEvidence) -> Iterator[Sentence]:
    """Yield the limitations of a verdict."""
    accuracy, claims = evidence.accuracy, evidence.claims
    yield from _limit_tests(evidence)
    if evidence.agreement is None and list_series(claims, "function", holds=None):
        yield Sentence(Statement.NO_REFERENCE)
    if accuracy is not None:
        yield from _limit_reference(accuracy)
    if evidence.agreement is not None:
        yield Sentence(Statement.VEINS)
    if accuracy is not None and not math.isfinite(evidence.margins[accuracy.brain]):
        yield Sentence(Statement.NO_MARGIN)
    if accuracy is not None and "srgan" in list_series(claims, "function", holds=False):
        yield Sentence(Statement.SRGAN)
    if list_series(claims, "image", holds=None):
        yield Sentence(Statement.NO_IMAGE_REFERENCE)
    yield Sentence(Statement.MAPS_WITHOUT_ERROR, {"no_error": NO_ERROR})
    failed = (FLAGS[name].failed for name, series in evidence.raised_flags.items() if series)
    if failed_checks := "; ".join(failed):
        yield Sentence(Statement.CHECKS_FAILED, {"checks": failed_checks})
    yield Sentence(Statement.ONE_RUN)


def _limit_tests(evidence: RunEvidence) -> Iterator[Sentence]:
    """Yield the limitations of the self-test and of the test of each contrast's detail.

    If accuracy was measured, results do not depend on the tests.
    """
    self_test, is_measured = evidence.self_test, evidence.accuracy is not None
    has_score = any(name not in evidence.not_applied for name in self_test.scores)
    if has_score and self_test.calibrated:
        yield Sentence(Statement.CALIBRATED)
    elif has_score and not is_measured:
        yield Sentence(Statement.NOT_ACCURACY)
    if any(result.has_values for result in evidence.result.contrasts) and not is_measured:
        yield Sentence(Statement.BLIND_SPOT)
    if has_score and self_test.thermal_noise > MAX_THERMAL_NOISE:
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
    if evidence.reference == KNOWN:
        yield Sentence(Statement.NO_DENOISED)
