"""Test the resources that jobs request."""

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from bids_sr.engine.slurm.commands import counts_shared_memory
from bids_sr.engine.slurm.job_requests import (
    Request,
    compute_job_mb,
    compute_program_gib,
    compute_signal_seconds,
    format_time,
    make_group_request,
    make_request,
    parse_minutes,
)
from bids_sr.engine.slurm.submission import divide_into_tasks
from bids_sr.io.notices import UsageError


def test_the_most_demanding_task_with_a_reserve_decides() -> None:
    request = make_request(
        [(2.0, 100.0), (4.0, 10.0)], cpus=3, gpus=1, memory_mb=None, minutes=None
    )
    # GB: 4 × 1.5 / 0.9, rounded up to steps of 512 MiB
    assert request == Request(cpus=3, gpus=1, memory_mb=6656, minutes=210)
    # GB: (4 × 1.15 + 0.45 per worker) / 0.9; with more workers, their memory is counted
    parallel = make_request([(4.0, 10.0)], cpus=8, gpus=0, memory_mb=None, minutes=None)
    assert parallel.memory_mb == 8704
    given = make_request([(2.0, 100.0)], cpus=1, gpus=0, memory_mb=900, minutes=7)
    assert (given.memory_mb, given.minutes) == (900, 7)


@pytest.mark.parametrize(
    ("config", "counts_shared"),
    [
        ("JobAcctGatherParams = OverMemoryKill\n", True),
        ("JobAcctGatherParams = (null)\n", False),
        ("JobAcctGatherParams = UsePss,OverMemoryKill\n", False),
        ("JobAcctGatherParams = OverMemoryKill\nType = jobacct_gather/cgroup\n", False),
        ("", True),
    ],
)
def test_shared_memory_is_requested_if_slurm_counts_it_per_process(
    config: str, counts_shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "scontrol"
    program.write_text(f"#!/bin/sh\ncat <<'E'\n{config}\nE\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert counts_shared_memory() == counts_shared
    request = make_request(
        [(2.0, 1.0)], cpus=4, gpus=0, memory_mb=None, minutes=None, resident=counts_shared
    )
    assert request.memory_mb == (4608 if counts_shared else 3072)
    assert compute_program_gib(request) > 2.0 * 1.1 * 1e9 / 2**30


@given(st.floats(0.5, 500), st.integers(1, 64))
def test_the_memory_limit_of_the_program_is_not_below_its_estimate(gb: float, cpus: int) -> None:
    request = make_request([(gb, 1.0)], cpus=cpus, gpus=0, memory_mb=None, minutes=None)
    limit_gb = compute_program_gib(request) * 2**30 / 1e9
    assert limit_gb > gb - 0.02
    assert (limit_gb + 0.45 * cpus) / (request.memory_mb * 2**20 / 1e9) <= 0.9001


@given(st.floats(0.1, 500), st.integers(1, 64))
def test_the_program_gets_the_memory_set_by_the_user(gib: float, cpus: int) -> None:
    limit_gib = compute_program_gib(
        Request(cpus=cpus, memory_mb=compute_job_mb(gib, cpus), minutes=1)
    )
    assert gib - 0.01 <= limit_gib <= gib + 0.01


def test_the_group_job_requests_enough_for_thousands_of_participants() -> None:
    """Expect twice the measurement of 10,000 participants in benchmarks/results/scale.md."""
    small, large = make_group_request(10), make_group_request(10_000)
    assert (small.cpus, small.memory_mb, small.minutes) == (1, 2560, 60)
    assert 4000 <= large.memory_mb <= 5000
    assert large.minutes == 560


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("90:00", 90),
        ("90:01", 91),
        ("1:30:00", 90),
        ("1-12", 2160),
        ("1-12:30", 2190),
        ("0-00:00:20", 1),
    ],
)
def test_time_formats_of_slurm_are_parsed(text: str, minutes: int) -> None:
    assert parse_minutes(text) == minutes


@pytest.mark.parametrize("text", ["", "soon", "-5", "1:2:3:4", "0", "1h"])
def test_invalid_times_are_rejected(text: str) -> None:
    with pytest.raises(UsageError, match="--time"):
        parse_minutes(text)


@given(st.integers(1, 100_000))
def test_times_are_unchanged_after_writing_and_parsing(minutes: int) -> None:
    assert parse_minutes(format_time(minutes)) == minutes


@given(st.integers(1, 10_000))
def test_the_signal_comes_at_least_30_s_and_at_most_half_of_the_limit_before_the_end(
    minutes: int,
) -> None:
    assert (
        30
        <= compute_signal_seconds(Request(cpus=1, memory_mb=1, minutes=minutes))
        <= min(300, minutes * 30)
    )


@given(st.lists(st.text("ab1", min_size=1), unique=True), st.integers(1, 5))
def test_batches_contain_each_participant_once(labels: list[str], batch: int) -> None:
    tasks = divide_into_tasks(labels, batch)
    assert [label for task in tasks for label in task] == labels
    assert all(len(task) == batch for task in tasks[:-1])
