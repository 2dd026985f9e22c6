"""Test steps that combine the runs of a participant, and which results are stored."""

import pytest
from data.dataset import BidsMaker
from graphmaker import nodes_of, planned_graph, steps_of

from bids_sr.engine.store import store

PLAIN = ["--sr-method", "bspline", "zerofill", "--sr-factor", "2"]


def two_runs(root):
    maker = BidsMaker(root / "bids")
    for run in (1, 2):
        maker.bold(f"sub-01_task-tap_run-{run}")
        maker.events(f"sub-01_task-tap_run-{run}")
    return maker


def stored_maps(graph):
    """Return settings of the steps that store combined maps."""
    return [
        node.settings
        for node in graph.nodes
        if node.step is store and node.name == "store_combined_maps"
    ]


@pytest.fixture(scope="module")
def graphs_by_level(tmp_path_factory):
    graphs = {}
    for level in ("minimal", "standard", "full"):
        root = tmp_path_factory.mktemp(level)
        graphs[level] = planned_graph(two_runs(root), root, *PLAIN, "--level", level)
    return graphs


def test_the_level_only_affects_which_results_are_stored(graphs_by_level):
    placed_steps = [
        [(node.scope.path, node.name, node.settings) for node in nodes_of(graph, "combine_maps")]
        for graph in graphs_by_level.values()
    ]
    assert placed_steps[0] == placed_steps[1] == placed_steps[2]
    assert [scope.rpartition(".")[2] for scope, _, _ in placed_steps[0]] == [
        "acquired",
        "bspline",
        "zerofill",
    ]
    assert len(stored_maps(graphs_by_level["minimal"])) == 0
    assert len(stored_maps(graphs_by_level["standard"])) == 3


def test_every_run_except_the_first_is_moved_and_maps_are_stored(graphs_by_level):
    graph = graphs_by_level["standard"]
    (node,) = nodes_of(graph, "register_to_first_run")
    assert node.scope.path.endswith("sub_01_task_tap_all_runs_wf.run_2_wf")
    resampled = nodes_of(graph, "resample_run_maps")
    assert len(resampled) == 6
    moved = {
        n.scope.path.rpartition(".")[2] for n in resampled if "first2run_xfm" in graph.wires[n]
    }
    assert moved == {"run_2_wf"}
    sizes = [node.settings["tested_mm"] for node in nodes_of(graph, "draw_participant")]
    assert sizes == [([12.0, 12.0, 4.0], [6.0, 6.0, 4.0])] * len(sizes) != []
    for settings in stored_maps(graph):
        assert settings["entities"] == {"subject": "01", "task": "tap", "datatype": "func"}
        stats = {choice.get("stat") for choice in settings["among"]}
        assert stats >= {"t", "effect", "personsd"}
        assert "z" not in stats
        assert settings["provenance"]["SettingsDigest"]
    full = stored_maps(graphs_by_level["full"])[0]["among"]
    assert {"suffix": "mask", "desc": "acquiredFdr"} in full
    assert "z" in {choice.get("stat") for choice in full}


def test_effects_of_several_sessions_are_in_percent(tmp_path):
    maker = BidsMaker(tmp_path / "bids")
    for name in ("ses-a_task-tap_run-1", "ses-a_task-tap_run-2", "ses-b_task-tap_run-1"):
        maker.bold(f"sub-01_{name}")
        maker.events(f"sub-01_{name}")
    graph = planned_graph(maker, tmp_path, *PLAIN)
    raw_nodes = [
        node for node in nodes_of(graph, "combine_maps") if node.scope.path.endswith(".acquired")
    ]
    comparisons = nodes_of(graph, "compare_with_first_run")
    assert [node.settings["over_sessions"] for node in comparisons] == [False, True, True]
    assert [list(node.settings["runs"]) for node in raw_nodes] == [
        ["run-1", "run-2"],
        ["ses-a_run-1", "ses-a_run-2", "ses-b_run-1"],
    ]
    assert "percent of the mean signal" in graph.methods_text()


def test_contrasts_missing_in_the_first_run_are_stored(tmp_path):
    maker = BidsMaker(tmp_path / "bids")
    kinds = ("thumb", "index", "ring", "little", "toe")
    for run in (1, 2, 3):
        maker.bold(f"sub-01_task-tap_run-{run}", n_volumes=120)
        rows = [(2.0 + 5 * k, 4.0, kinds[k % 5]) for k in range(20)]
        run_rows = [row for row in rows if run > 1 or row[2] != "toe"]
        maker.events(f"sub-01_task-tap_run-{run}", run_rows)
    graph = planned_graph(maker, tmp_path, *PLAIN)
    (combine,) = (
        node for node in nodes_of(graph, "combine_maps") if node.scope.path.endswith(".bspline")
    )
    assert combine.settings["contrasts"]["toe"] == ["run-2", "run-3"]
    for settings in stored_maps(graph):
        contrasts = {choice.get("contrast") for choice in settings["among"] if "stat" in choice}
        assert None in contrasts or "toe" in contrasts
    assert any(
        "contrast" in choice for settings in stored_maps(graph) for choice in settings["among"]
    )


def test_only_contrasts_over_runs_estimate_the_place_of_runs(tmp_path):
    maker = two_runs(tmp_path)
    steps = {"contrast_runs", "estimate_place_error"}
    assert not steps & steps_of(planned_graph(maker, tmp_path, *PLAIN))
    requests = ["--contrasts", "defaults", "thumb@run-1 - little@run-2"]
    graph = planned_graph(maker, tmp_path, *PLAIN, *requests, "--level", "full")
    assert steps <= steps_of(graph)
    assert any("all_runs" in node.scope.path for node in nodes_of(graph, "add_clusters"))
    mask = {"suffix": "mask", "desc": "bsplineFwhm50Fdr", "label": "thumbRun1MinusLittleRun2"}
    standard = planned_graph(maker, tmp_path, *PLAIN, *requests)
    assert any(mask in settings["among"] for settings in stored_maps(standard))
    assert all(node.settings["keeps_blocks"] for node in nodes_of(graph, "check_intervals"))
    (node, *_) = nodes_of(graph, "contrast_runs")
    (term, other) = node.settings["over_runs"]["thumbRun1MinusLittleRun2"]
    assert (term.contrast, term.runs, other.weight) == ("thumb", ("run-1",), -1)
