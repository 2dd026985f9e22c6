"""Test events, default contrasts and confounds of a run in Python."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data.short_run import EVENTS

from bids_sr.api.image_inputs import ImageInputError, SuperResolutionWarning
from bids_sr.api.task_inputs import load_confounds, load_events, plan_task
from bids_sr.glm.design import DesignSettings

BLOCKS = [
    (start, 14.0, ("thumb", "little")[k % 2]) for k, start in enumerate((6.0, 34.0, 62.0, 90.0))
]
PLAIN = ["little", "thumb", "all", "littleMinusThumb"]


def parse(events: list[tuple[float, float, str]], *contrasts: str) -> list[str]:
    table = pd.DataFrame(events, columns=["onset", "duration", "trial_type"])
    return list(plan_task(load_events(table), contrasts, DesignSettings(), 60, 2.0).contrasts)


@pytest.mark.parametrize("seconds", [2.0, 4.0])
def test_a_late_type_is_left_out_with_a_warning(seconds: float) -> None:
    with pytest.warns(SuperResolutionWarning, match="late"):
        assert parse([*BLOCKS, (120.0 - seconds, 2.0, "late")]) == PLAIN


def test_types_at_the_same_moments_have_a_mean_only() -> None:
    same = [(onset, duration, kind) for onset, duration, _ in BLOCKS for kind in ("cue", "target")]
    with pytest.warns(SuperResolutionWarning, match="cannot be estimated: cue, target"):
        assert parse(same) == ["all"]


def test_plain_and_requested_contrasts_are_kept_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse(BLOCKS) == PLAIN
        assert parse([*BLOCKS, (116.0, 2.0, "late")], "late") == ["late"]


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ("nowhere.tsv", "events: the file nowhere.tsv does not exist"),
        ([EVENTS], "events: expected a DataFrame or the path"),
        (
            EVENTS.drop(columns="duration"),
            r"^events: the events table lacks required columns: duration\. .*"
            r"Events need the columns onset \(s\), duration \(s\) and trial_type\.$",
        ),
        (
            EVENTS.assign(onset="soon"),
            "^events: the onset in line 2 is not a number, but 'soon'",
        ),
    ],
)
def test_invalid_events_are_rejected(events: object, message: str) -> None:
    with pytest.raises(ImageInputError, match=message):
        load_events(events)  # type: ignore[arg-type]


def test_confounds_can_be_tables_arrays_or_files(tmp_path):
    """From a table of fMRIPrep, the columns of the program's models are used; from other tables,
    all columns.
    """
    rng = np.random.default_rng(0)
    table = load_confounds(rng.standard_normal((60, 2)), 60)
    assert list(table) == ["0", "1"]
    columns = {"trans_x": 0.0, "csf": 1.0, "framewise_displacement": 0.0}
    components = {f"a_comp_cor_{k:02d}": 1.0 for k in range(7)}
    fmriprep_table = pd.DataFrame(columns | components, range(60))
    fmriprep_table.loc[0, "framewise_displacement"] = np.nan
    fmriprep_table.loc[5, "a_comp_cor_02"] = np.nan
    fmriprep_table.to_csv(tmp_path / "confounds.tsv", sep="\t", index=False, na_rep="n/a")
    assert list(load_confounds(tmp_path / "confounds.tsv", 60)) == [
        "framewise_displacement",
        "trans_x",
        *(f"a_comp_cor_{k:02d}" for k in (0, 1, 3, 4, 5)),
    ]
    assert list(load_confounds(fmriprep_table[["csf"]], 60)) == ["csf"]
    for confounds, message in (
        (tmp_path / "none.tsv", "values that are not numbers"),
        (pd.DataFrame({"a": ["x"] * 60}), "values that are not numbers"),
        (pd.DataFrame({"a": [np.nan] * 60}), "missing values were found after the first row in a"),
        (pd.DataFrame({"trans_x": [0.0] * 3}), "^confounds: the table has 3 rows"),
    ):
        with pytest.raises(ImageInputError, match=message):
            load_confounds(confounds, 60)


def test_missing_types_are_as_in_the_program(tmp_path: Path) -> None:
    """Levels are taken from the sidecar next to the file."""
    table = pd.DataFrame({"onset": [1.0, 9.0, 17.0], "duration": 4.0, "trial_type": "NA"})
    table.loc[0, "trial_type"] = "go"
    table.to_csv(path := tmp_path / "x_events.tsv", sep="\t", index=False)
    assert load_events(table).conditions == load_events(path).conditions == ["go"]
    assert load_events(table.rename(columns={"onset": "onset "})).conditions == ["go"]
    levels = {"trial_type": {"Levels": {"go": "", "NA": "no answer"}}}
    path.with_suffix(".json").write_text(json.dumps(levels))
    assert load_events(path).spans() == {"go": [(1.0, 4.0)], "NA": [(9.0, 4.0), (17.0, 4.0)]}


def test_types_with_modulation_0_are_named_in_a_warning() -> None:
    rows = {"onset": [1.0, 20.0, 40.0, 60.0], "duration": 8.0, "modulation": [1.0, 0.0, 1.0, 0.0]}
    table = pd.DataFrame(rows | {"trial_type": ["go", "stop", "go", "stop"]})
    with pytest.warns(SuperResolutionWarning, match="modulation 0: stop"):
        task = plan_task(load_events(table), (), DesignSettings(), 60, 2.0)
    assert task.contrasts == {"go": {"go": 1.0}}


def test_pauses_are_rest_unless_requested_and_imprecise_contrasts_are_named() -> None:
    rows = [(10.0 * k, 10.0, ("a", "fix", "b", "fix")[k % 4]) for k in range(12)]
    table = pd.DataFrame(rows, columns=["onset", "duration", "trial_type"])
    with pytest.warns(SuperResolutionWarning, match=r"taken for rest, .*: fix"):
        task = plan_task(load_events(table), (), DesignSettings(), 60, 2.0)
    assert {*task.contrasts} == {"a", "b", "all", "aMinusB"}
    assert {*task.events.spans()} == {"a", "b"}
    with pytest.warns(SuperResolutionWarning, match=r"^contrasts: standard errors .*: a\.$"):
        task = plan_task(load_events(table), ("a", "a-fix"), DesignSettings(), 60, 2.0, n_dummy=3)
    assert {*task.events.spans()} == {"a", "b", "fix"}
