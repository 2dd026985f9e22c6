"""Test of the detail of all runs with runs as halves, on effects with known detail."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from data.known_priors import fluctuation, patchy, whole_of
from scipy import ndimage

from bids_sr.engine.metric_rows import metric_rows
from bids_sr.evaluation.detail_support import COVERAGE, classify_detail
from bids_sr.evaluation.steps.half_resolution_maps import (
    HalfResolutionMaps,
    load_half_resolution_maps,
    save_half_resolution_maps,
)
from bids_sr.evaluation.steps.reconstruction_error import check_intervals
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.regressors import Events
from bids_sr.glm.steps.linear_models import DesignInputs, LinearModel
from bids_sr.group.combination.steps import tested_runs
from bids_sr.group.combination.steps.tested_runs import compare_runs
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.volume import Volume
from bids_sr.preproc.steps.aligned_series import PosedBrain
from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.sr.models.model import save_model
from bids_sr.sr.prior_maps.prior import Prior, PriorMaps
from bids_sr.survey.preflight.combined_runs import RunTerm

SHAPE, FACTOR = (32, 28, 10), (2.0, 2.0, 1.0)
LOW_SHAPE = (16, 14, 10)
AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
LOW_AFFINE = np.diag([6.0, 6.0, 4.0, 1.0])
LOW_AFFINE[:2, 3] = 1.5
NOBODY_LEFT_OUT = {"LeftOut": {}, "OtherHead": {}, "Disagreeing": {}}
INNER = np.zeros(SHAPE, bool)  # edges are not periodic if a run is interpolated
INNER[4:-4, 4:-4] = True
CHANGE = (
    RunTerm(label="run-2", contrast="hand", weight=1.0, runs=("run-2",)),
    RunTerm(label="run-1", contrast="hand", weight=-1.0, runs=("run-1",)),
)


def make_truth(seed=1):
    return 10 * np.random.default_rng(100 + seed).standard_normal(SHAPE)


def shift_image(image, voxels):
    """Return an image whose content is displaced along x and y, with periodic edges."""
    spectrum = np.fft.fftn(image, axes=(0, 1))
    shifted = ndimage.fourier_shift(spectrum, (*voxels, 0))
    return np.fft.ifftn(shifted, axes=(0, 1)).real


def make_maps(
    truth, *, share=1.0, noise=5.0, seed=0, contrasts=("hand",), shift=(0, 0), scale=1.0
):
    """Return maps of a run that recovers a share of the detail of each contrast.

    The content of the run is displaced by `shift` (voxels) and multiplied by `scale`.
    """
    rng = np.random.default_rng(seed)
    detail = beyond_nyquist(truth, FACTOR)
    estimate = shift_image(truth - detail + share * detail, shift)
    truth = shift_image(truth, shift)
    acquired = np.stack([truth + noise * rng.standard_normal(SHAPE) for _ in contrasts])
    reconstructed = estimate + noise / 10 * rng.standard_normal(acquired.shape)
    low = np.full((1, len(contrasts), *LOW_SHAPE), 50.0, np.float32)
    ones, low_ones = np.ones(SHAPE, np.float32), np.ones(LOW_SHAPE, np.float32)
    return HalfResolutionMaps(
        contrasts=tuple(contrasts),
        widths=(0.0,),
        affine=AFFINE,
        low_affine=LOW_AFFINE,
        mask=ones > 0,
        low_mask=low_ones > 0,
        acquired=np.float32(scale * acquired),
        errors=np.float32(scale * (reconstructed - acquired)),
        task_free=np.float32(scale * reconstructed),
        error_variances=np.full(acquired.shape, (scale * noise) ** 2, np.float32),
        error_power=ones,
        low_effects=scale * low,
        low_variances=scale**2 * np.ones_like(low),
        low_power=1000 * low_ones,
        smoothness=0.5,
    )


def compare(
    folder,
    runs,
    *,
    xfms=None,
    ratios=None,
    agreement=None,
    contrasts=None,
    own_rows=None,
    over_runs=None,
):
    """Return the rows of the test for maps by name of the run; None is a run without a test."""
    paths = {}
    for name, maps in runs.items():
        (folder / name).mkdir(parents=True)
        paths[name] = save_half_resolution_maps(maps, folder / name)
    further = list(runs)[1:]
    rows, columns = compare_runs(
        paths,
        {name: np.eye(4)[None] for name in further} | (xfms or {}),
        {name: {"SignalRatio": (ratios or {}).get(name, 1.0)} for name in further},
        agreement or NOBODY_LEFT_OUT,
        own_rows or {},
        series_name="sbl",
        contrasts={"hand": list(runs)} if contrasts is None else contrasts,
        over_runs=over_runs or {},
        factor=FACTOR,
        calibrated=False,
    )
    json.dumps(columns)
    return rows


def values_of(rows, statistic="ev"):
    return {row.region: row.value for row in rows if row.statistic == statistic}


@pytest.mark.parametrize(
    ("share", "explained", "state"),
    [(1.0, 1.0, "recovered"), (0.5, 0.75, "recovered"), (2.2, -0.44, "not supported")],
)
def test_detail_is_recovered_if_the_other_runs_contain_it(tmp_path, share, explained, state):
    truth = make_truth()
    runs = {f"run-{k}": make_maps(truth, share=share, seed=k) for k in (1, 2, 3)}
    rows = compare(tmp_path, runs)
    assert values_of(rows)["brain"] == pytest.approx(explained, abs=0.12)
    (support,) = classify_detail(rows, "sbl").values()
    assert (support.contrast, support.active.state, support.brain.state) == ("hand", state, state)


def test_detail_that_no_other_run_contains_is_not_recovered(tmp_path):
    """Detail of each run that explains its own acquired effect is noise for the other run."""
    runs = {f"run-{k}": make_maps(make_truth(k), noise=0.1, seed=k) for k in (1, 2)}
    rows = compare(tmp_path, runs)
    assert classify_detail(rows, "sbl")["hand"].state != "recovered"


@pytest.mark.parametrize("shift", [(1, 0), (0.3, -0.6), (2.5, 1.5)])
def test_a_displaced_run_of_another_scale_gives_the_values_of_a_run_in_place(tmp_path, shift):
    truth = ndimage.gaussian_filter(make_truth(), (0.4, 0.4, 0), mode="wrap")
    first, second = make_maps(truth, share=0.6, seed=1, noise=1.0), {"share": 0.6, "seed": 2}
    in_place = compare(
        tmp_path / "in_place", {"run-1": first, "run-2": make_maps(truth, noise=1.0, **second)}
    )
    moved = make_maps(truth, noise=1.0, shift=shift, scale=4.0, **second)
    xfm = np.eye(4)
    xfm[:2, 3] = np.multiply(shift, 3.0)
    runs, ratios = {"run-1": first, "run-2": moved}, {"run-2": 4.0}
    rows = compare(tmp_path / "moved", runs, xfms={"run-2": xfm[None]}, ratios=ratios)
    expected = values_of(in_place)["brain"]
    assert expected - 0.1 < values_of(rows)["brain"] < expected + 0.03
    assert classify_detail(rows, "sbl")["hand"].brain.state == "recovered"
    unaligned = compare(tmp_path / "unaligned", runs, ratios=ratios)
    assert not values_of(unaligned)["brain"] > expected - 0.15


def test_the_frame_is_the_first_run_that_was_tested(tmp_path):
    truth = make_truth()
    runs = {
        "run-1": None,
        "run-2": make_maps(truth, seed=1, shift=(1, 0)),
        "run-3": make_maps(truth, seed=2, shift=(0, 2)),
    }
    xfms = {name: np.eye(4)[None].copy() for name in ("run-2", "run-3")}
    xfms["run-2"][0, 0, 3], xfms["run-3"][0, 1, 3] = 3.0, 6.0
    rows = compare(tmp_path, runs, xfms=xfms)
    assert values_of(rows)["brain"] == pytest.approx(1.0, abs=0.12)


def test_contrasts_are_tested_in_the_runs_that_are_combined(tmp_path):
    truth = make_truth()
    runs = {
        "run-1": make_maps(truth, seed=1, contrasts=("hand", "foot")),
        "run-2": make_maps(truth, seed=2, contrasts=("foot", "hand")),
        "run-3": make_maps(truth, share=-1.0, seed=3, contrasts=("hand",)),
    }
    contrasts = {"hand": ["run-1", "run-2"], "foot": ["run-1", "run-3"], "toe": ["run-1", "run-2"]}
    rows = compare(tmp_path, runs, contrasts=contrasts)
    assert {row.contrast for row in rows if row.statistic == "ev"} == {"hand"}
    assert values_of(rows)["brain"] == pytest.approx(1.0, abs=0.12)


def test_runs_that_are_left_out_are_not_used(tmp_path):
    truth = make_truth()
    runs = {f"run-{k}": make_maps(truth, seed=k) for k in (1, 2)}
    runs["run-3"] = make_maps(truth, share=-1.0, seed=3)
    agreement = {"LeftOut": {"run-3": "reversed"}, "Disagreeing": {}}
    rows = compare(tmp_path, runs, agreement=agreement)
    assert values_of(rows)["brain"] == pytest.approx(1.0, abs=0.12)


def test_a_single_remaining_run_has_its_own_test(tmp_path):
    runs = {f"run-{k}": make_maps(make_truth(), seed=k) for k in (1, 2)}
    own_rows = {
        name: [
            row
            for contrast in ("hand", "foot")
            for row in metric_rows("sbl", {COVERAGE: value}, contrast=contrast)
        ]
        for name, value in (("run-1", 0.91), ("run-2", 0.92))
    }
    agreement = {"LeftOut": {"run-1": "another head"}, "Disagreeing": {}}
    rows = compare(tmp_path, runs, agreement=agreement, own_rows=own_rows)
    assert [(row.contrast, row.value) for row in rows if row.statistic == COVERAGE] == [
        ("hand", 0.92)
    ]
    assert not [row for row in rows if row.statistic == "ev"]


def test_runs_without_a_test_have_no_rows(tmp_path):
    runs = {"run-1": make_maps(make_truth()), "run-2": None}
    assert compare(tmp_path, runs) == []


def test_the_smoothest_run_decides_whether_runs_can_be_tested(tmp_path):
    truth = make_truth()
    runs = {
        "run-1": make_maps(truth, seed=1),
        "run-2": replace(make_maps(truth, seed=2), smoothness=1.4),
    }
    (support,) = classify_detail(compare(tmp_path, runs), "sbl").values()
    assert support.state == "not testable"
    assert "smooth" in support.active.reason


def make_blocks(truth, *, seed=0, n_blocks=6, level=1.0, **settings):
    """Return maps of a run with the effects of its blocks; `level` of the downsampled effect."""
    blocks = [
        make_maps(truth, seed=1000 * seed + number, **settings) for number in range(n_blocks)
    ]
    acquired, errors = (
        np.stack([getattr(block, name)[0] for block in blocks]) for name in ("acquired", "errors")
    )
    return replace(
        blocks[0],
        mask=INNER,
        acquired=acquired.mean(axis=0, keepdims=True),
        errors=errors.mean(axis=0, keepdims=True),
        low_effects=level * blocks[0].low_effects,
        blocks=np.stack([acquired + errors, acquired, acquired + errors]),
        block_weights=np.full((1, n_blocks), 1 / n_blocks),
        block_conditions=("hand",) * n_blocks,
    )


def make_smooth_truth(seed):
    return 20 * ndimage.gaussian_filter(make_truth(seed) / 10, (0.4, 0.4, 0.4), mode="wrap")


def compare_change(folder, first, second, shift=(0, 0)):
    """Return the rows of run 2 - run 1, which is displaced by a known shift (voxels)."""
    xfm = np.eye(4)
    xfm[:2, 3] = np.multiply(shift, 3.0)
    return compare(
        folder,
        {"run-1": first, "run-2": second},
        xfms={"run-2": xfm[None]},
        contrasts={},
        over_runs={"change": CHANGE},
    )


@pytest.mark.parametrize(("share", "explained"), [(1.0, 1.0), (0.5, 0.75)])
def test_detail_of_a_change_between_two_runs_is_recovered(tmp_path, share, explained):
    truth, change = make_smooth_truth(1), 0.5 * make_smooth_truth(2)
    runs = [
        make_blocks(effect, share=share, seed=seed, noise=3.0, level=seed)
        for seed, effect in ((1, truth), (2, truth + change))
    ]
    rows = compare_change(tmp_path, *runs)
    assert values_of(rows)["brain"] == pytest.approx(explained, abs=0.12)
    (support,) = classify_detail(rows, "sbl").values()
    assert (support.contrast, support.state) == ("change", "recovered")
    assert [row.contrast for row in rows if row.statistic == COVERAGE] == ["change"]


def test_a_change_that_is_reversed_is_not_supported(tmp_path):
    truth = make_smooth_truth(1)
    first = make_blocks(truth, seed=1, noise=3.0)
    second = make_blocks(truth + make_smooth_truth(2), share=-1.0, seed=2, noise=3.0, level=2.0)
    rows = compare_change(tmp_path, first, second)
    assert classify_detail(rows, "sbl")["change"].state == "not supported"


def count_null_details(folder, seeds):
    """Return how many pairs of runs of one condition have detail of a difference.

    Run 2 is displaced by a known shift, and by a hidden shift of up to .2 mm along each axis. The
    downsampled runs differ, so that all voxels are tested. Also returns how often it is recovered.
    """
    n_defined = n_recovered = 0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        known, hidden = rng.uniform(-0.5, 0.5, 2), rng.uniform(-0.2, 0.2, 2) / 3
        truth = make_smooth_truth(seed)
        first = make_blocks(truth, seed=2 * seed, share=0.7, noise=8.0)
        second = make_blocks(
            truth, seed=2 * seed + 1, share=0.7, noise=8.0, shift=known + hidden, level=2.0
        )
        rows = compare_change(folder / str(seed), first, second, known)
        n_defined += math.isfinite(values_of(rows)["brain"])
        n_recovered += classify_detail(rows, "sbl")["change"].state == "recovered"
    return n_defined, n_recovered


def test_two_runs_of_one_condition_have_no_detail_of_a_difference(tmp_path):
    n_defined, n_recovered = count_null_details(tmp_path, 20)
    assert n_defined <= 3
    assert not n_recovered


@pytest.mark.parametrize(
    ("function", "replacement"),
    [
        ("_displace_effects", lambda runs: np.zeros((*SHAPE, 0), np.float32)),
        ("_filter_frame", lambda maps, moved_xfms: maps),
    ],
    ids=["displacement", "interpolation"],
)
def test_displaced_runs_differ_in_detail_without_a_correction(
    tmp_path, monkeypatch, function, replacement
):
    monkeypatch.setattr(tested_runs, function, replacement)
    n_defined, _ = count_null_details(tmp_path, 8)
    assert n_defined >= 4


def test_the_runs_of_a_term_are_averaged(tmp_path):
    """Change of one of two runs: the difference of the means is half of it."""
    truth, change = make_smooth_truth(1), make_smooth_truth(2)
    runs = {
        f"run-{number}": make_blocks(
            truth + change * (number == 4), seed=number, noise=3.0, level=number
        )
        for number in (1, 2, 3, 4)
    }
    terms = tuple(
        RunTerm(label="", contrast="hand", weight=weight, runs=names)
        for weight, names in ((1.0, ("run-3", "run-4")), (-1.0, ("run-1", "run-2")))
    )
    settings = {"contrasts": {}, "over_runs": {"change": terms}}
    assert values_of(compare(tmp_path / "all", runs, **settings))["brain"] > 0.85
    agreement = {"LeftOut": {"run-4": "disagrees"}, "OtherHead": {}, "Disagreeing": {}}
    rows = compare(tmp_path / "disagreeing", runs, agreement=agreement, **settings)
    assert values_of(rows)["brain"] > 0.85
    agreement["OtherHead"] = {"run-4": "another head"}
    rows = compare(tmp_path / "head", runs, agreement=agreement, **settings)
    assert math.isnan(values_of(rows)["brain"])


def test_terms_of_one_run_share_the_noise_of_their_blocks(tmp_path):
    """The contrasts hand and sum share blocks, whose noise is not reproducible."""
    maps = make_blocks(np.zeros(SHAPE), noise=10.0)
    zeros = np.zeros(6)
    both = replace(
        maps,
        contrasts=("hand", "sum"),
        block_weights=np.stack([np.r_[zeros + 1 / 6, zeros], zeros.repeat(2) + 1 / 6]),
        block_conditions=("hand",) * 6 + ("foot",) * 6,
        blocks=np.concatenate([maps.blocks, make_blocks(np.zeros(SHAPE), seed=3).blocks], axis=1),
        **{
            name: np.repeat(getattr(maps, name), 2, axis=axis)
            for name, axis in {
                **dict.fromkeys(("acquired", "errors", "error_variances", "task_free"), 0),
                **dict.fromkeys(("low_effects", "low_variances"), 1),
            }.items()
        },
    )
    terms = tuple(
        RunTerm(label="run-1", contrast=name, weight=weight, runs=("run-1",))
        for name, weight in (("sum", 1.0), ("hand", 1.0))
    )
    rows = compare(
        tmp_path, {"run-1": both, "run-2": both}, contrasts={}, over_runs={"change": terms}
    )
    assert math.isnan(values_of(rows)["brain"])


def test_contrasts_over_runs_without_two_halves_are_not_tested(tmp_path):
    first, second = (make_blocks(make_truth(seed), seed=seed) for seed in (1, 2))
    single = replace(second, block_weights=np.zeros_like(second.block_weights))
    assert compare_change(tmp_path, first, single) == []


@pytest.mark.parametrize(("size", "expected"), [(1.0, 0.95), (3.0, 0.5)])
def test_coverage_is_of_the_error_of_the_mean(tmp_path, size, expected):
    """Errors have a known SD. The effect of one run is 0, and its variance is large."""
    rng = np.random.default_rng(3)
    sd = 50.0 / math.sqrt(1000)  # effect over the square root of the power
    shared_error = size * sd * rng.standard_normal(SHAPE)
    runs = {}
    for name, factor in (("run-1", 0.0), ("run-2", 1.0)):
        maps = make_maps(make_truth(), seed=5)
        noise = 0.1 * rng.standard_normal((1, *SHAPE))
        runs[name] = replace(
            maps,
            errors=np.float32(shared_error + noise),
            error_variances=np.full_like(maps.error_variances, 0.01),
            low_effects=factor * maps.low_effects,
            low_variances=maps.low_variances if factor else 1e4 * maps.low_variances,
        )
    rows = compare(tmp_path, runs)
    (coverage,) = (row for row in rows if row.statistic == COVERAGE)
    assert (coverage.contrast, coverage.region, coverage.n) == ("hand", "brain", math.prod(SHAPE))
    assert coverage.value == pytest.approx(expected, abs=0.03)


VOLUMES, RUN_SHAPE = 60, (24, 22, 10)
ONSETS = {"hand": 10.0, "foot": 60.0}
"""Onset of the only block of each condition (s)."""


def make_run_prior():
    """Return a prior on the grid of the runs, with fine structure."""
    x, y, z = RUN_SHAPE
    grid = whole_of((x // 2, y // 2, z), FACTOR)
    return Prior(region=grid, weight=10 * patchy(grid, 5)[None], fwhm=(1.7,), noise=0.0)


def check_simulated_run(folder, effects, seed, *, duration=20.0, keeps_blocks=False):
    """Run `check_intervals` on a run with one block per condition.

    `effects` are the effects (z, x, y) by condition. A `duration` (s) of less than 20 s divides
    the blocks in two.
    """
    folder.mkdir(parents=True)
    prior, generator = make_run_prior(), torch.Generator().manual_seed(seed)
    series = torch.stack([fluctuation(prior, generator) for _ in range(VOLUMES)])
    series += 8 * torch.randn(series.shape, generator=generator)
    times = 2.0 * np.arange(VOLUMES)
    for name, effect in effects.items():
        is_on = (times > ONSETS[name] + 4) & (times < ONSETS[name] + 24)
        series += torch.from_numpy(np.float32(is_on))[:, None, None, None] * effect
    bold = 500 + np.moveaxis(series.numpy(), (1, 0), (2, 3))
    save_image(np.float32(bold), AFFINE, folder / "bold.nii", tr=2.0)
    card = {
        "method": "sbl",
        "recipe": "fast",
        "factor": list(FACTOR),
        "contrast": "T2starw",
        "orientation": "I-S",
        "resolution": {"lowres_mm": [3.0, 3.0, 4.0]},
        "trained_on": "run",
    }
    model, _ = save_model(folder / "model", PriorMaps(None).state_dict(), card)
    starts = dict.fromkeys((0.0, 20.0 - duration))
    events = pd.DataFrame(
        [
            {"onset": onset + start, "duration": duration, "trial_type": name}
            for name, onset in ONSETS.items()
            for start in starts
        ]
    )
    linear_model = LinearModel(
        inputs=DesignInputs(
            regressors=Events(events), n_dummy=0, design=DesignSettings(high_pass=0.0)
        ),
        contrasts={name: {name: 1.0} for name in ONSETS},
    )
    with SeriesReader(folder / "bold.nii") as reader:
        return check_intervals(
            reader,
            PosedBrain(
                bold_mask=Volume(np.ones(RUN_SHAPE, bool), AFFINE),
                hmc_xfms=np.tile(np.eye(4), (VOLUMES, 1, 1)),
                factor=FACTOR,
            ),
            model,
            linear_model,
            here=folder,
            series_name="sbl",
            smoothing=(0.0,),
            random_seed=1,
            omp_nthreads=1,
            keeps_blocks=keeps_blocks,
        )


def test_effects_of_blocks_are_kept_for_contrasts_over_runs(tmp_path):
    generator = torch.Generator().manual_seed(7)
    effects = {name: 6 * fluctuation(make_run_prior(), generator) for name in ONSETS}
    (_, kept), (_, other) = (
        check_simulated_run(tmp_path / str(keeps), effects, 1, duration=6.0, keeps_blocks=keeps)
        for keeps in (True, False)
    )
    maps = load_half_resolution_maps(kept)
    assert maps.block_conditions == ("hand", "hand", "foot", "foot")
    np.testing.assert_allclose(maps.block_weights, [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    means = np.einsum("cb,kbxyz->kcxyz", maps.block_weights, maps.blocks)
    for mean, whole in zip(means, (maps.acquired + maps.errors, maps.acquired), strict=False):
        assert np.corrcoef(mean.ravel(), whole.ravel())[0, 1] > 0.99
    assert len(means) == 3  # with the prior of the run without its task
    assert not load_half_resolution_maps(other).blocks.size


def test_conditions_with_one_block_per_run_are_tested_across_runs(tmp_path):
    """The condition hand has the same fine effect in both runs, the condition foot has not."""
    generator = torch.Generator().manual_seed(7)
    hand, *feet = (6 * fluctuation(make_run_prior(), generator) for _ in range(3))
    paths = {}
    for number, foot in enumerate(feet, 1):
        run = f"run-{number}"
        rows, paths[run] = check_simulated_run(
            tmp_path / run, {"hand": hand, "foot": foot}, number
        )
        assert not [row for row in rows if row.statistic == "ev"]
    rows, _ = compare_runs(
        paths,
        {"run-2": np.eye(4)[None]},
        {"run-2": {"SignalRatio": 1.0}},
        NOBODY_LEFT_OUT,
        {},
        series_name="sbl",
        contrasts={name: list(paths) for name in ONSETS},
        over_runs={},
        factor=FACTOR,
        calibrated=False,
    )
    supports = classify_detail(rows, "sbl")
    assert supports["hand"].state == "recovered"
    assert supports["hand"].active.row.value > 0.1
    assert supports["foot"].state != "recovered"
    coverage = [row for row in rows if row.statistic == COVERAGE]
    assert [row.contrast for row in coverage] == list(ONSETS)
    assert all(0.85 < row.value < 0.99 for row in coverage)
