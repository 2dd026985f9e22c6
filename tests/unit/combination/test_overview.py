"""Test the first part of a participant's page: map, runs and error."""

import re
from dataclasses import replace

import pytest
from data.rows import make_tested_rows

from bids_sr.combination.overview import (
    MapError,
    ParticipantMap,
    participant_html,
)
from bids_sr.evaluation.contrast_results import collect_results
from bids_sr.evaluation.self_test import SelfTestResults

RUNS = [
    MapError(
        name=f"run-{k}",
        weight=1 / 3,
        noise=0.2,
        reconstruction=0.15,
        interval=0.49,
        significant_mm3=8000.0,
        reliable_mm3=3000.0,
    )
    for k in (1, 2, 4)
]
FACTS = ParticipantMap(
    entities={"subject": "01", "task": "tap"},
    series="sbl",
    contrast="all",
    fwhm_mm=0.0,
    at_rest=False,
    runs=RUNS,
    combined=replace(
        RUNS[0],
        name="all",
        noise=0.115,
        reconstruction=0.137,
        interval=0.351,
        largest_effects_interval=2.1,
        reliable_mm3=4500.0,
    ),
    n_voxels=1234,
    in_region=True,
    shared=0.75,
    no_error="",
    person_interval=0.4,
    left_out={"run-3": "the weights of the trial types differ from the weights in most runs"},
    not_applied=(),
    files="sub-01/func/sub-01_task-tap_space-firstBoldref_contrast-*_statmap.nii.gz",
)


def text_of(facts: ParticipantMap) -> str:
    text = re.sub(r"<[^>]+>", " ", participant_html(facts))
    return " ".join(text.replace("\N{NO-BREAK SPACE}", " ").replace("&gt;", ">").split())


def test_map_runs_error_and_skipped_runs_are_named() -> None:
    text = text_of(FACTS)
    for part in (
        "sub-01 · task tap · all runs together",
        "Map of the participant: mean of 3 runs (run-1, run-2 and run-4), with equal weights.",
        "Error of the sbl map (contrast all, unsmoothed): the median 95 % interval of the effect"
        " is ± 0.35 % of the mean brain signal in the 1,234 significant voxels (FDR .05), with"
        " medians of 0.12 % for the SD of the noise and 0.14 % for the SD of the reconstruction"
        " error.",
        "In the 5 % of these voxels that have the largest effects, the median interval is"
        " ± 2.1 %.",
        "Most of it repeats in every run (correlation between runs 0.75)",
        "Left out: run-3 (the weights of the trial types differ from the weights in most runs).",
        "including runs that were not acquired, the 95 % interval is ± 0.40 %",
        "sub-01/func/sub-01_task-tap_space-firstBoldref_contrast-*_statmap.nii.gz",
        "run-1 0.33 0.20 0.15 0.49 8.0 3.0",
        "reconstruction error SD, %",
    ):
        assert part in text
    assert re.search(r"all runs together 0\.1[12] 0\.14 0\.35 8\.0 4\.5", text)


@pytest.mark.parametrize(
    ("changes", "present", "absent"),
    [
        ({"left_out": {}}, "No run was left out.", "Left out"),
        ({"shared": 1.0}, "is taken to be the same in all runs", "correlation"),
        ({"person_interval": None}, "Left out", "not acquired"),
        ({"in_region": False}, "the brain (because no voxel is significant", "1,234"),
        ({"fwhm_mm": 5.0, "at_rest": True}, "(seed all, 5 mm FWHM)", "unsmoothed"),
        ({"files": ""}, "Left out", "Files"),
        (
            {"entities": {"subject": "01", "session": "A", "task": "tap"}},
            "sub-01 · session A, task tap · all runs together",
            "· task tap",
        ),
    ],
)
def test_sentences_follow_the_facts(changes: dict[str, object], present: str, absent: str) -> None:
    text = text_of(replace(FACTS, **changes))
    assert present in text
    assert absent not in text


def test_detail_of_all_contrasts_and_missing_contrasts_are_named() -> None:
    rows = make_tested_rows()
    facts = replace(
        FACTS,
        rows=rows,
        results=collect_results(rows, "sbl"),
        self_test=SelfTestResults(sizes=("12", "6")),
        uncombined=["face, faceMinusOthers (only in run-2)"],
    )
    text = text_of(facts)
    assert "sbl recovers detail of 4 of 8 contrasts in active voxels" in text
    assert "Contrasts without a map of all runs: face, faceMinusOthers (only in run-2)." in text
    assert "house recovered 58 % (46 to 70)" in text
    assert "acquired effect of the other half, at half the resolution (12 → 6 mm)" in text
    assert "test of this run" not in text
    assert text.index("recovers detail") < text.index("Left out:") < text.index("Error of the sbl")


def test_a_missing_error_is_explained_and_its_columns_are_omitted() -> None:
    runs = [
        replace(run, reconstruction=None, significant_mm3=None, reliable_mm3=None) for run in RUNS
    ]
    without_error = replace(
        FACTS,
        runs=runs,
        combined=replace(FACTS.combined, reconstruction=None, reliable_mm3=None),
        shared=None,
    )
    text = text_of(replace(without_error, not_applied=["run-2"]))
    assert (
        "because the reconstruction error is unknown: sbl was not applied to run-2 (zero filled)"
    ) in text
    for head in ("reconstruction error SD, %", "significant voxels cm³", "reliable voxels"):
        assert head not in text
    reason = "There is no stat-sd map, because the error was not estimated in run-1"
    assert f"{reason}." in text_of(replace(without_error, no_error=reason))
    # The error of a series without a prior does not include reconstruction.
    assert "is unknown" not in text_of(without_error)


def test_no_interval_is_given_without_the_reconstruction_error() -> None:
    combined = replace(
        FACTS.combined, reconstruction=None, interval=None, largest_effects_interval=None
    )
    facts = replace(
        FACTS, combined=combined, shared=None, person_interval=None, not_applied=["run-2"]
    )
    text = text_of(facts)
    assert "±" not in text.split("Error of the sbl map (medians")[0]
    assert "no interval of the effect" in text


@pytest.mark.parametrize(
    ("changes", "present"),
    [
        (
            {"disagreeing_runs": {"run-1": "reversed", "run-2": "reversed"}},
            ["Caution: run-1 and run-2 disagree.", "Failed check: run-1 disagrees"],
        ),
        ({"fewer_than": "run-2"}, ["less than half of the significant voxels of run-2"]),
        ({"scales": {"run-2": 3.0}}, ["relative to run-1 (run-2 3)"]),
        ({"equal_weights": False}, ["with weights by their noise"]),
        (
            {"combined": replace(FACTS.combined, noise=0.3)},
            [
                "more noise (0.30 %) than the map of run-1 (0.20 %)",
                "--set activation.combine_weights=precision",
            ],
        ),
        ({"person_interval": 0.36}, ["Both intervals are similar"]),
        ({"runs": RUNS[:1]}, ["the map of run-1, because other runs were left out"]),
    ],
)
def test_odd_combinations_are_named(changes: dict[str, object], present: list[str]) -> None:
    text, plain = text_of(replace(FACTS, **changes)), text_of(FACTS)
    for part in present:
        assert part in text
        assert part not in plain
