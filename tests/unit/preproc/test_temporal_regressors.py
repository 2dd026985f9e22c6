"""Censoring, pass band and polynomials: models of kept volumes, degrees of freedom, errors."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from data.events import make_events
from nilearn.signal import clean
from scipy.linalg import toeplitz

from bids_sr.glm.activation_maps import ActivationSettings, map_activation
from bids_sr.glm.block_effects import block_effects, temporal_components
from bids_sr.glm.blocks import block_design
from bids_sr.glm.cross_correlation import cross_correlation, filter_of_design
from bids_sr.glm.design import DesignSettings, build_design
from bids_sr.glm.linear_model import ContrastModel
from bids_sr.glm.noise import NoiseModel
from bids_sr.glm.regressors import DesignError, Events, Seeds
from bids_sr.glm.seeds import regress_out, segment_regressor
from bids_sr.io.confound_names import MOTION_PARAMETERS
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.notices import InvalidInput
from bids_sr.preproc.head_motion import framewise_displacement
from bids_sr.preproc.model_confounds import model_confounds
from bids_sr.preproc.temporal_regressors import (
    TimeModel,
    check_volumes,
    column_count,
    motion_norm,
    time_columns,
    uncensored_volumes,
)

N, TR = 80, 2.0
SPIKES = (7, 30, 31, 62)
BLOCKS = [(10.0, 16.0), (42.0, 16.0), (74.0, 16.0), (106.0, 16.0)]


def head_motion(spikes: tuple[int, ...] = SPIKES, n: int = N, size: float = 1.0) -> pd.DataFrame:
    """Return confounds of a head that jumps at some volumes and stays in the new position."""
    params = np.random.default_rng(0).normal(0, 0.01, (n, 6)) * [1, 1, 1, 0.01, 0.01, 0.01]
    for volume in spikes:
        params[volume:, 0] += size
    table = pd.DataFrame(params, columns=list(MOTION_PARAMETERS))
    for name in MOTION_PARAMETERS:
        table[f"{name}_derivative1"] = table[name].diff()
    return table.assign(framewise_displacement=framewise_displacement(params))


def add_time_columns(
    model: TimeModel, table: pd.DataFrame | None = None, n_dummy: int = 0
) -> pd.DataFrame:
    table = head_motion() if table is None else table
    return table.assign(**dict(time_columns(table, model, tr=TR, n_dummy=n_dummy)[0].items()))


def task() -> Events:
    return make_events([(on, length, "a") for on, length in BLOCKS])


def build_task_design(table: pd.DataFrame, **options: float):
    names = model_confounds(table)
    return build_design(
        task(),
        DesignSettings(**options),
        n_volumes=len(table),
        tr=TR,
        confounds=table,
        confound_names=names,
    )


def test_volumes_are_censored_by_fd_and_by_the_norm_of_the_derivatives():
    table = head_motion()
    by_fd = add_time_columns(TimeModel(fd_censor=0.5), table)
    assert tuple(np.flatnonzero(~uncensored_volumes(by_fd, N))) == SPIKES
    by_norm = add_time_columns(TimeModel(enorm_censor=0.9), table)
    assert tuple(np.flatnonzero(~uncensored_volumes(by_norm, N))) == SPIKES
    # volumes before the steady state have no row to censor
    late = add_time_columns(TimeModel(fd_censor=0.5), table, n_dummy=10)
    assert tuple(np.flatnonzero(~uncensored_volumes(late, N))) == SPIKES[1:]
    assert uncensored_volumes(None, 5).all()


def test_norm_of_the_derivatives_is_in_mm_and_degrees_and_its_threshold_is_included():
    params = np.zeros((4, 6))
    params[1:, 0] = 3.0
    params[2:, 4] = np.radians(4.0)
    params[2:, 1] = 3.0
    np.testing.assert_allclose(motion_norm(params), [np.nan, 3.0, 5.0, 0.0])
    table = pd.DataFrame(params, columns=list(MOTION_PARAMETERS))
    mask = uncensored_volumes(add_time_columns(TimeModel(enorm_censor=3.0), table), 4)
    assert mask.tolist() == [True, False, False, True]


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_effects_are_generalized_least_squares_of_the_uncensored_volumes(rho):
    """The covariance of uncensored volumes keeps their distance in time across a gap."""
    table = add_time_columns(TimeModel(fd_censor=0.5))
    mask = uncensored_volumes(table, N)
    design, uncensored_design = build_task_design(table), build_task_design(head_motion())
    noise = NoiseModel.from_voxel_models(
        np.zeros(3, dtype=np.intp), np.array([[rho]]), np.zeros((1, 1, 1))
    )
    assert design.censored == SPIKES
    assert design.dof == mask.sum() - np.linalg.matrix_rank(uncensored_design.matrix[mask])
    signals = np.random.default_rng(2).standard_normal((N, 3)) + 50
    signals[~mask] += 1e3
    maps = ContrastModel(design.matrix, np.eye(len(design.columns))[:1], noise).fit(signals)
    inverse = np.linalg.inv(toeplitz(rho ** np.arange(N))[np.ix_(mask, mask)])
    x, y = uncensored_design.matrix[mask], signals[mask]
    information = x.T @ inverse @ x
    beta = np.linalg.solve(information, x.T @ inverse @ y)
    residuals = y - x @ beta
    scale = np.einsum("tn,ts,sn->n", residuals, inverse, residuals) / design.dof
    np.testing.assert_allclose(maps["effect"][0], beta[0], rtol=1e-6)
    np.testing.assert_allclose(
        maps["variance"][0], scale * np.linalg.inv(information)[0, 0], rtol=1e-7
    )


def test_correlation_equals_nilearn_with_a_sample_mask():
    table = add_time_columns(TimeModel(fd_censor=0.5, band_pass=(0.01, 0.1)))
    mask = uncensored_volumes(table, N)
    design = build_task_design(table, high_pass=0.0)
    time_series = np.random.default_rng(3).standard_normal((N, 5))
    seed = time_series @ [1.0, 0.5, 0.2, 0.0, -0.4] + np.random.default_rng(4).standard_normal(N)
    time_series[~mask] += 30
    correlation = cross_correlation(time_series, seed[:, None], filter_of_design(design, None))
    stop = table[[name for name in table if name.startswith("band_stop")]].to_numpy()
    nuisance = np.column_stack([np.linspace(-1, 1, N), stop])
    seed_and_series = np.column_stack([seed, time_series])
    cleaned = clean(
        seed_and_series,
        confounds=nuisance,
        sample_mask=np.flatnonzero(mask),
        detrend=False,
        filter=False,
        standardize=None,
        standardize_confounds=True,
    )
    np.testing.assert_allclose(correlation[0], np.corrcoef(cleaned.T)[0, 1:], atol=1e-9)


def test_a_pass_band_costs_the_degrees_of_freedom_of_the_frequencies_it_removes():
    model = TimeModel(band_pass=(0.01, 0.1))
    table = add_time_columns(model)
    design = build_task_design(table, high_pass=0.0)
    frequency = np.arange(1, N) / (2 * N * TR)
    removed = int(((frequency < 0.01) | (frequency > 0.1)).sum())
    assert column_count(N, TR, model) == removed
    unfiltered = build_task_design(head_motion(), high_pass=0.0)
    assert design.dof == unfiltered.dof - removed
    # cosines outside the band do not change the estimate, a cosine inside the band does
    cosines = np.cos(np.pi * np.outer(np.arange(N) + 0.5, [3, 20, 60]) / N)
    fit = ContrastModel(design.matrix, np.eye(len(design.columns))[:1], NoiseModel.white(3))
    effect = fit.fit(cosines + 10)["effect"][0]
    np.testing.assert_allclose(effect[[0, 2]], 0, atol=1e-10)
    assert abs(effect[1]) > 1e-3


def series(folder: Path, corrupt: bool) -> SeriesReader:
    rng = np.random.default_rng(6)
    data = 100 + rng.standard_normal((4, 4, 2, N)).astype(np.float32)
    data[:2] += build_task_design(head_motion()).matrix[:, 0].astype(np.float32)
    if corrupt:
        data[..., list(SPIKES)] *= rng.uniform(0.2, 3, (4, 4, 2, len(SPIKES)))
    image = nib.Nifti1Image(data, np.diag([3.0, 3, 3, 1]))
    image.header.set_zooms((3, 3, 3, TR))
    path = folder / f"{corrupt}.nii"
    nib.save(image, path)
    return SeriesReader(path)


def test_values_of_censored_volumes_change_no_map_no_block_and_no_component(tmp_path):
    table = add_time_columns(TimeModel(fd_censor=0.5))
    mask = np.ones((4, 4, 2), dtype=bool)
    blocks = block_design(
        task(), n_volumes=N, tr=TR, confounds=table, confound_names=model_confounds(table)
    )
    maps, effects, components = [], [], []
    for corrupt in (False, True):
        with series(tmp_path, corrupt) as reader:
            (fit,) = map_activation(
                reader,
                mask,
                {0.0: build_task_design(table)},
                {"a": {"a": 1.0}},
                ActivationSettings(low_pass=0.1),
                scratch=tmp_path,
            ).values()
            maps.append({key: fit.maps[key] for key in fit.maps})
            effects.append(
                block_effects(
                    reader, mask, blocks, series="x", with_t=True, pca_ranks=(3,), scratch=tmp_path
                )
            )
            components.append(temporal_components(reader, mask, 0, 3, tmp_path, SPIKES))
    for key, values in maps[0].items():
        np.testing.assert_allclose(maps[1][key], values, rtol=2e-3, atol=2e-4, err_msg=str(key))
    np.testing.assert_allclose(effects[1].betas, effects[0].betas, atol=2e-3)
    np.testing.assert_allclose(effects[1].smooth_variance, effects[0].smooth_variance, rtol=2e-3)
    np.testing.assert_allclose(
        effects[1].limit_components(3), effects[0].limit_components(3), atol=2e-3
    )
    np.testing.assert_allclose(components[1], components[0], atol=1e-5)
    np.testing.assert_allclose(components[0][list(SPIKES)], 0, atol=1e-12)


def test_block_weights_ignore_censored_volumes_and_mostly_censored_blocks_are_not_used():
    motion = head_motion(tuple(range(24, 34)))  # 48 s to 68 s: the second block and its response
    table = add_time_columns(TimeModel(fd_censor=0.5), motion)
    mask = uncensored_volumes(table, N)
    options = {"n_volumes": N, "tr": TR, "confound_names": model_confounds(table)}
    design = block_design(task(), confounds=table, **options)
    assert [block.used for block in design.blocks] == [True, False, True, True]
    assert design.blocks[1].share < 0.5
    np.testing.assert_allclose(design.weights[~mask], 0, atol=1e-9)
    uncensored_design = block_design(task(), confounds=motion, n_volumes=N, tr=TR, min_share=0)
    np.testing.assert_allclose(
        design.weights[mask], np.linalg.pinv(uncensored_design.matrix[mask])[:4].T, atol=1e-9
    )
    assert design.dof == mask.sum() - np.linalg.matrix_rank(uncensored_design.matrix[mask])


def test_seeds_have_no_value_in_censored_volumes_and_segments_are_centered_without_them():
    table = add_time_columns(TimeModel(fd_censor=0.5))
    mask = uncensored_volumes(table, N)
    measured = pd.DataFrame({"s": np.random.default_rng(7).standard_normal(N) + 5})
    measured.loc[~mask, "s"] += 100
    design = build_design(
        Seeds.standardize(measured),
        n_volumes=N,
        tr=TR,
        confounds=table,
        confound_names=model_confounds(table),
    )
    nuisance = design.matrix[:, 1:]
    cleaned = regress_out(measured, nuisance, 0, design.censored)
    assert cleaned["s"].isna().to_numpy().tolist() == (~mask).tolist()
    uncensored = nuisance[mask][:, [not c.startswith("censored") for c in design.columns[1:]]]
    values = measured["s"].to_numpy()[mask]
    expected = values - uncensored @ np.linalg.lstsq(uncensored, values, rcond=None)[0]
    np.testing.assert_allclose(cleaned["s"][mask], expected, atol=1e-8)
    part = segment_regressor(cleaned["s"].to_numpy(), TR, 20.0, 60.0)
    assert part[10:40].sum() == pytest.approx(0, abs=1e-9)
    assert not part[list(SPIKES)].any()


def test_a_condition_whose_volumes_are_all_censored_is_not_modeled():
    events = make_events([(10.0, 16.0, "a"), (100.0, 0.0, "b"), (42.0, 16.0, "a")])
    table = add_time_columns(TimeModel(fd_censor=0.5), head_motion(tuple(range(48, 80))))
    options = {"n_volumes": N, "tr": TR, "confounds": table}
    design = build_design(events, **options, confound_names=model_confounds(table))
    assert design.conditions == ("a",)


def test_error_of_too_few_uncensored_volumes_names_the_option_to_change():
    model = TimeModel(fd_censor=0.2, band_pass=(0.01, 0.1))
    with pytest.raises(InvalidInput, match=r"20 of 80 .*60 .*0\.2 mm.*--censor.*--band-pass"):
        check_volumes(20, 80, 20, model, tr=TR)
    with pytest.raises(InvalidInput, match=r"8 s.*10 s"):
        check_volumes(4, 80, 3, model, tr=TR, least_s=10.0)
    check_volumes(21, 80, 20, model, tr=TR, least_s=10.0)
    motion = head_motion(tuple(range(N)))
    table = add_time_columns(TimeModel(fd_censor=0.5), motion)
    with pytest.raises(DesignError, match="rank"):
        build_task_design(table)


def test_a_filter_that_removes_all_signal_is_rejected():
    table = add_time_columns(TimeModel(legendre=3))
    design = build_task_design(table)
    with pytest.raises(ValueError, match="80 volumes"):
        filter_of_design(design, 0.002)
