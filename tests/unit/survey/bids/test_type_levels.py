"""Order of trial types: Levels at the root of the data set, not of a participant or session."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from data.calls import problem_of, survey_for
from data.dataset import BidsMaker

from bids_sr.survey.bids.layout import Index, open_index
from bids_sr.survey.bids.type_levels import (
    read_type_order,
    refuse_unreadable_sidecars,
    warn_of_unreadable_sidecars,
)


@pytest.fixture
def events(tmp_path: Path) -> BidsMaker:
    """Return a data set with the events of one participant, without images."""
    data = BidsMaker(tmp_path / "bids")
    data.events("sub-01_task-tap")
    return data


def index_of(maker: BidsMaker) -> Index:
    return open_index(maker.root, ["01"], ["01"], None, {})


def write_levels(maker: BidsMaker, name: str, levels: Sequence[str]) -> Path:
    """Write a sidecar of events below the root of the data set."""
    path = maker.root / name
    maker.json(path, {"trial_type": {"Levels": dict.fromkeys(levels, "")}})
    return path


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, ()),
        ({"events.json": "ab"}, ("a", "b")),
        ({"task-tap_events.json": "ba"}, ("b", "a")),
        ({"events.json": "ab", "task-tap_events.json": "ca"}, ("c", "a", "b")),
        ({"task-rest_events.json": "ba"}, ()),
        # sidecars of single runs only add types
        ({"events.json": "ab", "task-tap_run-2_events.json": "cba"}, ("a", "b", "c")),
        # sidecars of one participant or session do not count, wherever they are
        ({"sub-01_task-tap_events.json": "ba"}, ()),
        ({"task-tap_ses-pre_events.json": "ba"}, ()),
        ({"sub-01/sub-01_events.json": "ba"}, ()),
        ({"sub-01/func/sub-01_task-tap_events.json": "ba"}, ()),
    ],
)
def test_levels_at_the_root_give_the_order_of_a_task(
    files: dict[str, str], expected: tuple[str, ...], events: BidsMaker
) -> None:
    for name, levels in files.items():
        write_levels(events, name, levels)
    assert read_type_order(index_of(events), "tap") == expected


@pytest.mark.parametrize("content", ['{"trial_type"', "[]", "\xff"])
def test_a_sidecar_of_a_participant_that_cannot_be_read_is_not_required(
    content: str, events: BidsMaker
) -> None:
    write_levels(events, "sub-01/sub-01_events.json", "ba")
    path = events.path("sub-01_task-tap_events.json", "func")
    path.write_text(content, encoding="latin-1")
    (warning,) = warn_of_unreadable_sidecars(index_of(events), path.with_suffix(".tsv"))
    assert (warning.level, warning.what) == ("warning", str(path))


def test_a_sidecar_of_all_participants_that_cannot_be_read_stops_the_call(
    maker: BidsMaker,
) -> None:
    path = maker.root / "task-tap_events.json"
    path.write_text('{"trial_type"')
    assert [*refuse_unreadable_sidecars(index_of(maker), "rest")] == []
    assert read_type_order(index_of(maker), "tap") == ()
    assert problem_of(survey_for(maker).problems, str(path), "JSON").subject == ""
