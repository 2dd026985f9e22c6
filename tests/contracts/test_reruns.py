"""A changed option repeats the steps that it concerns, and no other work.

A step runs again if its settings, its given files or the origin of its inputs change. That the
content of its inputs changes is not counted here.
"""

from collections.abc import Callable
from functools import cache

import pytest
from data.dataset import BidsMaker
from graphmaker import planned_graph

from bids_sr.engine.graph import Graph
from bids_sr.engine.nodes import Node

HIGH, LOW = (0.75, 0.75, 4.0), (1.5, 1.5, 4.0)


def make_run(maker: BidsMaker) -> None:
    """Write a run that is large enough for patches, with a pair and a calibration run."""
    maker.subject()
    for path in maker.root.rglob("*_T2starw.*"):
        path.unlink()
    maker.star("sub-01_acq-highres", HIGH)
    maker.star("sub-01_acq-lowres", LOW)
    maker.bold(zooms=LOW, sidecar={"SliceTiming": [0.0, 0.5, 0.2, 0.7, 0.3, 0.8]})
    maker.bold("sub-01_task-tap_acq-highres", zooms=HIGH, n_volumes=20)
    maker.events("sub-01_task-tap_acq-highres")


def make_rest(maker: BidsMaker) -> None:
    maker.bold(zooms=LOW, n_volumes=120)
    maker.t1w()


def make_scans(maker: BidsMaker) -> None:
    for contrast in ("T1w", "T2w", "FLAIR"):
        for name, mm in (("fine", 3.0), ("coarse", 6.0)):
            file = f"sub-01_ses-a_acq-{name}_{contrast}.nii.gz"
            maker.image(file, "anat", (mm, mm, mm))


OPTIONS = {
    make_run: "--sr-method sbl srgan tv --set evaluation.roi_grow=true",
    make_rest: "--sr-method sbl",
    make_scans: "--sr-target anat",
}
MAPS = "check_intervals grow_region map_series measure_regions"
CHANGES: list[tuple[Callable[[BidsMaker], None], str, str]] = [
    (make_run, "--level full", ""),
    (make_run, "--dummy-scans 2", "count_dummies"),
    (make_run, "--set evaluation.margin=1", "decide_verdict"),
    (make_run, "--set preprocessing.fd_spike_threshold=0.2", "gather_confounds"),
    (make_run, "--confounds csf", "check_intervals check_region map_series measure_regions"),
    (make_run, "--set activation.low_pass=0.2", "grow_region map_series"),
    (make_run, "--smoothing 0 4", f"{MAPS} measure_error"),
    (
        make_run,
        "--set activation.hrf_model=glover",
        f"{MAPS} check_region measure_calibration",
    ),
    (make_run, "--slice-time-ref 0", f"{MAPS} check_region correct_slice_timing"),
    (make_run, "--roi brain", "define_region measure_regions unite_regions"),
    (make_run, "--calibration none", "check_intervals estimate_variance"),
    (make_run, "--set sbl.rounds=8", "estimate_variance"),
    (make_run, "--set sbl.guide=none", "compare_edges super_resolve"),
    (make_run, "--set srgan.batch=3", "train_on_pair"),
    (make_run, "--set tv.tv=0.02", "train_on_volumes"),
    (make_run, "--max-train-minutes 5", "train_on_pair train_on_volumes"),
    (make_rest, "--set activation.low_pass=0.2", "map_series"),
    (make_rest, "--set activation.seed_series=own", "map_series measure_regions"),
    (make_scans, "--set attunet.batch=3", "train_on_scans"),
    (make_scans, "--set anat.align=affine", "prepare_scans super_resolve_scans train_on_scans"),
    (make_scans, "--set anat.mask=intracranial", "prepare_scans"),
]
"""Data set, added option, and the steps that take other inputs then.

Steps that draw and summarize are not listed.
"""


def inputs_of(graph: Graph) -> dict[str, str]:
    """Return what each node takes, except nodes that store, draw or summarize."""
    light = ("store", "draw_", "show_", "summarize_")
    nodes = [node for node in graph.nodes if not node.step.__name__.startswith(light)]
    return {str(node): repr((settings_of(graph, node), origins(graph, node))) for node in nodes}


def settings_of(graph: Graph, node: Node) -> list[tuple[str, str]]:
    """Return the settings of a node as text in which the order of a set does not matter."""
    return [
        (name, repr(sorted(map(repr, value)) if isinstance(value, set | frozenset) else value))
        for name, value in sorted(graph.settings[node].items())
    ]


def origins(graph: Graph, node: Node) -> list[tuple[str, list[str], object]]:
    """Return the nodes or given files from which a node takes its inputs."""
    return [
        (
            name,
            [f"{handle.node or handle.source}.{handle.name}" for handle in wire.handles],
            wire.names,
        )
        for name, wire in sorted(graph.wires[node].items())
    ]


@pytest.fixture(scope="module")
def inputs_with(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Callable[[BidsMaker], None], str], dict[str, str]]:
    """Return a function that plans a call and returns the inputs of its nodes."""

    @cache
    def written(make: Callable[[BidsMaker], None]) -> BidsMaker:
        maker = BidsMaker(tmp_path_factory.mktemp("data") / "bids")
        make(maker)
        return maker

    @cache
    def plan(make: Callable[[BidsMaker], None], change: str) -> dict[str, str]:
        maker = written(make)
        options = [*OPTIONS[make].split(), *change.split()]
        return inputs_of(planned_graph(maker, maker.root.parent, *options))

    return plan


@pytest.mark.parametrize(("make", "change", "repeated"), CHANGES)
def test_an_option_repeats_only_the_steps_that_it_concerns(
    make: Callable[[BidsMaker], None],
    change: str,
    repeated: str,
    inputs_with: Callable[[Callable[[BidsMaker], None], str], dict[str, str]],
) -> None:
    before, after = inputs_with(make, ""), inputs_with(make, change)
    changed = {name for name in before.keys() & after.keys() if before[name] != after[name]}
    assert {name.rpartition(".")[2] for name in changed} == set(repeated.split())
