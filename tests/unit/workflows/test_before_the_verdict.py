"""Which steps the verdict of a run waits for."""

from bidsmaker import BidsMaker

from bids_sr.cli.parser import parse_settings
from bids_sr.pipeline.graph import Placed
from bids_sr.preflight import check
from bids_sr.workflows.participant import graph_of


def test_the_verdict_does_not_wait_for_the_errors_of_maps(maker: BidsMaker) -> None:
    maker.subject()
    line = [str(maker.root), str(maker.root.parent / "out"), "participant"]
    settings = parse_settings([*line, "--skip-bids-validation"]).resolved(run_uuid="x")
    graph = graph_of(settings, check(settings), "0")

    def before(name: str) -> set[str]:
        (last,) = (placed for placed in graph.placed if placed.name == name)
        known, left = set[Placed](), [last]
        while left:
            placed = left.pop()
            makers = (maker for wire in graph.wires[placed].values() for maker in wire.makers)
            new = {maker.placed for maker in makers if maker.placed is not None} - known
            known |= new
            left += new
        return {placed.name for placed in known}

    needed, joined = before("judge"), before("join_evaluation")
    assert {"map_series", "super_resolve", "estimate_variance", "raise_flags"} <= needed
    assert not needed & {"check_intervals", "measure_error", "compare_maps", "draw_activation"}
    assert joined >= needed | {"judge", "check_intervals", "measure_error"}
