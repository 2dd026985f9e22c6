"""Test how the plan names methods, and its advice on the published network."""

import pytest
from data.dataset import BidsMaker
from graphmaker import nodes_of, planned_call, planned_graph

from bids_sr.survey.preflight.plan_text import choice_lines, notes

LABEL = "srgan (fast, no critic)"


@pytest.mark.parametrize(
    ("options", "label", "is_advised"),
    [
        (("--sr-method", "srgan", "sbl"), f"{LABEL}, sbl", True),
        (("--sr-method", "srgan", "--recipe", "paper", "--set", "srgan.patch=16"), "srgan", False),
        (("--sr-method", "sbl"), "sbl", False),
    ],
)
def test_srgan_without_a_critic_is_labeled_and_the_published_training_is_named(
    options: tuple[str, ...], label: str, *, is_advised: bool, maker: BidsMaker
) -> None:
    maker.subject()
    settings, plan = planned_call(maker, maker.root.parent, *options)
    methods = [text for title, text in choice_lines(plan, settings) if title == "method"]
    assert [text.partition(" by ")[0] for text in methods] == [label]
    advice = [note.why for note in notes(plan, settings) if "--recipe paper" in note.why]
    assert bool(advice) is is_advised
    if is_advised:
        assert "31 hours" in advice[0]


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
    for step in ("draw_activation", "draw_evaluation", "show_viewer"):
        (node,) = nodes_of(graph, step)
        assert graph.settings[node].get("series_labels") == labels


def test_without_a_pair_the_published_training_is_not_advised(maker: BidsMaker) -> None:
    maker.subject()
    maker.remove_pair()
    settings, plan = planned_call(maker, maker.root.parent)
    assert not [note for note in notes(plan, settings) if "--recipe paper" in note.why]
