"""Another estimate of head motion touches two files: its own, and the workflow that calls it
(docs/extending.md).
"""

from pathlib import Path

from recipes import copy_with, files_of, told_by

TITLE = "Change how head motion is estimated"
SCRIPT = """
from pathlib import Path

import numpy as np
from data.dataset import BidsMaker
from graphmaker import made_by, nodes_of, planned_graph

from bids_sr.io.volume import Volume
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.steps.motion_by_center import follow_center

affine = np.diag([3.0, 3.0, 5.0, 1.0])
head = np.zeros((12, 12, 8))
head[3:8, 4:9, 2:6] = np.arange(4.0) + 1
volumes = [head, np.roll(head, 2, axis=0), np.roll(head, -1, axis=2)]
save_image(np.stack(volumes, axis=-1), affine, Path("series.nii"), tr=2.0)
matrices, parameters = follow_center(SeriesReader(Path("series.nii")), Volume(head, affine))
shifts = [[0, 0, 0], [6, 0, 0], [0, 0, -5]]
assert np.allclose(matrices[:, :3, 3], shifts)
assert np.allclose(matrices[:, :3, :3], np.eye(3))
assert np.allclose(parameters[["trans_x", "trans_y", "trans_z"]], shifts)

maker = BidsMaker(Path("data"))
maker.subject()
graph = planned_graph(maker, Path("."))
assert nodes_of(graph, "estimate_motion") == []
for name in ("correct_motion", "super_resolve"):
    for node in nodes_of(graph, name):
        assert [one.name for one in made_by(graph, node, "hmc_xfms")] == ["follow_center"]
text = graph.methods_text()
assert "shift of the center of mass of each volume" in text
assert "Head-motion parameters with respect to the boldref" not in text
"""


def test_the_estimate_of_the_page_replaces_the_estimate_of_the_program(tmp_path: Path) -> None:
    assert files_of(TITLE) == {"bids_sr/steps/motion_by_center.py", "workflows/fit_run.py"}
    told_by(copy_with(TITLE, tmp_path), SCRIPT)
