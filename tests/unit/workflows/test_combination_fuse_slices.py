"""Test when runs are fused across slices, and which results are stored."""

from pathlib import Path

import pytest
from bidsmaker import BidsMaker
from graphmaker import nodes_of, planned_graph, steps_of

from bids_sr.pipeline.graph import Graph
from bids_sr.pipeline.store import store

STEPS = {"measure_displacements", "measure_slow_sd", "decide_fusion", "fuse_maps"}
PLAIN = ["--sr-method", "bspline", "zerofill", "--sr-factor", "2"]


def graph_of(root: Path, *names: str, options: tuple[str, ...] = (), events: bool = True) -> Graph:
    """Return the graph of a participant with some runs."""
    maker = BidsMaker(root / "bids")
    for name in names:
        maker.bold(f"sub-01_{name}")
        if events:
            maker.events(f"sub-01_{name}")
    return planned_graph(maker, root, *PLAIN, *options)


def test_two_runs_are_fused_on_request_if_their_slices_are_displaced(tmp_path: Path) -> None:
    graph = graph_of(tmp_path, "task-tap_run-1", "task-tap_run-2", options=("--fuse-slices",))
    (fuse,) = nodes_of(graph, "fuse_maps")
    assert fuse.settings["first"] == "run-1"
    assert fuse.settings["runs_of_contrasts"]["all"] == ("run-1", "run-2")
    assert len(nodes_of(graph, "measure_slow_sd")) == 2
    (stored,) = [
        node for node in graph.nodes if node.step is store and node.name == "store_fused_maps"
    ]
    assert stored.settings["entities"] == {"subject": "01", "task": "tap", "datatype": "func"}
    labels = {choice["desc"] for choice in stored.settings["among"]}
    series = fuse.settings["series_name"]
    assert {f"{series}Fused", f"{series}Splined"} <= labels
    assert all(choice["stat"] == "effect" for choice in stored.settings["among"])
    assert "could be fused on slices of half the thickness" in graph.methods_text()


def test_a_contrast_missing_in_the_first_run_is_not_fused(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    rows = [(2.0 + 5 * k, 4.0, ("thumb", "little")[k % 2]) for k in range(20)]
    for run in (1, 2, 3):
        maker.bold(f"sub-01_task-tap_run-{run}", n_volumes=120)
        run_rows = [
            (onset, duration, kind) for onset, duration, kind in rows if run > 1 or kind == "thumb"
        ]
        maker.events(f"sub-01_task-tap_run-{run}", run_rows)
    (fuse,) = nodes_of(planned_graph(maker, tmp_path, *PLAIN, "--fuse-slices"), "fuse_maps")
    assert fuse.settings["runs_of_contrasts"] == {"thumb": ("run-1", "run-2", "run-3")}
    assert list(fuse.settings["contrasts"]) == ["thumb"]


@pytest.mark.parametrize(
    ("names", "options", "events"),
    [
        pytest.param(("task-tap",), (), True, id="a single run"),
        pytest.param(("task-rest_run-1", "task-rest_run-2"), (), False, id="at rest"),
        pytest.param(("ses-a_task-tap", "ses-b_task-tap"), (), True, id="over sessions"),
        pytest.param(
            ("task-tap_run-1", "task-tap_run-2"),
            ("--set", "activation.kinds=cc"),
            True,
            id="no effects",
        ),
    ],
)
def test_other_runs_are_not_fused(
    tmp_path: Path, names: tuple[str, ...], options: tuple[str, ...], events: bool
) -> None:
    options = (*options, "--fuse-slices")
    assert not STEPS & steps_of(graph_of(tmp_path, *names, options=options, events=events))


def test_runs_are_not_fused_by_default(tmp_path: Path) -> None:
    assert not STEPS & steps_of(graph_of(tmp_path, "task-tap_run-1", "task-tap_run-2"))
