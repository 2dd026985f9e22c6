"""Graphs of data sets that `bidsmaker` makes, as a call of the command line would build them."""

from pathlib import Path
from typing import Any

from bidsmaker import BidsMaker

from bids_sr.cli.parser import parse_settings
from bids_sr.preflight import check
from bids_sr.workflows.base import init_bids_sr_wf


def planned_graph(maker: BidsMaker, root: Path, *options: str) -> Any:
    """The whole graph; results would go to `root`. Nothing may stand against the call."""
    argv = [str(maker.root), str(root / "out"), "participant", "-w", str(root / "work"), "--skip-bids-validation"]
    settings = parse_settings([*argv, *options]).resolved(run_uuid="x")
    plan = check(settings)
    assert plan.problems == ()
    return init_bids_sr_wf(
        settings=settings, subjects=plan.subjects, contrasts=plan.contrasts, series_of=plan.series_of,
        unsplit=plan.unsplit, notices=[str(notice) for notice in plan.warnings], version="0",
    )  # fmt: skip
