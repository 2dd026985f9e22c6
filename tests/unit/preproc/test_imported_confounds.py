"""Confounds of another program with gaps, text or missing columns, and the columns modeled."""

import json

import numpy as np
import pandas as pd
import pytest

from bids_sr.io.confound_names import MOTION_PARAMETERS, MOTION_REGRESSORS
from bids_sr.preproc.head_motion import framewise_displacement
from bids_sr.preproc.imported_confounds import (
    convert_to_numbers,
    import_confound_columns,
    read_confounds,
)
from bids_sr.preproc.model_confounds import model_confounds

N = 60


OLD_MOTION = ("X", "Y", "Z", "RotX", "RotY", "RotZ")  # names before fMRIPrep 1.2


def with_old_names(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the column names of fMRIPrep 1.0 and 1.1."""
    old_names = dict(zip(MOTION_PARAMETERS, OLD_MOTION, strict=True)) | {"csf": "CSF"}
    old_names |= {f"a_comp_cor_{k:02d}": f"aCompCor{k:02d}" for k in range(7)}
    old_names |= {"framewise_displacement": "FramewiseDisplacement"}
    return frame.rename(columns=old_names)


def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    names = (*MOTION_PARAMETERS, "csf", *(f"a_comp_cor_{k:02d}" for k in range(7)))
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
    six = table()[list(MOTION_PARAMETERS)].to_numpy()
    for k, name in enumerate(MOTION_PARAMETERS):
        np.testing.assert_allclose(
            confounds[f"{name}_derivative1"][1:], np.diff(six[:, k]), atol=1e-9
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


def test_the_first_five_components_without_gaps_enter_the_model():
    frame = table()
    frame.loc[40:, ["a_comp_cor_00", "a_comp_cor_03"]] = np.nan
    frame.loc[0, "a_comp_cor_01"] = np.nan  # the first volume may lack a value
    components = [f"a_comp_cor_0{k}" for k in (1, 2, 4, 5, 6)]
    assert model_confounds(frame) == (*MOTION_REGRESSORS, *components)
    assert model_confounds(frame.assign(**dict.fromkeys(components, np.nan))) == MOTION_REGRESSORS


def test_sets_of_confounds_can_be_chosen_by_name():
    frame = convert_to_numbers(table())[0]
    five = tuple(f"a_comp_cor_0{k}" for k in range(5))
    assert model_confounds(frame, ["motion"]) == MOTION_REGRESSORS
    assert model_confounds(frame, ["acompcor", "csf"]) == (*five, "csf")
    assert model_confounds(frame, ["motion", "acompcor"]) == model_confounds(frame)
    assert model_confounds(frame, []) == ()
    further = ("trans_x_power2", "cosine00", "w_comp_cor_00", "t_comp_cor_00", "motion_outlier00")
    wide = frame.assign(**dict.fromkeys(further, 1.0))
    assert model_confounds(wide) == model_confounds(frame) == (*MOTION_REGRESSORS, *five)
    assert model_confounds(frame.head(40), ["acompcor"]) == ()


def test_the_column_names_of_fmriprep_1_are_read_as_the_names_of_today(tmp_path):
    expected, described = import_confound_columns(
        write_table(table(), tmp_path), n_dummy=2, origin="fMRIPrep"
    )
    old_table = write_table(with_old_names(table()), tmp_path)
    assert "RotZ" in old_table.read_text()
    confounds, old_described = import_confound_columns(old_table, n_dummy=2, origin="fMRIPrep")
    pd.testing.assert_frame_equal(confounds, expected)
    assert old_described == described


def test_columns_that_only_resemble_the_names_of_fmriprep_1_keep_their_names(tmp_path):
    own_columns = table().assign(X=1.0, CSF=2.0)
    pd.testing.assert_frame_equal(read_confounds(write_table(own_columns, tmp_path)), own_columns)
    both_names = table().assign(**dict.fromkeys(OLD_MOTION, 1.0))
    assert list(read_confounds(write_table(both_names, tmp_path))) == list(both_names)
