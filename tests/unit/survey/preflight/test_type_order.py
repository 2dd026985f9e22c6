"""Default contrasts have one name and sign in all participants, sessions and runs."""

import json
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from data.calls import about, plan_for
from data.dataset import BidsMaker

from bids_sr.glm.design import Design, build_design, contrast_vector
from bids_sr.glm.regressors import read_events
from bids_sr.io.notices import Notice
from bids_sr.survey.preflight.plan import Plan

TYPES = ("stop", "Go", "cue")
LABELS = ("01", "02", "03")
SESSIONS = ("pre", "post")
N_VOLUMES, TR = 60, 2.0
EFFECTS = {"stop": 3.0, "Go": 1.0, "cue": -2.0}


@pytest.fixture
def sessions(tmp_path: Path) -> BidsMaker:
    """Create three participants with two sessions whose first events and Levels differ."""
    data = BidsMaker(tmp_path / "bids")
    orders = permutations(TYPES)
    for label in LABELS:
        for session in SESSIONS:
            write_run(data, f"sub-{label}_ses-{session}_task-tap", next(orders))
    return data


def write_run(maker: BidsMaker, stem: str, types: Sequence[str]) -> None:
    """Write a run with blocks of the types in turn, and Levels in the same order."""
    maker.bold(stem, n_volumes=N_VOLUMES, tr=TR)
    maker.events(stem, [(6.0 + 18 * k, 10.0, types[k % len(types)]) for k in range(6)])
    write_levels(maker.path(f"{stem}_events.json", "func"), types)


def write_levels(path: Path, types: Sequence[str]) -> None:
    path.write_text(json.dumps({"trial_type": {"Levels": dict.fromkeys(types, "")}}))


def valid(maker: BidsMaker, *options: str) -> Plan:
    plan = plan_for(maker, "--sr-method", "bspline", *options)
    assert plan.problems == ()
    return plan


def notes_on_levels(plan: Plan) -> list[Notice]:
    """Return notes about sidecars of participants, whose Levels do not determine the order."""
    return about(plan.warnings, "_events.json", "Levels")


@pytest.mark.parametrize(
    ("levels", "names"),
    [
        ((), ["cue", "Go", "stop", "all", "cueMinusGo", "cueMinusStop", "GoMinusStop"]),
        (
            ("rest", "stop"),
            ["stop", "cue", "Go", "all", "stopMinusCue", "stopMinusGo", "cueMinusGo"],
        ),
    ],
)
def test_names_and_signs_do_not_depend_on_the_selection(
    levels: Sequence[str], names: list[str], sessions: BidsMaker
) -> None:
    """Each difference is estimated from series with known effects of all types."""
    if levels:
        write_levels(sessions.root / "task-tap_events.json", levels)
    selections = ["--participant-label 01", "--participant-label 03", "--session-label post", ""]
    plans = [valid(sessions, *selection.split()) for selection in selections]
    write_run(sessions, "sub-00_task-tap", ("stop", "Go", "cue"))
    plans.append(valid(sessions, "--participant-label", "00", "03"))
    assert [len(plan.contrasts) for plan in plans] == [2, 2, 3, 6, 3]
    for plan in plans:
        assert {tuple(contrasts) for contrasts in plan.contrasts.values()} == {tuple(names)}
    by_lowercase = {name.lower(): effect for name, effect in EFFECTS.items()}
    for run in plans[3].runs:
        design = build_design(
            read_events(run.events), n_volumes=N_VOLUMES, tr=TR, confound_names=()
        )
        for name, weights in plans[3].contrasts[run.bold].items():
            positive, _, negative = name.lower().partition("minus")
            if negative:
                expected = by_lowercase[positive] - by_lowercase[negative]
                assert estimate_effect(design, name, weights) == pytest.approx(expected)


def estimate_effect(design: Design, name: str, weights: Mapping[str, float]) -> float:
    """Return the least-squares estimate of a contrast in a series without noise."""
    series = design.matrix @ [EFFECTS.get(column, 0.0) for column in design.columns]
    coefficients, *_ = np.linalg.lstsq(design.matrix, series, rcond=None)
    return float(contrast_vector(design, name, weights) @ coefficients)


def test_levels_of_participants_are_named_once_per_task(sessions: BidsMaker) -> None:
    for number, label in enumerate(LABELS):
        write_run(sessions, f"sub-{label}_task-two", TYPES[number:] + TYPES[:number])
    notes = notes_on_levels(valid(sessions))
    assert [note.what for note in notes] == [
        str(sessions.path(f"sub-01_{name}_events.json", "func"))
        for name in ("task-two", "ses-post_task-tap")
    ]
    assert {(note.level, note.subject, note.run) for note in notes} == {("note", "", "")}
    assert about(notes, "task-tap", "cue, Go, stop", "task-tap_events.json")
    write_levels(sessions.root / "events.json", ("Go", "stop"))
    notes = notes_on_levels(valid(sessions))
    assert len(notes) == 2
    assert about(notes, "task-tap", "Go, stop, cue")


def test_dummy_contrasts_of_a_model_do_not_depend_on_the_first_run(sessions: BidsMaker) -> None:
    """The first run has only one of the types."""
    write_run(sessions, "sub-00_task-tap", ("stop",))
    write_levels(sessions.root / "task-tap_events.json", ("Go", "stop"))
    instructions = [
        {"Name": "Factor", "Input": ["trial_type"]},
        {"Name": "Convolve", "Input": ["trial_type.*"], "Model": "spm"},
    ]
    node = {
        "Level": "Run",
        "Name": "run",
        "GroupBy": ["run", "subject", "session"],
        "Transformations": {"Transformer": "pybids-transforms-v1", "Instructions": instructions},
        "Model": {"X": [1, "trial_type.*"], "Type": "glm"},
        "DummyContrasts": {"Test": "t"},
    }
    path = sessions.root.parent / "model.json"
    path.write_text(json.dumps({"Name": "run", "BIDSModelVersion": "1.0.0", "Nodes": [node]}))
    for labels in (("00", "01"), ("01",)):
        plan = valid(sessions, "--model", str(path), "--participant-label", *labels)
        contrasts = [list(weights) for weights in plan.contrasts.values()]
        assert contrasts[-2:] == [["Go", "stop", "cue"]] * 2
