"""Events, stored series and estimates of a call, and the text of its plan."""

from __future__ import annotations

import dataclasses
import math
import re
from itertools import pairwise
from pathlib import Path

import pytest
from data.calls import about, plan_for, problem_of, settings_for
from data.dataset import BidsMaker
from data.records import make_run, make_settings
from graphmaker import finish_trainings, stage_minutes

from bids_sr.cli import stages
from bids_sr.cli.console import make_start_lines
from bids_sr.cli.stages import estimate_with_time
from bids_sr.config import Settings, machine
from bids_sr.engine.step import Stage
from bids_sr.io.notices import Notice
from bids_sr.sr.method import get_method
from bids_sr.sr.steps.model_times import compute_time_share
from bids_sr.survey.bids.inputs import Subject, Survey
from bids_sr.survey.preflight import directories
from bids_sr.survey.preflight.checks import judge_resources
from bids_sr.survey.preflight.estimates import estimate
from bids_sr.survey.preflight.linear_models import LinearModels, judge_model
from bids_sr.survey.preflight.plan import Estimate, Plan
from bids_sr.survey.preflight.plan_text import cost_text, dry_run_text, notes
from bids_sr.survey.preflight.run_set_checks import missing_events, unstored_series
from bids_sr.version import __version__
from bids_sr.workflows.call_checks import check
from bids_sr.workflows.participant import make_graph

STEM = "sub-01_task-tap"
BOLD = f"{STEM}_bold.nii.gz"
TABLE = f"{STEM}_events.tsv"


# ---- events


@pytest.mark.parametrize(
    ("n_volumes", "tr", "values"),
    [(16, 1.0, ["17", "16"]), (17, 1.0, None), (20, 0.4, ["10"]), (26, 0.4, None)],
)
def test_a_run_without_events_needs_enough_volumes_for_its_seeds(
    n_volumes: int, tr: float, values: list[str] | None
) -> None:
    """Even correlations require three seeds, twelve motion regressors and the mean."""
    run = make_run("sub-01_task-rest", n_volumes=n_volumes, tr=tr, has_events=False)
    seeds = {run.bold: {name: {name: 1.0} for name in ("left", "right", "middle")}}
    models = LinearModels(types={}, contrasts=seeds, over_runs={}, nuisance=None)
    settings = make_settings("--set", "activation.kinds=cc")
    problems = [*judge_model(run, models, (), settings, with_anat=True)]
    assert len(problems) == (values is not None)
    if values:
        problem_of(problems, "task-rest", *values)


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


@pytest.mark.parametrize(
    ("task", "options", "n_warnings"),
    [("tap", (), 1), ("RestEyes", (), 0), ("tap", ("--ignore", "events"), 0)],
)
def test_rest_and_ignored_events_cause_no_warning(
    tmp_path: Path, task: str, options: tuple[str, ...], n_warnings: int
) -> None:
    name = f"sub-01_task-{task}"
    data_set = Survey(files_by_run={name: (tmp_path / f"{name}_bold.nii", None)})
    warnings = [*missing_events(data_set, make_settings(*options))]
    assert [notice.code for notice in warnings] == ["events"] * n_warnings


def test_series_of_runs_at_rest_must_be_stored() -> None:
    settings = make_settings("--set", "run.store_series=false")
    assert [*unstored_series([make_run()], settings)] == []
    resting = [*unstored_series([make_run(has_events=False)], settings)]
    problem_of(resting, "--set run.store_series=false", code="option")


# ---- estimates


def test_existing_files_reduce_the_required_disk_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished runs can be repeated on a disk that they filled; 0.2 GB are for logs."""
    work = tmp_path / "work"
    settings = make_settings("-w", str(work))
    paths = dataclasses.replace(settings.paths, output_dir=tmp_path / "out")
    settings = dataclasses.replace(settings, paths=paths)

    def problems(free_gb: float) -> list[Notice]:
        disk = type("Disk", (), {"free": free_gb * 1e9})
        monkeypatch.setattr(directories.shutil, "disk_usage", lambda path: disk)
        return list(judge_resources(Estimate(work_gb=0.1), settings))

    assert problems(0.31) == []
    problem_of(problems(0.29), str(work), "0.29", "0.30", "0.20", code="room")
    work.mkdir()
    (work / "image.nii").write_bytes(b"0" * 20_000_000)
    assert problems(0.29) == []


def test_disk_space_depends_on_the_level_and_grows_by_each_series(maker: BidsMaker) -> None:
    plan = plan_for(maker)

    def estimates(*options: str) -> list[Estimate]:
        levels = ("minimal", "standard", "full")
        return [
            estimate(plan, settings_for(maker, "--level", level, *options)) for level in levels
        ]

    minimal, standard, full = (cost.output_gb for cost in estimates())
    assert minimal < standard < full
    assert full - standard > standard - minimal, "series of all baselines, and their maps"
    assert len({(cost.work_gb, cost.memory_gb) for cost in estimates()}) == 1
    maps_gb = [cost.output_gb for cost in estimates("--set", "run.store_series=false")]
    assert 0 < minimal - maps_gb[0] == pytest.approx(standard - maps_gb[1])
    assert full - maps_gb[2] > standard - maps_gb[1], "series of all baselines"
    all_series = plan_for(maker, "--sr-method", "auto", "all")
    more = len(all_series.series) - len(plan.series)
    series_gb, effects, maps = 16 * 16 * 6 * 30 * 4 / 1e9, 0.06, 5.5 * 2 * 4 / 30
    assert all_series.estimate.work_gb - plan.estimate.work_gb == pytest.approx(
        more * series_gb * (1 + effects + maps)
    )


def test_estimates_grow_linearly_with_the_number_of_volumes(maker: BidsMaker) -> None:
    """Stages that depend on the data grow in proportion; memory does not grow."""
    settings = settings_for(maker)
    plan = check(settings)
    (subject,) = plan.subjects
    (run,) = subject.runs
    costs = []
    for n_volumes in (30, 60, 90):
        header = dataclasses.replace(run.header, shape=(*run.shape, n_volumes))
        longer = dataclasses.replace(subject, runs=(dataclasses.replace(run, header=header),))
        costs.append(estimate_with_time(dataclasses.replace(plan, subjects=(longer,)), settings))
    minutes = [{row.stage: row.minutes for row in cost.rows} for cost in costs]
    first, second = (
        {stage: later[stage] - before[stage] for stage in before}
        for before, later in pairwise(minutes)
    )
    assert second == pytest.approx(first)
    growing = {stage for stage, minutes in first.items() if minutes > 0}
    assert growing.isdisjoint({"training", "registration"})
    assert growing >= {"super-resolution and baseline methods", "activation maps"}
    disk = [cost.work_gb for cost in costs]
    assert disk[2] - disk[1] == pytest.approx(disk[1] - disk[0])
    assert costs[1].memory_gb == pytest.approx(costs[0].memory_gb)


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


@pytest.mark.parametrize(
    ("options", "widths"),
    [
        ([], ["0 mm and 5 mm"]),
        (["--set", "preprocessing.input_smoothing=13.2", "activation.smoothing=0"], ["13.2", "0"]),
    ],
)
def test_the_plan_names_every_smoothing(options: list[str], widths: list[str]) -> None:
    plan = Plan(subjects=(Subject(label="01", t1w=(), runs=(make_run(),)),))
    text = dry_run_text(plan, make_settings(*options))
    (line,) = (line for line in text.splitlines() if line.startswith("smoothing"))
    places = [line.index(f" {width}") for width in widths]
    assert places == sorted(places)
    assert line.count("before") == len(widths)


@pytest.mark.parametrize("factor", [2, 3])
def test_a_factor_without_measured_accuracy_is_noted(factor: int) -> None:
    runs = (make_run(factor=(factor, factor, 1)),)
    plan = Plan(subjects=(Subject(label="01", t1w=(), runs=runs),))
    advice = [notice.why for notice in notes(plan, make_settings())]
    assert any("Compare with --sr-factor 2" in text for text in advice) == (factor > 2)


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
