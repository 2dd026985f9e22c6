"""Censoring, pass band and polynomials: models on the kept rows, degrees of freedom, errors."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.signal import clean
from scipy.linalg import toeplitz

from bids_sr.glm.activation_maps import ActivationSettings, map_activation
from bids_sr.glm.block_effects import block_effects, temporal_components
from bids_sr.glm.blocks import TooFewBlocks, block_design
from bids_sr.glm.confounds import MOTION, framewise_displacement
from bids_sr.glm.cross_correlation import cross_correlation, filter_of_design
from bids_sr.glm.design import build_design
from bids_sr.glm.linear_model import ContrastModel
from bids_sr.glm.model_confounds import model_confounds
from bids_sr.glm.noise import NoiseModel
from bids_sr.glm.regressors import DesignError, Events, Seeds
from bids_sr.glm.seeds import within, without
from bids_sr.glm.time_columns import (
    TimeModel,
    TooFewVolumes,
    check_volumes,
    column_count,
    kept_volumes,
    motion_norm,
    time_columns,
    time_model,
)
from bids_sr.io.nifti import SeriesReader

N, TR = 80, 2.0
JERKS = (7, 30, 31, 62)
BLOCKS = [(10.0, 16.0), (42.0, 16.0), (74.0, 16.0), (106.0, 16.0)]


def head_motion(jerks: tuple[int, ...] = JERKS, n: int = N, size: float = 1.0) -> pd.DataFrame:
    """Confounds of a head that jumps into each of some volumes and stays there."""
    params = np.random.default_rng(0).normal(0, 0.01, (n, 6)) * [1, 1, 1, 0.01, 0.01, 0.01]
    for volume in jerks:
        params[volume:, 0] += size
    table = pd.DataFrame(params, columns=list(MOTION))
    for name in MOTION:
        table[f"{name}_derivative1"] = table[name].diff()
    return table.assign(framewise_displacement=framewise_displacement(params))


def modeled(model: TimeModel, table: pd.DataFrame | None = None, n_dummy: int = 0) -> pd.DataFrame:
    table = head_motion() if table is None else table
    return table.assign(**dict(time_columns(table, model, tr=TR, n_dummy=n_dummy)[0].items()))


def task() -> Events:
    rows = [(on, length, "a") for on, length in BLOCKS]
    return Events(pd.DataFrame(rows, columns=["onset", "duration", "trial_type"]))


def designed(table: pd.DataFrame, **options: float):
    names = model_confounds(table)
    return build_design(
        task(), n_volumes=len(table), tr=TR, confounds=table, confound_names=names, **options
    )


def test_volumes_are_censored_by_displacement_and_by_the_norm_of_the_derivatives():
    table = head_motion()
    by_fd = modeled(TimeModel(fd_censor=0.5), table)
    assert tuple(np.flatnonzero(~kept_volumes(by_fd, N))) == JERKS
    by_norm = modeled(TimeModel(enorm_censor=0.9), table)
    assert tuple(np.flatnonzero(~kept_volumes(by_norm, N))) == JERKS
    # volumes before the steady state have no row to censor
    late = modeled(TimeModel(fd_censor=0.5), table, n_dummy=10)
    assert tuple(np.flatnonzero(~kept_volumes(late, N))) == JERKS[1:]
    assert kept_volumes(None, 5).all()


def test_norm_of_the_derivatives_is_in_mm_and_degrees_and_its_threshold_is_included():
    params = np.zeros((4, 6))
    params[1:, 0] = 3.0
    params[2:, 4] = np.radians(4.0)
    params[2:, 1] = 3.0
    np.testing.assert_allclose(motion_norm(params), [np.nan, 3.0, 5.0, 0.0])
    table = pd.DataFrame(params, columns=list(MOTION))
    kept = kept_volumes(modeled(TimeModel(enorm_censor=3.0), table), 4)
    assert kept.tolist() == [True, False, False, True]


def test_white_noise_gives_the_ordinary_least_squares_of_the_kept_rows():
    table = modeled(TimeModel(fd_censor=0.5))
    kept = kept_volumes(table, N)
    design = designed(table)
    plain = designed(head_motion())
    assert design.censored == JERKS
    assert design.dof == kept.sum() - np.linalg.matrix_rank(plain.matrix[kept])
    signals = np.random.default_rng(1).standard_normal((N, 6)) + 100
    signals[~kept] += 1e3
    weights = np.eye(len(design.columns))[:1]
    found = ContrastModel(design.matrix, weights, NoiseModel.white(6)).fit(signals)
    x, y = plain.matrix[kept], signals[kept]
    beta, *_ = np.linalg.lstsq(x, y, rcond=None)
    rest = ((y - x @ beta) ** 2).sum(axis=0) / design.dof
    np.testing.assert_allclose(found["effect"][0], beta[0], rtol=1e-8)
    np.testing.assert_allclose(
        found["variance"][0], rest * np.linalg.inv(x.T @ x)[0, 0], rtol=1e-8
    )


def test_autoregressive_noise_gives_generalized_least_squares_of_the_kept_rows():
    """Noise keeps its distance in time across a gap: the covariance is that of the kept rows."""
    table = modeled(TimeModel(fd_censor=0.5))
    kept = kept_volumes(table, N)
    design, plain = designed(table), designed(head_motion())
    noise = NoiseModel.shared(np.zeros(3, dtype=np.intp), np.array([[0.6]]), np.zeros((1, 1, 1)))
    signals = np.random.default_rng(2).standard_normal((N, 3)) + 50
    found = ContrastModel(design.matrix, np.eye(len(design.columns))[:1], noise).fit(signals)
    inverse = np.linalg.inv(toeplitz(0.6 ** np.arange(N))[np.ix_(kept, kept)])
    x, y = plain.matrix[kept], signals[kept]
    information = x.T @ inverse @ x
    beta = np.linalg.solve(information, x.T @ inverse @ y)
    rest = y - x @ beta
    scale = np.einsum("tn,ts,sn->n", rest, inverse, rest) / design.dof
    np.testing.assert_allclose(found["effect"][0], beta[0], rtol=1e-7)
    np.testing.assert_allclose(
        found["variance"][0], scale * np.linalg.inv(information)[0, 0], rtol=1e-7
    )


def test_correlation_is_that_of_nilearn_with_a_sample_mask():
    table = modeled(TimeModel(fd_censor=0.5, band_pass=(0.01, 0.1)))
    kept = kept_volumes(table, N)
    design = designed(table, high_pass=0.0)
    courses = np.random.default_rng(3).standard_normal((N, 5))
    seed = courses @ [1.0, 0.5, 0.2, 0.0, -0.4] + np.random.default_rng(4).standard_normal(N)
    courses[~kept] += 30
    found = cross_correlation(courses, seed[:, None], filter_of_design(design, None, False))
    stop = table[[name for name in table if name.startswith("band_stop")]].to_numpy()
    nuisance = np.column_stack([np.linspace(-1, 1, N), stop])
    both = np.column_stack([seed, courses])
    cleaned = clean(
        both,
        confounds=nuisance,
        sample_mask=np.flatnonzero(kept),
        detrend=False,
        filter=False,
        standardize=None,
        standardize_confounds=True,
    )
    np.testing.assert_allclose(found[0], np.corrcoef(cleaned.T)[0, 1:], atol=1e-9)


def test_low_pass_of_the_correlation_holds_on_the_kept_rows_too():
    table = modeled(TimeModel(fd_censor=0.5))
    kept = kept_volumes(table, N)
    courses = np.random.default_rng(5).standard_normal((N, 3))
    task_ = np.sin(np.arange(N) / 8)
    found = cross_correlation(
        courses, task_[:, None], filter_of_design(designed(table), 0.1, False)
    )
    order = np.arange(1, N)
    fast = np.cos(np.pi * np.outer(np.arange(N) + 0.5, order[order / (2 * N * TR) > 0.1]) / N)
    nuisance = np.column_stack([np.ones(N), np.arange(N), fast])[kept]
    both = np.column_stack([task_, courses])[kept]
    both = both - nuisance @ np.linalg.lstsq(nuisance, both, rcond=None)[0]
    np.testing.assert_allclose(found[0], np.corrcoef(both.T)[0, 1:], atol=1e-9)


def test_a_pass_band_costs_the_degrees_of_freedom_of_the_frequencies_it_removes():
    model = TimeModel(band_pass=(0.01, 0.1))
    table = modeled(model)
    design = designed(table, high_pass=0.0)
    frequency = np.arange(1, N) / (2 * N * TR)
    removed = int(((frequency < 0.01) | (frequency > 0.1)).sum())
    assert column_count(N, TR, model) == removed
    straight = designed(head_motion(), high_pass=0.0)
    assert design.dof == straight.dof - removed
    # a sine outside the band has no effect on what is estimated, one inside the band has
    courses = np.cos(np.pi * np.outer(np.arange(N) + 0.5, [3, 20, 60]) / N)
    fit = ContrastModel(design.matrix, np.eye(len(design.columns))[:1], NoiseModel.white(3))
    effect = fit.fit(courses + 10)["effect"][0]
    np.testing.assert_allclose(effect[[0, 2]], 0, atol=1e-10)
    assert abs(effect[1]) > 1e-3


def test_legendre_polynomials_span_the_powers_of_time():
    table = modeled(TimeModel(legendre=4), n_dummy=5)
    columns = table[[name for name in table if name.startswith("legendre")]].to_numpy()
    assert columns.shape == (N, 4)
    assert not columns[:5].any()
    powers = np.vander(np.linspace(-1, 1, N - 5), 5)
    both = np.column_stack([np.ones(N - 5), columns[5:]])
    assert np.linalg.matrix_rank(np.hstack([powers, both])) == 5
    grams = columns[5:].T @ columns[5:] / (N - 5)
    np.testing.assert_allclose(np.diag(grams), 1 / (2 * np.arange(1, 5) + 1), atol=0.06)


def series(folder: Path, corrupt: bool) -> SeriesReader:
    rng = np.random.default_rng(6)
    data = 100 + rng.standard_normal((4, 4, 2, N)).astype(np.float32)
    data[:2] += designed(head_motion()).matrix[:, 0].astype(np.float32)
    if corrupt:
        data[..., list(JERKS)] *= rng.uniform(0.2, 3, (4, 4, 2, len(JERKS)))
    image = nib.Nifti1Image(data, np.diag([3.0, 3, 3, 1]))
    image.header.set_zooms((3, 3, 3, TR))
    path = folder / f"{corrupt}.nii"
    nib.save(image, path)
    return SeriesReader(path)


def test_what_a_censored_volume_holds_changes_no_map_no_block_and_no_component(tmp_path):
    table = modeled(TimeModel(fd_censor=0.5))
    mask = np.ones((4, 4, 2), dtype=bool)
    settings = ActivationSettings(tr=TR, confound_names=model_confounds(table))
    blocks = block_design(
        task(), n_volumes=N, tr=TR, confounds=table, confound_names=model_confounds(table)
    )
    maps, effects, components = [], [], []
    for corrupt in (False, True):
        with series(tmp_path, corrupt) as reader:
            (fit,) = map_activation(
                reader,
                mask,
                task(),
                {"a": {"a": 1.0}},
                settings,
                scratch=tmp_path,
                confounds=table,
            ).values()
            maps.append({key: fit.maps[key] for key in fit.maps})
            effects.append(
                block_effects(
                    reader, mask, blocks, series="x", with_t=True, pca_ranks=(3,), scratch=tmp_path
                )
            )
            components.append(temporal_components(reader, mask, 0, 3, tmp_path, JERKS))
    for key, values in maps[0].items():
        np.testing.assert_allclose(maps[1][key], values, rtol=2e-3, atol=2e-4, err_msg=str(key))
    np.testing.assert_allclose(effects[1].betas, effects[0].betas, atol=2e-3)
    np.testing.assert_allclose(effects[1].smooth_variance, effects[0].smooth_variance, rtol=2e-3)
    np.testing.assert_allclose(effects[1].reduced(3), effects[0].reduced(3), atol=2e-3)
    np.testing.assert_allclose(components[1], components[0], atol=1e-5)
    np.testing.assert_allclose(components[0][list(JERKS)], 0, atol=1e-12)


def test_blocks_are_read_off_the_kept_rows_and_one_that_was_mostly_censored_is_not_used():
    whole = head_motion(tuple(range(24, 34)))  # 48 s to 68 s: the second block and its response
    table = modeled(TimeModel(fd_censor=0.5), whole)
    kept = kept_volumes(table, N)
    given = {"n_volumes": N, "tr": TR, "confound_names": model_confounds(table)}
    design = block_design(task(), confounds=table, **given)
    assert [block.used for block in design.blocks] == [True, False, True, True]
    assert design.blocks[1].share < 0.5
    np.testing.assert_allclose(design.weights[~kept], 0, atol=1e-9)
    plain = block_design(task(), confounds=whole, n_volumes=N, tr=TR, min_share=0)
    np.testing.assert_allclose(
        design.weights[kept], np.linalg.pinv(plain.matrix[kept])[:4].T, atol=1e-9
    )
    assert design.dof == kept.sum() - np.linalg.matrix_rank(plain.matrix[kept])


def test_seeds_have_no_value_in_censored_volumes_and_segments_are_centered_without_them():
    table = modeled(TimeModel(fd_censor=0.5))
    kept = kept_volumes(table, N)
    measured = pd.DataFrame({"s": np.random.default_rng(7).standard_normal(N) + 5})
    measured.loc[~kept, "s"] += 100
    design = build_design(
        Seeds.of(measured),
        n_volumes=N,
        tr=TR,
        confounds=table,
        confound_names=model_confounds(table),
    )
    nuisance = design.matrix[:, 1:]
    left = without(measured, nuisance, 0, design.censored)
    assert left["s"].isna().to_numpy().tolist() == (~kept).tolist()
    plain = nuisance[kept][:, [not c.startswith("censored") for c in design.columns[1:]]]
    values = measured["s"].to_numpy()[kept]
    expected = values - plain @ np.linalg.lstsq(plain, values, rcond=None)[0]
    np.testing.assert_allclose(left["s"][kept], expected, atol=1e-8)
    part = within(left["s"].to_numpy(), TR, 20.0, 60.0)
    assert part[10:40].sum() == pytest.approx(0, abs=1e-9)
    assert not part[list(JERKS)].any()


def test_a_condition_of_which_every_volume_is_censored_is_not_modeled():
    events = Events(
        pd.DataFrame(
            [(10.0, 16.0, "a"), (100.0, 0.0, "b"), (42.0, 16.0, "a")],
            columns=["onset", "duration", "trial_type"],
        )
    )
    table = modeled(TimeModel(fd_censor=0.5), head_motion(tuple(range(48, 80))))
    given = {"n_volumes": N, "tr": TR, "confounds": table}
    design = build_design(events, **given, confound_names=model_confounds(table))
    assert design.conditions == ("a",)


def test_too_few_kept_volumes_are_refused_with_the_option_to_change():
    model = TimeModel(fd_censor=0.2, band_pass=(0.01, 0.1))
    with pytest.raises(
        TooFewVolumes,
        match=r"20 of 80 steady-state volumes remain, because the other 60 .*0\.2 mm",
    ):
        check_volumes(20, 80, 20, model, tr=TR)
    with pytest.raises(TooFewVolumes, match="a higher --fd-censor or a wider --band-pass"):
        check_volumes(20, 80, 20, model, tr=TR)
    with pytest.raises(
        TooFewVolumes, match="8 s, but a run without events requires at least 10 s"
    ):
        check_volumes(4, 80, 3, model, tr=TR, least_s=10.0)
    check_volumes(21, 80, 20, model, tr=TR, least_s=10.0)
    every = head_motion(tuple(range(N)))
    table = modeled(TimeModel(fd_censor=0.5), every)
    with pytest.raises(DesignError, match="more volumes than the rank are required"):
        designed(table)


def test_a_filter_that_leaves_nothing_to_correlate_is_refused():
    table = modeled(TimeModel(legendre=3))
    design = designed(table)
    with pytest.raises(ValueError, match=r"remove all signal from the 80 volumes\. Use a wider"):
        filter_of_design(design, 0.002, False)


def test_blocks_that_are_all_censored_cannot_be_split():
    table = modeled(TimeModel(fd_censor=0.5), head_motion(tuple(range(20, 75))))
    censored = tuple(name for name in table if name.startswith("censored"))
    with pytest.raises(TooFewBlocks, match="at least one condition with two blocks"):
        block_design(task(), n_volumes=N, tr=TR, confounds=table, confound_names=censored)


def test_options_become_a_model():
    assert time_model(0.5, None, (0.01, 0.1), "legendre:3") == TimeModel(
        fd_censor=0.5, band_pass=(0.01, 0.1), legendre=3
    )
    assert time_model(None, None, (), "cosine") == TimeModel()
    assert TimeModel().rules == ""
    both = TimeModel(fd_censor=0.5, enorm_censor=0.3)
    assert "above 0.5 mm or" in both.rules
    assert "at least 0.3" in both.rules
