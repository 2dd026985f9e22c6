"""Warnings of a verdict, and the verdict in one line."""

from collections.abc import Iterator

from bids_sr.engine.metric_rows import VerdictFacts
from bids_sr.evaluation.acquired_activation import write_lost_activation
from bids_sr.evaluation.run_evidence import RunEvidence
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.supporting_sentences import describe_self_test


def list_warnings(evidence: RunEvidence) -> Iterator[str]:
    """Yield a warning per network that was not trained enough, and per method not to be used.

    The maps of an applied method must not be used if it lost the activation of the acquired run
    or, without a reference, was less accurate than zero filling in the self-test.
    """
    for name, reason in evidence.stopped.items():
        yield Statement.STOPPED.format(series=name, reason=reason)
    for name, activation in evidence.lost.items():
        warning = Statement.DO_NOT_USE.format(series=name)
        yield f"{warning} {write_lost_activation(name, activation).text}"
    if evidence.accuracy is None:
        for name in evidence.methods:
            if name not in evidence.lost and evidence.self_test.is_harmful(name):
                warning = Statement.DO_NOT_USE.format(series=name)
                yield f"{warning} {describe_self_test(evidence.self_test, name).text}"


def verdict_line(verdict: VerdictFacts) -> str:
    """Return a verdict in one line; warnings precede the headline."""
    return " ".join(filter(None, [*verdict.get("warnings", []), verdict.get("headline", "")]))
