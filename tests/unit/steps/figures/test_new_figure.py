"""Follow "Add a figure" in docs/extending.md literally: the file of the step, and the lines that
place it.
"""

from importlib import import_module

import nibabel as nib
import numpy as np
import pytest
from checking import listed
from figure_helpers import kept
from recipes import changes_of, copy_with, told_by

from bids_sr.io.nifti import SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.pipeline import store
from bids_sr.pipeline.flow import Flow
from bids_sr.pipeline.graph import Graph
from bids_sr.pipeline.nodes import Scope
from bids_sr.pipeline.outputs import Outputs
from bids_sr.report.assembler import write_subject_page
from bids_sr.steps import figures

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])


@pytest.fixture
def draw_tsnr(tmp_path, monkeypatch):
    """Load the step of the documentation from a file."""
    code, *placing_changes = changes_of("Add a figure")
    assert code.file == "bids_sr/steps/figures/tsnr.py"
    (tmp_path / "tsnr.py").write_text(code.after, encoding="utf-8")
    monkeypatch.setattr(figures, "__path__", [*figures.__path__, str(tmp_path)])
    assert {change.file for change in placing_changes} == {"workflows/report_run.py"}
    return import_module("bids_sr.steps.figures.tsnr").draw_tsnr


def test_a_new_figure_requires_only_a_function_and_its_place_in_the_workflow(draw_tsnr, tmp_path):
    rng = np.random.default_rng(0)
    nib.save(
        nib.Nifti1Image(rng.normal(100, 2, (8, 8, 4, 20)).astype(np.float32), AFFINE),
        tmp_path / "preproc.nii",
    )
    mask = Volume(np.ones((8, 8, 4), bool), AFFINE)

    run = Scope("task_tap_wf", store=store.store)
    outputs = Outputs(output_dir=tmp_path, entities={"subject": "01", "task": "tap"})
    with Flow(run):
        outputs.store_figures(
            draw_tsnr(tmp_path / "preproc.nii", tmp_path / "mask.nii", n_dummy=2)
        )
    graph = Graph(run)
    assert [node.name for node in graph.nodes] == ["draw_tsnr", "store_draw_tsnr"]
    assert graph.settings[graph.nodes[0]] == {"n_dummy": 2}

    with SeriesReader(tmp_path / "preproc.nii") as preproc:
        drawings = draw_tsnr(preproc, mask, n_dummy=2)
    assert sum(bar.get_height() for bar in drawings[0].content.axes[0].patches) == 256
    assert kept(draw_tsnr, drawings, tmp_path / "work") == [("motion", "tsnr.svg")]
    (listing,) = (tmp_path / "work").glob("*_files.txt")  # lists the figure and its sidecar
    (tmp_path / "here").mkdir()
    entities = {"subject": "01", "task": "tap"}
    stored = store.store(
        tmp_path / "here", listed(listing), output_dir=tmp_path, entities=entities
    )
    assert stored == [tmp_path / "sub-01" / "figures" / "sub-01_task-tap_desc-tsnr_bold.svg"]
    page = write_subject_page(
        tmp_path, "01", declarations=figures.figure_declarations(), custom={}
    ).read_text(encoding="utf-8")
    assert "<h4>Temporal signal-to-noise ratio</h4>" in page
    assert (
        "Mean over standard deviation of each voxel of the brain, after motion correction." in page
    )


CHECK_PLACEMENT = """
from pathlib import Path

from data.dataset import BidsMaker
from graphmaker import made_by, nodes_of, planned_graph

maker = BidsMaker(Path("data"))
maker.subject()
graph = planned_graph(maker, Path("."))
[node] = nodes_of(graph, "draw_tsnr")
print(*(source.name for source in made_by(graph, node, "preproc")))
"""


def test_the_documented_lines_place_the_figure_in_each_run(tmp_path):
    assert told_by(copy_with("Add a figure", tmp_path), CHECK_PLACEMENT).split() == [
        "correct_motion"
    ]
