"""Order of trial types: Levels at the root of the data set, not of a participant or session."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from data.dataset import BidsMaker

from bids_sr.bids import Survey, survey
from bids_sr.config import Paths, Selection, Settings

Look = Callable[..., Survey]


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    data = BidsMaker(tmp_path / "bids")
    data.subject("01")
    data.subject("02")
    return data


@pytest.fixture
def look(maker: BidsMaker) -> Look:
    def _look(*labels: str) -> Survey:
        paths = Paths(bids_dir=maker.root, output_dir=maker.root.parent / "out")
        return survey(Settings(paths=paths, selection=Selection(participant_label=labels)))

    return _look


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
    files: dict[str, str], expected: tuple[str, ...], maker: BidsMaker, look: Look
) -> None:
    for name, levels in files.items():
        write_levels(maker, name, levels)
    result = look()
    assert result.problems == []
    for selected in (result, look("01"), look("02")):
        assert selected.type_order == {"tap": expected}


def test_the_nearest_levels_of_a_participant_are_kept_for_a_note(
    maker: BidsMaker, look: Look
) -> None:
    write_levels(maker, "task-tap_events.json", "ab")
    far = write_levels(maker, "sub-01/sub-01_events.json", "ba")
    first = maker.path("sub-01_task-tap_events.tsv", "func")
    assert {table: levels.sidecar for table, levels in look().unshared_levels.items()} == {
        first: far
    }
    near = write_levels(maker, "sub-01/func/sub-01_task-tap_events.json", "bca")
    assert {
        table: (levels.sidecar, levels.types) for table, levels in look().unshared_levels.items()
    } == {first: (near, ("b", "c", "a"))}


@pytest.mark.parametrize("content", ['{"trial_type"', "[]", "\xff"])
def test_a_sidecar_of_a_participant_that_cannot_be_read_is_not_required(
    content: str, maker: BidsMaker, look: Look
) -> None:
    path = maker.path("sub-02_task-tap_events.json", "func")
    path.write_text(content, encoding="latin-1")
    result = look()
    assert result.problems == []
    (warning,) = [notice for notice in result.notices if notice.what == str(path)]
    assert (warning.level, warning.subject, warning.run) == ("warning", "02", "sub-02_task-tap")
    assert "the sidecar is not used" in warning.why


def test_a_sidecar_of_all_participants_that_cannot_be_read_stops_the_call(
    maker: BidsMaker, look: Look
) -> None:
    path = maker.root / "task-tap_events.json"
    path.write_text('{"trial_type"')
    (problem,) = look("02").problems
    assert (problem.what, problem.subject) == (str(path), "")


@pytest.mark.parametrize("levels", [[], ["a", "b"], 3, None, "ab"])
def test_levels_that_are_not_an_object_are_ignored(
    levels: object, maker: BidsMaker, look: Look
) -> None:
    for column in ({"Levels": levels}, levels):
        maker.json(maker.root / "events.json", {"trial_type": column})
        assert look().type_order == {"tap": ()}
