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

from bids_sr.io.confound_names import MOTION_PARAMETERS
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.preproc.confound_table import build_confound_table
from bids_sr.preproc.temporal_regressors import TimeModel, time_columns

N = 60  # volumes
GAPS = np.where(np.arange(N) > 40, np.nan, 1.0)


@pytest.fixture
def table(maker: BidsMaker) -> Path:
    """Return the confounds of a run of 60 volumes."""
    maker.bold(n_volumes=N)
    (path,) = prepared(maker).root.glob("sub-01/func/*desc-confounds_timeseries.tsv")
    return path


def change_columns(path: Path, **columns: object) -> None:
    frame = pd.read_csv(path, sep="\t", na_values="n/a").assign(**columns)
    frame.to_csv(path, sep="\t", index=False, na_rep="n/a")


@pytest.mark.parametrize(
    ("columns", "confounds", "noted"),
    [
        # columns that no model uses are not checked, except for text
        ({"remark": "ok", "csf": GAPS}, None, ["remark"]),
        (
            {"a_comp_cor_00": np.nan, "a_comp_cor_01": np.arange(N) * 0.1},
            None,
            ["a_comp_cor_00"],
        ),
        ({"a_comp_cor_00": np.nan}, ["motion"], None),
    ],
)
def test_unusable_columns_are_omitted_with_a_note(
    maker: BidsMaker,
    table: Path,
    columns: dict[str, object],
    confounds: Sequence[str] | None,
    noted: list[str] | None,
) -> None:
    change_columns(table, **columns)
    options = () if confounds is None else ("--confounds", *confounds)
    plan = plan_for(maker, *use(maker, *options))
    assert plan.problems == ()
    notices = about(plan.warnings, table.name)
    assert len(about(notices, "", *(noted or ()))) == len(notices) == (noted is not None)
    assert not about(notices, "", "csf")


def test_missing_derivatives_of_motion_are_computed_with_a_note(
    maker: BidsMaker, table: Path
) -> None:
    frame = pd.read_csv(table, sep="\t", na_values="n/a")
    frame[list(MOTION_PARAMETERS)].to_csv(table, sep="\t", index=False)
    plan = plan_for(maker, *use(maker))
    assert plan.problems == ()
    assert about(plan.warnings, table.name, "six")


@pytest.mark.parametrize("value", [GAPS, "text"])
def test_a_selected_column_that_cannot_be_used_is_refused(
    maker: BidsMaker, table: Path, value: object
) -> None:
    change_columns(table, csf=value)
    maker.events(rows=[(10.0, 5.0, "thumb")])  # a single block, which is not reported as well
    plan = plan_for(maker, *use(maker, "--confounds", "motion", "csf"))
    problem_of(plan.problems, str(table), "csf", "--confounds", code="events")
    assert plan.unsplit == frozenset()


def test_a_table_that_cannot_be_read_is_refused_if_columns_are_selected(
    maker: BidsMaker, table: Path
) -> None:
    header, first, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, f"{first}\t1", *rows]) + "\n")
    options = use(maker, "--confounds", "motion", "csf")
    problem_of(plan_for(maker, *options).problems, str(table))


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


def test_every_column_of_a_computed_table_can_be_named(maker: BidsMaker, tmp_path: Path) -> None:
    maker.bold(n_volumes=N)
    columns = make_table(tmp_path, N, 2)
    for kind in ("a_comp_cor_5", "motion_outlier", "cosine", "censored0020", "censored0030"):
        assert any(name.startswith(kind) for name in columns), kind
    call = ("--band-pass", "0.01", "0.1", "--censor", "fd:.5", "--confounds")
    problems = plan_for(maker, *call, *columns, "--set", "activation.drift=legendre:3").problems
    assert not about(problems, "--confounds")
    for pattern in ("*_comp_cor_0[0-4]", "trans_?", "*_power2", "motion_outlier*"):
        assert plan_for(maker, "--confounds", pattern).problems == ()


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
    maker: BidsMaker, name: str, nearest: str | None
) -> None:
    problems = plan_for(maker, "--confounds", "motion", name).problems
    problem = problem_of(problems, f"--confounds {name}", code="option")
    assert ("?" in problem.remedy) is (nearest is not None)
    assert nearest is None or f"'{nearest}'" in problem.remedy


def test_columns_of_imported_tables_can_be_named(maker: BidsMaker, table: Path) -> None:
    options = use(maker, "--confounds")
    problems = plan_for(maker, *options, "pulse_rate").problems
    problem_of(problems, "--confounds pulse_rate", code="option")
    change_columns(table, pulse_rate=np.arange(N) * 0.1)
    for name in ("pulse_rate", "pulse*", "csf"):
        assert plan_for(maker, *options, name).problems == ()
