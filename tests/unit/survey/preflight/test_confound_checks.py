"""Names of confounds are accepted if a table has the column, and fMRIPrep confounds that models
cannot use are rejected, or changed with a note.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data.calls import about, plan_for, problem_of
from data.dataset import BidsMaker
from data.fmriprep import prepared, use
from data.records import make_run, make_settings

from bids_sr.io.confound_names import MOTION_PARAMETERS, MOTION_REGRESSORS
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.notices import Notice
from bids_sr.preproc.confound_table import build_confound_table
from bids_sr.preproc.temporal_regressors import TimeModel, time_columns
from bids_sr.survey.bids.inputs import BoldRun
from bids_sr.survey.bids.precomputed import DerivativeFolder, PrecomputedRun
from bids_sr.survey.preflight.confound_checks import (
    missing_confounds,
    read_imported,
    unknown_confounds,
    unusable_confounds,
)

N = 60  # volumes
GAPS = np.where(np.arange(N) > 40, np.nan, 1.0)
RAMP = np.arange(N) * 0.1
RUN = make_run(n_volumes=N)


def make_imported(folder: Path, **columns: object) -> BoldRun:
    """Return a run with an imported table: motion, two components and these columns."""
    known = {"framewise_displacement": RAMP, "a_comp_cor_00": RAMP, "a_comp_cor_01": RAMP}
    table = pd.DataFrame(dict.fromkeys(MOTION_REGRESSORS, RAMP) | known | columns)
    path = folder / "confounds.tsv"
    table.dropna(axis=1, how="all").to_csv(path, sep="\t", index=False, na_rep="n/a")
    origin = DerivativeFolder(root=folder, name="a", program="fMRIPrep", version="24.1.1")
    imported = PrecomputedRun(origin=origin, hmc=None, confounds=path)
    return make_run(n_volumes=N, precomputed=imported)


def judge_confounds(run: BoldRun, selected: Sequence[str] | None) -> list[Notice]:
    imported = read_imported(run)
    assert imported is not None
    return [
        *missing_confounds(run, imported, selected, with_anat=True),
        *unusable_confounds(imported, selected),
    ]


@pytest.mark.parametrize(
    ("columns", "selected", "values"),
    [
        # columns that no model uses are not checked, except for text
        ({"remark": "ok", "csf": GAPS}, None, ["remark"]),
        ({"a_comp_cor_00": GAPS}, None, ["a_comp_cor_00"]),
        ({"a_comp_cor_00": GAPS}, ["motion"], None),
        # derivatives of motion are missing
        (dict.fromkeys(MOTION_REGRESSORS[6:]), None, ["six", "trans_x_derivative1"]),
    ],
)
def test_unusable_columns_are_omitted_or_computed_with_a_note(
    tmp_path: Path,
    columns: dict[str, object],
    selected: Sequence[str] | None,
    values: list[str] | None,
) -> None:
    notices = judge_confounds(make_imported(tmp_path, **columns), selected)
    assert [notice.level for notice in notices] == ["note"] * (values is not None)
    assert about(notices, "confounds.tsv", *(values or ())) == notices
    assert not about(notices, "", "csf")


def test_selected_columns_that_do_not_exist_are_warned_of(tmp_path: Path) -> None:
    (imported,) = judge_confounds(make_imported(tmp_path), ["motion", "csf"])
    selected = ["trans_x", "csf", "acompcor"]
    (computed,) = missing_confounds(RUN, None, selected, with_anat=False)
    for warning, name in ((imported, "csf"), (computed, "csf acompcor")):
        assert (warning.level, warning.what) == ("warning", f"--confounds {name}")
        assert about([warning], "", "sub-01")
    assert [*missing_confounds(RUN, None, selected, with_anat=True)] == []


@pytest.mark.parametrize("value", [GAPS, "text"])
def test_a_selected_column_that_cannot_be_used_is_refused(tmp_path: Path, value: object) -> None:
    run = make_imported(tmp_path, csf=value)
    faults = judge_confounds(run, ["motion", "csf"])
    problem_of(faults, "confounds.tsv", "csf", "--confounds")


def test_a_run_with_an_unusable_table_has_no_other_notices(maker: BidsMaker) -> None:
    maker.bold(n_volumes=N)
    maker.events(rows=[(10.0, 5.0, "thumb")])  # a single block
    (path,) = prepared(maker).root.glob("sub-01/func/*desc-confounds_timeseries.tsv")
    frame = pd.read_csv(path, sep="\t", na_values="n/a")
    frame.assign(csf=GAPS).to_csv(path, sep="\t", index=False, na_rep="n/a")
    options = use(maker, "--confounds", "motion", "csf")
    plan = plan_for(maker, *options)
    problem_of(plan.problems, str(path), "csf", "--confounds", code="events")
    assert plan.unsplit == frozenset()
    header, first, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, f"{first}\t1", *rows]) + "\n")
    problem_of(plan_for(maker, *options).problems, str(path))


def make_table(folder: Path, n_volumes: int, n_dummy: int) -> list[str]:
    """Return the columns of a computed table with tissue maps, outliers and temporal model."""
    rng = np.random.default_rng(0)
    shape = (14, 8, 6)
    save_image(500 + rng.normal(size=(*shape, n_volumes)), np.eye(4), folder / "run.nii", tr=4.0)
    tissues = [np.zeros(shape) for _ in range(3)]
    for index, rows in enumerate((slice(4), slice(4, 10), slice(10, 14))):
        tissues[index][rows] = 1
    motion = pd.DataFrame(0.01 * rng.normal(size=(n_volumes, 6)), columns=[*MOTION_PARAMETERS])
    motion.loc[20, "trans_x"] = 3.0
    with SeriesReader(folder / "run.nii") as reader:
        table, described = build_confound_table(
            reader,
            np.ones(shape, dtype=bool),
            motion,
            np.tile(np.eye(4), (n_volumes, 1, 1)),
            tpms=tissues,
            n_dummy=n_dummy,
            all_components=True,
            outliers={30: "no head"},
        )
    model = TimeModel(fd_censor=0.5, band_pass=(0.01, 0.1), legendre=3)
    temporal, _ = time_columns(table, model, tr=4.0, n_dummy=n_dummy)
    assert list(table) == list(described)
    return [*map(str, table), *map(str, temporal)]


def find_unknown(run: BoldRun, *options: str) -> list[Notice]:
    return [*unknown_confounds([run], make_settings(*options))]


def test_every_column_of_a_computed_table_can_be_named(tmp_path: Path) -> None:
    columns = make_table(tmp_path, N, 2)
    for kind in ("a_comp_cor_5", "motion_outlier", "cosine", "censored0020", "censored0030"):
        assert any(name.startswith(kind) for name in columns), kind
    call = ("--band-pass", "0.01", "0.1", "--censor", "fd:.5", "--confounds")
    assert find_unknown(RUN, *call, *columns, "--set", "activation.drift=legendre:3") == []
    patterns = ("*_comp_cor_0[0-4]", "trans_?", "*_power2", "motion_outlier*")
    assert find_unknown(RUN, "--confounds", *patterns) == []


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("tranz_x", "trans_x"),
        ("csf_power3", "csf_power2"),
        ("a_compcor_03", "a_comp_cor_03"),
        ("legendre01", None),
        ("foo*", None),
    ],
)
def test_a_name_of_no_column_is_refused_with_the_nearest_name(
    name: str, nearest: str | None
) -> None:
    faults = find_unknown(RUN, "--confounds", "motion", name)
    problem = problem_of(faults, f"--confounds {name}", code="option")
    assert ("?" in problem.remedy) is (nearest is not None)
    assert nearest is None or f"'{nearest}'" in problem.remedy


def test_columns_of_imported_tables_can_be_named(tmp_path: Path) -> None:
    faults = find_unknown(make_imported(tmp_path), "--confounds", "pulse_rate")
    problem_of(faults, "--confounds pulse_rate", code="option")
    run = make_imported(tmp_path, pulse_rate=RAMP)
    assert find_unknown(run, "--confounds", "pulse_rate", "pulse*", "csf") == []
