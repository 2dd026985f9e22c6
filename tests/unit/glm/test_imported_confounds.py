"""Confounds of another program with gaps, text or missing columns, and the columns modeled."""

import json

import numpy as np
import pandas as pd
import pytest

from bids_sr.api.evaluation_inputs import load_confounds
from bids_sr.glm.confounds import MOTION, derivative, framewise_displacement
from bids_sr.glm.imported_confounds import convert_to_numbers, import_confound_columns
from bids_sr.glm.model_confounds import MOTION as MODEL_MOTION, model_confounds

N = 60


def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    names = (*MOTION, "csf", *(f"a_comp_cor_{k:02d}" for k in range(7)))
    return pd.DataFrame({name: rng.normal(0, 0.1, N) for name in names})


def write_table(frame: pd.DataFrame, folder) -> object:
    path = folder / "desc-confounds_timeseries.tsv"
    frame.to_csv(path, sep="\t", index=False, na_rep="n/a")
    path.with_suffix(".json").write_text(json.dumps({}))
    return path


def test_missing_derivatives_and_fd_are_computed_from_the_motion_parameters(tmp_path):
    confounds, described = import_confound_columns(
        write_table(table(), tmp_path), n_dummy=0, origin="fMRIPrep"
    )
    six = table()[list(MOTION)].to_numpy()
    for k, name in enumerate(MOTION):
        np.testing.assert_allclose(
            confounds[f"{name}_derivative1"], derivative(six[:, k]), atol=1e-9
        )
    np.testing.assert_allclose(
        confounds["framewise_displacement"], framewise_displacement(six), atol=1e-9
    )
    origin = described["trans_x_derivative1"]["Origin"]
    assert origin == "computed by bids-sr from the head motion of fMRIPrep"
    assert described["trans_x"]["Origin"] == "fMRIPrep"


def test_incomplete_derivatives_are_computed_and_complete_derivatives_are_kept():
    frame = table()
    frame["trans_x_derivative1"] = 7.0
    frame["trans_y_derivative1"] = 7.0
    frame.loc[0, "trans_x_derivative1"] = frame.loc[9, "trans_y_derivative1"] = np.nan
    numbers, computed, _ = convert_to_numbers(frame)
    assert (numbers["trans_x_derivative1"][1:] == 7).all()
    assert numbers["trans_y_derivative1"][9] == pytest.approx(
        frame["trans_y"][9] - frame["trans_y"][8]
    )
    assert "trans_y_derivative1" in computed
    assert "trans_x_derivative1" not in computed


def test_columns_of_text_are_skipped(tmp_path):
    frame = table().assign(remark="ok")
    frame["trans_x_derivative1"] = "?"
    confounds, _ = import_confound_columns(
        write_table(frame, tmp_path), n_dummy=0, origin="fMRIPrep"
    )
    assert "remark" not in confounds
    assert confounds["trans_x_derivative1"][1:].notna().all()
    assert convert_to_numbers(frame)[2] == ["remark"]


def test_the_first_five_components_without_gaps_enter_the_model():
    frame = table()
    frame.loc[40:, ["a_comp_cor_00", "a_comp_cor_03"]] = np.nan
    frame.loc[0, "a_comp_cor_01"] = np.nan  # the first volume may lack a value
    components = [f"a_comp_cor_0{k}" for k in (1, 2, 4, 5, 6)]
    assert model_confounds(frame) == (*MODEL_MOTION, *components)
    assert model_confounds(frame.assign(**dict.fromkeys(components, np.nan))) == MODEL_MOTION


def test_sets_of_confounds_can_be_chosen_by_name():
    frame = convert_to_numbers(table())[0]
    five = tuple(f"a_comp_cor_0{k}" for k in range(5))
    assert model_confounds(frame, ["motion"]) == MODEL_MOTION
    assert model_confounds(frame, ["acompcor", "csf"]) == (*five, "csf")
    assert model_confounds(frame, ["motion", "acompcor"]) == model_confounds(frame)
    assert model_confounds(frame, []) == ()
    assert model_confounds(frame.head(40), ["acompcor"]) == ()


def test_the_evaluation_reads_motion_from_a_table_with_text():
    frame = convert_to_numbers(table())[0].assign(remark="ok")
    assert set(load_confounds(frame, N)) == set(MODEL_MOTION)
