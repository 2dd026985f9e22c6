"""Conditions of --overlap compared with the conditions of runs, and planned figures."""

from pathlib import Path

import pytest
from bidsmaker import BidsMaker
from graphmaker import nodes_of, planned_graph, steps_of

from bids_sr.cli.parser import parse_settings
from bids_sr.glm.condition_pair import condition_pair
from bids_sr.preflight import check
from bids_sr.preflight.plan import Plan

THREE = [(4.0 * k, 2.0, ("thumb", "little", "left foot")[k % 3]) for k in range(7)]


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    data = BidsMaker(tmp_path / "data")
    data.subject()
    return data


def plan_of(maker: BidsMaker, *options: str) -> Plan:
    out = maker.root.parent / "out"
    argv = [str(maker.root), str(out), "participant", "--skip-bids-validation", *options]
    return check(parse_settings(argv).resolve(run_uuid="x"))


def notes_of(plan: Plan) -> list[str]:
    return [notice.why for notice in plan.warnings if "overlap" in notice.why]


@pytest.mark.parametrize(
    ("names", "conditions", "pair"),
    [
        ((), ("thumb", "little"), ("thumb", "little")),
        ((), ("thumb", "little", "foot"), None),
        ((), ("thumb",), None),
        (("little", "thumb"), ("thumb", "little", "foot"), ("little", "thumb")),
        (("left foot", "thumb"), ("thumb", "leftFoot"), ("leftFoot", "thumb")),
        (("thumb", "toe"), ("thumb", "little"), None),
    ],
)
def test_the_condition_pair_of_a_run(names, conditions, pair) -> None:
    contrasts = {name: {name: 1.0} for name in conditions}
    contrasts |= {"all": dict.fromkeys(conditions, 0.5), "a": {"thumb": 1.0, "little": -1.0}}
    if len(conditions) == 1:
        del contrasts["all"]
    assert condition_pair(names, contrasts) == pair


def test_error_of_unmapped_conditions_lists_mapped_conditions(maker: BidsMaker) -> None:
    (problem,) = plan_of(maker, "--overlap", "thum", "little").problems
    assert problem.what == "--overlap thum little"
    assert problem.why == (
        "no run contains the contrast of thum against rest (mapped conditions: little, thumb)"
    )
    assert problem.remedy == "did you mean 'thumb'?"
    options = ("--overlap", "thumb", "little", "--contrasts", "thumb-little")
    (problem,) = plan_of(maker, *options).problems
    assert problem.why.endswith("(mapped conditions: none)")
    assert "add the missing conditions to --contrasts" in problem.remedy


def test_runs_without_the_pair_are_named(maker: BidsMaker) -> None:
    maker.bold("sub-01_task-tap_run-2")
    maker.events("sub-01_task-tap_run-2", THREE)
    assert notes_of(plan_of(maker, "--overlap", "thumb", "little")) == []
    (note,) = notes_of(plan_of(maker, "--overlap", "thumb", "left foot"))
    assert note == (
        "the overlap of thumb and left foot is not drawn for this run because its mapped"
        " conditions are little, thumb."
    )
    (note,) = notes_of(plan_of(maker, "--overlap", "auto"))
    assert note.startswith(
        "the run has 3 mapped conditions (leftFoot, little, thumb), so no overlap"
    )


@pytest.mark.parametrize(
    ("options", "correlation", "overlap"),
    [
        ("", False, None),
        ("--overlap auto", False, ("little", "thumb")),
        ("--overlap little thumb", False, ("little", "thumb")),
        ("--set activation.kinds=cc", True, None),
        ("--set activation.kinds=[cc,glm]", True, None),
        ("--set activation.kinds=glm", False, None),
        ("--recipe paper --sr-method sbl", True, None),
        ("--config-file ota2022 --recipe fast --dummy-scans 2", True, ("little", "thumb")),
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


def test_runs_at_rest_have_neither_figure(maker: BidsMaker, tmp_path: Path) -> None:
    options = ("--overlap", "auto", "--set", "activation.kinds=[cc, glm]", "--ignore", "events")
    graph = planned_graph(maker, tmp_path, *options)
    assert not {"draw_overlap", "draw_correlation"} & steps_of(graph)
