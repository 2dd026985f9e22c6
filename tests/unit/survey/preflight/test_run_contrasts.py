"""Names of contrasts: one meaning in all runs, whatever users write."""

from pathlib import Path

import numpy as np
import pytest
from data.calls import about

from bids_sr.glm.contrasts import comparable, label_types
from bids_sr.survey.notices import is_problem
from bids_sr.survey.preflight.estimability import TypesOfRun
from bids_sr.survey.preflight.run_contrasts import resolve_run_contrasts

TYPES_BY_SESSION = {"1": ("thumb", "little"), "2": ("thumb", "little", "toe")}
BODIES = (
    "thumb",
    "2*thumb",
    "little",
    "thumb-little",
    "thumb+little",
    "all",
    "toe",
    "little@ses-2 - little@ses-1",
    "thumb@ses-2 + thumb@ses-1",
    "thumb@ses-2 - little@ses-1",
    "toe@ses-2 - thumb@ses-1",
)
NAMES = ("", "", "thumb=", "Thumb=", "ALL=", "thumbMinusLittle=", "x=", "X=")


def resolve(*requests):
    types = {
        Path(f"sub-{label}_ses-{session}_task-tap_bold.nii"): TypesOfRun.all_described(names)
        for label in ("01", "02")
        for session, names in TYPES_BY_SESSION.items()
    }
    labels = dict.fromkeys(types, label_types(TYPES_BY_SESSION["2"]))
    choice = resolve_run_contrasts(types, requests, labels)
    problems = [notice for notice in choice.notices if is_problem(notice)]
    return choice, problems


def list_meanings(contrasts, over_runs):
    """Return the weights in all runs by name in lower case, and all spellings."""
    meanings, spellings = {}, set()
    for run in contrasts.values():
        assert len({name.lower() for name in run}) == len(run)
        for name, weights in run.items():
            meanings.setdefault(name.lower(), []).append(comparable(weights))
            spellings.add(name)
    for name in over_runs:
        assert name.lower() not in meanings
        meanings[name.lower()] = []
        spellings.add(name)
    return meanings, spellings


@pytest.mark.parametrize("seed", range(20))
def test_no_two_contrasts_share_a_name_apart_from_case(seed):
    rng = np.random.default_rng(seed)
    requests = [f"{rng.choice(NAMES)}{rng.choice(BODIES)}" for _ in range(2)]
    defaults = ["defaults"] if rng.random() < 0.7 else []
    choice, problems = resolve(*defaults, *requests)
    over_runs = choice.value.over_runs
    meanings, spellings = list_meanings(choice.value.by_run, over_runs)
    assert len(spellings) == len(meanings)
    for name, weights in meanings.items():
        if name != "all":  # of the types that a run has
            assert len({*weights}) <= 1
    over_requests = {
        request.partition("=")[2] or request for request in requests if "@" in request
    }
    assert len(over_runs) == len(over_requests) or problems


def test_a_written_name_of_another_contrast_is_refused_with_both():
    _, problems = resolve("defaults", "thumb=little@ses-2 - little@ses-1")
    (problem,) = problems
    assert "thumb=little@ses-2" in problem.what
    assert "default contrast thumb" in problem.why
    _, problems = resolve("hand=thumb@ses-2 - thumb@ses-1", "Hand=little-thumb")
    (problem,) = problems
    assert "hand=thumb@ses-2" in problem.why


def test_a_made_name_of_another_contrast_is_changed_with_a_note():
    first, second = "thumb@ses-2 - little@ses-1", "thumb@ses-2 - 2*little@ses-1"
    choice, problems = resolve("defaults", first, second)
    assert problems == []
    names = ["thumbSes2MinusLittleSes1", "thumbSes2MinusLittleSes1x2"]
    assert list(choice.value.over_runs) == names
    assert [first in notice.why for notice in choice.notices if "named" in notice.why] == [True]


def resolve_types(*types, request):
    """Resolve contrasts of runs with different trial types."""
    runs = {
        Path(f"run-{number}"): TypesOfRun.all_described(names)
        for number, names in enumerate(types)
    }
    all_types = dict.fromkeys(name for names in types for name in names)
    return resolve_run_contrasts(runs, request, dict.fromkeys(runs, label_types(all_types)))


def test_contrasts_are_assigned_to_runs_with_their_trial_types():
    requests = ["thumb-little", "thumb", "face"]
    choice = resolve_types(("thumb", "little"), ("face", "thumb"), request=requests)
    runs = [list(run) for run in choice.value.by_run.values()]
    assert runs == [["thumbMinusLittle", "thumb"], ["thumb", "face"]]
    assert {notice.level for notice in choice.notices} == {"note"}
    for name in ("thumb-l", "face"):
        assert len(about(choice.notices, name, "1", "2")) == 1
    (problem,) = resolve_types(("thumb",), ("face",), request=["thumb-face"]).notices
    assert about([problem], "--contrasts thumb-face", "thumb", "face")
    (problem,) = resolve_types(("thumb",), request=["NA-thumb"]).notices
    assert about([problem], "--contrasts NA-thumb", "'NA'", "Levels")
    problem = resolve_types(("thumb",), ("face",), request=["thumb"]).notices[-1]
    assert (problem.what, problem.level) == ("run-1", "error")


def test_requested_names_have_one_meaning_in_all_runs():
    requests = ["Thumb=little", "X=thumb-little", "thumb", "y=2*thumb"]
    choice = resolve_types(("thumb", "little"), ("thumb",), request=requests)
    expected = {
        "Thumb": {"little": 1.0},
        "X": {"thumb": 1.0, "little": -1.0},
        "thumb2": {"thumb": 1.0},
        "y": {"thumb": 2.0},
    }
    second = {name: expected[name] for name in ("thumb2", "y")}
    assert [*choice.value.by_run.values()] == [expected, second]
    notes = [notice for notice in choice.notices if "is named" in notice.why]
    assert [note.level for note in notes] == ["note"]
    assert about(notes, "thumb", "thumb2")
