"""Input that is documented as rejected: exit code 2, file, values and code of the only message;
no files are written.
"""

from __future__ import annotations

import gzip
import re
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from data.calls import (
    Cases,
    about,
    arguments,
    check_case,
    mentions,
    plan_for,
    problem_of,
)
from data.dataset import EVENTS, BidsMaker, snapshot

from bids_sr.cli.main import main
from bids_sr.survey.preflight import directories
from bids_sr.survey.preflight.voxel_checks import check_data

STEM = "sub-01_task-tap"
BOLD = f"{STEM}_bold.nii.gz"
TABLE = f"{STEM}_events.tsv"
HIGH, LOW = "sub-01_acq-highres_T2starw.nii.gz", "sub-01_acq-lowres_T2starw.nii.gz"
WITH_PAIR = ("--sr-method", "srgan", "sbl")  # with ``auto``, the pair would be optional
CASES = Cases()
VOXELS = Cases()


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


@CASES.refused("filter.json")
def path_in_a_filter(maker: BidsMaker) -> list[str]:
    path = maker.root.parent / "filter.json"
    path.write_text('{"bold": {"session": "../../secret"}}')
    return ["--bids-filter-file", str(path)]


@CASES.refused("alone.safetensors")
def model_without_its_card(maker: BidsMaker) -> list[str]:
    path = maker.root.parent / "alone.safetensors"
    path.write_bytes(b"0" * 100)
    return ["--pretrained", str(path)]


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
    (["-w", "bids/work"], "work", [], "input"),
    (["--derivatives", "fmriprep=nowhere"], "nowhere", [], "input"),
    (["--dummy-scans", "15"], BOLD, ["30", "15", "--dummy-scans"], "events"),
    (["--band-pass", "0.01", "0.02"], BOLD, ["--band-pass"], "events"),
    (["--confounds", "moton"], "--confounds moton", ["motion", "acompcor"], "option"),
]


@pytest.mark.parametrize(("options", "file", "values", "code"), OPTIONS)
def test_an_option_that_does_not_fit_is_refused(
    maker: BidsMaker, options: list[str], file: str, values: list[str], code: str
) -> None:
    problem_of(plan_for(maker, *WITH_PAIR, *options).problems, file, *values, code=code)


@pytest.mark.parametrize("out", ["bids", "bids/sub-01/sr", ".", "file/out", "bids/derivatives"])
def test_an_output_directory_at_an_unsuitable_place_is_refused_before_indexing(
    maker: BidsMaker, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "bids_sr.survey.preflight.checks.survey",
        lambda settings: pytest.fail("the data set was indexed"),
    )
    (maker.root.parent / "file").write_text("")
    path = (maker.root.parent / out).resolve()
    before = snapshot(maker.root.parent)
    problems = plan_for(maker, out=path).problems
    assert [problem.what for problem in problems] == [str(path)]
    assert snapshot(maker.root.parent) == before


def test_problems_below_a_directory_stop_the_call_before_indexing(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checks of the data follow only if directories and spaces have no problem at all."""
    monkeypatch.setattr(
        "bids_sr.survey.preflight.checks.survey",
        lambda settings: pytest.fail("the data set was indexed"),
    )
    out = maker.root.parent / "out"
    out.mkdir()
    (out / "logs").symlink_to(maker.root / "sub-01")
    (problem,) = plan_for(maker, "--pretrained", "missing.safetensors", out=out).problems
    assert problem.what == str(out / "logs")


# ---- files of a run


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


def noise(n_volumes: int = 30) -> np.ndarray:
    """Return a series on the grid of the run."""
    return np.random.default_rng(0).normal(100, 5, (8, 8, 6, n_volumes)).astype("float32")


# ---- voxels


@VOXELS.refused(BOLD, "NaN", "1", "30", "7")
def nan_in_a_volume(maker: BidsMaker) -> None:
    data = noise()
    data[3, 3, 3, 7] = np.nan
    maker.bold(data=data)


@VOXELS.refused("T1w.nii.gz", "NaN")
def an_infinite_t1w(maker: BidsMaker) -> None:
    data = noise(1)[..., 0]
    data[0, 0, 0] = np.inf
    maker.t1w(data=data)


@VOXELS.refused(BOLD)
def a_constant_run(maker: BidsMaker) -> None:
    maker.bold(data=np.full((8, 8, 6, 30), 7, "int16"))


@VOXELS.refused(BOLD, "7", "30")
def constant_volumes(maker: BidsMaker) -> None:
    data = noise()
    data[..., 23:] = 0
    maker.bold(data=data)


@VOXELS.refused(BOLD, "30")
def volumes_that_are_identical(maker: BidsMaker) -> None:
    maker.bold(data=np.repeat(noise(1), 30, axis=3))


@VOXELS.refused(BOLD)
def a_run_that_is_cut(maker: BidsMaker) -> None:
    cut(maker.path(BOLD, "func"), 0.6)


@VOXELS.refused(HIGH)
def a_pair_that_is_cut(maker: BidsMaker) -> None:
    cut(maker.path(HIGH, "anat"), 0.5)


@VOXELS.refused(BOLD)
def a_wrong_checksum(maker: BidsMaker) -> None:
    """The voxels can be read."""
    path = maker.path(BOLD, "func")
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF
    path.write_bytes(bytes(content))


@VOXELS.refused(BOLD, "1")
def a_scaling_that_overflows(maker: BidsMaker) -> None:
    path = maker.path(BOLD, "func")
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[112:116] = np.float32(-2e37).tobytes()
    path.write_bytes(gzip.compress(bytes(content)))


def change_voxels(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace the voxels of an image."""
    image = nb.load(path)
    changed = change(image.get_fdata())
    nb.Nifti1Image(changed.astype(np.float32), image.affine, image.header).to_filename(path)


def without_mean(values: np.ndarray) -> np.ndarray:
    return values - values.mean(-1, keepdims=True)


@VOXELS.refused(BOLD)
def a_series_without_its_mean(maker: BidsMaker) -> None:
    change_voxels(maker.path(BOLD, "func"), without_mean)


@VOXELS.refused(BOLD)
def a_series_without_its_mean_and_with_a_bright_start(maker: BidsMaker) -> None:
    def change(values: np.ndarray) -> np.ndarray:
        values[..., 0] *= 10
        return without_mean(values)

    change_voxels(maker.path(BOLD, "func"), change)


@VOXELS.refused(BOLD)
def a_series_of_percent_change(maker: BidsMaker) -> None:
    def change(values: np.ndarray) -> np.ndarray:
        return 100 * without_mean(values) / np.maximum(values.mean(-1, keepdims=True), 1)

    change_voxels(maker.path(BOLD, "func"), change)


@VOXELS.refused(BOLD, "100%")
def a_series_below_zero(maker: BidsMaker) -> None:
    change_voxels(maker.path(BOLD, "func"), lambda values: values - values.max() - 1)


@VOXELS.refused("sub-01_T1w.nii.gz", "magnitude")
def a_t1w_below_zero(maker: BidsMaker) -> None:
    change_voxels(maker.path("sub-01_T1w.nii.gz", "anat"), lambda values: -np.abs(values) - 1)


@VOXELS.refused(HIGH, "magnitude")
def a_pair_below_zero(maker: BidsMaker) -> None:
    change_voxels(maker.path(HIGH, "anat"), lambda values: -np.abs(values) - 1)


def pad(maker: BidsMaker, value: int) -> None:
    """Set two of 64 columns of the run to a value."""
    path = maker.path(BOLD, "func")
    image = nb.load(path)
    values = np.asarray(image.dataobj).copy()
    values[0, :2] = value
    nb.Nifti1Image(values, image.affine, image.header).to_filename(path)


@VOXELS.refused(BOLD, "3%", "32767")
def padding_above_all_values(maker: BidsMaker) -> None:
    pad(maker, 32767)


@VOXELS.refused(BOLD, "3%", "-900")
def padding_below_all_values(maker: BidsMaker) -> None:
    pad(maker, -900)


def cut(path: Path, kept: float) -> None:
    """Keep this share of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])


# ---- tests of the tables


def test_the_unspoiled_data_set_has_no_problem(maker: BidsMaker) -> None:
    """Otherwise, the cases would prove nothing."""
    plan = plan_for(maker, *WITH_PAIR)
    assert (plan.problems, plan.warnings, check_data(plan)) == ((), (), ())


@pytest.mark.parametrize("name", CASES)
def test_input_is_refused_with_file_and_values(name: str, maker: BidsMaker) -> None:
    check_case(CASES[name], maker, *WITH_PAIR)


@pytest.mark.parametrize("name", VOXELS)
def test_voxels_are_refused_when_processing_starts(name: str, maker: BidsMaker) -> None:
    case = VOXELS[name]
    case.spoil(maker)
    plan = plan_for(maker, *WITH_PAIR)
    assert plan.problems == ()
    problem_of(check_data(plan), case.file, *case.values, code=case.code)


@pytest.mark.parametrize("case", [CASES["three_dimensions"], VOXELS["nan_in_a_volume"]])
def test_the_command_exits_with_code_2_and_writes_nothing(
    case, maker: BidsMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    case.spoil(maker)
    before = snapshot(maker.root.parent)
    assert main(arguments(maker, *WITH_PAIR)) == 2
    message = capsys.readouterr().err
    for value in (case.file, *case.values):
        assert value in message
    assert "Traceback" not in message
    assert snapshot(maker.root.parent) == before


def test_padding_of_zeros_is_accepted(maker: BidsMaker) -> None:
    pad(maker, 0)
    assert check_data(plan_for(maker)) == ()


def test_saturated_voxels_of_the_brain_are_accepted_with_a_warning(maker: BidsMaker) -> None:
    change_voxels(maker.path(BOLD, "func"), lambda values: np.minimum(values, 900))
    (notice,) = check_data(plan_for(maker))
    assert notice.level == "warning"
    assert mentions(notice, "32767")  # stored value of 900


@pytest.mark.parametrize("damage", ["nan", "cut"])
def test_a_damaged_short_run_does_not_stop_the_dry_run(maker: BidsMaker, damage: str) -> None:
    """Preflight reads the first volumes of short runs, to count the blocks that fit."""
    path = maker.bold(n_volumes=40)
    maker.events(rows=[(2.0 * k, 1.0, ("thumb", "little")[k % 2]) for k in range(20)])
    values = ["NaN"] if damage == "nan" else []
    if damage == "cut":
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:600]))
    else:
        data = nb.load(path).get_fdata()
        data[0, 0] = np.nan
        maker.bold(data=data.astype(np.float32), n_volumes=40)
    plan = plan_for(maker, "--sr-method", "bspline")
    assert plan.problems == ()
    problem_of(check_data(plan), BOLD, *values)


def test_too_little_disk_space_is_refused(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(
        directories.shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000)
    )
    (problem,) = {
        problem.of_all() for problem in plan_for(maker).problems if problem.code == "room"
    }
    free, required, reserve = map(float, re.findall(r"([0-9.]+) GB", problem.why)[:3])
    assert required > reserve == 0.2, "the requirement includes the reserve for logs"
    assert free == 0.0


def test_an_output_directory_that_is_not_writable_is_refused(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replace the answer of the system, because root may write anywhere."""
    monkeypatch.setattr(directories.os, "access", lambda path, mode: False)
    assert about(plan_for(maker).problems, str(maker.root.parent / "out"))
