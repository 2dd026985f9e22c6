"""Default contrasts have one name and sign in all participants, sessions and runs."""

import json
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from data.dataset import BidsMaker

from bids_sr.cli.parser import parse_settings
from bids_sr.glm.design import Design, DesignSettings, build_design, contrast_vector
from bids_sr.glm.regressors import read_events
from bids_sr.notices import Notice
from bids_sr.preflight import Plan, check

TYPES = ("stop", "Go", "cue")
LABELS = ("01", "02", "03")
SESSIONS = ("pre", "post")
N_VOLUMES, TR = 60, 2.0
EFFECTS = {"stop": 3.0, "Go": 1.0, "cue": -2.0}


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
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


def plan_for(maker: BidsMaker, *options: str) -> Plan:
    out = maker.root.parent / "out"
    line = [str(maker.root), str(out), "participant", "--skip-bids-validation", "--dry-run"]
    plan = check(parse_settings([*line, *options]).resolve(run_uuid="x"))
    assert plan.problems == ()
    return plan


def notes_on_levels(plan: Plan) -> list[Notice]:
    return [notice for notice in plan.warnings if "order of Levels" in notice.why]


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
def test_names_do_not_depend_on_the_selection(
    levels: Sequence[str], names: list[str], maker: BidsMaker
) -> None:
    if levels:
        write_levels(maker.root / "task-tap_events.json", levels)
    selections = (
        *(("--participant-label", label) for label in LABELS),
        ("--session-label", "post"),
        (),
    )
    plans = [plan_for(maker, *options) for options in selections]
    write_run(maker, "sub-00_task-tap", ("stop", "Go", "cue"))
    plans.append(plan_for(maker, "--participant-label", "00", "03"))
    assert [len(plan.contrasts) for plan in plans] == [2, 2, 2, 3, 6, 3]
    for plan in plans:
        assert {tuple(contrasts) for contrasts in plan.contrasts.values()} == {tuple(names)}


@pytest.mark.parametrize("levels", [(), ("stop", "cue", "Go")])
def test_effects_have_the_sign_of_their_name(levels: Sequence[str], maker: BidsMaker) -> None:
    """Estimate each difference from series with known effects of all types."""
    if levels:
        write_levels(maker.root / "events.json", levels)
    first, second, third = levels or ("cue", "Go", "stop")
    expected = {
        f"{positive}Minus{negative.title()}": EFFECTS[positive] - EFFECTS[negative]
        for positive, negative in ((first, second), (first, third), (second, third))
    }
    for label in LABELS:
        plan = plan_for(maker, "--participant-label", label)
        for run in plan.runs:
            assert run.events is not None
            design = build_design(
                read_events(run.events),
                DesignSettings(),
                n_volumes=N_VOLUMES,
                tr=TR,
                confound_names=(),
            )
            effects = {
                name: estimate_effect(design, name, weights)
                for name, weights in plan.contrasts[run.bold].items()
                if "Minus" in name
            }
            assert effects == pytest.approx(expected)


def estimate_effect(design: Design, name: str, weights: Mapping[str, float]) -> float:
    """Return the least-squares estimate of a contrast in a series without noise."""
    series = design.matrix @ [EFFECTS.get(column, 0.0) for column in design.columns]
    coefficients, *_ = np.linalg.lstsq(design.matrix, series, rcond=None)
    return float(contrast_vector(design, name, weights) @ coefficients)


def test_levels_of_participants_are_named_once_per_task(maker: BidsMaker) -> None:
    for number, label in enumerate(LABELS):
        write_run(maker, f"sub-{label}_task-two", TYPES[number:] + TYPES[:number])
    notes = notes_on_levels(plan_for(maker))
    sidecars = [
        maker.path(f"sub-01_{name}_events.json", "func")
        for name in ("task-two", "ses-post_task-tap")
    ]
    assert [note.what for note in notes] == list(map(str, sidecars))
    assert {(note.level, note.subject, note.run) for note in notes} == {("note", "", "")}
    assert "in alphabetical order (cue, Go, stop)" in notes[1].why
    assert "specify Levels in task-tap_events.json in the root directory" in notes[1].why
    write_levels(maker.root / "events.json", ("Go", "stop"))
    notes = notes_on_levels(plan_for(maker))
    assert len(notes) == 2
    assert "in the order of Levels in the root directory of the dataset (Go, stop, cue)" in (
        notes[1].why
    )


def test_levels_in_the_order_of_the_data_set_are_not_named(maker: BidsMaker) -> None:
    """Levels may list other types, and fewer types."""
    for session, levels in zip(SESSIONS, (("rest", "cue", "Go", "stop"), ("cue",)), strict=True):
        stem = f"sub-01_ses-{session}_task-tap"
        write_levels(maker.path(f"{stem}_events.json", "func"), levels)
    assert notes_on_levels(plan_for(maker, "--participant-label", "01")) == []
    assert len(notes_on_levels(plan_for(maker, "--participant-label", "01", "02"))) == 1


def test_dummy_contrasts_of_a_model_do_not_depend_on_the_first_run(maker: BidsMaker) -> None:
    """The first run has only one of the types."""
    write_run(maker, "sub-00_task-tap", ("stop",))
    write_levels(maker.root / "task-tap_events.json", ("Go", "stop"))
    model = {
        "Name": "run",
        "BIDSModelVersion": "1.0.0",
        "Nodes": [
            {
                "Level": "Run",
                "Name": "run",
                "GroupBy": ["run", "subject", "session"],
                "Transformations": {
                    "Transformer": "pybids-transforms-v1",
                    "Instructions": [
                        {"Name": "Factor", "Input": ["trial_type"]},
                        {"Name": "Convolve", "Input": ["trial_type.*"], "Model": "spm"},
                    ],
                },
                "Model": {"X": [1, "trial_type.*"], "Type": "glm"},
                "DummyContrasts": {"Test": "t"},
            }
        ],
    }
    path = maker.root.parent / "model.json"
    path.write_text(json.dumps(model))
    for labels in (("00", "01"), ("01",)):
        plan = plan_for(maker, "--model", str(path), "--participant-label", *labels)
        assert [list(contrasts) for contrasts in plan.contrasts.values()][-2:] == [
            ["Go", "stop", "cue"]
        ] * 2
