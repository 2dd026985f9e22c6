"""Which steps the verdicts of a run wait for."""

from bidsmaker import BidsMaker

from bids_sr.cli.parser import parse_settings
from bids_sr.pipeline.graph import Graph, Placed
from bids_sr.preflight import check
from bids_sr.workflows.participant import graph_of


def graph_for(maker: BidsMaker, *options: str) -> Graph:
    maker.subject()
    line = [str(maker.root), str(maker.root.parent / "out"), "participant"]
    settings = parse_settings([*line, "--skip-bids-validation", *options]).resolved(run_uuid="x")
    return graph_of(settings, check(settings), "0")


def before(graph: Graph, name: str) -> set[str]:
    """Return the paths, within the run, of all steps that come before a step."""
    (last,) = (placed for placed in graph.placed if placed.name == name)
    known, left = set[Placed](), [last]
    while left:
        placed = left.pop()
        makers = (maker for wire in graph.wires[placed].values() for maker in wire.makers)
        new = {maker.placed for maker in makers if maker.placed is not None} - known
        known |= new
        left += new
    return {str(placed).removeprefix(f"{last.scope.path}.") for placed in known}


def test_the_verdict_does_not_wait_for_the_errors_of_maps(maker: BidsMaker) -> None:
    graph = graph_for(maker)
    needed, joined = before(graph, "judge"), before(graph, "join_evaluation")
    assert {"sbl.map_series", "sbl.estimate_variance", "raise_flags"} <= needed
    errors = {"sbl.check_intervals", "sbl.measure_error"}
    assert not needed & {*errors, "compare_maps", "draw_activation"}
    assert joined >= needed | {"judge", *errors}
    # with a network, there is a first verdict without it
    first = before(graph, "judge_first")
    assert {"sbl.estimate_variance", "gather_tested"} <= first
    assert not any("srgan" in path or "train" in path for path in first)
    assert {"srgan.super_resolve", "srgan.map_series"} <= needed
    kept = {placed.name for placed in graph.placed if placed.step is graph.scope.store}
    assert not {name for name in kept if "first" in name}


def test_without_networks_there_is_one_verdict(maker: BidsMaker) -> None:
    graph = graph_for(maker, "--sr-method", "sbl")
    names = [placed.name for placed in graph.placed]
    assert names.count("judge") == 1
    assert "judge_first" not in names
