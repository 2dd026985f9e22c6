"""Steps as functions, and their interfaces for nipype."""

import os
import pickle
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bids_sr.config.memory import Need
from bids_sr.io.nifti import save_image
from bids_sr.pipeline.artifacts import File, Image, Mask, Series, Volume
from bids_sr.pipeline.flow import Flow, subworkflow
from bids_sr.pipeline.graph import Graph
from bids_sr.pipeline.nipype_workflow import workflow_of
from bids_sr.pipeline.nodes import Scope
from bids_sr.pipeline.step import HERE, step
from bids_sr.sr.method import Cost


@step(makes="boldref", memory=Need(always=2.0))
def average(bold: Series, *, count: int) -> Image:
    """Return the mean of a series."""
    return Volume(sum(bold.volumes()) / count, bold.affine, bold.header)


def _cost_of_level(level: float) -> Cost:
    return Cost(always=10 * level)


@step(makes="mask", cost=_cost_of_level)
def threshold(boldref: Image, *, level: float = 1.0) -> Mask:
    """Find where the mean is at least a level."""
    return boldref.like(boldref.data >= level)


@step(resumes=True, makes="model_file")
def train(boldref: Image, here: Path = HERE, *, device: str, omp_nthreads: int) -> File:
    """Resume from a checkpoint."""
    (here / "model.txt").write_text(device)
    return here / "model.txt"


@step()
def told(*, weights: Path | None = None) -> str:
    """Return the name of a file that is a setting."""
    return "none" if weights is None else weights.name


@pytest.fixture
def bold(tmp_path: Path) -> Path:
    values = np.arange(4 * 4 * 2 * 3, dtype=np.float32).reshape(4, 4, 2, 3)
    save_image(values, np.diag([2.0, 2, 3, 1]), tmp_path / "bold.nii", tr=2.0)
    return tmp_path / "bold.nii"


def test_a_node_of_nipype_has_the_memory_threads_and_time_of_its_step(
    bold: Path, tmp_path: Path
) -> None:
    root = Scope("all_wf")
    with Flow(root), subworkflow("run_wf", participant="01", run="sub-01_task-tap"):
        boldref = average(bold, count=3)  # type: ignore[arg-type]
        threshold(boldref, level=2.0)
        train(boldref, device="cpu", omp_nthreads=2)
    flow = workflow_of(Graph(root), base_dir=tmp_path, need_gb=lambda need: need.always)
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
    assert nodes["threshold"].seconds == 20
    assert nodes["train"].owner == ("01", "sub-01_task-tap")


def test_a_setting_that_a_call_leaves_out_is_an_error_that_names_it() -> None:
    with Flow(Scope("all_wf")), pytest.raises(TypeError, match="count"):
        average(Path("bold.nii"))  # type: ignore[call-arg, arg-type]


def test_costs_and_files_depend_only_on_settings_of_the_step() -> None:
    with pytest.raises(TypeError, match="depend on width, which are no settings of the step"):

        @step(cost=lambda *, width: Cost(always=width))
        def widen(boldref: Image) -> Image:
            """Return an image."""
            return boldref


def test_an_interface_is_found_by_pickle_and_resumes_where_the_step_does() -> None:
    interface = train.interface(device="cuda", omp_nthreads=2)
    again = pickle.loads(pickle.dumps(interface))
    assert type(again) is type(interface)
    assert again.inputs.device == "cuda"
    assert again.inputs.use_gpu is False
    assert again._can_resume
    assert not average.interface()._can_resume
    assert average.interface().step is average


def test_the_interface_of_a_step_reads_and_writes_files(
    bold: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = average.interface(bold=str(bold), count=3).run(cwd=os.getcwd()).outputs.boldref
    np.testing.assert_allclose(
        nib.load(made).get_fdata(), np.arange(96).reshape(4, 4, 2, 3).mean(-1)
    )
    found = threshold.interface(boldref=made, level=50.0).run(cwd=os.getcwd()).outputs.mask
    assert nib.load(found).get_data_dtype() == np.uint8


@step()
def halves(boldref: Image, *, parts: int) -> list[Image]:
    """As many images, each half of the one before."""
    return [boldref.like(boldref.data / 2**k) for k in range(parts)]


@step()
def total(halves: Sequence[Image] | None = None) -> float:
    """The sum over all; -1 where none is given."""
    return -1.0 if halves is None else sum(float(each.data.sum()) for each in halves)


def test_a_list_is_one_file_and_an_empty_one_is_not_given(tmp_path: Path) -> None:
    save_image(np.full((2, 2, 2), 4.0), np.eye(4), tmp_path / "boldref.nii")
    sums = []
    for parts in (3, 0):
        (here := tmp_path / f"{parts}").mkdir()
        given = {"boldref": str(tmp_path / "boldref.nii"), "parts": parts}
        made = halves.on_files(given, here)["halves"]
        assert len(Path(made).read_text().split()) == parts
        sums.append(total.on_files({"halves": [made]}, here)["total"])
    assert sums == [8 * (4 + 2 + 1), -1]


def test_the_content_of_a_file_that_is_a_setting_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.txt").write_text("one")
    first = told.interface(weights=tmp_path / "weights.txt")
    before = first.inputs.get_hashval(hash_method="content")[1]
    assert first.run(cwd=os.getcwd()).outputs.told == "weights.txt"
    (tmp_path / "weights.txt").write_text("two")
    assert (
        told.interface(weights=tmp_path / "weights.txt").inputs.get_hashval(hash_method="content")[
            1
        ]
        != before
    )
    assert told.interface().run(cwd=os.getcwd()).outputs.told == "none"


def test_seeds_and_events_are_told_apart_by_their_files(tmp_path: Path) -> None:
    from bids_sr.glm.regressors import Events, Seeds
    from bids_sr.pipeline.artifacts import Regressors

    kind = Regressors.__metadata__[0]
    path = kind.save(
        Seeds.of(pd.DataFrame({"motor": [np.nan, 1.0, 3.0]})), tmp_path / "regressors"
    )
    assert path.name == "regressors_timeseries.tsv"
    assert list(kind.load(path).table["motor"])[1:] == [-1.0, 1.0]
    (tmp_path / "events.tsv").write_text("onset\tduration\ttrial_type\n1\t2\ttap\n")
    assert isinstance(kind.load(tmp_path / "events.tsv"), Events)
