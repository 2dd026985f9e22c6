"""Test one SLURM job per step: the driver ends in every case, names the step, and uses no outdated
results.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dyingnode import Die
from fakeslurm import FakeSlurm
from nipype.pipeline import engine as pe
from nipype.utils.filemanip import savepkl

from bids_sr.config.plugin import Plugin
from bids_sr.execution.execute import execute
from bids_sr.execution.node_job import main
from bids_sr.notices import CODES, read_record
from bids_sr.slurm import commands as slurm_calls, queue
from bids_sr.slurm.commands import SlurmError
from bids_sr.slurm.plugin import ResilientSLURM
from bids_sr.slurm.queue import Queue, SlurmUnreachable, _find_code
from bids_sr.slurm.step_jobs import Jobs, _make_sbatch_arguments, _make_script, is_small

SHORT_INTERVALS = {"poll_seconds": 0.1, "grace_seconds": 0.3, "patience_seconds": 30.0}
ROOT = Path(__file__).parents[2]


def options(**changes: Any) -> Plugin:
    return Plugin(**{**SHORT_INTERVALS, **changes})


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlurm]:
    fake_slurm = FakeSlurm(tmp_path / "fake")
    monkeypatch.setenv("PATH", f"{fake_slurm.folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # contains the steps of these tests
    monkeypatch.delenv("LOGNAME", raising=False)
    monkeypatch.delenv("USER", raising=False)
    monkeypatch.setattr("bids_sr.slurm.step_jobs._CHECK_INTERVAL_S", 0.05)
    yield fake_slurm
    fake_slurm.end()


def workflow(
    base: Path, *, value: int = 1, small: tuple[str, ...] = (), **execution: str
) -> pe.Workflow:
    """Return the graph first → last, with an independent step."""
    test_workflow = pe.Workflow("wf", base_dir=str(base))
    test_workflow.config["execution"] = {
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
    test_workflow.connect(first, "out", last, "value")
    test_workflow.add_nodes([independent])
    return test_workflow


def run(
    test_workflow: pe.Workflow,
    statuses: list[tuple[str, str]] | None = None,
    **changes: Any,
) -> Any:
    def record_status(node: Any, status: str) -> None:
        if statuses is not None:
            statuses.append((node.name, status))

    return test_workflow.run(
        plugin=ResilientSLURM(options=options(**changes), status_callback=record_status)
    )


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


def test_a_graph_runs_in_a_directory_with_a_space_without_login_name(
    tmp_path: Path, slurm: FakeSlurm
) -> None:
    base = tmp_path / "work 100%d"
    statuses: list[tuple[str, str]] = []
    graph = run(workflow(base, small=("last",)), statuses)
    assert {step_node.name: step_node.result.outputs.out for step_node in graph.nodes()} == {
        "first": 2,
        "other": 11,
        "last": 3,
    }
    assert len(slurm.calls("sbatch")) == 2  # the small step runs in the driver
    assert "--mem=859M --cpus-per-task=1" in slurm.calls("sbatch")[0]
    assert list((base / "slurm").iterdir()) == []
    assert sorted(statuses) == sorted(
        (name, status) for name in ("first", "other", "last") for status in ("start", "end")
    )
    calls = len(slurm.calls("sbatch"))
    run(workflow(base, small=("last",)))
    assert len(slurm.calls("sbatch")) == calls, "finished steps ran again"


def test_a_failed_job_is_named_and_an_earlier_result_is_not_used(
    tmp_path: Path, slurm: FakeSlurm
) -> None:
    earlier = workflow(tmp_path, value=1)
    earlier.run(plugin="Linear")
    slurm.plan("wf.first", "FAILED 0:9")
    with pytest.raises(RuntimeError, match=r"wf\.first ended FAILED .*0:9"):
        run(workflow(tmp_path, value=5))
    text = crash_text(tmp_path)
    assert "Node: wf.first\n" in text
    assert "What happened: SLURM job 1 for wf.first ended FAILED" in text
    assert "What to do: The most frequent cause is insufficient memory. " in text
    assert "Request more memory (--mem" in text
    assert not any("wf.last" in call for call in slurm.calls("sbatch"))
    assert set(slurm.jobs().values()) <= {"FAILED", "CANCELLED", "COMPLETED"}
    slurm.plan("wf.first", "run")
    graph = run(workflow(tmp_path, value=5))
    assert {step_node.name: step_node.result.outputs.out for step_node in graph.nodes()}[
        "last"
    ] == 7


@pytest.mark.parametrize(
    ("state", "code", "says"),
    [
        ("OUT_OF_MEMORY", "0:125", "memory_extra_gb"),
        ("FAILED", "0:9", "insufficient memory"),
        ("TIMEOUT", "0:0", "time_minutes"),
        ("CANCELLED", "0:15", "scancel"),
        ("CANCELLED+", "0:15", "scancel"),
        ("NODE_FAIL", "0:0", "compute node failed"),
        ("PREEMPTED", "0:0", "compute node failed"),
        ("FAILED", "127:0", "template"),
        ("FAILED", "2:0", "to retry this step"),
        ("COMPLETED", "0:0", "-w"),
        ("UNKNOWN", "", "Rerun the same command"),
    ],
)
def test_every_final_state_has_a_remedy(state: str, code: str, says: str) -> None:
    assert says in CODES[_find_code(state, code)][1]


def test_a_failed_job_is_reported_with_state_request_and_log(
    tmp_path: Path, slurm: FakeSlurm, jobs: Jobs
) -> None:
    slurm.plan("step", "TIMEOUT 0:0")
    jobs.options = options(time_minutes=90.5)
    number = jobs.start(node(tmp_path), updatehash=False)
    (jobs.folder / "000001" / "log.txt").write_text("half way\n")
    result = wait_for_end(jobs, number)
    text = "".join(result["traceback"])
    for word in ("--time=90:30", "0.20 GB", "half way"):
        assert word in text
    assert "job 1 for step ended TIMEOUT" in result["traceback"][-1]
    assert result["notice"].code == "time"


def test_a_job_unknown_to_slurm_is_reported_as_failed(
    tmp_path: Path, slurm: FakeSlurm, jobs: Jobs
) -> None:
    slurm.plan("step", "hang")
    number = jobs.start(node(tmp_path), updatehash=False)
    assert jobs.outcome(number) is None
    (slurm.folder / "jobs" / "1").unlink()
    assert "UNKNOWN" in wait_for_end(jobs, number)["traceback"][-1]


def test_the_answer_of_a_job_has_priority_over_its_slurm_state(
    tmp_path: Path, slurm: FakeSlurm, jobs: Jobs
) -> None:
    slurm.plan("step", "hang")
    step = node(tmp_path)
    number = jobs.start(step, updatehash=False)
    (slurm.folder / "jobs" / "1").write_text("OUT_OF_MEMORY|None|0:125|x\n")
    (jobs.folder / "answers" / "000001.json").write_text(
        json.dumps({"traceback": None, "host": "h"})
    )
    os.makedirs(step.output_dir())
    Path(step.output_dir(), "result_step.pklz").touch()
    assert wait_for_end(jobs, number)["traceback"] is None


def test_a_result_that_is_not_visible_is_a_failure(
    tmp_path: Path, slurm: FakeSlurm, jobs: Jobs
) -> None:
    slurm.plan("step", "hang")
    number = jobs.start(node(tmp_path), updatehash=False)
    (jobs.folder / "answers" / "000001.json").write_text(
        json.dumps({"traceback": None, "host": "h"})
    )
    assert "not visible" in wait_for_end(jobs, number)["traceback"][-1]


def test_a_job_that_can_never_start_is_cancelled(
    tmp_path: Path, slurm: FakeSlurm, jobs: Jobs
) -> None:
    slurm.plan("step", "PENDING PartitionConfig")
    reason = wait_for_end(jobs, jobs.start(node(tmp_path), updatehash=False))["traceback"][-1]
    assert "cannot start: PartitionConfig" in reason
    assert slurm.jobs() == {"1": "CANCELLED"}


def test_a_pending_job_is_not_cancelled(tmp_path: Path, slurm: FakeSlurm, jobs: Jobs) -> None:
    slurm.plan("step", "PENDING Priority")
    number = jobs.start(node(tmp_path), updatehash=False)
    for _ in range(12):
        assert jobs.outcome(number) is None
        time.sleep(0.05)


def test_a_rejected_job_is_reported_with_its_step(tmp_path: Path, slurm: FakeSlurm) -> None:
    slurm.plan("wf.first", "refuse")
    slurm.plan("wf.other", "CANCELLED 0:15")
    with pytest.raises(RuntimeError, match="2 raised"):
        run(workflow(tmp_path))
    texts = sorted(path.read_text() for path in tmp_path.glob("crash*.txt"))
    assert len(texts) == 2
    assert any("Invalid partition name specified" in text and "wf.first" in text for text in texts)


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
    number = jobs.start(node(tmp_path), updatehash=False)
    assert jobs._jobs[number].slurm_id == "1"
    assert len(slurm.jobs()) == 1


def test_an_unreachable_controller_ends_the_run_with_a_message(
    tmp_path: Path, slurm: FakeSlurm
) -> None:
    slurm.be_silent(10_000)
    (tmp_path / "logs").mkdir()
    unreachable_workflow = workflow(tmp_path / "work", crashdump_dir=str(tmp_path / "logs"))
    plugin = options(plugin="SLURM", patience_seconds=0.0)
    outcome = execute(
        unreachable_workflow, nprocs=1, mem_gb=1, crash_dir=tmp_path / "logs", plugin=plugin
    )
    (crash,) = outcome.crashes
    assert read_record(tmp_path / "logs") == [crash]
    assert "SLURM has not responded" in crash.what
    assert "for wf.first" in crash.what or "for wf.other" in crash.what


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
    with pytest.raises(SlurmUnreachable, match="Unable to contact"):
        workflow(tmp_path).run(plugin=plugin)
    assert len(plugin.crashes) == 1, "a single crash must be reported"


def test_submission_is_retried_if_the_job_limit_is_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors = iter(
        [
            "sbatch: error: QOSMaxSubmitJobPerUserLimit",
            "sbatch: error: QOSMaxSubmitJobPerUserLimit",
            "",
        ]
    )

    def command(*words: str, **keywords: Any) -> Any:
        text = next(errors) if words[0] == "sbatch" else ""
        return subprocess.CompletedProcess(words, 1 if text else 0, "" if text else "7;c\n", text)

    monkeypatch.setattr(queue, "call", command)
    monkeypatch.setattr(Queue, "_find_job", lambda self, name: "")
    assert (
        Queue(patience=0.0, pause=0.0).submit("x", ["job.sh"], has_active_jobs=lambda: True) == "7"
    )


def test_missing_slurm_commands_raise_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SlurmError, match="sbatch was not found"):
        Queue(patience=0.0).submit("x", ["job.sh"], has_active_jobs=lambda: False)


def test_a_slurm_command_that_hangs_is_ended(
    slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    (slurm.folder / "squeue").write_text("#!/bin/bash\nexec sleep 60\n")
    monkeypatch.setattr(slurm_calls, "_TIMEOUT_S", 0.2)
    assert Queue(patience=60.0).states(["1"]) is None


def test_slurm_limits_of_the_driver_job_are_not_inherited(
    slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "100")
    monkeypatch.setenv("SLURM_CONF", "here")
    (slurm.folder / "squeue").write_text(f"#!/bin/bash\nenv > '{tmp_path}/seen'\n")
    Queue(patience=1.0).states(["1"])
    environment = (tmp_path / "seen").read_text()
    assert "SLURM_CONF=here" in environment
    assert "SLURM_MEM_PER_NODE" not in environment


def test_an_interruption_cancels_all_jobs(tmp_path: Path, slurm: FakeSlurm) -> None:
    for name in ("wf.first", "wf.other", "wf.last"):
        slurm.plan(name, "hang")

    def interrupt(step: Any, status: str) -> None:
        if len(slurm.jobs()) > 1:
            raise KeyboardInterrupt

    plugin = ResilientSLURM(options=options(), status_callback=interrupt)
    # the status callback is called before the job is submitted
    plugin._submit_job = lambda step, updatehash=False: _submit_and_interrupt(plugin, step, slurm)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        workflow(tmp_path).run(plugin=plugin)
    assert time.monotonic() - start < 10
    assert set(slurm.jobs().values()) == {"CANCELLED"}
    (token,) = (tmp_path / "slurm").iterdir()
    assert main([str(next(token.glob("0*")))]) == 1, "a job that starts late must do nothing"
    assert not list((token / "answers").iterdir())


def _submit_and_interrupt(plugin: Any, step: Any, slurm: FakeSlurm) -> int:
    number = type(plugin)._submit_job(plugin, step)
    if len(slurm.jobs()) > 1:
        raise KeyboardInterrupt
    return int(number)


def test_jobs_of_an_interrupted_submission_are_cancelled(slurm: FakeSlurm, jobs: Jobs) -> None:
    slurm.add(f"wf.first.1.{jobs.token}")
    other_job = slurm.add("somebody.elses")
    jobs.cancel_all()
    assert slurm.jobs() == {"1": "CANCELLED", other_job: "RUNNING"}


def test_jobs_of_a_killed_driver_are_cancelled_first(tmp_path: Path, slurm: FakeSlurm) -> None:
    (tmp_path / "jobs" / "0123456789ab").mkdir(parents=True)
    own_job = slurm.add("wf.sub_01_wf.first.3.0123456789ab")
    other_participant = slurm.add("wf.sub_02_wf.first.3.0123456789ab")
    other_directory = slurm.add("wf.sub_01_wf.first.3.ba9876543210")
    Jobs(root=tmp_path / "jobs", options=options()).cancel_orphans({"wf.sub_01_wf.first"})
    assert slurm.jobs() == {
        own_job: "CANCELLED",
        other_participant: "RUNNING",
        other_directory: "RUNNING",
    }


def test_jobs_that_cannot_be_cancelled_are_named(
    tmp_path: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bids_sr.slurm.step_jobs._ORPHAN_TIMEOUT_S", 0.0)
    (slurm.folder / "scancel").write_text("#!/bin/bash\n")
    (tmp_path / "jobs" / "0123456789ab").mkdir(parents=True)
    slurm.add("first.3.0123456789ab")
    with pytest.raises(SlurmError, match="jobs 1 could not be cancelled"):
        Jobs(root=tmp_path / "jobs", options=options()).cancel_orphans({"first"})


def test_requests_of_a_job_follow_from_step_and_options(tmp_path: Path) -> None:
    folder = tmp_path / "100% a b"
    step = node(tmp_path, name="more", mem_gb=1.3, n_procs=3)
    requests = _make_sbatch_arguments(
        step,
        folder,
        options(memory_extra_gb=0.7, time_minutes=2.0, sbatch_args=("--partition=x",)),
    )
    assert "--mem=1908M" in requests  # 2 GB, rounded up to MiB
    assert "--cpus-per-task=3" in requests
    assert "--time=2:00" in requests
    assert f"--output={tmp_path}/100%% a b/log.txt" in requests
    assert requests[-1] == "--partition=x"
    for memory_option in ("--mem-per-cpu=2G", "--mem=4G", "--mem"):
        assert not any(
            word.endswith("M")
            for word in _make_sbatch_arguments(
                step, folder, options(sbatch_args=(memory_option, "9"))
            )
        )
    step.plugin_args = {"sbatch_args": "--constraint 'a b'"}
    assert _make_sbatch_arguments(step, folder, options(sbatch_args=("--overcommit",)))[-3:] == [
        "--overcommit",
        "--constraint",
        "a b",
    ]


def test_only_steps_that_can_use_a_gpu_request_a_gpu(tmp_path: Path) -> None:
    from bids_sr.steps.super_resolution import super_resolve

    gpu_step = pe.Node(super_resolve.interface(device="cuda"), name="wants")
    gpu_options = options(gpu_args=("--gres=gpu:1",))
    assert "--gres=gpu:1" in _make_sbatch_arguments(gpu_step, tmp_path, gpu_options)
    gpu_step.inputs.device = "cpu"
    assert "--gres=gpu:1" not in _make_sbatch_arguments(gpu_step, tmp_path, gpu_options)
    assert "--gres=gpu:1" not in _make_sbatch_arguments(node(tmp_path), tmp_path, gpu_options)


def test_the_job_script_exports_threads_and_replaces_its_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    lines = _make_script(tmp_path / "a 'b", "#!/bin/sh\nmodule load python\n").splitlines()
    assert lines[:2] == ["#!/bin/sh", "module load python"]
    assert "export OMP_NUM_THREADS=1" in lines
    assert lines[-1].startswith("exec ")
    assert _make_script(tmp_path, "ulimit -c 0").startswith("#!/bin/bash\nulimit -c 0\n")


def test_a_job_reports_that_its_step_failed(tmp_path: Path) -> None:
    folder = tmp_path / "000001"
    folder.mkdir()
    failing_step = node(tmp_path, "bad")
    failing_step.inputs.value = 1
    # writing there fails
    failing_step.interface.inputs.trait_set(marker=str(tmp_path / "no such folder" / "x"))
    savepkl(str(folder / "node.pklz"), failing_step)
    order = {
        "number": 1,
        "answer": str(tmp_path / "1.json"),
        "updatehash": False,
        "grace": 0,
        "level": 30,
    }
    (folder / "order.json").write_text(json.dumps(order))
    before = os.getcwd()
    try:
        assert main([str(folder)]) == 1
    finally:
        os.chdir(before)
    answer = json.loads((tmp_path / "1.json").read_text())
    assert answer["failed"] == "bad"
    assert "FileNotFoundError" in "".join(answer["traceback"])


def test_small_steps_run_in_the_driver(tmp_path: Path) -> None:
    from bids_sr.steps.activation import join_quality
    from bids_sr.steps.map_comparison import compare_maps
    from bids_sr.steps.run_verdict import decide_verdict, raise_flags
    from bids_sr.steps.self_test import gather_tested

    for small_step in (join_quality, gather_tested, decide_verdict, raise_flags):
        assert is_small(pe.Node(small_step.interface(), name="m")), small_step.__name__
    assert not is_small(pe.Node(compare_maps.interface(), name="m"))
    assert not is_small(node(tmp_path))


def test_a_small_step_that_fails_in_the_driver_is_reported(
    tmp_path: Path, slurm: FakeSlurm
) -> None:
    failing_workflow = workflow(tmp_path, small=("first", "other"))
    # writing there fails
    failing_workflow.get_node("first").inputs.marker = str(tmp_path / "no such folder" / "x")
    plugin = ResilientSLURM(options=options())
    failing_workflow.run(plugin=plugin)
    assert "FileNotFoundError" in crash_text(tmp_path)
    assert [Path(crash.file) for crash in plugin.crashes] == list(tmp_path.glob("crash*.txt"))
    assert slurm.calls("sbatch") == []


def test_stop_on_first_crash_cancels_other_jobs(tmp_path: Path, slurm: FakeSlurm) -> None:
    slurm.plan("wf.first", "FAILED 1:0")
    slurm.plan("wf.other", "hang")
    with pytest.raises(RuntimeError, match="FAILED"):
        run(workflow(tmp_path, stop_on_first_crash="true"))
    assert "RUNNING" not in slurm.jobs().values()
