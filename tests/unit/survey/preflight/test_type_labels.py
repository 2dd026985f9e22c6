"""Labels of trial types are distinct without case among all events tables of a task."""

from collections.abc import Sequence

import pytest
from data.calls import plan_for
from data.dataset import BidsMaker

from bids_sr.survey.preflight.plan import Plan

BASELINE = ("--sr-method", "bspline")


@pytest.fixture
def alike(maker: BidsMaker) -> BidsMaker:
    """Add runs and participants whose types differ from those of the first in case or symbols."""
    write_run(maker, "sub-01_task-tap", ["thumb", "go_left"])
    write_run(maker, "sub-01_task-tap_run-2", ["thumb 2"])
    write_run(maker, "sub-02_task-tap", ["Thumb", "goleft"])
    write_run(maker, "sub-02_task-other", ["THUMB"])
    return maker


def write_run(maker: BidsMaker, stem: str, types: Sequence[str]) -> None:
    maker.bold(stem)
    rows = [(4.0 + 10 * k, 4.0, types[k % len(types)]) for k in range(4)]
    maker.events(stem, rows)


def labels_of(plan: Plan) -> dict[str, dict[str, str]]:
    """Return the names of contrasts of single types by run."""
    assert plan.problems == ()
    return {
        run.stem: {
            next(iter(weights)): name
            for name, weights in plan.contrasts[run.bold].items()
            if len(weights) == 1
        }
        for run in plan.runs
    }


def test_labels_do_not_depend_on_the_selection(alike: BidsMaker) -> None:
    """Folders and tables of other participants that cannot be read are skipped."""
    (alike.root / "sub-03").mkdir()
    (alike.root / "sub-03" / "func").write_text("no folder")
    alike.events("sub-04_task-tap").write_bytes(b"\xff\xfe")
    expected = {
        "sub-01_task-tap": {"thumb": "thumb3", "go_left": "goLeft"},
        "sub-01_task-tap_run-2": {"thumb 2": "thumb2"},
        "sub-02_task-tap": {"Thumb": "Thumb", "goleft": "goleft2"},
        "sub-02_task-other": {"THUMB": "THUMB"},
    }
    assert labels_of(plan_for(alike, *BASELINE)) == expected
    for options in ("--participant-label 01", "--participant-label 02", "--run-id 2"):
        labels = labels_of(plan_for(alike, *BASELINE, *options.split()))
        assert labels
        assert labels.items() <= expected.items()
