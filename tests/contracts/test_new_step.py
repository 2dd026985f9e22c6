"""A new step whose table is stored touches two files: its own, and the workflow that calls it
(docs/extending.md).
"""

from pathlib import Path

from recipes import copy_with, files_of, told_by

SCRIPT = """
from pathlib import Path

import numpy as np
from data.dataset import BidsMaker
from graphmaker import made_by, nodes_of, planned_graph

from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.volume import Volume
from bids_sr.pipeline.nipype_workflow import make_workflow
from bids_sr.steps.signal_drift import measure_drift

affine = np.diag([3.0, 3.0, 3.0, 1.0])
series = np.ones((4, 4, 2, 5)) * [9.0, 90.0, 100.0, 110.0, 100.0]
save_image(series, affine, Path("series.nii"), tr=2.0)
mask = Volume(series[..., 0] > 0, affine)
found = measure_drift(SeriesReader(Path("series.nii")), mask, tr=2.0, n_dummy=1)
assert list(found.signal) == [90.0, 100.0, 110.0, 100.0]
assert list(found.time) == [2.0, 4.0, 6.0, 8.0]

maker = BidsMaker(Path("data"))
maker.subject()
graph = planned_graph(maker, Path("."))
(node,) = nodes_of(graph, "measure_drift")
assert [one.name for one in made_by(graph, node, "preproc")] == ["correct_motion"]
assert "The mean signal of the brain was written volume by volume." in graph.methods_text()
flow = make_workflow(graph, base_dir=Path.cwd() / "work", need_gb=lambda need: need.always)
run = "sub_01_wf.sub_01_task_tap_wf."
table = Path("drift.tsv")
found.to_csv(table, sep="\\t", index=False)
keep = flow.get_node(f"{run}store_drift")
keep.inputs.files = str(table.resolve())
keep.base_dir = str(Path.cwd() / "alone")
keep.run()
(stored,) = Path("out").rglob("*_desc-drift_timeseries.tsv")
print(stored.name, stored.with_suffix(".json").read_text())
"""


def test_the_step_of_the_page_is_placed_connected_and_kept(tmp_path: Path) -> None:
    title = "Add a step with a table that is kept"
    assert files_of(title) == {"bids_sr/steps/signal_drift.py", "workflows/model_run.py"}
    output = told_by(copy_with(title, tmp_path), SCRIPT)
    assert "sub-01_task-tap_desc-drift_timeseries.tsv {" in output
    assert '"Units": "%"' in output
    assert '"GeneratedByVersion": "0"' in output
