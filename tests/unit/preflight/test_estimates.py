"""Memory checks: available memory compared with the requirement of the largest step."""

from dataclasses import replace
from pathlib import Path

import pytest
from checking import problems_of
from data.dataset import BidsMaker

from bids_sr.bids.retrospective_plan import as_downsampled
from bids_sr.config import Paths, Resources, Selection, Settings, machine, memory as config_memory
from bids_sr.config.memory import Sizes
from bids_sr.config.sections.evaluation import Evaluation
from bids_sr.preflight import check, check_machine
from bids_sr.preflight.estimates import _find_largest_grids, check_memory
from bids_sr.steps import memory


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    data = BidsMaker(tmp_path / "bids")
    data.subject()
    return data


def settings_for(maker: BidsMaker, resources: Resources | None = None) -> Settings:
    paths = Paths(
        bids_dir=maker.root,
        output_dir=maker.root.parent / "out",
        work_dir=maker.root.parent / "work",
    )
    return Settings(
        paths=paths,
        selection=Selection(skip_bids_validation=True),
        resources=resources or Resources(),
    )


def test_the_number_of_workers_fits_the_largest_step() -> None:
    sizes = Sizes(t1w=8.0, low=0.12, high=0.5)
    need = memory.find_largest_gb(sizes)
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


def test_a_downsampled_run_has_a_measured_reference(maker: BidsMaker) -> None:
    settings = settings_for(maker)
    retrospective = replace(settings, evaluation=Evaluation(retrospective="clean"))
    plain_sizes, reference_sizes = (
        _find_largest_grids(as_downsampled(check(call).subjects, call), call)
        for call in (settings, retrospective)
    )
    assert plain_sizes.measured == 0
    assert reference_sizes.measured == reference_sizes.high > 0


def test_error_of_too_little_memory_names_remedies(maker: BidsMaker) -> None:
    sizes = Sizes(t1w=60.0, low=0.1, high=0.4)
    minimum = config_memory.BASE_GB + memory.find_largest_gb(sizes)
    settings = settings_for(maker, resources=Resources(mem_gb=1.5))
    (problem,) = problems_of(check_memory, settings, sizes, 1.5)
    assert problem.what == "--mem 1.5"
    small = settings_for(maker, resources=Resources(mem_gb=100 / 1024))
    (problem_mb,) = problems_of(check_memory, small, sizes, 100 / 1024)
    assert problem_mb.what == "--mem 100M"
    assert f"{minimum:.1f} GB" in problem.why
    assert "--mem" in problem.remedy
    assert "T1w image" in problem.remedy
    (high_resolution_problem,) = problems_of(check_memory, settings, Sizes(low=0.5, high=8.0), 1.5)
    assert "--sr-factor" in high_resolution_problem.remedy
    (base_problem,) = problems_of(check_memory, settings, Sizes(), 0.2)
    assert "--sr-factor" not in base_problem.remedy
    assert "T1w" not in base_problem.remedy
    assert problems_of(check_memory, settings, sizes, minimum) == []
    assert problems_of(check_memory, settings, sizes, None) == []


def test_memory_of_the_machine_is_checked(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = check(settings_for(maker))
    monkeypatch.setattr(machine, "memory_gb", lambda *, free=True: 0.4 if free else 8.5)
    (problem,) = check_machine(plan, settings_for(maker))
    assert problem.what == "memory"
    assert "0.4 GB are available" in problem.why
    assert check_machine(plan, settings_for(maker, resources=Resources(mem_gb=8.0))) == []
    (problem,) = check_machine(plan, settings_for(maker, resources=Resources(mem_gb=9.0)))
    assert (problem.what, problem.code) == ("--mem 9", "option")


def test_a_missing_gpu_is_reported(maker: BidsMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_for(maker, resources=Resources(device="cuda", mem_gb=8.0))
    for has_gpu in (True, False):
        monkeypatch.setattr(machine, "has_gpu", lambda has_gpu=has_gpu: has_gpu)
        problems = [
            problem.what for problem in check_machine(check(settings_for(maker)), settings)
        ]
        assert problems == ([] if has_gpu else ["--set resources.device=cuda"])


def test_the_memory_option_limits_the_processes(maker: BidsMaker) -> None:
    free = check(settings_for(maker, Resources(nprocs=8))).estimate
    tight = check(settings_for(maker, Resources(nprocs=8, mem_gb=1.5))).estimate
    assert tight.memory_gb <= 1.5 < free.memory_gb
    assert tight.processors < free.processors
