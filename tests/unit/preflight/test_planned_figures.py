"""Figures of correlation maps and of two conditions, by options and conditions of a run."""

from pathlib import Path

import pytest
from data.dataset import BidsMaker
from graphmaker import nodes_of, planned_graph, steps_of

THREE = [(4.0 * k, 2.0, ("thumb", "little", "left foot")[k % 3]) for k in range(7)]


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    data = BidsMaker(tmp_path / "data")
    data.subject()
    return data


@pytest.mark.parametrize(
    ("options", "correlation", "overlap"),
    [
        ("", False, ["little", "thumb"]),
        ("--set activation.kinds=cc", True, ["little", "thumb"]),
        ("--set activation.kinds=[cc,glm]", True, ["little", "thumb"]),
        ("--set activation.kinds=glm", False, None),
        ("--set activation.thresholds=fdr", False, None),
        ("--contrasts thumb thumb-little", False, None),
        ("--recipe paper --sr-method sbl", True, ["little", "thumb"]),
        ("--config-file ota2022 --recipe fast --dummy-scans 2", True, ["little", "thumb"]),
        (
            "--config-file ota2022 --recipe fast --dummy-scans 2 --set activation.kinds=glm",
            False,
            None,
        ),
    ],
)
def test_planned_figures_depend_on_options(
    maker: BidsMaker, tmp_path: Path, options: str, correlation: bool, overlap: object
) -> None:
    graph = planned_graph(maker, tmp_path, *options.split())
    assert ("draw_correlation" in steps_of(graph)) == correlation
    overlap_nodes = nodes_of(graph, "draw_overlap")
    assert [graph.settings[node]["overlap_pair"] for node in overlap_nodes] == (
        [] if overlap is None else [overlap]
    )
    assert "draw_activation" in steps_of(graph)


def test_three_conditions_have_no_figure_of_two(maker: BidsMaker, tmp_path: Path) -> None:
    maker.events(rows=THREE)
    assert "draw_overlap" not in steps_of(planned_graph(maker, tmp_path))


def test_runs_at_rest_have_neither_figure(maker: BidsMaker, tmp_path: Path) -> None:
    options = ("--set", "activation.kinds=[cc, glm]", "--ignore", "events")
    graph = planned_graph(maker, tmp_path, *options)
    assert not {"draw_overlap", "draw_correlation"} & steps_of(graph)
