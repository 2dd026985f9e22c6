"""One bad run does not stop the others: what a problem stops, and the codes that the program ends
with.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bidsmaker import BidsMaker

from bids_sr.bids.inputs import HighresReference
from bids_sr.cli import main as program
from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings
from bids_sr.execution.execute import RunOutcome
from bids_sr.notices import RECORD, Notice, record, recorded
from bids_sr.preflight import Plan, check
from bids_sr.preflight.exclusions import _stopped_by, exclude, files_of, left_out_text
from bids_sr.preflight.validator import _find_validator
from bids_sr.report.index_page import write_index
from bids_sr.report.run_notes import note_run


def settings_for(maker: BidsMaker, *extra: str) -> Settings:
    line = [
        str(maker.root),
        str(maker.root.parent / "out"),
        "participant",
        "--skip-bids-validation",
        *extra,
    ]
    return parse_settings(line).resolved(run_uuid="x")


@pytest.fixture
def three(tmp_path: Path) -> BidsMaker:
    """Two runs of sub-01, one of sub-02."""
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


@pytest.mark.parametrize("spoiled", ["echo time", "one volume", "phase alone"])
def test_a_run_of_several_echoes_is_named_without_them(three: BidsMaker, spoiled: str) -> None:
    for echo in (1, 2):
        te = None if spoiled == "echo time" else 0.015 * echo
        part = "_part-phase" if spoiled == "phase alone" else ""
        stem = f"sub-02_task-rest_echo-{echo}{part}"
        three.bold(stem, sidecar={"EchoTime": te}, n_volumes=1 if spoiled == "one volume" else 30)
    plan = check(settings_for(three))
    (name,) = plan.left_out
    assert name.removesuffix("_part-phase") == "sub-02_task-rest"
    assert plan.left_out[name]


def test_a_single_echo_that_is_left_out_keeps_its_name(three: BidsMaker) -> None:
    three.bold("sub-02_task-rest_echo-2", n_volumes=1)
    assert list(check(settings_for(three, "--echo-idx", "2")).left_out) == [
        "sub-02_task-rest_echo-2"
    ]


@pytest.mark.parametrize(
    ("subject", "run", "file", "stops"),
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
def test_what_a_problem_stops(
    three: BidsMaker, subject: str, run: str, file: str, stops: list[str] | None
) -> None:
    """Whom it is about is said where it is found, and not read from the name of the file."""
    runs = [each for one in check(settings_for(three)).subjects for each in one.runs]
    place = str(three.root / file) if file.endswith((".json", ".tsv", ".gz")) else file
    code = "option" if place[0] == "-" else "input"
    found = _stopped_by(
        Notice(what=place, subject=subject, run=run, code=code),
        {each.stem: (each.bold, *files_of(each)) for each in runs},
    )
    assert (list(found) or None) == stops


@pytest.mark.parametrize("role", ["truth", "calibration", "echo"])
def test_an_image_that_a_run_uses_stops_that_run_whatever_its_name(
    three: BidsMaker, role: str
) -> None:
    first, *others = (run for one in check(settings_for(three)).subjects for run in one.runs)
    image = three.root / "sub-01" / "func" / "sub-01_task-tap_acq-highres_dir-PA_bold.nii.gz"
    header = replace(first.header, path=image)
    if role == "truth":
        first = replace(
            first, truth=HighresReference(root=three.root, series=replace(first, header=header))
        )
    elif role == "calibration":
        first = replace(first, calibration=replace(first, header=header))
    else:
        first = replace(first, echoes=((first.bold, 15.0), (image, 30.0)))
    files = {each.stem: (each.bold, *files_of(each)) for each in (first, *others)}
    assert _stopped_by(Notice(what=str(image), subject="01"), files) == [first.stem]


def test_a_run_of_one_volume_is_left_out(three: BidsMaker) -> None:
    three.bold("sub-01_task-tap_run-2", n_volumes=1)
    assert names_of(three) == ["sub-01_task-tap", "sub-02_task-tap"]
    plan = check(settings_for(three))
    assert list(plan.left_out) == ["sub-01_task-tap_run-2"]
    (text,) = left_out_text(plan.left_out)
    assert "one volume" in text
    assert "rename a single image" in text


def test_a_participant_whose_t1w_cannot_be_read_is_left_out(three: BidsMaker) -> None:
    three.path("sub-01_T1w.nii.gz", "anat").write_bytes(b"no image")
    assert names_of(three) == ["sub-02_task-tap"]
    (text,) = left_out_text(check(settings_for(three)).left_out)
    assert text.startswith("skipped: sub-01_task-tap, sub-01_task-tap_run-2\n")


def test_strict_stops_everything(three: BidsMaker) -> None:
    three.bold("sub-01_task-tap_run-2", n_volumes=1)
    plan = check(settings_for(three, "--strict"))
    assert [problem.what.rpartition("/")[2] for problem in plan.problems] == [
        "sub-01_task-tap_run-2_bold.nii.gz"
    ]
    assert plan.left_out == {}


def test_where_nothing_is_left_the_problems_are_those_of_the_call(three: BidsMaker) -> None:
    for stem in ("sub-01_task-tap", "sub-01_task-tap_run-2", "sub-02_task-tap"):
        three.bold(stem, n_volumes=1)
    assert len(check(settings_for(three)).problems) == 3


def test_what_stops_the_call_stops_it_whole(three: BidsMaker) -> None:
    three.bold("sub-01_task-tap_run-2", n_volumes=1)
    plan = check(
        settings_for(three, "--task-id", "tap", "--output-spaces", "MNI152NLin2009cAsym:res-7")
    )
    assert {problem.what.rpartition("/")[2] for problem in plan.problems} == {
        "sub-01_task-tap_run-2_bold.nii.gz",
        "--output-spaces MNI152NLin2009cAsym:res-7",
    }


def test_nothing_to_exclude() -> None:
    assert exclude((), {}, ()) == ((), {}, ())


@pytest.mark.parametrize("damage", ["header", "voxels"])
def test_the_program_ends_with_code_1_and_names_the_run(
    three: BidsMaker,
    damage: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stem = "sub-01_task-tap_run-2"
    if damage == "header":
        three.bold(stem, n_volumes=1)
    else:
        three.bold(stem, data=np.full((8, 8, 6, 30), 7, "int16"))
    (three.root / "sub-02" / "fmap").mkdir()
    (three.root / "sub-02" / "fmap" / "sub-02_phasediff.nii.gz").touch()
    worked_on = []

    def run(settings: Settings, plan: object, say: object) -> RunOutcome:
        worked_on.extend(run.stem for one in plan.subjects for run in one.runs)  # type: ignore[attr-defined]
        return RunOutcome()

    monkeypatch.setattr("bids_sr.cli.participant_level.run_participants", run)
    line = [
        str(three.root),
        str(three.root.parent / "out"),
        "participant",
        "--skip-bids-validation",
    ]
    line += ["-w", str(three.root.parent / "work")]
    assert program.main(line) == 3
    assert worked_on == ["sub-01_task-tap", "sub-02_task-tap"]
    told = capsys.readouterr().err
    assert f"skipped: {stem}" in told
    assert "finished. 1 run skipped" in told
    (found,) = (three.root.parent / "out" / "logs").glob(f"*/{RECORD}")
    kept = recorded(found.parent)
    (left,) = [each for each in kept if each.code == "left-out"]
    assert (left.run, left.level) == (stem, "error")
    assert left.why
    assert left.why in told
    assert any(
        each.level == "note" and "field maps" in each.why and each.subject == "02" for each in kept
    )
    assert program.main([*line, "--strict"]) == 2


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("sub-02_task-tap_bold.nii.gz", ["sub-01_task-tap", "sub-01_task-tap_run-2"]),
        ("task-tap_bold.nii.gz", ["sub-01_task-tap", "sub-01_task-tap_run-2"]),
        ("sub-01_task-tap_b@d_bold.nii.gz", ["sub-01_task-tap_b@d"]),
    ],
)
def test_a_file_of_a_wrong_name_stops_nobody_else(
    three: BidsMaker, name: str, left_out: list[str]
) -> None:
    own = three.path("sub-01_task-tap_bold.nii.gz", "func")
    own.with_name(name).write_bytes(own.read_bytes())
    plan = check(settings_for(three))
    assert plan.problems == ()
    assert list(plan.left_out) == left_out
    assert "sub-02_task-tap" in [run.stem for run in plan.runs]


@pytest.fixture
def odd(tmp_path: Path) -> BidsMaker:
    """sub-01 and sub-A+B, below folders with the name of a participant and with brackets."""
    maker = BidsMaker(tmp_path / "sub-x" / "sub-01 (copy) with --options")
    maker.json(maker.root / "dataset_description.json", {"Name": "tiny", "BIDSVersion": "1.10.0"})
    maker.subject("01")
    maker.subject("A+B")
    return maker


@pytest.mark.parametrize("label", ["01", "A+B"])
def test_names_of_folders_and_labels_with_a_plus_do_not_matter(odd: BidsMaker, label: str) -> None:
    odd.bold(f"sub-{label}_task-tap_run-2", n_volumes=1)
    odd.events(f"sub-{label}_task-tap_run-2")
    assert names_of(odd) == ["sub-01_task-tap", "sub-A+B_task-tap"]
    assert list(check(settings_for(odd)).left_out) == [f"sub-{label}_task-tap_run-2"]


def test_an_output_folder_named_as_a_participant_stops_the_call(odd: BidsMaker) -> None:
    """It is no file of that participant."""
    inside = odd.root / "sub-01_results"
    line = [str(odd.root), str(inside), "participant", "--skip-bids-validation"]
    plan = check(parse_settings(line).resolved(run_uuid="x"))
    assert [problem.what for problem in plan.problems] == [str(inside)]


def told_to(plan: Plan, label: str) -> list[str]:
    """Notes about a participant."""
    return [str(each) for each in plan.warnings if each.level == "note" and each.concerns(label)]


def test_notices_reach_those_whom_they_are_about(odd: BidsMaker) -> None:
    path = odd.path("sub-A+B_T1w.nii.gz", "anat")
    path.unlink()
    plan = check(settings_for(odd, "--truth", "none"))
    lacking = "No T1w image was found"
    own = [str(note) for note in plan.warnings if lacking in note.why]
    assert own == [each for each in told_to(plan, "A+B") if lacking in each] != []
    assert not any(lacking in each for each in told_to(plan, "01"))


def test_what_is_about_all_is_told_to_all(odd: BidsMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bids_sr.preflight.validator._find_validator", lambda: None)
    plan = validated(odd)
    for label in ("01", "A+B"):
        assert any("not validated" in each for each in told_to(plan, label))


needs_validator = pytest.mark.skipif(
    _find_validator() is None, reason="bids-validator-deno is not installed"
)


def validated(maker: BidsMaker, *extra: str) -> Plan:
    line = [str(maker.root), str(maker.root.parent / "out"), "participant", *extra]
    return check(parse_settings(line).resolved(run_uuid="x"))


@needs_validator
@pytest.mark.parametrize(
    ("spoiled", "left_out"),
    [
        ("sub-01_task-tap_run-2_events.tsv", ["sub-01_task-tap_run-2"]),
        ("sub-01_notbids.tsv", ["sub-01_task-tap", "sub-01_task-tap_run-2"]),
        ("age of sub-02", ["sub-02_task-tap"]),
        ("sub-02 is not listed", ["sub-02_task-tap"]),
        ("sub-02 is listed twice", ["sub-02_task-tap"]),
    ],
)
def test_what_the_validator_refuses_of_one_leaves_the_others(
    three: BidsMaker, spoiled: str, left_out: list[str]
) -> None:
    table, lines = (
        three.root / "participants.tsv",
        ["participant_id\tage", "sub-01\t20", "sub-02\t30"],
    )
    if spoiled.endswith(".tsv"):
        three.path(spoiled, "func").write_text("duration\ttrial_type\n3\tthumb\n")
    else:
        lines[2:] = {
            "age": ["sub-02\told"],
            "is not listed": [],
            "is listed twice": ["sub-02\t30"] * 2,
        }[spoiled.replace("sub-02 ", "").removesuffix(" of sub-02")]
    table.write_text("\n".join(lines) + "\n")
    plan = validated(three)
    assert plan.problems == ()
    assert list(plan.left_out) == left_out
    assert all(each.why for problems in plan.left_out.values() for each in problems)


@needs_validator
@pytest.mark.parametrize("spoiled", ["dataset_description.json", "participants.tsv"])
def test_what_the_validator_refuses_of_the_data_set_refuses_the_call(
    three: BidsMaker, spoiled: str
) -> None:
    if spoiled == "participants.tsv":
        (three.root / spoiled).write_text("age\n20\n30\n")
    else:
        three.json(
            three.root / spoiled, {"Name": "tiny", "BIDSVersion": "1.9.0", "Authors": "one"}
        )
    plan = validated(three)
    assert {Path(problem.what).name for problem in plan.problems} == {spoiled}
    assert plan.left_out == {}


@needs_validator
def test_a_run_that_was_not_asked_for_may_be_unsound(three: BidsMaker) -> None:
    three.bold("sub-02_task-rest", sidecar={"TaskName": "rest"})
    three.path("sub-02_task-tap_events.tsv", "func").write_text("duration\ttrial_type\n3\tthumb\n")
    plan = validated(three, "--task-id", "rest")
    assert plan.problems == ()
    assert [run.stem for run in plan.runs] == ["sub-02_task-rest"]


def test_the_index_says_who_is_left_out_and_why(tmp_path: Path) -> None:
    out, why = tmp_path / "out", "skipped: events.tsv: required columns are missing: onset"
    (out / "sub-01" / "figures").mkdir(parents=True)
    for call in ("one", "two", "three"):
        (out / "logs" / call).mkdir(parents=True)
    found = Notice(
        what="/data/events.tsv", why="required columns are missing: onset", code="left-out"
    )
    both = [
        replace(found, subject="01", run="sub-01_task-tap_run-2"),
        replace(found, subject="02", run="sub-02_task-tap"),
    ]
    record(out / "logs" / "one", both)
    assert note_run(out / "logs" / "one", ["01"], settings="a")
    page = write_index(out).read_text(encoding="utf-8")
    assert page.count(why) == 2
    assert "sub-02 (no report)" in page
    record(out / "logs" / "two", both)
    assert not note_run(out / "logs" / "two", ["01"], settings="a")
    assert note_run(out / "logs" / "three", ["01", "02"], settings="a")
    assert why not in write_index(out).read_text(encoding="utf-8")
