"""Test that the methods text describes the call: length, values, order, and several kinds of
runs.
"""

import re
from pathlib import Path

import pytest
from data.dataset import BidsMaker
from graphmaker import VERSION, planned_call, planned_graph

from bids_sr.boilerplate import bibliography
from bids_sr.engine.store import store
from bids_sr.workflows.participant import make_graph

MAX_WORDS = 920
BLOCKS = [(10.0 + 20 * k, 10.0, ("thumb", "little", "toes")[k % 3]) for k in range(12)]
TIMES = [0.0, 0.5, 0.2, 0.7, 0.3, 0.8]
PACKAGES = {"Nipype": "1.11.0", "ANTsPy": "0.6.3", "nilearn": "0.14.1"}


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    """Data set of a task run of 136 volumes with a T1w image."""
    maker = BidsMaker(tmp_path / "bids")
    add_run(maker, "sub-01_task-tap")
    maker.t1w()
    return maker


def add_run(
    maker: BidsMaker, stem: str, *, n_volumes: int = 136, with_events: bool = True
) -> None:
    """Write a run with slice timing, and events unless it is at rest."""
    sidecar = {"SliceTiming": TIMES}
    maker.bold(stem, n_volumes=n_volumes, tr=2.0, sidecar=sidecar)
    if with_events:
        maker.events(stem, BLOCKS)


def test_the_text_of_a_default_run_is_short_and_states_values_in_order(maker: BidsMaker) -> None:
    settings, plan = planned_call(maker, maker.root.parent)
    text = make_graph(settings, plan, VERSION, PACKAGES).methods_text()
    finished_text = text.rpartition("\n\n")[0]  # the last paragraph is about unfinished steps
    assert 300 < len(finished_text.split()) <= MAX_WORDS
    values = [
        "136 volumes",
        "(TR) of 2 s",
        "8 × 8 × 6 voxels of 6 × 6 × 4 mm",
        "16 × 16 × 6 voxels of 3 × 3 × 4 mm",
        "2 × 2 × 1",
        "[@n4]",
        "0.4 s",
        "40 temporal components",
        "96 samples",
        "5 mm FWHM",
        "0.0078 Hz",
        "5 aCompCor components",
        "memory of 12 s",
        "little, thumb and toes",
        "(FDR) of .05",
        f"*bids-sr* {VERSION} [@bids_sr], *Nipype* 1.11.0",
        "nilearn 0.14.1",
    ]
    assert [value for value in values if value not in text] == []
    assert values == sorted(values, key=text.index)
    cited = re.findall(r"@(\w+)(?=[^\[]*\])", text)
    assert len(cited) > 10
    assert [key for key in cited if f"{{{key}," not in bibliography()] == []


def test_only_stored_kinds_of_maps_are_described(maker: BidsMaker) -> None:
    for options in (("--level", "full"), ("--set", "activation.kinds=cc")):
        graph = planned_graph(maker, maker.root.parent, *options)
        stored = [node for node in graph.nodes if node.step is store and node.name == "store_maps"]
        stats = {labels.get("stat") for node in stored for labels in graph.settings[node]["among"]}
        text = graph.methods_text()
        assert ("cc" in stats) is ("correlation maps" in text)
        assert ("t" in stats) is ("linear model" in text)
