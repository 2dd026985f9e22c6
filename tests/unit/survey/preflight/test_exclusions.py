"""Invalid runs do not stop valid runs: excluded runs, and exit codes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data.calls import about, arguments, plan_for, plan_with_validator
from data.dataset import BidsMaker
from data.records import FUNC, make_run

from bids_sr.cli import main as program
from bids_sr.config import Settings
from bids_sr.engine.execute import RunOutcome
from bids_sr.io.notices import RECORD, Notice, read_record, record
from bids_sr.report.index_page import write_index
from bids_sr.report.run_notes import record_run
from bids_sr.survey.bids.inputs import HighresReference, Subject
from bids_sr.survey.bids.similar_names import describe_similar
from bids_sr.survey.preflight.exclusions import exclude, list_files
from bids_sr.survey.preflight.plan import Plan

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
    ("subject", "run", "what", "stopped"),
    [
        ("01", SECOND, FUNC / f"{FIRST}_bold.json", [SECOND]),
        ("01", FIRST, "task-tap_events.tsv", [FIRST]),
        ("01", "", "sub-01/anat/sub-01_T1w.nii.gz", [FIRST, SECOND]),
        ("01", "", FUNC / f"{SECOND}_bold.nii.gz", [SECOND]),
        ("02", "", "sub-02 (its name and more)", [OTHER]),
        ("02", "", "--sr-method srgan", None),
        ("03", "", "sub-03", None),
        ("", "", FUNC / f"{SECOND}_bold.nii.gz", None),
        ("01", "", FUNC / "reference_bold.nii.gz", [FIRST]),
        ("01", "", FUNC / "calibration_bold.nii.gz", [FIRST]),
        ("01", "", FUNC / f"{FIRST}_echo-2_bold.nii.gz", [FIRST]),
    ],
)
def test_participant_and_file_of_a_problem_determine_the_runs_that_it_stops(
    subject: str, run: str, what: str | Path, stopped: list[str] | None
) -> None:
    """A problem of a reference, calibration or echo stops the run that uses this image."""
    first = make_run(
        FIRST,
        truth=HighresReference(series=make_run("reference")),
        calibration=make_run("calibration"),
        echoes=((FUNC / f"{FIRST}_bold.nii.gz", 15.0), (FUNC / f"{FIRST}_echo-2_bold.nii.gz", 30)),
    )
    subjects = (
        Subject(label="01", t1w=(), runs=(first, make_run(SECOND))),
        Subject(label="02", t1w=(), runs=(make_run(OTHER),)),
    )
    runs = [bold_run for participant in subjects for bold_run in participant.runs]
    code = "option" if str(what).startswith("--") else "input"
    problem = Notice(what=str(what), subject=subject, run=run, code=code)
    files = {bold_run.stem: (bold_run.bold, *list_files(bold_run)) for bold_run in runs}
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

MISNAMED_RUNS = {
    f"{OTHER}_bold.nii.gz": f"sub-01/{OTHER}",
    "task-tap_bold.nii.gz": "sub-01/task-tap",
    f"{FIRST}_b@d_bold.nii.gz": f"{FIRST}_b@d",
    f"{FIRST}_res-2_bold.nii.gz": f"{FIRST}_res-2",
    f"{FIRST}_run-3_run-4_bold.nii.gz": f"{FIRST}_run-3_run-4",
    "sub-01_ses-A_task-tap_bold.nii.gz": "sub-01/sub-01_ses-A_task-tap",
    "sub-01_task-a_BOLD.nii.gz": "sub-01_task-a",
    "sub-01_task-b_bold (1).nii.gz": "sub-01_task-b",
    "sub-01_task-c_bold.NII.GZ": "sub-01_task-c",
    "sub-01_task-d.nii.gz": "sub-01_task-d",
}
"""Names in the folder of sub-01, and the names of the skipped runs."""


def test_a_misnamed_file_stops_only_its_run(three_runs: BidsMaker) -> None:
    bold = three_runs.path(f"{FIRST}_bold.nii.gz", "func")
    for name in MISNAMED_RUNS:
        bold.with_name(name).write_bytes(bold.read_bytes())
    plan = plan_for(three_runs)
    assert names(plan) == RUNS
    assert {
        Path(problem.what).name: run for run, (problem,) in plan.skipped.items()
    } == MISNAMED_RUNS
    skipped = plan_for(three_runs, "--task-id", "tap").skipped
    assert {run for run in MISNAMED_RUNS.values() if "-tap" in run} == {*skipped}


def test_copies_of_a_run_are_skipped_or_noted(three_runs: BidsMaker) -> None:
    """A copy under a misspelled name is noted; with and without compression, none is chosen."""
    for stem, copy in ((FIRST, f"{FIRST}_bold (1).nii.gz"), (SECOND, f"{SECOND}_bold.nii")):
        bold = three_runs.path(f"{stem}_bold.nii.gz", "func")
        bold.with_name(copy).write_bytes(bold.read_bytes())
    plan = plan_for(three_runs)
    assert names(plan) == [FIRST, OTHER]
    (note,) = about(plan.warnings, f"{FIRST}_bold (1).nii.gz")
    assert (note.level, note.run) == ("note", FIRST)
    assert about(plan.skipped[SECOND], SECOND, "2")


def test_a_misnamed_anatomical_image_is_warned_of_and_stops_no_run(three_runs: BidsMaker) -> None:
    image = three_runs.path("sub-01_T1w.nii.gz", "anat")
    misnamed = ("sub-02_T1w.nii.gz", "sub-01_mprage_T1w.nii.gz", "sub-01_t1w.nii.gz", "T1w.nii.gz")
    for name in misnamed:
        image.with_name(name).write_bytes(image.read_bytes())
    image.unlink()
    plan = plan_for(three_runs)
    assert (names(plan), plan.skipped) == (RUNS, {})
    assert [subject.t1w != () for subject in plan.subjects] == [False, True]
    for name in misnamed:
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
    tmp_path: Path, name: str, values: list[str]
) -> None:
    for file in (name, f"{FIRST}_acq-x_events.tsv"):
        (tmp_path / file).touch()
    kind = ("bold", ".json", "bold") if name.endswith("json") else ("events", ".tsv", "event")
    text = describe_similar(tmp_path / f"{SECOND}_bold.nii.gz", *kind)
    assert text.startswith(f"{name} is not read because")
    assert all(value in text for value in values)


def test_a_run_without_table_and_sidecar_is_warned_of_with_their_similar_names(
    three_runs: BidsMaker,
) -> None:
    first = three_runs.path(f"{FIRST}_bold.json", "func")
    first.rename(three_runs.root / "task-tap_bold.json")
    first.with_name(f"{FIRST}_events.tsv").rename(first.with_name(f"{FIRST}_acq-x_events.tsv"))
    similar = [f"{FIRST}_run-02_{end}" for end in ("bold.json", "events.tsv")]
    for name in similar:
        own = first.with_name(name.replace("-02", "-2"))
        own.rename(own.with_name(name))
    plan = plan_for(three_runs)
    assert names(plan) == RUNS
    for name in similar:
        notices = [notice for notice in about(plan.warnings, "", name) if notice.run == SECOND]
        assert [notice.level for notice in notices] == ["warning"]


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


def test_validator_errors_stop_runs_and_are_warnings_in_files_that_are_not_read(
    three_runs: BidsMaker,
) -> None:
    files = {
        "sub-01/func/sub-01_notbids.tsv": "01",
        "sub-01/func/sub-01_task-tap_physio.tsv": "01",
        "sub-02/anat/sub-02_T2w.json": "02",
        "participants.tsv": "",
        "notes.txt": "",
    }
    for name in files:
        (three_runs.root / name).write_text("[]" if name.endswith("json") else "age\n20\n30\n")
    three_runs.path(f"{SECOND}_events.tsv", "func").write_text("duration\ttrial_type\n3\tx\n")
    plan = plan_with_validator(three_runs)
    assert (names(plan), list(plan.skipped)) == ([FIRST, OTHER], [SECOND])
    warnings = [notice for notice in plan.warnings if notice.code == "validator"]
    assert {warning.level for warning in warnings} == {"warning"}
    for name, label in files.items():
        found = [notice for notice in warnings if str(three_runs.root / name) in notice.what]
        assert {notice.subject for notice in found} == {label}, name
