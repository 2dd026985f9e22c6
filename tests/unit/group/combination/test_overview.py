"""Test the first part of a participant's page: map, runs and error."""

import re
from dataclasses import replace

import pytest
from data.rows import make_tested_rows

from bids_sr.evaluation.contrast_results import collect_results
from bids_sr.evaluation.result import RunResult, make_result
from bids_sr.evaluation.self_test_results import SelfTestResults
from bids_sr.group.combination.overview import (
    ParticipantMap,
    participant_html,
    participant_reasons_html,
)
from bids_sr.io.smoothing_words import smoothing_text
from bids_sr.report.first_screen import UseRow, make_view
from bids_sr.report.reasons import list_reasons

RUNS = {f"run-{k}": 1 / 3 for k in (1, 2, 4)}
FACTS = ParticipantMap(
    entities={"subject": "01", "task": "tap"},
    series="sbl",
    input_fwhm_mm=0.0,
    fwhm_mm=0.0,
    runs=RUNS,
    shared=0.75,
    no_error="",
    left_out={"run-3": "the weights of the trial types differ from the weights in most runs"},
    not_applied=(),
    result=RunResult(method="sbl"),
    views=[
        make_view(
            RunResult(method="sbl"),
            use=[
                UseRow("Map", file="sub-01/func/sub-01_task-tap_space-firstBoldref_statmap.nii.gz")
            ],
            contrast="all",
        )
    ],
)


def text_of(facts: ParticipantMap) -> str:
    html = participant_html(facts) + participant_reasons_html(facts)
    text = re.sub(r"<[^>]+>", " ", html)
    return " ".join(text.replace("\N{NO-BREAK SPACE}", " ").replace("&gt;", ">").split())


def test_map_runs_error_and_skipped_runs_are_named() -> None:
    text = text_of(FACTS)
    for part in (
        "sub-01 · task tap · all runs",
        "mean of 3 runs (run-1, run-2 and run-4), equal weights",
        "(correlation between runs 0.75)",
        f"Left out: run-3 ({FACTS.left_out['run-3']})",
        "Map statmap.nii.gz",
    ):
        assert part in text
    smoothed = text_of(replace(FACTS, input_fwhm_mm=13.2))
    assert f"equal weights · {smoothing_text(0, 13.2)}" in smoothed


WITHOUT_ERROR = {
    "shared": None,
    "not_applied": ["run-2"],
}
CASES: dict[str, tuple[dict[str, object], str, str]] = {
    "nobody left out": ({"left_out": {}}, "", "Left out"),
    "same error": ({"shared": 1.0}, "same in all runs", "correlation"),
    "no files": ({"views": ()}, "", "statmap"),
    "session": (
        {"entities": {"subject": "01", "session": "A", "task": "tap"}},
        "session A, task tap",
        "· task tap ·",
    ),
    "disagreement": (
        {"disagreeing_runs": {"run-1": "reversed", "run-2": "reversed"}},
        "Failed check: run-2 disagrees with other runs (reversed)",
        "",
    ),
    "fewer voxels": ({"fewer_than": "run-2"}, "significant voxels of run-2", ""),
    "scales": ({"scales": {"run-2": 3.0}}, "(run-2 3)", ""),
    "weights": ({"runs": {"run-1": 0.6, "run-2": 0.4}}, "weights by noise", "equal weights"),
    "one run": ({"runs": {"run-1": 1.0}}, "only run-1, because", "mean of 3"),
    "not applied": (WITHOUT_ERROR, "not applied to run-2", "correlation"),
    "no error": (
        {**WITHOUT_ERROR, "not_applied": (), "no_error": "No sd map of run-1"},
        "No sd map of run-1.",
        "correlation",
    ),
    # the error of a series without a prior does not include reconstruction
    "no prior": ({**WITHOUT_ERROR, "not_applied": ()}, "", "unknown"),
}
"""Changes of the facts, and words that are, and are no longer, on the page."""


@pytest.mark.parametrize(("changes", "present", "absent"), CASES.values(), ids=CASES)
def test_sentences_follow_the_facts(changes: dict[str, object], present: str, absent: str) -> None:
    text, plain = text_of(replace(FACTS, **changes)), text_of(FACTS)
    assert present in text
    assert not present or present not in plain
    assert not absent or absent not in text


def test_answers_and_missing_contrasts_are_named() -> None:
    rows = make_tested_rows()
    self_test = SelfTestResults(sizes=("12", "6"), final="3")
    result = make_result("sbl", collect_results(rows, "sbl"), rows, sizes=self_test.run_sizes)
    facts = replace(
        FACTS,
        result=result,
        views=[make_view(result, contrast="all")],
        reasons=list_reasons(result, rows, self_test, across_runs=True),
        uncombined=["face, faceMinusOthers (only in run-2)"],
    )
    text = text_of(facts)
    for part in (
        "54 % [42, 66] of the detail of “all”",
        "house ✓ yes 58 [46, 70]",
        "12 → 6 mm",
        "other half of the runs",
        *facts.uncombined,
    ):
        assert part in text
    assert text.index("Left out:") < text.index("54 %") < text.index("estimated by sbl")


def test_a_contrast_over_runs_is_described_by_its_weights():
    runs = {"run-1": 1.0, "run-2": -1.0}
    facts = replace(
        FACTS,
        runs=runs,
        place_share=0.02,
        left_out={},
    )
    assert "weighted sum of runs (+1 run-1, −1 run-2)" in participant_html(facts)
    page = participant_reasons_html(facts)
    assert "2 % of the variance in the brain" in page
