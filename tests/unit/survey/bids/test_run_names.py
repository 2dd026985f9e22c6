"""Names of results distinguish runs; runs that would overwrite another result are rejected."""

from pathlib import Path

import pytest
from data.calls import problem_of, survey_for
from data.dataset import BidsMaker

from bids_sr.survey.bids.run_names import judge_names, select_distinct

FUNC = Path("sub-01/func")


def check_runs(*names: str) -> tuple[list[str], list[str]]:
    paths = [FUNC / f"sub-01_task-tap_{name}bold.nii.gz" for name in names]
    sound = [path.name for path in select_distinct(paths)]
    return sound, [str(problem) for problem in judge_names(paths)]


@pytest.mark.parametrize("part", ["res-2", "space-T1w", "label-GM", "stat-t", "mod-x", "voi-1"])
def test_entities_of_derivatives_are_rejected(part: str) -> None:
    sound, problems = check_runs(f"{part}_", "run-2_")
    assert sound == ["sub-01_task-tap_run-2_bold.nii.gz"]
    assert part in problems[0]
    assert "-d fmriprep=" in problems[0]


def test_series_that_differ_only_in_desc_are_rejected() -> None:
    sound, problems = check_runs("desc-optcom_", "desc-denoised_", "acq-b_desc-denoised_")
    assert sound == ["sub-01_task-tap_acq-b_desc-denoised_bold.nii.gz"]
    (problem,) = problems
    assert "desc-optcom" in problem
    assert "--bids-filter-file" in problem


def test_fmriprep_output_is_refused_as_input_data(maker: BidsMaker) -> None:
    description = {"Name": "x", "BIDSVersion": "1.4.0", "GeneratedBy": [{"Name": "fMRIPrep"}]}
    maker.json(maker.root / "dataset_description.json", description)
    problems = survey_for(maker).problems
    problem_of(problems, "dataset_description.json", f"-d fmriprep={maker.root}")
