"""Test patterns of a calibration run: they help if they belong to the run, are realigned, and do
no harm.
"""

from dataclasses import replace

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
from scipy.spatial.transform import Rotation

from bids_sr.spatial.transforms import rms_distance, voxel_centers
from bids_sr.sr.method import get_method
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.operators import level_above
from bids_sr.sr.prior_maps import tested_prior
from bids_sr.sr.prior_maps.calibration_fit import fit_calibration
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


def shifted(x_mm, y_mm=0.0):
    affine = np.eye(4)
    affine[:2, 3] = x_mm, y_mm
    return affine


def test_patterns_of_a_displaced_calibration_are_realigned_and_used_as_maps(participant):
    series, patterns = participant
    model = fit(data_of(series, patterns, moved=shifted(-1.2, 0.9)))
    scores = model.card["held_out"]
    assert scores["weight"] == SHARE
    assert scores["position_correction_mm"] == pytest.approx(1.5, abs=0.4)
    np.testing.assert_allclose(
        np.array(scores["position_correction"])[:2, 3], [1.2, -0.9], atol=0.4
    )
    assert scores["predicted_gain_by_weight"][f"{SHARE:g}"] > 0.02
    assert scores["explained_by_weight"][f"{SHARE:g}"] > scores["explained_by_weight"]["0"]
    assert scores["tested"]["calibrated"] is True
    text = scores["tested"]["calibration"]
    assert f"{100 * scores['predicted_without']:.1f} %" in text
    assert f"{100 * scores['explained_by_weight']['0']:.1f} %" in text
    assert f"{scores['position_correction_mm']:.1f} mm" in text
    assert len(model.state["weight"]) == 2 + len(patterns)
    assert model.state["weight"].dtype == torch.float16
    assert bool((model.state["weight"][2:] < 0).any())


@pytest.mark.parametrize("change", ["mirrored", pytest.param("far", marks=pytest.mark.slow)])
def test_patterns_that_do_not_belong_to_the_run_are_not_used(participant, change):
    series, patterns = participant
    if change == "mirrored":
        data = data_of(series, np.ascontiguousarray(patterns[:, ::-1]))
    else:
        data = data_of(series, patterns, shifted(15.0))
    model = fit(data)
    assert model.card["held_out"]["weight"] == 0.0
    assert len(model.state["weight"]) == 2


def test_thinner_slices_are_only_tested_at_half_the_resolution(participant):
    series, patterns = participant
    unrelated = np.random.default_rng(0).normal(size=patterns.shape).astype(np.float32)
    weights = []
    for own in (patterns, unrelated):
        scores = fit(replace(data_of(series, own), factor=(2.0, 2.0, 2.0))).card["held_out"]
        assert "predicted_without" not in scores
        weights.append(scores["weight"])
    assert weights == [0.25, 0.0]


def predicted(gain, error=0.0):
    """Return a prediction of four tiles with a mean gain and its standard error."""
    spread = error * 4**0.5 * np.array([-1, 1, -1, 1]) / (4 / 3) ** 0.5
    return BandPrediction(
        without_calibration=(0.3,) * 4, with_calibration=tuple(0.3 + gain + spread)
    )


class Band:
    """Predictions by a formula, with the interface that `fit_calibration` requires."""

    tiles = [None] * 4
    highres_affine = FINE

    def __init__(self, gain):
        self.gain = gain
        self.slice_steps = []

    def predict(self, _calibration, correction, share=SHARE, slice_step=1):
        self.slice_steps.append(slice_step)
        return self.gain(correction, share)


def fit_to(band):
    return fit_calibration(band, None, head(), AFFINE)


POINTS = voxel_centers(head(), AFFINE)
CENTER = POINTS.mean(0)


def about_center(matrix):
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = CENTER - matrix @ CENTER
    return affine


@pytest.mark.parametrize(
    ("position", "width_mm"),
    [
        (np.eye(4), 1.8),
        (shifted(1.4, -2.4), 1.8),
        (about_center(Rotation.from_euler("z", 1.5, degrees=True).as_matrix()), 0.7),
        (about_center(np.diag([1.0, 1.018, 1.0])), 0.4),
    ],
    ids=["unmoved", "shifted", "rotated", "stretched"],
)
def test_the_search_finds_a_known_position(position, width_mm):
    def gain(correction, _share):
        distance = rms_distance(correction, position, POINTS)
        return predicted(0.06 * np.exp(-((distance / width_mm) ** 2) / 2) - 0.01)

    band = Band(gain)
    fitted = fit_to(band)
    assert rms_distance(fitted.correction, position, POINTS) < 0.35 * width_mm
    assert fitted.displacement_mm == pytest.approx(
        rms_distance(fitted.correction, np.eye(4), POINTS), rel=0.05
    )
    assert fitted.weight == SHARE
    if np.array_equal(position, np.eye(4)):
        assert np.array_equal(fitted.correction, np.eye(4))
        # Steps in both directions are only evaluated on every third slice.
        assert (band.slice_steps.count(1), band.slice_steps.count(3)) == (2, 23)


@pytest.mark.parametrize(
    ("cautious", "full", "weight"),
    [(0.02, 0.01, SHARE), (0.01, -0.02, 0.25), (0.001, 0.01, 0.0), (-0.01, 0.1, 0.0)],
)
def test_the_weight_follows_from_the_predicted_gain(cautious, full, weight):
    fitted = fit_to(
        Band(lambda _, share: predicted(cautious if share == 0.25 else full, error=0.001))
    )
    assert fitted.weight == fitted.entries["weight"] == weight
    gains = fitted.entries["predicted_gain_by_weight"]
    assert gains == pytest.approx({"0.25": cautious, "0.4": full})
    assert fitted.entries["predicted_gain_error"] == pytest.approx(0.001)


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

    calibration = CalibrationPatterns(
        patterns=np.zeros((1, 48, 48, 1), np.float32), affine=FINE, from_boldref=np.eye(4)
    )

    def shares(second):
        band = OuterBand(level, [0], mask, [first_half, second], [prior, prior], AFFINE)
        return band.predict(calibration).without_calibration

    before, after = (
        np.reshape(shares(half), (2, -1)) for half in (second_half, other_half)
    )  # separated by half
    np.testing.assert_allclose(after[1], before[1])
    assert np.abs(after[0] - before[0]).min() > 0.001
