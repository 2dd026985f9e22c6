"""Steps as functions, and their nipype interfaces."""

import gzip
import os
import pickle
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bids_sr.engine.artifacts import File, Image, Mask, Series, Volume
from bids_sr.engine.flow import Flow, subworkflow
from bids_sr.engine.graph import Graph
from bids_sr.engine.memory import Need
from bids_sr.engine.nipype_workflow import make_workflow
from bids_sr.engine.nodes import Scope
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.io.nifti import save_image


@step(Stage.EVALUATION, makes="boldref", memory=Need(always=2.0))
def average(bold: Series, *, count: int) -> Image:
    """Return the mean of a series."""
    return Volume(sum(bold.volumes()) / count, bold.affine, bold.header)


@step(Stage.EVALUATION, makes="mask")
def threshold(boldref: Image, *, level: float = 1.0) -> Mask:
    """Find where the mean is at least a level."""
    return boldref.like(boldref.data >= level)


@step(Stage.EVALUATION, resumes=True, makes="model_file")
def train(boldref: Image, here: Path = HERE, *, device: str, omp_nthreads: int) -> File:
    """Resume from a checkpoint."""
    (here / "model.txt").write_text(device)
    return here / "model.txt"


@dataclass(frozen=True, slots=True)
class Limits:
    """Settings in a record."""

    low: float
    high: float = 9.0


@dataclass(frozen=True, slots=True)
class Scan:
    """Artifact and settings in a record that contains another."""

    boldref: Image
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class BrainScan:
    """Record that a step does without."""

    mask: Mask


@dataclass(frozen=True, slots=True)
class Tissues:
    """Artifacts returned in a record."""

    bright: Mask
    dark: Mask


@step(Stage.EVALUATION)
def split(scan: Scan, other: BrainScan | None = None, *, strict: bool = False) -> Tissues:
    """Split an image at limits."""
    limits = scan.limits or Limits(0.0)
    bright = scan.boldref.data > limits.high
    dark = scan.boldref.data < limits.low
    assert other is None or other.mask is not None
    return Tissues(scan.boldref.like(bright), scan.boldref.like(dark & (not strict)))


@step(Stage.EVALUATION)
def weights_name(*, weights: Path | None = None) -> str:
    """Return the name of a file that is a setting."""
    return "none" if weights is None else weights.name


@pytest.fixture
def bold(tmp_path: Path) -> Path:
    values = np.arange(4 * 4 * 2 * 3, dtype=np.float32).reshape(4, 4, 2, 3)
    save_image(values, np.diag([2.0, 2, 3, 1]), tmp_path / "bold.nii", tr=2.0)
    return tmp_path / "bold.nii"


def test_a_nipype_node_has_memory_threads_and_time_of_its_step(bold: Path, tmp_path: Path) -> None:
    root = Scope("all_wf")
    with Flow(root), subworkflow("run_wf", participant="01", run="sub-01_task-tap"):
        boldref = average(bold, count=3)  # type: ignore[arg-type]
        threshold(boldref, level=2.0)
        train(boldref, device="cpu", omp_nthreads=2)
    flow = make_workflow(
        Graph(root),
        base_dir=tmp_path,
        need_gb=lambda need: need.always,
        seconds=lambda node: len(node.name),
    )
    nodes = {name: flow.get_node(f"run_wf.{name}") for name in ("average", "threshold", "train")}
    assert {name: node.mem_gb for name, node in nodes.items()} == {
        "average": 2.0,
        "threshold": Need().always,
        "train": Need().always,
    }
    assert {name: node.n_procs for name, node in nodes.items()} == {
        "average": 1,
        "threshold": 1,
        "train": 2,
    }
    assert nodes["threshold"].seconds == 9
    assert nodes["train"].owner == ("01", "sub-01_task-tap")


@step(Stage.EVALUATION)
def brightest(boldrefs: list[Image], *, limit: float) -> float:
    """Return the largest value of several images, which must not exceed a limit."""
    largest = max(float(boldref.data.max()) for boldref in boldrefs)
    if largest > limit:
        raise ValueError("too bright")
    return largest


def _results(work: Path) -> dict[str, bytes]:
    """Return the unpacked result file of each step."""
    files = work.rglob("result_*.pklz")
    return {path.parent.name: gzip.decompress(path.read_bytes()) for path in files}


@pytest.mark.parametrize("limit", [1e6, -1.0], ids=["finished", "failed"])
def test_results_contain_no_environment(
    limit: float, bold: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of images is merged by a node of nipype."""
    monkeypatch.setenv("API_KEY", "the-secret")
    with Flow(root := Scope("wf")):
        boldref = average(bold, count=3)  # type: ignore[arg-type]
        brightest([boldref, bold], limit=limit)  # type: ignore[list-item]
    flow = make_workflow(Graph(root), base_dir=tmp_path / "work", need_gb=lambda need: 0.1)
    flow.config["execution"]["crashdump_dir"] = str(tmp_path)
    with nullcontext() if limit > 0 else pytest.raises(Exception, match="too bright"):
        flow.run()
    results = _results(tmp_path / "work")
    assert len(results) == 3
    assert not any(b"the-secret" in result for result in results.values())


def test_a_damaged_result_is_computed_again_and_contains_no_environment(
    bold: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Flow(root := Scope("wf")):
        average(bold, count=3)  # type: ignore[arg-type]
    flow = make_workflow(Graph(root), base_dir=tmp_path / "work", need_gb=lambda need: 0.1)
    flow.run()
    (result_file,) = tmp_path.glob("work/wf/average/result_*.pklz")
    result_file.write_bytes(gzip.compress(b""))
    monkeypatch.setenv("API_KEY", "the-secret")
    (node,) = flow.run().nodes()
    assert Path(node.result.outputs.boldref).name == "boldref.nii"
    assert b"the-secret" not in _results(tmp_path / "work")["average"]


def test_files_depend_only_on_settings_of_the_step() -> None:
    with pytest.raises(TypeError, match="depends on width, which are no settings of the step"):

        @step(Stage.EVALUATION, reads=lambda *, width: [Path(width)])
        def widen(boldref: Image) -> Image:
            """Return an image."""
            return boldref


def test_interfaces_can_be_pickled_and_resume_if_the_step_does() -> None:
    interface = train.interface(device="cuda", omp_nthreads=2)
    unpickled = pickle.loads(pickle.dumps(interface))
    assert type(unpickled) is type(interface)
    assert unpickled.inputs.device == "cuda"
    assert unpickled.inputs.use_gpu is False
    assert unpickled._can_resume
    assert not average.interface()._can_resume
    assert average.interface().step is average


def test_the_interface_of_a_step_reads_and_writes_files(
    bold: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    boldref_file = average.interface(bold=str(bold), count=3).run(cwd=os.getcwd()).outputs.boldref
    np.testing.assert_allclose(
        nib.load(boldref_file).get_fdata(), np.arange(96).reshape(4, 4, 2, 3).mean(-1)
    )
    mask_file = (
        threshold.interface(boldref=boldref_file, level=50.0).run(cwd=os.getcwd()).outputs.mask
    )
    assert nib.load(mask_file).get_data_dtype() == np.uint8


@step(Stage.EVALUATION)
def halves(boldref: Image, *, parts: int) -> list[Image]:
    """Return `parts` images, each half of the previous image."""
    return [boldref.like(boldref.data / 2**k) for k in range(parts)]


@step(Stage.EVALUATION)
def total(halves: Sequence[Image] | None = None) -> float:
    """Return the sum over all images; -1 without images."""
    return -1.0 if halves is None else sum(float(image.data.sum()) for image in halves)


def test_a_list_is_stored_in_a_file_and_an_empty_list_is_passed_as_none(tmp_path: Path) -> None:
    save_image(np.full((2, 2, 2), 4.0), np.eye(4), tmp_path / "boldref.nii")
    sums = []
    for parts in (3, 0):
        (folder := tmp_path / f"{parts}").mkdir()
        inputs = {"boldref": str(tmp_path / "boldref.nii"), "parts": parts}
        list_file = halves.run_on_files(inputs, folder)["halves"]
        assert len(Path(list_file).read_text().split()) == parts
        sums.append(total.run_on_files({"halves": [list_file]}, folder)["total"])
    assert sums == [8 * (4 + 2 + 1), -1]


def test_the_hash_of_an_interface_depends_on_the_content_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.txt").write_text("one")
    first = weights_name.interface(weights=tmp_path / "weights.txt")
    before = first.inputs.get_hashval(hash_method="content")[1]
    assert first.run(cwd=os.getcwd()).outputs.weights_name == "weights.txt"
    (tmp_path / "weights.txt").write_text("two")
    assert (
        weights_name.interface(weights=tmp_path / "weights.txt").inputs.get_hashval(
            hash_method="content"
        )[1]
        != before
    )
    assert weights_name.interface().run(cwd=os.getcwd()).outputs.weights_name == "none"


def test_seeds_and_events_are_distinguished_by_file_name(tmp_path: Path) -> None:
    from bids_sr.glm.regressors import Events, Regressors, Seeds

    artifact = Regressors.__metadata__[0]
    path = artifact.save(
        Seeds.standardize(pd.DataFrame({"motor": [np.nan, 1.0, 3.0]})), tmp_path / "regressors"
    )
    assert path.name == "regressors_timeseries.tsv"
    assert list(artifact.load(path).table["motor"])[1:] == [-1.0, 1.0]
    (tmp_path / "events.tsv").write_text("onset\tduration\ttrial_type\n1\t2\ttap\n")
    assert isinstance(artifact.load(tmp_path / "events.tsv"), Events)


def test_a_record_stands_for_its_fields(bold: Path, tmp_path: Path) -> None:
    assert list(split.inputs) == ["boldref", "mask"]
    assert list(split.settings) == ["low", "high", "strict"]
    assert list(split.outputs) == ["bright", "dark"]
    with Flow(Scope("all_wf")) as flow, subworkflow("run_wf", participant="01"):
        boldref = average(bold, count=3)  # type: ignore[arg-type]
        tissues = split(Scan(boldref, Limits(4.0)), strict=False)
        threshold(tissues.bright, level=1.0)
    graph = Graph(flow.scope)
    node = next(node for node in graph.nodes if node.step is split)
    assert graph.settings[node] == {"low": 4.0, "high": 9.0, "strict": False}
    result = make_workflow(Graph(flow.scope), base_dir=tmp_path, need_gb=lambda need: 0.1).run()
    outputs = {node.name: node.result.outputs for node in result.nodes()}
    values = nib.load(outputs["split"].dark).get_fdata()  # type: ignore[attr-defined]
    mean = nib.load(outputs["average"].boldref).get_fdata()  # type: ignore[attr-defined]
    np.testing.assert_array_equal(values > 0, mean < 4)


@dataclass(frozen=True, slots=True)
class WideLimits(Limits):
    """Limits with a setting that `clip` does not use."""

    speed: float = 1.0


@step(Stage.EVALUATION)
def clip(boldref: Image, *, limits: Limits, count: int = 2) -> Image:
    """Restrict an image to limits."""
    return boldref.like(boldref.data.clip(limits.low, limits.high))


def test_a_step_takes_the_fields_of_its_record(bold: Path) -> None:
    with Flow(Scope("all_wf")) as flow:
        boldref = average(bold, count=3)  # type: ignore[arg-type]
        clip(boldref, limits=WideLimits(4.0, speed=3.0))
    graph = Graph(flow.scope)
    node = next(node for node in graph.nodes if node.step is clip)
    assert graph.settings[node] == {"low": 4.0, "high": 9.0, "count": 2}


@step(Stage.EVALUATION, makes="replaced")
def replace_nothing(bold: Series) -> Series:
    """Return the series of an earlier step."""
    return bold


def test_a_series_that_a_step_passes_on_remains_if_the_earlier_file_is_dropped(tmp_path):
    for name in ("earlier", "here"):
        (tmp_path / name).mkdir()
    values, earlier_file = np.ones((2, 2, 2, 3), np.float32), tmp_path / "earlier" / "bold.nii"
    save_image(values, np.eye(4), earlier_file, tr=2.0)
    outputs = replace_nothing.run_on_files({"bold": str(earlier_file)}, tmp_path / "here")
    assert Path(outputs["replaced"]).samefile(earlier_file)
    earlier_file.unlink()
    np.testing.assert_array_equal(nib.load(outputs["replaced"]).get_fdata(), values)
