"""Paragraph on the results of a task, from the stored verdicts of its runs."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from data.rows import judge_rows, make_detail_row, make_measured_rows, make_tested_rows

from bids_sr.evaluation.changes import find_change, write_change
from bids_sr.evaluation.contrast_results import collect_results
from bids_sr.evaluation.result import make_result
from bids_sr.evaluation.result_text import plain_result
from bids_sr.glm.region_means import MeanEffect
from bids_sr.report.results_paragraph import write_paragraphs

SELF_TEST = {"from_mm": [12, 12, 3.3], "to_mm": [6, 6, 3.3]}
MEASURED = {"all": ((0.52, 0.02), (0.35, 0.08))}
BASELINE = make_detail_row("sdmod", 0.36, "acquired40", half_width=0.03)


def store(root: Path, run: str, rows, methods=("sbl",), **options) -> None:
    verdict = judge_rows(rows, methods, self_test_facts=SELF_TEST, **options)
    folder = root / run.partition("_")[0] / "func"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{run}_desc-verdict_metrics.json").write_text(json.dumps(verdict.to_json()))


def paragraph(root: Path, task: str = "tap", label: str = "*") -> str:
    return write_paragraphs(root, label)[task].replace("\N{NO-BREAK SPACE}", " ")


def test_a_measured_run_names_reference_value_baseline_and_contrasts(tmp_path: Path) -> None:
    rows = [*make_tested_rows(), *make_measured_rows(MEASURED), BASELINE]
    store(tmp_path, "sub-01_task-tap", rows)
    text = paragraph(tmp_path)
    for part in (
        "In the run of the task tap",
        "from 6 mm to 3 mm with sbl",
        "The reference was the same run measured at the high resolution",
        "sbl explained 52 % (95 % interval 50 to 54 %) of the detail of “all” in active voxels",
        "35 % (95 % interval 27 to 43 %) in the whole brain",
        "strongest baseline, sdmod, explained 36 % (95 % interval 33 to 39 %)",
        "interpreted in active voxels for “all”, body, house and body − others",
        "and in the whole brain for “all”, body and house",
        "contradicted in active voxels for scene and scene − others",
        "and in the whole brain for body − others, scene and scene − others",
        "did not decide on the detail in active voxels and in the whole brain for tool − others",
        "neither measured nor tested in active voxels and in the whole brain for face",
    ):
        assert part in text
    assert "no high-resolution reference" not in text


def store_all_runs(
    root: Path, label: str, effects: Mapping[str, float], runs: Sequence[str]
) -> str:
    """Store the verdict of all runs, with changes of regions, and return its text.

    Changes above .5 are found.
    """
    noise = {"noise_sd": 0.1, "noise_dof": 50.0}
    means = {("roi", name): MeanEffect(effect=value, **noise) for name, value in effects.items()}
    change, _ = find_change("aRun2MinusARun1", "a@run-2 − a@run-1", means)
    rows = make_tested_rows({"all": ((0.55, 0.1), (0.4, 0.1))})
    result = make_result("sbl", collect_results(rows, "sbl"), rows, sizes=("6 mm", "3 mm"))
    facts = plain_result(replace(result, changes=(change,)))
    facts["runs"] = [f"sub-{label}_task-tap_{run}" for run in runs]
    folder = root / f"sub-{label}" / "func"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"sub-{label}_task-tap_desc-verdict_metrics.json"
    file.write_text(json.dumps(facts))
    return write_change(change).replace("\N{NO-BREAK SPACE}", " ")


def test_the_verdict_of_all_runs_replaces_those_of_its_runs(tmp_path: Path) -> None:
    """The text of a change is that of the record; others are not listed."""
    for run, value in (("run-1", 0.5), ("run-2", 0.6)):
        tested = {"all": ((value, 0.1), (0.4, 0.1))}
        store(tmp_path, f"sub-01_task-tap_{run}", make_tested_rows(tested))
    text = store_all_runs(tmp_path, "01", {"motor": 1.0, "still": 0.01}, ("run-1", "run-2"))
    single = paragraph(tmp_path)
    assert "In 2 runs of the task tap (1 participant)" in single
    assert "explained 55 % (95 % interval 45 to 65 %)" in single
    assert "60 %" not in single
    assert f"In sub-01, {text}" in single
    store_all_runs(tmp_path, "02", {"motor": 0.01, "still": 0.02}, ("run-1", "run-2"))
    both = paragraph(tmp_path)
    assert "a@run-2 − a@run-1 changed: motor in 1 of 2 participants (sub-01)." in both
    assert "still" not in both


def test_answers_of_the_test_are_counted_if_a_reference_exists(tmp_path: Path) -> None:
    rows = [*make_tested_rows(), *make_measured_rows({"all": ((0.52, math.nan), (0.35, 0.08))})]
    store(tmp_path, "sub-01_task-tap", rows)
    text = paragraph(tmp_path)
    assert "sbl explained 52 % (no interval) of the detail of “all” in active voxels" in text
    assert "the test at half the resolution decided" in text


def test_several_runs_have_a_range_and_numbers_of_runs(tmp_path: Path) -> None:
    for label, value in (("01", 0.5), ("02", 0.6), ("03", 0.4)):
        tested = {"all": ((value, 0.1), (0.4, 0.1)), "face": None}
        store(tmp_path, f"sub-{label}_task-tap", make_tested_rows(tested))
    text = paragraph(tmp_path)
    for part in ("3 runs of the task tap (3 participants)", "40 % to 60 % (median 50 %, n = 3)"):
        assert part in text
    assert "“all” (3 of 3)" in text
    assert "In the run of the task tap" in paragraph(tmp_path, label="02")
