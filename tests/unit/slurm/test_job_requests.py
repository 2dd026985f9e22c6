"""What jobs ask for."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_sr.config import UsageError
from bids_sr.slurm.arrays import as_spec, choose, in_tasks
from bids_sr.slurm.calls import sums_resident
from bids_sr.slurm.job_requests import (
    enlarged,
    group_request,
    job_mb,
    minutes_of,
    program_gib,
    request_for,
    signal_seconds,
    time_text,
)
from bids_sr.slurm.submission import Request

ASKED = Request(cpus=4, memory_mb=4096, minutes=60)


def test_the_most_demanding_task_decides_and_has_head_room() -> None:
    request = request_for(
        [(2.0, 100.0), (4.0, 10.0)], cpus=3, gpus=1, memory_mb=None, minutes=None
    )
    # 4 GB × 1.5 / 0.9 in steps of 512 MiB
    assert request == Request(cpus=3, gpus=1, memory_mb=6656, minutes=210)
    # with more workers, 4 GB × 1.15 and 0.45 GB a worker, / 0.9: what is counted of them
    many = request_for([(4.0, 10.0)], cpus=8, gpus=0, memory_mb=None, minutes=None)
    assert many.memory_mb == 8704
    # the program is told of more than its estimate
    assert program_gib(request) * 1.0737 > 4.0 * 1.1


@pytest.mark.parametrize(
    ("config", "sums"),
    [
        ("JobAcctGatherParams = OverMemoryKill\n", True),
        ("JobAcctGatherParams = (null)\n", False),
        ("JobAcctGatherParams = UsePss,OverMemoryKill\n", False),
        ("JobAcctGatherParams = OverMemoryKill\nType = jobacct_gather/cgroup\n", False),
        ("", True),
    ],
)
def test_what_is_shared_is_asked_for_where_it_counts(
    config: str, sums: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "scontrol"
    program.write_text(f"#!/bin/sh\ncat <<'E'\n{config}\nE\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert sums_resident() == sums
    request = request_for(
        [(2.0, 1.0)], cpus=4, gpus=0, memory_mb=None, minutes=None, resident=sums
    )
    assert request.memory_mb == (4608 if sums else 3072)
    assert program_gib(request) > 2.0 * 1.1 * 1e9 / 2**30


def test_a_sum_of_resident_memory_has_room() -> None:
    """The tiny phantom: its processes held 2.1 GB, and 4.24 as SLURM counts without control
    groups.
    """
    request = request_for([(2.3, 1.0)], cpus=4, gpus=0, memory_mb=None, minutes=None)
    assert 1.1 * 4.24 < request.memory_mb * 2**20 / 1e9 < 1.5 * 4.24
    assert 2.3 * 1.2 < program_gib(request) * 2**30 / 1e9 < 2.3 * 1.4


@given(st.floats(0.5, 500), st.integers(1, 64))
def test_the_program_is_told_of_no_less_than_its_estimate(gb: float, cpus: int) -> None:
    request = request_for([(gb, 1.0)], cpus=cpus, gpus=0, memory_mb=None, minutes=None)
    told = program_gib(request) * 2**30 / 1e9
    assert told > gb - 0.02
    assert (told + 0.45 * cpus) / (request.memory_mb * 2**20 / 1e9) <= 0.9001


def test_what_the_user_fixed_stays() -> None:
    request = request_for([(2.0, 100.0)], cpus=1, gpus=0, memory_mb=900, minutes=7)
    assert (request.memory_mb, request.minutes) == (900, 7)


@given(st.floats(0.1, 500), st.integers(1, 64))
def test_the_program_has_what_the_user_gives_it(gib: float, cpus: int) -> None:
    told = program_gib(Request(cpus=cpus, memory_mb=job_mb(gib, cpus), minutes=1))
    assert gib - 0.01 <= told <= gib + 0.01


def test_the_group_job_asks_for_what_thousands_take() -> None:
    """What benchmarks/results/scale.md measures of 10,000, and as much again."""
    small, large = group_request(10), group_request(10_000)
    assert (small.cpus, small.memory_mb, small.minutes) == (1, 2560, 60)
    assert 4000 <= large.memory_mb <= 5000
    assert large.minutes == 560


def test_more_for_those_that_had_too_little() -> None:
    assert enlarged(ASKED, "memory") == Request(cpus=4, memory_mb=8192, minutes=60)
    assert enlarged(ASKED, "time") == Request(cpus=4, memory_mb=4096, minutes=120)


@pytest.mark.parametrize(("seen", "asks"), [(4130, 5632), (6000, 7680), (2000, 5120)])
def test_a_quarter_more_than_was_seen(seen: int, asks: int) -> None:
    """Never less than a quarter more than it had: a sample comes before the peak."""
    assert enlarged(ASKED, "memory", seen) == Request(cpus=4, memory_mb=asks, minutes=60)


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
def test_times_as_slurm_writes_them(text: str, minutes: int) -> None:
    assert minutes_of(text) == minutes


@pytest.mark.parametrize("text", ["", "soon", "-5", "1:2:3:4", "0", "1h"])
def test_no_time(text: str) -> None:
    with pytest.raises(UsageError, match="--time"):
        minutes_of(text)


@given(st.integers(1, 100_000))
def test_times_come_back(minutes: int) -> None:
    assert minutes_of(time_text(minutes)) == minutes


@given(st.integers(1, 10_000))
def test_the_signal_leaves_half_of_the_time(minutes: int) -> None:
    assert (
        30
        <= signal_seconds(Request(cpus=1, memory_mb=1, minutes=minutes))
        <= min(300, minutes * 30)
    )


@pytest.mark.parametrize(
    ("spec", "indices", "at_once"),
    [
        ("", (1, 2, 3, 4, 5), 0), ("%2", (1, 2, 3, 4, 5), 2), ("2-4", (2, 3, 4), 0),
        ("1-5:2%3", (1, 3, 5), 3), ("5, 1", (1, 5), 0),
    ],
)  # fmt: skip
def test_which_tasks(spec: str, indices: tuple[int, ...], at_once: int) -> None:
    assert choose(spec, 5) == (indices, at_once)


@pytest.mark.parametrize(
    "spec", ["0", "1-6", "6", "3-2", "1-5:0", "x", "1,,2", "%", "%0", "1%x", "1-2-3", "-1", "²"]
)
def test_tasks_that_there_are_not(spec: str) -> None:
    with pytest.raises(UsageError, match="--array"):
        choose(spec, 5)


@given(st.sets(st.integers(1, 60), min_size=1), st.integers(0, 9))
def test_a_spec_comes_back(indices: set[int], at_once: int) -> None:
    assert choose(as_spec(sorted(indices), at_once), 60) == (tuple(sorted(indices)), at_once)


@given(st.lists(st.text("ab1", min_size=1), unique=True), st.integers(1, 5))
def test_batches_hold_everyone_once(labels: list[str], batch: int) -> None:
    tasks = in_tasks(labels, batch)
    assert [label for task in tasks for label in task] == labels
    assert all(len(task) == batch for task in tasks[:-1])
