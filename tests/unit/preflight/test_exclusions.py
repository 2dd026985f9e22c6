"""One bad run does not stop the others: what a problem stops, and the codes that the program ends with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bidsmaker import BidsMaker

from bids_sr.bids import Problem
from bids_sr.bids.inputs import Truth
from bids_sr.cli import main as program
from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings
from bids_sr.execution.execute import RunOutcome
from bids_sr.preflight import check
from bids_sr.preflight.plan import exclude, left_out_text, stopped_by


def settings_for(maker: BidsMaker, *extra: str) -> Settings:
    line = [str(maker.root), str(maker.root.parent / "out"), "participant", "--skip-bids-validation", *extra]
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
    assert list(check(settings_for(three, "--echo", "2")).left_out) == ["sub-02_task-rest_echo-2"]


@pytest.mark.parametrize(
    ("file", "stops"),
    [
        ("sub-01/func/sub-01_task-tap_run-2_bold.nii.gz", ["sub-01_task-tap_run-2"]),
        ("sub-01/func/sub-01_task-tap_run-02_bold.json", ["sub-01_task-tap_run-2"]),
        ("elsewhere/sub-01_task-tap_run-2_from-orig_to-boldref_mode-image_desc-hmc_xfm.txt", ["sub-01_task-tap_run-2"]),
        ("sub-01/func/sub-01_task-tap_events.tsv", ["sub-01_task-tap"]),
        ("sub-01/anat/sub-01_T1w.nii.gz", ["sub-01_task-tap", "sub-01_task-tap_run-2"]),
        ("sub-02", ["sub-02_task-tap"]),
        ("sub-02 (its name and more)", ["sub-02_task-tap"]),
        ("sub-02/func/sub-02_task-tap_bold.nii.gz with --pretrained m.safetensors", ["sub-02_task-tap"]),
        ("sub-03", None),
        ("--sr-method srgan", None),
        ("dataset_description.json", None),
    ],
)
def test_what_a_problem_stops(three: BidsMaker, file: str, stops: list[str] | None) -> None:
    runs = [run for one in check(settings_for(three)).subjects for run in one.runs]
    place = file if file.startswith(("-", "sub-0")) and "/" not in file else str(three.root / file)
    found = stopped_by(Problem(place, "why", "fix"), runs)
    assert (None if found is None else [run.stem for run in runs if run.bold in found]) == stops


@pytest.mark.parametrize("role", ["truth", "calibration", "echo"])
def test_an_image_that_a_run_uses_stops_that_run_whatever_its_name(three: BidsMaker, role: str) -> None:
    first, *others = (run for one in check(settings_for(three)).subjects for run in one.runs)
    image = three.root / "sub-01" / "func" / "sub-01_task-tap_acq-highres_dir-PA_bold.nii.gz"
    if role == "truth":
        first = replace(first, truth=Truth(root=three.root, bold=image))
    elif role == "calibration":
        first = replace(first, calibration=SimpleNamespace(bold=image))  # type: ignore[arg-type]
    else:
        first = replace(first, echoes=((first.bold, 15.0), (image, 30.0)))
    assert stopped_by(Problem(str(image), "why", "fix"), [first, *others]) == (first.bold,)


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
    assert text.startswith("left out: sub-01_task-tap, sub-01_task-tap_run-2\n")


def test_strict_stops_everything(three: BidsMaker) -> None:
    three.bold("sub-01_task-tap_run-2", n_volumes=1)
    plan = check(settings_for(three, "--strict"))
    assert [problem.file.rpartition("/")[2] for problem in plan.problems] == ["sub-01_task-tap_run-2_bold.nii.gz"]
    assert plan.left_out == {}


def test_where_nothing_is_left_the_problems_are_those_of_the_call(three: BidsMaker) -> None:
    for stem in ("sub-01_task-tap", "sub-01_task-tap_run-2", "sub-02_task-tap"):
        three.bold(stem, n_volumes=1)
    assert len(check(settings_for(three)).problems) == 3


def test_what_stops_the_call_stops_it_whole(three: BidsMaker) -> None:
    three.bold("sub-01_task-tap_run-2", n_volumes=1)
    plan = check(settings_for(three, "--task-id", "tap", "--output-spaces", "MNI152NLin2009cAsym:res-7"))
    assert {problem.file.rpartition("/")[2] for problem in plan.problems} == {
        "sub-01_task-tap_run-2_bold.nii.gz", "--output-spaces MNI152NLin2009cAsym:res-7",
    }  # fmt: skip


def test_nothing_to_exclude() -> None:
    assert exclude((), (), ()) == ((), {}, ())


@pytest.mark.parametrize("damage", ["header", "voxels"])
def test_the_program_ends_with_code_1_and_names_the_run(
    three: BidsMaker, damage: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stem = "sub-01_task-tap_run-2"
    if damage == "header":
        three.bold(stem, n_volumes=1)
    else:
        three.bold(stem, data=np.full((8, 8, 6, 30), 7, "int16"))
    worked_on = []

    def run(settings: Settings, plan: object, say: object) -> RunOutcome:
        worked_on.extend(run.stem for one in plan.subjects for run in one.runs)  # type: ignore[attr-defined]
        return RunOutcome()

    monkeypatch.setattr("bids_sr.cli.participant_level.run_participants", run)
    line = [str(three.root), str(three.root.parent / "out"), "participant", "--skip-bids-validation"]
    line += ["-w", str(three.root.parent / "work")]
    assert program.main(line) == 1
    assert worked_on == ["sub-01_task-tap", "sub-02_task-tap"]
    told = capsys.readouterr().err
    assert f"left out: {stem}" in told
    assert "done, 1 run skipped" in told
    assert program.main([*line, "--strict"]) == 2
