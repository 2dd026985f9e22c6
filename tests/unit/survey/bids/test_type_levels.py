"""Order of trial types: Levels at the root of the data set, not of a participant or session."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from data.calls import about, problem_of, survey_for
from data.dataset import BidsMaker


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    """Return two participants with a run."""
    data = BidsMaker(tmp_path / "bids")
    for label in ("01", "02"):
        data.bold(f"sub-{label}_task-tap")
        data.events(f"sub-{label}_task-tap")
    return data


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
    files: dict[str, str], expected: tuple[str, ...], maker: BidsMaker
) -> None:
    for name, levels in files.items():
        write_levels(maker, name, levels)
    result = survey_for(maker, "--participant-label", "02")
    assert (result.problems, result.type_order) == ([], {"tap": expected})


def test_the_nearest_levels_of_a_participant_are_kept_for_a_note(maker: BidsMaker) -> None:
    write_levels(maker, "task-tap_events.json", "ab")
    far = write_levels(maker, "sub-01/sub-01_events.json", "ba")
    first = maker.path("sub-01_task-tap_events.tsv", "func")
    for sidecar, types in ((far, "ba"), (None, "bca")):
        if sidecar is None:
            sidecar = write_levels(maker, "sub-01/func/sub-01_task-tap_events.json", types)
        ((table, levels),) = survey_for(maker).unshared_levels.items()
        assert (table, levels.sidecar, levels.types) == (first, sidecar, tuple(types))


@pytest.mark.parametrize("content", ['{"trial_type"', "[]", "\xff"])
def test_a_sidecar_of_a_participant_that_cannot_be_read_is_not_required(
    content: str, maker: BidsMaker
) -> None:
    path = maker.path("sub-02_task-tap_events.json", "func")
    path.write_text(content, encoding="latin-1")
    result = survey_for(maker)
    assert result.problems == []
    (warning,) = about(result.notices, str(path))
    assert (warning.level, warning.subject, warning.run) == ("warning", "02", "sub-02_task-tap")


def test_a_sidecar_of_all_participants_that_cannot_be_read_stops_the_call(
    maker: BidsMaker,
) -> None:
    path = maker.root / "task-tap_events.json"
    path.write_text('{"trial_type"')
    problems = survey_for(maker, "--participant-label", "02").problems
    assert problem_of(problems, str(path), "JSON").subject == ""
