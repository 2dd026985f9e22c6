"""A rerun uses only results that are unchanged since a step wrote them."""

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import networkx as nx
import numpy as np
import pytest
from nipype import config
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    traits,
)
from nipype.interfaces.utility import Merge
from nipype.pipeline import engine as pe
from nipype.pipeline.plugins.base import DistributedPluginBase

from bids_sr.engine import step_checksums
from bids_sr.engine.artifacts import Facts, File as GivenFile
from bids_sr.engine.flow import Flow, subworkflow
from bids_sr.engine.graph import Graph
from bids_sr.engine.nipype_workflow import make_workflow
from bids_sr.engine.nodes import Scope
from bids_sr.engine.records import FinishedSteps, StepRecordMixin, invalidate_damaged, record_files
from bids_sr.engine.step import Stage, step
from bids_sr.engine.store import RECORD as WRITTEN
from bids_sr.io.grids import LARGE_SERIES_BYTES
from bids_sr.io.notices import RECORD, Notice, read_record, record

STORED = "../../stored.tsv"
"""File that the step writes outside of its folder."""


class _In(BaseInterfaceInputSpec):
    value = traits.Int(3, usedefault=True)
    in_file = File()


class _Out(TraitedSpec):
    out_file = File()


class Write(SimpleInterface):
    """Write a number to a file, and a second file outside the directory of the step."""

    input_spec = _In
    output_spec = _Out

    def _run_interface(self, runtime):
        path = Path(runtime.cwd, "deep", "table.tsv")
        path.parent.mkdir()
        path.write_text(f"{self.inputs.value}\n")
        stored = Path(runtime.cwd, STORED).resolve()
        stored.write_text("stored\n")
        Path(runtime.cwd, WRITTEN).write_text(json.dumps([str(stored)]))
        self._results["out_file"] = str(path)
        return runtime


def write_node(root: Path) -> pe.Node:
    node = pe.Node(Write(), name="write", base_dir=str(root / "work"))
    options = {"create_report": "false", "remove_unnecessary_outputs": "false"}
    node.config = {"execution": {**config._sections["execution"], **options}}
    return node


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a step that has run and whose results are recorded."""
    node = write_node(tmp_path)
    node.run()
    record_files(Path(node.output_dir()))
    return Path(node.output_dir())


def test_unchanged_results_are_reused(folder: Path, tmp_path: Path) -> None:
    (folder / "_inputs.pklz").unlink()  # nipype rewrites its own records
    assert invalidate_damaged([write_node(tmp_path)]) == []
    assert write_node(tmp_path).is_cached() == (True, True)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def move_to_the_past(path: Path) -> None:
    os.utime(path, (1, 1))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *itertools.product(
            ("deep/table.tsv", "result_write.pklz", WRITTEN),
            (truncate, Path.unlink, move_to_the_past),
        ),
        # a derivative may be a copy, with another time
        (STORED, truncate),
        (STORED, Path.unlink),
    ],
)
def test_a_step_with_a_damaged_file_is_rerun(
    folder: Path, tmp_path: Path, damage: Callable[[Path], None], name: str
) -> None:
    damage(folder / name)
    node = write_node(tmp_path)
    assert invalidate_damaged([node]) == [node.fullname]
    assert node.is_cached() == (False, False)
    node.run()
    assert (folder / "deep/table.tsv").read_text() == "3\n"


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"result_write.pklz": 1}'])
def test_results_without_a_valid_record_are_not_reused(
    folder: Path, tmp_path: Path, text: str | None
) -> None:
    (record_file,) = (file for file in folder.glob("*.json") if "table" in file.read_text())
    record_file.unlink()
    if text is not None:
        record_file.write_text(text)
    assert len(invalidate_damaged([write_node(tmp_path)])) == 1


def test_files_of_an_unfinished_step_are_preserved(tmp_path: Path) -> None:
    """Training can resume from a checkpoint in the directory."""
    node = write_node(tmp_path)
    unfinished = Path(node.output_dir(), "_0x0_unfinished.json")
    unfinished.parent.mkdir(parents=True)
    unfinished.write_text("{}")
    assert invalidate_damaged([node]) == []
    assert unfinished.exists()


@step(Stage.EVALUATION)
def first(source: GivenFile, *, gain: float) -> Facts:
    return {"gain": gain, "size": source.stat().st_size}


@step(Stage.EVALUATION)
def second(first: Facts) -> Facts:
    return first


def _graph(source: Path, gain: float = 1.0) -> Graph:
    with Flow(root := Scope("wf")):
        size = first(source, gain=gain)
        with subworkflow("inner"):
            second(size)
    return Graph(root)


def _finish(work: Path, source: Path, gain: float = 1.0) -> FinishedSteps:
    return FinishedSteps(_graph(source, gain), work)


@pytest.fixture
def finished_steps(tmp_path: Path) -> tuple[Path, Path]:
    """Return the working directory of two finished steps and their input file."""
    work, source = tmp_path / "work", tmp_path / "given.txt"
    source.write_text("1")
    for folder in (work / "wf/first", work / "wf/inner/second"):
        folder.mkdir(parents=True)
        (folder / "made.json").write_text("{}")
        record_files(folder)
    return work, source


def _remaining(*call: object, **options: float) -> list[str]:
    return sorted(str(node_name) for node_name in _finish(*call, **options).unfinished_steps())  # type: ignore[arg-type]


_BOTH = ["wf.first", "wf.inner.second"]


def test_finished_steps_depend_on_inputs_and_code(
    finished_steps: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _remaining(*finished_steps) == _BOTH, "nothing was recorded yet"
    _finish(*finished_steps).write_requests()
    assert _remaining(*finished_steps) == []
    assert _remaining(*finished_steps, gain=2.0) == _BOTH
    _same_size_and_time(finished_steps[1], "2")
    assert _remaining(*finished_steps) == _BOTH
    _finish(*finished_steps).write_requests()
    assert _remaining(*finished_steps) == []
    for name, value in (
        ("digest_program", lambda: "another"),
        ("digest_files", lambda _: "another"),  # of this module
    ):
        with monkeypatch.context() as context:
            context.setattr(step_checksums, name, value)
            assert _remaining(*finished_steps) == _BOTH


@pytest.mark.parametrize(
    ("name", "left"),
    [("wf/first/made.json", _BOTH), ("wf/inner/second/_left-2.json", ["wf.inner.second"])],
)
def test_a_missing_file_invalidates_its_step_and_dependent_steps(
    finished_steps: tuple[Path, Path], name: str, left: list[str]
) -> None:
    _finish(*finished_steps).write_requests()
    (finished_steps[0] / name).unlink()
    assert _remaining(*finished_steps) == left


def test_folders_of_finished_steps_with_current_inputs(
    finished_steps: tuple[Path, Path],
) -> None:
    def folders(**options: float) -> list[Path | None]:
        graph = _graph(finished_steps[1], **options)
        find_folder = FinishedSteps(graph, finished_steps[0]).finished_folder()
        return [find_folder(node) for node in sorted(graph.nodes, key=str)]

    assert folders() == [None, None]
    _finish(*finished_steps).write_requests()
    work = finished_steps[0] / "wf"
    assert folders() == [work / "first", work / "inner" / "second"]
    (work / "inner/second/made.json").unlink()
    assert folders() == [work / "first", None]
    assert folders(gain=2.0) == [None, None]


def first_byte(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(1)


def test_large_images_no_longer_needed_are_emptied_and_recomputed_on_demand(
    finished_steps: tuple[Path, Path],
) -> None:
    first, second = (finished_steps[0] / name for name in ("wf/first", "wf/inner/second"))
    for name, size in (("series.nii", LARGE_SERIES_BYTES), ("small.nii", 50)):
        (first / name).write_bytes(b"x")
        os.truncate(first / name, size)
    (first / "_0xabcd.json").write_text("{}")
    os.link(first / "series.nii", finished_steps[0] / "other name")
    record_files(first)
    _finish(*finished_steps).write_requests()
    plugin = StepRecordMixin()
    plugin.procs = [SimpleNamespace(output_dir=lambda: str(first))]  # type: ignore[list-item]
    plugin.proc_done, plugin.proc_pending = [True], [False]
    for reads in (1, 0):
        assert first_byte(first / "series.nii") == b"x"
        plugin.refidx = np.array([[reads]])
        plugin._remove_node_dirs()
    assert first_byte(first / "series.nii") == b"\0"
    assert first_byte(first / "small.nii") == first_byte(finished_steps[0] / "other name") == b"x"
    assert _remaining(*finished_steps) == [], "emptied files must count as unchanged"
    (second / "made.json").unlink()
    finish = _finish(*finished_steps)
    assert sorted(map(str, finish.unfinished_steps())) == _BOTH, (
        "the second step would read a hole"
    )
    finish.write_requests(finish.unfinished_steps())
    assert not (first / "_0xabcd.json").exists(), "nipype would consider the step finished"


def test_reading_a_merged_list_counts_as_reading_its_files() -> None:
    class Plugin(StepRecordMixin, DistributedPluginBase):
        pass

    first_source, second_source, other_reader, reader = (
        pe.Node(Write(), name=name) for name in ("a", "b", "c", "d")
    )
    merge_node = pe.Node(Merge(2), name="m")
    plugin = Plugin.__new__(Plugin)
    edges = [
        (first_source, merge_node),
        (second_source, merge_node),
        (merge_node, reader),
        (first_source, other_reader),
    ]
    plugin._generate_dependency_list(nx.DiGraph(edges))
    positions = {node.name: k for k, node in enumerate(plugin.procs)}
    reads = np.asarray(plugin.refidx.todense())
    assert reads[positions["a"]].sum() == 3  # the list, its reader, and the other step
    assert reads[positions["b"], positions["d"]] == 1
    assert reads[positions["c"]].sum() == reads[positions["d"]].sum() == 0


def test_steps_finished_before_an_interruption_are_not_rerun(
    finished_steps: tuple[Path, Path],
) -> None:
    """In this test, the second step was finished earlier with another gain in the first step."""
    _finish(*finished_steps).write_requests()
    stopped = _finish(*finished_steps, gain=2.0)
    stopped.write_requests(stopped.unfinished_steps())
    assert _remaining(*finished_steps, gain=2.0) == _remaining(*finished_steps) == _BOTH
    first = finished_steps[0] / "wf/first"
    (first / "made.json").write_text("{ }")
    record_files(first)
    assert _remaining(*finished_steps, gain=2.0) == ["wf.inner.second"]


def test_warnings_of_reused_steps_are_repeated_once(
    finished_steps: tuple[Path, Path], tmp_path: Path
) -> None:
    work, source = finished_steps
    notices = [Notice(what=name, why="odd", level="warning", code="step") for name in ("a", "b")]
    record(work / "wf/first", notices)
    record(work / "wf/inner/second", notices[1:])
    record(tmp_path, notices[:1])
    _finish(work, source).repeat_warnings(tmp_path)
    assert (tmp_path / RECORD).read_text().count("\n") == 2
    assert read_record(tmp_path) == notices


def _same_size_and_time(path: Path, text: str) -> None:
    before = path.stat()
    assert len(text) == before.st_size
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@step(Stage.EVALUATION)
def hand_on(source: GivenFile) -> GivenFile:
    """Return an input unchanged, as the import of an uncompressed series does."""
    return source


@step(Stage.EVALUATION)
def read(hand_on: GivenFile) -> Facts:
    return {"text": hand_on.read_text()}


def test_a_changed_file_is_read_again_through_a_step_that_passes_it_on(tmp_path: Path) -> None:
    source = tmp_path / "given.txt"
    source.write_text("1")

    def results() -> list[str]:
        with Flow(root := Scope("wf")):
            read(hand_on(source))
        flow = make_workflow(Graph(root), base_dir=tmp_path / "work", need_gb=lambda need: 0.1)
        flow.run()
        return [json.loads((tmp_path / "work/wf/read/read.json").read_text())["text"]]

    assert results() == ["1"]
    stamp = (tmp_path / "work/wf/read/read.json").stat().st_mtime_ns
    assert results() == ["1"]
    assert (tmp_path / "work/wf/read/read.json").stat().st_mtime_ns == stamp, "nothing ran"
    _same_size_and_time(source, "2")
    assert results() == ["2"]
