"""Options repeat only the steps that use them: a record is not wider than its step."""

import pytest
from bidsmaker import BidsMaker
from graphmaker import planned_graph

from bids_sr.pipeline.graph import Graph

REPEATED = {
    ("--contrasts", "thumb"): {
        "check_intervals",
        "compare_maps",
        "draw_design",
        "gather_fine_effects",
        "map_series",
        "raise_flags",
    },
    ("--confounds", "motion"): {"check_intervals", "draw_design", "map_series"},
    ("--high-pass", "0.02"): {"check_intervals", "draw_design", "map_series", "measure_effects"},
    ("--low-pass", "0.2"): {"map_series"},
    ("--level", "full"): {"draw_overview", "show_viewer"},
}
"""Steps whose own settings change, by option. Later steps are repeated if their inputs change."""


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> BidsMaker:
    data_set = BidsMaker(tmp_path_factory.mktemp("repeated") / "data")
    data_set.subject()
    return data_set


@pytest.fixture(scope="module")
def plain(maker: BidsMaker) -> dict[str, dict[str, object]]:
    return settings_by_step(planned_graph(maker, maker.root.parent))


def settings_by_step(graph: Graph) -> dict[str, dict[str, object]]:
    """Return the settings of the steps of a graph, without steps that store outputs."""
    return {
        f"{node.scope.path}.{node.name}": {
            name: value
            for name, value in graph.settings[node].items()
            if name in node.step.settings
        }
        for node in graph.nodes
        if node.step is not graph.scope.store
    }


@pytest.mark.parametrize("option", REPEATED)
def test_an_option_repeats_only_the_steps_that_use_it(
    option: tuple[str, str], maker: BidsMaker, plain: dict[str, dict[str, object]]
) -> None:
    changed = settings_by_step(planned_graph(maker, maker.root.parent, *option))
    repeated = {
        path.rpartition(".")[2]
        for path, settings in changed.items()
        if path in plain and settings != plain[path]
    }
    assert repeated == REPEATED[option]
