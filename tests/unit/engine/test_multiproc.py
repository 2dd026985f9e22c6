"""The scheduler orders steps by their use, and ends even if its workers fail."""

import logging
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from dyingnode import Die, Full
from networkx import DiGraph
from nipype.pipeline import engine as pe
from scipy.sparse import lil_matrix

from bids_sr.engine.execute import configure_nipype, execute
from bids_sr.engine.multiproc import ResilientMultiProc
from bids_sr.engine.step_warnings import save_warnings
from bids_sr.engine.store import store
from bids_sr.evaluation.steps.run_verdict import decide_verdict
from bids_sr.io.notices import CODES, Notice, read_record
from bids_sr.preproc.steps.bold_reference import mask_head
from bids_sr.report.figure_steps.anatomy import draw_brain

TESTS, ROOT = Path(__file__).parents[2], Path(__file__).parents[3]
RESULTS = {"first": 2, "other": 11, "last": 3}
OPTIONS = {
    "poll_sleep_duration": "0.05",
    "crashfile_format": "txt",
    "stop_on_first_crash": "false",
    "remove_unnecessary_outputs": "false",
}


@pytest.fixture(autouse=True, scope="module")
def small_fork_server() -> Iterator[None]:
    """Reduce the modules of the fork server: nodes of these tests compute nothing."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            "bids_sr.engine.fork_server._PRELOADED_MODULES", ("nipype.pipeline.engine",)
        )
        yield


def workflow(base: Path, **inputs: Any) -> pe.Workflow:
    """Return the graph first → last and an independent step; `inputs` are those of the first."""
    flow = pe.Workflow("wf", base_dir=str(base))
    flow.config["execution"] = OPTIONS | {"crashdump_dir": str(base)}
    first, independent, last = (
        pe.Node(Die(), name=name, mem_gb=0.1) for name in ("first", "other", "last")
    )
    first.inputs.value, independent.inputs.value = 1, 10
    first.inputs.trait_set(**inputs)
    flow.connect(first, "out", last, "value")
    flow.add_nodes([independent])
    return flow


def run(flow: pe.Workflow, plugin: type[ResilientMultiProc] = ResilientMultiProc) -> dict:
    graph = flow.run(plugin=plugin(n_procs=2, memory_gb=2.0))
    return {node.name: node.result.outputs.out for node in graph.nodes()}


class LosesTasks(ResilientMultiProc):
    """Scheduler whose pool breaks while a task is submitted, which then never ends."""

    def _store_outcome(self, taskid, future):
        if future.exception() is None:
            super()._store_outcome(taskid, future)

    def _get_result(self, taskid):
        if self._task_obj[taskid].done() and taskid not in self._taskresult:
            self._task_obj[taskid] = Future()
        return super()._get_result(taskid)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("plugin", [ResilientMultiProc, LosesTasks])
def test_a_step_killed_once_is_retried(tmp_path: Path, plugin: type[ResilientMultiProc]) -> None:
    assert run(workflow(tmp_path, marker=str(tmp_path / "marker")), plugin) == RESULTS


@pytest.mark.timeout(120)
def test_a_step_killed_twice_is_reported_and_other_steps_run(tmp_path: Path) -> None:
    """Pools register a worker only after its start; an unregistered worker would run the step
    concurrently with the retry.
    """
    late_worker = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(60,))
    alive_workers = []

    class StartsWorkerLate(ResilientMultiProc):
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

    start = time.monotonic()
    with pytest.raises(RuntimeError, match="first"):
        run(workflow(tmp_path, always=True), StartsWorkerLate)
    assert time.monotonic() - start < 60
    assert alive_workers
    assert not any(alive_workers)
    assert (tmp_path / "wf/other/result_other.pklz").exists()
    (crash,) = tmp_path.glob("crash*first*.txt")
    assert CODES["killed"][1] in crash.read_text()
    failed = [notice for notice in read_record(tmp_path) if notice.failed]
    assert [(n.what, n.code, n.file) for n in failed] == [("wf.first", "killed", str(crash))]


@pytest.mark.timeout(120)
def test_a_full_disk_ends_the_run_at_once(tmp_path: Path, caplog) -> None:
    """Other steps would all fail for the same reason."""
    flow = workflow(tmp_path)
    flow.add_nodes([pe.Node(Full(value=n), name=f"full{n}", mem_gb=0.1) for n in range(12)])
    execution_config = flow.config["execution"]
    configure_nipype(stop_on_first_crash=False, verbose=False)
    flow.config["execution"] = execution_config
    with caplog.at_level(logging.ERROR, logger="bids_sr"):
        outcome = execute(flow, nprocs=1, mem_gb=2.0, crash_dir=tmp_path)
    (full_disk,) = outcome.crashes
    assert full_disk.code == "full"
    assert [notice for notice in read_record(tmp_path) if notice.failed] == [full_disk]
    assert CODES["full"][1] in Path(full_disk.file).read_text()
    assert [full_disk.file in record.getMessage() for record in caplog.records] == [True]


SCRIPT = """
import sys
from pathlib import Path
from bids_sr.engine import fork_server
from test_multiproc import run, workflow

fork_server._PRELOADED_MODULES = ("nipype.pipeline.engine",)
if __name__ == "__main__":
    run(workflow(Path(sys.argv[1])))
"""


@pytest.mark.timeout(120)
def test_warnings_of_steps_are_recorded_once_and_not_printed(tmp_path: Path) -> None:
    """The workers import the installed package, not another version in the current directory,
    and their server starts although the name of the temporary directory is long.
    """
    script, checkout = tmp_path / "program" / "script.py", tmp_path / "checkout" / "bids_sr"
    long_folder = tmp_path / ("long" * 25)
    for folder in (script.parent, checkout, long_folder):
        folder.mkdir(parents=True)
    script.write_text(SCRIPT)
    (checkout / "__init__.py").write_text("raise SystemExit('of another version')")
    paths = os.pathsep.join(map(str, (ROOT, TESTS, Path(__file__).parent)))
    environment = {"PYTHONPATH": paths, "PYTHONSAFEPATH": "", "TMPDIR": str(long_folder)}
    process = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        cwd=checkout.parent,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    )
    assert "the value" not in process.stdout + process.stderr
    recorded = sorted((notice.why, notice.what) for notice in read_record(tmp_path))
    assert recorded == [
        ("the value is 0", "wf.last"),
        ("the value is 0", "wf.other"),
        ("the value is 1", "wf.first"),
    ]
    for name in RESULTS:
        (notice,) = read_record(tmp_path / "wf" / name)
        assert notice.what == f"wf.{name}"


def test_a_step_continues_if_its_warning_cannot_be_written(tmp_path: Path) -> None:
    step_dir, owner = tmp_path / "b", ("01", "sub-01_task-a")
    step = SimpleNamespace(fullname="wf.b", owner=owner, output_dir=lambda: str(step_dir))
    logger = logging.getLogger("bids_sr")
    before = list(logger.handlers)
    save_warnings(tmp_path / "nowhere", step)
    logging.getLogger("bids_sr.test").warning("lost")
    assert read_record(tmp_path / "nowhere") == []
    save_warnings(tmp_path, step)
    logging.getLogger("bids_sr.test").warning("found")
    logger.handlers = before
    about = {"subject": "01", "run": "sub-01_task-a", "level": "warning", "code": "step"}
    assert read_record(tmp_path) == [Notice(what="wf.b", why="found", **about)]


DRIVER = """
import sys
from dyingnode import Spin
from nipype.pipeline import engine as pe
from bids_sr.engine import fork_server
from bids_sr.engine.multiproc import ResilientMultiProc

fork_server._PRELOADED_MODULES = ("nipype.pipeline.engine",)
if __name__ == "__main__":
    flow = pe.Workflow("wf", base_dir=sys.argv[1])
    flow.add_nodes([pe.Node(Spin(file=sys.argv[2]), name="spin")])
    flow.run(plugin=ResilientMultiProc(n_procs=1, memory_gb=1.0))
"""


@pytest.mark.timeout(120)
def test_no_worker_outlives_a_killed_scheduler(tmp_path: Path) -> None:
    """Compiled code in the worker blocks other threads, so only the kernel can end it."""
    file, script = tmp_path / "pid", tmp_path / "driver.py"
    script.write_text(DRIVER)
    driver = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), str(file)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
    )
    try:
        while not (file.exists() and file.read_text()):
            assert driver.poll() is None
            time.sleep(0.1)
        status = Path(f"/proc/{file.read_text()}/status")
        assert status.exists()
    finally:
        driver.kill()
        driver.wait()
    deadline = time.monotonic() + 10
    while status.exists() and "Z (" not in status.read_text():
        assert time.monotonic() < deadline, "the worker still runs"
        time.sleep(0.05)


def node(name: str, seconds: float, step: object = mask_head, *, light: bool = False) -> pe.Node:
    """Return a step of participant 01; `light`: the scheduler itself runs it."""
    step_node = pe.Node(Die(), name=name, run_without_submitting=light)
    step_node.owner, step_node.seconds, step_node.interface.step = ("01", ""), seconds, step
    return step_node


def order(graph: DiGraph, n_procs: int = 2, ready: tuple[str, ...] = ()) -> list[str]:
    """Return the names of steps in the order in which they start, if all inputs existed."""
    plugin = ResilientMultiProc(n_procs=n_procs, memory_gb=2.0)
    plugin._generate_dependency_list(graph)
    jobs = [job for job, step in enumerate(plugin.procs) if not ready or step.name in ready]
    return [plugin.procs[job].name for job in plugin._sort_jobs(jobs)]


def test_results_run_before_figures_and_participants_in_order() -> None:
    graph = DiGraph([(node("long", 5.0), node("last", 8.0))])
    other_participant = node("other", 99.0)
    other_participant.owner = ("02", "")
    graph.add_nodes_from([node("short", 9.0), node("drawn", 60.0, draw_brain), other_participant])
    assert order(graph) == ["long", "short", "last", "drawn", "other"]


def test_steps_before_the_first_verdict_run_first() -> None:
    """Two runs are each mapped, judged, and compared in a slow table."""
    anatomy = node("anatomy", 1.0)
    graph = DiGraph()
    for run_number in "12":
        mapped = node(f"map{run_number}", 2.0)
        judge = node(f"judge{run_number}", 0.1, decide_verdict)
        judge.owner = "01", f"run-{run_number}"
        table, figure = node(f"table{run_number}", 50.0), node(f"fig{run_number}", 90, draw_brain)
        graph.add_edges_from([(anatomy, mapped), (mapped, judge), (mapped, table)])
        graph.add_edge(judge, figure)
    # a second step before the first verdict, on the longer path
    first = next(candidate for candidate in graph if candidate.name == "judge1")
    graph.add_edge(node("slow", 3.0), first)
    assert order(graph) == [
        *("anatomy", "slow", "map1", "judge1", "map2", "judge2", "table1"),
        *("table2", "fig1", "fig2"),
    ]


@pytest.mark.parametrize("n_procs", [1, 2])
def test_long_training_starts_together_with_the_steps_of_the_first_verdict(n_procs: int) -> None:
    """Training of a network takes 60 s; the other method is judged earlier. A single worker does
    not begin with the training.
    """
    motion, training = node("motion", 5.0), node("training", 60.0)
    mapped, first = node("map", 9.0), node("first_judge", 0.1, decide_verdict)
    resolved, last = node("resolve", 9.0), node("judge", 0.1, decide_verdict)
    edges = [(motion, mapped), (mapped, first), (training, resolved), (motion, resolved)]
    edges += [(resolved, last), (mapped, last), (last, node("figure", 300.0, draw_brain))]
    later, early = ["training", "resolve", "judge"], ["motion", "map", "first_judge"]
    expected = [*(early + later if n_procs == 1 else later + early), "figure"]
    assert order(DiGraph(edges), n_procs) == expected


def test_awaited_files_are_stored_before_the_training() -> None:
    """The first page waits for its figure and the maps that it names, not for other files."""
    motion, training = node("motion", 5.0), node("training", 60.0)
    mapped, first = node("map", 9.0), node("first_judge", 0.1, decide_verdict)
    error, screen = node("error", 6.0), node("screen", 1.0, draw_brain)
    last, other = node("judge", 0.1, decide_verdict), node("other", 1.0, draw_brain)
    stored = [node(f"{name}_file", 0.1) for name in ("screen", "map", "motion")]
    for file, is_awaited in zip(stored, (True, True, False), strict=True):
        file._interface = store.interface(awaited=is_awaited)
    edges = [(motion, mapped), (mapped, first), (mapped, error), (error, screen), (first, screen)]
    edges += [(screen, stored[0]), (error, stored[1]), (motion, stored[2])]
    edges += [(training, last), (mapped, last), (motion, last), (motion, other)]
    names = order(DiGraph(edges), n_procs=1)
    assert names.index("first_judge") < names.index("screen") < names.index("training")
    assert {*names[: names.index("training")]} == {
        *("motion", "map", "first_judge", "error", "screen", "screen_file", "map_file")
    }
    assert {*names[names.index("judge") + 1 :]} == {"other", "motion_file"}


def test_dependency_sums_are_cached_until_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, last = (node(name, 1.0) for name in ("first", "second", "last"))
    plugin = ResilientMultiProc(n_procs=2, memory_gb=2.0)
    plugin._generate_dependency_list(DiGraph([(first, last), (second, last)]))
    plugin.mapnodesubids, plugin._status_callback = {}, None  # as nipype's loop sets them
    sum_calls = []
    sums = lil_matrix.sum
    monkeypatch.setattr(lil_matrix, "sum", lambda *args: sum_calls.append(args) or sums(*args))
    job_numbers = {step.name: job for job, step in enumerate(plugin.procs)}

    def waiting() -> list[int]:
        counts = plugin.depidx.sum(axis=0)
        assert np.array_equal(plugin.depidx.sum(0), counts)
        return [int(counts[0, job_numbers[name]]) for name in ("first", "second", "last")]

    assert waiting() == [0, 0, 2]
    assert len(sum_calls) == 1
    plugin._task_finished_cb(job_numbers["first"])
    assert waiting() == [0, 0, 1]
    plugin._task_finished_cb(job_numbers["second"])
    assert waiting() == [0, 0, 0]
    assert len(sum_calls) == 3
    plugin.depidx[job_numbers["first"], job_numbers["last"]] = 1
    assert waiting() == [0, 0, 1]
