"""The plugin must end, whatever happens to its workers."""

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

from bids_sr.cli.console import line_of, warning_lines
from bids_sr.config.plugin import Plugin
from bids_sr.execution.execute import configure_nipype, execute
from bids_sr.execution.multiproc import ResilientMultiProc
from bids_sr.execution.step_warnings import _forget_warnings, keep_warnings
from bids_sr.notices import CODES, RECORD, Notice, record, recorded
from bids_sr.steps.bold_reference import mask_head
from bids_sr.steps.figures.anatomy import draw_brain
from bids_sr.steps.judgment import judge


@pytest.fixture(autouse=True, scope="module")
def little_to_load():
    """The nodes of these tests compute nothing: their workers share what runs a node alone."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("bids_sr.execution.fork_server._SHARED", ("nipype.pipeline.engine",))
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
    first, other, last = (
        pe.Node(Die(), name=name, mem_gb=0.1) for name in ("first", "other", "last")
    )
    first.inputs.value, other.inputs.value = 1, 10
    first.inputs.trait_set(**second)
    workflow.connect(first, "out", last, "value")
    workflow.add_nodes([other])
    return workflow


def _run(workflow: pe.Workflow):
    return workflow.run(plugin=ResilientMultiProc(n_procs=2, memory_gb=2.0))


@pytest.mark.timeout(120)
def test_node_killed_once_is_tried_again(tmp_path):
    done = _run(_workflow(tmp_path, marker=str(tmp_path / "marker")))
    assert {node.name: node.result.outputs.out for node in done.nodes()} == {
        "first": 2,
        "other": 11,
        "last": 3,
    }


def test_results_come_before_figures_and_one_participant_before_the_next() -> None:
    def node(name: str, whom: str, seconds: float, step: object = None) -> pe.Node:
        made = pe.Node(Die(), name=name)
        made.owner, made.seconds = (whom, ""), seconds
        if step is not None:
            made.interface.step = step
        return made

    long, short, last = (
        node("long", "01", 5.0, mask_head),
        node("short", "01", 9.0),
        node("last", "01", 8.0),
    )
    short.interface.step = last.interface.step = mask_head
    drawn, other = node("drawn", "01", 60.0, draw_brain), node("other", "02", 99.0, mask_head)
    graph = DiGraph([(long, last)])
    graph.add_nodes_from([short, drawn, other])
    plugin = ResilientMultiProc(n_procs=2, memory_gb=2.0)
    plugin._generate_dependency_list(graph)
    jobs = plugin._sort_jobs(range(5))
    assert [plugin.procs[job].name for job in jobs] == ["long", "short", "last", "drawn", "other"]


def test_dependencies_are_summed_again_only_after_a_change(monkeypatch) -> None:
    first, second, last = (pe.Node(Die(), name=name) for name in ("first", "second", "last"))
    for node in (first, second, last):
        node.owner = ("01", "")
    plugin = ResilientMultiProc(n_procs=2, memory_gb=2.0)
    plugin._generate_dependency_list(DiGraph([(first, last), (second, last)]))
    plugin.mapnodesubids, plugin._status_callback = {}, None  # as nipype's loop sets them
    summed = []
    sums = lil_matrix.sum
    monkeypatch.setattr(lil_matrix, "sum", lambda *args: summed.append(args) or sums(*args))
    at = {node.name: job for job, node in enumerate(plugin.procs)}

    def waiting() -> dict[str, int]:
        counts = plugin.depidx.sum(axis=0)
        assert np.array_equal(plugin.depidx.sum(0), counts)
        return {name: int(counts[0, job]) for name, job in at.items()}

    assert waiting() == {"first": 0, "second": 0, "last": 2}
    assert len(summed) == 1
    plugin._task_finished_cb(at["first"])
    assert waiting() == {"first": 0, "second": 0, "last": 1}
    plugin._task_finished_cb(at["second"])
    assert waiting() == {"first": 0, "second": 0, "last": 0}
    assert len(summed) == 3
    plugin.depidx[at["first"], at["last"]] = 1
    assert waiting()["last"] == 1


def test_what_the_first_verdict_waits_for_comes_first() -> None:
    """A graph of two runs: each is mapped, judged, and compared in a table that takes long."""

    def node(name: str, seconds: float, step: object = mask_head) -> pe.Node:
        made = pe.Node(Die(), name=name)
        made.owner, made.seconds, made.interface.step = ("01", ""), seconds, step
        return made

    anatomy = node("anatomy", 1.0)
    graph = DiGraph()
    for run in "12":
        mapped, judged = node(f"map{run}", 2.0), node(f"judge{run}", 0.1, judge)
        table, figure = node(f"table{run}", 50.0), node(f"figure{run}", 90.0, draw_brain)
        graph.add_edges_from(
            [(anatomy, mapped), (mapped, judged), (mapped, table), (judged, figure)]
        )
    slow = node("slow", 3.0)  # another step before the first verdict, on the longer path
    first = next(one for one in graph if one.name == "judge1")
    graph.add_edge(slow, first)
    plugin = ResilientMultiProc(n_procs=2, memory_gb=2.0)
    plugin._generate_dependency_list(graph)
    jobs = plugin._sort_jobs(range(len(plugin.procs)))
    names = [plugin.procs[job].name for job in jobs]
    assert names[:7] == ["anatomy", "slow", "map1", "judge1", "map2", "judge2", "table1"]
    assert names[7:] == ["table2", "figure1", "figure2"]
    after = {plugin.procs[job].name: -plugin._turns[job][-1] for job in jobs}
    assert after["map1"] == pytest.approx(2.1)  # the path ends at the verdict
    assert after["anatomy"] == pytest.approx(3.1)


def test_a_long_training_starts_beside_what_the_first_verdict_waits_for() -> None:
    """A network is trained for 60 s; another method is judged before."""

    def node(name: str, seconds: float, step: object = mask_head) -> pe.Node:
        made = pe.Node(Die(), name=name)
        made.owner, made.seconds, made.interface.step = ("01", ""), seconds, step
        return made

    motion, training = node("motion", 5.0), node("training", 60.0)
    mapped, first = node("map", 9.0), node("first_judge", 0.1, judge)
    resolved, last = node("resolve", 9.0), node("judge", 0.1, judge)
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
    plugin = ResilientMultiProc(n_procs=2, memory_gb=2.0)
    plugin._generate_dependency_list(graph)
    names = [plugin.procs[job].name for job in plugin._sort_jobs(range(len(plugin.procs)))]
    assert names == ["training", "resolve", "judge", "motion", "map", "first_judge", "figure"]


@pytest.fixture
def kept():
    """Nothing is kept by this process afterwards."""
    yield
    _forget_warnings()


WARNING = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_multiproc import _run, _workflow
from bids_sr.execution import multiproc as fork_server

fork_server._SHARED = ("nipype.pipeline.engine",)
if __name__ == "__main__":
    _run(_workflow(Path({base!r})))
"""


@pytest.mark.timeout(120)
def test_what_the_steps_warn_of_is_kept_for_the_end_and_each_told_once(tmp_path):
    """Three steps warn, two of them of the same; in a process of its own, whose workers write
    where it does.
    """
    script, here = tmp_path / "script.py", Path(__file__).parent
    script.write_text(WARNING.format(tests=str(here), base=str(tmp_path)))
    paths = os.pathsep.join([str(here), str(here.parents[1])])
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert "the value" not in done.stdout + done.stderr
    assert len(recorded(tmp_path)) == 3
    own = [recorded(tmp_path / "wf" / name) for name in ("first", "other", "last")]
    assert {each.what for (each,) in own} == {"wf.first", "wf.other", "wf.last"}
    assert sorted((each.why, each.what) for each in recorded(tmp_path)) == [
        ("the value is 0", "wf.last"),
        ("the value is 0", "wf.other"),
        ("the value is 1", "wf.first"),
    ]


SHARED = """
from multiprocessing import get_context

from bids_sr.execution import multiproc as fork_server

if __name__ == "__main__":
    fork_server._SHARED = ("bids_sr",)
    fork_server.start_fork_server()
    worker = get_context("forkserver").Process(target=print, args=("worked",))
    worker.start()
    worker.join()
"""


@pytest.mark.timeout(120)
def test_workers_are_of_the_program_and_not_of_a_checkout_in_the_current_directory(tmp_path):
    script, other = tmp_path / "program" / "script.py", tmp_path / "checkout" / "bids_sr"
    for folder in (script.parent, other):
        folder.mkdir(parents=True)
    script.write_text(SHARED)
    (other / "__init__.py").write_text("raise SystemExit('of another version')")
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=other.parent,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "PYTHONSAFEPATH": ""},
    )
    assert (done.stdout, done.stderr) == ("worked\n", "")


def test_warnings_are_told_with_the_runs_that_they_are_about(tmp_path):
    def warn(number: int, why: str) -> Notice:
        return Notice(
            what="wf.fit", why=why, level="warning", run=f"sub-0{number}_task-tap", code="step"
        )

    record(
        tmp_path,
        [warn(1, "it lies outside"), warn(2, "it lies outside"), warn(2, "it lies outside")],
    )
    record(tmp_path, [warn(1, "other"), Notice(what="a", why="of the data set", level="note")])
    assert [" ".join(line_of(each).split()) for each in warning_lines(tmp_path)] == [
        "warning sub-01_task-tap, sub-02_task-tap: it lies outside",
        "warning sub-01_task-tap: other",
    ]
    record(tmp_path, [warn(1, str(k)) for k in range(7)])
    assert [line_of(each).split() for each in warning_lines(tmp_path)][-1][:3] == [
        "and",
        "3",
        "more",
    ]
    with (tmp_path / RECORD).open("a") as stream:
        stream.write('{"what": "cut')
    assert len(recorded(tmp_path)) == 11


def test_a_step_goes_on_where_its_warning_cannot_be_written(tmp_path, kept):
    own = tmp_path / "b"
    owner = ("01", "sub-01_task-a")
    step = SimpleNamespace(fullname="wf.b", owner=owner, output_dir=lambda: str(own))
    keep_warnings(tmp_path / "nowhere", step)
    logging.getLogger("bids_sr.test").warning("lost")
    assert recorded(tmp_path / "nowhere") == []
    keep_warnings(tmp_path, step)
    logging.getLogger("bids_sr.test").warning("found")
    assert recorded(tmp_path) == [
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
def test_node_killed_always_crashes_with_its_name_and_the_rest_goes_on(tmp_path):
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
    failed = [each for each in recorded(tmp_path) if each.failed]
    assert [(each.code, each.file) for each in failed] == [("killed", str(crash))]
    assert "bids_sr.cli.rerun" in text


@pytest.mark.timeout(120)
def test_a_full_disk_ends_the_run_at_once_without_lines_of_the_scheduler(tmp_path, caplog, capfd):
    """Other steps would fail for the same reason, a crash file and several lines each."""
    workflow = _workflow(tmp_path)
    workflow.add_nodes([pe.Node(Full(value=n), name=f"full{n}", mem_gb=0.1) for n in range(12)])
    given = workflow.config["execution"]
    configure_nipype(crash_dir=tmp_path, stop_on_first_crash=False, verbose=False)
    workflow.config["execution"] = given
    with caplog.at_level(logging.ERROR, logger="bids_sr"):
        outcome = execute(workflow, nprocs=1, mem_gb=2.0, crash_dir=tmp_path, plugin=Plugin())
    (found,) = outcome.crashes
    crash = Path(found.file)
    assert found.code == "full"
    assert [each for each in recorded(tmp_path) if each.failed] == [found]
    assert f"What to do: {CODES['full'][1]}" in crash.read_text()
    assert [record.getMessage().split(" failed: see ")[-1] for record in caplog.records] == [
        str(crash)
    ]
    shown = capfd.readouterr()
    assert "nipype" not in shown.out + shown.err


@pytest.mark.timeout(120)
def test_worker_that_was_starting_when_its_pool_broke_is_ended_before_the_second_try(tmp_path):
    """A pool knows of a worker only when it runs; one unknown so far would do the step beside the
    second try.
    """
    late = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(60,))
    alive = []

    class Plugin(ResilientMultiProc):
        def _get_result(self, taskid):
            if taskid in self._taskresult and not late.pid:
                late.start()
                pool = self._pool_of[taskid]
                pool._processes = {**pool._processes, late.pid: late}
            return super()._get_result(taskid)

        def _new_pool(self, workers):
            if workers == 1:
                alive.append(late.is_alive())
            return super()._new_pool(workers)

    with pytest.raises(RuntimeError, match="killed twice"):
        _workflow(tmp_path, always=True).run(plugin=Plugin(n_procs=2, memory_gb=2.0))
    assert alive
    assert not any(alive)


@pytest.mark.timeout(120)
def test_task_that_its_pool_forgot_is_tried_again(tmp_path):
    """A pool that breaks while a task is handed to it never ends that task."""

    class Plugin(ResilientMultiProc):
        def _collect(self, taskid, future):
            if future.exception() is None:
                super()._collect(taskid, future)

        def _get_result(self, taskid):
            if self._task_obj[taskid].done() and taskid not in self._taskresult:
                self._task_obj[taskid] = Future()
            return super()._get_result(taskid)

    done = _workflow(tmp_path, marker=str(tmp_path / "marker")).run(
        plugin=Plugin(n_procs=2, memory_gb=2.0)
    )
    assert {node.name: node.result.outputs.out for node in done.nodes()} == {
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
from bids_sr.execution import multiproc as fork_server
from bids_sr.execution.multiproc import ResilientMultiProc

fork_server._SHARED = ("nipype.pipeline.engine",)
if __name__ == "__main__":
    workflow = pe.Workflow("wf", base_dir={base!r})
    workflow.add_nodes([pe.Node(Spin(file={file!r}), name="spin")])
    workflow.run(plugin=ResilientMultiProc(n_procs=1, memory_gb=1.0))
"""


@pytest.mark.timeout(120)
def test_no_worker_outlives_a_killed_scheduler(tmp_path):
    """The worker is in compiled code that lets no other thread run: only the kernel can end it."""
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
    until = time.monotonic() + 10
    while Path(f"/proc/{worker}").exists() and "Z (" not in (
        Path(f"/proc/{worker}/status").read_text()
    ):
        assert time.monotonic() < until, "the worker still runs"
        time.sleep(0.05)


def test_sockets_are_made_where_the_temporary_folder_has_a_long_name(tmp_path):
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    code = (
        "from bids_sr.execution import multiproc as fork_server; fork_server._SHARED = ();"
        "fork_server.start_fork_server()"
    )
    run = [sys.executable, "-c", code]
    given = os.environ | {"TMPDIR": str(folder)}
    ended = subprocess.run(run, env=given, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
