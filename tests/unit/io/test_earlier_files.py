"""Files of a run that are left from an earlier call are moved; no other files are."""

from pathlib import Path

import pytest

from bids_sr.io.earlier_files import EARLIER, move_earlier_files, run_prefix

RUN = "sub-01_task-tap_run-1"
NEW = (
    f"sub-01/func/{RUN}_contrast-all_stat-t_desc-sbl_statmap.nii.gz",
    f"sub-01/func/{RUN}_desc-sbl_bold.nii.gz",
    f"derivatives/bids-sr-sbl/sub-01/func/{RUN}_desc-preproc_bold.nii.gz",
)
SIDECARS = (
    f"sub-01/func/{RUN}_stat-t_desc-sbl_statmap.json",
    f"sub-01/{RUN}_contrast-all_statmap.json",
)
OLD = (
    f"sub-01/func/{RUN}_contrast-all_stat-t_desc-sblFwhm50_statmap.nii.gz",
    f"sub-01/func/{RUN}_contrast-other_stat-t_desc-sbl_statmap.nii.gz",
    f"sub-01/func/{RUN}_desc-evaluation_metrics.tsv",
    f"derivatives/bids-sr-sbl/sub-01/func/{RUN}_space-T1w_desc-preproc_bold.nii.gz",
    f"derivatives/bids-sr-srgan/sub-01/func/{RUN}_desc-preproc_bold.nii.gz",
    f"sub-01/figures/{RUN}_desc-truth_bold.svg",
)
OLD_SIDECARS = (
    f"sub-01/figures/{RUN}_desc-truth_bold.svg.json",
    f"sub-01/func/{RUN}_stat-t_desc-sblFwhm50_statmap.json",
    f"sub-01/{RUN}_contrast-other_statmap.json",
    f"sub-01/func/{RUN}_desc-evaluation_metrics.json",
    # a stored file of this name is in another data set
    f"derivatives/bids-sr-srgan/sub-01/func/{RUN}_desc-preproc_bold.json",
)
OTHERS = (
    "derivatives/bids-sr-srgan/sub-01/anat/sub-01_desc-preproc_T1w.nii.gz",
    "sub-01/func/sub-01_task-tap_run-2_contrast-all_stat-t_desc-sblFwhm50_statmap.nii.gz",
    "sub-01/func/sub-01_task-tap_run-10_desc-sbl_bold.nii.gz",
    "sub-01/anat/sub-01_desc-preproc_T1w.nii.gz",
    "sub-02/func/sub-02_task-tap_run-1_desc-sbl_bold.nii.gz",
    f"sourcedata/retrospective/sub-01/func/{RUN}_bold.nii.gz",
    "sub-01.html",
)


def write_files(root: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        (
            "sub-01_ses-a_task-tap_acq-x_run-1_desc-sbl_bold.nii.gz",
            "sub-01_ses-a_task-tap_acq-x_run-1",
        ),
        ("sub-01_ses-a_desc-preproc_T1w.nii.gz", "sub-01_ses-a"),
        ("sub-01_task-tap_bold.json", "sub-01_task-tap"),
        ("participants.tsv", ""),
    ],
)
def test_the_scope_of_a_file_is_its_run_or_session(name: str, scope: str) -> None:
    assert run_prefix(name) == scope


@pytest.mark.parametrize("directory", ["out", "sub-01/out"])
def test_files_of_the_run_from_earlier_calls_are_moved(tmp_path: Path, directory: str) -> None:
    out = tmp_path / directory
    raw = (f"sub-01/func/{RUN}_bold.nii.gz",)
    write_files(tmp_path, raw)
    write_files(out, (*NEW, *SIDECARS, *OLD, *OLD_SIDECARS, *OTHERS))
    stored = {out / name for name in (*NEW, "sub-01/anat/sub-01_desc-preproc_T1w.nii.gz")}
    set_aside_names = move_earlier_files(out, stored, with_all_runs=False)
    assert {run: set(names) for run, names in set_aside_names.items()} == {
        RUN: {Path(name).name for name in OLD}
    }
    earlier_files = {str(EARLIER / name) for name in (*OLD, *OLD_SIDECARS)}
    assert files(out) == {*NEW, *SIDECARS, *OTHERS} | earlier_files
    assert all((out / EARLIER / name).read_text() == name for name in OLD)
    assert (tmp_path / raw[0]).exists()
    assert move_earlier_files(out, stored, with_all_runs=False) == {}


def test_results_over_runs_are_moved_if_the_call_processed_all_runs(tmp_path: Path) -> None:
    run = "sub-01/ses-a/func/sub-01_ses-a_task-tap_run-1_desc-sbl_bold.nii.gz"
    over_runs = "sub-01/ses-a/func/sub-01_ses-a_task-tap_desc-sbl_statmap.nii.gz"
    over_sessions = "sub-01/func/sub-01_task-tap_desc-sbl_statmap.nii.gz"
    other_task = "sub-01/func/sub-01_task-rest_desc-sbl_statmap.nii.gz"
    write_files(tmp_path, (run, over_runs, over_sessions, other_task))
    assert move_earlier_files(tmp_path, {tmp_path / run}, with_all_runs=False) == {}
    moved = move_earlier_files(tmp_path, {tmp_path / run}, with_all_runs=True)
    names = {name for names in moved.values() for name in names}
    assert names == {Path(over_runs).name, Path(over_sessions).name}
