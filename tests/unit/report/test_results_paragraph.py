"""Paragraph on the results of a task, from the stored verdicts of its runs."""

import json
from pathlib import Path

import pandas as pd
from data.rows import judge_rows, make_detail_row, make_measured_rows, make_tested_rows

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
        "did not decide in active voxels and in the whole brain for tool − others",
        "neither measured nor tested in active voxels and in the whole brain for face",
    ):
        assert part in text
    assert "no high-resolution reference" not in text


def make_difference(**cells: object) -> dict[str, object]:
    shared = {
        "contrast": "change",
        "origin": "roi",
        "fwhm_mm": 0,
        "q": "n/a",
        "detail": "recovered",
    }
    values = {"effect": 0.5, "lower": 0.2, "upper": 0.8, "smallest_change": 0.4}
    return {**shared, "region": "motor", **values, **cells}


def test_a_difference_between_runs_is_reported_with_its_smallest_change(tmp_path: Path) -> None:
    """A region of interest has no q; without one, the label with the smallest q is shown.

    Labels of several participants are not summarized.
    """
    labels = [
        make_difference(origin="atlas", region=name, q=q, effect=q)
        for name, q in (("left", 0.2), ("right", 0.01))
    ]
    rows = {
        "sub-01": [*labels, make_difference(), make_difference(fwhm_mm=5, effect=9)],
        "sub-02": [make_difference(effect=0.7, smallest_change=0.6, detail="not testable")],
        "sub-03": labels,
        "sub-04": labels,
    }
    for name, cells in rows.items():
        store(tmp_path, f"{name}_task-tap", make_tested_rows())
        pd.DataFrame(cells).to_csv(
            tmp_path / name / "func" / f"{name}_task-tap_desc-regions_metrics.tsv",
            sep="\t",
            index=False,
        )
    single = paragraph(tmp_path, label="01")
    assert "change in motor was 0.500 % (95 % interval [0.200, 0.800]) of" in single
    assert "A difference of 0.400 % is found with a probability of 80 %" in single
    assert "The detail of the difference: recovered." in single
    text = paragraph(tmp_path)
    assert "change in motor was 0.500 to 0.700 % (median 0.600, 2 maps) of" in text
    assert "recovered and not testable" in text
    assert "left" not in text
    assert "right" not in text
    label = paragraph(tmp_path, label="03")
    assert "change in right (atlas label with the smallest q, .010) was 0.010" in label


def test_several_runs_have_a_range_and_numbers_of_runs(tmp_path: Path) -> None:
    for label, value in (("01", 0.5), ("02", 0.6), ("03", 0.4)):
        tested = {"all": ((value, 0.1), (0.4, 0.1)), "face": None}
        store(tmp_path, f"sub-{label}_task-tap", make_tested_rows(tested))
    text = paragraph(tmp_path)
    for part in ("3 runs of the task tap (3 participants)", "40 % to 60 % (median 50 %, 3 runs)"):
        assert part in text
    assert "“all” (3 runs)" in text
    assert "In the run of the task tap" in paragraph(tmp_path, label="02")
