"""Test runs without events: seeds in place of events, and the methods text."""

from pathlib import Path

import pytest
from data.dataset import BidsMaker
from graphmaker import made_by, nodes_of, planned_graph, steps_of

from bids_sr.engine.graph import Graph
from bids_sr.engine.store import store


@pytest.mark.parametrize("with_anat", [True, False])
def test_seeds_replace_events(tmp_path: Path, with_anat: bool) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.bold(n_volumes=90)
    if with_anat:
        maker.t1w()
    graph = planned_graph(maker, tmp_path)
    step = "seed_series" if with_anat else "component_series"
    assert steps_of(graph) & {"seed_series", "component_series"} == {step}
    for node in nodes_of(graph, "map_series"):
        assert [
            source_node.step.__name__ for source_node in made_by(graph, node, "regressors")
        ] == [step]
    assert "store_regressors" in {node.name for node in graph.nodes}
    assert ("MNI coordinates" in graph.methods_text()) is with_anat
    assert mapped_by(graph) == {"seeds"}


def test_each_series_can_have_its_own_seeds(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.bold(n_volumes=120)
    maker.t1w()
    graph = planned_graph(
        maker, tmp_path, "--set", "activation.seed_series=own", "--confounds", "motion"
    )
    for node in nodes_of(graph, "map_series"):
        assert graph.settings[node]["correlation_confounds"] is True
    for name in ("map_series", "seed_series", "own_seed_series"):
        for node in nodes_of(graph, name):
            assert graph.settings[node]["nuisance"] == ["motion"]
    mapped = nodes_of(graph, "map_series")
    assert len(mapped) == len(nodes_of(graph, "own_seed_series")) > 1
    for node in mapped:
        (source_node,) = made_by(graph, node, "own_regressors")
        assert source_node.step.__name__ == "own_seed_series"
        assert source_node.scope is node.scope


def mapped_by(graph: Graph) -> set[str]:
    """Return `MappedBy` of the provenance of a run's tables."""
    names = {"store_image_metrics", "store_activation", "store_evaluation"}
    tables = [node for node in graph.nodes if node.step is store and node.name in names]
    assert {node.name for node in tables} == names
    return {graph.settings[node]["provenance"]["MappedBy"] for node in tables}


def test_echoes_are_combined_before_all_other_steps(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    for number, te in enumerate((0.012, 0.028), 1):
        maker.bold(f"sub-01_task-tap_echo-{number}", sidecar={"EchoTime": te})
    maker.events()
    graph = planned_graph(maker, tmp_path)
    [combine] = nodes_of(graph, "combine_echoes")
    assert graph.settings[combine] == {"echo_times": [12.0, 28.0]}
    files = made_by(graph, combine, "echo_files")
    assert [Path(path).name for path in files] == [
        f"sub-01_task-tap_echo-{number}_bold.nii.gz" for number in (1, 2)
    ]
    [import_node] = nodes_of(graph, "import_series")
    assert made_by(graph, import_node, "bold_file") == [combine]
