"""Effects against known activation: values, intervals that hold what they promise, gains that are
paired.
"""

import math
from functools import partial

import numpy as np
import pytest
from shortnames import against_of, measure_of

from bids_sr.evaluation.agreement import ComparisonKey, agreement_rows, interval
from bids_sr.evaluation.effects_of_run import RunEffects
from bids_sr.evaluation.reference_maps import replaced
from bids_sr.evaluation.references import known_activation, measured_map
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
    """Block maps with a share of the true detail beyond the limit; the noise is the seed's."""
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


def rows_of(files, true, **changes):
    roi = np.zeros(SHAPE, dtype=bool)
    roi[2:11, 2:8] = True
    given = {"roi": roi, "factor": FACTOR, "n_boot": 200, "seed": 1} | changes
    run = RunEffects(files=files, contrasts=CONTRASTS, mask=MASK, affine=AFFINE, **given)
    known = {name: (values, AFFINE) for name, values in true.items()}
    rows = agreement_rows(run, measured_map, partial(known_activation, known=known))
    return {(r.series, against_of(r), r.contrast, r.region, measure_of(r)): r for r in rows}


@pytest.fixture
def files(tmp_path):
    true = truth()
    shares = {"bspline": 0.0, "inject": 0.0, "sbl": 0.9, "sblMirror": 0.4, "sblSeed1": 0.9}
    return {name: save(tmp_path, name, betas_of(3, share, true)) for name, share in shares.items()}


def test_values_are_the_correlations_of_the_maps(files):
    true, rows = truth(), rows_of(files, truth())
    with np.load(files["sbl"]) as data:
        betas = data["betas"]
    means = {c: betas[..., [b.condition == c for b in BLOCKS]].mean(-1) for c in true}
    effect, wanted = means["thumb"] - means["little"], true["thumb"] - true["little"]
    expected = np.corrcoef(effect.ravel(), wanted.ravel())[0, 1]
    key = ("sbl", "truth", "thumbMinusLittle")
    assert rows[*key, "brain", "truth_r_effect"].value == pytest.approx(expected, abs=1e-5)
    active = wanted >= wanted.max() / 4
    fine = [beyond_nyquist(each, FACTOR)[active] for each in (effect, wanted)]
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


def test_explained_variance_is_that_of_the_maps_and_of_the_construction(files, tmp_path):
    """A series without noise that lacks a tenth of the detail lacks 1 % of its variance; noise
    costs what it has.
    """
    true = truth()
    clean = save(tmp_path, "clean", betas_of(3, 0.9, true, noise=0.0))
    rows = rows_of({**files, "clean": clean}, true)
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


def test_who_is_better_by_construction_is_so_for_sure_and_equal_series_differ_by_nothing(
    files, tmp_path
):
    rows = rows_of({**files, "srgan": save(tmp_path, "srgan", betas_of(3, 0.0, truth()))}, truth())
    for other in ("bspline", "inject", "sblMirror", "srgan"):
        gain = rows["sbl", other, "all", "brain", "gain_truth_r_beyond"]
        assert 0 < gain.lower < gain.value < gain.upper
        assert gain.n == N_BLOCKS
    same = rows["srgan", "bspline", "all", "brain", "gain_truth_r_beyond"]
    assert (same.value, same.lower, same.upper) == (0, 0, 0)
    assert not same.excludes_zero
    assert not any(
        against_of(r) == "sblSeed1" or (r.series == "sblSeed1" and "gain" in measure_of(r))
        for r in rows.values()
    )
    assert not any(r.series == "bspline" and "gain" in measure_of(r) for r in rows.values())
    assert ("srgan", "sblMirror", "all", "brain", "gain_truth_r_beyond") not in rows


def test_draws_are_those_of_the_seed_and_of_no_other_contrast_or_series(files):
    whole = rows_of(files, truth())
    again = rows_of(files, truth())
    assert [r.cells() for r in again.values()] == [r.cells() for r in whole.values()]
    alone = rows_of({"sbl": files["sbl"]}, {"thumb": truth()["thumb"]})
    key = ("sbl", "truth", "thumb", "brain", "truth_r_beyond")
    assert (alone[key].lower, alone[key].upper) == pytest.approx(
        (whole[key].lower, whole[key].upper), abs=1e-5
    )
    assert abs(rows_of(files, truth(), seed=2)[key].lower - whole[key].lower) > 1e-4
    bare = rows_of(files, truth(), n_boot=0)[key]
    assert bare.value == pytest.approx(whole[key].value, abs=1e-12)
    assert math.isnan(bare.lower)
    assert bare.n == whole[key].n, "the blocks are as many where nothing is drawn"


def test_intervals_hold_what_other_blocks_of_the_run_would_give(files):
    """Expected r over many runs lies in about 95 % of the intervals of single runs, and so does
    the expected gain.
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
    known = known_activation(run, {"thumb": (true["thumb"], AFFINE)})
    assert known is not None
    runs = []
    for seed in range(150):
        found = (run.banded(betas_of(seed, share, true, 3.0), run.bands) for share in (0.8, 0.2))
        better, worse = (
            known.scores(maps)[ComparisonKey("r", "beyond", "thumb", "brain")].mean(axis=0)
            for maps in found
        )
        runs.append(
            (better[0], *interval(better), better[0] - worse[0], *interval(better - worse))
        )
    value, low, high, gain, gain_low, gain_high = np.array(runs).T
    assert 0.86 <= ((low < value.mean()) & (value.mean() < high)).mean() <= 0.99
    assert 0.86 <= ((gain_low < gain.mean()) & (gain.mean() < gain_high)).mean() <= 0.99
    assert (high - low).mean() < 0.4


def test_without_an_axis_made_finer_only_whole_effects_are_compared(files):
    rows = rows_of(files, truth(), factor=(1, 1, 1))
    figures = {f"truth_{name}_effect" for name in ("r", "ev", "amplitude", "right")}
    assert {key[-1] for key in rows} == figures | {f"gain_{name}" for name in figures}


def test_beside_a_measured_series_differences_are_to_that_one(files, tmp_path):
    rows = rows_of(
        {"measured": save(tmp_path, "measured", betas_of(9, 1.0, truth())), **files}, truth()
    )
    level = rows["measured", "truth", "all", "brain", "truth_r_beyond"]
    assert math.isfinite(level.lower)
    gains = [r for r in rows.values() if measure_of(r).startswith("gain_")]
    assert {(measure_of(r), against_of(r)) for r in gains} == {("gain_truth_r_beyond", "bspline")}
    assert all(math.isnan(r.lower) for r in gains)


def test_what_is_not_known_or_too_small_is_not_told(files):
    rows = rows_of(files, {"thumb": truth()["thumb"]}, roi=np.zeros(SHAPE, dtype=bool))
    assert {key[2] for key in rows} == {"thumb"}
    inside = [r for key, r in rows.items() if key[3] == "roi"]
    assert inside
    assert all(math.isnan(r.value) and math.isnan(r.lower) for r in inside)
    assert rows_of(files, {}) == {}


def test_rows_with_an_interval_take_the_place_of_bare_ones():
    given = {
        "series": "sbl",
        "statistic": "r",
        "band": "all",
        "reference": "truth",
        "contrast": "all",
        "region": "brain",
    }
    bare, wide = MetricRow(value=0.5, **given), MetricRow(value=0.5, fwhm_mm=4.0, **given)
    sure = MetricRow(value=0.51, lower=0.4, upper=0.6, **given)
    assert replaced([bare, wide], [sure]) == [wide, sure]
