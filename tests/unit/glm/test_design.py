"""Design matrices compared with closed forms: plateaus, early events, dummy scans, rank."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data.events import make_events
from nilearn.glm.first_level import make_first_level_design_matrix

from bids_sr.glm.design import (
    DesignSettings,
    build_design,
    contrast_vector,
    frame_times,
)
from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.glm.regressors import DesignError, Events, TooManyColumns, read_events
from bids_sr.io.confound_names import MOTION_REGRESSORS


def predict(table: Events, times: np.ndarray) -> dict[str, np.ndarray]:
    """Return the response to each condition (T,)."""
    responses = table.responses(times, HemodynamicResponse())
    return {name: columns[:, 0] for name, columns in responses.items()}


def events(**blocks: list[tuple[float, float]]) -> Events:
    rows = [(onset, length, name) for name, times in blocks.items() for onset, length in times]
    return make_events(rows)


def test_a_sustained_block_has_plateau_1_at_any_tr():
    for tr in (0.5, 2.0):
        times = frame_times(int(200 / tr), tr)
        course = predict(events(a=[(20.0, 100.0)]), times)["a"]
        plateau = course[(times > 60) & (times < 115)]
        np.testing.assert_allclose(plateau, 1.0, atol=2e-3)
        np.testing.assert_allclose(course[times < 20], 0.0, atol=1e-9)


def test_an_event_before_the_run_affects_the_first_volumes():
    times = frame_times(100, 2.0)
    early = predict(events(a=[(-60.0, 58.0)]), times)["a"]
    late = predict(events(a=[(40.0, 58.0)]), times)["a"]
    # tail of the same block 100 s (50 volumes) later
    np.testing.assert_allclose(early[:20], late[50:70], atol=5e-3)
    assert early[0] > 0.85


def test_dummy_scans_lose_their_row_but_shift_no_onset():
    table = events(a=[(20.0, 20.0), (60.0, 20.0)])
    options = {
        "n_volumes": 60,
        "tr": 2.0,
        "confounds": pd.DataFrame({"late": np.arange(60) > 55}),
        "confound_names": ("late",),
    }
    full, cut = build_design(table, **options), build_design(table, n_dummy=7, **options)
    np.testing.assert_allclose(cut.matrix[:, 0], full.matrix[7:, 0])
    late = cut.matrix[:, cut.columns.index("late")]
    assert np.flatnonzero(late > 0).tolist() == [49, 50, 51, 52]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("onset\ttrial_type\n0\ta\n", "duration"),
        ("onset\tduration\ttrial_type\nsoon\t1\ta\n", "line 2 .*'soon'"),
        ("onset\tduration\ttrial_type\nn/a\t1\ta\n", "no event"),
        ("onset\tduration\ttrial_type\n0\t1\trest\n", "no event"),
    ],
)
def test_error_of_invalid_events_names_the_problem(tmp_path, text, message):
    path = tmp_path / "events.tsv"
    path.write_text(text)
    with pytest.raises(DesignError, match=message):
        read_events(path)


def test_a_condition_outside_the_run_is_named_in_the_error():
    design = build_design(events(a=[(20.0, 20.0)], late=[(500.0, 20.0)]), n_volumes=60, tr=2.0)
    assert design.conditions == ("a",)
    with pytest.raises(DesignError, match="late"):
        contrast_vector(design, "late", {"late": 1.0})


def test_degrees_of_freedom_count_collinear_columns_once():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.standard_normal((80, 2)), columns=["p", "r"])
    table["q"] = 2 * table["p"]
    design = build_design(
        events(a=[(20.0, 20.0)]),
        n_volumes=80,
        tr=2.0,
        confounds=table,
        confound_names=("p", "q", "r"),
    )
    assert design.rank == len(design.columns) - 1
    assert design.dof == 80 - design.rank
    # the condition itself can still be estimated
    assert contrast_vector(design, "a", {"a": 1.0})[0] == 1.0


def test_a_contrast_collinear_with_a_confound_is_rejected():
    table = events(a=[(20.0, 20.0)])
    course = predict(table, frame_times(80, 2.0))["a"]
    confounds = pd.DataFrame({"copy": course})
    design = build_design(
        table, n_volumes=80, tr=2.0, confounds=confounds, confound_names=("copy",)
    )
    with pytest.raises(DesignError, match="contrast a"):
        contrast_vector(design, "a", {"a": 1.0})


def test_motion_and_its_derivatives_enter_by_default():
    rng = np.random.default_rng(1)
    confounds = pd.DataFrame({name: rng.standard_normal(60) for name in MOTION_REGRESSORS})
    confounds.loc[0, "trans_x_derivative1"] = np.nan
    confounds["rot_z"] = 0.0  # without rotation no column of zeros is added to the model
    design = build_design(events(a=[(20.0, 20.0)]), n_volumes=60, tr=2.0, confounds=confounds)
    assert len(MOTION_REGRESSORS) == 12
    assert [c for c in design.columns if c in MOTION_REGRESSORS] == [
        c for c in MOTION_REGRESSORS if c != "rot_z"
    ]
    np.testing.assert_allclose(design.matrix[:, 1:12].mean(axis=0), 0, atol=1e-12)


def test_a_condition_with_the_name_of_a_confound_keeps_its_response():
    table = pd.DataFrame({"trans_x": np.random.default_rng(0).normal(size=60)})
    options = {"n_volumes": 60, "tr": 2.0, "confounds": table, "confound_names": ("trans_x",)}
    design = build_design(events(trans_x=[(10.0, 10.0), (60.0, 10.0)]), **options)
    other = build_design(events(hand=[(10.0, 10.0), (60.0, 10.0)]), **options)
    np.testing.assert_array_equal(design.matrix, other.matrix)
    assert design.columns[:2] == ("trans_x", "trans_x_confound")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="trans_x"), "trans_x"),
        (lambda t: t.iloc[:-1], "59 rows"),
        (lambda t: t.assign(rot_x=[*range(30), np.nan, *range(29)]), "rot_x.*volume 30"),
    ],
)
def test_error_of_invalid_confounds_names_the_problem(change, message):
    confounds = pd.DataFrame({name: np.arange(60.0) for name in MOTION_REGRESSORS})
    with pytest.raises(DesignError, match=message):
        build_design(events(a=[(20.0, 20.0)]), n_volumes=60, tr=2.0, confounds=change(confounds))


def test_too_few_volumes_for_the_model_are_rejected():
    with pytest.raises(DesignError, match="5 volumes"):
        build_design(events(a=[(0.0, 4.0)]), DesignSettings(high_pass=0.2), n_volumes=5, tr=2.0)


def test_three_steady_volumes_are_accepted_and_two_are_not():
    confined = {"n_volumes": 6, "tr": 2.0, "n_dummy": 3}
    design = build_design(events(a=[(0.0, 4.0)]), **confined)
    assert (design.matrix.shape, design.dof) == ((3, 2), 1)
    with pytest.raises(DesignError, match="3 steady-state"):
        build_design(events(a=[(0.0, 4.0)]), **{**confined, "n_dummy": 4})


def test_high_pass_sets_the_number_of_cosines():
    table = events(a=[(20.0, 20.0)])
    drifts = [
        sum(
            c.startswith("drift")
            for c in build_design(
                table, DesignSettings(high_pass=hz), n_volumes=100, tr=2.0
            ).columns
        )
        for hz in (0.0, 0.01, 0.02)
    ]
    assert drifts == [
        1,
        4,
        8,
    ]  # 0 Hz: only a linear trend; else cosines k / (2 * 200 s) up to the cutoff


def test_weights_of_contrasts_are_the_written_weights():
    table = events(a=[(20.0, 20.0), (100.0, 20.0)], b=[(60.0, 20.0)])
    design = build_design(table, DesignSettings(), n_volumes=100, tr=2.0)
    vector = contrast_vector(design, "sum", {"b": 2.0, "a": 1.0})
    assert dict(zip(design.conditions, vector, strict=False)) == {"a": 1.0, "b": 2.0}
    with pytest.raises(DesignError, match="nonzero weight"):
        contrast_vector(design, "none", {"a": 0.0})


def modulated(*rows: tuple[float, float, str, str]) -> Events:
    cells = [
        dict(zip(("onset", "duration", "trial_type", "modulation"), map(str, row), strict=True))
        for row in rows
    ]
    return Events.from_rows(list(cells[0]), enumerate(cells, 2), Path("events.tsv"))


def test_modulation_is_the_amplitude_of_events_as_in_nilearn():
    times = frame_times(100, 2.0)
    rows = [(10, 8, "go", 2), (60, 8, "go", 0.5), (110, 8, "go", -1), (35, 8, "stop", 3)]
    found = predict(modulated(*rows), times)
    table = pd.DataFrame(rows, columns=["onset", "duration", "trial_type", "modulation"])
    expected = make_first_level_design_matrix(
        times, table, hrf_model="spm", drift_model=None, oversampling=500
    )
    for name in ("go", "stop"):
        np.testing.assert_allclose(found[name], expected[name], atol=5e-3)
    assert found["go"].max() > 1.5


def test_a_type_without_modulation_has_amplitude_1_and_text_is_not_used():
    times = frame_times(100, 2.0)
    plain = predict(events(go=[(10, 8), (60, 8)], stop=[(35, 8)]), times)
    partly = modulated((10, 8, "go", "2"), (60, 8, "go", "2"), (35, 8, "stop", "n/a"))
    np.testing.assert_allclose(predict(partly, times)["go"], 2 * plain["go"])
    np.testing.assert_allclose(predict(partly, times)["stop"], plain["stop"])
    for odd in ("high", "n/a", "inf"):
        table = modulated((10, 8, "go", "2"), (60, 8, "go", odd), (35, 8, "stop", "1"))
        np.testing.assert_allclose(predict(table, times)["go"], plain["go"])


def test_the_error_of_too_many_columns_has_the_number_of_columns():
    with pytest.raises(TooManyColumns) as error:
        build_design(events(a=[(0.0, 4.0)]), DesignSettings(high_pass=0.2), n_volumes=5, tr=2.0)
    assert error.value.excess == 1  # rank 5 of 5 volumes
