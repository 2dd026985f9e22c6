"""An option of the linear model touches three files, an option of the response to events two, and
both reach every design (docs/extending.md).
"""

from pathlib import Path

from recipes import copy_with, files_of, told_by

TITLE = "Add an option of the linear model"
SCRIPT = """
from pathlib import Path

from data.dataset import BidsMaker
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


RESPONSE_TITLE = "Add an option of the response to events"
RESPONSE_SCRIPT = """
from pathlib import Path

import numpy as np
from data.dataset import BidsMaker
from graphmaker import nodes_of, planned_graph
from nilearn.glm.first_level import compute_regressor

from bids_sr.glm.design import DesignSettings, build_design, frame_times
from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.glm.regressors import read_regressors
from bids_sr.preflight.rough_model import approximate_responses

NAME = "spm + derivative + dispersion"
maker = BidsMaker(Path("data"))
maker.subject()
graph = planned_graph(maker, Path("."), "--set", f"activation.hrf_model={NAME}")
for step in ("map_series", "measure_effects", "check_intervals", "draw_design"):
    assert {graph.settings[node]["hrf_model"] for node in nodes_of(graph, step)} == {NAME}, step
assert "derivative in time and derivative by dispersion" in graph.methods_text()

(table,) = Path("data").rglob("*_events.tsv")
events, hrf = read_regressors(table), HemodynamicResponse(hrf_model=NAME)
design = build_design(events, DesignSettings(hrf=hrf), n_volumes=90, tr=1.0)
times = frame_times(90, 1.0)
for name in design.conditions:
    spans = np.transpose([(*span, 1.0) for span in events.spans()[name]])
    expected, labels = compute_regressor(spans, NAME, times, con_id=name, min_onset=-24)
    own = design.matrix[:, [design.columns.index(label) for label in labels]]
    np.testing.assert_allclose(own, expected, atol=1e-9)
    rough = approximate_responses(events, times, hrf)[name]
    fit = rough @ np.linalg.lstsq(rough, expected)[0]
    np.testing.assert_allclose(fit, expected, atol=0.03)
"""


def test_a_derivative_of_the_response_reaches_every_design(tmp_path: Path) -> None:
    assert files_of(RESPONSE_TITLE) == {
        "bids_sr/config/sections/activation.py",
        "bids_sr/glm/hemodynamic_response.py",
    }
    told_by(copy_with(RESPONSE_TITLE, tmp_path), RESPONSE_SCRIPT)
