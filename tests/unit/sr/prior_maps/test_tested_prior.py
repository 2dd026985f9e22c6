"""Test the self-test of prior SD maps: noise fails, and fluctuations with a reproducible
map pass.
"""

from dataclasses import replace

import numpy as np
from data.known_priors import FACTOR, SHAPE, mask_of, run_of, statistics_of

from bids_sr.sr.method import get_method
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.prior_maps.run_data import RunData
from bids_sr.sr.prior_maps.self_testing import SelfTest, score_interpolation, score_maps
from bids_sr.sr.prior_maps.tested_prior import estimate_tested_prior
from bids_sr.sr.recipe import VarianceRecipe, make_short_recipe

VOLUMES = 100
METHOD = get_method("sbl")
QUICK = VarianceRecipe(rounds=3, draws=16)
RECIPE = QUICK


def noise(volumes=VOLUMES, seed=0):
    return 500 + 10 * np.random.default_rng(seed).standard_normal((*SHAPE, volumes))


def fluctuations(volumes=VOLUMES):
    return run_of(0, volumes, memory=0.0, noise=2.0).data


def run_data(series, *, halves=True, mask=None):
    mask = mask_of(series.shape[:3]) if mask is None else mask
    middle = series.shape[3] // 2
    parts = (
        (statistics_of(series[..., :middle], mask), statistics_of(series[..., middle:], mask))
        if halves
        else None
    )
    return RunData(
        statistics=statistics_of(series, mask),
        halves=parts,
        mask=mask,
        affine=np.diag([3.0, 3, 3, 1]),
        factor=FACTOR,
    )


def fit(data, recipe=RECIPE, method=METHOD):
    return estimate_tested_prior(ModelRequest(method=method.name, replacement_recipe=recipe), data)


def test_a_calibrated_run_has_fewer_and_larger_updates_unless_they_were_chosen():
    short = make_short_recipe(METHOD.variance)
    assert (short.rounds, short.step, short.pull) == (2, 0.75, 0.15)
    chosen = make_short_recipe(replace(METHOD.variance, rounds=9, pull=0.3))
    assert (chosen.rounds, chosen.step, chosen.pull) == (9, 0.75, 0.3)


def test_fluctuations_pass_and_their_map_covers_the_entire_grid():
    model = fit(run_data(fluctuations()))
    held_out = model.card["held_out"]
    assert model.card["applied"] is True
    assert held_out["explained_over_zerofill"] > 0.05
    assert min(held_out["explained_by_half"]) > 0.02
    assert model.state["weight"].shape == (2, SHAPE[2], 2 * SHAPE[0], 2 * SHAPE[1])
    assert float(model.state["weight"].max()) > 0
    assert float(model.state["noise"]) > 0
    assert [row["iteration"] for row in model.log] == [1, 2, 3]


def test_noise_fails_and_the_series_is_zero_filled():
    model = fit(run_data(noise()))
    held_out = model.card["held_out"]
    assert model.card["applied"] is False
    assert held_out["explained_over_zerofill"] < 0.02
    assert "2%" in held_out["model"]
    assert not model.state["weight"].any()


def test_too_few_volumes_are_named():
    model = fit(run_data(fluctuations(20), halves=False))
    assert model.card["applied"] is False
    held_out = model.card["held_out"]
    assert set(held_out) == {"model", "tested"}
    assert set(held_out["tested"]) == {"reason"}
    assert not model.state["weight"].any()


def test_a_run_that_cannot_be_downsampled_is_named():
    narrow = fluctuations(40)[:, :1]
    model = fit(run_data(narrow, mask=np.ones(narrow.shape[:3], bool)))
    assert model.card["applied"] is False
    assert set(model.card["held_out"]) == {"model", "tested"}


def halves_of(series):
    middle = series.shape[3] // 2
    return [
        statistics_of(part, mask_of()) for part in (series[..., :middle], series[..., middle:])
    ]


def test_each_half_is_tested_with_the_map_of_the_other_half():
    """Exchanging the halves exchanges the shares, and maps of two different heads explain nothing
    of each other, although each explains its own components.
    """
    mask = mask_of() & mask_of()[::-1]
    first, second = (half.components for half in halves_of(fluctuations()))

    def shares(*images):
        return score_maps(SelfTest(images, mask, FACTOR), QUICK)[0.0].half_scores

    first_share, second_share = shares(first, second)
    assert shares(second, first) == (second_share, first_share)
    assert min(first_share, second_share) > 0.02
    mirrored = np.ascontiguousarray(second[:, ::-1, ::-1])
    assert max(shares(first, mirrored)) < 0.01


def test_a_mask_that_is_empty_at_half_the_resolution_explains_nothing():
    mask = np.zeros(SHAPE, bool)
    mask[5, 5] = True
    run_test = SelfTest([half.components for half in halves_of(fluctuations(40))], mask, FACTOR)
    assert (
        score_maps(run_test, QUICK)[0.0].half_scores
        == score_interpolation(run_test, "bspline").half_scores
        == (0.0, 0.0)
    )


def test_a_masked_run_is_not_estimated_from_its_edge():
    masked = fluctuations() * mask_of()[..., None]
    model = fit(run_data(masked))
    assert model.card["applied"] is False
    assert "the series was masked" in model.card["held_out"]["model"]
    # The surroundings are present on one side.
    wide = fluctuations() * np.roll(mask_of(), 1, 0)[..., None]
    wide[12:] += 50.0
    assert fit(run_data(wide)).card["applied"] is True
