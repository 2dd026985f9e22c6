"""Run one job per step on a real SLURM: killed, out of memory, cancelled, interrupted, silent.

``BIDS_SR_TEST_SLURM`` names the folder of ``slurm-up`` and ``slurm-down``, which start and stop a
cluster of one machine; tests that need it are skipped otherwise.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clusternode import Work
from nipype.pipeline import engine as pe

from bids_sr.engine.slurm.job_options import JobOptions
from bids_sr.engine.slurm.plugin import ResilientSLURM

SCRIPTS = os.environ.get("BIDS_SR_TEST_SLURM", "")
ALL = {"first": 2, "other": 11, "last": 3}
TESTS = Path(__file__).parents[1]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not SCRIPTS,
        reason="BIDS_SR_TEST_SLURM does not name the folder of slurm-up and slurm-down",
    ),
]


def answers(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start a cluster whose control groups limit memory, if the machine allows it."""
    root = tmp_path_factory.mktemp("slurm")
    ports = {"CTLD_PORT": os.environ.get("BIDS_SR_TEST_PORT", "16827")}
    ports["D_PORT"] = str(int(ports["CTLD_PORT"]) + 1)
    environment = {
        **os.environ,
        **ports,
        "KILL_WAIT": "3",
    }
    subprocess.run([f"{SCRIPTS}/slurm-up", root], env=environment, check=True, capture_output=True)
    patch = pytest.MonkeyPatch()
    patch.setenv("SLURM_CONF", str(root / "etc/slurm.conf"))
    patch.setenv("PYTHONPATH", str(TESTS))
    patch.delenv("LOGNAME", raising=False)
    yield root
    patch.undo()
    subprocess.run([f"{SCRIPTS}/slurm-down", root], check=False, capture_output=True)


@pytest.fixture(autouse=True)
def _leaves_no_job(cluster: Path) -> Iterator[None]:
    yield
    deadline = time.monotonic() + 15
    while answers("squeue", "--noheader"):
        assert time.monotonic() < deadline, answers("squeue")
        time.sleep(0.3)


def plugin(**changes: Any) -> Any:
    quick = {
        "poll_seconds": 0.5,
        "grace_seconds": 2.0,
        "memory_extra_gb": 0.4,
        "join_small": False,
    }
    return ResilientSLURM(options=JobOptions(**{**quick, **changes}))


def workflow(
    base: Path,
    *,
    value: int = 1,
    fate: str = "well",
    start_file: Path | None = None,
    seconds: float = 0.0,
) -> Any:
    """Return the workflow first → last, with another node in parallel; `fate` is the outcome of
    the first node.
    """
    flow = pe.Workflow("wf", base_dir=str(base))
    flow.config["execution"] = {
        "poll_sleep_duration": "0.2",
        "crashdump_dir": str(base),
        "crashfile_format": "txt",
        "stop_on_first_crash": "false",
    }
    first, parallel, last = (
        pe.Node(Work(), name=name, mem_gb=0.2) for name in ("first", "other", "last")
    )
    first.inputs.trait_set(value=value, fate=fate, seconds=seconds)
    if start_file is not None:
        first.inputs.start_file = str(start_file)
    parallel.inputs.value = 10
    flow.connect(first, "out", last, "value")
    flow.add_nodes([parallel])
    return flow


def outputs(done: Any) -> dict[str, int]:
    return {node.name: node.result.outputs.out for node in done.nodes()}


def when(path: Path, act: Callable[[], None]) -> threading.Thread:
    """Call a function as soon as a file has content."""

    def wait() -> None:
        deadline = time.monotonic() + 120
        while not path.exists() or not path.read_text():
            if time.monotonic() > deadline:
                return
            time.sleep(0.1)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def first_job() -> str:
    rows = [
        row.split("|") for row in answers("squeue", "--noheader", "--format=%i|%j").splitlines()
    ]
    return next(number for number, name in rows if ".first." in name)


def fails(
    base: Path, *says: str, act: Callable[[], None] | None = None, **options: Any
) -> dict[str, int]:
    """Run the workflow twice: the first run fails with these words, and the second resumes.

    In the first run, the parallel node completes and the last node does not run. Returns the
    outputs of the second run.
    """
    start_file = base / "started"
    base.mkdir(parents=True, exist_ok=True)
    if act is not None:
        when(start_file, act)
    with pytest.raises(RuntimeError):
        workflow(base, start_file=start_file, **options).run(plugin=plugin())
    (crash,) = base.glob("crash*.txt")
    text = crash.read_text()
    for word in ("wf.first", "SLURM job", *says):
        assert word in text
    assert (base / "wf/other/result_other.pklz").exists()
    assert not (base / "wf/last/result_last.pklz").exists()
    return outputs(workflow(base).run(plugin=plugin()))


def test_a_graph_runs_in_a_directory_with_odd_characters(tmp_path: Path, cluster: Path) -> None:
    assert outputs(workflow(tmp_path / "a b 100%j 'q'").run(plugin=plugin())) == {
        "first": 2,
        "other": 11,
        "last": 3,
    }


def test_a_killed_job_is_reported(tmp_path: Path, cluster: Path) -> None:
    done = fails(tmp_path, "FAILED", "0:9", "killed", fate="die")
    assert done == ALL


@pytest.mark.usefixtures("confined")
def test_a_job_out_of_memory_is_reported_with_the_option(tmp_path: Path, cluster: Path) -> None:
    done = fails(tmp_path, "OUT_OF_MEMORY", "memory_extra_gb", fate="eat")
    assert done == ALL


def test_a_cancelled_job_is_reported(tmp_path: Path, cluster: Path) -> None:
    done = fails(
        tmp_path,
        "CANCELLED",
        "scancel",
        fate="wait",
        act=lambda: answers("scancel", first_job()) and None,
    )
    assert done == ALL


def test_the_error_of_a_step_is_reported(tmp_path: Path, cluster: Path) -> None:
    done = fails(tmp_path, "this step fails", fate="fail")
    assert done == ALL


def test_a_job_that_fails_before_its_step_leaves_no_stale_result(
    tmp_path: Path, cluster: Path
) -> None:
    workflow(tmp_path, value=5).run(plugin="Linear")
    with pytest.raises(RuntimeError, match="exit code 7:0"):
        workflow(tmp_path, value=1).run(plugin=plugin(template="exit 7"))
    assert "wf.first" in "".join(path.read_text() for path in tmp_path.glob("crash*.txt"))
    assert outputs(workflow(tmp_path, value=1).run(plugin=plugin())) == ALL


def test_a_job_that_no_machine_can_run_is_reported(tmp_path: Path, cluster: Path) -> None:
    with pytest.raises(RuntimeError):
        workflow(tmp_path).run(plugin=plugin(sbatch_args=("--mem=900G",)))
    assert "memory" in next(tmp_path.glob("crash*.txt")).read_text().lower()
    with pytest.raises(RuntimeError):
        workflow(tmp_path / "more").run(
            plugin=plugin(sbatch_args=("--cpus-per-task=64", "--mem=200M"))
        )
    assert "PartitionConfig" in next((tmp_path / "more").glob("crash*.txt")).read_text()


DRIVER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from bids_sr.cli.interrupts import interruptible
from cluster import test_node
try:
    with interruptible():
        flow = test_node.workflow(Path(sys.argv[1]), fate="wait", start_file=Path(sys.argv[2]))
        flow.run(plugin=test_node.plugin())
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_killed_driver_resumes(number: int, tmp_path: Path, cluster: Path) -> None:
    start_file = tmp_path / "started"
    code = DRIVER.format(tests=str(TESTS))
    driver = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "work"), str(start_file)]
    )
    when(start_file, lambda: driver.send_signal(number)).join()
    start = time.monotonic()
    driver.wait(timeout=60)
    if number != signal.SIGKILL:
        assert driver.returncode == 130
        assert time.monotonic() - start < 10
        while answers("squeue", "--noheader"):
            assert time.monotonic() - start < 10, "jobs were left running"
            time.sleep(0.2)
    else:
        assert answers("squeue", "--noheader"), (
            "the job should have outlived the driver that was killed"
        )
    done = workflow(tmp_path / "work").run(plugin=plugin())
    assert outputs(done) == ALL


def test_a_controller_that_does_not_answer_for_a_while_is_tolerated(
    tmp_path: Path, cluster: Path
) -> None:
    start_file = tmp_path / "started"
    pid = int((cluster / "pids/slurmctld").read_text())

    def pause_controller() -> None:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(12)
        os.kill(pid, signal.SIGCONT)

    pause = when(start_file, pause_controller)
    done = workflow(tmp_path / "work", start_file=start_file, seconds=2.0).run(plugin=plugin())
    pause.join()
    assert outputs(done) == ALL
