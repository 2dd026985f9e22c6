"""A map next to t touches three files: its values, its description, and the level at which it is
stored (docs/extending.md).
"""

from pathlib import Path

from recipes import copy_with, files_of, told_by

TITLE = "Add a map beside t"
SCRIPT = """
from contextlib import ExitStack

import numpy as np
from pathlib import Path

from data.dataset import BidsMaker
from graphmaker import nodes_of, planned_graph

from bids_sr.glm.regressors import read_regressors
from bids_sr.io.volume import Volume
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.steps.activation import map_series

maker = BidsMaker(Path("data"))
maker.subject()
stored = {}
for level in ("standard", "full"):
    graph = planned_graph(maker, Path("."), "--level", level)
    stored[level] = {
        choice.get("stat")
        for node in graph.nodes
        if node.name == "store_maps"
        for choice in graph.settings[node]["among"]
    }
assert "effective" in stored["full"] and "effective" not in stored["standard"], stored

affine = np.diag([3.0, 3.0, 3.0, 1.0])
rng = np.random.default_rng(0)
save_image(100 + rng.normal(0, 1, (8, 8, 4, 40)), affine, Path("series.nii"), tr=2.0)
mask = Volume(np.ones((8, 8, 4), bool), affine)
node = next(node for node in nodes_of(graph, "map_series") if node.scope.name == "acquired")
(events,) = Path("data").rglob("*_events.tsv")
inputs = {
    "series": SeriesReader(Path("series.nii")),
    "mask": mask,
    "roi": mask,
    "regressors": read_regressors(events),
}
settings = {**graph.settings[node], "smoothing": (0.0,), "n_dummy": 0}
map_series.run_on_files(inputs | settings, Path("."))
kind = map_series.outputs["maps"]
with ExitStack() as stack:
    maps = kind.load(Path("maps_files.txt"), stack)
dof = next(one for one in maps if one.entities.get("stat") == "effective")
assert dof.sidecar["Description"] == "Effective degrees of freedom of the t statistic"
most = dof.sidecar["Model"]["DegreesOfFreedom"]
assert 0 < dof.volume.data.min() <= dof.volume.data.max() <= most
"""


def test_the_map_of_the_page_is_made_described_and_stored(tmp_path: Path) -> None:
    assert files_of(TITLE) == {
        "bids_sr/config/levels.py",
        "bids_sr/glm/activation_maps.py",
        "bids_sr/glm/map_sidecars.py",
    }
    told_by(copy_with(TITLE, tmp_path), SCRIPT)
