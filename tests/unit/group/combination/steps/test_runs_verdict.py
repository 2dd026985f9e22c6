"""Result of all runs: of the test across runs, of a single run that is left, and of changes."""

import numpy as np
from data.rows import judge_rows, make_tested_rows

from bids_sr.engine.artifacts import Derivative
from bids_sr.engine.metric_rows import metric_rows
from bids_sr.evaluation.changes import find_change, write_change
from bids_sr.glm.region_means import MeanEffect
from bids_sr.group.combination.steps.runs_verdict import judge_runs
from bids_sr.io.volume import Volume

NAMES = {"change": "a@run-2 − a@run-1"}
ERROR = metric_rows("sbl", {"expected_wrong": 0.01}, threshold="fdr", contrast="all")


def effect(contrast: str, runs: list[str], **facts: object) -> Derivative:
    sidecar = {"SourceSeries": "sbl", "RunWeights": dict.fromkeys(runs, 1 / len(runs)), **facts}
    return Derivative(
        Volume(np.zeros((1, 1, 1)), np.eye(4)), {"contrast": contrast, "stat": "effect"}, sidecar
    )


def judge(maps, rows=(), evidence=None, **options):
    return judge_runs(
        maps,
        [*rows, *ERROR],
        evidence or {},
        **{
            "series": "sbl",
            "names": NAMES,
            "tested_mm": ([12, 12, 3], [6, 6, 3]),
            "runs": {"run-1": "sub-01_run-1", "run-2": "sub-01_run-2"},
            **options,
        },
    )


def test_the_result_names_contrasts_over_runs_first_and_the_runs_that_it_replaces():
    both = ["run-1", "run-2"]
    maps = [effect("all", both), effect("change", both, Terms=[{}])]
    estimates = {"change": ((0.1, 0.5), (0.1, 0.5)), "all": ((0.5, 0.1), (0.4, 0.1))}
    means = {("roi", "v1"): MeanEffect(effect=1.0, noise_sd=0.1, noise_dof=40.0)}
    change, _ = find_change("change", NAMES["change"], means)
    facts, result = judge(maps, make_tested_rows(estimates), changes=(change,))
    assert [item.name for item in result.contrasts] == [NAMES["change"], ""]
    assert result.shown.contrast == "all"
    assert facts["headline"].startswith(write_change(change))
    assert facts["changes"][0]["name"] == NAMES["change"]
    assert facts["runs"] == ["sub-01_run-1", "sub-01_run-2"]
    assert (facts["reduced"], facts["acquired"], facts["final"]) == ("12 mm", "6 mm", "3 mm")


def test_a_single_run_that_is_left_has_its_own_result():
    evidence = judge_rows(make_tested_rows({"all": ((0.5, 0.1), (0.4, 0.1))}), ["sbl"]).evidence
    maps = [effect("all", ["run-2"])]
    facts, result = judge(maps, evidence={"run-2": evidence})
    assert result == evidence.result
    assert facts["contrasts"][0]["active"]["state"] == "recovered"


def test_a_method_that_was_applied_to_no_run_has_no_contrasts():
    maps = [effect("all", ["run-1", "run-2"], NotAppliedIn=["run-1", "run-2"])]
    facts, result = judge(maps, make_tested_rows())
    assert (result.not_applied, result.contrasts) == (("sbl",), ())
    assert facts["status"] == "not applied"
