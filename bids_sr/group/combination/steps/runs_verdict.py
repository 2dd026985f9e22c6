"""Result of all runs of a participant together, and of the contrasts over these runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bids_sr.engine.artifacts import Map, Rows, Verdict
from bids_sr.engine.step import Stage, step
from bids_sr.evaluation.changes import StoredChanges
from bids_sr.evaluation.contrast_results import collect_results
from bids_sr.evaluation.result import RunResult, StoredResult, make_result
from bids_sr.evaluation.result_text import plain_result
from bids_sr.evaluation.run_evidence import StoredEvidence
from bids_sr.evaluation.self_test_results import SelfTestResults, parse_self_test
from bids_sr.group.combination.steps.combined_runs import TERMS
from bids_sr.io.json_values import as_mapping, as_texts
from bids_sr.io.series import get_need

TestedSizes = tuple[Sequence[float], Sequence[float]]
"""Voxel sizes (mm) of the downsampled and of the acquired runs."""


def describe_test(series: str, tested_mm: TestedSizes | None) -> SelfTestResults:
    """Return the voxel sizes of the test of a series; None if they are unknown."""
    if tested_mm is None:
        return SelfTestResults()
    from_mm, to_mm = tested_mm
    return parse_self_test((), {"from_mm": from_mm, "to_mm": to_mm, "series": {series: {}}})


@step(Stage.COMBINATION, makes=("runs_verdict", "runs_result"), small=True)
def judge_runs(
    maps: list[Map],
    rows: Rows,
    run_evidence: dict[str, StoredEvidence],
    changes: StoredChanges | None = None,
    *,
    series: str,
    names: Mapping[str, str],
    tested_mm: TestedSizes | None,
    runs: Mapping[str, str],
) -> tuple[Verdict, StoredResult]:
    """Return the verdict on all runs of a participant, and its result.

    If a single run is left in the maps, its own result is that of all runs. `maps` are combined
    maps of all series, and `rows` those of the test across runs. `run_evidence` is by name of the
    run, and `changes` are results of contrasts over runs; None if there are none. `names` are the
    names of these contrasts as requested, and `runs` the starts of file names by name of the run.
    """
    sidecars = [
        item.sidecar
        for item in maps
        if item.entities.get("stat") == "effect" and item.sidecar["SourceSeries"] == series
    ]
    means = [sidecar for sidecar in sidecars if TERMS not in sidecar]
    used_runs = list(as_mapping(next(iter(means or sidecars), {}).get("RunWeights")))
    not_applied = {name for sidecar in sidecars for name in as_texts(sidecar.get("NotAppliedIn"))}
    result = RunResult()
    if sidecars and get_need(series) != "volume":
        result = RunResult(not_applied=(series,))
        if not not_applied.issuperset(used_runs):
            result = _make_result(rows, series, names, tested_mm)
            if len(used_runs) == 1 and used_runs[0] in run_evidence:
                result = _take_single_run(result, run_evidence[used_runs[0]].result)
    result = replace(result, changes=tuple(changes or ()))
    facts = plain_result(result)
    facts["status"] = "not applied" if result.not_applied else "tested"
    if sizes := describe_test(series, tested_mm).sizes:
        facts["reduced"] = f"{sizes[0]} mm"
    facts["runs"] = list(runs.values())
    return facts, result


def _make_result(
    rows: Rows, series: str, names: Mapping[str, str], tested_mm: TestedSizes | None
) -> RunResult:
    """Return the result of the test across runs; without contrasts if errors are unknown."""
    has_error = any(row.series == series and row.statistic == "expected_wrong" for row in rows)
    reason = "fewer than two runs could be tested"
    results = collect_results(rows, series, reason=reason) if has_error else {}
    sizes = describe_test(series, tested_mm).run_sizes
    return make_result(series, results, rows, sizes=sizes, names=names)


def _take_single_run(result: RunResult, single: RunResult) -> RunResult:
    """Return the result of the only run in the maps, with the contrasts over runs of `result`."""
    over_runs = (contrast for contrast in result.contrasts if contrast.name)
    return replace(single, contrasts=(*over_runs, *single.contrasts))
