"""An option of the linear model touches three files, and reaches every design
(docs/extending.md).
"""

from pathlib import Path

from recipes import copy_with, files_of, told_by

TITLE = "Add an option of the linear model"
SCRIPT = """
from pathlib import Path

from bidsmaker import BidsMaker
from graphmaker import nodes_of, planned_graph

from bids_sr.glm.design import DesignSettings, build_design
from bids_sr.glm.regressors import read_regressors

maker = BidsMaker(Path("data"))
maker.subject()
for options, expected in (([], False), (["--set", "activation.glm_demean=true"], True)):
    graph = planned_graph(maker, Path("."), *options)
    for step in ("map_series", "measure_effects", "check_intervals", "draw_design"):
        nodes = nodes_of(graph, step)
        assert nodes, step
        assert {graph.settings[node].get("demean") for node in nodes} == {expected}, step

(events,) = Path("data").rglob("*_events.tsv")
design = build_design(read_regressors(events), DesignSettings(demean=True), n_volumes=60, tr=1.0)
assert abs(design.matrix[:, : len(design.conditions)].mean(axis=0)).max() < 1e-12
"""


def test_the_option_of_the_page_reaches_every_design(tmp_path: Path) -> None:
    assert files_of(TITLE) == {
        "bids_sr/config/sections/activation.py",
        "bids_sr/glm/design.py",
        "bids_sr/preflight/run_model.py",
    }
    told_by(copy_with(TITLE, tmp_path), SCRIPT)
