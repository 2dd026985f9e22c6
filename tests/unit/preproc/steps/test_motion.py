"""Test the steps of head motion: grids, header codes, directions of transforms, tables with n/a,
and the workflow.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nibabel.affines import apply_affine as apply
from scipy import ndimage

from bids_sr.io import storage
from bids_sr.io.confound_names import MOTION_PARAMETERS
from bids_sr.io.grids import AS_STORED
from bids_sr.io.nifti import SeriesReader, load_image
from bids_sr.io.notices import InvalidInput
from bids_sr.io.volume import Volume
from bids_sr.preproc.steps import (
    acquired_series,
    bold_reference,
    motion,
    run_confounds,
    temporal_model,
)
from bids_sr.preproc.steps.aligned_series import PosedBrain
from bids_sr.preproc.temporal_regressors import TimeModel
from bids_sr.spatial.transforms import displacement, invert, rigid_matrix
from bids_sr.sr.steps.resampled_series import correct_motion

SHAPE, VOLUMES = (24, 26, 14), 14
AFFINE = np.diag([-6.0, 6.0, 6.0, 1.0])
AFFINE[:3, 3] = [69, -75, -39]


SETTINGS = run_confounds.ConfoundSettings(
    fd_spike_threshold=0.5, dvars_spike_threshold=1.5, return_all_components=False
)
"""Options of the confounds table."""


@pytest.fixture(scope="module")
def truth() -> list[np.ndarray]:
    return [
        rigid_matrix([0.2 * t, -0.1 * t, 0.1 * t, 0, 0, 0.003 * t], [0, 0, 0])
        for t in range(VOLUMES)
    ]


@pytest.fixture(scope="module")
def bold(tmp_path_factory: pytest.TempPathFactory, truth: list[np.ndarray]) -> Path:
    """Write an int16 series of a moving head, cut off by the slices, with two bright volumes at
    its start.
    """
    rng = np.random.default_rng(2)
    fine_shape = tuple(2 * n for n in SHAPE)
    positions = (np.indices(fine_shape) - (np.array(fine_shape)[:, None, None, None] - 1) / 2) * 3
    radius = np.sqrt(
        (positions[0] / 52) ** 2 + (positions[1] / 60) ** 2 + (positions[2] / 70) ** 2
    )
    folds = ndimage.gaussian_filter(rng.normal(size=fine_shape), 2.0)
    head = (0.7 + 0.3 * np.tanh(folds / folds.std())) * ndimage.gaussian_filter(
        (radius < 1).astype(float), 1.0
    )
    coefficients = ndimage.spline_filter(head * 2000)
    points = apply(AFFINE, np.indices(SHAPE).reshape(3, -1).T)
    to_fine = np.diag([1 / 3, 1 / 3, 1 / 3, 1])
    to_fine[:3, 3] = (np.array(fine_shape) - 1) / 2
    series = np.empty((*SHAPE, VOLUMES))
    for t, pose in enumerate(truth):
        coordinates = apply(to_fine @ invert(pose), points)
        series[..., t] = ndimage.map_coordinates(
            coefficients, coordinates.T, prefilter=False
        ).reshape(SHAPE)
    series += rng.normal(0, 15, series.shape)
    series[..., :2] *= [1.5, 1.15]
    image = nib.Nifti1Image(np.clip(series, 0, None).astype(np.int16), AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((6, 6, 6, 2.0))
    image.set_qform(AFFINE, 1)
    image.set_sform(AFFINE, 2)
    path = tmp_path_factory.mktemp("bold") / "sub-01_task-x_bold.nii.gz"
    image.to_filename(path)
    return path


@dataclass(frozen=True)
class MotionResults:
    """Results of the head motion steps for a run."""

    bold: SeriesReader
    n_dummy: int
    boldref: Volume
    mask: Volume
    xfms: np.ndarray
    motion: pd.DataFrame
    stc: SeriesReader


TIMES = [round(2.0 * k / SHAPE[2], 4) for k in range(SHAPE[2])]
TIMING = {"slice_times": TIMES, "start_time": 1.0, "n_dummy": 2}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, bold: Path) -> MotionResults:
    here = tmp_path_factory.mktemp("ran")
    series = acquired_series.import_series(bold, here, tr=2.0, axis_order=AS_STORED)
    n_dummy = bold_reference.count_dummies(series, dummy_scans=None)
    boldref = bold_reference.average_volumes(series, n_dummy=n_dummy)
    mask = bold_reference.mask_head(boldref)
    xfms, table = motion.estimate_motion(series, boldref, mask, n_dummy=n_dummy)
    stc = acquired_series.correct_slice_timing(series, here, **TIMING)
    return MotionResults(series, n_dummy, boldref, mask, xfms, table, stc)


def test_the_import_is_exact_and_the_repetition_time_is_that_of_the_sidecar(
    tmp_path: Path, bold: Path, results: MotionResults
) -> None:
    """Headers with milliseconds for seconds give the same values as correct headers."""
    source = nib.load(bold)
    assert results.bold.path.suffix == ".nii"
    image = nib.load(results.bold.path)
    np.testing.assert_array_equal(np.asarray(image.dataobj), source.get_fdata(dtype=np.float32))
    assert image.get_data_dtype() == source.get_data_dtype() == np.int16
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 2)
    source.header["pixdim"][4] = 2000.0
    nib.save(source, tmp_path / "wrong.nii.gz")
    series = acquired_series.import_series(
        tmp_path / "wrong.nii.gz", tmp_path, tr=2.0, axis_order=AS_STORED
    )
    corrected = acquired_series.correct_slice_timing(series, tmp_path, **TIMING)
    assert corrected.tr == results.bold.tr == results.stc.tr == 2.0
    np.testing.assert_array_equal(load_image(corrected.path)[0], load_image(results.stc.path)[0])


def test_slice_timing_only_changes_values_over_time(
    results: MotionResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stc, source = (load_image(series.path)[0] for series in (results.stc, results.bold))
    assert stc.shape == source.shape
    np.testing.assert_array_equal(stc[..., 0], source[..., 0])  # dummy volume
    assert np.abs(stc[..., 6] - source[..., 6]).max() > 5
    same_times = {"slice_times": [0.5] * SHAPE[2], "start_time": 0.5, "n_dummy": 0}
    unchanged = acquired_series.correct_slice_timing(results.bold, tmp_path, **same_times)
    np.testing.assert_array_equal(load_image(unchanged.path)[0], source)
    monkeypatch.setattr(storage, "LARGE_SERIES_BYTES", 1000)  # large series are int16
    with acquired_series.correct_slice_timing(results.bold, tmp_path, **TIMING) as compact:
        assert compact.path.stat().st_size < 0.6 * results.stc.path.stat().st_size
        for t in (0, results.n_dummy, -1):
            np.testing.assert_allclose(compact.volume(t), stc[..., t], atol=stc.max() / 60_000)


def test_head_motion_is_recovered_and_its_mask_includes_cut_slices(
    results: MotionResults, truth: list[np.ndarray]
) -> None:
    np.testing.assert_array_equal(results.xfms[0], results.xfms[2])
    points = apply(results.mask.affine, np.argwhere(results.mask.data))
    # The boldref is in some pose of the run, so motion between volumes is compared.
    for t in range(3, VOLUMES):
        error_mm = displacement(
            results.xfms[t] @ invert(results.xfms[2]), truth[t] @ invert(truth[2]), points
        )
        assert error_mm.mean() < 0.15
    table = results.motion
    assert list(table) == [*MOTION_PARAMETERS, "residual"]
    assert table["residual"].isna().tolist() == [True] * 2 + [False] * 12
    assert 1.5 < table["trans_x"].iloc[-1] - table["trans_x"].iloc[2] < 2.8
    area = results.mask.data.sum(axis=(0, 1))
    assert min(area[0], area[-1]) > 0.5 * area.max()
    assert not results.mask.data[0].any()


def test_the_resampled_series_has_less_motion(results: MotionResults, tmp_path: Path) -> None:
    resampled = correct_motion(results.bold, results.boldref, results.xfms, here=tmp_path)
    assert resampled.tr == 2.0
    before, after = (
        load_image(series.path)[0][results.mask.data][:, 2:].std(axis=1).mean()
        for series in (results.bold, resampled)
    )
    assert after < 0.5 * before
    still = np.tile(np.eye(4), (VOLUMES, 1, 1))
    unchanged = correct_motion(results.bold, results.boldref, still, here=tmp_path)
    np.testing.assert_array_equal(load_image(unchanged.path)[0], load_image(results.bold.path)[0])
    with pytest.raises(ValueError, match="3 transforms for 14 volumes"):
        correct_motion(results.bold, results.boldref, still[:3], here=tmp_path)


def test_dummies_are_detected_or_set_by_the_user(bold: Path) -> None:
    with SeriesReader(bold) as series:
        assert bold_reference.count_dummies(series, dummy_scans=None) == 2
        assert bold_reference.count_dummies(series, dummy_scans=0) == 0
        assert bold_reference.count_dummies(series, dummy_scans=5) == 5
        with pytest.raises(ValueError, match="13 of 14 volumes are non-steady-state"):
            bold_reference.count_dummies(series, dummy_scans=13)


def test_confounds_have_no_tissue_signals_if_the_brain_mask_is_doubtful(
    results: MotionResults, tmp_path: Path
) -> None:
    bands = np.arange(SHAPE[1])[:, None] % 12 // 4
    tpms = [
        results.mask.like((results.mask.data * (bands == k)).astype(np.float32)) for k in range(3)
    ]
    posed = PosedBrain(bold_mask=results.mask, hmc_xfms=results.xfms, factor=(2.0, 2.0, 1.0))
    run = (results.stc, posed, results.motion)
    options = {"n_dummy": 2, "settings": SETTINGS}
    for anatomy, has_tissues in (
        ((), False),
        ((tpms, {"brain_doubts": []}), True),
        ((tpms, {"brain_doubts": ["its brain mask holds 2080 ml"]}), False),
    ):
        table, columns = run_confounds.gather_confounds(*run, *anatomy, **options)
        assert ("white_matter" in table) == has_tissues
        assert ("Description" in columns) != has_tissues  # why they are missing
        assert [name for name in columns if name != "Description"] == list(table)
        assert "non_steady_state_outlier01" in table
    port = run_confounds.gather_confounds.outputs["confounds"]
    rows = Path(port.save(table, tmp_path / "confounds")).read_text().splitlines()
    assert len(rows) == VOLUMES + 1
    first = dict(zip(rows[0].split("\t"), rows[1].split("\t"), strict=True))
    assert first["framewise_displacement"] == "n/a"
    assert "nan" not in rows[1]


def test_motion_confounds_are_added_to_known_confounds() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(6, 6)), columns=list(MOTION_PARAMETERS)).assign(
        residual=np.nan
    )
    motion_only = run_confounds.motion_confounds(table)
    assert {f"{name}_derivative1" for name in MOTION_PARAMETERS} < {*motion_only}
    change = np.abs(np.diff(table[list(MOTION_PARAMETERS)].to_numpy(), axis=0)) * (
        [1.0] * 3 + [50.0] * 3
    )
    np.testing.assert_allclose(motion_only.framewise_displacement[1:], change.sum(1))
    other_confounds = pd.DataFrame({"trans_x": np.arange(6.0), "csf": np.ones(6)})
    combined = run_confounds.motion_confounds(table, other_confounds)
    assert combined.trans_x.tolist() == [0, 1, 2, 3, 4, 5]
    assert combined.csf.tolist() == [1] * 6
    np.testing.assert_array_equal(
        combined.framewise_displacement, motion_only.framewise_displacement
    )


def _moving_table(n: int = 60) -> pd.DataFrame:
    table = pd.DataFrame(0.0, index=range(n), columns=list(MOTION_PARAMETERS))
    for name in MOTION_PARAMETERS:
        table[name] = np.random.default_rng(0).normal(0, 1e-3, n)
        table[f"{name}_derivative1"] = table[name].diff()
    displacement = np.full(n, 0.1)
    displacement[[20, 40, 41]] = 0.9
    return table.assign(framewise_displacement=displacement)


add_temporal_regressors = partial(
    temporal_model.add_temporal_regressors,
    high_pass=0.0,
    n_regressors=1,
    nuisance=None,
    at_rest=True,
    tr=2.0,
    n_dummy=4,
)


def test_too_few_remaining_volumes_are_an_error_with_reason_and_option() -> None:
    strict = TimeModel(fd_censor=0.05, band_pass=(0.01, 0.2), legendre=2)
    with pytest.raises(InvalidInput, match=r"0 of 56 .* 56 ") as error:
        add_temporal_regressors(_moving_table(), model=strict)
    assert "--censor fd" in str(error.value)
    assert "--band-pass" in str(error.value)
