"""Split halves: the band beyond Nyquist, correlations from inner products, intervals, controls and gains."""

import logging

import numpy as np
import pytest

from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.stats.evaluation.split_half import (
    Inner,
    gain_pairs,
    inner_products,
    resampled_weights,
    score,
)
from bids_sr.stats.evaluation.split_half_table import choose, make_frame, save_effect_maps, split_half_rows
from bids_sr.stats.glm.block_effects import Effects, save_effects
from bids_sr.stats.glm.blocks import Block, assign_halves
from bids_sr.stats.glm.time_series import smooth

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


@pytest.mark.parametrize(
    ("n", "factor", "kept"), [(16, 2, {4, 5, 8}), (15, 2, {4, 5, 7}), (18, 3, {3, 4, 9}), (20, 1.25, {8, 10})]
)
def test_the_band_begins_at_the_acquired_limit(n, factor, kept):
    x = np.arange(n)
    for k in {1, 2, *kept}:
        wave = np.cos(2 * np.pi * k * x / n)[:, None, None] * np.ones((n, 2))
        found = beyond_nyquist(wave, (factor, factor, 1))
        np.testing.assert_allclose(found, wave if k in kept else 0 * wave, atol=1e-5)


def test_the_band_of_each_axis_has_its_own_limit_and_maps_are_filtered_one_by_one():
    n = 12
    x, y = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    fine_x, fine_y = np.cos(2 * np.pi * 4 * x / n), np.cos(2 * np.pi * 5 * y / n)
    maps = np.stack([fine_x, fine_y], -1)[:, :, None]
    only_x = beyond_nyquist(maps, (2, 1, 1))
    np.testing.assert_allclose(only_x[..., 0], maps[..., 0], atol=1e-5)
    np.testing.assert_allclose(only_x[..., 1], 0, atol=1e-5)
    across = np.moveaxis(maps, 0, 2)
    np.testing.assert_allclose(beyond_nyquist(across, (1, 1, 2))[..., 0], across[..., 0], atol=1e-5)
    with pytest.raises(ValueError, match="nothing beyond"):
        beyond_nyquist(maps, (1, 1, 1))


def test_correlations_from_inner_products_are_those_of_the_maps():
    rng = np.random.default_rng(0)
    a, b = rng.normal(3, 1, (4, 200)), rng.normal(-2, 1, (4, 200))
    b += 0.5 * a
    inner = Inner(own=inner_products(a, a), cross=inner_products(a, b), target=inner_products(b, b))
    source, target = rng.normal(size=(5, 4)), rng.normal(size=(5, 4))
    expected = [np.corrcoef(s @ a, t @ b)[0, 1] for s, t in zip(source, target, strict=True)]
    np.testing.assert_allclose(inner.moments(source, target).metric("r"), expected, atol=1e-12)
    assert np.isnan(inner.moments(np.zeros((1, 4)), target[:1]).metric("r")).all()


def blocks_of(text):
    return tuple(assign_halves([Block(condition=c, events=((20.0 * k, 10.0),)) for k, c in enumerate(text)]))


def test_resamples_keep_condition_and_half_and_have_the_spread_of_a_mean():
    blocks = blocks_of("ab" * 8)
    halves = np.array([[0.25 * (b.half == h) * (1 if b.condition == "a" else -1) for b in blocks] for h in (0, 1)])
    draws = resampled_weights(blocks, halves, 4000, np.random.default_rng(0))
    assert (draws[0][:, [b.half == 1 for b in blocks]] == 0).all()
    for sign in (1, -1):
        np.testing.assert_allclose(np.where(halves[0] * sign > 0, draws[0], 0).sum(1), sign, atol=1e-12)
    noise = np.random.default_rng(1).normal(size=16)
    values = [noise[i] for i, b in enumerate(blocks) if b.condition == "a" and b.half == 0]
    only_a = np.where([b.condition == "a" for b in blocks], draws[0], 0) @ noise
    assert only_a.std() / 0.2 == pytest.approx(np.std(values, ddof=1) / 2, rel=0.05)  # standard error of a mean of 4


def test_single_blocks_stand_for_one_another_within_a_sign_or_not_at_all():
    blocks = blocks_of("abcabc")
    all_ = np.array([[1 / 3, 1 / 3, 1 / 3, 0, 0, 0], [0, 0, 0, 1 / 3, 1 / 3, 1 / 3]])
    draws = resampled_weights(blocks, all_, 50, np.random.default_rng(0))
    np.testing.assert_allclose(draws[0].sum(1), 1)
    assert draws[0].std(0)[:3].min() > 0
    one = np.array([[1.0, 0, 0, 0, 0, 0], [0, 0, 0, 1.0, 0, 0]])
    assert resampled_weights(blocks, one, 50, np.random.default_rng(0)) is None


def test_a_block_that_stands_alone_on_one_side_of_a_contrast_leaves_no_interval():
    """Two conditions less one, a block of each in either half: nothing tells how the third would vary."""
    blocks = blocks_of("abcabc")
    side = np.array([[0.5, 0.5, -1, 0, 0, 0], [0, 0, 0, 0.5, 0.5, -1]])
    assert resampled_weights(blocks, side, 50, np.random.default_rng(0)) is None
    assert resampled_weights(blocks_of("abcabcabcabc"), np.tile(side / 2, 2), 50, np.random.default_rng(0)) is not None


def test_intervals_hold_the_expected_correlation_about_as_often_as_they_say():
    """The plain percentile bootstrap holds it in a tenth of such runs."""
    rng = np.random.default_rng(0)
    blocks, truth = blocks_of("a" * 12), rng.normal(size=300)
    halves = np.array([[(b.half == h) / 6 for b in blocks] for h in (0, 1)])
    found = []
    for k in range(200):
        m = 0.4 * truth + rng.normal(size=(12, 300))
        s = 0.3 * truth + rng.normal(size=(12, 300))
        inner = Inner(own=inner_products(s, s), cross=inner_products(s, m), target=inner_products(m, m))
        draws = resampled_weights(blocks, halves, 300, np.random.default_rng(k))
        one = score([inner, inner], halves, draws)["r"]
        found.append((one.value, *one.interval))
    values, low, high = np.array(found).T
    assert np.mean((low < values.mean()) & (values.mean() < high)) > 0.9
    assert np.mean(high - low) / 3.92 == pytest.approx(values.std(), rel=0.5)


SHAPE = (24, 24, 4)


def effects_of(series, betas, blocks, **more):
    b = len(blocks)
    return Effects(
        series=series, affine=AFFINE, mask=np.ones(SHAPE, dtype=bool), betas=betas.astype(np.float32),
        mean=np.full(SHAPE, 500, dtype=np.float32), blocks=blocks,
        covariance=np.eye(b), leak=np.zeros((b, b + 1)), **more,
    )  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """Effects files: measured; bspline (no fine detail); a method with half of it, one with none, a placebo."""
    rng = np.random.default_rng(0)
    blocks = blocks_of("ab" * 6)
    true = {c: 3 * smooth(rng.normal(size=SHAPE), (2, 2, 3), 5.0) + 1.0 * rng.normal(size=SHAPE) for c in "ab"}
    measured = np.stack([true[b.condition] + 1.5 * rng.normal(size=SHAPE) for b in blocks], -1)
    fine = beyond_nyquist(measured, (2, 2, 1))
    coarse = measured - fine
    own = np.stack([beyond_nyquist(true[b.condition], (2, 2, 1)) for b in blocks], -1)
    made = beyond_nyquist(rng.normal(size=(*SHAPE, 1)), (2, 2, 1))
    series = {
        "measured": measured,
        "bspline": coarse + 0.02 * made,
        "sbl": coarse + 0.7 * own + 0.3 * rng.normal(size=measured.shape),
        "srgan": coarse + made,
        "sblMirror": coarse + own[::-1],
        "sblSeed1": coarse + own,
        "ratio": coarse + 0.1 * own,
    }
    files = {}
    for name, betas in series.items():
        more = {}
        if name == "measured":
            more["smooth_variance"] = np.full(SHAPE, 0.05, dtype=np.float32)
        if name == "bspline":
            flat = betas.reshape(-1, 12)
            u, s, v = np.linalg.svd(flat, full_matrices=False)
            more |= {"ranks": (1, 2, 12), "pca_maps": (u * s).reshape(*SHAPE, -1).astype(np.float32), "pca_loadings": v}
        files[name] = save_effects(effects_of(name, betas, blocks, **more), tmp_path / f"{name}.npz")
    return files, measured, series


CONTRASTS = {"a": {"a": 1.0}, "all": {"a": 0.5, "b": 0.5}, "aMinusB": {"a": 1.0, "b": -1.0}}


def rows_of(files, **changes):
    given = {"factor": (2.0, 2.0, 1.0), "n_boot": 200} | changes
    mask = np.ones(SHAPE, dtype=bool)
    mask[0] = False
    roi = np.zeros(SHAPE, dtype=bool)
    roi[5:15, 5:15] = True
    rows = split_half_rows(files, mask, AFFINE, roi, CONTRASTS, **given)
    return {(r.series, r.against, r.contrast, r.region, r.measure): r for r in rows}, mask, roi


def test_a_condition_with_too_few_blocks_is_told_once_for_all_its_contrasts(caplog):
    blocks = blocks_of("ababababc")
    selecting = effects_of("bspline", np.random.default_rng(0).normal(size=(*SHAPE, len(blocks))), blocks)
    third = dict.fromkeys("abc", 1 / 3)
    mask = np.ones(SHAPE, dtype=bool)
    with caplog.at_level(logging.WARNING):
        make_frame(
            None, selecting, {"all": third, "aMinusOthers": {"a": 1.0, "b": -0.5, "c": -0.5}}, mask=mask, roi=mask,
            factor=(2.0, 2.0, 1.0), n_boot=20, seed=0,
        )  # fmt: skip
    told = [record.getMessage() for record in caplog.records if "split halves" in record.getMessage()]
    assert told == ["c excluded from split halves of all, aMinusOthers: too few blocks"]


def test_figures_are_correlations_of_one_half_with_the_other_measured_half(run):
    files, measured, series = run
    rows, mask, roi = rows_of(files)
    blocks = blocks_of("ab" * 6)
    halves = [[i for i, b in enumerate(blocks) if b.condition == "a" and b.half == h] for h in (0, 1)]
    for region, voxels in (("brain", mask), ("roi", roi & mask)):
        for band, change in (("signal", lambda x: x), ("beyond", lambda x: beyond_nyquist(x, (2, 2, 1)))):
            e, m = ([change(x[..., h].mean(-1))[voxels] for h in halves] for x in (series["sbl"], measured))
            expected = (np.corrcoef(e[0], m[1])[0, 1] + np.corrcoef(e[1], m[0])[0, 1]) / 2
            assert rows["sbl", "measured", "a", region, f"split_r_{band}"].value == pytest.approx(expected, abs=1e-5)
    assert rows["sbl", "measured", "a", "brain", "split_r_percent"].value == pytest.approx(
        rows["sbl", "measured", "a", "brain", "split_r_signal"].value, abs=1e-5
    )  # a constant mean image
    own = rows["sbl", "self", "all", "brain", "self_r_beyond"]
    e = [beyond_nyquist(series["sbl"][..., [b.half == h for b in blocks]].mean(-1), (2, 2, 1))[mask] for h in (0, 1)]
    assert own.value == pytest.approx(np.corrcoef(*e)[0, 1], abs=1e-5)


def test_active_voxels_come_from_the_half_that_is_not_the_target(run):
    files, measured, series = run
    rows, mask, _ = rows_of(files)
    blocks = blocks_of("ab" * 6)
    weights = np.array([[(b.half == h) / 6 for b in blocks] for h in (0, 1)])
    ways = []
    for source in (0, 1):
        t = smooth(measured @ weights[source], (2, 2, 3), 4.0) / np.sqrt(0.05 * (weights[source] ** 2).sum())
        active = mask & (np.abs(t) > 5)
        ways.append(
            np.corrcoef((series["sbl"] @ weights[source])[active], (measured @ weights[1 - source])[active])[0, 1]
        )
    assert 0 < active.sum() < mask.sum()
    assert rows["sbl", "measured", "all", "active50", "split_r_signal"].value == pytest.approx(np.mean(ways), abs=1e-4)


def test_true_detail_beats_made_detail_and_intervals_say_so(run):
    rows, _, _ = rows_of(run[0])
    at = ("all", "brain")
    beyond = {s: rows[s, "measured", *at, "split_r_beyond"].value for s in ("bspline", "srgan", "sbl", "measured")}
    assert beyond["sbl"] > beyond["srgan"] + 0.3
    assert abs(beyond["bspline"]) < 0.1
    for other in ("bspline", "srgan", "bsplineSmooth", "bsplinePca", "sblMirror", "ratio"):
        row = rows["sbl", other, *at, "gain_split_r_beyond"]
        value = rows["sbl", "measured", *at, "split_r_beyond"].value
        if other != "ratio":
            assert row.value == pytest.approx(value - rows[other, "measured", *at, "split_r_beyond"].value)
            assert row.excludes_zero
            assert row.lower > 0
        assert row.n == 12
    assert not rows["srgan", "bspline", *at, "gain_split_r_beyond"].lower > 0.05


def test_pairs_are_methods_against_baselines_controls_methods_and_their_own_placebos():
    names = ["bspline", "bsplineSmooth", "sbl", "srgan", "sblMirror", "srganPhantom", "sblSeed1"]
    pairs = gain_pairs(names)
    assert ("sbl", "sblMirror") in pairs
    assert ("sbl", "srgan") in pairs
    assert ("srgan", "bsplineSmooth") in pairs
    assert ("sbl", "srganPhantom") not in pairs
    assert ("sbl", "sblSeed1") not in pairs
    assert not any(method in ("sblMirror", "sblSeed1", "bspline") for method, _ in pairs)


def test_results_repeat_and_do_not_depend_on_other_series_or_contrasts(run):
    files = run[0]
    some = {name: files[name] for name in ("measured", "bspline", "sbl", "sblSeed1")}
    first, second = rows_of(files)[0], rows_of(some)[0]  # its member of another seed enters
    key = ("sbl", "measured", "aMinusB", "brain", "split_r_beyond")
    assert first[key] == second[key]
    assert rows_of(files, seed=1)[0][key].lower != first[key].lower


def test_a_control_takes_the_setting_that_wins_the_other_way_round(run):
    from bids_sr.stats.evaluation.split_half import Score

    def one(ways):
        return {("split_r", "beyond", "a", "brain"): Score(ways=np.array(ways), draws=np.zeros((2, 0)))}

    scores, chosen, best = choose({0.0: one([0.1, 0.5]), 2.0: one([0.4, 0.3]), 4.0: one([0.2, 0.6])})
    key = ("split_r", "beyond", "a", "brain")
    assert chosen[key] == (4.0, 2.0)
    np.testing.assert_allclose(scores[key].ways, [0.2, 0.3])
    assert best[key] == pytest.approx(0.4)
    rows, _, _ = rows_of(run[0])
    assert 0 <= rows["bsplineSmooth", "measured", "all", "brain", "control_fwhm"].value <= 8
    assert 1 <= rows["bsplinePca", "measured", "all", "brain", "control_rank"].value <= 12
    assert (
        rows["bsplinePca", "measured", "all", "brain", "control_best_r_signal"].value
        >= rows["bsplinePca", "measured", "all", "brain", "split_r_signal"].value - 1e-9
    )


def test_rows_of_amplitude_are_those_of_the_maps_and_tell_made_detail_from_true(run):
    files, measured, series = run
    rows, mask, _ = rows_of(files)
    blocks = blocks_of("ab" * 6)
    halves = [[b.half == h for b in blocks] for h in (0, 1)]
    e, m = ([beyond_nyquist(x[..., h].mean(-1), (2, 2, 1))[mask] for h in halves] for x in (series["sbl"], measured))
    e, m = ([x - x.mean() for x in both] for both in (e, m))
    shared, true = (e[0] @ m[1] + e[1] @ m[0]) / 2, m[0] @ m[1]
    energy = (e[0] @ e[0] + e[1] @ e[1]) / 2
    at = ("measured", "all", "brain")
    assert rows["sbl", *at, "split_ev_beyond"].value == pytest.approx((2 * shared - energy) / true, abs=1e-4)
    assert rows["sbl", *at, "split_amplitude_beyond"].value == pytest.approx(shared / true, abs=1e-4)
    assert rows["sbl", *at, "split_ev_beyond"].lower > 0
    assert abs(rows["bspline", *at, "split_ev_beyond"].value) < 0.02
    assert rows["srgan", *at, "split_ev_beyond"].upper < 0  # detail of its own is worse than none
    gain = rows["sbl", "bspline", "all", "brain", "gain_split_ev_beyond"]
    own, other = (rows[name, *at, "split_ev_beyond"].value for name in ("sbl", "bspline"))
    assert gain.value == pytest.approx(own - other)
    assert gain.lower > 0
    assert gain.n == 12
    assert ("sbl", *at, "split_ev_percent") not in rows
    assert rows["bsplineSmooth", *at, "split_ev_beyond"].value >= -0.01
    assert np.isfinite(rows["bsplineSmooth", *at, "control_best_ev_beyond"].value)


def test_without_a_measured_series_there_is_reliability_only(run):
    rows, _, _ = rows_of({name: file for name, file in run[0].items() if name != "measured"})
    measures = {key[-1] for key in rows}
    assert measures == {"self_r_signal", "self_r_beyond"}  # no differences: reproducibility compares nothing
    assert rows["srgan", "self", "all", "brain", "self_r_beyond"].value > 0.9  # made detail is perfectly reliable


def test_a_measured_half_that_explains_less_than_nothing_has_no_value_and_is_no_bound(run, tmp_path):
    """Noise above what repeats: 2 - 1/r is below 0, while a method without that noise is above it."""
    files, measured, _ = run
    noisy = measured + 4 * np.random.default_rng(5).normal(size=measured.shape)
    more = {"smooth_variance": np.full(SHAPE, 0.05, dtype=np.float32)}
    own = save_effects(effects_of("measured", noisy, blocks_of("ab" * 6), **more), tmp_path / "measured.npz")
    rows, _, _ = rows_of({**files, "measured": own})
    at = ("measured", "all", "brain")
    own = rows["measured", *at, "split_ev_beyond"]
    assert 0 < rows["measured", *at, "split_r_beyond"].value < 0.5
    assert np.isnan([own.value, own.lower, own.upper]).all()
    assert rows["sbl", *at, "split_ev_beyond"].value > 0
    assert rows["sbl", "bspline", "all", "brain", "gain_split_ev_beyond"].value > 0


def test_series_of_another_run_are_refused(run, tmp_path):
    files, measured, _ = run
    other = save_effects(effects_of("ratio2", measured, blocks_of("ba" * 6)), tmp_path / "other.npz")
    with pytest.raises(ValueError, match="ratio2 and of measured have different blocks"):
        rows_of({**files, "ratio2": other})


def test_figures_file_holds_the_main_contrast_within_the_mask(run, tmp_path):
    files, _, series = run
    mask = np.zeros(SHAPE, dtype=bool)
    mask[4:20, 2:9, 1:3] = True
    with np.load(save_effect_maps(files, mask, AFFINE, CONTRASTS, factor=(2, 2, 1), path=tmp_path / "f.npz")) as found:
        assert str(found["contrast"]) == "all"
        assert set(found["series"]) == set(series) - {"sblSeed1"}
        whole = series["sbl"].mean(-1)
        np.testing.assert_allclose(found["effect_sbl"], whole[4:20, 2:9, 1:3], atol=1e-4)
        expected = beyond_nyquist(whole, (2, 2, 1))[4:20, 2:9, 1:3]
        np.testing.assert_allclose(found["beyond_sbl"], expected, atol=1e-4)
        np.testing.assert_allclose(found["affine"] @ [0, 0, 0, 1], AFFINE @ [4, 2, 1, 1])
