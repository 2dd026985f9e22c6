"""Build the graphs of data sets of `data.dataset`, as a call on the command line would."""

from pathlib import Path

from data.dataset import BidsMaker

from bids_sr.cli.parser import parse_settings
from bids_sr.cli.stages import estimate_with_time, trains_network
from bids_sr.config import Settings
from bids_sr.engine.graph import Graph
from bids_sr.engine.nodes import Node
from bids_sr.engine.records import FinishedSteps, find_folder, record_files
from bids_sr.survey.preflight.plan import Plan
from bids_sr.version import __version__
from bids_sr.workflows.call_checks import check
from bids_sr.workflows.participant import make_graph

VERSION = "0"


def planned_call(maker: BidsMaker, root: Path, *options: str) -> tuple[Settings, Plan]:
    """Return settings and plan of a call with results below `root`; preflight must find no
    problem.
    """
    argv = [str(maker.root), str(root / "out"), "participant", "-w", str(root / "work")]
    settings = parse_settings([*argv, "--skip-bids-validation", *options]).resolve(run_uuid="x")
    plan = check(settings)
    assert plan.problems == ()
    return settings, plan


def planned_graph(maker: BidsMaker, root: Path, *options: str) -> Graph:
    """Return the graph of all participants; see `planned_call`."""
    return make_graph(*planned_call(maker, root, *options), VERSION)


def stage_minutes(settings: Settings) -> dict[str, float]:
    """Return the processor minutes of each stage, as in the dry run."""
    return {row.stage: row.minutes for row in estimate_with_time(check(settings), settings).rows}


def finish_trainings(settings: Settings, plan: Plan) -> None:
    """Record all trainings of a call and the steps before them as finished, with empty results."""
    work_dir = settings.paths.work_dir or Path()
    graph = make_graph(settings, plan, VERSION)
    trainings = [node for node in graph.nodes if trains_network(node)]
    steps = FinishedSteps(graph, work_dir, trainings)
    unfinished = steps.unfinished_steps()
    steps.write_requests(unfinished)
    assert settings.paths.version_file is not None
    settings.paths.version_file.write_text(__version__)
    for folder in (find_folder(node, work_dir) for node in unfinished):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.txt").touch()
        record_files(folder)


def steps_of(graph: Graph) -> set[str]:
    """Return the names of all steps in a graph."""
    return {node.step.__name__ for node in graph.nodes}


def nodes_of(graph: Graph, step: str) -> list[Node]:
    """Return the nodes of a step."""
    return [node for node in graph.nodes if node.step.__name__ == step]


def made_by(graph: Graph, node: Node, name: str) -> list[object]:
    """Return the sources of an input: nodes, or values of the call."""
    wire = graph.wires[node].get(name)
    return [] if wire is None else [handle.source for handle in wire.handles]
