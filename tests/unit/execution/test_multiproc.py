"""The plugin must end even if its workers fail."""

import logging
import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from dyingnode import Die, Full
from networkx import DiGraph
from nipype.pipeline import engine as pe
from scipy.sparse import lil_matrix

from bids_sr.cli.console import make_warning_lines
from bids_sr.config.plugin import Plugin
from bids_sr.execution.execute import configure_nipype, execute
from bids_sr.execution.multiproc import ResilientMultiProc
from bids_sr.execution.step_warnings import _remove_recorders, save_warnings
from bids_sr.notices import CODES, RECORD, Notice, read_record, record
from bids_sr.steps.bold_reference import mask_head
from bids_sr.steps.figures.anatomy import draw_brain
from bids_sr.steps.run_verdict import decide_verdict


@pytest.fixture(autouse=True, scope="module")
def small_fork_server():
    """Reduce the modules of the fork server: nodes of these tests compute nothing."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            "bids_sr.execution.fork_server._PRELOADED_MODULES", ("nipype.pipeline.engine",)
        )
        yield


def _workflow(base: Path, **second) -> pe.Workflow:
    workflow = pe.Workflow("wf", base_dir=str(base))
    workflow.config["execution"] = {
        "poll_sleep_duration": "0.05",
        "crashdump_dir": str(base),
        "crashfile_format": "txt",
        "stop_on_first_crash": "false",
        "remove_unnecessary_outputs": "false",
    }
    first, independent, last = (
        pe.Node(Die(), name=name, mem_gb=0.1) for name in ("first", "other", "last")
    )
    first.inputs.value, independent.inputs.value = 1, 10
    first.inputs.trait_set(**second)
    workflow.connect(first, "out", last, "value")
    workflow.add_nodes([independent])
    return workflow


def _run(workflow: pe.Workflow):
    return workflow.run(plugin=ResilientMultiProc(n_procs=2, memory_gb=2.0))


@pytest.mark.timeout(120)
def test_a_killed_node_is_retried_once(tmp_path):
    graph = _run(_workflow(tmp_path, marker=str(tmp_path / "marker")))
    assert {node.name: node.result.outputs.out for node in graph.nodes()} == {
        "first": 2,
        "other": 11,
        "last": 3,
    }


def test_results_run_before_figures_and_participants_in_order() -> None:
    def node(name: str, participant: str, seconds: float, step: object = None) -> pe.Node:
        step_node = pe.Node(Die(), name=name)
        step_node.owner, step_node.seconds = (participant, ""), seconds
        if step is not None:
            step_node.interface.step = step
        return step_node

    long, short, last = (
        node("long", "01", 5.0, mask_head),
        node("short", "01", 9.0),
        node("last", "01", 8.0),
    )
    short.interface.step = last.interface.step = mask_head
    figure, other_participant = (
        node("drawn", "01", 60.0, draw_brain),
        node("other", "02", 99.0, mask_head),
    )
    graph = DiGraph([(long, last)])
    graph.add_nodes_from([short, figure, other_participant])
    plugin = ResilientMultiProc(n_procs=2, memory_gb=2.0)
    plugin._generate_dependency_list(graph)
    jobs = plugin._sort_jobs(range(5))
    assert [plugin.procs[job].name for job in jobs] == ["long", "short", "last", "drawn", "other"]


def test_dependency_sums_are_cached_until_a_change(monkeypatch) -> None:
    first, second, last = (pe.Node(Die(), name=name) for name in ("first", "second", "last"))
    for node in (first, second, last):
        node.owner = ("01", "")
    plugin = ResilientMultiProc(n_procs=2, memory_gb=2.0)
    plugin._generate_dependency_list(DiGraph([(first, last), (second, last)]))
    plugin.mapnodesubids, plugin._status_callback = {}, None  # as nipype's loop sets them
    sum_calls = []
    sums = lil_matrix.sum
    monkeypatch.setattr(lil_matrix, "sum", lambda *args: sum_calls.append(args) or sums(*args))
    job_numbers = {node.name: job for job, node in enumerate(plugin.procs)}

    def waiting() -> dict[str, int]:
        counts = plugin.depidx.sum(axis=0)
        assert np.array_equal(plugin.depidx.sum(0), counts)
        return {name: int(counts[0, job]) for name, job in job_numbers.items()}

    assert waiting() == {"first": 0, "second": 0, "last": 2}
    assert len(sum_calls) == 1
    plugin._task_finished_cb(job_numbers["first"])
    assert waiting() == {"first": 0, "second": 0, "last": 1}
    plugin._task_finished_cb(job_numbers["second"])
    assert waiting() == {"first": 0, "second": 0, "last": 0}
    assert len(sum_calls) == 3
    plugin.depidx[job_numbers["first"], job_numbers["last"]] = 1
    assert waiting()["last"] == 1


def test_steps_before_the_first_verdict_run_first() -> None:
    """Two runs are each mapped, judged, and compared in a slow table."""

    def node(name: str, seconds: float, step: object = mask_head) -> pe.Node:
        step_node = pe.Node(Die(), name=name)
        step_node.owner, step_node.seconds, step_node.interface.step = ("01", ""), seconds, step
        return step_node

    anatomy = node("anatomy", 1.0)
    graph = DiGraph()
    for run in "12":
        mapped, reported_runs = node(f"map{run}", 2.0), node(f"judge{run}", 0.1, decide_verdict)
        table, figure = node(f"table{run}", 50.0), node(f"figure{run}", 90.0, draw_brain)
        graph.add_edges_from(
            [(anatomy, mapped), (mapped, reported_runs), (mapped, table), (reported_runs, figure)]
        )
    slow = node("slow", 3.0)  # a second step before the first verdict, on the longer path
    first = next(candidate for candidate in graph if candidate.name == "judge1")
    graph.add_edge(slow, first)
    plugin = ResilientMultiProc(n_procs=2, memory_gb=2.0)
    plugin._generate_dependency_list(graph)
    jobs = plugin._sort_jobs(range(len(plugin.procs)))
    names = [plugin.procs[job].name for job in jobs]
    assert names[:7] == ["anatomy", "slow", "map1", "judge1", "map2", "judge2", "table1"]
    assert names[7:] == ["table2", "figure1", "figure2"]
    remaining_s = {plugin.procs[job].name: -plugin._priorities[job][-1] for job in jobs}
    assert remaining_s["map1"] == pytest.approx(2.1)  # the path ends at the verdict
    assert remaining_s["anatomy"] == pytest.approx(3.1)


@pytest.mark.parametrize("n_procs", [1, 2])
def test_long_training_starts_together_with_the_steps_of_the_first_verdict(n_procs: int) -> None:
    """Training of a network takes 60 s; the other method is judged earlier."""

    def node(name: str, seconds: float, step: object = mask_head) -> pe.Node:
        step_node = pe.Node(Die(), name=name)
        step_node.owner, step_node.seconds, step_node.interface.step = ("01", ""), seconds, step
        return step_node

    motion, training = node("motion", 5.0), node("training", 60.0)
    mapped, first = node("map", 9.0), node("first_judge", 0.1, decide_verdict)
    resolved, last = node("resolve", 9.0), node("judge", 0.1, decide_verdict)
    figure = node("figure", 300.0, draw_brain)
    graph = DiGraph(
        [
            (motion, mapped),
            (mapped, first),
            (training, resolved),
            (motion, resolved),
            (resolved, last),
            (mapped, last),
            (last, figure),
        ]
    )
    plugin = ResilientMultiProc(n_procs=n_procs, memory_gb=2.0)
    plugin._generate_dependency_list(graph)
    names = [plugin.procs[job].name for job in plugin._sort_jobs(range(len(plugin.procs)))]
    later, early = ["training", "resolve", "judge"], ["motion", "map", "first_judge"]
    # a single worker does not begin with the training
    assert names == [*(early + later if n_procs == 1 else later + early), "figure"]


def test_steps_of_the_scheduler_run_before_others_are_submitted() -> None:
    """Joined tables are the last input of the comparison before the first verdict."""

    def node(
        name: str, seconds: float, step: object = mask_head, *, light: bool = False
    ) -> pe.Node:
        step_node = pe.Node(Die(), name=name, run_without_submitting=light)
        step_node.owner, step_node.seconds, step_node.interface.step = ("01", ""), seconds, step
        return step_node

    joined, compared = node("join", 0.0, light=True), node("compare", 2.0)
    first, training = node("first_judge", 0.1, decide_verdict), node("training", 60.0)
    last = node("judge", 0.1, decide_verdict)
    graph = DiGraph([(joined, compared), (compared, first), (training, last), (compared, last)])
    plugin = ResilientMultiProc(n_procs=1, memory_gb=2.0)
    plugin._generate_dependency_list(graph)
    numbers = {step_node.name: job for job, step_node in enumerate(plugin.procs)}
    assert plugin._sort_jobs([numbers["training"], numbers["join"]]) == [numbers["join"]]
    ready = [numbers["training"], numbers["compare"]]
    assert plugin._sort_jobs(ready) == [numbers["compare"], numbers["training"]]


@pytest.fixture
def no_stored_warnings():
    """Remove warnings stored by this process."""
    yield
    _remove_recorders()


WARNING = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_multiproc import _run, _workflow
from bids_sr.execution import fork_server

fork_server._PRELOADED_MODULES = ("nipype.pipeline.engine",)
if __name__ == "__main__":
    _run(_workflow(Path({base!r})))
"""


@pytest.mark.timeout(120)
def test_warnings_of_steps_are_recorded_once_and_not_printed(tmp_path):
    """Three steps warn, two with the same text; the script is run as a separate process to capture
    output of its workers.
    """
    script, tests_dir = tmp_path / "script.py", Path(__file__).parent
    script.write_text(WARNING.format(tests=str(tests_dir), base=str(tmp_path)))
    paths = os.pathsep.join([str(tests_dir), str(tests_dir.parents[1])])
    process = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert "the value" not in process.stdout + process.stderr
    assert len(read_record(tmp_path)) == 3
    notices_of_steps = [read_record(tmp_path / "wf" / name) for name in ("first", "other", "last")]
    assert {notice.what for (notice,) in notices_of_steps} == {"wf.first", "wf.other", "wf.last"}
    assert sorted((notice.why, notice.what) for notice in read_record(tmp_path)) == [
        ("the value is 0", "wf.last"),
        ("the value is 0", "wf.other"),
        ("the value is 1", "wf.first"),
    ]


SHARED = """
from multiprocessing import get_context

from bids_sr.execution import fork_server

if __name__ == "__main__":
    fork_server._PRELOADED_MODULES = ("bids_sr",)
    fork_server.start_fork_server()
    worker = get_context("forkserver").Process(target=print, args=("worked",))
    worker.start()
    worker.join()
"""


@pytest.mark.timeout(120)
def test_workers_import_the_installed_package_and_not_the_current_directory(tmp_path):
    script, checkout = tmp_path / "program" / "script.py", tmp_path / "checkout" / "bids_sr"
    for folder in (script.parent, checkout):
        folder.mkdir(parents=True)
    script.write_text(SHARED)
    (checkout / "__init__.py").write_text("raise SystemExit('of another version')")
    process = subprocess.run(
        [sys.executable, str(script)],
        cwd=checkout.parent,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "PYTHONSAFEPATH": ""},
    )
    assert (process.stdout, process.stderr) == ("worked\n", "")


def test_equal_warnings_are_printed_once_with_their_runs(tmp_path):
    def warn(number: int, why: str) -> Notice:
        return Notice(
            what="wf.fit", why=why, level="warning", run=f"sub-0{number}_task-tap", code="step"
        )

    record(
        tmp_path,
        [warn(1, "it lies outside"), warn(2, "it lies outside"), warn(2, "it lies outside")],
    )
    record(tmp_path, [warn(1, "other"), Notice(what="a", why="of the data set", level="note")])
    assert [" ".join(line.split()) for line in make_warning_lines(tmp_path)] == [
        "warning sub-01_task-tap, sub-02_task-tap: it lies outside",
        "warning sub-01_task-tap: other",
    ]
    record(tmp_path, [warn(1, str(k)) for k in range(7)])
    assert [line.split() for line in make_warning_lines(tmp_path)][-1][:3] == [
        "and",
        "3",
        "more",
    ]
    with (tmp_path / RECORD).open("a") as stream:
        stream.write('{"what": "cut')
    assert len(read_record(tmp_path)) == 11


def test_a_step_continues_if_its_warning_cannot_be_written(tmp_path, no_stored_warnings):
    step_dir = tmp_path / "b"
    owner = ("01", "sub-01_task-a")
    step = SimpleNamespace(fullname="wf.b", owner=owner, output_dir=lambda: str(step_dir))
    save_warnings(tmp_path / "nowhere", step)
    logging.getLogger("bids_sr.test").warning("lost")
    assert read_record(tmp_path / "nowhere") == []
    save_warnings(tmp_path, step)
    logging.getLogger("bids_sr.test").warning("found")
    assert read_record(tmp_path) == [
        Notice(
            what="wf.b",
            why="found",
            level="warning",
            subject="01",
            run="sub-01_task-a",
            code="step",
        )
    ]


@pytest.mark.timeout(120)
def test_a_node_killed_twice_is_reported_and_other_nodes_run(tmp_path):
    start = time.time()
    with pytest.raises(RuntimeError, match=r"first.*killed twice"):
        _run(_workflow(tmp_path, always=True))
    assert time.time() - start < 60
    assert (tmp_path / "wf/other/result_other.pklz").exists()
    crash = next(iter(tmp_path.glob("crash*first*.txt")))
    text = crash.read_text()
    assert "killed twice" in text
    assert "Node: wf.first\n" in text
    assert "What to do: The most frequent cause is insufficient memory" in text
    failed = [notice for notice in read_record(tmp_path) if notice.failed]
    assert [(notice.code, notice.file) for notice in failed] == [("killed", str(crash))]


@pytest.mark.timeout(120)
def test_a_full_disk_ends_the_run_at_once(tmp_path, caplog, capfd):
    """Other steps would all fail for the same reason, each with a crash file and several lines."""
    workflow = _workflow(tmp_path)
    workflow.add_nodes([pe.Node(Full(value=n), name=f"full{n}", mem_gb=0.1) for n in range(12)])
    execution_config = workflow.config["execution"]
    configure_nipype(crash_dir=tmp_path, stop_on_first_crash=False, verbose=False)
    workflow.config["execution"] = execution_config
    with caplog.at_level(logging.ERROR, logger="bids_sr"):
        outcome = execute(workflow, nprocs=1, mem_gb=2.0, crash_dir=tmp_path, plugin=Plugin())
    (full_disk,) = outcome.crashes
    crash = Path(full_disk.file)
    assert full_disk.code == "full"
    assert [notice for notice in read_record(tmp_path) if notice.failed] == [full_disk]
    assert f"What to do: {CODES['full'][1]}" in crash.read_text()
    assert [record.getMessage().split(" failed: see ")[-1] for record in caplog.records] == [
        str(crash)
    ]
    output = capfd.readouterr()
    assert "nipype" not in output.out + output.err


@pytest.mark.timeout(120)
def test_a_worker_starting_in_a_broken_pool_is_ended_before_the_retry(tmp_path):
    """Pools register a worker only after its start; an unregistered worker would run the step
    concurrently with the retry.
    """
    late_worker = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(60,))
    alive_workers = []

    class Plugin(ResilientMultiProc):
        def _get_result(self, taskid):
            if taskid in self._taskresult and not late_worker.pid:
                late_worker.start()
                pool = self._pool_by_task[taskid]
                pool._processes = {**pool._processes, late_worker.pid: late_worker}
            return super()._get_result(taskid)

        def _make_pool(self, workers):
            if workers == 1:
                alive_workers.append(late_worker.is_alive())
            return super()._make_pool(workers)

    with pytest.raises(RuntimeError, match="killed twice"):
        _workflow(tmp_path, always=True).run(plugin=Plugin(n_procs=2, memory_gb=2.0))
    assert alive_workers
    assert not any(alive_workers)


@pytest.mark.timeout(120)
def test_a_task_lost_by_its_pool_is_retried(tmp_path):
    """If a pool breaks while a task is submitted, this task never ends."""

    class Plugin(ResilientMultiProc):
        def _store_outcome(self, taskid, future):
            if future.exception() is None:
                super()._store_outcome(taskid, future)

        def _get_result(self, taskid):
            if self._task_obj[taskid].done() and taskid not in self._taskresult:
                self._task_obj[taskid] = Future()
            return super()._get_result(taskid)

    graph = _workflow(tmp_path, marker=str(tmp_path / "marker")).run(
        plugin=Plugin(n_procs=2, memory_gb=2.0)
    )
    assert {node.name: node.result.outputs.out for node in graph.nodes()} == {
        "first": 2,
        "other": 11,
        "last": 3,
    }


DRIVER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from dyingnode import Spin
from nipype import config
from nipype.pipeline import engine as pe
from bids_sr.execution import fork_server
from bids_sr.execution.multiproc import ResilientMultiProc

fork_server._PRELOADED_MODULES = ("nipype.pipeline.engine",)
if __name__ == "__main__":
    workflow = pe.Workflow("wf", base_dir={base!r})
    workflow.add_nodes([pe.Node(Spin(file={file!r}), name="spin")])
    workflow.run(plugin=ResilientMultiProc(n_procs=1, memory_gb=1.0))
"""


@pytest.mark.timeout(120)
def test_no_worker_outlives_a_killed_scheduler(tmp_path):
    """Compiled code in the worker blocks other threads, so only the kernel can end it."""
    file, script = tmp_path / "pid", tmp_path / "driver.py"
    tests = str(Path(__file__).parents[2])
    script.write_text(DRIVER.format(tests=tests, base=str(tmp_path), file=str(file)))
    driver = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not (file.exists() and file.read_text()):
            assert driver.poll() is None
            time.sleep(0.1)
        worker = int(file.read_text())
        assert Path(f"/proc/{worker}").exists()
    finally:
        driver.kill()
        driver.wait()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{worker}").exists() and "Z (" not in (
        Path(f"/proc/{worker}/status").read_text()
    ):
        assert time.monotonic() < deadline, "the worker still runs"
        time.sleep(0.05)


def test_the_fork_server_starts_with_a_long_temporary_directory(tmp_path):
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    code = (
        "from bids_sr.execution import multiproc as fork_server;"
        "fork_server._PRELOADED_MODULES = ();"
        "fork_server.start_fork_server()"
    )
    run = [sys.executable, "-c", code]
    environ = os.environ | {"TMPDIR": str(folder)}
    process = subprocess.run(run, env=environ, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
