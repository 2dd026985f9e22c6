"""Test which steps run before the verdicts of a run."""

import pytest
from data.dataset import BidsMaker
from graphmaker import planned_graph

from bids_sr.engine.graph import Graph
from bids_sr.engine.nodes import Node
from bids_sr.evaluation.steps.run_verdict import decide_verdict


def graph_for(maker: BidsMaker, *options: str) -> Graph:
    maker.subject()
    return planned_graph(maker, maker.root.parent, *options)


def before(graph: Graph, name: str) -> set[str]:
    """Return the paths, within the run, of all steps before a step."""
    (last,) = (node for node in graph.nodes if str(node).endswith(f"_wf.{name}"))
    run = str(last).removesuffix(name)
    nodes, pending = set[Node](), [last]
    while pending:
        wires = graph.wires[pending.pop()].values()
        handles = (handle for wire in wires for handle in wire.handles)
        new = {handle.node for handle in handles if handle.node is not None} - nodes
        nodes |= new
        pending += new
    return {str(node).removeprefix(run) for node in nodes}


@pytest.mark.parametrize("has_reference", [False, True])
def test_the_verdict_does_not_wait_for_the_errors_of_maps(
    has_reference: bool, maker: BidsMaker
) -> None:
    truth = BidsMaker(maker.root.parent / "truth")
    truth.bold(zooms=(3.0, 3.0, 4.0))
    truth.events()
    graph = graph_for(maker, *(["--truth", str(truth.root)] if has_reference else []))
    before_verdict, before_tables = (
        before(graph, "decide_verdict"),
        before(graph, "join_evaluation"),
    )
    assert {"sbl.map_series", "sbl.estimate_variance", "raise_flags"} <= before_verdict
    # The verdict states the test of the detail.
    assert "sbl.check_intervals" in before_verdict
    assert not before_verdict & {"sbl.measure_error", "compare_maps", "show_viewer"}
    assert before_tables >= before_verdict | {"decide_verdict", "sbl.measure_error"}
    # With a network, there is a first verdict without the network.
    first = before(graph, "first_verdict.decide_verdict")
    assert {"sbl.estimate_variance", "gather_self_tests"} <= first
    assert not any("srgan" in path or "train" in path for path in first)
    if has_reference:
        # regions of the comparison are active voxels of the acquired series, and a method that
        # lost them has no answers
        mapped = {path for path in first if path.endswith("map_series")}
        assert mapped == {"acquired.map_series", "sbl.map_series"}
    page = before(graph, "store_draw_overview")
    assert {"first_verdict.decide_verdict", "sbl.measure_error"} <= page
    assert not any("srgan" in path or "train" in path for path in page)
    assert {"srgan.super_resolve", "srgan.map_series"} <= before_verdict
    stored = [str(node) for node in graph.nodes if node.step is graph.scope.store]
    assert not [name for name in stored if "first_verdict" in name]


def test_the_verdict_reads_the_metrics_of_all_contrasts_in_every_series(maker: BidsMaker) -> None:
    graph = graph_for(maker)
    (verdict,) = (node for node in graph.nodes if str(node).endswith("_wf.decide_verdict"))
    handles = [handle for wire in graph.wires[verdict].values() for handle in wire.handles]
    read = {str(handle.node) for handle in handles if handle.name == "map_metrics"}
    assert read == {str(node) for node in graph.nodes if str(node).endswith(".map_series")}


def test_the_verdict_reads_the_cards_of_all_methods(maker: BidsMaker) -> None:
    graph = graph_for(maker)
    (verdict,) = (node for node in graph.nodes if str(node).endswith("_wf.decide_verdict"))
    cards = graph.wires[verdict]["card_file"]
    trained_by = {str(handle.node).rpartition(".")[2] for handle in cards.handles}
    assert trained_by == {"train_on_pair", "estimate_variance"}


def test_without_networks_there_is_a_single_verdict(maker: BidsMaker) -> None:
    graph = graph_for(maker, "--sr-method", "sbl")
    assert [node.scope.run for node in graph.nodes if node.step is decide_verdict] == [
        "sub-01_task-tap"
    ]
