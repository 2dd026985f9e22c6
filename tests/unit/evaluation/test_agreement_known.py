"""Compare effects with known activation: values, coverage of intervals, and paired gains."""

import math
from functools import partial

import numpy as np
import pytest
from data.block_effects import make_blocks, write_effects
from data.short_names import against_of, measure_of

from bids_sr.engine.metric_rows import MetricRow
from bids_sr.evaluation.agreement import ComparisonKey, agreement_rows, interval
from bids_sr.evaluation.effects_of_run import RunEffects
from bids_sr.evaluation.reference_maps import replace_rows
from bids_sr.evaluation.references import make_known_reference, make_map_reference
from bids_sr.spatial.nyquist import beyond_nyquist

SHAPE, FACTOR = (12, 10, 4), (2.0, 2.0, 1.0)
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
CONTRASTS = {
    "thumb": {"thumb": 1.0},
    "little": {"little": 1.0},
    "all": {"thumb": 0.5, "little": 0.5},
    "thumbMinusLittle": {"thumb": 1.0, "little": -1.0},
}
BLOCKS = make_blocks(["thumb", "little"] * 6)
MASK, ROI = np.ones(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=bool)
ROI[2:11, 2:8] = True
RNG = np.random.default_rng(5)
TRUE = {name: np.zeros(SHAPE, dtype=np.float32) for name in ("thumb", "little")}
TRUE["thumb"][2:7, 3:8, 1:3] = 4 * RNG.random((5, 5, 2))
TRUE["little"][6:11, 2:7, 1:3] = 4 * RNG.random((5, 5, 2))


def betas_of(seed, share, noise=2.0):
    """Simulate block maps with a share of the true detail above the acquired Nyquist frequency;
    the seed determines the noise.
    """
    rng = np.random.default_rng(seed)
    fine = {name: beyond_nyquist(true, FACTOR) for name, true in TRUE.items()}
    maps = [
        TRUE[block.condition]
        - (1 - share) * fine[block.condition]
        + noise * rng.normal(size=SHAPE)
        for block in BLOCKS
    ]
    return np.stack(maps, -1).astype(np.float32)


def run_of(files, **changes):
    options = {"roi": ROI, "factor": FACTOR, "n_boot": 200, "seed": 1} | changes
    return RunEffects(files=files, contrasts=CONTRASTS, mask=MASK, affine=AFFINE, **options)


def rows_by_key(files, true=TRUE, **changes):
    known = {name: (values, AFFINE) for name, values in true.items()}
    rows = agreement_rows(
        run_of(files, **changes), make_map_reference, partial(make_known_reference, known=known)
    )
    return {(r.series, against_of(r), r.contrast, r.region, measure_of(r)): r for r in rows}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("effects")
    series = {
        name: betas_of(3, share)
        for name, share in {"bspline": 0, "inject": 0, "sbl": 0.9, "srgan": 0.4}.items()
    }
    series["clean"] = betas_of(3, 0.9, noise=0.0)
    return {n: write_effects(folder, n, betas, BLOCKS, AFFINE) for n, betas in series.items()}


@pytest.fixture(scope="module")
def rows(files):
    return rows_by_key(files)


def test_values_equal_correlations_of_the_maps(files, rows):
    with np.load(files["sbl"]) as data:
        betas = data["betas"]
    means = {c: betas[..., [b.condition == c for b in BLOCKS]].mean(-1) for c in TRUE}
    effect, true = (pair["thumb"] - pair["little"] for pair in (means, TRUE))
    key = ("sbl", "truth", "thumbMinusLittle")
    expected = np.corrcoef(effect.ravel(), true.ravel())[0, 1]
    assert rows[*key, "brain", "truth_r_effect"].value == pytest.approx(expected, abs=1e-5)
    active = true >= true.max() / 4
    expected = np.corrcoef(*(beyond_nyquist(x, FACTOR)[active] for x in (effect, true)))[0, 1]
    assert rows[*key, "active", "truth_r_beyond"].value == pytest.approx(expected, abs=1e-5)
    mean = [sum(pair.values()) / 2 for pair in (means, TRUE)]
    row = rows["sbl", "truth", "all", "roi", "truth_r_effect"]
    expected = np.corrcoef(mean[0][ROI], mean[1][ROI])[0, 1]
    assert (row.value, row.n) == (pytest.approx(expected, abs=1e-5), len(BLOCKS))
    assert rows["sbl", "truth", "little", "roi", "truth_r_effect"].n == len(BLOCKS) // 2


def test_explained_variance_equals_its_definition_and_construction(files, rows):
    """Noise-free series with 90 % of the detail lack 1 % of its variance; noise reduces explained
    variance by its energy.
    """
    key = ("clean", "truth", "all", "brain")
    for statistic, expected in (("ev", 0.99), ("amplitude", 0.9), ("right", 1.0)):
        value = rows[*key, f"truth_{statistic}_beyond"].value
        assert value == pytest.approx(expected, abs=1e-4), statistic
    assert 0.99 < rows[*key, "truth_ev_effect"].value < 1
    with np.load(files["sbl"]) as data:
        e, t = data["betas"].mean(-1), sum(TRUE.values()) / 2
    error = (e - t - (e - t).mean()).ravel()
    row = rows["sbl", "truth", "all", "brain", "truth_ev_effect"]
    assert row.value == pytest.approx(1 - (error @ error) / (t.size * t.var()), abs=1e-4)
    assert row.lower < row.value < row.upper


def test_gains_exclude_zero_for_a_better_series_and_are_zero_for_equal_series(rows):
    for statistic, other in (("r", "bspline"), ("ev", "bspline"), ("r", "srgan")):
        gain = rows["sbl", other, "all", "brain", f"gain_truth_{statistic}_beyond"]
        assert 0 < gain.lower < gain.value < gain.upper
        assert gain.n == len(BLOCKS)
    equal = [
        rows["sbl", name, "all", "brain", "gain_truth_r_beyond"] for name in ("bspline", "inject")
    ]
    assert equal[0].value == equal[1].value
    assert not any(row.series == "bspline" and "gain" in measure_of(row) for row in rows.values())


def test_resamples_depend_on_the_seed_and_not_on_other_series(files, rows):
    key = ("sbl", "truth", "thumb", "brain", "truth_r_beyond")
    single = {"sbl": files["sbl"]}
    thumb = {"thumb": TRUE["thumb"]}
    alone = rows_by_key(single, thumb)
    assert {key[2] for key in alone} == {"thumb"}
    ends = (rows[key].lower, rows[key].upper)
    assert (alone[key].lower, alone[key].upper) == pytest.approx(ends, abs=1e-5)
    assert abs(rows_by_key(single, thumb, seed=2)[key].lower - rows[key].lower) > 1e-4
    without_resamples = rows_by_key(single, thumb, n_boot=0)[key]
    assert without_resamples.value == pytest.approx(rows[key].value, abs=1e-6)
    assert math.isnan(without_resamples.lower)
    assert without_resamples.n == rows[key].n


def test_the_interval_of_a_network_includes_the_spread_between_trainings(files, tmp_path):
    betas = betas_of(3, 0.9)
    for name in ("srgan", "tv"):  # the effects of sbl under the names of networks
        files = files | {name: write_effects(tmp_path, name, betas, BLOCKS, AFFINE)}
    names = ("bspline", "sbl", "srgan", "tv")
    rows = rows_by_key({name: files[name] for name in names}).values()
    ends = {
        (row.series, row.minus, row.statistic): (row.value - row.lower, row.upper - row.value)
        for row in rows
        if (row.contrast, row.region, row.band) == ("thumb", "brain", "beyond")
    }
    for against in ("n/a", "bspline"):
        assert ends["srgan", against, "r"] == pytest.approx(ends["sbl", against, "r"])
        for sbl, srgan in zip(
            ends["sbl", against, "ev"], ends["srgan", against, "ev"], strict=True
        ):
            # the standard deviation between 8 trainings was .03 (a prediction interval has √2)
            assert srgan**2 - sbl**2 > 2 * (1.96 * 0.03) ** 2
    # both networks were trained, and their equal effects do not differ otherwise
    assert ends["srgan", "tv", "ev"][0] > 2 * 1.96 * 0.03


def test_intervals_have_nominal_coverage(files):
    """Expected r and expected gain over many runs are in about 95 % of the intervals of single
    runs.
    """
    run = run_of({"sbl": files["sbl"]}, roi=MASK, n_boot=300, seed=0)
    activation = make_known_reference(run, {"thumb": (TRUE["thumb"], AFFINE)})
    key, runs = ComparisonKey("r", "beyond", "thumb", "brain"), []
    for seed in range(150):
        better, worse = (
            activation.scores(run.maps_by_band(betas_of(seed, share, 3.0), run.bands))[key].mean(0)
            for share in (0.8, 0.2)
        )
        gain = better - worse
        runs.append((better[0], *interval(better), gain[0], *interval(gain)))
    value, low, high, gain, gain_low, gain_high = np.array(runs).T
    assert 0.86 <= ((low < value.mean()) & (value.mean() < high)).mean() <= 0.99
    assert 0.86 <= ((gain_low < gain.mean()) & (gain.mean() < gain_high)).mean() <= 0.99
    assert (high - low).mean() < 0.4


def test_with_a_measured_series_gains_over_known_activation_have_no_interval(files, tmp_path):
    measured = write_effects(tmp_path, "measured", betas_of(9, 1.0), BLOCKS, AFFINE)
    pair = {name: files[name] for name in ("bspline", "sbl")}
    rows = rows_by_key({"measured": measured, **pair})
    level = rows["measured", "truth", "all", "brain", "truth_r_beyond"]
    assert math.isfinite(level.lower)
    gains = [r for r in rows.values() if measure_of(r).startswith("gain_")]
    assert {(measure_of(r), against_of(r)) for r in gains} == {("gain_truth_r_beyond", "bspline")}
    assert all(math.isnan(r.lower) for r in gains)


def test_rows_with_an_interval_replace_rows_without():
    columns = {"series": "sbl", "statistic": "r", "reference": "truth", "contrast": "all"}
    without_interval = MetricRow(value=0.5, **columns)
    smoothed = MetricRow(value=0.5, fwhm_mm=4.0, **columns)
    with_interval = MetricRow(value=0.51, lower=0.4, upper=0.6, **columns)
    assert replace_rows([without_interval, smoothed], [with_interval]) == [smoothed, with_interval]
