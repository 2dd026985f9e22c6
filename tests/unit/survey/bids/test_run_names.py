"""Names of results distinguish runs; runs that would overwrite another result are rejected."""

from pathlib import Path

import pytest
from data.calls import problem_of

from bids_sr.survey.bids.derivative_folders import refuse_output_as_data
from bids_sr.survey.bids.run_names import judge_names, select_distinct
from bids_sr.survey.notices import InputError

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


def test_fmriprep_output_is_refused_as_input_data(tmp_path: Path) -> None:
    description = tmp_path / "dataset_description.json"
    description.write_text('{"GeneratedBy": [{"Name": "fMRIPrep"}]}')
    with pytest.raises(InputError) as refusal:
        refuse_output_as_data(tmp_path)
    problem_of(refusal.value.problems, str(description), f"-d fmriprep={tmp_path}")
