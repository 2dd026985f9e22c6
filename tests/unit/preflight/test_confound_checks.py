"""Names of confounds are accepted if a table has the column, and fMRIPrep confounds that models
cannot use are rejected, or changed with a note.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data.dataset import BidsMaker
from data.fmriprep import planned, prepared, refusals

from bids_sr.cli.main import main
from bids_sr.glm.confound_table import build_confound_table
from bids_sr.glm.temporal_regressors import TimeModel, time_columns
from bids_sr.io.confound_names import MOTION_PARAMETERS
from bids_sr.io.nifti import SeriesReader, save_image

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


def test_a_table_that_cannot_be_read_is_rejected_if_columns_are_selected(data):
    maker, path = data
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, f"{rows[0]}\t1", *rows[1:]]) + "\n")
    (problem,) = planned(maker, *options(path, "motion", "csf")).problems
    assert problem.what == str(path)


def test_error_of_an_unknown_set_lists_the_sets(data):
    (problem,) = planned(data[0], *options(data[1], "moton")).problems
    assert problem.what == "--confounds moton"
    assert "motion and acompcor" in problem.remedy


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


def test_every_column_of_a_computed_table_can_be_named(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    maker.bold(n_volumes=N)
    columns = make_table(tmp_path, N, 2)
    for kind in ("a_comp_cor_5", "motion_outlier", "cosine", "censored0020", "censored0030"):
        assert any(name.startswith(kind) for name in columns), kind
    call = ("--band-pass", "0.01", "0.1", "--censor", "fd:.5", "--confounds")
    whole_names = planned(maker, *call, *columns, "--set", "activation.drift=legendre:3")
    refused = [problem.what for problem in whole_names.problems]
    assert not [text for text in refused if text.startswith("--confounds")]
    for pattern in ("*_comp_cor_0[0-4]", "trans_?", "*_power2", "motion_outlier*"):
        assert planned(maker, "--confounds", pattern).problems == ()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("tranz_x", "trans_x"),
        ("csf_power3", "csf_power2"),
        ("frame_displacement", "framewise_displacement"),
        ("a_compcor_03", "a_comp_cor_03"),
        ("legendre01", None),
        ("trial_type.thumb", None),
        ("foo*", None),
    ],
)
def test_a_name_of_no_column_is_refused_with_the_nearest_name(
    name: str, nearest: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    call = [str(maker.root), str(tmp_path / "out"), "participant", "--dry-run"]
    assert main([*call, "--skip-bids-validation", "--confounds", "motion", name]) == 2
    message = capsys.readouterr().err
    assert f"--confounds {name}" in message
    assert (f"Did you mean '{nearest}'?" in message) == (nearest is not None)


def test_columns_of_imported_tables_can_be_named(data):
    maker, path = data
    (problem,) = planned(maker, *options(path, "pulse_rate")).problems
    assert problem.what == "--confounds pulse_rate"
    change_columns(path, pulse_rate=np.arange(N) * 0.1)
    for name in ("pulse_rate", "pulse*", "csf"):
        assert planned(maker, *options(path, name)).problems == ()
