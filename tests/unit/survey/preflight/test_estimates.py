"""Memory checks: available memory compared with the requirement of the largest step."""

from dataclasses import replace
from multiprocessing import synchronize
from pathlib import Path

import pytest
from data.calls import about, plan_for, problem_of, settings_for
from data.dataset import BidsMaker

from bids_sr.config import machine
from bids_sr.engine import memory as config_memory, step_memory
from bids_sr.engine.memory import Sizes
from bids_sr.io.notices import Notice
from bids_sr.survey.preflight.estimates import check_machine, estimate, too_little_memory


def test_the_number_of_workers_fits_the_largest_step() -> None:
    sizes = Sizes(t1w=8.0, low=0.12, high=0.5)
    need = step_memory.find_largest_gb(sizes)
    minimum = config_memory.BASE_GB + need
    assert config_memory.workers_that_fit(minimum, 4, need) == 1
    assert config_memory.workers_that_fit(minimum - 0.01, 4, need) == 0
    assert config_memory.workers_that_fit(minimum + 2 * config_memory.WORKER_GB, 4, need) == 3
    assert config_memory.workers_that_fit(99.0, 4, need) == 4
    for workers in (1, 3):  # the program, waiting workers and the largest step
        available = minimum + (workers - 1) * config_memory.WORKER_GB
        assert config_memory.for_steps_gb(available, workers) == pytest.approx(need)
        available_small_workers = minimum + (workers - 1) * 0.6
        assert config_memory.workers_that_fit(available_small_workers, 4, need, 0.6) == workers
        assert config_memory.for_steps_gb(available_small_workers, workers, 0.6) == pytest.approx(
            need
        )


def test_too_little_memory_is_refused_with_what_needs_it(maker: BidsMaker) -> None:
    sizes = Sizes(t1w=60.0, low=0.1, high=0.4)
    minimum = config_memory.BASE_GB + step_memory.find_largest_gb(sizes)

    def problems(option: str, sizes: Sizes, available_gb: float | None) -> list[Notice]:
        settings = settings_for(maker, "--mem", option)
        return [*too_little_memory(settings, sizes, available_gb)]

    values = (f"{minimum:.1f}", "--mem", "T1w")
    problem_of(problems("1.5", sizes, 1.5), "--mem 1.5", *values, code="option")
    problem_of(problems("100M", sizes, 100 / 1024), "--mem 100M", values[0], code="option")
    high = problems("1.5", Sizes(low=0.5, high=8.0), 1.5)
    assert about(high, "--mem 1.5", "--sr-factor")
    base = problems("1.5", Sizes(), 0.2)
    assert base
    assert not about(base, "", "--sr-factor")
    assert not about(base, "", "T1w")
    assert problems("1.5", sizes, minimum) == problems("1.5", sizes, None) == []


def test_memory_of_the_machine_is_checked(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for(maker)
    monkeypatch.setattr(machine, "memory_gb", lambda *, free=True: 0.4 if free else 8.5)
    (problem,) = check_machine(plan, settings_for(maker))
    assert about([problem], "memory", "0.4")
    assert check_machine(plan, settings_for(maker, "--mem", "8")) == []
    problem_of(check_machine(plan, settings_for(maker, "--mem", "9")), "--mem 9", code="option")


def test_a_missing_gpu_is_reported(maker: BidsMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_for(maker, "--set", "resources.device=cuda", "--mem", "8")
    plan = plan_for(maker)
    monkeypatch.setattr(machine, "memory_gb", lambda *, free=True: 64.0)
    for has_gpu, expected in ((True, []), (False, ["--set resources.device=cuda"])):
        monkeypatch.setattr(machine, "has_gpu", lambda has_gpu=has_gpu: has_gpu)
        assert [problem.what for problem in check_machine(plan, settings)] == expected


def test_large_series_take_half_the_space_and_the_limit_belongs_to_the_small_ones(
    maker: BidsMaker,
) -> None:
    """A series of 500 MB is stored as float32, as by `SeriesWriter`; larger ones with 2 bytes."""
    settings = settings_for(maker)
    plan = plan_for(maker)
    (subject,) = plan.subjects

    def work_gb(n_volumes: int) -> float:
        (run,) = subject.runs
        header = replace(run.header, shape=(100, 100, 50, n_volumes))
        subjects = (replace(subject, runs=(replace(run, header=header),)),)
        return estimate(replace(plan, subjects=subjects), settings).work_gb

    assert work_gb(250) - work_gb(251) > 0.2
    assert work_gb(250) > work_gb(249)


@pytest.mark.parametrize(
    ("options", "n_training"),
    [((), 1), (("--set", "anat.split=2,1,1"), 3), (("--set", "anat.split=[1, 1, 2]"), 2)],
)
def test_memory_of_training_grows_with_the_participants_of_the_model(
    maker: BidsMaker, options: tuple[str, ...], n_training: int
) -> None:
    for label in ("01", "02", "03", "04"):
        maker.image(f"sub-{label}_acq-fine_T1w.nii.gz", "anat", (3.0, 3.0, 3.0))
        maker.image(f"sub-{label}_acq-coarse_T1w.nii.gz", "anat", (6.0, 6.0, 6.0))
    selected = ("--sr-target", "anat", "--participant-label", "01")
    sizes = plan_for(maker, *selected, *options).estimate.sizes
    assert sizes.trained == pytest.approx(n_training * sizes.scans)
    assert sizes.scans > 0


@pytest.mark.parametrize("error", [PermissionError(13, "denied"), OSError(30, "read-only")])
def test_semaphores_are_tried_unless_steps_are_jobs(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    plan = plan_for(maker)
    monkeypatch.setattr(synchronize, "Lock", fail)
    problem = problem_of(check_machine(plan, settings_for(maker)), "/dev/shm")
    assert error.strerror in problem.why
    assert problem.remedy
    resources = replace(settings_for(maker).resources, use_plugin=Path("slurm.toml"))
    assert check_machine(plan, replace(settings_for(maker), resources=resources)) == []
