"""Invalid runs do not stop valid runs: excluded runs, and exit codes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from data.calls import about, arguments, plan_for, plan_with_validator, settings_for
from data.dataset import BidsMaker

from bids_sr.cli import main as program
from bids_sr.config import Settings
from bids_sr.engine.execute import RunOutcome
from bids_sr.io.notices import RECORD, Notice, read_record, record
from bids_sr.report.index_page import write_index
from bids_sr.report.run_notes import record_run
from bids_sr.survey.bids.inputs import HighresReference
from bids_sr.survey.preflight.exclusions import exclude, list_files
from bids_sr.survey.preflight.plan import Plan
from bids_sr.workflows.call_checks import check

FIRST, SECOND, OTHER = "sub-01_task-tap", "sub-01_task-tap_run-2", "sub-02_task-tap"
RUNS = [FIRST, SECOND, OTHER]


@pytest.fixture
def three_runs(tmp_path: Path) -> BidsMaker:
    """Return a dataset with two runs of sub-01 and a run of sub-02."""
    maker = BidsMaker(tmp_path / "bids")
    maker.subject("01")
    maker.subject("02")
    maker.bold(SECOND)
    maker.events(SECOND)
    return maker


def names(plan: Plan) -> list[str]:
    """Return the runs of a plan without problems."""
    assert plan.problems == ()
    return [run.stem for run in plan.runs]


# ---- which runs a problem stops


@pytest.mark.parametrize(
    ("subject", "run", "file", "stopped"),
    [
        ("01", SECOND, f"{FIRST}_bold.json", [SECOND]),
        ("01", FIRST, "task-tap_events.tsv", [FIRST]),
        ("01", "", "sub-01/anat/sub-01_T1w.nii.gz", [FIRST, SECOND]),
        ("01", "", f"sub-01/func/{SECOND}_bold.nii.gz", [SECOND]),
        ("02", "", "sub-02 (its name and more)", [OTHER]),
        ("02", "", "--sr-method srgan", None),
        ("03", "", "sub-03", None),
        ("", "", f"sub-01/func/{SECOND}_bold.nii.gz", None),
        ("01", "", "truth", [FIRST]),
        ("01", "", "calibration", [FIRST]),
        ("01", "", "echo", [FIRST]),
    ],
)
def test_participant_and_file_of_a_problem_determine_the_runs_that_it_stops(
    three_runs: BidsMaker, subject: str, run: str, file: str, stopped: list[str] | None
) -> None:
    """A problem of a reference, calibration or echo stops the run that uses this image."""
    subjects = check(settings_for(three_runs)).subjects
    runs = {bold_run.stem: bold_run for participant in subjects for bold_run in participant.runs}
    first = runs[FIRST]
    image = three_runs.root / "sub-01" / "func" / f"{FIRST}_acq-x_dir-PA_bold.nii.gz"
    related = replace(first, header=replace(first.header, path=image))
    changes = {
        "truth": {"truth": HighresReference(root=three_runs.root, series=related)},
        "calibration": {"calibration": related},
        "echo": {"echoes": ((first.bold, 15.0), (image, 30.0))},
    }
    runs[FIRST] = replace(first, **changes.get(file, {}))
    what = str(three_runs.root / file) if file.endswith((".json", ".tsv", ".gz")) else file
    problem = Notice(
        what=str(image) if file in changes else what,
        subject=subject,
        run=run,
        code="option" if what.startswith("--") else "input",
    )
    files = {name: (bold_run.bold, *list_files(bold_run)) for name, bold_run in runs.items()}
    remaining, skipped, problems = exclude([problem], files, subjects)
    if stopped is None:
        assert (remaining, skipped, problems) == (subjects, {}, (problem,))
    else:
        assert (skipped, problems) == (dict.fromkeys(stopped, (problem,)), ())
        assert [run.stem for participant in remaining for run in participant.runs] == [
            name for name in RUNS if name not in stopped
        ]
    assert exclude((), {}, ()) == ((), {}, ())


def test_skipped_runs_stop_the_call_if_it_is_strict_or_none_remains(three_runs: BidsMaker) -> None:
    three_runs.bold(SECOND, n_volumes=1)
    plan = plan_for(three_runs)
    assert (names(plan), list(plan.skipped)) == ([FIRST, OTHER], [SECOND])
    plan = plan_for(three_runs, "--strict")
    assert [Path(problem.what).name for problem in plan.problems] == [f"{SECOND}_bold.nii.gz"]
    assert plan.skipped == {}
    space = "--output-spaces MNI152NLin2009cAsym:res-7"
    assert [problem.what for problem in plan_for(three_runs, *space.split()).problems] == [space]
    for stem in (FIRST, OTHER):
        three_runs.bold(stem, n_volumes=1)
    assert len(plan_for(three_runs).problems) == 3


# ---- exit codes and records


@pytest.mark.parametrize("damage", ["header", "voxels"])
def test_the_program_ends_with_0_and_names_the_skipped_run_last(
    three_runs: BidsMaker,
    damage: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if damage == "header":
        three_runs.bold(SECOND, n_volumes=1)
    else:
        three_runs.bold(SECOND, data=np.full((8, 8, 6, 30), 7, "int16"))
    (three_runs.root / "sub-02" / "fmap").mkdir()
    (three_runs.root / "sub-02" / "fmap" / "sub-02_phasediff.nii.gz").touch()
    processed: list[str] = []

    def run(settings: Settings, plan: Plan) -> RunOutcome:
        processed.extend(run.stem for run in plan.runs)
        return RunOutcome()

    monkeypatch.setattr("bids_sr.cli.participant_level.run_participants", run)
    assert program.main(arguments(three_runs)) == 0
    assert processed == [FIRST, OTHER]
    output, message = capsys.readouterr()
    (record_file,) = (three_runs.root.parent / "out" / "logs").glob(f"*/{RECORD}")
    notices = read_record(record_file.parent)
    (skipped,) = [notice for notice in notices if notice.code == "left-out"]
    assert (skipped.run, skipped.level) == (SECOND, "error")
    assert skipped.why in message
    assert f"skipped: {SECOND}" in output.splitlines()[-5:]
    assert "1 run" in output.splitlines()[-1]
    (field_map,) = about(notices, "sub-02", "-d fmriprep=DIR")
    assert (field_map.level, field_map.subject) == ("note", "02")
    processed.clear()
    assert program.main(arguments(three_runs, "--strict")) == 2
    assert not processed


def test_the_index_page_lists_skipped_runs_of_the_latest_call(tmp_path: Path) -> None:
    out, reason = tmp_path / "out", "required columns are missing: onset"
    (out / "sub-01" / "figures").mkdir(parents=True)
    for call in ("one", "two", "three"):
        (out / "logs" / call).mkdir(parents=True)
    notice = Notice(what="/data/events.tsv", why=reason, code="left-out")
    notices = [replace(notice, subject=name[4:6], run=name) for name in (SECOND, OTHER)]
    record(out / "logs" / "one", notices)
    assert record_run(out / "logs" / "one", ["01"], settings="a")
    page = write_index(out).read_text(encoding="utf-8")
    assert page.count(reason) == 2
    assert "sub-02" in page
    record(out / "logs" / "two", notices)
    assert not record_run(out / "logs" / "two", ["01"], settings="a")
    assert record_run(out / "logs" / "three", ["01", "02"], settings="a")
    assert reason not in write_index(out).read_text(encoding="utf-8")


# ---- names of files


@pytest.mark.parametrize(
    ("name", "skipped"),
    [
        (f"{OTHER}_bold.nii.gz", f"sub-01/{OTHER}"),
        ("task-tap_bold.nii.gz", "sub-01/task-tap"),
        (f"{FIRST}_b@d_bold.nii.gz", f"{FIRST}_b@d"),
        (f"{FIRST}_res-2_bold.nii.gz", f"{FIRST}_res-2"),
        (f"{FIRST}_run-3_run-4_bold.nii.gz", f"{FIRST}_run-3_run-4"),
        ("sub-01_ses-A_task-tap_bold.nii.gz", "sub-01/sub-01_ses-A_task-tap"),
        ("sub-01_task-new_BOLD.nii.gz", "sub-01_task-new"),
        ("sub-01_task-new_bold (1).nii.gz", "sub-01_task-new"),
        ("sub-01_task-new_bold.NII.GZ", "sub-01_task-new"),
        ("sub-01_task-new.nii.gz", "sub-01_task-new"),
    ],
)
def test_a_misnamed_file_stops_only_its_run(
    three_runs: BidsMaker, name: str, skipped: str
) -> None:
    bold = three_runs.path(f"{FIRST}_bold.nii.gz", "func")
    bold.with_name(name).write_bytes(bold.read_bytes())
    plan = plan_for(three_runs)
    assert names(plan) == RUNS
    assert list(plan.skipped) == [skipped]
    assert Path(plan.skipped[skipped][0].what).name == name
    if "task-new" in name:
        assert plan_for(three_runs, "--task-id", "tap").skipped == {}


def test_copies_of_a_run_are_skipped_or_noted(three_runs: BidsMaker) -> None:
    bold = three_runs.path(f"{FIRST}_bold.nii.gz", "func")
    copy = bold.with_name(f"{FIRST}_bold (1).nii.gz")
    copy.write_bytes(bold.read_bytes())
    plan = plan_for(three_runs)
    assert (names(plan), plan.skipped) == (RUNS, {})
    (note,) = about(plan.warnings, str(copy))
    assert (note.level, note.run) == ("note", FIRST)
    # with and without compression
    bold = three_runs.path(f"{SECOND}_bold.nii.gz", "func")
    bold.with_suffix("").write_bytes(bold.read_bytes())
    plan = plan_for(three_runs)
    assert names(plan) == [FIRST, OTHER]
    assert about(plan.skipped[SECOND], SECOND, "2")


@pytest.mark.parametrize(
    "name", ["sub-02_T1w.nii.gz", "sub-01_mprage_T1w.nii.gz", "sub-01_t1w.nii.gz", "T1w.nii.gz"]
)
def test_a_misnamed_anatomical_image_is_warned_of_and_stops_no_run(
    three_runs: BidsMaker, name: str
) -> None:
    image = three_runs.path("sub-01_T1w.nii.gz", "anat")
    image.rename(image.with_name(name))
    plan = plan_for(three_runs)
    assert (names(plan), plan.skipped) == (RUNS, {})
    assert [subject.t1w != () for subject in plan.subjects] == [False, True]
    (warning,) = about(plan.warnings, str(image.with_name(name)))
    assert (warning.level, warning.subject) == ("warning", "01")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (f"{FIRST}_run-02_events.tsv", ["run-02", "run-2"]),
        (f"{OTHER}_run-2_events.tsv", ["sub-02", "sub-01"]),
        ("sub-01_task-Tap_run-2_events.tsv", ["task-Tap", "task-tap"]),
        (f"{SECOND}_events.csv", ["_events.tsv"]),
        (f"{SECOND}_event.tsv", ["_events.tsv"]),
        (f"{FIRST}_run-02_bold.json", ["run-02", "run-2"]),
    ],
)
def test_a_misnamed_table_or_sidecar_is_named(
    three_runs: BidsMaker, name: str, values: list[str]
) -> None:
    kind = "bold.json" if name.endswith(".json") else "events.tsv"
    own = three_runs.path(f"{SECOND}_{kind}", "func")
    own.rename(own.with_name(name))
    first = three_runs.path(f"{FIRST}_{kind}", "func")
    if kind == "bold.json":
        first.rename(three_runs.root / "task-tap_bold.json")
    else:
        first.rename(first.with_name(f"{FIRST}_acq-x_events.tsv"))
    plan = plan_for(three_runs)
    assert names(plan) == RUNS
    (warning,) = [
        notice for notice in about(plan.warnings, "", name, *values) if notice.run == SECOND
    ]
    assert warning.level == "warning"


def test_a_run_in_bidsignore_is_noted_and_an_unusable_file_in_it_is_not(
    three_runs: BidsMaker,
) -> None:
    (three_runs.root / ".bidsignore").write_text("*_run-2_*\n*_res-2_*\n*copy*\n")
    bold = three_runs.path(f"{FIRST}_bold.nii.gz", "func")
    for name in (f"{FIRST}_res-2_bold.nii.gz", "sub-01_task-new_bold_copy.nii.gz"):
        bold.with_name(name).write_bytes(bold.read_bytes())
    plan = plan_for(three_runs)
    assert (names(plan), plan.skipped) == (RUNS, {})
    (note,) = [notice for notice in plan.warnings if ".bidsignore" in notice.why]
    assert (note.level, note.run) == ("note", SECOND)


@pytest.mark.parametrize(
    ("unit", "factor", "is_used"),
    [("meter", 1.0, True), ("micron", 1.0, True), ("meter", 1e-3, False), ("micron", 1e3, False)],
)
def test_a_header_with_another_unit_of_lengths_is_noted_or_refused(
    three_runs: BidsMaker, unit: str, factor: float, is_used: bool
) -> None:
    """Voxel sizes that are plausible in mm are used; others would need a conversion."""
    path = three_runs.path(f"{SECOND}_bold.nii.gz", "func")
    image = nb.load(path)
    affine = image.affine * np.array([factor] * 3 + [1.0])[:, None]
    changed = nb.Nifti1Image(np.asarray(image.dataobj), affine)
    changed.header.set_xyzt_units(unit, "sec")
    changed.header["pixdim"][4] = 1
    nb.save(changed, path)
    plan = plan_for(three_runs)
    assert (SECOND in names(plan)) is is_used
    (notice,) = about([*plan.warnings, *plan.skipped.get(SECOND, ())], str(path), unit)
    assert (notice.run, notice.level == "error") == (SECOND, not is_used)


# ---- the BIDS validator


def test_validator_errors_of_a_run_or_the_description_stop_them(three_runs: BidsMaker) -> None:
    three_runs.bold("sub-02_task-rest", sidecar={"TaskName": "rest"})
    for stem in (SECOND, OTHER):
        three_runs.path(f"{stem}_events.tsv", "func").write_text("duration\ttrial_type\n3\tx\n")
    plan = plan_with_validator(three_runs, "--participant-label", "01")
    assert (names(plan), list(plan.skipped)) == ([FIRST], [SECOND])
    assert names(plan_with_validator(three_runs, "--task-id", "rest")) == ["sub-02_task-rest"]
    description = three_runs.root / "dataset_description.json"
    three_runs.json(description, {"Name": "tiny", "BIDSVersion": "1.9.0", "Authors": "one"})
    plan = plan_with_validator(three_runs, "--task-id", "rest")
    assert {problem.what for problem in plan.problems} == {str(description)}
    assert about(plan.problems, str(description), "--skip-bids-validation")


@pytest.mark.parametrize("participants", ["age\n20\n30\n", "sub-01\tM\t18\n"])
def test_validator_errors_in_files_that_are_not_read_are_warnings(
    three_runs: BidsMaker, participants: str
) -> None:
    files = {
        "sub-01/func/sub-01_notbids.tsv": "01",
        "sub-01/func/sub-01_task-tap_physio.tsv": "01",
        "sub-02/anat/sub-02_T2w.json": "02",
        "participants.tsv": "",
        "notes.txt": "",
    }
    for name in files:
        (three_runs.root / name).write_text("[]" if name.endswith("json") else participants)
    image = three_runs.path("sub-01_T1w.nii.gz", "anat")
    image.rename(image.with_name("sub-01_mprage_T1w.nii.gz"))
    plan = plan_with_validator(three_runs)
    assert (names(plan), plan.skipped) == (RUNS, {})
    warnings = [notice for notice in plan.warnings if notice.code == "validator"]
    assert {warning.level for warning in warnings} == {"warning"}
    for name, label in files.items():
        found = [notice for notice in warnings if str(three_runs.root / name) in notice.what]
        assert {notice.subject for notice in found} == {label}, name
