"""Test patterns of a calibration run: they help if they belong to the run, are realigned, and do
no harm.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from data.known_priors import (
    acquired,
    fluctuation,
    normal_noise,
    patchy,
    prior_of,
    sizes,
    statistics_of,
    whole_of,
)

from bids_sr.sr.method import get_method
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.operators import level_above
from bids_sr.sr.prior_maps import tested_prior
from bids_sr.sr.prior_maps.calibration_fit import (
    _CAUTIOUS_WEIGHT,
    _compute_weight,
    _optimize_params,
    _Registration,
)
from bids_sr.sr.prior_maps.calibration_prior import SHARE, CalibrationPatterns, add_patterns
from bids_sr.sr.prior_maps.outer_band import BandPrediction, OuterBand
from bids_sr.sr.prior_maps.prior import Prior, Tile
from bids_sr.sr.prior_maps.run_data import RunData

SHAPE, FACTOR, VOLUMES = (24, 24, 2), (2.0, 2.0, 1.0), 80
AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
FINE = np.diag([1.5, 1.5, 4.0, 1.0])
FINE[:2, 3] = -0.75
METHOD = get_method("sbl")
RECIPE = replace(METHOD.variance, rounds=3, draws=8)


def head():
    x, y, _ = np.indices(SHAPE)
    return np.hypot((x - 11.5) / 11.2, (y - 11.5) / 10.5) < 1


@pytest.fixture(scope="module")
def participant():
    """Return a run and patterns of the same participant, both drawn from one prior with shared
    patterns.
    """
    torch.manual_seed(0)
    grid = whole_of(SHAPE, FACTOR)
    shared = normal_noise(5, 12, *sizes(grid))
    smooth = patchy(grid, 3)
    prior = Prior(
        region=grid,
        weight=torch.cat([8 * smooth[None], 25 * smooth * shared]),
        fwhm=(3.0,) + (8.0,) * 12,
        noise=1.0,
    )
    generator = torch.Generator().manual_seed(1)
    series = np.stack(
        [np.moveaxis(acquired(prior, generator).numpy(), 0, 2) for _ in range(VOLUMES)], -1
    )
    images = [fluctuation(prior, generator) for _ in range(20)]
    return 500 + series, np.stack([np.moveaxis(image.numpy(), 0, 2) for image in images]) / 20**0.5


def data_of(series, patterns=None, moved=None):
    mask, middle = head(), VOLUMES // 2
    from_boldref = np.eye(4) if moved is None else moved
    return RunData(
        statistics=statistics_of(series, mask),
        mask=mask,
        affine=AFFINE,
        factor=FACTOR,
        volumes=VOLUMES,
        halves=(
            statistics_of(series[..., :middle], mask),
            statistics_of(series[..., middle:], mask),
        ),
        calibration=None
        if patterns is None
        else CalibrationPatterns(patterns=patterns, affine=FINE, from_boldref=from_boldref),
    )


def fit(data):
    return tested_prior.estimate_tested_prior(
        ModelRequest(method="sbl", replacement_recipe=RECIPE), data
    )


def shifted(x_mm):
    affine = np.eye(4)
    affine[0, 3] = x_mm
    return affine


def test_patterns_of_the_participant_are_used_as_maps_of_the_prior(participant):
    series, patterns = participant
    model = fit(data_of(series, patterns))
    scores = model.card["held_out"]
    assert scores["weight"] == SHARE
    assert scores["predicted_gain_by_weight"][f"{SHARE:g}"] > 0.02
    assert scores["position_correction_mm"] < 0.4
    assert scores["explained_by_weight"][f"{SHARE:g}"] > scores["explained_by_weight"]["0"]
    assert scores["tested"]["calibrated"] is True
    sentence = scores["tested"]["calibration"]
    assert f"{100 * scores['predicted_without']:.1f} % without it" in sentence
    score = 100 * scores["explained_by_weight"]["0"]
    assert f"Without the calibration run, the self-test score would be {score:.1f} %" in sentence
    assert len(model.state["weight"]) == 2 + len(patterns)
    assert model.state["weight"].dtype == torch.float16
    assert bool((model.state["weight"][2:] < 0).any())


@pytest.mark.parametrize(
    "moved",
    [(-1.2, 0.9), *(pytest.param(m, marks=pytest.mark.slow) for m in [(1.5, 0.0), (0.0, -1.5)])],
)
def test_a_displaced_calibration_run_is_realigned(participant, moved):
    series, patterns = participant
    displacement = np.eye(4)
    displacement[:2, 3] = moved
    fitted = tested_prior._fit_calibration(
        data_of(series, patterns, moved=displacement), RECIPE, 0
    )
    assert fitted.weight == SHARE
    assert fitted.displacement_mm == pytest.approx(np.hypot(*moved), abs=0.4)
    np.testing.assert_allclose(fitted.correction[:2, 3], np.negative(moved), atol=0.4)
    assert "used with a weight of 0.4 after its position was corrected by 1." in fitted.text


WIDTHS = np.array([1.2, 1.2, 0.6, 2.5, 2.5, 2.5, 0.025, 0.025, 0.025])


@pytest.mark.parametrize("position", [[0] * 9, [0.9, -1.6, 0, 0, 0, 1.5, 0, 0.012, 0]])
def test_the_search_finds_a_known_position(position):
    strides = []

    def predict(params, stride=1):
        strides.append(stride)
        offset = ((params - np.array(position)) / WIDTHS) ** 2
        return BandPrediction(
            without_calibration=(0.3,) * 4,
            with_calibration=(0.29 + 0.06 * np.exp(-offset.sum() / 2),) * 4,
        )

    estimated, best = _optimize_params(SimpleNamespace(predict=predict))
    np.testing.assert_array_less(np.abs(estimated - position) / WIDTHS, 0.25)
    assert best.gain == predict(estimated).gain > 0.047
    if not any(position):
        assert not estimated.any()
        assert (strides.count(1) - 1, len(strides) - 2) == (1, 23)


@pytest.mark.parametrize(
    "change", ["mirrored", "another's", pytest.param("far", marks=pytest.mark.slow)]
)
def test_patterns_that_do_not_belong_to_the_run_are_not_used(participant, change):
    series, patterns = participant
    moved = shifted(15.0) if change == "far" else None
    if change == "mirrored":
        patterns = np.ascontiguousarray(patterns[:, ::-1])
    elif change == "another's":
        patterns = np.moveaxis(patterns, 3, 1)[:, ::-1].transpose(0, 2, 3, 1)
    model = fit(data_of(series, np.ascontiguousarray(patterns), moved))
    assert model.card["held_out"]["weight"] == 0.0
    assert len(model.state["weight"]) == 2
    assert "the calibration run was not used" in model.card["held_out"]["model"]


def test_a_factor_across_slices_is_only_tested_at_half_the_resolution(participant):
    series, patterns = participant
    thin = replace(data_of(series, patterns), factor=(2.0, 2.0, 2.0))
    scores = fit(thin).card["held_out"]
    assert scores["weight"] in (0.0, _CAUTIOUS_WEIGHT)
    assert "predicted_without" not in scores


def test_thin_slices_that_do_not_help_are_rejected_by_the_self_test(participant):
    series, patterns = participant
    unrelated = np.random.default_rng(0).normal(size=patterns.shape).astype(np.float32)
    thin = replace(data_of(series, unrelated), factor=(2.0, 2.0, 2.0))
    scores = fit(thin).card["held_out"]
    assert scores["weight"] == 0.0
    assert "because the self-test score did not increase" in scores["tested"]["calibration"]


def test_the_mean_variance_is_kept_and_nothing_is_added_without_a_share():
    prior = prior_of((10, 8, 2), FACTOR)
    patterns = normal_noise(2, 4, *sizes(prior.region))
    mixed = add_patterns(prior, patterns, 0.4)
    assert mixed.mean_variance == pytest.approx(prior.mean_variance, rel=1e-4)
    assert mixed.fwhm == (*prior.fwhm, 8.0, 8.0, 8.0, 8.0)
    patterns_only = replace(mixed, weight=mixed.weight[-4:], fwhm=mixed.fwhm[-4:])
    assert patterns_only.mean_variance == pytest.approx(0.4 * prior.mean_variance, rel=1e-4)
    assert add_patterns(prior, patterns, 0) is prior
    assert add_patterns(prior, 0 * patterns) is prior


def test_the_prediction_of_one_half_is_tested_on_the_other_half():
    """Changing the second half changes only the share predicted for the second half."""
    mask = np.ones((24, 24, 1), bool)
    level = level_above(mask.shape, FACTOR)
    grid = Tile.from_mask(level, mask)
    prior = Prior(region=grid, weight=patchy(grid, 3)[None], fwhm=(3.0,), noise=1.0)
    first_half, second_half, other_half = normal_noise(7, 3, 2, 1, 24, 24)

    def shares(second):
        return OuterBand(
            level, [0], mask, [first_half, second], [prior, prior], AFFINE
        )._fractions_without_calibration

    before, after = (
        np.reshape(shares(half), (2, -1)) for half in (second_half, other_half)
    )  # separated by half
    np.testing.assert_allclose(after[1], before[1])
    assert np.abs(after[0] - before[0]).min() > 0.001


def predicted(gain, error=0.001):
    spread = error * 4**0.5 * np.array([-1, 1, -1, 1]) / (4 / 3) ** 0.5
    return BandPrediction(
        without_calibration=(0.3,) * 4, with_calibration=tuple(0.3 + gain + spread)
    )


@pytest.mark.parametrize(
    ("cautious", "full", "weight"),
    [(0.02, 0.01, SHARE), (0.01, -0.02, _CAUTIOUS_WEIGHT), (0.001, 0.01, 0.0), (-0.01, 0.1, 0)],
)
def test_the_weight_follows_from_the_predicted_gain(cautious, full, weight):
    assert _compute_weight(predicted(cautious), predicted(full)) == weight


def test_a_correction_rotates_about_the_center_and_shifts_by_voxels():
    registration = _Registration(
        band=None,
        calibration=None,
        points=np.array([[10.0, -5.0, 20.0]]),
        axes=np.diag([-1.0, 1.0, 1.0]),
        voxel_size=np.array([1.5, 1.5, 4.0]),
    )
    shift = registration.make_correction(np.array([1.0, 0, 0, 0, 0, 0, 0, 0, 0]))
    np.testing.assert_allclose(shift[:3, 3], [-1.5, 0, 0], atol=1e-12)
    turn = registration.make_correction(np.array([0, 0, 0, 0, 0, 90.0, 0, 0, 0]))
    np.testing.assert_allclose(turn @ [10, -5, 20, 1], [10, -5, 20, 1], atol=1e-9)
    np.testing.assert_allclose(np.abs(turn[:2, :2]), [[0, 1], [1, 0]], atol=1e-9)
    assert np.linalg.det(turn[:3, :3]) == pytest.approx(1)
    scaling = registration.make_correction(np.array([0, 0, 0, 0, 0, 0, 0.01, 0, 0]))
    np.testing.assert_allclose(np.diag(scaling), [1.01, 1, 1, 1])
