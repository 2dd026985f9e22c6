"""One SLURM job per step: the driver ends in every case, names the step, and uses no outdated
results.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dyingnode import Die
from fakeslurm import FakeSlurm
from loadnode import BOUND, Load
from nipype.pipeline import engine as pe
from nipype.utils.filemanip import loadpkl, savepkl

from bids_sr.engine.execute import execute
from bids_sr.engine.node_job import main
from bids_sr.engine.slurm import queue
from bids_sr.engine.slurm.commands import SlurmError
from bids_sr.engine.slurm.job_options import JobOptions
from bids_sr.engine.slurm.plugin import ResilientSLURM
from bids_sr.engine.slurm.queue import Queue, SlurmUnreachable
from bids_sr.engine.slurm.step_jobs import Jobs, is_small
from bids_sr.evaluation.steps.run_verdict import decide_verdict
from bids_sr.glm.steps.map_comparison import compare_maps
from bids_sr.io.notices import CODES, read_record
from bids_sr.sr.steps.super_resolution import super_resolve

SHORT_INTERVALS = {"poll_seconds": 0.1, "grace_seconds": 0.3, "patience_seconds": 30.0}
TESTS = Path(__file__).parents[3]


def options(**changes: Any) -> JobOptions:
    return JobOptions(**{**SHORT_INTERVALS, **changes})


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlurm]:
    fake_slurm = FakeSlurm(tmp_path / "fake")
    monkeypatch.setenv("PATH", f"{fake_slurm.folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(TESTS))  # contains the steps of these tests
    monkeypatch.delenv("LOGNAME", raising=False)
    monkeypatch.delenv("USER", raising=False)
    monkeypatch.setattr("bids_sr.engine.slurm.step_jobs._CHECK_INTERVAL_S", 0.05)
    yield fake_slurm
    fake_slurm.end()


def workflow(
    base: Path, *, value: int = 1, small: tuple[str, ...] = (), **execution: str
) -> pe.Workflow:
    """Return the graph first → last, with an independent step."""
    flow = pe.Workflow("wf", base_dir=str(base))
    flow.config["execution"] = {
        "poll_sleep_duration": "0.05",
        "crashdump_dir": str(base),
        "crashfile_format": "txt",
        "stop_on_first_crash": "false",
        **execution,
    }
    first, independent, last = (
        pe.Node(Die(), name=name, mem_gb=0.2, run_without_submitting=name in small)
        for name in ("first", "other", "last")
    )
    first.inputs.value, independent.inputs.value = value, 10
    flow.connect(first, "out", last, "value")
    flow.add_nodes([independent])
    return flow


def run(flow: pe.Workflow, statuses: list[tuple[str, str]] | None = None) -> dict[str, int]:
    """Run a workflow and return the result of each step."""
    seen = [] if statuses is None else statuses
    plugin = ResilientSLURM(
        options=options(), status_callback=lambda step, status: seen.append((step.name, status))
    )
    return {step.name: step.result.outputs.out for step in flow.run(plugin=plugin).nodes()}


def crash_text(base: Path) -> str:
    (crash,) = base.glob("crash*.txt")
    return crash.read_text()


def node(base: Path, name: str = "step", mem_gb: float = 0.2, n_procs: int = 1) -> pe.Node:
    step_node = pe.Node(Die(value=1), name=name, mem_gb=mem_gb, n_procs=n_procs)
    step_node.base_dir = str(base)
    return step_node


@pytest.fixture
def jobs(tmp_path: Path, slurm: FakeSlurm) -> Jobs:
    empty_jobs = Jobs(root=tmp_path / "jobs", options=options())
    empty_jobs.cancel_orphans(set())
    empty_jobs.queue.pause = 0.05
    return empty_jobs


def wait_for_end(jobs: Jobs, number: int, seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while (result := jobs.outcome(number)) is None:
        assert time.monotonic() < deadline, "the job never ended"
        time.sleep(0.05)
    return result


def write_answer(jobs: Jobs) -> None:
    """Write the answer of a successful job."""
    answer = json.dumps({"traceback": None, "host": "h"})
    (jobs.folder / "answers" / "000001.json").write_text(answer)


def test_a_graph_runs_in_a_directory_with_a_space_without_login_name(
    tmp_path: Path, slurm: FakeSlurm
) -> None:
    """Small steps run in the driver, and finished steps are not repeated."""
    base = tmp_path / "work 100%d"
    statuses: list[tuple[str, str]] = []
    assert run(workflow(base, small=("last",)), statuses) == {"first": 2, "other": 11, "last": 3}
    assert len(slurm.calls("sbatch")) == 2
    assert list((base / "slurm").iterdir()) == []
    assert sorted(statuses) == sorted(
        (name, status) for name in ("first", "other", "last") for status in ("start", "end")
    )
    run(workflow(base, small=("last",)))
    assert len(slurm.calls("sbatch")) == 2


def test_a_failed_job_is_named_and_an_earlier_result_is_not_used(
    tmp_path: Path, slurm: FakeSlurm
) -> None:
    workflow(tmp_path, value=1).run(plugin="Linear")
    slurm.plan("wf.first", "FAILED 0:9")
    with pytest.raises(RuntimeError, match=r"wf\.first"):
        run(workflow(tmp_path, value=5))
    for text in ("wf.first", "SLURM job 1", "0:9", CODES["killed"][1]):
        assert text in crash_text(tmp_path)
    assert not any("wf.last" in call for call in slurm.calls("sbatch"))
    assert set(slurm.jobs().values()) <= {"FAILED", "CANCELLED", "COMPLETED"}
    slurm.plan("wf.first", "run")
    assert run(workflow(tmp_path, value=5))["last"] == 7


def test_the_code_of_a_failure_follows_from_state_and_exit_code(slurm: FakeSlurm) -> None:
    codes = {
        "OUT_OF_MEMORY|None|0:125": "memory",
        "FAILED|None|0:9": "killed",
        "TIMEOUT|None|0:0": "time",
        "CANCELLED|None|0:15": "cancelled",
        "CANCELLED+|None|0:15": "cancelled",
        "NODE_FAIL|None|0:0": "node",
        "PREEMPTED|None|0:0": "node",
        "FAILED|None|127:0": "absent",
        "FAILED|None|2:0": "crashed",
        "COMPLETED|None|0:0": "unseen",
    }
    for number, state in enumerate(codes):
        (slurm.folder / "jobs" / str(number)).write_text(f"{state}|step\n")
    states = Queue(patience=1.0)
    assert {
        state: states.final_state(str(number))[1] for number, state in enumerate(codes)
    } == codes


def test_a_failed_job_is_reported_with_state_request_and_log(
    tmp_path: Path, slurm: FakeSlurm, jobs: Jobs
) -> None:
    slurm.plan("step", "TIMEOUT 0:0")
    jobs.options = options(time_minutes=90.5)
    number = jobs.start(node(tmp_path), updatehash=False)
    (jobs.folder / "000001" / "log.txt").write_text("half way\n")
    result = wait_for_end(jobs, number)
    text = "".join(result["traceback"])
    for part in ("--time=90:30", "0.20 GB", "half way", "job 1", "TIMEOUT"):
        assert part in text
    assert result["notice"].code == "time"


def test_a_job_that_slurm_has_forgotten_is_reported_as_failed(
    tmp_path: Path, slurm: FakeSlurm, jobs: Jobs
) -> None:
    slurm.plan("step", "hang")
    number = jobs.start(node(tmp_path), updatehash=False)
    assert jobs.outcome(number) is None
    (slurm.folder / "jobs" / "1").unlink()
    assert "UNKNOWN" in wait_for_end(jobs, number)["traceback"][-1]


@pytest.mark.parametrize("has_result", [True, False])
def test_the_answer_of_a_job_has_priority_over_its_slurm_state(
    tmp_path: Path, slurm: FakeSlurm, jobs: Jobs, has_result: bool
) -> None:
    """A result that is not visible is a failure."""
    slurm.plan("step", "hang")
    step = node(tmp_path)
    number = jobs.start(step, updatehash=False)
    (slurm.folder / "jobs" / "1").write_text("OUT_OF_MEMORY|None|0:125|x\n")
    write_answer(jobs)
    os.makedirs(step.output_dir())
    if has_result:
        Path(step.output_dir(), "result_step.pklz").touch()
    assert (wait_for_end(jobs, number)["traceback"] is None) == has_result


def test_only_a_job_that_can_never_start_is_cancelled(
    tmp_path: Path, slurm: FakeSlurm, jobs: Jobs
) -> None:
    slurm.plan("waits", "PENDING Priority")
    slurm.plan("step", "PENDING PartitionConfig")
    waiting = jobs.start(node(tmp_path, "waits"), updatehash=False)
    result = wait_for_end(jobs, jobs.start(node(tmp_path), updatehash=False))
    assert "PartitionConfig" in result["traceback"][-1]
    assert result["notice"].code == "refused"
    for _ in range(6):
        assert jobs.outcome(waiting) is None
        time.sleep(0.05)
    assert slurm.jobs() == {"1": "PENDING", "2": "CANCELLED"}


def test_a_rejected_job_is_reported_with_its_step(tmp_path: Path, slurm: FakeSlurm) -> None:
    slurm.plan("wf.first", "refuse")
    slurm.plan("wf.other", "CANCELLED 0:15")
    with pytest.raises(RuntimeError):
        run(workflow(tmp_path))
    texts = [path.read_text() for path in tmp_path.glob("crash*.txt")]
    assert len(texts) == 2
    assert sum("Invalid partition name specified" in t and "wf.first" in t for t in texts) == 1


def test_an_unresponsive_controller_is_waited_for(
    tmp_path: Path, slurm: FakeSlurm, jobs: Jobs
) -> None:
    slurm.plan("step", "hang")
    slurm.be_silent(4)
    number = jobs.start(node(tmp_path), updatehash=False)
    slurm.be_silent(6)
    while int((slurm.folder / "silent").read_text()):
        assert jobs.outcome(number) is None
        time.sleep(0.05)
    assert jobs.outcome(number) is None
    assert len(slurm.jobs()) == 1


def test_a_submission_without_response_is_not_repeated(
    tmp_path: Path, slurm: FakeSlurm, jobs: Jobs
) -> None:
    slurm.plan("step", "swallow")
    jobs.start(node(tmp_path), updatehash=False)
    assert len(slurm.jobs()) == 1
    jobs.cancel_all()
    assert "RUNNING" not in slurm.jobs().values()


def test_an_unreachable_controller_ends_the_run_with_a_message(
    tmp_path: Path, slurm: FakeSlurm
) -> None:
    slurm.be_silent(10_000)
    (log := tmp_path / "logs").mkdir()
    flow = workflow(tmp_path / "work", crashdump_dir=str(log))
    plugin = options(patience_seconds=0.0)
    outcome = execute(flow, nprocs=1, mem_gb=1, crash_dir=log, jobs=plugin)
    (crash,) = outcome.crashes
    assert read_record(log) == [crash]
    assert "wf.first" in crash.what or "wf.other" in crash.what


def test_a_controller_that_becomes_unreachable_is_reported_once(
    tmp_path: Path, slurm: FakeSlurm
) -> None:
    slurm.plan("wf.first", "hang")
    slurm.plan("wf.other", "hang")
    plugin = ResilientSLURM(options=options(patience_seconds=0.0))
    submit = plugin._submit_job

    def submit_and_be_gone(step: Any, updatehash: bool = False) -> int:
        number = submit(step, updatehash)
        if len(slurm.jobs()) == 2:
            slurm.be_silent(10_000)
        return number

    plugin._submit_job = submit_and_be_gone
    with pytest.raises(SlurmUnreachable):
        workflow(tmp_path).run(plugin=plugin)
    assert len(plugin.crashes) == 1


def test_submission_is_retried_if_the_job_limit_is_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = "sbatch: error: QOSMaxSubmitJobPerUserLimit"
    errors = iter([limit, limit, ""])

    def call(*words: str, **_: Any) -> Any:
        error, answer = (next(errors), "7;c\n") if words[0] == "sbatch" else ("", "")
        return subprocess.CompletedProcess(words, bool(error), answer, error)

    monkeypatch.setattr(queue, "call", call)
    submitted = Queue(patience=0.0, pause=0.0).submit("x", [], has_active_jobs=lambda: True)
    assert submitted == "7"


def test_missing_slurm_commands_raise_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SlurmError, match="sbatch"):
        Queue(patience=0.0).submit("x", ["job.sh"], has_active_jobs=lambda: False)


def test_a_slurm_command_that_hangs_is_ended_and_gets_no_limits_of_the_driver(
    slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "100")
    monkeypatch.setenv("SLURM_CONF", "here")
    monkeypatch.setattr("bids_sr.engine.slurm.commands._TIMEOUT_S", 0.5)
    script = f"#!/bin/bash\nenv > '{tmp_path}/seen'\nexec sleep 60\n"
    (slurm.folder / "squeue").write_text(script)
    assert Queue(patience=60.0).states(["1"]) is None
    environment = (tmp_path / "seen").read_text()
    assert "SLURM_CONF=here" in environment
    assert "SLURM_MEM_PER_NODE" not in environment


_FOREIGN_VARIABLES = (
    "SBATCH_TIMELIMIT",
    "SBATCH_ARRAY_INX",
    "SQUEUE_STATES",
    "SCANCEL_STATE",
    "SCONTROL_ALL",
    "SLURM_NTASKS",
)


def record_environments(slurm: FakeSlurm) -> Path:
    """Let all commands record the names of their variables in a file."""
    file = slurm.folder / "variables"
    for command in ("sbatch", "squeue", "scontrol", "scancel"):
        script = (slurm.folder / command).read_text().splitlines()
        record_line = f"env | cut -d= -f1 >> '{file}'"
        (slurm.folder / command).write_text("\n".join([script[0], record_line, *script[1:]]))
    return file


def test_commands_ignore_variables_that_change_requests_filters_and_formats(
    slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*_FOREIGN_VARIABLES, "SBATCH_QOS", "KEPT"):
        monkeypatch.setenv(name, "1")
    names = record_environments(slurm)
    queue = Queue(patience=60.0)
    queue.submit("step.1.x", ["--output=/dev/null", "/dev/null"], has_active_jobs=lambda: True)
    queue.states(["1"])
    queue.final_state("1")
    queue.cancel(["1"])
    lines = names.read_text().splitlines()
    assert lines.count("KEPT") == 4
    assert {"SBATCH_QOS", *_FOREIGN_VARIABLES}.isdisjoint(lines)


@pytest.mark.parametrize(
    ("changes", "inherited"),
    [
        ({}, {"SBATCH_ACCOUNT", "SBATCH_PARTITION", "SBATCH_RESERVATION"}),
        ({"sbatch_args": ("-p", "long", "--res=x")}, {"SBATCH_ACCOUNT"}),
        (
            {"template": "#!/bin/bash\n#SBATCH --account='a b' -plong # ours\necho -A x"},
            {"SBATCH_RESERVATION"},
        ),
    ],
)
def test_jobs_of_steps_inherit_account_and_partition_unless_specified(
    changes: dict[str, Any],
    inherited: set[str],
    tmp_path: Path,
    slurm: FakeSlurm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ACCOUNT", "PARTITION", "RESERVATION", "TIMELIMIT", "EXPORT"):
        monkeypatch.setenv(f"SBATCH_{name}", "y")
    monkeypatch.setenv("SBATCH_CONSTRAINT", "")
    slurm.plan("step", "hang")
    names = record_environments(slurm)
    jobs = Jobs(root=tmp_path / "jobs", options=options(**changes))
    jobs.cancel_orphans(set())
    jobs.start(node(tmp_path), updatehash=False)
    assert {name for name in names.read_text().split() if name.startswith("SBATCH_")} == inherited


def test_an_interruption_cancels_all_jobs(tmp_path: Path, slurm: FakeSlurm) -> None:
    """A job that starts late does nothing."""
    for name in ("wf.first", "wf.other", "wf.last"):
        slurm.plan(name, "hang")
    plugin = ResilientSLURM(options=options())
    submit = plugin._submit_job

    def submit_and_interrupt(step: Any, updatehash: bool = False) -> int:
        number = submit(step, updatehash)
        if len(slurm.jobs()) > 1:
            raise KeyboardInterrupt
        return number

    plugin._submit_job = submit_and_interrupt
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        workflow(tmp_path).run(plugin=plugin)
    assert time.monotonic() - start < 10
    assert set(slurm.jobs().values()) == {"CANCELLED"}
    (token,) = (tmp_path / "slurm").iterdir()
    assert main([str(next(token.glob("0*")))]) == 1
    assert not list((token / "answers").iterdir())


def test_jobs_of_interrupted_and_killed_drivers_are_cancelled(
    tmp_path: Path, slurm: FakeSlurm, jobs: Jobs
) -> None:
    interrupted = slurm.add(f"wf.first.1.{jobs.token}")
    foreign = slurm.add("somebody.elses")
    jobs.cancel_all()
    (tmp_path / "jobs" / "0123456789ab").mkdir(parents=True)
    killed = slurm.add("wf.sub_01_wf.first.3.0123456789ab")
    other_participant = slurm.add("wf.sub_02_wf.first.3.0123456789ab")
    other_directory = slurm.add("wf.sub_01_wf.first.3.ba9876543210")
    Jobs(root=tmp_path / "jobs", options=options()).cancel_orphans({"wf.sub_01_wf.first"})
    assert slurm.jobs() == dict.fromkeys((interrupted, killed), "CANCELLED") | dict.fromkeys(
        (foreign, other_participant, other_directory), "RUNNING"
    )


def test_jobs_that_cannot_be_cancelled_are_named(
    tmp_path: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bids_sr.engine.slurm.step_jobs._ORPHAN_TIMEOUT_S", 0.0)
    (slurm.folder / "scancel").write_text("#!/bin/bash\n")
    (tmp_path / "jobs" / "0123456789ab").mkdir(parents=True)
    slurm.add("first.3.0123456789ab")
    with pytest.raises(SlurmError, match="jobs 1 "):
        Jobs(root=tmp_path / "jobs", options=options()).cancel_orphans({"first"})


@pytest.mark.parametrize(
    ("changes", "arguments"),
    [
        (
            {"memory_extra_gb": 0.7, "time_minutes": 2.0, "sbatch_args": ("--partition=x",)},
            "--mem=1908M --cpus-per-task=3 --time=2:00 --partition=x",
        ),
        ({"sbatch_args": ("--mem-per-cpu=2G",)}, "--cpus-per-task=3 --mem-per-cpu=2G"),
        ({"sbatch_args": ("--mem", "9")}, "--cpus-per-task=3 --mem 9"),
    ],
)
def test_requests_of_a_job_follow_from_step_and_options(
    changes: dict[str, Any], arguments: str, tmp_path: Path, slurm: FakeSlurm
) -> None:
    """The memory of 2 GB is rounded up to MiB."""
    slurm.plan("more", "hang")
    jobs = Jobs(root=tmp_path / "100% a", options=options(**changes))
    jobs.cancel_orphans(set())
    step = node(tmp_path, name="more", mem_gb=1.3, n_procs=3)
    step.plugin_args = {"sbatch_args": "--constraint 'a b'"}
    jobs.start(step, updatehash=False)
    (call,) = slurm.calls("sbatch")
    folder = jobs.folder / "000001"
    log = f"--output={str(folder).replace('%', '%%')}/log.txt"
    end = f"{log} {arguments} --constraint a b {folder}/job.sh"
    assert call.endswith(end)


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_only_steps_that_can_use_a_gpu_request_a_gpu(
    device: str, tmp_path: Path, slurm: FakeSlurm, jobs: Jobs
) -> None:
    jobs.options = options(gpu_args=("--gres=gpu:1",))
    slurm.plan("resolve", "hang")
    step = pe.Node(super_resolve.interface(device=device), name="resolve", base_dir=str(tmp_path))
    jobs.start(step, updatehash=False)
    assert ("--gres=gpu:1" in slurm.calls("sbatch")[0]) == (device == "cuda")


@pytest.mark.parametrize(
    ("template", "first_lines"),
    [
        ("#!/bin/sh\nmodule load python\n", ["#!/bin/sh", "module load python"]),
        ("ulimit -c 0", ["#!/bin/bash", "ulimit -c 0"]),
    ],
)
def test_the_job_script_exports_paths_and_replaces_its_shell(
    template: str,
    first_lines: list[str],
    tmp_path: Path,
    slurm: FakeSlurm,
    jobs: Jobs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEMPLATEFLOW_HOME", "/a b")
    monkeypatch.setenv("MPLBACKEND", "agg")
    jobs.options = options(template=template)
    slurm.plan("step", "hang")
    jobs.start(node(tmp_path), updatehash=False)
    lines = (jobs.folder / "000001" / "job.sh").read_text().splitlines()
    assert lines[:2] == first_lines
    assert {"export TEMPLATEFLOW_HOME='/a b'", "export MPLBACKEND=agg"} <= {*lines}
    assert lines[-1].startswith("exec ")


def test_a_job_reports_that_its_step_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # and back: the job changes the directory
    folder = tmp_path / "000001"
    folder.mkdir()
    failing_step = node(tmp_path, "bad")
    # writing there fails
    failing_step.interface.inputs.trait_set(marker=str(tmp_path / "no such folder" / "x"))
    savepkl(str(folder / "node.pklz"), failing_step)
    answer_file = tmp_path / "1.json"
    order = {"number": 1, "answer": str(answer_file), "updatehash": False, "grace": 0, "level": 30}
    (folder / "order.json").write_text(json.dumps(order))
    assert main([str(folder)]) == 1
    answer = json.loads(answer_file.read_text())
    assert answer["failed"] == "bad"
    assert "FileNotFoundError" in "".join(answer["traceback"])


@pytest.mark.timeout(120)
def test_a_job_has_one_thread_and_all_processors_whatever_its_environment(tmp_path: Path) -> None:
    folder = tmp_path / "000001"
    folder.mkdir()
    step_node = pe.Node(Load(work="threads", seconds=0.1), name="step", base_dir=str(tmp_path))
    savepkl(str(folder / "node.pklz"), step_node)
    order = {"number": 1, "answer": str(tmp_path / "1.json"), "updatehash": False}
    (folder / "order.json").write_text(json.dumps({**order, "grace": 0, "level": 30}))
    subprocess.run(
        [sys.executable, "-m", "bids_sr.engine.node_job", str(folder)],
        env={**os.environ, "PYTHONPATH": str(TESTS), **BOUND, "OPENBLAS_NUM_THREADS": "7"},
        check=True,
        cwd=tmp_path,
    )
    usage = loadpkl(tmp_path / "step" / "result_step.pklz").outputs.out
    assert usage["processors"] == sorted(os.sched_getaffinity(0))
    assert set(usage["pools"].values()) == {1}


def test_small_steps_run_in_the_driver_and_their_failures_are_reported(
    tmp_path: Path, slurm: FakeSlurm
) -> None:
    assert is_small(pe.Node(decide_verdict.interface(), name="m"))
    assert not is_small(pe.Node(compare_maps.interface(), name="m"))
    flow = workflow(tmp_path, small=("first", "other"))
    # writing there fails
    flow.get_node("first").inputs.marker = str(tmp_path / "no such folder" / "x")
    plugin = ResilientSLURM(options=options())
    flow.run(plugin=plugin)
    assert "FileNotFoundError" in crash_text(tmp_path)
    assert [Path(crash.file) for crash in plugin.crashes] == list(tmp_path.glob("crash*.txt"))
    assert slurm.calls("sbatch") == []


def test_stop_on_first_crash_cancels_other_jobs(tmp_path: Path, slurm: FakeSlurm) -> None:
    slurm.plan("wf.first", "FAILED 1:0")
    slurm.plan("wf.other", "hang")
    with pytest.raises(RuntimeError, match="FAILED"):
        run(workflow(tmp_path, stop_on_first_crash="true"))
    assert "RUNNING" not in slurm.jobs().values()
