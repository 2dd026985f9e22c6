"""Input that is documented as rejected: exit code 2, file, values and code of the only message;
no files are written.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from data.calls import Cases, arguments, check_case, plan_for, problem_of
from data.dataset import EVENTS, BidsMaker, snapshot

from bids_sr.cli.main import main
from bids_sr.survey.preflight.voxel_checks import check_data

STEM = "sub-01_task-tap"
BOLD = f"{STEM}_bold.nii.gz"
TABLE = f"{STEM}_events.tsv"
HIGH = "sub-01_acq-highres_T2starw.nii.gz"
WITH_PAIR = ("--sr-method", "srgan", "sbl")  # with ``auto``, the pair would be optional
CASES = Cases()


# ---- directories and selection


@CASES.refused("bids", "BIDS")
def no_directory(maker: BidsMaker) -> None:
    shutil.rmtree(maker.root)


@CASES.refused("bids", "dataset_description.json")
def not_bids(maker: BidsMaker) -> None:
    (maker.root / "dataset_description.json").unlink()


@CASES.refused("bids", "BIDS")
def no_participants(maker: BidsMaker) -> None:
    (maker.root / "sub-01").rename(maker.root / "sub-0_1")


OPTIONS = [
    (["--participant-label", "sub-02"], "sub-02", ["01"], "input"),
    (["--task-id", "tape"], "--task-id tape", ["tap"], "option"),
    (["--session-label", "2"], "--session-label 2", ["none"], "option"),
    (["--contrasts", "thump-little"], "--contrasts", ["'thump'", "little", "'thumb'"], "option"),
    (["--sr-factor", "3"], HIGH, ["2×2", "--sr-factor"], "input"),
    (
        ["--output-spaces", "MNI152NLin2009cAsym:res-7"],
        "--output-spaces MNI152NLin2009cAsym:res-7",
        ["7", "res-1", "res-2"],
        "option",
    ),
    (["--roi", "roi.nii.gz"], "roi.nii.gz", ["motor"], "option"),
    (["--mem", "0.5"], "--mem 0.5", ["1.3"], "option"),
    (["--set", "superres.model_source=reuse"], "models", ["superres.model_dir"], "option"),
    (["--pretrained", "missing.safetensors"], "missing.safetensors", [], "input"),
    (["-w", "bids/work"], "work", [], "input"),
    (["--derivatives", "fmriprep=nowhere"], "nowhere", [], "input"),
    (["--dummy-scans", "15"], BOLD, ["30", "15", "--dummy-scans"], "events"),
    (["--band-pass", "0.01", "0.02"], BOLD, ["--band-pass"], "events"),
    (
        ["--set", "run.store_series=false", "--ignore", "events"],
        "run.store_series=false",
        ["--task-id"],
        "option",
    ),
    (["--confounds", "moton"], "--confounds moton", ["motion", "acompcor"], "option"),
]


@pytest.mark.parametrize(("options", "file", "values", "code"), OPTIONS)
def test_an_option_that_does_not_fit_is_refused(
    maker: BidsMaker, options: list[str], file: str, values: list[str], code: str
) -> None:
    problem_of(plan_for(maker, *WITH_PAIR, *options).problems, file, *values, code=code)


@pytest.fixture
def without_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if the data set is indexed."""
    monkeypatch.setattr(
        "bids_sr.survey.preflight.checks.survey",
        lambda settings: pytest.fail("the data set was indexed"),
    )


@pytest.mark.usefixtures("without_index")
@pytest.mark.parametrize("out", ["bids", "bids/sub-01/sr", ".", "file/out", "bids/derivatives"])
def test_an_output_directory_at_an_unsuitable_place_is_refused_before_indexing(
    maker: BidsMaker, out: str
) -> None:
    (maker.root.parent / "file").write_text("")
    path = (maker.root.parent / out).resolve()
    before = snapshot(maker.root.parent)
    problems = plan_for(maker, out=path).problems
    assert [problem.what for problem in problems] == [str(path)]
    assert snapshot(maker.root.parent) == before


@pytest.mark.usefixtures("without_index")
def test_problems_below_a_directory_stop_the_call_before_indexing(maker: BidsMaker) -> None:
    """Checks of the data follow only if directories and spaces have no problem at all."""
    out = maker.root.parent / "out"
    out.mkdir()
    (out / "logs").symlink_to(maker.root / "sub-01")
    (problem,) = plan_for(maker, "--pretrained", "missing.safetensors", out=out).problems
    assert problem.what == str(out / "logs")


def test_output_may_exist_or_be_below_the_derivatives(maker: BidsMaker) -> None:
    for out in ("out", "bids/derivatives/bids-sr", "bids/derivatives/a/b"):
        path = maker.root.parent / out
        assert plan_for(maker, out=path).problems == ()
        path.mkdir(parents=True)
        assert plan_for(maker, out=path).problems == ()
    link = maker.root.parent / "link"
    link.symlink_to(maker.root / "sub-01")
    assert [problem.what for problem in plan_for(maker, out=link).problems] == [str(link)]


# ---- a file of each kind


@CASES.refused(TABLE, "2", "'soon'", code="events")
def an_onset_that_is_no_number(maker: BidsMaker) -> None:
    maker.events(rows=(*[("soon", 4.0, "thumb")], *EVENTS))


@CASES.refused(BOLD, "3D", "8×8×6")
def three_dimensions(maker: BidsMaker) -> None:
    maker.image(BOLD, "func", (6.0, 6.0, 4.0))


@CASES.refused("task-tap_bold.json", "JSON")
def a_broken_sidecar(maker: BidsMaker) -> None:
    maker.path(f"{STEM}_bold.json", "func").write_text('{"RepetitionTime": 1.0,')


@CASES.refused(HIGH, "3×3×4", "--bids-filter-file")
def equal_resolutions(maker: BidsMaker) -> None:
    maker.star("sub-01_acq-lowres", (3.0, 3.0, 4.0))


def write_constant_volumes(maker: BidsMaker) -> Path:
    """Write a run without signal in volumes 23 to 29."""
    data = np.random.default_rng(0).normal(100, 5, (8, 8, 6, 30)).astype("float32")
    data[..., 23:] = 0
    return maker.bold(data=data)


def test_the_unspoiled_data_set_has_no_problem(maker: BidsMaker) -> None:
    """Otherwise, the cases would prove nothing."""
    plan = plan_for(maker, *WITH_PAIR)
    assert (plan.problems, plan.warnings, check_data(plan)) == ((), (), ())


@pytest.mark.parametrize("name", CASES)
def test_input_is_refused_with_file_and_values(name: str, maker: BidsMaker) -> None:
    check_case(CASES[name], maker, *WITH_PAIR)


@pytest.mark.parametrize(
    ("spoil", "values"),
    [(CASES["three_dimensions"].spoil, ("3D", "8×8×6")), (write_constant_volumes, ("7 of 30",))],
)
def test_the_command_exits_with_code_2_and_writes_nothing(
    spoil, values, maker: BidsMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    """Voxels are read when processing starts."""
    spoil(maker)
    before = snapshot(maker.root.parent)
    assert main(arguments(maker, *WITH_PAIR)) == 2
    message = capsys.readouterr().err
    for value in (BOLD, *values):
        assert value in message
    assert "Traceback" not in message
    assert snapshot(maker.root.parent) == before
