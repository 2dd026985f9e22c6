"""Means over the trial types that all runs of a task share."""

from pathlib import Path

import pytest

from bids_sr.survey.preflight.estimability import TypesOfRun
from bids_sr.survey.preflight.shared_types import share_averaged_types, unshared_types


def make_path(run, *, subject="01", session="", task="tap"):
    entities = [
        f"sub-{subject}",
        f"ses-{session}" if session else "",
        f"task-{task}",
        f"run-{run}",
    ]
    return Path("_".join([*filter(None, entities), "bold.nii.gz"]))


def share(types):
    """Return the types in means by path, and the texts of the notes by path."""
    described = {path: TypesOfRun.all_described(names, path) for path, names in types.items()}
    shared = share_averaged_types(described)
    for path, names in types.items():
        assert (shared[path].modeled, shared[path].described) == (names, names)
    notes = {notice.what: notice.why for notice in unshared_types(described, shared)}
    return [run_types.averaged for run_types in shared.values()], notes


@pytest.mark.parametrize(
    ("types", "averaged"),
    [
        (["abc", "abcd"], ["abc", "abc"]),
        (["abcd", "bcde"], ["bcd", "bcd"]),
        (["abc", "abe", "abf"], ["ab", "ab", "ab"]),
        (["abcd", "abcd"], ["abcd", "abcd"]),
        (["abc", "abc", "abe"], ["abc", "abc", "abe"]),  # most runs agree
        (["abcd", "abef"], ["abcd", "abef"]),  # half of the types
        (["ab", "bc"], ["ab", "bc"]),  # no mean over a single type
        (["abcd"], ["abcd"]),
    ],
)
def test_means_are_over_types_that_most_runs_or_all_runs_have(types, averaged):
    runs = {make_path(number): tuple(names) for number, names in enumerate(types)}
    found, notes = share(runs)
    assert found == [tuple(names) for names in averaged]
    changed = [
        str(path) for path, names, kept in zip(runs, types, averaged, strict=True) if names != kept
    ]
    assert list(notes) == changed


@pytest.mark.parametrize(
    ("other", "is_shared"),
    [
        ({"session": "2"}, True),
        ({"subject": "02"}, False),
        ({"task": "rest"}, False),
    ],
)
def test_runs_of_a_participant_and_task_share_types(other, is_shared):
    first, second = make_path(1, session="1"), make_path(1, **{"session": "1", **other})
    averaged, _ = share({first: ("a", "b", "c"), second: ("a", "b", "c", "d")})
    assert averaged[1] == (("a", "b", "c") if is_shared else ("a", "b", "c", "d"))
