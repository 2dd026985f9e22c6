"""Test random search: drawn values, and the choice of the best trial."""

import numpy as np
import pytest

from bids_sr.model_commands.random_search import (
    SearchedSetting,
    draw_trial,
    find_best_trial,
    list_grid_trials,
    make_default_space,
    parse_setting,
)
from bids_sr.sr.method import get_method
from bids_sr.sr.recipe_changes import ChangeError, apply_changes

RECIPE = get_method("unet").recipes["fast"]


def search_space(*texts):
    return tuple(parse_setting(text, "unet", RECIPE) for text in texts)


def drawn_values(setting, count=400):
    rng = np.random.default_rng(0)
    return np.array([setting.draw(rng) for _ in range(count)])


def test_ranges_and_lists_are_parsed():
    assert search_space("learning_rate=1e-4..1e-2") == (
        SearchedSetting(field="learning_rate", low=1e-4, high=1e-2),
    )
    assert search_space("filters=8,16,8") == (
        SearchedSetting(field="filters", choices=(8, 16), is_integer=True),
    )
    assert [
        str(setting) for setting in search_space("filters=8..64", "batch=4", "unet.mae=.5..1")
    ] == [
        "filters=8..64",
        "batch=4",
        "mae=0.5..1",
    ]


def test_wide_ranges_are_drawn_evenly_in_their_logarithm_and_narrow_ones_evenly():
    (wide,) = search_space("learning_rate=1e-4..1e-2")
    rates = drawn_values(wide)
    assert 1e-4 <= rates.min() < 1.1e-4
    assert 0.9e-2 < rates.max() <= 1e-2
    assert np.median(rates) == pytest.approx(1e-3, rel=0.3)
    (narrow,) = search_space("mae=1..3")
    assert np.median(drawn_values(narrow)) == pytest.approx(2, abs=0.15)
    (from_zero,) = search_space("mse=0..1")
    assert np.median(drawn_values(from_zero)) == pytest.approx(0.5, abs=0.08)


def test_integers_and_choices_are_drawn():
    (integer,) = search_space("batch=1..4")
    assert set(drawn_values(integer)) == {1, 2, 3, 4}
    (choice,) = search_space("filters=8,16,32")
    assert set(drawn_values(choice)) == {8, 16, 32}


def test_drawn_values_have_four_digits():
    (wide,) = search_space("learning_rate=1e-5..1")
    for value in drawn_values(wide, 50):
        assert float(f"{value:.4g}") == value


def test_a_trial_depends_only_on_seed_and_number():
    parts = search_space("learning_rate=1e-4..1e-2", "filters=8,16,32")
    first = [draw_trial(parts, "unet", RECIPE, seed=1, number=k) for k in range(1, 9)]
    assert draw_trial(parts, "unet", RECIPE, seed=1, number=5) == first[4]
    assert len(set(first)) == 8
    assert draw_trial(parts, "unet", RECIPE, seed=2, number=5) != first[4]


def test_incompatible_settings_are_drawn_again():
    parts = search_space("mae=0,1", "mse=0,1", "ssim=0")
    for number in range(1, 40):
        apply_changes(RECIPE, draw_trial(parts, "unet", RECIPE, seed=0, number=number))
    with pytest.raises(ChangeError, match="weight of 0"):
        draw_trial(search_space("mae=0", "ssim=0"), "unet", RECIPE, seed=0, number=1)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("filters=64..8", "lower limit of the range must be smaller"),
        ("filters=1..8", "from 4 to 256"),
        ("filters=8,", "is not a number"),
        ("filter=8", "no setting"),
        ("filters", "is not a number"),
        ("tv.filters=8", "a setting of the method unet"),
    ],
)
def test_invalid_ranges_are_rejected(text, why):
    with pytest.raises(ChangeError, match=why):
        search_space(text)


def test_learning_rate_and_smaller_weights_are_searched_by_default():
    assert [str(setting) for setting in make_default_space(RECIPE)] == [
        "ssim=0.01..1",
        "learning_rate=0.0002..0.02",
    ]


def test_the_best_trial_is_the_first_with_the_highest_score():
    assert find_best_trial([30.0, 31.0, None, 31.0]) == 1
    assert find_best_trial([None, None]) is None
    assert find_best_trial([]) is None


def test_a_grid_has_all_combinations_of_listed_values():
    trials = list_grid_trials(search_space("filters=8,16", "batch=1,2,4", "mae=1"), "unet", RECIPE)
    trial_values = [tuple(change.value for change in trial) for trial in trials]
    assert trial_values == [(f, b, 1) for f in (8, 16) for b in (1, 2, 4)]
    with pytest.raises(ChangeError, match="a list of values instead of a range"):
        list_grid_trials(search_space("filters=8..16"), "unet", RECIPE)
    # All weights of terms that depend on the target would be 0.
    with pytest.raises(ChangeError, match="would have a weight of 0"):
        list_grid_trials(search_space("mae=0,1", "ssim=0,1"), "unet", RECIPE)


def test_alpha_is_searched_if_the_recipe_has_no_other_weight():
    tv = get_method("tv").recipes["paper"]
    (alpha,) = make_default_space(tv)
    assert alpha.field == "tv"
    assert (alpha.choices[0], 0.01 in alpha.choices, alpha.choices[-1]) == (0, True, 0.1)
    assert [
        setting.field for setting in make_default_space(get_method("dip").recipes["paper"])
    ] == ["learning_rate"]
