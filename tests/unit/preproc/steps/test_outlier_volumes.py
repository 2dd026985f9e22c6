"""Test outlier volumes: replaced in series, excluded by confounds, and shown in the report."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bids_sr.io.atomic_files import write_json
from bids_sr.io.confound_names import MOTION_PARAMETERS
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.volume import Volume
from bids_sr.preproc.head_motion import motion_table
from bids_sr.preproc.model_confounds import model_confounds
from bids_sr.preproc.steps import imported, outlier_volumes, run_confounds, temporal_model
from bids_sr.preproc.steps.aligned_series import PosedBrain
from bids_sr.preproc.temporal_regressors import TimeModel, time_column_names

SHAPE, VOLUMES, TR = (20, 22, 10), 40, 2.0
AFFINE = np.diag([8.0, 8.0, 8.0, 1.0])
BAD = 17
FACTS = {"OutlierVolumes": [BAD], "OutlierVolumesReason": ["1.50 times as bright"]}


def _head() -> np.ndarray:
    x, y, z = (2 * k / (n - 1) - 1 for k, n in zip(np.indices(SHAPE), SHAPE, strict=True))
    texture = 1 + 0.3 * np.sin(9 * x) * np.cos(7 * y) + 0.2 * np.sin(8 * z)
    return 800 * texture / (1 + np.exp(12 * (x**2 + y**2 + z**2 - 0.7)))


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 6, (*SHAPE, VOLUMES))
    return np.rint(np.abs(_head()[..., None] + noise))


@pytest.fixture
def bold(tmp_path: Path, plain: np.ndarray) -> SeriesReader:
    """Write a run whose volume 17 is 1.5 times as bright as the others."""
    series = plain.copy()
    series[..., BAD] *= 1.5
    save_image(series, AFFINE, tmp_path / "bold.nii", dtype="i2", tr=TR)
    return SeriesReader(tmp_path / "bold.nii")


def test_an_outlier_is_replaced_by_the_mean_of_its_neighbors_and_named(
    bold: SeriesReader,
    plain: np.ndarray,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "step").mkdir()
    with caplog.at_level(logging.WARNING, "bids_sr"):
        replaced, facts = outlier_volumes.replace_outliers(bold, tmp_path / "step", n_dummy=0)
    assert facts["OutlierVolumes"] == [BAD]
    assert facts["OutlierVolumesReason"][0].startswith("1.50 ")
    assert "1 of 40 volumes" in caplog.text
    assert f"Volume {BAD}: 1.50 " in caplog.text
    between = plain[..., [BAD - 1, BAD + 1]].mean(-1)
    np.testing.assert_allclose(replaced.volume(BAD), between, atol=0.5)
    others = np.arange(VOLUMES) != BAD
    values = np.stack(list(replaced.volumes()), -1)
    np.testing.assert_array_equal(values[..., others], plain[..., others])
    # The measured series of the same moments is changed in the same volume.
    (tmp_path / "same").mkdir()
    same = outlier_volumes.replace_same_volumes(bold, facts, tmp_path / "same", n_dummy=0)
    np.testing.assert_array_equal(same.volume(BAD), replaced.volume(BAD))


def _motion() -> pd.DataFrame:
    return motion_table(np.zeros((VOLUMES, 6)), np.zeros(VOLUMES))


def test_an_outlier_has_a_column_in_all_confounds_and_in_every_model(
    bold: SeriesReader, tmp_path: Path
) -> None:
    mask = Volume(_head() > 300, AFFINE)
    table, described = run_confounds.gather_confounds(
        bold,
        PosedBrain(
            bold_mask=mask,
            hmc_xfms=np.tile(np.eye(4), (VOLUMES, 1, 1)),
            factor=(2.0, 2.0, 1.0),
            outliers=FACTS,
        ),
        _motion(),
        n_dummy=2,
        settings=run_confounds.ConfoundSettings(
            fd_spike_threshold=0.5, dvars_spike_threshold=100.0, return_all_components=False
        ),
    )
    pd.DataFrame(dict.fromkeys(MOTION_PARAMETERS, np.zeros(VOLUMES))).to_csv(
        tmp_path / "theirs_timeseries.tsv", sep="\t", index=False
    )
    write_json(tmp_path / "theirs_timeseries.json", {})
    theirs, _ = imported.import_confounds(
        tmp_path / "theirs_timeseries.tsv", FACTS, origin="fMRIPrep", n_dummy=2
    )
    own = run_confounds.motion_confounds(_motion(), outliers=FACTS)
    for confounds in (table, theirs, own):
        assert np.flatnonzero(confounds["censored0017"]).tolist() == [BAD]
        assert "censored0017" in model_confounds(confounds, ["trans_x"])
    assert np.flatnonzero(table["motion_outlier00"]).tolist() == [BAD]
    assert "1.50 " in str(described["censored0017"]["Description"])


def test_an_outlier_with_head_motion_has_one_column_and_counts_once() -> None:
    motion = _motion()
    motion.loc[BAD:, "trans_x"] = 3.0
    motion.loc[30:, "trans_x"] = 6.0
    table, described, added, facts = temporal_model.add_temporal_regressors(
        run_confounds.motion_confounds(motion, outliers=FACTS),
        {},
        model=TimeModel(fd_censor=0.5),
        high_pass=1 / 128,
        n_regressors=1,
        nuisance=None,
        at_rest=False,
        tr=TR,
        n_dummy=0,
    )
    assert [name for name in table if name.startswith("censored")] == [
        "censored0017",
        "censored0030",
    ]
    assert list(added) == list(described) == ["censored0030"]
    assert facts["censored"] == 1


def test_the_motion_of_an_outlier_is_not_imported(bold: SeriesReader) -> None:
    matrices = np.tile(np.eye(4), (VOLUMES, 1, 1))
    matrices[:, 0, 3] = 0.01 * np.arange(VOLUMES)
    matrices[BAD, 0, 3] = 40.0
    xfms, table, _ = imported.import_motion(bold, matrices, outliers=FACTS, n_dummy=0)
    assert xfms[BAD, 0, 3] in (xfms[BAD - 1, 0, 3], xfms[BAD + 1, 0, 3])
    assert table["trans_x"].abs().max() < 0.5


@pytest.mark.parametrize("n_dummy", [0, 1])
def test_contrasts_that_alternate_have_a_column_in_every_model(
    plain: np.ndarray, tmp_path: Path, n_dummy: int
) -> None:
    """The effect of a task and its standard error are then as without the alternation."""
    rng = np.random.default_rng(0)
    task = np.sin(np.arange(VOLUMES) / 3)
    single = 1000 + 20 * task + rng.normal(0, 5, VOLUMES)
    values = []
    for share in (0.0, 0.1):
        gain = 1 - share * (np.arange(VOLUMES) % 2)
        save_image(plain * gain, AFFINE, tmp_path / "bold.nii", dtype="i2", tr=TR)
        reader = SeriesReader(tmp_path / "bold.nii")
        cleaned, facts = outlier_volumes.replace_outliers(reader, tmp_path, n_dummy=n_dummy)
        assert (cleaned is reader) == (not share)
        means = np.array([volume.mean() for volume in cleaned.volumes(n_dummy)])
        assert means[::2].mean() == pytest.approx(means[1::2].mean(), rel=1e-3)
        (tmp_path / f"same{share}").mkdir()
        again = outlier_volumes.replace_same_volumes(
            reader, facts, tmp_path / f"same{share}", n_dummy=n_dummy
        )
        np.testing.assert_array_equal(again.volume(7), cleaned.volume(7))
        assert facts.get("AlternatingVolumes", 0) == pytest.approx(share, abs=0.002)
        table = run_confounds.motion_confounds(_motion(), outliers=facts)
        columns = [table[name] for name in time_column_names(table)]
        assert len(columns) == bool(share)
        matrix = np.column_stack([task, np.ones(VOLUMES), *columns])
        signal = single * gain / gain.mean()
        weights, residual, *_ = np.linalg.lstsq(matrix, signal, rcond=None)
        values.append((weights[0], residual[0]))
    assert values[1] == pytest.approx(values[0], rel=0.15)
