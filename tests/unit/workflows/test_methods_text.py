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
from bids_sr.report.call_description import AcquiredRun, describe_acquisition
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


def text_of(maker: BidsMaker, *options: str) -> str:
    return planned_graph(maker, maker.root.parent, *options).methods_text()


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


def test_a_short_run_without_t1w_has_neither_components_nor_regions(maker: BidsMaker) -> None:
    for path in maker.root.rglob("*_T1w.*"):
        path.unlink()
    text = text_of(maker)
    for words in ("T1", "aCompCor", "AAL2", "skull", "tissue"):
        assert words not in text
    maker.t1w()
    add_run(maker, "sub-01_task-tap", n_volumes=49)
    maker.events("sub-01_task-tap", BLOCKS[:4])
    text = text_of(maker)
    assert "49 volumes" in text
    assert "aCompCor" not in text


def test_texts_on_some_of_the_runs_name_these_runs(maker: BidsMaker) -> None:
    add_run(maker, "sub-01_task-rest", n_volumes=150, with_events=False)
    first, *paragraphs = text_of(maker).split("\n\n")
    assert re.findall(r"task (\w+) had (\d+)", first) == [("rest", "150"), ("tap", "136")]
    for words, run in (("Activation was", "tap"), ("Connectivity was", "rest"), ("HRF", "tap")):
        [paragraph] = [paragraph for paragraph in paragraphs if words in paragraph]
        assert paragraph.startswith(f"In sub-01_task-{run}: ")
    [paragraph] = [paragraph for paragraph in paragraphs if "Slice timing" in paragraph]
    assert not paragraph.startswith("In sub-")


def test_many_runs_or_participants_are_counted(maker: BidsMaker) -> None:
    for label in ("02", "03"):
        add_run(maker, f"sub-{label}_task-tap")
    maker.t1w("sub-02")
    paragraphs = text_of(maker).split("\n\n")
    for words, some in (
        ("N4", "sub-01 and sub-02"),
        ("coregistered", "sub-01_task-tap and sub-02_task-tap"),
    ):
        [paragraph] = [paragraph for paragraph in paragraphs if words in paragraph]
        assert paragraph.startswith(f"In {some}: ")
    for label in ("04", "05"):
        add_run(maker, f"sub-{label}_task-tap")
        maker.t1w(f"sub-{label}")
    text = text_of(maker)
    assert "In 4 of 5 participants: " in text
    assert "The 5 runs of the task tap had 136 volumes" in text


def test_runs_with_other_grids_have_their_own_sentences() -> None:
    run = AcquiredRun(
        task="tap",
        n_volumes=100,
        tr=1.5,
        shape=(75, 75, 10),
        zooms=(2.0, 2.0, 3.0),
        factor=(7 / 6, 7 / 6, 1.0),
    )
    text = describe_acquisition([run])
    assert "88 × 88 × 10 voxels of 1.7 × 1.7 × 3 mm" in text
    assert describe_acquisition([]) == ""
