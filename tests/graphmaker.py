"""Graphs of data sets that `bidsmaker` makes, as a call of the command line would build them."""

from pathlib import Path

from bidsmaker import BidsMaker

from bids_sr.cli.parser import parse_settings
from bids_sr.cli.progress import expected
from bids_sr.config import Settings
from bids_sr.pipeline.graph import Graph
from bids_sr.pipeline.nodes import Node
from bids_sr.preflight import check
from bids_sr.workflows.participant import graph_of


def planned_graph(maker: BidsMaker, root: Path, *options: str) -> Graph:
    """The whole graph; results would go to `root`. Nothing may stand against the call."""
    argv = [
        str(maker.root),
        str(root / "out"),
        "participant",
        "-w",
        str(root / "work"),
        "--skip-bids-validation",
    ]
    settings = parse_settings([*argv, *options]).resolved(run_uuid="x")
    plan = check(settings)
    assert plan.problems == ()
    return graph_of(settings, plan, "0")


def stage_minutes(settings: Settings) -> dict[str, float]:
    """Processor minutes of each stage of a call, as its dry run tells them."""
    return {row.stage: row.minutes for row in expected(check(settings), settings).rows}


def steps_of(graph: Graph) -> set[str]:
    """Names of the functions that are placed."""
    return {node.step.__name__ for node in graph.nodes}


def nodes_of(graph: Graph, step: str) -> list[Node]:
    """Where a function is placed."""
    return [node for node in graph.nodes if node.step.__name__ == step]


def made_by(graph: Graph, node: Node, name: str) -> list[object]:
    """Who makes an input: steps, or what was given."""
    wire = graph.wires[node].get(name)
    return [] if wire is None else [handle.source for handle in wire.handles]
