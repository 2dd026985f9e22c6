"""Compare effects with known activation: values, coverage of intervals, and paired gains."""

import math
from functools import partial

import numpy as np
import pytest
from data.short_names import against_of, measure_of

from bids_sr.evaluation.agreement import ComparisonKey, agreement_rows, interval
from bids_sr.evaluation.effects_of_run import RunEffects
from bids_sr.evaluation.reference_maps import replace_rows
from bids_sr.evaluation.references import make_known_reference, make_map_reference
from bids_sr.glm.block_effects import Effects, save_effects
from bids_sr.glm.blocks import TaskBlock, _assign_halves
from bids_sr.metrics.rows import MetricRow
from bids_sr.spatial.nyquist import beyond_nyquist

SHAPE, FACTOR = (12, 10, 4), (2.0, 2.0, 1.0)
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
CONTRASTS = {
    "thumb": {"thumb": 1.0},
    "little": {"little": 1.0},
    "all": {"thumb": 0.5, "little": 0.5},
    "thumbMinusLittle": {"thumb": 1.0, "little": -1.0},
}
N_BLOCKS = 12
BLOCKS = tuple(
    _assign_halves(
        [
            TaskBlock(condition=("thumb", "little")[k % 2], events=((20.0 * k, 10.0),))
            for k in range(N_BLOCKS)
        ]
    )
)
MASK = np.ones(SHAPE, dtype=bool)


def truth():
    rng = np.random.default_rng(5)
    out = {name: np.zeros(SHAPE, dtype=np.float32) for name in ("thumb", "little")}
    out["thumb"][2:7, 3:8, 1:3], out["little"][6:11, 2:7, 1:3] = (
        4 * rng.random((5, 5, 2)) for _ in range(2)
    )
    return out


def betas_of(seed, share, true, noise=2.0):
    """Simulate block maps with a share of the true detail above the acquired Nyquist frequency;
    the seed determines the noise.
    """
    rng = np.random.default_rng(seed)
    maps = []
    for block in BLOCKS:
        fine = beyond_nyquist(true[block.condition], FACTOR)
        maps.append(true[block.condition] - (1 - share) * fine + noise * rng.normal(size=SHAPE))
    return np.stack(maps, -1).astype(np.float32)


def save(folder, name, betas):
    return save_effects(
        Effects(
            series=name,
            affine=AFFINE,
            mask=MASK,
            betas=betas,
            mean=np.ones(SHAPE, dtype=np.float32),
            blocks=BLOCKS,
            covariance=np.eye(N_BLOCKS),
            leak=np.zeros((N_BLOCKS, N_BLOCKS + 1)),
        ),
        folder / f"{name}.npz",
    )


def rows_by_key(files, true, **changes):
    roi = np.zeros(SHAPE, dtype=bool)
    roi[2:11, 2:8] = True
    options = {"roi": roi, "factor": FACTOR, "n_boot": 200, "seed": 1} | changes
    run = RunEffects(files=files, contrasts=CONTRASTS, mask=MASK, affine=AFFINE, **options)
    activations = {name: (values, AFFINE) for name, values in true.items()}
    rows = agreement_rows(
        run, make_map_reference, partial(make_known_reference, known=activations)
    )
    return {(r.series, against_of(r), r.contrast, r.region, measure_of(r)): r for r in rows}


@pytest.fixture
def files(tmp_path):
    true = truth()
    shares = {"bspline": 0.0, "inject": 0.0, "sbl": 0.9, "sblMirror": 0.4}
    return {name: save(tmp_path, name, betas_of(3, share, true)) for name, share in shares.items()}


def test_values_equal_correlations_of_the_maps(files):
    true, rows = truth(), rows_by_key(files, truth())
    with np.load(files["sbl"]) as data:
        betas = data["betas"]
    means = {c: betas[..., [b.condition == c for b in BLOCKS]].mean(-1) for c in true}
    effect, true_effect = means["thumb"] - means["little"], true["thumb"] - true["little"]
    expected = np.corrcoef(effect.ravel(), true_effect.ravel())[0, 1]
    key = ("sbl", "truth", "thumbMinusLittle")
    assert rows[*key, "brain", "truth_r_effect"].value == pytest.approx(expected, abs=1e-5)
    active = true_effect >= true_effect.max() / 4
    fine = [beyond_nyquist(effect_map, FACTOR)[active] for effect_map in (effect, true_effect)]
    assert rows[*key, "active", "truth_r_beyond"].value == pytest.approx(
        np.corrcoef(*fine)[0, 1], abs=1e-5
    )
    mean = [sum(pair.values()) / 2 for pair in (means, true)]
    expected = np.corrcoef(mean[0][2:11, 2:8].ravel(), mean[1][2:11, 2:8].ravel())[0, 1]
    assert rows["sbl", "truth", "all", "roi", "truth_r_effect"].value == pytest.approx(
        expected, abs=1e-5
    )
    assert rows["sbl", "truth", "all", "roi", "truth_r_effect"].n == N_BLOCKS
    assert rows["sbl", "truth", "little", "roi", "truth_r_effect"].n == N_BLOCKS // 2


def test_explained_variance_equals_its_definition_and_construction(files, tmp_path):
    """Noise-free series with 90 % of the detail lack 1 % of its variance; noise reduces explained
    variance by its energy.
    """
    true = truth()
    clean = save(tmp_path, "clean", betas_of(3, 0.9, true, noise=0.0))
    rows = rows_by_key({**files, "clean": clean}, true)
    key = ("clean", "truth", "all", "brain")
    assert rows[*key, "truth_ev_beyond"].value == pytest.approx(0.99, abs=1e-4)
    assert rows[*key, "truth_amplitude_beyond"].value == pytest.approx(0.9, abs=1e-4)
    assert rows[*key, "truth_right_beyond"].value == pytest.approx(1, abs=1e-4)
    assert 0.99 < rows[*key, "truth_ev_effect"].value < 1
    with np.load(files["sbl"]) as data:
        e, t = data["betas"].mean(-1), sum(true.values()) / 2
    error = (e - t - (e - t).mean()).ravel()
    expected = 1 - (error @ error) / (t.size * t.var())
    row = rows["sbl", "truth", "all", "brain", "truth_ev_effect"]
    assert row.value == pytest.approx(expected, abs=1e-4)
    assert row.lower < row.value < row.upper
    gain = rows["sbl", "bspline", "all", "brain", "gain_truth_ev_beyond"]
    assert gain.lower > 0


def test_gains_exclude_zero_for_a_better_series_and_are_zero_for_equal_series(files, tmp_path):
    rows = rows_by_key(
        {**files, "srgan": save(tmp_path, "srgan", betas_of(3, 0.0, truth()))}, truth()
    )
    for reference in ("bspline", "inject", "sblMirror", "srgan"):
        gain = rows["sbl", reference, "all", "brain", "gain_truth_r_beyond"]
        assert 0 < gain.lower < gain.value < gain.upper
        assert gain.n == N_BLOCKS
    equal_series = rows["srgan", "bspline", "all", "brain", "gain_truth_r_beyond"]
    assert (equal_series.value, equal_series.lower, equal_series.upper) == (0, 0, 0)
    assert not equal_series.excludes_zero
    assert not any(r.series == "bspline" and "gain" in measure_of(r) for r in rows.values())
    assert ("srgan", "sblMirror", "all", "brain", "gain_truth_r_beyond") not in rows


def test_resamples_depend_on_the_seed_and_not_on_other_series(files):
    all_rows = rows_by_key(files, truth())
    repeated = rows_by_key(files, truth())
    assert [r.cells() for r in repeated.values()] == [r.cells() for r in all_rows.values()]
    single = rows_by_key({"sbl": files["sbl"]}, {"thumb": truth()["thumb"]})
    key = ("sbl", "truth", "thumb", "brain", "truth_r_beyond")
    assert (single[key].lower, single[key].upper) == pytest.approx(
        (all_rows[key].lower, all_rows[key].upper), abs=1e-5
    )
    assert abs(rows_by_key(files, truth(), seed=2)[key].lower - all_rows[key].lower) > 1e-4
    without_resamples = rows_by_key(files, truth(), n_boot=0)[key]
    assert without_resamples.value == pytest.approx(all_rows[key].value, abs=1e-12)
    assert math.isnan(without_resamples.lower)
    assert without_resamples.n == all_rows[key].n, (
        "the number of blocks does not depend on resampling"
    )


def test_intervals_have_nominal_coverage(files):
    """Expected r and expected gain over many runs are in about 95 % of the intervals of single
    runs.
    """
    true = truth()
    run = RunEffects(
        files=files,
        contrasts=CONTRASTS,
        mask=MASK,
        affine=AFFINE,
        roi=MASK,
        factor=FACTOR,
        n_boot=300,
        seed=0,
    )
    activation = make_known_reference(run, {"thumb": (true["thumb"], AFFINE)})
    assert activation is not None
    runs = []
    for seed in range(150):
        maps_of_shares = (
            run.maps_by_band(betas_of(seed, share, true, 3.0), run.bands) for share in (0.8, 0.2)
        )
        better, worse = (
            activation.scores(maps)[ComparisonKey("r", "beyond", "thumb", "brain")].mean(axis=0)
            for maps in maps_of_shares
        )
        runs.append(
            (better[0], *interval(better), better[0] - worse[0], *interval(better - worse))
        )
    value, low, high, gain, gain_low, gain_high = np.array(runs).T
    assert 0.86 <= ((low < value.mean()) & (value.mean() < high)).mean() <= 0.99
    assert 0.86 <= ((gain_low < gain.mean()) & (gain.mean() < gain_high)).mean() <= 0.99
    assert (high - low).mean() < 0.4


def test_bands_are_not_compared_if_no_axis_is_super_resolved(files):
    rows = rows_by_key(files, truth(), factor=(1, 1, 1))
    statistics = {f"truth_{name}_effect" for name in ("r", "ev", "amplitude", "right")}
    assert {key[-1] for key in rows} == statistics | {f"gain_{name}" for name in statistics}


def test_with_a_measured_series_gains_over_known_activation_have_no_interval(files, tmp_path):
    rows = rows_by_key(
        {"measured": save(tmp_path, "measured", betas_of(9, 1.0, truth())), **files}, truth()
    )
    level = rows["measured", "truth", "all", "brain", "truth_r_beyond"]
    assert math.isfinite(level.lower)
    gains = [r for r in rows.values() if measure_of(r).startswith("gain_")]
    assert {(measure_of(r), against_of(r)) for r in gains} == {("gain_truth_r_beyond", "bspline")}
    assert all(math.isnan(r.lower) for r in gains)


def test_unknown_contrasts_are_omitted_and_empty_regions_are_nan(files):
    rows = rows_by_key(files, {"thumb": truth()["thumb"]}, roi=np.zeros(SHAPE, dtype=bool))
    assert {key[2] for key in rows} == {"thumb"}
    roi_rows = [r for key, r in rows.items() if key[3] == "roi"]
    assert roi_rows
    assert all(math.isnan(r.value) and math.isnan(r.lower) for r in roi_rows)
    assert rows_by_key(files, {}) == {}


def test_rows_with_an_interval_replace_rows_without():
    columns = {
        "series": "sbl",
        "statistic": "r",
        "band": "all",
        "reference": "truth",
        "contrast": "all",
        "region": "brain",
    }
    without_interval, smoothed = (
        MetricRow(value=0.5, **columns),
        MetricRow(value=0.5, fwhm_mm=4.0, **columns),
    )
    with_interval = MetricRow(value=0.51, lower=0.4, upper=0.6, **columns)
    assert replace_rows([without_interval, smoothed], [with_interval]) == [smoothed, with_interval]
