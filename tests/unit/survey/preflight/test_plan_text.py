"""Test how the plan names methods."""

import pytest
from data.dataset import BidsMaker
from graphmaker import nodes_of, planned_call, planned_graph

from bids_sr.survey.preflight.plan_text import choice_lines

LABEL = "srgan (fast, no critic)"


@pytest.mark.parametrize(
    ("options", "label"),
    [
        (("--sr-method", "srgan", "sbl"), f"{LABEL}, sbl"),
        (("--sr-method", "srgan", "--recipe", "paper", "--set", "srgan.patch=16"), "srgan"),
        (("--sr-method", "sbl"), "sbl"),
    ],
)
def test_srgan_without_a_critic_is_labeled(
    options: tuple[str, ...], label: str, maker: BidsMaker
) -> None:
    maker.subject()
    settings, plan = planned_call(maker, maker.root.parent, *options)
    methods = [text for title, text in choice_lines(plan, settings) if title == "method"]
    assert [text.partition(" by ")[0] for text in methods] == [label]


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ((), {"srgan": LABEL}),
        (("--recipe", "paper", "--set", "srgan.patch=16"), None),
        (("--sr-method", "sbl"), None),
    ],
)
def test_figures_are_drawn_with_the_label(
    options: tuple[str, ...], labels: dict[str, str] | None, maker: BidsMaker
) -> None:
    maker.subject()
    graph = planned_graph(maker, maker.root.parent, *options)
    for step in ("draw_evaluation", "show_viewer"):
        (node,) = nodes_of(graph, step)
        assert graph.settings[node].get("series_labels") == labels
