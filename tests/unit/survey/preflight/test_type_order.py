"""Default contrasts have one name and sign in all participants, sessions and runs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from data.calls import plan_for
from data.dataset import BidsMaker
from data.records import make_table

from bids_sr.glm.contrasts import order_types
from bids_sr.glm.design import Design, build_design, contrast_vector
from bids_sr.survey.bids.inputs import Survey
from bids_sr.survey.preflight.estimability import TypesOfRun
from bids_sr.survey.preflight.run_contrasts import resolve_run_contrasts
from bids_sr.survey.preflight.type_labels import label_trial_types

TYPES = ("stop", "Go", "cue")
EFFECTS = {"stop": 3.0, "Go": 1.0, "cue": -2.0}


def bold(label: str, task: str = "tap") -> Path:
    return Path(f"sub-{label}_task-{task}_bold.nii.gz")


def resolve(
    types: Mapping[Path, Sequence[str]], data_set: Survey
) -> dict[Path, dict[str, Mapping[str, float]]]:
    """Return the default contrasts of runs with these trial types."""
    described = {
        path: TypesOfRun.all_described(order_types(names, data_set.type_order.get("tap", ())))
        for path, names in types.items()
    }
    labels = label_trial_types(described, data_set)
    return resolve_run_contrasts(described, (), labels).value.by_run


def estimate_effect(design: Design, name: str, weights: Mapping[str, float]) -> float:
    """Return the least-squares estimate of a contrast in a series without noise."""
    series = design.matrix @ [EFFECTS.get(column, 0.0) for column in design.columns]
    coefficients, *_ = np.linalg.lstsq(design.matrix, series, rcond=None)
    return float(contrast_vector(design, name, weights) @ coefficients)


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
def test_names_and_signs_do_not_depend_on_the_first_events(
    levels: Sequence[str], names: list[str]
) -> None:
    """Each difference is estimated from a series with known effects of all types."""
    types = {bold(str(first)): [*TYPES[first:], *TYPES[:first]] for first in range(3)}
    data_set = Survey(type_order={"tap": levels}, task_types={"tap": TYPES})
    for path, contrasts in resolve(types, data_set).items():
        assert list(contrasts) == names
        table = make_table([(6.0 + 18 * k, 10.0, types[path][k % 3]) for k in range(6)])
        design = build_design(table.make_events(), n_volumes=60, tr=2.0, confound_names=())
        by_lowercase = {name.lower(): effect for name, effect in EFFECTS.items()}
        for name, weights in contrasts.items():
            positive, _, negative = name.lower().partition("minus")
            if negative:
                expected = by_lowercase[positive] - by_lowercase[negative]
                assert estimate_effect(design, name, weights) == pytest.approx(expected)


def test_dummy_contrasts_of_a_model_do_not_depend_on_the_first_run(maker: BidsMaker) -> None:
    """The first run has only one of the types."""
    rows = [(6.0 + 18 * k, 10.0, TYPES[k % 3]) for k in range(6)]
    for label, events in (("01", rows), ("00", rows[::3])):
        maker.bold(f"sub-{label}_task-tap", n_volumes=60, tr=2.0)
        maker.events(f"sub-{label}_task-tap", events)
    maker.json(
        maker.root / "task-tap_events.json",
        {"trial_type": {"Levels": {"Go": "", "stop": ""}}},
    )
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
    path = maker.root.parent / "model.json"
    path.write_text(json.dumps({"Name": "run", "BIDSModelVersion": "1.0.0", "Nodes": [node]}))
    options = ("--sr-method", "bspline", "--model", str(path), "--participant-label")
    for labels in (("00", "01"), ("01",)):
        plan = plan_for(maker, *options, *labels)
        assert plan.problems == ()
        assert [*[*plan.contrasts.values()][-1]] == ["Go", "stop", "cue"]
