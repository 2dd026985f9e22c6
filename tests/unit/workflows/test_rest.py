"""Runs without events: seeds in the place of events, and what the methods text says."""

from pathlib import Path
from typing import Any

import pytest
from bidsmaker import BidsMaker
from graphmaker import planned_graph

from bids_sr.workflows.node_names import methods_text

RUN = "sub_01_wf.sub_01_task_tap_wf"


@pytest.mark.parametrize("with_anat", [True, False])
def test_seeds_take_the_place_of_events(tmp_path: Path, with_anat: bool) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.bold(n_volumes=90)
    if with_anat:
        maker.t1w()
    graph = planned_graph(maker, tmp_path)
    names = graph.list_node_names()
    assert f"{RUN}.keep_seeds.sink" in names or f"{RUN}.keep_seeds" in names
    assert (f"{RUN}.seeds_wf.read_seeds" in names) is with_anat
    assert (f"{RUN}.seeds_wf.components" in names) is not with_anat
    text = methods_text(graph)
    assert "Connectivity was mapped in every series" in text
    assert "Activation was mapped" not in text
    assert "on/off" not in text
    assert ("MNI coordinates" in text) is with_anat
    assert mapped_by(graph) == {"seeds"}


def mapped_by(graph: Any) -> set[str]:
    """What the tables of a run say that mapped it."""
    tables = [graph.get_node(f"{RUN}.keep_{table}") for table in ("image", "activation", "evaluation")]
    sinks = [node.get_node("sink") if hasattr(node, "list_node_names") else node for node in tables if node]
    return {node.inputs.provenance["MappedBy"] for node in sinks}


def test_tables_of_a_run_with_events_say_so(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.bold(n_volumes=90)
    maker.events()
    assert mapped_by(planned_graph(maker, tmp_path)) == {"events"}


def test_echoes_are_combined_first(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    for number, te in enumerate((0.012, 0.028), 1):
        maker.bold(f"sub-01_task-tap_echo-{number}", sidecar={"EchoTime": te})
    maker.events()
    graph = planned_graph(maker, tmp_path)
    combine = graph.get_node(f"{RUN}.combine_echoes")
    assert combine.inputs.echo_times == [12.0, 28.0]
    assert [Path(path).name for path in combine.inputs.in_files] == [
        f"sub-01_task-tap_echo-{number}_bold.nii.gz" for number in (1, 2)
    ]
