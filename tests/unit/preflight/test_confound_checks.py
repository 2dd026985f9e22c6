"""fMRIPrep confounds that models cannot use are rejected, or changed with a note."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bidsmaker import BidsMaker
from fmriprepmaker import planned, prepared, refusals

from bids_sr.io.confound_names import MOTION_PARAMETERS

N = 60  # volumes


@pytest.fixture
def data(tmp_path: Path) -> tuple[BidsMaker, Path]:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    maker.bold(n_volumes=N)
    folder = prepared(maker).root
    (path,) = folder.glob("sub-01/func/*desc-confounds_timeseries.tsv")
    return maker, path


def change_columns(path: Path, **columns: object) -> None:
    frame = pd.read_csv(path, sep="\t", na_values="n/a").assign(**columns)
    frame.to_csv(path, sep="\t", index=False, na_rep="n/a")


def options(path: Path, *confounds: str) -> list[str]:
    return ["-d", str(path.parents[2]), "--confounds", *confounds]


def notices(plan) -> str:
    return " ".join(map(str, plan.warnings))


def test_columns_that_no_model_uses_are_not_checked(data):
    maker, path = data
    change_columns(path, remark="ok", csf=np.where(np.arange(N) > 40, np.nan, 1.0))
    plan = planned(maker)
    assert plan.problems == ()
    assert "text was found in column remark, so these confounds are omitted" in notices(plan)
    assert "csf" not in notices(plan)


def test_components_with_gaps_are_skipped_with_a_note_if_they_are_modeled(data):
    maker, path = data
    change_columns(path, a_comp_cor_00=np.nan, a_comp_cor_01=np.arange(N) * 0.1)
    plan = planned(maker)
    assert plan.problems == ()
    assert "in column a_comp_cor_00, so these components are omitted" in notices(plan)
    assert "a_comp_cor_00" not in notices(planned(maker, *options(path, "motion")))


def test_missing_derivatives_are_computed_with_a_note(data):
    maker, path = data
    frame = pd.read_csv(path, sep="\t", na_values="n/a")
    frame[list(MOTION_PARAMETERS)].to_csv(path, sep="\t", index=False)
    plan = planned(maker)
    assert plan.problems == ()
    assert (
        "missing or incomplete confounds are recomputed from the six motion parameters"
    ) in notices(plan)


@pytest.mark.parametrize(
    ("value", "reason"),
    [(np.where(np.arange(N) > 40, np.nan, 1.0), "missing (n/a)"), ("text", "text was found")],
)
def test_a_selected_column_that_cannot_be_used_is_rejected(data, value, reason):
    maker, path = data
    change_columns(path, csf=value)
    message = refusals(maker, *options(path, "motion", "csf"))
    assert f"{reason} in column csf" in message
    assert "--confounds" in message


def test_error_of_an_unknown_set_lists_the_sets(data):
    (problem,) = planned(data[0], *options(data[1], "moton")).problems
    assert problem.what == "--confounds moton"
    assert "motion and acompcor" in problem.remedy
