"""Invalid runs do not stop valid runs: excluded runs, and exit codes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from data.dataset import BidsMaker

from bids_sr.bids.inputs import HighresReference
from bids_sr.cli import main as program
from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings
from bids_sr.execution.execute import RunOutcome
from bids_sr.notices import RECORD, Notice, read_record, record
from bids_sr.preflight import Plan, check
from bids_sr.preflight.exclusions import (
    _list_stopped_runs,
    describe_skipped_runs,
    exclude,
    list_files,
)
from bids_sr.preflight.validator import _find_validator
from bids_sr.report.index_page import write_index
from bids_sr.report.run_notes import record_run


def settings_for(maker: BidsMaker, *extra: str) -> Settings:
    line = [
        str(maker.root),
        str(maker.root.parent / "out"),
        "participant",
        "--skip-bids-validation",
        *extra,
    ]
    return parse_settings(line).resolve(run_uuid="x")


@pytest.fixture
def three_runs(tmp_path: Path) -> BidsMaker:
    """Return a dataset with two runs of sub-01 and a run of sub-02."""
    maker = BidsMaker(tmp_path / "bids")
    maker.subject("01")
    maker.subject("02")
    maker.bold("sub-01_task-tap_run-2")
    maker.events("sub-01_task-tap_run-2")
    return maker


def names_of(maker: BidsMaker, *extra: str) -> list[str]:
    plan = check(settings_for(maker, *extra))
    assert plan.problems == ()
    return [run.stem for subject in plan.subjects for run in subject.runs]


@pytest.mark.parametrize("problem_kind", ["echo time", "one volume", "phase alone"])
def test_a_skipped_multi_echo_run_is_named_without_echo(
    three_runs: BidsMaker, problem_kind: str
) -> None:
    for echo in (1, 2):
        te = None if problem_kind == "echo time" else 0.015 * echo
        part = "_part-phase" if problem_kind == "phase alone" else ""
        stem = f"sub-02_task-rest_echo-{echo}{part}"
        three_runs.bold(
            stem, sidecar={"EchoTime": te}, n_volumes=1 if problem_kind == "one volume" else 30
        )
    plan = check(settings_for(three_runs))
    (name,) = plan.skipped
    assert name.removesuffix("_part-phase") == "sub-02_task-rest"
    assert plan.skipped[name]


def test_a_skipped_single_echo_is_named_with_echo(three_runs: BidsMaker) -> None:
    three_runs.bold("sub-02_task-rest_echo-2", n_volumes=1)
    assert list(check(settings_for(three_runs, "--echo-idx", "2")).skipped) == [
        "sub-02_task-rest_echo-2"
    ]


@pytest.mark.parametrize(
    ("subject", "run", "file", "expected"),
    [
        ("01", "sub-01_task-tap_run-2", "sub-01_task-tap_bold.json", ["sub-01_task-tap_run-2"]),
        ("01", "sub-01_task-tap", "task-tap_events.tsv", ["sub-01_task-tap"]),
        ("01", "", "sub-01/anat/sub-01_T1w.nii.gz", ["sub-01_task-tap", "sub-01_task-tap_run-2"]),
        ("01", "", "sub-01/func/sub-01_task-tap_run-2_bold.nii.gz", ["sub-01_task-tap_run-2"]),
        ("02", "", "sub-02 (its name and more)", ["sub-02_task-tap"]),
        ("02", "", "--sr-method srgan", None),
        ("03", "", "sub-03", None),
        ("", "", "sub-01/func/sub-01_task-tap_run-2_bold.nii.gz", None),
    ],
)
def test_runs_stopped_by_a_problem(
    three_runs: BidsMaker, subject: str, run: str, file: str, expected: list[str] | None
) -> None:
    """Participant and run of a problem are set by its check, not derived from the file name."""
    runs = [
        bold_run
        for participant in check(settings_for(three_runs)).subjects
        for bold_run in participant.runs
    ]
    location = str(three_runs.root / file) if file.endswith((".json", ".tsv", ".gz")) else file
    code = "option" if location[0] == "-" else "input"
    stopped = _list_stopped_runs(
        Notice(what=location, subject=subject, run=run, code=code),
        {bold_run.stem: (bold_run.bold, *list_files(bold_run)) for bold_run in runs},
    )
    assert (list(stopped) or None) == expected


@pytest.mark.parametrize("role", ["truth", "calibration", "echo"])
def test_a_problem_of_an_image_stops_the_run_that_uses_it(
    three_runs: BidsMaker, role: str
) -> None:
    first, *further_runs = (
        run for participant in check(settings_for(three_runs)).subjects for run in participant.runs
    )
    image = three_runs.root / "sub-01" / "func" / "sub-01_task-tap_acq-highres_dir-PA_bold.nii.gz"
    header = replace(first.header, path=image)
    if role == "truth":
        first = replace(
            first,
            truth=HighresReference(root=three_runs.root, series=replace(first, header=header)),
        )
    elif role == "calibration":
        first = replace(first, calibration=replace(first, header=header))
    else:
        first = replace(first, echoes=((first.bold, 15.0), (image, 30.0)))
    files = {
        bold_run.stem: (bold_run.bold, *list_files(bold_run))
        for bold_run in (first, *further_runs)
    }
    assert _list_stopped_runs(Notice(what=str(image), subject="01"), files) == [first.stem]


def test_a_run_with_a_single_volume_is_skipped(three_runs: BidsMaker) -> None:
    three_runs.bold("sub-01_task-tap_run-2", n_volumes=1)
    assert names_of(three_runs) == ["sub-01_task-tap", "sub-02_task-tap"]
    plan = check(settings_for(three_runs))
    assert list(plan.skipped) == ["sub-01_task-tap_run-2"]
    (text,) = describe_skipped_runs(plan.skipped)
    assert "one volume" in text
    assert "rename a single image" in text


def test_a_participant_with_an_unreadable_t1w_is_skipped(three_runs: BidsMaker) -> None:
    three_runs.path("sub-01_T1w.nii.gz", "anat").write_bytes(b"no image")
    assert names_of(three_runs) == ["sub-02_task-tap"]
    (text,) = describe_skipped_runs(check(settings_for(three_runs)).skipped)
    assert text.startswith("skipped: sub-01_task-tap, sub-01_task-tap_run-2\n")


def test_strict_makes_skipped_runs_an_error(three_runs: BidsMaker) -> None:
    three_runs.bold("sub-01_task-tap_run-2", n_volumes=1)
    plan = check(settings_for(three_runs, "--strict"))
    assert [problem.what.rpartition("/")[2] for problem in plan.problems] == [
        "sub-01_task-tap_run-2_bold.nii.gz"
    ]
    assert plan.skipped == {}


def test_problems_of_all_runs_stop_the_call(three_runs: BidsMaker) -> None:
    for stem in ("sub-01_task-tap", "sub-01_task-tap_run-2", "sub-02_task-tap"):
        three_runs.bold(stem, n_volumes=1)
    assert len(check(settings_for(three_runs)).problems) == 3


def test_a_problem_of_an_option_stops_the_call(three_runs: BidsMaker) -> None:
    three_runs.bold("sub-01_task-tap_run-2", n_volumes=1)
    plan = check(
        settings_for(
            three_runs, "--task-id", "tap", "--output-spaces", "MNI152NLin2009cAsym:res-7"
        )
    )
    assert {problem.what.rpartition("/")[2] for problem in plan.problems} == {
        "--output-spaces MNI152NLin2009cAsym:res-7",
    }


def test_excluding_from_an_empty_plan() -> None:
    assert exclude((), {}, ()) == ((), {}, ())


@pytest.mark.parametrize("damage", ["header", "voxels"])
def test_the_program_ends_with_0_and_names_the_skipped_run_last(
    three_runs: BidsMaker,
    damage: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stem = "sub-01_task-tap_run-2"
    if damage == "header":
        three_runs.bold(stem, n_volumes=1)
    else:
        three_runs.bold(stem, data=np.full((8, 8, 6, 30), 7, "int16"))
    (three_runs.root / "sub-02" / "fmap").mkdir()
    (three_runs.root / "sub-02" / "fmap" / "sub-02_phasediff.nii.gz").touch()
    processed = []

    def run(settings: Settings, plan: object, print_line: object) -> RunOutcome:
        processed.extend(run.stem for participant in plan.subjects for run in participant.runs)  # type: ignore[attr-defined]
        return RunOutcome()

    monkeypatch.setattr("bids_sr.cli.participant_level.run_participants", run)
    line = [
        str(three_runs.root),
        str(three_runs.root.parent / "out"),
        "participant",
        "--skip-bids-validation",
    ]
    line += ["-w", str(three_runs.root.parent / "work")]
    assert program.main(line) == 0
    assert processed == ["sub-01_task-tap", "sub-02_task-tap"]
    output, message = capsys.readouterr()
    *name_and_reason, remedy, last_line = output.splitlines()[-5:]
    assert name_and_reason[0] == f"skipped: {stem}"
    assert remedy.startswith("  fix: ")
    assert last_line.endswith(": 1 run")
    (record_file,) = (three_runs.root.parent / "out" / "logs").glob(f"*/{RECORD}")
    notices = read_record(record_file.parent)
    (skipped,) = [notice for notice in notices if notice.code == "left-out"]
    assert (skipped.run, skipped.level) == (stem, "error")
    assert skipped.why
    assert skipped.why in message
    assert any(
        notice.level == "note" and "field maps" in notice.why and notice.subject == "02"
        for notice in notices
    )
    processed.clear()
    assert program.main([*line, "--strict"]) == 2
    assert not processed


def test_the_last_line_names_participants_without_a_processed_run(
    three_runs: BidsMaker,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for stem in ("sub-01_task-tap_run-2", "sub-02_task-tap"):
        three_runs.bold(stem, n_volumes=1)
    monkeypatch.setattr("bids_sr.cli.participant_level.run_participants", lambda *_: RunOutcome())
    out = three_runs.root.parent / "out"
    line = [str(three_runs.root), str(out), "participant", "--skip-bids-validation"]
    assert program.main([*line, "-w", str(out.with_name("work"))]) == 0
    last_line = capsys.readouterr().out.splitlines()[-1]
    assert last_line.endswith(": 2 runs, including all runs of sub-02")


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("sub-02_task-tap_bold.nii.gz", "sub-01/sub-02_task-tap"),
        ("task-tap_bold.nii.gz", "sub-01/task-tap"),
        ("sub-01_task-tap_b@d_bold.nii.gz", "sub-01_task-tap_b@d"),
        ("sub-01_task-tap_res-2_bold.nii.gz", "sub-01_task-tap_res-2"),
        ("sub-01_task-tap_run-3_run-4_bold.nii.gz", "sub-01_task-tap_run-3_run-4"),
        ("sub-01_ses-A_task-tap_bold.nii.gz", "sub-01/sub-01_ses-A_task-tap"),
        ("sub-01_task-new_BOLD.nii.gz", "sub-01_task-new"),
        ("sub-01_task-new_bold (1).nii.gz", "sub-01_task-new"),
        ("sub-01_task-new_bold.NII.GZ", "sub-01_task-new"),
        ("sub-01_task-new.nii.gz", "sub-01_task-new"),
    ],
)
def test_a_misnamed_file_stops_only_its_run(
    three_runs: BidsMaker, name: str, left_out: str
) -> None:
    """The runs of the folder are processed, and so is the run of another participant."""
    bold = three_runs.path("sub-01_task-tap_bold.nii.gz", "func")
    bold.with_name(name).write_bytes(bold.read_bytes())
    plan = check(settings_for(three_runs))
    assert plan.problems == ()
    assert list(plan.skipped) == [left_out]
    (problem,) = plan.skipped[left_out]
    assert problem.what.endswith(f"/{name}")
    assert [run.stem for run in plan.runs] == [
        "sub-01_task-tap",
        "sub-01_task-tap_run-2",
        "sub-02_task-tap",
    ]


def test_a_run_that_is_stored_twice_is_skipped_with_the_true_reason(three_runs: BidsMaker) -> None:
    bold = three_runs.path("sub-01_task-tap_run-2_bold.nii.gz", "func")
    bold.with_suffix("").write_bytes(bold.read_bytes())
    plan = check(settings_for(three_runs))
    assert [run.stem for run in plan.runs] == ["sub-01_task-tap", "sub-02_task-tap"]
    ((problem,),) = plan.skipped.values()
    assert "stored in 2 files" in problem.why
    assert "desc" not in problem.why


def test_a_copy_under_a_misspelled_name_is_noted_only(three_runs: BidsMaker) -> None:
    bold = three_runs.path("sub-01_task-tap_bold.nii.gz", "func")
    copy = bold.with_name("sub-01_task-tap_bold (1).nii.gz")
    copy.write_bytes(bold.read_bytes())
    plan = check(settings_for(three_runs))
    assert (len(plan.runs), plan.skipped, plan.problems) == (3, {}, ())
    (note,) = [notice for notice in plan.warnings if notice.what == str(copy)]
    assert (note.level, note.run) == ("note", "sub-01_task-tap")


def test_a_misnamed_file_of_a_task_that_is_not_selected_is_ignored(three_runs: BidsMaker) -> None:
    bold = three_runs.path("sub-01_task-tap_bold.nii.gz", "func")
    for name in ("sub-01_task-new_res-2_bold.nii.gz", "sub-01_task-new_BOLD.nii.gz"):
        bold.with_name(name).write_bytes(bold.read_bytes())
    assert check(settings_for(three_runs, "--task-id", "tap")).skipped == {}


@pytest.mark.parametrize(
    "name", ["sub-02_T1w.nii.gz", "sub-01_mprage_T1w.nii.gz", "sub-01_t1w.nii.gz", "T1w.nii.gz"]
)
def test_a_misnamed_anatomical_image_is_warned_of_and_stops_no_run(
    three_runs: BidsMaker, name: str
) -> None:
    image = three_runs.path("sub-01_T1w.nii.gz", "anat")
    image.rename(image.with_name(name))
    plan = check(settings_for(three_runs))
    assert (len(plan.runs), plan.skipped, plan.problems) == (3, {}, ())
    assert [subject.t1w != () for subject in plan.subjects] == [False, True]
    (warning,) = [w for w in plan.warnings if w.what == str(image.with_name(name))]
    assert (warning.level, warning.subject) == ("warning", "01")


@pytest.mark.parametrize(
    ("name", "difference"),
    [
        ("sub-01_task-tap_run-02_events.tsv", "run-02 instead of run-2"),
        ("sub-02_task-tap_run-2_events.tsv", "sub-02 instead of sub-01"),
        ("sub-01_task-Tap_run-2_events.tsv", "task-Tap instead of task-tap"),
        ("sub-01_task-tap_run-2_events.csv", "does not end in _events.tsv"),
        ("sub-01_task-tap_run-2_event.tsv", "does not end in _events.tsv"),
    ],
)
def test_a_misnamed_events_table_is_named(
    three_runs: BidsMaker, name: str, difference: str
) -> None:
    table = three_runs.path("sub-01_task-tap_run-2_events.tsv", "func")
    table.rename(table.with_name(name))
    three_runs.path("sub-01_task-tap_events.tsv", "func").rename(
        three_runs.path("sub-01_task-tap_acq-x_events.tsv", "func")
    )
    plan = check(settings_for(three_runs))
    assert len(plan.runs) == 3
    (warning,) = [
        w for w in plan.warnings if w.run == "sub-01_task-tap_run-2" and "not found" in w.why
    ]
    assert name in warning.why
    assert difference in warning.why


def test_a_run_in_bidsignore_is_noted_and_an_unusable_file_in_it_is_not(
    three_runs: BidsMaker,
) -> None:
    (three_runs.root / ".bidsignore").write_text("*_run-2_*\n*_res-2_*\n*copy*\n")
    bold = three_runs.path("sub-01_task-tap_bold.nii.gz", "func")
    for name in ("sub-01_task-tap_res-2_bold.nii.gz", "sub-01_task-new_bold_copy.nii.gz"):
        bold.with_name(name).write_bytes(bold.read_bytes())
    plan = check(settings_for(three_runs))
    assert (len(plan.runs), plan.skipped, plan.problems) == (3, {}, ())
    (note,) = [notice for notice in plan.warnings if ".bidsignore" in notice.why]
    assert (note.level, note.run) == ("note", "sub-01_task-tap_run-2")


@pytest.mark.parametrize(
    ("unit", "factor", "is_used"),
    [("meter", 1.0, True), ("micron", 1.0, True), ("meter", 1e-3, False), ("micron", 1e3, False)],
)
def test_a_header_with_another_unit_of_lengths_is_noted_or_refused(
    three_runs: BidsMaker, unit: str, factor: float, is_used: bool
) -> None:
    """Voxel sizes that are plausible in mm are used; others would need a conversion."""
    path = three_runs.path("sub-01_task-tap_run-2_bold.nii.gz", "func")
    image = nb.load(path)
    affine = image.affine * np.array([factor] * 3 + [1.0])[:, None]
    changed = nb.Nifti1Image(np.asarray(image.dataobj), affine)
    changed.header.set_xyzt_units(unit, "sec")
    changed.header["pixdim"][4] = 1
    nb.save(changed, path)
    plan = check(settings_for(three_runs))
    assert plan.problems == ()
    assert ("sub-01_task-tap_run-2" in [run.stem for run in plan.runs]) == is_used
    if is_used:
        (notice,) = [note for note in plan.warnings if "xyzt_units" in note.why]
        assert notice.run == "sub-01_task-tap_run-2"
    else:
        ((notice,),) = plan.skipped.values()
    assert unit in notice.why


@pytest.mark.parametrize(
    ("confounds", "missing"),
    [
        (("csf",), "csf"),
        (("motion", "acompcor", "white*"), "acompcor white*"),
        (("csf_wm", "global_signal"), "csf_wm"),
        (("motion", "global_signal"), ""),
    ],
)
def test_confounds_that_need_a_t1w_image_are_warned_of(
    three_runs: BidsMaker, confounds: tuple[str, ...], missing: str
) -> None:
    three_runs.path("sub-01_T1w.nii.gz", "anat").unlink()
    plan = check(settings_for(three_runs, "--confounds", *confounds))
    warned = {n.what for n in plan.warnings if "do not contain these confounds" in n.why}
    assert warned == ({f"--confounds {missing}"} if missing else set())
    assert all("sub-01" in n.why for n in plan.warnings if n.what in warned)


def test_a_misnamed_sidecar_is_named(three_runs: BidsMaker) -> None:
    sidecar = three_runs.path("sub-01_task-tap_run-2_bold.json", "func")
    sidecar.rename(sidecar.with_name("sub-01_task-tap_run-02_bold.json"))
    three_runs.path("sub-01_task-tap_bold.json", "func").rename(
        three_runs.root / "task-tap_bold.json"
    )
    plan = check(settings_for(three_runs))
    (warning,) = [w for w in plan.warnings if "run-02 instead of run-2" in w.why]
    assert (warning.run, warning.level) == ("sub-01_task-tap_run-2", "warning")


@pytest.fixture
def odd_names(tmp_path: Path) -> BidsMaker:
    """Return a dataset with sub-01 and sub-A+B in folders with unusual names.

    Parent folders contain the name of a participant, brackets and dashes.
    """
    maker = BidsMaker(tmp_path / "sub-x" / "sub-01 (copy) with --options")
    maker.json(maker.root / "dataset_description.json", {"Name": "tiny", "BIDSVersion": "1.10.0"})
    maker.subject("01")
    maker.subject("A+B")
    return maker


@pytest.mark.parametrize("label", ["01", "A+B"])
def test_folder_names_and_labels_with_a_plus_are_handled(odd_names: BidsMaker, label: str) -> None:
    odd_names.bold(f"sub-{label}_task-tap_run-2", n_volumes=1)
    odd_names.events(f"sub-{label}_task-tap_run-2")
    assert names_of(odd_names) == ["sub-01_task-tap", "sub-A+B_task-tap"]
    assert list(check(settings_for(odd_names)).skipped) == [f"sub-{label}_task-tap_run-2"]


def test_an_output_folder_named_like_a_participant_stops_the_call(odd_names: BidsMaker) -> None:
    """Check that it is not treated as a file of that participant."""
    output_dir = odd_names.root / "sub-01_results"
    line = [str(odd_names.root), str(output_dir), "participant", "--skip-bids-validation"]
    plan = check(parse_settings(line).resolve(run_uuid="x"))
    assert [problem.what for problem in plan.problems] == [str(output_dir)]


def notes_about(plan: Plan, label: str) -> list[str]:
    """Return notes about a participant."""
    return [
        str(notice)
        for notice in plan.warnings
        if notice.level == "note" and notice.concerns(label)
    ]


def test_notices_are_assigned_to_participants(odd_names: BidsMaker) -> None:
    path = odd_names.path("sub-A+B_T1w.nii.gz", "anat")
    path.unlink()
    plan = check(settings_for(odd_names, "--truth", "none"))
    message = "No T1w image was found"
    notes = [str(note) for note in plan.warnings if message in note.why]
    assert notes == [text for text in notes_about(plan, "A+B") if message in text] != []
    assert not any(message in text for text in notes_about(plan, "01"))


def test_notices_about_the_dataset_concern_all_participants(
    odd_names: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bids_sr.preflight.validator._find_validator", lambda: None)
    plan = plan_with_validator(odd_names)
    for label in ("01", "A+B"):
        assert any("not validated" in text for text in notes_about(plan, label))


needs_validator = pytest.mark.skipif(
    _find_validator() is None, reason="bids-validator-deno is not installed"
)


def plan_with_validator(maker: BidsMaker, *extra: str) -> Plan:
    line = [str(maker.root), str(maker.root.parent / "out"), "participant", *extra]
    return check(parse_settings(line).resolve(run_uuid="x"))


@needs_validator
def test_a_validator_error_of_a_run_skips_only_this_run(three_runs: BidsMaker) -> None:
    three_runs.path("sub-01_task-tap_run-2_events.tsv", "func").write_text(
        "duration\ttrial_type\n3\tthumb\n"
    )
    plan = plan_with_validator(three_runs)
    assert plan.problems == ()
    assert list(plan.skipped) == ["sub-01_task-tap_run-2"]
    assert all(problem.why for problems in plan.skipped.values() for problem in problems)


@needs_validator
@pytest.mark.parametrize(
    ("name", "content", "label"),
    [
        ("sub-01/func/sub-01_notbids.tsv", "duration\n3\n", "01"),
        ("sub-01/func/sub-01_task-tap_physio.tsv", "1\n", "01"),
        ("sub-02/anat/sub-02_T2w.json", "[]", "02"),
        ("participants.tsv", "participant_id\tage\nsub-01\t20\nsub-02\told\n", ""),
        ("participants.tsv", "participant_id\nsub-01\n", ""),
        ("participants.tsv", "sub-01\tM\t18\n", ""),
        ("participants.tsv", "age\n20\n30\n", ""),
        ("notes.txt", "to do\n", ""),
    ],
)
def test_validator_errors_in_files_that_are_not_read_are_warnings(
    three_runs: BidsMaker, name: str, content: str, label: str
) -> None:
    (three_runs.root / name).write_text(content)
    plan = plan_with_validator(three_runs)
    assert (len(plan.runs), plan.skipped, plan.problems) == (3, {}, ())
    warnings = [notice for notice in plan.warnings if notice.code == "validator"]
    assert {(warning.level, warning.subject) for warning in warnings} == {("warning", label)}
    assert all(warning.what.startswith(str(three_runs.root / name)) for warning in warnings)


@needs_validator
def test_a_misnamed_anatomical_image_stops_no_run_with_the_validator(
    three_runs: BidsMaker,
) -> None:
    image = three_runs.path("sub-01_T1w.nii.gz", "anat")
    image.rename(image.with_name("sub-01_mprage_T1w.nii.gz"))
    plan = plan_with_validator(three_runs)
    assert (len(plan.runs), plan.skipped, plan.problems) == (3, {}, ())


@needs_validator
def test_validator_errors_of_the_description_stop_the_call(three_runs: BidsMaker) -> None:
    description = three_runs.root / "dataset_description.json"
    three_runs.json(description, {"Name": "tiny", "BIDSVersion": "1.9.0", "Authors": "one"})
    plan = plan_with_validator(three_runs)
    assert {problem.what for problem in plan.problems} == {str(description)}
    assert plan.skipped == {}


@needs_validator
def test_runs_that_are_not_selected_may_be_invalid(three_runs: BidsMaker) -> None:
    three_runs.bold("sub-02_task-rest", sidecar={"TaskName": "rest"})
    three_runs.path("sub-02_task-tap_events.tsv", "func").write_text(
        "duration\ttrial_type\n3\tthumb\n"
    )
    plan = plan_with_validator(three_runs, "--task-id", "rest")
    assert plan.problems == ()
    assert [run.stem for run in plan.runs] == ["sub-02_task-rest"]


def test_the_index_page_lists_skipped_runs_with_the_reason(tmp_path: Path) -> None:
    out, reason = tmp_path / "out", "skipped: events.tsv: required columns are missing: onset"
    (out / "sub-01" / "figures").mkdir(parents=True)
    for call in ("one", "two", "three"):
        (out / "logs" / call).mkdir(parents=True)
    notice = Notice(
        what="/data/events.tsv", why="required columns are missing: onset", code="left-out"
    )
    notices = [
        replace(notice, subject="01", run="sub-01_task-tap_run-2"),
        replace(notice, subject="02", run="sub-02_task-tap"),
    ]
    record(out / "logs" / "one", notices)
    assert record_run(out / "logs" / "one", ["01"], settings="a")
    page = write_index(out).read_text(encoding="utf-8")
    assert page.count(reason) == 2
    assert "sub-02 (no report)" in page
    record(out / "logs" / "two", notices)
    assert not record_run(out / "logs" / "two", ["01"], settings="a")
    assert record_run(out / "logs" / "three", ["01", "02"], settings="a")
    assert reason not in write_index(out).read_text(encoding="utf-8")
