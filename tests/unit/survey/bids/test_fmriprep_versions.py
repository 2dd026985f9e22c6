"""Whole surveys with outputs of fMRIPrep 20 to 26, and directories that are not its outputs."""

import json
import shutil
from pathlib import Path

import pytest
from data.calls import about, only_run, plan_for, problem_of, settings_for, survey_for
from data.dataset import BidsMaker
from data.fmriprep import SPACE, FmriprepMaker, break_link, prepared, use
from data.records import make_settings

from bids_sr.config.settings import analysis_digest
from bids_sr.io.dataset_description import dataset_root, write_dataset, write_series_dataset
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.derivative_folders import open_derivatives
from bids_sr.survey.bids.inheritance import read_object
from bids_sr.survey.bids.method_options import judge_options
from bids_sr.survey.notices import InputError, group_notices
from bids_sr.survey.preflight.events import read_events_table
from bids_sr.survey.preflight.plan_text import format_problems
from bids_sr.survey.preflight.region_spaces import choose_template

STEM = "sub-01/func/sub-01_task-tap"
BOLD = "sub-01_task-tap_bold.nii.gz"
SCANNER_COREG = "from-scanner_to-T1w_mode-image_xfm.txt"
TABLE = "desc-confounds_timeseries.tsv"


@pytest.mark.parametrize(
    ("version", "hmc", "coreg", "table"),
    [
        ("20.0.7", "", "", "desc-confounds_regressors.tsv"),
        ("20.2.7", "", SCANNER_COREG, TABLE),
        ("22.0.2", "", SCANNER_COREG, TABLE),
        ("23.0.2", "from-scanner_to-boldref_mode-image_xfm.txt", SCANNER_COREG, TABLE),
        (
            "25.2.5",
            "from-orig_to-boldref_mode-image_desc-hmc_xfm.txt",
            "from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt",
            TABLE,
        ),
        (
            "26.0.0",
            "from-orig_to-run_mode-image_desc-hmc_xfm.txt",
            "from-run_to-T1w_mode-image_desc-coreg_xfm.txt",
            TABLE,
        ),
    ],
)
def test_file_names_of_every_fmriprep_version_are_recognized(
    maker: BidsMaker, version: str, hmc: str, coreg: str, table: str
) -> None:
    root = prepared(maker, version=version, n_dummy=2).root
    maker.path("sub-01_T1w.nii.gz", "anat").unlink()  # fMRIPrep's image is used
    plan = plan_for(maker, *use(maker))
    assert plan.problems == ()
    assert plan.subjects[0].t1w == (root / "sub-01/anat/sub-01_desc-preproc_T1w.nii.gz",)
    precomputed = only_run(plan).precomputed
    assert precomputed is not None
    stem = root / STEM
    assert precomputed.confounds == Path(f"{stem}_{table}")
    assert precomputed.hmc == (Path(f"{stem}_{hmc}") if hmc else None)
    assert precomputed.coreg == (Path(f"{stem}_{coreg}") if coreg else None)
    space = "_space-run" if version == "26.0.0" else ""
    assert precomputed.mask == Path(f"{stem}{space}_desc-brain_mask.nii.gz")
    assert precomputed.n_dummy == 2
    assert precomputed.origin.text == f"fMRIPrep {version}"
    notices = about(plan.warnings, BOLD, version)
    assert len(notices) == (not hmc) + (not coreg)


def test_derivatives_need_the_option_and_are_named_by_their_software(maker: BidsMaker) -> None:
    root = prepared(maker).root
    without = survey_for(maker, "--sr-method", "bspline")
    assert without.subjects[0].precomputed is None
    assert only_run(without).precomputed is None
    assert survey_for(maker, "-d", str(root)).subjects[0].precomputed.origin.name == "fmriprep"
    settings = settings_for(maker, *use(maker))
    assert settings.preprocessing.derivatives == (f"fmriprep={root}",)
    assert analysis_digest(settings) != analysis_digest(settings_for(maker))


def test_runs_are_matched_by_entities_and_run_number(maker: BidsMaker) -> None:
    for path in maker.root.rglob("*task-tap*"):
        path.unlink()
    fmriprep = FmriprepMaker(maker.root.parent / "prep")
    fmriprep.anat(maker.path("sub-01_T1w.nii.gz", "anat"))
    for number in ("1", "2"):
        fmriprep.run(maker.bold(f"sub-01_task-tap_dir-AP_run-{number}"))
    for path in (fmriprep.root / "sub-01" / "func").iterdir():
        path.rename(path.with_name(path.name.replace("_run-", "_run-0")))
    (subject,) = survey_for(maker, *use(maker)).subjects
    assert [run.precomputed.hmc.name.partition("_from")[0] for run in subject.runs] == [
        f"sub-01_task-tap_dir-AP_run-0{number}" for number in (1, 2)
    ]


def test_notices_that_hold_for_all_runs_are_shown_once(maker: BidsMaker) -> None:
    fmriprep = prepared(maker, version="21.0.1", func=False)
    fmriprep.run(maker.bold("sub-01_task-rest"), func=False)
    plan = plan_for(maker, *use(maker))
    assert [run.precomputed.mask for run in plan.runs] == [None, None]
    notices = about(plan.warnings, "_bold.nii.gz", "21.0.1")
    assert len(notices) == 4
    shown = group_notices(notices)
    assert [notice.what.endswith(" and 1 more") for notice in shown] == [True, True]
    assert about(shown, "", "23.2.3", "--output-spaces func")
    assert about(shown, "", "22.1")


def test_transforms_to_a_template_are_used_if_the_template_is_on_this_computer(
    maker: BidsMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise, the T1w image is registered to the default template, which needs no network."""
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "flow"))
    other = "MNI152NLin6Asym"
    root = prepared(maker).root
    notices = plan_for(maker, *use(maker, "--output-spaces", "MNI152NLin2009aSym")).warnings
    assert about(notices, "sub-01", "MNI152NLin2009aSym")
    for path in [*root.rglob(f"*{SPACE}*_xfm.*")]:
        path.rename(str(path).replace(SPACE, other))
    plan = plan_for(maker, *use(maker))
    settings = settings_for(maker, *use(maker))
    assert choose_template(settings, plan.subjects[0]) == SPACE
    assert about(plan.warnings, "sub-01", SPACE, other, "--output-spaces")
    (folder := tmp_path / "flow" / f"tpl-{other}").mkdir(parents=True)
    for ending in ("T1w", "desc-brain_mask"):
        (folder / f"tpl-{other}_res-01_{ending}.nii.gz").write_bytes(bytes(400))
    plan = plan_for(maker, *use(maker))
    assert choose_template(settings, plan.subjects[0]) == other
    assert not about(plan.warnings, "sub-01", SPACE)


# ---- participants and directories


def test_participants_without_derivatives_are_skipped_or_refused(maker: BidsMaker) -> None:
    maker.subject("02")
    prepared(maker, "02")
    plan = plan_for(maker, *use(maker))
    assert [subject.label for subject in plan.subjects] == ["02"]
    (problem,) = plan.skipped["sub-01_task-tap"]
    problems = plan_for(maker, *use(maker, "--participant-label", "01")).problems
    assert problem_of(problems, "sub-01 (--derivatives)", "sub-02") == problem


def test_two_derivatives_directories_are_combined(maker: BidsMaker) -> None:
    root = prepared(maker).root
    anatomy = FmriprepMaker(maker.root.parent / "anatomy").root
    shutil.move(root / "sub-01" / "anat", anatomy / "sub-01" / "anat")
    (root / "sub-02").mkdir()
    result = survey_for(maker, "-d", f"func={root}", f"anat={anatomy}")
    assert result.problems == []
    assert result.subjects[0].precomputed.origin.name == "anat"
    assert only_run(result).precomputed.origin.name == "func"
    assert only_run(result).precomputed.coreg is not None


def describe(folder: Path, program: str) -> Path:
    """Write the description of a directory with outputs of a program."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"Name": "x", "BIDSVersion": "1.9.0", "GeneratedBy": [{"Name": program}]}
    (folder / "dataset_description.json").write_text(json.dumps(content))
    return folder


def refuse(*options: str | Path, bids_dir: Path) -> Notice:
    """Return the only problem of the directories of ``--derivatives``."""
    choice = open_derivatives(map(str, options), bids_dir)
    (problem,) = choice.notices
    assert choice.value == ()
    assert problem.remedy
    return problem


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (None, []),
        ("{", ["JSON"]),
        ('{"Name": "x"}', ["GeneratedBy"]),
        ('{"GeneratedBy": [{"Name": "HALFpipe"}]}', ["HALFpipe"]),
        ('{"GeneratedBy": [{"Name": " "}]}', ["unknown"]),
        ('{"GeneratedBy": [{"Version": "1"}]}', ["unknown"]),
    ],
)
def test_derivatives_of_other_software_are_refused(
    tmp_path: Path, content: str | None, values: list[str]
) -> None:
    description = describe(tmp_path / "prep", "x") / "dataset_description.json"
    description.unlink()
    describe(tmp_path / "other_study", "fMRIPrep")
    if content is not None:
        description.write_text(content)
    problem = refuse(tmp_path / "prep", bids_dir=tmp_path / "bids")
    assert about([problem], str(description), *values)
    assert "other_study" not in problem.remedy


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("outer", "outer/fmriprep"),
        ("bids", "bids/derivatives/fmriprep"),
        ("prep/sub-01", "prep"),
    ],
)
def test_the_fmriprep_output_near_a_wrong_directory_is_suggested(
    tmp_path: Path, given: str, meant: str
) -> None:
    describe(tmp_path / meant, "fMRIPrep")
    describe(tmp_path / "outer" / "aroma", "fMRIPost-AROMA")
    (tmp_path / given).mkdir(exist_ok=True)
    problem = refuse(tmp_path / given, bids_dir=tmp_path / "bids")
    assert str(tmp_path / given) in problem.what
    assert f" {tmp_path / meant}." in problem.remedy


def test_output_of_bids_sr_and_the_data_set_are_refused_as_derivatives(tmp_path: Path) -> None:
    bids_dir, out = tmp_path / "bids", tmp_path / "out"
    write_dataset(out, bids_dir=bids_dir, version="1")
    write_series_dataset(out, "sbl", bids_dir=bids_dir, version="1")
    for root in (out, dataset_root(out, "sbl")):
        assert about([refuse(root, bids_dir=bids_dir)], str(root), "bids-sr", "--derivatives")
    describe(bids_dir, "x")
    assert refuse(bids_dir, bids_dir=bids_dir).what == str(bids_dir / "dataset_description.json")


def test_directories_of_derivatives_need_different_names(tmp_path: Path) -> None:
    first = describe(tmp_path / "one", "fMRIPrep")
    second = describe(tmp_path / "two", "sMRIPrep")
    names = [folder.name for folder in open_derivatives([str(first), str(second)], tmp_path).value]
    assert names == ["fmriprep", "smriprep"]
    problem = refuse(f"a={first}", f"a={second}", bids_dir=tmp_path)
    assert (problem.what, problem.code) == (f"--derivatives a={second}", "option")


def test_derivatives_of_runs_to_be_downsampled_are_refused(tmp_path: Path) -> None:
    faults = judge_options(make_settings("-d", str(tmp_path), "--retrospective"))
    assert about(faults, "--derivatives", "--retrospective")


# ---- files that were not downloaded


def test_all_files_not_downloaded_are_listed_in_one_problem(maker: BidsMaker) -> None:
    root = prepared(maker).root
    for path in root.rglob("sub-01_*"):
        break_link(path)
    problems = plan_for(maker, *use(maker)).problems
    # T1w, mask, labels, three maps, two transforms; motion, registration, table, mask
    assert [problem.code for problem in problems] == ["annex"] * 12
    text = format_problems(problems)
    assert text.count("datalad get") == 1
    names = [str(Path(problem.what).relative_to(root / "sub-01")) for problem in problems]
    assert f"cd {root / 'sub-01'} && datalad get {' '.join(names)}" in text


def test_descriptions_sidecars_and_tables_must_be_downloaded(tmp_path: Path) -> None:
    for reader, name in ((read_object, "x.json"), (read_events_table, "x_events.tsv")):
        path = tmp_path / name
        path.symlink_to(".git/annex/objects/nowhere")
        for _ in ("broken link", "pointer"):
            with pytest.raises(InputError) as refusal:
                reader(path)
            problem_of(refusal.value.problems, str(path), "datalad get", code="annex")
            path.unlink(missing_ok=True)
            path.write_text("/annex/objects/MD5E-s693--78ca.json\n")
