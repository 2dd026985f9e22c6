"""Test limits on processors and memory by containers, jobs and processor masks, from simulated
system files.
"""

import math
import os
from pathlib import Path

import pytest

from bids_sr.config import machine

GIB = 2**30
PLENTY = {"proc/meminfo": f"MemTotal: 99000000 kB\nMemAvailable: {64 * 2**20} kB\n"}


@pytest.fixture
def many_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(16)))


def write_files(root: Path, files: dict[str, object]) -> Path:
    for name, text in {**PLENTY, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


PAGES = f"anon 1\ninactive_file {GIB}\nactive_file {GIB}"
V2 = {
    "proc/self/cgroup": "0::/",
    "sys/fs/cgroup/cpu.max": "350000 100000",
    "sys/fs/cgroup/memory.max": 8 * GIB,
    "sys/fs/cgroup/memory.current": 3 * GIB,
    "sys/fs/cgroup/memory.stat": PAGES,
}
JOB = "sys/fs/cgroup/system.slice/slurmstepd.scope/job_7"
V2_NESTED = {
    "proc/self/cgroup": "0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0",
    f"{JOB}/cpu.max": "max 100000",
    f"{JOB}/memory.max": 2 * GIB,
    f"{JOB}/step_0/memory.max": "max",
    "sys/fs/cgroup/system.slice/cpu.max": "200000 100000",
}
V1_LINES = "4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n0::/"
V1 = {
    "proc/self/cgroup": V1_LINES,
    "sys/fs/cgroup/unified/none": "",
    "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": 4 * GIB,
    "sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes": GIB,
    "sys/fs/cgroup/memory/memory.limit_in_bytes": 9223372036854771712,
    "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": 100000,
    "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": 100000,
}
V1_INSIDE = {
    "proc/self/cgroup": V1_LINES,
    "sys/fs/cgroup/memory/memory.limit_in_bytes": 6 * GIB,
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": -1,
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": 100000,
}


@pytest.mark.parametrize(
    ("files", "processors", "gib"),
    [
        ({}, 16, 64),
        (V2, 3, 7),  # 8 GiB minus used memory other than file pages
        (V2_NESTED, 2, 2),
        (V1, 1, 3),
        (V1_INSIDE, 16, 6),  # the path of the host does not exist in a container
    ],
    ids=["none", "v2", "v2 above", "v1", "v1 in a container"],
)
@pytest.mark.usefixtures("many_processors")
def test_the_smallest_limit_is_used(
    files: dict[str, object], processors: int, gib: float, tmp_path: Path
) -> None:
    root = write_files(tmp_path, files)
    assert machine.processors(root, {}) == processors
    assert machine.memory_gb(root, {}) == pytest.approx(0.9 * gib * GIB / 1e9)


@pytest.mark.parametrize(
    ("files", "gib"),
    [({}, 99000000 / 2**20), (V2, 8), (V2_NESTED, 2), (V1, 4), ({"proc/meminfo": ""}, math.inf)],
    ids=["none", "v2", "v2 above", "v1", "unknown"],
)
def test_total_memory_includes_memory_in_use(
    files: dict[str, object], gib: float, tmp_path: Path
) -> None:
    root = write_files(tmp_path, files)
    assert machine.memory_gb(root, {}, free=False) == pytest.approx(gib * GIB / 1e9)
    environ = {"SLURM_MEM_PER_NODE": "1024"}
    assert machine.memory_gb(root, environ, free=False) == pytest.approx(GIB / 1e9)


@pytest.mark.parametrize(
    ("environ", "processors", "gb"),
    [
        (
            {"SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "8", "SLURM_MEM_PER_NODE": "4096"},
            4,
            0.9 * 4096 * 2**20 / 1e9 - 0.9,
        ),
        (
            {"SLURM_CPUS_ON_NODE": "8", "SLURM_MEM_PER_CPU": "512"},
            8,
            0.9 * 8 * 512 * 2**20 / 1e9 - 0.9,
        ),
        ({"SLURM_CPUS_ON_NODE": "8", "SLURM_MEM_PER_NODE": "512"}, 8, 0),
        ({"SLURM_MEM_PER_NODE": "0"}, 16, 0.9 * 64 * GIB / 1e9),  # 0: all memory of the node
        ({"SLURM_CPUS_PER_TASK": "x"}, 16, 0.9 * 64 * GIB / 1e9),
    ],
)
@pytest.mark.usefixtures("many_processors")
def test_limits_of_a_slurm_job_are_used(
    environ: dict[str, str], processors: int, gb: float, tmp_path: Path
) -> None:
    root = write_files(tmp_path, {})
    assert machine.processors(root, environ) == processors
    assert machine.memory_gb(root, environ) == pytest.approx(gb)


def test_resident_memory_is_summed_if_no_cgroup_limits_the_job(
    tmp_path: Path,
) -> None:
    with_cgroup = write_files(tmp_path / "kept", V2_NESTED)
    environ = {"SLURM_MEM_PER_NODE": "2048"}
    assert not machine.sums_resident(with_cgroup, environ)
    assert machine.memory_gb(with_cgroup, environ) == pytest.approx(0.9 * 2 * GIB / 1e9)
    without_cgroup = write_files(tmp_path / "plain", {})
    assert machine.sums_resident(without_cgroup, environ)
    assert not machine.sums_resident(without_cgroup, {})
    assert not machine.sums_resident(without_cgroup, {"SLURM_MEM_PER_NODE": "0"})


@pytest.mark.parametrize(
    ("visible", "devices", "torch_cuda", "usable"),
    [
        (None, ["nvidia0"], True, True),
        ("1", ["nvidia0", "nvidia1"], True, True),
        ("", ["nvidia0"], True, False),
        ("-1", ["nvidia0"], True, False),
        (None, [], True, False),
        (None, ["nvidiactl"], True, False),
        (None, ["nvidia0"], False, False),  # torch built without CUDA
    ],
)
def test_a_gpu_is_used_if_visible_and_supported_by_torch(
    visible: str | None, devices: list[str], torch_cuda: bool, usable: bool, tmp_path: Path
) -> None:
    (tmp_path / "dev").mkdir()
    for name in devices:
        (tmp_path / "dev" / name).touch()
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert machine.has_gpu(tmp_path, environ, lambda: torch_cuda) is usable
