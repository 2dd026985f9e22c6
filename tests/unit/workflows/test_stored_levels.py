"""Test which results become files at each level: only steps that store depend on the level."""

from pathlib import Path

import pytest
from data.dataset import BidsMaker
from graphmaker import planned_graph

from bids_sr.engine.graph import Graph
from bids_sr.engine.nodes import Node
from bids_sr.engine.store import derivative_path, store
from bids_sr.report.figure_step import FigureStep


def _graph(root: Path, *options: str) -> Graph:
    maker = BidsMaker(root / "bids")
    maker.subject()
    return planned_graph(maker, root, "--sr-method", "sbl", *options)


def _stored(graph: Graph) -> dict[str, Node]:
    """Return the steps that store results, by scope within a run or participant and artifact."""
    stores = (
        node for node in graph.nodes if node.step is store and graph.settings[node]["in_output"]
    )
    return {
        f"{node.scope.path.removesuffix('_storage')}.{node.name.removeprefix('store_')}".partition(
            "_tap_wf."
        )[2]
        or str(node): node
        for node in stores
    }


@pytest.fixture(scope="module")
def graphs_by_level(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Graph]:
    levels = ("minimal", "standard", "full")
    return {level: _graph(tmp_path_factory.mktemp(level), "--level", level) for level in levels}


def test_the_events_of_a_run_are_stored_under_a_name_without_entities_of_series(
    tmp_path: Path,
) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.bold("sub-01_task-tap_part-mag", n_volumes=68)
    maker.events("sub-01_task-tap")
    description = {"trial_type": {"Levels": {"thumb": "tapping"}}}
    maker.json(maker.path("sub-01_task-tap_events.json", "func"), description)

    def stored_events(*options: str) -> list[Node]:
        graph = planned_graph(maker, tmp_path, "--sr-method", "sbl", *options)
        nodes = [node for node in graph.nodes if node.name == "store_events_table"]
        for node in nodes:
            settings = graph.settings[node]
            entities = {**settings["entities"], **settings["own_entities"], "extension": ".tsv"}
            assert derivative_path(entities) == "sub-01/func/sub-01_task-tap_events.tsv"
            assert settings["own_sidecar"]["trial_type"] == description["trial_type"]
            assert settings["exported_as"] == {}
        return nodes

    assert len(stored_events("--level", "minimal")) == 1
    assert stored_events("--ignore", "events") == []


def test_a_level_only_affects_which_results_are_stored(graphs_by_level: dict[str, Graph]) -> None:
    """Repeating a call at a higher level computes nothing again. The data set for other programs
    is complete at every level.
    """
    computed, exported = [], []
    for graph in graphs_by_level.values():
        stores = [node for node in graph.nodes if node.step is store]
        computed.append([str(node) for node in graph.nodes if node.step is not store])
        exported.append({str(n) for n in stores if graph.settings[n]["exported_as"] is not None})
    assert computed[0] == computed[1] == computed[2]
    assert exported[0] == exported[1] == exported[2] != set()
    minimal, standard, full = ({*_stored(graph)} for graph in graphs_by_level.values())
    assert minimal < standard < full
    assert "sbl.series" in minimal
    assert "bspline.series" not in standard
    assert {"bspline.series", "zerofill.series"} <= full


def test_the_minimal_level_stores_series_confounds_tables_and_figures_of_the_report(
    graphs_by_level: dict[str, Graph],
) -> None:
    """Count results without the data set for other programs, which is complete at every level."""
    graph = graphs_by_level["minimal"]
    stored = {node.name.removeprefix("store_") for node in _stored(graph).values()}
    figures = {node.name for node in graph.nodes if isinstance(node.step, FigureStep)}
    assert stored - figures == {
        "preproc",
        "series",
        "confounds",
        "events_table",
        "noise_record",
        "registration",
        "activation",
        "image_metrics",
        "regions",
        "evaluation",
        "verdict",
    }
    assert stored & figures == {
        *("summarize_subject", "draw_brain", "draw_normalization", "draw_pair", "draw_guide"),
        *("summarize_run", "draw_overview", "draw_motion", "draw_design", "draw_coregistration"),
        *("show_registration", "draw_variance", "draw_slice"),
        *("draw_overlap", "show_viewer", "draw_evaluation", "draw_quality"),
        *("show_regions", "show_reasons"),
    }


def test_without_series_only_series_and_the_data_set_for_other_programs_are_missing(
    graphs_by_level: dict[str, Graph], tmp_path: Path
) -> None:
    spaces = ("--output-spaces", "func", "T1w")
    graph = _graph(tmp_path, "--level", "full", "--set", "run.store_series=false", *spaces)
    full = _stored(graphs_by_level["full"])
    series = {name for name in full if name.endswith("series") or name == "preproc"}
    assert {name for name in full if name not in _stored(graph)} == series != set()
    stores = [node for node in graph.nodes if node.step is store]
    assert {graph.settings[node]["datasets"] for node in stores} == {()}
    assert not [node for node in stores if not graph.settings[node]["in_output"]]
    computed = [str(n) for n in graphs_by_level["full"].nodes if n.step is not store]
    assert {*computed} <= {str(node) for node in graph.nodes}


def test_maps_of_a_baseline_are_stored_at_the_standard_level_only_if_it_is_requested(
    graphs_by_level: dict[str, Graph], tmp_path: Path
) -> None:
    def mapped(graph: Graph) -> set[str]:
        return {name.partition(".")[0] for name in _stored(graph) if name.endswith(".maps")}

    assert mapped(graphs_by_level["minimal"]) == set()
    assert mapped(graphs_by_level["standard"]) == {"acquired", "bspline", "sbl"}
    assert mapped(graphs_by_level["full"]) == {"acquired", "bspline", "sbl"}
    with_baseline = _graph(tmp_path, "--level", "standard", "--sr-method", "sbl", "zerofill")
    assert mapped(with_baseline) == {"acquired", "bspline", "sbl", "zerofill"}


def test_maps_are_selected_by_statistic_and_smoothing(
    graphs_by_level: dict[str, Graph],
) -> None:
    among = graphs_by_level["standard"].settings[_stored(graphs_by_level["standard"])["sbl.maps"]][
        "among"
    ]
    maps = [(choice["stat"], choice["desc"]) for choice in among if choice["suffix"] == "statmap"]
    unsmoothed = ("t", "effect", "variance", "sd", "sdTotal", "tTotal")
    smoothed = ("effect", "sdTotal", "tTotal")
    assert set(maps) == {
        *((stat, "sbl") for stat in unsmoothed),
        *((stat, "sblFwhm50") for stat in smoothed),
    }
    regions = [choice["desc"] for choice in among if choice["suffix"] == "mask"]
    assert regions == [
        "sblSignReliable",
        "sblFwhm50SignReliable",
    ]


@pytest.mark.parametrize(
    ("options", "stored_contrasts"),
    [
        ("", {"thumb", "index", "ring", "toe", "all"}),
        ("--contrasts thumb difference=1*thumb-0.34*index-0.33*ring-0.33*toe", {None}),
    ],
)
def test_comparisons_with_all_other_types_are_stored_only_if_they_are_requested(
    tmp_path: Path, options: str, stored_contrasts: set[str | None]
) -> None:
    """Requested contrasts are all stored, whatever their weights."""
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    maker.bold(n_volumes=120)
    names = ("thumb", "index", "ring", "toe")
    maker.events(rows=[(2.0 + 5 * k, 4.0, names[k % 4]) for k in range(20)])
    graph = planned_graph(maker, tmp_path, "--sr-method", "sbl", *options.split())
    stores = _stored(graph)
    for series, expected in (("acquired", stored_contrasts), ("sbl", {None})):
        among = graph.settings[stores[f"{series}.maps"]]["among"]
        maps = [choice for choice in among if choice.get("stat") == "t"]
        assert {choice.get("contrast") for choice in maps} == expected
