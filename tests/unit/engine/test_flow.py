"""Calls of steps: nodes inside a flow, results outside."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from bids_sr.engine.artifacts import Artifact, Derivative, Facts, File, Image, Map, Mask, Series
from bids_sr.engine.flow import Eager, Flow, add_methods_text, concatenate, subworkflow
from bids_sr.engine.graph import Graph
from bids_sr.engine.nipype_workflow import make_workflow
from bids_sr.engine.nodes import GraphError, Scope
from bids_sr.engine.outputs import Outputs
from bids_sr.engine.step import HERE, Part, Stage, step
from bids_sr.engine.store import store
from bids_sr.io.frozen import frozen
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.volume import Volume

VALUES = np.arange(96, dtype=np.float32).reshape(4, 4, 2, 3)
AFFINE = np.diag([2.0, 2, 3, 1])


@frozen
class Note(Artifact):
    """Text that is stored in a file."""

    text: str

    def save(self, stem: Path) -> Path:
        (path := stem.with_suffix(".txt")).write_text(self.text)
        return path

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls(text=path.read_text())


@frozen
class Verse(Note):
    """Text of another type."""


@step(Stage.EVALUATION)
def take_note(boldref: Image) -> Note:
    """Note the number of voxels."""
    return Note(text=f"{boldref.data.size} voxels")


@step(Stage.EVALUATION)
def shorten(notes: list[Note]) -> Note:
    """Keep the number of each note."""
    return Note(text=" ".join(note.text.split()[0] for note in notes))


@step(Stage.EVALUATION)
def recite(verse: Verse) -> Facts:
    """Return a verse as facts."""
    return {"verse": verse.text}


@step(Stage.EVALUATION, makes="n_dummy")
def count_dummies(bold: Series) -> int:
    """Count non-steady-state volumes."""
    return bold.shape[3] - 2


@step(Stage.EVALUATION, makes="boldref")
def average_volumes(bold: Series, *, n_dummy: int) -> Image:
    """Average steady-state volumes."""
    volumes = [bold.volume(t) for t in range(n_dummy, bold.shape[3])]
    return Volume(np.mean(volumes, axis=0), bold.affine)


@step(Stage.EVALUATION, makes="mask")
def threshold(boldref: Image, region: Mask | None = None, *, level: float = 1.0) -> Mask:
    """Find where an image is at least a level, in a region if there is one."""
    inside = boldref.data >= level
    return boldref.like(inside if region is None else inside & region.data)


@step(Stage.EVALUATION, makes=("series", "facts"))
def double_series(bold: Series, *, here: Path = HERE, name: str) -> tuple[Series, Facts]:
    """Double a series that is stored in the folder of the step."""
    values = 2 * np.stack(list(bold.volumes()), -1)
    save_image(values, bold.affine, here / "double.nii", tr=2.0)
    return SeriesReader(here / "double.nii"), {"name": name}


@step(Stage.EVALUATION, makes="maps")
def map_effects(boldref: Image, mask: Mask, *, name: str) -> list[Map]:
    """Make two maps."""
    entities = {"contrast": "tap", "desc": name, "suffix": "statmap"}
    values = boldref.like(boldref.data * mask.data)
    return [Derivative(values, {**entities, "stat": stat}, {"Units": stat}) for stat in ("t", "z")]


@step(Stage.EVALUATION)
def list_maps(maps: Sequence[Map], series: dict[str, Series]) -> Facts:
    """List maps and the means of series."""
    means = {name: float(item.volume(0).mean()) for name, item in series.items()}
    return {"maps": [item.name for item in maps], "means": means}


@step(Stage.EVALUATION, makes="weights")
def name_weights(*, file: Path | None = None) -> File:
    """Return a file that is a setting."""
    assert file is not None
    return file


@pytest.fixture
def bold(tmp_path: Path) -> Path:
    save_image(VALUES, AFFINE, tmp_path / "bold.nii", tr=2.0)
    return tmp_path / "bold.nii"


def _process(bold: Series, outputs: Outputs) -> Facts:
    """Run a small workflow with maps of two series, and store one of the series."""
    n_dummy = count_dummies(bold)
    boldref = average_volumes(bold, n_dummy=n_dummy)
    add_methods_text(Part.PREPROCESSING, "Volumes were averaged.")
    outputs.store(boldref, {"desc": "hmc", "suffix": "boldref"}, sidecar={"SkullStripped": False})
    mask = threshold(boldref)
    outputs = outputs.with_references(own=boldref)
    maps, series = [], {}
    for name in ("bspline", "sbl"):
        with subworkflow(name, stored=name == "sbl", described=name == "sbl"):
            series[name], facts = double_series(bold, name=name)
            maps.append(map_effects(boldref, mask, name=name))
            outputs.store(maps[-1])
            outputs.store(facts, {"desc": name, "suffix": "metrics"}, level="full")
            add_methods_text(Part.MAPS, f"Effects in {name} were mapped.")
    return list_maps(concatenate(maps), series)


def _outputs(folder: Path) -> Outputs:
    entities = {"subject": "01", "task": "tap", "datatype": "func"}
    return Outputs(output_dir=folder, entities=entities)


def _graph(bold: Path, folder: Path) -> Graph:
    root = Scope("all_wf", store=store)
    with Flow(root), subworkflow("run_wf", participant="01", run="sub-01_task-tap"):
        _process(bold, _outputs(folder))  # type: ignore[arg-type]
    return Graph(root)


def test_calls_in_a_flow_become_nodes_whose_results_are_stored(bold: Path, tmp_path: Path) -> None:
    graph = _graph(bold, tmp_path / "out")
    flow = make_workflow(graph, base_dir=tmp_path / "work", need_gb=lambda need: need.always)
    nodes = {node.fullname: node for node in flow.run().nodes()}
    list_file = nodes["all_wf.run_wf.list_maps"].result.outputs.list_maps
    mean = f"{2 * VALUES[..., 0].mean():.1f}"
    text = Path(list_file).read_text()
    assert re.findall(r'"(\w+)": ([\d.]+)', text) == [("bspline", mean), ("sbl", mean)]
    assert text.index("desc-bspline_stat-t") < text.index("desc-sbl_stat-z")
    func = tmp_path / "out" / "sub-01" / "func"
    maps = [f"contrast-tap_stat-{stat}_desc-sbl_statmap.nii.gz" for stat in "tz"]
    stored = sorted(path.name for path in func.glob("*.nii.gz"))
    assert stored == [f"sub-01_task-tap_{name}" for name in (*maps, "desc-hmc_boldref.nii.gz")]
    sidecar = func / "sub-01_task-tap_desc-sbl_statmap.json"
    assert '"Units": "z"' in sidecar.read_text()
    assert "desc-hmc_boldref" in sidecar.read_text(), "the reference image of the map"


@step(Stage.EVALUATION)
def name_files(files: Sequence[File]) -> Facts:
    """List the names of files."""
    return {"names": [file.name for file in files]}


@pytest.mark.parametrize("count", [1, 2])
def test_a_given_list_of_files_reaches_the_step(count: int, bold: Path, tmp_path: Path) -> None:
    with Flow(root := Scope("all_wf")):
        name_files([bold] * count)
    flow = make_workflow(Graph(root), base_dir=tmp_path, need_gb=lambda need: need.always)
    (node,) = flow.run().nodes()
    names = json.loads(Path(node.result.outputs.name_files).read_text())["names"]
    assert names == [bold.name] * count


@pytest.mark.parametrize(("level", "stored"), [("minimal", 0), ("standard", 0), ("full", 1)])
def test_stored_files_depend_on_the_level(
    bold: Path, tmp_path: Path, level: str, stored: int
) -> None:
    root = Scope("all_wf", store=store)
    entities = {"subject": "01", "task": "tap", "datatype": "func"}
    outputs = Outputs(output_dir=tmp_path, entities=entities, level=level)  # type: ignore[arg-type]
    with Flow(root):
        _, facts = double_series(bold, name="sbl")  # type: ignore[arg-type]
        outputs.store(facts, {"desc": "sbl", "suffix": "metrics"}, level="full")
    assert sum(node.step is store for node in Graph(root).nodes) == stored


def test_calls_outside_a_flow_compute_results(bold: Path, tmp_path: Path) -> None:
    (folder := tmp_path / "steps").mkdir()
    names: list[str] = []
    with Eager(folder, names.append), SeriesReader(bold) as reader:
        facts = _process(reader, _outputs(tmp_path / "out"))
        assert count_dummies(reader) == 1
    assert facts["means"] == {name: 2 * VALUES[..., 0].mean() for name in ("bspline", "sbl")}
    assert len(facts["maps"]) == 4  # type: ignore[arg-type]
    assert names[:2] == ["count dummies", "average volumes"]
    assert not (tmp_path / "out").exists(), "nothing is stored"
    with SeriesReader(bold) as reader:
        boldref = average_volumes(reader, n_dummy=1)
    np.testing.assert_array_equal(boldref.data, VALUES[..., 1:].mean(-1))


def test_mistakes_in_calls_are_errors_before_the_workflow_runs(bold: Path) -> None:
    root = Scope("all_wf")
    with Flow(root):
        with pytest.raises(TypeError, match="levle"):
            threshold(bold, levle=2.0)  # type: ignore[call-arg, arg-type]
        boldref = average_volumes(bold, n_dummy=1)  # type: ignore[arg-type]
        with pytest.raises(GraphError, match="average_volumes is called twice"):
            average_volumes(bold, n_dummy=1)  # type: ignore[arg-type]
        with subworkflow("other"):
            double_series(boldref, name="x")  # type: ignore[arg-type]
    with pytest.raises(GraphError, match=r"bold has type Series, but .*provides type Volume"):
        Graph(root)
    root = Scope("all_wf")
    with Flow(root):
        threshold(None)  # type: ignore[arg-type]
    with pytest.raises(GraphError, match="required input boldref is not connected"):
        Graph(root)
    root = Scope("all_wf")
    with Flow(root):
        list_maps([], {})
    with pytest.raises(GraphError, match="required input maps is empty"):
        Graph(root)


def test_values_of_a_class_are_stored_by_the_class(tmp_path: Path) -> None:
    volume = Volume(VALUES[..., 0], AFFINE)
    with Eager(tmp_path):
        note = take_note(volume)
        assert shorten([note, note]) == Note(text="32 32")
    assert (tmp_path / "1_take_note" / "take_note.txt").read_text() == "32 voxels"
    root = Scope("all_wf")
    with Flow(root):
        recite(shorten([take_note(volume)]))  # type: ignore[arg-type]
    with pytest.raises(GraphError, match=r"verse has type Verse, but .*provides type Note"):
        Graph(root)


def test_omitted_settings_have_defaults_and_paths_can_be_settings(
    bold: Path, tmp_path: Path
) -> None:
    root = Scope("all_wf")
    with Flow(root):
        mask = threshold(average_volumes(bold, n_dummy=1), level=3.0)  # type: ignore[arg-type]
        with subworkflow("other"):
            threshold(bold, mask)  # type: ignore[arg-type]
        name_weights(file=tmp_path / "weights")
    graph = Graph(root)
    settings = {str(node): graph.settings[node] for node in graph.nodes}
    assert settings["all_wf.threshold"] == {"level": 3.0}
    assert settings["all_wf.other.threshold"] == {"level": 1.0}
    assert settings["all_wf.name_weights"] == {"file": tmp_path / "weights"}
    (inner_threshold,) = (node for node in graph.nodes if str(node) == "all_wf.other.threshold")
    assert [maker.name for maker in graph.wires[inner_threshold]["region"].handles] == ["mask"]
