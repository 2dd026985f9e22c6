"""Test split halves: the band above the acquired Nyquist frequency, resampled blocks, voxels,
controls and gains.
"""

from itertools import combinations, product
from math import ceil
from types import SimpleNamespace

import numpy as np
import pytest
from data.block_effects import make_blocks, write_effects
from data.short_names import against_of, measure_of

from bids_sr.evaluation.agreement import (
    ComparisonKey,
    agreement_rows,
    gain_pairs,
    resample_blocks,
)
from bids_sr.evaluation.effects_of_run import RunEffects, denoise_controls, save_fine_effects
from bids_sr.evaluation.references import make_half_reference, make_other_effects_reference
from bids_sr.glm.block_effects import Effects
from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.spatial.smoothing import smooth

SHAPE, AFFINE, FACTOR = (24, 24, 4), np.diag([2.0, 2.0, 3.0, 1.0]), (2.0, 2.0, 1.0)
BLOCKS = make_blocks("ab" * 6)
HALVES = np.array([[(block.half == half) / 6 for block in BLOCKS] for half in (0, 1)])
CONTRASTS = {"a": {"a": 1.0}, "all": {"a": 0.5, "b": 0.5}, "aMinusB": {"a": 1.0, "b": -1.0}}
WHOLE = np.ones(SHAPE, dtype=bool)
MASK, ROI = WHOLE.copy(), np.zeros(SHAPE, dtype=bool)
MASK[0] = False
ROI[5:15, 5:15] = True


@pytest.mark.parametrize(
    ("n", "factor", "passed"),
    [(16, 2, {4, 5, 8}), (15, 2, {4, 5, 7}), (18, 3, {3, 4, 9}), (20, 1.25, {8, 10})],
)
def test_the_band_begins_at_the_acquired_nyquist_frequency(n, factor, passed):
    for k in {1, 2, *passed}:
        wave = np.cos(2 * np.pi * k * np.arange(n) / n)[:, None, None] * np.ones((n, 2))
        filtered = beyond_nyquist(wave, (factor, factor, 1))
        np.testing.assert_allclose(filtered, wave if k in passed else 0 * wave, atol=1e-5)


def test_every_axis_has_its_own_nyquist_frequency():
    x, y = np.indices((12, 12))
    maps = np.stack([np.cos(2 * np.pi * 4 * x / 12), np.cos(2 * np.pi * 5 * y / 12)], -1)
    only_x = beyond_nyquist(maps[:, :, None], (2, 1, 1))
    np.testing.assert_allclose(only_x[:, :, 0, 0], maps[..., 0], atol=1e-5)
    np.testing.assert_allclose(only_x[:, :, 0, 1], 0, atol=1e-5)
    along_z = np.cos(np.pi * 8 * (np.arange(12) + 0.5) / 12) * np.ones((2, 2, 1))
    np.testing.assert_allclose(beyond_nyquist(along_z, (1, 1, 2)), along_z, atol=1e-5)
    with pytest.raises(ValueError, match="frequencies"):
        beyond_nyquist(maps[:, :, None], (1, 1, 1))


def test_resamples_are_drawn_within_condition_and_half_and_have_the_spread_of_a_mean():
    blocks = make_blocks("ab" * 8)
    in_a, first = (
        np.array([block.condition == "a" for block in blocks]),
        np.array([block.half == 0 for block in blocks]),
    )
    halves = 0.25 * np.stack([first, ~first]) * np.where(in_a, 1, -1)
    resamples = resample_blocks(blocks, halves, 4000, 0, "a")
    groups = {tuple(group) for group in resamples.groups}
    assert groups == {(0, 4, 8, 12), (2, 6, 10, 14), (1, 5, 9, 13), (3, 7, 11, 15)}
    np.testing.assert_array_equal(resamples.changes[0], 0)
    for group in groups:
        np.testing.assert_allclose(resamples.changes[:, group].sum(1), 0, atol=1e-12)
    noise = np.random.default_rng(1).normal(size=16)
    # standard error of a mean of 4, scaled by 1/5
    expected = 0.2 * np.std(noise[in_a & first], ddof=1) / 2
    spread = (resamples.changes[1:] @ np.where(in_a & first, noise / 4, 0)).std()
    assert spread == pytest.approx(expected, rel=0.05)
    # without halves, blocks of both halves are drawn together
    resamples = resample_blocks(blocks, halves.sum(0, keepdims=True), 4000, 0, "a", min_blocks=4)
    assert [list(group) for group in resamples.groups] == [[*range(0, 16, 2)], [*range(1, 16, 2)]]
    expected = 0.2 * np.std(noise[in_a], ddof=1) / np.sqrt(8)
    spread = (resamples.changes[1:] @ np.where(in_a, noise / 8, 0)).std()
    assert spread == pytest.approx(expected, rel=0.05)


def test_single_blocks_are_resampled_only_with_blocks_of_the_same_sign():
    third = np.repeat(np.eye(2), 3, axis=1) / 3
    resamples = resample_blocks(make_blocks("abcabc"), third, 50, 0, "a")
    assert [list(group) for group in resamples.groups] == [[0, 1, 2], [3, 4, 5]]
    assert resamples.changes[1:].std(0).min() > 0
    # a block without another of its condition or sign has no interval
    single = np.array([[1.0, 0, 0, 0, 0, 0], [0, 0, 0, 1.0, 0, 0]])
    side = np.array([[0.5, 0.5, -1, 0, 0, 0], [0, 0, 0, 0.5, 0.5, -1]])
    for weights in (single, side):
        resamples = resample_blocks(make_blocks("abcabc"), weights, 50, 0, "a")
        np.testing.assert_array_equal(resamples.changes, np.zeros((1, 6)))
    twice = np.tile(side / 2, 2)
    assert len(resample_blocks(make_blocks("abc" * 4), twice, 50, 0, "a").changes) == 51


def run_of(files, contrasts=CONTRASTS, **changes):
    options = {"mask": MASK, "roi": ROI, "n_boot": 200} | changes
    return RunEffects(files=files, contrasts=contrasts, affine=AFFINE, factor=FACTOR, **options)


def by_key(rows):
    return {(r.series, against_of(r), r.contrast, r.region, measure_of(r)): r for r in rows}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Write effects: measured; bspline (no detail); methods with true, wrong or mirrored
    detail. Return files, series, an acquired t map and rows.
    """
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("effects")
    true = {
        name: 3 * smooth(rng.normal(size=SHAPE), (2, 2, 3), 5.0) + rng.normal(size=SHAPE)
        for name in "ab"
    }
    measured = np.stack([true[b.condition] + 1.5 * rng.normal(size=SHAPE) for b in BLOCKS], -1)
    coarse = measured - beyond_nyquist(measured, FACTOR)
    true_detail = np.stack([beyond_nyquist(true[b.condition], FACTOR) for b in BLOCKS], -1)
    wrong_detail = beyond_nyquist(rng.normal(size=(*SHAPE, 1)), FACTOR)
    series = {
        "measured": measured,
        "bspline": coarse + 0.02 * wrong_detail,
        "sbl": coarse + 0.7 * true_detail + 0.3 * rng.normal(size=measured.shape),
        "srgan": coarse + wrong_detail,
        "dcnet": coarse + true_detail[::-1],
        "ratio": coarse + 0.1 * true_detail,
    }
    flat = series["bspline"].reshape(-1, len(BLOCKS))
    u, s, v = np.linalg.svd(flat, full_matrices=False)
    options = {
        "measured": {"smooth_variance": np.full(SHAPE, 0.05, dtype=np.float32)},
        "bspline": {
            "ranks": (1, 2, 12),
            "pca_maps": (u * s).reshape(*SHAPE, -1).astype(np.float32),
            "pca_loadings": v,
        },
    }
    files = {
        name: write_effects(folder, name, betas, BLOCKS, AFFINE, **options.get(name, {}))
        for name, betas in series.items()
    }
    t = np.random.default_rng(5).normal(scale=4, size=SHAPE).astype(np.float32)
    run = run_of(files, acquired_t={"all": t})
    rows = by_key(agreement_rows(run, make_half_reference))
    return SimpleNamespace(files=files, series=series, measured=measured, t=t, run=run, rows=rows)


def average_by_enumeration(series, measured, blocks, weights, voxels):
    """Return the statistics of block maps (X, Y, Z, B) by name, in voxels.

    Inner products are averaged over an enumeration of all balanced splits of each condition, in
    both directions.
    """
    e, m = (maps[voxels] - maps[voxels].mean(axis=0) for maps in (series, measured))
    halves_by_condition = []
    for condition in weights:
        indices = {k for k, block in enumerate(blocks) if block.condition == condition}
        sizes = {len(indices) // 2, ceil(len(indices) / 2)}
        halves_by_condition.append(
            [
                (condition, half, tuple(indices - set(half)))
                for size in sizes
                for half in combinations(sorted(indices), size)
            ]
        )
    products = []
    for split in product(*halves_by_condition):
        first, second = np.zeros((2, len(blocks)))
        for condition, half, other_half in split:
            first[list(half)] = weights[condition] / len(half)
            second[list(other_half)] = weights[condition] / len(other_half)
        e_half, m_half, m_other = e @ first, m @ first, m @ second
        products.append((e_half @ m_other, e_half @ e_half, m_other @ m_other, m_half @ m_other))
    shared, energy, target_energy, true = np.mean(products, axis=0)
    return {
        "r": shared / np.sqrt(energy * target_energy),
        "ev": (2 * shared - energy) / true,
        "amplitude": shared / true,
        "right": shared * abs(shared) / (energy * true),
    }


@pytest.mark.parametrize(
    ("conditions", "weights"),
    [
        ("aaaa", {"a": 1.0}),
        ("aaaaa", {"a": 1.0}),
        ("ababaab", {"a": 1.0, "b": -1.0}),
        ("aabb", {"a": 0.5, "b": 0.5}),
    ],
)
def test_values_are_averaged_over_all_balanced_splits(conditions, weights, tmp_path):
    blocks, rng = make_blocks(conditions), np.random.default_rng(0)
    true = {name: rng.normal(size=SHAPE) for name in "ab"}
    measured = np.stack([true[name] + rng.normal(size=SHAPE) for name in conditions], -1)
    sbl = 0.7 * measured + 0.5 * rng.normal(size=measured.shape)
    files = {
        name: write_effects(tmp_path, name, betas, blocks, AFFINE)
        for name, betas in (("measured", measured), ("sbl", sbl))
    }
    rows = by_key(agreement_rows(run_of(files, {"c": weights}), make_half_reference))
    for region, voxels in (("brain", MASK), ("roi", ROI & MASK)):
        for band, maps in (
            ("signal", (sbl, measured)),
            ("beyond", tuple(beyond_nyquist(betas, FACTOR) for betas in (sbl, measured))),
        ):
            expected = average_by_enumeration(*maps, blocks, weights, voxels)
            values = {
                name: rows["sbl", "measured", "c", region, f"split_{name}_{band}"].value
                for name in expected
            }
            assert values == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize(
    ("conditions", "weights", "has_interval"),
    [
        ("aaaa", {"a": 1.0}, True),
        ("aaa", {"a": 1.0}, False),
        ("abababa", {"a": 0.5, "b": 0.5}, True),  # grouped by sign
        ("abababa", {"a": 1.0, "b": -1.0}, False),
        ("abababab", {"a": 1.0, "b": -1.0}, True),
    ],
)
def test_intervals_need_two_blocks_per_half(conditions, weights, has_interval, tmp_path):
    blocks, rng = make_blocks(conditions), np.random.default_rng(0)
    true = {"a": rng.normal(size=SHAPE), "b": rng.normal(size=SHAPE)}
    betas = np.stack([true[name] + 0.3 * rng.normal(size=SHAPE) for name in conditions], -1)
    file = write_effects(tmp_path, "measured", betas, blocks, AFFINE)
    rows = by_key(agreement_rows(run_of({"measured": file}, {"c": weights}), make_half_reference))
    row = rows["measured", "measured", "c", "brain", "split_ev_signal"]
    assert 0.7 < row.value < 1
    assert np.isfinite([row.lower, row.upper]).all() == has_interval
    assert row.n == len(blocks)


def test_active_voxels_are_those_of_the_acquired_run_or_of_the_half_that_is_compared(scene):
    """Voxels that are active in a half depend on the split, which is therefore fixed."""
    weights = CONTRASTS["all"]
    voxels = MASK & (np.abs(scene.t) > 4)
    expected = average_by_enumeration(scene.series["sbl"], scene.measured, BLOCKS, weights, voxels)
    for name, value in expected.items():
        row = scene.rows["sbl", "measured", "all", "acquired40", f"split_{name}_signal"]
        assert row.value == pytest.approx(value, abs=1e-4)
    assert {contrast for _, _, contrast, region, _ in scene.rows if region == "acquired40"} == {
        "all"
    }
    correlations = []
    for source, target in (HALVES, HALVES[::-1]):
        smoothed = smooth(scene.measured @ source, (2, 2, 3), 4.0)
        voxels = MASK & (np.abs(smoothed / np.sqrt(0.05 * (source**2).sum())) > 5)
        assert 0 < voxels.sum() < MASK.sum()
        maps = (scene.series["sbl"] @ source)[voxels], (scene.measured @ target)[voxels]
        correlations.append(np.corrcoef(*maps)[0, 1])
    row = scene.rows["sbl", "measured", "all", "active50", "split_r_signal"]
    assert row.value == pytest.approx(np.mean(correlations), abs=1e-4)


def test_measured_detail_is_also_explained_without_large_effects(tmp_path):
    """An effect of 10 % in two slices is not in the region. Only sbl has a value."""
    rng, weights = np.random.default_rng(0), {"a": 1.0}
    blocks, true = make_blocks("aaaa"), 3 * rng.normal(size=SHAPE)
    true[:, :, :2] += 50
    measured = np.stack([true + rng.normal(size=SHAPE) for _ in blocks], -1)
    t = np.full(SHAPE, 5, dtype=np.float32)
    t[:12] = 0
    files = {
        name: write_effects(tmp_path, name, betas, blocks, AFFINE)
        for name, betas in (("measured", measured), ("sbl", 0.7 * measured), ("srgan", measured))
    }
    run = run_of(files, {"c": weights}, acquired_t={"c": t})
    (row,) = agreement_rows(run, make_other_effects_reference)
    voxels = MASK & (t > 4)
    voxels[:, :, :2] = False
    detail, measured_detail = (beyond_nyquist(maps, FACTOR) for maps in (0.7 * measured, measured))
    expected = average_by_enumeration(detail, measured_detail, blocks, weights, voxels)
    assert row.value == pytest.approx(expected["ev"], abs=2e-4)
    assert row.lower < row.value < row.upper
    assert (row.series, row.statistic, row.region, row.band) == (
        "sbl",
        "ev",
        "otherEffect",
        "beyond",
    )
    assert make_other_effects_reference(run_of(files, {"c": weights})) is None
    small = write_effects(tmp_path, "sbl", 0.1 * measured, blocks, AFFINE)
    run = run_of(files | {"sbl": small}, {"c": weights}, acquired_t={"c": t})
    assert make_other_effects_reference(run) is None


@pytest.mark.parametrize("statistic", ["split_r_beyond", "split_ev_beyond"])
def test_gains_are_differences_of_values_and_positive_for_true_detail(scene, statistic):
    place = ("all", "brain")
    value = scene.rows["sbl", "measured", *place, statistic].value
    for other in ("bspline", "srgan", "bsplineSmooth", "bsplinePca", "dcnet"):
        gain = scene.rows["sbl", other, *place, f"gain_{statistic}"]
        other_value = scene.rows[other, "measured", *place, statistic].value
        assert gain.value == pytest.approx(value - other_value)
        assert gain.lower > 0
        assert gain.excludes_zero
        assert gain.n == 12
    assert scene.rows["srgan", "bspline", *place, f"gain_{statistic}"].lower < 0.05
    # sets of strings would have another order in every process
    values, gains = (
        [
            (row.contrast, row.band, row.region, row.statistic)
            for row in scene.rows.values()
            if (row.series, row.minus) == ("sbl", minus)
        ]
        for minus in ("n/a", "bspline")
    )
    assert len(gains) > 20
    assert gains == [key for key in values if key in gains]


def test_methods_are_compared_with_baselines_controls_and_other_methods():
    names = ["bspline", "bsplineSmooth", "measured", "sbl", "srgan"]
    assert set(gain_pairs(names)) == {
        *(("sbl", name) for name in ("bspline", "bsplineSmooth", "srgan")),
        *(("srgan", name) for name in ("bspline", "bsplineSmooth", "sbl")),
    }


@pytest.mark.parametrize("region", ["brain", "active50"])
def test_a_control_is_scored_at_the_setting_that_is_best_in_the_same_comparison(scene, region):
    """Each of two halves with active voxels of its own has its best setting."""
    reference = make_half_reference(scene.run)
    for control, name in (("bsplineSmooth", "control_fwhm"), ("bsplinePca", "control_rank")):
        settings, r, ev = [], [], []
        for other_control, setting, betas in denoise_controls(
            Effects.load(scene.files["bspline"])
        ):
            if other_control == control:
                maps = scene.run.maps_by_band(betas, list(reference.targets))
                scores = reference.scores(maps)
                settings.append(setting)
                r.append(scores[ComparisonKey("r", "beyond", "all", region)][:, 0])
                ev.append(scores[ComparisonKey("ev", "beyond", "all", region)][:, 0])
        best = np.argmax(r, axis=0)
        assert best.shape == ((1,) if region == "brain" else (2,))
        place = (control, "measured", "all", region)
        for statistic, values in (("r", r), ("ev", ev)):
            row = scene.rows[*place, f"split_{statistic}_beyond"]
            assert row.value == pytest.approx(np.max(values, axis=0).mean(), abs=1e-6)
        assert scene.rows[*place, name].value == pytest.approx(np.take(settings, best).mean())


def test_contrasts_that_lose_a_condition_have_values_under_the_name_of_the_others(tmp_path):
    """The effect of the condition with one block has no influence, and the maps' t selects."""
    blocks = make_blocks("ababababc")
    rng = np.random.default_rng(0)
    betas = rng.normal(size=(*SHAPE, len(blocks))) + rng.normal(size=SHAPE)[..., None]
    t = rng.normal(scale=4, size=SHAPE).astype(np.float32)
    all_three, both = dict.fromkeys("abc", 1 / 3), {"a": 0.5, "b": 0.5}
    rows = []
    for factor in (1.0, 50.0):
        betas[..., -1] *= factor
        path = write_effects(tmp_path, "measured", betas, blocks, AFFINE)
        for contrasts in ({"all": all_three}, {"all": all_three, "same": both}):
            run = run_of({"measured": path}, contrasts, n_boot=20, acquired_t={"all": t})
            rows.append(agreement_rows(run, make_half_reference))
    assert [{row.contrast for row in part} for part in rows] == 2 * [{"allWithoutC"}, {"same"}]
    assert any(row.region == "acquired40" and np.isfinite(row.value) for row in rows[0])
    np.testing.assert_array_equal(*([row.value for row in part] for part in (rows[0], rows[2])))
    remaining, same = (
        {
            (row.statistic, row.band, row.region): row.value
            for row in part
            if row.region in ("brain", "roi")
        }
        for part in rows[:2]
    )
    assert remaining == pytest.approx(same, nan_ok=True)


def test_the_file_for_figures_contains_the_main_contrast_within_the_mask(scene, tmp_path):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[4:20, 2:9, 1:3] = True
    file = save_fine_effects(run_of(scene.files, mask=mask), tmp_path / "f.npz")
    with np.load(file) as figures:
        assert str(figures["contrast"]) == "all"
        maps = {f"beyond_{name}" for name in scene.series}
        assert set(figures.files) == {"contrast", "affine", "mask", "series"} | maps
        assert set(figures["series"].tolist()) == set(scene.series)
        expected = beyond_nyquist(scene.series["sbl"].mean(-1), FACTOR)[4:20, 2:9, 1:3]
        np.testing.assert_allclose(figures["beyond_sbl"], expected, atol=1e-4)
        np.testing.assert_allclose(figures["affine"] @ [0, 0, 0, 1], AFFINE @ [4, 2, 1, 1])
