"""Test split halves: the band above the acquired Nyquist frequency, correlations, intervals,
controls and gains.
"""

import logging

import numpy as np
import pytest
from data.short_names import against_of, measure_of

from bids_sr.evaluation.agreement import (
    BlockComparison,
    ComparisonKey,
    _compute_inner_products,
    _compute_statistics,
    _cross_validate_settings,
    agreement_rows,
    gain_pairs,
    interval,
    resample_weights,
)
from bids_sr.evaluation.effects_of_run import RunEffects, save_fine_effects
from bids_sr.evaluation.references import make_half_reference
from bids_sr.glm.block_effects import Effects, save_effects
from bids_sr.glm.blocks import TaskBlock, _assign_halves
from bids_sr.glm.smoothing import smooth
from bids_sr.spatial.nyquist import beyond_nyquist

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


@pytest.mark.parametrize(
    ("n", "factor", "passed"),
    [(16, 2, {4, 5, 8}), (15, 2, {4, 5, 7}), (18, 3, {3, 4, 9}), (20, 1.25, {8, 10})],
)
def test_the_band_begins_at_the_acquired_nyquist_frequency(n, factor, passed):
    x = np.arange(n)
    for k in {1, 2, *passed}:
        wave = np.cos(2 * np.pi * k * x / n)[:, None, None] * np.ones((n, 2))
        filtered = beyond_nyquist(wave, (factor, factor, 1))
        np.testing.assert_allclose(filtered, wave if k in passed else 0 * wave, atol=1e-5)


def test_every_axis_has_its_own_nyquist_frequency():
    n = 12
    x, y = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    fine_x, fine_y = np.cos(2 * np.pi * 4 * x / n), np.cos(2 * np.pi * 5 * y / n)
    maps = np.stack([fine_x, fine_y], -1)[:, :, None]
    only_x = beyond_nyquist(maps, (2, 1, 1))
    np.testing.assert_allclose(only_x[..., 0], maps[..., 0], atol=1e-5)
    np.testing.assert_allclose(only_x[..., 1], 0, atol=1e-5)
    along_z = np.cos(np.pi * 8 * (np.arange(n) + 0.5) / n) * np.ones((2, 2, 1))
    np.testing.assert_allclose(beyond_nyquist(along_z, (1, 1, 2)), along_z, atol=1e-5)
    with pytest.raises(ValueError, match="no spatial frequencies above"):
        beyond_nyquist(maps, (1, 1, 1))


def test_correlations_from_inner_products_equal_correlations_of_maps():
    rng = np.random.default_rng(0)
    a, b = rng.normal(3, 1, (4, 200)), rng.normal(-2, 1, (4, 200))
    b += 0.5 * a
    inner = (
        _compute_inner_products(a, a),
        _compute_inner_products(a, b),
        _compute_inner_products(b, b),
    )
    source, target = rng.normal(size=(5, 4)), rng.normal(size=(5, 4))
    expected = [np.corrcoef(s @ a, t @ b)[0, 1] for s, t in zip(source, target, strict=True)]
    statistics = _compute_statistics(
        BlockComparison(contrast="a", source=source, target=target, twin=source), *inner
    )
    np.testing.assert_allclose(statistics["r"], expected, atol=1e-12)
    zero_weights = BlockComparison(
        contrast="a", source=np.zeros((1, 4)), target=target[:1], twin=target[:1]
    )
    assert np.isnan(_compute_statistics(zero_weights, *inner)["r"]).all()


def blocks_of(text):
    return tuple(
        _assign_halves(
            [TaskBlock(condition=c, events=((20.0 * k, 10.0),)) for k, c in enumerate(text)]
        )
    )


def test_resamples_preserve_condition_and_half_and_have_the_spread_of_a_mean():
    blocks = blocks_of("ab" * 8)
    halves = np.array(
        [
            [0.25 * (b.half == h) * (1 if b.condition == "a" else -1) for b in blocks]
            for h in (0, 1)
        ]
    )
    run, resamples = np.split(resample_weights(blocks, halves, 4000, 0, "a"), [1], axis=1)
    np.testing.assert_array_equal(run[:, 0], halves)
    assert (resamples[0][:, [b.half == 1 for b in blocks]] == 0).all()
    for sign in (1, -1):
        np.testing.assert_allclose(
            np.where(halves[0] * sign > 0, resamples[0], 0).sum(1), sign, atol=1e-12
        )
    noise = np.random.default_rng(1).normal(size=16)
    values = [noise[i] for i, b in enumerate(blocks) if b.condition == "a" and b.half == 0]
    only_a = np.where([b.condition == "a" for b in blocks], resamples[0], 0) @ noise
    # standard error of a mean of 4
    assert only_a.std() / 0.2 == pytest.approx(np.std(values, ddof=1) / 2, rel=0.05)


def test_single_blocks_are_resampled_only_with_blocks_of_the_same_sign():
    blocks = blocks_of("abcabc")
    all_ = np.array([[1 / 3, 1 / 3, 1 / 3, 0, 0, 0], [0, 0, 0, 1 / 3, 1 / 3, 1 / 3]])
    resamples = resample_weights(blocks, all_, 50, 0, "a")[:, 1:]
    np.testing.assert_allclose(resamples[0].sum(1), 1)
    assert resamples[0].std(0)[:3].min() > 0
    single_block = np.array([[1.0, 0, 0, 0, 0, 0], [0, 0, 0, 1.0, 0, 0]])
    np.testing.assert_array_equal(
        resample_weights(blocks, single_block, 50, 0, "a"), single_block[:, None]
    )


def test_a_contrast_with_a_single_block_on_one_side_has_no_interval():
    """Two conditions minus a third, with one block of each per half: the variability of the third
    cannot be estimated.
    """
    blocks = blocks_of("abcabc")
    side = np.array([[0.5, 0.5, -1, 0, 0, 0], [0, 0, 0, 0.5, 0.5, -1]])
    assert resample_weights(blocks, side, 50, 0, "a").shape[1] == 1
    assert (
        resample_weights(blocks_of("abcabcabcabc"), np.tile(side / 2, 2), 50, 0, "a").shape[1]
        == 51
    )


def test_intervals_of_correlations_have_nominal_coverage():
    """Intervals of the plain percentile bootstrap would cover it in only a tenth of such runs."""
    rng = np.random.default_rng(0)
    blocks, truth = blocks_of("a" * 12), rng.normal(size=300)
    halves = np.array([[(b.half == h) / 6 for b in blocks] for h in (0, 1)])
    estimates = []
    for k in range(200):
        m = 0.4 * truth + rng.normal(size=(12, 300))
        s = 0.3 * truth + rng.normal(size=(12, 300))
        inner = (
            _compute_inner_products(s, s),
            _compute_inner_products(s, m),
            _compute_inner_products(m, m),
        )
        a, b = resample_weights(blocks, halves, 300, k, "a")
        ways = (
            BlockComparison(contrast="a", source=a, target=b, twin=a),
            BlockComparison(contrast="a", source=b, target=a, twin=b),
        )
        correlations = np.mean([_compute_statistics(way, *inner)["r"] for way in ways], axis=0)
        estimates.append((correlations[0], *interval(correlations)))
    values, low, high = np.array(estimates).T
    assert np.mean((low < values.mean()) & (values.mean() < high)) > 0.9
    assert np.mean(high - low) / 3.92 == pytest.approx(values.std(), rel=0.5)


SHAPE = (24, 24, 4)


def effects_of(series, betas, blocks, **options):
    b = len(blocks)
    return Effects(
        series=series,
        affine=AFFINE,
        mask=np.ones(SHAPE, dtype=bool),
        betas=betas.astype(np.float32),
        mean=np.full(SHAPE, 500, dtype=np.float32),
        blocks=blocks,
        covariance=np.eye(b),
        leak=np.zeros((b, b + 1)),
        **options,
    )


@pytest.fixture
def run(tmp_path):
    """Write effects: measured; bspline (no detail); methods with true, wrong or mixed detail; and
    a negative control.
    """
    rng = np.random.default_rng(0)
    blocks = blocks_of("ab" * 6)
    true = {
        c: 3 * smooth(rng.normal(size=SHAPE), (2, 2, 3), 5.0) + 1.0 * rng.normal(size=SHAPE)
        for c in "ab"
    }
    measured = np.stack([true[b.condition] + 1.5 * rng.normal(size=SHAPE) for b in blocks], -1)
    fine = beyond_nyquist(measured, (2, 2, 1))
    coarse = measured - fine
    true_detail = np.stack([beyond_nyquist(true[b.condition], (2, 2, 1)) for b in blocks], -1)
    wrong_detail = beyond_nyquist(rng.normal(size=(*SHAPE, 1)), (2, 2, 1))
    series = {
        "measured": measured,
        "bspline": coarse + 0.02 * wrong_detail,
        "sbl": coarse + 0.7 * true_detail + 0.3 * rng.normal(size=measured.shape),
        "srgan": coarse + wrong_detail,
        "sblMirror": coarse + true_detail[::-1],
        "ratio": coarse + 0.1 * true_detail,
    }
    files = {}
    for name, betas in series.items():
        options = {}
        if name == "measured":
            options["smooth_variance"] = np.full(SHAPE, 0.05, dtype=np.float32)
        if name == "bspline":
            flat = betas.reshape(-1, 12)
            u, s, v = np.linalg.svd(flat, full_matrices=False)
            options |= {
                "ranks": (1, 2, 12),
                "pca_maps": (u * s).reshape(*SHAPE, -1).astype(np.float32),
                "pca_loadings": v,
            }
        files[name] = save_effects(
            effects_of(name, betas, blocks, **options), tmp_path / f"{name}.npz"
        )
    return files, measured, series


CONTRASTS = {"a": {"a": 1.0}, "all": {"a": 0.5, "b": 0.5}, "aMinusB": {"a": 1.0, "b": -1.0}}


def run_of(files, contrasts, **changes):
    options = {
        "mask": np.ones(SHAPE, dtype=bool),
        "roi": np.ones(SHAPE, dtype=bool),
        "n_boot": 200,
    } | changes
    return RunEffects(
        files=files, contrasts=contrasts, affine=AFFINE, factor=(2.0, 2.0, 1.0), **options
    )


def rows_by_key(files, **changes):
    mask = np.ones(SHAPE, dtype=bool)
    mask[0] = False
    roi = np.zeros(SHAPE, dtype=bool)
    roi[5:15, 5:15] = True
    run = run_of(files, CONTRASTS, mask=mask, roi=roi, **changes)
    rows = agreement_rows(run, make_half_reference)
    return (
        {(r.series, against_of(r), r.contrast, r.region, measure_of(r)): r for r in rows},
        mask,
        roi,
    )


def test_a_condition_with_too_few_blocks_is_reported_once(caplog, tmp_path):
    blocks = blocks_of("ababababc")
    effects = effects_of(
        "measured", np.random.default_rng(0).normal(size=(*SHAPE, len(blocks))), blocks
    )
    files = {"measured": save_effects(effects, tmp_path / "measured.npz")}
    third = dict.fromkeys("abc", 1 / 3)
    with caplog.at_level(logging.INFO, logger="bids_sr"):
        run = run_of(
            files, {"all": third, "aMinusOthers": {"a": 1.0, "b": -0.5, "c": -0.5}}, n_boot=20
        )
        agreement_rows(run, make_half_reference)
    messages = [
        record.getMessage() for record in caplog.records if "too few" in record.getMessage()
    ]
    assert messages == [
        "Contrasts that cannot be split into halves (too few blocks of c): all, aMinusOthers"
    ]


def test_contrasts_that_lose_a_condition_have_values_under_the_name_of_the_others(tmp_path):
    """The effect of the condition with one block has no influence, and the maps' t selects."""
    blocks = blocks_of("ababababc")
    rng = np.random.default_rng(0)
    betas = rng.normal(size=(*SHAPE, len(blocks))) + rng.normal(size=SHAPE)[..., None]
    t_map = rng.normal(scale=4, size=SHAPE).astype(np.float32)
    contrasts = {"all": dict.fromkeys("abc", 1 / 3), "same": {"a": 0.5, "b": 0.5}}
    rows_by_run = []
    for factor in (1.0, 50.0):
        betas[..., -1] *= factor
        path = save_effects(
            effects_of("measured", betas, blocks), tmp_path / f"measured{factor}.npz"
        )
        run = run_of({"measured": path}, contrasts, n_boot=20, acquired_t={"all": t_map})
        rows_by_run.append(agreement_rows(run, make_half_reference))
        assert {row.contrast for row in rows_by_run[-1]} == {"same"}
        run = run_of(
            {"measured": path}, {"all": contrasts["all"]}, n_boot=20, acquired_t={"all": t_map}
        )
        rows_by_run.append(agreement_rows(run, make_half_reference))
        assert {row.contrast for row in rows_by_run[-1]} == {"allWithoutC"}
    rows, changed_rows = rows_by_run[1], rows_by_run[3]
    assert any(row.region == "acquired40" and np.isfinite(row.value) for row in rows)
    values, changed_values = ([row.value for row in run_rows] for run_rows in (rows, changed_rows))
    np.testing.assert_array_equal(values, changed_values)
    # the same values as the contrast of the remaining conditions
    same = {
        (row.statistic, row.band, row.region): row.value
        for row in rows_by_run[0]
        if row.region in ("brain", "roi")
    }
    for row in rows:
        if row.region in ("brain", "roi"):
            value = same[row.statistic, row.band, row.region]
            assert row.value == pytest.approx(value, nan_ok=True)


def test_differences_are_in_the_order_of_the_values(run):
    """Sets of strings would have a different order in every process."""
    rows = [*rows_by_key(run[0])[0].values()]
    values, differences = (
        [
            (r.contrast, r.band, r.region, r.statistic)
            for r in rows
            if (r.series, r.minus) == ("sbl", reference)
        ]
        for reference in ("n/a", "bspline")
    )
    assert len(differences) > 20
    assert differences == [key for key in values if key in differences]


def test_values_are_correlations_with_the_other_measured_half(run):
    files, measured, series = run
    rows, mask, roi = rows_by_key(files)
    blocks = blocks_of("ab" * 6)
    halves = [
        [i for i, b in enumerate(blocks) if b.condition == "a" and b.half == h] for h in (0, 1)
    ]
    for region, voxels in (("brain", mask), ("roi", roi & mask)):
        for band, change in (
            ("signal", lambda x: x),
            ("beyond", lambda x: beyond_nyquist(x, (2, 2, 1))),
        ):
            e, m = (
                [change(x[..., h].mean(-1))[voxels] for h in halves]
                for x in (series["sbl"], measured)
            )
            expected = (np.corrcoef(e[0], m[1])[0, 1] + np.corrcoef(e[1], m[0])[0, 1]) / 2
            assert rows["sbl", "measured", "a", region, f"split_r_{band}"].value == pytest.approx(
                expected, abs=1e-5
            )


def test_active_voxels_are_selected_in_the_source_half(run):
    files, measured, series = run
    rows, mask, _ = rows_by_key(files)
    blocks = blocks_of("ab" * 6)
    weights = np.array([[(b.half == h) / 6 for b in blocks] for h in (0, 1)])
    ways = []
    for source in (0, 1):
        t = smooth(measured @ weights[source], (2, 2, 3), 4.0) / np.sqrt(
            0.05 * (weights[source] ** 2).sum()
        )
        active = mask & (np.abs(t) > 5)
        ways.append(
            np.corrcoef(
                (series["sbl"] @ weights[source])[active], (measured @ weights[1 - source])[active]
            )[0, 1]
        )
    assert 0 < active.sum() < mask.sum()
    assert rows["sbl", "measured", "all", "active50", "split_r_signal"].value == pytest.approx(
        np.mean(ways), abs=1e-4
    )


def test_voxels_active_in_the_acquired_run_are_the_same_in_both_ways(run):
    files, measured, series = run
    t = np.random.default_rng(5).normal(scale=4, size=SHAPE).astype(np.float32)
    rows, mask, _ = rows_by_key(files, acquired_t={"all": t})
    weights = np.array([[(b.half == h) / 6 for b in blocks_of("ab" * 6)] for h in (0, 1)])
    active = mask & (np.abs(t) > 4)
    ways = [
        np.corrcoef((series["sbl"] @ source)[active], (measured @ target)[active])[0, 1]
        for source, target in (weights, weights[::-1])
    ]
    row = rows["sbl", "measured", "all", "acquired40", "split_r_signal"]
    assert row.value == pytest.approx(np.mean(ways), abs=1e-4)
    assert {contrast for _, _, contrast, region, _ in rows if region == "acquired40"} == {"all"}


def test_true_detail_exceeds_wrong_detail_with_intervals_above_zero(run):
    rows, _, _ = rows_by_key(run[0])
    place = ("all", "brain")
    beyond = {
        s: rows[s, "measured", *place, "split_r_beyond"].value
        for s in ("bspline", "srgan", "sbl", "measured")
    }
    assert beyond["sbl"] > beyond["srgan"] + 0.3
    assert abs(beyond["bspline"]) < 0.1
    for reference in ("bspline", "srgan", "bsplineSmooth", "bsplinePca", "sblMirror", "ratio"):
        row = rows["sbl", reference, *place, "gain_split_r_beyond"]
        value = rows["sbl", "measured", *place, "split_r_beyond"].value
        if reference != "ratio":
            assert row.value == pytest.approx(
                value - rows[reference, "measured", *place, "split_r_beyond"].value
            )
            assert row.excludes_zero
            assert row.lower > 0
        assert row.n == 12
    assert not rows["srgan", "bspline", *place, "gain_split_r_beyond"].lower > 0.05


def test_methods_are_compared_with_baselines_methods_and_their_negative_controls():
    names = ["bspline", "bsplineSmooth", "sbl", "srgan", "sblMirror", "srganPhantom"]
    pairs = gain_pairs(names)
    assert ("sbl", "sblMirror") in pairs
    assert ("sbl", "srgan") in pairs
    assert ("srgan", "bsplineSmooth") in pairs
    assert ("sbl", "srganPhantom") not in pairs
    assert not any(method in ("sblMirror", "bspline") for method, _ in pairs)


def test_results_are_reproducible_and_do_not_depend_on_other_series(run):
    files = run[0]
    subset = {name: files[name] for name in ("measured", "bspline", "sbl")}
    first, second = rows_by_key(files)[0], rows_by_key(subset)[0]
    key = ("sbl", "measured", "aMinusB", "brain", "split_r_beyond")
    assert first[key] == second[key]
    assert rows_by_key(files, seed=1)[0][key].lower != first[key].lower


def test_settings_of_controls_are_cross_validated(run):
    key = ComparisonKey("r", "beyond", "a", "brain")

    def scores_of_ways(*ways):
        return {key: np.array(ways)[:, None]}

    scores, settings = _cross_validate_settings(
        {
            0.0: scores_of_ways(0.1, 0.5),
            2.0: scores_of_ways(0.4, 0.3),
            4.0: scores_of_ways(0.2, 0.6),
        }
    )
    assert settings[key] == 3.0
    np.testing.assert_allclose(scores[key][:, 0], [0.2, 0.3])
    rows, _, _ = rows_by_key(run[0])
    assert 0 <= rows["bsplineSmooth", "measured", "all", "brain", "control_fwhm"].value <= 8
    assert 1 <= rows["bsplinePca", "measured", "all", "brain", "control_rank"].value <= 12


def test_explained_variance_and_amplitude_equal_their_definitions(run):
    files, measured, series = run
    rows, mask, _ = rows_by_key(files)
    blocks = blocks_of("ab" * 6)
    halves = [[b.half == h for b in blocks] for h in (0, 1)]
    e, m = (
        [beyond_nyquist(x[..., h].mean(-1), (2, 2, 1))[mask] for h in halves]
        for x in (series["sbl"], measured)
    )
    e, m = ([x - x.mean() for x in halves_of_series] for halves_of_series in (e, m))
    shared, true = (e[0] @ m[1] + e[1] @ m[0]) / 2, m[0] @ m[1]
    energy = (e[0] @ e[0] + e[1] @ e[1]) / 2
    place = ("measured", "all", "brain")
    assert rows["sbl", *place, "split_ev_beyond"].value == pytest.approx(
        (2 * shared - energy) / true, abs=1e-4
    )
    assert rows["sbl", *place, "split_amplitude_beyond"].value == pytest.approx(
        shared / true, abs=1e-4
    )
    assert rows["sbl", *place, "split_ev_beyond"].lower > 0
    assert abs(rows["bspline", *place, "split_ev_beyond"].value) < 0.02
    # wrong detail is worse than no detail
    assert rows["srgan", *place, "split_ev_beyond"].upper < 0
    gain = rows["sbl", "bspline", "all", "brain", "gain_split_ev_beyond"]
    value, reference_value = (
        rows[name, *place, "split_ev_beyond"].value for name in ("sbl", "bspline")
    )
    assert gain.value == pytest.approx(value - reference_value)
    assert gain.lower > 0
    assert gain.n == 12
    assert rows["bsplineSmooth", *place, "split_ev_beyond"].value >= -0.01


def test_without_a_measured_series_there_are_no_rows(run):
    rows, _, _ = rows_by_key({name: file for name, file in run[0].items() if name != "measured"})
    assert rows == {}


def test_negative_explained_variance_of_the_measured_series_is_nan(run, tmp_path):
    """If noise exceeds the reproducible part, 2 - 1/r is below 0; a noise-free method may be above
    0.
    """
    files, measured, _ = run
    noisy = measured + 4 * np.random.default_rng(5).normal(size=measured.shape)
    options = {"smooth_variance": np.full(SHAPE, 0.05, dtype=np.float32)}
    noisy_file = save_effects(
        effects_of("measured", noisy, blocks_of("ab" * 6), **options), tmp_path / "measured.npz"
    )
    rows, _, _ = rows_by_key({**files, "measured": noisy_file})
    place = ("measured", "all", "brain")
    noisy_file = rows["measured", *place, "split_ev_beyond"]
    assert 0 < rows["measured", *place, "split_r_beyond"].value < 0.5
    assert np.isnan([noisy_file.value, noisy_file.lower, noisy_file.upper]).all()
    assert rows["sbl", *place, "split_ev_beyond"].value > 0
    assert rows["sbl", "bspline", "all", "brain", "gain_split_ev_beyond"].value > 0


def test_series_of_another_run_are_rejected(run, tmp_path):
    files, measured, _ = run
    other_run = save_effects(
        effects_of("ratio2", measured, blocks_of("ba" * 6)), tmp_path / "other.npz"
    )
    with pytest.raises(
        ValueError, match="ratio2 and measured were estimated from different blocks"
    ):
        rows_by_key({**files, "ratio2": other_run})


def test_the_file_for_figures_contains_the_main_contrast_within_the_mask(run, tmp_path):
    files, _, series = run
    mask = np.zeros(SHAPE, dtype=bool)
    mask[4:20, 2:9, 1:3] = True
    with np.load(
        save_fine_effects(run_of(files, CONTRASTS, mask=mask), tmp_path / "f.npz")
    ) as figures:
        assert str(figures["contrast"]) == "all"
        names = {f"beyond_{name}" for name in series}
        assert set(figures.files) == {"contrast", "affine", "mask", "series"} | names
        assert {f"beyond_{name}" for name in figures["series"].tolist()} == names
        expected = beyond_nyquist(series["sbl"].mean(-1), (2, 2, 1))[4:20, 2:9, 1:3]
        np.testing.assert_allclose(figures["beyond_sbl"], expected, atol=1e-4)
        np.testing.assert_allclose(figures["affine"] @ [0, 0, 0, 1], AFFINE @ [4, 2, 1, 1])
