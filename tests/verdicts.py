"""Verdicts on made-up metrics of a run."""

from collections.abc import Sequence
from typing import Any

from bids_sr.evaluation.qc_flags import read_flags
from bids_sr.evaluation.run_evidence import gather_evidence
from bids_sr.evaluation.verdict import Verdict, make_verdict
from bids_sr.metrics.rows import MetricRow


def judge_rows(
    rows: Sequence[MetricRow],
    methods: Sequence[str],
    baselines: Sequence[str] = ("bspline",),
    displacement: Sequence[float] = (),
    **options: Any,
) -> Verdict:
    """Return the verdict on rows, which may have flags; see `gather_evidence` for options."""
    evidence = gather_evidence(
        rows, methods=methods, baselines=baselines, flags=read_flags(rows), **options
    )
    return make_verdict(evidence, displacement)
