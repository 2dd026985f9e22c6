"""A rerun takes over nothing that is not as a step left it."""

import json
import os
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

from bids_sr.execution import records
from bids_sr.execution.records import (
    _RECORD,
    Finish,
    NotesLeft,
    _intact,
    forget_damaged,
    note_left,
)
from bids_sr.notices import RECORD, Notice, record, recorded
from bids_sr.pipeline.artifacts import Facts
from bids_sr.pipeline.artifacts import File as GivenFile
from bids_sr.pipeline.flow import Flow, subworkflow
from bids_sr.pipeline.graph import Graph
from bids_sr.pipeline.nipype_workflow import workflow_of
from bids_sr.pipeline.nodes import Scope
from bids_sr.pipeline.step import step
from bids_sr.pipeline.store import RECORD as WRITTEN


class _In(BaseInterfaceInputSpec):
    value = traits.Int(3, usedefault=True)
    in_file = File()


class _Out(TraitedSpec):
    out_file = File()


class Write(SimpleInterface):
    """Write a number to a file, and another one outside."""

    input_spec = _In
    output_spec = _Out

    def _run_interface(self, runtime):
        path = Path(runtime.cwd, "deep", "table.tsv")
        path.parent.mkdir()
        path.write_text(f"{self.inputs.value}\n")
        stored = Path(runtime.cwd).parents[1] / "stored.tsv"
        stored.write_text("stored\n")
        Path(runtime.cwd, WRITTEN).write_text(json.dumps([str(stored)]))
        self._results["out_file"] = str(path)
        return runtime


@pytest.fixture
def node(tmp_path: Path) -> pe.Node:
    """A step that has run, and what it left noted."""
    made = _node(tmp_path)
    made.run()
    note_left(Path(made.output_dir()))
    return made


def _node(tmp_path: Path) -> pe.Node:
    made = pe.Node(Write(), name="write", base_dir=str(tmp_path / "work"))
    own = {"create_report": "false", "remove_unnecessary_outputs": "false"}
    made.config = {"execution": {**config._sections["execution"], **own}}
    return made


def test_what_is_as_it_was_left_is_kept(node: pe.Node, tmp_path: Path) -> None:
    folder = Path(node.output_dir())
    stamps = json.loads((folder / _RECORD).read_text())
    assert sorted(stamps) == sorted(
        [str(tmp_path / "stored.tsv"), "deep/table.tsv", "result_write.pklz", WRITTEN]
    )
    assert forget_damaged([_node(tmp_path)]) == []
    assert _node(tmp_path).is_cached() == (True, True)
    (folder / "_inputs.pklz").unlink()  # nipype's own notes, which it may write anew
    assert _intact(folder)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _into_the_future(path: Path) -> None:
    os.utime(path, (4e9, 4e9))


def _into_the_past(path: Path) -> None:
    os.utime(path, (1, 1))


@pytest.mark.parametrize("damage", [_cut, _empty, Path.unlink, _into_the_future, _into_the_past])
@pytest.mark.parametrize("name", ["deep/table.tsv", "result_write.pklz", WRITTEN])
def test_a_damaged_file_makes_the_step_run_again(
    node: pe.Node, tmp_path: Path, damage, name: str
) -> None:
    folder = Path(node.output_dir())
    damage(folder / name)
    again = _node(tmp_path)
    assert forget_damaged([again]) == [again.fullname]
    assert again.is_cached() == (False, False)
    assert not _intact(folder)
    again.run()
    assert (folder / "deep/table.tsv").read_text() == "3\n"


@pytest.mark.parametrize("damage", [_cut, Path.unlink])
def test_a_damaged_derivative_makes_the_step_run_again(
    node: pe.Node, tmp_path: Path, damage
) -> None:
    damage(tmp_path / "stored.tsv")
    assert len(forget_damaged([_node(tmp_path)])) == 1


@pytest.mark.parametrize("note", [None, "", "{", "[]", "{}", '{"result_write.pklz": 1}'])
def test_without_a_note_that_can_be_read_nothing_is_trusted(
    node: pe.Node, tmp_path: Path, note: str | None
) -> None:
    path = Path(node.output_dir(), _RECORD)
    path.unlink()
    if note is not None:
        path.write_text(note)
    assert len(forget_damaged([_node(tmp_path)])) == 1


def test_what_an_earlier_version_left_is_made_anew(node: pe.Node, tmp_path: Path) -> None:
    """Lists were lists of files before they were one file: nipype could not load them."""
    folder = Path(node.output_dir())
    (folder / _RECORD).rename(folder / "_left.json")
    assert len(forget_damaged([_node(tmp_path)])) == 1


def test_a_step_that_never_ended_is_left_to_nipype(tmp_path: Path) -> None:
    """Its directory may hold a checkpoint of training, from which it goes on."""
    waiting = _node(tmp_path)
    folder = Path(waiting.output_dir())
    folder.mkdir(parents=True)
    (folder / "_0x0_unfinished.json").write_text("{}")
    assert forget_damaged([waiting]) == []
    assert (folder / "_0x0_unfinished.json").exists()


@step()
def first(given: GivenFile, *, gain: float) -> Facts:
    return {"gain": gain, "size": given.stat().st_size}


@step()
def second(first: Facts) -> Facts:
    return first


def _finish(work: Path, given: Path, gain: float = 1.0) -> Finish:
    with Flow(root := Scope("wf")):
        made = first(given, gain=gain)
        with subworkflow("inner"):
            second(made)
    return Finish(Graph(root), work)


@pytest.fixture
def ended(tmp_path: Path) -> tuple[Path, Path]:
    """Folder of work of two steps that have ended, and the file that they were given."""
    work, given = tmp_path / "work", tmp_path / "given.txt"
    given.write_text("1")
    for folder in (work / "wf/first", work / "wf/inner/second"):
        folder.mkdir(parents=True)
        (folder / "made.json").write_text("{}")
        note_left(folder)
    return work, given


def _left(*call: object, **asked: float) -> list[str]:
    return sorted(str(each) for each in _finish(*call, **asked).left())  # type: ignore[arg-type]


_BOTH = ["wf.first", "wf.inner.second"]


def test_steps_that_ended_are_known_by_all_that_they_were_given(
    ended: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _left(*ended) == _BOTH, "nobody has noted it"
    _finish(*ended).note()
    assert _left(*ended) == []
    assert _left(*ended, gain=2.0) == _BOTH
    ended[1].write_text("12")
    assert _left(*ended) == _BOTH
    _finish(*ended).note()
    monkeypatch.setattr("bids_sr.execution.records.__version__", "another")
    assert _left(*ended) == _BOTH


@pytest.mark.parametrize(
    ("name", "left"),
    [("wf/first/made.json", _BOTH), ("wf/inner/second/_left-2.json", ["wf.inner.second"])],
)
def test_a_step_whose_file_is_gone_is_left_with_what_follows(
    ended: tuple[Path, Path], name: str, left: list[str]
) -> None:
    _finish(*ended).note()
    (ended[0] / name).unlink()
    assert _left(*ended) == left


def test_folders_are_given_of_steps_that_have_ended_with_what_they_are_given_now(
    ended: tuple[Path, Path],
) -> None:
    def folders(**asked: float) -> list[Path | None]:
        finish = _finish(*ended, **asked)
        return [finish.ended()(placed) for placed in finish._steps]

    assert folders() == [None, None]
    _finish(*ended).note()
    work = ended[0] / "wf"
    assert folders() == [work / "first", work / "inner" / "second"]
    (work / "inner/second/made.json").unlink()
    assert folders() == [work / "first", None]
    assert folders(gain=2.0) == [None, None]


def test_large_images_that_nobody_reads_any_more_leave_holes_and_are_made_again_where_asked_for(
    ended: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_LARGE", 100)
    first, second = (ended[0] / name for name in ("wf/first", "wf/inner/second"))
    (first / "series.nii").write_bytes(b"x" * 200)
    (first / "small.nii").write_bytes(b"x" * 50)
    (first / "_0xabcd.json").write_text("{}")
    os.link(first / "series.nii", ended[0] / "other name")
    note_left(first)
    _finish(*ended).note()
    plugin = NotesLeft()
    plugin.procs = [SimpleNamespace(output_dir=lambda: str(first))]  # type: ignore[list-item]
    plugin.proc_done, plugin.proc_pending = [True], [False]
    for reads, keeps in ((1, False), (0, True), (0, False)):
        assert (first / "series.nii").read_bytes() == b"x" * 200
        plugin.refidx, plugin.keeps = np.array([[reads]]), keeps
        plugin._remove_node_dirs()
    assert (first / "series.nii").read_bytes() == b"\0" * 200
    assert (first / "small.nii").read_bytes() == b"x" * 50
    assert (ended[0] / "other name").read_bytes() == b"x" * 200
    assert _left(*ended) == [], "all counts as it was left"
    (second / "made.json").unlink()
    finish = _finish(*ended)
    assert sorted(map(str, finish.left())) == _BOTH, "the second step would read a hole"
    finish.note(finish.left())
    assert not (first / "_0xabcd.json").exists(), "nipype would take it for done"


def test_what_reads_a_merged_list_reads_the_files_that_it_names() -> None:
    class Plugin(NotesLeft, DistributedPluginBase):
        pass

    one, two, other, reader = (pe.Node(Write(), name=name) for name in ("a", "b", "c", "d"))
    merged = pe.Node(Merge(2), name="m")
    plugin = Plugin.__new__(Plugin)
    edges = [(one, merged), (two, merged), (merged, reader), (one, other)]
    plugin._generate_dependency_list(nx.DiGraph(edges))
    at = {node.name: k for k, node in enumerate(plugin.procs)}
    reads = np.asarray(plugin.refidx.todense())
    assert reads[at["a"]].sum() == 3  # the list, what reads it, and the other step
    assert reads[at["b"], at["d"]] == 1
    assert reads[at["c"]].sum() == reads[at["d"]].sum() == 0


def test_a_call_that_runs_steps_takes_back_what_others_have_noted(
    ended: tuple[Path, Path],
) -> None:
    _finish(*ended).note()
    other = _finish(*ended, gain=2.0)
    other.note(other.left())
    assert _left(*ended) == _BOTH


def test_of_a_call_that_was_stopped_the_steps_that_ended_since_are_not_left(
    ended: tuple[Path, Path],
) -> None:
    """The second step had ended before, with another gain in the first."""
    _finish(*ended).note()
    stopped = _finish(*ended, gain=2.0)
    stopped.note(stopped.left())
    assert _left(*ended, gain=2.0) == _BOTH
    first = ended[0] / "wf/first"
    (first / "made.json").write_text("{ }")
    note_left(first)
    assert _left(*ended, gain=2.0) == ["wf.inner.second"]


def test_what_steps_warned_of_is_told_once_by_a_call_that_does_not_run_them(
    ended: tuple[Path, Path], tmp_path: Path
) -> None:
    work, given = ended
    found = [Notice(what=name, why="odd", level="warning", code="step") for name in ("a", "b")]
    record(work / "wf/first", found)
    record(work / "wf/inner/second", found[1:])
    record(tmp_path, found[:1])
    _finish(work, given).retell(tmp_path)
    assert (tmp_path / RECORD).read_text().count("\n") == 2
    assert recorded(tmp_path) == found


def _same_size_and_time(path: Path, text: str) -> None:
    before = path.stat()
    assert len(text) == before.st_size
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_file_of_another_content_is_another_one_whatever_its_size_and_time(
    ended: tuple[Path, Path],
) -> None:
    _finish(*ended).note()
    _same_size_and_time(ended[1], "2")
    assert _left(*ended) == _BOTH


@step()
def hand_on(given: GivenFile) -> GivenFile:
    """Return an input as it is, as the import of an uncompressed series does."""
    return given


@step()
def read(hand_on: GivenFile) -> Facts:
    return {"text": hand_on.read_text()}


def test_steps_read_a_changed_file_again_through_one_that_hands_it_on(tmp_path: Path) -> None:
    given = tmp_path / "given.txt"
    given.write_text("1")

    def results() -> list[str]:
        with Flow(root := Scope("wf")):
            read(hand_on(given))
        flow = workflow_of(Graph(root), base_dir=tmp_path / "work", need_gb=lambda need: 0.1)
        flow.run()
        return [json.loads((tmp_path / "work/wf/read/read.json").read_text())["text"]]

    assert results() == ["1"]
    stamp = (tmp_path / "work/wf/read/read.json").stat().st_mtime_ns
    assert results() == ["1"]
    assert (tmp_path / "work/wf/read/read.json").stat().st_mtime_ns == stamp, "nothing ran"
    _same_size_and_time(given, "2")
    assert results() == ["2"]
