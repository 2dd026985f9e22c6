"""Which results become files at each level: steps that store are placed for these alone, all
others as always.
"""

from pathlib import Path

import pytest
from bidsmaker import BidsMaker
from graphmaker import planned_graph

from bids_sr.pipeline.graph import Graph
from bids_sr.pipeline.nodes import Node
from bids_sr.pipeline.store import store


def _graph(root: Path, *options: str) -> Graph:
    maker = BidsMaker(root / "bids")
    maker.subject()
    return planned_graph(maker, root, "--sr-method", "sbl", *options)


def _kept(graph: Graph) -> dict[str, Node]:
    """What is stored among all results, by scopes of a run or participant and artifact."""
    stores = (
        each for each in graph.nodes if each.step is store and graph.settings[each]["in_output"]
    )
    return {
        f"{each.scope.path}.{each.name.removeprefix('keep_')}".partition("_tap_wf.")[2]
        or str(each): each
        for each in stores
    }


def _folder(stored: Node) -> Path:
    """Return the folder of what is stored: of all results, or of figures that are not results."""
    return Path(str(stored.settings["output_dir"]))


@pytest.fixture(scope="module")
def by_level(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Graph]:
    levels = ("minimal", "standard", "full")
    return {level: _graph(tmp_path_factory.mktemp(level), "--level", level) for level in levels}


def test_a_level_decides_nothing_but_what_is_stored(by_level: dict[str, Graph]) -> None:
    """So that a second call with a higher one computes nothing again."""
    made = [
        [each for each in graph.nodes if each.step is not store] for graph in by_level.values()
    ]
    minimal, standard, full = ([str(each) for each in steps] for steps in made)
    assert minimal == standard == full
    assert {each.step.__name__ for each in made[0] if "level" in each.step.settings} == {
        "show_viewer",
        "draw_overview",
    }, "they name files"


def test_each_level_stores_what_the_one_below_stores(by_level: dict[str, Graph]) -> None:
    minimal, standard, full = ({*_kept(graph)} for graph in by_level.values())
    assert minimal < standard < full


def test_the_smallest_level_stores_series_confounds_tables_and_what_the_report_shows(
    by_level: dict[str, Graph],
) -> None:
    """Beside the data set for other programs, which is whole at every level."""
    stores = _kept(by_level["minimal"]).values()
    drawn = [each for each in stores if _folder(each).parent.name == "figures"]
    assert {each.name.removeprefix("keep_") for each in stores if each not in drawn} == {
        "preproc",
        "series",
        "confounds",
        "registration",
        "activation",
        "image_metrics",
        "evaluation",
        "verdict",
    }
    assert len(drawn) > 15
    assert {_folder(each).name for each in _kept(by_level["full"]).values()} == {"out"}


def test_series_of_methods_are_stored_always_and_those_of_baselines_in_full(
    by_level: dict[str, Graph],
) -> None:
    kept = {level: {*_kept(graph)} for level, graph in by_level.items()}
    for found in kept.values():
        assert "sbl.series" in found
    assert "bspline.series" not in kept["standard"]
    assert {"bspline.series", "zerofill.series"} <= kept["full"]


def test_maps_of_a_baseline_are_no_files_of_the_standard_level_unless_it_is_named(
    by_level: dict[str, Graph], tmp_path: Path
) -> None:
    def mapped(graph: Graph) -> set[str]:
        return {name.partition(".")[0] for name in _kept(graph) if name.endswith(".maps")}

    assert mapped(by_level["minimal"]) == set()
    assert mapped(by_level["standard"]) == {"raw", "bspline", "sbl"}
    assert mapped(by_level["full"]) == {"raw", "bspline", "sbl", "zerofill"}
    named = _graph(tmp_path, "--level", "standard", "--sr-method", "sbl", "zerofill")
    assert mapped(named) == {"raw", "bspline", "sbl", "zerofill"}


def test_of_each_contrast_the_maps_are_chosen_by_statistic_and_smoothing(
    by_level: dict[str, Graph],
) -> None:
    among = by_level["standard"].settings[_kept(by_level["standard"])["sbl.maps"]]["among"]
    smooth = [("t", "sblFwhm50"), ("effect", "sblFwhm50")]
    maps = [(each["stat"], each["desc"]) for each in among if each["suffix"] == "statmap"]
    beside = [(stat, desc) for _, desc in smooth[1:] for stat in ("sd", "tTotal")]
    beside += [(stat, "sbl") for stat in ("sd", "tTotal", "wrongsign")]
    assert sorted(maps) == sorted(
        [*((stat, "sbl") for stat in ("t", "effect", "variance")), *smooth, *beside]
    )
    regions = [each["desc"] for each in among if each["suffix"] == "mask"]
    assert regions == ["sblReliable", "sblFwhm50Reliable"]


def test_the_data_set_for_other_programs_is_whole_at_every_level(
    by_level: dict[str, Graph],
) -> None:
    def linked(graph: Graph) -> set[str]:
        return {
            str(each)
            for each in graph.nodes
            if each.step is store and graph.settings[each]["exported_as"] is not None
        }

    assert (
        linked(by_level["minimal"])
        == linked(by_level["standard"])
        == linked(by_level["full"])
        != set()
    )
