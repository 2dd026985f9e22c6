"""Preflight checks: plan, contrasts of runs, estimates, validator report and voxel values."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import pytest
from data.calls import about, only_run, plan_for, plan_with_validator, problem_of, settings_for
from data.dataset import BidsMaker
from graphmaker import finish_trainings, stage_minutes

from bids_sr.cli import stages
from bids_sr.cli.console import make_start_lines
from bids_sr.cli.stages import estimate_with_time
from bids_sr.config import Settings, SuperRes, machine
from bids_sr.engine.step import Stage
from bids_sr.io.notices import Notice
from bids_sr.io.template_files import DEFAULT_SPACE, load_grid
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.method import get_method
from bids_sr.sr.steps.model_times import compute_time_share
from bids_sr.survey.bids.inputs import BoldRun, HighresReference
from bids_sr.survey.bids.method_options import series_of_run
from bids_sr.survey.notices import is_problem
from bids_sr.survey.preflight import directories, validator
from bids_sr.survey.preflight.plan_text import cost_text, dry_run_text, notes
from bids_sr.survey.preflight.voxel_checks import check_data
from bids_sr.version import __version__
from bids_sr.workflows.call_checks import check
from bids_sr.workflows.participant import make_graph

STEM = "sub-01_task-tap"
BOLD = f"{STEM}_bold.nii.gz"
TABLE = f"{STEM}_events.tsv"


# ---- series


def test_series_of_a_run_depend_on_pair_reference_and_request(maker: BidsMaker) -> None:
    run = only_run(plan_for(maker))
    without_pair = dataclasses.replace(run, pair=None)
    with_reference = dataclasses.replace(run, truth=HighresReference())
    base = ("acquired", "bspline", "zerofill")
    assert series_of_run(without_pair, SuperRes()) == (*base, "sbl")
    requested = SuperRes(method=("srgan", "sbl"))
    assert series_of_run(without_pair, requested) == (*base, "srgan", "sbl")

    def pair_baselines(candidate: BoldRun, *methods: str) -> set[str]:
        superres = SuperRes(method=methods or ("auto",))
        return {"inject", "ratio"} & set(series_of_run(candidate, superres))

    assert pair_baselines(run) == set()
    assert pair_baselines(with_reference) == {"inject", "ratio"}
    assert pair_baselines(run, "auto", "inject") == {"inject"}
    assert pair_baselines(run, "auto", "all") == {"inject", "ratio"}
    assert pair_baselines(dataclasses.replace(with_reference, pair=None)) == set()


# ---- events


@pytest.mark.parametrize(
    ("n_volumes", "tr", "values"),
    [(16, 1.0, ["17", "16"]), (17, 1.0, None), (20, 0.4, ["10"]), (26, 0.4, None)],
)
def test_a_run_without_events_needs_enough_volumes_for_its_seeds(
    maker: BidsMaker, n_volumes: int, tr: float, values: list[str] | None
) -> None:
    """Even correlations require three seeds, twelve motion regressors and the mean."""
    maker.bold("sub-01_task-rest", n_volumes=n_volumes, tr=tr)
    plan = plan_for(maker, "--set", "activation.kinds=cc")
    assert plan.problems == ()
    problems = plan.skipped.get("sub-01_task-rest", ())
    assert len(about(problems, "task-rest", *(values or ()))) == len(problems)
    assert bool(problems) is (values is not None), problems


def test_a_task_without_events_table_is_the_first_warning(maker: BidsMaker) -> None:
    maker.path(TABLE, "func").unlink()
    maker.path("sub-01_T1w.nii.gz", "anat").unlink()  # other notes
    settings = settings_for(maker)
    plan = check(settings)
    first, *others = notes(plan, settings)
    assert (first.level, {note.level for note in others}) == ("warning", {"note"})
    assert about([first], f"sub-01/func/{BOLD}", TABLE, "--ignore events")
    text = dry_run_text(plan, settings)
    assert text.index("warning: ") < text.index("note: ")
    first_line, second_line, *_ = make_start_lines(plan, settings)
    assert first_line.split()[0] == "warning"
    assert second_line.split()[0] == "dataset"


def test_series_of_runs_at_rest_must_be_stored(maker: BidsMaker) -> None:
    options = ("--set", "run.store_series=false")
    plan = plan_for(maker, *options)
    assert plan.problems == ()
    assert any("XCP-D" in notice.why for notice in plan.warnings)
    resting = plan_for(maker, *options, "--ignore", "events")
    assert [problem.what for problem in resting.problems] == [" ".join(options)]


@pytest.mark.parametrize(
    ("options", "widths"),
    [
        ([], ["0 mm and 5 mm"]),
        (["--set", "preprocessing.input_smoothing=13.2", "activation.smoothing=0"], ["13.2", "0"]),
    ],
)
def test_the_plan_names_every_smoothing(
    options: list[str], widths: list[str], maker: BidsMaker
) -> None:
    settings = settings_for(maker, *options)
    (line,) = (
        line
        for line in dry_run_text(check(settings), settings).splitlines()
        if line.startswith("smoothing")
    )
    places = [line.index(f" {width}") for width in widths]
    assert places == sorted(places)
    assert line.count("before") == len(widths)


@pytest.mark.parametrize("kind", ["rest", "ignored"])
def test_rest_and_ignored_events_cause_no_warning(maker: BidsMaker, kind: str) -> None:
    folder = maker.path(TABLE, "func").parent
    if kind == "rest":
        (folder / TABLE).unlink()
        for path in folder.glob("*task-tap*"):
            path.rename(path.with_name(path.name.replace("task-tap", "task-RestEyes")))
    plan = plan_for(maker, *(["--ignore", "events"] if kind == "ignored" else []))
    assert plan.problems == ()
    assert not [notice for notice in plan.warnings if notice.level == "warning"]


# ---- directories


def test_output_may_exist_or_be_below_the_derivatives(maker: BidsMaker) -> None:
    for out in ("out", "bids/derivatives/bids-sr", "bids/derivatives/a/b"):
        path = maker.root.parent / out
        assert plan_for(maker, out=path).problems == ()
        path.mkdir(parents=True)
        assert plan_for(maker, out=path).problems == ()
    link = maker.root.parent / "link"
    link.symlink_to(maker.root / "sub-01")
    assert [problem.what for problem in plan_for(maker, out=link).problems] == [str(link)]


@pytest.mark.parametrize("name", ["logs", "sub-01"])
def test_folders_of_another_user_in_the_output_are_refused(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    out = maker.root.parent / "out"
    for folder in (out / "logs" / "earlier", out / "sub-01"):
        folder.mkdir(parents=True)
    (out / "logs" / "earlier" / "settings.toml").touch()
    settings = settings_for(maker)
    assert not any(map(is_problem, directories.judge_directories(settings)))
    monkeypatch.setattr(directories.os, "access", lambda path, mode: path != out / name)
    problem_of(list(directories.judge_directories(settings)), str(out / name))


def test_existing_files_reduce_the_required_disk_space(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished runs can be repeated on a disk that they filled; 0.2 GB are for logs."""
    settings = settings_for(maker)
    cost = dataclasses.replace(check(settings).estimate, output_gb=0.0, work_gb=0.1)

    def problems(free_gb: float) -> list[Notice]:
        disk = type("Disk", (), {"free": free_gb * 1e9})
        monkeypatch.setattr(directories.shutil, "disk_usage", lambda path: disk)
        return list(directories.judge_disk_space(settings, cost))

    assert problems(0.31) == []
    (problem,) = problems(0.29)
    assert about([problem], str(settings.paths.work_dir), "0.29", "0.30", "0.20")
    work = maker.root.parent / "work"
    work.mkdir()
    (work / "image.nii").write_bytes(b"0" * 20_000_000)
    assert problems(0.29) == []


def test_a_missing_model_file_is_refused(maker: BidsMaker) -> None:
    problems = plan_for(maker, "--pretrained", "/nowhere/model.safetensors").problems
    assert "/nowhere/model.safetensors" in [problem.what for problem in problems]


# ---- estimates


def test_disk_space_depends_on_the_level_and_grows_by_each_series(maker: BidsMaker) -> None:
    levels = ("minimal", "standard", "full")
    estimates = [plan_for(maker, "--level", level).estimate for level in levels]
    minimal, standard, full = (estimate.output_gb for estimate in estimates)
    assert minimal < standard < full
    assert full - standard > standard - minimal, "series of all baselines, and their maps"
    assert len({(estimate.work_gb, estimate.memory_gb) for estimate in estimates}) == 1
    without_series = ("--set", "run.store_series=false")
    maps_gb = [
        plan_for(maker, "--level", level, *without_series).estimate.output_gb for level in levels
    ]
    assert 0 < minimal - maps_gb[0] == pytest.approx(standard - maps_gb[1])
    assert full - maps_gb[2] > standard - maps_gb[1], "series of all baselines"
    all_series = plan_for(maker, "--sr-method", "auto", "all")
    more = len(all_series.series) - len(plan_for(maker).series)
    series_gb, effects, maps = 16 * 16 * 6 * 30 * 4 / 1e9, 0.06, 5.5 * 2 * 4 / 30
    assert all_series.estimate.work_gb - estimates[0].work_gb == pytest.approx(
        more * series_gb * (1 + effects + maps)
    )


def test_estimates_grow_linearly_with_the_number_of_volumes(maker: BidsMaker) -> None:
    """Stages that depend on the data grow in proportion; memory does not grow."""
    settings = settings_for(maker)
    plans = []
    for n_volumes in (30, 60, 90):
        maker.bold(n_volumes=n_volumes)
        plans.append(check(settings))
    costs = [
        {row.stage: row.minutes for row in estimate_with_time(plan, settings).rows}
        for plan in plans
    ]
    first, second = (
        {stage: later[stage] - before[stage] for stage in before}
        for before, later in pairwise(costs)
    )
    assert second == pytest.approx(first)
    growing = {stage for stage, minutes in first.items() if minutes > 0}
    assert growing.isdisjoint({"training", "registration"})
    assert growing >= {"super-resolution and baseline methods", "activation maps"}
    disk = [plan.estimate.work_gb for plan in plans]
    assert disk[2] - disk[1] == pytest.approx(disk[1] - disk[0])
    assert plans[1].estimate.memory_gb == pytest.approx(plans[0].estimate.memory_gb)


def test_a_finished_training_takes_no_time(maker: BidsMaker, tmp_path: Path) -> None:
    """Two runs share the network of their pair; another image of the pair is trained on again."""
    maker.bold("sub-01_task-tap_run-2")
    settings = settings_for(maker, "--sr-method", "srgan", "-w", str(tmp_path / "work"))
    times = [stage_minutes(settings)]
    finish_trainings(settings, check(settings))
    times.append(stage_minutes(settings))
    maker.path("sub-01_acq-lowres_T2starw.nii.gz", "anat").touch()
    times.append(stage_minutes(settings))
    assert ["training" in stages for stages in times] == [True, False, True]
    assert times[1]["activation maps"] == times[0]["activation maps"]


def test_the_time_of_a_stage_is_the_sum_of_its_steps(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(maker)
    before = stage_minutes(settings)
    n_steps = len(
        [
            node
            for node in make_graph(settings, check(settings), __version__).nodes
            if node.step.stage is Stage.HEAD_MOTION
        ]
    )
    time = stages._STAGE_TIMES[Stage.HEAD_MOTION]
    changed = dataclasses.replace(time, always=time.always + 60.0)
    monkeypatch.setitem(stages._STAGE_TIMES, Stage.HEAD_MOTION, changed)
    after = stage_minutes(settings)
    stage = str(Stage.HEAD_MOTION)
    assert after.pop(stage) == pytest.approx(before.pop(stage) + n_steps)
    assert after == before


def test_more_processes_are_faster_and_need_more_memory(maker: BidsMaker) -> None:
    requests = [settings_for(maker, "--nprocs", str(number)) for number in (1, 2, 64)]
    single, double, parallel = (
        estimate_with_time(check(request), request) for request in requests
    )
    assert double.minutes < single.minutes / 1.5
    assert parallel.minutes > single.minutes / 8, "one run cannot keep 64 processors busy"
    assert single.memory_gb < double.memory_gb < parallel.memory_gb
    assert parallel.memory_gb < single.memory_gb + 64 * 0.3


def test_training_time_can_be_limited_or_skipped(maker: BidsMaker) -> None:
    def minutes(*options: str) -> float:
        call = ("--sr-method", "srgan", "--recipe", "paper", *options)
        return stage_minutes(settings_for(maker, *call))["training"]

    bounded = minutes("--max-train-minutes", "1")
    assert 1 <= bounded < 1.1
    cost = get_method("srgan").cost("paper")
    assert minutes() - bounded == pytest.approx(cost.always / 60, rel=0.01)
    reuse = f"superres.model_dir={maker.root}"
    assert minutes("--set", "superres.model_source=reuse", reuse) < 0.1


def published_training(maker: BidsMaker, *options: str) -> Settings:
    """Return settings of a call that trains `srgan` as published on four processors."""
    call = ("--sr-method", "srgan", "--recipe", "paper", "--nprocs", "4", *options)
    return settings_for(maker, *call)


def test_training_takes_less_time_with_more_threads_but_not_with_more_processes(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Participants are trained in parallel if their threads fit, and a tip names the option."""
    monkeypatch.setattr("bids_sr.survey.preflight.plan_text.measure_slowdown", lambda: 1.0)

    def estimate(*options: str) -> tuple[float, str]:
        settings = published_training(maker, *options)
        plan = check(settings)
        cost = estimate_with_time(plan, settings)
        (row,) = (row for row in cost.rows if row.stage == "training")
        text = cost_text(dataclasses.replace(plan, estimate=cost), settings)
        return row.wall_minutes, text

    one, tip = estimate()
    assert one == pytest.approx(get_method("srgan").cost("paper").always / 60, rel=0.01)
    assert "--omp-nthreads 4" in tip
    assert estimate("--nprocs", "1")[0] == pytest.approx(one)
    four, no_tip = estimate("--omp-nthreads", "4")
    assert four == pytest.approx(one * compute_time_share("paper", 4), rel=0.01)
    assert one / 4 < four < estimate("--omp-nthreads", "2")[0] < one
    assert "--omp-nthreads" not in no_tip
    maker.subject("02")
    assert estimate()[0] == pytest.approx(one)
    assert estimate("--omp-nthreads", "4")[0] == pytest.approx(2 * four)
    assert estimate("--max-train-minutes", "30")[0] == pytest.approx(30)


def test_the_time_of_training_on_a_gpu_is_unknown_without_a_limit(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "has_gpu", lambda: True)
    for device in ("auto", "cuda"):
        options = ("--set", f"resources.device={device}")
        settings = published_training(maker, *options)
        plan = check(settings)
        cost = estimate_with_time(plan, settings)
        text = dry_run_text(dataclasses.replace(plan, estimate=cost), settings)
        assert math.isinf(cost.minutes)
        assert re.search(r"(?m)^ +training +unknown ", text)
        assert re.search(r"(?m)^ +total +unknown ", text)
        settings = published_training(maker, *options, "--max-train-minutes", "30")
        assert 30 < estimate_with_time(check(settings), settings).minutes < 60
    on_cpu = published_training(maker, "--set", "resources.device=cpu")
    for settings in (on_cpu, settings_for(maker, "--sr-method", "bspline")):
        assert math.isfinite(estimate_with_time(check(settings), settings).minutes)


def test_training_time_of_2d_methods_does_not_depend_on_large_volumes() -> None:
    tv, unet = get_method("tv").cost("fast"), get_method("unet").cost("fast")
    assert tv.seconds(high=0.2) > 1.9 * tv.seconds(high=0.1)
    assert tv.seconds(high=3.0) == tv.seconds(high=0.6)
    assert unet.seconds(high=3.0) == pytest.approx(5 * unet.seconds(high=0.6))


# ---- text of the plan


@pytest.mark.parametrize("factor", [2, 3])
def test_a_factor_without_measured_accuracy_is_noted(maker: BidsMaker, factor: int) -> None:
    for path in maker.root.rglob("*T2starw*"):
        path.unlink()
    settings = settings_for(maker, "--sr-factor", str(factor))
    assert ("Compare with --sr-factor 2" in dry_run_text(check(settings), settings)) == (
        factor > 2
    )


def test_the_dry_run_prints_inputs_methods_and_rows_that_sum_to_the_total(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times are wall-clock minutes with the processes of the call on this machine."""
    maker.path("sub-01_acq-lowres_T2starw.nii.gz", "anat").unlink()
    calibration = maker.bold(f"{STEM}_acq-x", zooms=(3.0, 3.0, 4.0), n_volumes=20)
    truth = BidsMaker(maker.root.parent / "truth")
    truth.bold(zooms=(3.0, 3.0, 4.0))
    name = f"{STEM}_res-hr_contrast-thumb_stat-effect_desc-truth_statmap.nii.gz"
    truth.image(name, "func", (3.0, 3.0, 4.0))
    settings = settings_for(maker, "--truth", str(truth.root))
    plan = check(settings)
    cost = estimate_with_time(plan, settings)
    for slowdown in (1.0, 7.3):
        monkeypatch.setattr(
            "bids_sr.survey.preflight.plan_text.measure_slowdown",
            lambda slowdown=slowdown: slowdown,
        )
        text = dry_run_text(dataclasses.replace(plan, estimate=cost), settings)
        cells = [line.rsplit(maxsplit=2) for line in text.splitlines()]
        rows = {}
        for stage, *numbers in (row for row in cells if len(row) == 3):
            if all(number.replace(".", "", 1).isdigit() for number in numbers):
                rows[stage.strip()] = tuple(map(float, numbers))
        stages = [rows[row.stage] for row in cost.rows]
        (total,) = [rows[name] for name in rows if name.startswith("total")]
        assert sum(minutes for minutes, _ in stages) == pytest.approx(total[0])
        assert total[0] == pytest.approx(cost.minutes * slowdown, abs=0.051)
        assert total[1] == pytest.approx(cost.memory_gb, abs=0.051)
        assert all(0 < memory <= total[1] for _, memory in stages)
    for part in (
        f"{STEM}: 8×8×6 voxels of 6×6×4 mm, 30 volumes, TR 1 s",
        "sub-01_acq-highres_T2starw.nii.gz",
        f"{calibration.name}, 20 volumes of 3×3×4 mm",
        f"{BOLD}, effect of thumb in {truth.root}",
        "srgan (fast, no critic), sbl by 2×2×1",
        "littleMinusThumb = little-thumb",
        "acquired bspline zerofill",
        "0 mm and 5 mm",
    ):
        assert part in text, part
    assert "--retrospective" not in text, "there is a reference"
    assert "--retrospective" in dry_run_text(check(settings_for(maker)), settings_for(maker))


# ---- regions


@pytest.mark.parametrize(
    ("name", "with_t1w", "values"),
    [
        ("v1.nii.gz", True, ["boldref", "27"]),
        ("v1.nii.gz", False, ["boldref", "27"]),
        ("space-T1w_mask.nii.gz", True, ["T1w", "27"]),
        (f"space-{DEFAULT_SPACE}_mask.nii.gz", True, ["template", "27"]),
        (f"tpl-{DEFAULT_SPACE}_mask.nii.gz", True, ["template", "27"]),
        ("space-T1w_mask.nii.gz", False, ["whole", "brain"]),
    ],
)
def test_the_dry_run_names_the_space_and_the_voxels_of_a_mask(
    maker: BidsMaker, name: str, with_t1w: bool, values: list[str]
) -> None:
    if not with_t1w:
        maker.path("sub-01_T1w.nii.gz", "anat").unlink()
    run = nb.load(maker.path(BOLD, "func"))
    data = np.zeros(run.shape[:3], np.uint8)
    data[2:5, 3:6, 1:4] = 1
    nb.save(nb.Nifti1Image(data, run.affine), maker.root.parent / name)
    settings = settings_for(maker, "--roi", str(maker.root.parent / name))
    plan = check(settings)
    assert not plan.problems
    (line,) = [
        line for line in dry_run_text(plan, settings).splitlines() if "region of interest:" in line
    ]
    assert set(values) <= set(line.replace(",", "").split())


def test_each_region_has_its_own_space_and_its_own_problem(maker: BidsMaker) -> None:
    run = nb.load(maker.path(BOLD, "func"))
    data = np.zeros(run.shape[:3], np.uint8)
    data[2:5, 3:6, 1:4] = 1
    paths = [maker.root.parent / f"space-{space}_mask.nii.gz" for space in ("T1w", "boldref")]
    for path in paths:
        nb.save(nb.Nifti1Image(data, run.affine), path)
    settings = settings_for(maker, "--roi", "motor", *map(str, paths))
    plan = check(settings)
    assert not plan.problems
    spaces = [plan.find_region_space(roi, "01") for roi in settings.activation.roi]
    assert spaces == ["T1w", "T1w", "boldref"]
    lines = [
        line for line in dry_run_text(plan, settings).splitlines() if "region of interest:" in line
    ]
    for line, words in zip(lines, ("AAL2", "T1w space, 27", "boldref space, 27"), strict=True):
        assert words in line
    nb.save(nb.Nifti1Image(0 * data, run.affine), paths[1])
    problems = plan_for(maker, "--roi", "motor", *map(str, paths)).problems
    problem_of(problems, f"--roi {paths[1]}", code="option")
    assert not about(problems, f"--roi {paths[0]}")


@pytest.mark.parametrize("space", ["T1w", "boldref", "boldref at high resolution", "template"])
def test_a_mask_without_a_space_in_its_name_has_the_space_of_an_equal_grid(
    maker: BidsMaker, space: str
) -> None:
    t1w = nb.load(maker.path("sub-01_T1w.nii.gz", "anat"))
    run = nb.load(maker.path(BOLD, "func"))
    shape, affine = {
        "T1w": (t1w.shape, t1w.affine),
        "boldref": (run.shape[:3], run.affine),
        "boldref at high resolution": hr_grid(run.shape, run.affine, (2, 2, 1)),
        "template": load_grid(DEFAULT_SPACE, "2") or load_grid(DEFAULT_SPACE, "1"),
    }[space]
    data = np.zeros(shape, np.uint8)
    data[2:5, 2:5, 1:4] = 1
    path = maker.root.parent / "mask.nii.gz"
    nb.save(nb.Nifti1Image(data, affine), path)
    plan = plan_for(maker, "--roi", str(path))
    assert not plan.problems
    assert plan.find_region_space(str(path), "01") == space.partition(" ")[0]
    nb.save(nb.Nifti1Image(data, affine + np.diag([0, 0, 0.5, 0])), path)
    problem_of(plan_for(maker, "--roi", str(path)).problems, f"--roi {path}", code="option")


@pytest.mark.parametrize(
    ("name", "n_problems"),
    [
        ("sub-01_space-T1w_mask.nii.gz", 0),
        ("sub-02_space-T1w_mask.nii.gz", 1),
        (f"sub-02_space-{DEFAULT_SPACE}_mask.nii.gz", 0),
    ],
)
def test_a_mask_of_another_participant_is_refused_except_in_the_space_of_the_template(
    maker: BidsMaker, name: str, n_problems: int
) -> None:
    path = maker.root.parent / name
    data = np.zeros((8, 8, 6), np.uint8)
    data[2:5, 3:6, 1:4] = 1
    nb.save(nb.Nifti1Image(data, nb.load(maker.path(BOLD, "func")).affine), path)
    problems = plan_for(maker, "--roi", str(path)).problems
    assert len(about(problems, f"--roi {path}", "sub-01", "sub-02")) == n_problems


# ---- voxels


def test_memory_of_reading_voxels_does_not_grow_with_volumes(maker: BidsMaker) -> None:
    peaks = []
    for n_volumes in (50, 400):
        rng = np.random.default_rng(0)
        data = rng.integers(0, 900, (16, 16, 16, n_volumes), dtype="int16")
        maker.bold(data=data, n_volumes=n_volumes)
        plan = plan_for(maker, "--sr-method", "bspline", "--sr-factor", "2")
        tracemalloc.start()
        check_data(plan)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 50_000


@pytest.mark.parametrize("dtype", ["uint8", ">i2", ">f4", "float64"])
def test_all_data_types_are_read(maker: BidsMaker, dtype: str) -> None:
    path = maker.path(BOLD, "func")
    affine = nb.load(path).affine
    data = np.random.default_rng(1).integers(50, 200, (8, 8, 6, 30)).astype(dtype)

    def save(values: np.ndarray) -> None:
        header = nb.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
        header.set_data_dtype(dtype)
        image = nb.Nifti1Image(values, affine, header)
        image.header.set_xyzt_units("mm", "sec")
        image.header["pixdim"][4] = 1
        nb.save(image, path)

    save(data)
    plan = plan_for(maker)
    assert check_data(plan) == ()
    data[..., 15:] = 3
    save(data)
    problem_of(check_data(plan), BOLD, "15", "30")


def test_few_constant_volumes_are_excluded_with_a_warning(maker: BidsMaker) -> None:
    data = np.random.default_rng(1).integers(50, 200, (8, 8, 6, 30)).astype("i2")
    data[..., -2:] = 0
    maker.bold(data=data)
    (warning,) = check_data(plan_for(maker))
    assert about([warning], BOLD, "2", "30", "28")
    assert warning.level == "warning"


# ---- the BIDS validator

RUNS = {f"{STEM}_run-1": (Path(f"/d/sub-01/func/{STEM}_run-1_bold.nii"), None)}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that installs a shell script as the validator."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(sys, "executable", str(folder / "python"))

    def write(script: str) -> None:
        program = folder / "bids-validator-deno"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return write


@pytest.fixture
def problems(tmp_path: Path, install: Callable[[str], None]) -> Callable[..., list[Notice]]:
    """Return a function that lists the problems for issues of the validator.

    All files with issues are read by the call.
    """
    report = tmp_path / "report.json"
    install(f"cat {report}")

    def validate(*issues: dict[str, str], reported_paths: tuple[Path, ...] = ()) -> list[Notice]:
        errors = [{"severity": "error", **issue} for issue in issues]
        messages = {"NOT_INCLUDED": "Not part of BIDS. Rename it."}
        report.write_text(json.dumps({"issues": {"issues": errors, "codeMessages": messages}}))
        known = [Notice(what=str(path)) for path in reported_paths]
        files = {Path("/d" + issue["location"]) for issue in issues}
        return list(validator.validate(Path("/d"), ["01"], RUNS, files, known))

    return validate


def test_issues_of_the_same_code_are_one_problem(problems: Callable[..., list[Notice]]) -> None:
    issues = [{"code": "NOT_INCLUDED", "location": f"/sub-01/x{i}.nii"} for i in range(5)]
    (problem,) = problems(*issues)
    assert problem.what == "/d/sub-01/x0.nii, /d/sub-01/x1.nii, /d/sub-01/x2.nii and 2 more"
    assert about([problem], "", "Not part of BIDS. Rename it.", "--skip-bids-validation")


@pytest.mark.parametrize(
    ("location", "owner"),
    [
        ("/task-tap_bold.json", ("01", f"{STEM}_run-1")),
        (f"/sub-01/func/{STEM}_run-01_recording-x_physio.tsv.gz", ("01", f"{STEM}_run-1")),
        ("/sub-01/sub-01_scans.tsv", ("01", "")),
        (f"/sub-01/func/{STEM}_acq-mb_run-1_bold.nii", None),  # another run
        ("/sub-02/func/a.nii", None),
        ("/task-rest_bold.json", None),
        ("/dataset_description.json", ("", "")),
        ("/participants.tsv", ("", "")),  # unknown participant: the table does not exist
    ],
)
def test_an_error_is_assigned_to_participant_and_run(
    problems: Callable[..., list[Notice]], location: str, owner: tuple[str, str] | None
) -> None:
    issue = {"code": "X", "location": location}
    found = [(problem.subject, problem.run) for problem in problems(issue)]
    assert found == ([] if owner is None else [owner])
    assert problems({**issue, "severity": "warning"}) == []
    assert problems(issue, reported_paths=(Path(f"/d{location}"),)) == []


@pytest.mark.parametrize(
    ("script", "value"), [("sleep 20", "1"), ("echo oops >&2; exit 1", "oops"), ("echo '{}'", "")]
)
def test_a_failing_or_missing_validator_is_a_notice(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    install: Callable[[str], None],
    script: str,
    value: str,
) -> None:
    arguments: tuple[Any, ...] = (tmp_path, ["01"], {}, (), ())
    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    monkeypatch.setattr(validator, "_TIMEOUT_S", 1.0)
    missing = list(validator.validate(*arguments))
    install(f"exec 2>&1\n{script}")
    for notices in (missing, list(validator.validate(*arguments))):
        (notice,) = notices
        assert (notice.what, notice.level) == (str(tmp_path), "note")
    assert value in notice.why


def test_the_installed_validator_reports_no_problem_and_writes_nothing(maker: BidsMaker) -> None:
    before = sorted(maker.root.rglob("*"))
    plan = plan_with_validator(maker)
    assert (plan.problems, plan.warnings) == ((), ())
    assert sorted(maker.root.rglob("*")) == before
